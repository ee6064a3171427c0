//! A capture: every stream that was recorded, with the times of reception that were recorded.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::Found;
use crate::capture::{Account, Header, Item, Playback, Played, Reader, Remark, What};
use crate::ingest::tally::Tally;
use crate::protocol::Protocol;

/// A capture on its way in.
pub struct Captured {
    reader: Reader<Positioned>,
    playback: Playback,
    account: Account,
    /// Records before this byte were published by a process before this one: they are only read, for the state of their
    /// streams.
    published_to: u64,
    protocol: Protocol,
    found: VecDeque<Found>,
    begin_ms: Option<i64>,
    ended: bool,
}

/// A file that is read without moving its offset, which outlives this process and says what was published.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

impl Captured {
    /// Reads from the start; what stands before `published_to` is passed over. `protocol` is what the sensor is said to
    /// speak: the capture knows better, and a difference is worth a warning.
    ///
    /// # Errors
    /// When the file cannot be read, or this program does not know its version.
    pub fn new(file: File, published_to: u64, protocol: Protocol) -> io::Result<Captured> {
        let mut captured = Captured {
            reader: Reader::new(Positioned { file, at: 0 }),
            playback: Playback::default(),
            account: Account::default(),
            published_to,
            protocol,
            found: VecDeque::new(),
            begin_ms: None,
            ended: false,
        };
        // The header, and with the first record the time of its begin.
        while captured.begin_ms.is_none() && !captured.ended {
            captured.take(None)?;
        }
        Ok(captured)
    }

    /// When the recording began, on its clock.
    pub fn begin_ms(&self) -> Option<i64> {
        self.begin_ms
    }

    /// The next message that reports something, if the next item of the file has one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(&mut self, tally: &Tally) -> io::Result<Option<Found>> {
        if self.found.is_empty() && !self.ended {
            self.take(Some(tally))?;
        }
        Ok(self.found.pop_front())
    }

    /// Whether nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended && self.found.is_empty()
    }

    /// Takes the next item of the file.
    fn take(&mut self, tally: Option<&Tally>) -> io::Result<()> {
        let offset = self.reader.position();
        let item = self.reader.next_item()?;
        self.account.item(&item);
        match &item {
            Item::Header(header) => said(header, self.protocol),
            Item::Record(record) => {
                let time_ms = (record.at.monotonic_ns / 1_000_000) as i64;
                self.begin_ms.get_or_insert(time_ms);
                if let (Some(tally), What::Bytes { .. }) = (tally, record.what) {
                    tally.bytes(record.data.len());
                }
            }
            Item::End { .. } => self.ended = true,
            Item::Damaged { .. } => {}
        }
        let mut played = Vec::new();
        let account = &mut self.account;
        self.playback
            .take(item, &mut played, |remark: Remark| account.remark(remark));
        if self.ended {
            for sentence in self.account.sentences() {
                tracing::warn!("the capture {sentence}");
            }
            tracing::info!(
                "the capture is replayed: {} records",
                self.account.records()
            );
        }
        if offset < self.published_to {
            return Ok(());
        }
        for Played { at, what, .. } in played {
            match what {
                Err(reason) => tally.into_iter().for_each(|tally| tally.refused(reason)),
                Ok(message) => {
                    tally.into_iter().for_each(|t| t.message(message.refused));
                    if !message.reports.is_empty() {
                        self.found.push_back(Found {
                            message,
                            time_ms: Some((at.monotonic_ns / 1_000_000) as i64),
                            received_ms: Some(at.wall_ms),
                            offset,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says what is replayed.
fn said(header: &Header, protocol: Protocol) {
    let Header {
        sensor,
        number,
        protocol: spoken,
        ..
    } = header;
    tracing::info!(
        "replaying file {number} of a capture of sensor {sensor:?}, which spoke {spoken}"
    );
    if *spoken != protocol.name() {
        tracing::warn!(
            "the capture speaks {spoken:?} and not {}, as the sensor is said to: it is decoded as recorded",
            protocol.name()
        );
    }
}
