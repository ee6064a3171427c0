//! What goes around every body: flags, escapes, check, header.

use memchr::{memchr, memchr2};

use super::super::check::xor;
use super::super::{Message, Reject};
use crate::frame::DeviceId;

/// Opens and closes a message.
pub(super) const FLAG: u8 = 0x7e;

/// Starts an escape: `7d 01` is 7d, `7d 02` is 7e.
const ESCAPE: u8 = 0x7d;

/// Opens and closes a message of one vendor, whose phone number has seven bytes.
pub(super) const VENDOR_FLAG: u8 = 0xe7;

/// What a message stands between, and how that is escaped within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Standard,
    Vendor,
}

impl Framing {
    fn flag(self) -> u8 {
        match self {
            Framing::Standard => FLAG,
            Framing::Vendor => VENDOR_FLAG,
        }
    }

    /// Where the next escape starts.
    fn escape(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Framing::Standard => memchr(ESCAPE, bytes),
            Framing::Vendor => memchr2(0xe6, 0x3e, bytes),
        }
    }

    /// Where the next byte is that has to be escaped.
    fn special(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Framing::Standard => memchr2(FLAG, ESCAPE, bytes),
            Framing::Vendor => bytes.iter().position(|&byte| escaped(self, byte).is_some()),
        }
    }
}

/// Each byte that is escaped, and the two that stand for it.
const ESCAPES: [(Framing, u8, [u8; 2]); 6] = [
    (Framing::Standard, ESCAPE, [ESCAPE, 1]),
    (Framing::Standard, FLAG, [ESCAPE, 2]),
    (Framing::Vendor, 0xe6, [0xe6, 1]),
    (Framing::Vendor, VENDOR_FLAG, [0xe6, 2]),
    (Framing::Vendor, 0x3e, [0x3e, 1]),
    (Framing::Vendor, 0x3d, [0x3e, 2]),
];

fn escaped(framing: Framing, byte: u8) -> Option<[u8; 2]> {
    let found = ESCAPES
        .iter()
        .find(|&&(of, plain, _)| of == framing && plain == byte)?;
    Some(found.2)
}

fn plain(framing: Framing, pair: [u8; 2]) -> Option<u8> {
    let found = ESCAPES
        .iter()
        .find(|&&(of, _, escaped)| of == framing && escaped == pair)?;
    Some(found.1)
}

/// Longest content: the 2019 header with parts, a body of 1023 bytes, the check.
pub(super) const CONTENT_BYTES_MAX: usize = 21 + 1023 + 1;

/// One vendor's location, live and stored. Its header has a serial number of one byte and other bits in the properties.
pub(super) const SHORT_LOCATION: u16 = 0x5501;
/// The same, sent late.
pub(super) const SHORT_STORED: u16 = 0x5502;

/// The two forms of the header. 2011 and 2013 differ in bodies only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edition {
    /// Phone number of 6 bytes.
    Of2013,
    /// Version byte, phone number of 10 bytes.
    Of2019,
}

/// A header, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) edition: Edition,
    framing: Framing,
    /// Version byte (2019) and phone number as sent, for the answer.
    address: [u8; 11],
    pub(super) device: Option<DeviceId>,
    pub(super) serial: u16,
    pub(super) encrypted: bool,
    /// Count of parts and number of this one, from 1.
    pub(super) part: Option<(u16, u16)>,
    /// A short header whose sender waits for an answer.
    pub(super) wants_answer: bool,
}

impl Header {
    /// A message of this sender that says nothing yet.
    pub(super) fn message(&self, kind: &'static str) -> Message {
        Message {
            device: self.device,
            kind,
            ..Message::default()
        }
    }

    fn address(&self) -> &[u8] {
        match (self.framing, self.edition) {
            (Framing::Vendor, _) => &self.address[..7],
            (_, Edition::Of2013) => &self.address[..6],
            (_, Edition::Of2019) => &self.address,
        }
    }
}

/// Unescapes and checks what stands between two flags. The body borrows from `content` if nothing was escaped, else
/// from `scratch`, which is empty at first.
pub(super) fn open<'a>(
    content: &'a [u8],
    scratch: &'a mut Vec<u8>,
    lenient: bool,
) -> Result<(Header, &'a [u8]), Reject> {
    let (framing, content) = match content.split_first() {
        Some((&VENDOR_FLAG, content)) => (Framing::Vendor, content),
        _ => (Framing::Standard, content),
    };
    let plain = unescape(framing, content, scratch)?;
    let (&check, covered) = plain.split_last().ok_or(Reject::Length)?;
    if !lenient && xor(covered) != check {
        return Err(Reject::Checksum);
    }
    let (&[id_high, id_low, properties_high, properties_low], rest) =
        covered.split_first_chunk().ok_or(Reject::Length)?;
    let id = u16::from_be_bytes([id_high, id_low]);
    let properties = u16::from_be_bytes([properties_high, properties_low]);
    if matches!(id, SHORT_LOCATION | SHORT_STORED) && framing == Framing::Standard {
        return open_short(id, properties, rest);
    }
    // Some senders set the bit of 2019 and write the older header, or the other way round: the length tells.
    let editions = match properties & 1 << 14 {
        0 => [Edition::Of2013, Edition::Of2019],
        _ => [Edition::Of2019, Edition::Of2013],
    };
    let mut readings = editions
        .into_iter()
        .filter_map(|edition| open_as(framing, edition, properties, rest));
    let (mut header, body) = readings.next().ok_or(Reject::Length)?;
    header.id = id;
    Ok((header, body))
}

/// Reads a header of this edition, if the stated length of the body then fits exactly.
fn open_as(
    framing: Framing,
    edition: Edition,
    properties: u16,
    rest: &[u8],
) -> Option<(Header, &[u8])> {
    // A version byte stands before the phone number in 2019.
    let (version_bytes, phone_bytes) = match (framing, edition) {
        (Framing::Vendor, Edition::Of2013) => (0, 7),
        (Framing::Vendor, Edition::Of2019) => return None,
        (_, Edition::Of2013) => (0, 6),
        (_, Edition::Of2019) => (1, 10),
    };
    let (stated, rest) = rest.split_at_checked(version_bytes + phone_bytes)?;
    let (serial, rest) = rest.split_first_chunk()?;
    let (part, body) = if properties & 1 << 13 != 0 {
        let (&[a, b, c, d], rest) = rest.split_first_chunk()?;
        let part = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        (Some(part), rest)
    } else {
        (None, rest)
    };
    if body.len() != usize::from(properties & 0x3ff) {
        return None;
    }
    let mut address = [0; 11];
    address[..stated.len()].copy_from_slice(stated);
    let header = Header {
        id: 0,
        edition,
        framing,
        address,
        device: device(&stated[version_bytes..]),
        serial: u16::from_be_bytes(*serial),
        encrypted: properties & 0x1c00 != 0,
        part,
        wants_answer: false,
    };
    Some((header, body))
}

fn open_short(id: u16, properties: u16, rest: &[u8]) -> Result<(Header, &[u8]), Reject> {
    let (phone, rest) = rest.split_first_chunk::<6>().ok_or(Reject::Length)?;
    let (&serial, body) = rest.split_first().ok_or(Reject::Length)?;
    if body.len() != usize::from(properties & 0x3ff) {
        return Err(Reject::Length);
    }
    let mut address = [0; 11];
    address[..6].copy_from_slice(phone);
    let header = Header {
        id,
        edition: Edition::Of2013,
        framing: Framing::Standard,
        address,
        device: device(phone),
        serial: u16::from(serial),
        encrypted: false,
        part: None,
        wants_answer: properties & 1 << 15 != 0,
    };
    Ok((header, body))
}

fn unescape<'a>(
    framing: Framing,
    content: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], Reject> {
    let mut rest = content;
    while let Some(at) = framing.escape(rest) {
        let pair = rest[at..].first_chunk().ok_or(Reject::Escape)?;
        let plain = plain(framing, *pair).ok_or(Reject::Escape)?;
        if scratch.len() + at >= CONTENT_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        scratch.reserve(rest.len());
        scratch.extend_from_slice(&rest[..at]);
        scratch.push(plain);
        rest = &rest[at + 2..];
    }
    if scratch.len() + rest.len() > CONTENT_BYTES_MAX {
        return Err(Reject::TooLong);
    }
    if scratch.is_empty() {
        return Ok(content);
    }
    scratch.extend_from_slice(rest);
    Ok(scratch)
}

/// The device that a phone number means; `None` for zeros only, which some terminals send before they are set up.
///
/// A phone number is decimal digits without the zeros in front. Six bytes with other digits are the first 14 digits of
/// an IMEI as a binary number; its 15th digit follows from them.
fn device(phone: &[u8]) -> Option<DeviceId> {
    let hex = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut digits = [0; 20];
    for (pair, &byte) in digits.chunks_exact_mut(2).zip(phone) {
        pair.copy_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
    }
    let digits = &digits[..2 * phone.len()];
    if digits.len() == 12 && digits.iter().any(u8::is_ascii_lowercase) {
        let value = phone
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        return imei(value);
    }
    let start = digits.iter().position(|&digit| digit != b'0')?;
    DeviceId::new(&digits[start..])
}

/// The IMEI that begins with these 14 digits.
fn imei(mut first_14: u64) -> Option<DeviceId> {
    let mut text = [b'0'; 15];
    let mut sum = 0;
    for (from_right, digit) in text[..14].iter_mut().rev().enumerate() {
        let value = (first_14 % 10) as u8;
        first_14 /= 10;
        *digit += value;
        // Luhn: every second digit counts double, the digits of the product are added up.
        sum += match from_right % 2 {
            0 if value > 4 => 2 * value - 9,
            0 => 2 * value,
            _ => value,
        };
    }
    text[14] += (10 - sum % 10) % 10;
    if first_14 == 0 {
        DeviceId::new(&text)
    } else {
        None
    }
}

/// Longest header of ours, without parts.
const HEADER_BYTES_MAX: usize = 17;

/// Appends a message of ours to `out`, in the header form of the one that it answers.
pub(super) fn push_answer(out: &mut Vec<u8>, to: &Header, serial: u16, id: u16, body: &[u8]) {
    let edition_bit = match to.edition {
        Edition::Of2013 => 0,
        Edition::Of2019 => 1 << 14,
    };
    debug_assert!(body.len() <= 1023, "answers are short");
    let properties = body.len() as u16 | edition_bit;
    let address = to.address();
    let mut header = [0; HEADER_BYTES_MAX];
    header[..2].copy_from_slice(&id.to_be_bytes());
    header[2..4].copy_from_slice(&properties.to_be_bytes());
    header[4..4 + address.len()].copy_from_slice(address);
    // A short header has a serial number of one byte.
    let serial = serial.to_be_bytes();
    let serial = match to.id {
        SHORT_LOCATION | SHORT_STORED if to.framing == Framing::Standard => &serial[1..],
        _ => &serial[..],
    };
    header[4 + address.len()..][..serial.len()].copy_from_slice(serial);
    let header = &header[..4 + address.len() + serial.len()];
    let check = [xor(header) ^ xor(body)];
    // Room for two escapes.
    out.reserve(header.len() + body.len() + 5);
    out.push(to.framing.flag());
    for part in [header, body, &check] {
        push_escaped(out, to.framing, part);
    }
    out.push(to.framing.flag());
}

fn push_escaped(out: &mut Vec<u8>, framing: Framing, mut bytes: &[u8]) {
    while let Some(at) = framing.special(bytes) {
        out.extend_from_slice(&bytes[..at]);
        out.extend(escaped(framing, bytes[at]).unwrap_or_default());
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        // The example of the standard: content 30 7e 08 7d 55.
        let mut scratch = Vec::new();
        let wire = [0x30, 0x7d, 0x02, 0x08, 0x7d, 0x01, 0x55];
        assert_eq!(
            unescape(Framing::Standard, &wire, &mut scratch),
            Ok(&[0x30, 0x7e, 0x08, 0x7d, 0x55][..])
        );
        for bad in [&[0x7d][..], &[0x7d, 0x03], &[0x7d, 0x7d, 0x01]] {
            let mut scratch = Vec::new();
            assert_eq!(
                unescape(Framing::Standard, bad, &mut scratch),
                Err(Reject::Escape)
            );
        }
    }

    #[test]
    fn phone_numbers_lose_their_padding() {
        let id = |phone: &[u8]| device(phone).map(|id| id.to_string());
        assert_eq!(
            id(&[0x01, 0x39, 0x12, 0x34, 0x56, 0x78]).as_deref(),
            Some("13912345678")
        );
        let long = [0, 0, 0, 0, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78];
        assert_eq!(id(&long).as_deref(), Some("13912345678"));
        assert_eq!(id(&[0; 6]), None);
    }

    #[test]
    fn a_binary_imei_gets_its_check_digit() {
        // 49015420323751 is the textbook IMEI, whose check digit is 8; as a number it is 0x2c93fd9c7a67.
        let bytes = 49_015_420_323_751_u64.to_be_bytes();
        assert_eq!(device(&bytes[2..]).unwrap().as_str(), "490154203237518");
        assert_eq!(device(&[0xff; 6]), None, "more than 14 digits");
    }

    #[test]
    fn a_header_whose_length_does_not_fit_is_refused() {
        // A heartbeat that states a body of one byte and has none.
        let mut content = vec![0, 2, 0, 1, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78, 0, 7];
        content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
        for (content, lenient) in [(&content[..], false), (&content, true), (&[], false)] {
            assert_eq!(open(content, &mut Vec::new(), lenient), Err(Reject::Length));
        }
    }

    #[test]
    fn a_header_that_its_2019_bit_belies_is_known_by_its_length() {
        let mut content = vec![0, 2, 0x40, 0, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78, 0, 7];
        content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
        let mut scratch = Vec::new();
        let (header, body) = open(&content, &mut scratch, false).unwrap();
        assert_eq!(
            (header.edition, header.serial, body),
            (Edition::Of2013, 7, &[][..])
        );
    }
}
