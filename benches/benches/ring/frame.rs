//! What crosses a transport: a frame that carries its sequence at its front and, inverted, at its end.
//!
//! A reader that checks both ends of every frame notices what is lost, repeated, out of order or torn. What lies in
//! between is not looked at, so that checking costs every transport the same few nanoseconds.

/// The time word of the last frame of a case.
const END: u64 = u64::MAX;

/// Writes a frame's words: `time` is what the writer's clock says, or 0.
pub fn write(frame: &mut [u8], seq: u64, time: u64) {
    let last = frame.len() - 8;
    frame[0..8].copy_from_slice(&seq.to_ne_bytes());
    frame[8..16].copy_from_slice(&time.to_ne_bytes());
    frame[last..].copy_from_slice(&(!seq).to_ne_bytes());
}

/// Writes the frame after which nothing comes.
pub fn write_end(frame: &mut [u8], seq: u64) {
    write(frame, seq, END);
}

/// Whether a frame is the one after which nothing comes.
pub fn is_end(frame: &[u8]) -> bool {
    frame[8..16] == END.to_ne_bytes()
}

/// What a reader saw of the frames that came.
#[derive(Debug, Default)]
pub struct Checker {
    next: u64,
    /// Whole frames.
    pub frames: u64,
    /// Sequences that were left out.
    pub lost: u64,
    /// Frames whose two ends differ, or of another length.
    pub torn: u64,
    /// Frames with a sequence that was passed already.
    pub repeated: u64,
    /// Whether the last frame came.
    pub ended: bool,
}

impl Checker {
    /// Checks a frame and returns its time word.
    #[inline]
    pub fn see(&mut self, frame: &[u8]) -> u64 {
        let word = |at: usize| {
            let bytes = frame.get(at..at + 8).and_then(|word| word.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        let (seq, time) = (word(0), word(8));
        if word(frame.len().saturating_sub(8)) != !seq {
            self.torn += 1;
            return 0;
        }
        if seq == self.next {
            self.next += 1;
        } else if seq > self.next {
            self.lost += seq - self.next;
            self.next = seq + 1;
        } else {
            self.repeated += 1;
        }
        self.frames += 1;
        self.ended |= time == END;
        time
    }
}
