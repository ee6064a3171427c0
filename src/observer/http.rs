//! `/metrics`, `/livez` and `/readyz`: one request a connection, so that nobody holds one for long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::metrics;
use super::page::{Pages, Survey};
use crate::stats::{ObserverMetric, Stats};
use crate::sys::clock;

/// Most connections at a time; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 32;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a request and its answer.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept: what failed (descriptors, memory) needs time to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the handlers look at. Clones share it.
#[derive(Clone)]
pub struct View {
    pages: Arc<Mutex<Pages>>,
    stats: Stats<ObserverMetric>,
}

impl View {
    /// A view of these pages.
    pub fn new(pages: Pages, stats: Stats<ObserverMetric>) -> View {
        View {
            pages: Arc::new(Mutex::new(pages)),
            stats,
        }
    }

    /// Calls `use_pages` with the pages.
    pub fn with_pages<T>(&self, use_pages: impl FnOnce(&mut Pages) -> T) -> T {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        use_pages(&mut pages)
    }

    /// What the pages say now.
    pub fn survey(&self) -> Survey {
        self.with_pages(|pages| pages.survey(clock::monotonic_ns()))
    }
}

/// Accepts until it is dropped. Requests under way end on their own.
pub async fn serve(listener: TcpListener, view: View) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(view);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let served = http1::Builder::new()
                        .keep_alive(false)
                        .timer(TokioTimer::new())
                        .max_buf_size(HEAD_BYTES_MAX)
                        .serve_connection(TokioIo::new(stream), service);
                    // Neither a client that went nor one that was too slow is worth a line.
                    let _ = timeout(REQUEST_MAX, served).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn scrape(State(view): State<View>) -> Response {
    view.stats.add(ObserverMetric::Scrapes, 1);
    let survey = view.survey();
    let text = metrics::exposition(&survey.seen);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// That this is answered at all is the answer.
async fn livez() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        "{\"live\":true}",
    )
        .into_response()
}

async fn readyz(State(view): State<View>) -> Response {
    let health = Health::of(&view.survey());
    let status = match health.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health)).into_response()
}
