//! `ringway run`: the node in the foreground.

use std::path::Path;

use crate::config::Config;
use crate::role::exit;
use crate::supervisor;

/// Runs until a signal ends it; the exit code says what was left.
pub fn run(path: &Path) -> i32 {
    match Config::load(path) {
        Ok(config) => supervisor::run(config),
        Err(error) => {
            eprintln!("ringway: {error}");
            exit::CONFIG
        }
    }
}
