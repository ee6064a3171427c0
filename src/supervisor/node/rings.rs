//! The rings of a node: made once, handed to both ends, and replaced when nobody can go on with what stands in one.

use std::cell::{Cell, RefCell};

use tracing::error;

use super::{Node, NodeError};
use crate::config::Config;
use crate::ring::{AttachError, RingFds, RingOwner};
use crate::role::{End, Purpose, RingAssignment, Role};
use crate::stats::SupervisorMetric;
use crate::supervisor::plan::{self, ProcessName, RingPlan};
use crate::supervisor::state_dir::StateDir;

/// One ring, as its owner keeps it.
pub struct Ring {
    /// What it carries, between whom.
    pub plan: RingPlan,
    birth: Cell<u64>,
    /// Makes way for successors and tells how full it is.
    pub owner: RefCell<RingOwner>,
    parked: RefCell<Option<Parked>>,
}

/// The owner of a ring that was replaced while somebody whom it does not trust still had it.
struct Parked {
    /// Kept for what dropping it does: its bells close.
    _owner: RingOwner,
    /// Whose ends it waits for.
    until: Vec<End>,
}

impl Ring {
    /// Makes way for the successor of an end that was reaped; the borrow ends here, so that the ring can be replaced
    /// if it cannot go on.
    fn succeed(&self, end: End) -> Result<(), AttachError> {
        let owner = self.owner.borrow();
        match end {
            End::Producer => owner.set_generation().map(drop),
            End::Consumer => owner.check(),
        }
    }

    /// An end was reaped: what was parked until then goes.
    fn unpark(&self, reaped: End) {
        let mut parked = self.parked.borrow_mut();
        parked.take_if(|parked| {
            parked.until.retain(|&end| end != reaped);
            parked.until.is_empty()
        });
    }

    /// Who is killed when the ring is replaced. The classifier takes a sensor's fresh ring while it runs.
    fn killed(&self) -> Vec<End> {
        match self.plan.purpose {
            Purpose::Sensor => vec![End::Producer],
            Purpose::Track | Purpose::Alarm | Purpose::Trace => vec![End::Producer, End::Consumer],
        }
    }
}

/// Makes all rings of the plan.
///
/// # Errors
/// When births cannot be counted, or the kernel gives no memory.
pub fn make(config: &Config, state_dir: &mut StateDir) -> Result<Vec<Ring>, NodeError> {
    let mut rings = Vec::new();
    for plan in plan::rings(config) {
        let birth = state_dir.next_birth()?;
        let owner = RingOwner::create(plan.geometry, plan.number, birth)?;
        rings.push(Ring {
            plan,
            birth: Cell::new(birth),
            owner: RefCell::new(owner),
            parked: RefCell::default(),
        });
    }
    Ok(rings)
}

impl Node {
    /// The rings of a child, and their descriptors.
    pub fn rings_of(
        &self,
        name: &ProcessName,
    ) -> Result<Vec<(RingAssignment, RingFds)>, AttachError> {
        let mine = self
            .rings
            .iter()
            .filter_map(|ring| Some((ring, ring.plan.end_of(name)?)));
        mine.map(|(ring, end)| {
            let assignment = RingAssignment {
                ring: ring.plan.number,
                birth: ring.birth.get(),
                purpose: ring.plan.purpose,
                end,
                name: ring.plan.name().to_string(),
                geometry: ring.plan.geometry,
            };
            let owner = ring.owner.borrow();
            let fds = match end {
                End::Producer => owner.producer_fds(),
                End::Consumer => owner.consumer_fds(),
            };
            Ok((assignment, fds?))
        })
        .collect()
    }

    /// Puts the rings of a child that ended in order for its successor: positions that cannot be cost the ring, since
    /// no successor could resume at them; where it wrote, the generation moves on; both bells ring, because it may have
    /// died between a commit and its bell. Returns the rings that had to be replaced, which the other side does not
    /// know yet, and the end that it had of them.
    pub fn reap(&self, name: &ProcessName) -> Vec<(u32, End)> {
        let mut replaced = Vec::new();
        for ring in &self.rings {
            let Some(end) = ring.plan.end_of(name) else {
                continue;
            };
            ring.unpark(end);
            if let Err(violation) = ring.succeed(end) {
                error!(
                    "ring {} of {name} cannot go on: {violation}",
                    ring.plan.name()
                );
                let mut until = ring.killed();
                until.retain(|&left| left != end);
                if self.replace(ring, until) {
                    replaced.push((ring.plan.number, end));
                }
            }
            ring.owner.borrow().ring_bells();
        }
        replaced
    }

    /// A fresh ring in the place of one whose producer cannot be trusted, and whose ends are being killed. What was in
    /// it was never answered: devices send again.
    pub fn replace_ring(&self, number: u32) {
        if let Some(ring) = self.rings.get(number as usize) {
            self.replace(ring, ring.killed());
        }
    }

    /// The old ring's owner is kept until these ends are reaped: to close a bell waits for whoever holds it up inside the
    /// kernel, and somebody who runs can do so at will. Whether there is a fresh ring.
    fn replace(&self, ring: &Ring, until: Vec<End>) -> bool {
        let fresh = self
            .state_dir
            .borrow_mut()
            .next_birth()
            .map_err(NodeError::from)
            .and_then(|birth| {
                let owner = RingOwner::create(ring.plan.geometry, ring.plan.number, birth)?;
                Ok((birth, owner))
            });
        match fresh {
            Ok((birth, owner)) => {
                ring.birth.set(birth);
                self.stats.add(SupervisorMetric::RingsReplaced, 1);
                let old = ring.owner.replace(owner);
                // One a ring: an older one that still waits goes now.
                let parked = (!until.is_empty()).then_some(Parked { _owner: old, until });
                ring.parked.replace(parked);
                true
            }
            Err(error) => {
                error!("cannot replace ring {}: {error}", ring.plan.name());
                false
            }
        }
    }

    /// Says on behalf of processes that are gone for good that no more will come from them.
    pub fn close_rings_of(&self, roles: &[Role]) {
        for ring in self
            .rings
            .iter()
            .filter(|ring| roles.contains(&ring.plan.producer.role))
        {
            ring.owner.borrow().close();
        }
    }

    /// What a ring carries, who writes it and who reads it.
    pub fn ring(&self, number: u32) -> Option<&RingPlan> {
        self.rings.get(number as usize).map(|ring| &ring.plan)
    }

    /// Whether this process reads that ring.
    pub fn is_consumer(&self, name: &ProcessName, number: u32) -> bool {
        let ring = self.rings.get(number as usize);
        ring.is_some_and(|ring| ring.plan.consumer == *name)
    }
}
