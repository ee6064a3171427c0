//! What crates read, turned into what the next process is handed by our decoders: equal work from bytes to a message
//! with its device, fix, standard attributes, alarms and answer.
//!
//! Written as somebody would who builds on these crates: fields are read in place where the crate lets one, lists are
//! made once and of the right size.

use nom_teltonika::encoder::encode_avl_ack;
use nom_teltonika::protocol::{AvlPacketView, AvlRecordView, IoElementView, IoValueView, Priority};
use ringway::frame::{
    AlarmKind, Alarms, Attribute, AttributeKey, DeviceId, Fix, TimeSource, Value,
};
use ringway::protocol::{Message, Report};
use ublox::nav_pvt::common::{NavPvtFlags, NavPvtValidFlags};
use ublox::nav_pvt::proto23::NavPvtRef;

/// 1e-7 degree.
fn degrees_e7(degrees: f64) -> i32 {
    (degrees * 1e7).round() as i32
}

fn kmh_mm_s(kmh: u32) -> u32 {
    (kmh * 10_000 + 18) / 36
}

/// A message of one report, or of what it says without one.
fn message(kind: &'static str, device: Option<DeviceId>, reports: Vec<Report>) -> Message {
    Message {
        device,
        kind,
        reports,
        ..Message::default()
    }
}

/// A packet with its answer, which waits until the records are safe.
pub fn teltonika(packet: &AvlPacketView, device: Option<DeviceId>) -> Message {
    let mut reports = Vec::with_capacity(packet.records().len());
    reports.extend(packet.records().map(|record| teltonika_record(&record)));
    let answer = encode_avl_ack(reports.len() as u32).to_vec();
    Message {
        answer_when_safe: answer,
        ..message("records", device, reports)
    }
}

fn teltonika_record(record: &AvlRecordView) -> Report {
    let gps = record.gps();
    let mut report = Report::default();
    let fix = &mut report.fix;
    fix.set_position(gps.latitude_raw, gps.longitude_raw);
    fix.set_altitude(i32::from(gps.altitude_meters_signed()) * 1000);
    fix.set_course(u32::from(gps.angle_degrees) * 100);
    fix.set_satellites(gps.satellites);
    fix.set_speed(kmh_mm_s(gps.speed_kph.into()));
    let time_ms = u64::from(record.timestamp()) as i64;
    fix.set_time((time_ms, TimeSource::Device));
    fix.set_valid(gps.satellites != 0);

    let elements = record.io_elements();
    report.attributes.reserve(elements.len() + 2);
    if record.priority() != Priority::Low {
        let priority = Attribute::new(AttributeKey::Priority, record.priority() as u8);
        report.attributes.push(priority);
    }
    let event = record.event_io_id().map(u16::from);
    if let Some(event) = event {
        let event = Attribute::new(AttributeKey::Event, event);
        report.attributes.push(event);
    }
    for element in elements {
        if event == Some(element.id().into())
            && let Some(alarm) = teltonika_alarm(&element)
        {
            report.momentary.insert(alarm);
        }
        report.attributes.push(teltonika_attribute(&element));
    }
    report
}

fn teltonika_attribute(element: &IoElementView) -> Attribute {
    use AttributeKey as Key;
    use IoValueView::{Bytes, U8, U16, U32, U64};
    let volts = |mv: u16| f64::from(mv) / 1000.0;
    match (u16::from(element.id()), element.value()) {
        (239, U8(value)) => Attribute::new(Key::Ignition, value != 0),
        (240, U8(value)) => Attribute::new(Key::Motion, value != 0),
        (21, U8(value)) => Attribute::new(Key::Signal, value),
        (113, U8(value)) => Attribute::new(Key::BatteryPercent, value),
        (69, U8(value)) => Attribute::new(Key::FixMode, value),
        (66, U16(value)) => Attribute::new(Key::PowerV, volts(value)),
        (67, U16(value)) => Attribute::new(Key::BatteryV, volts(value)),
        (68, U16(value)) => Attribute::new(Key::BatteryMa, value),
        (9, U16(value)) => Attribute::new(Key::Analog1V, volts(value)),
        (181, U16(value)) => Attribute::new(Key::Pdop, f64::from(value) / 10.0),
        (182, U16(value)) => Attribute::new(Key::Hdop, f64::from(value) / 10.0),
        (16, U32(value)) => Attribute::new(Key::OdometerM, value),
        (199, U32(value)) => Attribute::new(Key::TripM, value),
        (241, U32(value)) => Attribute::new(Key::Operator, value),
        (id, value) => {
            let value = match value {
                U8(value) => Value::from(value),
                U16(value) => Value::from(value),
                U32(value) => Value::from(value),
                U64(value) => Value::from(value as i64),
                Bytes(bytes) => Value::Text(bytes.iter().map(|b| format!("{b:02x}")).collect()),
            };
            Attribute::named(format!("io_{id}"), value)
        }
    }
}

fn teltonika_alarm(element: &IoElementView) -> Option<AlarmKind> {
    match (u16::from(element.id()), element.value()) {
        (236, IoValueView::U8(1..)) => Some(AlarmKind::Sos),
        (246, IoValueView::U8(1..)) => Some(AlarmKind::IllegalMovement),
        (247, IoValueView::U8(1 | 6)) => Some(AlarmKind::Collision),
        (252, IoValueView::U8(1)) => Some(AlarmKind::PowerCut),
        (253, IoValueView::U8(1)) => Some(AlarmKind::HarshAcceleration),
        (253, IoValueView::U8(2)) => Some(AlarmKind::HarshBraking),
        (253, IoValueView::U8(3)) => Some(AlarmKind::HarshCornering),
        (255, _) => Some(AlarmKind::Overspeed),
        _ => None,
    }
}

/// A location or an alarm; what says nothing of a place is none of this.
pub fn gt06(read: &gt06::Message) -> Option<Message> {
    let (imei, fix, alarm, kind) = match read {
        gt06::Message::Location(location) => (&location.imei, &location.fix, None, "location"),
        gt06::Message::Alarm(alarm) => (&alarm.imei, &alarm.fix, Some(alarm.alarm), "alarm"),
        _ => return None,
    };
    let mut report = Report {
        fix: gt06_fix(fix),
        momentary: alarm.and_then(gt06_alarm).into_iter().collect::<Alarms>(),
        ..Report::default()
    };
    if let (Some(mcc), Some(mnc), Some(lac), Some(cell)) = (fix.mcc, fix.mnc, fix.lac, fix.cell_id)
    {
        let cells = format!("{mcc}-{mnc}-{lac}-{cell}");
        let cells = Attribute::new(AttributeKey::Cells, cells);
        report.attributes.push(cells);
    }
    let device = imei
        .as_deref()
        .and_then(|imei| DeviceId::new(imei.as_bytes()));
    Some(Message {
        answer_when_safe: read
            .ack_bytes()
            .map_or(Vec::new(), |answer| answer.to_vec()),
        ..message(kind, device, vec![report])
    })
}

fn gt06_fix(read: &gt06::Fix) -> Fix {
    let mut fix = Fix::default();
    fix.set_time((read.time * 1000, TimeSource::Device));
    fix.set_position(degrees_e7(read.latitude), degrees_e7(read.longitude));
    fix.set_speed(kmh_mm_s(read.speed_kmh.into()));
    fix.set_course(u32::from(read.course) * 100);
    if let Some(count) = read.satellites {
        fix.set_satellites(count);
    }
    fix.set_valid(read.gps_positioned);
    fix
}

fn gt06_alarm(event: gt06::AlarmEvent) -> Option<AlarmKind> {
    match event {
        gt06::AlarmEvent::Normal => None,
        gt06::AlarmEvent::Sos => Some(AlarmKind::Sos),
        gt06::AlarmEvent::PowerCutAlarm => Some(AlarmKind::PowerCut),
        gt06::AlarmEvent::ShockAlarm => Some(AlarmKind::Vibration),
        gt06::AlarmEvent::FenceIn | gt06::AlarmEvent::FenceOut => Some(AlarmKind::AreaCrossed),
        _ => Some(AlarmKind::Unspecified),
    }
}

/// A fix of a receiver.
pub fn ublox(read: &NavPvtRef, device: Option<DeviceId>) -> Message {
    let mut report = Report::default();
    let fix = &mut report.fix;
    let dated = NavPvtValidFlags::VALID_DATE | NavPvtValidFlags::VALID_TIME;
    if read.valid().contains(dated) {
        let date = [read.year().into(), read.month().into(), read.day().into()];
        let time = [read.hour(), read.min(), read.sec()].map(i64::from);
        let part_ms = (i64::from(read.nanosec()) + 500_000).div_euclid(1_000_000);
        fix.set_time((unix_ms(date, time) + part_ms, TimeSource::Device));
    }
    if !read.flags3().invalid_llh() {
        fix.set_position(read.latitude_raw(), read.longitude_raw());
    }
    fix.set_altitude(read.height_msl_raw());
    fix.set_accuracy(read.horizontal_accuracy_raw());
    fix.set_speed(read.ground_speed_2d_raw().max(0) as u32);
    fix.set_course(read.heading_motion_raw().rem_euclid(36_000_000) as u32 / 1000);
    fix.set_satellites(read.num_satellites());
    let flags = read.flags();
    fix.set_valid(flags.contains(NavPvtFlags::GPS_FIX_OK));

    let separation_mm =
        f64::from(read.height_above_ellipsoid_raw()) - f64::from(read.height_msl_raw());
    report.attributes.reserve(4);
    report.attributes.extend([
        Attribute::new(AttributeKey::FixMode, read.fix_type_raw()),
        Attribute::new(AttributeKey::Pdop, read.pdop()),
        Attribute::new(AttributeKey::GeoidSeparationM, separation_mm / 1000.0),
    ]);
    if flags.contains(NavPvtFlags::DIFF_SOLN) {
        let differential = Attribute::named("differential", true);
        report.attributes.push(differential);
    }
    message("nav_pvt", device, vec![report])
}

/// An object of gpsd.
pub fn gpsd(read: &gpsd_proto::Tpv) -> Message {
    let mut report = Report::default();
    let fix = &mut report.fix;
    let mm = |metres: f32| (f64::from(metres) * 1000.0).round();
    if let Some(time_ms) = read.time.as_deref().and_then(rfc3339) {
        fix.set_time((time_ms, TimeSource::Device));
    }
    if let (Some(lat), Some(lon)) = (read.lat, read.lon) {
        fix.set_position(degrees_e7(lat), degrees_e7(lon));
    }
    if let Some(metres) = read.alt_msl.or(read.alt) {
        fix.set_altitude(mm(metres) as i32);
    }
    if let Some(mps) = read.speed {
        fix.set_speed(mm(mps) as u32);
    }
    if let Some(degrees) = read.track {
        fix.set_course((f64::from(degrees) * 100.0).round() as u32);
    }
    if let Some(metres) = read.eph {
        fix.set_accuracy(mm(metres) as u32);
    }
    let mode = match read.mode {
        gpsd_proto::Mode::NoFix => 1,
        gpsd_proto::Mode::Fix2d => 2,
        gpsd_proto::Mode::Fix3d => 3,
    };
    fix.set_valid(mode >= 2);
    let stated = [
        Some(Attribute::new(AttributeKey::FixMode, mode)),
        (read.geoid_sep).map(|m| Attribute::new(AttributeKey::GeoidSeparationM, f64::from(m))),
        (read.status).map(|status| Attribute::named("gpsd_status", status)),
    ];
    report.attributes.extend(stated.into_iter().flatten());
    let name = read
        .device
        .as_deref()
        .and_then(|path| path.rsplit('/').next());
    let device = name.and_then(|name| DeviceId::new(name.as_bytes()));
    message("tpv", device, vec![report])
}

/// `2026-06-15T12:00:00.000Z`; the fraction may have any length.
fn rfc3339(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?.as_bytes();
    let (whole, fraction) = text.split_first_chunk::<19>()?;
    let digits = |from: usize, to: usize| {
        whole[from..to].iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let date = [digits(0, 4)?, digits(5, 7)?, digits(8, 10)?];
    let time = [digits(11, 13)?, digits(14, 16)?, digits(17, 19)?];
    let ms = fraction.iter().skip(1).chain(b"000").take(3);
    let ms = ms.fold(0, |ms, digit| ms * 10 + i64::from(digit & 15));
    Some(unix_ms(date, time) + ms)
}

/// Milliseconds since 1970. The calendar of years that begin in March.
fn unix_ms([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> i64 {
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    (((days - 719_469) * 24 + hour) * 60 + minute) * 60_000 + second * 1000
}
