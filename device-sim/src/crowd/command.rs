//! `device-sim crowd`: runs a crowd for a stated time and prints what happened to it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{Crowd, CrowdError, FIRST_PHONE, Options, Report, Share, Sources};
use crate::duration;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  device-sim crowd --target 127.0.0.1:6808 --idle 10000 --for 1min --json
  device-sim crowd --target 127.0.0.1:6808 --garbage 1000 --slow 100 --source 127.0.0.0/8 --seed 7
  device-sim crowd --target 127.0.0.1:6808 --flood 100 --rate 1000 --for 10s")]
pub struct Args {
    /// Where all connect to
    #[arg(long, value_name = "ADDR")]
    target: SocketAddr,
    /// Connections that log in (JT/T 808), then say nothing and answer nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: u32,
    /// Connections that send noise, wrong checks, messages without an end or halves, and come again at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    garbage: u32,
    /// Connections that send a byte of a sound message now and then and never come to its end
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: u32,
    /// Pause between two of these bytes
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    slow_every: Duration,
    /// Connections that send sound locations too fast
    #[arg(long, value_name = "N", default_value_t = 0)]
    flood: u32,
    /// Messages a second of each of these
    #[arg(long, value_name = "MESSAGES", default_value_t = 100.0)]
    rate: f64,
    /// Connect from these addresses of this machine, a new one each time
    #[arg(long, value_name = "NETWORK")]
    source: Option<Sources>,
    /// How long, such as 20s or 5min
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    length: Duration,
    /// Decides what is sent and from where
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first one's phone number
    #[arg(long, value_name = "NUMBER", default_value_t = FIRST_PHONE, value_parser = clap::value_parser!(u64).range(1..=999_999_900_000))]
    first_phone: u64,
    /// Print what happened as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a crowd until its time is over or a signal ends it; whether anybody was ever connected.
///
/// # Errors
/// When the options make no crowd, or signals are not to be had.
pub async fn command(args: Args) -> Result<bool, CommandError> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let length = args.length;
    let crowd = Crowd::start(Options {
        seed: args.seed,
        target: args.target,
        sources: args.source,
        first_phone: args.first_phone,
        idle: args.idle,
        garbage: args.garbage,
        slow: args.slow,
        slow_every: args.slow_every,
        flood: args.flood,
        rate: args.rate,
        length,
    })?;
    tokio::select! {
        () = sleep(length) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let report = crowd.watch().report();
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print(&report),
    }
    Ok(kinds(&report).iter().any(|(_, share)| share.connected > 0))
}

/// A crowd that cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The options make none.
    #[error(transparent)]
    Crowd(#[from] CrowdError),
    /// Signals are not to be had.
    #[error("cannot run a crowd: {0}")]
    Io(#[from] io::Error),
    /// The report cannot be written.
    #[error("cannot write report: {0}")]
    Json(#[from] serde_json::Error),
}

fn kinds(report: &Report) -> [(&'static str, &Share); 4] {
    [
        ("idle", &report.idle),
        ("garbage", &report.garbage),
        ("slow", &report.slow),
        ("flood", &report.flood),
    ]
}

fn print(report: &Report) {
    println!("seed {}, {:.1} s", report.seed, report.seconds);
    for (name, share) in kinds(report) {
        if share.asked > 0 {
            println!(
                "{name}: {} asked for; {} connected, {} open at the end, {} logged in, {} closed by the other side, \
                 {} refused; {} messages, {} bytes sent, {} received",
                share.asked,
                share.connected,
                share.open,
                share.logged_in,
                share.closed_by_peer,
                share.refused,
                share.messages,
                share.sent_bytes,
                share.received_bytes
            );
        }
    }
}
