//! The flags of `run` and `create`, and the body of the API request they mean.
//!
//! `flags` is what may be typed, `values` reads single values, `mounts`, `ports` and `network` read the notations with
//! their own grammar, `body` puts the request together. All pure but for files named by flags (`--env-file`).

mod body;
mod flags;
mod mounts;
mod network;
mod ports;
#[cfg(test)]
mod tests;
pub mod values;

pub use body::request;
pub(crate) use body::resources;
pub use flags::{CreateFlags, ResourceFlags};
pub use values::environment;
