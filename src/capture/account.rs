//! What a replayed capture lacks, in sentences for whoever replays it.

use super::{Item, Remark};

/// Counts what is worth a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    records: u64,
    damaged_bytes: u64,
    missing: Vec<u32>,
    joined: u64,
    crowded: u64,
    lost: (u64, u64),
    protocol: Option<String>,
    end: Option<(u64, u64, bool)>,
}

impl Account {
    /// Takes note of an item.
    pub fn item(&mut self, item: &Item<'_>) {
        match *item {
            Item::Header(_) => {}
            Item::Record(_) => self.records += 1,
            Item::Damaged { from, to } => self.damaged_bytes += to - from,
            Item::End { sound, cut, ended } => self.end = Some((sound, cut, ended)),
        }
    }

    /// Takes note of what the streams lack.
    pub fn remark(&mut self, remark: Remark) {
        match remark {
            Remark::Protocol(name) => self.protocol = Some(name),
            Remark::Missing { number } => self.missing.push(number),
            Remark::Joined(_) => self.joined += 1,
            Remark::Crowded(_) => self.crowded += 1,
            Remark::Lost { records, bytes } => {
                self.lost = (self.lost.0 + records, self.lost.1 + bytes);
            }
        }
    }

    /// Records that were read.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether the file is cut or damaged.
    pub fn is_cut(&self) -> bool {
        let cut = self.end.is_some_and(|(_, cut, _)| cut > 0);
        cut || self.damaged_bytes > 0
    }

    /// All that is lacking, each to be said of the capture.
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(name) = &self.protocol {
            said.push(format!("speaks {name:?}, which this program does not know"));
        }
        for number in &self.missing {
            said.push(format!(
                "goes on where its file {number} ends, which is missing: streams that began there are read from \
                 their next message on"
            ));
        }
        if self.joined > 0 {
            let joined = self.joined;
            said.push(format!(
                "has {joined} streams of which the begin is not recorded: they are read from their next message on"
            ));
        }
        if self.crowded > 0 {
            let crowded = self.crowded;
            said.push(format!(
                "has more streams than can be kept: {crowded} are left out"
            ));
        }
        if self.lost.0 > 0 {
            let (records, bytes) = self.lost;
            said.push(format!(
                "lacks {records} records with {bytes} bytes: the recording did not keep up"
            ));
        }
        if self.damaged_bytes > 0 {
            let bytes = self.damaged_bytes;
            said.push(format!(
                "has {bytes} damaged bytes between sound records, which are left out"
            ));
        }
        match self.end {
            Some((sound, cut, _)) if cut > 0 => said.push(format!(
                "is cut at byte {sound} after {} records; replayed up to there",
                self.records
            )),
            Some((_, _, false)) => said.push(
                "does not say that it ends where it does: it was still recorded, or its end is missing"
                    .into(),
            ),
            _ => {}
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_needs_no_words_and_a_cut_one_says_where() {
        let mut account = Account::default();
        let end = |cut, ended| Item::End {
            sound: 700,
            cut,
            ended,
        };
        account.item(&end(0, true));
        assert_eq!((account.sentences(), account.is_cut()), (vec![], false));
        account.item(&end(3, false));
        let cut = "is cut at byte 700 after 0 records; replayed up to there";
        assert_eq!(
            (account.sentences(), account.is_cut()),
            (vec![cut.into()], true)
        );
        account.item(&end(0, false));
        assert_eq!(account.sentences().len(), 1);
        assert!(!account.is_cut());
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut account = Account::default();
        account.remark(Remark::Lost {
            records: 2,
            bytes: 5,
        });
        account.remark(Remark::Lost {
            records: 1,
            bytes: 1,
        });
        account.item(&Item::Damaged { from: 5, to: 9 });
        account.remark(Remark::Joined(1));
        account.remark(Remark::Missing { number: 3 });
        let said = account.sentences().join(". ");
        for word in [
            "3 records with 6 bytes",
            "4 damaged bytes",
            "1 streams",
            "file 3",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
