//! What the slots stand on; a model checker builds them on another `sync`, and without a checksum.

pub(super) use std::sync::atomic::{Ordering, fence};

pub(super) use crc32c::crc32c_append;

pub(super) use crate::sys::region::{ReadRegion, WORD_BYTES, WriteRegion};
