//! Requests, cut off the bytes of a connection one after the other.
//!
//! A body that is refused is passed over by its stated length, up to a limit. Where the end of a request cannot be known, be it that its
//! head cannot be read, nothing that follows is taken for one: what a proxy in front of us takes for a body must not be a request here.

use std::borrow::Cow;

use super::super::{Reject, Split};
use super::chunks::{self, End};
use super::request::{self, Begin, Body, HEAD_BYTES_MAX, Head};

/// Longest body that is passed over. Who sends a longer one is told that it is too long, and is not listened to any more.
const PASSED_OVER_BYTES_MAX: u64 = 1024 * 1024;

/// Requests of a connection.
pub(in crate::protocol) struct Requests {
    body_bytes_max: usize,
    state: State,
    /// The head of the request that was cut last, if it came before its body.
    ahead: Option<Vec<u8>>,
}

/// What the next bytes are.
enum State {
    /// A request.
    Between,
    /// The body to a head whose sender waits for our word (Expect: 100-continue).
    Expected(Vec<u8>),
    /// So many bytes of a body that was refused.
    Skipping(u64),
    /// Nobody knows what.
    Lost,
}

/// A request that was cut, as far as HTTP itself has a say in it.
pub(in crate::protocol) enum Cut<'a> {
    /// It is whole.
    Whole(Head<'a>, Cow<'a, [u8]>),
    /// The client wants to be told to send the body.
    Waits,
    /// It is to be answered by this status.
    Refused(Head<'a>, &'static str, Reject),
}

impl Requests {
    /// Bytes that are needed to cut any request with bodies of that length. The one more is that of a body that is too
    /// long.
    pub(in crate::protocol) const fn message_bytes_max(body_bytes_max: usize) -> usize {
        HEAD_BYTES_MAX + body_bytes_max + 1
    }

    /// A connection that has just begun. A body has at most so many bytes as it stands on the wire.
    pub(in crate::protocol) fn new(body_bytes_max: usize) -> Requests {
        Requests {
            body_bytes_max,
            state: State::Between,
            ahead: None,
        }
    }

    /// Cuts the next request, or the head of one whose sender waits with the body.
    pub(in crate::protocol) fn split(&mut self, bytes: &[u8]) -> Split {
        self.ahead = None;
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => self.request(bytes),
            State::Expected(head) => self.body_of(head, bytes),
            State::Skipping(left) if bytes.is_empty() => {
                self.state = State::Skipping(left);
                Split::Incomplete
            }
            State::Skipping(left) => {
                let consumed = left.min(bytes.len() as u64);
                if consumed < left {
                    self.state = State::Skipping(left - consumed);
                }
                rubbish(consumed as usize, Reject::TooLong)
            }
            State::Lost => {
                self.state = State::Lost;
                match bytes.len() {
                    0 => Split::Incomplete,
                    len => rubbish(len, Reject::Rubbish),
                }
            }
        }
    }

    /// Whether what is left is the start of a request: empty lines may stand between two.
    pub(in crate::protocol) fn is_part(&self, left: &[u8]) -> bool {
        matches!(self.state, State::Expected(_)) || left.iter().any(|&byte| !is_line_end(byte))
    }

    /// Whether what comes next is the body of a request that was refused.
    pub(in crate::protocol) fn passes_over(&self) -> bool {
        matches!(self.state, State::Skipping(_))
    }

    fn request(&mut self, bytes: &[u8]) -> Split {
        let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
        let full = bytes.len() >= Requests::message_bytes_max(self.body_bytes_max);
        let unread = &bytes[start..];
        let head = match request::begin(unread) {
            Begin::Request(head) => head,
            Begin::Broken(_) => {
                self.state = State::Lost;
                return Split::Message {
                    range: start..bytes.len(),
                    consumed: bytes.len(),
                };
            }
            Begin::Noise => {
                self.state = State::Lost;
                return rubbish(bytes.len(), Reject::Rubbish);
            }
            // Empty lines without end would fill the buffer of who waits for more.
            Begin::Wait if full => return rubbish(start, Reject::Rubbish),
            Begin::Wait => return Split::Incomplete,
        };
        let body = match self.waits(&head) {
            true => {
                self.state = State::Expected(unread[..head.len].to_vec());
                Some(0)
            }
            false => self.end(&head, &unread[head.len..]),
        };
        match body.map(|len| start + head.len + len) {
            Some(end) if end <= bytes.len() => Split::Message {
                range: start..end,
                consumed: end,
            },
            _ if full => rubbish(start, Reject::Rubbish),
            _ => Split::Incomplete,
        }
    }

    /// Whether the sender of this head waits with a body that would be taken. It is told to go on even if some of the body
    /// is here already, so that it does not matter how the bytes arrived.
    fn waits(&self, head: &Head) -> bool {
        head.expects
            && match head.body {
                Body::Bytes(stated) => (1..=self.body_bytes_max as u64).contains(&stated),
                Body::Chunked => true,
                Body::Encoded | Body::Unclear => false,
            }
    }

    /// Bytes up to the end of the body, as far as that is known now; those of a body that is refused are not cut.
    fn end(&mut self, head: &Head, coded: &[u8]) -> Option<usize> {
        match head.body {
            Body::Bytes(stated) if stated <= self.body_bytes_max as u64 => Some(stated as usize),
            Body::Bytes(stated) => {
                self.state = match stated <= PASSED_OVER_BYTES_MAX {
                    true => State::Skipping(stated),
                    false => State::Lost,
                };
                Some(0)
            }
            Body::Chunked => {
                // Not looked at further than it may be long, so that it does not matter how much has arrived.
                let longest = self.body_bytes_max + 1;
                let coded = &coded[..coded.len().min(longest)];
                match chunks::walk(coded, |_| ()) {
                    End::At(len) if len < longest => return Some(len),
                    End::Missing if coded.len() < longest => return None,
                    _ => {}
                }
                self.state = State::Lost;
                // What is too long is cut too long, for who reads it to see.
                let too_long = coded.len() == longest;
                Some(if too_long { longest } else { 0 })
            }
            Body::Encoded | Body::Unclear => {
                self.state = State::Lost;
                Some(0)
            }
        }
    }

    /// Cuts the body to a head that came before it.
    fn body_of(&mut self, ahead: Vec<u8>, bytes: &[u8]) -> Split {
        let Begin::Request(head) = request::begin(&ahead) else {
            return self.request(bytes);
        };
        match self.end(&head, bytes).filter(|&len| len <= bytes.len()) {
            // A body that turns out to have no end: the byte that shows it stands for it.
            Some(len) => {
                let len = len.max(1);
                self.ahead = Some(ahead);
                Split::Message {
                    range: 0..len,
                    consumed: len,
                }
            }
            None => {
                self.state = State::Expected(ahead);
                Split::Incomplete
            }
        }
    }

    /// Reads what [`Requests::split`] cut last.
    pub(in crate::protocol) fn read<'a>(&'a self, message: &'a [u8]) -> Result<Cut<'a>, Reject> {
        let mut head = match request::begin(self.ahead.as_deref().unwrap_or(message)) {
            Begin::Request(head) => head,
            Begin::Broken(reject) => {
                let status = match reject {
                    Reject::TooLong => "431 Request Header Fields Too Large",
                    _ => BAD.0,
                };
                return Ok(Cut::Refused(Head::unread(), status, reject));
            }
            Begin::Noise | Begin::Wait => return Err(Reject::Rubbish),
        };
        let coded = match self.ahead {
            Some(_) => message,
            None => &message[head.len..],
        };
        if self.ahead.is_none() && self.waits(&head) {
            return Ok(Cut::Waits);
        }
        let refused = match head.body {
            Body::Bytes(stated) if stated > self.body_bytes_max as u64 => TOO_LONG,
            Body::Chunked if coded.len() > self.body_bytes_max => TOO_LONG,
            Body::Encoded => ("501 Not Implemented", Reject::UnknownKind),
            Body::Unclear => BAD,
            Body::Bytes(stated) if stated != coded.len() as u64 => return Err(Reject::Length),
            Body::Bytes(_) => return Ok(Cut::Whole(head, coded.into())),
            Body::Chunked => {
                let mut body = Vec::with_capacity(coded.len());
                match chunks::walk(coded, |chunk| body.extend_from_slice(chunk)) {
                    End::At(_) => return Ok(Cut::Whole(head, body.into())),
                    End::Missing | End::Never => BAD,
                }
            }
        };
        // The rest of such a body may still come, and a client that was refused before it sent one may leave it out.
        head.keeps = false;
        Ok(Cut::Refused(head, refused.0, refused.1))
    }
}

const TOO_LONG: (&str, Reject) = ("413 Content Too Large", Reject::TooLong);
const BAD: (&str, Reject) = ("400 Bad Request", Reject::Length);

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}
