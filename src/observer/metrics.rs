//! The text that Prometheus scrapes, from statistics pages.
//!
//! A family, all samples of one name, stands together under one HELP and TYPE; each sample says its role and instance.
//! Numbers come from other processes and are shown as they are.

use std::fmt::Write;

use super::page::Seen;
use crate::stats::{BUCKET_BOUNDS_NS, Definition, Kind, Page, Value};

/// Content type of [`exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the pages seen.
pub fn exposition(seen: &[Seen]) -> String {
    let mut out = String::new();
    processes(&mut out, seen);
    // A name belongs to one kind of process, so its pages are all there is to a family.
    for (at, first) in seen.iter().enumerate() {
        let owner = first.page.owner;
        if seen[..at].iter().any(|before| before.page.owner == owner) {
            continue;
        }
        let pages: Vec<&Page> = seen
            .iter()
            .map(|seen| &seen.page)
            .filter(|page| page.owner == owner)
            .collect();
        table(&mut out, owner.table(), &pages);
    }
    out
}

/// What every process has.
fn processes(out: &mut String, seen: &[Seen]) {
    let mut gauge = |name, help, value: fn(&Seen) -> Option<f64>| {
        head(out, name, help, Kind::Gauge);
        for seen in seen {
            if let Some(value) = value(seen) {
                sample(out, name, "", &labels(&seen.page, None), value);
            }
        }
    };
    gauge(
        "ringway_process_up",
        "1 while the process says that it is alive.",
        |seen| flag(seen.is_alive()),
    );
    gauge(
        "ringway_process_ready",
        "1 while the process serves.",
        |seen| flag(seen.page.ready),
    );
    gauge(
        "ringway_process_heartbeat_age_seconds",
        "Time since the process said that it is alive.",
        |seen| seen.heartbeat_age.map(|age| age.as_secs_f64()),
    );
    gauge(
        "ringway_process_start_time_seconds",
        "Wall clock at the start of the process, since 1970.",
        |seen| Some(seen.page.started_unix_ms as f64 / 1e3),
    );
}

fn flag(on: bool) -> Option<f64> {
    Some(if on { 1.0 } else { 0.0 })
}

/// The families of one table.
fn table(out: &mut String, table: &[Definition], pages: &[&Page]) {
    let mut at = 0;
    for family in table.chunk_by(|a, b| a.name == b.name) {
        head(out, family[0].name, family[0].help, family[0].kind);
        for page in pages {
            for (definition, value) in &page.values[at..at + family.len()] {
                let labels = labels(page, definition.label);
                match value {
                    Value::Number(number) => sample(out, definition.name, "", &labels, number),
                    Value::Histogram { buckets, sum_ns } => {
                        histogram(out, definition.name, &labels, buckets, *sum_ns);
                    }
                }
            }
        }
        at += family.len();
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, buckets: &[u64], sum_ns: u64) {
    let mut count = 0_u64;
    let bounds = BUCKET_BOUNDS_NS
        .iter()
        .map(|&bound_ns| (bound_ns as f64 / 1e9).to_string())
        .chain(["+Inf".to_owned()]);
    for (bucket, bound) in buckets.iter().zip(bounds) {
        count = count.wrapping_add(*bucket);
        let labels = format!("{labels},le=\"{bound}\"");
        sample(out, name, "_bucket", &labels, count);
    }
    sample(out, name, "_sum", labels, sum_ns as f64 / 1e9);
    sample(out, name, "_count", labels, count);
}

fn head(out: &mut String, name: &str, help: &str, kind: Kind) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("a string takes all");
}

fn sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name}{suffix}{{{labels}}} {value}").expect("a string takes all");
}

fn labels(page: &Page, own: Option<(&str, &str)>) -> String {
    let mut labels = format!(
        "role=\"{}\",instance=\"{}\"",
        page.owner.name(),
        escaped(&page.instance)
    );
    if let Some((name, value)) = own {
        write!(labels, ",{name}=\"{value}\"").expect("a string takes all");
    }
    labels
}

/// A label's value; a page's reader lets no line end through.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use super::super::page::HEARTBEAT_AGE_MAX;
    use super::*;
    use crate::stats::{self, DispatcherMetric, IngestMetric, Stats};

    fn seen(page: &OwnedFd, age: Option<Duration>) -> Seen {
        Seen {
            page: stats::read(page.as_fd()).unwrap(),
            heartbeat_age: age,
        }
    }

    fn ingest(name: &str, frames: u64) -> Seen {
        let page = stats::create().unwrap();
        let stats = Stats::<IngestMetric>::attach(page.as_fd(), name, 1_500).unwrap();
        stats.add(IngestMetric::FramesPublished, frames);
        stats.add(IngestMetric::ClosedIdle, 2);
        stats.set_ready(true);
        seen(&page, Some(Duration::from_millis(250)))
    }

    #[test]
    fn a_family_stands_together_whatever_the_number_of_processes() {
        let text = exposition(&[ingest("yard", 3), ingest("fl\"eet\\", 4)]);
        let family: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("ringway_frames_published_total"))
            .collect();
        assert_eq!(
            family,
            [
                "# HELP ringway_frames_published_total Frames committed to the ring.",
                "# TYPE ringway_frames_published_total counter",
                "ringway_frames_published_total{role=\"ingest\",instance=\"yard\"} 3",
                "ringway_frames_published_total{role=\"ingest\",instance=\"fl\\\"eet\\\\\"} 4",
            ]
        );
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "each family once");
    }

    #[test]
    fn labels_of_a_table_follow_role_and_instance() {
        let text = exposition(&[ingest("yard", 0)]);
        let line =
            "ringway_connections_closed_total{role=\"ingest\",instance=\"yard\",reason=\"idle\"} 2";
        assert!(text.lines().any(|other| other == line), "{text}");
    }

    #[test]
    fn histograms_are_cumulative_and_in_seconds() {
        let page = stats::create().unwrap();
        let stats = Stats::<DispatcherMetric>::attach(page.as_fd(), "dispatcher", 0).unwrap();
        for us in [5, 15, 700, 20_000_000] {
            stats.observe(DispatcherMetric::Freshness, Duration::from_micros(us));
        }
        let text = exposition(&[seen(&page, None)]);
        let value = |of: &str| {
            let prefix = format!("ringway_freshness_seconds{of}");
            let line = text.lines().find(|line| line.starts_with(&prefix)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        let bucket = |le: &str| {
            value(&format!(
                "_bucket{{role=\"dispatcher\",instance=\"dispatcher\",le=\"{le}\"}}"
            ))
        };
        assert_eq!(
            ["0.00001", "0.00002", "0.0005", "0.001", "10", "+Inf"].map(bucket),
            ["1", "2", "2", "3", "3", "4"]
        );
        assert_eq!(value("_count"), "4");
        assert_eq!(value("_sum"), "20.00072");
    }

    #[test]
    fn a_process_that_is_silent_for_too_long_is_not_up() {
        let mut fresh = ingest("yard", 0);
        let up = |seen: &Seen| {
            let text = exposition(std::slice::from_ref(seen));
            text.contains("ringway_process_up{role=\"ingest\",instance=\"yard\"} 1\n")
        };
        assert!(up(&fresh));
        fresh.heartbeat_age = Some(HEARTBEAT_AGE_MAX + Duration::from_millis(1));
        assert!(!up(&fresh));
        fresh.heartbeat_age = None;
        assert!(!up(&fresh));
    }
}
