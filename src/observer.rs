//! The observer process: metrics, health and traces.

mod export;
mod health;
mod http;
mod metrics;
mod otlp;
mod page;
mod process;
mod queue;
mod span;

#[cfg(test)]
mod tests;

pub use process::run;
