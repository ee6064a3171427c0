//! One case: a peer under a load for a while, with the control beside it.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::clock::{self, Nanos, Sent};
use crate::control;
use crate::figure::Times;
use crate::fleet::{Fleet, Outcome};
use crate::receiver::{Arrival, Receiver};
use crate::schedule::Schedule;
use crate::usage::{self, Meter, Process, Used};

/// From the end of the preparations to the first message.
const LEAD: Duration = Duration::from_millis(20);

/// Messages that are not at the subscriber by then, after the last answer, count as missing.
const ARRIVALS_WITHIN: Duration = Duration::from_secs(1);

/// How much, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Name in the report.
    pub name: &'static str,
    /// Devices.
    pub devices: u32,
    /// Each sends once in this.
    pub period: Duration,
    /// Before the measured window.
    pub warm: Duration,
    /// The measured window.
    pub measured: Duration,
}

/// What a case showed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// From the device's socket to the subscriber.
    pub through: Option<Times>,
    /// From the device's socket to the answer.
    pub answer: Option<Times>,
    /// How late the bare timer was.
    pub timer: Option<Times>,
    /// How late the fleet itself was.
    pub late: Option<Times>,
    /// Messages sent.
    pub sent: u64,
    /// Messages answered.
    pub answered: u64,
    /// Messages that came to the subscriber.
    pub delivered: u64,
    /// Messages that were replaced by later ones on their way to the subscriber.
    pub conflated: u64,
    /// CPU of each process, microseconds a message.
    pub cpu_us: Vec<(String, f64)>,
    /// Memory of each process at the end of the window, bytes.
    pub pss_bytes: Vec<(String, u64)>,
    /// CPUs that everything else on the machine kept busy.
    pub others_cores: f64,
}

/// Runs a connected fleet.
///
/// # Errors
/// When a connection fails or a measured process is gone.
pub fn measure(
    load: Load,
    fleet: &mut Fleet,
    sent: &Sent,
    receiver: Option<&Receiver>,
    processes: &[Process],
    seed: u64,
) -> io::Result<Shown> {
    let nanos = |duration: Duration| duration.as_nanos() as Nanos;
    let start = clock::now() + nanos(LEAD);
    let lasting = load.warm + load.measured;
    let schedule = Schedule::new(start, load.devices, load.period, lasting, seed);
    let window = start + nanos(load.warm)..start + nanos(lasting);
    let (outcome, timer, (used, pss_bytes)) = thread::scope(|scope| {
        let control = scope.spawn(|| control::run(&schedule, window.clone()));
        let fleet = scope.spawn(|| fleet.run(&schedule, window.clone(), sent));
        let usage = watch(processes, &window);
        let outcome = fleet.join().expect("the fleet does not panic")?;
        let timer = control.join().expect("the control does not panic")?;
        io::Result::Ok((outcome, timer, usage?))
    })?;
    let arrivals = arrivals(receiver, &window, outcome.sent);
    let Outcome { sent, .. } = outcome;
    let cpu_us = used
        .cpu_ns
        .into_iter()
        .map(|(name, used)| (name, used as f64 / 1_000.0 / sent.max(1) as f64));
    Ok(Shown {
        delivered: arrivals.len() as u64,
        through: Times::of(arrivals.iter().map(|arrival| arrival.took).collect()),
        answer: Times::of(outcome.answers),
        timer: Times::of(timer),
        late: Times::of(outcome.late),
        sent,
        answered: outcome.answered,
        conflated: receiver.map_or(0, |receiver| {
            receiver.arrivals.conflated.load(Ordering::Relaxed)
        }),
        cpu_us: cpu_us.collect(),
        pss_bytes,
        others_cores: used.others_cores,
    })
}

/// What processes used in the window, and their memory at its end.
fn watch(processes: &[Process], window: &Range<Nanos>) -> io::Result<(Used, Vec<(String, u64)>)> {
    let sleep_until = |time: Nanos| {
        thread::sleep(Duration::from_nanos(time.saturating_sub(clock::now())));
    };
    sleep_until(window.start);
    let meter = Meter::start(processes)?;
    sleep_until(window.end);
    let used = meter.read()?;
    let mut memory = Vec::new();
    for process in processes {
        memory.push((process.name.clone(), usage::pss_bytes(process.pid)?));
    }
    Ok((used, memory))
}

/// What came to the subscriber of what was sent in the window.
fn arrivals(receiver: Option<&Receiver>, window: &Range<Nanos>, expected: u64) -> Vec<Arrival> {
    let Some(receiver) = receiver else {
        return Vec::new();
    };
    let deadline = clock::now() + ARRIVALS_WITHIN.as_nanos() as Nanos;
    let mut arrivals = Vec::new();
    while (arrivals.len() as u64) < expected && clock::now() < deadline {
        thread::sleep(Duration::from_millis(10));
        let came = receiver.arrivals.take().into_iter();
        arrivals.extend(came.filter(|arrival| window.contains(&arrival.sent)));
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::flood::{self, Flood};
    use crate::wire::{PLAIN_ANSWER_BYTES, PLAIN_MESSAGE_BYTES, Plain};

    /// Answers each plain message, a thread a connection; the threads end with their clients.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut message = [0; PLAIN_MESSAGE_BYTES];
                    while stream.read_exact(&mut message).is_ok() {
                        stream.write_all(&[0; PLAIN_ANSWER_BYTES]).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn every_message_of_a_window_is_answered_and_timed_once() {
        let load = Load {
            name: "test",
            devices: 30,
            period: Duration::from_millis(20),
            warm: Duration::from_millis(40),
            measured: Duration::from_millis(200),
        };
        let this = Process {
            name: "test".to_owned(),
            pid: std::process::id(),
        };
        let sent = Sent::new(load.devices);
        let mut fleet = Fleet::connect(&Plain, server(), load.devices).unwrap();
        let shown = measure(load, &mut fleet, &sent, None, &[this], 1).unwrap();
        // A message that is due in the window may be sent after it.
        assert!((1..=300).contains(&shown.sent), "{shown:?}");
        assert_eq!(shown.answered, shown.sent);
        assert!(shown.answer.is_some() && shown.timer.is_some() && shown.through.is_none());
        assert_eq!((shown.cpu_us.len(), shown.pss_bytes.len()), (1, 1));
    }

    #[test]
    fn a_flood_is_answered_to_the_last_message() {
        let plan = flood::Plan {
            connections: 3,
            messages: 2_000,
            window: 300,
        };
        let outcome = Flood::prepare(&Plain, server(), plan)
            .unwrap()
            .run()
            .unwrap();
        assert_eq!((outcome.answered, outcome.unanswered), (6_000, 0));
    }
}
