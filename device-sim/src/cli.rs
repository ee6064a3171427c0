//! The verbs of `device-sim` and what they print.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::broker::{self, BrokerError};
use crate::checker::Check;
use crate::crew::{self, Carrier, Protocol, Target};
use crate::crowd;
use crate::descriptors;
use crate::duration;
use crate::fleet::{Fleet, FleetError, Options, Progress};
use crate::replay;
use crate::roads::{Roads, RoadsError};
use crate::scenario::{CONFIG_FILE, ROADS_FILE, Scenario};
use crate::schedule::Pace;
use crate::sink;
use crate::tls::{Trust, TrustError};
use crate::town;

/// Exit status of a run that is not as it should be.
const NOT_OK: u8 = 1;
/// Exit status when something could not be done at all.
const FAILED: u8 = 2;

/// A fleet of simulated trackers, a small MQTT broker that can misbehave, and a checker of what was delivered.
#[derive(Debug, Parser)]
#[command(
    name = "device-sim",
    version,
    after_help = "Examples:
  device-sim scenario --dir /tmp/s --seed 1 --devices 200
  device-sim fleet --seed 1 --devices 200 --for 20s --dir /tmp/s --target 127.0.0.1:7808 \\
      --stream ws://127.0.0.1:8080/v1/stream --mqtt mqtt://127.0.0.1:1883
  device-sim fleet --protocols teltonika,gt06,h02 --for 20s --target 127.0.0.1:5000
  device-sim fleet --protocols all --target 127.0.0.1:5000 --udp-target 127.0.0.1:5001
  device-sim fleet --devices 100 --pipeline 100 --for 10s --target 127.0.0.1:7808 --json
  device-sim nmea --file drive.nmea --target 127.0.0.1:7183 --speed 10
  device-sim broker --listen 127.0.0.1:1883
  device-sim crowd --target 127.0.0.1:7808 --garbage 1000 --slow 100 --source 127.0.0.0/8 --for 30s"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the road graph and the rules of a scenario: roads.json, and scenario.toml for the runtime
    Scenario(ScenarioArgs),
    /// Run a fleet of devices and check what became of its reports
    Fleet(Box<FleetArgs>),
    /// Replay a recorded NMEA 0183 log over TCP
    Nmea(NmeaArgs),
    /// Run a small MQTT 5 broker that can misbehave by script
    Broker(broker::Args),
    /// Connect as many that are no good devices: silent ones, senders of rubbish, slow ones, fast ones
    Crowd(crowd::Args),
}

#[derive(Debug, Args)]
struct ScenarioArgs {
    /// Folder to write to; made if it is not there
    #[arg(long)]
    dir: PathBuf,
    /// Decides town, vehicles and events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size of the fleet
    #[arg(long, default_value_t = 200)]
    devices: u32,
    /// A road graph to drive on instead of a generated town
    #[arg(long, value_name = "FILE")]
    roads: Option<PathBuf>,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FleetArgs {
    /// Decides town, vehicles and events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size of the fleet
    #[arg(long, default_value_t = 200)]
    devices: u32,
    /// How long devices report, such as 20s or 5m; until stopped without it
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    length: Option<Duration>,
    /// Folder written by `scenario` with the same seed and devices
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A road graph to drive on instead of a generated town
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    roads: Option<PathBuf>,
    /// Reports a second of each device
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Drive so many times faster than the clock
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Reports in one segment, and the next as soon as all are answered, instead of by the clock
    #[arg(long, value_name = "REPORTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipeline: Option<u32>,
    /// Each device presses SOS about once in so many seconds, beside what the scenario has
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    sos_every: Option<u32>,
    /// First timeout of an answer; resends wait longer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    answer_timeout: Duration,
    /// How long everything may take to be answered and delivered at the end
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    grace: Duration,
    /// What the devices speak, in turn: jt808, teltonika, teltonika-udp, gt06, h02, osmand, nmea, set apart by
    /// commas, or all
    #[arg(long, value_name = "NAMES", default_value = "jt808", value_parser = Spoken::parse)]
    protocols: Spoken,
    /// Where the devices connect to
    #[arg(long, value_name = "ADDR", required_unless_present = "wait_targets")]
    target: Option<String>,
    /// Connect over TLS, and trust who is signed by an authority in this file (PEM)
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// The name or address that the server's certificate must have; the target's without it
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_name: Option<String>,
    /// Where those that speak over UDP send to
    #[arg(long, value_name = "ADDR")]
    udp_target: Option<String>,
    /// The runtime's live stream, such as ws://127.0.0.1:8080/v1/stream
    #[arg(long, value_name = "URL")]
    stream: Option<String>,
    /// The broker that gets the alarms, such as mqtt://127.0.0.1:1883
    #[arg(long, value_name = "URL")]
    mqtt: Option<String>,
    /// Site and node in the alarms' topics; any without them
    #[arg(long, default_value = "+")]
    site: String,
    #[arg(long, default_value = "+", hide = true)]
    node: String,
    /// Receive traces here, as OTLP over HTTP
    #[arg(long, value_name = "ADDR")]
    otlp_listen: Option<String>,
    /// A new file for the ledger
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print progress and the verdict as JSON lines
    #[arg(long)]
    json: bool,
    /// Receive traces, print {"otlp":URL}, then read the targets as one JSON line from standard input; its end ends
    /// the run
    #[arg(long)]
    wait_targets: bool,
}

#[derive(Debug, Args)]
struct NmeaArgs {
    /// The log
    #[arg(long)]
    file: PathBuf,
    /// Where to send it
    #[arg(long, value_name = "ADDR")]
    target: String,
    /// So many times faster than it was recorded; 0: as fast as it goes
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Print what was sent as one JSON object
    #[arg(long)]
    json: bool,
}

/// The protocols of a fleet.
#[derive(Clone, Debug)]
struct Spoken(Vec<Protocol>);

impl Spoken {
    fn parse(text: &str) -> Result<Spoken, String> {
        crew::protocols(text).map(Spoken)
    }
}

/// Where a runtime listens, as it is told on standard input.
#[derive(Debug, Deserialize)]
struct Targets {
    /// All that speak over TCP.
    #[serde(alias = "jt808")]
    tcp: Option<String>,
    /// Those that speak over UDP.
    udp: Option<String>,
    stream: Option<String>,
    mqtt: Option<String>,
    site: Option<String>,
    node: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Roads(#[from] RoadsError),
    #[error("cannot use authorities {0:?}: {1}")]
    Trust(PathBuf, #[source] TrustError),
    #[error("cannot read authorities {0:?}: {1}")]
    Authorities(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Crowd(#[from] crowd::CommandError),
    #[error("cannot write scenario to {0:?}: {1}")]
    Write(PathBuf, io::Error),
    #[error("cannot drive in {0:?}: its {CONFIG_FILE} is not that of seed {1} and {2} devices")]
    OtherScenario(PathBuf, u64, u32),
    #[error("cannot resolve {0:?}: {1}")]
    Address(String, io::Error),
    #[error("cannot receive traces at {0:?}: {1}")]
    Sink(String, io::Error),
    #[error("cannot read targets: {0}")]
    Targets(String),
    #[error("cannot replay {0:?}: {1}")]
    Replay(PathBuf, io::Error),
    #[error("cannot use standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the program: parses `arguments`, does it, prints at most one line of error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.verb)),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("device-sim: {error}");
        ExitCode::from(FAILED)
    })
}

async fn run(verb: Verb) -> Result<ExitCode, CliError> {
    match verb {
        Verb::Scenario(args) => scenario(&args)?,
        Verb::Fleet(args) => return fleet(*args).await,
        Verb::Nmea(args) => nmea(&args).await?,
        Verb::Broker(args) => broker::command(args).await?,
        Verb::Crowd(args) => return crowd(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn crowd(args: crowd::Args) -> Result<ExitCode, CliError> {
    descriptors::raise_limit();
    let anybody = crowd::command(args).await?;
    Ok(ExitCode::from(if anybody { 0 } else { NOT_OK }))
}

fn scenario(args: &ScenarioArgs) -> Result<(), CliError> {
    let roads = roads(args.roads.as_deref(), args.seed)?;
    let scenario = Scenario::new(args.seed, args.devices, None, &roads);
    let failed = |cause| CliError::Write(args.dir.clone(), cause);
    scenario.write(&roads, &args.dir).map_err(failed)?;
    let (config, graph) = (args.dir.join(CONFIG_FILE), args.dir.join(ROADS_FILE));
    match args.json {
        true => say(json!({ "config": config, "roads": graph })),
        false => say(format_args!(
            "wrote {} and {}",
            config.display(),
            graph.display()
        )),
    }
}

async fn fleet(args: FleetArgs) -> Result<ExitCode, CliError> {
    descriptors::raise_limit();
    let json = args.json;
    let (mut options, roads) = prepare(&args)?;
    let mut input = None;
    let listen = args.otlp_listen.clone();
    let listen = listen.or(args.wait_targets.then(|| "127.0.0.1:0".to_string()));
    if let Some(listen) = listen {
        let failed = |cause| CliError::Sink(listen.clone(), cause);
        let (address, traces) = sink::start(&listen).await.map_err(failed)?;
        options.traces = Some(traces);
        if args.wait_targets || json {
            say(json!({ "otlp": format!("http://{address}") }))?;
        }
    }
    if args.wait_targets {
        let mut lines = read_input();
        let line = lines.recv().await;
        let line = line.ok_or_else(|| CliError::Targets("standard input ended".into()))?;
        let targets = serde_json::from_str(&line).map_err(|e| CliError::Targets(e.to_string()))?;
        aim(&mut options, targets)?;
        input = Some(lines);
    }
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut fleet = Box::pin(Fleet::start(roads, options));
    let fleet = tokio::select! {
        fleet = &mut fleet => fleet?,
        _ = terminate.recv() => return Ok(ExitCode::from(NOT_OK)),
        _ = interrupt.recv() => return Ok(ExitCode::from(NOT_OK)),
    };
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let show = Show::new(json);
    loop {
        tokio::select! {
            () = fleet.lasts() => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = ended(&mut input) => break,
            _ = ticks.tick() => show.progress(&fleet.progress())?,
        }
    }
    // A second signal does not wait for what is still on its way.
    tokio::select! {
        () = fleet.settle() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let check = fleet.check();
    if let Some((count, last)) = fleet.hang_ups() {
        eprintln!("device-sim: {count} connections given up, the last one: {last}");
    }
    show.verdict(&check)?;
    // Standard input may still be waited for on its own thread, which does not outlive the process.
    Ok(ExitCode::from(if check.summary.ok { 0 } else { NOT_OK }))
}

/// Options and roads of a run, as far as the command line has them.
fn prepare(args: &FleetArgs) -> Result<(Options, Roads), CliError> {
    let file = args.dir.as_ref().map(|dir| dir.join(ROADS_FILE));
    let roads = roads(file.as_deref().or(args.roads.as_deref()), args.seed)?;
    if let Some(dir) = &args.dir {
        // Rules of another scenario would make every verdict wrong.
        let scenario = Scenario::new(args.seed, args.devices, args.sos_every, &roads);
        let written = std::fs::read_to_string(dir.join(CONFIG_FILE));
        if written.is_ok_and(|written| written != scenario.config()) {
            return Err(CliError::OtherScenario(
                dir.clone(),
                args.seed,
                args.devices,
            ));
        }
    }
    let target = match &args.target {
        Some(target) => resolve(target)?,
        None => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let udp = args.udp_target.as_deref().map(resolve).transpose()?;
    let options = Options {
        pace: match args.pipeline {
            Some(reports) => Pace::Pipelined(reports),
            None => Pace::Clock {
                rate: args.rate,
                speed: args.speed,
            },
        },
        length: args.length,
        protocols: args.protocols.0.clone(),
        target: Target { tcp: target, udp },
        trust: trust(args, target)?,
        stream: args.stream.clone(),
        mqtt: args.mqtt.clone(),
        topic: topic(&args.site, &args.node),
        ledger: args.ledger.clone(),
        grace: args.grace,
        answer_timeout: args.answer_timeout,
        sos_every_s: args.sos_every,
        ..Options::new(args.seed, args.devices, target)
    };
    Ok((options, roads))
}

/// Whom the devices trust, if they use TLS.
fn trust(args: &FleetArgs, target: SocketAddr) -> Result<Option<Trust>, CliError> {
    let Some(file) = &args.tls else {
        return Ok(None);
    };
    let host = args
        .target
        .as_deref()
        .and_then(|target| target.rsplit_once(':'));
    let host = host.map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
    let name = args.tls_name.clone().or(host);
    let name = name.unwrap_or_else(|| target.ip().to_string());
    let authorities =
        std::fs::read(file).map_err(|cause| CliError::Authorities(file.clone(), cause))?;
    let trust = Trust::new(&authorities, &name);
    trust
        .map(Some)
        .map_err(|cause| CliError::Trust(file.clone(), cause))
}

/// Points a run at what was told on standard input.
fn aim(options: &mut Options, targets: Targets) -> Result<(), CliError> {
    let connected = |protocol: &Protocol| protocol.carrier() == Carrier::Tcp;
    match &targets.tcp {
        Some(target) => options.target.tcp = resolve(target)?,
        None if options.protocols.iter().any(connected) => {
            return Err(CliError::Targets("no target for connections".into()));
        }
        None => {}
    }
    if let Some(target) = &targets.udp {
        options.target.udp = Some(resolve(target)?);
    }
    options.stream = targets.stream.or(options.stream.take());
    options.mqtt = targets.mqtt.or(options.mqtt.take());
    if targets.site.is_some() || targets.node.is_some() {
        let any = || "+".to_string();
        let (site, node) = (
            targets.site.unwrap_or_else(any),
            targets.node.unwrap_or_else(any),
        );
        options.topic = topic(&site, &node);
    }
    Ok(())
}

fn topic(site: &str, node: &str) -> String {
    format!("ringway/v1/{site}/{node}/alarm/#")
}

async fn nmea(args: &NmeaArgs) -> Result<(), CliError> {
    let target = resolve(&args.target)?;
    let failed = |cause| CliError::Replay(args.file.clone(), cause);
    let sent = replay::replay(&args.file, target, args.speed)
        .await
        .map_err(failed)?;
    match args.json {
        true => say(line(&sent)),
        false => say(format_args!(
            "sent {} lines, {} bytes, {:.1} s of driving",
            sent.lines, sent.bytes, sent.log_seconds
        )),
    }
}

fn roads(file: Option<&Path>, seed: u64) -> Result<Roads, RoadsError> {
    match file {
        Some(file) => Roads::load(file),
        None => Roads::new(town::generate(seed)),
    }
}

fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    let failed = |cause| CliError::Address(address.to_string(), cause);
    let mut found = address.to_socket_addrs().map_err(failed)?;
    found
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Where figures go.
struct Show {
    json: bool,
    terminal: bool,
}

impl Show {
    fn new(json: bool) -> Show {
        Show {
            json,
            terminal: io::stderr().is_terminal(),
        }
    }

    fn progress(&self, progress: &Progress) -> Result<(), CliError> {
        if self.json {
            return say(format_args!("{{\"progress\":{}}}", line(progress)));
        }
        if self.terminal {
            let p = progress;
            eprint!(
                "\r\x1b[K{} s: {} online, {} sent, {} answered, {} pushed (p99 {:.1} ms), {} of {} alarms",
                p.seconds,
                p.online,
                p.frames_sent,
                p.frames_answered,
                p.tracks_pushed,
                p.p99_ms.unwrap_or(0.0),
                p.alarms_delivered,
                p.alarms_raised
            );
        }
        Ok(())
    }

    /// What is wrong goes to standard error, the summary to standard output.
    fn verdict(&self, check: &Check) -> Result<(), CliError> {
        if self.terminal && !self.json {
            eprintln!();
        }
        for (what, named) in [("lost", &check.lost), ("invented", &check.invented)] {
            named
                .iter()
                .for_each(|alarm| eprintln!("device-sim: {what}: {alarm}"));
        }
        for what in &check.missing {
            eprintln!("device-sim: {what}");
        }
        for kind in &check.kinds_missing {
            eprintln!("device-sim: no {kind} was delivered");
        }
        if let Some(first) = &check.misplaced_first {
            let count = check.misplaced;
            eprintln!("device-sim: {count} positions were pushed wrong, the first: {first}");
        }
        if let Some(first) = &check.unseen_first {
            let count = check.unseen;
            eprintln!(
                "device-sim: {count} devices reported and were never pushed, the first: {first}"
            );
        }
        for missing in &check.protocols_missing {
            eprintln!("device-sim: {missing}");
        }
        if let Some(error) = &check.file_error {
            eprintln!("device-sim: {error}");
        }
        let s = &check.summary;
        if self.json {
            return say(line(s));
        }
        for (name, share) in s.protocols.iter().filter(|_| s.protocols.len() > 1) {
            say(format_args!(
                "{name}: {} devices; {} reports sent, {} answered, {} pushed; {} alarms raised, {} delivered",
                share.devices,
                share.frames_sent,
                share.frames_answered,
                share.tracks_pushed,
                share.alarms_raised,
                share.alarms_delivered
            ))?;
        }
        say(format_args!(
            "{}: {} devices; {} reports sent, {} answered, {} pushed; {} alarms raised, {} delivered, \
             {} lost, {} invented, {} repeated; latency p50 {:.2} p99 {:.2} max {:.2} ms; {} traces",
            if s.ok { "ok" } else { "NOT OK" },
            s.devices,
            s.frames_sent,
            s.frames_answered,
            s.tracks_pushed,
            s.alarms_raised,
            s.alarms_delivered,
            s.lost,
            s.invented,
            s.duplicates,
            s.latency_ms.p50.unwrap_or(0.0),
            s.latency_ms.p99.unwrap_or(0.0),
            s.latency_ms.max.unwrap_or(0.0),
            s.traces
        ))
    }
}

/// Figures as JSON, their members in the order of the type.
fn line(figures: &impl serde::Serialize) -> String {
    serde_json::to_string(figures).expect("figures are plain data")
}

/// Prints a line at once; a pipe would hold it back.
fn say(line: impl std::fmt::Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Reads standard input line by line on a thread of its own: a blocking read cannot be given up.
fn read_input() -> mpsc::UnboundedReceiver<String> {
    let (tx, rx) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                return;
            }
        }
    });
    rx
}

/// Resolves when standard input has ended; never if nobody reads it.
async fn ended(input: &mut Option<mpsc::UnboundedReceiver<String>>) {
    match input {
        Some(lines) => while lines.recv().await.is_some() {},
        None => std::future::pending().await,
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    let usable = number.is_finite() && number >= 0.0;
    usable
        .then_some(number)
        .ok_or_else(|| "expected 0 or more".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn targets_take_the_place_of_options() {
        let mut options = Options::new(1, 1, SocketAddr::from(([127, 0, 0, 1], 0)));
        let line =
            r#"{"jt808":"127.0.0.1:7","stream":"ws://a","site":"s","node":"n","http":"more"}"#;
        aim(&mut options, serde_json::from_str(line).unwrap()).unwrap();
        assert_eq!((options.target.tcp.port(), options.target.udp), (7, None));
        let line = r#"{"tcp":"127.0.0.1:8","udp":"127.0.0.1:9"}"#;
        aim(&mut options, serde_json::from_str(line).unwrap()).unwrap();
        let ports = (options.target.tcp.port(), options.target.udp);
        assert_eq!((ports.0, ports.1.map(|udp| udp.port())), (8, Some(9)));
        let nowhere = serde_json::from_str(r#"{"stream":"ws://b"}"#).unwrap();
        assert!(aim(&mut options, nowhere).is_err());
        assert_eq!(
            (options.stream.as_deref(), options.mqtt),
            (Some("ws://a"), None)
        );
        assert_eq!(options.topic, "ringway/v1/s/n/alarm/#");
    }
}
