//! How a feed is doing, for the log and for `ringway status`.

use std::time::{Duration, Instant};

use crate::role::FeedEnd;
use crate::supervisor::report::FeedReport;

/// The same trouble is said again after this long, so that a feed that comes and goes does not fill the log.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What is known of a feed.
#[derive(Clone, Debug)]
pub struct FeedState {
    doing: Doing,
    since: Instant,
    /// Why it ended or is not open, as it was said last, and when.
    trouble: Option<(String, Instant)>,
    said_sound: bool,
    opened: u64,
    baud: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Waiting,
    Open,
    Sound,
}

impl FeedState {
    /// Nothing was opened yet.
    pub fn new() -> FeedState {
        FeedState {
            doing: Doing::Waiting,
            since: Instant::now(),
            trouble: None,
            said_sound: false,
            opened: 0,
            baud: None,
        }
    }

    /// It was opened, at this rate if it is a line.
    pub fn opened(&mut self, baud: Option<u32>) {
        self.turn(Doing::Open);
        self.opened += 1;
        self.baud = baud;
    }

    /// Something sound came; `true` if that is news: the first time, and after trouble that was said.
    pub fn sound(&mut self) -> bool {
        self.turn(Doing::Sound);
        !std::mem::replace(&mut self.said_sound, true)
    }

    /// It ended, or cannot be opened; `true` if that is news: not what was said lately.
    pub fn waits(&mut self, why: &str) -> bool {
        self.turn(Doing::Waiting);
        let known = |(said, at): &(String, Instant)| said == why && at.elapsed() < SAY_AGAIN;
        let news = !self.trouble.as_ref().is_some_and(known);
        if news {
            self.trouble = Some((why.to_owned(), Instant::now()));
            self.said_sound = false;
        }
        news
    }

    fn turn(&mut self, doing: Doing) {
        if self.doing != doing {
            (self.doing, self.since) = (doing, Instant::now());
        }
    }

    /// To be shown, for this sensor and kind of input.
    pub fn report(&self, sensor: &str, input: &str) -> FeedReport {
        let state = match self.doing {
            Doing::Waiting => "waiting",
            Doing::Open => "open",
            Doing::Sound => "sound",
        };
        FeedReport {
            sensor: sensor.into(),
            input: input.into(),
            state: state.into(),
            since_s: self.since.elapsed().as_secs_f64(),
            why: self.trouble.as_ref().map(|(why, _)| why.clone()),
            opened: self.opened,
            baud: self.baud,
        }
    }
}

/// Why it ended, in words.
pub fn meaning(why: FeedEnd) -> &'static str {
    match why {
        FeedEnd::Closed => "the other side ended it",
        FeedEnd::Broken => "it broke",
        FeedEnd::Unreadable => "nothing on it can be read",
        FeedEnd::Stalled => "nothing sound came for too long",
    }
}
