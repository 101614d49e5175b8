//! SIGHUP: the configuration is read again. What can change while containers run is changed; the rest is named and
//! stays. A configuration that is wrong changes nothing.

use weft_base::chain;
use weft_cloud::Caller;

use crate::{
    Config, Reread, facts, log,
    wire::{Reloadable, registry_options},
};

/// Reads and applies.
pub(crate) fn reload(config: &mut Config, reread: &Reread, parts: &Reloadable) {
    let fresh = match reread() {
        Ok(fresh) => fresh,
        Err(error) => {
            tracing::error!(error = chain(error.as_ref()), "the configuration is wrong; nothing was changed");
            return;
        }
    };
    let mut next = config.clone();
    (next.debug, next.log_level) = (fresh.debug, fresh.log_level);
    next.labels.clone_from(&fresh.labels);
    (next.stop_containers, next.shutdown_timeout) = (fresh.stop_containers, fresh.shutdown_timeout);
    // Side by side transfers are counted by what the first start made.
    let (down, up) = (config.registry.downloads, config.registry.uploads);
    next.registry = crate::config::RegistryConfig { downloads: down, uploads: up, ..fresh.registry.clone() };
    if let Err(error) = parts.registry.reconfigure(registry_options(&next)) {
        tracing::error!(error = chain(&error), "the registries are wrong; nothing was changed");
        return;
    }
    match parts.faces.renew_certificates() {
        Ok(0) => {}
        Ok(listeners) => tracing::info!(listeners, "certificates read again"),
        Err(error) => {
            tracing::error!(error = chain(&error), "the certificates are wrong; the old ones stay in use");
        }
    }
    let caller = Caller::local_administrator("reload");
    let shown = parts.cloud.host(&caller).and_then(|old| {
        let new = facts::reloaded(&old, &next);
        parts.cloud.host_reloaded(&caller, new)
    });
    if let Err(error) = shown {
        tracing::error!(error = chain(&error), "the new facts cannot be shown");
    }
    log::set(next.debug, next.log_level);
    let left = left(&next, &fresh);
    if left.is_empty() {
        tracing::info!("configuration read again");
    } else {
        tracing::warn!(changed = left.join(", "), "configuration read again; these changes need a restart");
    }
    *config = next;
}

/// What differs and was not taken over.
fn left(now: &Config, fresh: &Config) -> Vec<&'static str> {
    let parts = [
        ("root", now.root != fresh.root),
        ("run", now.run != fresh.run),
        ("name", now.name != fresh.name),
        ("store", now.store != fresh.store),
        ("underlay", now.underlay != fresh.underlay),
        ("listeners", now.listen != fresh.listen || now.tls != fresh.tls || now.group != fresh.group),
        ("features (use weft feature)", now.features != fresh.features),
        ("networks", now.network != fresh.network),
        ("defaults of containers", now.defaults != fresh.defaults),
        ("transfers side by side", now.registry != fresh.registry),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let now = Config::default();
        let mut fresh = now.clone();
        assert!(left(&now, &fresh).is_empty());
        fresh.network.mtu = Some(1400);
        fresh.store = "etcd://x".into();
        assert_eq!(left(&now, &fresh), ["store", "networks"]);
    }
}
