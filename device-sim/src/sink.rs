//! An OTLP/HTTP receiver for tests and the demo: takes `POST /v1/traces` as protobuf, gzipped or not, decodes it with
//! the `opentelemetry-proto` types alone, and keeps the spans by trace so that their [`tree`](Traces::check) can be
//! checked. It can also fail on demand. Bounded: what is beyond [`SPANS_MAX`] is counted and dropped.

mod tree;

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use tree::{Branch, Tree};

/// Spans kept.
pub const SPANS_MAX: usize = 200_000;

/// Bytes of a request, packed and unpacked.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// The 128 bits of a W3C trace id, as a number.
pub type TraceId = u128;

/// How the receiver answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Takes what is sent.
    #[default]
    Accept,
    /// New connections are reset; open ones get one more answer, 503, and are closed.
    Refuse,
    /// Answers with this status and keeps nothing.
    Status(u16),
    /// Reads requests and does not answer until the behaviour changes; then answers 503.
    Silent,
}

/// A span as it came, with what its process said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Attributes of the resource, such as `service.name`.
    pub resource: Arc<Vec<KeyValue>>,
    /// The span.
    pub span: Span,
}

impl Received {
    /// A text attribute of the resource.
    pub fn resource_text(&self, key: &str) -> Option<&str> {
        text(&self.resource, key)
    }

    /// A text attribute of the span.
    pub fn attribute_text(&self, key: &str) -> Option<&str> {
        text(&self.span.attributes, key)
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// What was received, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Requests taken.
    pub requests: u64,
    /// Requests answered with a failure on demand, or left without an answer.
    pub failed: u64,
    /// Requests that could not be decoded.
    pub unreadable: u64,
    /// Spans taken, repeats included.
    pub spans: u64,
    /// Spans that came before with the same trace and span id; the last one is kept.
    pub repeated: u64,
    /// Spans beyond [`SPANS_MAX`].
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Store {
    traces: HashMap<TraceId, Vec<Received>>,
    kept: usize,
    counts: SinkCounts,
}

/// The traces received so far; clones share them.
#[derive(Clone, Debug)]
pub struct Traces {
    store: Arc<Mutex<Store>>,
    behaviour: Arc<watch::Sender<Behaviour>>,
}

impl Traces {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Counts so far.
    pub fn counts(&self) -> SinkCounts {
        self.store().counts
    }

    /// Ids of all traces of which a span came, in no order.
    pub fn ids(&self) -> Vec<TraceId> {
        self.store().traces.keys().copied().collect()
    }

    /// The spans of a trace, in the order in which they came.
    pub fn spans(&self, trace_id: TraceId) -> Vec<Received> {
        let store = self.store();
        store.traces.get(&trace_id).cloned().unwrap_or_default()
    }

    /// The tree of an alarm's trace.
    ///
    /// # Errors
    /// Every reason why the spans are no such tree: missing ones, wrong kinds, parents that do not resolve, times out
    /// of order, ids that are zero.
    pub fn check(&self, trace_id: TraceId) -> Result<Tree, Vec<String>> {
        tree::check(trace_id, &self.spans(trace_id))
    }

    /// The traces which hold the whole tree of an alarm, from the device's socket to the broker's confirmation.
    pub fn complete_alarm_traces(&self) -> Vec<Tree> {
        let store = self.store();
        let traces = store.traces.iter();
        traces
            .filter_map(|(&trace_id, spans)| tree::check(trace_id, spans).ok())
            .collect()
    }

    fn take(&self, request: ExportTraceServiceRequest) {
        let mut store = self.store();
        store.counts.requests += 1;
        for resource_spans in request.resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            let resource = Arc::new(resource.attributes);
            let scopes = resource_spans.scope_spans.into_iter();
            for span in scopes.flat_map(|scope| scope.spans) {
                let resource = Arc::clone(&resource);
                store.take(Received { resource, span });
            }
        }
    }
}

impl Store {
    fn take(&mut self, received: Received) {
        self.counts.spans += 1;
        // An id of a wrong length is kept under zero, where the check complains.
        let id = <[u8; 16]>::try_from(&received.span.trace_id[..]);
        let trace_id = id.map_or(0, TraceId::from_be_bytes);
        let spans = self.traces.entry(trace_id).or_default();
        let same = |old: &&mut Received| old.span.span_id == received.span.span_id;
        if let Some(old) = spans.iter_mut().find(same) {
            self.counts.repeated += 1;
            *old = received;
        } else if self.kept < SPANS_MAX {
            self.kept += 1;
            spans.push(received);
        } else {
            self.counts.dropped += 1;
        }
    }
}

/// Receives traces at `listen`, on the current runtime and as long as it lives.
///
/// # Errors
/// When the address cannot be had.
pub async fn start(listen: &str) -> io::Result<(SocketAddr, Traces)> {
    let listener = TcpListener::bind(listen).await?;
    let addr = listener.local_addr()?;
    let traces = Traces {
        store: Arc::default(),
        behaviour: Arc::new(watch::Sender::new(Behaviour::Accept)),
    };
    let router = Router::new()
        .route("/v1/traces", post(export))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(traces.clone());
    let gate = Gate {
        listener,
        behaviour: traces.behaviour.subscribe(),
    };
    tokio::spawn(async move { axum::serve(gate, router).await });
    Ok((addr, traces))
}

/// A listener that resets connections while it shall refuse them.
struct Gate {
    listener: TcpListener,
    behaviour: watch::Receiver<Behaviour>,
}

impl axum::serve::Listener for Gate {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
            if *self.behaviour.borrow() != Behaviour::Refuse {
                return (stream, peer);
            }
            // Closing with zero linger is what makes it a reset; if it cannot be set, closing is the next best.
            let _ = stream.set_zero_linger();
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn export(State(traces): State<Traces>, headers: HeaderMap, body: Bytes) -> Response {
    let mut behaviour = traces.behaviour.subscribe();
    let asked = *behaviour.borrow_and_update();
    let failure = match asked {
        Behaviour::Accept => None,
        Behaviour::Refuse => Some(StatusCode::SERVICE_UNAVAILABLE),
        Behaviour::Status(code) => {
            Some(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Behaviour::Silent => Some(StatusCode::SERVICE_UNAVAILABLE),
    };
    if let Some(status) = failure {
        traces.store().counts.failed += 1;
        if asked == Behaviour::Silent {
            // Ends with the behaviour; the sender lives in `traces`, so there is no other error.
            let _ = behaviour.wait_for(|now| *now != Behaviour::Silent).await;
        }
        return (status, [(header::CONNECTION, "close")]).into_response();
    }
    let decoded = decode(&headers, &body);
    match decoded {
        Ok(request) => {
            traces.take(request);
            let answer = ExportTraceServiceResponse::default().encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
        }
        Err(reason) => {
            traces.store().counts.unreadable += 1;
            (StatusCode::BAD_REQUEST, reason).into_response()
        }
    }
}

fn decode(headers: &HeaderMap, body: &[u8]) -> Result<ExportTraceServiceRequest, String> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if header(header::CONTENT_TYPE) != Some("application/x-protobuf") {
        return Err("expected application/x-protobuf".to_owned());
    }
    let mut unpacked = Vec::new();
    let bytes = match header(header::CONTENT_ENCODING) {
        None => body,
        Some("gzip") => {
            let unpack = flate2::read::GzDecoder::new(body);
            let limit = REQUEST_BYTES_MAX as u64 + 1;
            let read = unpack.take(limit).read_to_end(&mut unpacked);
            read.map_err(|error| format!("cannot unpack request: {error}"))?;
            &unpacked
        }
        Some(other) => return Err(format!("cannot unpack {other:?}")),
    };
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(format!("request of more than {REQUEST_BYTES_MAX} bytes"));
    }
    ExportTraceServiceRequest::decode(bytes).map_err(|error| format!("cannot decode: {error}"))
}

#[cfg(test)]
mod tests;
