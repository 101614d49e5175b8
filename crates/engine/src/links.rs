//! Legacy links between containers on the default bridge: lines in the hosts file, and variables.

use std::{net::IpAddr, sync::Arc};

use weft_model::{Container, Link, PortOwner};

use crate::{
    engine::Inner,
    error::{EngineError, Result},
};

impl Inner {
    /// Legacy links on the default bridge: lines for the hosts file, and variables. Of a container that `runs`, those whose
    /// end is away say nothing; a start wants them all.
    pub(crate) async fn links(
        &self,
        container: &Container,
        runs: bool,
    ) -> Result<(Vec<(String, String)>, Vec<String>)> {
        let (mut hosts, mut env) = (Vec::new(), Vec::new());
        if container.spec.links.is_empty() {
            return Ok((hosts, env));
        }
        let all = self.containers.list_shared().await?;
        let ports = self.ports.list_shared().await?;
        let networks = self.networks.list_shared().await?;
        let bridge = networks.iter().find(|n| n.spec.is_default_bridge()).map(|n| n.spec.id);
        for written in &container.spec.links {
            let link = Link::parse(written);
            let Link { target, alias } = link;
            let Some(child) = all.iter().find(|c| link.means(c)) else { continue };
            let owner = PortOwner::Container(child.spec.id);
            let port = ports.iter().find(|p| p.spec.owner == owner && Some(p.spec.network) == bridge);
            let address = port.and_then(|p| p.addresses().first().map(|a| a.ip));
            let fault = match address {
                _ if !child.status.state.is_alive() => {
                    let parent = &container.spec.name;
                    format!("Cannot link to a non running container: /{target} AS /{parent}/{alias}")
                }
                None => format!("Cannot link to /{target}, as it does not belong to the default network"),
                Some(address) => {
                    let mut line = format!("{alias} {}", child.spec.hostname);
                    if alias != child.spec.name.as_str() {
                        line = format!("{line} {}", child.spec.name);
                    }
                    hosts.push((address.to_string(), line));
                    env.extend(link_env(container, child, alias, address));
                    continue;
                }
            };
            if !runs {
                return Err(EngineError::Conflict(fault));
            }
        }
        Ok((hosts, env))
    }

    /// Those that link to it know its address of this run.
    pub(crate) async fn tell_linked(&self, child: &Container) -> Result<()> {
        let links = |c: &Container| c.spec.links.iter().any(|l| Link::parse(l).means(child));
        for parent in self.containers.list_shared().await?.iter().filter(|c| links(c)) {
            if self.known_cell(parent.spec.id).is_some_and(|cell| cell.shim().is_some()) {
                self.refresh_names(&Arc::clone(&parent.value)).await?;
            }
        }
        Ok(())
    }
}

/// Docker's variables of a link (`links.Link.ToEnv`).
fn link_env(parent: &Container, child: &Container, alias: &str, address: IpAddr) -> Vec<String> {
    let upper = alias.to_uppercase().replace('-', "_");
    let mut env = vec![format!("{upper}_NAME=/{}/{alias}", parent.spec.name)];
    let mut ports: Vec<(u16, &str)> = child
        .spec
        .exposed
        .iter()
        .filter_map(|p| p.split_once('/'))
        .filter_map(|(port, proto)| Some((port.parse().ok()?, proto)))
        .collect();
    ports.sort_by_key(|(port, proto)| (*proto != "tcp", *port));
    if let Some((port, proto)) = ports.first() {
        env.push(format!("{upper}_PORT={proto}://{address}:{port}"));
    }
    for (port, proto) in ports {
        let base = format!("{upper}_PORT_{port}_{}", proto.to_uppercase());
        env.push(format!("{base}={proto}://{address}:{port}"));
        env.push(format!("{base}_ADDR={address}"));
        env.push(format!("{base}_PORT={port}"));
        env.push(format!("{base}_PROTO={proto}"));
    }
    for pair in &child.spec.process.env {
        if let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !matches!(*key, "HOME" | "PATH")) {
            env.push(format!("{upper}_ENV_{key}={value}"));
        }
    }
    env
}
