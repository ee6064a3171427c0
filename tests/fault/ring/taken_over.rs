//! S2, the ring's part on a real node: somebody who holds the memory of a running ingest scribbles over all of it, again
//! and again, under load. The sensor gets a fresh ring each time, nothing that was answered is lost, and another sensor
//! of the same node neither waits nor starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::supervisor::report::ProcessReport;
use ringway::sys::region::WriteRegion;
use serde_json::json;
use tokio::time::sleep;

use crate::node::Node;
use crate::stand::{Chance, STEADY, Stand, block_on, judge};
use crate::terminal::{Terminal, now_s, report};
use crate::{Form, Outcome, Verdict};

const TAKE_OVERS: u64 = 8;
const TAKE_OVERS_LONG: u64 = 200;

/// How long the node may take to find one out and to serve again; far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Name of the sensor that is left alone; the fleet's own is `trackers`.
const BYSTANDER: &str = "bystander";

pub fn run(form: Form) -> Verdict {
    block_on(take_overs(form))
}

async fn take_overs(form: Form) -> Verdict {
    if !nix::unistd::geteuid().is_root() {
        let why = "the memory of a running node can be had by root only";
        eprintln!("ring-taken-over: SKIPPED: {why}");
        return Verdict {
            outcome: Outcome::Skipped(why.into()),
            counts: BTreeMap::new(),
        };
    }
    let address = {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        held.local_addr().unwrap().to_string()
    };
    let sensor = format!(
        "[[sensor]]\nname = \"{BYSTANDER}\"\ninput = \"tcp\"\nprotocol = \"jt808\"\nlisten = \"{address}\""
    );
    let stand = Stand::new(form.seed, STEADY, &sensor).await;
    let bystander = Bystander::start(&address);
    let pid_before = process(&stand.node, BYSTANDER).and_then(|process| process.pid);
    let mut chance = Chance::new(form.seed);
    let mut wrong = Vec::new();
    let rounds = if form.long {
        TAKE_OVERS_LONG
    } else {
        TAKE_OVERS
    };
    for round in 0..rounds {
        sleep(Duration::from_millis(200 + chance.below(600))).await;
        if let Err(what) = take_over(&stand.node, &mut chance).await {
            wrong.push(format!("round {round}: {what}"));
            break;
        }
    }
    let answers = bystander.end();
    let after = process(&stand.node, BYSTANDER);
    let replaced = stand
        .node
        .figure("classifier", "ringway_ring_violations_total");
    if after
        .as_ref()
        .map(|process| (process.pid, process.restarts))
        != Some((pid_before, 0))
    {
        wrong.push(format!("the other sensor was started again: {after:?}"));
    }
    if replaced < rounds as f64 {
        wrong.push(format!("{replaced} rings were given up in {rounds} rounds"));
    }
    match answers {
        Some(0) => wrong.push("the other sensor answered nothing".into()),
        None => wrong.push("the other sensor left a message unanswered".into()),
        Some(_) => {}
    }
    let check = stand.fleet.finish().await;
    let counts = BTreeMap::from([
        ("take_overs", json!(rounds)),
        ("rings_given_up", json!(replaced)),
        ("bystander_answers", json!(answers)),
    ]);
    let mut verdict = judge(&check, counts);
    if verdict.outcome == Outcome::Holds && !wrong.is_empty() {
        verdict.outcome = Outcome::Fails(wrong.join("; "));
    }
    if verdict.outcome != Outcome::Holds {
        eprintln!("---- log of the node ----\n{}", stand.node.log());
    }
    verdict
}

/// Scribbles over the ring of the fleet's sensor until the node has found out and serves on a fresh one.
async fn take_over(node: &Node, chance: &mut Chance) -> Result<(), String> {
    let before = process(node, "trackers").and_then(|process| process.pid);
    let found = || node.figure("classifier", "ringway_ring_violations_total");
    let found_before = found();
    let memory = producer_memory(node)?;
    let deadline = Instant::now() + PATIENCE;
    while found() <= found_before {
        if Instant::now() > deadline {
            return Err("nobody found it out".into());
        }
        for word in 0..memory.len() / 8 {
            let value = chance.below(1 << 32) << 32 | chance.below(1 << 32);
            memory.store(word, value, Relaxed);
        }
        sleep(Duration::from_millis(1)).await;
    }
    loop {
        let now = process(node, "trackers");
        if now.is_some_and(|now| now.pid != before && now.state == "ready") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the sensor does not serve again".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn process(node: &Node, instance: &str) -> Option<ProcessReport> {
    let report = ringway::cli::status::ask(&node.state_dir()).ok()?;
    let mut processes = report.processes.into_iter();
    processes.find(|process| process.instance == instance)
}

/// The P-region of the ring from the fleet's ingest to the classifier: what both have mapped, opened through the
/// supervisor, which keeps a descriptor of every ring.
///
/// # Errors
/// Why it cannot be had.
fn producer_memory(node: &Node) -> Result<WriteRegion, String> {
    let pid = |instance: &str| {
        let process = process(node, instance).and_then(|process| process.pid);
        process.ok_or(format!("no {instance} runs"))
    };
    let classifier = mapped(pid("classifier")?)?;
    let ingest = mapped(pid("trackers")?)?;
    let folder = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
    let folder = folder.map_err(|why| format!("cannot see what the supervisor has open: {why}"))?;
    for entry in folder.flatten() {
        let inode = std::fs::metadata(entry.path()).map(|data| data.ino());
        if inode.is_ok_and(|inode| classifier.contains(&inode) && ingest.contains(&inode)) {
            let file = File::options().read(true).write(true).open(entry.path());
            let file = file.map_err(|why| format!("cannot open the memory of a ring: {why}"))?;
            return WriteRegion::map(file.as_fd(), 0).map_err(|why| why.to_string());
        }
    }
    Err("cannot find the memory of a ring".into())
}

/// Inodes of the P-regions that a process has mapped.
fn mapped(pid: u32) -> Result<BTreeSet<u64>, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
    let maps = maps.map_err(|why| format!("cannot see the maps of process {pid}: {why}"))?;
    let rings = maps
        .lines()
        .filter(|line| line.contains("memfd:ringway-ring-p"));
    // Address, access, offset, device, inode, name.
    let inodes = rings.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    Ok(inodes.collect())
}

/// A device of the other sensor, which reports and waits for its answer all the time.
struct Bystander {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Bystander {
    fn start(address: &str) -> Bystander {
        let (over, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, counts, address) = (over.clone(), answers.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            let mut terminal = Terminal::connect(&address, 13_900_000_077);
            while !ends.load(Relaxed) {
                let serial = terminal.send(&report(now_s()));
                terminal.await_answer(serial);
                counts.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Bystander {
            over,
            answers,
            thread,
        }
    }

    /// How many messages were answered; `None` if one was not.
    fn end(self) -> Option<u64> {
        self.over.store(true, Relaxed);
        self.thread.join().ok()?;
        Some(self.answers.load(Relaxed))
    }
}
