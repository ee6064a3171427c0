//! The observer process: metrics, health and traces.
