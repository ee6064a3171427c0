//! A run: the devices, the subscribers that watch what becomes of their reports, and the verdict at the end.
//!
//! All devices are tasks of the current runtime and cost no thread. A run ends in order: no new reports, then a wait
//! until everything is answered and delivered or the grace is over, then the check.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::checker::{self, Check, Wanted};
use crate::crew::{Carrier, Crew, Protocol, Target};
use crate::device::HangUp;
use crate::ledger::Ledger;
use crate::link;
use crate::roads::Roads;
use crate::scenario::{COURSE_KINDS, KINDS, SHOW_S, Scenario};
use crate::schedule::{Pace, Schedule};
use crate::sink::Traces;
use crate::subscriber::{self, Seen};
use crate::tls::Trust;

/// Most devices of a fleet.
pub const DEVICES_MAX: u32 = 1_000_000;
/// Connections that may be coming about at a time.
const CONNECTING_MAX: usize = 128;
/// What subscribers saw and is not entered yet; beyond, they wait and the sender's buffers fill.
const SEEN_MAX: usize = 65_536;
/// How long the fleet waits for its subscribers before it starts all the same.
const SUBSCRIBERS_READY: Duration = Duration::from_secs(10);
/// First connections are spread so that this many begin in a second.
const CONNECTS_A_SECOND: f64 = 5_000.0;
/// Traces and the last positions may come this long after everything else.
const TAIL: Duration = Duration::from_secs(3);
/// A run of at least this length has each kind of alarm.
const SHOW: Duration = Duration::from_secs(SHOW_S as u64 + 2);
/// How often the end of the run is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides vehicles, scenario and quirks.
    pub seed: u64,
    /// How many devices.
    pub devices: u32,
    /// How fast they report.
    pub pace: Pace,
    /// How long they make reports; `None`: until stopped.
    pub length: Option<Duration>,
    /// What they speak, in turn.
    pub protocols: Vec<Protocol>,
    /// Where they connect to.
    pub target: Target,
    /// Whom connections trust; `None`: they use no TLS.
    pub trust: Option<Trust>,
    /// The live stream, such as `ws://127.0.0.1:8080/v1/stream`.
    pub stream: Option<String>,
    /// The broker, such as `mqtt://127.0.0.1:1883`.
    pub mqtt: Option<String>,
    /// Topic filter of the alarms.
    pub topic: String,
    /// The collector that the runtime sends traces to.
    pub traces: Option<Traces>,
    /// A new file for the ledger.
    pub ledger: Option<PathBuf>,
    /// How long everything may take to be answered and delivered at the end.
    pub grace: Duration,
    /// First timeout of an answer; later ones are longer.
    pub answer_timeout: Duration,
    /// Additional presses of the button, about one in so many seconds for each device.
    pub sos_every_s: Option<u32>,
}

impl Options {
    /// So many devices of JT/T 808 at one report a second to `target`, without end and without subscribers.
    pub fn new(seed: u64, devices: u32, target: SocketAddr) -> Options {
        Options {
            seed,
            devices,
            pace: Pace::Clock {
                rate: 1.0,
                speed: 1.0,
            },
            length: None,
            protocols: vec![Protocol::Jt808],
            target: Target {
                tcp: target,
                udp: None,
            },
            trust: None,
            stream: None,
            mqtt: None,
            topic: "ringway/v1/+/+/alarm/#".into(),
            traces: None,
            ledger: None,
            grace: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
            sos_every_s: None,
        }
    }

    /// What a run that lasts long enough is to show.
    fn wanted(&self, crew: &Crew, scenario: &Scenario) -> Wanted {
        let stated = |of: &Protocol| {
            let own = (0..crew.devices()).filter(|&device| crew.protocol(device) == *of);
            let said = of.vocabulary().said;
            let mut kinds: Vec<_> = own
                .flat_map(|device| scenario.stated(device, said))
                .collect();
            kinds.sort_unstable();
            kinds.dedup();
            (of.name(), kinds)
        };
        let mut protocols: Vec<_> = crew.protocols().iter().map(stated).collect();
        let said = |kind: &&str| {
            let mut stated = protocols.iter().flat_map(|(_, kinds)| kinds);
            COURSE_KINDS.contains(kind) || stated.any(|stated| stated == kind)
        };
        let mut kinds: Vec<_> = KINDS.into_iter().filter(said).collect();
        if !matches!(self.pace, Pace::Clock { .. }) {
            kinds.clear();
            protocols.iter_mut().for_each(|(_, kinds)| kinds.clear());
        }
        if protocols.len() == 1 {
            // All that is wanted of it is wanted of the fleet.
            protocols.clear();
        }
        Wanted {
            tracks: self.stream.is_some(),
            alarms: self.mqtt.is_some(),
            traces: self.traces.is_some() && self.mqtt.is_some(),
            kinds,
            protocols,
        }
    }

    /// Why these options make no fleet, if they do not.
    fn refusal(&self) -> Option<FleetError> {
        let spoken = self.protocols.len().max(1);
        if self.devices == 0 || self.devices > DEVICES_MAX {
            return Some(FleetError::Devices(self.devices));
        }
        if (self.devices as usize) < spoken {
            return Some(FleetError::TooFew(self.devices, spoken));
        }
        match self.pace {
            Pace::Clock { rate, speed } => {
                let good = |number: f64| number > 0.0 && number.is_finite();
                if !good(rate) || !good(speed) {
                    return Some(FleetError::Pace { rate, speed });
                }
            }
            Pace::Pipelined(_) => {
                let silent = self.protocols.iter().find(|protocol| !protocol.answers(0));
                if let Some(&silent) = silent {
                    return Some(FleetError::Unanswered(silent));
                }
            }
        }
        let datagrams = |protocol: &&Protocol| protocol.carrier() == Carrier::Udp;
        match (self.target.udp, self.protocols.iter().find(datagrams)) {
            (None, Some(&protocol)) => Some(FleetError::NoTarget(protocol)),
            _ => None,
        }
    }
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Too few or too many devices.
    #[error("cannot run a fleet of {0} devices: expected 1 to {DEVICES_MAX}")]
    Devices(u32),
    /// Fewer devices than protocols.
    #[error("cannot spread {0} devices over {1} protocols")]
    TooFew(u32, usize),
    /// Pipelined reports in a protocol that does not answer them.
    #[error("cannot pipeline reports of {0}: nobody answers them")]
    Unanswered(Protocol),
    /// A protocol over UDP, and no target for datagrams.
    #[error("cannot send {0}: no target for datagrams")]
    NoTarget(Protocol),
    /// A rate or speed that is no positive number.
    #[error(
        "cannot report {rate} times a second at {speed} times the speed: expected positive numbers"
    )]
    Pace {
        /// Reports a second.
        rate: f64,
        /// Times the clock's speed.
        speed: f64,
    },
    /// The ledger's file exists or cannot be made.
    #[error("cannot create ledger {path:?}: {cause}")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The broker's address is none.
    #[error(transparent)]
    Broker(#[from] subscriber::UrlError),
}

/// Figures while a run lasts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Seconds since the start.
    pub seconds: u64,
    /// Devices that are logged in.
    pub online: u32,
    /// Reports sent.
    pub frames_sent: u64,
    /// ... and answered.
    pub frames_answered: u64,
    /// Reports seen on the stream.
    pub tracks_pushed: u64,
    /// Raises and clears that reports mean.
    pub alarms_raised: u64,
    /// Different alarms that came by MQTT.
    pub alarms_delivered: u64,
    /// Median latency from a report to the stream's subscriber, ms.
    pub p50_ms: Option<f64>,
    /// Its 99th percentile, ms.
    pub p99_ms: Option<f64>,
}

/// What all devices share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub seed: u64,
    pub crew: Crew,
    pub roads: Roads,
    pub scenario: Scenario,
    pub schedule: Schedule,
    pub ledger: Ledger,
    pub target: Target,
    pub trust: Option<Trust>,
    pub answer_timeout_ms: u64,
    pub connecting: Semaphore,
    epoch: Instant,
    stopping: AtomicBool,
    stopped: OnceLock<Instant>,
    made: AtomicU64,
    online: AtomicU32,
    hang_ups: Mutex<Option<(u64, HangUp)>>,
}

/// A running fleet. Dropped, it ends at once.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    wanted: Wanted,
    traces: Option<Traces>,
    length: Option<Duration>,
    grace: Duration,
    /// Devices and subscribers; they end with it.
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Starts subscribers, waits a while for them, and starts the devices on the current runtime.
    ///
    /// # Errors
    /// When the options make no fleet or the ledger's file cannot be made.
    pub async fn start(roads: Roads, options: Options) -> Result<Fleet, FleetError> {
        if let Some(refusal) = options.refusal() {
            return Err(refusal);
        }
        let crew = Crew::new(options.devices, &options.protocols);
        let scenario = Scenario::new(options.seed, options.devices, options.sos_every_s, &roads);
        let ledger = Ledger::of(crew.clone(), scenario.rules().clone());
        if let Some(path) = &options.ledger {
            let failed = |cause| FleetError::Ledger {
                path: path.clone(),
                cause,
            };
            ledger.keep_in(path).map_err(failed)?;
        }
        let mut tasks = JoinSet::new();
        watch_ends(&options, &ledger, &mut tasks).await?;
        let (started, start_s) = next_second();
        let wanted = options.wanted(&crew, &scenario);
        let shared = Arc::new(Shared {
            seed: options.seed,
            crew,
            roads,
            scenario,
            schedule: Schedule::new(
                options.pace,
                options.devices,
                options.length,
                started,
                start_s,
            ),
            ledger,
            target: options.target,
            trust: options.trust,
            answer_timeout_ms: options.answer_timeout.as_millis() as u64,
            connecting: Semaphore::new(CONNECTING_MAX),
            epoch: Instant::now(),
            stopping: AtomicBool::new(false),
            stopped: OnceLock::new(),
            made: AtomicU64::new(0),
            online: AtomicU32::new(0),
            hang_ups: Mutex::new(None),
        });
        for index in 0..options.devices {
            let after = Duration::from_secs_f64(f64::from(index) / CONNECTS_A_SECOND);
            tasks.spawn(link::serve(Arc::clone(&shared), index, after));
        }
        Ok(Fleet {
            shared,
            wanted,
            traces: options.traces,
            length: options.length,
            grace: options.grace,
            _tasks: tasks,
        })
    }

    /// The evidence so far.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The figures so far.
    pub fn progress(&self) -> Progress {
        let counts = self.shared.ledger.counts();
        let [p50_ms, p99_ms, _] = self.shared.ledger.latency_ms();
        let since = Instant::now().saturating_duration_since(self.shared.schedule.started());
        Progress {
            seconds: since.as_secs(),
            online: self.shared.online.load(Ordering::Relaxed),
            frames_sent: counts.sent,
            frames_answered: counts.answered,
            tracks_pushed: counts.tracked,
            alarms_raised: counts.expected,
            alarms_delivered: counts.delivered,
            p50_ms,
            p99_ms,
        }
    }

    /// How often devices gave a connection up, and why last.
    pub fn hang_ups(&self) -> Option<(u64, HangUp)> {
        *self
            .shared
            .hang_ups
            .lock()
            .expect("nobody panics while counting")
    }

    /// Waits until the stated length of the run is over; for ever without one.
    pub async fn lasts(&self) {
        match self.length {
            Some(length) => sleep_until(self.shared.schedule.started() + length).await,
            None => std::future::pending().await,
        }
    }

    /// From now on no device makes a report; what is unanswered is still sent.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.stopped.get_or_init(Instant::now);
    }

    /// Whether everything made is sent and answered as far as it must be, and everything that must be delivered is.
    pub fn settled(&self) -> bool {
        let counts = self.shared.ledger.counts();
        let made = self.shared.made.load(Ordering::Relaxed);
        let answered = counts.sent == made && counts.answered == counts.kept;
        answered && (!self.wanted.alarms || self.shared.ledger.outstanding() == 0)
    }

    /// Stops, waits until all is settled or the grace is over, and judges.
    pub async fn finish(self) -> Check {
        self.settle().await;
        self.check()
    }

    /// Stops, and waits until all is settled or the grace is over.
    pub async fn settle(&self) {
        self.stop();
        let over = Instant::now() + self.grace;
        while !self.settled() && Instant::now() < over {
            sleep(LOOK).await;
        }
        let over = over.min(Instant::now() + TAIL);
        while !self.tail_came() && Instant::now() < over {
            sleep(2 * LOOK).await;
        }
    }

    /// The verdict on what happened so far.
    pub fn check(&self) -> Check {
        let mut wanted = self.wanted.clone();
        if self.lasted() < SHOW {
            // Stopped before everything could happen.
            wanted.kinds.clear();
            let protocols = wanted.protocols.iter_mut();
            protocols.for_each(|(_, kinds)| kinds.clear());
        }
        checker::check(self.ledger(), self.traced(), &wanted)
    }

    /// How long devices made reports.
    fn lasted(&self) -> Duration {
        let end = self.shared.stopped.get().copied();
        let end = end.unwrap_or_else(Instant::now);
        end.saturating_duration_since(self.shared.schedule.started())
    }

    fn traced(&self) -> usize {
        let count = |traces: &Traces| traces.complete_alarm_traces().len();
        self.traces.as_ref().map_or(0, count)
    }

    /// Whether traces of all delivered alarms and all positions have come, with the alarms of those positions that
    /// nobody answered.
    fn tail_came(&self) -> bool {
        let counts = self.shared.ledger.counts();
        let tracks = !self.wanted.tracks || counts.tracked == counts.sent;
        let alarms = !self.wanted.alarms || self.shared.ledger.outstanding() == 0;
        tracks && alarms && (!self.wanted.traces || self.traced() as u64 >= counts.delivered)
    }
}

/// Runs a fleet until its length is over or `stop` resolves, and judges it.
///
/// # Errors
/// As [`Fleet::start`].
pub async fn run(
    roads: Roads,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<Check, FleetError> {
    let fleet = Fleet::start(roads, options).await?;
    tokio::select! {
        () = fleet.lasts() => {}
        () = stop => {}
    }
    Ok(fleet.finish().await)
}

impl Shared {
    /// Milliseconds since the fleet was made.
    pub fn now_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// The instant of such milliseconds; a minute from `now` for what is further away.
    pub fn at_ms(&self, ms: u64, now: Instant) -> Instant {
        // Rounded up: woken a moment early, a device would find nothing due and spin.
        let limit = self.now_ms(now) + 60_000;
        self.epoch + Duration::from_millis(ms.min(limit))
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_online(&self, online: bool) {
        match online {
            true => self.online.fetch_add(1, Ordering::Relaxed),
            false => self.online.fetch_sub(1, Ordering::Relaxed),
        };
    }

    pub fn hung_up(&self, reason: HangUp) {
        let mut last = self.hang_ups.lock().expect("nobody panics while counting");
        *last = Some((last.map_or(1, |(count, _)| count + 1), reason));
    }
}

/// Starts the subscribers that the options name, and waits for them to be connected, but not for ever: a run may be
/// about a broker that is not there.
async fn watch_ends(
    options: &Options,
    ledger: &Ledger,
    tasks: &mut JoinSet<()>,
) -> Result<(), FleetError> {
    let mut ready = Vec::new();
    let (failed, failure) = oneshot::channel();
    if let Some(url) = options.stream.clone() {
        let (tx, rx) = mpsc::channel(SEEN_MAX);
        tasks.spawn(subscriber::stream(url, tx));
        ready.push(enter_seen(ledger.clone(), rx, tasks));
    }
    if let Some(url) = options.mqtt.clone() {
        let (tx, rx) = mpsc::channel(SEEN_MAX);
        let topic = options.topic.clone();
        tasks.spawn(async move {
            // It ends with its receiver, or at once when the address is none.
            if let Err(error) = subscriber::alarms(&url, &topic, tx).await {
                let _ = failed.send(error);
            }
        });
        ready.push(enter_seen(ledger.clone(), rx, tasks));
    }
    let all = async {
        for mut connected in ready {
            // The sender lives as long as the task that enters.
            let _ = connected.wait_for(|connected| *connected).await;
        }
    };
    tokio::select! {
        Ok(error) = failure => Err(error.into()),
        _ = timeout(SUBSCRIBERS_READY, all) => Ok(()),
    }
}

/// Enters what a subscriber sees; the value turns true at its first connection.
fn enter_seen(
    ledger: Ledger,
    mut rx: mpsc::Receiver<Seen>,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<bool> {
    let (connected, ready) = watch::channel(false);
    tasks.spawn(async move {
        while let Some(seen) = rx.recv().await {
            match seen {
                Seen::Track {
                    device,
                    time_ms,
                    shown,
                    snapshot,
                    at,
                    ..
                } => {
                    ledger.tracked(&device, time_ms, &shown, at, !snapshot);
                }
                Seen::Alarm { payload, .. } => ledger.delivered(&payload),
                Seen::Unreadable { .. } => ledger.unreadable(),
                Seen::Connected => drop(connected.send(true)),
                Seen::StreamAlarm { .. } | Seen::Closed => {}
            }
        }
    });
    ready
}

/// The beginning of the next full second: as an instant, and in UTC seconds since 1970.
fn next_second() -> (Instant, u32) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let to_next = Duration::from_nanos(u64::from(1_000_000_000 - now.subsec_nanos()));
    (Instant::now() + to_next, now.as_secs() as u32 + 1)
}
