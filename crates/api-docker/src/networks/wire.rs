//! `NetworkCreateRequest` and `Network` as Docker's clients read and write them.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_base::FreeName;
use weft_cloud::{IpamDraft, NetworkDraft, NetworkView};
use weft_model::{Labels, Network, NetworkKind, NetworkSpec, PortOwner, SubnetSpec};

use super::options::{BridgeOptions, bridge_options};
use crate::{
    ApiVersion,
    error::{ApiError, Result},
};

/// What settings for other networks are no place for.
const OPERATOR_FIELDS: &str = "configuration network can only contain network specific fields. Network operator fields \
                               like [ ingress | internal | attachable | scope ] are not supported.";

/// One pool of `IPAM.Config`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolWire {
    #[serde(rename = "Subnet")]
    pub subnet: String,
    #[serde(rename = "IPRange")]
    pub range: String,
    #[serde(rename = "Gateway")]
    pub gateway: String,
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress")]
    pub auxiliary: BTreeMap<String, String>,
}

/// `IPAM`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IpamWire {
    pub driver: String,
    pub config: Vec<PoolWire>,
    pub options: BTreeMap<String, String>,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateBody {
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "Driver")]
    pub driver: String,
    #[serde(rename = "Scope")]
    pub scope: String,
    #[serde(rename = "Internal")]
    pub internal: bool,
    #[serde(rename = "Attachable")]
    pub attachable: bool,
    #[serde(rename = "Ingress")]
    pub ingress: bool,
    #[serde(rename = "ConfigOnly")]
    pub config_only: bool,
    #[serde(rename = "ConfigFrom")]
    pub config_from: Option<ConfigFrom>,
    #[serde(rename = "EnableIPv4")]
    pub ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    pub ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    pub ipam: IpamWire,
    #[serde(rename = "Options")]
    pub options: BTreeMap<String, String>,
    #[serde(rename = "Labels")]
    pub labels: BTreeMap<String, String>,
}

/// The network that another's configuration is taken from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigFrom {
    pub network: String,
}

/// Engines before 1.44 took a subnet with host bits set for the subnet; later ones refuse it.
fn pool(wire: PoolWire, version: ApiVersion) -> IpamDraft {
    let cidr = |text: String| match text.parse::<ipnet::IpNet>() {
        Ok(net) if version < ApiVersion::v1(44) => net.trunc().to_string(),
        _ => text,
    };
    IpamDraft {
        subnet: cidr(wire.subnet),
        range: cidr(wire.range),
        gateway: wire.gateway,
        aux: wire.auxiliary,
    }
}

impl CreateBody {
    /// With the options that the daemon has for its driver where it names none itself.
    pub(super) fn over(mut self, defaults: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        let driver = if matches!(self.driver.as_str(), "" | "default") { "bridge" } else { &self.driver };
        for (name, value) in defaults.get(driver).into_iter().flatten() {
            self.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    /// The network whose settings are to be taken.
    ///
    /// # Errors
    /// Settings of its own beside them.
    pub(super) fn settings_from(&self) -> Result<Option<String>> {
        let Some(from) = self.config_from.as_ref().filter(|c| !c.network.is_empty() && !self.config_only)
        else {
            return Ok(None);
        };
        let refused = |what: &str| {
            let text = format!("{what} are not supported if the network depends on a configuration network");
            ApiError::new(StatusCode::FORBIDDEN, text)
        };
        let ipam = &self.ipam;
        if !matches!(ipam.driver.as_str(), "" | "default")
            || self.ipv4 == Some(false)
            || self.ipv6 == Some(true)
            || !(self.labels.is_empty() && ipam.options.is_empty() && ipam.config.is_empty())
        {
            return Err(refused("user specified configurations"));
        }
        if !self.options.is_empty() {
            return Err(refused("network driver options"));
        }
        Ok(Some(from.network.clone()))
    }

    /// With the settings of another network.
    pub(super) fn with(mut self, settings: &Network) -> Self {
        let (spec, text) = (&settings.spec, |ip: std::net::IpAddr| ip.to_string());
        (self.ipv4, self.ipv6) = (Some(spec.ipv4), Some(spec.ipv6));
        self.labels.clone_from(&settings.meta.labels);
        self.options.clone_from(&spec.options);
        self.ipam.options.clone_from(&spec.ipam_options);
        let pool = |s: &SubnetSpec| PoolWire {
            subnet: s.cidr.to_string(),
            range: s.range.map(|r| r.to_string()).unwrap_or_default(),
            gateway: s.gateway.map(text).unwrap_or_default(),
            auxiliary: s.reserved.iter().map(|(name, ip)| (name.clone(), text(*ip))).collect(),
        };
        self.ipam.config = spec.subnets.iter().map(pool).collect();
        self
    }

    /// In the model's words.
    pub(super) fn draft(self, version: ApiVersion) -> Result<(NetworkDraft, Labels)> {
        if self.scope == "swarm" {
            let text = "cannot create a swarm scoped network when swarm is not active";
            return Err(ApiError::new(StatusCode::FORBIDDEN, text));
        }
        if self.ingress || !matches!(self.scope.as_str(), "" | "local") && !self.config_only {
            return Err(crate::swarm::not_a_manager());
        }
        if self.config_only && !self.scope.is_empty() {
            return Err(ApiError::new(StatusCode::FORBIDDEN, OPERATOR_FIELDS));
        }
        // Settings for networks of whatever driver: whoever is made from them reads them.
        let options =
            if self.config_only { BridgeOptions::default() } else { bridge_options(&self.options)? };
        let config_from = self.config_from.map(|c| c.network).unwrap_or_default();
        let parent = super::parent::draft(&self.driver, &self.options);
        let name = FreeName::new(self.name.as_str())
            .ok()
            // No path of the API leads to a name with a slash (dockerd makes such a network and then finds it by its id only).
            .filter(|_| !self.name.contains('/'))
            .ok_or_else(|| ApiError::bad_request(format!("invalid name: {}", self.name)))?;
        let draft = NetworkDraft {
            name,
            config_only: self.config_only,
            config_from,
            driver: self.driver,
            ipam_driver: self.ipam.driver,
            internal: self.internal,
            attachable: self.attachable,
            // Unknown before 1.48, so it was not looked at.
            ipv4: self.ipv4.filter(|_| version >= ApiVersion::v1(48)).or(options.ipv4).unwrap_or(true),
            ipv6: self.ipv6.or(options.ipv6).unwrap_or(false),
            ipam: self.ipam.config.into_iter().map(|p| pool(p, version)).collect(),
            bridge: options.name,
            foreign: None,
            gateways: options.gateways,
            trusted: options.trusted,
            mtu: options.mtu,
            inter_container: options.inter_container,
            masquerade: options.masquerade,
            host_binding: options.host_binding,
            host_binding_v6: options.host_binding_v6,
            host_source: options.host_source,
            ifname_prefix: options.ifname_prefix,
            parent,
            options: self.options,
            ipam_options: self.ipam.options,
        };
        Ok((draft, self.labels))
    }
}

/// The driver's name in Docker's words.
pub(crate) fn driver(kind: NetworkKind) -> &'static str {
    match kind {
        NetworkKind::Bridge => "bridge",
        NetworkKind::Host => "host",
        NetworkKind::None | NetworkKind::Config => "null",
        NetworkKind::Macvlan => "macvlan",
        NetworkKind::Ipvlan => "ipvlan",
        NetworkKind::Overlay => "overlay",
        NetworkKind::Routed => "routed",
    }
}

fn ipam(spec: &NetworkSpec) -> Value {
    let pools: Vec<Value> = spec
        .subnets
        .iter()
        .map(|s| {
            let mut pool = Map::new();
            pool.insert("Subnet".into(), s.cidr.to_string().into());
            if let Some(range) = s.range {
                pool.insert("IPRange".into(), range.to_string().into());
            }
            if let Some(gateway) = s.gateway {
                pool.insert("Gateway".into(), gateway.to_string().into());
            }
            if !s.reserved.is_empty() {
                pool.insert("AuxiliaryAddresses".into(), json!(s.reserved));
            }
            Value::Object(pool)
        })
        .collect();
    let options = if spec.ipam_options.is_empty() { Value::Null } else { json!(spec.ipam_options) };
    let pools = if pools.is_empty() && spec.predefined { json!([]) } else { json!(pools) };
    let driver = if spec.dhcp { "dhcp" } else { "default" };
    json!({"Driver": driver, "Options": options, "Config": pools})
}

/// Options as they were written; of the default bridge, which nobody wrote, as dockerd has them.
fn options(spec: &NetworkSpec) -> Value {
    if !spec.is_default_bridge() {
        return json!(spec.options);
    }
    let isolation = &spec.isolation;
    json!({
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": isolation.inter_container.to_string(),
        "com.docker.network.bridge.enable_ip_masquerade": isolation.masquerade.to_string(),
        "com.docker.network.bridge.host_binding_ipv4":
            spec.host_binding.address.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
        "com.docker.network.bridge.name": spec.bridge.clone().unwrap_or_default(),
        "com.docker.network.driver.mtu": spec.mtu.unwrap_or(1500).to_string(),
    })
}

/// A network; its containers only where one was asked for (a list shows none, as dockerd's since 1.28).
pub(super) fn render(view: &NetworkView, with_containers: bool, version: ApiVersion) -> Value {
    let (meta, spec) = (&view.network.meta, &view.network.spec);
    let mut value = json!({
        "Name": spec.name,
        "Id": spec.id,
        "Created": meta.created.to_string(),
        "Scope": "local",
        "Driver": driver(spec.kind),
        "EnableIPv6": spec.ipv6,
        "IPAM": ipam(spec),
        "Internal": spec.isolation.internal,
        "Attachable": spec.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": spec.config_from},
        "ConfigOnly": spec.kind == NetworkKind::Config,
        "Containers": if with_containers { containers(view) } else { json!({}) },
        "Options": options(spec),
        "Labels": meta.labels,
    });
    if let Some(map) = value.as_object_mut()
        && version >= ApiVersion::v1(48)
    {
        map.insert("EnableIPv4".into(), spec.ipv4.into());
    }
    value
}

fn containers(view: &NetworkView) -> Value {
    let mut all = Map::new();
    for (port, name) in &view.ports {
        let PortOwner::Container(id) = port.spec.owner;
        let address = |v4: bool| {
            let found = port.addresses().into_iter().find(|a| a.ip.is_ipv4() == v4);
            found.map(|a| format!("{}/{}", a.ip, a.prefix)).unwrap_or_default()
        };
        all.insert(
            id.to_string(),
            json!({
                "Name": name,
                "EndpointID": port.spec.id,
                "MacAddress": port.spec.mac,
                "IPv4Address": address(true),
                "IPv6Address": address(false),
            }),
        );
    }
    for (id, name) in &view.portless {
        let endpoint = json!({
            "Name": name, "EndpointID": id, "MacAddress": "", "IPv4Address": "", "IPv6Address": "",
        });
        all.insert(id.to_string(), endpoint);
    }
    Value::Object(all)
}
