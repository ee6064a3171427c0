//! Telling the protocols apart by the first bytes of a connection.
//!
//! The bytes that decide are not consumed: the protocol that is found reads them. What is decided stays for the life of
//! the connection. One that begins like no protocol is rubbish to its end: whoever speaks something else would sooner or
//! later send a byte that begins something.

use super::decoder::{Decoder, Mode};
use super::{Arrival, Message, Protocol, Reject, Settings, Split};

/// Longest message of any protocol.
pub(super) const MESSAGE_BYTES_MAX: usize = {
    let each = [
        super::jt808::MESSAGE_BYTES_MAX,
        super::teltonika::MESSAGE_BYTES_MAX,
        super::gt06::MESSAGE_BYTES_MAX,
        super::h02::MESSAGE_BYTES_MAX,
        super::nmea::MESSAGE_BYTES_MAX,
        super::ubx::MESSAGE_BYTES_MAX,
        super::gpsd::MESSAGE_BYTES_MAX,
        super::osmand::MESSAGE_BYTES_MAX,
        super::gl200::MESSAGE_BYTES_MAX,
        super::tk103::MESSAGE_BYTES_MAX,
        super::gps103::MESSAGE_BYTES_MAX,
        super::meitrack::MESSAGE_BYTES_MAX,
        super::ruptela::MESSAGE_BYTES_MAX,
        super::json::MESSAGE_BYTES_MAX,
    ];
    let (mut longest, mut at) = (0, 0);
    while at < each.len() {
        if each[at] > longest {
            longest = each[at];
        }
        at += 1;
    }
    longest
};

/// With so many bytes it is always decided.
const DECIDED_BYTES: usize = 40;

/// State of one connection: undecided, or in the hands of a protocol.
pub(super) struct Session {
    settings: Settings,
    mode: Mode,
    found: Option<Box<dyn Decoder>>,
    /// The first bytes were those of no protocol.
    stranger: bool,
}

/// Bytes of a stranger that count as one error, so that it is closed soon.
const STRANGE_BYTES: usize = 64;

impl Session {
    pub(super) fn new(settings: &Settings, mode: Mode) -> Session {
        Session {
            settings: settings.clone(),
            mode,
            found: None,
            stranger: false,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        if let Some(found) = &mut self.found {
            return found.split(bytes);
        }
        if self.stranger && !bytes.is_empty() {
            return rubbish(bytes.len().min(STRANGE_BYTES));
        }
        let blank = bytes.iter().take_while(|&&byte| is_blank(byte)).count();
        if blank == bytes.len() {
            return match blank >= MESSAGE_BYTES_MAX {
                true => rubbish(blank),
                false => Split::Incomplete,
            };
        }
        match recognise(&bytes[blank..]) {
            Guess::Is(protocol) => {
                let mut found = super::open(protocol, &self.settings, self.mode);
                let split = found.split(bytes);
                self.found = Some(found);
                split
            }
            Guess::Unsure if bytes.len() >= MESSAGE_BYTES_MAX => rubbish(blank),
            Guess::Unsure => Split::Incomplete,
            Guess::Nothing => {
                self.stranger = true;
                rubbish(bytes.len().min(STRANGE_BYTES))
            }
        }
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let found = self.found.as_mut().ok_or(Reject::Rubbish)?;
        found.decode(message, now)
    }

    fn is_part(&self, left: &[u8]) -> bool {
        match &self.found {
            Some(found) => found.is_part(left),
            None => left.iter().any(|&byte| !is_blank(byte)),
        }
    }

    fn answers_in_order(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|found| found.answers_in_order())
    }

    fn flush(&mut self) -> Option<Message> {
        self.found.as_mut()?.flush()
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn rubbish(consumed: usize) -> Split {
    Split::Rubbish {
        consumed,
        reason: Reject::Rubbish,
    }
}

/// What first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Is(Protocol),
    /// More bytes are needed.
    Unsure,
    Nothing,
}

/// gpsd puts the class of an object first; our own schema has no such key.
const GPSD: &[u8] = b"{\"class\":";

/// Beginnings of text that only one protocol has.
const WORDS: &[(&[u8], Protocol)] = &[
    (b"GET ", Protocol::Osmand),
    (b"POST ", Protocol::Osmand),
    (b"HEAD ", Protocol::Osmand),
    (b"+", Protocol::Gl200),
    (b"##,", Protocol::Gps103),
    (b"imei:", Protocol::Gps103),
    (GPSD, Protocol::Gpsd),
    (b"[", Protocol::Json),
    (b"!", Protocol::Nmea),
    (b"QZE,", Protocol::Nmea),
    (b"IMEI", Protocol::Nmea),
    (b"$IMEI", Protocol::Nmea),
    (b"(", Protocol::Tk103),
    (b"*", Protocol::H02),
    (b"$$", Protocol::Meitrack),
    (b"\x7e", Protocol::Jt808),
    (b"\x78\x78", Protocol::Gt06),
    (b"\x79\x79", Protocol::Gt06),
    (b"\xb5\x62", Protocol::Ubx),
    (b"\xff", Protocol::Teltonika),
    (b"\x00\x00\x00\x00", Protocol::Teltonika),
];

/// The protocol that these bytes begin.
fn recognise(bytes: &[u8]) -> Guess {
    let mut unsure = false;
    for &(word, protocol) in WORDS {
        let shared = word.len().min(bytes.len());
        if word[..shared] == bytes[..shared] {
            if shared == word.len() {
                return Guess::Is(protocol);
            }
            unsure = true;
        }
    }
    let guess = match bytes[0] {
        b'$' => dollar(bytes),
        b'0'..=b'9' => digits(bytes),
        0..=3 => length(bytes),
        0xe7 => vendor_flag(bytes),
        b'{' if !GPSD.starts_with(&bytes[..bytes.len().min(GPSD.len())]) => {
            Guess::Is(Protocol::Json)
        }
        _ => Guess::Nothing,
    };
    match guess {
        Guess::Nothing if unsure && bytes.len() < DECIDED_BYTES => Guess::Unsure,
        guess => guess,
    }
}

/// Longest address of a sentence.
const ADDRESS_BYTES_MAX: usize = 12;

/// A sentence of NMEA 0183 has letters and a comma within its address; H02 packs decimal digits after the dollar.
fn dollar(bytes: &[u8]) -> Guess {
    let address = &bytes[1..];
    // No further, or it would matter how much has arrived.
    let end = address
        .iter()
        .take(ADDRESS_BYTES_MAX)
        .position(|byte| !byte.is_ascii_alphanumeric());
    let packed = |byte: &u8| byte >> 4 < 10 && byte & 15 < 10;
    match end {
        Some(at) if address[at] == b',' => Guess::Is(Protocol::Nmea),
        None if address.len() < ADDRESS_BYTES_MAX => Guess::Unsure,
        _ if address.len() < 5 => Guess::Unsure,
        _ if address[..5].iter().all(packed) => Guess::Is(Protocol::H02),
        _ => Guess::Nothing,
    }
}

/// A bare IMEI is the heartbeat of a GPS103, which may stand before its next message. Before a sentence, or alone on a
/// line, a number names a receiver.
fn digits(bytes: &[u8]) -> Guess {
    let is_name = |byte: &u8| byte.is_ascii_digit() || *byte == b'/';
    let count = bytes.iter().take_while(|byte| is_name(byte)).count();
    if count >= DECIDED_BYTES {
        return Guess::Nothing;
    }
    match bytes.get(count) {
        None => Guess::Unsure,
        Some(b';' | b'i') if count == 15 => Guess::Is(Protocol::Gps103),
        Some(b'$' | b'\r' | b'\n') => Guess::Is(Protocol::Nmea),
        Some(_) => Guess::Nothing,
    }
}

/// One vendor's flag of JT/T 808, and the first half of a number of a message: all of a terminal are below 1000 hex.
fn vendor_flag(bytes: &[u8]) -> Guess {
    match bytes.get(1) {
        None => Guess::Unsure,
        Some(0..=0x0f) => Guess::Is(Protocol::Jt808),
        Some(_) => Guess::Nothing,
    }
}

/// Two protocols begin with a length of two bytes. Teltonika names itself by 15 digits, or sends a packet (UDP) with a
/// marker; Ruptela packs the 15 digits into eight bytes, of which the first is zero.
fn length(bytes: &[u8]) -> Guess {
    let Some(&[high, low, third, fourth]) = bytes.first_chunk() else {
        return Guess::Unsure;
    };
    if [high, low] == [0, 15] && third.is_ascii_digit() {
        return Guess::Is(Protocol::Teltonika);
    }
    // A packet over UDP: its length, its number, 0 or 1, a number, and the length of the IMEI.
    match bytes.get(4..8) {
        None => return Guess::Unsure,
        Some([0 | 1, _, 0, 15]) => return Guess::Is(Protocol::Teltonika),
        Some(_) => {}
    }
    // 999,999,999,999,999 is 03 8d 7e a4 c6 7f ff in seven bytes.
    match third == 0 && fourth <= 3 {
        true => Guess::Is(Protocol::Ruptela),
        false => Guess::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beginnings as the protocols' documents have them.
    #[test]
    fn each_protocol_is_known_by_its_first_bytes() {
        let beginnings: &[(&[u8], Protocol)] = &[
            (b"\x7e\x01\x00", Protocol::Jt808),
            (b"\xe7\x01\x00", Protocol::Jt808),
            (b"\x00\x0f356307042441013", Protocol::Teltonika),
            (
                b"\x00\x00\x00\x00\x00\x00\x00\x36\x08\x01",
                Protocol::Teltonika,
            ),
            (
                b"\x00\x3d\xca\xfe\x01\x05\x00\x0f352093086403655",
                Protocol::Teltonika,
            ),
            (
                b"\x00\xa1\xca\xfe\x00\x1b\x00\x0f356307042441013",
                Protocol::Teltonika,
            ),
            (b"\x78\x78\x0d\x01", Protocol::Gt06),
            (b"\x79\x79\x00\x20\x94", Protocol::Gt06),
            (b"*HQ,865205030330012,V1", Protocol::H02),
            (b"\x24\x80\x30\x14\x32\x50\x12\x30\x45", Protocol::H02),
            (b"\x24\x41\x42\x43\x44\x45\x12\x30\x45\x01", Protocol::H02),
            (b"$GPRMC,120000", Protocol::Nmea),
            (b"\r\n$PUBX,00,", Protocol::Nmea),
            (b"12/359586015829802/$GPRMC", Protocol::Nmea),
            (b"359586015829802\r\n", Protocol::Nmea),
            (b"QZE,359586015829802,", Protocol::Nmea),
            (b"IMEI 359586015829802\r\n", Protocol::Nmea),
            (b"$IMEI 359586015829802\r\n", Protocol::Nmea),
            (b"\xb5\x62\x01\x07", Protocol::Ubx),
            (b"{\"class\":\"VERSION\"", Protocol::Gpsd),
            (b"{\"device\":\"a\"", Protocol::Json),
            (b"{ \"class\"", Protocol::Json),
            (b"{\"clash", Protocol::Json),
            (b"{}", Protocol::Json),
            (b"[{\"id\":", Protocol::Json),
            (b"GET /?id=1", Protocol::Osmand),
            (b"POST / HTTP/1.1", Protocol::Osmand),
            (b"+RESP:GTFRI,", Protocol::Gl200),
            (b"(013612345678BP00", Protocol::Tk103),
            (b"##,imei:359586015829802,A;", Protocol::Gps103),
            (b"359586015829802;", Protocol::Gps103),
            (b"359586015829802imei:359586015829802,", Protocol::Gps103),
            (b"imei:359586015829802,tracker", Protocol::Gps103),
            (b"$$A142,353358017784062,AAA", Protocol::Meitrack),
            (
                b"\x00\x80\x00\x03\x16\x7d\x76\x5c\x15\x5d\x01\x00",
                Protocol::Ruptela,
            ),
        ];
        for &(bytes, protocol) in beginnings {
            let blank = bytes.iter().take_while(|&&byte| is_blank(byte)).count();
            let bytes = &bytes[blank..];
            assert_eq!(recognise(bytes), Guess::Is(protocol), "{bytes:02x?}");
            // Whatever the first segment holds, no other protocol is taken for it.
            for cut in 1..bytes.len() {
                let guess = recognise(&bytes[..cut]);
                assert!(
                    matches!(guess, Guess::Unsure) || guess == Guess::Is(protocol),
                    "{:02x?}: {guess:?}",
                    &bytes[..cut]
                );
            }
        }
    }

    /// Starts of what some protocols begin with.
    const BEGUN: &[&[u8]] = &[
        b"",
        b"$",
        b"$G",
        b"*",
        b"{\"cl",
        b"{\"class\"",
        b"GE",
        b"1234",
        b"\x00\x0f",
        b"\x00",
        b"##",
        b"QZ",
        b"imei",
    ];

    proptest::proptest! {
        /// Only what is unsure may change when more arrives: `$GNRMCjjj...` was no sentence until a comma came.
        #[test]
        fn what_is_decided_stays_decided(
            beginning in proptest::sample::select(BEGUN),
            rest in proptest::collection::vec(proptest::prop_oneof![
                proptest::num::u8::ANY, b'0'..=b'9', b'A'..=b'z', proptest::strategy::Just(b','),
            ], 1..60),
        ) {
            let bytes = [beginning, &rest].concat();
            let mut decided = None;
            for length in 1..=bytes.len() {
                let guess = recognise(&bytes[..length]);
                if let Some(before) = decided {
                    proptest::prop_assert_eq!(guess, before, "{:02x?}", &bytes[..length]);
                }
                decided = (guess != Guess::Unsure).then_some(guess).or(decided);
            }
        }
    }

    #[test]
    fn a_connection_that_begins_like_no_protocol_stays_a_stranger() {
        let mut session = Session::new(&Settings::default(), Mode::Epoch);
        assert_eq!(session.split(b"SSH-2.0-x"), rubbish(9));
        assert_eq!(session.split(b"$GPRMC,120000"), rubbish(13));
        assert_eq!(session.split(&[0x7e; 100]), rubbish(STRANGE_BYTES));
        assert_eq!(session.split(b""), Split::Incomplete);
    }

    #[test]
    fn strangers_are_rubbish_and_nothing_is_waited_for_without_end() {
        for bytes in [&b"SSH-2.0-x\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"hello"] {
            assert_eq!(recognise(bytes), Guess::Nothing, "{bytes:02x?}");
        }
        for first in 0..=255 {
            for second in [0, 15, b'$', b'1', b'A'] {
                let mut bytes = [second; DECIDED_BYTES];
                bytes[0] = first;
                assert_ne!(recognise(&bytes), Guess::Unsure, "{bytes:02x?}");
            }
        }
    }
}
