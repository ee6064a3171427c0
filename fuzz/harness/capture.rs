//! Captures of any kind: the reader comes to an end, tells no byte twice, and what it reads can be played.

use ringway::capture::{Header, Item, Playback, RECORD_BYTES_MAX, Reader};

const MARK: [u8; 8] = *b"\xd1capture";

/// The first byte chooses: the rest as it is; behind a sound header; or cut into bodies that stand in sound records.
pub fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let file = match kind % 3 {
        0 => rest.to_vec(),
        1 => [header(rest), rest.to_vec()].concat(),
        _ => {
            let mut file = header(rest);
            rest.chunks(1 + usize::from(*kind))
                .for_each(|body| record(&mut file, body));
            file
        }
    };
    read(&file);
}

/// Reads and plays a file.
fn read(file: &[u8]) {
    let mut reader = Reader::new(file);
    let (mut playback, mut played) = (Playback::default(), Vec::new());
    loop {
        let before = reader.position();
        let Ok(item) = reader.next_item() else {
            assert_eq!(before, 0, "a file is refused at its first byte");
            return;
        };
        match &item {
            Item::Damaged { from, to } => {
                assert_eq!(*from, before);
                assert!(to > from && *to < file.len() as u64);
            }
            Item::Record(record) => assert!(record.data.len() <= RECORD_BYTES_MAX),
            Item::Header(_) => {}
            Item::End { sound, cut, ended } => {
                assert_eq!(*sound, before);
                assert_eq!(sound + cut, file.len() as u64);
                assert!(!ended || *cut == 0);
                return;
            }
        }
        playback.take(item, &mut played, |_| {});
        played.clear();
        assert!(reader.position() > before, "each item takes bytes");
    }
}

fn header(seed: &[u8]) -> Vec<u8> {
    let protocols = ["nmea", "jt808", "auto", "gpsd", "telex"];
    let at = |place: usize| usize::from(seed.get(place).copied().unwrap_or(0));
    let header = Header {
        node: ("depot".into(), "gw1".into()),
        sensor: "trackers".into(),
        input: ["tcp", "udp", "http"][at(0) % 3].into(),
        protocol: protocols[at(1) % protocols.len()].into(),
        device: Some("car-1".into()),
        zone_minutes: None,
        lenient: at(2) % 2 == 1,
        errors_max: 1 + at(3) as u32,
        node_key: [7; 16],
        series: 1,
        number: 1,
        created_ms: 1_700_000_000_000,
    };
    header.encode(MARK)
}

/// A record as the format states it: mark, length, checksum, body.
fn record(file: &mut Vec<u8>, body: &[u8]) {
    let length = (body.len() as u32).to_le_bytes();
    file.extend(MARK);
    file.extend(length);
    file.extend(crc32c(&[&length, body].concat()).to_le_bytes());
    file.extend(body);
}

/// CRC-32C as its polynomial defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
