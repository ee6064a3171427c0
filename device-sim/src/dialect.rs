//! What protocols have in common for a device that speaks one of them: how it logs in, how reports go out, what answers
//! mean.
//!
//! A dialect is pure: bytes and reports in, bytes and news out. It keeps what its protocol demands (serials, the stage
//! of a login, what an answer is awaited for), not reports: those are in the custody of [`crate::device`].

use std::fmt::Debug;

use crate::crew::Protocol;
use crate::report::Report;
use crate::{gt06, h02, jt808, nmea, osmand, teltonika};

/// Most bytes of an answer that is not complete yet; more is damage.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// A protocol as one device speaks it.
pub trait Dialect: Debug + Send {
    /// How many reports go out at a time.
    fn habits(&self) -> Habits;

    /// Appends what is said first on a new connection. Returns whether reports may follow at once, without an answer.
    fn greet(&mut self, out: &mut Vec<u8>) -> bool;

    /// Takes what the server wrote and tells what it means. What must be said next in a login is appended to `out`.
    ///
    /// # Errors
    /// When the server's bytes make no sense; the connection is of no use then.
    fn hear(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage>;

    /// Names the next message, which holds `first` and maybe more.
    fn name(&mut self, kind: Kind, first: &Report) -> Name;

    /// Appends the message with this name. Written again, it is the same message.
    fn write(
        &mut self,
        name: Name,
        kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    );

    /// Appends what says that the device is there; nothing if the protocol has no word for it.
    fn heartbeat(&mut self, _out: &mut Vec<u8>) {}
}

/// How many reports go out at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Messages that may await an answer at a time.
    pub in_flight_max: usize,
    /// Reports in a live message.
    pub live_max: usize,
    /// Reports in a message of stored ones.
    pub stored_max: usize,
    /// More held reports than this go out as stored ones after a reconnect.
    pub stored_above: usize,
    /// Resends of a message on one connection; then the device reconnects.
    pub resends_max: u64,
}

/// How a message holds its reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are made.
    Live,
    /// As what was stored while there was no connection.
    Stored,
}

/// What an answer calls a message by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// A number of the dialect's choice.
    pub number: u32,
    /// Whether an answer will come; if not, the device lets the reports go when they are written.
    pub awaited: bool,
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The login goes on.
    Onward,
    /// The login is done.
    Welcome,
    /// The login was refused, with this result.
    Refused(u8),
    /// The message with this number was taken.
    Done(u32),
    /// The message with this number was not taken.
    Not(u32),
}

/// Why a server's bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The check does not fit.
    #[error("cannot read answer: wrong check")]
    Check,
    /// Lengths do not fit.
    #[error("cannot read answer: wrong length")]
    Length,
    /// An escape that escapes nothing.
    #[error("cannot read answer: broken escape")]
    Escape,
    /// Not what the protocol's answers look like.
    #[error("cannot read answer: not of the protocol")]
    Form,
}

/// How a device speaks that is the `rank`th of its protocol and has this id. Variants of a protocol take turns.
pub fn open(protocol: Protocol, id: &str, rank: u32) -> Box<dyn Dialect> {
    match protocol {
        Protocol::Jt808 => Box::new(jt808::dialect::Speaker::new(id, rank)),
        Protocol::Teltonika => Box::new(teltonika::Stream::new(id, rank)),
        Protocol::TeltonikaUdp => Box::new(teltonika::Datagrams::new(id, rank)),
        Protocol::Gt06 => Box::new(gt06::Speaker::new(id, rank)),
        Protocol::H02 => Box::new(h02::Speaker::new(id, rank)),
        Protocol::Osmand => Box::new(osmand::Speaker::new(id, rank)),
        Protocol::Nmea => Box::new(nmea::Speaker::new(id)),
    }
}
