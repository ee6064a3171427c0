//! Rings out of descriptors: made by the supervisor, handed to both sides, mapped there.
//!
//! Each side gets descriptors with the access that it has and no more. Seals and sizes are checked when a region is
//! mapped; what is in the regions is left to the core.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::AttachError;
use super::layout::{Geometry, Identity, supervisor_page};
use super::page::Page;
use super::sync::{Bell, ReadRegion, WriteRegion};
use super::{Consumer, Producer, RingOwner};
use crate::sys::region;

/// Descriptors of one ring, with the access that one side has. The order of the fields is the order on the control
/// channel.
#[derive(Debug)]
pub struct RingFds {
    /// S-page, read-only.
    pub supervisor_page: OwnedFd,
    /// P-region, writable for the producer only.
    pub producer_region: OwnedFd,
    /// C-region, writable for the consumer only.
    pub consumer_region: OwnedFd,
    /// Wakes the consumer: to be rung by the producer, to be waited on by the consumer.
    pub consumer_bell: OwnedFd,
    /// Wakes the producer: to be rung by the consumer, to be waited on by the producer.
    pub producer_bell: OwnedFd,
}

impl RingFds {
    /// Descriptors of a ring.
    pub const COUNT: usize = 5;

    /// Takes the next five of `fds`; `None` if there are fewer.
    pub fn take(fds: &mut impl Iterator<Item = OwnedFd>) -> Option<RingFds> {
        Some(RingFds {
            supervisor_page: fds.next()?,
            producer_region: fds.next()?,
            consumer_region: fds.next()?,
            consumer_bell: fds.next()?,
            producer_bell: fds.next()?,
        })
    }

    /// The descriptors in the order in which they are sent.
    pub fn as_fds(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        [
            self.supervisor_page.as_fd(),
            self.producer_region.as_fd(),
            self.consumer_region.as_fd(),
            self.consumer_bell.as_fd(),
            self.producer_bell.as_fd(),
        ]
    }

    fn page(&self) -> Result<Page, AttachError> {
        let page = ReadRegion::map(self.supervisor_page.as_fd(), supervisor_page::BYTES)?;
        Page::read(page)
    }

    fn bells(&self) -> io::Result<[Bell; 2]> {
        Ok([
            self.consumer_bell.try_clone()?.into(),
            self.producer_bell.try_clone()?.into(),
        ])
    }
}

impl Producer {
    /// Attaches to a ring and resumes where the predecessor committed last.
    ///
    /// # Errors
    /// `Region`, `Layout` or `Geometry` for descriptors that are no such ring, `Positions` for a tail that cannot be.
    pub fn attach(fds: &RingFds) -> Result<Producer, AttachError> {
        let page = fds.page()?;
        let geometry = page.identity.geometry;
        let mine = WriteRegion::map(fds.producer_region.as_fd(), geometry.producer_bytes())?;
        let theirs = ReadRegion::map(fds.consumer_region.as_fd(), geometry.consumer_bytes())?;
        Producer::resume(page, mine, theirs, fds.bells()?)
    }

    /// As [`Producer::attach`], and checks that it is the ring that was assigned.
    ///
    /// # Errors
    /// As [`Producer::attach`]; `Other` for another ring.
    pub fn attach_as(fds: &RingFds, assigned: &Identity) -> Result<Producer, AttachError> {
        let producer = Producer::attach(fds)?;
        producer.identity().check(assigned)?;
        Ok(producer)
    }
}

impl Consumer {
    /// Attaches to a ring and resumes at the head exactly.
    ///
    /// # Errors
    /// `Region`, `Layout` or `Geometry` for descriptors that are no such ring, `Head` for a head that cannot be.
    pub fn attach(fds: &RingFds) -> Result<Consumer, AttachError> {
        let page = fds.page()?;
        let geometry = page.identity.geometry;
        let mine = WriteRegion::map(fds.consumer_region.as_fd(), geometry.consumer_bytes())?;
        let theirs = ReadRegion::map(fds.producer_region.as_fd(), geometry.producer_bytes())?;
        Consumer::resume(page, mine, theirs, fds.bells()?)
    }

    /// As [`Consumer::attach`], and checks that it is the ring that was assigned.
    ///
    /// # Errors
    /// As [`Consumer::attach`]; `Other` for another ring.
    pub fn attach_as(fds: &RingFds, assigned: &Identity) -> Result<Consumer, AttachError> {
        let consumer = Consumer::attach(fds)?;
        consumer.identity().check(assigned)?;
        Ok(consumer)
    }
}

/// Descriptors of a ring's regions, all writable; what a side may not write is reopened read-only for it.
pub(super) struct Descriptors {
    supervisor_page: OwnedFd,
    producer_region: OwnedFd,
    consumer_region: OwnedFd,
    consumer_ear: Ear,
    producer_ear: Ear,
}

/// The place where a bell is heard: an epoll set of everything that is rung for one side.
///
/// Flags and count of an eventfd belong to the file and not to a descriptor: who has one may fill it and make it block
/// whoever rings next. So no two processes ever ring the same one, dead ones included: the supervisor has its own, each
/// life of the other side gets a fresh one, and who listens has the set and not what is in it. An eventfd leaves the set
/// by itself when the last process that has it ends.
struct Ear(Epoll);

impl Ear {
    /// A set with one eventfd in it, for the supervisor.
    fn new() -> io::Result<(Ear, Bell)> {
        let ear = Ear(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let own = ear.ringer()?.into();
        Ok((ear, own))
    }

    /// One more eventfd that is heard here.
    fn ringer(&self) -> io::Result<OwnedFd> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let ringer = EventFd::from_value_and_flags(0, flags)?;
        // By edge or not is the same here: nobody takes events out of the set, and each ring is an edge of the set.
        self.0
            .add(&ringer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(ringer.into())
    }

    /// For the side that listens.
    fn listener(&self) -> io::Result<OwnedFd> {
        self.0.0.try_clone()
    }
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
        let (producer_bytes, consumer_bytes) =
            (geometry.producer_bytes(), geometry.consumer_bytes());
        let (consumer_ear, consumer_bell) = Ear::new()?;
        let (producer_ear, producer_bell) = Ear::new()?;
        let descriptors = Descriptors {
            supervisor_page: region::create("ringway-ring-s", supervisor_page::BYTES)?,
            producer_region: region::create("ringway-ring-p", producer_bytes)?,
            consumer_region: region::create("ringway-ring-c", consumer_bytes)?,
            consumer_ear,
            producer_ear,
        };
        Ok(RingOwner::begin(
            Identity {
                ring,
                birth,
                geometry,
            },
            WriteRegion::map(descriptors.supervisor_page.as_fd(), supervisor_page::BYTES)?,
            ReadRegion::map(descriptors.producer_region.as_fd(), producer_bytes)?,
            ReadRegion::map(descriptors.consumer_region.as_fd(), consumer_bytes)?,
            [consumer_bell, producer_bell],
            descriptors,
        ))
    }

    /// Descriptors for one producer: only the P-region can be mapped writable through them, and its bell is nobody else's.
    ///
    /// # Errors
    /// `Region` for what the kernel says, such as no free descriptors.
    pub fn producer_fds(&self) -> Result<RingFds, AttachError> {
        let own = &self.descriptors;
        Ok(RingFds {
            supervisor_page: region::read_only(own.supervisor_page.as_fd())?,
            producer_region: own.producer_region.try_clone()?,
            consumer_region: region::read_only(own.consumer_region.as_fd())?,
            consumer_bell: own.consumer_ear.ringer()?,
            producer_bell: own.producer_ear.listener()?,
        })
    }

    /// Descriptors for one consumer: only the C-region can be mapped writable through them, and its bell is nobody else's.
    ///
    /// # Errors
    /// `Region` for what the kernel says, such as no free descriptors.
    pub fn consumer_fds(&self) -> Result<RingFds, AttachError> {
        let own = &self.descriptors;
        Ok(RingFds {
            supervisor_page: region::read_only(own.supervisor_page.as_fd())?,
            producer_region: region::read_only(own.producer_region.as_fd())?,
            consumer_region: own.consumer_region.try_clone()?,
            consumer_bell: own.consumer_ear.listener()?,
            producer_bell: own.producer_ear.ringer()?,
        })
    }
}
