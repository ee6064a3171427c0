//! What a device answers to a command, or passes on from its serial port: codecs 12 to 15. Nothing answers it.

use super::super::bytes::{Reader, hex, text_or_hex};
use super::super::{Message, Reject};
use crate::frame::{AttributeKey, DeviceId};

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 128;

/// Most texts of one message. A device sends one.
const TEXTS_MAX: u8 = 16;

/// An answer to a command.
const ANSWER: u8 = 0x06;
/// The command was for another device.
const OTHER_DEVICE: u8 = 0x11;

pub(super) fn is_codec(codec: u8) -> bool {
    (0x0c..=0x0f).contains(&codec)
}

/// Reads `count` texts.
pub(super) fn read(
    codec: u8,
    count: u8,
    body: &[u8],
    device: Option<DeviceId>,
) -> Result<Message, Reject> {
    if count > TEXTS_MAX {
        return Err(Reject::Length);
    }
    let mut message = Message::new("text", device);
    let mut reader = Reader(body);
    for _ in 0..count {
        one(codec, count == 1, &mut reader, &mut message).ok_or(Reject::Length)?;
    }
    match reader.is_empty() {
        true => Ok(message),
        false => Err(Reject::Length),
    }
}

fn one(codec: u8, alone: bool, reader: &mut Reader, message: &mut Message) -> Option<()> {
    let kind = reader.u8()?;
    let length = usize::try_from(reader.u32()?).ok()?;
    // Some devices do not count the time. A text that is alone ends where the message does.
    let length = if alone { reader.len() } else { length };
    let mut text = Reader(reader.take(length)?);
    if matches!(codec, 0x0d | 0x0f) {
        // When the device heard it, seconds since 1970.
        message.state_named("text_time", Some(text.u32()?));
    }
    if matches!(codec, 0x0e | 0x0f) {
        let imei = text.array::<8>()?;
        message.device = named(&imei).or(message.device);
    }
    let key = match kind {
        ANSWER | OTHER_DEVICE => AttributeKey::Result,
        _ => AttributeKey::Text,
    };
    if kind == OTHER_DEVICE {
        message.state_named("other_device", Some(true));
    }
    let text = text_or_hex(text.0, TEXT_BYTES_MAX);
    message.state(key, (!text.is_empty()).then_some(text));
    Some(())
}

/// The device of eight bytes with two digits each, a zero and the IMEI.
fn named(bytes: &[u8; 8]) -> Option<DeviceId> {
    let digits = hex(bytes);
    super::imei(digits.strip_prefix('0')?.as_bytes())
}
