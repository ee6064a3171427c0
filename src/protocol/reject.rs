//! Why bytes or a message are refused: one list for all protocols, the names of counters.

/// Why bytes or a message are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// The check does not match.
    #[error("checksum does not match")]
    Checksum,
    /// A stated length does not fit.
    #[error("length does not fit")]
    Length,
    /// Longer than any message may be.
    #[error("message is too long")]
    TooLong,
    /// Not this protocol.
    #[error("bytes are not a message")]
    Rubbish,
    /// An escape sequence that does not exist.
    #[error("escape sequence is not valid")]
    Escape,
    /// A kind of message that is not known. It was answered so.
    #[error("kind of message is not known")]
    UnknownKind,
    /// The message does not say who sent it in a way that can be used.
    #[error("device id is not valid")]
    Device,
    /// A field does not parse.
    #[error("field does not parse")]
    Field,
    /// The body is encrypted.
    #[error("message is encrypted")]
    Encrypted,
    /// A part of a long message that is not collected: of a kind that is not read, or over the limit.
    #[error("part of a long message is not collected")]
    Part,
    /// The stream ended before the message did.
    #[error("message is not complete")]
    Incomplete,
}

impl Reject {
    /// Every reason.
    pub const ALL: &'static [Reject] = &[
        Reject::Checksum,
        Reject::Length,
        Reject::TooLong,
        Reject::Rubbish,
        Reject::Escape,
        Reject::UnknownKind,
        Reject::Device,
        Reject::Field,
        Reject::Encrypted,
        Reject::Part,
        Reject::Incomplete,
    ];

    /// The name of the reason in counters.
    pub fn name(self) -> &'static str {
        match self {
            Reject::Checksum => "checksum",
            Reject::Length => "length",
            Reject::TooLong => "too_long",
            Reject::Rubbish => "rubbish",
            Reject::Escape => "escape",
            Reject::UnknownKind => "unknown_kind",
            Reject::Device => "device",
            Reject::Field => "field",
            Reject::Encrypted => "encrypted",
            Reject::Part => "part",
            Reject::Incomplete => "incomplete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let mut names: Vec<_> = Reject::ALL.iter().map(|reject| reject.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reject::ALL.len());
    }
}
