//! What the first digits of a protocol version say: which device it is, as far as that changes the layout.

/// Devices whose messages have the same heads and tails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// On a battery: charge stands before the send time.
    Portable,
    /// Built into a vehicle: mileage, engine hours, analogue inputs, charge and a status word.
    Vehicle,
}

/// A device type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) family: Family,
    /// Its messages have a VIN before the device's name.
    pub(super) vin: bool,
    /// The cell is followed by signal and error rate, the charge stands amid what follows (GL5x).
    pub(super) beacon: bool,
    /// Three analogue inputs, then digital ones, and no status word (GV200).
    pub(super) many_inputs: bool,
    /// The raw data of accessories have their length before them (GV600M).
    pub(super) raw_length: bool,
}

impl Model {
    /// The device type of a protocol version: two digits, then four of the version, or six and four.
    pub(super) fn of(version: &[u8]) -> Model {
        let code = version.get(..2).unwrap_or_default();
        let portable = matches!(
            code,
            b"01"
                | b"02"
                | b"07"
                | b"0A"
                | b"11"
                | b"12"
                | b"1A"
                | b"21"
                | b"28"
                | b"2C"
                | b"30"
                | b"40"
                | b"42"
                | b"44"
                | b"52"
                | b"55"
                | b"C3"
                | b"DE"
                | b"F5"
        );
        Model {
            family: match portable && version.len() <= 6 {
                true => Family::Portable,
                false => Family::Vehicle,
            },
            vin: matches!(code, b"1F" | b"2D" | b"36" | b"56" | b"5E"),
            beacon: matches!(code, b"40" | b"44" | b"DE"),
            many_inputs: matches!(code, b"04" | b"35"),
            raw_length: matches!(code, b"C2" | b"DC"),
        }
    }
}
