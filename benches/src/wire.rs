//! What devices say to each peer: one message of about 60 bytes, answered with a few.

pub mod jt808;
pub mod mqtt;

/// A device's side of a protocol.
pub trait Wire: Sync {
    /// Appends what opens a connection. It is answered once.
    fn hello(&self, device: u32, out: &mut Vec<u8>);

    /// Appends message `number` (from 1) of a device. It is answered once.
    fn message(&self, device: u32, number: u32, out: &mut Vec<u8>);

    /// Units of answers in received bytes, such as bytes or marks.
    fn answer_units(&self, bytes: &[u8]) -> u32;

    /// Units of one answer.
    fn units_an_answer(&self) -> u32;
}

/// Bytes of a message to the raw server.
pub const PLAIN_MESSAGE_BYTES: usize = 60;

/// Bytes of its answer.
pub const PLAIN_ANSWER_BYTES: usize = 20;

/// What the raw server takes: 60 bytes of no meaning.
#[derive(Debug)]
pub struct Plain;

impl Wire for Plain {
    fn hello(&self, device: u32, out: &mut Vec<u8>) {
        self.message(device, 0, out);
    }

    fn message(&self, device: u32, number: u32, out: &mut Vec<u8>) {
        let end = out.len() + PLAIN_MESSAGE_BYTES;
        out.extend_from_slice(&device.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        out.resize(end, 0x55);
    }

    fn answer_units(&self, bytes: &[u8]) -> u32 {
        bytes.len() as u32
    }

    fn units_an_answer(&self) -> u32 {
        PLAIN_ANSWER_BYTES as u32
    }
}
