//! What the fuzz targets do with their bytes. It lives here so that the targets, the test that replays the corpus and the
//! lab's random images share it.

pub mod capture;
pub mod decoder;
pub mod judge;
pub mod layout;
pub mod record;
pub mod ring_peer;
pub mod ring_validator;
pub mod state_table;
pub mod step;
