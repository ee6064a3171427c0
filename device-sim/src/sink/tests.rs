//! The receiver over real sockets, fed with requests that are built of the `opentelemetry-proto` types.

use std::io::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const TRACE: TraceId = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

fn span(id: u8, parent: u8, name: &str, kind: SpanKind) -> Span {
    let bytes = |id: u8| match id {
        0 => Vec::new(),
        id => vec![id; 8],
    };
    Span {
        trace_id: TRACE.to_be_bytes().to_vec(),
        span_id: bytes(id),
        parent_span_id: bytes(parent),
        name: name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: 1_000 + u64::from(id),
        end_time_unix_nano: 2_000,
        ..Span::default()
    }
}

fn alarm_spans() -> Vec<Span> {
    vec![
        span(1, 0, "receive town", SpanKind::Server),
        span(2, 1, "decode jt808", SpanKind::Internal),
        span(3, 1, "send ring", SpanKind::Producer),
        span(4, 3, "process ring", SpanKind::Consumer),
        span(5, 4, "classify", SpanKind::Internal),
        span(6, 4, "journal", SpanKind::Internal),
        span(7, 6, "send alarms/013800000001", SpanKind::Producer),
    ]
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("ringway-ingest".to_owned())),
        }),
        ..KeyValue::default()
    };
    let resource = Resource {
        attributes: vec![service],
        ..Resource::default()
    };
    let scope = ScopeSpans {
        spans,
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
    .encode_to_vec()
}

/// Posts a body and returns the status, or the error of the connection.
async fn post(addr: SocketAddr, body: &[u8], headers: &str) -> io::Result<u16> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: sink\r\nConnection: close\r\n\
             Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let status = answer.get(9..12).map(String::from_utf8_lossy);
        let status = status.and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    };
    timeout(Duration::from_secs(20), exchange).await.unwrap()
}

async fn faults_of(spans: Vec<Span>) -> Vec<String> {
    let (addr, traces) = start("127.0.0.1:0").await.unwrap();
    assert_eq!(post(addr, &request(spans), "").await.unwrap(), 200);
    traces.check(TRACE).unwrap_err()
}

#[tokio::test]
async fn an_alarm_trace_in_two_gzipped_requests_is_complete() {
    let (addr, traces) = start("127.0.0.1:0").await.unwrap();
    let mut spans = alarm_spans();
    for part in [spans.split_off(4), spans] {
        assert!(traces.complete_alarm_traces().is_empty());
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&request(part)).unwrap();
        let packed = packed.finish().unwrap();
        let status = post(addr, &packed, "Content-Encoding: gzip\r\n").await;
        assert_eq!(status.unwrap(), 200);
    }
    let trees = traces.complete_alarm_traces();
    assert_eq!(trees.len(), 1);
    let journal = trees[0].branch("journal").unwrap();
    assert_eq!(journal.parent.as_deref(), Some("process ring"));
    assert_eq!(journal.service, "ringway-ingest");
    assert_eq!(trees[0].branches.len(), 7);
    assert_eq!(traces.spans(TRACE).len(), 7);
}

#[tokio::test]
async fn a_repeated_export_is_counted_and_changes_nothing() {
    let (addr, traces) = start("127.0.0.1:0").await.unwrap();
    for _ in 0..2 {
        let status = post(addr, &request(alarm_spans()), "").await;
        assert_eq!(status.unwrap(), 200);
    }
    let counts = traces.counts();
    assert_eq!((counts.requests, counts.spans, counts.repeated), (2, 14, 7));
    assert_eq!(traces.complete_alarm_traces().len(), 1);
}

#[tokio::test]
async fn every_fault_of_a_trace_is_named() {
    let mut spans = alarm_spans();
    spans.remove(4);
    spans[1].end_time_unix_nano = 5;
    spans[2].kind = SpanKind::Internal as i32;
    spans[3].parent_span_id = vec![1; 8];
    spans[4].parent_span_id = vec![99; 8];
    spans[5].start_time_unix_nano = 3;
    let faults = faults_of(spans).await;
    for expected in [
        "classify: missing",
        "decode jt808: starts at 1002 and ends at 5",
        "send ring: Internal instead of Producer",
        "process ring: its parent is receive town instead of send ring",
        "journal: its parent is not in the trace",
        "send alarms/013800000001: starts before its parent journal",
    ] {
        assert!(
            faults.iter().any(|fault| fault == expected),
            "{expected} in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[tokio::test]
async fn two_roots_a_circle_and_zero_ids_are_named() {
    let mut spans = alarm_spans();
    spans.push(span(8, 0, "push tracks", SpanKind::Producer));
    spans[5].parent_span_id = vec![7; 8];
    spans[1].span_id = vec![0; 8];
    let faults = faults_of(spans).await;
    for expected in [
        "not one root but 2",
        "journal: is its own ancestor",
        "span id is zero",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(expected)),
            "{expected} in {faults:#?}"
        );
    }
}

#[tokio::test]
async fn the_sink_fails_on_demand_and_recovers() {
    let (addr, traces) = start("127.0.0.1:0").await.unwrap();
    let body = request(alarm_spans());
    for status in [503, 400] {
        traces.behave(Behaviour::Status(status));
        assert_eq!(post(addr, &body, "").await.unwrap(), status);
    }
    traces.behave(Behaviour::Refuse);
    post(addr, &body, "").await.unwrap_err();
    traces.behave(Behaviour::Silent);
    let unanswered = tokio::spawn(async move { post(addr, &request(alarm_spans()), "").await });
    while traces.counts().failed < 3 {
        tokio::task::yield_now().await;
    }
    assert!(!unanswered.is_finished());
    traces.behave(Behaviour::Accept);
    assert_eq!(unanswered.await.unwrap().unwrap(), 503);
    assert!(traces.ids().is_empty());
    assert_eq!(post(addr, &body, "").await.unwrap(), 200);
    assert_eq!(traces.ids(), [TRACE]);
}

#[tokio::test]
async fn rubbish_is_answered_400_and_counted() {
    let (addr, traces) = start("127.0.0.1:0").await.unwrap();
    assert_eq!(post(addr, b"\xff\xff\xff", "").await.unwrap(), 400);
    let gzip = "Content-Encoding: gzip\r\n";
    assert_eq!(post(addr, b"no gzip", gzip).await.unwrap(), 400);
    assert_eq!(traces.counts().unreadable, 2);
}
