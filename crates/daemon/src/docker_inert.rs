//! Keys of Docker's `daemon.json` that Weft does not act upon: each is as Weft is anyway, or named at the start, or, where
//! ignoring it would break a promise that people rely on, refused.
//!
//! With `docker_config` this is every key of dockerd's reference; what is in neither is none of Docker's.

use serde_json::Value;

const SWARM: &str = "there is no swarm";
const CONTAINERD: &str = "there is no containerd";
const ONE_STORE: &str = "images are kept in Weft's own store";
const NO_SWITCH: &str = "published ports and isolation are made of rules of Weft's own nftables table, which cannot be switched off";
const BUILT_IN: &str = "it cannot be chosen; Weft's own is used";

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inert {
    /// It asks for what is so.
    As,
    /// It is said that nothing is done about it, and why.
    Named(&'static str),
    /// The daemon does not start with it.
    Refused(&'static str),
}

/// Keys that are named, and why.
const NAMED: &[(&str, &str)] = &[
    ("allow-direct-routing", "packets to a container's address pass from outside where routes lead there"),
    ("allow-nondistributable-artifacts", "such layers are refused"),
    ("api-cors-header", "browsers are not served"),
    ("bridge-accept-fwmark", "marks of packets are not looked at"),
    ("builder", "there are no builds yet"),
    ("cdi-spec-dirs", "devices are given by --device"),
    ("cluster-advertise", SWARM),
    ("cluster-store", SWARM),
    ("cluster-store-opts", SWARM),
    ("containerd", CONTAINERD),
    ("containerd-namespace", CONTAINERD),
    ("containerd-plugin-namespace", CONTAINERD),
    ("containerd-plugins-namespace", CONTAINERD),
    ("cpu-rt-period", "real-time budgets are the host's business"),
    ("cpu-rt-runtime", "real-time budgets are the host's business"),
    ("data-root-mode", "the data directory is root's"),
    ("deprecated-key-path", "there is no key of the engine"),
    ("exec-root", "use --run"),
    ("experimental", "there are no experimental parts"),
    ("features", "use weft feature"),
    ("init-path", BUILT_IN),
    ("ip-forward-no-drop", "the policy of the host's FORWARD chain is not changed"),
    ("min-api-version", "the oldest version served is 1.24"),
    ("network-control-plane-mtu", SWARM),
    ("network-diagnostic-port", "use weft doctor"),
    ("node-generic-resources", SWARM),
    ("nri-opts", "there is no node resource interface"),
    ("oom-score-adjust", "set OOMScoreAdjust= in the unit"),
    ("pidfile", "it is RUN/weft.pid"),
    ("raw-logs", "use --log-format"),
    ("rootless", "run as root"),
    ("selinux-enabled", "SELinux labels are not applied"),
    ("storage-driver", ONE_STORE),
    ("storage-opts", ONE_STORE),
    ("swarm-default-advertise-addr", SWARM),
    ("userland-proxy", "no proxy processes are used"),
    ("userland-proxy-path", "no proxy processes are used"),
    ("validate", "use weft up with the file"),
];

/// Judges a key that is not followed.
pub(crate) fn judge(key: &str, value: &Value) -> Inert {
    let empty = match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (key, value) {
        ("iptables" | "ip6tables", Value::Bool(true)) => Inert::As,
        ("iptables" | "ip6tables", _) => Inert::Refused(NO_SWITCH),
        ("firewall-backend", _) if empty || value == "nftables" => Inert::As,
        ("firewall-backend", _) => Inert::Named("Weft's rules are nftables"),
        ("authorization-plugins", _) if empty => Inert::As,
        ("authorization-plugins", _) => {
            Inert::Refused("there are no plugins, and without them everybody would be let in")
        }
        ("exec-opts", _) => exec_options(value),
        // Off, and that is so.
        (
            "experimental"
            | "selinux-enabled"
            | "userland-proxy"
            | "raw-logs"
            | "rootless"
            | "allow-direct-routing"
            | "ip-forward-no-drop",
            Value::Bool(false),
        ) => Inert::As,
        _ => match NAMED.iter().find(|(name, _)| *name == key) {
            Some((_, why)) => Inert::Named(why),
            None => Inert::Refused("unknown key; it is none of Docker's daemon.json"),
        },
    }
}

fn exec_options(value: &Value) -> Inert {
    let mut drivers = value.as_array().into_iter().flatten().map(|option| {
        let (name, driver) = option.as_str()?.split_once('=')?;
        (name == "native.cgroupdriver").then_some(driver)
    });
    let driver = drivers.try_fold("cgroupfs", |_, driver| driver);
    match driver {
        Some("cgroupfs") if value.is_array() => Inert::As,
        Some("systemd") => Inert::Named("cgroups are managed directly (cgroupfs)"),
        _ => Inert::Refused("native.cgroupdriver=cgroupfs or =systemd is expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_promise_is_not_silently_broken() {
        for (key, value, expected) in [
            ("iptables", json!(true), Inert::As),
            ("iptables", json!(false), Inert::Refused(NO_SWITCH)),
            ("authorization-plugins", json!([]), Inert::As),
            ("userland-proxy", json!(false), Inert::As),
            ("userland-proxy", json!(true), Inert::Named("no proxy processes are used")),
            ("exec-opts", json!(["native.cgroupdriver=cgroupfs"]), Inert::As),
            ("exec-opts", json!([]), Inert::As),
            (
                "exec-opts",
                json!(["native.cgroupdriver=systemd"]),
                Inert::Named("cgroups are managed directly (cgroupfs)"),
            ),
            ("features", json!({"buildkit": true}), Inert::Named("use weft feature")),
        ] {
            assert_eq!(judge(key, &value), expected, "{key}");
        }
        assert!(matches!(judge("exec-opts", &json!(["a"])), Inert::Refused(_)));
        assert!(matches!(judge("no-such-key", &json!(1)), Inert::Refused(_)));
        assert!(NAMED.is_sorted_by_key(|(name, _)| *name));
    }
}
