//! What a failed call means for the caller: refused for good, not carried out, or nobody knows.
//!
//! etcd says most by the text of its status (`etcdserver/api/v3rpc/rpctypes/error.go`); the code alone is too coarse, and
//! some errors of 3.4 come as `Unknown` with the text of an inner error.

use std::error::Error;

use tonic::{Code, Status};
use weft_store::StoreError;

use crate::{Config, conn::Broken};

/// What a failed call means.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A definite no: nothing was carried out, and asking again gives the same.
    Refused(StoreError),
    /// A definite answer that some calls expect.
    Odd(Odd),
    /// The token is not believed any more: nothing was carried out; log in and ask again.
    Token(String),
    /// Nothing was carried out; another member, or this one later, may do it.
    NotDone(String),
    /// The answer was lost: carried out or not.
    Lost(String),
}

/// Definite answers that are not failures everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    /// The lease does not exist.
    NoLease,
    /// The lease exists already.
    LeaseExists,
    /// The revision is not there any more.
    Compacted,
}

const ODD: [(&str, Odd); 3] = [
    ("requested lease not found", Odd::NoLease),
    ("lease already exists", Odd::LeaseExists),
    ("required revision has been compacted", Odd::Compacted),
];
/// What etcd says of tokens that it does not believe.
const TOKEN: [&str; 4] = [
    "invalid auth token",
    "revision of auth store is old",
    "revision in header is old",
    "user name is empty",
];
/// Said before anything is proposed to the cluster.
const NOT_DONE: [&str; 5] =
    ["too many requests", "no leader", "proposal dropped", "not supported for learner", "not capable"];
const TOO_LARGE: [&str; 3] =
    ["request is too large", "received message larger than max", "message larger than max"];
const INVALID: [&str; 6] = [
    "too many operations in txn",
    "duplicate key given",
    "future revision",
    "key is not provided",
    "too large lease TTL",
    "value is provided",
];

impl Fault {
    /// The meaning of `status` for a request to `doing`.
    pub(crate) fn of(status: &Status, config: &Config, doing: &'static str) -> Self {
        let text = status.message();
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        let store = || config.to_string();
        let user = || config.login.as_ref().map_or("nobody", |l| &l.user).to_owned();
        if let Some((_, odd)) = ODD.iter().find(|(part, _)| text.contains(part)) {
            return Self::Odd(*odd);
        }
        if says(&TOKEN) {
            return match &config.login {
                Some(_) => Self::Token(text.to_owned()),
                None => {
                    let reason = "it wants a login, and the address names no user".to_owned();
                    Self::Refused(StoreError::LoginRefused { store: store(), user: user(), reason })
                }
            };
        }
        if says(&["authentication failed"]) {
            let reason = plain(text);
            return Self::Refused(StoreError::LoginRefused { store: store(), user: user(), reason });
        }
        if status.code() == Code::PermissionDenied || says(&["permission denied"]) {
            return Self::Refused(no_permission(config, doing));
        }
        if says(&TOO_LARGE) {
            return Self::Refused(StoreError::RequestTooLarge { reason: plain(text) });
        }
        if says(&["database space exceeded"]) {
            return Self::Refused(StoreError::Full { store: store(), reason: plain(text) });
        }
        if says(&INVALID) {
            return Self::Refused(StoreError::Invalid { reason: plain(text) });
        }
        if says(&NOT_DONE) || never_sent(status) {
            return Self::NotDone(told(status));
        }
        Self::Lost(told(status))
    }
}

/// Whether a watch was ended because of who asked. Members tell that as text in the stream, some of an old token as of a
/// missing right.
pub(crate) fn says_denied(text: &str) -> bool {
    TOKEN.iter().any(|part| text.contains(part)) || text.contains("permission denied")
}

pub(crate) fn no_permission(config: &Config, doing: &'static str) -> StoreError {
    let user = config.login.as_ref().map_or("nobody", |l| &l.user).to_owned();
    StoreError::NoPermission { user, doing, prefix: config.prefix.clone() }
}

/// Whether the connection was broken before the request could use it.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<Broken>() || inner.is_some_and(|e| e.is::<Broken>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why the first call on a connection failed. Where the connection itself ended, that is often about certificates: a server
/// refuses ours only after the handshake (TLS 1.3), and the reason that it gives does not come through.
pub(crate) fn at_first(status: &Status, config: &Config) -> String {
    let told = told(status);
    // What the server answered has no other cause.
    match (status.source().is_some(), config.tls.is_some()) {
        (false, _) => told,
        (true, true) => format!("{told} (it may want another certificate of ours)"),
        (true, false) => format!("{told} (it may want TLS, or be no etcd)"),
    }
}

/// etcd's text without its own name in front.
fn plain(text: &str) -> String {
    text.trim_start_matches("etcdserver: ").trim_start_matches("mvcc: ").to_owned()
}

/// An error with its causes in one line. A status is shown by its message, which has all it knows.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) if status.message().is_empty() => format!("{:?}", status.code()),
        Some(status) => plain(status.message()),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: Code, text: &str, address: &str) -> String {
        let config: Config = address.parse().unwrap();
        match Fault::of(&Status::new(code, text), &config, "write") {
            Fault::Refused(error) => format!("refused: {error}"),
            Fault::Odd(odd) => format!("{odd:?}"),
            Fault::Token(reason) => format!("token: {reason}"),
            Fault::NotDone(reason) => format!("not done: {reason}"),
            Fault::Lost(reason) => format!("lost: {reason}"),
        }
    }

    #[test]
    fn etcds_words_have_their_meaning() {
        let login = "etcd://a/p?user=u&password-file=/x";
        let cases = [
            (Code::NotFound, "etcdserver: requested lease not found", "NoLease"),
            (Code::FailedPrecondition, "etcdserver: lease already exists", "LeaseExists"),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", "Compacted"),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                "refused: invalid store request",
            ),
            (Code::Unauthenticated, "etcdserver: invalid auth token", "token: "),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", "token: "),
            (Code::Unknown, "auth: revision in header is old", "token: "),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "refused: the store etcd://a:2379/p refuses the login of u: authentication failed",
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "refused: the store's user u has no permission to write below /p/",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "refused: a request to the store is too large",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (3 vs. 2)",
                "refused: a request to the store is too large",
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                "refused: the store etcd://a:2379/p is full: database space exceeded",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
                "refused: invalid store request",
            ),
            (Code::ResourceExhausted, "etcdserver: too many requests", "not done: "),
            (Code::Unavailable, "etcdserver: no leader", "not done: no leader"),
            (Code::Unknown, "raft: proposal dropped", "not done: "),
            (Code::Unavailable, "etcdserver: request timed out", "lost: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed", "lost: leader changed"),
            (Code::Unknown, "transport error", "lost: transport error"),
            (Code::DeadlineExceeded, "no answer within 1s", "lost: no answer within 1s"),
        ];
        for (code, text, expected) in cases {
            let told = fault(code, text, login);
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        let told = fault(Code::InvalidArgument, "etcdserver: user name is empty", "etcd://a");
        assert!(told.contains("refuses the login of nobody: it wants a login"), "{told}");
    }

    #[test]
    fn what_never_went_out_is_known_not_to_be_done() {
        let config: Config = "etcd://a".parse().unwrap();
        let status = Status::from_error(Box::new(std::io::Error::other(Broken)));
        assert!(matches!(Fault::of(&status, &config, "write"), Fault::NotDone(_)), "{status:?}");
    }
}
