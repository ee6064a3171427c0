//! Reports for the tests of this role.

use crate::config::{Fence, JumpRule, OverspeedRule, Rules};
use crate::frame::{Alarms, DeviceId, Fix, FixFields, Frame, FrameFlags, TimeSource};
use crate::hop::TraceHead;

use super::place::METRES_PER_E7;
use super::receiver::Turn;
use super::rule::RuleSet;
use super::state::DeviceState;
use super::verdict::{self, Verdict};

/// Where test devices are: metres are counted north from here.
pub const HOME_E7: (i32, i32) = (480_000_000, 110_000_000);

/// A valid report at home, standing still.
pub fn report(device: &str, time_ms: i64) -> Frame {
    report_at(device, time_ms, 0.0, 0)
}

/// A valid report so many metres north of home.
pub fn report_at(device: &str, time_ms: i64, north_m: f64, speed_mm_s: u32) -> Frame {
    let fields = FixFields::POSITION | FixFields::TIME | FixFields::SPEED | FixFields::VALID;
    let fix = Fix {
        time_ms,
        lat_e7: HOME_E7.0 + (north_m / METRES_PER_E7).round() as i32,
        lon_e7: HOME_E7.1,
        speed_mm_s,
        time_source: TimeSource::Device,
        fields: FixFields(fields),
        ..Fix::default()
    };
    let device = DeviceId::new(device.as_bytes()).unwrap();
    with_digest(Frame {
        trace: TraceHead {
            trace_id: 1,
            span_id: 2,
            t0_ns: 1_000,
            ..TraceHead::default()
        },
        device,
        fix,
        held: Alarms::default(),
        momentary: Alarms::default(),
        flags: FrameFlags(FrameFlags::MESSAGE_END),
        answer_index: 0,
        message_first_seq: 0,
        received_ms: time_ms.saturating_add(50),
        digest: 0,
        attributes: Vec::new(),
    })
}

/// The frame with the digest of its content.
pub fn with_digest(mut frame: Frame) -> Frame {
    frame.digest = Frame::content_digest(&frame.device, &frame.fix, frame.held, frame.momentary);
    frame
}

/// Rules: 20 m/s for 5 s with 1 m/s of hysteresis; 100 m/s is a jump, three are believed.
pub fn rules() -> Rules {
    Rules {
        overspeed: Some(OverspeedRule {
            limit_mm_s: 20_000,
            for_ms: 5_000,
            hysteresis_mm_s: 1_000,
        }),
        jump: JumpRule {
            speed_max_mm_s: 100_000,
            jumps_max: 3,
        },
        future_max_ms: 60_000,
        fail_over_ms: 5_000,
    }
}

/// A fence of 100 m with 20 m of margin, its centre so many metres north of home.
pub fn fence(name: &str, north_m: f64) -> Fence {
    Fence {
        name: name.into(),
        lat_e7: HOME_E7.0 + (north_m / METRES_PER_E7).round() as i32,
        lon_e7: HOME_E7.1,
        radius_mm: 100_000,
        margin_mm: 20_000,
    }
}

/// The rules with a fence "yard" 1,000 m north of home.
pub fn rule_set() -> RuleSet {
    RuleSet::new(&rules(), &[fence("yard", 1_000.0)])
}

/// Judges a frame of a device with one receiver.
pub fn classify(state: &DeviceState, frame: &Frame, rules: &RuleSet) -> Verdict {
    verdict::classify(state, frame, Turn::alone(1), rules)
}
