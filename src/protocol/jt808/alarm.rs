//! The alarm word: which bit means what, and which bits a terminal drops when it is answered.

use super::envelope::Edition;
use crate::frame::{AlarmKind, Alarms};

/// What a set bit says about the time after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Set until the condition ends.
    Held,
    /// Dropped once answered.
    Momentary,
}

/// The bits, lowest first. The flag marks those that only the edition of 2019 defines: before, they are reserved, and
/// vendors use them for other things.
const BITS: [(AlarmKind, Stay, bool); 32] = [
    (AlarmKind::Sos, Stay::Momentary, false),
    (AlarmKind::Overspeed, Stay::Held, false),
    (AlarmKind::Fatigue, Stay::Held, false),
    (AlarmKind::Danger, Stay::Momentary, false),
    (AlarmKind::GnssFault, Stay::Held, false),
    (AlarmKind::GnssAntennaCut, Stay::Held, false),
    (AlarmKind::GnssAntennaShort, Stay::Held, false),
    (AlarmKind::PowerLow, Stay::Held, false),
    (AlarmKind::PowerCut, Stay::Held, false),
    (AlarmKind::DisplayFault, Stay::Held, false),
    (AlarmKind::SpeechFault, Stay::Held, false),
    (AlarmKind::CameraFault, Stay::Held, false),
    (AlarmKind::CardReaderFault, Stay::Held, false),
    (AlarmKind::OverspeedWarning, Stay::Held, false),
    (AlarmKind::FatigueWarning, Stay::Held, false),
    (AlarmKind::RuleViolation, Stay::Held, true),
    (AlarmKind::TyrePressure, Stay::Held, true),
    (AlarmKind::BlindSpot, Stay::Held, true),
    (AlarmKind::DrivingTime, Stay::Held, false),
    (AlarmKind::Parking, Stay::Held, false),
    (AlarmKind::AreaCrossed, Stay::Momentary, false),
    (AlarmKind::RouteCrossed, Stay::Momentary, false),
    (AlarmKind::SectionTime, Stay::Momentary, false),
    (AlarmKind::OffRoute, Stay::Held, false),
    (AlarmKind::SpeedSensorFault, Stay::Held, false),
    (AlarmKind::FuelAbnormal, Stay::Held, false),
    (AlarmKind::Theft, Stay::Held, false),
    (AlarmKind::IllegalIgnition, Stay::Momentary, false),
    (AlarmKind::IllegalMovement, Stay::Momentary, false),
    (AlarmKind::Collision, Stay::Held, false),
    (AlarmKind::Rollover, Stay::Held, false),
    (AlarmKind::DoorOpened, Stay::Momentary, false),
];

/// The held and the momentary alarms of a word.
pub(super) fn alarms(mut word: u32, edition: Edition) -> (Alarms, Alarms) {
    let (mut held, mut momentary) = (Alarms::default(), Alarms::default());
    while word != 0 {
        let (kind, stay, since_2019) = BITS[word.trailing_zeros() as usize];
        word &= word - 1;
        if since_2019 && edition != Edition::Of2019 {
            continue;
        }
        match stay {
            Stay::Held => held.insert(kind),
            Stay::Momentary => momentary.insert(kind),
        }
    }
    (held, momentary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_an_answer_clears_are_momentary_and_the_others_held() {
        // Bits 0, 3, 20, 21, 22, 27, 28 and 31 are cleared by the answer.
        let acknowledged = 0x9870_0009;
        let (held, momentary) = alarms(u32::MAX, Edition::Of2019);
        assert_eq!(
            alarms(acknowledged, Edition::Of2019),
            (Alarms::default(), momentary)
        );
        assert_eq!(
            alarms(!acknowledged, Edition::Of2019),
            (held, Alarms::default())
        );
        assert_eq!(
            held.iter().count() + momentary.iter().count(),
            32,
            "each bit is a kind of its own"
        );
    }

    #[test]
    fn bits_reserved_before_2019_mean_nothing_in_older_headers() {
        let none = Alarms::default();
        assert_eq!(alarms(0b111 << 15, Edition::Of2013), (none, none));
        assert!(
            alarms(1 << 16, Edition::Of2019)
                .0
                .contains(AlarmKind::TyrePressure)
        );
    }

    #[test]
    fn emergency_and_power_cut_are_where_the_standard_puts_them() {
        let (held, momentary) = alarms(1 | 1 << 8, Edition::Of2013);
        assert_eq!(
            (held, momentary),
            (AlarmKind::PowerCut.into(), AlarmKind::Sos.into())
        );
    }
}
