//! What is served over HTTP: the page, the fleet as GeoJSON, open alarms, roads, and the door to the stream.
//!
//! Reading only. Every answer carries the headers that keep a page of another origin out; the stream, which such
//! headers do not protect, checks the origin itself.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State, WebSocketUpgrade};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;

use super::assets::ASSETS;
use super::feed::Feed;
use super::filter::{self, BoundingBox};
use super::{json, stream as live_stream};
use crate::stats::{DispatcherMetric, Stats};

/// Vehicles written to a GeoJSON answer at a time; pushes go between.
const CHUNK_VEHICLES_MAX: usize = 500;

/// Bytes of a frame or message from a subscriber, who has nothing to say but pong and close.
const SUBSCRIBER_MESSAGE_BYTES_MAX: usize = 4096;

/// Only what this origin serves may run or be fetched, and nobody may frame the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// What the handlers share.
pub struct Site {
    /// The fleet.
    pub feed: Arc<Feed>,
    /// The road graph, as its file has it.
    pub roads: Option<Bytes>,
    /// Whether only this machine can connect.
    pub loopback: bool,
    /// Where requests are counted.
    pub stats: Stats<DispatcherMetric>,
}

type Shared = State<Arc<Site>>;

/// Every route.
pub fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new()
        .route("/v1/tracks", get(tracks))
        .route("/v1/tracks/{device}", get(track))
        .route("/v1/alarms", get(alarms))
        .route("/v1/roads", get(roads))
        .route("/v1/stream", get(stream));
    for asset in ASSETS {
        let bytes = match asset.path {
            "/" => page(asset.bytes, site.roads.is_some()),
            _ => Bytes::from_static(asset.bytes),
        };
        let answer = get(async move || ([(header::CONTENT_TYPE, asset.content_type)], bytes));
        router = router.route(asset.path, answer);
    }
    router
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Refuses requests that were sent to another name, and marks every answer.
async fn guard(State(site): Shared, request: Request, next: Next) -> Response {
    site.stats.add(DispatcherMetric::Requests, 1);
    let mut response = if site.loopback && !host_is_local(request.headers()) {
        refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this server listens on loopback only and knows no other name",
        )
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        // The fleet moves, and the page belongs to the binary that serves it.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The page, told whether there are roads: asking in vain would leave an error in the browser's console.
fn page(template: &[u8], roads: bool) -> Bytes {
    let template = std::str::from_utf8(template).expect("the page is text");
    let known = if roads {
        "data-roads=\"yes\""
    } else {
        "data-roads=\"no\""
    };
    template.replace("data-roads=\"unknown\"", known).into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TracksQuery {
    device: Option<String>,
    bbox: Option<String>,
}

/// The fleet as a GeoJSON feature collection.
async fn tracks(
    State(site): Shared,
    query: Result<Query<TracksQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let area = match query.bbox.as_deref().map(BoundingBox::parse).transpose() {
        Ok(area) => area,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let body = if let Some(device) = query.device {
        let device = match filter::parse_device(&device) {
            Ok(device) => device,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let mut out = String::from(COLLECTION_START);
        site.feed
            .lock()
            .view
            .write_feature(&mut out, &device, wanted(area));
        out.push_str(COLLECTION_END);
        Body::from(out)
    } else {
        every_track(site, area)
    };
    ([(header::CONTENT_TYPE, GEOJSON)], body).into_response()
}

const GEOJSON: &str = "application/geo+json";
const COLLECTION_START: &str = "{\"type\":\"FeatureCollection\",\"features\":[";
const COLLECTION_END: &str = "]}";

fn wanted(area: Option<BoundingBox>) -> impl Fn(&crate::frame::Fix) -> bool {
    move |fix| area.is_none_or(|area| area.contains(fix))
}

/// The whole collection, written a chunk at a time as the client takes it.
fn every_track(site: Arc<Site>, area: Option<BoundingBox>) -> Body {
    struct Progress {
        next: usize,
        empty: bool,
        ended: bool,
    }
    let start = Progress {
        next: 0,
        empty: true,
        ended: false,
    };
    Body::from_stream(stream::unfold(start, move |mut progress| {
        let site = Arc::clone(&site);
        async move {
            if progress.ended {
                return None;
            }
            let mut out = String::new();
            if progress.next == 0 {
                out.push_str(COLLECTION_START);
            }
            let view = &site.feed.lock().view;
            let slots = progress.next..view.len().min(progress.next + CHUNK_VEHICLES_MAX);
            progress.next = slots.end;
            view.write_features(&mut out, slots, &mut progress.empty, wanted(area));
            if progress.next == view.len() {
                progress.ended = true;
                out.push_str(COLLECTION_END);
            }
            Some((Ok::<_, Infallible>(Bytes::from(out)), progress))
        }
    }))
}

/// One vehicle as a GeoJSON feature, with its trail.
async fn track(State(site): Shared, Path(device): Path<String>) -> Response {
    let device = match filter::parse_device(&device) {
        Ok(device) => device,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut out = String::new();
    let found = site
        .feed
        .lock()
        .view
        .write_feature_with_trail(&mut out, &device);
    if found {
        ([(header::CONTENT_TYPE, GEOJSON)], out).into_response()
    } else {
        refuse(StatusCode::NOT_FOUND, "no such device")
    }
}

/// The open alarms.
async fn alarms(State(site): Shared) -> Response {
    let mut out = String::from("{\"alarms\":[");
    for (index, alarm) in site.feed.lock().view.open_alarms().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::write_alarm(&mut out, alarm);
    }
    out.push_str("]}");
    as_json(StatusCode::OK, out)
}

/// The road graph.
async fn roads(State(site): Shared) -> Response {
    match &site.roads {
        Some(roads) => as_json(StatusCode::OK, roads.clone()),
        None => refuse(StatusCode::NOT_FOUND, "no roads are configured"),
    }
}

/// The live stream.
async fn stream(
    State(site): Shared,
    headers: HeaderMap,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !origin_is_ours(&headers, &uri) {
        return refuse(
            StatusCode::FORBIDDEN,
            "the stream serves its own origin only",
        );
    }
    let Some(subscriber) = site.feed.subscribe() else {
        site.stats.add(DispatcherMetric::SubscribersRefused, 1);
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "there are too many subscribers",
        );
    };
    upgrade
        // What a subscriber may send is small; tungstenite's own default would set aside 128 KiB for it.
        .read_buffer_size(SUBSCRIBER_MESSAGE_BYTES_MAX)
        .max_frame_size(SUBSCRIBER_MESSAGE_BYTES_MAX)
        .max_message_size(SUBSCRIBER_MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| live_stream::serve(socket, subscriber))
}

/// Whether a browser's page of this origin asks, or no browser at all.
fn origin_is_ours(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()));
    let origin = origin.to_str().ok().and_then(|origin| {
        origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
    });
    let same = host
        .zip(origin)
        .is_some_and(|(host, origin)| host.eq_ignore_ascii_case(origin));
    same && origins.next().is_none()
}

/// Whether the request was sent to this machine by a name that only this machine has. A page elsewhere can have its
/// own name resolve to 127.0.0.1; the browser then takes us for that page's origin, but `Host` gives it away.
fn host_is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true; // No browser: they all send it.
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

fn as_json(status: StatusCode, body: impl Into<Body>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body.into()).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    as_json(status, serde_json::json!({ "error": why }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_the_same_origin_or_none_may_open_the_stream() {
        let uri = Uri::from_static("/v1/stream");
        for (origin, ours) in [
            ("http://127.0.0.1:8080", true),
            ("https://127.0.0.1:8080", true),
            ("http://127.0.0.1", false),
            ("http://127.0.0.1:8081", false),
            ("http://evil.example", false),
            ("http://127.0.0.1:8080.evil.example", false),
            ("null", false),
            ("", false),
        ] {
            let headers = headers(&[(header::HOST, "127.0.0.1:8080"), (header::ORIGIN, origin)]);
            assert_eq!(origin_is_ours(&headers, &uri), ours, "{origin}");
        }
        assert!(origin_is_ours(&headers(&[(header::HOST, "a")]), &uri));
        assert!(!origin_is_ours(
            &headers(&[(header::ORIGIN, "http://a")]),
            &uri
        ));
    }

    #[test]
    fn a_name_that_was_made_to_point_here_is_told_apart() {
        for (host, local) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("LocalHost:1", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("192.168.0.1", false),
            ("", false),
        ] {
            assert_eq!(
                host_is_local(&headers(&[(header::HOST, host)])),
                local,
                "{host}"
            );
        }
        assert!(host_is_local(&HeaderMap::new()));
    }
}
