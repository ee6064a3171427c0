//! `ringway replay`: what a recording says, or its bytes once more to a node.

mod print;
mod send;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::capture::{Account, Header, Item, Pace, Reader, Record};
use crate::role::exit;
use print::Printer;
use send::Sender;

/// Longest sleep between two looks at what came back, and at the progress.
const LOOK: Duration = Duration::from_millis(20);

/// How often the progress is shown.
const SHOW: Duration = Duration::from_millis(250);

/// Show what a recording says, or play its bytes to a node.
#[derive(Debug, Args)]
#[command(after_help = "\
The files of one recording are given in their order, so that streams go on from one to the next.
A sensor with input = \"file\" takes a recording as well, with the times of reception that were recorded.

Examples:
  ringway replay trackers-20261125T023400Z-0001.ringcap
  ringway replay --json trackers-*.ringcap | jq .device
  ringway replay --to 127.0.0.1:6808 --speed 10 trackers-*.ringcap

Exit codes: 0 done, 64 wrong use, 69 the node does not take a connection, 74 a file cannot be read, or is cut
or damaged: what is sound was replayed.")]
pub struct Replay {
    /// Recordings, in their order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Times faster than recorded; 0: at once, as is the case without --to
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Print the bytes, too
    #[arg(long, conflicts_with = "to")]
    bytes: bool,
    /// Play the bytes to this host and port, over as many connections as recorded, and discard the answers
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    /// Play them as datagrams
    #[arg(long, requires = "to")]
    udp: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok();
    let speed = speed.filter(|speed: &f64| (0.0..=1000.0).contains(speed));
    speed.ok_or_else(|| "expected a number from 0 to 1000".into())
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write result: {0}")]
    Write(#[source] io::Error),
    #[error("cannot play to {0}: {1}")]
    Connect(String, #[source] io::Error),
    #[error("cannot play {0}: it was recorded over {1}; {2} --udp")]
    Transport(PathBuf, String, &'static str),
}

impl ReplayError {
    fn exit_code(&self) -> i32 {
        match self {
            // Whoever read the results has enough of them.
            ReplayError::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            ReplayError::Read(..) | ReplayError::Write(_) => exit::IO,
            ReplayError::Connect(..) => exit::UNAVAILABLE,
            ReplayError::Transport(..) => exit::USAGE,
        }
    }
}

/// Where records go.
enum Sink {
    Print(Box<Printer>),
    Send(Sender),
}

/// Replays all files and says what they lack.
pub fn run(replay: &Replay) -> i32 {
    match carry_out(replay) {
        Ok(cut) => {
            if cut {
                exit::IO
            } else {
                exit::OK
            }
        }
        Err(error) => {
            let code = error.exit_code();
            if code != exit::OK {
                eprintln!("ringway: {error}");
            }
            code
        }
    }
}

/// Whether a file is cut or damaged.
fn carry_out(replay: &Replay) -> Result<bool, ReplayError> {
    let mut sink = match &replay.to {
        Some(to) => {
            let connect = |cause| ReplayError::Connect(to.clone(), cause);
            Sink::Send(Sender::new(to, replay.udp).map_err(connect)?)
        }
        None => Sink::Print(Box::new(Printer::new(replay.json, replay.bytes))),
    };
    let default = if replay.to.is_some() { 1.0 } else { 0.0 };
    let mut clock = Clock::new(replay.speed.unwrap_or(default));
    let mut progress = Progress::new(replay);
    let mut cut = false;
    for (number, path) in replay.files.iter().enumerate() {
        progress.file = number + 1;
        cut |= play(path, replay, &mut sink, &mut clock, &mut progress)?;
    }
    match sink {
        Sink::Print(mut printer) => printer.flush().map_err(ReplayError::Write)?,
        Sink::Send(sender) => {
            let sent = sender.finish();
            progress.clear();
            if replay.json {
                println!("{}", sent.json());
            } else {
                println!("{sent}");
            }
        }
    }
    Ok(cut)
}

/// Replays one file and says what it lacks; whether it is cut or damaged.
fn play(
    path: &Path,
    replay: &Replay,
    sink: &mut Sink,
    clock: &mut Clock,
    progress: &mut Progress,
) -> Result<bool, ReplayError> {
    let read = |cause| ReplayError::Read(path.into(), cause);
    let file = File::open(path).map_err(read)?;
    progress.bytes = file.metadata().map_err(read)?.len();
    let mut reader = Reader::new(file);
    let mut account = Account::default();
    loop {
        progress.at = reader.position();
        let item = reader.next_item().map_err(read)?;
        account.item(&item);
        let end = matches!(item, Item::End { .. });
        match (&item, &mut *sink) {
            (Item::Header(header), Sink::Send(_)) if header.is_datagrams() != replay.udp => {
                return Err(transport(path, header));
            }
            (Item::Record(record), sink) => clock.await_record(record, sink, progress),
            _ => {}
        }
        let connect = |cause| ReplayError::Connect(replay.to.clone().unwrap_or_default(), cause);
        match sink {
            Sink::Print(printer) => printer
                .take(item, |remark| account.remark(remark))
                .map_err(ReplayError::Write)?,
            Sink::Send(sender) => sender.take(&item).map_err(connect)?,
        }
        if end {
            break;
        }
    }
    if let Sink::Print(printer) = sink {
        printer.flush().map_err(ReplayError::Write)?;
    }
    progress.clear();
    for sentence in account.sentences() {
        eprintln!("ringway: {} {sentence}", path.display());
    }
    Ok(account.is_cut())
}

fn transport(path: &Path, header: &Header) -> ReplayError {
    let advice = if header.is_datagrams() {
        "use"
    } else {
        "leave out"
    };
    ReplayError::Transport(path.into(), header.input.escape_debug().to_string(), advice)
}

/// Recorded time as it passes here.
struct Clock {
    began: Instant,
    pace: Pace,
}

impl Clock {
    fn new(speed: f64) -> Clock {
        Clock {
            began: Instant::now(),
            pace: Pace::new(speed),
        }
    }

    /// Sleeps until a record is due. What comes back meanwhile is taken.
    fn await_record(&mut self, record: &Record<'_>, sink: &mut Sink, progress: &mut Progress) {
        let since = |began: Instant| began.elapsed().as_nanos() as u64;
        let time_ms = (record.at.monotonic_ns / 1_000_000) as i64;
        let due_ns = self.pace.due_ns(since(self.began), Some(time_ms));
        loop {
            progress.show(sink);
            let left = Duration::from_nanos(due_ns.saturating_sub(since(self.began)));
            if left.is_zero() {
                return;
            }
            match sink {
                Sink::Send(sender) => sender.listen(),
                // Whoever watches is to see what came so far.
                Sink::Print(printer) => drop(printer.flush()),
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// How far the replay is, for a terminal.
struct Progress {
    live: bool,
    shown: Instant,
    files: usize,
    file: usize,
    at: u64,
    bytes: u64,
}

impl Progress {
    fn new(replay: &Replay) -> Progress {
        Progress {
            live: replay.to.is_some() && io::stderr().is_terminal(),
            shown: Instant::now(),
            files: replay.files.len(),
            file: 0,
            at: 0,
            bytes: 0,
        }
    }

    fn show(&mut self, sink: &Sink) {
        let Sink::Send(sender) = sink else { return };
        if !self.live || self.shown.elapsed() < SHOW {
            return;
        }
        self.shown = Instant::now();
        let percent = self.at * 100 / self.bytes.max(1);
        let (file, files) = (self.file, self.files);
        let so_far = sender.sent();
        // Nobody is to be troubled by a terminal that went away.
        let _ = write!(
            io::stderr(),
            "\r\x1b[Kfile {file} of {files}, {percent} %: {so_far}"
        );
    }

    fn clear(&self) {
        if self.live {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
