//! When what was recorded is due again.

/// A longer pause of the recording is shortened to this, milliseconds of its own time: a night between two trips is
/// not worth waiting for.
const PAUSE_MS_MAX: i64 = 60_000;

/// When each moment of a recording is due.
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    last: Option<(u64, i64)>,
}

impl Pace {
    /// `speed` times faster than recorded; 0: at once.
    pub fn new(speed: f64) -> Pace {
        Pace { speed, last: None }
    }

    /// The monotonic time at which what was recorded at `time_ms` is due. What has no time, and what goes back in
    /// time, is due with what came before.
    pub fn due_ns(&mut self, now_ns: u64, time_ms: Option<i64>) -> u64 {
        if self.speed <= 0.0 {
            return now_ns;
        }
        let (last_due_ns, last_ms) = match (self.last, time_ms) {
            (Some(last), _) => last,
            (None, Some(time_ms)) => (now_ns, time_ms),
            (None, None) => return now_ns,
        };
        let time_ms = time_ms.unwrap_or(last_ms);
        let pause_ms = time_ms.saturating_sub(last_ms).clamp(0, PAUSE_MS_MAX);
        let due_ns = last_due_ns + (pause_ms as f64 * 1e6 / self.speed) as u64;
        self.last = Some((due_ns, time_ms));
        due_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_due_as_recorded_or_faster() {
        let mut pace = Pace::new(10.0);
        assert_eq!(pace.due_ns(5_000, Some(1_000)), 5_000);
        assert_eq!(pace.due_ns(6_000, Some(2_000)), 100_005_000);
        assert_eq!(pace.due_ns(7_000, None), 100_005_000);
        assert_eq!(pace.due_ns(8_000, Some(2_500)), 150_005_000);
    }

    #[test]
    fn pauses_are_shortened_and_going_back_costs_no_time() {
        let mut pace = Pace::new(1.0);
        pace.due_ns(0, Some(0));
        assert_eq!(pace.due_ns(0, Some(i64::MAX)), 60_000_000_000);
        assert_eq!(pace.due_ns(0, Some(5)), 60_000_000_000);
        assert_eq!(pace.due_ns(0, Some(6)), 60_001_000_000);
    }

    #[test]
    fn speed_zero_waits_for_nothing() {
        let mut pace = Pace::new(0.0);
        assert_eq!(pace.due_ns(7, Some(1)), 7);
        assert_eq!(pace.due_ns(8, Some(1_000_000)), 8);
    }
}
