//! Watches that outlive connections.
//!
//! - `cursor`: what one watch has handed on and where it goes on from. Pure.
//! - `hub`: all watches of a store on one stream, and the stream made anew when it breaks.

mod cursor;
mod hub;

pub(crate) use hub::Hub;
