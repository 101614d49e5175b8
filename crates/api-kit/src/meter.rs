//! Requests counted by face, method, route and code, and how long they took to their answer's head.
//!
//! The route is the pattern that matched (`/containers/{id}/json`), so there are only so many series, whatever
//! clients ask for. A face makes it known by putting [`note_route`] on its routes.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::{Method, StatusCode};
use parking_lot::RwLock;
use weft_base::metrics::{Exposition, Histogram, Kind};

/// A face, a method and a route.
type Route = (&'static str, &'static str, Arc<str>);

/// The counts; one for all faces.
#[derive(Debug, Default)]
pub struct Meter {
    times: RwLock<HashMap<Route, Arc<Histogram>>>,
    codes: RwLock<HashMap<(Route, u16), Arc<std::sync::atomic::AtomicU64>>>,
}

/// Tells the listener which route answered.
pub async fn note_route(matched: MatchedPath, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(matched);
    response
}

impl Meter {
    /// Counts one request.
    pub(crate) fn count(
        &self,
        face: &'static str,
        method: &Method,
        matched: Option<&MatchedPath>,
        code: StatusCode,
        took: Duration,
    ) {
        let route: Arc<str> = matched.map_or("none", MatchedPath::as_str).into();
        let key = (face, name(method), route);
        one(&self.times, &key).observe(took);
        one(&self.codes, &(key, code.as_u16())).fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes all of it down.
    pub fn expose(&self, text: &mut Exposition) {
        let codes = sorted(&self.codes);
        let name = "weft_api_requests_total";
        text.family(name, Kind::Counter, "Requests answered, by face, method, route and status code.");
        for (((face, method, route), code), count) in codes {
            let labels =
                [("face", face), ("method", method), ("route", &*route), ("code", &*code.to_string())];
            text.sample(name, &labels, count.load(std::sync::atomic::Ordering::Relaxed));
        }
        let name = "weft_api_request_duration_seconds";
        text.family(name, Kind::Histogram, "Time from a request's head to its answer's head.");
        for ((face, method, route), times) in sorted(&self.times) {
            let labels = [("face", face), ("method", method), ("route", &*route)];
            text.distribution(name, &labels, &times.read());
        }
    }
}

/// Methods people invent are one.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn one<K: Clone + Eq + Hash, V: Default>(map: &RwLock<HashMap<K, Arc<V>>>, key: &K) -> Arc<V> {
    if let Some(found) = map.read().get(key) {
        return Arc::clone(found);
    }
    Arc::clone(map.write().entry(key.clone()).or_default())
}

fn sorted<K: Clone + Ord, V>(map: &RwLock<HashMap<K, Arc<V>>>) -> Vec<(K, Arc<V>)> {
    let mut all: Vec<_> = map.read().iter().map(|(k, v)| (k.clone(), Arc::clone(v))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
