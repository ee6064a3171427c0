use super::*;
use crate::frame::{Attribute, FixFields, TimeSource, Value, rfc3339_ms};

/// 2026-06-15T12:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_800_000,
};

fn live() -> Session {
    Session::new(&Settings::default(), Mode::Epoch)
}

fn tpv(device: &str, second: u8, more: &str) -> String {
    format!(
        "{{\"class\":\"TPV\",\"device\":\"{device}\",\"mode\":3,\"time\":\"2026-06-15T11:59:{second:02}.000Z\",\
         \"lat\":48.1173,\"lon\":-11.5{more}}}\r\n"
    )
}

/// Feeds `stream` in pieces; gives each report with its device and the number of bytes that had been fed.
fn feed(session: &mut Session, stream: &str, chunk_bytes: usize) -> Vec<(usize, String, Report)> {
    let (mut unread, mut fed) = (Vec::new(), 0);
    let mut reports = Vec::new();
    let mut add = |fed: usize, message: Message| {
        let device = message.device.map(|device| device.to_string());
        let device = device.unwrap_or_default();
        reports.extend(
            message
                .reports
                .into_iter()
                .map(|report| (fed, device.clone(), report)),
        );
    };
    for chunk in stream.as_bytes().chunks(chunk_bytes) {
        unread.extend(chunk);
        fed += chunk.len();
        loop {
            match session.split(&unread) {
                Split::Message { range, consumed } => {
                    if let Ok(message) = session.decode(&unread[range], NOW) {
                        add(fed, message);
                    }
                    unread.drain(..consumed);
                }
                Split::Rubbish { consumed, .. } => drop(unread.drain(..consumed)),
                Split::Incomplete => break,
            }
        }
    }
    while let Some(message) = session.flush() {
        add(fed, message);
    }
    reports
}

fn said(attributes: &[Attribute], key: &AttributeKey) -> Option<Value> {
    let attribute = attributes.iter().find(|a| a.key == *key);
    attribute.map(|a| a.value.clone())
}

#[test]
fn an_object_is_a_report_of_the_receiver_at_its_path() {
    let more = ",\"altHAE\":592.0,\"altMSL\":545.4,\"alt\":1.0,\"speed\":11.524,\"track\":84.404,\"eph\":4.5,\
                \"status\":5,\"geoidSep\":46.6,\"unheard\":{\"of\":[1]}";
    let sky = "{\"class\":\"SKY\",\"device\":\"/dev/ttyACM0\",\"hdop\":0.9,\"pdop\":1.8,\"satellites\":[\
               {\"PRN\":1,\"used\":true},{\"PRN\":2,\"used\":false},{\"PRN\":3,\"used\":true}]}\r\n";
    let stream = [sky, &tpv("/dev/ttyACM0", 59, more)].concat();
    let reports = feed(&mut live(), &stream, usize::MAX);
    let [(_, device, report)] = &reports[..] else {
        panic!("one report");
    };
    let fix = &report.fix;
    assert_eq!(device, "ttyACM0");
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, -115_000_000));
    assert_eq!((fix.altitude_mm, fix.accuracy_mm), (545_400, 4500));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (11_524, 8440));
    assert_eq!((fix.satellites, fix.time_source), (2, TimeSource::Device));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T11:59:59.000Z");
    assert!(fix.fields.has(FixFields::VALID));
    let expected = [
        (AttributeKey::FixMode, Value::Int(3)),
        (AttributeKey::DeadReckoning, Value::Bool(true)),
        (AttributeKey::Hdop, Value::Float(0.9)),
        (AttributeKey::SatellitesInView, Value::Int(3)),
        (AttributeKey::GeoidSeparationM, Value::Float(46.6)),
    ];
    for (key, value) in expected {
        assert_eq!(said(&report.attributes, &key), Some(value), "{key:?}");
    }
}

#[test]
fn the_operator_names_the_receiver_or_its_path_does() {
    let mut settings = Settings {
        device: DeviceId::new(b"van-7"),
        ..Settings::default()
    };
    let device = |settings: &Settings, stream: &str| {
        let mut session = Session::new(settings, Mode::Epoch);
        feed(&mut session, stream, usize::MAX).remove(0).1
    };
    let stream = tpv("/dev/ttyACM0", 1, "");
    assert_eq!(device(&settings, &stream), "van-7");
    settings.device = None;
    assert_eq!(device(&settings, &stream), "ttyACM0");
    assert_eq!(
        device(&settings, &tpv("tcp://receiver.example:2947", 1, "")),
        "receiver.example:2947"
    );
    // Objects without a path are of the only receiver that there is.
    let alone = stream.replace("\"device\":\"/dev/ttyACM0\",", "");
    assert_eq!(device(&settings, &alone), "");
    let devices =
        "{\"class\":\"DEVICES\",\"devices\":[{\"class\":\"DEVICE\",\"path\":\"/dev/gps1\"}]}\r\n";
    assert_eq!(device(&settings, &[devices, &alone].concat()), "gps1");
}

#[test]
fn objects_about_one_moment_are_one_report_that_is_not_waited_for_once_their_number_is_known() {
    let mut stream = String::new();
    let mut ends = Vec::new();
    for second in 1..4 {
        stream += &tpv("/dev/a", second, "");
        stream += &tpv("/dev/a", second, ",\"speed\":2.5");
        ends.push(stream.len());
        // It brings nothing new.
        stream += &tpv("/dev/a", second, ",\"speed\":2.5");
    }
    let reports = feed(&mut live(), &stream, 1);
    assert_eq!(reports.len(), 3);
    for (_, _, report) in &reports {
        assert_eq!(report.fix.speed_mm_s, 2500);
    }
    // The line is read at its CR.
    let at: Vec<_> = reports.iter().map(|&(fed, ..)| fed).collect();
    assert_eq!(at[1..], [ends[1] - 1, ends[2] - 1]);
}

#[test]
fn receivers_are_told_apart() {
    let mut stream = String::new();
    for second in 1..4 {
        stream += &tpv("/dev/a", second, "");
        stream += &tpv("/dev/b", second, ",\"speed\":2.5");
    }
    let mut devices: Vec<_> = feed(&mut live(), &stream, usize::MAX)
        .into_iter()
        .map(|(_, device, report)| (device, report.fix.speed_mm_s))
        .collect();
    devices.sort();
    let of = |device: &str, speed: u32| vec![(device.to_owned(), speed); 3];
    assert_eq!(devices, [of("a", 0), of("b", 2500)].concat());
}

#[test]
fn objects_without_a_time_belong_to_the_running_epoch() {
    let timeless = "{\"class\":\"TPV\",\"device\":\"/dev/a\",\"mode\":3,\"speed\":2.5}\r\n";
    let stream = [tpv("/dev/a", 1, "").as_str(), timeless].concat();
    let reports = feed(&mut live(), &stream, usize::MAX);
    assert_eq!((reports.len(), reports[0].2.fix.speed_mm_s), (1, 2500));
}

#[test]
fn a_position_without_a_time_is_not_lost_in_an_epoch_that_had_none() {
    // It was seen with a modem that states no time for its first positions.
    let lost = |second| tpv("/dev/a", second, "").replace("\"mode\":3", "\"mode\":1");
    let found = "{\"class\":\"TPV\",\"device\":\"/dev/a\",\"mode\":3,\"lat\":1,\"lon\":2}\r\n";
    let stream = [lost(1).as_str(), &lost(2), found].concat();
    let reports = feed(&mut live(), &stream, usize::MAX);
    let last = &reports.last().unwrap().2.fix;
    assert_eq!(
        (last.lat_e7, last.time_source),
        (10_000_000, TimeSource::Arrival)
    );
}

#[test]
fn without_a_fix_there_is_no_position() {
    let lost = tpv("/dev/a", 1, "").replace("\"mode\":3", "\"mode\":1");
    let reports = feed(&mut live(), &lost, usize::MAX);
    assert_eq!(reports[0].2.fix.fields, FixFields(FixFields::TIME));
    let nothing = "{\"class\":\"TPV\",\"device\":\"/dev/a\",\"mode\":0}\r\n";
    assert!(feed(&mut live(), nothing, usize::MAX).is_empty());
}

#[test]
fn older_editions_state_the_time_as_a_number() {
    let stream =
        "{\"class\":\"TPV\",\"time\":1781524799.25,\"mode\":2,\"lat\":1,\"lon\":2,\"alt\":3}\n";
    let fix = feed(&mut live(), stream, usize::MAX).remove(0).2.fix;
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T11:59:59.250Z");
    assert_eq!(fix.altitude_mm, 3000);
}

#[test]
fn a_poll_holds_the_last_objects() {
    let object = tpv("/dev/a", 1, "");
    let stream = format!(
        "{{\"class\":\"POLL\",\"active\":2,\"tpv\":[{}],\"gst\":[],\"sky\":[{{\"class\":\"SKY\",\"device\":\"/dev/a\",\
         \"uSat\":7,\"nSat\":9}}]}}\n",
        object.trim_end()
    );
    let (_, device, report) = feed(&mut live(), &stream, usize::MAX).remove(0);
    assert_eq!((device.as_str(), report.fix.satellites), ("a", 7));
}

/// A list of empty objects took two megabytes, where one message may take 64 KiB.
#[test]
fn a_long_list_is_read_to_its_end_and_kept_in_part() {
    let empty = vec!["{}"; 6000].join(",");
    let stream = format!(
        "{{\"class\":\"POLL\",\"tpv\":[{},{empty}],\"sky\":[]}}\n",
        tpv("/dev/a", 1, "").trim_end()
    );
    let (_, device, report) = feed(&mut live(), &stream, usize::MAX).remove(0);
    assert_eq!((device.as_str(), report.fix.lat_e7), ("a", 481_173_000));
    let poll: Poll = object::read(stream.trim_end().as_bytes()).unwrap();
    assert!(poll.tpv.0.len() < 100);
    assert!(object::read::<Poll>(b"{\"tpv\":[{},{}").is_err());
}

#[test]
fn what_is_no_object_of_gpsd_is_refused_and_what_is_not_known_passed_over() {
    let mut session = live();
    let mut decode = |line: &str| {
        session
            .decode(line.as_bytes(), NOW)
            .map(|m| (m.kind, m.refused))
    };
    assert_eq!(
        decode("{\"class\":\"GST\",\"rms\":2.5}"),
        Ok(("other", None))
    );
    assert_eq!(
        decode("{\"rms\":2,\"class\":\"WATCH\"}"),
        Ok(("watch", None))
    );
    assert_eq!(decode("$GPGGA,,,,,,0,,,,,,,,*66"), Ok(("nmea", None)));
    assert_eq!(
        decode("{\"class\":\"NEW\"}"),
        Ok(("unknown", Some(Reject::UnknownKind)))
    );
    assert_eq!(
        decode("{\"class\":\"TPV\",\"lat\":\"north\"}"),
        Err(Reject::Field)
    );
    assert_eq!(
        decode("{\"class\":\"TPV\",\"mode\":3"),
        Err(Reject::Incomplete)
    );
    assert_eq!(decode("{\"class\":7}"), Err(Reject::Field));
    assert_eq!(decode("{}"), Err(Reject::Field));
    assert_eq!(decode("hello"), Err(Reject::Rubbish));
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(decode(&deep), Err(Reject::Field));
}

#[test]
fn any_cut_of_a_stream_gives_the_same_reports() {
    let long = "x".repeat(MESSAGE_BYTES_MAX);
    let stream = [
        "rubbish\r\n\r\n",
        &tpv("/dev/a", 1, ""),
        &long,
        &tpv("/dev/a", 2, ""),
        &tpv("/dev/a", 3, ",\"speed\":1"),
        "{\"class\":\"TPV\",\"de\r\n",
        &tpv("/dev/a", 4, ""),
    ]
    .concat();
    let only = |reports: Vec<(usize, String, Report)>| -> Vec<_> {
        reports.into_iter().map(|(_, _, report)| report).collect()
    };
    let whole = only(feed(&mut live(), &stream, usize::MAX));
    let seconds: Vec<_> = whole.iter().map(|r| r.fix.time_ms / 1000 % 60).collect();
    // The second one stands at the end of the line that was too long.
    assert_eq!(seconds, [1, 3, 4]);
    for chunk_bytes in [7, 100, 1000, 5000] {
        let cut = only(feed(&mut live(), &stream, chunk_bytes));
        assert_eq!(cut, whole, "chunks of {chunk_bytes}");
    }
}
