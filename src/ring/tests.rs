//! What the two sides of a ring promise each other, tried on real shared memory.

mod deaths;
mod positions;

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use super::layout::{SLOT_HEADER_BYTES, SlotHeader, consumer_region, producer_region};
use super::*;
use crate::sys::region::WriteRegion;

const SMALL: Geometry = Geometry {
    slots: 4,
    stride: 128,
    answers: 4,
};

/// A ring with both sides attached.
struct Ends {
    owner: RingOwner,
    producer: Producer,
    consumer: Consumer,
}

impl Ends {
    fn new(geometry: Geometry) -> Ends {
        let owner = RingOwner::create(geometry, 3, 77).unwrap();
        let producer = Producer::attach(&owner.producer_fds().unwrap()).unwrap();
        let consumer = Consumer::attach(&owner.consumer_fds().unwrap()).unwrap();
        Ends {
            owner,
            producer,
            consumer,
        }
    }

    /// The producer's memory, as a producer that was taken over has it.
    fn hostile(&self) -> WriteRegion {
        WriteRegion::map(
            self.owner.producer_fds().unwrap().producer_region.as_fd(),
            0,
        )
        .unwrap()
    }

    /// Writes a slot as a producer would, without committing it.
    fn write_slot(&self, seq: u64, generation: u64, record: &[u8]) {
        let (hostile, byte) = (self.hostile(), SMALL.slot_byte(seq));
        let mut header = SlotHeader::begin(seq, generation, record.len());
        let summed = header.summed();
        header.checksum = hostile.copy_in_summed(byte + SLOT_HEADER_BYTES, record, summed);
        for (word, value) in (byte / 8..).zip(header.words()) {
            hostile.store(word, value, Ordering::Relaxed);
        }
    }

    fn restart_producer(&mut self) {
        self.owner.set_generation().unwrap();
        self.producer = Producer::attach(&self.owner.producer_fds().unwrap()).unwrap();
    }

    fn restart_consumer(&mut self) {
        self.consumer = Consumer::attach(&self.owner.consumer_fds().unwrap()).unwrap();
    }

    fn publish(&mut self, records: &[&str]) -> Result<u64, Full> {
        let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
        self.producer.try_publish(&records, false)
    }

    /// Reads all that is there without freeing it.
    fn peek(&mut self) -> Result<Vec<String>, Violation> {
        let (head, count) = (self.consumer.head(), self.consumer.available()?);
        let mut record = Vec::new();
        (head..head + count)
            .map(|seq| {
                self.consumer.read(seq, &mut record)?;
                Ok(String::from_utf8(record.clone()).unwrap())
            })
            .collect()
    }

    /// Reads all that is there and frees it.
    fn take(&mut self) -> Vec<String> {
        let records = self.peek().unwrap();
        self.consumer.advance(self.consumer.tail());
        records
    }
}

#[test]
fn records_come_out_as_they_went_in_around_the_ring_many_times() {
    let mut ends = Ends::new(SMALL);
    for round in 0..50u32 {
        let records: Vec<String> = (0..round % 5).map(|n| format!("{round}.{n}")).collect();
        let lines: Vec<&str> = records.iter().map(String::as_str).collect();
        ends.publish(&lines).unwrap();
        assert_eq!(ends.take(), records);
    }
}

#[test]
fn records_of_every_length_fit_up_to_the_limit() {
    let mut ends = Ends::new(SMALL);
    let max = ends.producer.record_bytes_max();
    assert_eq!(max, 128 - SLOT_HEADER_BYTES);
    for length in 0..=max {
        let record = "x".repeat(length);
        ends.publish(&[&record]).unwrap();
        assert_eq!(ends.take(), [record]);
    }
}

#[test]
fn a_full_ring_refuses_and_takes_again_once_slots_are_freed() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a", "b", "c", "d"]).unwrap();
    assert_eq!(ends.publish(&["e"]), Err(Full));
    assert_eq!(ends.peek().unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(ends.publish(&["e"]), Err(Full), "reading frees nothing");
    ends.consumer.advance(1);
    assert_eq!(ends.publish(&["e"]), Ok(4));
    assert_eq!(ends.take(), ["b", "c", "d", "e"]);
}

#[test]
fn several_records_are_written_all_or_none() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a", "b"]).unwrap();
    assert_eq!(ends.publish(&["c", "d", "e"]), Err(Full));
    assert_eq!(ends.peek().unwrap(), ["a", "b"]);
    assert_eq!(ends.publish(&["c", "d"]), Ok(2));
    assert_eq!(ends.take(), ["a", "b", "c", "d"]);
}

#[test]
fn a_producer_that_dies_before_the_commit_leaves_nothing() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a"]).unwrap();
    // All stores of a publish but the last one.
    ends.write_slot(1, 1, b"torn");
    ends.restart_producer();
    assert_eq!(ends.producer.tail(), 1);
    assert_eq!(ends.take(), ["a"]);
    ends.publish(&["b"]).unwrap();
    assert_eq!(ends.take(), ["b"]);
}

#[test]
fn either_side_resumes_exactly_where_its_predecessor_stopped() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a", "b", "c"]).unwrap();
    ends.peek().unwrap();
    ends.consumer.advance(1);
    ends.restart_consumer();
    assert_eq!(
        (ends.consumer.head(), ends.peek().unwrap()),
        (1, vec!["b".into(), "c".into()])
    );
    ends.restart_producer();
    assert_eq!(ends.publish(&["d"]), Ok(3));
    assert_eq!(ends.take(), ["b", "c", "d"]);
}

#[test]
fn records_of_a_predecessor_are_good_and_its_late_ones_are_not() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["old"]).unwrap();
    ends.restart_producer();
    assert_eq!(ends.producer.generation(), 2);
    ends.publish(&["new"]).unwrap();
    assert_eq!(ends.peek().unwrap(), ["old", "new"]);
    // A slot of generation 1 behind one of generation 2.
    ends.write_slot(2, 1, b"");
    ends.hostile()
        .store(producer_region::TAIL, 3, Ordering::Release);
    assert_eq!(ends.peek(), Err(Violation::Generation { seq: 2 }));
}

#[test]
fn a_generation_that_was_never_given_out_is_a_violation() {
    let mut ends = Ends::new(SMALL);
    let hostile = ends.hostile();
    ends.write_slot(0, 2, b"");
    hostile.store(producer_region::TAIL, 1, Ordering::Release);
    assert_eq!(ends.peek(), Err(Violation::Generation { seq: 0 }));
}

#[test]
fn frames_may_be_read_again_in_any_order_across_generations() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a"]).unwrap();
    ends.restart_producer();
    ends.publish(&["b"]).unwrap();
    assert_eq!(ends.peek().unwrap(), ends.peek().unwrap());
}

#[test]
fn a_lying_tail_is_a_violation() {
    for (tail, possible) in [
        (0, false),
        (2, false),
        (4, true),
        (8, false),
        (u64::MAX, false),
    ] {
        let mut ends = Ends::new(SMALL);
        ends.publish(&["a", "b", "c", "d"]).unwrap();
        ends.consumer.available().unwrap();
        ends.consumer.advance(3);
        ends.hostile()
            .store(producer_region::TAIL, tail, Ordering::Release);
        assert_eq!(ends.consumer.available().is_ok(), possible, "tail {tail}");
    }
}

#[test]
fn a_tail_that_goes_back_is_a_violation_although_it_is_in_range() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a", "b", "c"]).unwrap();
    ends.consumer.available().unwrap();
    ends.hostile()
        .store(producer_region::TAIL, 2, Ordering::Release);
    assert_eq!(
        ends.consumer.available(),
        Err(Violation::Tail {
            tail: 2,
            head: 0,
            last: 3
        })
    );
}

#[test]
fn a_changed_byte_is_a_violation_and_quarantines_the_ring() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["good", "evil"]).unwrap();
    let record = SMALL.slot_byte(1) + SLOT_HEADER_BYTES;
    ends.hostile().copy_in(record, b"live");
    let violation = Violation::Checksum { seq: 1 };
    assert_eq!(ends.peek(), Err(violation));
    // Mending it afterwards does not help.
    ends.hostile().copy_in(record, b"evil");
    assert_eq!(ends.consumer.available(), Err(violation));
    assert_eq!(ends.consumer.violation(), Some(violation));
}

#[test]
fn a_changed_bit_anywhere_in_a_slot_is_found() {
    // Two whole fours of words, one more and a part of one: every way in which a record is summed.
    let text = "a record of 44 bytes, of which each bit counts";
    let mut ends = Ends::new(SMALL);
    ends.publish(&[&text[..44]]).unwrap();
    let first = SMALL.slot_byte(0);
    for bit in 0..(SLOT_HEADER_BYTES + 44) * 8 {
        let (word, bit) = (first / 8 + bit / 64, 1 << (bit % 64));
        let good = ends.hostile().load(word, Ordering::Relaxed);
        ends.hostile().store(word, good ^ bit, Ordering::Release);
        ends.restart_consumer();
        assert!(ends.peek().is_err(), "bit {bit:#x} of word {word}");
        ends.hostile().store(word, good, Ordering::Release);
    }
    ends.restart_consumer();
    assert_eq!(ends.peek().unwrap(), [&text[..44]]);
}

#[test]
fn a_length_beyond_the_slot_is_a_violation() {
    for length in [97, 1 << 32, u64::MAX] {
        let mut ends = Ends::new(SMALL);
        ends.publish(&["a"]).unwrap();
        let byte = SMALL.slot_byte(0);
        ends.hostile()
            .store(byte / 8 + 2, length, Ordering::Release);
        assert_eq!(ends.peek(), Err(Violation::Length { seq: 0 }));
    }
}

#[test]
fn punched_pages_are_a_violation() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a"]).unwrap();
    ends.hostile().copy_in(SMALL.slot_byte(0), &[0; 128]);
    assert!(ends.peek().is_err());
}

#[test]
fn random_images_of_a_producer_region_never_panic() {
    use proptest::prelude::*;
    let images = (
        any::<u64>(),
        proptest::collection::vec(any::<u64>(), 64),
        0u64..8,
    );
    proptest!(|((tail, slots, near) in images)| {
        for tail in [tail, near] {
            let mut ends = Ends::new(SMALL);
            for (word, value) in slots.iter().enumerate() {
                ends.hostile().store(producer_region::SLOTS_BYTE / 8 + word, *value, Ordering::Relaxed);
            }
            ends.hostile().store(producer_region::TAIL, tail, Ordering::Release);
            prop_assert!(tail == 0 || ends.peek().is_err());
        }
    });
}

/// A hostile producer had set its nap word to the largest number; the honest successor on the same ring panicked when it
/// ended that nap, each time that it was started.
#[test]
fn a_successor_wakes_from_any_nap_that_was_left() {
    for left in [0, 1, u64::MAX - 1, u64::MAX] {
        let mut ends = Ends::new(SMALL);
        ends.hostile()
            .store(producer_region::NAP, left, Ordering::Relaxed);
        ends.restart_producer();
        ends.producer.wait_for(0, true);
        for _ in 0..3 {
            assert!(ends.producer.nap_begin());
            let nap = ends.hostile().load(producer_region::NAP, Ordering::Relaxed);
            assert_eq!(nap % 2, 1, "left {left}");
            ends.producer.nap_end();
        }
        ends.publish(&["a"]).unwrap();
        assert_eq!(ends.take(), ["a"]);
    }
}

#[test]
fn a_consumer_that_lies_about_its_head_frees_nothing() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a", "b", "c", "d"]).unwrap();
    ends.take();
    assert_eq!(ends.producer.room(), 4);
    ends.publish(&["e"]).unwrap();
    let fds = ends.owner.consumer_fds().unwrap();
    let lying = WriteRegion::map(fds.consumer_region.as_fd(), 0).unwrap();
    for lie in [3, 6, u64::MAX] {
        lying.store(consumer_region::HEAD, lie, Ordering::Release);
        assert_eq!(
            (ends.producer.room(), ends.producer.head()),
            (3, 4),
            "head {lie}"
        );
    }
}

#[test]
fn held_slots_are_not_reused_and_can_be_read_again_after_a_restart() {
    let mut ends = Ends::new(SMALL);
    ends.producer.set_hold(0);
    ends.publish(&["a", "b", "c"]).unwrap();
    ends.take();
    assert_eq!(ends.producer.room(), 1);
    ends.publish(&["d"]).unwrap();
    assert_eq!(ends.publish(&["e"]), Err(Full));
    ends.restart_producer();
    let mut record = Vec::new();
    for (seq, expected) in (ends.producer.oldest()..ends.producer.tail()).zip(["a", "b", "c", "d"])
    {
        ends.producer.record_at(seq, &mut record).unwrap();
        assert_eq!(record, expected.as_bytes());
    }
    ends.producer.set_hold(2);
    assert_eq!((ends.producer.room(), ends.publish(&["e"])), (2, Ok(4)));
}

#[test]
fn outcomes_travel_back_and_an_index_out_of_range_does_nothing() {
    let mut ends = Ends::new(SMALL);
    assert_eq!(ends.producer.outcome(2).outcome_of(0), Outcome::Pending);
    ends.consumer.set_outcome(2, 9, Outcome::Accepted);
    ends.consumer.set_outcome(3, 9, Outcome::Refused);
    ends.consumer.set_outcome(4, 9, Outcome::Accepted);
    assert_eq!(ends.producer.outcome(2).outcome_of(9), Outcome::Accepted);
    assert_eq!(ends.producer.outcome(2).outcome_of(8), Outcome::Pending);
    assert_eq!(ends.producer.outcome(3).outcome_of(9), Outcome::Refused);
}

#[test]
fn outcomes_survive_both_sides() {
    let mut ends = Ends::new(SMALL);
    ends.consumer.set_outcome(1, 5, Outcome::Accepted);
    ends.restart_consumer();
    ends.restart_producer();
    assert_eq!(ends.producer.outcome(1).outcome_of(5), Outcome::Accepted);
    ends.consumer.set_outcome(1, 4, Outcome::Refused);
    assert_eq!(ends.producer.outcome(1).outcome_of(5), Outcome::Accepted);
}

#[test]
fn a_resync_request_and_the_end_are_seen() {
    let mut ends = Ends::new(SMALL);
    let served = ends.consumer.resync_counter();
    ends.producer.request_resync();
    assert_ne!(ends.consumer.resync_counter(), served);
    assert!(!ends.consumer.closed());
    ends.publish(&["last"]).unwrap();
    let producer = ends.owner.producer_fds().unwrap();
    let successor = std::mem::replace(&mut ends.producer, Producer::attach(&producer).unwrap());
    successor.close();
    assert!(ends.consumer.closed() && ends.owner.snapshot().closed);
    assert_eq!(ends.take(), ["last"]);
}

#[test]
fn a_producer_that_is_started_again_opens_the_ring_again() {
    let mut ends = Ends::new(SMALL);
    let fds = ends.owner.producer_fds().unwrap();
    Producer::attach(&fds).unwrap().close();
    ends.restart_producer();
    assert!(!ends.consumer.closed());
    ends.owner.close();
    assert!(ends.consumer.closed());
}

#[test]
fn a_generation_is_given_out_only_for_possible_positions() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a"]).unwrap();
    assert_eq!(ends.owner.set_generation().unwrap(), 2);
    let snapshot = ends.owner.snapshot();
    assert_eq!((snapshot.head, snapshot.tail, snapshot.used()), (0, 1, 1));
    ends.hostile()
        .store(producer_region::TAIL, 5, Ordering::Release);
    assert!(matches!(
        ends.owner.set_generation(),
        Err(AttachError::Positions { head: 0, tail: 5 })
    ));
    assert_eq!(ends.owner.generation(), 2);
    assert!(Producer::attach(&ends.owner.producer_fds().unwrap()).is_err());
}

#[test]
fn a_head_that_cannot_be_is_found_while_the_producer_runs_and_called_a_head() {
    let mut ends = Ends::new(SMALL);
    ends.publish(&["a"]).unwrap();
    ends.owner.check().unwrap();
    let fds = ends.owner.consumer_fds().unwrap();
    let map = WriteRegion::map(fds.consumer_region.as_fd(), 0).unwrap();
    map.store(consumer_region::HEAD, 2, Ordering::Release);
    assert!(matches!(
        ends.owner.check(),
        Err(AttachError::Positions { head: 2, tail: 1 })
    ));
    map.store(consumer_region::HEAD, u64::MAX, Ordering::Release);
    for refused in [ends.owner.check(), Consumer::attach(&fds).map(drop)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, AttachError::Head { head: u64::MAX }));
        assert!(refused.to_string().contains("head 18446744073709551615"));
    }
    assert!(ends.owner.set_generation().is_err());
}

#[test]
fn a_ring_that_was_not_assigned_is_refused() {
    let ends = Ends::new(SMALL);
    let mut assigned = ends.owner.identity();
    let fds = ends.owner.consumer_fds().unwrap();
    assert!(Consumer::attach_as(&fds, &assigned).is_ok());
    assigned.birth += 1;
    assert!(matches!(
        Consumer::attach_as(&fds, &assigned),
        Err(AttachError::Other { .. })
    ));
}

#[test]
fn regions_of_another_ring_are_refused() {
    let ends = Ends::new(SMALL);
    let larger = Geometry { slots: 8, ..SMALL };
    let other = RingOwner::create(larger, 4, 78).unwrap();
    let mut mixed = ends.owner.consumer_fds().unwrap();
    mixed.producer_region = other.consumer_fds().unwrap().producer_region;
    assert!(matches!(
        Consumer::attach(&mixed),
        Err(AttachError::Geometry(_))
    ));
    mixed.supervisor_page = other.consumer_fds().unwrap().consumer_region;
    assert!(Consumer::attach(&mixed).is_err());
}

#[test]
fn a_side_cannot_map_what_it_may_not_write() {
    let ends = Ends::new(SMALL);
    let producer = ends.owner.producer_fds().unwrap();
    let consumer = ends.owner.consumer_fds().unwrap();
    for fd in [
        &producer.supervisor_page,
        &producer.consumer_region,
        &consumer.supervisor_page,
        &consumer.producer_region,
    ] {
        assert!(WriteRegion::map(fd.as_fd(), 0).is_err());
    }
}
