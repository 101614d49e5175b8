//! Sockets of DHCP clients, opened in containers' namespaces by the data plane's worker.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::io::{Interest, unix::AsyncFd};
use weft_dataplane::Driver;
use weft_driver_linux::LinuxDriver;
use weft_model::ContainerId;
use weft_net::{LeaseSocket, LeaseSockets};
use weft_sys::packet::UdpTap;

/// Port of DHCP clients (RFC 2131, 4.1).
const CLIENT_PORT: u16 = 68;

/// The driver seen by the clients.
pub(crate) struct InSandbox(pub(crate) Arc<LinuxDriver>);

#[async_trait]
impl LeaseSockets for InSandbox {
    async fn open(&self, container: ContainerId, ifname: &str) -> io::Result<Box<dyn LeaseSocket>> {
        let (driver, ifname) = (Arc::clone(&self.0), ifname.to_owned());
        let open = move || {
            let path = driver.sandbox_path(container);
            driver.netns().run(&path, move || UdpTap::open(&ifname, CLIENT_PORT)).map_err(io::Error::other)?
        };
        let tap = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
        Ok(Box::new(Tap(watched(tap)?)))
    }
}

#[expect(
    deprecated,
    reason = "a tap keeps its number until it is dropped, which is what the new form asks for"
)]
fn watched(tap: UdpTap) -> io::Result<AsyncFd<UdpTap>> {
    AsyncFd::new(tap)
}

struct Tap(AsyncFd<UdpTap>);

#[async_trait]
impl LeaseSocket for Tap {
    async fn send(&self, packet: &[u8], to: [u8; 6]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |tap| tap.send(packet, to)).await
    }

    async fn receive(&self) -> io::Result<(Vec<u8>, [u8; 6])> {
        self.0.async_io(Interest::READABLE, UdpTap::receive).await
    }
}
