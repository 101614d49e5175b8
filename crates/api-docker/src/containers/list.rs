//! `GET /containers/json` and `GET /containers/{id}/json`.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use weft_base::{Clock, SystemClock, Timestamp};
use weft_cloud::{Caller, ContainerView};
use weft_model::RunState;

use super::show;
use crate::{
    ApiError, ApiVersion, Face,
    cache::Question,
    error::Result,
    query::{Filters, Params},
    respond,
};

const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "isolation",
];

pub(super) async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let view = face.cloud.container_view(&caller, &id, params.flag("size")).await?;
    respond::ok(&show::inspect(&view, version)?)
}

pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    RawQuery(query): RawQuery,
    params: Params,
) -> Result<Response> {
    if params.flag("size") {
        // Sizes change without a word.
        return Ok(json_body(list_now(&face, &caller, version, &params).await?));
    }
    let question = Question::new(&caller, version, query);
    let (mark, now) = (face.cloud.mark().await?, SystemClock.now());
    if let Some(answer) = face.lists.get(mark, now, &question) {
        return Ok(json_body(answer));
    }
    let answer = list_now(&face, &caller, version, &params).await?;
    face.lists.keep(mark, now, question, answer.clone());
    Ok(json_body(answer))
}

fn json_body(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

async fn list_now(face: &Face, caller: &Caller, version: ApiVersion, params: &Params) -> Result<Bytes> {
    let filters = params.filters()?;
    filters.accept(KNOWN)?;
    check(&filters)?;
    let limit = params.number("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    // A filter on the state, or a limit, looks beyond the running ones.
    let all = params.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let mut views = face.cloud.container_list(caller, params.flag("size")).await?;
    views.sort_by_key(|v| std::cmp::Reverse((v.container.meta.created, v.container.spec.id)));
    let bound = async |key: &str| -> Result<Option<Timestamp>> {
        let Some(name) = filters.values(key).next() else { return Ok(None) };
        Ok(Some(face.cloud.container_find(caller, name).await?.meta.created))
    };
    let (before, since) = (bound("before").await?, bound("since").await?);
    let images = ancestors(face, caller, &filters).await;
    let now = SystemClock.now();
    let rows: Vec<Value> = views
        .iter()
        .filter(|v| {
            all || v.container.status.state.is_alive() || v.container.status.state == RunState::Restarting
        })
        .filter(|v| before.is_none_or(|b| v.container.meta.created < b))
        .filter(|v| since.is_none_or(|s| v.container.meta.created > s))
        .filter(|v| images.as_ref().is_none_or(|ids| ids.contains(&v.container.spec.image.id)))
        .filter(|v| passes(v, &filters))
        .take(limit.unwrap_or(usize::MAX))
        .map(|v| show::summary(v, now, version))
        .collect::<Result<_>>()?;
    let text = serde_json::to_vec(&rows);
    text.map(Bytes::from).map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// Values of closed sets are checked before anything else.
fn check(filters: &Filters) -> Result<()> {
    let states = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
    if let Some(bad) = filters.values("status").find(|s| !states.contains(s)) {
        return Err(ApiError::bad_request(format!("invalid filter 'status={bad}'")));
    }
    if let Some(bad) =
        filters.values("health").find(|h| !["starting", "healthy", "unhealthy", "none"].contains(h))
    {
        return Err(ApiError::bad_request(format!("invalid filter 'health={bad}'")));
    }
    if let Some(bad) = filters.values("exited").find(|e| e.parse::<i64>().is_err()) {
        return Err(ApiError::bad_request(format!("invalid filter 'exited={bad}'")));
    }
    Ok(())
}

/// The images that `ancestor` names; an unknown one matches nothing.
async fn ancestors(face: &Face, caller: &Caller, filters: &Filters) -> Option<Vec<weft_model::Digest>> {
    if !filters.has("ancestor") {
        return None;
    }
    let mut ids = Vec::new();
    for name in filters.values("ancestor") {
        ids.extend(face.cloud.image_descendants(caller, name).await.unwrap_or_default());
    }
    Some(ids)
}

fn passes(view: &ContainerView, filters: &Filters) -> bool {
    let (spec, status) = (&view.container.spec, &view.container.status);
    let id = spec.id.to_string();
    filters.any("id", |want| id.starts_with(want))
        && filters.any("name", |want| name_matches(spec.name.as_str(), want))
        && filters.any("status", |want| want == status.state.as_str())
        && filters.any("exited", |want| {
            status.state == RunState::Exited
                && want.parse() == Ok(status.exit.code)
                && status.finished_at.is_some()
        })
        && filters.any("health", |want| want == status.health.as_ref().map_or("none", |h| h.state.as_str()))
        && filters.labels("label", &view.container.meta.labels)
        && filters.any("network", |want| {
            let attached = view.networks.values().any(|n| {
                n.spec.name.as_str() == want || (want.len() >= 4 && n.spec.id.to_string().starts_with(want))
            });
            attached || super::render::network_mode(view) == want
        })
        && filters.any("volume", |want| {
            status.mounts.iter().any(|m| m.name == want || m.target == want || m.source == want)
        })
        && filters.any("publish", |want| {
            view.ports
                .iter()
                .flat_map(|p| &p.spec.publish)
                .any(|b| port_matches(want, b.host_port, b.protocol.as_str()))
                && status.state.is_alive()
        })
        && filters.any("expose", |want| {
            spec.exposed.iter().any(|e| {
                e.split_once('/').is_some_and(|(port, protocol)| {
                    port.parse().is_ok_and(|port| port_matches(want, port, protocol))
                })
            })
        })
        && filters.any("is-task", |want| want == "false")
}

/// `80`, `80/udp` or `80-90/tcp`.
fn port_matches(want: &str, port: u16, protocol: &str) -> bool {
    let (ports, wanted_protocol) = want.split_once('/').unwrap_or((want, "tcp"));
    let (start, end) = ports.split_once('-').unwrap_or((ports, ports));
    let range = start.parse::<u16>().ok().zip(end.parse::<u16>().ok());
    wanted_protocol == protocol && range.is_some_and(|(s, e)| (s..=e).contains(&port))
}

/// Docker matches names by regular expression; people write parts of names, anchors, and little else. Those
/// are understood here: `^`, `$`, a leading slash, and `.*` between parts.
fn name_matches(name: &str, want: &str) -> bool {
    let full = format!("/{name}");
    let (want, start) = want.strip_prefix('^').map_or((want, false), |w| (w, true));
    let (want, end) = want.strip_suffix('$').map_or((want, false), |w| (w, true));
    let mut rest: &str = if want.starts_with('/') { &full } else { name };
    let parts: Vec<&str> = want.split(".*").collect();
    for (i, part) in parts.iter().enumerate() {
        let (first, last) = (i == 0 && start, i + 1 == parts.len() && end);
        let found = match (first, last) {
            (true, true) => (rest == *part).then_some(rest.len()),
            (true, false) => rest.starts_with(part).then_some(part.len()),
            (false, true) => rest.ends_with(part).then_some(rest.len()),
            (false, false) => rest.find(part).map(|at| at + part.len()),
        };
        match found {
            Some(at) => rest = &rest[at..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_people_expect() {
        for (name, want, expected) in [
            ("web", "web", true),
            ("web-1", "web", true),
            ("web-1", "^web$", false),
            ("web", "^/web$", true),
            ("web", "/web", true),
            ("my-web", "^web", false),
            ("a-b-c", "^a.*c$", true),
            ("a-b", "^a.*c$", false),
        ] {
            assert_eq!(name_matches(name, want), expected, "{name} {want}");
        }
    }

    #[test]
    fn port_filters() {
        for (want, port, protocol, expected) in [
            ("80", 80, "tcp", true),
            ("80", 80, "udp", false),
            ("80/udp", 80, "udp", true),
            ("80-90", 85, "tcp", true),
            ("x", 80, "tcp", false),
        ] {
            assert_eq!(port_matches(want, port, protocol), expected, "{want}");
        }
    }
}
