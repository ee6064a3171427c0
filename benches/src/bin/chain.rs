//! Measures the whole chain, bytes in to WebSocket out, beside a bare timer, a raw epoll server and a mosquitto hop in
//! the same run. Called by `tests/bench`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benches::case::{self, Load, Shown};
use benches::clock::Sent;
use benches::fleet::Fleet;
use benches::flood::{self, Flood};
use benches::peer::{self, Peer};
use benches::receiver::{self, Receiver};
use benches::report::Report;
use benches::usage::{self, Meter};
use benches::wire::jt808::Jt808;
use benches::wire::mqtt::Mqtt;
use benches::wire::{Plain, Wire};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that the largest fleet needs.
const DESCRIPTORS: u64 = 10_000 + 1_000;

/// Fixes begin this long ago, so that no message of a flood is in the future.
const FIRST_FIX_AGO_S: i64 = 6 * 3600;

/// With more CPUs busy with something else, times are not to be trusted.
const OTHERS_CORES_MAX: f64 = 0.1;

/// The flood: ten thousand messages of each of a hundred connections.
const FLOOD: flood::Plan = flood::Plan {
    connections: 100,
    messages: 10_000,
    window: 1_000,
};

/// Measures Ringway beside its peers. Prints tables and writes JSON.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The program to measure.
    #[arg(long, default_value = "target/release/ringway")]
    ringway: PathBuf,
    /// Where the figures go.
    #[arg(long, default_value = "target/bench/chain.json")]
    json: PathBuf,
    /// Repetitions of everything; each figure is their median.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Length of each measured window, seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only these peers: epoll, mosquitto, ringway, flood.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// No new repetition begins after this long, seconds.
    #[arg(long, default_value_t = 240)]
    within: u64,
    /// Where in its second each device sends is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Verb {
    /// The raw server, as a process of its own.
    #[command(hide = true)]
    ServeEpoll,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.verb {
        Some(Verb::ServeEpoll) => benches::epoll::serve(),
        None => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn loads(seconds: u64) -> [Load; 3] {
    let measured = Duration::from_secs(seconds);
    let second = Duration::from_secs(1);
    let fleet = |name, devices| Load {
        name,
        devices,
        period: second,
        warm: second,
        measured,
    };
    let idle = Load {
        name: "1 x 20 Hz",
        devices: 1,
        period: Duration::from_millis(50),
        warm: second / 2,
        measured: measured / 2,
    };
    [
        idle,
        fleet("2,000 x 1 Hz", 2_000),
        fleet("10,000 x 1 Hz", 10_000),
    ]
}

fn measure(args: &Args) -> io::Result<()> {
    let began = Instant::now();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < DESCRIPTORS {
        let reason = format!("{DESCRIPTORS} open files are needed, {hard} are allowed");
        return Err(io::Error::other(reason));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let wanted = |peer: &str| args.only.is_empty() || args.only.iter().any(|only| only == peer);
    let mut report = Report::default();
    let mut longest = Duration::ZERO;
    for repetition in 1..=args.repetitions {
        let started = Instant::now();
        if began.elapsed() + longest > Duration::from_secs(args.within) {
            report.say(format!("time was up after {} repetitions", repetition - 1));
            break;
        }
        for load in loads(args.seconds) {
            if !["epoll", "mosquitto", "ringway"].into_iter().any(wanted) {
                break;
            }
            eprintln!("{repetition}/{}: {}", args.repetitions, load.name);
            if wanted("epoll") {
                let shown = beside_epoll(load, args.seed)?;
                note(&mut report, "epoll", load, &shown);
            }
            if wanted("mosquitto") {
                match beside_mosquitto(load, args.seed)? {
                    Some(shown) => note(&mut report, "mosquitto", load, &shown),
                    None if repetition == 1 => {
                        report.say("mosquitto is not installed: its hop is left out".to_owned());
                    }
                    None => {}
                }
            }
            if wanted("ringway") {
                through_ringway(&mut report, load, args)?;
            }
        }
        if wanted("flood") {
            eprintln!("{repetition}/{}: pipelined", args.repetitions);
            flood_ringway(&mut report, &args.ringway)?;
        }
        longest = longest.max(started.elapsed());
    }
    if let Ok(file) = std::fs::metadata(&args.ringway) {
        let megabytes = file.len() as f64 / 1e6;
        report.note("binary", "ringway", "release, stripped", "MB", megabytes);
    }
    let others = report.highest("busy with something else").unwrap_or(0.0);
    if others > OTHERS_CORES_MAX {
        report.say(format!(
            "the machine was not ours alone ({others:.1} cores busy with something else at worst): times say little, \
             and CPU a message moves with how much is gathered"
        ));
    }
    stand_beside_goals(&mut report);
    println!("{report}");
    println!("took {:.0} s", began.elapsed().as_secs_f64());
    if let Some(folder) = args.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&args.json, serde_json::to_vec_pretty(&report.json())?)
}

fn beside_epoll(load: Load, seed: u64) -> io::Result<Shown> {
    let peer = peer::epoll()?;
    let sent = Sent::new(load.devices);
    let mut fleet = Fleet::connect(&Plain, peer.devices, load.devices)?;
    case::measure(load, &mut fleet, &sent, None, &peer.processes, seed)
}

fn beside_mosquitto(load: Load, seed: u64) -> io::Result<Option<Shown>> {
    let Some(peer) = peer::mosquitto()? else {
        return Ok(None);
    };
    let sent = Arc::new(Sent::new(load.devices));
    let receiver = receiver::mqtt(peer.subscribers, Arc::clone(&sent))?;
    let mut fleet = Fleet::connect(&Mqtt, peer.devices, load.devices)?;
    let processes = &peer.processes;
    case::measure(load, &mut fleet, &sent, Some(&receiver), processes, seed).map(Some)
}

fn through_ringway(report: &mut Report, load: Load, args: &Args) -> io::Result<()> {
    let broker = receiver::broker()?;
    let peer = peer::ringway(&args.ringway, &broker.url)?;
    let ready_ms = peer.ready_after.as_secs_f64() * 1_000.0;
    report.note("start to ready", "ringway", "4 sensors", "ms", ready_ms);
    note_memory(report, "idle", &peer)?;
    let wire = jt808()?;
    let sent = Arc::new(Sent::new(load.devices));
    let receiver: Receiver = receiver::websocket(peer.subscribers, wire, Arc::clone(&sent))?;
    let mut fleet = Fleet::connect(&wire, peer.devices, load.devices)?;
    let processes = &peer.processes;
    let shown = case::measure(
        load,
        &mut fleet,
        &sent,
        Some(&receiver),
        processes,
        args.seed,
    )?;
    note(report, "ringway", load, &shown);
    Ok(())
}

fn flood_ringway(report: &mut Report, binary: &Path) -> io::Result<()> {
    let broker = receiver::broker()?;
    let peer = peer::ringway(binary, &broker.url)?;
    let wire = jt808()?;
    let flood = Flood::prepare(&wire as &dyn Wire, peer.devices, FLOOD)?;
    let meter = Meter::start(&peer.processes)?;
    let outcome = flood.run()?;
    let used = meter.read()?;
    report.note(
        "busy with something else",
        "pipelined",
        "beside ringway",
        "cores",
        used.others_cores,
    );
    let answered = outcome.answered as f64;
    let rate = answered / outcome.took.as_secs_f64();
    let table = "pipelined, 100 frames a segment, no subscriber";
    report.note(table, "100 connections", "ringway", "frames/s", rate);
    let unanswered = outcome.unanswered as f64;
    report.note(
        table,
        "100 connections",
        "ringway",
        "unanswered",
        unanswered,
    );
    for (process, used) in used.cpu_ns {
        let each = used as f64 / 1_000.0 / answered.max(1.0);
        let load = "100 connections";
        report.note("CPU a pipelined frame", load, &process, "us", each);
    }
    Ok(())
}

fn jt808() -> io::Result<Jt808> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(io::Error::other)?.as_secs() as i64;
    Ok(Jt808 {
        first_fix_s: now - FIRST_FIX_AGO_S,
    })
}

fn note_memory(report: &mut Report, load: &str, peer: &Peer) -> io::Result<()> {
    for process in &peer.processes {
        let megabytes = usage::pss_bytes(process.pid)? as f64 / 1e6;
        report.note("memory (PSS)", load, &process.name, "MB", megabytes);
    }
    Ok(())
}

fn note(report: &mut Report, peer: &str, load: Load, shown: &Shown) {
    let name = load.name;
    let hop = match peer {
        "mosquitto" => "mosquitto hop",
        _ => "ringway, bytes to WebSocket",
    };
    report.note_times("from device to subscriber, us", name, hop, shown.through);
    report.note_times("from device to its answer, us", name, peer, shown.answer);
    report.note_times(
        "bare timer, late by us",
        name,
        &format!("beside {peer}"),
        shown.timer,
    );
    report.note_times(
        "our own sending, late by us",
        name,
        &format!("to {peer}"),
        shown.late,
    );
    let beside = format!("beside {peer}");
    report.note(
        "busy with something else",
        name,
        &beside,
        "cores",
        shown.others_cores,
    );
    if let (Some(through), Some(timer)) = (shown.through, shown.timer) {
        let table = "above the bare timer, us";
        report.note(table, name, hop, "p50", through.p50 - timer.p50);
        report.note(table, name, hop, "p99", through.p99 - timer.p99);
    }
    let mut count = |column, value: u64| {
        report.note("messages in the window", name, peer, column, value as f64);
    };
    count("sent", shown.sent);
    count("answered", shown.answered);
    if peer != "epoll" {
        count("delivered", shown.delivered);
        count("conflated", shown.conflated);
    }
    for (process, us) in &shown.cpu_us {
        let load = if peer == "ringway" {
            name
        } else {
            &format!("{name}, peer")
        };
        report.note("CPU a message", load, process, "us", *us);
    }
    if peer == "ringway" && load.devices > 1 {
        for (process, bytes) in &shown.pss_bytes {
            let devices = format!("{} devices", load.devices);
            report.note("memory (PSS)", &devices, process, "MB", *bytes as f64 / 1e6);
        }
    }
}

/// The goals of the design, and what was measured here.
fn stand_beside_goals(report: &mut Report) {
    let (large, hop) = ("10,000 x 1 Hz", "ringway, bytes to WebSocket");
    let above = |column| report.median("above the bare timer, us", large, hop, column);
    let (p50, p99) = (above("p50"), above("p99"));
    let idle = report.median("from device to subscriber, us", "1 x 20 Hz", hop, "p50");
    let chain = report.sum("CPU a message", large);
    let ingest = report.median("CPU a message", large, "ingest t1", "us");
    let epoll = report.median("CPU a message", "10,000 x 1 Hz, peer", "epoll", "us");
    let mosquitto = report.median("CPU a message", "10,000 x 1 Hz, peer", "mosquitto", "us");
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let table = "pipelined, 100 frames a segment, no subscriber";
    let flood = report.median(table, "100 connections", "ringway", "frames/s");
    let a_frame = report.sum("CPU a pipelined frame", "100 connections");
    let memory_idle = report.sum("memory (PSS)", "idle");
    let memory = report.sum("memory (PSS)", "10000 devices");
    let binary = report.median("binary", "ringway", "release, stripped", "MB");
    let ready = report.median("start to ready", "ringway", "4 sensors", "ms");
    let goals: [(&str, &str, &str, Option<f64>); 12] = [
        ("10,000 x 1 Hz, above the timer, p50", "us", "<= 1000", p50),
        ("10,000 x 1 Hz, above the timer, p99", "us", "<= 5000", p99),
        ("one device, idle, p50", "us", "<= 250", idle),
        (
            "CPU a message, ingest beside epoll",
            "x",
            "<= 1.25",
            ratio(ingest, epoll),
        ),
        ("CPU a message, all processes", "us", "<= 30", chain),
        (
            "CPU a message, all processes beside mosquitto",
            "x",
            "< 1",
            ratio(chain, mosquitto),
        ),
        ("pipelined", "frames/s", ">= 500000", flood),
        (
            "CPU a pipelined frame, all processes",
            "us",
            "<= 2",
            a_frame,
        ),
        ("memory, idle, four sensors", "MB", "<= 10", memory_idle),
        ("memory, 10,000 devices", "MB", "<= 50", memory),
        ("binary", "MB", "<= 8", binary),
        ("start to ready", "ms", "<= 200", ready),
    ];
    for (what, unit, goal, stands) in goals {
        report.goal(what, unit, goal, stands);
    }
}
