//! When each report is due, and what time it says: sends spread evenly over the period, fixes on whole seconds.
//!
//! Promises that no report is of the future and that a device's times only grow.

use std::time::Duration;

use tokio::time::Instant;

/// How far back a pipelined run begins, seconds: it goes through its days faster than the clock.
const PIPELINED_BACK_S: u32 = 7 * 86_400;
/// How far back a run with an open end and a faster time begins, seconds of the clock.
const OPEN_END_S: f64 = 3_600.0;

/// How fast a fleet reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// By the clock.
    Clock {
        /// Reports a second of each device.
        rate: f64,
        /// Seconds of driving in a second of the clock; at least `rate`, since times are whole seconds.
        speed: f64,
    },
    /// This many reports in one segment, and the next as soon as all are answered.
    Pipelined(u32),
}

/// The time table of a run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    started: Instant,
    base_s: u32,
    devices: u32,
    pace: Pace,
}

impl Schedule {
    /// A time table that starts with the second that begins at `started`, `start_s` by the clock (UTC seconds since
    /// 1970). A run of `length` at a faster speed begins so far back that it ends now.
    pub fn new(
        pace: Pace,
        devices: u32,
        length: Option<Duration>,
        started: Instant,
        start_s: u32,
    ) -> Schedule {
        let (pace, back_s) = match pace {
            Pace::Pipelined(_) => (pace, PIPELINED_BACK_S),
            Pace::Clock { rate, speed } => {
                let speed = speed.max(rate);
                let clock_s = length.map_or(OPEN_END_S, |length| length.as_secs_f64() + 1.0);
                let back_s = (clock_s * (speed - 1.0).max(0.0)).ceil();
                (Pace::Clock { rate, speed }, back_s as u32)
            }
        };
        Schedule {
            started,
            base_s: start_s - back_s,
            devices: devices.max(1),
            pace,
        }
    }

    /// Whether reports follow the clock.
    pub fn paced(&self) -> bool {
        matches!(self.pace, Pace::Clock { .. })
    }

    /// Reports in one segment; 1 by the clock.
    pub fn pipeline(&self) -> u32 {
        match self.pace {
            Pace::Clock { .. } => 1,
            Pace::Pipelined(reports) => reports,
        }
    }

    /// When slot `n` of a device is due; at once if pipelined.
    pub fn due(&self, device: u32, n: u32) -> Instant {
        match self.pace {
            Pace::Clock { rate, .. } => {
                self.started + Duration::from_secs_f64(self.slot(device, n) / rate)
            }
            Pace::Pipelined(_) => self.started,
        }
    }

    /// The first slot of a device that is due at or after `now`.
    pub fn first(&self, device: u32, now: Instant) -> u32 {
        match self.pace {
            Pace::Clock { rate, .. } => {
                let since = now.saturating_duration_since(self.started).as_secs_f64();
                (since * rate - self.slot(device, 0)).ceil().max(0.0) as u32
            }
            Pace::Pipelined(_) => 0,
        }
    }

    /// Second of driving, counted from the start of the run, that slot `n` of a device reports; `None` when it would
    /// be of the future.
    pub fn second(&self, device: u32, n: u32) -> Option<u32> {
        match self.pace {
            Pace::Clock { rate, speed } => Some((self.slot(device, n) * speed / rate) as u32),
            Pace::Pipelined(_) => (n + 60 < PIPELINED_BACK_S).then_some(n),
        }
    }

    /// UTC of a second of driving, seconds since 1970.
    pub fn time_s(&self, second: u32) -> u32 {
        self.base_s + second
    }

    /// When the run started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Slots so far, with the device's own part of the period.
    fn slot(&self, device: u32, n: u32) -> f64 {
        f64::from(n) + f64::from(device) / f64::from(self.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pace: Pace, length_s: u64) -> Schedule {
        let length = Some(Duration::from_secs(length_s));
        Schedule::new(pace, 4, length, Instant::now(), 1_700_000_000)
    }

    #[test]
    fn sends_are_spread_and_fixes_are_whole_seconds() {
        let table = schedule(
            Pace::Clock {
                rate: 1.0,
                speed: 1.0,
            },
            20,
        );
        let after = |device, n| table.due(device, n) - table.started();
        assert_eq!(after(0, 0), Duration::ZERO);
        assert_eq!(after(3, 2), Duration::from_millis(2_750));
        assert_eq!(table.second(3, 2), Some(2));
        assert_eq!(table.time_s(2), 1_700_000_002);
        assert_eq!(table.first(3, table.due(3, 2)), 2);
        assert_eq!(
            table.first(3, table.due(3, 2) + Duration::from_millis(1)),
            3
        );
    }

    #[test]
    fn no_report_is_of_the_future_and_times_grow() {
        for (rate, speed) in [(1.0, 1.0), (0.2, 1.0), (5.0, 1.0), (1.0, 10.0), (2.0, 3.0)] {
            let table = schedule(Pace::Clock { rate, speed }, 20);
            let mut last = None;
            for n in 0..(20.0 * rate) as u32 {
                let second = table.second(3, n).unwrap();
                let clock_s = (table.due(3, n) - table.started()).as_secs_f64();
                let now_s = 1_700_000_000.0 + clock_s;
                assert!(
                    f64::from(table.time_s(second)) <= now_s,
                    "{rate} {speed}: slot {n}"
                );
                assert!(last < Some(second), "{rate} {speed}: slot {n}");
                last = Some(second);
            }
        }
        let table = schedule(Pace::Pipelined(100), 20);
        assert_eq!(table.second(1, PIPELINED_BACK_S), None);
    }
}
