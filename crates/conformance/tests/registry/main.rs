//! Registries in good and bad days: the real `docker-registry` on a sandbox's loopback, the real `docker` client, and
//! between them whatever a test needs: a token server, a proxy that cuts, private authorities, mirrors. Beside them the
//! other servers that a daemon asks for images: those of `docker import URL` and `docker search`.
//!
//! The subject is `WEFT_CONFORMANCE_SUBJECT` (`dockerd` or `weft`, the default); each test has a sandbox and a daemon
//! of its own. What dockerd 20.10 lacks is left out there, with the reason.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests say what they expect")]

mod auth;
mod bed;
mod certs;
mod http;
mod import;
mod list;
mod mirror;
mod proxy;
mod search;
mod spoiled;
mod tls;
mod token;
mod transfer;
