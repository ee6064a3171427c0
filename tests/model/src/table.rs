//! The slots of the state table, and what is claimed of them.

use crate::sync;

#[path = "../../../src/table/slots.rs"]
mod slots;

mod switch;

pub use switch::models;
