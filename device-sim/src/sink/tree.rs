//! The tree of spans that an alarm leaves, and every way in which it can be wrong. Pure.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Received, TraceId};

/// The spans of an alarm: begin of the name, kind, and the begin of its parent's name where that is fixed. The others
/// may hang anywhere below the root.
const EXPECTED: [(&str, SpanKind, Option<&str>); 7] = [
    ("receive ", SpanKind::Server, None),
    ("decode ", SpanKind::Internal, Some("receive ")),
    ("send ring", SpanKind::Producer, Some("receive ")),
    ("process ring", SpanKind::Consumer, Some("send ring")),
    ("classify", SpanKind::Internal, None),
    ("journal", SpanKind::Internal, None),
    ("send alarms/", SpanKind::Producer, None),
];

/// One span of a tree, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: SpanKind,
    /// `service.name` of the process that it stands for.
    pub service: String,
    /// Name of its parent; `None` for the root.
    pub parent: Option<String>,
    /// Start, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// End, nanoseconds since 1970.
    pub end_unix_ns: u64,
}

/// A sound trace of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Which.
    pub trace_id: TraceId,
    /// All spans, by start.
    pub branches: Vec<Branch>,
}

impl Tree {
    /// The first span whose name begins like this.
    pub fn branch(&self, name: &str) -> Option<&Branch> {
        let begins = |branch: &&Branch| branch.name.starts_with(name);
        self.branches.iter().find(begins)
    }
}

/// Checks the spans of one trace.
pub(super) fn check(trace_id: TraceId, spans: &[Received]) -> Result<Tree, Vec<String>> {
    if spans.is_empty() {
        return Err(vec!["no span of this trace came".to_owned()]);
    }
    let mut faults = Vec::new();
    if trace_id == 0 {
        faults.push("a trace id is zero or not of 16 bytes".to_owned());
    }
    let by_id: HashMap<&[u8], &Received> = spans
        .iter()
        .map(|received| (&received.span.span_id[..], received))
        .collect();
    for received in spans {
        check_span(received, &by_id, &mut faults);
    }
    check_roots(spans, &mut faults);
    for expected in EXPECTED {
        check_expected(expected, spans, &by_id, &mut faults);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut branches: Vec<Branch> = spans
        .iter()
        .map(|received| branch(received, &by_id))
        .collect();
    branches.sort_by_key(|branch| branch.start_unix_ns);
    Ok(Tree { trace_id, branches })
}

fn branch(received: &Received, by_id: &HashMap<&[u8], &Received>) -> Branch {
    let span = &received.span;
    let parent = by_id.get(&span.parent_span_id[..]);
    Branch {
        name: span.name.clone(),
        kind: span.kind(),
        service: received
            .resource_text("service.name")
            .unwrap_or_default()
            .to_owned(),
        parent: parent.map(|parent| parent.span.name.clone()),
        start_unix_ns: span.start_time_unix_nano,
        end_unix_ns: span.end_time_unix_nano,
    }
}

/// What must hold for each span alone and beside its parent.
fn check_span(received: &Received, by_id: &HashMap<&[u8], &Received>, faults: &mut Vec<String>) {
    let span = &received.span;
    let name = &span.name;
    if span.span_id.len() != 8 || span.span_id.iter().all(|byte| *byte == 0) {
        faults.push(format!("{name}: span id is zero or not of 8 bytes"));
    }
    if received.resource_text("service.name").is_none() {
        faults.push(format!("{name}: no service.name"));
    }
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    if start == 0 || end < start {
        faults.push(format!("{name}: starts at {start} and ends at {end}"));
    }
    if span.parent_span_id.is_empty() {
        return;
    }
    match by_id.get(&span.parent_span_id[..]) {
        None => faults.push(format!("{name}: its parent is not in the trace")),
        Some(parent) if parent.span.start_time_unix_nano > start => {
            let parent = &parent.span.name;
            faults.push(format!("{name}: starts before its parent {parent}"));
        }
        Some(_) => {}
    }
    let mut above = HashSet::new();
    let mut at = &span.span_id[..];
    while let Some(here) = by_id.get(at) {
        if !above.insert(at) {
            faults.push(format!("{name}: is its own ancestor"));
            return;
        }
        at = &here.span.parent_span_id;
    }
}

fn check_roots(spans: &[Received], faults: &mut Vec<String>) {
    let roots: Vec<&str> = spans
        .iter()
        .filter(|received| received.span.parent_span_id.is_empty())
        .map(|received| received.span.name.as_str())
        .collect();
    match roots[..] {
        [root] if root.starts_with("receive ") => {}
        [root] => faults.push(format!("the root is {root}")),
        _ => faults.push(format!("not one root but {}: {roots:?}", roots.len())),
    }
}

fn check_expected(
    (begin, kind, parent): (&str, SpanKind, Option<&str>),
    spans: &[Received],
    by_id: &HashMap<&[u8], &Received>,
    faults: &mut Vec<String>,
) {
    let mut named = spans
        .iter()
        .map(|received| &received.span)
        .filter(|span| span.name.starts_with(begin))
        .peekable();
    if named.peek().is_none() {
        faults.push(format!("{begin}: missing"));
    }
    for span in named {
        let name = &span.name;
        if span.kind() != kind {
            faults.push(format!("{name}: {:?} instead of {kind:?}", span.kind()));
        }
        let above = by_id.get(&span.parent_span_id[..]);
        if let (Some(expected), Some(above)) = (parent, above)
            && !above.span.name.starts_with(expected)
        {
            let above = &above.span.name;
            faults.push(format!(
                "{name}: its parent is {above} instead of {expected}"
            ));
        }
    }
}
