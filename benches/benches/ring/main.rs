//! The ring beside every other transport, in one run: two processes, each on a core of its own, move frames that carry
//! their sequence, and every frame is checked where it arrives.
//!
//! `catalogue` names the transports; each is a file of its own or shares one with its kin (`stream`, `packet`, `shared`,
//! `iceoryx`, `ours`), all behind one `transport` trait; `raw` is what needs `unsafe`. `pair` starts the two processes
//! of a case, this program again; `side` is what each of them does. `handoff` and `alone` measure the machine and the
//! instructions, `residue` kills. `sheet` makes tables of it.

mod alone;
mod catalogue;
mod commit;
mod frame;
mod handoff;
mod iceoryx;
mod ours;
mod packet;
mod pair;
mod raw;
mod residue;
mod shared;
mod sheet;
mod side;
mod stream;
mod transport;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::{chart, usage};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use catalogue::{KINDS, Kind};
use pair::{Case, Pair};
use sheet::{GOAL_BYTES, Sheet, name};
use side::{Found, Measure};
use transport::{BATCH_FRAMES, Mode};

/// Rates at which frames are paced.
const RATES: [u64; 2] = [10_000, 100_000];

/// Lines of docs/ring.md between which the tables stand.
const BLOCK: (&str, &str) = ("<!-- figures: begin -->", "<!-- figures: end -->");

/// Measures the ring beside every other transport. Prints tables and writes target/bench/ring.json and ring.svg.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// A smoke test of a few seconds: one short repetition of everything, 128 bytes only; writes nothing.
    #[arg(long)]
    quick: bool,
    /// Only this transport, named as in the tables; may be repeated.
    #[arg(long, value_parser = PossibleValuesParser::new(KINDS.iter().map(|kind| kind.name)))]
    only: Vec<String>,
    /// Repetitions; each figure is their median.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Also writes the tables into docs/ring.md and the picture to docs/images/ring.svg: of a whole run only.
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    docs: bool,
    /// Said by cargo; without it, as under `cargo test`, this is the smoke test.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// One side of a case, as a process of its own.
    #[command(hide = true)]
    Side {
        /// What it has to know, as JSON.
        spec: String,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.verb {
        Some(Verb::Side { spec }) => serde_json::from_str(spec)
            .map_err(io::Error::other)
            .and_then(|spec| catalogue::run(&spec)),
        None => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How long things take.
struct Plan {
    repetitions: u32,
    pouring: Duration,
    hopping: Duration,
    pacing: Duration,
    sizes: &'static [usize],
    passes_alone: usize,
    lock_attempts: u32,
}

impl Plan {
    fn of(args: &Args) -> Plan {
        if args.quick || !args.bench {
            let short = Duration::from_millis(20);
            return Plan {
                repetitions: 1,
                pouring: short,
                hopping: short,
                pacing: short,
                sizes: &[GOAL_BYTES],
                passes_alone: 20,
                lock_attempts: 1,
            };
        }
        Plan {
            repetitions: args.repetitions,
            pouring: Duration::from_millis(200),
            hopping: Duration::from_millis(200),
            pacing: Duration::from_millis(500),
            sizes: &[64, GOAL_BYTES, 256],
            passes_alone: 4_000,
            lock_attempts: 10,
        }
    }
}

/// A run: where it measures, and what it found so far.
struct Run {
    plan: Plan,
    cores: [usize; 2],
    folder: tempfile::TempDir,
    sheet: Sheet,
}

fn measure(args: &Args) -> io::Result<()> {
    let plan = Plan::of(args);
    let smoke = args.quick || !args.bench;
    let Some(cores) = two_cores()? else {
        eprintln!("ring: SKIPPED, two cores are needed and this process may use one only");
        return Ok(());
    };
    let mut run = Run {
        plan,
        cores,
        folder: tempfile::tempdir()?,
        sheet: Sheet::default(),
    };
    let wanted =
        |kind: &&Kind| args.only.is_empty() || args.only.iter().any(|only| only == kind.name);
    let kinds: Vec<&Kind> = KINDS.iter().filter(wanted).collect();
    let (began, busy) = (Instant::now(), Busy::now()?);
    // Repetitions outside, transports inside, so that a machine that changes its pace changes it for all.
    for repetition in 1..=run.plan.repetitions {
        eprintln!("repetition {repetition} of {}", run.plan.repetitions);
        run.machine()?;
        for kind in &kinds {
            run.throughput(kind);
            run.hops(kind);
            run.paced(kind);
            run.alone(kind);
        }
    }
    for kind in kinds.iter().filter(|kind| !kind.one_size) {
        run.left_behind(kind);
    }
    residue::sweep()?;
    let (elapsed, others) = (began.elapsed(), busy.others()?);
    let mut sheet = run.sheet;
    sheet.notes.push(format!(
        "{} repetitions, {:.0} s; {:.2} cores were busy with something else on average.",
        run.plan.repetitions,
        elapsed.as_secs_f64(),
        others / elapsed.as_secs_f64()
    ));
    sheet.notes.push(machine()?);
    if args.json {
        println!("{:#}", sheet.json());
    } else if smoke {
        println!("{}", sheet.remarks());
    } else {
        println!("{}", sheet.tables());
    }
    if smoke {
        // Peers may do as they like on a machine that is busy testing; ours may not.
        let wanted = kinds.iter().any(|kind| kind.name == "ours");
        return match sheet.has_trouble("ours") || wanted && !sheet.is_complete("ours") {
            true => Err(io::Error::other("the ring failed its smoke test")),
            false => Ok(()),
        };
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    write_out(&root, &sheet, args.docs)
}

fn write_out(root: &Path, sheet: &Sheet, docs: bool) -> io::Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let out = target.join("bench");
    fs::create_dir_all(&out)?;
    let svg = chart::draw(&sheet.panels());
    fs::write(
        out.join("ring.json"),
        serde_json::to_vec_pretty(&sheet.json())?,
    )?;
    fs::write(out.join("ring.svg"), &svg)?;
    if !docs {
        return Ok(());
    }
    fs::write(root.join("docs/images/ring.svg"), &svg)?;
    let page = root.join("docs/ring.md");
    let text = fs::read_to_string(&page)?;
    let parts = text
        .split_once(BLOCK.0)
        .and_then(|(before, rest)| Some((before, rest.split_once(BLOCK.1)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other("docs/ring.md has no block"))?;
    let tables = sheet.tables();
    let (begin, end) = BLOCK;
    fs::write(page, format!("{before}{begin}\n\n{tables}\n{end}{after}"))
}

impl Run {
    fn case(&self, kind: &Kind, measure: Measure, mode: Mode, size: usize) -> Case {
        let window = match measure {
            Measure::Throughput { .. } => self.plan.pouring,
            Measure::Hop => self.plan.hopping,
            Measure::Paced { .. } => self.plan.pacing,
        };
        Case {
            transport: kind.name,
            measure,
            mode,
            size,
            window,
        }
    }

    /// Runs a case; what goes wrong with it is noted.
    fn run(&mut self, case: &Case) -> Option<(Found, Found)> {
        let create = || catalogue::create(case.transport, self.folder.path(), case.size);
        let found =
            Pair::start(case, self.cores, create).and_then(|mut pair| pair.run(case.window));
        let what = format!("({:?}, {:?}, {} bytes)", case.measure, case.mode, case.size);
        match found {
            Ok((writer, reader)) => {
                for found in [&writer, &reader] {
                    let Found {
                        lost,
                        torn,
                        repeated,
                        ..
                    } = found;
                    if lost + torn + repeated > 0 {
                        let wrong =
                            format!("loses {lost}, tears {torn}, repeats {repeated} {what}");
                        self.sheet.trouble(case.transport, wrong);
                    }
                }
                Some((writer, reader))
            }
            Err(failure) => {
                self.sheet
                    .trouble(case.transport, format!("{failure} {what}"));
                None
            }
        }
    }

    fn throughput(&mut self, kind: &Kind) {
        let Some(mode) = kind.pouring else { return };
        for &size in self.plan.sizes {
            if kind.one_size && size != GOAL_BYTES {
                continue;
            }
            for (batch, figure) in [(1, name::ONE), (BATCH_FRAMES, name::BATCHED)] {
                let case = self.case(kind, Measure::Throughput { batch }, mode, size);
                let Some((_, reader)) = self.run(&case) else {
                    continue;
                };
                let rate = reader.frames as f64 / reader.seconds / 1e6;
                self.sheet.note(kind.name, figure, size as u64, rate);
                if batch > 1 {
                    let best = reader.undisturbed / 1e6;
                    self.sheet
                        .note(kind.name, name::UNDISTURBED, size as u64, best);
                }
            }
        }
    }

    fn hops(&mut self, kind: &Kind) {
        if !kind.hops {
            return;
        }
        for (mode, p50, p99) in [
            (Mode::Poll, name::POLLED_P50, name::POLLED_P99),
            (Mode::Sleep, name::ASLEEP_P50, name::ASLEEP_P99),
        ] {
            let case = self.case(kind, Measure::Hop, mode, GOAL_BYTES);
            if let Some((writer, _)) = self.run(&case)
                && let Some(hop) = writer.hop_us
            {
                self.sheet.note(kind.name, p50, GOAL_BYTES as u64, hop.0);
                self.sheet.note(kind.name, p99, GOAL_BYTES as u64, hop.1);
            }
        }
    }

    fn paced(&mut self, kind: &Kind) {
        if !kind.paced {
            return;
        }
        for rate in RATES {
            let case = self.case(kind, Measure::Paced { rate }, Mode::Sleep, GOAL_BYTES);
            let Some((writer, reader)) = self.run(&case) else {
                continue;
            };
            let a_frame = |seconds: f64| seconds * 1e6 / writer.frames as f64;
            let cpu = a_frame(writer.call_seconds + reader.cpu_seconds);
            let all = a_frame(writer.cpu_seconds + reader.cpu_seconds);
            self.sheet.note(kind.name, name::CPU, rate, cpu);
            self.sheet.note(kind.name, name::CPU_ALL, rate, all);
            if let Some(hop) = reader.hop_us {
                self.sheet.note(kind.name, name::PACED_P50, rate, hop.0);
                self.sheet.note(kind.name, name::PACED_P99, rate, hop.1);
            }
        }
    }

    fn alone(&mut self, kind: &Kind) {
        if kind.pouring != Some(Mode::Poll) {
            return;
        }
        let folder = self.folder.path();
        let passes = self.plan.passes_alone;
        let (write, read) = match catalogue::alone(kind.name, folder, GOAL_BYTES, passes) {
            Ok(times) => times,
            Err(error) => return self.sheet.trouble(kind.name, error.to_string()),
        };
        let of = GOAL_BYTES as u64;
        self.sheet.note(kind.name, name::ALONE_WRITE, of, write);
        self.sheet.note(kind.name, name::ALONE_READ, of, read);
    }

    fn machine(&mut self) -> io::Result<()> {
        let case = self.case(&catalogue::LINE, Measure::Hop, Mode::Poll, 64);
        if let Some((writer, _)) = self.run(&case)
            && let Some(hop) = writer.hop_us
        {
            self.sheet.note("machine", name::LINE, 0, hop.0);
        }
        self.sheet
            .note("machine", name::READ, 0, handoff::small_read()?);
        Ok(())
    }

    fn left_behind(&mut self, kind: &Kind) {
        let mode = kind.pouring.unwrap_or(Mode::Sleep);
        let mut case = self.case(kind, Measure::Throughput { batch: 1 }, mode, GOAL_BYTES);
        case.window = Duration::from_secs(10);
        for (kill_reader, killed) in [(true, "reader"), (false, "writer")] {
            // Whether a lock is held at the instant of the kill is luck.
            let attempts = match kind.name {
                "mutex file" => self.plan.lock_attempts,
                _ => 1,
            };
            for attempt in 1..=attempts {
                let folder = self.folder.path();
                match residue::after_kill(&case, self.cores, folder, kill_reader) {
                    Ok(then) if attempt == attempts || then.contains("lock held") => {
                        self.sheet.left.push((kind.name, killed, then));
                        break;
                    }
                    Ok(_) => {}
                    Err(failure) => {
                        self.sheet.trouble(kind.name, failure.to_string());
                        break;
                    }
                }
            }
        }
    }
}

/// The first two cores that this process may use.
fn two_cores() -> io::Result<Option<[usize; 2]>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    Ok(cores.next().zip(cores.next()).map(|(a, b)| [a, b]))
}

/// How busy everybody but this run is.
struct Busy {
    machine_ns: u64,
    ours_ns: u64,
}

impl Busy {
    fn now() -> io::Result<Busy> {
        let mut ours_ns = 0;
        for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
            let used = getrusage(who)?;
            let micros =
                used.user_time().num_microseconds() + used.system_time().num_microseconds();
            ours_ns += micros as u64 * 1_000;
        }
        Ok(Busy {
            machine_ns: usage::machine_busy_ns()?,
            ours_ns,
        })
    }

    /// Seconds of others since.
    fn others(&self) -> io::Result<f64> {
        let now = Busy::now()?;
        let ours = now.ours_ns - self.ours_ns;
        Ok((now.machine_ns - self.machine_ns).saturating_sub(ours) as f64 / 1e9)
    }
}

/// What the machine is.
fn machine() -> io::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // The policy is the 41st field; the second, a name, may contain anything but ends with the last parenthesis.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let priority = match fields.split_whitespace().nth(38) {
        Some("0") => "",
        _ => " With real-time priority, since others wanted the cores too.",
    };
    Ok(format!(
        "{}, {} cores, Linux {}.{priority}",
        model.unwrap_or("unknown processor"),
        std::thread::available_parallelism()?,
        kernel.trim().split(['-', '+']).next().unwrap_or_default()
    ))
}
