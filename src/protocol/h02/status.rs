//! The status word: four bytes of negative logic, in which a bit that is 0 says that something is so.

use super::super::Report;
use crate::frame::{AlarmKind, Alarms, AttributeKey};

/// Bits that say the same in all documents, or the one thing that common devices use them for. Each is 0 for as long as
/// its condition lasts. The rest means other things to other vendors, or never changes, and stays in the word.
const ALARMS: [(u32, AlarmKind); 14] = [
    (0, AlarmKind::Vibration),
    (1, AlarmKind::Sos),
    (2, AlarmKind::Overspeed),
    (3, AlarmKind::IllegalIgnition),
    (4, AlarmKind::AreaCrossed),
    (5, AlarmKind::GnssAntennaCut),
    (6, AlarmKind::GnssAntennaShort),
    (7, AlarmKind::AreaCrossed),
    (15, AlarmKind::Overspeed),
    (16, AlarmKind::GnssFault),
    (18, AlarmKind::Sos),
    (19, AlarmKind::PowerCut),
    (21, AlarmKind::GnssAntennaCut),
    (22, AlarmKind::GnssAntennaShort),
];

const DOOR: u32 = 1 << 8;
const ARMED: u32 = 1 << 9;
/// The one bit that is 1 for the wish of who reads it: the ignition is on.
const IGNITION: u32 = 1 << 10;
const FUEL_CUT: u32 = 1 << 27;

/// The word of eight hexadecimal digits.
pub(super) fn parse(field: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(field).ok()?;
    let hex = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Alarms of a word.
pub(super) fn alarms(word: u32) -> Alarms {
    ALARMS
        .into_iter()
        .filter(|&(bit, _)| word & 1 << bit == 0)
        .map(|(_, kind)| kind)
        .collect()
}

/// Adds what a word says to a report.
pub(super) fn state(report: &mut Report, word: u32) {
    report.held = alarms(word);
    report.state(AttributeKey::Ignition, Some(word & IGNITION != 0));
    report.state(AttributeKey::StatusWord, Some(word));
    for (mask, key) in [
        (FUEL_CUT, AttributeKey::Blocked),
        (ARMED, AttributeKey::Armed),
    ] {
        report.state(key, (word & mask == 0).then_some(true));
    }
    report.state(AttributeKey::Doors, (word & DOOR == 0).then_some(1_u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_set_where_it_is_0() {
        assert!(alarms(u32::MAX).is_empty());
        // The document's example of an alarm: "FFFBFFFF" is SOS.
        assert_eq!(alarms(0xfffb_ffff), AlarmKind::Sos.into());
        assert_eq!(alarms(0xfff7_fffe), {
            let mut both = Alarms::from(AlarmKind::PowerCut);
            both.insert(AlarmKind::Vibration);
            both
        });
    }

    #[test]
    fn a_word_has_eight_hexadecimal_digits() {
        assert_eq!(parse(b"FFFFFbff"), Some(0xffff_fbff));
        for bad in [&b"FFFFFBF"[..], b"FFFFFBFF0", b"+FFFFBFF", b""] {
            assert_eq!(parse(bad), None);
        }
    }
}
