//! The ring alone, without a node around it: real processes on both of its sides are killed, lie, and scribble, and the
//! test plays the supervisor by means of the product's own [`ringway::ring::RingOwner`].
//!
//! The test program starts itself again for each child, so that both sides run the same sources as the product does.

mod attack;
mod attempt;
mod child;
mod consumer;
pub mod hostile;
pub mod images;
mod ledger;
mod message;
mod producer;
mod server;
pub mod storm;
pub mod taken_over;

pub use child::{CHILD, main as child_main};
