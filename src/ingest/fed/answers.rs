//! Answers on their way to who feeds: written as far as the kernel takes them, the rest kept, within a limit.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes of answers that are kept while nobody reads them; further answers are withheld.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Where the answers of a feed go.
#[derive(Debug)]
pub struct Answers {
    to: File,
    /// Nobody reads them any more.
    gone: bool,
    unsent: VecDeque<Vec<u8>>,
    unsent_bytes: usize,
    /// Bytes of the first of them that are written.
    written: usize,
}

impl Answers {
    /// They go to `to`, which never blocks.
    pub fn new(to: File) -> Answers {
        Answers {
            to,
            gone: false,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            written: 0,
        }
    }

    /// The file, to wait for.
    pub fn file(&self) -> &File {
        &self.to
    }

    /// Whether somebody may still read them: a program that has ended does not.
    pub fn has_reader(&self) -> bool {
        let mut polled = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        let polled = match poll(&mut polled, PollTimeout::ZERO) {
            Ok(_) => polled[0].revents(),
            Err(_) => None,
        };
        !self.gone && !polled.is_some_and(|found| found.contains(PollFlags::POLLERR))
    }

    /// Takes an answer to write; `false`: it is withheld, because too many are kept or nobody reads them.
    pub fn push(&mut self, answer: &[u8]) -> bool {
        let taken = !self.gone && self.unsent_bytes + answer.len() <= UNSENT_BYTES_MAX;
        if taken {
            self.unsent_bytes += answer.len();
            self.unsent.push_back(answer.to_vec());
        }
        taken
    }

    /// Answers not written in whole.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Writes what is kept, as far as the kernel takes it; says how many answers are withheld for good, because their
    /// reader is gone.
    pub fn write(&mut self) -> usize {
        while let Some(first) = self.unsent.front() {
            match self.to.write(&first[self.written..]) {
                Ok(bytes) => {
                    self.written += bytes;
                    self.unsent_bytes -= bytes;
                    if self.written == first.len() {
                        self.unsent.pop_front();
                        self.written = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
                Err(_) => {
                    self.gone = true;
                    (self.unsent_bytes, self.written) = (0, 0);
                    return self.unsent.drain(..).count();
                }
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    fn answers() -> (Answers, File) {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        (Answers::new(writer.into()), reader.into())
    }

    #[test]
    fn a_reader_that_is_gone_is_seen_before_anything_is_written() {
        let (answers, reader) = answers();
        assert!(answers.has_reader());
        drop(reader);
        assert!(!answers.has_reader());
    }

    #[test]
    fn answers_that_nobody_reads_are_kept_up_to_a_limit_and_none_is_cut() {
        let (mut answers, mut reader) = answers();
        let answer = |number: usize| format!("answer {number:08}\n").into_bytes();
        let mut taken = Vec::new();
        let mut number = 0;
        loop {
            if answers.push(&answer(number)) {
                taken.extend(answer(number));
            } else {
                break;
            }
            assert_eq!(answers.write(), 0);
            number += 1;
        }
        // What a pipe holds, by pipe(7), and the limit here.
        assert_eq!(taken.len(), 2 * 64 * 1024);
        let mut read = Vec::<u8>::new();
        let mut bytes = [0; 1_000];
        while read.len() < taken.len() {
            match reader.read(&mut bytes) {
                Ok(count) => read.extend(&bytes[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert_eq!(answers.write(), 0);
        }
        assert_eq!(read, taken);
        assert!(answers.push(&answer(0)));
    }

    #[test]
    fn answers_whose_reader_is_gone_are_withheld_and_counted() {
        let (mut answers, reader) = answers();
        drop(reader);
        assert!(answers.push(b"one") && answers.push(b"two"));
        assert_eq!((answers.write(), answers.unsent()), (2, 0));
        assert!(!answers.push(b"three"));
    }
}
