//! Where a process can be killed so that others notice: before each store into shared memory, before each bell.
//!
//! The product passes these places and nothing happens. A test of this crate stops at the one it likes.

/// A store into shared memory, or a bell, comes next.
#[inline(always)]
pub fn step() {
    #[cfg(test)]
    killing::step();
}

#[cfg(test)]
pub mod killing {
    //! Stops the steps of one thread.

    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    struct Killed;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Runs `act`, but for what comes after `steps` steps of this thread. Whether it was stopped.
    pub fn killed_after(steps: u32, act: impl FnOnce()) -> bool {
        LEFT.set(Some(steps));
        // Unwinding as a panic would, but without its message: nothing stores into shared memory when it is dropped.
        let ended = catch_unwind(AssertUnwindSafe(act));
        LEFT.set(None);
        match ended {
            Ok(()) => false,
            Err(cause) if cause.is::<Killed>() => true,
            Err(cause) => resume_unwind(cause),
        }
    }

    /// Runs `story` with a death after no step, after one, and so on, until nobody dies any more. `story` is given the
    /// steps and says whether somebody died. Returns how many deaths there were.
    pub fn at_every_step(mut story: impl FnMut(u32) -> bool) -> u32 {
        let mut deaths = 0;
        while story(deaths) {
            deaths += 1;
        }
        deaths
    }

    pub(super) fn step() {
        match LEFT.get() {
            Some(0) => resume_unwind(Box::new(Killed)),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }
}
