//! The alarm words of one device: what is pressed or begins, as its protocol has words for it.
//!
//! Promises that nothing that happened is forgotten before a report has stated it.

use crate::alarm::MOMENTARY;
use crate::crew::Vocabulary;

/// The alarms that the next report states.
#[derive(Debug)]
pub(super) struct Alarms {
    vocabulary: Vocabulary,
    /// Buttons that were pressed and not answered, or events that no report has stated yet.
    pending: u32,
    /// Conditions of the report before.
    conditions: u32,
}

impl Alarms {
    /// Of a device to which nothing has happened yet.
    pub(super) fn of(vocabulary: Vocabulary) -> Alarms {
        Alarms {
            vocabulary,
            pending: 0,
            conditions: 0,
        }
    }

    /// Takes what happened since the last report and returns the alarm word of the next.
    pub(super) fn next(&mut self, pressed: u32, held: u32) -> u32 {
        let Vocabulary { said, events, .. } = self.vocabulary;
        let (pressed, held) = (pressed & said, held & said);
        let begun = held & !self.conditions;
        self.conditions = held;
        if events {
            self.pending |= pressed | begun;
            // The lowest bit alone: a report has room for one event.
            let stated = self.pending & self.pending.wrapping_neg();
            self.pending &= !stated;
            stated
        } else {
            self.pending |= pressed & MOMENTARY;
            self.pending | held
        }
    }

    /// A report was answered, or written if no answer comes: its buttons are let go.
    pub(super) fn settle(&mut self, word: u32) {
        if !self.vocabulary.events {
            self.pending &= !word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm;
    use crate::crew::Protocol;

    const SOS: u32 = 1 << alarm::SOS;
    const POWER_CUT: u32 = 1 << alarm::POWER_CUT;

    #[test]
    fn events_are_stated_once_and_one_at_a_time() {
        let mut alarms = Alarms::of(Protocol::Gt06.vocabulary());
        // What happens before each report: a press and the loss of power at once, which lasts, ends, and begins anew.
        let happens = [
            (0, 0),
            (SOS, POWER_CUT),
            (0, POWER_CUT),
            (0, POWER_CUT),
            (0, 0),
            (0, POWER_CUT),
        ];
        let words = happens.map(|(pressed, held)| {
            let word = alarms.next(pressed, held);
            alarms.settle(word);
            word
        });
        assert_eq!(words, [0, SOS, POWER_CUT, 0, 0, POWER_CUT]);
    }

    #[test]
    fn what_a_protocol_has_no_word_for_is_not_stated() {
        let mut alarms = Alarms::of(Protocol::Nmea.vocabulary());
        assert_eq!(alarms.next(SOS, POWER_CUT), 0);
        let mut alarms = Alarms::of(Protocol::H02.vocabulary());
        assert_eq!(alarms.next(SOS, POWER_CUT | 2), SOS | POWER_CUT);
        alarms.settle(SOS | POWER_CUT);
        assert_eq!(alarms.next(0, POWER_CUT), POWER_CUT);
    }
}
