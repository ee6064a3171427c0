//! `ringway status`: how a running node is doing, asked over its control socket.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::ConfigPath;
use crate::config::Config;
use crate::role::exit;
use crate::supervisor::control::SOCKET_NAME;
use crate::supervisor::report::{CaptureReport, FeedReport, ProcessReport, ProgramReport, Report};
use crate::supervisor::request::Request;
use crate::sys::clock;

/// How long the node may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Show how a running node is doing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ringway status\n  ringway status --config edge.toml --json")]
pub struct Status {
    #[command(flatten)]
    path: ConfigPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and shows; the exit code is 69 when no node runs there.
pub fn run(status: &Status) -> i32 {
    let state_dir = match Config::state_dir(&status.path.config) {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("ringway: {error}");
            return exit::CONFIG;
        }
    };
    match ask(&state_dir) {
        Ok(report) if status.json => {
            println!(
                "{}",
                serde_json::to_string(&report).expect("a report is plain data")
            );
            exit::OK
        }
        Ok(report) => {
            // A closed pipe while printing is nobody's problem.
            let _ = show(
                &report,
                &mut io::stdout().lock(),
                io::stdout().is_terminal(),
            );
            exit::OK
        }
        Err(cause) => unanswered(&state_dir, &cause),
    }
}

/// Asks the node that uses this state directory.
///
/// # Errors
/// When nobody answers, or not with a report.
pub fn ask(state_dir: &Path) -> io::Result<Report> {
    let text = request(state_dir, &Request::Status)?;
    serde_json::from_str(&text).map_err(io::Error::from)
}

/// Asks the node that uses this state directory for something, and returns its answer.
///
/// # Errors
/// When nobody answers.
pub fn request(state_dir: &Path, what: &Request) -> io::Result<String> {
    let mut stream = UnixStream::connect(state_dir.join(SOCKET_NAME))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(what.line().as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Says on standard error that no node answers there; the exit code.
pub fn unanswered(state_dir: &Path, cause: &io::Error) -> i32 {
    let socket = state_dir.join(SOCKET_NAME);
    eprintln!(
        "ringway: cannot ask {}: {cause}; does a node run there?",
        socket.display()
    );
    exit::UNAVAILABLE
}

fn show(report: &Report, out: &mut impl Write, colour: bool) -> io::Result<()> {
    writeln!(
        out,
        "ringway {} is {} (process {}, up {:.0} s)",
        report.version,
        painted(&report.state, colour).trim_end(),
        report.pid,
        report.uptime_s
    )?;
    for (name, address) in &report.listeners {
        writeln!(out, "  {name:<24} {address}")?;
    }
    show_processes(&report.processes, out, colour)?;
    show_feeds(&report.feeds, out)?;
    show_programs(&report.programs, out)?;
    show_notices(report, out)?;
    writeln!(
        out,
        "\nring                     waiting of slots   frames so far"
    )?;
    for ring in &report.rings {
        writeln!(
            out,
            "{:<24} {:>7} of {:<8} {}",
            ring.name, ring.waiting, ring.slots, ring.tail
        )?;
    }
    for capture in &report.captures {
        writeln!(out, "\n{}", recording(capture))?;
    }
    writeln!(out, "\nfigures (not zero)")?;
    for process in &report.processes {
        for (name, value) in &process.figures {
            writeln!(out, "  {:<16} {name} {value}", process.instance)?;
        }
    }
    Ok(())
}

/// A state in its column.
fn painted(state: &str, colour: bool) -> String {
    match (colour, state) {
        (true, "ready") => format!("\x1b[32m{state:<9}\x1b[0m"),
        (true, _) => format!("\x1b[33m{state:<9}\x1b[0m"),
        (false, _) => format!("{state:<9}"),
    }
}

fn show_processes(
    processes: &[ProcessReport],
    out: &mut impl Write,
    colour: bool,
) -> io::Result<()> {
    writeln!(
        out,
        "\nprocess                  state      pid      restarts  last exit"
    )?;
    for process in processes {
        let name = match process.role.as_str() {
            "ingest" => format!("ingest {}", process.instance),
            role => role.to_string(),
        };
        writeln!(
            out,
            "{name:<24} {}  {:<8} {:<9} {}{}",
            painted(&process.state, colour),
            process.pid.map_or("-".into(), |pid| pid.to_string()),
            process.restarts,
            process.last_exit.as_deref().unwrap_or("-"),
            if process.looping {
                "  (fails again and again)"
            } else {
                ""
            },
        )?;
    }
    Ok(())
}

fn show_feeds(feeds: &[FeedReport], out: &mut impl Write) -> io::Result<()> {
    if !feeds.is_empty() {
        writeln!(
            out,
            "\nfeed                     state      for (s)  opened    last trouble"
        )?;
    }
    for feed in feeds {
        let rate = feed.baud.map(|baud| format!(" at {baud} baud"));
        let rate = rate.unwrap_or_default();
        writeln!(
            out,
            "{:<24} {:<9}  {:<8.0} {:<9} {}",
            format!("{} ({}{rate})", feed.sensor, feed.input),
            feed.state,
            feed.since_s,
            feed.opened,
            feed.why.as_deref().unwrap_or("-"),
        )?;
    }
    Ok(())
}

fn show_programs(programs: &[ProgramReport], out: &mut impl Write) -> io::Result<()> {
    if !programs.is_empty() {
        writeln!(
            out,
            "\nprogram of               state      pid      restarts  last exit"
        )?;
    }
    for program in programs {
        writeln!(
            out,
            "{:<24} {:<9}  {:<8} {:<9} {}",
            program.sensor,
            program.state,
            program.pid.map_or("-".into(), |pid| pid.to_string()),
            program.restarts,
            program.last_exit.as_deref().unwrap_or("-"),
        )?;
    }
    Ok(())
}

/// Device ids that an operator should look at.
fn show_notices(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut notices = report
        .processes
        .iter()
        .flat_map(|process| {
            process
                .notices
                .iter()
                .map(|notice| (&process.instance, notice))
        })
        .peekable();
    if notices.peek().is_some() {
        writeln!(
            out,
            "\ndevice                          is         at sensor        from                     times  last seen"
        )?;
    }
    for (sensor, notice) in notices {
        let ago_s = (clock::wall_ms() - notice.last_ms).max(0) / 1_000;
        writeln!(
            out,
            "{:<31} {:<10} {sensor:<16} {:<24} {:<6} {ago_s} s ago",
            notice.device, notice.what, notice.source, notice.count,
        )?;
    }
    Ok(())
}

/// One line about a recording.
fn recording(capture: &CaptureReport) -> String {
    let sensor = &capture.sensor;
    let stopped = capture.stopped.as_deref().unwrap_or("unknown");
    let Some(file) = &capture.file else {
        return format!("sensor {sensor} is not recorded: {stopped}");
    };
    let left = capture.left_s.map(|left| format!(", for {left:.0} s more"));
    let (bytes, left) = (capture.bytes, left.unwrap_or_default());
    format!("sensor {sensor} is recorded in {file} ({bytes} bytes{left})")
}
