//! Fault tests: a real node under load is broken on purpose, and a checker that shares no code with it compares what
//! devices had acknowledged with what subscribers got. `tests/lab` is the way in; with `cargo test` every case runs in
//! its short form.

// A case that cannot go on stops with the line that broke.
#![allow(clippy::unwrap_used)]

#[path = "fault/broker_away.rs"]
mod broker_away;
#[path = "fault/drain.rs"]
mod drain;
#[path = "../fuzz/harness/mod.rs"]
#[allow(dead_code)]
mod harness;
#[path = "fault/journal_full.rs"]
mod journal_full;
#[path = "it/node.rs"]
#[allow(dead_code)]
mod node;
#[path = "fault/ring/mod.rs"]
mod ring;
#[path = "fault/stand.rs"]
mod stand;
#[path = "fault/storm.rs"]
mod storm;
#[path = "it/terminal.rs"]
#[allow(dead_code)]
mod terminal;

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
    /// Its own name, and the promise that it belongs to.
    names: [&'static str; 2],
    what: &'static str,
    run: fn(Form) -> Verdict,
}

const CASES: &[Case] = &[
    Case {
        names: ["storm", "R1"],
        what: "kill -9 of every process in turn, the supervisor too, under load",
        run: storm::run,
    },
    Case {
        names: ["drain", "drain"],
        what: "TERM under load: everything accepted is delivered, nothing is answered that is lost",
        run: drain::run,
    },
    Case {
        names: ["broker-away", "R3"],
        what: "the broker goes away and comes back with nothing in its memory",
        run: broker_away::run,
    },
    Case {
        names: ["journal-full", "R8"],
        what: "a full journal refuses new alarms; their devices are not answered, tracks go on",
        run: journal_full::run,
    },
    Case {
        names: ["ring-storm", "R1"],
        what: "kill -9 of either side of a ring at any instant, with a private ledger",
        run: ring::storm::run,
    },
    Case {
        names: ["ring-hostile", "S2"],
        what: "a producer in foreign hands: its ring is given up, its consumer and other rings are not touched",
        run: ring::hostile::run,
    },
    Case {
        names: ["ring-images", "S2"],
        what: "random images of a ring and of a state table: nothing panics, nothing false is accepted",
        run: ring::images::run,
    },
    Case {
        names: ["ring-taken-over", "S2"],
        what: "the ring of a running ingest is scribbled over: a fresh one, nothing lost, no other sensor notices",
        run: ring::taken_over::run,
    },
];

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
            println!("{:<14} {:<6} {}", case.names[0], case.names[1], case.what);
        }
        return ExitCode::SUCCESS;
    }
    let chosen = |case: &&Case| {
        asked.cases.is_empty()
            || asked
                .cases
                .iter()
                .any(|name| case.names.contains(&name.as_str()))
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
            let mut line = json!({"case": case.names[0], "promise": case.names[1], "verdict": word,
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
                case.names[0], case.names[1], asked.form.seed
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
            name if CASES.iter().any(|case| case.names.contains(&name)) => asked.cases.push(word),
            other => return Err(format!("no case or option {other:?}")),
        }
    }
    Ok(asked)
}
