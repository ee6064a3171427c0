//! Every decoder beside the crates that read the same protocol, on the same bytes in the same run.
//!
//! `message` builds one message of each protocol, `check` its check sum; `reader` is ours and each crate, `report` what
//! crates leave to do; `sheet` makes tables of it. What a reader makes of a stream is checked before it is timed: all places, and where they are.

mod check;
mod message;
mod reader;
mod report;
mod sheet;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::time::{ClockId, clock_gettime};

use message::{CASES, Case, PLACE, STREAM_MESSAGES};
use reader::{PEERS, Reader};
use sheet::{Row, Sheet};

/// What our decoders are called in the tables.
pub const OURS: &str = "ours";

/// A reader's place may be off by so many degrees: some have 32-bit numbers.
const TOLERANCE_DEG: f64 = 1e-5;

/// Measures every decoder beside other crates. Prints a table.
#[derive(Parser)]
struct Args {
    /// Rounds; each figure is their median.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Milliseconds that a reader gets in each round.
    #[arg(long, default_value_t = 40)]
    window_ms: u64,
    /// Only messages whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only our own decoders, as for a profile.
    #[arg(long)]
    ours: bool,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Said by cargo; without it, as under `cargo test`, one short round shows that everything is read.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if !args.bench {
        (args.rounds, args.window_ms) = (1, 1);
    }
    match measure(&args) {
        Ok(sheet) if args.json => println!("{:#}", sheet.json()),
        // Times of a test build say nothing.
        Ok(sheet) if !args.bench => println!("decode: {} lanes read everything", sheet.rows.len()),
        Ok(sheet) => println!("{}", sheet.table()),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A reader with its stream.
struct Lane {
    row: usize,
    reader: Reader,
    stream: &'static [u8],
    messages: u32,
}

fn measure(args: &Args) -> io::Result<Sheet> {
    let mut sheet = Sheet::default();
    let mut lanes = Vec::new();
    for case in CASES {
        if args
            .only
            .as_deref()
            .is_some_and(|only| !case.name.contains(only))
        {
            continue;
        }
        open(case, args, &mut sheet, &mut lanes)?;
    }
    let window = Duration::from_millis(args.window_ms);
    // Rounds outside, readers inside, so that a machine that changes its pace changes it for all.
    for _ in 0..args.rounds {
        for lane in &mut lanes {
            let ns = time(lane, window)?;
            sheet.rows[lane.row].ns.push(ns);
        }
    }
    Ok(sheet)
}

/// Opens all readers of a kind of message and checks what they read.
fn open(case: &Case, args: &Args, sheet: &mut Sheet, lanes: &mut Vec<Lane>) -> io::Result<()> {
    // Some readers keep what they borrow from it; the program ends with the run.
    let stream: &'static [u8] = case.stream().leak();
    let ours = (OURS, "", reader::ours(case));
    let peers = PEERS
        .iter()
        .filter(|peer| !args.ours && peer.protocol == case.protocol);
    let peers = peers.map(|peer| (peer.name, peer.differs, (peer.open)(case)));
    for (name, differs, mut reader) in [ours].into_iter().chain(peers) {
        // The first pass may hold back what it cannot end yet.
        reader(stream);
        let tally = reader(stream);
        let (lat, lon) = tally.last;
        let off = (lat - PLACE.0).abs().max((lon - PLACE.1).abs());
        if tally.places < STREAM_MESSAGES || off > TOLERANCE_DEG {
            let wrong = format!(
                "{name} reads {tally:?} of {STREAM_MESSAGES} x {}",
                case.name
            );
            if name == OURS {
                return Err(io::Error::other(wrong));
            }
            // A crate that does not read it is no peer for it.
            eprintln!("decode: left out, {wrong}");
            sheet.notes.push(format!("Left out: {wrong}."));
            continue;
        }
        let messages = case.stream_sentences();
        lanes.push(Lane {
            row: sheet.rows.len(),
            reader,
            stream,
            messages,
        });
        sheet.rows.push(Row {
            case: case.name,
            reader: name,
            differs,
            bytes: stream.len() as f64 / f64::from(messages),
            ns: Vec::new(),
        });
    }
    Ok(())
}

/// Nanoseconds a message, of this thread on a CPU: what else runs does not count.
fn time(lane: &mut Lane, window: Duration) -> io::Result<f64> {
    let began = cpu_time()?;
    let mut passes = 0;
    loop {
        for _ in 0..8 {
            std::hint::black_box((lane.reader)(lane.stream));
        }
        passes += 8;
        let took = cpu_time()? - began;
        if took >= window {
            return Ok(took.as_nanos() as f64 / f64::from(passes * lane.messages));
        }
    }
}

fn cpu_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
