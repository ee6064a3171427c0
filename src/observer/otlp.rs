//! Export to an OTLP/HTTP collector: one request for each service, at most one under way, never a retry inside.
//!
//! The crate's exporter only encodes and sends here. Whether and when to try again is decided by the caller with
//! [`Backoff`], because a span is idempotent (its id is derived) and the queue in front is what is bounded.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use super::span::{Service, ServiceSpan};
use crate::config::Node;
use crate::config::TraceSettings;

/// Most spans in one request. A span encodes to less than 1 KiB (its strings are a device id, names of the
/// configuration and an event id), so that a request stays below 512 KiB.
pub const REQUEST_SPANS_MAX: usize = 512;

/// A collector that takes longer is treated as one that is away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Environment variables that name a collector where the configuration names none, in the order of precedence.
const ENDPOINT_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The collector wants TLS, which this build does not speak.
    #[error("cannot export traces to \"{endpoint}\": https is not built in")]
    Tls {
        /// As configured.
        endpoint: String,
    },
    /// The endpoint or a header is not valid.
    #[error("cannot set up the trace exporter: {0}")]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// No answer, or one that asks for patience: the same spans may be sent again.
    #[error("collector is away or busy (status {0})")]
    Away(u16),
    /// The collector will never take these spans.
    #[error("collector refused {spans} spans (status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// How many.
        spans: usize,
    },
}

/// Spans on their way, by service. What was taken by the collector leaves it.
#[derive(Debug, Default)]
pub struct Batch {
    services: BTreeMap<Service, Vec<SpanData>>,
}

impl Batch {
    /// Adds spans.
    pub fn extend(&mut self, spans: impl IntoIterator<Item = ServiceSpan>) {
        for ServiceSpan { service, span } in spans {
            self.services.entry(service).or_default().push(span);
        }
    }

    /// Spans that the fullest request would have.
    pub fn request_spans(&self) -> usize {
        self.services.values().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

/// The collector, seen from all services of this node.
#[derive(Debug)]
pub struct Exporter {
    endpoint: Option<String>,
    headers: HashMap<String, String>,
    node: Node,
    client: Arc<StatusClient>,
    services: BTreeMap<Service, SpanExporter>,
}

impl Exporter {
    /// An exporter to the configured collector, or to the one that the standard environment variables name; `None` if
    /// there is neither.
    ///
    /// # Errors
    /// When the collector cannot be spoken to by this build.
    pub fn new(settings: &TraceSettings, node: &Node) -> Result<Option<Exporter>, ExporterError> {
        let named = |variable: &str| std::env::var(variable).ok().filter(|url| !url.is_empty());
        let stated = settings.endpoint.clone();
        let Some(collector) = stated
            .clone()
            .or_else(|| ENDPOINT_VARIABLES.into_iter().find_map(named))
        else {
            return Ok(None);
        };
        if collector.starts_with("https:") {
            let endpoint = collector;
            return Err(ExporterError::Tls { endpoint });
        }
        let exporter = Exporter {
            endpoint: stated.map(|base| format!("{}/v1/traces", base.trim_end_matches('/'))),
            headers: settings.headers.iter().cloned().collect(),
            node: node.clone(),
            client: Arc::new(StatusClient::new()),
            services: BTreeMap::new(),
        };
        // An endpoint that does not parse is found now and not with the first alarm.
        exporter.build(&Service {
            role: crate::role::Role::Observer,
            instance: String::new(),
        })?;
        Ok(Some(exporter))
    }

    /// Sends the spans of one service of `batch` and takes them out of it, also when the collector refused them for
    /// good. Returns how many were sent.
    ///
    /// # Errors
    /// [`ExportError::Away`] leaves the batch as it was.
    pub async fn export(&mut self, batch: &mut Batch) -> Result<usize, ExportError> {
        let Some((service, spans)) = batch.services.first_key_value() else {
            return Ok(0);
        };
        if !self.services.contains_key(service) {
            let built = self
                .build(service)
                .expect("built with the same settings at the start");
            self.services.insert(service.clone(), built);
        }
        let exporter = &self.services[service];
        self.client.status.store(0, Ordering::Relaxed);
        let result = exporter.export(spans.clone()).await;
        let status = self.client.status.load(Ordering::Relaxed);
        let outcome = match (result, status) {
            (Ok(()), _) => Ok(spans.len()),
            (Err(_), 400..=499) if !matches!(status, 408 | 429) => Err(ExportError::Refused {
                status,
                spans: spans.len(),
            }),
            (Err(_), _) => return Err(ExportError::Away(status)),
        };
        batch.services.pop_first();
        outcome
    }

    fn build(&self, service: &Service) -> Result<SpanExporter, ExporterError> {
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(self.client.clone())
            .with_timeout(REQUEST_TIMEOUT)
            .with_headers(self.headers.clone())
            .with_compression(Compression::Gzip)
            .with_retry_policy(RetryPolicy::disabled());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let mut exporter = builder.build()?;
        // The same host id for all: viewers correct "clock skew" between hosts that they think are two.
        let host = format!("{}/{}", self.node.site, self.node.name);
        let resource = Resource::builder_empty()
            .with_service_name(format!("ringway-{}", service.role.name()))
            .with_attribute(KeyValue::new(
                "service.instance.id",
                service.instance.clone(),
            ))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.id", host))
            .with_attribute(KeyValue::new("host.name", self.node.name.clone()))
            .build();
        exporter.set_resource(&resource);
        Ok(exporter)
    }
}

/// The HTTP client, which remembers the status of the last response: the exporter's error has it only as text.
#[derive(Debug)]
struct StatusClient {
    inner: HyperClient,
    /// Zero: no response.
    status: AtomicU16,
}

impl StatusClient {
    fn new() -> StatusClient {
        StatusClient {
            inner: HyperClient::with_default_connector(REQUEST_TIMEOUT, None),
            status: AtomicU16::new(0),
        }
    }
}

impl HttpClient for StatusClient {
    fn send_bytes<'a, 'async_trait>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let response = self.inner.send_bytes(request).await?;
            self.status
                .store(response.status().as_u16(), Ordering::Relaxed);
            Ok(response)
        })
    }
}

/// Waits between attempts: 0.25 s doubled up to 30 s, of which a random part (at least half) is waited, so that the
/// nodes of a fleet do not come back to a collector all at once.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(30);

    /// Before the first failure.
    pub fn new() -> Backoff {
        Backoff {
            ceiling: Backoff::FIRST,
        }
    }

    /// How long to wait after another failure. `random` is any number.
    pub fn next_wait(&mut self, random: u64) -> Duration {
        let half = self.ceiling / 2;
        let part = Duration::from_nanos(random % (half.as_nanos() as u64 + 1));
        self.ceiling = (self.ceiling * 2).min(Backoff::LAST);
        half + part
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Backoff::new();
    }
}

/// A number that is different on each node and at each call; good enough for jitter.
pub fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_thirty_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next_wait(0), Duration::from_millis(125));
        assert_eq!(backoff.next_wait(0), Duration::from_millis(250));
        for _ in 0..20 {
            assert!(backoff.next_wait(random()) <= Duration::from_secs(30));
        }
        assert_eq!(backoff.next_wait(0), Duration::from_secs(15));
        backoff.reset();
        assert_eq!(backoff.next_wait(0), Duration::from_millis(125));
    }

    #[test]
    fn https_is_refused_with_a_reason_and_nothing_configured_means_no_exporter() {
        let node = Node {
            site: "s".to_owned(),
            name: "n".to_owned(),
        };
        let settings = |endpoint: &str| TraceSettings {
            endpoint: Some(endpoint.to_owned()),
            headers: Vec::new(),
            one_in: 0,
        };
        let refused = Exporter::new(&settings("https://collector:4318"), &node).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot export traces to \"https://collector:4318\": https is not built in"
        );
        assert!(Exporter::new(&settings("not a url"), &node).is_err());
    }
}
