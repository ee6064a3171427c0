//! What senders of rubbish send: noise, wrong checks, messages without an end, halves (pure).

use crate::jt808::{self, Terminal};
use crate::random::Random;
use crate::report::Report;

/// Bytes of noise, or of a message without an end, in one piece.
const PIECE_BYTES: usize = 4 * 1024;
/// Messages with a wrong check in one piece: above what anybody lets pass.
const WRONG_MESSAGES: usize = 64;
/// Begins and ends a message.
const FLAG: u8 = 0x7e;

/// What is sent over one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rubbish {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What comes after them.
    pub then: Then,
}

/// What a sender does when its bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Sends more of the kind, until it is closed.
    Noise,
    /// Sends these again and again, without the flag at their beginning, until it is closed.
    Tail,
    /// Waits until it is closed.
    Wait,
    /// Closes.
    Leave,
}

impl Rubbish {
    /// Of one of the four kinds, by chance.
    pub fn any(random: &mut Random, terminal: Terminal) -> Rubbish {
        match random.below(4) {
            0 => Rubbish::noise(random),
            1 => Rubbish::wrong_checks(random, terminal),
            2 => Rubbish::endless(random),
            _ => Rubbish::half(random, terminal),
        }
    }

    /// Makes it the next piece over the same connection.
    pub fn next(&mut self, random: &mut Random) {
        match self.then {
            // The same noise again would have the same few sound messages in it, by which nobody is closed.
            Then::Noise => *self = Rubbish::noise(random),
            Then::Tail => self.bytes[0] = self.bytes[1],
            Then::Wait | Then::Leave => {}
        }
    }

    /// Random bytes.
    pub fn noise(random: &mut Random) -> Rubbish {
        Rubbish {
            bytes: (0..PIECE_BYTES).map(|_| random.bits() as u8).collect(),
            then: Then::Noise,
        }
    }

    /// Heartbeats that are sound but for their check.
    pub fn wrong_checks(random: &mut Random, terminal: Terminal) -> Rubbish {
        let mut bytes = Vec::new();
        for serial in 0..WRONG_MESSAGES as u16 {
            let start = bytes.len();
            terminal.message(&mut bytes, jt808::HEARTBEAT, serial, &[]);
            // The low byte of the id: a byte that stands for itself, and no other check than before fits it.
            bytes[start + 2] ^= 1 << random.below(3);
        }
        Rubbish {
            bytes,
            then: Then::Wait,
        }
    }

    /// A message that begins and never ends.
    pub fn endless(random: &mut Random) -> Rubbish {
        let mut bytes = vec![b'0' + random.below(10) as u8; PIECE_BYTES];
        bytes[0] = FLAG;
        Rubbish {
            bytes,
            then: Then::Tail,
        }
    }

    /// The beginning of a sound message.
    pub fn half(random: &mut Random, terminal: Terminal) -> Rubbish {
        let mut body = Vec::new();
        jt808::location(&Report::default(), &mut body);
        let mut bytes = Vec::new();
        terminal.message(&mut bytes, jt808::LOCATION, 1, &body);
        bytes.truncate(1 + random.below(bytes.len() - 1));
        Rubbish {
            bytes,
            then: Then::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jt808::Edition;

    const TERMINAL: Terminal = Terminal {
        edition: Edition::Y2013,
        phone: 13_999_500_000,
    };

    #[test]
    fn no_message_with_a_wrong_check_has_a_right_one() {
        let rubbish = Rubbish::wrong_checks(&mut Random::new(3), TERMINAL);
        let mut messages = 0;
        for message in rubbish.bytes.split(|&byte| byte == FLAG) {
            if message.is_empty() {
                continue;
            }
            messages += 1;
            // An escape is two bytes for one: 7d 01 for 7d, 7d 02 for 7e (JT/T 808, 4.4.2).
            let (mut sum, mut bytes) = (0, message.iter());
            while let Some(&byte) = bytes.next() {
                sum ^= match byte {
                    0x7d => 0x7c + *bytes.next().unwrap(),
                    byte => byte,
                };
            }
            assert_ne!(sum, 0, "{message:02x?}");
        }
        assert_eq!(messages, WRONG_MESSAGES);
    }

    #[test]
    fn what_never_ends_has_one_flag_at_its_beginning() {
        let mut random = Random::new(3);
        for _ in 0..100 {
            let mut rubbish = Rubbish::endless(&mut random);
            let mut endless = rubbish.bytes.clone();
            rubbish.next(&mut random);
            endless.extend(rubbish.bytes);
            let half = Rubbish::half(&mut random, TERMINAL).bytes;
            for bytes in [endless, half] {
                assert_eq!(bytes.iter().position(|&byte| byte == FLAG), Some(0));
                assert_eq!(bytes.iter().filter(|&&byte| byte == FLAG).count(), 1);
            }
        }
    }
}
