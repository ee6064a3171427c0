//! The ingest process: one sensor's bytes in, frames out, answers back.

mod admit;
mod capture;
mod connection;
mod connections;
mod datagrams;
mod deadlines;
mod fed;
mod feed_log;
mod file;
mod log_lines;
mod offence;
mod peers;
mod pending;
mod process;
mod publishing;
mod round;
mod session;
mod silence;
mod sources;
mod tally;
mod tcp;
mod tls;
mod trace_id;
mod turns;
mod udp;
mod wake;

pub use process::{IngestError, run};

#[cfg(test)]
mod tests;
