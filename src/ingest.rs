//! The ingest process: one sensor's bytes in, frames out, answers back.

mod pending;
