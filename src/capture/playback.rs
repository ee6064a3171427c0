//! What the messages of a capture say, each stream read as it was when it was recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{At, Header, Item, Record, What};
use crate::protocol::{Arrival, Envelope, Message, Protocol, Reject, Session, Settings, Split};

/// Streams that may be open at a time; more are passed over.
pub const STREAMS_MAX: usize = 1_000_000;

/// What a record gave.
#[derive(Debug, PartialEq)]
pub struct Played {
    /// Of which stream.
    pub stream: u64,
    /// When its last byte was read.
    pub at: At,
    /// The message, or why bytes were refused.
    pub what: Result<Message, Reject>,
}

/// What is worth a word besides messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The protocol is none of this program's; nothing of the file can be read.
    Protocol(String),
    /// The file goes on where another one ended that was not read.
    Missing {
        /// Its place in the recording.
        number: u32,
    },
    /// A stream began before the recording, or in a file that is missing: it is read from its next message on.
    Joined(u64),
    /// The recording did not keep up.
    Lost {
        /// Records.
        records: u64,
        /// Bytes of their data.
        bytes: u64,
    },
    /// There are too many streams; this one is passed over.
    Crowded(u64),
}

/// The streams of a recording, read record by record.
#[derive(Default)]
pub struct Playback {
    file: Option<File>,
    life: Option<u32>,
    streams: HashMap<u64, Stream>,
}

/// What is known of the file that is read.
struct File {
    protocol: Protocol,
    envelope: Envelope,
    settings: Settings,
    datagrams: bool,
    errors_max: u32,
    series: u64,
    number: u32,
}

struct Stream {
    session: Session,
    /// The start of a message.
    kept: Vec<u8>,
    errors_in_a_row: u32,
    /// So much could not be read that it was closed.
    over: bool,
}

impl Playback {
    /// Takes an item; appends what it gave.
    pub fn take(
        &mut self,
        item: Item<'_>,
        played: &mut Vec<Played>,
        mut remark: impl FnMut(Remark),
    ) {
        match item {
            Item::Header(header) => self.begin(&header, remark),
            Item::Record(record) => self.record(record, played, &mut remark),
            // What comes after it is behind a hole.
            Item::Damaged { .. } => {}
            Item::End { .. } => {}
        }
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        self.streams.len()
    }

    /// A file begins. Streams go on if it is the next one of the same recording.
    fn begin(&mut self, header: &Header, mut remark: impl FnMut(Remark)) {
        let before = self.file.as_ref().map(|file| (file.series, file.number));
        if before != Some((header.series, header.number.wrapping_sub(1))) {
            self.streams.clear();
            self.life = None;
            if header.number > 1 {
                let number = header.number - 1;
                remark(Remark::Missing { number });
            }
        }
        self.file = header.protocol().map(|protocol| File {
            protocol,
            envelope: header.envelope(),
            settings: header.decoding(),
            datagrams: header.is_datagrams(),
            errors_max: header.errors_max,
            series: header.series,
            number: header.number,
        });
        if self.file.is_none() {
            self.streams.clear();
            remark(Remark::Protocol(header.protocol.clone()));
        }
    }

    fn record(
        &mut self,
        record: Record<'_>,
        played: &mut Vec<Played>,
        remark: &mut impl FnMut(Remark),
    ) {
        let Some(file) = &self.file else {
            return;
        };
        let Record { at, what, data } = record;
        match what {
            What::Begun { life } => {
                if self.life.replace(life) != Some(life) {
                    self.streams.clear();
                }
            }
            What::Opened { stream, .. } => {
                self.streams.remove(&stream);
                if self.streams.len() < STREAMS_MAX {
                    self.streams.insert(stream, Stream::new(file));
                } else {
                    remark(Remark::Crowded(stream));
                }
            }
            What::Bytes { stream } => {
                let crowded = self.streams.len() >= STREAMS_MAX;
                let known = match self.streams.entry(stream) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(_) if crowded => return,
                    Entry::Vacant(new) => {
                        remark(Remark::Joined(stream));
                        new.insert(Stream::new(file))
                    }
                };
                let mut give = |what| played.push(Played { stream, at, what });
                if file.datagrams {
                    known.datagram(file, data, at, &mut give);
                } else {
                    known.bytes(file, data, at, &mut give);
                }
            }
            What::Quiet { stream } => {
                let known = self.streams.get_mut(&stream);
                if let Some(known) = known.filter(|known| !known.over) {
                    let messages = std::iter::from_fn(|| known.session.flush());
                    let what = messages.map(Ok);
                    played.extend(what.map(|what| Played { stream, at, what }));
                }
            }
            What::Closed { stream, .. } => drop(self.streams.remove(&stream)),
            What::Lost { records, bytes } => remark(Remark::Lost { records, bytes }),
            What::Sent { .. } | What::Ended => {}
        }
    }
}

impl Stream {
    fn new(file: &File) -> Stream {
        Stream {
            session: Session::enveloped(file.envelope, file.protocol, &file.settings),
            kept: Vec::new(),
            errors_in_a_row: 0,
            over: false,
        }
    }

    /// Reads the next bytes of a connection or feed.
    fn bytes(&mut self, file: &File, data: &[u8], at: At, give: &mut impl FnMut(Read)) {
        if self.over {
            return;
        }
        let mut bytes = std::mem::take(&mut self.kept);
        bytes.extend_from_slice(data);
        let taken = self.read(file, &bytes, at, give);
        self.over = self.errors_in_a_row >= file.errors_max;
        if !self.over {
            self.kept = bytes[taken..].to_vec();
        }
    }

    /// Reads a datagram. What is left of it belongs to no other.
    fn datagram(&mut self, file: &File, data: &[u8], at: At, give: &mut impl FnMut(Read)) {
        let taken = self.read(file, data, at, give);
        let left = &data[taken..];
        let broken_off = self.errors_in_a_row >= file.errors_max;
        if !broken_off && self.session.is_part(left) {
            self.errors_in_a_row += 1;
            give(Err(Reject::Incomplete));
        }
        if self.errors_in_a_row >= file.errors_max {
            *self = Stream::new(file);
        }
    }

    /// Reads whole messages until too many in a row cannot be read; says how many bytes they take.
    fn read(&mut self, file: &File, bytes: &[u8], at: At, give: &mut impl FnMut(Read)) -> usize {
        let now = Arrival {
            wall_ms: at.wall_ms,
        };
        let mut taken = 0;
        while self.errors_in_a_row < file.errors_max {
            let passed_over = self.session.passes_over();
            let (consumed, read) = match self.session.split(&bytes[taken..]) {
                Split::Incomplete => break,
                Split::Rubbish { consumed, reason } => (consumed, Err(reason)),
                Split::Message { range, consumed } => {
                    let message = &bytes[taken..][range];
                    (consumed, self.session.decode(message, now))
                }
            };
            taken += consumed;
            match &read {
                Ok(_) => self.errors_in_a_row = 0,
                Err(_) => self.errors_in_a_row += u32::from(!passed_over),
            }
            give(read);
        }
        taken
    }
}

type Read = Result<Message, Reject>;

#[cfg(test)]
mod tests {
    use super::super::tests::{MARK, header};
    use super::super::{Buffer, Reader};
    use super::*;

    /// Sentences of the NMEA 0183 literature, with their checks by its rule (XOR between `$` and `*`).
    const FIRST: &[u8] =
        b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r\n";
    const SECOND: &[u8] =
        b"$GPRMC,083600.00,A,4717.11438,N,00833.91523,E,0.004,77.52,091202,,,A*56\r\n";

    fn at(wall_ms: i64) -> At {
        At {
            wall_ms,
            monotonic_ns: 0,
        }
    }

    fn receiver(number: u32) -> Header {
        Header {
            protocol: "nmea".into(),
            device: Some("car-1".into()),
            number,
            ..header()
        }
    }

    fn file(header: &Header, records: &[(i64, What<'_>, &[u8])]) -> Vec<u8> {
        let mut buffer = Buffer::new(MARK, usize::MAX);
        for &(wall_ms, what, data) in records {
            buffer.push(at(wall_ms), what, data);
        }
        [header.encode(MARK), buffer.take(Vec::new())].concat()
    }

    /// Plays files; what came, by stream and reception, and the remarks.
    fn played(files: &[Vec<u8>]) -> (Vec<(u64, i64, usize)>, Vec<Remark>) {
        let (mut playback, mut played, mut remarks) = (Playback::default(), vec![], vec![]);
        for file in files {
            let mut reader = Reader::new(&file[..]);
            loop {
                let item = reader.next_item().unwrap();
                let end = matches!(item, Item::End { .. });
                playback.take(item, &mut played, |remark| remarks.push(remark));
                if end {
                    break;
                }
            }
        }
        let told = played.iter().map(|played| {
            let reports = played.what.as_ref().map_or(99, |said| said.reports.len());
            (played.stream, played.at.wall_ms, reports)
        });
        (told.filter(|told| told.2 > 0).collect(), remarks)
    }

    const BEGUN: (i64, What<'static>, &[u8]) = (0, What::Begun { life: 0 }, b"");

    fn opened(stream: u64) -> (i64, What<'static>, &'static [u8]) {
        let peer = "192.0.2.1:4000";
        (0, What::Opened { stream, peer }, b"")
    }

    #[test]
    fn each_stream_has_a_state_of_its_own_and_reports_have_the_recorded_times() {
        let (head, tail) = FIRST.split_at(20);
        let records = [
            BEGUN,
            opened(1),
            opened(2),
            (10, What::Bytes { stream: 1 }, head),
            (11, What::Bytes { stream: 2 }, SECOND),
            (12, What::Bytes { stream: 1 }, tail),
            (20, What::Quiet { stream: 1 }, b""),
            (30, What::Quiet { stream: 2 }, b""),
        ];
        let (told, remarks) = played(&[file(&receiver(1), &records)]);
        assert_eq!(told, [(1, 20, 1), (2, 30, 1)]);
        assert_eq!(remarks, []);
    }

    #[test]
    fn a_stream_goes_on_in_the_next_file_unless_one_is_missing_or_another_process_wrote_it() {
        let (head, tail) = FIRST.split_at(20);
        let quiet = (20, What::Quiet { stream: 1 }, &b""[..]);
        let first = file(
            &receiver(1),
            &[BEGUN, opened(1), (10, What::Bytes { stream: 1 }, head)],
        );
        let rest = [BEGUN, (11, What::Bytes { stream: 1 }, tail), quiet];
        let (told, remarks) = played(&[first.clone(), file(&receiver(2), &rest)]);
        assert_eq!((told, remarks), (vec![(1, 20, 1)], vec![]));

        let (told, remarks) = played(&[first.clone(), file(&receiver(3), &rest)]);
        assert!(told.iter().all(|told| told.2 == 99), "{told:?}");
        let number = 2;
        assert_eq!(remarks, [Remark::Missing { number }, Remark::Joined(1)]);

        let mut other = rest;
        other[0].1 = What::Begun { life: 1 };
        let (_, remarks) = played(&[first, file(&receiver(2), &other)]);
        assert_eq!(remarks, [Remark::Joined(1)]);
    }

    #[test]
    fn what_was_not_taken_when_the_recording_ended_is_not_made_up() {
        let records = [BEGUN, opened(1), (10, What::Bytes { stream: 1 }, FIRST)];
        let (told, _) = played(&[file(&receiver(1), &records)]);
        assert_eq!(told, []);
    }

    #[test]
    fn a_stream_that_was_closed_for_its_rubbish_is_not_read_on() {
        let damaged = FIRST.strip_suffix(b"7\r\n").unwrap();
        let lines = [&[damaged, b"8\r\n"].concat().repeat(3)[..], FIRST].concat();
        let header = Header {
            errors_max: 3,
            ..receiver(1)
        };
        let records = [
            BEGUN,
            opened(1),
            (1, What::Bytes { stream: 1 }, &lines),
            (2, What::Bytes { stream: 1 }, SECOND),
            (3, What::Quiet { stream: 1 }, b""),
        ];
        let (told, _) = played(&[file(&header, &records)]);
        assert_eq!(told, [(1, 1, 99); 3]);
    }

    #[test]
    fn a_datagram_ends_with_its_last_message() {
        let header = Header {
            input: "udp".into(),
            ..receiver(1)
        };
        let (head, tail) = FIRST.split_at(20);
        let records = [
            BEGUN,
            opened(1),
            (1, What::Bytes { stream: 1 }, head),
            (2, What::Bytes { stream: 1 }, tail),
            (3, What::Bytes { stream: 1 }, SECOND),
            (4, What::Quiet { stream: 1 }, b""),
        ];
        let (told, _) = played(&[file(&header, &records)]);
        assert_eq!(told.last(), Some(&(1, 4, 1)));
        assert!(
            told[..told.len() - 1].iter().all(|told| told.2 == 99),
            "{told:?}"
        );
    }

    #[test]
    fn a_protocol_that_is_not_known_is_remarked() {
        let header = Header {
            protocol: "telex".into(),
            ..receiver(1)
        };
        let records = [BEGUN, opened(1), (1, What::Bytes { stream: 1 }, FIRST)];
        let (told, remarks) = played(&[file(&header, &records)]);
        assert_eq!(
            (told, remarks),
            (vec![], vec![Remark::Protocol("telex".into())])
        );
    }
}
