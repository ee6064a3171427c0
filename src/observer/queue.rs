//! Trace records that wait for the collector, bounded by bytes.
//!
//! Records are kept as they came, several times smaller than their spans. When there is no room, traces that were
//! only sampled by ratio go first and alarms last, the oldest first of each; every one that goes is counted.

use std::collections::VecDeque;

use crate::frame::TraceRecord;

/// Most bytes of queued records.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Records dropped for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Of alarms.
    pub alarms: u64,
    /// Of frames sampled by ratio.
    pub ratio: u64,
}

/// The queue.
#[derive(Debug)]
pub struct TraceQueue {
    alarms: VecDeque<TraceRecord>,
    ratio: VecDeque<TraceRecord>,
    bytes: usize,
    bytes_max: usize,
}

impl TraceQueue {
    /// An empty queue that holds at most `bytes_max`.
    pub fn new(bytes_max: usize) -> TraceQueue {
        TraceQueue {
            alarms: VecDeque::new(),
            ratio: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a record and says what had to go for it, perhaps itself.
    pub fn push(&mut self, record: TraceRecord) -> Dropped {
        self.bytes += bytes_of(&record);
        match record {
            TraceRecord::Pushed { .. } => self.ratio.push_back(record),
            _ => self.alarms.push_back(record),
        }
        let mut dropped = Dropped::default();
        while self.bytes > self.bytes_max {
            let gone = match self.ratio.pop_front() {
                Some(record) => {
                    dropped.ratio += 1;
                    record
                }
                None => {
                    dropped.alarms += 1;
                    self.alarms
                        .pop_front()
                        .expect("bytes are of queued records")
                }
            };
            self.bytes -= bytes_of(&gone);
        }
        dropped
    }

    /// Takes the next record: alarms first, the oldest first.
    pub fn pop(&mut self) -> Option<TraceRecord> {
        let record = self.alarms.pop_front().or_else(|| self.ratio.pop_front())?;
        self.bytes -= bytes_of(&record);
        Some(record)
    }

    /// Bytes of the records queued.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records queued.
    pub fn len(&self) -> usize {
        self.alarms.len() + self.ratio.len()
    }
}

fn bytes_of(record: &TraceRecord) -> usize {
    let text = match record {
        TraceRecord::Pushed { sensor, .. } | TraceRecord::Journalled { sensor, .. } => sensor.len(),
        TraceRecord::Confirmed { .. } => 0,
    };
    size_of::<TraceRecord>() + text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{AlarmKind, DeviceId, EventId, Phase};
    use crate::hop::TraceHead;

    fn head(span_id: u64) -> TraceHead {
        TraceHead {
            span_id,
            ..TraceHead::default()
        }
    }

    fn alarm(n: u64) -> TraceRecord {
        TraceRecord::Journalled {
            head: head(n),
            device: DeviceId::new(b"1").unwrap(),
            sensor: "s".to_owned(),
            event: EventId([0; 16]),
            kind: AlarmKind::Sos,
            phase: Phase::Raise,
        }
    }

    fn ratio(n: u64) -> TraceRecord {
        TraceRecord::Pushed {
            head: head(n),
            device: DeviceId::new(b"1").unwrap(),
            sensor: "s".to_owned(),
        }
    }

    #[test]
    fn ratio_traces_go_first_and_alarms_last() {
        let mut queue = TraceQueue::new(3 * bytes_of(&alarm(0)));
        let mut dropped = Dropped::default();
        for record in [
            ratio(1),
            alarm(2),
            ratio(3),
            alarm(4),
            alarm(5),
            ratio(6),
            alarm(7),
        ] {
            let now = queue.push(record);
            dropped.alarms += now.alarms;
            dropped.ratio += now.ratio;
        }
        assert_eq!(
            dropped,
            Dropped {
                alarms: 1,
                ratio: 3
            }
        );
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, [alarm(4), alarm(5), alarm(7)]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn bytes_stay_below_the_limit_whatever_comes() {
        let mut queue = TraceQueue::new(10_000);
        for n in 0..10_000 {
            queue.push(if n % 3 == 0 { alarm(n) } else { ratio(n) });
            assert!(queue.bytes() <= 10_000);
        }
        assert!(queue.len() > 0);
    }
}
