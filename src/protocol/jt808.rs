//! JT/T 808, editions 2011, 2013 and 2019: trackers of commercial vehicles.
//!
//! This file holds the session: it cuts messages, says what each kind means and what it is answered. A location is
//! answered when it is safe, everything else at once. What a terminal says before it authenticated is taken too, as
//! many never do: the phone number in every message is an identifier, not a secret.

mod alarm;
mod envelope;
mod items;
mod location;
mod parts;
mod vendor;

use memchr::{memchr, memchr2};
use sha2::{Digest, Sha256};

use self::envelope::{CONTENT_BYTES_MAX, Edition, FLAG, Header, VENDOR_FLAG, push_answer};
use self::location::{LOCATION_BYTES, Locations};
use self::parts::{LongMessage, Progress};
use super::calendar;
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};
use crate::frame::{Attribute, AttributeKey, DeviceId, Value, rfc3339_ms};

/// Longest message: each byte of the content escaped, between two flags.
pub(super) const MESSAGE_BYTES_MAX: usize = 2 * CONTENT_BYTES_MAX + 2;

/// Longest text message of the terminals that mix in `(...)`.
const TEXT_BYTES_MAX: usize = 512;

/// Highest first byte of an id that a terminal sends in one vendor's framing.
const VENDOR_ID_HIGH_MAX: u8 = 0x0f;

/// Result codes of the general response.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG: u8 = 2;
const NOT_SUPPORTED: u8 = 3;

/// State of one terminal's connection.
pub(super) struct Session {
    settings: Settings,
    /// Serial number of our next message.
    serial: u16,
    /// The last byte consumed was a flag, which may open the next message too.
    after_flag: bool,
    /// The last bytes were rubbish: a vendor's flag among them begins nothing.
    lost: bool,
    /// A long message of which parts are here.
    long: Option<Box<LongMessage>>,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            serial: 0,
            after_flag: false,
            lost: false,
            long: None,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let Some(&first) = bytes.first() else {
            return Split::Incomplete;
        };
        if first == b'(' {
            return self.split_text(bytes);
        }
        if first == VENDOR_FLAG && !self.after_flag && !self.lost {
            return self.split_vendor(bytes);
        }
        if first != FLAG && !self.after_flag {
            let consumed = memchr2(FLAG, b'(', bytes).unwrap_or(bytes.len());
            return self.rubbish(consumed, Reject::Rubbish);
        }
        // Empty messages between flags are passed over.
        let Some(start) = bytes.iter().position(|&b| b != FLAG) else {
            // Flags without end would fill the buffer of who waits for more.
            let flood = bytes.len() >= MESSAGE_BYTES_MAX;
            return if flood {
                self.rubbish(bytes.len(), Reject::Rubbish)
            } else {
                Split::Incomplete
            };
        };
        match memchr(FLAG, &bytes[start..]) {
            Some(len) if len <= 2 * CONTENT_BYTES_MAX => {
                self.after_flag = true;
                self.lost = false;
                Split::Message {
                    range: start..start + len,
                    consumed: start + len + 1,
                }
            }
            Some(len) => self.rubbish(start + len, Reject::TooLong),
            None if bytes.len() - start > 2 * CONTENT_BYTES_MAX => {
                self.rubbish(bytes.len(), Reject::TooLong)
            }
            None if bytes.len() >= MESSAGE_BYTES_MAX => self.rubbish(start - 1, Reject::Rubbish),
            None => Split::Incomplete,
        }
    }

    /// Flags alone may close the message before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| byte != FLAG)
    }

    fn decode(&mut self, content: &[u8], now: Arrival) -> Result<Message, Reject> {
        if content.first() == Some(&b'(') {
            return vendor::text(content, now);
        }
        let mut scratch = Vec::new();
        let (header, body) = envelope::open(content, &mut scratch, self.settings.lenient)?;
        if header.encrypted {
            return Ok(self.refuse(&header, "encrypted", NOT_SUPPORTED, Reject::Encrypted));
        }
        if header.part.is_some() {
            return Ok(self.part(&header, body, now));
        }
        Ok(self.body(&header, body, now))
    }
}

impl Session {
    /// Text stands in parentheses; a flag in it means that the parenthesis was none.
    fn split_text(&mut self, bytes: &[u8]) -> Split {
        let window = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
        match memchr2(b')', FLAG, window) {
            Some(end) if window[end] == b')' => {
                self.after_flag = false;
                self.lost = false;
                Split::Message {
                    range: 0..end + 1,
                    consumed: end + 1,
                }
            }
            Some(flag) => self.rubbish(flag, Reject::Rubbish),
            None if window.len() == TEXT_BYTES_MAX => self.rubbish(TEXT_BYTES_MAX, Reject::TooLong),
            None => Split::Incomplete,
        }
    }

    /// One vendor's flag counts only where a message may begin and what looks like an id follows: it is a byte like any
    /// other in everybody else's messages.
    fn split_vendor(&mut self, bytes: &[u8]) -> Split {
        let window = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
        let end = match window.get(1) {
            None => return Split::Incomplete,
            Some(0..=VENDOR_ID_HIGH_MAX) => memchr(VENDOR_FLAG, &window[1..]),
            Some(_) => None,
        };
        match end {
            // The flag stays with the content, whose escapes it decides.
            Some(len) => Split::Message {
                range: 0..len + 1,
                consumed: len + 2,
            },
            None if window[1] <= VENDOR_ID_HIGH_MAX && window.len() < MESSAGE_BYTES_MAX => {
                Split::Incomplete
            }
            None => {
                let next = memchr2(FLAG, b'(', &bytes[1..]);
                self.rubbish(next.map_or(bytes.len(), |at| at + 1), Reject::Rubbish)
            }
        }
    }

    fn rubbish(&mut self, consumed: usize, reason: Reject) -> Split {
        self.after_flag = false;
        self.lost = true;
        Split::Rubbish { consumed, reason }
    }

    /// What a whole body says. Reads all of it before the session changes.
    fn body(&mut self, header: &Header, body: &[u8], now: Arrival) -> Message {
        match header.id {
            0x0001 => header.message("response"),
            0x0002 => self.heartbeat(header, body),
            0x0003 => self.done(header, "logout"),
            0x0004 => {
                let mut message = header.message("time_request");
                let time = utc_bcd(now.wall_ms);
                self.answer(&mut message.answer_now, header, 0x8004, &time);
                message
            }
            0x0005 => header.message("resend_request"),
            0x0100 => self.register(header, body),
            0x0102 => self.authenticate(header, body),
            0x0200 => {
                let report = self.locations(header, now).one(body);
                self.reports(header, "location", report.map(|report| vec![report]))
            }
            0x0201 | 0x0500 => {
                let mut message = header.message("location_answer");
                match self.locations(header, now).one(&body[body.len().min(2)..]) {
                    Ok(report) => message.reports.push(report),
                    Err(reject) => message.refused = Some(reject),
                }
                message
            }
            0x0704 => {
                let reports = self.locations(header, now).batch(body);
                self.reports(header, "batch", reports)
            }
            0x0801 => self.media(header, body, now),
            0x0900 => {
                let read = vendor::transparent(&self.locations(header, now), body);
                self.vendor(header, "transparent", read)
            }
            0x0210 => {
                let read = vendor::packed(&mut self.locations(header, now), body);
                self.vendor(header, "vendor_batch", read)
            }
            envelope::SHORT_LOCATION | envelope::SHORT_STORED => {
                let mut message = header.message("vendor_location");
                if header.wants_answer {
                    let [high, low] = header.id.to_be_bytes();
                    push_answer(
                        &mut message.answer_now,
                        header,
                        1,
                        0x4401,
                        &[high, low, DONE],
                    );
                }
                match vendor::short_location(&self.locations(header, now), header, body) {
                    Ok(report) => message.hold_answer_for(vec![report]),
                    Err(reject) => message.refused = Some(reject),
                }
                message
            }
            0x0104 => self.done(header, "parameters"),
            0x0107 => {
                let mut message = self.done(header, "properties");
                message.attributes = vendor::properties(header.edition, body);
                message
            }
            0x0109 => {
                let mut message = header.message("time_request");
                let time = utc_binary(now.wall_ms);
                self.answer(&mut message.answer_now, header, 0x8109, &time);
                message
            }
            // Heartbeat and time zone of vendors.
            0x0506 => self.done(header, "heartbeat"),
            0x1007 => self.done(header, "time_zone"),
            0x0701 | 0x1300 | 0x6006 => {
                let mut message = self.done(header, "result");
                message.attributes.extend(vendor::result(header.id, body));
                message
            }
            0x0702 => {
                let mut message = self.done(header, "driver");
                message.attributes = vendor::driver(body);
                message
            }
            0x0705 => self.done(header, "can"),
            0x0800 => self.done(header, "media_event"),
            _ => self.refuse(header, "unknown", NOT_SUPPORTED, Reject::UnknownKind),
        }
    }

    fn locations(&self, header: &Header, now: Arrival) -> Locations {
        Locations::new(header.edition, &self.settings, now)
    }

    /// A message that is answered and says nothing else.
    fn done(&mut self, header: &Header, kind: &'static str) -> Message {
        let mut message = header.message(kind);
        self.general_response(&mut message.answer_now, header, DONE);
        message
    }

    /// Some terminals say in it how they are: battery, signal, state.
    fn heartbeat(&mut self, header: &Header, body: &[u8]) -> Message {
        let mut message = self.done(header, "heartbeat");
        if let &[percent, signal, state, ..] = body {
            message.attributes.extend(battery(percent));
            message.state(AttributeKey::Signal, Some(signal));
            message.state(AttributeKey::StatusWord, Some(state));
        }
        message
    }

    /// A message that is answered when its reports are safe, or with "message wrong" if it has none that can be read:
    /// unanswered, the terminal would send it for ever.
    fn reports(
        &mut self,
        header: &Header,
        kind: &'static str,
        reports: Result<Vec<super::Report>, Reject>,
    ) -> Message {
        match reports {
            Ok(reports) => {
                let mut message = self.done(header, kind);
                message.hold_answer_for(reports);
                message
            }
            Err(reject) => self.refuse(header, kind, WRONG, reject),
        }
    }

    fn vendor(
        &mut self,
        header: &Header,
        kind: &'static str,
        read: Result<vendor::Body, Reject>,
    ) -> Message {
        match read {
            Ok(body) => {
                let mut message = self.reports(header, kind, Ok(body.reports));
                message.attributes = body.attributes;
                message
            }
            Err(reject) => self.refuse(header, kind, WRONG, reject),
        }
    }

    fn refuse(
        &mut self,
        header: &Header,
        kind: &'static str,
        result: u8,
        reject: Reject,
    ) -> Message {
        let mut message = header.message(kind);
        self.general_response(&mut message.answer_now, header, result);
        message.refused = Some(reject);
        message
    }

    fn register(&mut self, header: &Header, body: &[u8]) -> Message {
        // Manufacturer, model and terminal id have other lengths in each edition.
        let (maker, model, terminal) = match (header.edition, body.len()) {
            (Edition::Of2019, 76..) => (4..15, 15..45, 45..75),
            (Edition::Of2013, 37..) => (4..9, 9..29, 29..36),
            (Edition::Of2013, 25..) => (4..9, 9..17, 17..24),
            _ => return self.refuse(header, "registration", WRONG, Reject::Length),
        };
        let Some(code) = header.device.map(|device| self.code(&device)) else {
            return self.refuse(header, "registration", WRONG, Reject::Device);
        };
        let mut message = header.message("registration");
        for (name, range) in [
            ("manufacturer", maker),
            ("model", model),
            ("terminal", terminal),
        ] {
            if let Some(text) = ascii(&body[range]) {
                message
                    .attributes
                    .push(Attribute::named(name, Value::Text(text)));
            }
        }
        let mut answer = Vec::with_capacity(3 + code.len());
        answer.extend(header.serial.to_be_bytes());
        answer.push(DONE);
        answer.extend(code);
        self.answer(&mut message.answer_now, header, 0x8100, &answer);
        message
    }

    fn authenticate(&mut self, header: &Header, body: &[u8]) -> Message {
        let stated = match header.edition {
            Edition::Of2013 => Some(body),
            Edition::Of2019 => body
                .split_first()
                .and_then(|(&len, rest)| rest.get(..usize::from(len))),
        };
        let Some(stated) = stated else {
            return self.refuse(header, "authentication", WRONG, Reject::Length);
        };
        let known = header
            .device
            .is_some_and(|device| self.code(&device)[..] == *stated);
        let mut message = header.message("authentication");
        // A terminal that is told "failed" registers anew and gets a code that it can use here.
        let result = if known || self.settings.lenient {
            DONE
        } else {
            FAILED
        };
        self.general_response(&mut message.answer_now, header, result);
        message
    }

    /// The authentication code of a device: the same after every restart, and nothing to keep on disk.
    fn code(&self, device: &DeviceId) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(b"jt808 authentication code");
        hash.update(self.settings.node_key);
        hash.update(device.encode());
        let digest = hash.finalize();
        let mut code = [0; 16];
        for (pair, byte) in code.chunks_exact_mut(2).zip(digest) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        code
    }

    /// A picture or recording. It is not kept; the place where it was taken is.
    fn media(&mut self, header: &Header, body: &[u8], now: Arrival) -> Message {
        let Some(id) = body.first_chunk::<4>() else {
            return self.refuse(header, "media", WRONG, Reject::Length);
        };
        let place = body.get(8..8 + LOCATION_BYTES);
        let report = place.and_then(|place| self.locations(header, now).one(place).ok());
        let mut message = header.message("media");
        self.answer(&mut message.answer_now, header, 0x8800, id);
        message.hold_answer_for(report.into_iter().collect());
        message
    }

    /// A part of a long message. Only long batches are collected; pictures and recordings are not kept anyway.
    fn part(&mut self, header: &Header, body: &[u8], now: Arrival) -> Message {
        if header.id != 0x0704 {
            return self.refuse(header, "part", NOT_SUPPORTED, Reject::Part);
        }
        match parts::collect(&mut self.long, header, body, now) {
            Progress::Refused => self.refuse(header, "part", FAILED, Reject::Part),
            Progress::Whole(whole) => self.body(header, &whole, now),
            Progress::More => self.done(header, "part"),
            Progress::Missing { first, numbers } => {
                // Not done: a terminal that is told so would forget the rest.
                let mut message = header.message("part");
                let mut ask = first.to_be_bytes().to_vec();
                let count = numbers.len() as u16;
                match header.edition {
                    Edition::Of2013 => ask.push(count as u8),
                    Edition::Of2019 => ask.extend(count.to_be_bytes()),
                }
                ask.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
                self.answer(&mut message.answer_now, header, 0x8003, &ask);
                message
            }
        }
    }

    fn general_response(&mut self, out: &mut Vec<u8>, header: &Header, result: u8) {
        let [serial_high, serial_low] = header.serial.to_be_bytes();
        let [id_high, id_low] = header.id.to_be_bytes();
        let body = [serial_high, serial_low, id_high, id_low, result];
        self.answer(out, header, 0x8001, &body);
    }

    fn answer(&mut self, out: &mut Vec<u8>, header: &Header, id: u16, body: &[u8]) {
        push_answer(out, header, self.serial, id, body);
        self.serial = self.serial.wrapping_add(1);
    }
}

/// Zero padded text, if there is any and it is ASCII; the rest is GBK and stays out.
fn ascii(bytes: &[u8]) -> Option<String> {
    let start = bytes.iter().position(|&b| b != 0)?;
    let end = bytes.iter().rposition(|&b| b != 0)? + 1;
    let text = std::str::from_utf8(&bytes[start..end]).ok()?.trim();
    let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    (printable && !text.is_empty()).then(|| text.to_owned())
}

/// `YY MM DD hh mm ss` in binary-coded decimal.
fn utc_bcd(wall_ms: i64) -> [u8; 6] {
    let text = rfc3339_ms(wall_ms);
    let digits = text.as_bytes();
    [2, 5, 8, 11, 14, 17].map(|at| ((digits[at] & 15) << 4) | (digits[at + 1] & 15))
}

/// Year, month, day, hour, minute, second in binary, then done.
fn utc_binary(wall_ms: i64) -> [u8; 8] {
    let [year, rest @ ..] = utc_bcd(wall_ms).map(|pair| calendar::bcd(pair).unwrap_or(0));
    let [high, low] = (2000 + u16::from(year)).to_be_bytes();
    let [month, day, hour, minute, second] = rest;
    [high, low, month, day, hour, minute, second, DONE]
}

/// A vendor's text, bounded.
fn text_attribute(name: &'static str, bytes: &[u8]) -> Option<Attribute> {
    ascii(bytes).map(|text| Attribute::named(name, Value::Text(text)))
}

/// Charge of the terminal's battery.
fn battery(percent: u8) -> Option<Attribute> {
    let value = Value::Int(i64::from(percent));
    (percent <= 100).then(|| Attribute::new(AttributeKey::BatteryPercent, value))
}

#[cfg(test)]
mod tests;
