//! Senders of rubbish: how long they are not read, longer each time, and how their neighbours notice nothing (pure).
//!
//! Many devices share an address behind a carrier's translation of addresses. As long as one of them is connected that
//! has sent a sound message, who else comes from there is read at once, but may err only once before it has, too.

use std::collections::HashMap;
use std::fmt;
use std::hash::RandomState;

use hashlink::LinkedHashMap;

/// Sources that are remembered; a further one takes the place of the one whose offence is the oldest.
const OFFENDERS_MAX: usize = 4_096;

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

/// Where connections come from: an IPv4 address, or what one customer has of IPv6, a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(u128);

/// What stands before an IPv4 address that is mapped into IPv6.
const MAPPED: u128 = 0xffff;

impl Source {
    /// Of an IPv6 address, or of an IPv4 address mapped into IPv6 (RFC 4291, 2.5.5.2).
    pub fn of(address: [u8; 16]) -> Source {
        const NETWORK: u128 = !(u64::MAX as u128);
        let address = u128::from_be_bytes(address);
        match address >> 32 {
            MAPPED => Source(address),
            _ => Source(address & NETWORK),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >> 32 == MAPPED {
            let [.., a, b, c, d] = self.0.to_be_bytes();
            return write!(f, "{a}.{b}.{c}.{d}");
        }
        let network = self.0 >> 64;
        let group = |at: u32| network >> (48 - 16 * at) & 0xffff;
        write!(
            f,
            "{:x}:{:x}:{:x}:{:x}::/64",
            group(0),
            group(1),
            group(2),
            group(3)
        )
    }
}

/// What is to be expected of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known.
    New,
    /// It has sent a sound message.
    Sound,
    /// Rubbish came from there lately, but somebody from there is sound.
    Probation,
    /// Rubbish came from there lately: it is not read yet.
    Delayed {
        /// Until then.
        until_ms: u64,
    },
}

impl Standing {
    /// Errors in a row after which the connection is closed, where `errors_max` is for everybody.
    pub fn errors_max(self, errors_max: u32) -> u32 {
        match self {
            Standing::Probation => 1,
            Standing::New | Standing::Sound | Standing::Delayed { .. } => errors_max,
        }
    }
}

/// Where rubbish came from, and where somebody is sound.
#[derive(Debug, Default)]
pub struct Offenders {
    /// In the order of their last offences. Senders choose the keys, so their hash is a keyed one.
    delays: LinkedHashMap<Source, Delay, RandomState>,
    /// Connections that have sent a sound message, at most as many as are open.
    sound: HashMap<Source, u32>,
}

impl Offenders {
    /// How a connection from this source begins.
    pub fn admit(&self, source: Source, now_ms: u64) -> Standing {
        let delay = self.delays.get(&source);
        match delay.and_then(|delay| delay.until_ms(now_ms)) {
            None => Standing::New,
            Some(_) if self.sound.contains_key(&source) => Standing::Probation,
            Some(until_ms) => Standing::Delayed { until_ms },
        }
    }

    /// A connection was closed for its rubbish.
    pub fn offend(&mut self, source: Source, now_ms: u64) {
        let mut delay = self.delays.remove(&source).unwrap_or_default();
        while let Some((_, oldest)) = self.delays.front()
            && (oldest.is_forgotten(now_ms) || self.delays.len() >= OFFENDERS_MAX)
        {
            self.delays.pop_front();
        }
        delay.offend(now_ms);
        self.delays.insert(source, delay);
    }

    /// A connection sent its first sound message; whether that changes what others of its source can expect.
    pub fn sound(&mut self, source: Source) -> bool {
        let count = self.sound.entry(source).or_default();
        *count += 1;
        *count == 1 && self.delays.contains_key(&source)
    }

    /// A connection that had sent a sound message is closed.
    pub fn left(&mut self, source: Source) {
        if let Some(count) = self.sound.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sound.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u32) -> Source {
        let mut address = [0; 16];
        address[10..12].fill(0xff);
        address[12..].copy_from_slice(&last.to_be_bytes());
        Source::of(address)
    }

    #[test]
    fn a_source_is_one_address_of_ipv4_and_a_network_of_ipv6() {
        assert_ne!(source(1), source(2));
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let network = Source::of(address);
        address[15] = 1;
        assert_eq!(Source::of(address), network);
        address[7] = 1;
        assert_ne!(Source::of(address), network);
        assert_eq!(Source::of(address).to_string(), "2001:db8:0:1::/64");
        assert_eq!(source(0xc000_0201).to_string(), "192.0.2.1");
    }

    #[test]
    fn who_comes_from_where_rubbish_came_from_is_not_read_until_the_delay_is_over() {
        let mut offenders = Offenders::default();
        assert_eq!(offenders.admit(source(1), 100), Standing::New);
        offenders.offend(source(1), 100);
        let until_ms = 100 + DELAY_MS_MIN;
        assert_eq!(
            offenders.admit(source(1), until_ms - 1),
            Standing::Delayed { until_ms }
        );
        assert_eq!(offenders.admit(source(1), until_ms), Standing::New);
        assert_eq!(offenders.admit(source(2), 101), Standing::New);
    }

    #[test]
    fn beside_a_sound_neighbour_it_is_read_at_once_but_may_err_only_once() {
        let mut offenders = Offenders::default();
        offenders.offend(source(1), 100);
        assert!(offenders.sound(source(1)), "others can expect more");
        assert!(!offenders.sound(source(1)));
        assert!(!offenders.sound(source(2)));
        offenders.left(source(1));
        assert_eq!(offenders.admit(source(1), 101), Standing::Probation);
        assert_eq!(Standing::Probation.errors_max(16), 1);
        assert_eq!(Standing::Sound.errors_max(16), 16);
        offenders.left(source(1));
        let delayed = matches!(offenders.admit(source(1), 101), Standing::Delayed { .. });
        assert!(delayed, "the neighbour is gone");
    }

    #[test]
    fn no_more_sources_are_remembered_than_the_limit_and_none_for_ever() {
        let mut offenders = Offenders::default();
        for number in 0..=OFFENDERS_MAX as u32 {
            offenders.offend(source(number), 100);
        }
        assert_eq!(offenders.delays.len(), OFFENDERS_MAX);
        assert_eq!(offenders.admit(source(0), 101), Standing::New);
        offenders.offend(source(7), 100 + DELAY_MS_MIN + FORGET_MS);
        assert_eq!(offenders.delays.len(), 1);
    }

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
