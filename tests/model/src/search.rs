//! One model, searched through.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::model::Builder;

/// Steps of one thread to the next switch that a run may have; only a model that does not end has as many.
const BRANCHES_MAX: usize = 10_000;

/// A claim about the core, and how to search it through.
#[derive(Clone, Copy)]
pub struct Model {
    /// The claim.
    pub name: &'static str,
    /// Searches; panics when the claim is wrong.
    pub search: fn(),
}

thread_local! {
    static RUNS: Cell<u64> = const { Cell::new(0) };
}

/// Runs of models on this thread.
pub fn runs() -> u64 {
    RUNS.get()
}

/// Every run of `model` that the memory model allows.
pub fn all(model: impl Fn() + Send + Sync + 'static) {
    search(None, model);
}

/// Every run of `model` in which a thread is interrupted at most so many times where it could go on.
pub fn interrupted_at_most(times: usize, model: impl Fn() + Send + Sync + 'static) {
    search(Some(times), model);
}

fn search(preemption_bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.max_branches = BRANCHES_MAX;
    builder.preemption_bound = preemption_bound;
    builder.check(move || {
        RUNS.set(RUNS.get() + 1);
        model();
    });
}

/// Searches with a thread that is killed after no step, after one, and so on until it is not killed any more. `model`
/// is given the steps and says whether the thread was killed.
pub fn killed_at_every_step(
    preemption_bound: Option<usize>,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) {
    for steps in 0.. {
        let killed = Arc::new(AtomicBool::new(false));
        let (noted, model) = (killed.clone(), model.clone());
        search(preemption_bound, move || {
            if model(steps) {
                noted.store(true, Ordering::Relaxed);
            }
        });
        if !killed.load(Ordering::Relaxed) {
            assert!(steps > 0, "there are steps");
            return;
        }
    }
}
