//! Messages of a family of small trackers that borrows the numbers of GT06 but sends neither serial number nor check,
//! and counts other things in the length: known by their exact layouts, in which the stop stands where it must.

use super::super::Reject;
use super::super::bytes::Reader;
use super::super::calendar::bcd;
use super::envelope::{End, STOP};
use super::network::{Cell, Network};
use super::place::{Clock, read_place};
use super::reading::Reading;

/// What such a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Login,
    Heartbeat,
    Location { stored: bool },
    Wifi { stored: bool },
}

/// A message, opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare<'a> {
    pub(super) kind: Kind,
    number: u8,
    /// What the length byte holds: of a Wi-Fi message the count of access points.
    count: usize,
    content: &'a [u8],
}

/// Start, length, number.
const HEAD_BYTES: usize = 4;

/// Bytes of the time and of an access point or a cell.
const TIME_BYTES: usize = 6;
const ACCESS_POINT_BYTES: usize = 7;
const CELL_BYTES: usize = 5;

/// The kind of a message with this length byte and number.
fn kind(length: u8, number: u8) -> Option<Kind> {
    match (length, number) {
        (0x0d, 0x01) => Some(Kind::Login),
        (0x01, 0x08) => Some(Kind::Heartbeat),
        (0x12, 0x10) => Some(Kind::Location { stored: false }),
        (0x12, 0x11) => Some(Kind::Location { stored: true }),
        (_, 0x17) => Some(Kind::Wifi { stored: true }),
        (_, 0x69) => Some(Kind::Wifi { stored: false }),
        _ => None,
    }
}

/// Where a message without check ends, if these bytes begin one.
pub(super) fn end(bytes: &[u8]) -> End {
    let (kind, count) = match *bytes {
        [0x78, 0x78, length, number, ..] => match kind(length, number) {
            Some(kind) => (kind, usize::from(length)),
            None => return End::Nowhere,
        },
        [0x79, ..] => return End::Nowhere,
        _ => return End::Unsure,
    };
    let end = HEAD_BYTES
        + match kind {
            Kind::Heartbeat => 0,
            // The terminal's id and its version.
            Kind::Login => 9,
            Kind::Location { .. } => 18,
            Kind::Wifi { .. } => {
                let points = TIME_BYTES + ACCESS_POINT_BYTES * count;
                match bytes.get(HEAD_BYTES + points) {
                    Some(&cells) => points + 4 + CELL_BYTES * usize::from(cells),
                    None => return End::Unsure,
                }
            }
        };
    match bytes.get(end..end + STOP.len()) {
        Some(stop) if stop == STOP => End::At(end),
        Some(_) => End::Nowhere,
        None => End::Unsure,
    }
}

/// Opens a message that was cut without its stop.
pub(super) fn open(message: &[u8]) -> Option<Bare<'_>> {
    let (&[_, _, length, number], content) = message.split_first_chunk()?;
    let kind = kind(length, number)?;
    let stopped = [message, &STOP].concat();
    match end(&stopped) {
        End::At(end) if end == message.len() => Some(Bare {
            kind,
            number,
            count: usize::from(length),
            content,
        }),
        _ => None,
    }
}

impl Bare<'_> {
    /// The terminal's id, of a login.
    pub(super) fn terminal(&self) -> Option<&[u8; 8]> {
        self.content.first_chunk()
    }

    /// What a message other than a login says.
    pub(super) fn read(&self, clock: &Clock) -> Result<Reading, Reject> {
        let mut reader = Reader(self.content);
        let mut reading = Reading::default();
        match self.kind {
            Kind::Login | Kind::Heartbeat => {}
            Kind::Location { stored } => {
                read_place(&mut reader, clock, &mut reading).ok_or(Reject::Length)?;
                reading.report.backlog = stored;
            }
            Kind::Wifi { .. } => {
                let time = reader.array::<TIME_BYTES>().ok_or(Reject::Length)?;
                reading.set_time(clock, time.map(|byte| bcd(byte).unwrap_or(u8::MAX)));
                wifi(&mut reader, self.count, &mut reading.network).ok_or(Reject::Length)?;
            }
        }
        Ok(reading)
    }

    /// Adds the answer: the number, and of a message with a time that time.
    pub(super) fn push_answer(&self, out: &mut Vec<u8>) {
        let repeated = match self.kind {
            Kind::Login | Kind::Heartbeat => &[][..],
            Kind::Location { .. } | Kind::Wifi { .. } => {
                &self.content[..TIME_BYTES.min(self.content.len())]
            }
        };
        let length = u8::from(repeated.is_empty());
        out.extend([0x78, 0x78, length, self.number]);
        out.extend(repeated);
        out.extend(STOP);
    }
}

fn wifi(reader: &mut Reader, count: usize, network: &mut Network) -> Option<()> {
    for _ in 0..count {
        network.add_point(reader.array()?, reader.u8());
    }
    let cells = reader.u8()?;
    let mcc = reader.u16()?;
    let mnc = u16::from(reader.u8()?);
    for _ in 0..cells {
        let (lac, id) = (u32::from(reader.u16()?), u64::from(reader.u16()?));
        network.add_cell(Cell { mcc, mnc, lac, id });
        reader.skip(1)?;
    }
    Some(())
}
