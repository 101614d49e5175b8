//! Hosts made of network namespaces, and the daemons, images and registries that tests put in them.
//!
//! A [`Sandbox`] is one pretended host: its own network, mount and process-id namespaces. Its first
//! process dies with the test (parent-death signal), and the kernel then kills whatever ran inside,
//! so a panic, a `kill -9` or a time-out leaves no process, mount or link behind. What namespaces do
//! not hold (cgroups, directories) is removed on drop.
//!
//! A [`Daemon`] is the subject under test in a sandbox: the real `dockerd` or `weft up`, chosen by a
//! value, so that every suite is first proved on the original.
//!
//! An [`Etcd`] is a real cluster on loopback; a [`Relay`] is the wire to it, which can be cut.
//!
//! It refuses to know anything of Weft's inside: it starts binaries and speaks sockets.

pub mod daemon;
pub mod etcd;
pub mod fuzz;
pub mod http;
pub mod image;
pub mod lab;
pub mod registry;
pub mod relay;
pub mod sandbox;

pub use daemon::{Daemon, DaemonOptions, Subject};
pub use etcd::{Etcd, EtcdSetup};
pub use image::{ImageSpec, busybox_archive};
pub use lab::{Lab, LabHost};
pub use registry::{Registry, RegistrySetup, ServerTls, TokenAuth};
pub use relay::{Relay, Wire};
pub use sandbox::Sandbox;
