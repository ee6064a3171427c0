//! A word of the answer table: whose outcome, and which.

/// What became of a message, or of a record of the alarm ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not known yet.
    Pending,
    /// Safe: the device may be answered, the slot reused.
    Accepted,
    /// Not taken; the device is not answered and sends again.
    Refused,
}

/// A word of an answer table: whose outcome, and which. Zero, as in a new ring, is a pending one.
///
/// The sequence has 62 bits. With 32, a word that was last used two thousand million frames ago would look newer than
/// the one to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerWord(u64);

impl AnswerWord {
    const SEQ_BITS: u32 = 62;

    /// The outcome of the message whose first frame has sequence `first_seq`.
    pub fn new(first_seq: u64, outcome: Outcome) -> AnswerWord {
        let code = match outcome {
            Outcome::Pending => 0,
            Outcome::Accepted => 1,
            Outcome::Refused => 2,
        };
        AnswerWord(code << Self::SEQ_BITS | first_seq & ((1 << Self::SEQ_BITS) - 1))
    }

    pub(super) fn from_bits(bits: u64) -> AnswerWord {
        AnswerWord(bits)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// Sequence of the first frame of the message that this is about.
    pub fn first_seq(self) -> u64 {
        self.0 & ((1 << Self::SEQ_BITS) - 1)
    }

    /// What became of it. A code that nobody writes counts as pending: it accepts nothing.
    pub fn outcome(self) -> Outcome {
        match self.0 >> Self::SEQ_BITS {
            1 => Outcome::Accepted,
            2 => Outcome::Refused,
            _ => Outcome::Pending,
        }
    }

    /// The outcome, if this word is about the message that begins at `first_seq`; else that one is still pending.
    pub fn outcome_of(self, first_seq: u64) -> Outcome {
        if self.first_seq() == first_seq {
            self.outcome()
        } else {
            Outcome::Pending
        }
    }

    /// What the word becomes when `new` is to be written over it: nothing older replaces something newer, and an outcome
    /// is final. A message that was refused because something of it was left out would otherwise be accepted by a
    /// successor of the consumer, who sees its frames again and finds nothing left to do.
    pub(super) fn replaced_by(self, new: AnswerWord) -> AnswerWord {
        let older = new.first_seq() < self.first_seq();
        let settled = new.first_seq() == self.first_seq() && self.outcome() != Outcome::Pending;
        if older || settled { self } else { new }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_older_outcome_never_replaces_a_newer_one() {
        let newer = AnswerWord::new(1 << 40, Outcome::Refused);
        let older = AnswerWord::new(5, Outcome::Accepted);
        assert_eq!(newer.replaced_by(older), newer);
        assert_eq!(older.replaced_by(newer), newer);
        assert_eq!(newer.outcome_of(5), Outcome::Pending);
    }

    #[test]
    fn an_outcome_is_final() {
        let accepted = AnswerWord::new(5, Outcome::Accepted);
        let refused = AnswerWord::new(5, Outcome::Refused);
        assert_eq!(accepted.replaced_by(refused), accepted);
        assert_eq!(refused.replaced_by(accepted), refused);
    }

    proptest! {
        #[test]
        fn answer_words_read_back(seq in 0u64..1 << 62) {
            for outcome in [Outcome::Pending, Outcome::Accepted, Outcome::Refused] {
                let word = AnswerWord::from_bits(AnswerWord::new(seq, outcome).bits());
                prop_assert_eq!((word.first_seq(), word.outcome()), (seq, outcome));
            }
        }
    }
}
