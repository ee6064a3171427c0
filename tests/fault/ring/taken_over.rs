//! S2, the ring's part on a real node: somebody who holds the memory of a running ingest scribbles over all of it, again
//! and again, under load. The sensor gets a fresh ring each time, nothing that was answered is lost, and another sensor
//! of the same node neither waits nor starts again. The same holds for a dispatcher and a classifier that leave a head
//! behind at which no successor can resume.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
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

/// Heads left behind by each consumer.
const HEADS: u64 = 4;
const HEADS_LONG: u64 = 50;
/// Word of a C-region in which the head stands; the layout is part of the contract.
const HEAD: usize = 0;

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
    let given_up = |node: &Node| node.figure("classifier", "ringway_ring_violations_total");
    let replaced = given_up(&stand.node);
    // Whose head it is, and who writes that ring.
    let ends = [("dispatcher", "classifier"), ("classifier", "trackers")];
    let heads = if form.long { HEADS_LONG } else { HEADS };
    for round in 0..heads * 2 {
        let (consumer, producer) = ends[round as usize % 2];
        sleep(Duration::from_millis(200 + chance.below(600))).await;
        if let Err(what) = leave_head(&stand.node, [consumer, producer], &mut chance).await {
            wrong.push(format!("head {round}, of {consumer}: {what}"));
            break;
        }
    }
    if given_up(&stand.node) > replaced {
        wrong.push("an honest producer was accused of the head of its consumer".into());
    }
    let answers = bystander.end();
    let after = process(&stand.node, BYSTANDER);
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
        ("heads", json!(heads * 2)),
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
    let (_, memory) = shared_memory(node, "memfd:ringway-ring-p", ["trackers", "classifier"])?;
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

/// Kills a consumer and leaves a head behind that cannot be, until both ends serve on a fresh ring.
async fn leave_head(node: &Node, ends: [&str; 2], chance: &mut Chance) -> Result<(), String> {
    const KIND: &str = "memfd:ringway-ring-c";
    let before = ends.map(|instance| process(node, instance).and_then(|process| process.pid));
    let (old, memory) = shared_memory(node, KIND, ends)?;
    // Stopped first: it would write its own head over this one.
    if !node.signal(ends[0], Signal::SIGSTOP) {
        return Err("it does not run".into());
    }
    // Beyond every position, or one that a ring could have, but not this one.
    let near = memory.load(HEAD, Relaxed) + 1_000_000 + chance.below(1 << 40);
    let head = if chance.below(2) == 0 { u64::MAX } else { near };
    memory.store(HEAD, head, Relaxed);
    node.signal(ends[0], Signal::SIGKILL);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let serves = |(instance, before)| {
            let now = process(node, instance);
            now.is_some_and(|now| now.pid != before && now.state == "ready")
        };
        if ends.into_iter().zip(before).all(serves)
            && shared_memory(node, KIND, ends).is_ok_and(|(now, _)| now != old)
        {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!(
                "head {head}: no fresh ring, or nobody serves on it"
            ));
        }
        sleep(Duration::from_millis(5)).await;
    }
    if !node.log().contains(&format!("head {head}")) {
        return Err(format!("the log does not tell of head {head}"));
    }
    Ok(())
}

/// The region of this kind that two processes have mapped, with its inode. It is opened through the supervisor, which
/// keeps a descriptor of every ring.
///
/// # Errors
/// Why it cannot be had.
fn shared_memory(node: &Node, kind: &str, ends: [&str; 2]) -> Result<(u64, WriteRegion), String> {
    let maps = |instance: &str| {
        let process = process(node, instance).and_then(|process| process.pid);
        mapped(process.ok_or(format!("no {instance} runs"))?, kind)
    };
    let (one, other) = (maps(ends[0])?, maps(ends[1])?);
    let folder = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
    let folder = folder.map_err(|why| format!("cannot see what the supervisor has open: {why}"))?;
    for entry in folder.flatten() {
        let Ok(inode) = std::fs::metadata(entry.path()).map(|data| data.ino()) else {
            continue;
        };
        if one.contains(&inode) && other.contains(&inode) {
            let file = File::options().read(true).write(true).open(entry.path());
            let file = file.map_err(|why| format!("cannot open the memory of a ring: {why}"))?;
            let region = WriteRegion::map(file.as_fd(), 0).map_err(|why| why.to_string())?;
            return Ok((inode, region));
        }
    }
    Err("cannot find the memory of a ring".into())
}

/// Inodes of the regions of a kind that a process has mapped.
fn mapped(pid: u32, kind: &str) -> Result<BTreeSet<u64>, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
    let maps = maps.map_err(|why| format!("cannot see the maps of process {pid}: {why}"))?;
    let rings = maps.lines().filter(|line| line.contains(kind));
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
