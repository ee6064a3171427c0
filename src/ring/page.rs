//! The supervisor's page of a ring, as producer and consumer read it.

use super::error::AttachError;
use super::layout::{self, Geometry, Identity};
use super::sync::{Ordering, ReadRegion};

/// The S-page as either side sees it.
pub(super) struct Page {
    region: ReadRegion,
    pub identity: Identity,
}

impl Page {
    /// Reads ring and geometry once; from then on the private copy counts.
    pub fn read(region: ReadRegion) -> Result<Page, AttachError> {
        use layout::supervisor_page as s;
        let word = |word| region.load(word, Ordering::Relaxed);
        if word(s::MAGIC) != layout::MAGIC {
            return Err(AttachError::Layout);
        }
        let narrow = |value| u32::try_from(value).unwrap_or(0);
        let geometry = Geometry {
            slots: narrow(word(s::SLOTS)),
            stride: narrow(word(s::STRIDE)),
            answers: narrow(word(s::ANSWERS)),
        };
        let identity = Identity {
            ring: narrow(word(s::RING)),
            birth: word(s::BIRTH),
            geometry,
        };
        if !geometry.is_possible() {
            return Err(AttachError::Geometry(geometry));
        }
        Ok(Page { region, identity })
    }

    /// Checks that the regions are as long as the geometry says, no more and no less.
    pub fn check_sizes(
        &self,
        producer_bytes: usize,
        consumer_bytes: usize,
    ) -> Result<(), AttachError> {
        let geometry = self.identity.geometry;
        let same = producer_bytes == geometry.producer_bytes()
            && consumer_bytes == geometry.consumer_bytes();
        same.then_some(()).ok_or(AttachError::Geometry(geometry))
    }

    /// The newest generation given out. Relaxed: the supervisor stored it before it started the producer, so whoever
    /// sees a tail of that producer sees it too.
    pub fn generation(&self) -> u64 {
        self.region
            .load(layout::supervisor_page::GENERATION, Ordering::Relaxed)
    }

    /// Whether the supervisor said that no more frames will come. Acquire: pairs with the release store in
    /// [`super::owner::RingOwner::close`].
    pub fn closed(&self) -> bool {
        self.region
            .load(layout::supervisor_page::CLOSED, Ordering::Acquire)
            != 0
    }
}
