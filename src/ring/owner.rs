//! The supervisor's end of a ring: makes it, hands out its descriptors, starts a new generation when a producer died.
//!
//! It keeps its own copies, so that either side may die and be started again on the same ring. It maps only the S-page
//! writable and never reads a slot.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::layout::{self, consumer_region, producer_region, supervisor_page};
use super::{AttachError, Geometry, Identity, RingFds, ring_bell};
use crate::sys::region::{self, ReadRegion, WriteRegion};

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
    /// Frames written and not yet free.
    pub fn used(&self) -> u64 {
        self.tail.wrapping_sub(self.head)
    }
}

/// A ring as its owner has it.
pub struct RingOwner {
    identity: Identity,
    page: WriteRegion,
    producer: ReadRegion,
    consumer: ReadRegion,
    /// All descriptors writable; what a side may not write is reopened read-only for it.
    fds: RingFds,
}

impl RingOwner {
    /// Makes an empty ring of generation 1.
    ///
    /// # Errors
    /// `Geometry` for a size that no ring can have, `Region` for what the kernel says.
    pub fn create(geometry: Geometry, ring: u32, birth: u64) -> Result<RingOwner, AttachError> {
        if !geometry.is_possible() {
            return Err(AttachError::Geometry(geometry));
        }
        let fds = RingFds {
            supervisor_page: region::create("ringway-ring-s", supervisor_page::BYTES)?,
            producer_region: region::create("ringway-ring-p", geometry.producer_bytes())?,
            consumer_region: region::create("ringway-ring-c", geometry.consumer_bytes())?,
            consumer_bell: bell()?,
            producer_bell: bell()?,
        };
        let page = WriteRegion::map(fds.supervisor_page.as_fd(), supervisor_page::BYTES)?;
        for (word, value) in [
            (supervisor_page::RING, u64::from(ring)),
            (supervisor_page::BIRTH, birth),
            (supervisor_page::SLOTS, u64::from(geometry.slots)),
            (supervisor_page::STRIDE, u64::from(geometry.stride)),
            (supervisor_page::ANSWERS, u64::from(geometry.answers)),
            (supervisor_page::GENERATION, 1),
            (supervisor_page::MAGIC, layout::MAGIC),
        ] {
            // Relaxed: nobody else has the page yet, and passing its descriptor orders these before any load.
            page.store(word, value, Ordering::Relaxed);
        }
        Ok(RingOwner {
            identity: Identity {
                ring,
                birth,
                geometry,
            },
            page,
            producer: ReadRegion::map(fds.producer_region.as_fd(), geometry.producer_bytes())?,
            consumer: ReadRegion::map(fds.consumer_region.as_fd(), geometry.consumer_bytes())?,
            fds,
        })
    }

    /// Which ring this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Descriptors for a producer: only the P-region can be mapped writable through them.
    ///
    /// # Errors
    /// `Region` for what the kernel says, such as no free descriptors.
    pub fn producer_fds(&self) -> Result<RingFds, AttachError> {
        Ok(RingFds {
            supervisor_page: region::read_only(self.fds.supervisor_page.as_fd())?,
            producer_region: self.fds.producer_region.try_clone()?,
            consumer_region: region::read_only(self.fds.consumer_region.as_fd())?,
            consumer_bell: self.fds.consumer_bell.try_clone()?,
            producer_bell: self.fds.producer_bell.try_clone()?,
        })
    }

    /// Descriptors for a consumer: only the C-region can be mapped writable through them.
    ///
    /// # Errors
    /// `Region` for what the kernel says, such as no free descriptors.
    pub fn consumer_fds(&self) -> Result<RingFds, AttachError> {
        Ok(RingFds {
            supervisor_page: region::read_only(self.fds.supervisor_page.as_fd())?,
            producer_region: region::read_only(self.fds.producer_region.as_fd())?,
            consumer_region: self.fds.consumer_region.try_clone()?,
            consumer_bell: self.fds.consumer_bell.try_clone()?,
            producer_bell: self.fds.producer_bell.try_clone()?,
        })
    }

    /// Positions now. They are what the children say: a hostile one may say anything.
    pub fn snapshot(&self) -> Snapshot {
        // Head first: a tail loaded later can only be further on. Acquire pairs with the release stores of both sides.
        let head = self.consumer.load(consumer_region::HEAD, Ordering::Acquire);
        Snapshot {
            head,
            tail: self.producer.load(producer_region::TAIL, Ordering::Acquire),
            closed: self
                .producer
                .load(producer_region::CLOSED, Ordering::Acquire)
                != 0
                || self.page.load(supervisor_page::CLOSED, Ordering::Relaxed) != 0,
        }
    }

    /// Sequence of the first frame that is not free.
    pub fn head(&self) -> u64 {
        self.snapshot().head
    }

    /// Sequence of the next frame to be written.
    pub fn tail(&self) -> u64 {
        self.snapshot().tail
    }

    /// Checks `head <= tail <= head + slots`. True only while neither side runs, or by luck.
    ///
    /// # Errors
    /// `Positions` when it is not so: this ring cannot be resumed and needs a successor with a new birth.
    pub fn check(&self) -> Result<(), AttachError> {
        let Snapshot { head, tail, .. } = self.snapshot();
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
    /// `Positions` as [`RingOwner::check`]; then nothing is changed.
    pub fn set_generation(&self) -> Result<u64, AttachError> {
        self.check()?;
        let next = self.generation() + 1;
        // Release: pairs with the consumer's acquire load when a slot of this generation turns up.
        self.page
            .store(supervisor_page::GENERATION, next, Ordering::Release);
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
        ring_bell(&self.fds.consumer_bell);
        ring_bell(&self.fds.producer_bell);
    }
}

fn bell() -> std::io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_value_and_flags(0, flags)?.into())
}
