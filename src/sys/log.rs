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
        // It would say so on standard error, which is what failed, and panic when that fails, too: a full disk behind the
        // log ended the node.
        .log_internal_errors(false)
        .with_target(true);
    let json = std::env::var("RINGWAY_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Only the first call in a process can succeed; tests call it often.
    let _ = if json {
        lines.json().try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}

/// Most characters of foreign text in a line of the log or a report.
const FOREIGN_CHARS_MAX: usize = 200;

/// Text from outside, in a form that harms neither a terminal nor whoever reads the log by machine: escaped and cut.
/// Device ids need it not: their type has no other characters than letters, digits and `. _ : -`.
pub fn foreign(text: &str) -> String {
    let escaped = text.chars().flat_map(char::escape_debug);
    escaped.take(FOREIGN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(foreign("\u{1b}[2J\n\"a\""), "\\u{1b}[2J\\n\\\"a\\\"");
        assert_eq!(foreign(&"\u{7}".repeat(1_000)).len(), FOREIGN_CHARS_MAX);
    }
}
