//! What a device says beside its position, under one set of names and units.

use std::borrow::Cow;

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
            Other(Cow<'static, str>),
        }

        impl AttributeKey {
            /// Names and meanings of the standard attributes.
            pub const STANDARD: &'static [(&'static str, &'static str)] = &[$(($name, $doc),)*];

            /// The name in JSON, unit last.
            pub fn name(&self) -> &str {
                match self { $(AttributeKey::$variant => $name,)* AttributeKey::Other(name) => name }
            }

            /// The standard attribute of that name, or one that only its vendor knows.
            pub fn from_name(name: &str) -> AttributeKey {
                match name {
                    $($name => AttributeKey::$variant,)*
                    name => AttributeKey::Other(Cow::Owned(name.to_owned())),
                }
            }
        }
    };
}

keys! {
    AlarmWord "alarm_word" "The protocol's alarm bits or code as sent.",
    StatusWord "status_word" "The protocol's status bits as sent.",
    Event "event" "Code of the event that made the device report, as sent.",
    Ignition "ignition" "Whether the ignition (ACC) is on.",
    Motion "motion" "Whether the device says that it moves.",
    OdometerM "odometer_m" "Total distance, metres.",
    TripM "trip_m" "Distance of this trip, metres.",
    EngineS "engine_s" "Running time of the engine in all, seconds.",
    FuelL "fuel_l" "Fuel in the tank, litres.",
    FuelPercent "fuel_percent" "Fuel in the tank, percent.",
    FuelUsedL "fuel_used_l" "Fuel used in all, litres.",
    FuelLPerH "fuel_l_per_h" "Fuel used now, litres an hour.",
    EngineRpm "engine_rpm" "Speed of the engine, turns a minute.",
    EngineLoadPercent "engine_load_percent" "Load of the engine, percent.",
    ThrottlePercent "throttle_percent" "Position of the throttle, percent.",
    CoolantC "coolant_c" "Temperature of the engine's coolant, degrees Celsius.",
    TachographSpeedMps "tachograph_speed_mps" "Speed by the vehicle's own sensor or bus, metres per second.",
    PowerV "power_v" "Supply voltage.",
    BatteryV "battery_v" "Voltage of the device's battery.",
    BatteryPercent "battery_percent" "Charge of the device's battery, percent.",
    BatteryMa "battery_ma" "Current into the device's battery, milliamperes.",
    Charging "charging" "Whether the device's battery is being charged.",
    Signal "signal" "Mobile network signal, in the protocol's own scale.",
    SignalDbm "signal_dbm" "Mobile network signal, dBm.",
    TemperatureC "temperature_c" "Temperature, degrees Celsius.",
    Temperature2C "temperature_2_c" "Temperature of the second sensor, degrees Celsius.",
    Temperature3C "temperature_3_c" "Temperature of the third sensor, degrees Celsius.",
    Temperature4C "temperature_4_c" "Temperature of the fourth sensor, degrees Celsius.",
    HumidityPercent "humidity_percent" "Relative humidity, percent.",
    Hdop "hdop" "Horizontal dilution of precision.",
    Vdop "vdop" "Vertical dilution of precision.",
    Pdop "pdop" "Dilution of precision in position.",
    FixMode "fix_mode" "Quality or mode of the fix as the receiver states it.",
    DeadReckoning "dead_reckoning" "Whether the position was extrapolated without satellites.",
    SatellitesInView "satellites_in_view" "Count of satellites in view.",
    GeoidSeparationM "geoid_separation_m" "Height of the geoid above the ellipsoid, metres.",
    Inputs "inputs" "Digital inputs, bit 0 the first.",
    Outputs "outputs" "Digital outputs, bit 0 the first.",
    Analog1V "analog_1_v" "First analogue input, volts.",
    Analog2V "analog_2_v" "Second analogue input, volts.",
    Analog3V "analog_3_v" "Third analogue input, volts.",
    Analog4V "analog_4_v" "Fourth analogue input, volts.",
    AccelerationXMg "acceleration_x_mg" "Acceleration along x, 0.001 of gravity.",
    AccelerationYMg "acceleration_y_mg" "Acceleration along y, 0.001 of gravity.",
    AccelerationZMg "acceleration_z_mg" "Acceleration along z, 0.001 of gravity.",
    DriverId "driver_id" "Who drives.",
    Vin "vin" "Identification number of the vehicle.",
    FaultCodes "fault_codes" "Diagnostic trouble codes, separated by spaces.",
    Blocked "blocked" "Whether the fuel line or circuit is cut.",
    Armed "armed" "Whether the alarm system is armed.",
    Doors "doors" "Open doors, one bit each; 1 for a door that is not named.",
    Area "area" "The device's own area or fence that the report is about.",
    Cells "cells" "Cells heard, MCC-MNC-LAC-cell, separated by spaces.",
    Wifi "wifi" "Access points heard, address and signal, separated by spaces.",
    Operator "operator" "Code of the mobile network, MCC and MNC.",
    Roaming "roaming" "Whether the mobile network is a foreign one.",
    Iccid "iccid" "Number of the SIM card.",
    Imsi "imsi" "Number of the subscriber.",
    Imei "imei" "Number of the modem, where it is not the device's id.",
    Model "model" "Model of the device.",
    Firmware "firmware" "Version of the device's program.",
    Hardware "hardware" "Version of the device's hardware.",
    Priority "priority" "How urgent the device says that the report is, in its own scale.",
    Steps "steps" "Steps counted.",
    Text "text" "Text that the device sent.",
    Result "result" "What the device answered to a command.",
    Protocol "protocol_version" "Revision of the protocol.",
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $to:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Value {
                $to
            }
        })*
    };
}

value_from! {
    bool => |value| Value::Bool(value);
    u8 => |value| Value::Int(i64::from(value));
    i8 => |value| Value::Int(i64::from(value));
    u16 => |value| Value::Int(i64::from(value));
    i16 => |value| Value::Int(i64::from(value));
    u32 => |value| Value::Int(i64::from(value));
    i32 => |value| Value::Int(i64::from(value));
    i64 => |value| Value::Int(value);
    f64 => |value| Value::Float(value);
    &str => |value| Value::Text(value.to_owned());
    String => |value| Value::Text(value);
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
    pub fn new(key: AttributeKey, value: impl Into<Value>) -> Attribute {
        Attribute {
            key,
            value: value.into(),
        }
    }

    /// A vendor's attribute.
    pub fn named(name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Attribute {
        Attribute {
            key: AttributeKey::Other(name.into()),
            value: value.into(),
        }
    }
}
