//! Ruptela: trackers of the FM and Trace families, over TCP.
//!
//! This file holds the session: it cuts messages, says what each command means and what it is answered. Records and
//! trouble codes are answered when they are safe, a login or a heartbeat at once. A message with a wrong check is not
//! answered: the device sends it again.

mod io;
mod record;
#[cfg(test)]
mod tests;

use super::bytes::{Reader, text_or_hex};
use super::check::crc16_kermit;
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{AlarmKind, AttributeKey, DeviceId};

/// Longest message. The packets of devices have up to 1,024 bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 1280;

/// The length before and the check after what the length counts.
const EXTRA_BYTES: usize = 4;

/// The IMEI and the command.
const HEAD_BYTES: usize = 9;

/// The largest number of 15 digits.
const IMEI_MAX: u64 = 999_999_999_999_999;

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 128;

/// State of one connection: none, as each message names its sender.
pub(super) struct Session {
    settings: Settings,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let reason = match start(bytes) {
            Ok(Some(length)) => {
                return Split::Message {
                    range: 0..length,
                    consumed: length,
                };
            }
            Ok(None) => return Split::Incomplete,
            Err(reason) => reason,
        };
        let next = (1..bytes.len()).find(|&at| start(&bytes[at..]).is_ok());
        Split::Rubbish {
            consumed: next.unwrap_or(bytes.len()),
            reason,
        }
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let (checked, check) = message
            .get(2..)
            .and_then(|rest| rest.split_last_chunk())
            .ok_or(Reject::Length)?;
        if !self.settings.lenient && crc16_kermit(checked) != u16::from_be_bytes(*check) {
            return Err(Reject::Checksum);
        }
        let mut reader = Reader(checked);
        let imei = reader.u64().ok_or(Reject::Length)?;
        let command = reader.u8().ok_or(Reject::Length)?;
        let device = match imei {
            1..=IMEI_MAX => DeviceId::new(format!("{imei:015}").as_bytes()),
            _ => return Err(Reject::Device),
        };
        Ok(self.command(command, device, reader, now))
    }

    /// "Yes" to records does not say to which of them.
    fn answers_in_order(&self) -> bool {
        true
    }
}

/// The length of the message that bytes begin, once it is there; `Err` if they begin none.
fn start(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let Some(&length) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length < HEAD_BYTES {
        return Err(Reject::Length);
    }
    if length > MESSAGE_BYTES_MAX - EXTRA_BYTES {
        return Err(Reject::TooLong);
    }
    // What is there of the number of 15 digits must not be too large for one.
    let imei = &bytes[2..bytes.len().min(10)];
    if *imei > IMEI_MAX.to_be_bytes()[..imei.len()] {
        return Err(Reject::Rubbish);
    }
    let whole = length + EXTRA_BYTES;
    Ok((bytes.len() >= whole).then_some(whole))
}

impl Session {
    fn command(
        &self,
        command: u8,
        device: Option<DeviceId>,
        mut payload: Reader,
        now: Arrival,
    ) -> Message {
        match command {
            1 | 68 => self.records(command == 68, device, payload, now),
            9 => self.trouble_codes(device, payload, now),
            15 => {
                let mut message = Message::new("identification", device);
                identification(payload, &mut message);
                message.answer_now = answer(115);
                message
            }
            16 => {
                let mut message = Message::new("heartbeat", device);
                message.answer_now = answer(116);
                message
            }
            // What it says to a command: configuration, version, firmware, text.
            2 | 3 | 4 | 7 => {
                let mut message = Message::new("result", device);
                message.state(AttributeKey::Result, text(payload.0));
                message
            }
            17 => {
                let mut message = Message::new("result", device);
                message.state(
                    AttributeKey::Result,
                    payload.u8().map(|code| code.to_string()),
                );
                message
            }
            // A part of a picture that somebody else asked for.
            37 => refuse("file", device, Reject::Part),
            _ => refuse("unknown", device, Reject::UnknownKind),
        }
    }

    fn records(
        &self,
        extended: bool,
        device: Option<DeviceId>,
        payload: Reader,
        now: Arrival,
    ) -> Message {
        let mut records = record::Records::new(&self.settings, now);
        let read = records.read(extended, payload);
        let mut message = Message::new("records", device);
        message.answer_now = answer(100);
        // What cannot be read is accepted all the same: the check was right, so it would come again for ever.
        message.refused = read.err();
        message.attributes = records.attributes;
        message.hold_answer_for(records.reports);
        message
    }

    /// Faults of the vehicle, each with when and where it came.
    fn trouble_codes(
        &self,
        device: Option<DeviceId>,
        mut payload: Reader,
        now: Arrival,
    ) -> Message {
        let mut message = Message::new("trouble_codes", device);
        message.answer_now = answer(109);
        let mut reports = Vec::new();
        for _ in 0..payload.u8().unwrap_or(0) {
            match self.trouble_code(&mut payload, now) {
                Some(report) => reports.push(report),
                None => message.refused = Some(Reject::Length),
            }
        }
        message.hold_answer_for(reports);
        message
    }

    fn trouble_code(&self, payload: &mut Reader, now: Arrival) -> Option<Report> {
        let mut report = Report::default();
        payload.skip(1)?;
        let seconds = payload.u32()?;
        record::place(&mut report.fix, payload.i32()?, payload.i32()?);
        record::set_time(&mut report.fix, seconds, &self.settings, now);
        report.fix.set_valid(true);
        report.backlog = payload.u8()? == 2;
        let code = payload.array::<5>()?;
        report.momentary.insert(AlarmKind::VehicleFault);
        report.state(AttributeKey::FaultCodes, text(&code));
        Some(report)
    }
}

/// A message that is sound and not read. The protocol has no answer that says so.
fn refuse(kind: &'static str, device: Option<DeviceId>, reason: Reject) -> Message {
    let mut message = Message::new(kind, device);
    message.refused = Some(reason);
    message
}

/// The model, the firmware, the number of the subscriber and the network; then the rules of sending.
fn identification(mut payload: Reader, message: &mut Message) {
    let mut read = || {
        Some((
            payload.take(4)?,
            payload.take(11)?,
            payload.u64()?,
            payload.u32()?,
        ))
    };
    if let Some((model, firmware, imsi, operator)) = read() {
        message.state(AttributeKey::Model, text(model));
        message.state(AttributeKey::Firmware, text(firmware));
        let digits = || format!("{imsi:015}");
        message.state(AttributeKey::Imsi, (imsi != 0).then(digits));
        message.state(AttributeKey::Operator, (operator != 0).then_some(operator));
    }
}

/// "Yes" under the number of an answer.
fn answer(number: u8) -> Vec<u8> {
    let content = [number, 1];
    let mut answer = vec![0, content.len() as u8];
    answer.extend(content);
    answer.extend(crc16_kermit(&content).to_be_bytes());
    answer
}

/// Text, if there is any.
fn text(bytes: &[u8]) -> Option<String> {
    let text = text_or_hex(bytes, TEXT_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}
