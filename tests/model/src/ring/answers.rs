//! What came of a message, on its way back.

use loom::thread::spawn;

use super::answer::Outcome;
use super::world::{Witness, World, settled};
use crate::search::{Model, all, interrupted_at_most};

pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "an_outcome_brings_along_what_made_it_true",
            search: an_outcome_brings_along_what_made_it_true,
        },
        Model {
            name: "an_outcome_is_final",
            search: an_outcome_is_final,
        },
        Model {
            name: "a_producer_asleep_hears_of_an_outcome",
            search: a_producer_asleep_hears_of_an_outcome,
        },
        Model {
            name: "a_producer_asleep_hears_of_every_outcome",
            search: a_producer_asleep_hears_of_every_outcome,
        },
        Model {
            name: "a_new_producer_hears_of_an_outcome_that_comes_while_it_attaches",
            search: a_new_producer_hears_of_an_outcome_that_comes_while_it_attaches,
        },
    ]
}

fn an_outcome_brings_along_what_made_it_true() {
    all(|| {
        let world = World::new(2, 1);
        let (producer, mut consumer) = (world.producer(), world.consumer());
        let journal = Witness::new();
        let kept = journal.clone();
        let judging = spawn(move || {
            kept.set(1);
            consumer.set_outcome(0, 0, Outcome::Accepted);
        });
        if producer.outcome(0).outcome_of(0) == Outcome::Accepted {
            assert_eq!(journal.get(), 1);
        }
        judging.join().unwrap();
    });
}

fn an_outcome_is_final() {
    all(|| {
        let world = World::new(2, 1);
        let (producer, mut consumer) = (world.producer(), world.consumer());
        let judging = spawn(move || {
            consumer.set_outcome(0, 0, Outcome::Accepted);
            // A successor of the consumer, who judges the same frame again.
            let mut consumer = world.next_consumer();
            consumer.set_outcome(0, 0, Outcome::Refused);
            consumer.set_outcome(0, 0, Outcome::Pending);
        });
        let seen = [(); 3].map(|()| producer.outcome(0).outcome_of(0));
        judging.join().unwrap();
        let first = seen.iter().position(|outcome| *outcome != Outcome::Pending);
        let after = first.map_or(&[][..], |first| &seen[first..]);
        assert!(
            after.iter().all(|outcome| *outcome == Outcome::Accepted),
            "{seen:?}"
        );
    });
}

fn a_producer_asleep_hears_of_an_outcome() {
    all(|| {
        let world = World::new(2, 1);
        let (producer, mut consumer) = (world.producer(), world.consumer());
        let judging = spawn(move || {
            consumer.set_outcome(0, 0, Outcome::Accepted);
            consumer.wake_producer();
        });
        assert_eq!(settled(&producer, 0, 0), Outcome::Accepted);
        judging.join().unwrap();
    });
}

/// A full search takes minutes; the model above searches one nap in full.
fn a_producer_asleep_hears_of_every_outcome() {
    interrupted_at_most(4, || {
        let world = World::new(2, 2);
        let (producer, mut consumer) = (world.producer(), world.consumer());
        let judging = spawn(move || {
            for (index, outcome) in [Outcome::Accepted, Outcome::Refused]
                .into_iter()
                .enumerate()
            {
                consumer.set_outcome(index as u32, index as u64, outcome);
                consumer.wake_producer();
            }
        });
        assert_eq!(settled(&producer, 1, 1), Outcome::Refused);
        assert_eq!(settled(&producer, 0, 0), Outcome::Accepted);
        judging.join().unwrap();
    });
}

fn a_new_producer_hears_of_an_outcome_that_comes_while_it_attaches() {
    all(|| {
        let world = World::new(2, 1);
        let mut consumer = world.consumer();
        let judging = spawn(move || {
            consumer.set_outcome(0, 0, Outcome::Accepted);
            consumer.wake_producer();
        });
        let producer = world.producer();
        assert_eq!(settled(&producer, 0, 0), Outcome::Accepted);
        judging.join().unwrap();
    });
}
