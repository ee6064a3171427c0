//! Fault tests: a real node under load is broken on purpose, and a checker that shares no code with it compares what
//! devices had acknowledged with what subscribers got. `tests/lab` is the way in; with `cargo test` every case runs in
//! its short form.

// A case that cannot go on stops with the line that broke.
#![allow(clippy::unwrap_used)]

#[path = "fault/armed.rs"]
mod armed;
#[path = "fault/aside.rs"]
mod aside;
#[path = "fault/broker_away.rs"]
mod broker_away;
#[path = "fault/crowd.rs"]
mod crowd;
#[path = "fault/disk_full.rs"]
mod disk_full;
#[path = "fault/drain.rs"]
mod drain;
#[path = "fault/fail_points.rs"]
mod fail_points;
#[path = "fault/flood.rs"]
mod flood;
#[path = "fault/footprint.rs"]
mod footprint;
#[path = "fault/guests.rs"]
mod guests;
#[path = "../fuzz/harness/mod.rs"]
#[allow(dead_code)]
mod harness;
#[path = "fault/idle.rs"]
mod idle;
#[path = "fault/journal_full.rs"]
mod journal_full;
#[path = "fault/memory.rs"]
mod memory;
#[path = "it/node.rs"]
#[allow(dead_code)]
mod node;
#[path = "fault/owed.rs"]
mod owed;
#[path = "fault/ring/mod.rs"]
mod ring;
#[path = "fault/stand.rs"]
mod stand;
#[path = "fault/storm.rs"]
mod storm;
#[path = "it/terminal.rs"]
#[allow(dead_code)]
mod terminal;
#[path = "fault/uplink_stopped.rs"]
mod uplink_stopped;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Decides what is broken when, and what the fleet does.
    pub seed: u64,
    /// The long form.
    pub long: bool,
}

/// What came of a case.
pub struct Verdict {
    /// Why it fails, or why it was skipped.
    pub outcome: Outcome,
    /// Figures.
    pub counts: BTreeMap<&'static str, Value>,
}

/// The three ends of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise holds.
    Holds,
    /// It does not.
    Fails(String),
    /// This machine lacks something.
    Skipped(String),
}

struct Case {
    name: &'static str,
    /// The promises that it proves, or a part of them.
    promises: &'static [&'static str],
    what: &'static str,
    run: fn(Form) -> Verdict,
}

impl Case {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.promises.contains(&name)
    }
}

const CASES: &[Case] = &[
    Case {
        name: "storm",
        promises: &["R1"],
        what: "kill -9 of every process in turn, the supervisor too, under load",
        run: storm::run,
    },
    Case {
        name: "drain",
        promises: &[],
        what: "TERM under load: everything accepted is delivered, nothing is answered that is lost",
        run: drain::run,
    },
    Case {
        name: "broker-away",
        promises: &["R3"],
        what: "the broker goes away and comes back with nothing in its memory",
        run: broker_away::run,
    },
    Case {
        name: "journal-full",
        promises: &["R8", "R9"],
        what: "a full journal refuses new alarms; exactly their reports are not answered, tracks go on",
        run: journal_full::run,
    },
    Case {
        name: "disk-full",
        promises: &["R8", "R9"],
        what: "a full file system refuses new alarms, tracks go on; it recovers by itself",
        run: disk_full::run,
    },
    Case {
        name: "uplink-stopped",
        promises: &["R8", "R13"],
        what: "an uplink that stands still: nobody is answered for what is not safe, tracks go on",
        run: uplink_stopped::run,
    },
    Case {
        name: "owed",
        promises: &["R8"],
        what: "what was refused arrives without its frame being sent again",
        run: owed::run,
    },
    Case {
        name: "fail-points",
        promises: &["R8", "R14"],
        what: "ingest, classifier and uplink killed at every step of custody, one after the other",
        run: fail_points::run,
    },
    Case {
        name: "memory",
        promises: &["R14"],
        what: "the classifier killed again and again while alarms are raised: none false, no clear missing",
        run: memory::run,
    },
    Case {
        name: "crowd",
        promises: &["S3"],
        what: "senders of rubbish, slow and silent ones beside good devices, which notice nothing",
        run: crowd::run,
    },
    Case {
        name: "idle",
        promises: &["S3"],
        what: "connections that logged in and say nothing: what each takes",
        run: idle::run,
    },
    Case {
        name: "flood",
        promises: &["R12"],
        what: "ten times the rated load beside stalled subscribers, without broker and collector: memory stays",
        run: flood::run,
    },
    Case {
        name: "ring-storm",
        promises: &["R1"],
        what: "kill -9 of either side of a ring at any instant, with a private ledger",
        run: ring::storm::run,
    },
    Case {
        name: "ring-hostile",
        promises: &["S2"],
        what: "a producer in foreign hands: its ring is given up, its consumer and other rings are not touched",
        run: ring::hostile::run,
    },
    Case {
        name: "ring-images",
        promises: &["S2"],
        what: "random images of a ring and of a state table: nothing panics, nothing false is accepted",
        run: ring::images::run,
    },
    Case {
        name: "ring-taken-over",
        promises: &["S2"],
        what: "the ring of a running ingest is scribbled over: a fresh one, nothing lost, no other sensor notices",
        run: ring::taken_over::run,
    },
];

/// Skips a case that needs so many descriptors in one process, where the system gives fewer.
pub fn lacks_descriptors(needed: u64) -> Option<Verdict> {
    let given = device_sim::descriptors::raise_limit();
    (given < needed).then(|| Verdict {
        outcome: Outcome::Skipped(format!(
            "needs {needed} descriptors, the system gives {given}"
        )),
        counts: BTreeMap::new(),
    })
}

struct Asked {
    cases: Vec<String>,
    form: Form,
    json: bool,
    list: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(ring::CHILD) {
        return ring::child_main();
    }
    let asked = match asked() {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("lab: {wrong}; see tests/lab --help");
            return ExitCode::from(64);
        }
    };
    if asked.list {
        for case in CASES {
            println!(
                "{:<16} {:<8} {}",
                case.name,
                case.promises.join(" "),
                case.what
            );
        }
        return ExitCode::SUCCESS;
    }
    let chosen = |case: &&Case| {
        asked.cases.is_empty() || asked.cases.iter().any(|name| case.is_called(name))
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in CASES.iter().filter(chosen) {
        let began = Instant::now();
        let verdict = (case.run)(asked.form);
        let (word, reason) = match &verdict.outcome {
            Outcome::Holds => ("holds", String::new()),
            Outcome::Fails(why) => ("fails", why.clone()),
            Outcome::Skipped(why) => ("skipped", why.clone()),
        };
        match word {
            "holds" => passed += 1,
            "fails" => failed += 1,
            _ => skipped += 1,
        }
        let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        if asked.json {
            let mut line = json!({"case": case.name, "promise": case.promises.join(" "), "verdict": word,
                "reason": reason, "seed": asked.form.seed, "seconds": seconds});
            for (name, value) in verdict.counts {
                line[name] = value;
            }
            println!("{line}");
        } else {
            let counts = verdict
                .counts
                .iter()
                .map(|(name, value)| format!("{name} {value}"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            println!(
                "{} ({}): {word} {reason} [seed {}, {seconds} s; {counts}]",
                case.name,
                case.promises.join(" "),
                asked.form.seed
            );
        }
    }
    if !asked.json {
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
    ExitCode::from(u8::from(failed > 0))
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        cases: Vec::new(),
        form: Form {
            seed: 1,
            long: false,
        },
        json: false,
        list: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--long" => asked.form.long = true,
            "--json" => asked.json = true,
            "--list" => asked.list = true,
            "--seed" => {
                let seed = words.next().and_then(|seed| seed.parse().ok());
                asked.form.seed = seed.ok_or("--seed takes a number")?;
            }
            name if CASES.iter().any(|case| case.is_called(name)) => asked.cases.push(word),
            other => return Err(format!("no case or option {other:?}")),
        }
    }
    Ok(asked)
}
