//! How long a connection may take for what (pure). While nothing is read nobody is late, and for as long after that as
//! anybody ever has.

/// Shortest time without reading that is not held against devices. A ring that is full again and again is so for less: a
/// node at its limit must not be one that slow and idle connections stay on for ever.
const UNREAD_MS_MIN: u64 = 100;

/// The deadlines of all connections of a sensor, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Without a whole message.
    pub idle_ms: u64,
    /// Before its first message.
    pub first_message_ms: u64,
    /// From the first byte of a message to its last.
    pub message_ms: u64,
    /// Since when nothing is read, monotonic.
    unread_since_ms: Option<u64>,
    /// Since when they are read again.
    read_since_ms: u64,
}

impl Deadlines {
    /// Of connections that are read.
    pub fn new(idle_ms: u64, first_message_ms: u64, message_ms: u64) -> Deadlines {
        Deadlines {
            idle_ms,
            first_message_ms,
            message_ms,
            unread_since_ms: None,
            read_since_ms: 0,
        }
    }

    /// Notes whether connections are read now.
    pub fn note(&mut self, now_ms: u64, reads: bool) {
        if !reads {
            self.unread_since_ms.get_or_insert(now_ms);
        } else if let Some(since_ms) = self.unread_since_ms.take()
            && now_ms >= since_ms + UNREAD_MS_MIN
        {
            self.read_since_ms = now_ms;
        }
    }

    /// Whether anybody can be late now.
    pub fn are_running(&self) -> bool {
        self.unread_since_ms.is_none()
    }

    /// From when on what began then is timed.
    pub fn begin_ms(&self, since_ms: u64) -> u64 {
        since_ms.max(self.read_since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_nothing_was_read_has_all_its_time_after_it() {
        let mut deadlines = Deadlines::new(3_000, 2_000, 1_000);
        assert_eq!(deadlines.begin_ms(7), 7);
        deadlines.note(500, false);
        deadlines.note(900, false);
        assert!(!deadlines.are_running());
        deadlines.note(500 + UNREAD_MS_MIN, true);
        assert!(deadlines.are_running());
        assert_eq!(deadlines.begin_ms(7), 500 + UNREAD_MS_MIN);
        assert_eq!(deadlines.begin_ms(9_000), 9_000);
    }

    /// A flood that filled the ring again and again took the deadlines from all connections, as each time they began
    /// anew.
    #[test]
    fn a_ring_that_is_full_for_moments_gives_nobody_more_time() {
        let mut deadlines = Deadlines::new(3_000, 2_000, 1_000);
        for now_ms in (0..60_000).step_by(20) {
            deadlines.note(now_ms, false);
            deadlines.note(now_ms + 10, true);
        }
        assert_eq!(deadlines.begin_ms(7), 7);
    }
}
