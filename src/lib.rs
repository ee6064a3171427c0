//! Ringway, the edge node for moving things: one binary, several processes, memory shared between them.
//!
//! A position meets the stages in this order:
//!
//! 1. [`ingest`] takes the bytes of one sensor's devices and answers them;
//! 2. [`protocol`] cuts and reads messages: fixes, reported alarms, the answer owed;
//! 3. [`frame`] is one report as it crosses from process to process;
//! 4. [`ring`] carries it, committed by one store;
//! 5. [`classifier`] judges it against its device's state in the [`table`] and raises or clears alarms;
//! 6. [`dispatcher`] pushes the track to local subscribers;
//! 7. [`uplink`] keeps alarms in a journal until the broker confirmed them.
//!
//! Beside the way: [`capture`] keeps what devices said, to be replayed; [`hop`] stamps it, [`stats`] counts it,
//! [`observer`] shows it. [`supervisor`] owns what they share, talks to them by the contract of [`role`], and starts them
//! from a [`config`]; [`sys`] is the operating system and [`cli`] the command line.

pub mod capture;
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
