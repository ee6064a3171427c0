//! The one list of alarm kinds: what devices report and what rules find, under the same names.

use serde::{Deserialize, Serialize};

/// How much an alarm matters to whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now; refused last when the journal fills.
    Critical,
}

macro_rules! kinds {
    ($($variant:ident $name:literal $severity:ident $doc:literal,)*) => {
        /// What happened. Numbers are bit positions in [`Alarms`] and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        #[serde(rename_all = "snake_case")]
        pub enum AlarmKind { $(#[doc = $doc] $variant,)* }

        impl AlarmKind {
            /// Every kind, in the order of its bit.
            pub const ALL: &'static [AlarmKind] = &[$(AlarmKind::$variant,)*];

            /// The name in topics, payloads and configuration.
            pub fn name(self) -> &'static str {
                match self { $(AlarmKind::$variant => $name,)* }
            }

            /// The kind of that name.
            pub fn from_name(name: &str) -> Option<AlarmKind> {
                match name { $($name => Some(AlarmKind::$variant),)* _ => None }
            }

            /// How much it matters where no rule says otherwise.
            pub fn severity(self) -> Severity {
                match self { $(AlarmKind::$variant => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    Sos "sos" Critical "The emergency button was pressed.",
    Overspeed "overspeed" Warning "Faster than allowed, by the device's or by our rule.",
    OverspeedWarning "overspeed_warning" Info "Close to the allowed speed.",
    Fatigue "fatigue" Warning "The driver drove for too long without a break.",
    FatigueWarning "fatigue_warning" Info "A break is due soon.",
    Danger "danger" Critical "Danger warning or dangerous driving.",
    GnssFault "gnss_fault" Warning "The positioning module failed.",
    GnssAntennaCut "gnss_antenna_cut" Warning "The antenna is open or cut.",
    GnssAntennaShort "gnss_antenna_short" Warning "The antenna is shorted.",
    PowerLow "power_low" Warning "The main power is low.",
    PowerCut "power_cut" Critical "The main power is lost.",
    DisplayFault "display_fault" Info "The display failed.",
    SpeechFault "speech_fault" Info "The speech module failed.",
    CameraFault "camera_fault" Info "The camera failed.",
    CardReaderFault "card_reader_fault" Info "The driver card module failed.",
    TyrePressure "tyre_pressure" Warning "A tyre's pressure is wrong.",
    BlindSpot "blind_spot" Warning "Somebody is in the blind spot.",
    DrivingTime "driving_time" Warning "The day's driving time is exceeded.",
    Parking "parking" Info "Parked for too long.",
    AreaCrossed "area_crossed" Warning "The device entered or left an area of its own.",
    RouteCrossed "route_crossed" Warning "The device entered or left a route of its own.",
    SectionTime "section_time" Info "A section was driven too fast or too slowly.",
    OffRoute "off_route" Warning "Off the route.",
    SpeedSensorFault "speed_sensor_fault" Info "The vehicle's speed sensor failed.",
    FuelAbnormal "fuel_abnormal" Warning "The fuel level changed oddly.",
    Theft "theft" Critical "The anti-theft unit reports theft.",
    IllegalIgnition "illegal_ignition" Critical "The ignition was switched on without leave.",
    IllegalMovement "illegal_movement" Critical "Moved without leave, or towed.",
    Collision "collision" Critical "A collision, or a warning of one.",
    Rollover "rollover" Critical "A roll-over, or a warning of one.",
    DoorOpened "door_opened" Warning "A door was opened without leave.",
    RuleViolation "rule_violation" Warning "The device reports a rule violation.",
    Geofence "geofence" Warning "Inside a fence: raised on entry, cleared on exit.",
    HarshAcceleration "harsh_acceleration" Info "Accelerated hard.",
    HarshBraking "harsh_braking" Info "Braked hard.",
    HarshCornering "harsh_cornering" Info "Cornered hard.",
    BatteryLow "battery_low" Info "The device's own battery is low.",
    Tampering "tampering" Critical "The device was opened or tampered with.",
    Vibration "vibration" Info "Vibration while parked.",
    Jamming "jamming" Critical "Radio or positioning signals are jammed.",
    Idling "idling" Info "The engine runs while the vehicle stands.",
    Silence "silence" Warning "Nothing heard for too long.",
    FixLost "fix_lost" Info "No position for too long.",
    Custom "custom" Warning "A rule of the user's.",
    Fall "fall" Critical "The device or who wears it fell.",
    Temperature "temperature" Warning "A temperature is out of its range.",
    EngineSpeed "engine_speed" Info "The engine turned too fast.",
    VehicleFault "vehicle_fault" Warning "The vehicle reports a fault of its own.",
    PoweredOff "powered_off" Warning "The device was switched off or ran out of power.",
    SimChanged "sim_changed" Warning "The SIM card was changed or taken out.",
    LowSpeed "low_speed" Info "Slower than allowed by the device's own rule.",
    LaneDeparture "lane_departure" Info "The vehicle left its lane.",
    Unspecified "unspecified" Warning "The device reports an alarm without saying which.",
}

/// A set of kinds, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms(pub u64);

impl Alarms {
    /// Whether `kind` is in the set.
    pub fn contains(self, kind: AlarmKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Adds `kind`.
    pub fn insert(&mut self, kind: AlarmKind) {
        self.0 |= 1 << kind as u8;
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the set; bits without a kind are passed over.
    pub fn iter(self) -> impl Iterator<Item = AlarmKind> {
        AlarmKind::ALL
            .iter()
            .copied()
            .filter(move |&kind| self.contains(kind))
    }
}

impl From<AlarmKind> for Alarms {
    fn from(kind: AlarmKind) -> Alarms {
        Alarms(1 << kind as u8)
    }
}

impl FromIterator<AlarmKind> for Alarms {
    fn from_iter<I: IntoIterator<Item = AlarmKind>>(kinds: I) -> Alarms {
        let mut set = Alarms::default();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

const _: () = assert!(AlarmKind::ALL.len() <= 64, "a kind is a bit of a u64");
