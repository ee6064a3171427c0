//! Log lines to standard error: for people on a terminal, JSON where `RINGWAY_LOG_FORMAT=json`. The level is
//! `RINGWAY_LOG` (error, warn, info, debug, trace; info by default). Children inherit both.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;

/// Sends the log of this process to standard error. A second call does nothing.
pub fn init() {
    let level = std::env::var("RINGWAY_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let lines = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_writer(std::io::stderr)
        .with_target(true);
    let json = std::env::var("RINGWAY_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Only the first call in a process can succeed; tests call it often.
    let _ = if json {
        lines.json().try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
