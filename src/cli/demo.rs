//! `ringway demo`: a node, a simulated fleet and a broker on free loopback ports with a temporary state directory.
//! What is said about the outcome comes from the simulator's checker at both ends, never from the runtime.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::status;
use crate::config::Millis;
use crate::role::exit;
use crate::supervisor::report::Report;

/// How long a part may take until it serves.
const START_WAIT: Duration = Duration::from_secs(15);
/// How long a part may take to end; the fleet waits for its last answers and deliveries.
const END_WAIT: Duration = Duration::from_secs(30);
/// Devices that a demo can have: each is a socket at both ends on this machine.
const DEVICES_MAX: i64 = 20_000;
/// Longest run that ends by itself.
const LENGTH_MS_MAX: u64 = 24 * 3_600_000;
const READY_POLL: Duration = Duration::from_millis(10);
/// What the simulator speaks. The first is what it speaks when nothing is said.
const PROTOCOLS: [&str; 7] = [JT808, "teltonika", UDP, "gt06", "h02", "osmand", "nmea"];
const JT808: &str = "jt808";
/// The one that comes in datagrams; all others share a port.
const UDP: &str = "teltonika-udp";
const SITE: &str = "demo";
const NODE: &str = "edge1";

/// Run a node, a simulated fleet and a broker on this machine and check what arrives.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringway demo                                   until Ctrl-C
  ringway demo --for 20s --devices 200 --json    ends by itself; the last line is the verdict
  ringway demo --protocols all                   devices of every protocol that the simulator speaks
  ringway demo --roads monaco.json               drive on other roads

Exit code 0 only if every alarm that had to be raised was delivered, and none that had not, and every
device was seen where it was.")]
pub struct Demo {
    /// End by itself after this long, such as 20s
    #[arg(long, value_name = "TIME", value_parser = length)]
    r#for: Option<String>,
    /// Devices in the fleet
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=DEVICES_MAX))]
    devices: u32,
    /// What the devices speak, in turn: jt808, teltonika, teltonika-udp, gt06, h02, osmand, nmea, set apart by
    /// commas, or all
    #[arg(long, value_name = "NAMES", default_value = JT808, value_parser = Spoken::parse)]
    protocols: Spoken,
    /// Seed of the town, the fleet and what happens
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Drive on this road graph instead of a generated town
    #[arg(long, value_name = "FILE", value_parser = readable)]
    roads: Option<PathBuf>,
    /// Use this broker (mqtt://host:port) instead of the built-in one
    #[arg(long, value_name = "URL", value_parser = broker)]
    broker: Option<String>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// A length of time as device-sim takes it too.
fn length(text: &str) -> Result<String, String> {
    match Millis::parse(text)?.0 {
        1..=LENGTH_MS_MAX => Ok(text.to_string()),
        _ => Err("expected more than nothing and at most 24h".to_string()),
    }
}

/// Names of protocols, each once and in the order of [`PROTOCOLS`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spoken(Vec<&'static str>);

impl Spoken {
    fn parse(text: &str) -> Result<Spoken, String> {
        if text == "all" {
            return Ok(Spoken(PROTOCOLS.to_vec()));
        }
        let stranger = text.split(',').find(|name| !PROTOCOLS.contains(name));
        if let Some(name) = stranger {
            let names = PROTOCOLS.join(", ");
            return Err(format!("no protocol {name:?}; there are {names}, and all"));
        }
        let named = |protocol: &&str| text.split(',').any(|name| name == *protocol);
        Ok(Spoken(PROTOCOLS.into_iter().filter(named).collect()))
    }

    /// Whether there are devices on a port for connections.
    fn over_tcp(&self) -> bool {
        self.0.iter().any(|&name| name != UDP)
    }

    fn over_udp(&self) -> bool {
        self.0.contains(&UDP)
    }

    /// The sensors that they report to.
    fn sensors(&self, devices: u32) -> String {
        // A connection that was cut may be counted until the next look at it.
        let connections = devices + 100;
        let protocol = match self.0[..] {
            [JT808] => JT808,
            // One port for all: what a connection speaks shows in its first bytes.
            _ => "auto",
        };
        let mut text = String::new();
        if self.over_tcp() {
            text += &format!(
                r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "{protocol}"
listen = "127.0.0.1:0"
connections_max = {connections}
"#
            );
        }
        if self.over_udp() {
            text += r#"
[[sensor]]
name = "trackers-udp"
input = "udp"
protocol = "teltonika"
listen = "127.0.0.1:0"
"#;
        }
        text
    }
}

fn readable(path: &str) -> Result<PathBuf, String> {
    std::fs::File::open(path)
        .map(|_| PathBuf::from(path))
        .map_err(|cause| cause.to_string())
}

fn broker(url: &str) -> Result<String, String> {
    let host = url
        .strip_prefix("mqtt://")
        .filter(|host| !host.is_empty() && !host.contains('@'));
    host.map(|_| url.to_string())
        .ok_or_else(|| "expected mqtt://host:port".to_string())
}

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot find device-sim beside {0}: build it with `cargo build --release`")]
    NoSimulator(PathBuf),
    #[error("cannot {0}: {1}")]
    Io(&'static str, #[source] io::Error),
    #[error("{0} ended early: {1}")]
    Ended(&'static str, ExitStatus),
    #[error("{0} said nothing within {1:?}")]
    Silent(&'static str, Duration),
    #[error("{0} said something else than expected: {1}")]
    Odd(&'static str, String),
}

/// Runs the demo; the exit code is 1 if the verdict is not ok.
pub fn run(demo: &Demo) -> i32 {
    let protocols = demo.protocols.0.len();
    if (demo.devices as usize) < protocols {
        let devices = demo.devices;
        eprintln!("ringway: cannot spread {devices} devices over {protocols} protocols");
        return exit::USAGE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("ringway: cannot start: {cause}");
            return exit::SOFTWARE;
        }
    };
    match runtime.block_on(demonstrate(demo)) {
        Ok(true) => exit::OK,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("ringway: {error}");
            exit::UNAVAILABLE
        }
    }
}

async fn demonstrate(demo: &Demo) -> Result<bool, DemoError> {
    let own = std::env::current_exe().map_err(|e| DemoError::Io("find the own program", e))?;
    let simulator = own.with_file_name("device-sim");
    if !simulator.is_file() {
        return Err(DemoError::NoSimulator(own));
    }
    let folder = Folder::new()?;
    scenario(demo, &simulator, &folder.path).await?;

    let mut broker = match &demo.broker {
        Some(_) => None,
        None => Some(Part::start(
            "the broker",
            Command::new(&simulator).arg("broker"),
        )?),
    };
    let broker_url = match (&demo.broker, &mut broker) {
        (Some(url), _) => url.clone(),
        (None, Some(part)) => part.text("broker").await?,
        (None, None) => unreachable!("there is a broker of either kind"),
    };
    let mut fleet = Part::start(
        "the fleet",
        &mut fleet_command(demo, &simulator, &folder.path),
    )?;
    let collector = fleet.text("otlp").await?;
    let config = write_config(&folder.path, demo, &broker_url, &collector)?;
    let mut node = Part::start(
        "the node",
        Command::new(&own).arg("run").arg("--config").arg(config),
    )?;
    let report = node.ready(&folder.path.join("state")).await?;

    let address = |name: &str| report.listeners.get(name).cloned().unwrap_or_default();
    let (tcp, udp) = (address("sensor:trackers"), address("sensor:trackers-udp"));
    let mut ports = Vec::new();
    ports.extend(demo.protocols.over_tcp().then(|| tcp.clone()));
    ports.extend(demo.protocols.over_udp().then(|| format!("{udp} (UDP)")));
    let mut say: Box<dyn Write> = if demo.json {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    let told = writeln!(
        say,
        "map      http://{}/\nmetrics  http://{}/metrics\nbroker   {broker_url}\ndevices  {} on {} {}",
        address("dispatcher"),
        address("observer"),
        demo.devices,
        ports.join(" and "),
        match &demo.r#for {
            Some(time) => format!("for {time}"),
            None => "until Ctrl-C".to_string(),
        },
    );
    told.map_err(|e| DemoError::Io("write to standard output", e))?;
    let targets = json!({
        "tcp": demo.protocols.over_tcp().then_some(tcp),
        "udp": demo.protocols.over_udp().then_some(udp),
        "stream": format!("ws://{}/v1/stream", address("dispatcher")),
        "mqtt": broker_url,
        "site": SITE,
        "node": NODE,
    });
    fleet.tell(&targets).await?;

    let summary = watch(&mut fleet, &mut node).await?;
    let drained = node.end().await?;
    if let Some(broker) = broker {
        broker.end().await?;
    }
    if !drained.success() {
        eprintln!("ringway: the node did not drain: {drained}");
    }
    let ok = summary["ok"] == json!(true) && drained.success();
    if demo.json {
        println!("{summary}");
    } else {
        println!("{}", verdict(&summary, ok));
    }
    Ok(ok)
}

/// Follows the fleet until it says how it ended. Ctrl-C ends it in order: no new reports, the last answers and
/// deliveries awaited.
async fn watch(fleet: &mut Part, node: &mut Part) -> Result<Value, DemoError> {
    let live = io::stderr().is_terminal();
    let mut summary = None;
    loop {
        tokio::select! {
            line = fleet.lines.next_line() => match line.map_err(|e| DemoError::Io("read from the fleet", e))? {
                Some(line) => {
                    let said: Value = serde_json::from_str(&line).map_err(|_| DemoError::Odd("the fleet", line))?;
                    match said.get("progress") {
                        Some(progress) if live => eprint!("\r\x1b[K{}", live_line(progress)),
                        Some(_) => {}
                        None => summary = Some(said),
                    }
                }
                None => break,
            },
            status = node.child.wait() => {
                let status = status.map_err(|e| DemoError::Io("wait for the node", e))?;
                return Err(DemoError::Ended("the node", status));
            }
            _ = tokio::signal::ctrl_c() => {
                if fleet.input.take().is_none() {
                    eprintln!("\nringway: ended at once");
                    return Ok(json!({"ok": false}));
                }
                eprintln!("\nringway: ending; waiting for the last answers (Ctrl-C again ends at once)");
            }
        }
    }
    if live {
        eprintln!();
    }
    let status = fleet
        .child
        .wait()
        .await
        .map_err(|e| DemoError::Io("wait for the fleet", e))?;
    summary.ok_or(DemoError::Ended("the fleet", status))
}

/// The figures of a progress or of the summary, which has the median among others.
fn live_line(progress: &Value) -> String {
    let p50 = progress
        .get("p50_ms")
        .unwrap_or(&progress["latency_ms"]["p50"]);
    let p50 = p50.as_f64().unwrap_or(0.0);
    let number = |key: &str| progress[key].as_f64().unwrap_or(0.0);
    format!(
        "reports {:.0} answered {:.0} | tracks {:.0} p50 {p50:.2} ms | alarms raised {:.0} delivered {:.0}",
        number("frames_sent"),
        number("frames_answered"),
        number("tracks_pushed"),
        number("alarms_raised"),
        number("alarms_delivered"),
    )
}

/// One line for each protocol, if there are several.
fn protocol_lines(summary: &Value) -> String {
    let protocols = summary["protocols"].as_object();
    let several = protocols.filter(|protocols| protocols.len() > 1);
    let line = |(name, share): (&String, &Value)| {
        let number = |key: &str| share[key].as_u64().unwrap_or(0);
        format!(
            "{name:<14} devices {} | reports {} answered {} | tracks {} | alarms raised {} delivered {}\n",
            number("devices"),
            number("frames_sent"),
            number("frames_answered"),
            number("tracks_pushed"),
            number("alarms_raised"),
            number("alarms_delivered"),
        )
    };
    several.into_iter().flatten().map(line).collect()
}

fn verdict(summary: &Value, ok: bool) -> String {
    format!(
        "{}{}\nlost {}, invented {}, duplicates {}; complete traces {}; latency p50 {} ms, p99 {} ms, max {} ms\n{}",
        protocol_lines(summary),
        live_line(summary),
        summary["lost"],
        summary["invented"],
        summary["duplicates"],
        summary["traces"],
        summary["latency_ms"]["p50"],
        summary["latency_ms"]["p99"],
        summary["latency_ms"]["max"],
        if ok {
            "ok: every alarm that had to be raised was delivered"
        } else {
            "NOT OK"
        },
    )
}

async fn scenario(demo: &Demo, simulator: &Path, folder: &Path) -> Result<(), DemoError> {
    let mut command = Command::new(simulator);
    command.arg("scenario").arg("--dir").arg(folder);
    command.arg("--seed").arg(demo.seed.to_string());
    command.arg("--devices").arg(demo.devices.to_string());
    if let Some(roads) = &demo.roads {
        command.arg("--roads").arg(roads);
    }
    let status = command.stdout(Stdio::null()).status().await;
    let status = status.map_err(|e| DemoError::Io("start the simulator", e))?;
    if status.success() {
        Ok(())
    } else {
        Err(DemoError::Ended("the scenario", status))
    }
}

fn fleet_command(demo: &Demo, simulator: &Path, folder: &Path) -> Command {
    let mut command = Command::new(simulator);
    command
        .args(["fleet", "--wait-targets", "--json", "--dir"])
        .arg(folder);
    command.arg("--seed").arg(demo.seed.to_string());
    command.arg("--devices").arg(demo.devices.to_string());
    command.arg("--protocols").arg(demo.protocols.0.join(","));
    if let Some(time) = &demo.r#for {
        let length = Millis::parse(time).expect("the command line checked it");
        command.arg("--for").arg(format!("{}ms", length.0));
    }
    command
}

/// Writes the node's configuration beside the scenario, which becomes its drop-in.
fn write_config(
    folder: &Path,
    demo: &Demo,
    broker: &str,
    collector: &str,
) -> Result<PathBuf, DemoError> {
    let io = |cause| DemoError::Io("write the configuration", cause);
    let config = folder.join("ringway.toml");
    let state = folder.join("state");
    let devices = demo.devices;
    let sensors = demo.protocols.sensors(devices);
    let text = format!(
        r#"[node]
site = "{SITE}"
name = "{NODE}"
state_dir = "{}"
devices_max = {devices}
{sensors}
[dispatcher]
listen = "127.0.0.1:0"
roads = "roads.json"

[observer]
listen = "127.0.0.1:0"

[uplink]
broker = "{broker}"

[trace]
endpoint = "{collector}"
"#,
        state.display()
    );
    std::fs::write(&config, text).map_err(io)?;
    std::fs::create_dir(folder.join("ringway.d")).map_err(io)?;
    std::fs::rename(
        folder.join("scenario.toml"),
        folder.join("ringway.d/scenario.toml"),
    )
    .map_err(io)?;
    Ok(config)
}

/// The temporary folder, removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Folder, DemoError> {
        let template = std::env::temp_dir().join("ringway-demo-XXXXXX");
        let path = nix::unistd::mkdtemp(&template)
            .map_err(|e| DemoError::Io("make a temporary folder", e.into()))?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is left to tell it to; the system clears its temporary folder.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A program of the demo. Each has a process group of its own, so that Ctrl-C reaches only the demo, which ends them
/// in order; dropped, it is killed.
struct Part {
    what: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    fn start(what: &'static str, command: &mut Command) -> Result<Part, DemoError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|e| DemoError::Io("start a part of the demo", e))?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("standard output is piped");
        Ok(Part {
            what,
            child,
            input,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The text under `key` in the first line that it says.
    async fn text(&mut self, key: &str) -> Result<String, DemoError> {
        let line = timeout(START_WAIT, self.lines.next_line());
        let line = line
            .await
            .map_err(|_| DemoError::Silent(self.what, START_WAIT))?;
        let Some(line) = line.map_err(|e| DemoError::Io("read from a part of the demo", e))? else {
            let status = self.child.wait().await;
            return Err(DemoError::Ended(
                self.what,
                status.map_err(|e| DemoError::Io("wait", e))?,
            ));
        };
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        said[key]
            .as_str()
            .map(String::from)
            .ok_or(DemoError::Odd(self.what, line))
    }

    async fn tell(&mut self, what: &Value) -> Result<(), DemoError> {
        let input = self
            .input
            .as_mut()
            .expect("nobody closed the standard input yet");
        let line = format!("{what}\n");
        input
            .write_all(line.as_bytes())
            .await
            .map_err(|e| DemoError::Io("tell the fleet its targets", e))
    }

    /// Waits until the node that uses `state_dir` is ready.
    async fn ready(&mut self, state_dir: &Path) -> Result<Report, DemoError> {
        let deadline = Instant::now() + START_WAIT;
        loop {
            if let Ok(report) = status::ask(state_dir)
                && report.state == "ready"
            {
                return Ok(report);
            }
            let ended = self
                .child
                .try_wait()
                .map_err(|e| DemoError::Io("wait for the node", e))?;
            if let Some(status) = ended {
                return Err(DemoError::Ended(self.what, status));
            }
            if Instant::now() > deadline {
                return Err(DemoError::Silent(self.what, START_WAIT));
            }
            sleep(READY_POLL).await;
        }
    }

    /// Ends it with TERM.
    async fn end(mut self) -> Result<ExitStatus, DemoError> {
        if let Some(pid) = self.child.id() {
            // It may have ended by itself just now.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
        let ended = timeout(END_WAIT, self.child.wait()).await;
        let ended = ended.map_err(|_| DemoError::Silent(self.what, END_WAIT))?;
        ended.map_err(|e| DemoError::Io("wait for a part of the demo", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_named_once_each_and_strangers_refused() {
        let named = |text| Spoken::parse(text).map(|spoken| spoken.0);
        assert_eq!(named("h02,jt808,h02"), Ok(vec!["jt808", "h02"]));
        assert_eq!(named("all"), Ok(PROTOCOLS.to_vec()));
        for bad in ["", "h02,", "all,h02", "tk103"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sensors_are_those_that_the_protocols_need() {
        let sensors = |text| Spoken::parse(text).unwrap().sensors(50);
        let one = sensors("jt808");
        assert!(one.contains("protocol = \"jt808\"\n") && !one.contains("udp"));
        let datagrams = sensors("teltonika-udp");
        assert!(datagrams.contains("input = \"udp\"\n") && !datagrams.contains("tcp"));
        let all = sensors("all");
        assert!(all.contains("protocol = \"auto\"\n") && all.contains("trackers-udp"));
        assert!(all.contains("connections_max = 150\n"), "{all}");
    }
}
