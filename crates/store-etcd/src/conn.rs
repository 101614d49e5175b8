//! One connection to one member: TCP, TLS, HTTP/2, the login's token, and the calls on it.
//!
//! A connection is used once. When it breaks it stays broken (tonic would dial again behind our back), because whoever
//! answers next must first prove that it is the same store: see [`crate::open`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::Stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_prost::ProstCodec;
use weft_store::StoreError;

use crate::{
    Config, Options,
    fault::{Fault, at_first, told},
    proto,
    uri::{Endpoint, pem},
};

/// Bytes that a stream, and a connection, may have under way: answers are large now and then.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

pub(crate) mod method {
    pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
    pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
    pub(crate) const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub(crate) const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub(crate) const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub(crate) const KEEPALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub(crate) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
}

/// A connection at work.
pub(crate) struct Conn {
    /// The member.
    pub(crate) endpoint: Endpoint,
    /// Which connection of this store it is.
    pub(crate) number: u64,
    channel: Channel,
    config: Arc<Config>,
    token: RwLock<Option<MetadataValue<Ascii>>>,
    /// Which token it is; 0 is none.
    token_number: AtomicU64,
    renewing: tokio::sync::Mutex<()>,
}

impl Conn {
    /// Dials the member and logs in.
    pub(crate) async fn open(
        config: &Arc<Config>,
        endpoint: &Endpoint,
        options: &Options,
        number: u64,
    ) -> Result<Self, StoreError> {
        let dialled = timeout(options.connect, dial(config, endpoint, options)).await;
        let channel = match dialled {
            Ok(channel) => channel?,
            Err(_) => return Err(silent(config, endpoint, "connect", options.connect)),
        };
        let conn = Self {
            endpoint: endpoint.clone(),
            number,
            channel,
            config: Arc::clone(config),
            token: RwLock::new(None),
            token_number: AtomicU64::new(0),
            renewing: tokio::sync::Mutex::new(()),
        };
        conn.renew(0, options.attempt).await?;
        Ok(conn)
    }

    /// Which token requests carry now; hand it to [`Conn::renew`] when it is refused.
    pub(crate) fn token_number(&self) -> u64 {
        self.token_number.load(Relaxed)
    }

    /// Logs in again, unless somebody else did so since the token `refused` was in use.
    pub(crate) async fn renew(&self, refused: u64, within: Duration) -> Result<(), StoreError> {
        let Some(login) = &self.config.login else { return Ok(()) };
        let _one = self.renewing.lock().await;
        if self.token_number() != refused {
            return Ok(());
        }
        let refusal = |reason: String| StoreError::LoginRefused {
            store: self.config.to_string(),
            user: login.user.clone(),
            reason,
        };
        let password = login.password().map_err(|e| refusal(e.to_string()))?;
        let request = proto::AuthenticateRequest { name: login.user.clone(), password };
        // Without a token: etcd would look at an old one first.
        let answer: Result<proto::AuthenticateResponse, Status> =
            self.call(method::AUTHENTICATE, request, within, false).await;
        let token = match answer {
            Ok(answer) => answer.token.parse().map_err(|_| refusal("its token is no header".into()))?,
            Err(status) if status.message().contains("authentication is not enabled") => {
                tracing::warn!(store = %self.config, user = login.user, "the store asks nobody for a login");
                return Ok(());
            }
            Err(status) => {
                return Err(match Fault::of(&status, &self.config, "log in") {
                    Fault::Refused(error) => error,
                    Fault::Token(reason) => refusal(reason),
                    Fault::NotDone(_) | Fault::Lost(_) => {
                        let reason = at_first(&status, &self.config);
                        unavailable(&self.config, format!("{}: {reason}", self.endpoint))
                    }
                    Fault::Odd(odd) => unavailable(&self.config, format!("{}: {odd:?}", self.endpoint)),
                });
            }
        };
        *self.token.write() = Some(token);
        self.token_number.fetch_add(1, Relaxed);
        Ok(())
    }

    /// One request, one answer.
    pub(crate) async fn unary<Q, A>(
        &self,
        method: &'static str,
        request: Q,
        within: Duration,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(method, request, within, true).await
    }

    async fn call<Q, A>(
        &self,
        method: &'static str,
        message: Q,
        within: Duration,
        with_token: bool,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = self.request(message, with_token);
        // The server gives up as well, instead of working for nobody.
        request.set_timeout(within);
        let mut grpc = self.grpc();
        let answer = async {
            grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
            grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        };
        match timeout(within, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(overdue(within)),
        }
    }

    /// A stream of requests against a stream of answers; the first answer must begin `within`.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
        within: Duration,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(requests, true);
        let mut grpc = self.grpc();
        let answer = async {
            grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
            grpc.streaming(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        };
        match timeout(within, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(overdue(within)),
        }
    }

    fn request<M>(&self, message: M, with_token: bool) -> Request<M> {
        let mut request = Request::new(message);
        // A member without a leader says so at once and ends its streams, instead of keeping silent.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let (true, Some(token)) = (with_token, &*self.token.read()) {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    fn grpc(&self) -> Grpc<Channel> {
        // What may be large is bounded where it is asked for: pages of ranges, fragments of watches.
        Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

fn overdue(within: Duration) -> Status {
    Status::new(Code::DeadlineExceeded, format!("no answer within {within:?}"))
}

pub(crate) fn unavailable(config: &Config, reason: impl Into<String>) -> StoreError {
    StoreError::Unavailable { store: config.to_string(), reason: reason.into() }
}

fn silent(config: &Config, endpoint: &Endpoint, doing: &str, within: Duration) -> StoreError {
    unavailable(config, format!("{endpoint}: could not {doing} within {within:?}"))
}

async fn dial(config: &Config, endpoint: &Endpoint, options: &Options) -> Result<Channel, StoreError> {
    let fail =
        |e: &(dyn std::error::Error + 'static)| unavailable(config, format!("{endpoint}: {}", told(e)));
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let mut to = Channel::from_shared(format!("{scheme}://{endpoint}"))
        .map_err(|e| fail(&e))?
        .http2_keep_alive_interval(options.ping)
        .keep_alive_timeout(options.attempt)
        // etcd ends connections that ping without a stream.
        .keep_alive_while_idle(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some(tls) = tls(config, endpoint)? {
        to = to.tls_config(tls).map_err(|e| fail(&e))?;
    }
    let (target, dialled) = (endpoint.clone(), AtomicBool::new(false));
    let connector = tower::service_fn(move |_| {
        let (target, again) = (target.clone(), dialled.swap(true, Relaxed));
        async move {
            if again {
                return Err(std::io::Error::other(Broken));
            }
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        }
    });
    to.connect_with_connector(connector).await.map_err(|e| fail(&e))
}

/// Says that a connection broke before the request could use it: nothing of the request went out.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken")]
pub(crate) struct Broken;

/// Reads the files anew each time, so that certificates can be renewed under a running daemon.
fn tls(config: &Config, endpoint: &Endpoint) -> Result<Option<ClientTlsConfig>, StoreError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let unusable = |e: crate::UriError| unavailable(config, e.to_string());
    let name = tls.server_name.clone().unwrap_or_else(|| endpoint.host.clone());
    let mut client = ClientTlsConfig::new().domain_name(name);
    client = match &tls.ca {
        Some(ca) => {
            let text = pem("ca", ca, "CERTIFICATE-----").map_err(unusable)?;
            client.ca_certificate(Certificate::from_pem(text))
        }
        None => client.with_native_roots(),
    };
    if let Some((cert, key)) = &tls.identity {
        let cert = pem("cert", cert, "CERTIFICATE-----").map_err(unusable)?;
        let key = pem("key", key, "PRIVATE KEY-----").map_err(unusable)?;
        client = client.identity(Identity::from_pem(cert, key));
    }
    Ok(Some(client))
}
