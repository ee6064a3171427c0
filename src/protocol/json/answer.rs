//! Answers, a line each, in the words of the one who asked.

use std::fmt::Display;

use super::value::Id;

/// What the message reports is kept: it can be forgotten.
pub(super) fn safe(id: &Id) -> Vec<u8> {
    format!("{{\"safe\":{id}}}\n").into_bytes()
}

/// There was no room for it: it is to be sent again, later.
pub(super) fn again(id: &Id) -> Vec<u8> {
    format!("{{\"again\":{id}}}\n").into_bytes()
}

/// It cannot be read, and never will be.
pub(super) fn refused(id: &impl Display, reason: &str) -> Vec<u8> {
    let reason = serde_json::Value::from(reason);
    format!("{{\"refused\":{id},\"reason\":{reason}}}\n").into_bytes()
}
