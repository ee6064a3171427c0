//! Ringway, the edge node for moving things.
//!
//! The stages in the order in which a position meets them: ingest, protocol, frame, ring, classifier, then dispatcher
//! and uplink; observer and supervisor watch over them.

pub mod classifier;
pub mod cli;
pub mod config;
pub mod dispatcher;
pub mod frame;
pub mod hop;
pub mod ingest;
pub mod observer;
pub mod protocol;
pub mod ring;
pub mod role;
pub mod stats;
pub mod supervisor;
pub mod sys;
pub mod table;
pub mod uplink;
