//! The alarm word: which bit means what, and how it behaves, by the standard.

/// How a bit behaves after it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Set by an event; the device clears it when a report that carries it is answered.
    Momentary,
    /// Set while a condition lasts.
    Held,
}

/// SOS: the emergency button.
pub const SOS: u8 = 0;
/// The main power is lost.
pub const POWER_CUT: u8 = 8;

/// Kind and life by bit; the kinds' names are those of events.
pub const BITS: [(&str, Life); 32] = {
    use Life::{Held, Momentary};
    [
        ("sos", Momentary),
        ("overspeed", Held),
        ("fatigue", Held),
        ("danger", Momentary),
        ("gnss_fault", Held),
        ("gnss_antenna_cut", Held),
        ("gnss_antenna_short", Held),
        ("power_low", Held),
        ("power_cut", Held),
        ("display_fault", Held),
        ("speech_fault", Held),
        ("camera_fault", Held),
        ("card_reader_fault", Held),
        ("overspeed_warning", Held),
        ("fatigue_warning", Held),
        ("rule_violation", Held),
        ("tyre_pressure", Held),
        ("blind_spot", Held),
        ("driving_time", Held),
        ("parking", Held),
        ("area_crossed", Momentary),
        ("route_crossed", Momentary),
        ("section_time", Momentary),
        ("off_route", Held),
        ("speed_sensor_fault", Held),
        ("fuel_abnormal", Held),
        ("theft", Held),
        ("illegal_ignition", Momentary),
        ("illegal_movement", Momentary),
        ("collision", Held),
        ("rollover", Held),
        ("door_opened", Momentary),
    ]
};

/// The momentary bits as a mask.
pub const MOMENTARY: u32 = {
    let mut mask = 0;
    let mut bit = 0;
    while bit < 32 {
        if matches!(BITS[bit].1, Life::Momentary) {
            mask |= 1 << bit;
        }
        bit += 1;
    }
    mask
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentary_bits_are_those_that_an_answer_clears() {
        // The bits marked "ack" in the standard's table.
        let marked = [0, 3, 20, 21, 22, 27, 28, 31];
        assert_eq!(MOMENTARY, marked.iter().map(|bit| 1 << bit).sum::<u32>());
        assert_eq!(BITS[usize::from(POWER_CUT)], ("power_cut", Life::Held));
    }
}
