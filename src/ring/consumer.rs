//! The reading side of a ring: validates what another process wrote, on private copies only.

use std::sync::Arc;

use super::answer::{AnswerWord, Outcome};
use super::error::{AttachError, Violation};
use super::layout::{Identity, SLOT_HEADER_BYTES, SlotHeader, consumer_region, producer_region};
use super::nap::{Depth, Sleeper, nap_begin, nap_end};
use super::page::Page;
use super::position;
use super::sync::{AtomicBool, AtomicU64, Bell, Ordering, ReadRegion, WriteRegion, fence};

/// The consumer of a ring. There is one at a time: the supervisor sees to it.
///
/// It reads as far ahead of its head as it likes; the producer gets slots back by [`Consumer::advance`] only. After the
/// first [`Violation`] the ring is quarantined: every later call says the same.
pub struct Consumer {
    side: Arc<Side>,
    head: u64,
    /// The last tail that passed the checks.
    tail: u64,
    /// The newest generation that was given out when that tail was looked up.
    newest: u64,
    /// Sequence and generation of the furthest slot read: generations never fall along the ring.
    furthest: Option<(u64, u64)>,
    violation: Option<Violation>,
    /// Answers were written since the producer was last told.
    answers_untold: bool,
    /// The producer's nap for which its bell was rung.
    rung: u64,
}

/// What a waiter shares with the consumer: the maps, and how far the consumer has looked.
struct Side {
    page: Page,
    mine: WriteRegion,
    theirs: ReadRegion,
    consumer_bell: Bell,
    producer_bell: Bell,
    /// Sequence after the last frame read: a tail beyond it is work.
    cursor: AtomicU64,
    /// The resync counter when the consumer last looked at it.
    resync: AtomicU64,
    quarantined: AtomicBool,
}

impl Consumer {
    /// Resumes at the head exactly.
    ///
    /// # Errors
    /// `Geometry` for regions of another size, `Head` for a head that cannot be.
    pub(super) fn resume(
        page: Page,
        mine: WriteRegion,
        theirs: ReadRegion,
        [consumer_bell, producer_bell]: [Bell; 2],
    ) -> Result<Consumer, AttachError> {
        page.check_sizes(theirs.len(), mine.len())?;
        // Relaxed: the predecessor was reaped before this process was started.
        let head = mine.load(consumer_region::HEAD, Ordering::Relaxed);
        if head > position::LAST {
            // Whatever the tail says: it is looked at with the first frames.
            return Err(AttachError::Head { head });
        }
        nap_end(&mine, consumer_region::NAP);
        Ok(Consumer {
            side: Arc::new(Side {
                // Relaxed: the caller asks `resync_counter` after this.
                resync: AtomicU64::new(theirs.load(producer_region::RESYNC, Ordering::Relaxed)),
                page,
                mine,
                theirs,
                consumer_bell,
                producer_bell,
                cursor: AtomicU64::new(head),
                quarantined: AtomicBool::new(false),
            }),
            head,
            tail: head,
            newest: 0,
            furthest: None,
            violation: None,
            answers_untold: false,
            rung: 0,
        })
    }

    /// Which ring this is.
    pub fn identity(&self) -> Identity {
        self.side.page.identity
    }

    /// Most bytes of one record.
    pub fn record_bytes_max(&self) -> usize {
        self.identity().geometry.record_bytes_max()
    }

    /// Frames from the head to the tail, looked up anew: those of `head()..head() + available()` may be read.
    ///
    /// # Errors
    /// [`Violation::Tail`] for a tail that cannot be, and whatever quarantined the ring before.
    pub fn available(&mut self) -> Result<u64, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        // Acquire: pairs with the producer's commit. No load from a slot may move above it. Loaded once: a second load
        // could say something else.
        let tail = self
            .side
            .theirs
            .load(producer_region::TAIL, Ordering::Acquire);
        let used = self.identity().geometry.used(self.head, tail);
        let ahead = self.tail - self.head;
        match used {
            Some(used) if used >= ahead => {
                self.tail = tail;
                // After the tail: a frame before it was committed by a producer whose generation had been given out.
                self.newest = self.side.page.generation();
                Ok(used)
            }
            _ => Err(self.quarantine(Violation::Tail {
                tail,
                head: self.head,
                last: self.tail,
            })),
        }
    }

    /// Sequence after the last frame that [`Consumer::available`] counted.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Copies a frame into `out` and checks the copy. Frames may be read again, in any order.
    ///
    /// # Errors
    /// The [`Violation`] found, or what quarantined the ring before; `out` is then rubbish.
    ///
    /// # Panics
    /// When `seq` is not in `head()..tail()`.
    pub fn read(&mut self, seq: u64, out: &mut Vec<u8>) -> Result<(), Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        assert!(
            (self.head..self.tail).contains(&seq),
            "the frame is available"
        );
        match self.copy_checked(seq, out) {
            Ok(generation) => {
                if self.furthest.is_none_or(|(furthest, _)| furthest < seq) {
                    self.furthest = Some((seq, generation));
                    self.side.cursor.store(seq + 1, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(violation) => Err(self.quarantine(violation)),
        }
    }

    /// Returns the slot's generation.
    fn copy_checked(&self, seq: u64, out: &mut Vec<u8>) -> Result<u64, Violation> {
        let geometry = self.identity().geometry;
        let byte = geometry.slot_byte(seq);
        // Each word is loaded once into a local: the producer may change it at any time.
        let words = std::array::from_fn(|i| self.side.theirs.load(byte / 8 + i, Ordering::Relaxed));
        let header = SlotHeader::decode(words);
        let newest = self.newest;
        let generations = match self.furthest {
            Some((furthest, generation)) if seq >= furthest => generation..=newest,
            Some((_, generation)) => 1..=generation,
            None => 1..=newest,
        };
        let length = header.check(seq, generations, &geometry)?;
        // What it held before is written over: filling it with zeros first would be a second pass.
        out.resize(length, 0);
        let theirs = &self.side.theirs;
        let checksum = theirs.copy_out_summed(byte + SLOT_HEADER_BYTES, out, header.summed());
        header.check_sum(checksum)?;
        Ok(header.generation)
    }

    fn quarantine(&mut self, violation: Violation) -> Violation {
        self.side.quarantined.store(true, Ordering::Relaxed);
        self.violation = Some(violation);
        violation
    }

    /// What the producer did wrong, if it did.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Sequence of the first frame that is not free.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Frees all frames before `to_seq`. The producer hears of it by [`Consumer::wake_producer`].
    ///
    /// # Panics
    /// When `to_seq` is not in `head()..=tail()`.
    pub fn advance(&mut self, to_seq: u64) {
        assert!(
            (self.head..=self.tail).contains(&to_seq),
            "only what was there is freed"
        );
        self.head = to_seq;
        self.side.cursor.fetch_max(to_seq, Ordering::Relaxed);
        // Release: pairs with the acquire load in `Producer::refresh_head`. No load from a freed slot may move below it.
        self.side
            .mine
            .store(consumer_region::HEAD, to_seq, Ordering::Release);
    }

    /// Says what became of the message whose first frame is `first_seq`. A word about a newer message stays, and so
    /// does an outcome that was set before. The producer hears of it by [`Consumer::wake_producer`].
    ///
    /// An index outside the table does nothing: it comes out of a frame, so a hostile producer may have made it up.
    pub fn set_outcome(&mut self, index: u32, first_seq: u64, outcome: Outcome) {
        if index >= self.identity().geometry.answers {
            return;
        }
        let word = consumer_region::ANSWERS + index as usize;
        let old = AnswerWord::from_bits(self.side.mine.load(word, Ordering::Relaxed));
        let new = old.replaced_by(AnswerWord::new(first_seq, outcome));
        // Release: pairs with the acquire load in `Producer::outcome`; what made the outcome true comes before it.
        self.side.mine.store(word, new.bits(), Ordering::Release);
        self.answers_untold = true;
    }

    /// Rings the producer's bell if it sleeps and waits for what has happened since the last call.
    pub fn wake_producer(&mut self) {
        let answers = std::mem::take(&mut self.answers_untold);
        if answers {
            // Release: pairs with the acquire loads in the producer's `nap_begin` and `look`; the answers come
            // before the count.
            self.side
                .mine
                .fetch_add(consumer_region::ANSWERED, 1, Ordering::Release);
        }
        // Partner: the fence in the producer's `nap_begin`; the same pattern as in `Producer::wake_consumer`, with head
        // and count of answers in the place of the tail.
        fence(Ordering::SeqCst);
        let theirs = &self.side.theirs;
        // Relaxed, as in `Producer::wake_consumer`.
        let nap = theirs.load(producer_region::NAP, Ordering::Relaxed);
        if nap.is_multiple_of(2) || nap == self.rung {
            return;
        }
        let room = self.head >= theirs.load(producer_region::WAKE_AT, Ordering::Relaxed);
        let wanted = theirs.load(producer_region::WANTS_ANSWERS, Ordering::Relaxed) != 0;
        if room || answers && wanted {
            self.rung = nap;
            self.side.producer_bell.ring();
        }
    }

    /// Whether no more frames will come, said by the producer or by the supervisor in its place. To be asked before
    /// [`Consumer::available`]: what was committed before the end is counted after it.
    pub fn closed(&self) -> bool {
        // Acquire: pairs with the release store in `Producer::close`.
        let closed = self
            .side
            .theirs
            .load(producer_region::CLOSED, Ordering::Acquire);
        closed != 0 || self.side.page.closed()
    }

    /// Times that the producer left something out of the ring; to be looked at once the ring is drained.
    pub fn resync_counter(&self) -> u64 {
        // Acquire: pairs with the release store in `Producer::request_resync`.
        self.side
            .theirs
            .load(producer_region::RESYNC, Ordering::Acquire)
    }

    pub(super) fn sleeper(&self) -> Arc<dyn Sleeper> {
        self.side.clone()
    }
}

impl Sleeper for Side {
    fn nap_begin(&self, depth: Depth) -> bool {
        let cursor = self.cursor.load(Ordering::Relaxed);
        let frames = match depth {
            Depth::Idle => 1,
            // Far enough that the timer comes first at any usual rate, near enough that the ring does not fill.
            Depth::Busy => u64::from(self.page.identity.geometry.slots / 4).max(1),
        };
        let mine = &self.mine;
        mine.store(consumer_region::WAKE_AT, cursor + frames, Ordering::Relaxed);
        nap_begin(mine, consumer_region::NAP);
        // Partner: the fence in `Producer::wake_consumer`.
        fence(Ordering::SeqCst);
        !self.has_work()
    }

    fn has_work(&self) -> bool {
        if self.quarantined.load(Ordering::Relaxed) {
            return false;
        }
        // Relaxed: this decides about sleep only. Who does not sleep looks anew, and then in order.
        self.theirs.load(producer_region::TAIL, Ordering::Relaxed)
            != self.cursor.load(Ordering::Relaxed)
            || self.theirs.load(producer_region::RESYNC, Ordering::Relaxed)
                != self.resync.load(Ordering::Relaxed)
    }

    fn nap_end(&self) {
        nap_end(&self.mine, consumer_region::NAP);
    }

    fn look(&self) {
        // Relaxed: the caller asks `resync_counter` after this.
        let resync = self.theirs.load(producer_region::RESYNC, Ordering::Relaxed);
        self.resync.store(resync, Ordering::Relaxed);
    }

    fn position(&self) -> u64 {
        self.theirs.load(producer_region::TAIL, Ordering::Relaxed)
    }

    fn bell(&self) -> &Bell {
        &self.consumer_bell
    }
}
