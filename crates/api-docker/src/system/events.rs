//! `GET /events`.

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_base::{Clock, SystemClock, Timestamp};
use weft_cloud::Caller;
use weft_model::{Event, EventKind};

use crate::{
    ApiError, Face,
    error::Result,
    query::{self, Filters, Params},
};

const KNOWN: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

pub(super) async fn events(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(KNOWN)?;
    let now = SystemClock.now();
    let moment = |name: &str| params.text(name).map(|t| query::moment(t, now)).transpose();
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let text = |name: &str| params.text(name).unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            text("since"),
            text("until")
        )));
    }
    let mut feed = face.cloud.events(&caller, since, until).await?;
    let (sender, body) = weft_api_kit::body_channel();
    // Headers and an empty body are sent at once, so that a client knows that it listens.
    tokio::spawn(async move {
        while let Some(event) = feed.ready() {
            let wanted = until.is_none_or(|u| event.at <= u) && passes(&event, &filters);
            if wanted && !sender.send_json(&render(&event)).await {
                return;
            }
        }
        let end = async {
            match until {
                Some(until) => tokio::time::sleep(until.since(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = feed.next() => event,
                () = &mut end => return,
                () = sender.closed() => return,
            };
            let Some(event) = event else { return };
            if until.is_none_or(|u| event.at <= u)
                && passes(&event, &filters)
                && !sender.send_json(&render(&event)).await
            {
                return;
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn passes(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let is = |kind: EventKind, key: &str| {
        !filters.has(key)
            || (event.kind == kind
                && filters.values(key).any(|want| {
                    // Names by their beginning too, as dockerd.
                    name.starts_with(want)
                        || event.id.starts_with(want)
                        || (kind == EventKind::Image && image(want, event))
                }))
    };
    let action = event.action.as_str();
    let base = action.split(':').next().unwrap_or(action);
    filters.any("type", |t| t == event.kind.as_str())
        && filters.any("event", |e| e == action || e == base)
        && filters.any("scope", |s| s == "local")
        && is(EventKind::Container, "container")
        && is(EventKind::Volume, "volume")
        && is(EventKind::Network, "network")
        && is(EventKind::Daemon, "daemon")
        && (!filters.has("image")
            || filters.values("image").any(|want| {
                event.attributes.get("image").is_some_and(|i| same_image(want, i))
                    || is(EventKind::Image, "image")
            }))
        && filters.labels("label", &event.attributes)
        && !["config", "node", "plugin", "secret", "service"].iter().any(|k| filters.has(k))
}

fn image(want: &str, event: &Event) -> bool {
    event.attributes.get("name").is_some_and(|n| same_image(want, n)) || same_image(want, &event.id)
}

/// `alpine` means every tag of it.
fn same_image(want: &str, have: &str) -> bool {
    have == want || have.strip_prefix(want).is_some_and(|rest| rest.starts_with([':', '@']))
}

fn render(event: &Event) -> Value {
    let mut value = json!({
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.at.unix_secs(),
        "timeNano": Timestamp::unix_nanos(event.at),
    });
    // The fields of before 1.22, which dockerd still sends for containers and images.
    if let (EventKind::Container | EventKind::Image, Some(map)) = (event.kind, value.as_object_mut()) {
        map.insert("status".into(), event.action.clone().into());
        map.insert("id".into(), event.id.clone().into());
        if let Some(from) = event.attributes.get("image") {
            map.insert("from".into(), from.clone().into());
        }
    }
    value
}
