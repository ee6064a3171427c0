//! Clocks: the monotonic one for durations and stamps, the wall clock for what people read.
//!
//! Whether the wall clock is synchronised is not told here: the only call that knows (`adjtimex`) has no safe wrapper.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock: the same in all processes until the next boot, never backwards, standing still
/// while the machine is suspended.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Wall clock, nanoseconds since 1970 UTC; may jump.
pub fn wall_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// Wall clock, milliseconds since 1970 UTC; may jump.
pub fn wall_ms() -> i64 {
    (wall_ns() / 1_000_000) as i64
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("both clocks exist on every kernel that runs this");
    // 64 bits of nanoseconds last until the year 2554.
    Duration::from(time).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_steps_back() {
        let mut last = monotonic_ns();
        for _ in 0..10_000 {
            let now = monotonic_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn the_wall_clock_agrees_with_the_standard_library() {
        let before = std::time::SystemTime::now();
        let ours = std::time::UNIX_EPOCH + Duration::from_nanos(wall_ns());
        assert!(ours >= before && ours <= std::time::SystemTime::now());
    }
}
