//! A sensor's ring as the classifier has it.

use crate::frame::MESSAGE_FRAMES_MAX;
use crate::ring::{Consumer, Violation};
use crate::stats::{ClassifierMetric as Metric, Stats};

use super::batch::BATCH_FRAMES_MAX;

/// A sensor's ring.
pub struct Sensor {
    /// The sensor's name.
    pub name: String,
    /// How good its receivers are beside others of the same vehicle; 1 is best.
    pub rank: u8,
    /// The ring.
    pub consumer: Consumer,
    /// Frames before this sequence may have been taken by a predecessor that died.
    pub redelivered_below: u64,
    /// What its producer did wrong, until it was told to whoever asks.
    pub violation: Option<Violation>,
}

impl Sensor {
    /// Takes over a ring. `restarted`: a predecessor may have taken frames that are still there.
    pub fn new(
        name: &str,
        rank: u8,
        mut consumer: Consumer,
        restarted: bool,
        stats: &Stats<Metric>,
    ) -> Sensor {
        // One batch at most is taken and not freed.
        let waiting = consumer.available().unwrap_or(0);
        let taken = waiting.min((BATCH_FRAMES_MAX + MESSAGE_FRAMES_MAX) as u64);
        let mut sensor = Sensor {
            name: name.into(),
            rank,
            redelivered_below: if restarted {
                consumer.head() + taken
            } else {
                0
            },
            consumer,
            violation: None,
        };
        // A ring says its violation once as something new: one that is found here is not found again.
        if let Some(violation) = sensor.consumer.violation() {
            sensor.note_violation(violation, stats);
        }
        sensor
    }

    /// Frames that may be taken.
    ///
    /// # Errors
    /// What the producer did wrong; it is noted when it is found.
    pub fn count_available(&mut self, stats: &Stats<Metric>) -> Result<u64, Violation> {
        let quarantined = self.consumer.violation().is_some();
        self.consumer.available().inspect_err(|&violation| {
            if !quarantined {
                self.note_violation(violation, stats);
            }
        })
    }

    /// Notes what the producer did wrong.
    pub fn note_violation(&mut self, violation: Violation, stats: &Stats<Metric>) {
        stats.add(Metric::RingViolations, 1);
        self.violation = Some(violation);
    }
}
