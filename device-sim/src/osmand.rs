//! OsmAnd and Traccar Client as a phone speaks them: HTTP requests, one at a time, each kept until the status is 200.
//!
//! Written from the published list of parameters only. Phones of the older kind put everything into the query, those
//! of the newer kind post JSON.

use serde_json::json;

use crate::calendar::Clock;
use crate::dialect::{ANSWER_BYTES_MAX, Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::Report;

/// How a phone states its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Query,
    Json,
}

/// A phone.
#[derive(Debug)]
pub struct Speaker {
    id: String,
    form: Form,
    requests: u32,
    /// The request that awaits its answer.
    asked: Option<u32>,
    partial: Vec<u8>,
}

impl Speaker {
    /// A phone with this id. Forms take turns.
    pub fn new(id: &str, rank: u32) -> Speaker {
        Speaker {
            id: id.into(),
            form: match rank % 2 {
                0 => Form::Query,
                _ => Form::Json,
            },
            requests: 0,
            asked: None,
            partial: Vec::new(),
        }
    }
}

impl Dialect for Speaker {
    /// One request at a time; a server that is silent is left, since an answer does not say to what.
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: 1,
            live_max: 1,
            stored_max: 1,
            stored_above: usize::MAX,
            resends_max: 0,
        }
    }

    fn greet(&mut self, _out: &mut Vec<u8>) -> bool {
        self.asked = None;
        self.partial.clear();
        true
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        self.partial.extend_from_slice(bytes);
        while let Some((status, length)) = response(&self.partial)? {
            self.partial.drain(..length);
            let number = self.asked.take().ok_or(Damage::Form)?;
            match status {
                200 => each(Heard::Done(number)),
                _ => each(Heard::Not(number)),
            }
        }
        match self.partial.len() {
            0..=ANSWER_BYTES_MAX => Ok(()),
            _ => Err(Damage::Length),
        }
    }

    fn name(&mut self, _kind: Kind, _first: &Report) -> Name {
        self.requests = self.requests.wrapping_add(1);
        Name {
            number: self.requests,
            awaited: true,
        }
    }

    fn write(
        &mut self,
        name: Name,
        _kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        self.asked = Some(name.number);
        if let Some(report) = reports.next() {
            let request = match self.form {
                Form::Query => query(&self.id, report),
                Form::Json => post(&self.id, report),
            };
            out.extend_from_slice(request.as_bytes());
        }
    }
}

/// A coordinate with all its decimals.
fn degrees(e6: i32) -> String {
    let sign = if e6 < 0 { "-" } else { "" };
    let e6 = e6.unsigned_abs();
    format!("{sign}{}.{:06}", e6 / 1_000_000, e6 % 1_000_000)
}

fn query(id: &str, report: &Report) -> String {
    format!(
        "GET /?id={id}&timestamp={}&lat={}&lon={}&speed={:.3}&bearing={}&altitude={}&batt=87.0 HTTP/1.1\r\n\
         Host: tracking\r\nConnection: keep-alive\r\n\r\n",
        report.time_s,
        degrees(report.lat_e6),
        degrees(report.lon_e6),
        report.knots(),
        report.course_deg,
        report.altitude_m,
    )
}

fn post(id: &str, report: &Report) -> String {
    let clock = Clock::utc(report.time_s);
    let time = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.000Z",
        clock.year, clock.month, clock.day, clock.hour, clock.minute, clock.second
    );
    let body = json!({
        "location": {
            "timestamp": time,
            "coords": {
                "latitude": f64::from(report.lat_e6) / 1e6,
                "longitude": f64::from(report.lon_e6) / 1e6,
                "accuracy": 5.0,
                "speed": (f64::from(report.speed_dkmh) / 0.036).round() / 1e3,
                "heading": report.course_deg,
                "altitude": report.altitude_m,
            },
            "is_moving": report.speed_dkmh > 0,
            "odometer": report.odometer_hm * 100,
            "event": "motionchange",
            "battery": { "level": 0.87, "is_charging": false },
            "activity": { "type": "in_vehicle" },
            "extras": {},
        },
        "device_id": id,
    })
    .to_string();
    format!(
        "POST / HTTP/1.1\r\nHost: tracking\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
        body.len()
    )
}

/// Status of the first response, and its bytes, once it is complete.
fn response(bytes: &[u8]) -> Result<Option<(u16, usize)>, Damage> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Damage::Form)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or(Damage::Form)?;
    let mut length: usize = 0;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Damage::Form)?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| Damage::Length)?;
        }
    }
    let whole = (end + 4).saturating_add(length);
    match whole {
        0..=ANSWER_BYTES_MAX => Ok((bytes.len() >= whole).then_some((status, whole))),
        _ => Err(Damage::Length),
    }
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

    fn hear(dialect: &mut impl Dialect, bytes: &[u8]) -> Result<Vec<Heard>, Damage> {
        let mut all = Vec::new();
        dialect.hear(bytes, &mut Vec::new(), &mut |heard| all.push(heard))?;
        Ok(all)
    }

    /// Writes one message and returns its bytes.
    fn write(dialect: &mut impl Dialect, kind: Kind, reports: &[Report]) -> (Name, Vec<u8>) {
        let (name, mut out) = (dialect.name(kind, &reports[0]), Vec::new());
        dialect.write(name, kind, &mut reports.iter(), &mut out);
        (name, out)
    }

    #[test]
    fn query_has_the_published_parameters() {
        // 65 km/h are 35.097 knots.
        let line = "GET /?id=70000005&timestamp=1700000000&lat=-33.867485&lon=151.206990&speed=35.097\
                    &bearing=271&altitude=58&batt=87.0 HTTP/1.1\r\n";
        let request = query("70000005", &REPORT);
        assert!(request.starts_with(line), "{request}");
        assert!(request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn posted_json_has_the_published_members() {
        let request = post("70000012", &REPORT);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"));
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let location = &body["location"];
        assert_eq!(body["device_id"], "70000012");
        assert_eq!(location["timestamp"], "2023-11-14T22:13:20.000Z");
        let coords = &location["coords"];
        assert_eq!(coords["latitude"], -33.867485);
        assert_eq!(coords["longitude"], 151.20699);
        // 65 / 3.6
        assert_eq!(coords["speed"], 18.056);
        assert_eq!(
            (&coords["heading"], &coords["altitude"]),
            (&json!(271), &json!(58))
        );
    }

    #[test]
    fn small_coordinates_keep_their_sign_and_zeros() {
        assert_eq!(degrees(-5), "-0.000005");
        assert_eq!(degrees(10_000_050), "10.000050");
    }

    #[test]
    fn position_is_kept_until_the_status_is_200() {
        let mut phone = Speaker::new("70000005", 0);
        assert!(phone.greet(&mut Vec::new()));
        let (name, _) = write(&mut phone, Kind::Live, &[REPORT]);
        assert_eq!(
            hear(&mut phone, b"HTTP/1.1 200 OK\r\nContent-Le"),
            Ok(vec![])
        );
        assert_eq!(hear(&mut phone, b"ngth: 2\r\n\r\nO"), Ok(vec![]));
        assert_eq!(hear(&mut phone, b"K"), Ok(vec![Heard::Done(name.number)]));
        let (name, _) = write(&mut phone, Kind::Live, &[REPORT]);
        let bad = b"HTTP/1.1 400 Bad Request\r\ncontent-length:0\r\n\r\n";
        assert_eq!(hear(&mut phone, bad), Ok(vec![Heard::Not(name.number)]));
        assert_eq!(hear(&mut phone, bad), Err(Damage::Form), "to nothing");
    }

    #[test]
    fn damaged_answers_are_refused() {
        for (answer, damage) in [
            ("*HQ\r\n\r\n", Damage::Form),
            ("HTTP/1.1 200\r\nnothing\r\n\r\n", Damage::Form),
            (
                "HTTP/1.1 200\r\nContent-Length: 18446744073709551615\r\n\r\n",
                Damage::Length,
            ),
            ("HTTP/1.1 200\r\nContent-Length: -1\r\n\r\n", Damage::Length),
        ] {
            let mut phone = Speaker::new("70000005", 0);
            assert_eq!(hear(&mut phone, answer.as_bytes()), Err(damage), "{answer}");
        }
    }
}
