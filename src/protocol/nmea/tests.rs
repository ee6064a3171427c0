use super::*;
use crate::frame::{AttributeKey, Fix, FixFields, TimeSource, Value, rfc3339_ms};

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

fn live() -> Session {
    Session::new(&Settings::default(), Mode::Epoch)
}

fn recorded() -> Settings {
    Settings {
        recorded: true,
        ..Settings::default()
    }
}

/// A sentence with its check and line end.
fn line(said: &str) -> String {
    let sum = said.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${said}*{sum:02X}\r\n")
}

fn lines(said: &[&str]) -> String {
    said.iter().map(|said| line(said)).collect()
}

/// Feeds `stream` in pieces; gives each report with the number of bytes that had been fed.
fn feed(session: &mut Session, stream: &[u8], chunk_bytes: usize) -> Vec<(usize, Report)> {
    let (mut unread, mut fed) = (Vec::new(), 0);
    let mut reports = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        unread.extend(chunk);
        fed += chunk.len();
        loop {
            match session.split(&unread) {
                Split::Message { range, consumed } => {
                    if let Ok(message) = session.decode(&unread[range], NOW) {
                        reports.extend(message.reports.into_iter().map(|report| (fed, report)));
                    }
                    unread.drain(..consumed);
                }
                Split::Rubbish { consumed, .. } => drop(unread.drain(..consumed)),
                Split::Incomplete => break,
            }
        }
    }
    let rest = session
        .flush()
        .into_iter()
        .flat_map(|message| message.reports);
    reports.extend(rest.map(|report| (fed, report)));
    reports
}

fn fixes(session: &mut Session, stream: &str) -> Vec<Fix> {
    let reports = feed(session, stream.as_bytes(), usize::MAX);
    reports.into_iter().map(|(_, report)| report.fix).collect()
}

fn time(fix: &Fix) -> Option<String> {
    fix.time().map(rfc3339_ms)
}

const CYCLE: [&str; 3] = [
    "GPGGA,120000.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
    "GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1",
    "GPRMC,120000.00,A,4807.038,N,01131.000,E,022.4,084.4,150626,003.1,W",
];

#[test]
fn the_sentences_of_one_moment_are_one_report() {
    let reports = feed(&mut live(), lines(&CYCLE).as_bytes(), usize::MAX);
    let [(_, report)] = &reports[..] else {
        panic!("one report");
    };
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, 115_166_667));
    assert_eq!((fix.altitude_mm, fix.speed_mm_s), (545_400, 11_524));
    assert_eq!((fix.course_cdeg, fix.satellites), (8440, 8));
    assert_eq!(time(fix).as_deref(), Some("2026-06-15T12:00:00.000Z"));
    assert_eq!(fix.time_source, TimeSource::Device);
    assert!(fix.fields.has(FixFields::VALID));
    let keys: Vec<_> = report
        .attributes
        .iter()
        .map(|a| (&a.key, &a.value))
        .collect();
    assert_eq!(
        keys,
        [
            (&AttributeKey::FixMode, &Value::Int(1)),
            (&AttributeKey::Hdop, &Value::Float(0.9)),
            (&AttributeKey::Pdop, &Value::Float(2.5)),
            (&AttributeKey::Vdop, &Value::Float(2.1)),
            (&AttributeKey::GeoidSeparationM, &Value::Float(46.9)),
        ]
    );
}

fn stated(report: &Report, key: &AttributeKey) -> Option<Value> {
    let mut attributes = report.attributes.iter();
    let attribute = attributes.find(|attribute| attribute.key == *key)?;
    Some(attribute.value.clone())
}

#[test]
fn dead_reckoning_is_marked() {
    let mode = |letter: &str| {
        let said = format!("GNRMC,120000,A,4807.038,N,01131.000,E,,,150626,,,{letter}");
        let (_, report) = feed(&mut live(), line(&said).as_bytes(), usize::MAX).remove(0);
        stated(&report, &AttributeKey::DeadReckoning)
    };
    assert_eq!((mode("E"), mode("A")), (Some(Value::Bool(true)), None));
}

#[test]
fn satellites_in_view_are_those_of_all_systems_in_the_cycle_before() {
    let mut said = Vec::new();
    for second in 0..2 {
        said.push(CYCLE[0].replace("120000", &format!("12000{second}")));
        // Ten of GPS, on two signals, and three of GLONASS.
        for view in ["GPGSV,1,1,10,,,,,1", "GPGSV,1,1,10,,,,,6", "GLGSV,1,1,03"] {
            said.push(view.to_owned());
        }
    }
    let stream: String = said.iter().map(|said| line(said)).collect();
    let reports = feed(&mut live(), stream.as_bytes(), usize::MAX);
    let in_view: Vec<_> = reports
        .iter()
        .map(|(_, report)| stated(report, &AttributeKey::SatellitesInView))
        .collect();
    assert_eq!(in_view, [None, Some(Value::Int(13))]);
}

#[test]
fn errors_of_latitude_and_longitude_are_one_distance() {
    // 3 m north and 4 m east are 5 m away.
    let said = [CYCLE[0], "GPGST,120000.00,1.0,,,,3.0,4.0,9.0"];
    let fix = fixes(&mut live(), &lines(&said)).remove(0);
    assert_eq!(
        (fix.accuracy_mm, fix.fields.has(FixFields::ACCURACY)),
        (5000, true)
    );
}

#[test]
fn from_the_second_epoch_on_a_report_comes_with_the_last_sentence_of_the_cycle() {
    let mut stream = String::new();
    let mut ends = Vec::new();
    for second in 0..4 {
        for said in CYCLE {
            stream += &line(&said.replace("120000", &format!("12000{second}")));
            if said.contains("RMC") {
                ends.push(stream.len());
            }
        }
        // Satellites in view come last and are not waited for.
        stream += &line("GPGSV,1,1,00");
    }
    let at: Vec<_> = feed(&mut live(), stream.as_bytes(), 1)
        .into_iter()
        .map(|(fed, _)| fed)
        .collect();
    // The line end is CR LF; the sentence is read at its CR.
    assert_eq!(
        at[1..],
        ends[1..].iter().map(|end| end - 1).collect::<Vec<_>>()
    );
    assert_eq!(at.len(), 4);
}

#[test]
fn any_cut_of_a_stream_gives_the_same_reports() {
    let mut stream = String::from("$GPRMC,1159");
    for second in 0..3 {
        for said in CYCLE {
            stream += &line(&said.replace("120000", &format!("12000{second}")));
        }
    }
    stream.insert_str(0, "# comment\r\n\r\n!AIVDM,1,1,,A,,0*26\r\n");
    let only_reports = |reports: Vec<(usize, Report)>| -> Vec<Report> {
        reports.into_iter().map(|(_, report)| report).collect()
    };
    let whole = only_reports(feed(&mut live(), stream.as_bytes(), usize::MAX));
    assert_eq!(whole.len(), 3);
    for chunk_bytes in 1..stream.len() {
        let cut = only_reports(feed(&mut live(), stream.as_bytes(), chunk_bytes));
        assert_eq!(cut, whole, "chunks of {chunk_bytes}");
    }
}

#[test]
fn a_truncated_sentence_says_nothing() {
    let whole = line(CYCLE[2]);
    // From the whole check on it is whole; with one digit of two it is not.
    for len in 0..whole.len() - 2 {
        let cut = format!("{}\n", &whole[..len]);
        let mut session = live();
        session.checks = true;
        assert!(fixes(&mut session, &cut).is_empty(), "cut at {len}: {cut}");
    }
    assert_eq!(fixes(&mut live(), &whole).len(), 1);
}

#[test]
fn across_midnight_the_date_comes_from_the_next_rmc_or_is_counted_on() {
    let said = [
        "GPRMC,235959.00,A,4807.038,N,01131.000,E,0.0,,311226,,",
        "GPGGA,000000.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
        "GPRMC,000000.00,A,4807.038,N,01131.000,E,0.0,,010127,,",
        "GPGGA,000001.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
    ];
    let fixes = fixes(&mut live(), &lines(&said));
    let times: Vec<_> = fixes
        .iter()
        .map(|fix| (time(fix).unwrap(), fix.time_source))
        .collect();
    assert_eq!(
        times,
        [
            ("2026-12-31T23:59:59.000Z".to_owned(), TimeSource::Device),
            ("2027-01-01T00:00:00.000Z".to_owned(), TimeSource::Device),
            (
                "2027-01-01T00:00:01.000Z".to_owned(),
                TimeSource::DateCompleted
            ),
        ]
    );
    let only_gga = fixes_per_sentence(&said[..2]);
    assert_eq!(
        time(&only_gga[1]).as_deref(),
        Some("2027-01-01T00:00:00.000Z")
    );
}

fn fixes_per_sentence(said: &[&str]) -> Vec<Fix> {
    fixes(&mut Session::new(&recorded(), Mode::Message), &lines(said))
}

#[test]
fn before_any_date_the_arrival_gives_it_but_never_to_a_recording() {
    let gga = line("GPGGA,235959.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,");
    let fix = fixes(&mut live(), &gga).remove(0);
    assert_eq!(
        time(&fix).as_deref(),
        Some("2026-06-14T23:59:59.000Z"),
        "the nearest"
    );
    assert_eq!(fix.time_source, TimeSource::DateCompleted);
    let fix = fixes(&mut Session::new(&recorded(), Mode::Epoch), &gga).remove(0);
    assert_eq!((time(&fix), fix.time_source), (None, TimeSource::None));
}

#[test]
fn lost_weeks_are_repaired_in_a_live_stream_and_left_in_a_recording() {
    // 2026-06-15 less 1024 weeks.
    let rmc = line("GPRMC,120000.00,A,4807.038,N,01131.000,E,0.0,,301006,,");
    let fix = fixes(&mut live(), &rmc).remove(0);
    assert_eq!(time(&fix).as_deref(), Some("2026-06-15T12:00:00.000Z"));
    assert_eq!(fix.time_source, TimeSource::RolloverRepaired);
    let fix = fixes(&mut Session::new(&recorded(), Mode::Epoch), &rmc).remove(0);
    assert_eq!(time(&fix).as_deref(), Some("2006-10-30T12:00:00.000Z"));
}

#[test]
fn validity_and_quality_are_the_receivers_word() {
    let fix = |said: &str| fixes(&mut live(), &line(said)).remove(0);
    let rmc = |status: &str, mode: &str| {
        fix(&format!(
            "GNRMC,120000,{status},4807.038,N,01131.000,E,,,150626,,{mode}"
        ))
    };
    let valid = |fix: Fix| fix.fields.has(FixFields::VALID);
    assert!(valid(rmc("A", "")) && valid(rmc("A", ",A")));
    assert!(valid(rmc("A", ",E")), "dead reckoning is a position");
    assert!(!valid(rmc("V", "")) && !valid(rmc("A", ",N")));
    assert!(valid(fix(
        "GNGNS,120000,4807.038,N,01131.000,E,ANN,8,0.9,545.4,46.9,,"
    )));
    assert!(!valid(fix(
        "GNGNS,120000,4807.038,N,01131.000,E,NNN,8,0.9,545.4,46.9,,"
    )));
    assert!(valid(fix("GNGLL,4807.038,N,01131.000,E,120000,A,A")));
    assert!(!valid(fix(
        "GPGGA,120000,4807.038,N,01131.000,E,0,00,,,M,,M,,"
    )));
}

#[test]
fn one_sentence_that_warns_outweighs_the_others() {
    let said = [
        "GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
        "GPRMC,120000,V,4807.038,N,01131.000,E,,,150626,,",
    ];
    let fix = fixes(&mut live(), &lines(&said)).remove(0);
    assert!(fix.fields.has(FixFields::POSITION) && !fix.fields.has(FixFields::VALID));
}

#[test]
fn empty_fields_are_unknown_and_not_zero() {
    let fix = fixes(
        &mut live(),
        &line("GPRMC,120000,A,4807.038,N,01131.000,E,,,150626,,"),
    )
    .remove(0);
    assert!(!fix.fields.has(FixFields::SPEED) && !fix.fields.has(FixFields::COURSE));
    let lost = fixes(&mut live(), &line("GPRMC,,V,,,,,,,,,,N")).remove(0);
    assert_eq!(lost.fields, FixFields::default());
}

#[test]
fn speed_and_course_may_come_in_vtg() {
    let said = [
        "GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
        "GPVTG,084.4,T,,M,,N,036.0,K",
    ];
    let fix = fixes(&mut live(), &lines(&said)).remove(0);
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (10_000, 8440));
}

#[test]
fn a_sentence_that_was_cut_does_not_take_the_next_one_with_it() {
    let stream = format!("$GPGGA,1200{}", line(CYCLE[2]));
    assert_eq!(fixes(&mut live(), &stream).len(), 1);
}

#[test]
fn a_sentence_without_a_check_counts_until_the_receiver_has_shown_one() {
    let bare = "$GPRMC,120000,A,4807.038,N,01131.000,E,,,150626,,\r\n";
    assert_eq!(fixes(&mut live(), bare).len(), 1);
    let mut session = live();
    let first = session.decode(line(CYCLE[2]).as_bytes(), NOW);
    assert!(first.is_ok());
    assert_eq!(session.decode(bare.as_bytes(), NOW), Err(Reject::Checksum));
    // Cut before the date.
    let cut = b"$GPRMC,120000,A,4807.038,N,01131.0";
    assert_eq!(live().decode(cut, NOW), Err(Reject::Checksum));
}

#[test]
fn a_line_without_end_is_dropped_and_the_next_one_read() {
    let mut session = live();
    let stream = format!("$GP{}\r\n{}", "1".repeat(5000), line(CYCLE[2]));
    for chunk_bytes in [1, 100, usize::MAX] {
        assert_eq!(feed(&mut session, stream.as_bytes(), chunk_bytes).len(), 1);
    }
}

#[test]
fn a_tracker_may_put_its_id_around_a_sentence() {
    let sentence = line(CYCLE[2]);
    let device = |settings: &Settings, stream: &[u8]| {
        let mut session = Session::new(settings, Mode::Message);
        session
            .decode(stream, NOW)
            .map(|message| message.device.map(|id| id.to_string()))
    };
    let open = Settings::default();
    let in_front = format!("490154203237518{sentence}");
    assert_eq!(
        device(&open, in_front.as_bytes()),
        Ok(Some("490154203237518".into()))
    );
    // With its id around it, a changed sentence is believed; a bare one is not.
    let changed = in_front.replace("022.4", "022.5");
    assert!(device(&open, changed.as_bytes()).is_ok());
    assert!(device(&open, &changed.as_bytes()["490154203237518".len()..]).is_err());

    let fixed = Settings {
        device: DeviceId::new(b"bus-7"),
        ..Settings::default()
    };
    assert_eq!(
        device(&fixed, in_front.as_bytes()),
        Ok(Some("bus-7".into()))
    );
    assert_eq!(device(&fixed, changed.as_bytes()), Err(Reject::Checksum));
}

#[test]
fn an_id_of_its_own_names_the_sentences_after_it() {
    let mut session = Session::new(&Settings::default(), Mode::Message);
    for login in [
        &b"490154203237518"[..],
        line("PGID,490154203237518").as_bytes(),
    ] {
        assert!(session.decode(login, NOW).unwrap().reports.is_empty());
        let message = session.decode(line(CYCLE[2]).as_bytes(), NOW).unwrap();
        assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    }
}

#[test]
fn a_position_without_a_time_has_the_time_of_arrival() {
    let fix = fixes(&mut live(), &line("GPGLL,4807.038,N,01131.000,E")).remove(0);
    assert_eq!(
        (fix.time_ms, fix.time_source),
        (NOW.wall_ms, TimeSource::Arrival)
    );
}

#[test]
fn vendor_positions_are_read() {
    let ublox = "PUBX,00,120000.00,4807.03800,N,01131.00000,E,785.9,D3,4.1,5.2,36.0,87.43,0,7.0,0.88,1.21,0.88,24,0,0";
    let fix = fixes(&mut live(), &line(ublox)).remove(0);
    assert_eq!((fix.lat_e7, fix.speed_mm_s), (481_173_000, 10_000));
    assert_eq!((fix.satellites, fix.accuracy_mm), (24, 4100));
    assert!(!fix.fields.has(FixFields::ALTITUDE));
    let phone = "TRCCR,20260615120000.000,A,48.1173,-11.5,10.0,90.0,545.4,50,";
    let fix = fixes(&mut live(), &line(phone)).remove(0);
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, -115_000_000));
    assert_eq!(time(&fix).as_deref(), Some("2026-06-15T12:00:00.000Z"));
}

/// gpsd greets before it passes sentences on, and answers between them: these are the words of Debian's gpsd 3.22.
#[test]
fn objects_of_gpsd_between_sentences_say_nothing_and_are_no_errors() {
    let objects = [
        r#"{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}"#,
        r#"{"class":"DEVICES","devices":[]}"#,
        r#"{"class":"WATCH","enable":true,"json":false,"nmea":true,"raw":0,"scaled":false,"timing":false}"#,
    ];
    for object in objects {
        let message = live().decode(object.as_bytes(), NOW).unwrap();
        assert!(message.reports.is_empty() && message.device.is_none());
    }
}

/// Trackers of one family lost their positions or their names: a report that begins with a word in place of a dollar was
/// rubbish, a modem's status was read after one of four names for its receiver only and without its speed, and a login
/// with the word IMEI was not one.
#[test]
fn trackers_that_say_it_in_their_own_way_are_read() {
    let report = "QZE,490154203237518,15,15062026,095959,-33.8688,151.2093,36,90,A,1\r\n";
    let fix = fixes(&mut live(), report).remove(0);
    assert_eq!((fix.lat_e7, fix.lon_e7), (-338_688_000, 1_512_093_000));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (10_000, 9000));
    assert_eq!(time(&fix).as_deref(), Some("2026-06-15T09:59:59.000Z"));
    assert!(fix.fields.has(FixFields::VALID));

    let modem = "$ID,490154203237518,4,V,12.5,GPSEH,A,D,150626,T,095959,S,9:5,La,48.1173,S,Lo,11.5,W,H,90.0,V,36.0\r\n";
    let fix = fixes(&mut live(), modem).remove(0);
    assert_eq!((fix.lat_e7, fix.lon_e7), (-481_173_000, -115_000_000));
    assert_eq!(
        (fix.speed_mm_s, fix.course_cdeg, fix.satellites),
        (10_000, 9000, 5)
    );

    for login in [
        "IMEI 490154203237518",
        "$IMEI=490154203237518",
        line("PSIWMDID,490154203237518").trim_end(),
        line("GPTXT,NET,490154203237518,Operator,-75,204 04").trim_end(),
        report.trim_end(),
        modem.trim_end(),
    ] {
        let message = live().decode(login.as_bytes(), NOW).unwrap();
        assert_eq!(
            message.device.map(|device| device.to_string()).as_deref(),
            Some("490154203237518"),
            "{login}"
        );
    }
}
