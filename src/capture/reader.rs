//! Reads captures: total on any bytes, in bounded memory, past what is damaged, up to where a file was cut.
//!
//! Files that were written one after the other may also stand one behind the other in one file. Behind one that breaks off
//! within a record the next is found by the number of their series, which no device knows: a header may also stand in what
//! a device sent.

use std::io::{self, Read};
use std::ops::Range;

use memchr::memchr2_iter;

use super::{Header, HeaderError, MAGIC, Mark, PREFIX_BYTES, RECORD_BYTES_MAX, Record, What};

/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// What comes next in a file.
#[derive(Debug, PartialEq)]
pub enum Item<'a> {
    /// A file begins.
    Header(Header),
    /// A record.
    Record(Record<'a>),
    /// Bytes that are no record, between sound ones.
    Damaged {
        /// The first of them.
        from: u64,
        /// The first after them.
        to: u64,
    },
    /// There is nothing more.
    End {
        /// Bytes up to the end of the last sound record.
        sound: u64,
        /// Bytes after that: the start of a record of which the rest is missing, or damage.
        cut: u64,
        /// Whether the last file says itself that it ends here.
        ended: bool,
    },
}

/// A file on its way in.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// `buffer[taken..]` is not read yet; the first byte of the buffer stands at `offset`.
    buffer: Vec<u8>,
    taken: usize,
    offset: u64,
    input_ended: bool,
    mark: Option<Mark>,
    /// Of the file that is read.
    series: u64,
    /// The last record was [`What::Ended`].
    ended: bool,
    /// Where the last sound record ended, once the end was reached.
    sound: Option<u64>,
    records: u64,
}

/// What the unread bytes begin with.
enum Step {
    Header(Box<Header>, Mark, usize),
    Record(Range<usize>),
    /// More bytes are needed to say.
    More,
    Damage,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which is at the start of a file.
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            buffer: Vec::new(),
            taken: 0,
            offset: 0,
            input_ended: false,
            mark: None,
            series: 0,
            ended: false,
            sound: None,
            records: 0,
        }
    }

    /// The next item; after [`Item::End`] that one again.
    ///
    /// # Errors
    /// When the input cannot be read; `InvalidData` with a [`HeaderError`] when it does not begin as a capture does.
    pub fn next_item(&mut self) -> io::Result<Item<'_>> {
        loop {
            match self.step()? {
                Step::Header(header, mark, length) => {
                    self.mark = Some(mark);
                    self.series = header.series;
                    self.ended = false;
                    self.taken += length;
                    return Ok(Item::Header(*header));
                }
                Step::Record(body) => {
                    self.taken = body.end;
                    self.records += 1;
                    let record = Record::decode(&self.buffer[body]);
                    let record = record.expect("a step that is a record was decoded");
                    self.ended = record.what == What::Ended;
                    return Ok(Item::Record(record));
                }
                Step::More if self.fill()? => {}
                Step::More | Step::Damage => {
                    let mark = self.mark.ok_or_else(|| invalid(HeaderError::Damaged))?;
                    return self.pass_over(mark);
                }
            }
        }
    }

    /// Where the next item begins.
    pub fn position(&self) -> u64 {
        self.offset + self.taken as u64
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn step(&self) -> io::Result<Step> {
        let bytes = &self.buffer[self.taken..];
        if self.mark.is_none_or(|_| bytes.starts_with(&MAGIC)) {
            return match (Header::decode(bytes), self.mark) {
                (Ok(Some((header, mark, length))), _) => {
                    Ok(Step::Header(Box::new(header), mark, length))
                }
                (Ok(None), _) => Ok(Step::More),
                (Err(why), None) => Err(invalid(why)),
                (Err(_), Some(_)) => Ok(Step::Damage),
            };
        }
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(Step::More);
        };
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| prefix[at + n]));
        let length = word(8) as usize;
        if Some(&prefix[..8]) != self.mark.as_ref().map(|mark| &mark[..])
            || length > RECORD_BYTES_MAX - PREFIX_BYTES
        {
            return Ok(Step::Damage);
        }
        let Some(body) = rest.get(..length) else {
            return Ok(Step::More);
        };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&prefix[8..12]), body);
        if sum != word(12) || Record::decode(body).is_none() {
            return Ok(Step::Damage);
        }
        let start = self.taken + PREFIX_BYTES;
        Ok(Step::Record(start..start + length))
    }

    /// Passes over bytes that are no record, up to the next one or to the end.
    fn pass_over(&mut self, mark: Mark) -> io::Result<Item<'_>> {
        let from = self.position();
        // Bytes at the front that are known not to begin a record.
        let mut known = 1;
        loop {
            let bytes = &self.buffer[self.taken..];
            let rest = bytes.get(known..).unwrap_or_default();
            let begins = |&at: &usize| {
                let rest = &rest[at..];
                rest.starts_with(&mark) || rest.starts_with(&MAGIC)
            };
            let found = memchr2_iter(mark[0], MAGIC[0], rest).find(begins);
            if let Some(at) = found {
                self.taken += known + at;
                known = 0;
                let is_ours = match self.step()? {
                    Step::Record(_) => true,
                    Step::Header(header, ..) => header.series == self.series,
                    Step::More if self.fill()? => continue,
                    Step::More | Step::Damage => false,
                };
                if is_ours {
                    let to = self.position();
                    return Ok(Item::Damaged { from, to });
                }
                known = 1;
            } else {
                // Either may begin at the end of what is there.
                let kept = rest.len().min(mark.len().max(MAGIC.len()) - 1);
                self.taken += bytes.len() - kept;
                known = 0;
                if !self.fill()? {
                    return Ok(self.end(from));
                }
            }
        }
    }

    /// The end, after sound bytes up to `sound`; it stays the end.
    fn end(&mut self, sound: u64) -> Item<'_> {
        let sound = self.sound.get_or_insert(sound).to_owned();
        self.taken = self.buffer.len();
        let cut = self.position() - sound;
        Item::End {
            sound,
            cut,
            ended: self.ended && cut == 0,
        }
    }

    /// Reads on; `false` at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if self.input_ended {
            return Ok(false);
        }
        self.buffer.drain(..self.taken);
        self.offset += self.taken as u64;
        self.taken = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        self.input_ended = read? == 0;
        Ok(!self.input_ended)
    }
}

fn invalid(why: HeaderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{MARK, header};
    use super::super::{At, Buffer, DATA_BYTES_MAX};
    use super::*;

    /// Says what is read, one word an item.
    fn told(file: &[u8]) -> io::Result<Vec<String>> {
        let mut reader = Reader::new(file);
        let mut told = Vec::new();
        loop {
            told.push(match reader.next_item()? {
                Item::Header(header) => format!("file {}", header.number),
                Item::Record(record) => match record.what {
                    What::Ended => "ended".into(),
                    _ => format!("{} {:?}", record.at.wall_ms, record.data.first()),
                },
                Item::Damaged { from, to } => format!("damaged {from}..{to}"),
                end @ Item::End { .. } => {
                    told.push(format!("{end:?}"));
                    let again = reader.next_item()?;
                    assert_eq!(format!("{again:?}"), *told.last().unwrap());
                    return Ok(told);
                }
            });
        }
    }

    /// A whole file of records with data of these lengths, and where each of them ends.
    fn file(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header().encode(MARK);
        let mut ends = vec![bytes.len()];
        let mut buffer = Buffer::new(MARK, usize::MAX);
        for (at, &length) in lengths.iter().enumerate() {
            let time = At {
                wall_ms: at as i64,
                monotonic_ns: 0,
            };
            buffer.push(time, What::Bytes { stream: 1 }, &vec![at as u8; length]);
            bytes.extend(buffer.take(Vec::new()));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn ended(mut file: Vec<u8>) -> Vec<u8> {
        let mut buffer = Buffer::new(MARK, usize::MAX);
        buffer.push(At::default(), What::Ended, &[]);
        file.extend(buffer.take(Vec::new()));
        file
    }

    #[test]
    fn a_file_cut_at_any_byte_is_read_up_to_the_cut_and_says_where_it_is() {
        let (whole, ends) = file(&[1, 40, 0, 7]);
        for length in ends[0]..=whole.len() {
            let records = ends.iter().filter(|&&end| end <= length).count() - 1;
            let sound = ends[records];
            let cut = length - sound;
            let told = told(&whole[..length]).unwrap();
            assert_eq!(told.len(), records + 2, "{told:?}");
            let end = format!("End {{ sound: {sound}, cut: {cut}, ended: false }}");
            assert_eq!(told.last(), Some(&end), "cut at {length}");
        }
        for length in 0..ends[0] {
            let error = told(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    #[test]
    fn a_file_that_ended_in_order_says_so() {
        let told = told(&ended(file(&[3]).0)).unwrap();
        assert!(told.last().unwrap().ends_with("ended: true }"), "{told:?}");
    }

    /// What a killed process leaves: the start of a record, and behind it what its successor wrote.
    #[test]
    fn what_follows_a_torn_record_is_read() {
        let (whole, ends) = file(&[5, 70_000, 9]);
        let torn = [&whole[..ends[1] + 30], &whole[ends[2]..]].concat();
        let told = told(&torn).unwrap();
        let damage = format!("damaged {}..{}", ends[1], ends[1] + 30);
        assert_eq!(told[1..4], ["0 Some(0)", &damage, "2 Some(2)"], "{told:?}");
    }

    #[test]
    fn a_record_that_a_device_forged_in_its_data_is_not_found() {
        let mut forged = Buffer::new([1; 8], usize::MAX);
        forged.push(At::default(), What::Ended, &[]);
        // All of it can be guessed but two random numbers: the mark, and that of the series.
        let guessed = Header {
            series: header().series + 1,
            ..header()
        };
        let data = [guessed.encode([1; 8]), forged.take(Vec::new())].concat();
        let mut bytes = header().encode(MARK);
        let mut buffer = Buffer::new(MARK, usize::MAX);
        buffer.push(At::default(), What::Bytes { stream: 1 }, &data);
        bytes.extend(buffer.take(Vec::new()));
        bytes.pop();
        let told = told(&bytes).unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn files_one_behind_the_other_are_read_as_one() {
        let one = ended(file(&[1]).0);
        let told = told(&[one.clone(), one].concat()).unwrap();
        let words: Vec<_> = told.iter().map(|word| &word[..4]).collect();
        assert_eq!(words[..3], ["file", "0 So", "ende"]);
        assert_eq!(words[3..6], words[..3]);
    }

    /// A full disk tears the last record of a file. All of the files behind it in one file were lost with it.
    #[test]
    fn a_file_of_the_same_series_is_found_behind_a_torn_one_and_no_other() {
        let (whole, ends) = file(&[1, 40]);
        let behind = |series| {
            let next = Header {
                series,
                number: 2,
                ..header()
            };
            let mut bytes = next.encode([8; 8]);
            let mut buffer = Buffer::new([8; 8], usize::MAX);
            buffer.push(At::default(), What::Ended, &[]);
            bytes.extend(buffer.take(Vec::new()));
            [&whole[..ends[2] - 9], &bytes].concat()
        };
        let words = told(&behind(header().series)).unwrap();
        let damage = format!("damaged {}..{}", ends[1], ends[2] - 9);
        assert_eq!(words[1..5], ["0 Some(0)", &damage, "file 2", "ended"]);
        let words = told(&behind(header().series + 1)).unwrap();
        assert_eq!(words.len(), 3, "{words:?}");
    }

    #[test]
    fn what_is_no_capture_is_refused_with_a_reason() {
        let said = |bytes: &[u8]| told(bytes).unwrap_err().to_string();
        assert_eq!(said(b"$GPRMC,08"), "it is not a capture");
        let mut later = header().encode(MARK);
        later[8] = 9;
        assert!(said(&later).contains("version 9"));
    }

    proptest! {
        /// Whatever is damaged, records that are whole and stand behind a mark are found, and nothing else is.
        #[test]
        fn sound_records_survive_damage_beside_them(
            lengths in prop::collection::vec(0usize..300, 1..12),
            at in any::<prop::sample::Index>(),
            junk in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let (whole, ends) = file(&lengths);
            let from = at.index(ends.len() - 1);
            let span = ends[from]..ends[from + 1];
            let place = span.start + at.index(span.len());
            let mut bytes = whole.clone();
            let end = (place + junk.len()).min(span.end);
            bytes.splice(place..end, junk);
            let words = told(&bytes).unwrap();
            for (number, _) in lengths.iter().enumerate().filter(|&(number, _)| number != from) {
                let word = format!("{number} ");
                prop_assert!(words.iter().any(|w| w.starts_with(&word)), "{number} in {words:?}");
            }
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = told(&bytes);
            let behind = [header().encode(MARK), bytes].concat();
            told(&behind).unwrap();
        }
    }

    #[test]
    fn no_more_is_held_than_a_record_and_a_read() {
        let (whole, _) = file(&[DATA_BYTES_MAX; 40]);
        let mut reader = Reader::new(&whole[..]);
        while !matches!(reader.next_item().unwrap(), Item::End { .. }) {
            assert!(reader.buffer.capacity() <= 2 * (RECORD_BYTES_MAX + READ_BYTES));
        }
    }
}
