//! The consumer of two rings in one waiter: an honest one, and a hostile one that is replaced as often as the parent says,
//! while it runs, as the classifier has it.
//!
//! What the hostile producer does must never end this process, never stop it, never touch the honest ring; a frame that
//! its producer did not write validly must never be taken.

use std::os::fd::{AsFd, OwnedFd};

use ringway::ring::{BACKSTOP, Consumer, RingFds, Seat, Violation, Waiter};
use ringway::sys::control::{AsyncChannel, Channel};

use super::child::block_on;
use super::consumer::Taker;
use super::ledger::{Fault, Ledger};
use super::message::{self, Head};

/// Frames that are taken from the hostile ring before the honest one has its turn.
const TURN_FRAMES: u64 = 16;

/// Serves until the control channel ends.
pub fn run(fds: Vec<OwnedFd>, channel: Channel) {
    let mut fds = fds.into_iter();
    let ring = RingFds::take(&mut fds).expect("the descriptors of a ring");
    let ledger = Ledger::map(fds.next().expect("a ledger").as_fd());
    block_on(serve(ring, &ledger, channel));
}

async fn serve(honest: RingFds, ledger: &Ledger, channel: Channel) {
    let channel = AsyncChannel::new(channel).expect("a channel on a runtime");
    let mut waiter = Waiter::new().expect("a waiter");
    let consumer = Consumer::attach(&honest).expect("the honest ring");
    waiter.add_consumer(&consumer).expect("a seat");
    let mut honest = Taker::new(consumer, ledger);
    let mut hostile: Option<Suspect> = None;
    loop {
        if let Err((fault, at)) = honest.batch() {
            return ledger.fault(fault, at);
        }
        if let Some(suspect) = &mut hostile {
            match suspect.turn() {
                Ok(()) => {}
                Err(Finding::Violation(violation)) => {
                    ledger.note_violation(suspect.birth(), violation.into());
                }
                Err(Finding::Invented(seq)) => return ledger.fault(Fault::Torn, seq),
            }
        }
        tokio::select! {
            biased;
            received = channel.recv::<u64>() => match received {
                Ok(Some((_, fds))) => {
                    let fds = RingFds::take(&mut fds.into_iter()).expect("a ring");
                    let suspect = Suspect::new(&fds, &mut waiter, hostile.take());
                    ledger.note_serving(suspect.birth());
                    hostile = Some(suspect);
                }
                _ => return,
            },
            _ = waiter.wait(BACKSTOP) => {}
        }
    }
}

/// What came of looking at the hostile ring.
enum Finding {
    Violation(Violation),
    /// A frame passed all checks although nobody wrote it.
    Invented(u64),
}

/// The hostile ring.
struct Suspect {
    consumer: Consumer,
    seat: Seat,
    record: Vec<u8>,
}

impl Suspect {
    fn new(fds: &RingFds, waiter: &mut Waiter, before: Option<Suspect>) -> Suspect {
        if let Some(before) = before {
            waiter.remove(before.seat);
        }
        let consumer = Consumer::attach(fds).expect("a fresh ring");
        Suspect {
            seat: waiter.add_consumer(&consumer).expect("a seat"),
            consumer,
            record: Vec::new(),
        }
    }

    fn birth(&self) -> u64 {
        self.consumer.identity().birth
    }

    /// Takes what is there as far as it is good, and frees it.
    fn turn(&mut self) -> Result<(), Finding> {
        if self.consumer.violation().is_some() {
            return Ok(());
        }
        let answers = u64::from(self.consumer.identity().geometry.answers);
        let head = self.consumer.head();
        let available = self.consumer.available().map_err(Finding::Violation)?;
        for seq in head..head + available.min(TURN_FRAMES) {
            self.consumer
                .read(seq, &mut self.record)
                .map_err(Finding::Violation)?;
            let said = Head::decode(&self.record).filter(|said| said.seq == seq);
            let said = said.ok_or(Finding::Invented(seq))?;
            let (first, outcome) = (said.first_seq(), message::outcome(said.first_seq()));
            self.consumer
                .set_outcome((first % answers) as u32, first, outcome);
            self.consumer.advance(seq + 1);
        }
        self.consumer.wake_producer();
        Ok(())
    }
}
