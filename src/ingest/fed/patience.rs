//! How long a feed is borne with that gives nothing sound (pure).
//!
//! A pipe may be silent or talk rubbish for ever; only the limit of errors ends it. A serial line is silent while its
//! device is off, but what it says at a wrong rate is never sound. gpsd is silent while its receivers are, too, but it
//! answers when it is asked.

use crate::role::FeedEnd;

/// What a feed comes from, as far as patience goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A named pipe.
    Pipe,
    /// A program.
    Program,
    /// A serial line.
    Line,
    /// gpsd.
    Gpsd,
}

/// Bytes that come closer together than this are one burst, ms: receivers speak once a second.
const BURST_GAP_MS: u64 = 1_000;

/// A line whose bytes of this long hold nothing sound has another rate, ms: two rounds of a receiver, and the rest of
/// the one that the opening cut into.
const LINE_BURST_MS: u64 = 3_000;

/// Bursts of a line that may hold nothing sound: the first one is heard from its middle on, a second may be damaged.
const LINE_BURSTS_MAX: u32 = 3;

/// Messages in a row that make a line sound: at a wrong rate, noise can pass for one that has no check.
const LINE_MESSAGES: u32 = 2;

/// A gpsd that is silent for this long is asked for its version, ms.
const GPSD_ASKED_MS: u64 = 5_000;

/// A gpsd that is silent for this long is given up, ms.
const GPSD_SILENT_MS_MAX: u64 = 10_000;

/// What gpsd answers whatever its receivers do.
pub const GPSD_QUESTION: &[u8] = b"?VERSION;\n";

/// What is to be done about a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To ask whether it is there.
    Ask,
    /// To give it up.
    End(FeedEnd),
}

/// Patience with one feed.
#[derive(Debug)]
pub struct Patience {
    origin: Origin,
    sound: bool,
    /// Messages since the last bytes that were none.
    in_a_row: u32,
    /// When the burst began, or the last message came.
    burst_ms: u64,
    bursts: u32,
    /// When bytes came last, and whether that was since the last [`Patience::due`].
    bytes_ms: Option<u64>,
    fresh: bool,
    /// When the last message came, it was opened, or it began to be read again.
    heard_ms: u64,
    asked: bool,
}

impl Patience {
    /// With a feed that was just opened.
    pub fn new(origin: Origin, now_ms: u64) -> Patience {
        Patience {
            origin,
            sound: false,
            in_a_row: 0,
            burst_ms: now_ms,
            bursts: 0,
            bytes_ms: None,
            fresh: false,
            heard_ms: now_ms,
            asked: false,
        }
    }

    /// Bytes came.
    pub fn bytes(&mut self, now_ms: u64) {
        let apart = |before| now_ms >= before + BURST_GAP_MS;
        if self.bytes_ms.is_none_or(apart) {
            self.bursts += 1;
            self.burst_ms = now_ms;
        }
        self.bytes_ms = Some(now_ms);
        self.fresh = true;
    }

    /// They held a message; `true` if that makes the feed sound, which is so once.
    pub fn message(&mut self, now_ms: u64) -> bool {
        self.in_a_row += 1;
        (self.burst_ms, self.bursts) = (now_ms, 1);
        self.held(now_ms);
        let enough = match self.origin {
            Origin::Line => LINE_MESSAGES,
            Origin::Pipe | Origin::Program | Origin::Gpsd => 1,
        };
        !self.sound && self.in_a_row >= enough && {
            self.sound = true;
            true
        }
    }

    /// They held what is none.
    pub fn refused(&mut self) {
        self.in_a_row = 0;
    }

    /// It is not read at this time, so that its silence is not its own.
    pub fn held(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.asked = false;
    }

    /// When to look again though nothing came.
    pub fn due_ms(&self) -> Option<u64> {
        (self.origin == Origin::Gpsd).then(|| match self.asked {
            false => self.heard_ms + GPSD_ASKED_MS,
            true => self.heard_ms + GPSD_SILENT_MS_MAX,
        })
    }

    /// What is to be done now.
    pub fn due(&mut self, now_ms: u64) -> Option<Due> {
        let fresh = std::mem::take(&mut self.fresh);
        match self.origin {
            Origin::Pipe | Origin::Program => None,
            Origin::Line => {
                let over = now_ms >= self.burst_ms + LINE_BURST_MS || self.bursts > LINE_BURSTS_MAX;
                (fresh && !self.sound && over).then_some(Due::End(FeedEnd::Unreadable))
            }
            Origin::Gpsd if now_ms >= self.heard_ms + GPSD_SILENT_MS_MAX => {
                Some(Due::End(FeedEnd::Stalled))
            }
            Origin::Gpsd => {
                let ask = !self.asked && now_ms >= self.heard_ms + GPSD_ASKED_MS;
                self.asked |= ask;
                ask.then_some(Due::Ask)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREADABLE: Option<Due> = Some(Due::End(FeedEnd::Unreadable));

    #[test]
    fn a_line_is_given_up_for_bytes_that_hold_nothing_and_never_for_silence() {
        let mut line = Patience::new(Origin::Line, 0);
        assert_eq!((line.due_ms(), line.due(3_600_000)), (None, None));
        for now_ms in (3_600_000..3_603_000).step_by(300) {
            line.bytes(now_ms);
            assert_eq!(line.due(now_ms), None, "{now_ms}");
        }
        line.bytes(3_603_000);
        assert_eq!(line.due(3_603_000), UNREADABLE);
    }

    #[test]
    fn a_line_that_speaks_once_a_minute_is_given_up_at_the_fourth_time() {
        let mut line = Patience::new(Origin::Line, 0);
        let dues: Vec<_> = (1..=4)
            .map(|minute| {
                line.bytes(minute * 60_000);
                line.due(minute * 60_000)
            })
            .collect();
        assert_eq!(dues, [None, None, None, UNREADABLE]);
    }

    #[test]
    fn two_messages_in_a_row_make_a_line_sound_and_then_it_is_borne_with() {
        let mut line = Patience::new(Origin::Line, 0);
        line.bytes(0);
        assert!(!line.message(0));
        line.refused();
        assert!(!line.message(1_000));
        assert!(line.message(2_000));
        assert!(!line.message(3_000));
        line.bytes(60_000);
        assert_eq!(line.due(60_000), None);
    }

    #[test]
    fn gpsd_is_asked_when_it_is_silent_and_given_up_when_it_does_not_answer() {
        let mut gpsd = Patience::new(Origin::Gpsd, 1_000);
        assert!(gpsd.message(2_000));
        assert_eq!(gpsd.due_ms(), Some(7_000));
        assert_eq!(gpsd.due(6_999), None);
        assert_eq!(gpsd.due(7_000), Some(Due::Ask));
        assert_eq!((gpsd.due(7_001), gpsd.due_ms()), (None, Some(12_000)));
        // It answers, and is silent again.
        assert!(!gpsd.message(7_100));
        assert_eq!(gpsd.due(12_100), Some(Due::Ask));
        assert_eq!(gpsd.due(17_100), Some(Due::End(FeedEnd::Stalled)));
    }

    #[test]
    fn bytes_without_a_message_are_no_word_of_gpsd() {
        let mut gpsd = Patience::new(Origin::Gpsd, 0);
        for now_ms in (0..10_000).step_by(100) {
            gpsd.bytes(now_ms);
            assert!(!matches!(gpsd.due(now_ms), Some(Due::End(_))), "{now_ms}");
        }
        assert_eq!(gpsd.due(10_000), Some(Due::End(FeedEnd::Stalled)));
    }

    #[test]
    fn silence_while_it_is_not_read_is_not_its_own() {
        let mut gpsd = Patience::new(Origin::Gpsd, 0);
        gpsd.held(9_000);
        assert_eq!(gpsd.due(13_999), None);
        assert_eq!(gpsd.due(14_000), Some(Due::Ask));
    }
}
