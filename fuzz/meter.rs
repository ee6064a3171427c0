//! Memory that a call takes, by a counting allocator. A fuzz target installs it; the product knows nothing of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what each thread holds.
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get().wrapping_add(layout.size());
        LIVE.set(live);
        // What was freed by another thread makes the count wrap; then it is no maximum.
        if live < usize::MAX / 2 {
            MOST.set(MOST.get().max(live));
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Most bytes that the call held at a time, beyond what was held before.
pub fn most_bytes(call: &mut dyn FnMut()) -> usize {
    LIVE.set(0);
    MOST.set(0);
    call();
    MOST.get()
}
