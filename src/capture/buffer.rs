//! Records that wait to be written: never more than a limit. What finds no room is counted, and the file says so.

use super::{At, DATA_BYTES_MAX, Mark, Record, What};

/// Bytes that may wait to be written. A disk that stands still for a moment loses nothing below some thousand messages.
pub const BUFFER_BYTES_MAX: usize = 1 << 20;

/// What a buffer took and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Records taken.
    pub records: u64,
    /// Records that found no room.
    pub lost_records: u64,
    /// Bytes of their data.
    pub lost_bytes: u64,
}

/// Records on their way to a file.
#[derive(Debug)]
pub struct Buffer {
    mark: Mark,
    bytes: Vec<u8>,
    bytes_max: usize,
    fill: Fill,
    /// Lost and not yet said in the file.
    unsaid: (u64, u64),
}

impl Buffer {
    /// An empty one for a file with this mark.
    pub fn new(mark: Mark, bytes_max: usize) -> Buffer {
        Buffer {
            mark,
            bytes: Vec::new(),
            bytes_max,
            fill: Fill::default(),
            unsaid: (0, 0),
        }
    }

    /// Appends a record, or counts that it is lost. Long data makes several records, of which all or none are taken.
    pub fn push(&mut self, at: At, what: What<'_>, data: &[u8]) {
        let parts = data.len().div_ceil(DATA_BYTES_MAX).max(1);
        let room = parts * super::HEAD_BYTES_MAX + data.len();
        if self.bytes.len() + room > self.bytes_max {
            self.fill.lost_records += parts as u64;
            self.fill.lost_bytes += data.len() as u64;
            self.unsaid.0 += parts as u64;
            self.unsaid.1 += data.len() as u64;
            return;
        }
        self.say_lost(at);
        self.fill.records += parts as u64;
        if data.is_empty() {
            self.append(at, what, data);
        }
        for part in data.chunks(DATA_BYTES_MAX) {
            self.append(at, what, part);
        }
    }

    /// The bytes to write, in whose place `spare`, which is emptied, takes what comes next.
    pub fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        std::mem::replace(&mut self.bytes, spare)
    }

    /// Writes that records are missing, if it was not said yet: the last words of a file leave nothing unsaid.
    pub fn say_lost(&mut self, at: At) {
        let (records, bytes) = std::mem::take(&mut self.unsaid);
        if records > 0 {
            self.append(at, What::Lost { records, bytes }, &[]);
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was taken and lost so far.
    pub fn fill(&self) -> Fill {
        self.fill
    }

    fn append(&mut self, at: At, what: What<'_>, data: &[u8]) {
        Record { at, what, data }.encode(self.mark, &mut self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::{Item, Reader};
    use super::super::tests::{MARK, header};
    use super::*;

    fn read(bytes: &[u8]) -> Vec<String> {
        let file = [header().encode(MARK), bytes.to_vec()].concat();
        let mut reader = Reader::new(&file[..]);
        let mut found = Vec::new();
        loop {
            match reader.next_item().unwrap() {
                Item::Header(_) => {}
                Item::Record(record) => {
                    found.push(format!("{:?} {}", record.what, record.data.len()))
                }
                Item::End { .. } => return found,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_full_buffer_refuses_counts_and_says_so_once_there_is_room() {
        let mut buffer = Buffer::new(MARK, 2_000);
        let data = [7; 400];
        for _ in 0..5 {
            buffer.push(At::default(), What::Bytes { stream: 1 }, &data);
        }
        assert!(buffer.len() <= 2_000);
        let Fill {
            records,
            lost_records,
            lost_bytes,
        } = buffer.fill();
        assert_eq!(records + lost_records, 5);
        assert!(lost_records > 0);
        assert_eq!(lost_bytes, 400 * lost_records);
        let first = buffer.take(Vec::new());
        assert_eq!(read(&first).len() as u64, records);
        buffer.push(At::default(), What::Quiet { stream: 1 }, &[]);
        let expected = [
            format!("Lost {{ records: {lost_records}, bytes: {lost_bytes} }} 0"),
            "Quiet { stream: 1 } 0".to_string(),
        ];
        assert_eq!(read(&buffer.take(first)), expected);
    }

    #[test]
    fn data_longer_than_a_record_makes_several() {
        let mut buffer = Buffer::new(MARK, BUFFER_BYTES_MAX);
        let data = vec![1; DATA_BYTES_MAX + 1];
        buffer.push(At::default(), What::Sent { stream: 3 }, &data);
        let expected = [
            format!("Sent {{ stream: 3 }} {DATA_BYTES_MAX}"),
            "Sent { stream: 3 } 1".to_string(),
        ];
        assert_eq!(read(&buffer.take(Vec::new())), expected);
    }
}
