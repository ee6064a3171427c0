//! Sleeping without losing a wake-up, on any number of rings at a time.
//!
//! A wake is the dear part of a hand-over: 7 to 9 us for the waker and 15 to 20 us until the sleeper runs, measured
//! before any of this was written. So who is idle is woken by the first frame, and who is busy sleeps for
//! [`COALESCE`] at a time and takes what came together; an urgent frame wakes either. Nobody sleeps longer than
//! [`BACKSTOP`], whatever a peer does or fails to do.
//!
//! Bells are watched by edge and never read: each write is an edge of its own, and a bell that a peer saturates silences
//! that peer's ring only.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Consumer, Producer};
use crate::sys::control::watch;

/// Longest time for which a busy sleeper leaves frames that are not urgent lying. Three hops of it stay below 1 ms.
pub const COALESCE: Duration = Duration::from_micros(300);

/// Longest sleep.
pub const BACKSTOP: Duration = Duration::from_secs(1);

/// Frames that must have come during a busy nap for the next one to be busy too: with fewer, a wake for each is no
/// dearer than the timer.
const BUSY_FRAMES_MIN: u64 = 2;

/// How readily a sleeper wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// By the first frame or answer.
    Idle,
    /// By what is urgent, or by many frames; a timer does the rest.
    Busy,
}

/// One side of one ring, as a waiter needs it.
pub(super) trait Sleeper: Send + Sync {
    /// Says that this side sleeps, then looks once more; `false` when there is work, so that it must not sleep.
    fn nap_begin(&self, depth: Depth) -> bool;
    /// Says that this side is awake.
    fn nap_end(&self);
    /// A count that grows with what this side waits for.
    fn position(&self) -> u64;
    /// What the other side rings.
    fn bell(&self) -> &OwnedFd;
}

/// A ring's place in a [`Waiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(u64);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A ring may have something; look at all of them.
    Bell,
    /// The time is over.
    Deadline,
}

/// Waits for any of several rings.
pub struct Waiter {
    entries: Vec<Entry>,
    seats: u64,
    timer: TimerFd,
    timer_watch: AsyncFd<OwnedFd>,
    depth: Depth,
    woken_at: Instant,
}

struct Entry {
    seat: Seat,
    sleeper: Arc<dyn Sleeper>,
    bell: AsyncFd<OwnedFd>,
}

impl Waiter {
    /// A waiter without rings. Must be called on a tokio runtime, as must all that follows.
    ///
    /// # Errors
    /// What the kernel says when it makes the timer.
    pub fn new() -> io::Result<Waiter> {
        // A timer of the kernel, since tokio's own counts in whole milliseconds.
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Waiter {
            entries: Vec::new(),
            seats: 0,
            timer_watch: watch(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?,
            timer,
            depth: Depth::Idle,
            woken_at: Instant::now(),
        })
    }

    /// Waits for frames, resync requests and the close of this ring too. The consumer must have read all that was
    /// available before it waits, else the wait ends at once; a quarantined ring never ends it.
    ///
    /// # Errors
    /// What the kernel says when the bell is registered.
    pub fn add_consumer(&mut self, consumer: &Consumer) -> io::Result<Seat> {
        self.add(consumer.sleeper())
    }

    /// Waits for what [`Producer::wait_for`] says too.
    ///
    /// # Errors
    /// What the kernel says when the bell is registered.
    pub fn add_producer(&mut self, producer: &Producer) -> io::Result<Seat> {
        self.add(producer.sleeper())
    }

    fn add(&mut self, sleeper: Arc<dyn Sleeper>) -> io::Result<Seat> {
        let bell = watch(sleeper.bell().try_clone()?, Interest::READABLE)?;
        let seat = Seat(self.seats);
        self.seats += 1;
        self.entries.push(Entry {
            seat,
            sleeper,
            bell,
        });
        Ok(seat)
    }

    /// Forgets a ring.
    pub fn remove(&mut self, seat: Seat) {
        self.entries.retain(|entry| entry.seat != seat);
    }

    /// Sleeps until a ring may have something, at most for `patience` and never longer than [`BACKSTOP`]. May be
    /// cancelled at any point; nothing is lost, since the rings are looked at anew.
    pub async fn wait(&mut self, patience: Duration) -> Woken {
        let deadline = tokio::time::sleep(patience.min(BACKSTOP));
        tokio::pin!(deadline);
        let mut depth = self.depth;
        let woken = loop {
            match self.nap(depth, deadline.as_mut()).await {
                Stirred::Work => break Woken::Bell,
                Stirred::Deadline => break Woken::Deadline,
                // A whole busy nap without a frame: idle now.
                Stirred::Quiet => depth = Depth::Idle,
                Stirred::Few => {
                    depth = Depth::Idle;
                    break Woken::Bell;
                }
            }
        };
        let now = Instant::now();
        // Two wakes within one nap's length: from here on it is cheaper to gather.
        if depth == Depth::Idle && woken == Woken::Bell && now - self.woken_at < COALESCE {
            depth = Depth::Busy;
        }
        (self.depth, self.woken_at) = (depth, now);
        woken
    }

    async fn nap(
        &self,
        depth: Depth,
        mut deadline: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Stirred {
        let before = self.position();
        let naps = Naps(&self.entries);
        let mut work = false;
        // All are asked, also after one that has work: a nap must have begun before it can end.
        for entry in &self.entries {
            work |= !entry.sleeper.nap_begin(depth);
        }
        if work {
            drop(naps);
            // Under full load nobody ever sleeps; the other tasks of this thread get their turn all the same.
            tokio::task::yield_now().await;
            return Stirred::Work;
        }
        let timer_at = match depth {
            Depth::Idle => None,
            Depth::Busy => self.start_timer(),
        };
        let cause = poll_fn(|cx| {
            let rung = self.poll_bells(cx);
            if rung {
                return Poll::Ready(Cause::Bell);
            }
            if let Some(at) = timer_at
                && self.poll_timer(cx, at)
            {
                return Poll::Ready(Cause::Timer);
            }
            deadline.as_mut().poll(cx).map(|()| Cause::Deadline)
        })
        .await;
        drop(naps);
        let came = self.position().wrapping_sub(before);
        match cause {
            Cause::Bell => Stirred::Work,
            Cause::Deadline => Stirred::Deadline,
            Cause::Timer if came == 0 => Stirred::Quiet,
            Cause::Timer if came < BUSY_FRAMES_MIN => Stirred::Few,
            Cause::Timer => Stirred::Work,
        }
    }

    fn position(&self) -> u64 {
        let positions = self.entries.iter().map(|entry| entry.sleeper.position());
        positions.fold(0, u64::wrapping_add)
    }

    /// Whether any bell was rung since the last call. Looks at all, so that a second one does not end the next wait.
    fn poll_bells(&self, cx: &mut Context<'_>) -> bool {
        let mut rung = false;
        for entry in &self.entries {
            rung |= poll_edge(&entry.bell, cx);
        }
        rung
    }

    /// Starts the timer and returns when it ends; `None` if it cannot be started, and the backstop must do.
    fn start_timer(&self) -> Option<Instant> {
        let expiration = Expiration::OneShot(TimeSpec::from_duration(COALESCE));
        let at = Instant::now() + COALESCE;
        let started = self.timer.set(expiration, TimerSetTimeFlags::empty());
        started.ok().map(|()| at)
    }

    /// Whether the timer that ends `at` has ended. An edge before that is one of the nap before, whose timer ran on.
    fn poll_timer(&self, cx: &mut Context<'_>, at: Instant) -> bool {
        while poll_edge(&self.timer_watch, cx) {
            if Instant::now() >= at {
                return true;
            }
        }
        false
    }
}

/// Whether an edge came; if not, the task is woken by the next one. The file is not read: clearing what tokio remembers
/// of the edge is enough.
fn poll_edge(file: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> bool {
    let mut seen = false;
    while let Poll::Ready(ready) = file.poll_read_ready(cx) {
        match ready {
            Ok(mut guard) => {
                guard.clear_ready();
                seen = true;
            }
            // The runtime shuts down: the caller is about to be dropped.
            Err(_) => break,
        }
    }
    seen
}

enum Cause {
    Bell,
    Timer,
    Deadline,
}

enum Stirred {
    /// There is work.
    Work,
    /// The timer ended and so little came that waiting for it does not pay.
    Few,
    /// The timer ended and nothing came.
    Quiet,
    /// The time is over.
    Deadline,
}

/// Ends the naps of all entries, also when the wait is cancelled.
struct Naps<'a>(&'a [Entry]);

impl Drop for Naps<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|entry| entry.sleeper.nap_end());
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::PollTimeout;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
    use nix::sys::eventfd::EfdFlags;

    use super::super::{Geometry, Outcome, RingOwner};
    use super::*;

    /// How long a test waits for what must come; nothing is asserted on how fast it comes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn ring(slots: u32) -> (RingOwner, Producer, Consumer) {
        let geometry = Geometry {
            slots,
            stride: 64,
            answers: 4,
        };
        let owner = RingOwner::create(geometry, 1, 1).unwrap();
        let producer = Producer::attach(&owner.producer_fds().unwrap()).unwrap();
        let consumer = Consumer::attach(&owner.consumer_fds().unwrap()).unwrap();
        (owner, producer, consumer)
    }

    /// Times that a bell was rung since the last call: tests may read it.
    fn rings(bell: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        match nix::unistd::read(bell, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Reads all that is there and frees it.
    fn drain(consumer: &mut Consumer) -> u64 {
        let mut record = Vec::new();
        let count = consumer.available().unwrap();
        for seq in consumer.head()..consumer.head() + count {
            consumer.read(seq, &mut record).unwrap();
        }
        consumer.advance(consumer.tail());
        count
    }

    #[test]
    fn an_idle_sleeper_is_rung_once_and_one_that_is_awake_never() {
        let (_owner, mut producer, mut consumer) = ring(8);
        let sleeper = consumer.sleeper();
        producer.try_publish(&[b"a"], false).unwrap();
        assert_eq!(rings(sleeper.bell()), 0);
        drain(&mut consumer);
        assert!(sleeper.nap_begin(Depth::Idle));
        for _ in 0..3 {
            producer.try_publish(&[b"b"], true).unwrap();
        }
        assert_eq!(rings(sleeper.bell()), 1);
        sleeper.nap_end();
        assert!(!sleeper.nap_begin(Depth::Idle), "there is work");
    }

    #[test]
    fn a_busy_sleeper_is_rung_by_a_quarter_of_the_ring_or_by_what_is_urgent() {
        for urgent in [false, true] {
            let (_owner, mut producer, consumer) = ring(16);
            let sleeper = consumer.sleeper();
            assert!(sleeper.nap_begin(Depth::Busy));
            for _ in 0..3 {
                producer.try_publish(&[b"a"], false).unwrap();
            }
            assert_eq!(rings(sleeper.bell()), 0);
            producer.try_publish(&[b"b"], urgent).unwrap();
            assert_eq!(rings(sleeper.bell()), 1);
        }
        let (_owner, mut producer, consumer) = ring(16);
        assert!(consumer.sleeper().nap_begin(Depth::Busy));
        producer.try_publish(&[b"a"], true).unwrap();
        assert_eq!(rings(consumer.sleeper().bell()), 1);
    }

    #[test]
    fn a_resync_request_wakes_and_is_seen_before_the_next_sleep() {
        let (_owner, mut producer, consumer) = ring(8);
        let sleeper = consumer.sleeper();
        assert!(sleeper.nap_begin(Depth::Busy));
        producer.request_resync();
        assert_eq!(rings(sleeper.bell()), 1);
        sleeper.nap_end();
        producer.request_resync();
        assert!(!sleeper.nap_begin(Depth::Idle));
    }

    #[test]
    fn the_end_of_a_producer_rings_whether_the_consumer_sleeps_or_not() {
        let (owner, producer, consumer) = ring(8);
        producer.close();
        assert_eq!(rings(consumer.sleeper().bell()), 1);
        owner.close();
        assert_eq!(rings(consumer.sleeper().bell()), 1);
    }

    #[test]
    fn a_producer_is_rung_for_the_room_that_it_waits_for() {
        let (_owner, mut producer, mut consumer) = ring(4);
        producer
            .try_publish(&[b"a", b"b", b"c", b"d"], false)
            .unwrap();
        producer.wait_for(2, false);
        let sleeper = producer.sleeper();
        assert!(sleeper.nap_begin(Depth::Busy), "room cannot wait");
        consumer.available().unwrap();
        consumer.advance(1);
        consumer.wake_producer();
        assert_eq!(rings(sleeper.bell()), 0, "one slot is too few");
        consumer.set_outcome(0, 0, Outcome::Accepted);
        consumer.wake_producer();
        assert_eq!(rings(sleeper.bell()), 0, "answers are not waited for");
        consumer.advance(2);
        consumer.wake_producer();
        consumer.advance(3);
        consumer.wake_producer();
        assert_eq!(rings(sleeper.bell()), 1);
        sleeper.nap_end();
        assert!(!sleeper.nap_begin(Depth::Idle), "there is room");
    }

    #[test]
    fn a_producer_is_rung_for_answers_unless_it_gathers_them() {
        let (_owner, producer, mut consumer) = ring(4);
        producer.wait_for(0, true);
        let sleeper = producer.sleeper();
        assert!(sleeper.nap_begin(Depth::Idle));
        consumer.set_outcome(1, 0, Outcome::Accepted);
        consumer.wake_producer();
        assert_eq!(rings(sleeper.bell()), 1);
        sleeper.nap_end();
        assert!(sleeper.nap_begin(Depth::Busy));
        consumer.set_outcome(1, 1, Outcome::Accepted);
        consumer.wake_producer();
        assert_eq!(rings(sleeper.bell()), 0);
        sleeper.nap_end();
        consumer.set_outcome(1, 2, Outcome::Accepted);
        consumer.wake_producer();
        assert!(!sleeper.nap_begin(Depth::Idle), "an answer came meanwhile");
    }

    #[test]
    fn a_successor_of_a_sleeper_that_died_asleep_is_rung_again() {
        let (owner, mut producer, consumer) = ring(4);
        assert!(consumer.sleeper().nap_begin(Depth::Idle));
        producer.try_publish(&[b"a"], false).unwrap();
        let mut consumer = Consumer::attach(&owner.consumer_fds().unwrap()).unwrap();
        let sleeper = consumer.sleeper();
        assert_eq!(rings(sleeper.bell()), 1);
        drain(&mut consumer);
        assert!(sleeper.nap_begin(Depth::Idle));
        producer.try_publish(&[b"b"], false).unwrap();
        assert_eq!(rings(sleeper.bell()), 1);
    }

    #[test]
    fn a_quarantined_ring_keeps_nobody_awake_and_a_saturated_bell_nobody_waiting() {
        let (owner, mut producer, mut consumer) = ring(4);
        producer.try_publish(&[b"a"], false).unwrap();
        let fds = owner.producer_fds().unwrap();
        let region = crate::sys::region::WriteRegion::map(fds.producer_region.as_fd(), 0).unwrap();
        region.store(0, u64::MAX, std::sync::atomic::Ordering::Release);
        assert!(!consumer.sleeper().nap_begin(Depth::Idle));
        assert!(consumer.available().is_err());
        assert!(consumer.sleeper().nap_begin(Depth::Idle));
        nix::unistd::write(&fds.consumer_bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        producer.try_publish(&[b"b"], true).unwrap();
    }

    /// Sleeps on a bell as a role does, by edge and without reading it, but without a backstop: a wake-up that is lost
    /// is a panic.
    struct Bed {
        epoll: Epoll,
        sleeper: Arc<dyn Sleeper>,
        naps: u64,
    }

    impl Bed {
        fn new(sleeper: Arc<dyn Sleeper>) -> Bed {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll
                .add(sleeper.bell(), EpollEvent::new(flags, 0))
                .unwrap();
            Bed {
                epoll,
                sleeper,
                naps: 0,
            }
        }

        fn sleep(&mut self) {
            if self.sleeper.nap_begin(Depth::Idle) {
                let mut events = [EpollEvent::empty()];
                let timeout = PollTimeout::try_from(PATIENCE).unwrap();
                let woken = self.epoll.wait(&mut events, timeout).unwrap();
                assert_eq!(woken, 1, "a wake-up was lost");
                self.naps += 1;
            }
            self.sleeper.nap_end();
        }
    }

    #[test]
    fn no_wake_up_is_lost_when_both_sides_sleep_whenever_they_can() {
        const FRAMES: u64 = 50_000;
        let (_owner, mut producer, mut consumer) = ring(2);
        let writing = std::thread::spawn(move || {
            let mut bed = Bed::new(producer.sleeper());
            while producer.tail() < FRAMES {
                // Every third frame is sent into an empty ring only, so that the consumer is caught falling asleep.
                let room = if producer.tail() % 3 == 0 { 2 } else { 1 };
                if producer.room() >= room {
                    let record = producer.tail().to_ne_bytes();
                    producer.try_publish(&[&record], false).unwrap();
                } else {
                    producer.wait_for(room, false);
                    bed.sleep();
                }
            }
            bed.naps
        });
        let mut bed = Bed::new(consumer.sleeper());
        let mut record = Vec::new();
        while consumer.head() < FRAMES {
            if consumer.available().unwrap() == 0 {
                bed.sleep();
                continue;
            }
            let seq = consumer.head();
            consumer.read(seq, &mut record).unwrap();
            assert_eq!(record, seq.to_ne_bytes());
            consumer.advance(seq + 1);
            consumer.wake_producer();
        }
        let slept = (bed.naps, writing.join().unwrap());
        assert!(slept.0 > 0 && slept.1 > 0, "naps: {slept:?}");
    }

    #[test]
    fn no_answer_is_lost_when_the_producer_sleeps_on_each() {
        const MESSAGES: u64 = 20_000;
        let (_owner, mut producer, mut consumer) = ring(8);
        let writing = std::thread::spawn(move || {
            let mut bed = Bed::new(producer.sleeper());
            producer.wait_for(0, true);
            for _ in 0..MESSAGES {
                let seq = producer.try_publish(&[b"m"], false).unwrap();
                while producer.outcome(0).outcome_of(seq) == Outcome::Pending {
                    bed.sleep();
                }
            }
        });
        let mut bed = Bed::new(consumer.sleeper());
        while consumer.head() < MESSAGES {
            let head = consumer.head();
            if drain(&mut consumer) == 0 {
                bed.sleep();
                continue;
            }
            for seq in head..consumer.head() {
                consumer.set_outcome(0, seq, Outcome::Accepted);
            }
            consumer.wake_producer();
        }
        writing.join().unwrap();
    }

    #[tokio::test]
    async fn a_waiter_hears_several_rings_and_all_frames_arrive() {
        const FRAMES: u64 = 20_000;
        let mut waiter = Waiter::new().unwrap();
        let mut consumers = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..3 {
            let (owner, mut producer, consumer) = ring(64);
            waiter.add_consumer(&consumer).unwrap();
            consumers.push(consumer);
            writers.push(std::thread::spawn(move || {
                while producer.tail() < FRAMES {
                    // Runs of full speed and of single frames.
                    if producer.try_publish(&[b"f"], false).is_err() || producer.tail() % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
                producer.close();
                drop(owner);
            }));
        }
        while consumers.iter().any(|consumer| consumer.head() < FRAMES) {
            consumers.iter_mut().map(drain).for_each(drop);
            waiter.wait(BACKSTOP).await;
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        assert!(consumers.iter().all(Consumer::closed));
    }

    #[tokio::test]
    async fn a_wait_that_is_cancelled_leaves_its_side_awake() {
        let (_owner, mut producer, mut consumer) = ring(8);
        let mut waiter = Waiter::new().unwrap();
        waiter.add_consumer(&consumer).unwrap();
        tokio::select! {
            biased;
            _ = waiter.wait(BACKSTOP) => panic!("there is nothing"),
            () = tokio::task::yield_now() => {}
        }
        producer.try_publish(&[b"a"], true).unwrap();
        assert_eq!(rings(consumer.sleeper().bell()), 0);
        assert_eq!(waiter.wait(BACKSTOP).await, Woken::Bell);
        assert_eq!(drain(&mut consumer), 1);
    }

    #[tokio::test]
    async fn a_wait_for_nothing_ends_at_its_deadline_in_either_depth() {
        let (_owner, _producer, consumer) = ring(8);
        let mut waiter = Waiter::new().unwrap();
        let seat = waiter.add_consumer(&consumer).unwrap();
        for depth in [Depth::Idle, Depth::Busy] {
            waiter.depth = depth;
            let patience = Duration::from_millis(20);
            assert_eq!(waiter.wait(patience).await, Woken::Deadline);
        }
        waiter.remove(seat);
        assert!(waiter.entries.is_empty());
    }

    #[tokio::test]
    async fn a_busy_waiter_takes_what_the_timer_finds() {
        let (_owner, mut producer, mut consumer) = ring(64);
        let mut waiter = Waiter::new().unwrap();
        waiter.add_consumer(&consumer).unwrap();
        waiter.depth = Depth::Busy;
        let (woken, ()) = tokio::join!(waiter.wait(BACKSTOP), async {
            for _ in 0..BUSY_FRAMES_MIN {
                producer.try_publish(&[b"a"], false).unwrap();
            }
        });
        assert_eq!((woken, waiter.depth), (Woken::Bell, Depth::Busy));
        assert_eq!(rings(consumer.sleeper().bell()), 0);
        assert_eq!(drain(&mut consumer), BUSY_FRAMES_MIN);
    }

    #[test]
    fn bells_do_not_block() {
        let (owner, _producer, _consumer) = ring(4);
        let fds = owner.consumer_fds().unwrap();
        for bell in [&fds.consumer_bell, &fds.producer_bell] {
            let flags = nix::fcntl::fcntl(bell, nix::fcntl::FcntlArg::F_GETFL).unwrap();
            assert_ne!(flags & EfdFlags::EFD_NONBLOCK.bits(), 0);
        }
    }
}
