//! Sleeping without losing a wake-up, on any number of rings at a time.
//!
//! A wake is the dear part of a hand-over: 7 to 9 us for the waker and 15 to 20 us until the sleeper runs, measured
//! before any of this was written. So who is idle is woken by the first frame, and who is busy sleeps for
//! [`COALESCE`] at a time and takes what came together; an urgent frame wakes either. Who takes frames as fast as they
//! come looks a little longer before it sleeps, within a [`SpinBudget`]. Nobody sleeps longer than [`BACKSTOP`],
//! whatever a peer does or fails to do.
//!
//! Bells are watched by edge and never read: each write is an edge of its own, and a bell that a peer saturates silences
//! that peer's ring only.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::nap::{Depth, Sleeper};
use super::spin::SpinBudget;
use super::{Consumer, Producer};
use crate::sys::control::watch;

#[cfg(test)]
mod tests;

/// Longest time for which a busy sleeper leaves frames that are not urgent lying. Two hops of it and the ingest's gathering
/// make 1 ms.
pub const COALESCE: Duration = Duration::from_micros(200);

/// Longest sleep.
pub const BACKSTOP: Duration = Duration::from_secs(1);

/// Frames that must have come during a busy nap for the next one to be busy too: with fewer, a wake for each is no
/// dearer than the timer.
const BUSY_FRAMES_MIN: u64 = 2;

/// Looks at the rings between two readings of the clock while spinning.
const LOOKS_PER_READING: u32 = 16;

/// A ring's place in a [`Waiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(u64);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A ring may have something; look at all of them.
    Bell,
    /// The time is over.
    Deadline,
}

/// Waits for any of several rings.
pub struct Waiter {
    entries: Vec<Entry>,
    seats: u64,
    timer: TimerFd,
    timer_watch: AsyncFd<OwnedFd>,
    depth: Depth,
    woken_at: Instant,
    /// Since when this side is awake: the end of the last nap, also of one whose wait was cancelled.
    awake_since: Cell<Instant>,
    spin: SpinBudget,
}

struct Entry {
    seat: Seat,
    sleeper: Arc<dyn Sleeper>,
    bell: AsyncFd<OwnedFd>,
}

impl Waiter {
    /// A waiter without rings. Must be called on a tokio runtime, as must all that follows.
    ///
    /// # Errors
    /// What the kernel says when it makes the timer.
    pub fn new() -> io::Result<Waiter> {
        // A timer of the kernel, since tokio's own counts in whole milliseconds.
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Waiter {
            entries: Vec::new(),
            seats: 0,
            timer_watch: watch(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?,
            timer,
            depth: Depth::Idle,
            woken_at: Instant::now(),
            awake_since: Cell::new(Instant::now()),
            spin: SpinBudget::default(),
        })
    }

    /// Waits for frames, resync requests and the close of this ring too. The consumer must have read all that was
    /// available before it waits, else the wait ends at once. A quarantined ring is no work, but its bell may end a wait.
    ///
    /// # Errors
    /// What the kernel says when the bell is registered.
    pub fn add_consumer(&mut self, consumer: &Consumer) -> io::Result<Seat> {
        self.add(consumer.sleeper())
    }

    /// Waits for what [`Producer::wait_for`] says too.
    ///
    /// # Errors
    /// What the kernel says when the bell is registered.
    pub fn add_producer(&mut self, producer: &Producer) -> io::Result<Seat> {
        self.add(producer.sleeper())
    }

    fn add(&mut self, sleeper: Arc<dyn Sleeper>) -> io::Result<Seat> {
        let bell = watch(
            sleeper.bell().as_fd().try_clone_to_owned()?,
            Interest::READABLE,
        )?;
        let seat = Seat(self.seats);
        self.seats += 1;
        self.entries.push(Entry {
            seat,
            sleeper,
            bell,
        });
        Ok(seat)
    }

    /// Forgets a ring.
    pub fn remove(&mut self, seat: Seat) {
        self.entries.retain(|entry| entry.seat != seat);
    }

    /// Sleeps until a ring may have something, at most for `patience` and never longer than [`BACKSTOP`]. May be
    /// cancelled at any point; nothing is lost, since the rings are looked at anew. After [`Woken::Bell`] the caller looks
    /// at all rings, their answers and resync counters too.
    pub async fn wait(&mut self, patience: Duration) -> Woken {
        if self.spin() {
            // The other tasks of this thread get their turn all the same.
            tokio::task::yield_now().await;
            self.entries.iter().for_each(|entry| entry.sleeper.look());
            return Woken::Bell;
        }
        let deadline = tokio::time::sleep(patience.min(BACKSTOP));
        tokio::pin!(deadline);
        let mut depth = self.depth;
        let woken = loop {
            match self.nap(depth, deadline.as_mut()).await {
                Stirred::AtOnce => {
                    self.spin.ended(true);
                    break Woken::Bell;
                }
                Stirred::Work => break Woken::Bell,
                Stirred::Deadline => break Woken::Deadline,
                // A whole busy nap without a frame: idle now.
                Stirred::Quiet => depth = Depth::Idle,
                Stirred::Few => {
                    depth = Depth::Idle;
                    break Woken::Bell;
                }
            }
        };
        let now = Instant::now();
        // Two wakes within one nap's length: from here on it is cheaper to gather.
        if depth == Depth::Idle && woken == Woken::Bell && now - self.woken_at < COALESCE {
            depth = Depth::Busy;
        }
        (self.depth, self.woken_at) = (depth, now);
        if woken == Woken::Bell {
            self.entries.iter().for_each(|entry| entry.sleeper.look());
        }
        woken
    }

    /// Looks for work for as long as the budget has it; whether there is some.
    fn spin(&mut self) -> bool {
        let began = Instant::now();
        let granted = self.spin.grant(began - self.awake_since.get());
        let (mut now, mut found) = (began, false);
        while !found && now - began < granted {
            found = (0..LOOKS_PER_READING).any(|_| {
                let found = self.entries.iter().any(|entry| entry.sleeper.has_work());
                // A reader that pauses takes the line away from its writer less often.
                std::hint::spin_loop();
                found
            });
            now = Instant::now();
        }
        self.spin.spend(now - began);
        self.spin.ended(found);
        self.awake_since.set(now);
        if found {
            self.woken_at = now;
        }
        found
    }

    async fn nap(
        &self,
        depth: Depth,
        mut deadline: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Stirred {
        let before = self.position();
        let naps = Naps(self);
        let mut work = false;
        // All are asked, also after one that has work: a nap must have begun before it can end.
        for entry in &self.entries {
            work |= !entry.sleeper.nap_begin(depth);
        }
        if work {
            drop(naps);
            // Under full load nobody ever sleeps; the other tasks of this thread get their turn all the same.
            tokio::task::yield_now().await;
            return Stirred::AtOnce;
        }
        let timer_at = match depth {
            Depth::Idle => None,
            Depth::Busy => self.start_timer(),
        };
        let cause = poll_fn(|cx| {
            let rung = self.poll_bells(cx);
            if rung {
                return Poll::Ready(Cause::Bell);
            }
            if let Some(at) = timer_at
                && self.poll_timer(cx, at)
            {
                return Poll::Ready(Cause::Timer);
            }
            deadline.as_mut().poll(cx).map(|()| Cause::Deadline)
        })
        .await;
        drop(naps);
        let came = self.position().wrapping_sub(before);
        match cause {
            Cause::Bell => Stirred::Work,
            Cause::Deadline => Stirred::Deadline,
            Cause::Timer if came == 0 => Stirred::Quiet,
            Cause::Timer if came < BUSY_FRAMES_MIN => Stirred::Few,
            Cause::Timer => Stirred::Work,
        }
    }

    fn position(&self) -> u64 {
        let positions = self.entries.iter().map(|entry| entry.sleeper.position());
        positions.fold(0, u64::wrapping_add)
    }

    /// Whether any bell was rung since the last call. Looks at all, so that a second one does not end the next wait.
    fn poll_bells(&self, cx: &mut Context<'_>) -> bool {
        let mut rung = false;
        for entry in &self.entries {
            rung |= poll_edge(&entry.bell, cx);
        }
        rung
    }

    /// Starts the timer and returns when it ends; `None` if it cannot be started, and the backstop must do.
    fn start_timer(&self) -> Option<Instant> {
        let expiration = Expiration::OneShot(TimeSpec::from_duration(COALESCE));
        let at = Instant::now() + COALESCE;
        let started = self.timer.set(expiration, TimerSetTimeFlags::empty());
        started.ok().map(|()| at)
    }

    /// Whether the timer that ends `at` has ended. An edge before that is one of the nap before, whose timer ran on.
    fn poll_timer(&self, cx: &mut Context<'_>, at: Instant) -> bool {
        while poll_edge(&self.timer_watch, cx) {
            if Instant::now() >= at {
                return true;
            }
        }
        false
    }
}

/// Whether an edge came; if not, the task is woken by the next one. The file is not read: clearing what tokio remembers
/// of the edge is enough.
fn poll_edge(file: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> bool {
    let mut seen = false;
    while let Poll::Ready(ready) = file.poll_read_ready(cx) {
        match ready {
            Ok(mut guard) => {
                guard.clear_ready();
                seen = true;
            }
            // The runtime shuts down: the caller is about to be dropped.
            Err(_) => break,
        }
    }
    seen
}

enum Cause {
    Bell,
    Timer,
    Deadline,
}

enum Stirred {
    /// There was work already.
    AtOnce,
    /// There is work.
    Work,
    /// The timer ended and so little came that waiting for it does not pay.
    Few,
    /// The timer ended and nothing came.
    Quiet,
    /// The time is over.
    Deadline,
}

/// Ends the naps of all entries, also when the wait is cancelled.
struct Naps<'a>(&'a Waiter);

impl Drop for Naps<'_> {
    fn drop(&mut self) {
        let entries = &self.0.entries;
        entries.iter().for_each(|entry| entry.sleeper.nap_end());
        self.0.awake_since.set(Instant::now());
    }
}
