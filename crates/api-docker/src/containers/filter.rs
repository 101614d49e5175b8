//! The filters of `GET /containers/json`, read once and then asked of each container (moby `daemon/list.go`).
//!
//! `name` is a regular expression against the name with and without its slash; one that cannot be read matches nothing, as in
//! dockerd. `publish` and `expose` count together: one fitting port of a running container is enough.

use regex::Regex;
use weft_cloud::ContainerView;
use weft_model::RunState;

use crate::{ApiError, error::Result, query::Filters};

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// What has a grammar among the filters.
pub(super) struct Wanted {
    names: Vec<Regex>,
    exited: Vec<i64>,
    publish: Vec<Ports>,
    expose: Vec<Ports>,
    task: bool,
}

struct Ports {
    start: u16,
    end: u16,
    protocol: String,
}

fn invalid(text: String) -> ApiError {
    ApiError::bad_request(text)
}

impl Wanted {
    pub fn parse(filters: &Filters) -> Result<Self> {
        if let Some(bad) = filters.values("status").find(|s| !STATES.contains(s)) {
            return Err(invalid(format!(
                "invalid filter 'status={bad}': invalid value for state ({bad}): must be one of {}",
                STATES.join(", ")
            )));
        }
        if let Some(bad) = filters.values("health").find(|h| !HEALTH.contains(h)) {
            return Err(invalid(format!(
                "invalid filter 'health={bad}': invalid value for health ({bad}): must be one of {}",
                HEALTH.join(", ")
            )));
        }
        let code = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                invalid(format!(
                    "invalid filter 'exited={text}': strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            })
        };
        Ok(Self {
            names: filters.values("name").filter_map(|n| Regex::new(n).ok()).collect(),
            exited: filters.values("exited").map(code).collect::<Result<_>>()?,
            publish: filters.values("publish").map(|v| Ports::parse("publish", v)).collect::<Result<_>>()?,
            expose: filters.values("expose").map(|v| Ports::parse("expose", v)).collect::<Result<_>>()?,
            task: filters.boolean("is-task")?.unwrap_or(false),
        })
    }

    pub fn accepts(&self, view: &ContainerView, filters: &Filters) -> bool {
        let (spec, status) = (&view.container.spec, &view.container.status);
        let id = spec.id.to_string();
        let full = format!("/{}", spec.name);
        // None of ours is a task of a swarm, and none has an isolation of Windows.
        !self.task
            && filters.any("id", |want| id.starts_with(want))
            && (!filters.has("name")
                || self.names.iter().any(|n| n.is_match(&full) || n.is_match(&full[1..])))
            && filters.any("status", |want| want == status.state.as_str())
            && (self.exited.is_empty() || self.ended(view))
            && filters
                .any("health", |want| want == status.health.as_ref().map_or("none", |h| h.state.as_str()))
            && filters.labels("label", &view.container.meta.labels)
            && filters.any("network", |want| {
                let attached = view
                    .networks
                    .values()
                    .any(|n| n.spec.name.as_str() == want || n.spec.id.to_string().starts_with(want));
                attached || super::render::network_mode(view) == want
            })
            && filters.any("volume", |want| {
                let named = |m: &weft_model::MountPoint| {
                    if m.name.is_empty() { m.source == want } else { m.name == want }
                };
                status.mounts.iter().any(|m| m.target == want || named(m))
            })
            && self.ports(view)
    }

    fn ended(&self, view: &ContainerView) -> bool {
        let status = &view.container.status;
        let up = status.state.is_alive() || status.state == RunState::Restarting;
        self.exited.contains(&status.exit.code) && !up && status.started_at.is_some()
    }

    fn ports(&self, view: &ContainerView) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        if !view.container.status.state.is_alive() {
            return false;
        }
        let fits = |list: &[Ports], port: u16, protocol: &str| list.iter().any(|p| p.fits(port, protocol));
        let bound = || view.ports.iter().flat_map(|p| &p.spec.publish).flat_map(|b| b.each());
        let exposed = view.container.spec.exposed.iter().filter_map(|e| {
            let (port, protocol) = e.split_once('/')?;
            Some((port.parse::<u16>().ok()?, protocol))
        });
        bound().any(|b| fits(&self.publish, b.host_port, b.protocol.as_str()))
            || bound().any(|b| fits(&self.expose, b.container_port, b.protocol.as_str()))
            || exposed.into_iter().any(|(port, protocol)| fits(&self.expose, port, protocol))
    }
}

impl Ports {
    /// `80`, `80/udp`, `80-90/tcp`.
    fn parse(key: &str, value: &str) -> Result<Self> {
        if value.contains(':') {
            return Err(invalid(format!("filter for '{key}' should not contain ':': {value}")));
        }
        let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (start, end) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let why = if digits { "value out of range" } else { "invalid syntax" };
                invalid(format!(
                    "error while looking up for {key} {value}: strconv.ParseUint: parsing {text:?}: {why}"
                ))
            })
        };
        let (start, end) = (number(start)?, number(end)?);
        if end < start {
            return Err(invalid(format!(
                "error while looking up for {key} {value}: invalid range specified for port: {ports}"
            )));
        }
        Ok(Self { start, end, protocol: protocol.to_ascii_lowercase() })
    }

    fn fits(&self, port: u16, protocol: &str) -> bool {
        self.protocol == protocol && (self.start..=self.end).contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_filters() {
        for (want, port, protocol, expected) in [
            ("80", 80, "tcp", true),
            ("80", 80, "udp", false),
            ("80/udp", 80, "udp", true),
            ("80-90", 85, "tcp", true),
            ("80-90", 91, "tcp", false),
        ] {
            assert_eq!(Ports::parse("expose", want).unwrap().fits(port, protocol), expected, "{want}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_as_dockerd_does() {
        for (key, value, text) in [
            ("status", "foo", "invalid filter 'status=foo'"),
            ("health", "foo", "invalid filter 'health=foo'"),
            ("exited", "x", "strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "expose",
                "zz",
                "error while looking up for expose zz: strconv.ParseUint: parsing \"zz\": invalid syntax",
            ),
            (
                "publish",
                "99999",
                "error while looking up for publish 99999: strconv.ParseUint: parsing \"99999\": value out of range",
            ),
            ("publish", "1:2", "filter for 'publish' should not contain ':': 1:2"),
            ("is-task", "x", "invalid filter 'is-task="),
        ] {
            let mut filters = Filters::default();
            filters.add(key, value);
            let error = Wanted::parse(&filters).err().unwrap();
            assert!(error.message().contains(text), "{key}: {}", error.message());
        }
    }
}
