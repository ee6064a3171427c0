//! Senders of rubbish: how long they are not read, longer each time (pure).

/// First delay.
const DELAY_MS_MIN: u64 = 1_000;

/// Longest delay: what a device that was repaired waits at most.
const DELAY_MS_MAX: u64 = 60_000;

/// Time without an offence after which the next one is a first one again.
const FORGET_MS: u64 = 10 * DELAY_MS_MAX;

/// How long one sender is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    delay_ms: u64,
    until_ms: u64,
}

impl Delay {
    /// The sender has sent too much rubbish. While it is delayed already that changes nothing: several connections
    /// that were opened before are one offence.
    pub fn offend(&mut self, now_ms: u64) {
        if self.until_ms(now_ms).is_some() {
            return;
        }
        self.delay_ms = match self.is_forgotten(now_ms) {
            true => DELAY_MS_MIN,
            false => (self.delay_ms * 2).min(DELAY_MS_MAX),
        };
        self.until_ms = now_ms + self.delay_ms;
    }

    /// Until when the sender is not read, if that is still to come.
    pub fn until_ms(&self, now_ms: u64) -> Option<u64> {
        (now_ms < self.until_ms).then_some(self.until_ms)
    }

    /// Whether nothing is held against the sender any more.
    pub fn is_forgotten(&self, now_ms: u64) -> bool {
        self.delay_ms == 0 || now_ms >= self.until_ms + FORGET_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_forgotten_in_time() {
        let mut delay = Delay::default();
        let mut now_ms = 5_000;
        for expected_ms in [1, 2, 4, 8, 16, 32, 60, 60].map(|s| s * 1_000) {
            delay.offend(now_ms);
            assert_eq!(delay.until_ms(now_ms), Some(now_ms + expected_ms));
            delay.offend(now_ms + expected_ms - 1);
            now_ms += expected_ms;
            assert_eq!(delay.until_ms(now_ms), None);
        }
        now_ms += FORGET_MS - 1;
        assert!(!delay.is_forgotten(now_ms));
        delay.offend(now_ms + 1);
        assert_eq!(delay.until_ms(now_ms + 1), Some(now_ms + 1 + DELAY_MS_MIN));
    }
}
