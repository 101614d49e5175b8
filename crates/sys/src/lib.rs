//! Linux behind small traits: netlink, nftables, namespaces, mounts, cgroups, processes

pub mod activation;
pub mod bpf;
pub mod connections;
pub mod conntrack;
mod filter;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod process;
pub mod sockets;
pub mod sysctl;
