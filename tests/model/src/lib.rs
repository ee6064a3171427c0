//! The ring's control words and the state table's switch, searched through by a model checker.
//!
//! The files of the core are those of the product, included by path; only the `sync` below them is another one. Loom runs
//! each model with every order of steps, and every value of a load, that the memory model allows. Nothing here has a
//! backstop: a wake-up that is lost leaves every thread blocked, which loom reports.
//!
//! `cargo test -p ring-model` searches all models, then weakens each fence and each ordering that they passed, one at
//! a time, and expects a model to fail for each: see [`mutation`].

#![allow(clippy::unwrap_used, reason = "all of this is a test")]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the core's documentation names waiters, which are not in the model"
)]

pub mod mutation;
pub mod search;

mod fuse;
mod site;
mod sync;

#[allow(dead_code, reason = "the models use a part of the core")]
mod ring;
#[allow(dead_code, reason = "the models use a part of the core")]
mod table;

/// All models.
pub fn models() -> Vec<search::Model> {
    [ring::models(), table::models()].concat()
}
