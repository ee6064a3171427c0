//! The observer process: metrics, health and traces.

mod queue;
mod span;
