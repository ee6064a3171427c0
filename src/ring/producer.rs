//! The writing side of a ring.

use std::sync::Arc;

use super::answer::AnswerWord;
use super::error::{AttachError, Violation};
use super::layout::{Identity, SLOT_HEADER_BYTES, SlotHeader, consumer_region, producer_region};
use super::nap::{Depth, Sleeper, nap_begin, nap_end};
use super::page::Page;
use super::position;
use super::sync::{AtomicBool, AtomicU64, Bell, Ordering, ReadRegion, WriteRegion, fence};

/// Records for which a producer that gathers rings all the same: many are worth a wake of their own.
const GATHERED_RECORDS_MAX: u64 = 64;

/// The ring has no room for all of the records; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring is full")]
pub struct Full;

/// The producer of a ring. There is one at a time: the supervisor sees to it.
pub struct Producer {
    side: Arc<Side>,
    generation: u64,
    /// What the tail word says; nobody else writes it.
    tail: u64,
    /// The last head seen that was possible.
    head: u64,
    /// Slots from this sequence on are kept although the head passed them.
    hold: u64,
    /// The consumer's nap for which its bell was rung.
    rung: u64,
    /// Whether the bell waits for [`Producer::hand_over`].
    gathers: bool,
    /// The tail when the bell was last thought of.
    handed_over: u64,
}

/// What a waiter shares with the producer: the maps, and what the producer waits for.
struct Side {
    page: Page,
    mine: WriteRegion,
    theirs: ReadRegion,
    consumer_bell: Bell,
    producer_bell: Bell,
    /// Head position that means enough room; `u64::MAX`: room is not waited for.
    wake_at: AtomicU64,
    wants_answers: AtomicBool,
    /// The count of answers when the producer last looked at them.
    answered: AtomicU64,
}

impl Producer {
    /// Resumes where the predecessor committed last.
    ///
    /// # Errors
    /// `Geometry` for regions of another size, `Positions` for a tail that cannot be.
    pub(super) fn resume(
        page: Page,
        mine: WriteRegion,
        theirs: ReadRegion,
        [consumer_bell, producer_bell]: [Bell; 2],
    ) -> Result<Producer, AttachError> {
        let geometry = page.identity.geometry;
        page.check_sizes(mine.len(), theirs.len())?;
        // Relaxed: the predecessor was reaped before this process was started.
        let tail = mine.load(producer_region::TAIL, Ordering::Relaxed);
        // Acquire: pairs with the consumer's release store; see `refresh_head`.
        let head = theirs.load(consumer_region::HEAD, Ordering::Acquire);
        if geometry.used(head, tail).is_none() {
            return Err(AttachError::Positions { head, tail });
        }
        nap_end(&mine, producer_region::NAP);
        mine.store(producer_region::CLOSED, 0, Ordering::Relaxed);
        Ok(Producer {
            generation: page.generation(),
            side: Arc::new(Side {
                answered: AtomicU64::new(theirs.load(consumer_region::ANSWERED, Ordering::Acquire)),
                page,
                mine,
                theirs,
                consumer_bell,
                producer_bell,
                wake_at: AtomicU64::new(u64::MAX),
                wants_answers: AtomicBool::new(false),
            }),
            tail,
            head,
            hold: u64::MAX,
            rung: 0,
            gathers: false,
            handed_over: tail,
        })
    }

    /// Which ring this is.
    pub fn identity(&self) -> Identity {
        self.side.page.identity
    }

    /// The generation that this producer writes into its slots.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Most bytes of one record.
    pub fn record_bytes_max(&self) -> usize {
        self.identity().geometry.record_bytes_max()
    }

    /// Writes all of `records` and commits them by one store, or writes none of them. Returns the sequence of the first.
    /// `urgent` wakes a consumer that sleeps whatever it asked for.
    ///
    /// # Errors
    /// [`Full`] when there is no room for all.
    ///
    /// # Panics
    /// When a record is longer than [`Producer::record_bytes_max`]: the caller encodes into a buffer of that size.
    pub fn try_publish(&mut self, records: &[&[u8]], urgent: bool) -> Result<u64, Full> {
        let count = records.len() as u64;
        if self.free() < count {
            self.refresh_head();
            if self.free() < count {
                return Err(Full);
            }
        }
        let first = self.tail;
        for (seq, record) in (first..).zip(records) {
            self.write_slot(seq, record);
        }
        self.tail = first + count;
        // Release: the commit. Pairs with the consumer's acquire load of the tail; no store into a slot may move below
        // it, else a consumer would see a frame that is not there yet.
        self.side
            .mine
            .store(producer_region::TAIL, self.tail, Ordering::Release);
        let gathered = self.tail - self.handed_over;
        if urgent || !self.gathers || gathered >= GATHERED_RECORDS_MAX {
            self.wake_consumer(urgent);
        }
        Ok(first)
    }

    /// From now on the consumer's bell is rung for what is urgent or many, and for the rest by
    /// [`Producer::hand_over`]: for a producer that takes in several messages at a time.
    pub fn gather(&mut self) {
        self.gathers = true;
    }

    /// Rings the consumer's bell for what was published since the last time. A producer that gathers says this before
    /// it sleeps.
    pub fn hand_over(&mut self) {
        if self.handed_over != self.tail {
            self.wake_consumer(false);
        }
    }

    fn write_slot(&self, seq: u64, record: &[u8]) {
        assert!(
            record.len() <= self.record_bytes_max(),
            "a record fits a slot"
        );
        let byte = self.identity().geometry.slot_byte(seq);
        let mine = &self.side.mine;
        let mut header = SlotHeader::begin(seq, self.generation, record.len());
        header.checksum = mine.copy_in_summed(byte + SLOT_HEADER_BYTES, record, header.summed());
        for (word, value) in (byte / 8..).zip(header.words()) {
            mine.store(word, value, Ordering::Relaxed);
        }
    }

    /// Rings the consumer's bell if it sleeps, wants to hear of this tail, and was not rung in this nap.
    fn wake_consumer(&mut self, urgent: bool) {
        self.handed_over = self.tail;
        // Partner: the fence in `Consumer`'s `nap_begin`. Of the two, tail store and nap load here, nap store and tail
        // load there, at least one load sees the other side's store; without either fence both could miss.
        fence(Ordering::SeqCst);
        let theirs = &self.side.theirs;
        // Relaxed. `wake_at` may be that of another nap than this one: then the sleeper's fence came after ours, and it
        // sees our tail.
        let nap = theirs.load(consumer_region::NAP, Ordering::Relaxed);
        if nap.is_multiple_of(2) || nap == self.rung {
            return;
        }
        let wake_at = theirs.load(consumer_region::WAKE_AT, Ordering::Relaxed);
        if urgent || self.tail >= wake_at {
            self.rung = nap;
            self.side.consumer_bell.ring();
        }
    }

    /// Sequence of the next record to be written.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Sequence of the first record that the consumer has not freed, looked up anew.
    pub fn head(&mut self) -> u64 {
        self.refresh_head();
        self.head
    }

    /// Records that fit now.
    pub fn room(&mut self) -> u64 {
        self.refresh_head();
        self.free()
    }

    /// Slots at and after `seq` are not reused although the head passed them; `u64::MAX` holds none. A new producer
    /// holds none: one that must keep slots says so before it publishes.
    pub fn set_hold(&mut self, seq: u64) {
        self.hold = seq;
    }

    fn free(&self) -> u64 {
        let slots = self.identity().geometry.slots.into();
        position::free(self.head, self.hold, self.tail, slots)
    }

    fn refresh_head(&mut self) {
        // Acquire: pairs with the release store in `Consumer::advance`. The consumer's loads from a slot come before it
        // there, so our stores into that slot, which come after this load, cannot be seen by them.
        let head = self
            .side
            .theirs
            .load(consumer_region::HEAD, Ordering::Acquire);
        // A head that goes back or runs ahead of the tail frees nothing.
        if position::may_be_freed(self.head, head, self.tail) {
            self.head = head;
        }
    }

    /// Sequence of the oldest record that may still be in its slot: what a new producer can re-read.
    pub fn oldest(&self) -> u64 {
        position::oldest(self.tail, self.identity().geometry.slots.into())
    }

    /// Re-reads a record that this producer or a predecessor committed, free or not, into `out`.
    ///
    /// # Errors
    /// A [`Violation`] when the slot does not hold that record any more: a predecessor had begun to overwrite it.
    ///
    /// # Panics
    /// When `seq` is not in `oldest()..tail()`.
    pub fn record_at(&self, seq: u64, out: &mut Vec<u8>) -> Result<(), Violation> {
        assert!(
            (self.oldest()..self.tail).contains(&seq),
            "the record was written"
        );
        let geometry = self.identity().geometry;
        let byte = geometry.slot_byte(seq);
        let words = std::array::from_fn(|i| self.side.mine.load(byte / 8 + i, Ordering::Relaxed));
        let header = SlotHeader::decode(words);
        let length = header.check(seq, 1..=self.generation, &geometry)?;
        out.resize(length, 0);
        let checksum =
            self.side
                .mine
                .copy_out_summed(byte + SLOT_HEADER_BYTES, out, header.summed());
        header.check_sum(checksum)
    }

    /// A word of the answer table.
    ///
    /// # Panics
    /// When the table has no such word.
    pub fn outcome(&self, index: u32) -> AnswerWord {
        assert!(index < self.identity().geometry.answers, "the word exists");
        // Acquire: pairs with the release store in `Consumer::set_outcome`.
        AnswerWord::from_bits(
            self.side
                .theirs
                .load(consumer_region::ANSWERS + index as usize, Ordering::Acquire),
        )
    }

    /// What a [`super::Waiter`] wakes this producer for from now on: room for `records` more than there are now (0: not
    /// for room), and answers. Slots kept by [`Producer::set_hold`] are not reckoned with: only this side can free them.
    pub fn wait_for(&self, records: u64, answers: bool) {
        let slots = self.identity().geometry.slots.into();
        let wake_at = match records {
            0 => u64::MAX,
            _ => position::head_with_room(records, self.tail, slots),
        };
        self.side.wake_at.store(wake_at, Ordering::Relaxed);
        self.side.wants_answers.store(answers, Ordering::Relaxed);
    }

    /// For a producer that waits by its own epoll instead of a [`super::Waiter`]: says that it sleeps, then looks once
    /// more; `false` when what [`Producer::wait_for`] said is there, so that it must not sleep.
    pub fn nap_begin(&self) -> bool {
        Sleeper::nap_begin(&*self.side, Depth::Idle)
    }

    /// Says that the producer is awake, after [`Producer::nap_begin`] whatever that answered, and about to look at its
    /// answers.
    pub fn nap_end(&self) {
        Sleeper::nap_end(&*self.side);
        self.side.look();
    }

    /// Says that something was left out of the ring and must be read from the state table, and wakes the consumer.
    pub fn request_resync(&mut self) {
        // Release: pairs with the acquire load in `Consumer::resync_counter`; the state behind it was switched before.
        self.side
            .mine
            .fetch_add(producer_region::RESYNC, 1, Ordering::Release);
        self.wake_consumer(true);
    }

    /// Says that nothing will be written any more, and wakes the consumer.
    pub fn close(self) {
        // Release: pairs with the acquire load in `Consumer::closed`; all commits come before it.
        self.side
            .mine
            .store(producer_region::CLOSED, 1, Ordering::Release);
        // Not by the nap protocol: it happens once, and a consumer that looked just before must hear of it.
        self.side.consumer_bell.ring();
    }

    pub(super) fn sleeper(&self) -> Arc<dyn Sleeper> {
        self.side.clone()
    }
}

impl Sleeper for Side {
    fn nap_begin(&self, depth: Depth) -> bool {
        let mine = &self.mine;
        let wake_at = self.wake_at.load(Ordering::Relaxed);
        let answers = self.wants_answers.load(Ordering::Relaxed);
        let ring_for_answers = answers && depth == Depth::Idle;
        mine.store(producer_region::WAKE_AT, wake_at, Ordering::Relaxed);
        mine.store(
            producer_region::WANTS_ANSWERS,
            u64::from(ring_for_answers),
            Ordering::Relaxed,
        );
        nap_begin(mine, producer_region::NAP);
        // Partner: the fence in `Consumer::wake_producer`; see `wake_consumer`.
        fence(Ordering::SeqCst);
        !self.has_work()
    }

    fn has_work(&self) -> bool {
        // Relaxed: this decides about sleep only. Who does not sleep looks anew, and then in order.
        let wake_at = self.wake_at.load(Ordering::Relaxed);
        let enough_room = wake_at <= self.theirs.load(consumer_region::HEAD, Ordering::Relaxed);
        let answered = self
            .theirs
            .load(consumer_region::ANSWERED, Ordering::Relaxed);
        let answers = self.wants_answers.load(Ordering::Relaxed);
        enough_room || answers && answered != self.answered.load(Ordering::Relaxed)
    }

    fn nap_end(&self) {
        nap_end(&self.mine, producer_region::NAP);
    }

    fn look(&self) {
        // Acquire: pairs with the release store in `Consumer::wake_producer`; the caller sees all answers of this count.
        let answered = self
            .theirs
            .load(consumer_region::ANSWERED, Ordering::Acquire);
        self.answered.store(answered, Ordering::Relaxed);
    }

    fn position(&self) -> u64 {
        self.theirs
            .load(consumer_region::ANSWERED, Ordering::Relaxed)
    }

    fn bell(&self) -> &Bell {
        &self.producer_bell
    }
}
