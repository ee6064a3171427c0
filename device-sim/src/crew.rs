//! Who is in a fleet: which device speaks which protocol, and under which id it is known.
//!
//! Protocols take turns along the devices' indices, so that a fleet and a checker started apart agree.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::alarm;
use crate::report::Report;

/// Phone number of the first device of JT/T 808; the others follow.
pub const FIRST_PHONE: u64 = 13_900_000_000;
/// First eight digits of an IMEI: the model. Made up.
const MODEL: u64 = 86_699_900;
/// Id of the first device of H02.
const FIRST_H02: u64 = 4_100_000_000;
/// Id of the first device of OsmAnd.
const FIRST_OSMAND: u64 = 70_000_000;

/// What a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// JT/T 808, its three editions in turn.
    Jt808,
    /// Teltonika over TCP, Codec 8 and Codec 8 Extended in turn.
    Teltonika,
    /// Teltonika over UDP, Codec 8 and Codec 8 Extended in turn.
    TeltonikaUdp,
    /// GT06, newer and older location messages in turn.
    Gt06,
    /// H02, as text and packed in turn.
    H02,
    /// OsmAnd over HTTP, query and JSON in turn.
    Osmand,
    /// NMEA 0183 of a receiver that states its id first.
    Nmea,
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Which alarms a protocol has words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Bits of the alarm word that it can say.
    pub said: u32,
    /// Of those, the ones that it states for as long as they last, so that their end is known too.
    pub lasting: u32,
    /// One alarm to a report, and only to the first that knows of it.
    pub events: bool,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 7] = [
        Protocol::Jt808,
        Protocol::Teltonika,
        Protocol::TeltonikaUdp,
        Protocol::Gt06,
        Protocol::H02,
        Protocol::Osmand,
        Protocol::Nmea,
    ];

    /// Its name on the command line and in figures.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Jt808 => "jt808",
            Protocol::Teltonika => "teltonika",
            Protocol::TeltonikaUdp => "teltonika-udp",
            Protocol::Gt06 => "gt06",
            Protocol::H02 => "h02",
            Protocol::Osmand => "osmand",
            Protocol::Nmea => "nmea",
        }
    }

    /// What carries it.
    pub fn carrier(self) -> Carrier {
        match self {
            Protocol::TeltonikaUdp => Carrier::Udp,
            _ => Carrier::Tcp,
        }
    }

    /// Whether a report with this alarm word is answered.
    pub fn answers(self, word: u32) -> bool {
        match self {
            Protocol::Gt06 => word != 0,
            Protocol::H02 | Protocol::Nmea => false,
            _ => true,
        }
    }

    /// The alarms that it can say.
    pub fn vocabulary(self) -> Vocabulary {
        let both = 1 << alarm::SOS | 1 << alarm::POWER_CUT;
        match self {
            Protocol::Jt808 => Vocabulary {
                said: u32::MAX,
                lasting: !alarm::MOMENTARY,
                events: false,
            },
            Protocol::Teltonika | Protocol::TeltonikaUdp | Protocol::Gt06 => Vocabulary {
                said: both,
                lasting: 0,
                events: true,
            },
            // Its status word has states only, so that a button is one that lasts until its report is written.
            Protocol::H02 => Vocabulary {
                said: both,
                lasting: both,
                events: false,
            },
            Protocol::Osmand | Protocol::Nmea => Vocabulary {
                said: 0,
                lasting: 0,
                events: false,
            },
        }
    }

    /// A report in steps that the protocol carries exactly, and the step of its speed, 0.1 km/h.
    pub fn round(self, report: Report) -> (Report, u16) {
        // 5e-6 degree are 9 units of GT06 and 0.0003 minutes of H02.
        let place = |report: Report| Report {
            lat_e6: nearest(report.lat_e6, 5),
            lon_e6: nearest(report.lon_e6, 5),
            ..report
        };
        let speed = |report: Report| Report {
            speed_dkmh: nearest(i32::from(report.speed_dkmh), 10) as u16,
            ..report
        };
        let knots = |report: Report| Report {
            speed_dkmh: (report.knots().round() * 18.52).round() as u16,
            ..report
        };
        match self {
            Protocol::Jt808 | Protocol::Osmand | Protocol::Nmea => (report, 1),
            Protocol::Teltonika | Protocol::TeltonikaUdp => (speed(report), 10),
            Protocol::Gt06 => (speed(place(report)), 10),
            Protocol::H02 => (knots(place(report)), 1),
        }
    }

    fn id(self, index: u32) -> String {
        let index = u64::from(index);
        match self {
            Protocol::Jt808 => (FIRST_PHONE + index).to_string(),
            Protocol::H02 => (FIRST_H02 + index).to_string(),
            Protocol::Osmand => (FIRST_OSMAND + index).to_string(),
            _ => imei(MODEL * 1_000_000 + index),
        }
    }

    /// The device that may have this id.
    fn index(self, id: &str) -> Option<u64> {
        let number: u64 = id.parse().ok()?;
        match self {
            Protocol::Jt808 => number.checked_sub(FIRST_PHONE),
            Protocol::H02 => number.checked_sub(FIRST_H02),
            Protocol::Osmand => number.checked_sub(FIRST_OSMAND),
            _ => (number / 10).checked_sub(MODEL * 1_000_000),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Protocol, String> {
        let found = Protocol::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            let names = Protocol::ALL.map(Protocol::name).join(", ");
            format!("no protocol {name:?}; there are {names}, and all")
        })
    }
}

/// Reads names set apart by commas, or `all`. Each protocol is taken once, in the order of [`Protocol::ALL`].
///
/// # Errors
/// At a name that is none.
pub fn protocols(text: &str) -> Result<Vec<Protocol>, String> {
    if text == "all" {
        return Ok(Protocol::ALL.to_vec());
    }
    let mut named: Vec<Protocol> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

/// Where devices connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Those that speak over TCP.
    pub tcp: SocketAddr,
    /// Those that speak over UDP, if there is such a place.
    pub udp: Option<SocketAddr>,
}

/// The devices of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crew {
    devices: u32,
    protocols: Vec<Protocol>,
}

impl Crew {
    /// So many devices that speak these protocols in turn; JT/T 808 if none is named.
    pub fn new(devices: u32, protocols: &[Protocol]) -> Crew {
        let protocols = match protocols {
            [] => vec![Protocol::Jt808],
            named => named.to_vec(),
        };
        Crew { devices, protocols }
    }

    /// Count of devices.
    pub fn devices(&self) -> u32 {
        self.devices
    }

    /// The protocols spoken, in the order of their turns.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Which of [`Crew::protocols`] a device speaks.
    pub fn turn(&self, device: u32) -> usize {
        device as usize % self.protocols.len()
    }

    /// What a device speaks.
    pub fn protocol(&self, device: u32) -> Protocol {
        self.protocols[self.turn(device)]
    }

    /// How many devices before it speak the same.
    pub fn rank(&self, device: u32) -> u32 {
        device / self.protocols.len() as u32
    }

    /// Count of devices that speak the protocol of this turn.
    pub fn speakers(&self, turn: usize) -> u32 {
        let (turns, turn) = (self.protocols.len() as u32, turn as u32);
        self.devices / turns + u32::from(self.devices % turns > turn)
    }

    /// The id of a device.
    pub fn id(&self, device: u32) -> String {
        self.protocol(device).id(device)
    }

    /// The device with this id, if it is one of the fleet.
    pub fn device(&self, id: &str) -> Option<u32> {
        self.protocols.iter().find_map(|&protocol| {
            let device = protocol.index(id)?;
            let device = u32::try_from(device).ok().filter(|&d| d < self.devices)?;
            (self.protocol(device) == protocol && self.id(device) == id).then_some(device)
        })
    }
}

/// The nearest whole number of steps.
fn nearest(number: i32, step: i32) -> i32 {
    (number + step / 2).div_euclid(step) * step
}

/// Fourteen digits and the digit that Luhn's sum adds to them.
fn imei(digits: u64) -> String {
    let (mut rest, mut sum) = (digits, 0);
    // From the right, every other digit counts twice, beginning with the last before the check digit.
    for twice in [true, false].into_iter().cycle().take(14) {
        let digit = rest % 10;
        rest /= 10;
        sum += match twice {
            true => digit * 2 / 10 + digit * 2 % 10,
            false => digit,
        };
    }
    format!("{digits:014}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digit_of_an_imei_is_that_of_luhn() {
        // The example of the GSM Association's and other texts on IMEIs.
        assert_eq!(imei(49_015_420_323_751), "490154203237518");
        // 3+5+2+0 ... by hand: 35209900176148 gives 1.
        assert_eq!(imei(35_209_900_176_148), "352099001761481");
    }

    #[test]
    fn every_device_is_found_by_its_id_and_nobody_else() {
        let crew = Crew::new(30, &Protocol::ALL);
        for device in 0..30 {
            assert_eq!(crew.device(&crew.id(device)), Some(device));
        }
        let beyond = Crew::new(60, &Protocol::ALL);
        for device in 30..60 {
            assert_eq!(crew.device(&beyond.id(device)), None);
        }
        // The id that the device of index 1 would have if it spoke JT/T 808.
        for stranger in ["13900000001", "", "moon", "0013900000000"] {
            assert_eq!(crew.device(stranger), None, "{stranger}");
        }
        assert_eq!(crew.device("13900000000"), Some(0));
    }

    #[test]
    fn turns_cover_the_fleet() {
        let crew = Crew::new(30, &Protocol::ALL);
        let speakers: Vec<u32> = (0..7).map(|turn| crew.speakers(turn)).collect();
        assert_eq!(speakers, [5, 5, 4, 4, 4, 4, 4]);
        assert_eq!((crew.protocol(8), crew.rank(8)), (Protocol::Teltonika, 1));
        assert_eq!(Crew::new(3, &[]).protocol(2), Protocol::Jt808);
    }

    #[test]
    fn protocols_are_named_once_each() {
        let named = protocols("gt06,jt808,gt06").unwrap();
        assert_eq!(named, [Protocol::Jt808, Protocol::Gt06]);
        assert_eq!(protocols("all").unwrap(), Protocol::ALL);
        for bad in ["", "gt06,", "all,gt06", "GT06"] {
            assert!(protocols(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reports_are_rounded_to_what_a_protocol_carries() {
        let report = Report {
            lat_e6: -33_867_488,
            lon_e6: 151_206_987,
            speed_dkmh: 655,
            ..Report::default()
        };
        let (rounded, step) = Protocol::Gt06.round(report);
        assert_eq!(
            (rounded.lat_e6, rounded.lon_e6, rounded.speed_dkmh, step),
            (-33_867_490, 151_206_985, 660, 10)
        );
        // 35.4 knots become 35.
        assert_eq!(Protocol::H02.round(report).0.speed_dkmh, 648);
        assert_eq!(Protocol::Nmea.round(report), (report, 1));
    }
}
