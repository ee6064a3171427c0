//! The observer process: metrics, health and traces.

mod otlp;
mod queue;
mod span;
