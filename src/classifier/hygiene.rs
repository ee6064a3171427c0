//! Hygiene: what a report may be believed for, before any rule sees it.
//!
//! A report whose position is rejected still counts for the alarms that its device states. "Future" is judged by the
//! clock at reception, not by that of the classifier, so that a frame judged again after a crash is judged alike, and
//! not at all while that clock is not synchronised.

use serde::{Deserialize, Serialize};

use crate::frame::{Fix, FixFields, Frame, FrameFlags};

use super::place::Place;

/// Reports that are remembered by their digest, a device.
pub const SEEN_REPORTS_MAX: usize = 16;

/// Why a fix is not used for what follows from position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// No time was stated, or zero.
    NoTime,
    /// The time lies ahead of a synchronised clock.
    Future,
    /// No position was stated.
    NoPosition,
    /// Latitude and longitude are both exactly zero: what receivers send before their first fix.
    Zero,
    /// Latitude, longitude or course lie where they cannot.
    OutOfRange,
    /// The receiver says that the position is not good.
    Invalid,
    /// Too far from the last place for the time between.
    Jump,
}

/// When the device says that it reported.
///
/// # Errors
/// [`Rejection::NoTime`] or [`Rejection::Future`].
pub fn time_of(frame: &Frame, future_max_ms: u64) -> Result<i64, Rejection> {
    let time_ms = frame
        .fix
        .time()
        .filter(|&ms| ms > 0)
        .ok_or(Rejection::NoTime)?;
    let synced = !frame.flags.has(FrameFlags::CLOCK_UNSYNCED);
    let latest_ms = frame
        .received_ms
        .saturating_add(i64::try_from(future_max_ms).unwrap_or(i64::MAX));
    if synced && time_ms > latest_ms {
        return Err(Rejection::Future);
    }
    Ok(time_ms)
}

/// Where a frame stands among those of its message: by time, those without one last, and never by the order in which
/// the device happened to put them.
pub fn order_key(frame: &Frame) -> (i64, u64) {
    (frame.fix.time().unwrap_or(i64::MAX), frame.digest)
}

/// Whether the position can be shown at all.
///
/// # Errors
/// [`Rejection::NoPosition`], [`Rejection::Zero`] or [`Rejection::OutOfRange`].
pub fn shown(fix: &Fix) -> Result<Place, Rejection> {
    if !fix.fields.has(FixFields::POSITION) {
        Err(Rejection::NoPosition)
    } else if fix.lat_e7 == 0 && fix.lon_e7 == 0 {
        Err(Rejection::Zero)
    } else if !fix.in_range() {
        Err(Rejection::OutOfRange)
    } else {
        Ok(Place::of(fix))
    }
}

/// Whether rules may use the position.
///
/// # Errors
/// As [`shown`], and [`Rejection::Invalid`].
pub fn usable(fix: &Fix) -> Result<Place, Rejection> {
    let place = shown(fix)?;
    let valid = fix.fields.has(FixFields::VALID);
    valid.then_some(place).ok_or(Rejection::Invalid)
}

/// Bytes of a digest that are kept. With 48 bits one report in 2^44 is taken for one of the last sixteen of its device
/// by mistake: once in fifty years at 10,000 reports a second.
const DIGEST_BYTES: usize = 6;

/// The digests of the last reports, to know one that comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    digests: [u64; SEEN_REPORTS_MAX],
    /// Reports ever remembered; the newest is at `count - 1` modulo the window.
    count: u64,
}

impl Seen {
    /// Whether a report with this digest is among the last ones.
    pub fn contains(&self, digest: u64) -> bool {
        self.digests[..self.kept()].contains(&cut(digest))
    }

    /// Whether the very last report had this digest.
    pub fn ends_with(&self, digest: u64) -> bool {
        self.count > 0 && self.digests[self.at(self.count - 1)] == cut(digest)
    }

    /// Remembers a report; the oldest falls out of the window.
    pub fn push(&mut self, digest: u64) {
        self.digests[self.at(self.count)] = cut(digest);
        self.count += 1;
    }

    /// Bytes by which the window may still grow.
    pub fn growth_bytes(&self) -> usize {
        (SEEN_REPORTS_MAX - self.kept()) * DIGEST_BYTES
    }

    fn kept(&self) -> usize {
        usize::try_from(self.count).map_or(SEEN_REPORTS_MAX, |n| n.min(SEEN_REPORTS_MAX))
    }

    fn at(&self, count: u64) -> usize {
        (count % SEEN_REPORTS_MAX as u64) as usize
    }
}

fn cut(digest: u64) -> u64 {
    digest & ((1 << (8 * DIGEST_BYTES)) - 1)
}

// As bytes, oldest first: a third of the time of sixteen numbers, and this is encoded for nearly every frame.
impl Serialize for Seen {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; SEEN_REPORTS_MAX * DIGEST_BYTES];
        let kept = self.kept();
        let oldest = self.count - kept as u64;
        for (out, count) in bytes.chunks_exact_mut(DIGEST_BYTES).zip(oldest..self.count) {
            out.copy_from_slice(&self.digests[self.at(count)].to_le_bytes()[..DIGEST_BYTES]);
        }
        to.serialize_bytes(&bytes[..kept * DIGEST_BYTES])
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Seen, D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        let mut seen = Seen::default();
        let (digests, rest) = bytes.as_chunks::<DIGEST_BYTES>();
        if !rest.is_empty() || digests.len() > SEEN_REPORTS_MAX {
            return Err(serde::de::Error::custom("window of digests is not valid"));
        }
        for digest in digests {
            let mut whole = [0; 8];
            whole[..DIGEST_BYTES].copy_from_slice(digest);
            seen.push(u64::from_le_bytes(whole));
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::testing::report;

    #[test]
    fn the_future_is_judged_by_the_clock_at_reception_and_only_if_it_is_synchronised() {
        let mut frame = report("1", 10_000);
        frame.received_ms = 4_000;
        assert_eq!(time_of(&frame, 5_999), Err(Rejection::Future));
        assert_eq!(time_of(&frame, 6_000), Ok(10_000));
        frame.flags.set(FrameFlags::CLOCK_UNSYNCED, true);
        assert_eq!(time_of(&frame, 0), Ok(10_000));
    }

    #[test]
    fn a_zero_time_is_none() {
        let mut frame = report("1", 0);
        assert_eq!(time_of(&frame, 0), Err(Rejection::NoTime));
        frame.fix.time_ms = 5;
        frame.fix.fields.0 &= !FixFields::TIME;
        assert_eq!(time_of(&frame, 0), Err(Rejection::NoTime));
    }

    #[test]
    fn positions_are_rejected_for_the_first_reason_that_holds() {
        let mut fix = report("1", 1).fix;
        assert!(usable(&fix).is_ok());
        fix.fields.0 &= !FixFields::VALID;
        assert_eq!(usable(&fix), Err(Rejection::Invalid));
        assert!(shown(&fix).is_ok());
        fix.lat_e7 = 900_000_001;
        assert_eq!(usable(&fix), Err(Rejection::OutOfRange));
        (fix.lat_e7, fix.lon_e7) = (0, 0);
        assert_eq!(usable(&fix), Err(Rejection::Zero));
        fix.fields.0 &= !FixFields::POSITION;
        assert_eq!(usable(&fix), Err(Rejection::NoPosition));
    }

    #[test]
    fn sixteen_reports_are_remembered_and_the_seventeenth_pushes_the_first_out() {
        let mut seen = Seen::default();
        assert!(!seen.contains(0), "an empty window holds nothing");
        (0..17).for_each(|digest| seen.push(digest));
        assert!(!seen.contains(0) && (1..17).all(|digest| seen.contains(digest)));
        assert!(seen.ends_with(16) && !seen.ends_with(15));
    }

    #[test]
    fn the_window_reads_back_at_any_fill() {
        let mut seen = Seen::default();
        for digest in 0..40 {
            let bytes = postcard::to_stdvec(&seen).unwrap();
            let back: Seen = postcard::from_bytes(&bytes).unwrap();
            assert!((0..50).all(|d| back.contains(d) == seen.contains(d)));
            assert_eq!(postcard::to_stdvec(&back).unwrap(), bytes);
            seen.push(digest);
        }
    }
}
