//! When to start a child again (pure): the first time at once, then ever later while it keeps failing by its own fault.

use std::time::Duration;

/// A child that lived for less than this after it was ready failed early.
const EARLY: Duration = Duration::from_secs(5);
/// First pause.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause; a child is never given up, because a node in a cabinet has nobody to start it by hand.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Early failures in a row after which a child is reported as looping.
pub const CRASH_LOOP_FAILURES: u32 = 5;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// Whether the child itself is to blame: an exit code, or a signal that its own code earns (ABRT, BUS, SEGV, SYS).
    /// A kill from outside says nothing about the child.
    fn by_own_fault(self) -> bool {
        match self {
            Exit::Code(_) => true,
            Exit::Signal(signal) => matches!(signal, 6 | 7 | 11 | 31),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Memory of one child's failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restart {
    failures: u32,
}

impl Restart {
    /// The child ended; `ready_for` is how long it had been ready, if it ever was. Returns the pause before the next
    /// start.
    pub fn ended(&mut self, exit: Exit, ready_for: Option<Duration>) -> Duration {
        if !exit.by_own_fault() || ready_for.is_some_and(|time| time >= EARLY) {
            self.failures = 0;
            return Duration::ZERO;
        }
        self.failures += 1;
        match self.failures {
            1 => Duration::ZERO,
            n => BACK_OFF_MIN
                .saturating_mul(1 << (n - 2).min(16))
                .min(BACK_OFF_MAX),
        }
    }

    /// Whether the child fails again and again.
    pub fn is_looping(&self) -> bool {
        self.failures >= CRASH_LOOP_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: Exit = Exit::Signal(9);
    const CRASHED: Exit = Exit::Signal(11);

    #[test]
    fn a_killed_child_is_back_at_once_however_often() {
        let mut restart = Restart::default();
        assert!((0..100).all(|_| restart.ended(KILLED, None) == Duration::ZERO));
        assert!(!restart.is_looping());
    }

    #[test]
    fn early_failures_wait_ever_longer_up_to_a_bound() {
        let mut restart = Restart::default();
        let pauses: Vec<u128> = (0..12)
            .map(|_| restart.ended(CRASHED, None).as_millis())
            .collect();
        assert_eq!(pauses[..5], [0, 100, 200, 400, 800]);
        assert_eq!(pauses[11], 30_000);
        assert!(restart.is_looping());
    }

    #[test]
    fn a_child_that_served_for_long_starts_afresh() {
        let mut restart = Restart::default();
        (0..6).for_each(|_| {
            restart.ended(Exit::Code(70), None);
        });
        assert_eq!(
            restart.ended(CRASHED, Some(Duration::from_secs(6))),
            Duration::ZERO
        );
        assert!(!restart.is_looping());
    }
}
