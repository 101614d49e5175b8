//! Accepting connections and answering requests.
//!
//! Each connection is a task of its own. Slow or silent clients are cut off while they send headers. A client that goes
//! away cancels what it asked to see; what it asked to change goes on to its end, since half a change would be neither
//! done nor undone.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
};
use tower::ServiceExt;
use tracing::Instrument;
use weft_base::Tasks;
use weft_cloud::Caller;

use crate::{Listener, Meter, RequestId, Tls, linger::Linger, peer};

/// What a listener allows.
#[derive(Clone)]
pub struct ServeOptions {
    /// Longest time for a client to send its headers.
    pub header_timeout: Duration,
    /// Most connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// TLS, when the listener has it.
    pub tls: Option<Arc<Tls>>,
    /// Where requests are counted.
    pub meter: Arc<Meter>,
    /// The face's name, for the counting.
    pub face: &'static str,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            connections: 8192,
            tls: None,
            meter: Arc::default(),
            face: "",
        }
    }
}

/// Serves `face` on `listener` until `tasks` stops.
pub fn serve(listener: Listener, face: Router, options: ServeOptions, tasks: &Tasks) {
    let group = tasks.clone();
    let server = Arc::new(Server { face, slots: Arc::new(Semaphore::new(options.connections)), options });
    tasks.spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&server.slots).acquire_owned().await else { return };
            let server = Arc::clone(&server);
            match &listener {
                Listener::Unix(unix) => match unix.accept().await {
                    Ok((stream, _)) => group.spawn(async move {
                        let gone = peer::of_unix(&stream);
                        server.connection(stream, gone).await;
                        drop(slot);
                    }),
                    Err(error) => pause(&error).await,
                },
                Listener::Tcp(tcp) => match tcp.accept().await {
                    Ok((stream, _)) => group.spawn(async move {
                        server.tcp(stream).await;
                        drop(slot);
                    }),
                    Err(error) => pause(&error).await,
                },
            }
        }
    });
}

/// Accepting fails when descriptors run out; trying again at once would spin.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "accepting a connection failed");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

struct Server {
    face: Router,
    slots: Arc<Semaphore>,
    options: ServeOptions,
}

impl Server {
    async fn tcp(&self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
        let gone = peer::of_tcp(&stream);
        match &self.options.tls {
            None => self.connection(stream, gone).await,
            Some(tls) => {
                let accepted = tls.acceptor().accept(stream);
                match tokio::time::timeout(self.options.header_timeout, accepted).await {
                    Ok(Ok(stream)) => self.connection(stream, gone).await,
                    Ok(Err(error)) => tracing::info!(%error, "TLS handshake failed"),
                    Err(_) => tracing::info!("TLS handshake timed out"),
                }
            }
        }
    }

    /// Answers the requests that come by `stream` until it ends or its client has `gone`.
    ///
    /// Hyper by itself takes the end of input for the end of the client, and drops the answer.
    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        gone: impl Future<Output = ()>,
    ) {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .header_read_timeout(self.options.header_timeout)
            .serve_connection(TokioIo::new(Linger::new(stream)), service_fn(|request| self.answer(request)))
            .with_upgrades();
        tokio::select! {
            biased;
            served = served => if let Err(error) = served {
                tracing::debug!(%error, "connection ended");
            },
            () = gone => tracing::debug!("a client went away"),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        let id = RequestId::next();
        let started = std::time::Instant::now();
        let span = tracing::info_span!("request", id = %id.0);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Caller::local_administrator(&id.0));
        request.extensions_mut().insert(id);
        let work = self.face.clone().oneshot(request).instrument(span.clone());
        let response = if method.is_safe() { work.await } else { apart(work).await };
        let response = match response {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (status, took) = (response.status().as_u16(), started.elapsed());
        let (options, matched) = (&self.options, response.extensions().get());
        options.meter.count(options.face, &method, matched, response.status(), took);
        let ms = took.as_micros() as f64 / 1000.0;
        span.in_scope(|| {
            if status >= 500 {
                tracing::warn!(%method, path, status, ms, "answered");
            } else {
                tracing::debug!(%method, path, status, ms, "answered");
            }
        });
        Ok(response)
    }
}

/// Does `work` in a task of its own, which goes on when nobody waits for it any more.
async fn apart<E: Send + 'static>(
    work: impl Future<Output = Result<Response<Body>, E>> + Send + 'static,
) -> Result<Response<Body>, E> {
    tokio::spawn(work).await.unwrap_or_else(|died| {
        tracing::error!(error = %died, "a request's work died");
        let mut response = Response::new(Body::from(r#"{"message":"internal: the request's work died"}"#));
        *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        Ok(response)
    })
}
