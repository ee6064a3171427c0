//! Messages into the ring: each report a frame, all frames of a message in one commit or none.
//!
//! A message of more frames than one commit may have is published in parts, each with its own word of the answer
//! table. What does not fit now is kept as the one *stalled* message: until it is through, nothing more may be read,
//! so that a full ring holds up the sender and never fills memory here.

use super::pending::{Answers, Ending, Pending, Settled, Ticket};
use super::session::ReadAt;
use super::trace_id::TraceIds;
use crate::config::Ack;
use crate::frame::{DeviceId, FRAME_BYTES_MAX, Frame, FrameFlags, MESSAGE_FRAMES_MAX};
use crate::hop::Hop;
use crate::protocol::Report;
use crate::ring::Producer;
use crate::sys::clock;
use crate::sys::fail::{self, Point};

/// A message that was read.
#[derive(Debug)]
pub struct Outgoing<K> {
    /// Whom to answer.
    pub to: K,
    /// Who reports.
    pub device: DeviceId,
    /// What; not empty.
    pub reports: Vec<Report>,
    /// What to answer at the end of its way; empty: nobody waits.
    pub answers: Answers,
    /// When its last byte was read.
    pub read_at: ReadAt,
    /// When it was decoded, monotonic nanoseconds.
    pub decoded_ns: u64,
}

/// What became of a message that was published.
#[derive(Debug, PartialEq, Eq)]
pub enum Published {
    /// Nobody waits for an answer.
    Unanswered,
    /// To be answered now.
    Answer(Vec<u8>),
    /// Known already to be refused; what to say about it, if there are words for that.
    Refused(Vec<u8>),
    /// To be answered when its outcome is known.
    Awaiting,
}

/// Why a message is stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The ring has no room.
    Ring,
    /// Every word of the answer table is in use.
    Answers,
}

/// Figures since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Frames committed.
    pub frames: u64,
    /// Attributes that did not fit into their frames.
    pub attributes_cut: u64,
}

/// The producing end of a sensor's ring and the answers that depend on it.
pub struct Publisher<K> {
    producer: Producer,
    pending: Pending<K>,
    trace_ids: TraceIds,
    ack: Ack,
    part_frames_max: usize,
    frame_bytes_max: usize,
    stalled: Option<Stalled<K>>,
    records: Vec<u8>,
    lengths: Vec<usize>,
    figures: Figures,
}

/// A message of which a part is yet to be published.
struct Stalled<K> {
    message: Outgoing<K>,
    published: usize,
    ticket: Option<Ticket>,
    why: Stall,
}

impl<K: Copy> Publisher<K> {
    /// Publishes to `producer`.
    pub fn new(producer: Producer, ack: Ack) -> Publisher<K> {
        let geometry = producer.identity().geometry;
        Publisher {
            pending: Pending::new(geometry.answers),
            trace_ids: TraceIds::from_random(),
            ack,
            // A quarter of the ring, so that one message does not keep all others out.
            part_frames_max: MESSAGE_FRAMES_MAX.min(geometry.slots as usize / 4).max(1),
            frame_bytes_max: producer.record_bytes_max().min(FRAME_BYTES_MAX),
            producer,
            stalled: None,
            records: Vec::new(),
            lengths: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Publishes a message. While one is stalled no other may come.
    ///
    /// # Errors
    /// Why it is stalled; [`Publisher::resume`] goes on with it.
    pub fn publish(&mut self, message: Outgoing<K>) -> Result<Published, Stall> {
        assert!(
            self.stalled.is_none(),
            "nothing is read while a message is stalled"
        );
        assert!(
            !message.reports.is_empty(),
            "a message without reports is not published"
        );
        self.advance(Stalled {
            message,
            published: 0,
            ticket: None,
            why: Stall::Ring,
        })
    }

    /// Goes on with the stalled message; says whose it was and what became of it, `None` while it is still stalled.
    pub fn resume(&mut self) -> Option<(K, Published)> {
        let stalled = self.stalled.take()?;
        let to = stalled.message.to;
        Some((to, self.advance(stalled).ok()?))
    }

    /// Gives up the stalled message: what of it is not published will not be, and it will not be answered.
    pub fn give_up(&mut self) -> Published {
        let Some(stalled) = self.stalled.take() else {
            return Published::Unanswered;
        };
        match stalled.ticket.map(|ticket| self.pending.refuse(ticket)) {
            None => Published::Refused(stalled.message.answers.refused),
            Some(Some(settled)) => Published::Refused(settled.answer),
            // Parts of it that were published are settled like any other.
            Some(None) => Published::Awaiting,
        }
    }

    /// Whether a message is stalled.
    pub fn stalled(&self) -> bool {
        self.stalled.is_some()
    }

    /// Appends the messages whose outcome is now known, or was waited for too long.
    pub fn settle(&mut self, now_ms: u64, settled: &mut Vec<Settled<K>>) {
        let producer = &self.producer;
        self.pending.settle(
            now_ms,
            |index, first_seq| producer.outcome(index).outcome_of(first_seq),
            settled,
        );
    }

    /// Parts of messages whose outcome is not known.
    pub fn awaited(&self) -> usize {
        self.pending.awaited()
    }

    /// Figures since the start.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Says that this process sleeps until it is wanted: for the stalled message, and for answers if
    /// `rung_for_answers`. `false` when there is something already.
    pub fn nap_begin(&self, rung_for_answers: bool) -> bool {
        let (frames, lacks_word) = match &self.stalled {
            None => (0, false),
            // Room in the ring is no help to a message that lacks a word of the answer table.
            Some(stalled) if stalled.why == Stall::Answers => (0, true),
            Some(stalled) => {
                let left = stalled.message.reports.len() - stalled.published;
                (left.min(self.part_frames_max) as u64, false)
            }
        };
        let answers = self.awaited() > 0 && (rung_for_answers || lacks_word);
        self.producer.wait_for(frames, answers);
        self.producer.nap_begin()
    }

    /// Says that this process is awake.
    pub fn nap_end(&self) {
        self.producer.nap_end();
    }

    /// From now on the classifier is woken by [`Publisher::hand_over`], unless something is urgent.
    pub fn gather(&mut self) {
        self.producer.gather();
    }

    /// Wakes the classifier for what was published.
    pub fn hand_over(&mut self) {
        self.producer.hand_over();
    }

    /// Says that nothing will be published any more.
    pub fn close(self) {
        self.producer.close();
    }

    /// Publishes part after part as far as there is room.
    fn advance(&mut self, mut stalled: Stalled<K>) -> Result<Published, Stall> {
        // Answers move to the ticket with the first part.
        let owed = stalled.ticket.is_some() || !stalled.message.answers.is_empty();
        let awaits = owed && self.ack == Ack::Safe;
        while stalled.published < stalled.message.reports.len() {
            if let Err(why) = self.publish_part(&mut stalled, awaits) {
                stalled.why = why;
                self.stalled = Some(stalled);
                return Err(why);
            }
        }
        let Some(ticket) = stalled.ticket else {
            return Ok(match stalled.message.answers.safe {
                answer if answer.is_empty() => Published::Unanswered,
                answer => Published::Answer(answer),
            });
        };
        Ok(match self.pending.close(ticket) {
            None => Published::Awaiting,
            Some(settled) if settled.ending == Ending::Accepted => {
                Published::Answer(settled.answer)
            }
            Some(settled) => Published::Refused(settled.answer),
        })
    }

    fn publish_part(&mut self, stalled: &mut Stalled<K>, awaits: bool) -> Result<(), Stall> {
        let index = match self.pending.next_index() {
            Some(index) => index,
            None if awaits => return Err(Stall::Answers),
            None => 0,
        };
        let message = &mut stalled.message;
        let part = &mut message.reports[stalled.published..];
        let count = part.len().min(self.part_frames_max);
        let part = &mut part[..count];
        let first_seq = self.producer.tail();
        let committed_ns = clock::monotonic_ns();

        let mut urgent = false;
        let mut cut = 0;
        self.lengths.clear();
        self.records.resize(count * self.frame_bytes_max, 0);
        let slots = self.records.chunks_exact_mut(self.frame_bytes_max);
        for (at, (report, slot)) in part.iter_mut().zip(slots).enumerate() {
            let mut trace = self.trace_ids.next_head(message.read_at.monotonic_ns);
            trace.stamp(Hop::Decoded, message.decoded_ns);
            trace.stamp(Hop::Committed, committed_ns);
            let mut flags = FrameFlags::default();
            flags.set(FrameFlags::BACKLOG, report.backlog);
            flags.set(FrameFlags::AWAITS_ANSWER, awaits);
            flags.set(FrameFlags::MESSAGE_END, at + 1 == count);
            let digest =
                Frame::content_digest(&message.device, &report.fix, report.held, report.momentary);
            let frame = Frame {
                trace,
                device: message.device,
                fix: report.fix,
                held: report.held,
                momentary: report.momentary,
                flags,
                answer_index: index,
                message_first_seq: first_seq,
                received_ms: message.read_at.wall_ms,
                digest,
                // Lent, not copied: given back below, because the ring may be full.
                attributes: std::mem::take(&mut report.attributes),
            };
            let (length, dropped) = frame
                .encode(slot)
                .expect("a slot holds a frame without its attributes");
            report.attributes = frame.attributes;
            urgent |= !report.held.is_empty() || !report.momentary.is_empty();
            cut += dropped as u64;
            self.lengths.push(length);
        }

        self.commit(urgent)?;
        self.figures.frames += count as u64;
        self.figures.attributes_cut += cut;
        stalled.published += count;
        if awaits {
            let ticket = *stalled.ticket.get_or_insert_with(|| {
                let answers = std::mem::take(&mut message.answers);
                self.pending.open(message.to, answers)
            });
            let now_ms = committed_ns / 1_000_000;
            self.pending.published(ticket, first_seq, now_ms);
        }
        Ok(())
    }

    /// Commits the encoded records at once.
    fn commit(&mut self, urgent: bool) -> Result<(), Stall> {
        let slots = self.records.chunks_exact(self.frame_bytes_max);
        let mut records = slots
            .zip(&self.lengths)
            .map(|(slot, &length)| &slot[..length]);
        let committed = match (records.next(), self.lengths.len()) {
            (Some(only), 1) => self.producer.try_publish(&[only], urgent),
            (first, _) => {
                let all: Vec<&[u8]> = first.into_iter().chain(records).collect();
                self.producer.try_publish(&all, urgent)
            }
        };
        committed.map_err(|_| Stall::Ring)?;
        fail::pass(Point::IngestCommitted);
        Ok(())
    }
}
