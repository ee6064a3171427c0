//! Latencies in little room: counts in buckets whose width is about one part in 64 of their value.

/// Buckets for each doubling.
const FINE: usize = 64;
/// Doublings above [`FINE`] microseconds; the last bucket begins at two hours.
const DOUBLINGS: usize = 28;

/// Counts of durations in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; FINE * (DOUBLINGS + 1)],
            total: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, us: u64) {
        let last = self.counts.len() - 1;
        self.counts[bucket(us).min(last)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// The duration that a share (0 to 1) of all stay within, ms; `None` if there are none.
    pub fn share_ms(&self, share: f64) -> Option<f64> {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(upper_us(at).min(self.max_us) as f64 / 1e3)
    }

    /// What was counted after `earlier`, an older state of the same counts. The longest is known to its bucket only.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .zip(&earlier.counts)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        let last = counts.iter().rposition(|&count| count > 0);
        Histogram {
            total: counts.iter().sum(),
            max_us: last.map_or(0, |at| upper_us(at).min(self.max_us)),
            counts,
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest, ms; `None` if there are none.
    pub fn max_ms(&self) -> Option<f64> {
        (self.total > 0).then_some(self.max_us as f64 / 1e3)
    }
}

/// Bucket of a duration: exact below [`FINE`] us, then [`FINE`] of them for each doubling.
fn bucket(us: u64) -> usize {
    let doublings = (us / FINE as u64).checked_ilog2().map_or(0, |log| log + 1);
    let width = doublings.saturating_sub(1);
    doublings as usize * FINE + (us >> width) as usize - if doublings > 0 { FINE } else { 0 }
}

/// Longest duration of a bucket.
fn upper_us(bucket: usize) -> u64 {
    let (doublings, fine) = ((bucket / FINE) as u32, (bucket % FINE) as u64);
    match doublings {
        0 => fine,
        n => ((fine + FINE as u64 + 1) << (n - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket() {
        let mut us = 0;
        while us < 5_000_000_000 {
            let at = bucket(us);
            let low = if at == 0 { 0 } else { upper_us(at - 1) + 1 };
            assert!((low..=upper_us(at)).contains(&us), "{us} in {at}");
            assert!(upper_us(at) - low <= low / FINE as u64, "{us}: too wide");
            us += 1 + us / 37;
        }
    }

    #[test]
    fn shares_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.share_ms(0.5), histogram.max_ms()), (None, None));
        (1..=1000).for_each(|us| histogram.add(us * 10));
        let within = |share, ms: f64| {
            let found: f64 = histogram.share_ms(share).unwrap();
            assert!((found - ms).abs() <= ms / 60.0, "{found} for {ms}");
        };
        within(0.5, 5.0);
        within(0.99, 9.9);
        assert_eq!(histogram.share_ms(1.0), Some(10.0));
        assert_eq!(histogram.max_ms(), Some(10.0));
    }

    #[test]
    fn a_later_state_less_an_earlier_one_is_what_came_between() {
        let mut histogram = Histogram::default();
        (0..100).for_each(|_| histogram.add(50_000));
        let earlier = histogram.clone();
        assert_eq!(histogram.since(&earlier).share_ms(0.5), None);
        (1..=30).for_each(|us| histogram.add(us));
        let between = histogram.since(&earlier);
        assert_eq!((between.count(), between.max_ms()), (30, Some(0.03)));
        assert_eq!(between.share_ms(0.5), Some(0.015));
    }
}
