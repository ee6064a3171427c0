//! Long messages, which come in parts, put together within limits.

use super::super::Arrival;
use super::envelope::Header;
use crate::frame::DeviceId;

/// Most parts of a message. Each has up to 1,023 bytes and a connection holds one such message, so this is what a
/// connection can cost.
const LONG_PARTS_MAX: u16 = 32;

/// A message whose first part is older than this starts anew.
const LONG_AGE_MS_MAX: i64 = 120_000;

/// A long message of which not all parts are here.
pub(super) struct LongMessage {
    device: Option<DeviceId>,
    id: u16,
    first_serial: u16,
    started_ms: i64,
    parts: Vec<Option<Vec<u8>>>,
}

/// What a part led to.
pub(super) enum Progress {
    /// Of too many parts, or with numbers that make no sense.
    Refused,
    /// Others are to come.
    More,
    /// The last one is here, others were lost.
    Missing {
        /// Serial number of the first part.
        first: u16,
        /// Numbers of the missing parts, from 1.
        numbers: Vec<u16>,
    },
    /// The whole body.
    Whole(Vec<u8>),
}

/// Takes a part. Parts of one message have consecutive serial numbers, which is how they find each other; a part of
/// another message gives up the one that was begun.
pub(super) fn collect(
    slot: &mut Option<Box<LongMessage>>,
    header: &Header,
    body: &[u8],
    now: Arrival,
) -> Progress {
    let Some((total, number)) = header.part else {
        return Progress::Refused;
    };
    if total == 0 || total > LONG_PARTS_MAX || !(1..=total).contains(&number) {
        return Progress::Refused;
    }
    let first_serial = header.serial.wrapping_sub(number - 1);
    let same = |long: &LongMessage| {
        long.device == header.device
            && long.id == header.id
            && long.first_serial == first_serial
            && long.parts.len() == usize::from(total)
            && now.wall_ms - long.started_ms <= LONG_AGE_MS_MAX
    };
    let mut long = match slot.take() {
        Some(long) if same(&long) => long,
        _ => Box::new(LongMessage {
            device: header.device,
            id: header.id,
            first_serial,
            started_ms: now.wall_ms,
            parts: vec![None; usize::from(total)],
        }),
    };
    let place = &mut long.parts[usize::from(number) - 1];
    if place.is_none() {
        *place = Some(body.to_vec());
    }
    let missing = |(at, part): (usize, &Option<Vec<u8>>)| part.is_none().then_some(at as u16 + 1);
    let numbers: Vec<u16> = long.parts.iter().enumerate().filter_map(missing).collect();
    if numbers.is_empty() {
        let parts: Vec<_> = long.parts.into_iter().flatten().collect();
        return Progress::Whole(parts.concat());
    }
    *slot = Some(long);
    if number == total {
        Progress::Missing {
            first: first_serial,
            numbers,
        }
    } else {
        Progress::More
    }
}
