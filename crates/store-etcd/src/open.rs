//! Before a connection is used, the member must prove that it holds the store we mean.
//!
//! Below the prefix lies one key of the store itself, `/weft/schema`: `{"v":1,"store":"<random>"}`. It is written by the
//! first daemon, into an empty place only; a place that holds anything else, or a newer schema, is refused and left
//! alone. Once seen, its random part, the cluster's id and the highest revision are remembered: a member of
//! another cluster in the address, a cluster that was wiped or put back from an old snapshot answers in vain, so that no
//! watch waits for revisions that will come a second time.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tonic::Status;
use weft_store::StoreError;

use crate::{
    Config,
    conn::{Conn, method, unavailable},
    convert::revision,
    fault::{Fault, at_first},
    keys::Keys,
    proto::{self, CompareResult, CompareTarget, RequestKind, ResponseKind, TargetUnion},
};

/// The schema of the keys and of what they hold that this Weft writes.
pub const SCHEMA: u64 = 1;
/// Where the store says what it is.
pub const SCHEMA_KEY: &str = "/weft/schema";

#[derive(Serialize, Deserialize)]
struct Schema {
    v: u64,
    store: String,
}

/// By what a store is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    cluster: u64,
    store: String,
}

/// What is known of the store that was opened.
#[derive(Default)]
pub(crate) struct Known {
    identity: Mutex<Option<Identity>>,
    seen: std::sync::atomic::AtomicU64,
}

impl Known {
    /// Remembers a revision that the store has reached.
    pub(crate) fn reached(&self, revision: u64) {
        self.seen.fetch_max(revision, std::sync::atomic::Ordering::Relaxed);
    }

    /// The highest revision that was seen.
    pub(crate) fn revision(&self) -> u64 {
        self.seen.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// `seen` is what was known before the store was asked: answers to others may have raised it meanwhile.
    fn judge(&self, found: Identity, revision: u64, seen: u64, config: &Config) -> Result<(), StoreError> {
        let replaced = |reason: String| Err(StoreError::Replaced { store: config.to_string(), reason });
        let mut identity = self.identity.lock();
        match &*identity {
            None => *identity = Some(found),
            Some(known) if known.cluster != found.cluster => {
                return replaced(format!("cluster {:x} answers, not {:x}", found.cluster, known.cluster));
            }
            Some(known) if known.store != found.store => {
                return replaced(format!("its id is {}, not {}", found.store, known.store));
            }
            Some(_) => {}
        }
        if revision < seen {
            return replaced(format!("its revision went back from {seen} to {revision}"));
        }
        self.reached(revision);
        Ok(())
    }
}

/// Looks at the store behind a fresh connection, and makes it where there is nothing yet.
pub(crate) async fn check(
    conn: &Conn,
    config: &Config,
    keys: &Keys,
    known: &Arc<Known>,
    within: Duration,
) -> Result<(), StoreError> {
    let mut made = false;
    loop {
        let seen = known.revision();
        let found = look(conn, config, keys, within).await?;
        match found.schema {
            Some(value) => {
                let schema = read(&value, config)?;
                let identity = Identity { cluster: found.cluster, store: schema.store };
                return known.judge(identity, found.revision, seen, config);
            }
            None if made => return Err(unavailable(config, "its schema key is gone again")),
            None => {}
        }
        if known.identity.lock().is_some() {
            let reason = "its schema key is gone: the cluster is another one, or was wiped".to_owned();
            return Err(StoreError::Replaced { store: config.to_string(), reason });
        }
        if let Some(stranger) = found.stranger {
            let reason = format!("it holds {stranger}, and no {}{SCHEMA_KEY}", config.prefix);
            return Err(StoreError::Foreign { store: config.to_string(), reason });
        }
        make(conn, config, keys, within).await?;
        made = true;
    }
}

fn read(value: &[u8], config: &Config) -> Result<Schema, StoreError> {
    let foreign = |reason: String| StoreError::Foreign { store: config.to_string(), reason };
    let key = || format!("{}{SCHEMA_KEY}", config.prefix);
    // The number alone first: a newer schema may have other fields.
    let json: serde_json::Value =
        serde_json::from_slice(value).map_err(|e| foreign(format!("{} is not readable: {e}", key())))?;
    match json.get("v").and_then(serde_json::Value::as_u64) {
        Some(found) if found > SCHEMA => {
            Err(StoreError::NewerStore { store: config.to_string(), found, known: SCHEMA })
        }
        Some(SCHEMA) => {
            serde_json::from_value(json).map_err(|e| foreign(format!("{} is not readable: {e}", key())))
        }
        _ => Err(foreign(format!("{} has no schema version that Weft ever wrote", key()))),
    }
}

struct Found {
    cluster: u64,
    revision: u64,
    schema: Option<bytes::Bytes>,
    /// Any key where only Weft's may be.
    stranger: Option<String>,
}

/// The schema key and one key of the place, in one picture.
async fn look(conn: &Conn, config: &Config, keys: &Keys, within: Duration) -> Result<Found, StoreError> {
    // Without a prefix the rest of the cluster is other people's; with one, all below it is ours.
    let place: &[u8] = if config.prefix.is_empty() { b"/weft/" } else { b"/" };
    let (start, end) = keys.span(place)?;
    let read = |key, range_end| proto::RequestOp {
        request: Some(RequestKind::Range(proto::RangeRequest {
            key,
            range_end,
            limit: 1,
            ..Default::default()
        })),
    };
    let success = vec![read(keys.full(SCHEMA_KEY.as_bytes())?, bytes::Bytes::new()), read(start, end)];
    let request = proto::TxnRequest { success, ..Default::default() };
    let answer: proto::TxnResponse =
        conn.unary(method::TXN, request, within).await.map_err(|s| error(&s, conn, config))?;
    let mut first = answer.responses.iter().map(|r| match &r.response {
        Some(ResponseKind::Range(range)) => range.kvs.first().cloned(),
        _ => None,
    });
    let (schema, any) = (first.next().flatten(), first.next().flatten());
    Ok(Found {
        cluster: answer.header.as_ref().map_or(0, |h| h.cluster_id),
        revision: revision(answer.header.as_ref()),
        schema: schema.map(|kv| kv.value),
        stranger: any.map(|kv| String::from_utf8_lossy(&kv.key).into_owned()),
    })
}

/// Writes the schema key unless somebody else just did.
async fn make(conn: &Conn, config: &Config, keys: &Keys, within: Duration) -> Result<(), StoreError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| unavailable(config, format!("no random numbers: {e}")))?;
    let key = keys.full(SCHEMA_KEY.as_bytes())?;
    let value = serde_json::to_vec(&Schema { v: SCHEMA, store: hex::encode(random) })
        .map_err(|e| StoreError::Encode { key: SCHEMA_KEY.to_owned(), reason: e.to_string() })?;
    let missing = proto::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(0)),
    };
    let put = RequestKind::Put(proto::PutRequest { key, value: value.into(), lease: 0 });
    let request = proto::TxnRequest {
        compare: vec![missing],
        success: vec![proto::RequestOp { request: Some(put) }],
        failure: Vec::new(),
    };
    let _: proto::TxnResponse =
        conn.unary(method::TXN, request, within).await.map_err(|s| error(&s, conn, config))?;
    Ok(())
}

fn error(status: &Status, conn: &Conn, config: &Config) -> StoreError {
    match Fault::of(status, config, "open the store") {
        Fault::Refused(error) => error,
        Fault::Token(reason) => unavailable(config, format!("{}: {reason}", conn.endpoint)),
        Fault::NotDone(_) | Fault::Lost(_) => {
            unavailable(config, format!("{}: {}", conn.endpoint, at_first(status, config)))
        }
        Fault::Odd(odd) => unavailable(config, format!("{}: {odd:?}", conn.endpoint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        "etcd://a/p".parse().unwrap()
    }

    #[test]
    fn what_the_schema_key_may_say() {
        assert_eq!(read(br#"{"v":1,"store":"x"}"#, &config()).unwrap().store, "x");
        let cases: [(&[u8], &str); 5] = [
            (br#"{"v":2,"shop":[]}"#, "etcd://a:2379/p has schema 2; this Weft reads up to 1"),
            (br#"{"v":0,"store":"x"}"#, "has no schema version"),
            (br#"{"store":"x"}"#, "has no schema version"),
            (br#"{"v":1}"#, "/p/weft/schema is not readable"),
            (b"\xff", "etcd://a:2379/p is not a Weft store: /p/weft/schema is not readable"),
        ];
        for (value, expected) in cases {
            let told = read(value, &config()).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn another_store_in_the_same_place_is_known_by_its_id_or_its_past() {
        let known = Known::default();
        let identity = |cluster, store: &str| Identity { cluster, store: store.into() };
        known.judge(identity(1, "x"), 10, 0, &config()).unwrap();
        known.judge(identity(1, "x"), 12, known.revision(), &config()).unwrap();
        for (found, revision, expected) in [
            (identity(2, "x"), 13, "cluster 2 answers, not 1"),
            (identity(1, "y"), 13, "its id is y, not x"),
            (identity(1, "x"), 11, "went back from 12 to 11"),
        ] {
            let told = known.judge(found, revision, known.revision(), &config()).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        }
    }
}
