//! What a device says beside its position, under one set of names and units.

use serde::{Deserialize, Serialize};

/// A value as sent. Numbers are in the unit that the key's name ends in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text, or raw bytes as hex.
    Text(String),
}

macro_rules! keys {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// A standard attribute, or one that only its vendor knows.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum AttributeKey {
            $(#[doc = $doc] $variant,)*
            /// An attribute without a standard name.
            Other(String),
        }

        impl AttributeKey {
            /// The name in JSON, unit last.
            pub fn name(&self) -> &str {
                match self { $(AttributeKey::$variant => $name,)* AttributeKey::Other(name) => name }
            }
        }
    };
}

keys! {
    AlarmWord "alarm_word" "The protocol's alarm bits as sent.",
    StatusWord "status_word" "The protocol's status bits as sent.",
    Ignition "ignition" "Whether the ignition (ACC) is on.",
    Motion "motion" "Whether the device says that it moves.",
    OdometerM "odometer_m" "Total distance, metres.",
    FuelL "fuel_l" "Fuel in the tank, litres.",
    FuelPercent "fuel_percent" "Fuel in the tank, percent.",
    TachographSpeedMps "tachograph_speed_mps" "Speed by the vehicle's own sensor, metres per second.",
    PowerV "power_v" "Supply voltage.",
    BatteryV "battery_v" "Voltage of the device's battery.",
    BatteryPercent "battery_percent" "Charge of the device's battery, percent.",
    SignalPercent "signal_percent" "Mobile network signal, in the protocol's own scale.",
    TemperatureC "temperature_c" "Temperature, degrees Celsius.",
    Hdop "hdop" "Horizontal dilution of precision.",
    Pdop "pdop" "Dilution of precision in position.",
    FixMode "fix_mode" "Quality or mode of the fix as the receiver states it.",
    DriverId "driver_id" "Who drives.",
    Blocked "blocked" "Whether the fuel line or circuit is cut.",
    Doors "doors" "Open doors, one bit each.",
    Protocol "protocol_version" "Revision of the protocol.",
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub key: AttributeKey,
    /// Its value.
    pub value: Value,
}

impl Attribute {
    /// A standard attribute.
    pub fn new(key: AttributeKey, value: Value) -> Attribute {
        Attribute { key, value }
    }

    /// A vendor's attribute.
    pub fn named(name: impl Into<String>, value: Value) -> Attribute {
        Attribute {
            key: AttributeKey::Other(name.into()),
            value,
        }
    }
}
