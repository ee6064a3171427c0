//! The supervisor's end of a ring: its birth, its generations, its bells.
//!
//! It keeps its own copies, so that either side may die and be started again on the same ring. It maps only the S-page
//! writable and never reads a slot.

use super::error::AttachError;
use super::layout::{Identity, MAGIC, consumer_region, producer_region, supervisor_page};
use super::position;
use super::sync::{Bell, Descriptors, Ordering, ReadRegion, WriteRegion};

/// Positions of a ring at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// First frame that is not free.
    pub head: u64,
    /// Next frame to be written.
    pub tail: u64,
    /// No more frames will come.
    pub closed: bool,
}

impl Snapshot {
    /// Frames written and not yet free; 0 if the positions contradict each other.
    pub fn used(&self) -> u64 {
        self.tail.saturating_sub(self.head)
    }
}

/// A ring as its owner has it.
pub struct RingOwner {
    identity: Identity,
    page: WriteRegion,
    producer: ReadRegion,
    consumer: ReadRegion,
    pub(super) consumer_bell: Bell,
    pub(super) producer_bell: Bell,
    /// What the regions are made from, for those who attach to them.
    pub(super) descriptors: Descriptors,
}

impl RingOwner {
    /// Writes the page of an empty ring of generation 1, of regions that nobody else has yet.
    pub(super) fn begin(
        identity: Identity,
        page: WriteRegion,
        producer: ReadRegion,
        consumer: ReadRegion,
        [consumer_bell, producer_bell]: [Bell; 2],
        descriptors: Descriptors,
    ) -> RingOwner {
        let geometry = identity.geometry;
        for (word, value) in [
            (supervisor_page::RING, u64::from(identity.ring)),
            (supervisor_page::BIRTH, identity.birth),
            (supervisor_page::SLOTS, u64::from(geometry.slots)),
            (supervisor_page::STRIDE, u64::from(geometry.stride)),
            (supervisor_page::ANSWERS, u64::from(geometry.answers)),
            (supervisor_page::GENERATION, 1),
            (supervisor_page::MAGIC, MAGIC),
        ] {
            // Relaxed: passing the page's descriptor orders these before any load.
            page.store(word, value, Ordering::Relaxed);
        }
        RingOwner {
            identity,
            page,
            producer,
            consumer,
            consumer_bell,
            producer_bell,
            descriptors,
        }
    }

    /// Which ring this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Positions now. They are what the children say: a hostile one may say anything.
    pub fn snapshot(&self) -> Snapshot {
        // The end first: what was committed before it is counted after it. Acquire: pairs with the release store in
        // `Producer::close`.
        let closed = self
            .producer
            .load(producer_region::CLOSED, Ordering::Acquire)
            != 0
            || self.page.load(supervisor_page::CLOSED, Ordering::Relaxed) != 0;
        // Then the head: a tail loaded later can only be further on. Acquire: pairs with the release store in
        // `Consumer::advance`, which came after the consumer's own look at that tail.
        let head = self.consumer.load(consumer_region::HEAD, Ordering::Acquire);
        let tail = self.producer.load(producer_region::TAIL, Ordering::Relaxed);
        Snapshot { head, tail, closed }
    }

    /// Sequence of the first frame that is not free.
    pub fn head(&self) -> u64 {
        self.snapshot().head
    }

    /// Sequence of the next frame to be written.
    pub fn tail(&self) -> u64 {
        self.snapshot().tail
    }

    /// Checks `head <= tail <= head + slots`. To be called when one side at least is reaped and while its successor is
    /// not started: then an honest other side cannot make it fail. A producer that runs moves its tail on up to the
    /// head's end, and the head, which stands, was at or before the tail already; a consumer that runs moves its head
    /// up to the tail, which stands.
    ///
    /// # Errors
    /// `Head` or `Positions` when it is not so: this ring cannot be resumed and needs a successor with a new birth.
    pub fn check(&self) -> Result<(), AttachError> {
        let Snapshot { head, tail, .. } = self.snapshot();
        if head > position::LAST {
            return Err(AttachError::Head { head });
        }
        match self.identity.geometry.used(head, tail) {
            Some(_) => Ok(()),
            None => Err(AttachError::Positions { head, tail }),
        }
    }

    /// Generation of the producer that runs now or is started next.
    pub fn generation(&self) -> u64 {
        self.page
            .load(supervisor_page::GENERATION, Ordering::Relaxed)
    }

    /// Prepares for a new producer and returns its generation. To be called when the old one is reaped, not before:
    /// two producers would write the same slots.
    ///
    /// # Errors
    /// As [`RingOwner::check`]; then nothing is changed.
    pub fn set_generation(&self) -> Result<u64, AttachError> {
        self.check()?;
        let next = self.generation() + 1;
        // Relaxed: the producer that it is for is started after this, which orders it for whoever sees its frames.
        self.page
            .store(supervisor_page::GENERATION, next, Ordering::Relaxed);
        Ok(next)
    }

    /// Says on behalf of a producer that is gone for good that no more frames will come.
    pub fn close(&self) {
        // Release: pairs with the consumer's acquire load; what the producer committed stays before it.
        self.page
            .store(supervisor_page::CLOSED, 1, Ordering::Release);
        self.ring_bells();
    }

    /// Wakes both sides: to be called for every child that was reaped, since it may have died between commit and wake.
    pub fn ring_bells(&self) {
        self.consumer_bell.ring();
        self.producer_bell.ring();
    }
}
