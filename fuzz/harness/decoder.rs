//! A decoder under any stream of bytes, cut into any reads.
//!
//! Nothing panics; a message is cut where its bytes are; what comes out is the same however the bytes arrive, and the
//! same as if the messages that were refused had never been read; positions are on the globe; what one message makes
//! the decoder hold is bounded.

use ringway::frame::{DeviceId, FixFields};
use ringway::protocol::{Arrival, Envelope, Message, Protocol, Reject, Session, Settings, Split};

/// Most memory that reading one message may take, bytes.
pub const MESSAGE_MEMORY_BYTES_MAX: usize = 64 * 1024;

/// Most memory that reading one request may take: its body, joined, beside what its messages say and what they are
/// answered.
pub const REQUEST_MEMORY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an input before the stream: the settings, and the length of the reads.
const HEAD_BYTES: usize = 2;

/// Bits of the first byte.
mod setting {
    pub const LENIENT: u8 = 1;
    pub const RECORDED: u8 = 1 << 1;
    pub const PER_MESSAGE: u8 = 1 << 2;
    pub const NAMED: u8 = 1 << 3;
    /// Two bits, for requests: what their bodies hold.
    pub const INNER: u32 = 4;
}

/// What the bodies of requests hold.
const INNER: [Protocol; 4] = [
    Protocol::Json,
    Protocol::Teltonika,
    Protocol::Nmea,
    Protocol::Auto,
];

/// A moment in 2026.
const NOW: Arrival = Arrival {
    wall_ms: 1_790_000_000_000,
};

/// Messages that may be under construction at a time: gpsd passes on several receivers.
const FLUSHED_MAX: usize = 16;

/// Measures the most memory that a call takes, bytes.
pub type Meter = fn(&mut dyn FnMut()) -> usize;

/// What came of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Messages that were read.
    pub read: u64,
    /// Messages, or bytes that are none, that were refused.
    pub refused: u64,
    /// Positions.
    pub positions: u64,
    /// Most memory that one message took, bytes; zero without a meter.
    pub message_memory_bytes: usize,
}

/// Runs an input. `meter` measures the most memory that a call takes; without one, memory is not judged.
///
/// # Panics
/// When a promise is broken.
pub fn run(protocol: Protocol, bytes: &[u8], meter: Option<Meter>) -> Seen {
    run_in(Envelope::Bare, protocol, bytes, meter)
}

/// Runs an input of requests, whose first byte also says what their bodies hold.
///
/// # Panics
/// When a promise is broken.
pub fn run_requests(bytes: &[u8], meter: Option<Meter>) -> Seen {
    let bits = bytes.first().copied().unwrap_or_default();
    let inner = INNER[usize::from(bits >> setting::INNER) % INNER.len()];
    run_in(Envelope::Http, inner, bytes, meter)
}

fn run_in(envelope: Envelope, protocol: Protocol, bytes: &[u8], meter: Option<Meter>) -> Seen {
    let Some((&[bits, read_bytes], stream)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Seen::default();
    };
    let settings = Settings {
        lenient: bits & setting::LENIENT != 0,
        recorded: bits & setting::RECORDED != 0,
        device: (bits & setting::NAMED != 0)
            .then(|| DeviceId::new(b"fuzzed"))
            .flatten(),
        ..Settings::default()
    };
    let per_message = envelope == Envelope::Bare && bits & setting::PER_MESSAGE != 0;
    let open = || match per_message {
        true => Session::per_message(protocol, &settings),
        false => Session::enveloped(envelope, protocol, &settings),
    };
    let (message_bytes_max, memory_bytes_max) = match envelope {
        Envelope::Bare => (protocol.message_bytes_max(), MESSAGE_MEMORY_BYTES_MAX),
        Envelope::Http => (
            envelope.message_bytes_max(protocol),
            REQUEST_MEMORY_BYTES_MAX,
        ),
    };
    let mut seen = Seen::default();
    let mut whole = Reading::new(message_bytes_max, open(), meter);
    whole.feed(stream);
    whole.end();
    for outcome in &whole.outcomes {
        match outcome {
            Ok(message) => {
                seen.read += 1;
                seen.positions += judge(message, stream.len());
            }
            Err(_) => seen.refused += 1,
        }
    }
    seen.message_memory_bytes = whole.memory_bytes;
    assert!(
        seen.message_memory_bytes <= memory_bytes_max,
        "one message took {} bytes",
        seen.message_memory_bytes
    );

    let mut pieces = Reading::new(message_bytes_max, open(), None);
    for piece in stream.chunks(1 + usize::from(read_bytes)) {
        pieces.feed(piece);
    }
    pieces.end();
    assert!(pieces.read().eq(whole.read()), "in other reads");

    if whole.decoded.contains(&true) {
        let mut spared = Reading::new(message_bytes_max, open(), None);
        spared.spare = Some(whole.decoded.clone());
        spared.feed(stream);
        spared.end();
        assert!(
            spared.read().eq(whole.read()),
            "a refused message left a trace"
        );
    }
    seen
}

/// A stream on its way through a session.
struct Reading {
    message_bytes_max: usize,
    session: Session,
    unread: Vec<u8>,
    outcomes: Vec<Result<Message, Reject>>,
    /// For each message that was read, whether it was refused.
    decoded: Vec<bool>,
    /// Messages that are not read at all: those for which this is true.
    spare: Option<Vec<bool>>,
    messages: usize,
    meter: Option<Meter>,
    memory_bytes: usize,
}

impl Reading {
    fn new(message_bytes_max: usize, session: Session, meter: Option<Meter>) -> Reading {
        Reading {
            message_bytes_max,
            session,
            unread: Vec::new(),
            outcomes: Vec::new(),
            decoded: Vec::new(),
            spare: None,
            messages: 0,
            meter,
            memory_bytes: 0,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
        let mut taken = 0;
        loop {
            let rest = &self.unread[taken..];
            match self.session.split(rest) {
                Split::Message { range, consumed } => {
                    assert!(range.start <= range.end && range.end <= consumed);
                    assert!(consumed > 0 && consumed <= rest.len());
                    let (from, to) = (taken + range.start, taken + range.end);
                    taken += consumed;
                    self.message(from, to);
                }
                Split::Rubbish { consumed, reason } => {
                    assert!(consumed > 0 && consumed <= rest.len());
                    taken += consumed;
                    self.outcomes.push(Err(reason));
                }
                Split::Incomplete => {
                    assert!(
                        rest.len() < self.message_bytes_max,
                        "waits for more than the longest message"
                    );
                    break;
                }
            }
        }
        self.unread.drain(..taken);
    }

    /// The messages that were taken.
    fn read(&self) -> impl Iterator<Item = &Message> {
        self.outcomes.iter().flatten()
    }

    fn message(&mut self, from: usize, to: usize) {
        let number = self.messages;
        self.messages += 1;
        if self.spare.as_ref().is_some_and(|spare| spare[number]) {
            return;
        }
        let (session, message) = (&mut self.session, &self.unread[from..to]);
        let mut outcome = Err(Reject::Rubbish);
        let mut decode = || outcome = session.decode(message, NOW);
        match self.meter {
            Some(meter) => self.memory_bytes = self.memory_bytes.max(meter(&mut decode)),
            None => decode(),
        }
        self.decoded.push(outcome.is_err());
        self.outcomes.push(outcome);
    }

    fn end(&mut self) {
        let _ = self.session.is_part(&self.unread);
        let unread_bytes = self.unread.len();
        for given in 0.. {
            let Some(message) = self.session.flush() else {
                break;
            };
            assert!(given < FLUSHED_MAX, "{unread_bytes} bytes give no end");
            self.outcomes.push(Ok(message));
        }
    }
}

/// What holds for every message; counts its positions.
fn judge(message: &Message, stream_bytes: usize) -> u64 {
    assert!(!message.kind.is_empty(), "a message has a kind");
    assert!(message.reports.len() <= stream_bytes);
    let mut positions = 0;
    for report in &message.reports {
        let fix = &report.fix;
        assert!(fix.in_range(), "{fix:?}");
        // A recorded sentence may be valid without a date.
        assert!(
            !fix.fields.has(FixFields::VALID) || fix.fields.has(FixFields::POSITION),
            "valid without a place: {fix:?}"
        );
        positions += u64::from(fix.fields.has(FixFields::POSITION));
    }
    positions
}
