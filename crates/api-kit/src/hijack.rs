//! Taking over the connection behind a request (HTTP upgrade), as attach and exec do.

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// The raw connection, both ways.
pub type Hijacked = TokioIo<Upgraded>;

/// Answers `101 UPGRADED` to `tcp` with the given content type, and gives a future of the raw connection.
///
/// `None` when the request does not ask for an upgrade; the caller then answers in its API's words.
pub fn hijack(
    request: &mut Request<Body>,
    content_type: &'static str,
) -> Option<(Response<Body>, impl Future<Output = Result<Hijacked, hyper::Error>> + Send + use<>)> {
    let wanted = request.headers().get(header::UPGRADE)?.clone();
    let on: OnUpgrade = request.extensions_mut().remove()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, wanted);
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    Some((response, async move { on.await.map(TokioIo::new) }))
}
