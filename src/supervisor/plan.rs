//! What a configuration makes of a node (pure): which processes, and which rings between them.

use crate::config::Config;
use crate::ring::Geometry;
use crate::role::{End, Purpose, Role};

/// A process of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessName {
    /// What it is.
    pub role: Role,
    /// Which of them: the sensor's name for an ingest, else the role's name.
    pub instance: String,
}

impl ProcessName {
    fn only(role: Role) -> ProcessName {
        ProcessName {
            role,
            instance: role.name().to_string(),
        }
    }
}

impl std::fmt::Display for ProcessName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.role {
            Role::Ingest => write!(f, "ingest {}", self.instance),
            role => f.write_str(role.name()),
        }
    }
}

/// A ring of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingPlan {
    /// Its number: the index in the plan.
    pub number: u32,
    /// What it carries.
    pub purpose: Purpose,
    /// Who writes.
    pub producer: ProcessName,
    /// Who reads.
    pub consumer: ProcessName,
    /// Its size.
    pub geometry: Geometry,
}

impl RingPlan {
    /// The side of `process`, if it has one.
    pub fn end_of(&self, process: &ProcessName) -> Option<End> {
        if self.producer == *process {
            Some(End::Producer)
        } else {
            (self.consumer == *process).then_some(End::Consumer)
        }
    }

    /// What the ring is called in logs and figures: the sensor's name, or who writes it.
    pub fn name(&self) -> &str {
        match self.purpose {
            Purpose::Sensor => &self.producer.instance,
            Purpose::Track => "tracks",
            Purpose::Alarm => "alarms",
            Purpose::Trace => match self.producer.role {
                Role::Uplink => "traces-uplink",
                _ => "traces-dispatcher",
            },
        }
    }
}

/// Bytes from slot to slot.
const STRIDE: u32 = 512;
/// Slots of the ring to the dispatcher: 0.4 s of 10,000 devices, then it reads the state table instead. All of a ring's
/// pages come to be used, so four times as many would take 6 MiB more.
const TRACK_SLOTS: u32 = 4_096;
/// Slots of the ring to the uplink; each has a word of the answer table.
const ALARM_SLOTS: u32 = 4_096;
/// Slots of a ring of trace records.
const TRACE_SLOTS: u32 = 4_096;

/// The processes, in the order in which they start.
pub fn processes(config: &Config) -> Vec<ProcessName> {
    let ingests = config.sensors.iter().map(|sensor| ProcessName {
        role: Role::Ingest,
        instance: sensor.name.clone(),
    });
    [
        Role::Uplink,
        Role::Observer,
        Role::Dispatcher,
        Role::Classifier,
    ]
    .map(ProcessName::only)
    .into_iter()
    .chain(ingests)
    .collect()
}

/// The rings. A sensor's ring has the number of the sensor, so that an answer finds its way after a restart.
pub fn rings(config: &Config) -> Vec<RingPlan> {
    let only = ProcessName::only;
    let sensors = config.sensors.iter().map(|sensor| {
        let producer = ProcessName {
            role: Role::Ingest,
            instance: sensor.name.clone(),
        };
        let geometry = Geometry {
            slots: sensor.ring_slots,
            stride: STRIDE,
            answers: sensor.answers_max,
        };
        (Purpose::Sensor, producer, only(Role::Classifier), geometry)
    });
    let plain = |slots| Geometry {
        slots,
        stride: STRIDE,
        answers: 0,
    };
    let alarms = Geometry {
        slots: ALARM_SLOTS,
        stride: STRIDE,
        answers: ALARM_SLOTS,
    };
    let rest = [
        (
            Purpose::Track,
            only(Role::Classifier),
            only(Role::Dispatcher),
            plain(TRACK_SLOTS),
        ),
        (
            Purpose::Alarm,
            only(Role::Classifier),
            only(Role::Uplink),
            alarms,
        ),
        (
            Purpose::Trace,
            only(Role::Dispatcher),
            only(Role::Observer),
            plain(TRACE_SLOTS),
        ),
        (
            Purpose::Trace,
            only(Role::Uplink),
            only(Role::Observer),
            plain(TRACE_SLOTS),
        ),
    ];
    let all = sensors.chain(rest).enumerate();
    all.map(
        |(number, (purpose, producer, consumer, geometry))| RingPlan {
            number: number as u32,
            purpose,
            producer,
            consumer,
            geometry,
        },
    )
    .collect()
}
