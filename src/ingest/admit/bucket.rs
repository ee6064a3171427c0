//! Token buckets in integers (pure).
//!
//! A bucket is kept as one number, the time at which it will be full again: a token moves it by the time that one takes
//! to come. That is the generic cell rate algorithm (ITU-T I.371, annex A); it needs neither a timer nor a division.

use std::hash::RandomState;

use hashlink::LinkedHashMap;

use crate::frame::DeviceId;

/// How fast tokens come, and how many there are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    token_ns: u64,
    full_ns: u64,
}

impl Rate {
    /// So many tokens a second, and so many at most; neither is zero.
    pub fn a_second(tokens: u32, tokens_max: u32) -> Rate {
        Rate::every(1_000_000_000 / u64::from(tokens.max(1)), tokens_max)
    }

    /// A token in so many nanoseconds, and so many at most.
    pub const fn every(token_ns: u64, tokens_max: u32) -> Rate {
        let token_ns = if token_ns == 0 { 1 } else { token_ns };
        let tokens_max = if tokens_max == 0 { 1 } else { tokens_max };
        Rate {
            token_ns,
            full_ns: token_ns * tokens_max as u64,
        }
    }
}

/// A bucket. It is full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// When it will be full, monotonic nanoseconds.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// When there will be one, if there is none now.
    pub fn try_take(&mut self, rate: &Rate, now_ns: u64) -> Result<(), u64> {
        let taken = self.full_at_ns.max(now_ns) + rate.token_ns;
        if taken - now_ns > rate.full_ns {
            return Err(taken - rate.full_ns);
        }
        self.full_at_ns = taken;
        Ok(())
    }

    /// Takes the token of what has come already, although there may be none: it owes one at most. If there is none for
    /// the next: when there will be.
    pub fn take(&mut self, rate: &Rate, now_ns: u64) -> Option<u64> {
        let taken = self.full_at_ns.max(now_ns) + rate.token_ns;
        self.full_at_ns = taken.min(now_ns + rate.full_ns + rate.token_ns);
        let next_ns = (self.full_at_ns + rate.token_ns).saturating_sub(rate.full_ns);
        (next_ns > now_ns).then_some(next_ns)
    }

    /// Whether it has all its tokens, as a new one has.
    pub fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns <= now_ns
    }
}

/// Buckets of devices. Only those that lack tokens take room.
#[derive(Debug)]
pub struct Buckets {
    /// In the order in which tokens were taken last. Senders choose the keys, so their hash is a keyed one.
    buckets: LinkedHashMap<DeviceId, Bucket, RandomState>,
    buckets_max: usize,
}

impl Buckets {
    /// All full; at most so many that are not: for a further one the oldest counts as full.
    pub fn new(buckets_max: usize) -> Buckets {
        Buckets {
            buckets: LinkedHashMap::with_hasher(RandomState::new()),
            buckets_max: buckets_max.max(1),
        }
    }

    /// The bucket of a device, to take from.
    pub fn of(&mut self, device: DeviceId, now_ns: u64) -> &mut Bucket {
        let bucket = self.buckets.remove(&device).unwrap_or_default();
        self.put(device, bucket, now_ns);
        self.buckets
            .get_mut(&device)
            .expect("it was just put there")
    }

    /// Takes the bucket of a device away, to be kept elsewhere.
    pub fn remove(&mut self, device: &DeviceId) -> Bucket {
        self.buckets.remove(device).unwrap_or_default()
    }

    /// Keeps the bucket of a device.
    pub fn put(&mut self, device: DeviceId, bucket: Bucket, now_ns: u64) {
        while let Some((_, oldest)) = self.buckets.front()
            && (oldest.is_full(now_ns) || self.buckets.len() >= self.buckets_max)
        {
            self.buckets.pop_front();
        }
        self.buckets.insert(device, bucket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_tokens_at_once_and_then_as_they_come() {
        let rate = Rate::a_second(10, 3);
        let mut bucket = Bucket::default();
        let now_ns = 5 * SECOND_NS;
        for _ in 0..3 {
            assert_eq!(bucket.try_take(&rate, now_ns), Ok(()));
        }
        let next_ns = now_ns + SECOND_NS / 10;
        assert_eq!(bucket.try_take(&rate, now_ns), Err(next_ns));
        assert_eq!(bucket.try_take(&rate, next_ns - 1), Err(next_ns));
        assert_eq!(bucket.try_take(&rate, next_ns), Ok(()));
        assert!(!bucket.is_full(next_ns + SECOND_NS * 3 / 10 - 1));
        assert!(bucket.is_full(next_ns + SECOND_NS * 3 / 10));
    }

    #[test]
    fn what_has_come_is_taken_on_credit_of_one_and_the_next_waits() {
        let rate = Rate::a_second(10, 2);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(&rate, 0), None);
        assert_eq!(bucket.take(&rate, 0), Some(SECOND_NS / 10));
        for _ in 0..5 {
            assert_eq!(bucket.take(&rate, 0), Some(SECOND_NS / 5), "no deeper");
        }
    }

    #[test]
    fn only_buckets_that_lack_tokens_are_kept_and_no_more_than_the_limit() {
        let id = |number: u64| DeviceId::new(number.to_string().as_bytes()).unwrap();
        let rate = Rate::a_second(1, 1);
        let mut buckets = Buckets::new(3);
        for number in 0..4 {
            assert_eq!(buckets.of(id(number), 0).try_take(&rate, 0), Ok(()));
        }
        assert_eq!(buckets.buckets.len(), 3);
        assert!(buckets.of(id(3), 0).try_take(&rate, 0).is_err());
        assert_eq!(
            buckets.of(id(0), 0).try_take(&rate, 0),
            Ok(()),
            "the oldest was forgotten"
        );
        buckets.of(id(9), 2 * SECOND_NS);
        assert_eq!(buckets.buckets.len(), 1);
    }

    proptest::proptest! {
        /// Held against a bucket that is counted in fractions of a token.
        #[test]
        fn tokens_are_given_exactly_as_a_bucket_in_fractions_gives_them(
            token_ns in 1_u64..1_000,
            tokens_max in 1_u32..20,
            pauses in proptest::collection::vec(0_u64..3_000, 1..200),
        ) {
            let rate = Rate::every(token_ns, tokens_max);
            let mut bucket = Bucket::default();
            let full = u64::from(tokens_max) * token_ns;
            let (mut now_ns, mut level) = (1_000, full);
            for pause in pauses {
                now_ns += pause;
                level = (level + pause).min(full);
                let given = bucket.try_take(&rate, now_ns).is_ok();
                assert_eq!(given, level >= token_ns);
                if given {
                    level -= token_ns;
                }
            }
        }
    }
}
