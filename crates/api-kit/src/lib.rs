//! What every face needs: listeners, who is calling, streams and hijacked connections, the request log.
//!
//! A face is an [`axum::Router`] whose handlers find a [`Caller`](weft_cloud::Caller) in the request's
//! extensions. This crate binds the sockets, speaks TLS, gives each request an id, decides who calls from
//! the way the request came, says which status code a refusal has, and logs one line for each. It knows no API's words.

mod hijack;
mod linger;
mod listen;
mod log;
mod meter;
mod peer;
mod serve;
mod status;
mod stream;
mod tls;

pub use hijack::{Hijacked, hijack};
pub use listen::{ListenError, ListenUri, Listener};
pub use log::RequestId;
pub use meter::{Meter, note_route};
pub use serve::{ServeOptions, serve};
pub use status::status_of;
pub use stream::{BodySender, body_channel, json_lines, receiver_body};
pub use tls::{Renewal, Tls, TlsError, TlsFiles};
