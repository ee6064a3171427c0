//! One message of each protocol, built from its layout: the same vehicle at the same place, a second further in each
//! message, so that no stream repeats itself within a minute.

use ringway::protocol::Protocol;

use crate::check;

/// Where all of them are, degrees: 48° 07.038' N, 11° 31.000' E.
pub const PLACE: (f64, f64) = (48.1173, 11.516_666_7);

/// Messages in a stream; the seconds of a minute.
pub const STREAM_MESSAGES: u32 = 60;

/// A kind of message.
pub struct Case {
    /// Name in the tables.
    pub name: &'static str,
    /// How it is decoded.
    pub protocol: Protocol,
    /// What comes first on a connection; not measured.
    pub login: fn() -> Vec<u8>,
    /// The message of a second.
    pub message: fn(second: u8) -> Vec<u8>,
    /// Sentences in one such message, where it is several.
    pub sentences: u32,
}

const fn case(name: &'static str, protocol: Protocol, message: fn(u8) -> Vec<u8>) -> Case {
    Case {
        name,
        protocol,
        login: Vec::new,
        message,
        sentences: 1,
    }
}

/// All of them, in the order of the tables.
pub const CASES: &[Case] = &[
    case("nmea RMC", Protocol::Nmea, rmc),
    case("nmea GGA", Protocol::Nmea, gga),
    Case {
        sentences: 7,
        ..case("nmea epoch of 7", Protocol::Nmea, epoch)
    },
    case("jt808 location", Protocol::Jt808, jt808_plain),
    case("jt808 location, escapes", Protocol::Jt808, jt808_escaped),
    Case {
        login: teltonika_login,
        ..case("teltonika codec 8", Protocol::Teltonika, teltonika)
    },
    Case {
        login: gt06_login,
        ..case("gt06 location", Protocol::Gt06, gt06)
    },
    case("h02 V1", Protocol::H02, h02),
    case("ubx NAV-PVT", Protocol::Ubx, ubx),
    case("gpsd TPV", Protocol::Gpsd, gpsd),
    case("osmand GET", Protocol::Osmand, osmand),
    case("gl200 GTFRI", Protocol::Gl200, gl200),
    case("tk103 BR00", Protocol::Tk103, tk103),
    case("gps103 tracker", Protocol::Gps103, gps103),
    case("meitrack AAA", Protocol::Meitrack, meitrack),
    case("ruptela records", Protocol::Ruptela, ruptela),
    case("json report", Protocol::Json, json),
];

impl Case {
    /// A minute of messages.
    pub fn stream(&self) -> Vec<u8> {
        let seconds = 0..STREAM_MESSAGES as u8;
        seconds.flat_map(self.message).collect()
    }

    /// Sentences or messages in [`Case::stream`].
    pub fn stream_sentences(&self) -> u32 {
        STREAM_MESSAGES * self.sentences
    }
}

/// The textbook IMEI.
pub const IMEI: &str = "490154203237518";
/// 1e-7 degree.
const LAT_E7: i32 = 481_173_000;
const LON_E7: i32 = 115_166_667;
/// 2026-06-15T12:00:00Z, seconds since 1970.
const NOON_S: u32 = 1_781_524_800;

fn sentence(said: &str) -> Vec<u8> {
    let sum = check::xor(said.as_bytes());
    format!("${said}*{sum:02X}\r\n").into_bytes()
}

fn rmc(second: u8) -> Vec<u8> {
    let fields = "A,4807.03800,N,01131.00000,E,022.4,084.4,150626,,,A";
    sentence(&format!("GNRMC,1200{second:02}.00,{fields}"))
}

fn gga(second: u8) -> Vec<u8> {
    let fields = "4807.03800,N,01131.00000,E,1,08,0.90,545.4,M,46.9,M,,";
    sentence(&format!("GNGGA,1200{second:02}.00,{fields}"))
}

/// What a receiver for several systems says each second.
fn epoch(second: u8) -> Vec<u8> {
    let rest = [
        "GNGSA,A,3,04,05,,09,12,,,24,,,,,1.50,0.90,1.20",
        "GPGSV,3,1,10,04,40,083,46,05,17,308,41,09,07,344,39,12,22,228,45",
        "GPGSV,3,2,10,24,61,120,47,25,33,150,44,29,12,300,40,31,05,020,",
        "GPGSV,3,3,10,32,30,200,42,33,20,210,41",
        "GNVTG,084.4,T,,M,022.4,N,041.5,K,A",
    ];
    let rest = rest.into_iter().flat_map(sentence);
    gga(second)
        .into_iter()
        .chain(rest)
        .chain(rmc(second))
        .collect()
}

/// Ignition on, positioned; 36 km/h, 84 degrees; odometer, fuel, signal, satellites.
fn jt808(serial: u16, second: u8) -> Vec<u8> {
    let mut content = vec![0x02, 0x00, 0, 0, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78];
    content.extend(serial.to_be_bytes());
    content.extend([0, 0, 0, 0, 0, 0, 0, 0b11]);
    content.extend(48_117_300_u32.to_be_bytes());
    content.extend(11_516_667_u32.to_be_bytes());
    content.extend([545_u16, 360, 84].map(u16::to_be_bytes).as_flattened());
    content.extend([0x26, 0x06, 0x15, 0x20, 0x00, bcd(second)]);
    content.extend([0x01, 4, 0, 0, 0x30, 0x39, 0x02, 2, 0x01, 0x90]);
    content.extend([0x30, 1, 25, 0x31, 1, 9]);
    content[3] = (content.len() - 12) as u8;
    content.push(check::xor(&content));
    let escaped = content.into_iter().flat_map(|byte| match byte {
        0x7d => vec![0x7d, 1],
        0x7e => vec![0x7d, 2],
        byte => vec![byte],
    });
    [0x7e].into_iter().chain(escaped).chain([0x7e]).collect()
}

fn jt808_plain(second: u8) -> Vec<u8> {
    jt808(0x0100 + u16::from(second), second)
}

/// The serial number needs two escapes.
fn jt808_escaped(second: u8) -> Vec<u8> {
    jt808(0x7e7d, second)
}

fn teltonika_login() -> Vec<u8> {
    [&[0, 15], IMEI.as_bytes()].concat()
}

/// One record with five elements.
fn teltonika(second: u8) -> Vec<u8> {
    let time_ms = (u64::from(NOON_S) + u64::from(second)) * 1000;
    let mut data = vec![0x08, 1];
    data.extend(time_ms.to_be_bytes());
    data.push(0);
    data.extend(LON_E7.to_be_bytes());
    data.extend(LAT_E7.to_be_bytes());
    // Altitude, angle, satellites, speed in km/h.
    data.extend([0x02, 0x21, 0, 84, 9, 0, 36]);
    // No event; five elements: ignition, motion, signal; supply in mV; odometer in m.
    data.extend([0, 5, 3, 239, 1, 240, 1, 21, 4, 1, 66, 0x30, 0x39]);
    data.extend([1, 16, 0, 0x12, 0xd6, 0x87, 0]);
    data.push(1);
    let mut packet = vec![0; 4];
    packet.extend((data.len() as u32).to_be_bytes());
    packet.extend(&data);
    packet.extend(u32::from(check::crc16_arc(&data)).to_be_bytes());
    packet
}

fn gt06_packet(content: &[u8], serial: u16) -> Vec<u8> {
    let mut covered = vec![content.len() as u8 + 4];
    covered.extend(content);
    covered.extend(serial.to_be_bytes());
    let sum = check::crc16_x25(&covered);
    [&[0x78, 0x78], &covered[..], &sum.to_be_bytes(), b"\r\n"].concat()
}

fn gt06_login() -> Vec<u8> {
    gt06_packet(&[0x01, 0x04, 0x90, 0x15, 0x42, 0x03, 0x23, 0x75, 0x18], 1)
}

fn gt06(second: u8) -> Vec<u8> {
    // 30,000 units a minute of arc.
    let mut content = vec![0x12, 26, 6, 15, 12, 0, second, 0xc9];
    content.extend(86_611_140_u32.to_be_bytes());
    content.extend(20_730_000_u32.to_be_bytes());
    // 36 km/h; fixed, north, 84 degrees; a cell.
    content.extend([36, 0x14, 84, 0x01, 0x06, 2, 0x12, 0x34, 0, 0x56, 0x78]);
    gt06_packet(&content, 2 + u16::from(second))
}

fn h02(second: u8) -> Vec<u8> {
    let fields = "A,4807.0380,N,01131.0000,E,022.40,084,150626,FFFFFBFF";
    format!("*HQ,4901542032,V1,1200{second:02},{fields}#").into_bytes()
}

fn ubx(second: u8) -> Vec<u8> {
    let mut payload = [0; 92];
    let mut put = |at: usize, bytes: &[u8]| payload[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(129_600_000 + 1000 * u32::from(second)).to_le_bytes());
    put(4, &2026_u16.to_le_bytes());
    // Date, time, all of it valid.
    put(6, &[6, 15, 12, 0, second, 0b111]);
    // 3D, fix good, 9 satellites.
    put(20, &[3, 1, 0, 9]);
    put(24, &LON_E7.to_le_bytes());
    put(28, &LAT_E7.to_le_bytes());
    put(32, &592_300_i32.to_le_bytes());
    put(36, &545_400_i32.to_le_bytes());
    put(40, &2_500_u32.to_le_bytes());
    put(60, &11_524_i32.to_le_bytes());
    put(64, &8_440_000_i32.to_le_bytes());
    put(76, &150_u16.to_le_bytes());
    let covered = [&[0x01, 0x07, 92, 0], &payload[..]].concat();
    [&[0xb5, 0x62], &covered[..], &check::fletcher(&covered)].concat()
}

fn gpsd(second: u8) -> Vec<u8> {
    let head = r#"{"class":"TPV","device":"/dev/ttyS0","mode":3,"#;
    let place = r#""lat":48.117300000,"lon":11.516666700,"altHAE":592.300,"altMSL":545.400"#;
    let motion = r#""track":84.4000,"speed":11.524,"climb":0.100,"eph":2.500"#;
    format!("{head}\"time\":\"2026-06-15T12:00:{second:02}.000Z\",{place},{motion}}}\r\n")
        .into_bytes()
}

fn json(second: u8) -> Vec<u8> {
    let time = format!("\"time\":\"2026-06-15T12:00:{second:02}Z\"");
    let place = r#""lat":48.1173,"lon":11.5166667,"altitude_m":545.4"#;
    let motion = r#""speed_m_s":11.524,"course_deg":84.4"#;
    format!("{{\"device\":\"{IMEI}\",\"id\":{second},{time},{place},{motion}}}\n").into_bytes()
}

fn osmand(second: u8) -> Vec<u8> {
    let time = NOON_S + u32::from(second);
    let query = "lat=48.1173&lon=11.5166667&speed=22.4&bearing=84.4&altitude=545.4&batt=75";
    format!("GET /?id={IMEI}&timestamp={time}&{query} HTTP/1.1\r\nHost: ringway\r\n\r\n")
        .into_bytes()
}

fn gl200(second: u8) -> Vec<u8> {
    let time = format!("202606151200{second:02}");
    let fix = format!("1,41.5,84,545.4,11.516667,48.117300,{time}");
    format!("+RESP:GTFRI,060100,{IMEI},,0,0,1,{fix},0262,0002,1234,5678,00,{time},00{second:02}$")
        .into_bytes()
}

fn tk103(second: u8) -> Vec<u8> {
    let fix = format!("260615A4807.0380N01131.0000E041.51200{second:02}084.40");
    format!("(490154203237BR00{fix}00000000L00012345)").into_bytes()
}

fn gps103(second: u8) -> Vec<u8> {
    let fix = "A,4807.0380,N,01131.0000,E,22.40,84.4";
    format!("imei:{IMEI},tracker,2606151200,,F,1200{second:02}.000,{fix};").into_bytes()
}

fn meitrack(second: u8) -> Vec<u8> {
    let fix = format!("35,48.117300,11.516667,2606151200{second:02},A,9,25,41,84,0.9,545");
    let rest = "12345,67890,262|2|1234|5678,0000,0000|0000|0000|0199|0000";
    let data = format!(",{IMEI},AAA,{fix},{rest},*");
    // The length counts from the comma to the line end.
    let covered = format!("$$A{}{data}", data.len() + 4);
    let sum = check::sum(covered.as_bytes());
    format!("{covered}{sum:02X}\r\n").into_bytes()
}

/// One record with three elements.
fn ruptela(second: u8) -> Vec<u8> {
    let mut content = 490_154_203_237_518_u64.to_be_bytes().to_vec();
    content.extend([1, 0, 1]);
    content.extend((NOON_S + u32::from(second)).to_be_bytes());
    content.extend([0, 0]);
    content.extend(LON_E7.to_be_bytes());
    content.extend(LAT_E7.to_be_bytes());
    content.extend([5454_u16, 8440].map(u16::to_be_bytes).as_flattened());
    content.extend([9, 0, 41, 9, 0]);
    content.extend([1, 5, 1, 1, 29, 0x30, 0x39, 1, 65, 0, 0x12, 0xd6, 0x87, 0]);
    let len = (content.len() as u16).to_be_bytes();
    let sum = check::crc16_kermit(&content).to_be_bytes();
    [&len, &content[..], &sum].concat()
}

fn bcd(number: u8) -> u8 {
    (number / 10) << 4 | (number % 10)
}
