//! One batch of frames as it goes through the stages: what was taken, and what is to be done about it. Kept from batch
//! to batch, so that an unremarkable frame allocates nothing here.

use std::ops::Range;

use crate::frame::{DeviceId, EventId, Frame, FrameFlags, MESSAGE_FRAMES_MAX, Origin};

use super::fleet::Berth;

/// Frames after which a batch ends with the message that it is in.
pub const BATCH_FRAMES_MAX: usize = 256;

/// A frame that was taken from its ring.
#[derive(Debug)]
pub struct Taken {
    /// Its ring sequence.
    pub seq: u64,
    /// What it says.
    pub frame: Frame,
    /// Its bytes in [`Batch::bytes`].
    pub bytes: Range<usize>,
    /// Its device; none if there was no slot left for it.
    pub berth: Option<Berth>,
    /// Whether its device's state has it already.
    pub applied: bool,
    /// Whether it became part of its device's state now.
    pub judged: bool,
    /// Whether something was found in it, so that the uplink owns its trace.
    pub found: bool,
}

/// A message: its frames, and what came of them.
#[derive(Debug)]
pub struct Message {
    /// Its frames in [`Batch::frames`].
    pub frames: Range<usize>,
    /// Ring sequence of its first frame.
    pub first_seq: u64,
    /// Word of the ring's answer table that waits for it, if one does.
    pub answer_index: Option<u32>,
    /// Whether it cannot be accepted.
    pub refused: bool,
    /// Events that must be safe before it is accepted, or decided.
    pub events: Vec<Awaited>,
    /// How many of them were sent to the uplink already, to make room for more.
    pub sent: usize,
    /// Under which custody keeps it from being answered before all of it is judged.
    pub kept_open: Option<Origin>,
}

/// An event that a message waits for.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub event: EventId,
    /// How far it must have come.
    pub until: Until,
}

impl Awaited {
    /// An event that must be safe.
    pub fn safe(device: DeviceId, event: EventId) -> Awaited {
        Awaited {
            device,
            event,
            until: Until::Safe,
        }
    }
}

/// How far an event must have come before a message that waits for it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It is safe; if it is refused, so is the message.
    Safe,
    /// It is safe or refused.
    Decided,
}

impl Message {
    /// Adds an event to those that must be safe or decided.
    pub fn wait_for(&mut self, device: DeviceId, event: EventId, until: Until) {
        let mut unsent = self.events.iter_mut().skip(self.sent);
        if let Some(known) = unsent.find(|known| known.event == event) {
            if until == Until::Safe {
                known.until = until;
            }
            return;
        }
        // What was sent for less is sent again for more.
        let enough = |sent: &Awaited| until == Until::Decided || sent.until == Until::Safe;
        let mut sent = self.events[..self.sent].iter();
        if !sent.any(|sent| sent.event == event && enough(sent)) {
            self.events.push(Awaited {
                device,
                event,
                until,
            });
        }
    }
}

/// What the dispatcher is told.
#[derive(Clone, Copy, Debug)]
pub enum Update {
    /// The tracks of a device come in by the batch's sensor now, and did not before.
    Sensor(DeviceId),
    /// The track of a frame, by its place in [`Batch::frames`].
    Track(usize),
    /// An event that its device owes.
    Alarm(DeviceId, EventId),
}

/// A batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Bytes of the frames.
    pub bytes: Vec<u8>,
    /// The frames, in the order of their messages.
    pub frames: Vec<Taken>,
    /// The messages.
    pub messages: Vec<Message>,
    /// What the dispatcher is told, in order.
    pub updates: Vec<Update>,
    /// Events on their way to the uplink although no message of this batch waits for them.
    pub loose: Vec<(DeviceId, EventId)>,
    /// Devices whose state changed.
    pub dirty: Vec<Berth>,
    /// Devices of which a frame found no room: what they sent later in this batch is not applied before it.
    pub blocked: Vec<Berth>,
    /// Ring sequence after the last frame.
    pub end_seq: u64,
}

impl Batch {
    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self, from_seq: u64) {
        self.bytes.clear();
        self.frames.clear();
        self.messages.clear();
        self.updates.clear();
        self.loose.clear();
        self.dirty.clear();
        self.blocked.clear();
        self.end_seq = from_seq;
    }

    /// Adds a frame with its bytes, to the last message if it belongs to that one.
    pub fn push(&mut self, seq: u64, frame: Frame, bytes: &[u8]) {
        let at = self.frames.len();
        let open = self.messages.last_mut().filter(|message| {
            let last = &self.frames[message.frames.end - 1].frame;
            message.first_seq == frame.message_first_seq
                && message.frames.len() < MESSAGE_FRAMES_MAX
                && !last.flags.has(FrameFlags::MESSAGE_END)
        });
        let awaits = frame.flags.has(FrameFlags::AWAITS_ANSWER);
        match open {
            Some(message) => message.frames.end = at + 1,
            None => self.messages.push(Message {
                frames: at..at + 1,
                first_seq: frame.message_first_seq,
                answer_index: awaits.then_some(frame.answer_index),
                refused: false,
                events: Vec::new(),
                sent: 0,
                kept_open: None,
            }),
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.frames.push(Taken {
            seq,
            frame,
            bytes: start..self.bytes.len(),
            berth: None,
            applied: false,
            judged: false,
            found: false,
        });
    }

    /// A frame with its bytes.
    pub fn frame_mut(&mut self, at: usize) -> (&[u8], &mut Taken) {
        let taken = &mut self.frames[at];
        (&self.bytes[taken.bytes.clone()], taken)
    }

    /// Whether the batch may end after what it holds.
    pub fn is_full(&self) -> bool {
        let ended = |taken: &Taken| taken.frame.flags.has(FrameFlags::MESSAGE_END);
        let frames = self.frames.len();
        frames >= BATCH_FRAMES_MAX + MESSAGE_FRAMES_MAX
            || frames >= BATCH_FRAMES_MAX && self.frames.last().is_some_and(ended)
    }

    /// Whether an event is about to be sent by this batch.
    pub fn sends(&self, event: EventId) -> bool {
        let mut waited = self.messages.iter().flat_map(|message| &message.events);
        waited.any(|sent| sent.event == event) || self.loose.iter().any(|sent| sent.1 == event)
    }

    /// Notes that a device's state changed.
    pub fn note_dirty(&mut self, device: Berth) {
        // Frames of one device mostly come one after the other; a repeat elsewhere costs a second write, no harm.
        if self.dirty.last() != Some(&device) {
            self.dirty.push(device);
        }
    }
}
