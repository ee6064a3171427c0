//! Naps and bells: each rule alone, then both sides asleep whenever they can be.

use nix::fcntl::{FcntlArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EfdFlags;

use super::super::{Geometry, Outcome, RingFds, RingOwner};
use super::*;

/// How long a test waits for what must come; nothing is asserted on how fast it comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A ring's owner, and what both sides were attached by.
struct Ring {
    owner: RingOwner,
    producer_fds: RingFds,
    consumer_fds: RingFds,
}

impl Ring {
    /// Times that the producer rang its consumer since the last call.
    fn consumer_rung(&self) -> u64 {
        rings(&self.producer_fds.consumer_bell)
    }

    /// Times that the consumer rang its producer since the last call.
    fn producer_rung(&self) -> u64 {
        rings(&self.consumer_fds.producer_bell)
    }
}

fn ring(slots: u32) -> (Ring, Producer, Consumer) {
    let geometry = Geometry {
        slots,
        stride: 64,
        answers: 4,
    };
    let owner = RingOwner::create(geometry, 1, 1).unwrap();
    let producer_fds = owner.producer_fds().unwrap();
    let consumer_fds = owner.consumer_fds().unwrap();
    let producer = Producer::attach(&producer_fds).unwrap();
    let consumer = Consumer::attach(&consumer_fds).unwrap();
    let ring = Ring {
        owner,
        producer_fds,
        consumer_fds,
    };
    (ring, producer, consumer)
}

/// Times that an eventfd was written since the last call: tests may read it.
fn rings(bell: impl AsFd) -> u64 {
    let mut count = [0; 8];
    match nix::unistd::read(bell, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

fn is_ready(ear: impl AsFd) -> bool {
    let mut polled = [PollFd::new(ear.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
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
    let (ring, mut producer, mut consumer) = ring(8);
    let sleeper = consumer.sleeper();
    producer.try_publish(&[b"a"], false).unwrap();
    assert_eq!(ring.consumer_rung(), 0);
    drain(&mut consumer);
    assert!(sleeper.nap_begin(Depth::Idle));
    for _ in 0..3 {
        producer.try_publish(&[b"b"], true).unwrap();
    }
    assert_eq!(ring.consumer_rung(), 1);
    sleeper.nap_end();
    sleeper.look();
    assert!(!sleeper.nap_begin(Depth::Idle), "there is work");
}

#[test]
fn a_producer_that_gathers_rings_when_it_hands_over_and_for_what_is_urgent_or_many() {
    let (ring, mut producer, consumer) = ring(256);
    let sleeper = consumer.sleeper();
    producer.gather();
    let mut rings_in_a_nap = |act: &mut dyn FnMut(&mut Producer)| {
        sleeper.nap_begin(Depth::Idle);
        act(&mut producer);
        sleeper.nap_end();
        ring.consumer_rung()
    };
    let publish = |producer: &mut Producer, urgent| {
        producer.try_publish(&[b"a"], urgent).unwrap();
    };
    assert_eq!(rings_in_a_nap(&mut |p| publish(p, false)), 0);
    assert_eq!(rings_in_a_nap(&mut Producer::hand_over), 1);
    assert_eq!(rings_in_a_nap(&mut Producer::hand_over), 0, "nothing new");
    assert_eq!(rings_in_a_nap(&mut |p| publish(p, true)), 1);
    let mut many = |p: &mut Producer| (0..100).for_each(|_| publish(p, false));
    assert_eq!(rings_in_a_nap(&mut many), 1);
}

#[test]
fn a_busy_sleeper_is_rung_by_a_quarter_of_the_ring_or_by_what_is_urgent() {
    for urgent in [false, true] {
        let (ring, mut producer, consumer) = ring(16);
        let sleeper = consumer.sleeper();
        assert!(sleeper.nap_begin(Depth::Busy));
        for _ in 0..3 {
            producer.try_publish(&[b"a"], false).unwrap();
        }
        assert_eq!(ring.consumer_rung(), 0);
        producer.try_publish(&[b"b"], urgent).unwrap();
        assert_eq!(ring.consumer_rung(), 1);
    }
    let (ring, mut producer, consumer) = ring(16);
    assert!(consumer.sleeper().nap_begin(Depth::Busy));
    producer.try_publish(&[b"a"], true).unwrap();
    assert_eq!(ring.consumer_rung(), 1);
}

#[test]
fn a_resync_request_wakes_and_is_seen_before_the_next_sleep() {
    let (ring, mut producer, consumer) = ring(8);
    let sleeper = consumer.sleeper();
    assert!(sleeper.nap_begin(Depth::Busy));
    producer.request_resync();
    assert_eq!(ring.consumer_rung(), 1);
    sleeper.nap_end();
    sleeper.look();
    producer.request_resync();
    assert!(!sleeper.nap_begin(Depth::Idle));
}

#[test]
fn the_end_of_a_producer_rings_whether_the_consumer_sleeps_or_not() {
    let (ring, producer, consumer) = ring(8);
    producer.close();
    assert_eq!(ring.consumer_rung(), 1);
    // The supervisor has a bell of its own in the same set.
    assert!(!is_ready(consumer.sleeper().bell()));
    ring.owner.close();
    assert!(is_ready(consumer.sleeper().bell()));
}

#[test]
fn a_producer_is_rung_for_the_room_that_it_waits_for() {
    let (ring, mut producer, mut consumer) = ring(4);
    producer
        .try_publish(&[b"a", b"b", b"c", b"d"], false)
        .unwrap();
    producer.wait_for(2, false);
    let sleeper = producer.sleeper();
    assert!(sleeper.nap_begin(Depth::Busy), "room cannot wait");
    consumer.available().unwrap();
    consumer.advance(1);
    consumer.wake_producer();
    assert_eq!(ring.producer_rung(), 0, "one slot is too few");
    consumer.set_outcome(0, 0, Outcome::Accepted);
    consumer.wake_producer();
    assert_eq!(ring.producer_rung(), 0, "answers are not waited for");
    consumer.advance(2);
    consumer.wake_producer();
    consumer.advance(3);
    consumer.wake_producer();
    assert_eq!(ring.producer_rung(), 1);
    sleeper.nap_end();
    sleeper.look();
    assert!(!sleeper.nap_begin(Depth::Idle), "there is room");
}

#[test]
fn a_producer_is_rung_for_answers_unless_it_gathers_them() {
    let (ring, producer, mut consumer) = ring(4);
    producer.wait_for(0, true);
    let sleeper = producer.sleeper();
    assert!(sleeper.nap_begin(Depth::Idle));
    consumer.set_outcome(1, 0, Outcome::Accepted);
    consumer.wake_producer();
    assert_eq!(ring.producer_rung(), 1);
    sleeper.nap_end();
    sleeper.look();
    assert!(sleeper.nap_begin(Depth::Busy));
    consumer.set_outcome(1, 1, Outcome::Accepted);
    consumer.wake_producer();
    assert_eq!(ring.producer_rung(), 0);
    sleeper.nap_end();
    sleeper.look();
    consumer.set_outcome(1, 2, Outcome::Accepted);
    consumer.wake_producer();
    assert!(!sleeper.nap_begin(Depth::Idle), "an answer came meanwhile");
}

#[test]
fn a_producer_with_an_epoll_of_its_own_sleeps_again_after_it_was_told_of_an_answer() {
    let (_owner, producer, mut consumer) = ring(4);
    producer.wait_for(0, true);
    assert!(producer.nap_begin());
    consumer.set_outcome(0, 0, Outcome::Accepted);
    consumer.wake_producer();
    producer.nap_end();
    assert!(producer.nap_begin());
    producer.nap_end();
}

#[test]
fn a_successor_of_a_sleeper_that_died_asleep_is_rung_again() {
    let (ring, mut producer, consumer) = ring(4);
    assert!(consumer.sleeper().nap_begin(Depth::Idle));
    producer.try_publish(&[b"a"], false).unwrap();
    let mut consumer = Consumer::attach(&ring.owner.consumer_fds().unwrap()).unwrap();
    let sleeper = consumer.sleeper();
    assert_eq!(ring.consumer_rung(), 1);
    drain(&mut consumer);
    assert!(sleeper.nap_begin(Depth::Idle));
    producer.try_publish(&[b"b"], false).unwrap();
    assert_eq!(ring.consumer_rung(), 1);
}

#[test]
fn a_quarantined_ring_keeps_nobody_awake_and_a_saturated_bell_nobody_waiting() {
    let (ring, mut producer, mut consumer) = ring(4);
    producer.try_publish(&[b"a"], false).unwrap();
    let fds = &ring.producer_fds;
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
        self.sleeper.look();
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
        let (ring, mut producer, consumer) = ring(64);
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
            drop(ring);
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
    let (ring, mut producer, mut consumer) = ring(8);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_consumer(&consumer).unwrap();
    tokio::select! {
        biased;
        _ = waiter.wait(BACKSTOP) => panic!("there is nothing"),
        () = tokio::task::yield_now() => {}
    }
    producer.try_publish(&[b"a"], true).unwrap();
    assert_eq!(ring.consumer_rung(), 0);
    assert_eq!(waiter.wait(BACKSTOP).await, Woken::Bell);
    assert_eq!(drain(&mut consumer), 1);
}

#[tokio::test]
async fn an_answer_that_came_during_a_wait_that_was_cancelled_ends_the_next_one() {
    let (_owner, producer, mut consumer) = ring(8);
    producer.wait_for(0, true);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_producer(&producer).unwrap();
    // Gathering, so that no bell tells of the answer.
    waiter.depth = Depth::Busy;
    tokio::select! {
        biased;
        _ = waiter.wait(BACKSTOP) => panic!("there is nothing yet"),
        () = async {
            consumer.set_outcome(0, 0, Outcome::Accepted);
            consumer.wake_producer();
        } => {}
    }
    assert_eq!(waiter.wait(BACKSTOP).await, Woken::Bell);
    let patience = Duration::from_millis(1);
    assert_eq!(waiter.wait(patience).await, Woken::Deadline);
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
async fn a_look_finds_what_comes_while_it_lasts_without_a_nap() {
    let (ring, mut producer, mut consumer) = ring(64);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_consumer(&consumer).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = producer.try_publish(&[b"a"], false);
            }
        });
        // As after a second of work; on a machine that is busy elsewhere a look may be over before a frame comes.
        let found = std::iter::repeat_with(|| {
            waiter.awake_since.set(Instant::now() - BACKSTOP);
            waiter.spin.ended(true);
            drain(&mut consumer);
            waiter.spin()
        });
        let found = found.take(1_000_000).any(|found| found);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(found);
    });
    assert!(ring.consumer_rung() == 0, "nobody slept");
}

#[tokio::test]
async fn a_look_without_success_is_the_last_until_work_is_found_at_once_again() {
    let (_owner, mut producer, mut consumer) = ring(8);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_consumer(&consumer).unwrap();
    waiter.awake_since.set(Instant::now() - BACKSTOP);
    waiter.spin.ended(true);
    assert!(!waiter.spin());
    assert_eq!(waiter.spin.grant(BACKSTOP), Duration::ZERO);
    // What is there already is found at the first look.
    waiter.spin.ended(true);
    producer.try_publish(&[b"a"], true).unwrap();
    assert!(waiter.spin());
    assert_eq!(drain(&mut consumer), 1);
    waiter.spin.ended(false);
    producer.try_publish(&[b"a"], false).unwrap();
    assert_eq!(waiter.wait(BACKSTOP).await, Woken::Bell);
    assert_ne!(waiter.spin.grant(BACKSTOP), Duration::ZERO);
    assert_eq!(drain(&mut consumer), 1);
}

#[tokio::test]
async fn sleep_earns_no_look_even_if_the_wait_was_cancelled() {
    let (_owner, _producer, consumer) = ring(8);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_consumer(&consumer).unwrap();
    let began = Instant::now();
    tokio::select! {
        _ = waiter.wait(BACKSTOP) => panic!("there is nothing"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    assert!(waiter.awake_since.get() - began >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_busy_waiter_takes_what_the_timer_finds() {
    let (ring, mut producer, mut consumer) = ring(64);
    let mut waiter = Waiter::new().unwrap();
    waiter.add_consumer(&consumer).unwrap();
    waiter.depth = Depth::Busy;
    let (woken, ()) = tokio::join!(waiter.wait(BACKSTOP), async {
        for _ in 0..BUSY_FRAMES_MIN {
            producer.try_publish(&[b"a"], false).unwrap();
        }
    });
    assert_eq!((woken, waiter.depth), (Woken::Bell, Depth::Busy));
    assert_eq!(ring.consumer_rung(), 0);
    assert_eq!(drain(&mut consumer), BUSY_FRAMES_MIN);
}

/// A hostile producer filled its bells, made both files block and lied about its naps: the consumer, the supervisor and
/// the successor then slept in the write that was to ring, and every other ring with them.
#[test]
fn nobody_can_make_a_bell_block_whoever_else_rings_it() {
    let (ring, producer, mut consumer) = ring(4);
    let fds = &ring.producer_fds;
    for bell in [&fds.consumer_bell, &fds.producer_bell] {
        // What is listened to cannot be written.
        let _ = nix::unistd::write(bell, &(u64::MAX - 1).to_ne_bytes());
        nix::fcntl::fcntl(bell, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    }
    let successor = ring.owner.producer_fds().unwrap().consumer_bell;
    producer.wait_for(0, true);
    assert!(producer.nap_begin());
    let (told, returned) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        consumer.set_outcome(0, 0, Outcome::Accepted);
        consumer.wake_producer();
        ring.owner.ring_bells();
        assert_eq!(nix::unistd::write(successor, &1u64.to_ne_bytes()), Ok(8));
        told.send(()).unwrap();
    });
    returned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn bells_do_not_block() {
    let (ring, _producer, _consumer) = ring(4);
    let ringers = [
        &ring.producer_fds.consumer_bell,
        &ring.consumer_fds.producer_bell,
    ];
    for bell in ringers {
        let flags = nix::fcntl::fcntl(bell, FcntlArg::F_GETFL).unwrap();
        assert_ne!(flags & EfdFlags::EFD_NONBLOCK.bits(), 0);
    }
}
