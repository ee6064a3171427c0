//! The bare-timer control: a thread that does nothing but wake at the instants at which the fleet sends. How late it
//! is shows what the machine adds to everything that is measured beside it.

use std::io;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock::{self, Nanos};
use crate::schedule::Schedule;

/// A timer on the monotonic clock that wakes once, at an absolute time.
pub fn timer(flags: TimerFlags) -> io::Result<TimerFd> {
    Ok(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?)
}

/// Sets the timer to `at`.
pub fn arm(timer: &TimerFd, at: Nanos) -> io::Result<()> {
    let (seconds, nanos) = (at / 1_000_000_000, at % 1_000_000_000);
    let once = Expiration::OneShot(TimeSpec::new(seconds as i64, nanos as i64));
    Ok(timer.set(once, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
}

/// Wakes at each instant of the schedule and returns how late each waking in `window` was, nanoseconds.
pub fn run(schedule: &Schedule, window: std::ops::Range<Nanos>) -> io::Result<Vec<Nanos>> {
    let timer = timer(TimerFlags::empty())?;
    let mut late = Vec::new();
    for due in schedule.dues() {
        if due.at > clock::now() {
            arm(&timer, due.at)?;
            timer.wait()?;
        }
        if window.contains(&due.at) {
            late.push(clock::now().saturating_sub(due.at));
        }
    }
    Ok(late)
}
