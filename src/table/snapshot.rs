//! A table written down: what the journal keeps and a memfd carries back.
//!
//! Eight bytes of magic; then each payload with its length and CRC-32C, four bytes each, little-endian; then a length of
//! zero and the count of payloads. Zeros behind the end, as in a memory region of whole words, do not matter.

use std::io::{self, Write};

use super::{TableError, TableReader};

const MAGIC: [u8; 8] = *b"RWSNAP01";

/// Most bytes of a payload. More than a slot has, because a restored state lists every open alarm of its device; the
/// classifier makes it fit.
const STATE_BYTES_MAX: usize = 1 << 20;

/// Why a snapshot, or the rest of it, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is something else, or another version.
    #[error("cannot read snapshot: its format is unknown")]
    Format,
    /// It ends before its end mark, or holds another number of states than that says.
    #[error("cannot read snapshot: it is cut short")]
    Short,
    /// One payload does not match its checksum; those after it may be read.
    #[error("cannot read snapshot: state {0} is damaged")]
    Damaged(u32),
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// States written.
    pub written: u32,
    /// Slots that could not be read and are not in the snapshot.
    pub skipped: u32,
}

/// Writes a snapshot, payload by payload.
#[derive(Debug)]
pub struct SnapshotWriter<W> {
    out: W,
    written: u32,
    begun: bool,
}

impl<W: Write> SnapshotWriter<W> {
    /// A snapshot of nothing yet.
    pub fn new(out: W) -> SnapshotWriter<W> {
        SnapshotWriter {
            out,
            written: 0,
            begun: false,
        }
    }

    /// Adds a payload. An empty one is passed over: it says nothing, and its length is the end mark's.
    ///
    /// # Errors
    /// What the output says.
    pub fn push(&mut self, payload: &[u8]) -> io::Result<()> {
        if payload.is_empty() {
            return Ok(());
        }
        self.begin()?;
        self.out.write_all(&(payload.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
        self.out.write_all(payload)?;
        self.written += 1;
        Ok(())
    }

    /// Writes the end and gives the output back.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        self.begin()?;
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&self.written.to_le_bytes())?;
        Ok(self.out)
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.out.write_all(&MAGIC)?;
        }
        Ok(())
    }
}

/// Writes the states of all slots in use.
///
/// # Errors
/// What `out` says. A slot that cannot be read is counted, not an error: the others are worth keeping.
pub fn write_snapshot(table: &TableReader, out: &mut impl Write) -> io::Result<SnapshotReport> {
    let mut skipped = 0;
    let mut payload = Vec::new();
    let mut snapshot = SnapshotWriter::new(out);
    for slot in 0..table.used() {
        match table.read(slot, &mut payload) {
            Ok(true) => snapshot.push(&payload)?,
            Ok(false) => {}
            Err(TableError::Damaged(_) | TableError::Busy(_)) => skipped += 1,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    let written = snapshot.written;
    snapshot.finish()?;
    Ok(SnapshotReport { written, skipped })
}

/// The payloads of a snapshot, in the order of their slots. After `Format` or `Short` nothing more comes.
pub fn read_snapshot(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], SnapshotError>> {
    Payloads {
        rest: Some(bytes),
        begun: false,
        count: 0,
    }
}

struct Payloads<'a> {
    /// `None` after the end.
    rest: Option<&'a [u8]>,
    begun: bool,
    count: u32,
}

impl<'a> Payloads<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self
            .rest
            .and_then(|rest| rest.split_at_checked(bytes))
            .ok_or(SnapshotError::Short)?;
        self.rest = Some(rest);
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, SnapshotError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// The next payload; `None` at the end mark.
    fn payload(&mut self) -> Result<Option<&'a [u8]>, SnapshotError> {
        if !self.begun {
            self.begun = true;
            if self.take(MAGIC.len())? != MAGIC {
                return Err(SnapshotError::Format);
            }
        }
        let (length, sum) = (self.number()? as usize, self.number()?);
        if length == 0 {
            return if sum == self.count {
                Ok(None)
            } else {
                Err(SnapshotError::Short)
            };
        }
        if length > STATE_BYTES_MAX {
            return Err(SnapshotError::Format);
        }
        let payload = self.take(length)?;
        self.count += 1;
        if crc32c::crc32c(payload) == sum {
            Ok(Some(payload))
        } else {
            Err(SnapshotError::Damaged(self.count - 1))
        }
    }
}

impl<'a> Iterator for Payloads<'a> {
    type Item = Result<&'a [u8], SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest?;
        let next = self.payload().transpose();
        if !matches!(next, Some(Ok(_) | Err(SnapshotError::Damaged(_)))) {
            self.rest = None;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::table::{TableWriter, create};

    /// A table of three states, one empty slot between them.
    fn snapshot() -> Vec<u8> {
        let fd = create(8).unwrap();
        let writer = TableWriter::attach(fd.as_fd()).unwrap();
        for payload in [&b"one"[..], b"", b"two", b"three"] {
            let slot = writer.claim().unwrap();
            if !payload.is_empty() {
                writer.write(slot, payload).unwrap();
            }
        }
        let reader = TableReader::attach(fd.as_fd()).unwrap();
        let mut out = Vec::new();
        let report = write_snapshot(&reader, &mut out).unwrap();
        assert_eq!((report.written, report.skipped), (3, 0));
        out
    }

    fn read(bytes: &[u8]) -> Vec<Result<&[u8], SnapshotError>> {
        read_snapshot(bytes).collect()
    }

    #[test]
    fn states_come_back_whole_and_zeros_behind_them_do_not_matter() {
        let mut bytes = snapshot();
        for _ in 0..10 {
            let states: Result<Vec<&[u8]>, _> = read_snapshot(&bytes).collect();
            assert_eq!(states.unwrap(), [&b"one"[..], b"two", b"three"]);
            bytes.push(0);
        }
    }

    #[test]
    fn every_cut_is_seen() {
        let bytes = snapshot();
        for cut in 0..bytes.len() {
            let last = read(&bytes[..cut]).pop();
            assert_eq!(last, Some(Err(SnapshotError::Short)), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_state_does_not_cost_the_others() {
        let mut bytes = snapshot();
        bytes[8 + 8] ^= 1;
        let expected: [Result<&[u8], _>; 3] =
            [Err(SnapshotError::Damaged(0)), Ok(b"two"), Ok(b"three")];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn something_else_is_no_snapshot() {
        let mut bytes = snapshot();
        bytes[0] = b'x';
        assert_eq!(read(&bytes), [Err(SnapshotError::Format)]);
        assert_eq!(read(&[]), [Err(SnapshotError::Short)]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), at in 0usize..60) {
            let mut bytes = bytes;
            let snapshot = snapshot();
            let at = at.min(snapshot.len());
            bytes.splice(0..0, snapshot[..at].iter().copied());
            proptest::prop_assert!(read(&bytes).len() <= bytes.len() + 1);
        }
    }
}
