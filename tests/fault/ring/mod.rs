//! The ring alone, without a node around it: real processes on both of its sides are killed, lie, and scribble, and the
//! test plays the supervisor by means of the product's own [`ringway::ring::RingOwner`].
//!
//! The test program starts itself again for each child, so that both sides run the same sources as the product does.

mod child;
mod consumer;
mod ledger;
mod message;
mod producer;
pub mod storm;

pub use child::{CHILD, main as child_main};
