//! The data contract: what crosses a ring between two processes.
//!
//! A *message* is what a device sends on its wire; a *frame* is one position report of it in a ring slot. A frame is a
//! fixed head, in which every field has a stated range that [`Frame::decode`] checks, and a postcard tail of
//! attributes, which fall away (least wanted last in the list) where they do not fit. An [`Event`] is what the
//! classifier makes of frames: an alarm raised or cleared.
//!
//! Bytes come from a process that parses foreign data and may have been taken over, so decoding is total.

mod alarm;
mod attribute;
mod change;
mod device;
mod event;
mod fix;
mod time;
mod trace;

pub use alarm::{AlarmKind, Alarms, Severity};
pub use attribute::{Attribute, AttributeKey, Value};
pub use change::SensorChange;
pub use device::DeviceId;
pub use event::{DEVICE_RULE, Event, EventId, Origin, Phase};
pub use fix::{Fix, FixFields, TimeSource};
pub use time::{civil_date, push_rfc3339_ms, rfc3339_ms};
pub use trace::TraceRecord;

use crate::hop::{TRACE_HEAD_BYTES, TraceHead};

/// Bytes of a frame's fixed head.
pub const FRAME_HEAD_BYTES: usize = 208;

/// Bytes that a frame may take in a slot of the default stride (512 less the slot's own header).
pub const FRAME_BYTES_MAX: usize = 480;

/// Most frames of one message; an ingest that has more says several, each with its own answer.
pub const MESSAGE_FRAMES_MAX: usize = 256;

/// First byte of a record to the dispatcher: what follows it.
pub mod record_kind {
    /// A [`super::Frame`].
    pub const TRACK: u8 = 0;
    /// An [`super::Event`].
    pub const ALARM: u8 = 1;
    /// A [`super::SensorChange`].
    pub const SENSOR: u8 = 2;
}

/// Marks of a frame, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFlags(pub u16);

impl FrameFlags {
    /// The device stored this report and sent it later.
    pub const BACKLOG: u16 = 1;
    /// Attributes fell away because they did not fit.
    pub const CUT: u16 = 1 << 1;
    /// The device waits for an answer under [`Frame::answer_index`].
    pub const AWAITS_ANSWER: u16 = 1 << 2;
    /// Last frame of its message: a batch may end here.
    pub const MESSAGE_END: u16 = 1 << 3;
    /// The system clock was not synchronised when this frame was received.
    pub const CLOCK_UNSYNCED: u16 = 1 << 4;

    /// Whether all bits of `mask` are set.
    pub fn has(self, mask: u16) -> bool {
        self.0 & mask == mask
    }

    /// Sets or clears the bits of `mask`.
    pub fn set(&mut self, mask: u16, on: bool) {
        if on { self.0 |= mask } else { self.0 &= !mask }
    }
}

/// One report of one device on its way from an ingest to the classifier and on to the dispatcher.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Trace identity and hop stamps.
    pub trace: TraceHead,
    /// Who reports.
    pub device: DeviceId,
    /// Where and when.
    pub fix: Fix,
    /// Alarms that the device says hold now; the report after the last one clears them.
    pub held: Alarms,
    /// Alarms that the device reports once and drops when it is answered.
    pub momentary: Alarms,
    /// Marks.
    pub flags: FrameFlags,
    /// Word of the answer table that carries the outcome back; meaningful with [`FrameFlags::AWAITS_ANSWER`].
    pub answer_index: u32,
    /// Ring sequence of the first frame of this frame's message.
    pub message_first_seq: u64,
    /// Wall clock at reception, milliseconds since 1970 UTC.
    pub received_ms: i64,
    /// Identity of the report's content, for duplicates and event ids ([`Frame::content_digest`]).
    pub digest: u64,
    /// What else the device said, in the order of how much it is wanted.
    pub attributes: Vec<Attribute>,
}

/// Why bytes are not a frame or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the fixed part.
    #[error("record is shorter than its fixed part")]
    Short,
    /// The device id is empty, too long or has characters outside its alphabet.
    #[error("device id is not valid")]
    Device,
    /// A number is outside its range.
    #[error("field is out of range")]
    Range,
    /// The variable part does not parse.
    #[error("variable part does not parse")]
    Tail,
    /// The record does not fit the slot.
    #[error("record does not fit its slot")]
    Large,
}

impl Frame {
    /// Identity of what was reported, independent of the message that carried it: a report that comes again, alone or
    /// in a batch, has the same digest. FNV-1a, 64 bits (RFC 9923): a device can only collide with itself.
    pub fn content_digest(device: &DeviceId, fix: &Fix, held: Alarms, momentary: Alarms) -> u64 {
        let mut hash = Fnv::new();
        hash.write(device.as_bytes());
        hash.write(&fix.encode());
        hash.write(&held.0.to_le_bytes());
        hash.write(&momentary.0.to_le_bytes());
        hash.0
    }

    /// Writes the frame to `out` and returns its length. Attributes that do not fit fall away from the end; then
    /// [`FrameFlags::CUT`] is set in the bytes and the second value counts them.
    ///
    /// # Errors
    /// [`FrameError::Large`] when `out` does not hold the fixed head.
    pub fn encode(&self, out: &mut [u8]) -> Result<(usize, usize), FrameError> {
        if out.len() < FRAME_HEAD_BYTES {
            return Err(FrameError::Large);
        }
        let (head, tail) = out.split_at_mut(FRAME_HEAD_BYTES);
        let mut kept = self.attributes.len();
        let tail_bytes = loop {
            match postcard::to_slice(&self.attributes[..kept], tail) {
                Ok(used) => break used.len(),
                Err(_) if kept > 0 => kept -= 1,
                Err(_) => return Err(FrameError::Large),
            }
        };
        let dropped = self.attributes.len() - kept;
        let mut flags = self.flags;
        flags.set(FrameFlags::CUT, dropped > 0 || flags.has(FrameFlags::CUT));

        let mut at = Writer { out: head, at: 0 };
        at.bytes(&self.trace.encode());
        at.bytes(&self.device.encode());
        at.bytes(&self.fix.encode());
        at.bytes(&self.held.0.to_le_bytes());
        at.bytes(&self.momentary.0.to_le_bytes());
        at.bytes(&self.message_first_seq.to_le_bytes());
        at.bytes(&self.received_ms.to_le_bytes());
        at.bytes(&self.digest.to_le_bytes());
        at.bytes(&self.answer_index.to_le_bytes());
        at.bytes(&flags.0.to_le_bytes());
        at.rest();
        Ok((FRAME_HEAD_BYTES + tail_bytes, dropped))
    }

    /// Reads a frame from private memory (never from a ring slot in place).
    ///
    /// # Errors
    /// Any [`FrameError`] but `Large`; nothing here panics whatever the bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        let (head, tail) = bytes
            .split_at_checked(FRAME_HEAD_BYTES)
            .ok_or(FrameError::Short)?;
        let mut at = Reader { bytes: head };
        let trace = TraceHead::decode(at.array::<TRACE_HEAD_BYTES>());
        let device = DeviceId::decode(&at.array()).ok_or(FrameError::Device)?;
        let fix = Fix::decode(&at.array()).ok_or(FrameError::Range)?;
        Ok(Frame {
            trace,
            device,
            fix,
            held: Alarms(u64::from_le_bytes(at.array())),
            momentary: Alarms(u64::from_le_bytes(at.array())),
            message_first_seq: u64::from_le_bytes(at.array()),
            received_ms: i64::from_le_bytes(at.array()),
            digest: u64::from_le_bytes(at.array()),
            answer_index: u32::from_le_bytes(at.array()),
            flags: FrameFlags(u16::from_le_bytes(at.array())),
            attributes: postcard::from_bytes(tail).map_err(|_| FrameError::Tail)?,
        })
    }
}

/// FNV-1a with the 64-bit offset basis and prime of RFC 9923.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Writes fields one after the other; the sizes are fixed, so running over the end is a bug here.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Zeroes what is left of the head, so that equal frames have equal bytes.
    fn rest(&mut self) {
        self.out[self.at..].fill(0);
    }
}

/// Reads fields one after the other from a head whose length was checked.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .expect("the fields add up to less than the head");
        self.bytes = rest;
        *first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            trace: TraceHead {
                trace_id: 7,
                span_id: 9,
                t0_ns: 11,
                ..TraceHead::default()
            },
            device: DeviceId::new(b"13912345678").expect("digits are valid"),
            fix: Fix {
                time_ms: 1_700_000_000_000,
                lat_e7: 481_234_567,
                lon_e7: 111_234_567,
                ..Fix::default()
            },
            held: Alarms::from(AlarmKind::PowerCut),
            momentary: Alarms::from(AlarmKind::Sos),
            flags: FrameFlags(FrameFlags::AWAITS_ANSWER | FrameFlags::MESSAGE_END),
            answer_index: 3,
            message_first_seq: 42,
            received_ms: 1_700_000_000_123,
            digest: 5,
            attributes: vec![Attribute::new(AttributeKey::OdometerM, Value::Int(1234))],
        }
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let mut bytes = [0xaa; FRAME_BYTES_MAX];
        let (len, dropped) = frame().encode(&mut bytes).unwrap();
        assert_eq!(
            (Frame::decode(&bytes[..len]).unwrap(), dropped),
            (frame(), 0)
        );
    }

    #[test]
    fn attributes_that_do_not_fit_fall_away_from_the_end_and_are_counted() {
        let mut full = frame();
        full.attributes = (0..40)
            .map(|i| Attribute::named("a_long_vendor_name", Value::Int(i)))
            .collect();
        let mut bytes = [0; FRAME_BYTES_MAX];
        let (len, dropped) = full.encode(&mut bytes).unwrap();
        let back = Frame::decode(&bytes[..len]).unwrap();
        assert!(dropped > 0 && back.flags.has(FrameFlags::CUT));
        assert_eq!(back.attributes[..], full.attributes[..40 - dropped]);
    }

    #[test]
    fn any_cut_of_a_frame_is_an_error_and_never_a_panic() {
        let mut bytes = [0; FRAME_BYTES_MAX];
        let (len, _) = frame().encode(&mut bytes).unwrap();
        for cut in 0..len {
            assert!(Frame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_digest_is_of_the_report_and_not_of_its_message() {
        let (a, mut b) = (frame(), frame());
        b.message_first_seq = 99;
        b.answer_index = 1;
        let digest = |f: &Frame| Frame::content_digest(&f.device, &f.fix, f.held, f.momentary);
        assert_eq!(digest(&a), digest(&b));
        b.fix.lat_e7 += 1;
        assert_ne!(digest(&a), digest(&b));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = Frame::decode(&bytes);
            let _ = Event::decode(&bytes);
        }
    }
}
