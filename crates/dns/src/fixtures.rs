//! A small world for this crate's tests: three networks, three containers that run and one that does not.
//!
//! ```text
//!  app  10.1.0.0/16, fd00:1::/64    web (10.1.0.2, fd00:1::2; alias www, links db as "store"), db (10.1.0.3)
//!  lab  10.2.0.0/16, internal       db (10.2.0.3), probe (10.2.0.4)
//!  my_lab 10.3.0.0/16, internal     probe (10.3.0.4)
//! ```

use std::sync::Arc;

use weft_base::Timestamp;
use weft_model::{Container, ContainerId, Labels, Network, Object, Port, default_project};

use crate::Names;

pub fn web() -> ContainerId {
    ContainerId::from_bytes([1; 32])
}

pub fn db() -> ContainerId {
    ContainerId::from_bytes([2; 32])
}

pub fn probe() -> ContainerId {
    ContainerId::from_bytes([3; 32])
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub networks: Vec<Arc<Network>>,
    pub ports: Vec<Arc<Port>>,
    pub containers: Vec<Arc<Container>>,
}

impl World {
    pub fn names(&self) -> Names {
        Names::build(&self.networks, &self.ports, &self.containers)
    }
}

/// Records are read from JSON, as the store keeps them: the many fields that matter nothing here stay away.
pub fn object<S: serde::de::DeserializeOwned, T: Default>(spec: serde_json::Value) -> Arc<Object<S, T>> {
    let spec = serde_json::from_value(spec).unwrap();
    Arc::new(Object::new(default_project(), Timestamp::from_unix(0, 0).unwrap(), Labels::new(), spec))
}

fn hex(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

pub fn network(n: u8, name: &str, cidrs: &[&str], internal: bool) -> Arc<Network> {
    let subnets: Vec<_> = cidrs.iter().map(|c| serde_json::json!({"cidr": c, "gateway": null})).collect();
    object(serde_json::json!({
        "id": hex(n), "name": name, "kind": "bridge", "ipv4": true, "ipv6": false, "subnets": subnets,
        "isolation": {"internal": internal, "inter_container": true, "masquerade": true},
    }))
}

pub fn port(n: u8, network: u8, owner: u8, ifname: &str, ips: &[&str], names: &[&str]) -> Arc<Port> {
    let addresses: Vec<_> =
        ips.iter().map(|ip| serde_json::json!({"ip": ip, "prefix": 16, "gateway": null})).collect();
    let links = if owner == 1 { serde_json::json!([["store", "DB"]]) } else { serde_json::json!([]) };
    object(serde_json::json!({
        "id": hex(n), "network": hex(network), "owner": {"container": hex(owner)}, "mac": "02:00:00:00:00:01",
        "addresses": addresses, "ifname": ifname, "default_route": true, "names": names, "links": links,
    }))
}

/// A container; `more` are members of its specification beyond the necessary ones.
pub fn container(n: u8, more: serde_json::Value) -> Arc<Container> {
    let image = format!("sha256:{}", hex(9));
    let mut spec = serde_json::json!({
        "id": hex(n), "name": format!("c{n}"), "image": {"reference": "busybox", "id": image}, "process": {},
        "hostname": "h", "confine": weft_model::Confinement::default(), "resources": weft_model::Resources::default(),
        "network": "attached", "log": {"driver": "none"}, "restart": {"mode": "no"},
    });
    if let (Some(spec), serde_json::Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    object(spec)
}

pub fn world() -> World {
    World {
        networks: vec![
            network(0xa, "App", &["10.1.0.0/16", "fd00:1::/64"], false),
            network(0xb, "lab", &["10.2.0.0/16"], true),
            network(0xc, "my_lab", &["10.3.0.0/16"], true),
        ],
        ports: vec![
            port(0x11, 0xa, 1, "eth0", &["10.1.0.2", "fd00:1::2"], &["web", "www", "010101010101"]),
            port(0x12, 0xa, 2, "eth0", &["10.1.0.3"], &["db", "www"]),
            port(0x13, 0xb, 2, "eth1", &["10.2.0.3"], &["db"]),
            port(0x14, 0xb, 3, "eth0", &["10.2.0.4"], &["probe"]),
            port(0x15, 0xc, 3, "eth1", &["10.3.0.4"], &["probe"]),
        ],
        containers: vec![
            container(1, serde_json::json!({"exposed": ["80/tcp", "9000/udp"]})),
            container(
                2,
                serde_json::json!({
                    "dns": {"servers": ["10.9.9.9", "::1"], "options": ["edns0", "ndots:x"]},
                    "publish": [{"protocol": "tcp", "container_port": 5432}],
                }),
            ),
            container(3, serde_json::json!({})),
            container(
                4,
                serde_json::json!({
                    "name": "sleeper", "hostname": "www.example.com", "attachments": [{"network": hex(0xa)}],
                }),
            ),
        ],
    }
}
