//! A thread that stops for good after some steps, as a process that is killed there.
//!
//! A step is what others can notice: a store, a fence, a bell. Loads are none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::thread::{ThreadId, current};

struct Killed;

thread_local! {
    /// Steps left of the threads that burn. Loom's threads all run on one of the system's.
    static LEFT: RefCell<HashMap<ThreadId, u32>> = RefCell::new(HashMap::new());
}

/// Runs `act`, but for what comes after `steps` steps of this thread. Whether it was stopped.
pub fn killed_after(steps: u32, act: impl FnOnce()) -> bool {
    let thread = current().id();
    LEFT.with_borrow_mut(|left| left.insert(thread, steps));
    // Unwinding as a panic would, but without its message: nothing of the core stores anything when it is dropped.
    let ended = catch_unwind(AssertUnwindSafe(act));
    LEFT.with_borrow_mut(|left| left.remove(&thread));
    match ended {
        Ok(()) => false,
        Err(cause) if cause.is::<Killed>() => true,
        Err(cause) => resume_unwind(cause),
    }
}

/// Comes before each step: returns if the step is to be taken.
pub fn step() {
    let out = LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            return false;
        }
        match left.get_mut(&current().id()) {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    });
    if out {
        resume_unwind(Box::new(Killed));
    }
}
