//! NMEA 0183 as a receiver behind a modem speaks it: its id on a line of its own, then RMC and GGA for each report.
//!
//! Written from the standard's field lists only. Nobody answers, so a server that says anything says rubbish.

use std::fmt::Write as _;

use crate::calendar::Clock;
use crate::dialect::{Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::{Report, degrees_minutes};

/// A receiver.
#[derive(Debug)]
pub struct Speaker {
    imei: String,
}

impl Speaker {
    /// A receiver behind a modem with this IMEI.
    pub fn new(imei: &str) -> Speaker {
        Speaker { imei: imei.into() }
    }
}

impl Dialect for Speaker {
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: 1,
            live_max: 1,
            stored_max: 1,
            stored_above: usize::MAX,
            resends_max: 0,
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.imei.as_bytes());
        out.extend_from_slice(b"\r\n");
        true
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        _each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        match bytes {
            [] => Ok(()),
            _ => Err(Damage::Form),
        }
    }

    fn name(&mut self, _kind: Kind, _first: &Report) -> Name {
        Name {
            number: 0,
            awaited: false,
        }
    }

    fn write(
        &mut self,
        _name: Name,
        _kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        if let Some(report) = reports.next() {
            let (time, date, place) = (when(report), date(report), place(report));
            let speed = format!("{:.3},{}.0", report.knots(), report.course_deg);
            sentence(&format!("GNRMC,{time},A,{place},{speed},{date},,,A"), out);
            let (satellites, altitude) = (report.satellites, report.altitude_m);
            let fix = format!("1,{satellites:02},0.9,{altitude}.0,M,0.0,M,,");
            sentence(&format!("GNGGA,{time},{place},{fix}"), out);
        }
    }
}

/// Appends a sentence with its check: the XOR of what stands between dollar and star.
fn sentence(text: &str, out: &mut Vec<u8>) {
    let check = text.bytes().fold(0, |sum, byte| sum ^ byte);
    out.extend_from_slice(format!("${text}*{check:02X}\r\n").as_bytes());
}

fn when(report: &Report) -> String {
    format!("{}.00", Clock::utc(report.time_s).hms())
}

fn date(report: &Report) -> String {
    Clock::utc(report.time_s).dmy()
}

/// Latitude and longitude, five decimals to the minutes.
fn place(report: &Report) -> String {
    let mut text = String::new();
    let sides = [
        (report.lat_e6, 2, ['N', 'S']),
        (report.lon_e6, 3, ['E', 'W']),
    ];
    for (at, (e6, digits, [plus, minus])) in sides.into_iter().enumerate() {
        let (degrees, e5) = degrees_minutes(e6);
        let (minutes, rest) = (e5 / 100_000, e5 % 100_000);
        let side = if e6 < 0 { minus } else { plus };
        let comma = if at == 0 { "" } else { "," };
        write!(
            text,
            "{comma}{degrees:0digits$}{minutes:02}.{rest:05},{side}"
        )
        .expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14T22:13:20Z near Sydney.
    const REPORT: Report = Report {
        time_s: 1_700_000_000,
        lat_e6: -33_867_485,
        lon_e6: 151_206_990,
        altitude_m: 58,
        speed_dkmh: 650,
        course_deg: 271,
        alarms: 0,
        odometer_hm: 12_345,
        satellites: 9,
        signal: 22,
    };

    #[test]
    fn sentence_ends_with_its_check() {
        // An example found in many texts.
        let mut out = Vec::new();
        sentence("GPGLL,5057.970,N,00146.110,E,142451,A", &mut out);
        assert_eq!(out, b"$GPGLL,5057.970,N,00146.110,E,142451,A*27\r\n");
    }

    #[test]
    fn report_is_rmc_and_gga_of_one_moment() {
        let mut receiver = Speaker::new("490154203237518");
        let mut out = Vec::new();
        assert!(receiver.greet(&mut out));
        assert_eq!(out, b"490154203237518\r\n");
        out.clear();
        let name = receiver.name(Kind::Live, &REPORT);
        assert!(!name.awaited);
        receiver.write(name, Kind::Live, &mut [REPORT].iter(), &mut out);
        // 33.867485 degrees: 52.04910 minutes; 151.206990: 12.41940. 65 km/h are 35.097 knots. Checks by hand.
        let expected = "$GNRMC,221320.00,A,3352.04910,S,15112.41940,E,35.097,271.0,141123,,,A*60\r\n\
                        $GNGGA,221320.00,3352.04910,S,15112.41940,E,1,09,0.9,58.0,M,0.0,M,,*67\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn server_that_speaks_is_none() {
        let mut receiver = Speaker::new("490154203237518");
        let heard = receiver.hear(b"ON", &mut Vec::new(), &mut |_| {});
        assert_eq!(heard, Err(Damage::Form));
    }
}
