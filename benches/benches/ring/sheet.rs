//! The figures of a run: medians with their spread, ratios to ours, goals; as tables, JSON and a picture.

use std::fmt::Write;

use benches::chart::{Bar, Panel, short};
use benches::figure::Figure;
use serde_json::{Value, json};

use crate::catalogue::KINDS;

/// Bytes of the frames for which the goals are stated.
pub const GOAL_BYTES: usize = 128;

/// Names of figures.
pub mod name {
    /// Millions of frames a second, one frame a call.
    pub const ONE: &str = "one at a time, M/s";
    /// Millions of frames a second, with natural batching.
    pub const BATCHED: &str = "batched, M/s";
    /// As [`BATCHED`], in the best tenth of short pieces.
    pub const UNDISTURBED: &str = "batched, best tenth, M/s";
    /// One way, both ends polling.
    pub const POLLED_P50: &str = "hop polled p50, us";
    /// One way, both ends polling.
    pub const POLLED_P99: &str = "hop polled p99, us";
    /// One way, both ends asleep in between.
    pub const ASLEEP_P50: &str = "hop asleep p50, us";
    /// One way, both ends asleep in between.
    pub const ASLEEP_P99: &str = "hop asleep p99, us";
    /// Nanoseconds of instructions, written.
    pub const ALONE_WRITE: &str = "one core, writing, ns";
    /// Nanoseconds of instructions, read.
    pub const ALONE_READ: &str = "one core, reading, ns";
    /// Hand-off of one cache line, one way.
    pub const LINE: &str = "L, us";
    /// One small read.
    pub const READ: &str = "S, us";
    /// CPU of a frame: the writer's calls and all of the reader.
    pub const CPU: &str = "CPU, us";
    /// CPU of a frame of both processes, pacing included.
    pub const CPU_ALL: &str = "CPU with pacing, us";
    /// From call to reader.
    pub const PACED_P50: &str = "paced p50, us";
    /// From call to reader.
    pub const PACED_P99: &str = "paced p99, us";
}

/// Which figure: transport, name, and the frame size or rate that it is for.
type Key = (&'static str, &'static str, u64);

/// All figures.
#[derive(Debug, Default)]
pub struct Sheet {
    figures: Vec<(Key, Vec<f64>)>,
    /// What went wrong: transport, what.
    troubles: Vec<(&'static str, String)>,
    /// What is left of each transport after a kill: transport, who was killed, what then.
    pub left: Vec<(&'static str, &'static str, String)>,
    /// Where and when it was measured.
    pub notes: Vec<String>,
}

impl Sheet {
    /// Notes the value of one repetition.
    pub fn note(&mut self, transport: &'static str, name: &'static str, of: u64, value: f64) {
        let key = (transport, name, of);
        match self.figures.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((key, vec![value])),
        }
    }

    /// Notes that something went wrong.
    pub fn trouble(&mut self, transport: &'static str, what: String) {
        self.troubles.push((transport, what));
    }

    /// Whether anything went wrong with a transport whose name begins so.
    pub fn has_trouble(&self, transport: &str) -> bool {
        let mut names = self.troubles.iter().map(|(name, _)| name);
        names.any(|name| name.starts_with(transport))
    }

    fn figure(&self, transport: &str, name: &str, of: u64) -> Option<Figure> {
        let wanted = |key: &Key| key.0 == transport && key.1 == name && key.2 == of;
        let (_, values) = self.figures.iter().find(|(key, _)| wanted(key))?;
        Figure::of(values.iter().copied())
    }

    fn median(&self, transport: &str, name: &str, of: u64) -> Option<f64> {
        Some(self.figure(transport, name, of)?.median)
    }

    /// A cell: median and spread.
    fn cell(&self, transport: &str, name: &str, of: u64) -> String {
        let Some(figure) = self.figure(transport, name, of) else {
            return "-".to_owned();
        };
        let (median, min, max) = (short(figure.median), short(figure.min), short(figure.max));
        format!("{median} ({min}..{max})")
    }

    /// A cell: how many times the median of ours is that of the transport.
    fn ratio(&self, transport: &str, name: &str, of: u64) -> String {
        let ours = self.median("ours", name, of);
        let theirs = self.median(transport, name, of);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => short(ours / theirs),
            _ => "-".to_owned(),
        }
    }

    /// Tables, goals, troubles and notes, as Markdown.
    pub fn tables(&self) -> String {
        let mut out = String::new();
        let goal = GOAL_BYTES as u64;
        self.table(
            &mut out,
            "Throughput, 128-byte frames, millions a second: median (lowest..highest) of the repetitions. *Best tenth*: \
             of pieces of 4,096 frames, so what goes while nobody else wants the cores.",
            &["one frame a call", "ours is x", "batched", "ours is x", "batched, best tenth"],
            |sheet, kind| {
                vec![
                    sheet.cell(kind, name::ONE, goal),
                    sheet.ratio(kind, name::ONE, goal),
                    sheet.cell(kind, name::BATCHED, goal),
                    sheet.ratio(kind, name::BATCHED, goal),
                    sheet.cell(kind, name::UNDISTURBED, goal),
                ]
            },
        );
        self.table(
            &mut out,
            "Other sizes, millions a second, batched.",
            &["64 bytes", "ours is x", "256 bytes", "ours is x"],
            |sheet, kind| {
                vec![
                    sheet.cell(kind, name::BATCHED, 64),
                    sheet.ratio(kind, name::BATCHED, 64),
                    sheet.cell(kind, name::BATCHED, 256),
                    sheet.ratio(kind, name::BATCHED, 256),
                ]
            },
        );
        self.table(
            &mut out,
            "One way (half a ping-pong), 128 bytes, microseconds. *Polled*: both ends ask again and again. *Asleep*: both \
             sleep until they are woken.",
            &["polled p50", "p99", "ours is x", "asleep p50", "p99"],
            |sheet, kind| {
                vec![
                    sheet.cell(kind, name::POLLED_P50, goal),
                    sheet.cell(kind, name::POLLED_P99, goal),
                    sheet.ratio(kind, name::POLLED_P50, goal),
                    sheet.cell(kind, name::ASLEEP_P50, goal),
                    sheet.cell(kind, name::ASLEEP_P99, goal),
                ]
            },
        );
        for (rate, words) in [(10_000, "10,000"), (100_000, "100,000")] {
            self.table(
                &mut out,
                &format!(
                    "Paced, {words} frames a second, 128 bytes, reader asleep. CPU of a frame, microseconds: the writer's \
                     calls and all of the reader; *with pacing*: all of both processes."
                ),
                &["p50, us", "p99, us", "CPU", "ours is x", "with pacing"],
                |sheet, kind| {
                    vec![
                        sheet.cell(kind, name::PACED_P50, rate),
                        sheet.cell(kind, name::PACED_P99, rate),
                        sheet.cell(kind, name::CPU, rate),
                        sheet.ratio(kind, name::CPU, rate),
                        sheet.cell(kind, name::CPU_ALL, rate),
                    ]
                },
            );
        }
        self.table(
            &mut out,
            "What the instructions cost: both ends in one process, 128 bytes, nanoseconds a frame, no cache line travels.",
            &["writing", "reading"],
            |sheet, kind| {
                vec![
                    sheet.cell(kind, name::ALONE_WRITE, goal),
                    sheet.cell(kind, name::ALONE_READ, goal),
                ]
            },
        );
        let _ = writeln!(
            out,
            "Hand-off of one cache line, one way (L): {} us. One small `read` (S): {} us.\n",
            self.cell("machine", name::LINE, 0),
            self.cell("machine", name::READ, 0)
        );
        if !self.left.is_empty() {
            out += "What is left after SIGKILL, found out by trying.\n\n| transport | killed | what then |\n|---|---|---|\n";
            for (transport, killed, then) in &self.left {
                let _ = writeln!(out, "| {transport} | {killed} | {then} |");
            }
            out += "\n";
        }
        out += "| goal, 128-byte frames | measured | goal | | moonshot | |\n|---|---|---|---|---|---|\n";
        for goal in self.goals() {
            let _ = writeln!(out, "{goal}");
        }
        out += "\n";
        out + &self.remarks()
    }

    /// Troubles, each with how often it came, and notes.
    pub fn remarks(&self) -> String {
        let mut out = String::new();
        let mut told: Vec<&(&str, String)> = Vec::new();
        for trouble in &self.troubles {
            if !told.contains(&trouble) {
                let times = self.troubles.iter().filter(|other| *other == trouble);
                let (transport, what) = trouble;
                let _ = writeln!(out, "- **{transport}** {what}, {} x", times.count());
                told.push(trouble);
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }

    /// Whether everything that the goals are about was measured of a transport.
    pub fn is_complete(&self, transport: &str) -> bool {
        let goal = GOAL_BYTES as u64;
        [
            (name::ONE, goal),
            (name::BATCHED, goal),
            (name::POLLED_P50, goal),
            (name::ASLEEP_P50, goal),
            (name::CPU, 10_000),
            (name::CPU, 100_000),
        ]
        .iter()
        .all(|(name, of)| self.figure(transport, name, *of).is_some())
    }

    fn table(
        &self,
        out: &mut String,
        caption: &str,
        columns: &[&str],
        row: impl Fn(&Sheet, &str) -> Vec<String>,
    ) {
        let _ = writeln!(out, "{caption}\n\n| transport | {} |", columns.join(" | "));
        let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
        for kind in KINDS {
            let cells = row(self, kind.name);
            if cells.iter().any(|cell| cell != "-") {
                let _ = writeln!(out, "| {} | {} |", kind.name, cells.join(" | "));
            }
        }
        out.push('\n');
    }

    /// The goals, each as a row.
    fn goals(&self) -> Vec<String> {
        let of = GOAL_BYTES as u64;
        let get = |transport: &str, name: &str| self.median(transport, name, of);
        let mut rows = Vec::new();
        let mut at_least = |what: String, ours: Option<f64>, theirs: Option<f64>, goal, moon| {
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            rows.push(goal_row(&what, ratio, goal, moon, true));
        };
        let one = get("ours", name::ONE);
        let batched = get("ours", name::BATCHED);
        for (transport, goal, moon) in [
            ("pipe", 10.0, 25.0),
            ("fifo", 10.0, 25.0),
            ("unix stream", 25.0, 60.0),
            ("unix seqpacket", 25.0, 60.0),
            ("system v", 20.0, 40.0),
            ("iceoryx2", 8.0, 20.0),
            ("trusting ring", 0.5, 0.75),
        ] {
            // Each reading says what both sides do: a batch beside single sends is no fair race, and is not called one.
            let readings = [
                (
                    batched,
                    name::ONE,
                    "ours batched, theirs one frame a call",
                    transport != "trusting ring",
                ),
                (one, name::ONE, "one frame a call on both sides", true),
                (
                    batched,
                    name::BATCHED,
                    "batched on both sides",
                    // It has no call for many samples.
                    transport != "iceoryx2",
                ),
            ];
            for (ours, name, how, _) in readings.into_iter().filter(|(.., shown)| *shown) {
                let what = format!("throughput beside {transport}, {how}, x");
                at_least(what, ours, get(transport, name), goal, moon);
            }
        }
        let mut at_most = |what: String, ours: Option<f64>, theirs: Option<f64>, goal, moon| {
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            rows.push(goal_row(&what, ratio, goal, moon, false));
        };
        let hop = get("ours", name::POLLED_P50);
        for transport in ["pipe", "fifo", "unix stream", "unix seqpacket", "system v"] {
            for (name, how) in [
                (name::ASLEEP_P50, "asleep"),
                (name::POLLED_P50, "polled too"),
            ] {
                let what = format!("polling hop beside {transport} {how}, x");
                at_most(what, hop, get(transport, name), 1.0 / 20.0, 1.0 / 50.0);
            }
        }
        let iceoryx = get("iceoryx2", name::POLLED_P50);
        at_most(
            "polling hop beside iceoryx2, x".to_owned(),
            hop,
            iceoryx,
            0.5,
            1.0 / 3.0,
        );
        let line = self.median("machine", name::LINE, 0);
        at_most("polling hop in L, x".to_owned(), hop, line, 2.0, 1.3);
        for (rate, words) in [(10_000, "10,000/s"), (100_000, "100,000/s")] {
            let what = format!("paced CPU at {words} beside the pipe, x");
            let (ours, pipe) = (
                self.median("ours", name::CPU, rate),
                self.median("pipe", name::CPU, rate),
            );
            at_most(what, ours, pipe, 1.0 / 3.0, 0.2);
        }
        rows
    }

    /// Everything, with the single values of each repetition.
    pub fn json(&self) -> Value {
        let figures = self.figures.iter().map(|((transport, name, of), values)| {
            json!({
                "transport": transport, "figure": name, "of": of,
                "median": Figure::of(values.iter().copied()), "values": values,
            })
        });
        json!({
            "figures": figures.collect::<Vec<Value>>(),
            "left": self.left,
            "troubles": self.troubles,
            "notes": self.notes,
        })
    }

    /// What the picture shows.
    pub fn panels(&self) -> Vec<Panel> {
        let of = GOAL_BYTES as u64;
        let panel = |title: &str, name: &'static str, of: u64| Panel {
            title: title.to_owned(),
            bars: KINDS
                .iter()
                .filter(|kind| kind.is_transport())
                .filter_map(|kind| {
                    Some(Bar {
                        label: kind.name.to_owned(),
                        value: self.median(kind.name, name, of)?,
                        ours: kind.name.starts_with("ours"),
                    })
                })
                .collect(),
        };
        vec![
            panel(
                "Throughput, one frame a call, M frames/s (more is better)",
                name::ONE,
                of,
            ),
            panel(
                "Throughput, batched, M frames/s (more is better)",
                name::BATCHED,
                of,
            ),
            panel(
                "Hop, both ends polling, us (less is better)",
                name::POLLED_P50,
                of,
            ),
            panel(
                "CPU of a frame at 10,000/s, reader asleep, us (less is better)",
                name::CPU,
                10_000,
            ),
        ]
    }
}

fn goal_row(what: &str, ratio: Option<f64>, goal: f64, moon: f64, at_least: bool) -> String {
    let sign = if at_least { ">=" } else { "<=" };
    let verdict = |bound: f64| match ratio {
        None => "not measured".to_owned(),
        Some(ratio) if (ratio >= bound) == at_least || ratio == bound => "met".to_owned(),
        Some(ratio) => {
            let short_by = if at_least {
                bound / ratio
            } else {
                ratio / bound
            };
            format!("missed by a factor of {short_by:.2}")
        }
    };
    let measured = ratio.map_or("-".to_owned(), short);
    format!(
        "| {what} | {measured} | {sign} {} | {} | {sign} {} | {} |",
        short(goal),
        verdict(goal),
        short(moon),
        verdict(moon)
    )
}
