//! The two processes of a case: what each does between `go` and its result.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use benches::clock::{self, Nanos};
use benches::figure::Times;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike};
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::frame::{self, Checker};
use crate::raw::inherit;
use crate::transport::{BATCH_FRAMES, End, Mode, Reader, Transport, Writer};

/// Part of a window that is not measured: page faults, cold caches, a waiter that has not found its depth.
const WARM: Duration = Duration::from_millis(30);

/// Which side a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// It writes, or in a ping-pong begins.
    Writer,
    /// It reads, or answers.
    Reader,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// As much as goes, so many frames at a time.
    Throughput {
        /// Frames that the writer has at hand and the reader takes at most.
        batch: usize,
    },
    /// One frame there, one back, on two channels.
    Hop,
    /// So many frames a second, the reader asleep in between.
    Paced {
        /// Frames a second.
        rate: u64,
    },
}

/// An end of a channel, as it is passed on the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndSpec {
    /// Inherited descriptors.
    pub fds: Vec<i32>,
    /// What the channel says.
    pub text: String,
}

/// All that a child process has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the transport.
    pub transport: String,
    /// Which side it is.
    pub side: Side,
    /// What is measured.
    pub measure: Measure,
    /// How ends wait.
    pub mode: Mode,
    /// Bytes of a frame.
    pub size: usize,
    /// Length of the window.
    pub window: Duration,
    /// The core that it runs on.
    pub core: usize,
    /// The channel from writer to reader, and the one back.
    pub ends: Vec<EndSpec>,
}

/// What a process found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// Frames in the measured part.
    pub frames: u64,
    /// Its length.
    pub seconds: f64,
    /// Frames a second in the best tenth of short pieces of it: what goes while nobody else wants the cores.
    pub undisturbed: f64,
    /// Median and 99th percentile of one way, microseconds.
    pub hop_us: Option<(f64, f64)>,
    /// CPU time used in it, seconds, the pacing included.
    pub cpu_seconds: f64,
    /// Time that the writer spent in its calls, seconds. None of them waits while frames are paced.
    pub call_seconds: f64,
    /// Frames that were left out.
    pub lost: u64,
    /// Frames that were not whole.
    pub torn: u64,
    /// Frames that came again or late.
    pub repeated: u64,
}

impl Spec {
    fn end(&self, channel: usize) -> End {
        let end = &self.ends[channel];
        End {
            fds: end.fds.iter().map(|fd| inherit(*fd)).collect(),
            text: end.text.clone(),
            size: self.size,
            mode: self.mode,
        }
    }
}

/// Does one side of a case: opens its ends, says `ready`, waits for `go`, measures, says what it found, and keeps its
/// ends open until it is told to leave, since the other side may still be reading.
///
/// # Errors
/// When the transport fails.
pub fn run<T: Transport>(spec: &Spec) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(spec.core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)?;
    // Sleeps end when they should, not up to 50 us later.
    nix::sys::prctl::set_timerslack(1)?;
    match (spec.side, spec.measure) {
        (Side::Writer, Measure::Hop) => {
            // In this order on both sides: some transports connect when the second end opens.
            let mut there = T::writer(spec.end(0))?;
            let mut back = T::reader(spec.end(1))?;
            report(spec, |spec| ping(spec, &mut there, &mut back))
        }
        (Side::Reader, Measure::Hop) => {
            let mut there = T::reader(spec.end(0))?;
            let mut back = T::writer(spec.end(1))?;
            report(spec, |spec| pong(spec, &mut there, &mut back))
        }
        (Side::Writer, Measure::Throughput { batch }) => {
            let mut writer = T::writer(spec.end(0))?;
            report(spec, |spec| pour(spec, batch, &mut writer))
        }
        (Side::Reader, Measure::Throughput { batch }) => {
            let mut reader = T::reader(spec.end(0))?;
            report(spec, |_| drain(batch, &mut reader))
        }
        (Side::Writer, Measure::Paced { rate }) => {
            let mut writer = T::writer(spec.end(0))?;
            report(spec, |spec| pace(spec, rate, &mut writer))
        }
        (Side::Reader, Measure::Paced { rate }) => {
            let mut reader = T::reader(spec.end(0))?;
            report(spec, |_| listen(rate, &mut reader))
        }
    }
}

fn report(spec: &Spec, measure: impl FnOnce(&Spec) -> io::Result<Found>) -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    println!("ready");
    io::stdout().flush()?;
    if lines.next().transpose()?.as_deref() != Some("go") {
        return Err(io::Error::other("nobody said go"));
    }
    let found = measure(spec)?;
    println!("{}", serde_json::to_string(&found)?);
    io::stdout().flush()?;
    let _ = lines.next();
    Ok(())
}

/// Sends all of `frames`, asking again while there is no room.
fn send_all(writer: &mut impl Writer, mut frames: &[u8], size: usize) -> io::Result<()> {
    loop {
        let sent = writer.send(frames)?;
        frames = &frames[sent * size..];
        if frames.is_empty() {
            return Ok(());
        }
        std::hint::spin_loop();
    }
}

fn receive_one(reader: &mut impl Reader, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    // With a pause between two looks: a reader that takes the line away from the writer again and again makes the hop
    // longer by a third.
    while reader.receive(1, each)? == 0 {
        std::hint::spin_loop();
    }
    Ok(())
}

fn pour(spec: &Spec, batch: usize, writer: &mut impl Writer) -> io::Result<Found> {
    /// Frames between two looks at the clock.
    const LOOK_EVERY: u64 = 1024;
    let until = clock::now() + (WARM + spec.window).as_nanos() as Nanos;
    let mut frames = vec![0x5a; spec.size * batch];
    let mut seq = 0;
    while seq % LOOK_EVERY != 0 || clock::now() < until {
        for frame in frames.chunks_exact_mut(spec.size) {
            frame::write(frame, seq, 0);
            seq += 1;
        }
        send_all(writer, &frames, spec.size)?;
    }
    let last = &mut frames[..spec.size];
    frame::write_end(last, seq);
    send_all(writer, last, spec.size)?;
    Ok(Found::default())
}

fn drain(batch: usize, reader: &mut impl Reader) -> io::Result<Found> {
    /// Frames of a piece.
    const PIECE: u64 = 4096;
    let mut checker = Checker::default();
    receive_one(reader, &mut |frame| {
        checker.see(frame);
    })?;
    let warm = clock::now() + WARM.as_nanos() as Nanos;
    while clock::now() < warm && !checker.ended {
        reader.receive(batch, &mut |frame| {
            checker.see(frame);
        })?;
    }
    let (began, before) = (clock::now(), checker.frames);
    let mut pieces = Vec::new();
    let mut piece = (began, before);
    while !checker.ended {
        let came = reader.receive(batch, &mut |frame| {
            checker.see(frame);
        })?;
        if came == 0 {
            std::hint::spin_loop();
        }
        if checker.frames - piece.1 >= PIECE {
            let now = clock::now();
            pieces.push((checker.frames - piece.1) as f64 * 1e9 / (now - piece.0) as f64);
            piece = (now, checker.frames);
        }
    }
    pieces.sort_by(f64::total_cmp);
    Ok(Found {
        frames: checker.frames - before,
        seconds: (clock::now() - began) as f64 / 1e9,
        undisturbed: pieces.get(pieces.len() * 9 / 10).copied().unwrap_or(0.0),
        ..found(&checker)
    })
}

fn found(checker: &Checker) -> Found {
    Found {
        lost: checker.lost,
        torn: checker.torn,
        repeated: checker.repeated,
        ..Found::default()
    }
}

fn ping(spec: &Spec, there: &mut impl Writer, back: &mut impl Reader) -> io::Result<Found> {
    let mut bytes = vec![0x5a; spec.size];
    let mut checker = Checker::default();
    let began = clock::now();
    let warm = began + WARM.as_nanos() as Nanos;
    let until = warm + spec.window.as_nanos() as Nanos;
    let mut times: Vec<Nanos> = Vec::with_capacity(1 << 20);
    let mut before = began;
    let mut seq = 0;
    while before < until {
        frame::write(&mut bytes, seq, 0);
        seq += 1;
        before = clock::now();
        send_all(there, &bytes, spec.size)?;
        let mut came = 0;
        // A hop ends when the reader has the frame, not when it has given the room back.
        receive_one(back, &mut |frame| {
            checker.see(frame);
            came = clock::now();
        })?;
        if before >= warm && times.len() < times.capacity() {
            times.push((came - before) / 2);
        }
    }
    frame::write_end(&mut bytes, seq);
    send_all(there, &bytes, spec.size)?;
    Ok(Found {
        frames: times.len() as u64,
        seconds: spec.window.as_secs_f64(),
        hop_us: Times::of(times).map(|times| (times.p50, times.p99)),
        ..found(&checker)
    })
}

fn pong(spec: &Spec, there: &mut impl Reader, back: &mut impl Writer) -> io::Result<Found> {
    let mut checker = Checker::default();
    let mut sent = Ok(());
    while !checker.ended {
        // Answered first and freed then, as the product does it: outputs, state, head.
        receive_one(there, &mut |frame| {
            checker.see(frame);
            if !checker.ended {
                sent = send_all(back, frame, spec.size);
            }
        })?;
        std::mem::replace(&mut sent, Ok(()))?;
    }
    Ok(found(&checker))
}

/// The writer wakes this often and sends what is due, one call a frame: faster than that nobody can sleep.
const TICKS_A_SECOND: u64 = 10_000;

fn pace(spec: &Spec, rate: u64, writer: &mut impl Writer) -> io::Result<Found> {
    let mut bytes = vec![0x5a; spec.size];
    let a_tick = (rate / TICKS_A_SECOND).max(1);
    let period = 1_000_000_000 * a_tick / rate;
    let warm = warm_frames(rate);
    let frames = warm + (rate as f64 * spec.window.as_secs_f64()) as u64;
    let began = clock::now();
    let mut meter = Meter::start()?;
    let mut in_calls = 0;
    let mut seq = 0;
    while seq < frames {
        sleep_until(began + seq / a_tick * period)?;
        for _ in 0..a_tick {
            if seq == warm {
                (meter, in_calls) = (Meter::start()?, 0);
            }
            let before = clock::now();
            frame::write(&mut bytes, seq, before);
            seq += 1;
            send_all(writer, &bytes, spec.size)?;
            in_calls += clock::now() - before;
        }
    }
    let (seconds, cpu_seconds) = meter.read()?;
    frame::write_end(&mut bytes, seq);
    send_all(writer, &bytes, spec.size)?;
    Ok(Found {
        frames: seq - warm,
        seconds,
        cpu_seconds,
        call_seconds: in_calls as f64 / 1e9,
        ..Found::default()
    })
}

fn warm_frames(rate: u64) -> u64 {
    (rate as f64 * WARM.as_secs_f64()) as u64
}

fn sleep_until(at: Nanos) -> io::Result<()> {
    if at > clock::now() {
        let time = TimeSpec::new((at / 1_000_000_000) as i64, (at % 1_000_000_000) as i64);
        let flags = ClockNanosleepFlags::TIMER_ABSTIME;
        clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &time)?;
    }
    Ok(())
}

fn listen(rate: u64, reader: &mut impl Reader) -> io::Result<Found> {
    let warm = warm_frames(rate);
    let mut checker = Checker::default();
    let mut times = Vec::new();
    let mut meter: Option<Meter> = None;
    while !checker.ended {
        reader.receive(BATCH_FRAMES, &mut |frame| {
            let sent = checker.see(frame);
            if checker.frames > warm && !checker.ended {
                times.push(clock::now().saturating_sub(sent));
            }
        })?;
        if meter.is_none() && checker.frames > warm {
            meter = Some(Meter::start()?);
        }
    }
    let used = meter.map_or(Ok((0.0, 0.0)), |meter| meter.read())?;
    Ok(Found {
        frames: times.len() as u64,
        seconds: used.0,
        cpu_seconds: used.1,
        hop_us: Times::of(times).map(|times| (times.p50, times.p99)),
        ..found(&checker)
    })
}

/// Time and CPU time of this process from a moment on.
struct Meter {
    at: Nanos,
    cpu_us: i64,
}

impl Meter {
    fn start() -> io::Result<Meter> {
        Ok(Meter {
            at: clock::now(),
            cpu_us: cpu_us()?,
        })
    }

    fn read(&self) -> io::Result<(f64, f64)> {
        let seconds = (clock::now() - self.at) as f64 / 1e9;
        Ok((seconds, (cpu_us()? - self.cpu_us) as f64 / 1e6))
    }
}

fn cpu_us() -> io::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| time.num_microseconds();
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}
