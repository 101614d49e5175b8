//! Why a network, an address or a host port cannot be had. The texts are those that Docker's users know;
//! [`NetError::class`] says whose fault it is, so that a face can choose its status code.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use weft_model::{ContainerId, NetworkId, PortId, Protocol};
use weft_store::StoreError;

/// A refusal or failure of the network side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The wanted address is held by another port, is the gateway, or is reserved.
    #[error("Address already in use")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
    },
    /// Every address of the family is given out.
    #[error("no available IPv{family} addresses on this network's address pools: {name} ({id})")]
    NoAddresses {
        /// 4 or 6.
        family: u8,
        /// The network's name.
        name: String,
        /// The network's id.
        id: NetworkId,
    },
    /// The wanted address lies outside the network.
    #[error("Invalid address {ip}: It does not belong to any of this network's subnets")]
    OutsideSubnets {
        /// The address.
        ip: IpAddr,
    },
    /// An address was wanted on a network whose subnet came from the default pools.
    #[error(
        "user specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    NoUserSubnet,
    /// An address was wanted on a predefined network.
    #[error("user specified IP address is supported on user defined networks only")]
    PredefinedAddress,
    /// Names were wanted on a predefined network.
    #[error("network-scoped alias is supported only for containers in user defined networks")]
    PredefinedAlias,
    /// A link-local address was wanted that is none.
    #[error("invalid link local IP address: {ip}")]
    NotLinkLocal {
        /// The address.
        ip: IpAddr,
    },
    /// A wanted subnet overlaps that of a network.
    #[error("Pool overlaps with other one on this address space")]
    Overlap {
        /// The wanted subnet.
        wanted: IpNet,
        /// The network in the way.
        other: NetworkId,
    },
    /// A wanted subnet overlaps where the host routes to.
    #[error("Pool overlaps with other one on this address space")]
    OverlapsHost {
        /// The wanted subnet.
        wanted: IpNet,
        /// The route in the way.
        route: IpNet,
    },
    /// The gateway is taken, or is no address that a host can have.
    #[error("failed to allocate gateway ({ip}): Address already in use")]
    GatewayInUse {
        /// The address.
        ip: IpAddr,
    },
    /// An auxiliary address is the gateway, or another auxiliary one.
    #[error("failed to allocate secondary ip address ({name}:{ip}): Address already in use")]
    AuxInUse {
        /// Its name.
        name: String,
        /// The address.
        ip: IpAddr,
    },
    /// No container could have an address there.
    #[error("failed to allocate gateway (): No available addresses on this pool")]
    NoRoom {
        /// The subnet.
        subnet: IpNet,
    },
    /// Not to be done to this network.
    #[error("{0}")]
    Refused(String),
    /// The default pools hold no free subnet.
    #[error("all predefined address pools have been fully subnetted{}", across(*.route))]
    PoolsExhausted {
        /// 4 or 6.
        family: u8,
        /// A route of the host's without which one would be free.
        route: Option<IpNet>,
    },
    /// A draft of a network makes no sense; one line for each fault.
    #[error("invalid network config:\n{}", .0.join("\n"))]
    InvalidConfig(Vec<String>),
    /// A value of a draft makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No such driver.
    #[error("plugin {driver:?} not found")]
    NoDriver {
        /// As written.
        driver: String,
    },
    /// The kind of network exists once, from the first start.
    #[error("only one instance of {driver:?} network is allowed")]
    OnlyOne {
        /// `host` or `null`.
        driver: String,
    },
    /// Known, but not to be had on this host now.
    #[error("network driver {driver:?} is not supported by this host: {reason}")]
    Unsupported {
        /// As written.
        driver: String,
        /// What is missing.
        reason: String,
    },
    /// Not to be had on this host.
    #[error("{0}")]
    Lacking(String),
    /// Two networks want the same bridge.
    #[error(
        "cannot create network {id} ({bridge}): conflicts with network {other} ({bridge}): networks have same \
         bridge name"
    )]
    SameBridge {
        /// The new network.
        id: NetworkId,
        /// The link's name.
        bridge: String,
        /// The network that has it.
        other: NetworkId,
    },
    /// A parent interface serves another network in a way that cannot be shared.
    #[error("{text}")]
    ParentTaken {
        /// Who has it.
        text: String,
    },
    /// The kernel does not know this kind of link.
    #[error("{0}")]
    NoKind(String),
    /// An Ethernet address was wanted where the interfaces have their parent's.
    #[error("{kind} interfaces do not support custom mac address assignment")]
    NoCustomMac {
        /// Kind of the interfaces.
        kind: &'static str,
    },
    /// A port of a container could not be published; the source says why.
    #[error("driver failed programming external connectivity on endpoint {container} ({port})")]
    Publish {
        /// The container's name.
        container: String,
        /// The port.
        port: PortId,
        /// Why.
        source: Box<PublishError>,
    },
    /// A container names a network that does not exist.
    #[error("network {id} not found")]
    NoNetwork {
        /// The network.
        id: NetworkId,
    },
    /// No such container, or it has no network stack of its own.
    #[error("container {container} has no network sandbox of its own")]
    NoSandbox {
        /// The container.
        container: ContainerId,
    },
    /// The data plane did not get ready.
    #[error("{0}")]
    DataPlane(String),
    /// The store failed.
    #[error("the network's records cannot be read or written")]
    Store(#[from] StoreError),
}

/// Why a host port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another container publishes it.
    #[error("Bind for {} failed: port is already allocated{}", socket(*.ip, *.port), by(.name.as_deref()))]
    Allocated {
        /// Listening address.
        ip: IpAddr,
        /// Listening port.
        port: u16,
        /// Who has it.
        owner: ContainerId,
        /// What that one is called, where it is known.
        name: Option<String>,
    },
    /// A process of the host listens there, or the address is not the host's.
    #[error("failed to bind host port {}/{}", socket(*.ip, *.port), .protocol.as_str())]
    Bind {
        /// Listening address.
        ip: IpAddr,
        /// Listening port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
        /// The kernel's word.
        source: BindFailure,
    },
    /// No free port in the range.
    #[error("all ports are allocated")]
    Exhausted,
    /// The host address is no address.
    #[error("invalid IP address in port binding: {0}")]
    BadAddress(String),
}

/// The kernel's refusal of a bind, in libc's lower-case words.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", bind_text(.error), held(.holder.as_deref()))]
pub struct BindFailure {
    /// As the kernel said.
    pub error: io::Error,
    /// The process that is in the way, where it can be found.
    pub holder: Option<String>,
}

fn across(route: Option<IpNet>) -> String {
    route.map(|route| format!(": the host's route to {route} lies across them")).unwrap_or_default()
}

/// Owners come after the text that clients look for.
fn by(name: Option<&str>) -> String {
    name.map(|name| format!(" (by container {name})")).unwrap_or_default()
}

fn held(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" (by {holder})")).unwrap_or_default()
}

fn bind_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request makes no sense.
    Invalid,
    /// The present state forbids it.
    Forbidden,
    /// Something named is not there.
    NotFound,
    /// Not to be had on this host.
    Unsupported,
    /// Ours, or the machine's.
    Internal,
}

impl NetError {
    /// The container that is in the way and has no name: it was removed while one looked, and its ports go, too.
    #[must_use]
    pub fn held_by_the_removed(&self) -> Option<ContainerId> {
        match self {
            Self::Publish { source, .. } => match **source {
                PublishError::Allocated { owner, name: None, .. } => Some(owner),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whose fault it is, as dockerd classifies the same refusals.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::OutsideSubnets { .. }
            | Self::NoUserSubnet
            | Self::PredefinedAddress
            | Self::PredefinedAlias
            | Self::NotLinkLocal { .. }
            | Self::NoCustomMac { .. }
            | Self::InvalidConfig(_)
            | Self::NoRoom { .. }
            | Self::Invalid(_) => ErrorClass::Invalid,
            Self::AddressInUse { .. }
            | Self::Overlap { .. }
            | Self::OverlapsHost { .. }
            | Self::GatewayInUse { .. }
            | Self::AuxInUse { .. }
            | Self::Refused(_)
            | Self::OnlyOne { .. }
            | Self::ParentTaken { .. }
            | Self::SameBridge { .. } => ErrorClass::Forbidden,
            Self::NoDriver { .. } | Self::NoNetwork { .. } | Self::NoSandbox { .. } => ErrorClass::NotFound,
            Self::Unsupported { .. } | Self::Lacking(_) | Self::NoKind(_) => ErrorClass::Unsupported,
            Self::NoAddresses { .. }
            | Self::PoolsExhausted { .. }
            | Self::Publish { .. }
            | Self::DataPlane(_)
            | Self::Store(_) => ErrorClass::Internal,
        }
    }
}
