//! Connections that are no good devices, to see that those that are notice nothing of them: silent ones, senders of
//! rubbish, slow ones that never come to the end of a message, and fast ones.
//!
//! All of them are tasks of the current runtime and cost no thread. Who is closed comes again: an idle device after a
//! moment, the others as fast as they are let. Nothing here is checked; the figures say what happened.

mod command;
mod member;
mod rubbish;
mod source;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use command::{Args, CommandError, command};
pub use source::Sources;

/// Members of a crowd.
pub const MEMBERS_MAX: u32 = 60_000;
/// The first member's phone number: nobody of a fleet has it, nor any after it.
pub const FIRST_PHONE: u64 = 13_999_500_000;
/// Connections that may be coming about at a time.
const CONNECTING_MAX: usize = 128;
/// First connections are spread so that this many begin in a second.
const CONNECTS_A_SECOND: f64 = 2_000.0;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Logs in, then says nothing.
    Idle,
    /// Sends rubbish.
    Garbage,
    /// Sends a byte now and then.
    Slow,
    /// Sends sound messages far too fast.
    Flood,
}

const KINDS: [Kind; 4] = [Kind::Idle, Kind::Garbage, Kind::Slow, Kind::Flood];

/// What a crowd is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides what is sent and from where.
    pub seed: u64,
    /// Where all connect to.
    pub target: SocketAddr,
    /// Addresses that they connect from, a new one for each connection; without it the system chooses.
    pub sources: Option<Sources>,
    /// The first member's phone number.
    pub first_phone: u64,
    /// Connections that log in and say nothing.
    pub idle: u32,
    /// Connections that send rubbish.
    pub garbage: u32,
    /// Connections that send a byte of a sound message now and then.
    pub slow: u32,
    /// Pause between two of these bytes.
    pub slow_every: Duration,
    /// Connections that send sound messages too fast.
    pub flood: u32,
    /// Messages a second of each of these.
    pub rate: f64,
    /// How long it will last at most; reports of a flood begin so far in the past that none is ahead of its time.
    pub length: Duration,
}

impl Options {
    /// Nobody, towards `target`, from wherever.
    pub fn new(seed: u64, target: SocketAddr) -> Options {
        Options {
            seed,
            target,
            sources: None,
            first_phone: FIRST_PHONE,
            idle: 0,
            garbage: 0,
            slow: 0,
            slow_every: Duration::from_secs(2),
            flood: 0,
            rate: 100.0,
            length: Duration::from_secs(30),
        }
    }

    fn asked(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Idle => self.idle,
            Kind::Garbage => self.garbage,
            Kind::Slow => self.slow,
            Kind::Flood => self.flood,
        }
    }

    /// Members of the kinds before this one.
    fn before(&self, kind: Kind) -> u32 {
        let before = KINDS.iter().take_while(|&&other| other != kind);
        before.map(|&other| self.asked(other)).sum()
    }

    /// Why these options make no crowd, if they do not.
    fn refusal(&self) -> Option<CrowdError> {
        let asked = KINDS.map(|kind| u64::from(self.asked(kind)));
        let members = asked.iter().sum();
        if members == 0 || members > u64::from(MEMBERS_MAX) {
            return Some(CrowdError::Members(members));
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Some(CrowdError::Rate(self.rate));
        }
        let other = self.sources.is_some() && self.target.is_ipv6();
        other.then_some(CrowdError::Sources)
    }
}

/// Why a crowd cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    /// Too few or too many.
    #[error("cannot make a crowd of {0}: expected 1 to {MEMBERS_MAX} of all kinds together")]
    Members(u64),
    /// No positive number.
    #[error("cannot send {0} messages a second: expected a positive number")]
    Rate(f64),
    /// Sources are of IPv4.
    #[error("cannot connect from a range of IPv4 addresses to one of IPv6")]
    Sources,
}

/// What happened to the members of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Members.
    pub asked: u32,
    /// Connections that came about.
    pub connected: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections that were answered to their login.
    pub logged_in: u64,
    /// Connections that the other side ended.
    pub closed_by_peer: u64,
    /// Connections that did not come about.
    pub refused: u64,
    /// Messages that a flood sent.
    pub messages: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What decided all chance.
    pub seed: u64,
    /// Since the start.
    pub seconds: f64,
    /// Those that say nothing.
    pub idle: Share,
    /// Those that send rubbish.
    pub garbage: Share,
    /// Those that never come to an end.
    pub slow: Share,
    /// Those that are too fast.
    pub flood: Share,
}

/// As [`Share`].
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    open: AtomicU64,
    logged_in: AtomicU64,
    closed_by_peer: AtomicU64,
    refused: AtomicU64,
    messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Counts {
    fn share(&self, asked: u32) -> Share {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Share {
            asked,
            connected: count(&self.connected),
            open: count(&self.open),
            logged_in: count(&self.logged_in),
            closed_by_peer: count(&self.closed_by_peer),
            refused: count(&self.refused),
            messages: count(&self.messages),
            sent_bytes: count(&self.sent_bytes),
            received_bytes: count(&self.received_bytes),
        }
    }
}

/// What all members share.
#[derive(Debug)]
struct Shared {
    options: Options,
    connecting: Semaphore,
    started: Instant,
    /// By kind.
    counts: [Counts; 4],
}

impl Shared {
    fn counts(&self, kind: Kind) -> &Counts {
        &self.counts[kind as usize]
    }

    fn share(&self, kind: Kind) -> Share {
        self.counts(kind).share(self.options.asked(kind))
    }
}

/// Reads the figures of a crowd, from any thread, and after its end too.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// What happened so far.
    pub fn report(&self) -> Report {
        let shared = &self.0;
        Report {
            seed: shared.options.seed,
            seconds: shared.started.elapsed().as_secs_f64(),
            idle: shared.share(Kind::Idle),
            garbage: shared.share(Kind::Garbage),
            slow: shared.share(Kind::Slow),
            flood: shared.share(Kind::Flood),
        }
    }
}

/// A running crowd. Dropped, it ends at once.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Starts all members on the current runtime.
    ///
    /// # Errors
    /// When the options make no crowd.
    pub fn start(options: Options) -> Result<Crowd, CrowdError> {
        if let Some(refusal) = options.refusal() {
            return Err(refusal);
        }
        let shared = Arc::new(Shared {
            options,
            connecting: Semaphore::new(CONNECTING_MAX),
            started: Instant::now(),
            counts: Default::default(),
        });
        let mut tasks = JoinSet::new();
        for kind in KINDS {
            let before = shared.options.before(kind);
            for index in 0..shared.options.asked(kind) {
                let after = f64::from(before + index) / CONNECTS_A_SECOND;
                let after = Duration::from_secs_f64(after);
                tasks.spawn(member::live(Arc::clone(&shared), kind, index, after));
            }
        }
        Ok(Crowd {
            shared,
            _tasks: tasks,
        })
    }

    /// Reads its figures.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_nobody_or_without_a_rate_is_refused() {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let nobody = Options::new(1, target);
        assert!(nobody.refusal().is_some());
        let some = Options {
            idle: 3,
            slow: 2,
            flood: 4,
            ..nobody
        };
        assert!(some.refusal().is_none());
        assert_eq!((some.before(Kind::Slow), some.before(Kind::Flood)), (3, 5));
        let refused = [
            Options {
                rate: f64::NAN,
                ..some.clone()
            },
            Options {
                idle: MEMBERS_MAX,
                ..some.clone()
            },
            Options {
                target: "[::1]:1".parse().unwrap(),
                sources: "127.0.0.0/8".parse().ok(),
                ..some
            },
        ];
        assert!(refused.iter().all(|options| options.refusal().is_some()));
    }
}
