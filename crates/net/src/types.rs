//! What is asked of the network side, before it is resolved.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use weft_base::FreeName;
use weft_model::{DriverOptions, Gateways, HostSource};

/// One wish for addresses, as written. Empty text means absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamDraft {
    /// CIDR of the subnet.
    pub subnet: String,
    /// CIDR inside it that automatic addresses come from.
    pub range: String,
    /// The gateway's address.
    pub gateway: String,
    /// Addresses never given out, by name.
    pub aux: BTreeMap<String, String>,
}

/// What the ports of a network without a bridge are to hang on, as written. Empty text means absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentDraft {
    /// Link of the host, `NAME` or `NAME.VLAN`.
    pub link: String,
    /// Mode of its sub-interfaces.
    pub mode: String,
    /// What ipvlan siblings may do.
    pub flag: String,
    /// Addresses for the host's own sub-interface.
    pub shims: Vec<String>,
}

/// A network as it is asked for. Faces translate their words into these fields and keep what was written
/// in `options`, which is only shown again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDraft {
    /// Name.
    pub name: FreeName,
    /// Only settings, for other networks to be made from.
    pub config_only: bool,
    /// Name of the network whose settings were taken.
    pub config_from: String,
    /// `bridge` (also when empty or `default`), `macvlan`, `ipvlan`, …
    pub driver: String,
    /// Wishes for addresses; none for a subnet from the default pools.
    pub ipam: Vec<IpamDraft>,
    /// Address manager; empty or `default` for ours, `null` for none.
    pub ipam_driver: String,
    /// IPv4 wanted.
    pub ipv4: bool,
    /// IPv6 wanted.
    pub ipv6: bool,
    /// No way out and none in.
    pub internal: bool,
    /// Its ports may talk to one another.
    pub inter_container: bool,
    /// Traffic that leaves is masqueraded.
    pub masquerade: bool,
    /// Containers may attach by hand.
    pub attachable: bool,
    /// Name of the bridge in the kernel.
    pub bridge: Option<String>,
    /// That bridge is there and somebody else's: its addresses. The caller looks; nobody asks for it.
    pub foreign: Option<Vec<IpNet>>,
    /// How its containers meet the world.
    pub gateways: Gateways,
    /// Links of the host by which published ports are reached at the container itself, too.
    pub trusted: Vec<String>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Where published ports listen when people do not say.
    pub host_binding: Option<IpAddr>,
    /// The same for IPv6 alone.
    pub host_binding_v6: Option<IpAddr>,
    /// The host's address for its packets on their way out.
    pub host_source: HostSource,
    /// Beginning of the names of its interfaces in containers; `eth` when empty.
    pub ifname_prefix: String,
    /// What its ports hang on, where its driver makes no bridge.
    pub parent: ParentDraft,
    /// As written.
    pub options: DriverOptions,
    /// As written.
    pub ipam_options: DriverOptions,
}

impl NetworkDraft {
    /// A bridge called `name` with nothing special.
    #[must_use]
    pub fn named(name: FreeName) -> Self {
        Self {
            name,
            config_only: false,
            config_from: String::new(),
            driver: String::new(),
            ipam: Vec::new(),
            ipam_driver: String::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            inter_container: true,
            masquerade: true,
            attachable: false,
            bridge: None,
            foreign: None,
            gateways: Gateways::default(),
            trusted: Vec::new(),
            mtu: None,
            host_binding: None,
            host_binding_v6: None,
            host_source: HostSource::default(),
            ifname_prefix: String::new(),
            parent: ParentDraft::default(),
            options: DriverOptions::new(),
            ipam_options: DriverOptions::new(),
        }
    }
}

/// How the predefined networks are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredefinedConfig {
    /// Make the default bridge at all.
    pub default_bridge: bool,
    /// Address and subnet of the default bridge.
    pub bip: Option<IpNet>,
    /// Range of automatic addresses on it.
    pub fixed_cidr: Option<IpNet>,
    /// Its IPv6 address and subnet, where it has IPv6.
    pub bip6: Option<IpNet>,
    /// IPv6 on it.
    pub ipv6: bool,
    /// Its IPv6 subnet, where it has IPv6; from the pools when absent.
    pub fixed_cidr_v6: Option<IpNet>,
    /// A bridge of somebody else's to use instead of one of ours, with its addresses.
    pub bridge: Option<(String, Vec<IpNet>)>,
    /// Default gateways handed to its containers instead of the bridge's address, one of each family.
    pub default_gateways: Vec<IpAddr>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Its containers may talk to one another.
    pub icc: bool,
    /// Masquerade what leaves.
    pub ip_masq: bool,
    /// Where published ports listen by default.
    pub publish_ip: Option<IpAddr>,
}

impl Default for PredefinedConfig {
    fn default() -> Self {
        Self {
            default_bridge: true,
            bip: None,
            bip6: None,
            fixed_cidr: None,
            ipv6: false,
            fixed_cidr_v6: None,
            bridge: None,
            default_gateways: Vec::new(),
            mtu: None,
            icc: true,
            ip_masq: true,
            publish_ip: None,
        }
    }
}
