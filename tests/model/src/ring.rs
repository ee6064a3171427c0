//! The core of the ring, and what is claimed of it.

use crate::sync;

#[path = "../../../src/ring/answer.rs"]
mod answer;
#[path = "../../../src/ring/consumer.rs"]
mod consumer;
#[path = "../../../src/ring/error.rs"]
mod error;
#[path = "../../../src/ring/layout.rs"]
mod layout;
#[path = "../../../src/ring/nap.rs"]
mod nap;
#[path = "../../../src/ring/owner.rs"]
mod owner;
#[path = "../../../src/ring/page.rs"]
mod page;
#[path = "../../../src/ring/position.rs"]
mod position;
#[path = "../../../src/ring/producer.rs"]
mod producer;

mod answers;
mod deaths;
mod flow;
mod naps;
mod world;

use crate::search::Model;

type Position = u64;

pub fn models() -> Vec<Model> {
    [
        flow::models(),
        answers::models(),
        naps::models(),
        deaths::models(),
    ]
    .concat()
}
