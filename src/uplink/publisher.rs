//! The publisher: what the broker hears, in which order, and when an alarm counts as delivered.
//!
//! A pure state machine. It is told the time, what the journal accepted and loaded, and what the connection saw; it
//! answers with [`Action`]s. It knows sequences and devices, not contents; the journal is the only session state, and
//! what the broker has not confirmed is sent again after every reconnect.
//!
//! Promises: a device's alarms go out in the order of the journal, one at a time, so nothing overtakes; a record is
//! given up only by [`Action::Delete`] after a PUBACK that says delivered, or by [`Action::Quarantine`] after the broker
//! refused this very message several times; never more than a window is unconfirmed. Any doubt about the connection
//! (an unasked acknowledgement, one that does not come) ends it.

mod backoff;
mod queue;
mod reason;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use super::topics::Status;
use crate::frame::DeviceId;
use backoff::Backoff;
use queue::{Lane, Queue};

pub use reason::Reason;

/// An acknowledgement that takes longer, milliseconds, ends the connection.
pub const ACK_MS_MAX: u64 = 20_000;

/// Refusals of one message, for reasons that speak of the message itself, after which it goes to the quarantine.
pub const REFUSALS_MAX: u32 = 3;

/// Percent of the window that the backlog may fill, so that a live alarm always finds a place.
const BACKLOG_WINDOW_PERCENT: usize = 75;

/// A connection that lasted this long, milliseconds, makes the next back-off short again.
const STEADY_MS: u64 = 5_000;

/// Time for the last publishes of a drain, milliseconds; what is left goes with the next start.
const DRAIN_PUBLISH_MS: u64 = 1_000;

/// Time for the whole of a drain, milliseconds.
const DRAIN_MS: u64 = 1_500;

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most unconfirmed messages at a time, at least one.
    pub window: u16,
    /// Keep an alarm that reached no subscriber until it does.
    pub hold_without_subscriber: bool,
    /// Whether there is a broker at all.
    pub broker: bool,
}

/// Why a connection is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The connection ended by itself.
    Closed,
    /// An acknowledgement came that nobody waits for.
    Unsolicited,
    /// An acknowledgement did not come.
    Late,
    /// The broker and we disagree on packet ids.
    PacketId,
}

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a new client and connect it.
    Connect,
    /// Throw the client away with all it holds, and all contents of messages.
    Drop(Doubt),
    /// Have the content of this record at hand, then call [`Publisher::loaded`].
    Load(u64),
    /// Hand this record to the client.
    Publish {
        /// Sequence of the record.
        seq: u64,
        /// How often it was sent since this process runs, this time included.
        attempt: u32,
    },
    /// Hand this status to the client, retained.
    PublishStatus(Status),
    /// The content of this record is not wanted until it is loaded again.
    Forget(u64),
    /// The broker confirmed this record: delete it with the next commit.
    Delete(u64),
    /// The broker will never take this record: quarantine it with the next commit. The reason code is the broker's.
    Quarantine(u64, u8),
    /// Say goodbye and close.
    Disconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No broker is configured, or the drain is over.
    Off,
    Down {
        until_ms: u64,
    },
    Connecting,
    Up {
        since_ms: u64,
    },
    /// Goodbye is on its way; only its confirmation counts.
    Leaving,
}

/// How far a record is between its turn and the broker's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Loading,
    Loaded,
    Sent,
}

#[derive(Clone, Copy, Debug)]
struct Moving {
    device: DeviceId,
    lane: Lane,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cargo {
    Alarm(u64),
    Status(Status),
}

/// A message that the client has.
#[derive(Clone, Copy, Debug)]
struct Flight {
    cargo: Cargo,
    since_ms: u64,
}

/// The records of one lane between their turn and the client.
#[derive(Debug, Default)]
struct Staged {
    /// Loading or loaded.
    count: usize,
    /// Content at hand, in the order of their turns as far as loading kept it.
    loaded: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// Messages that may still be sent.
    left: usize,
    publish_until_ms: u64,
    end_ms: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Publisher {
    settings: Settings,
    phase: Phase,
    /// The smaller of our window and the broker's Receive Maximum.
    window: usize,
    backoff: Backoff,
    queue: Queue,
    moving: HashMap<u64, Moving>,
    staged: [Staged; Lane::COUNT],
    /// Handed to the client, packet id not known yet; the client keeps the order.
    submitted: VecDeque<Flight>,
    flights: HashMap<u16, Flight>,
    backlog_in_flight: usize,
    drain: Option<Drain>,
    actions: VecDeque<Action>,
}

impl Publisher {
    /// A publisher with nothing to send; `seed` decides its jitter.
    pub fn new(settings: Settings, seed: u64) -> Publisher {
        let down = Phase::Down { until_ms: 0 };
        Publisher {
            settings,
            phase: if settings.broker { down } else { Phase::Off },
            window: 0,
            backoff: Backoff::new(seed),
            queue: Queue::default(),
            moving: HashMap::new(),
            staged: Default::default(),
            submitted: VecDeque::new(),
            flights: HashMap::new(),
            backlog_in_flight: 0,
            drain: None,
            actions: VecDeque::new(),
        }
    }

    /// Whether alarms can be sent now.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Whether the drain is over: nothing more will be asked for.
    pub fn is_finished(&self) -> bool {
        self.drain.is_some() && self.phase == Phase::Off && self.actions.is_empty()
    }

    /// Records that wait for the broker's word.
    pub fn records(&self) -> usize {
        self.queue.records()
    }

    /// Devices whose next alarm the broker refused for now.
    pub fn held_devices(&self) -> usize {
        self.queue.held_devices()
    }

    /// Messages that the client has and the broker has not confirmed.
    pub fn in_flight(&self) -> usize {
        self.submitted.len() + self.flights.len()
    }

    /// A record is in the journal. Sequences grow from call to call.
    pub fn accepted(&mut self, seq: u64, device: DeviceId) {
        let lane = if self.is_connected() {
            Lane::Live
        } else {
            Lane::Backlog
        };
        self.queue.push(seq, device, lane);
    }

    /// The content of a record is at hand, or (`found` false) the journal has it no more.
    pub fn loaded(&mut self, seq: u64, found: bool) {
        let Some(moving) = self
            .moving
            .get_mut(&seq)
            .filter(|m| m.stage == Stage::Loading)
        else {
            return;
        };
        let staged = &mut self.staged[moving.lane as usize];
        if found {
            moving.stage = Stage::Loaded;
            staged.loaded.push_back(seq);
        } else {
            staged.count -= 1;
            let device = moving.device;
            self.moving.remove(&seq);
            self.queue.finish(device);
        }
    }

    /// The client is connected to a broker that takes `receive_max` unconfirmed messages at a time.
    pub fn connected(&mut self, now_ms: u64, receive_max: u16) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Up { since_ms: now_ms };
        self.window = usize::from(self.settings.window.min(receive_max)).max(1);
        self.queue.restart();
        self.actions
            .push_back(Action::PublishStatus(Status::Online));
    }

    /// The client's connection is gone.
    pub fn closed(&mut self, now_ms: u64) {
        self.doubt(now_ms, Doubt::Closed);
    }

    /// The client gave the oldest submitted message this packet id and wrote it.
    pub fn sent(&mut self, now_ms: u64, packet_id: u16) {
        match self.submitted.pop_front() {
            Some(flight) if !self.flights.contains_key(&packet_id) => {
                self.flights.insert(packet_id, flight);
            }
            _ => self.doubt(now_ms, Doubt::PacketId),
        }
    }

    /// Whether this packet id is an alarm's.
    pub fn is_alarm(&self, packet_id: u16) -> bool {
        let flight = self.flights.get(&packet_id);
        flight.is_some_and(|flight| matches!(flight.cargo, Cargo::Alarm(_)))
    }

    /// The broker's word on a packet id.
    pub fn acknowledged(&mut self, now_ms: u64, packet_id: u16, reason: Reason) {
        if reason == Reason::PacketIdInUse {
            return self.doubt(now_ms, Doubt::PacketId);
        }
        match self.flights.remove(&packet_id).map(|flight| flight.cargo) {
            Some(Cargo::Alarm(seq)) => self.judge(now_ms, seq, reason),
            Some(Cargo::Status(Status::Offline)) => {
                self.actions.push_back(Action::Disconnect);
                self.phase = Phase::Off;
            }
            Some(Cargo::Status(_)) => {}
            None => self.doubt(now_ms, Doubt::Unsolicited),
        }
    }

    /// The client will not take the record that it was just handed, because the broker takes no message of its size.
    pub fn too_large(&mut self, now_ms: u64, seq: u64) {
        let last = self.submitted.back().map(|flight| flight.cargo);
        if last == Some(Cargo::Alarm(seq)) {
            self.submitted.pop_back();
            self.judge(now_ms, seq, Reason::PacketTooLarge);
        }
    }

    /// What a word on a record that was sent means for it.
    fn judge(&mut self, now_ms: u64, seq: u64, reason: Reason) {
        let moving = self
            .moving
            .remove(&seq)
            .expect("a record in flight is moving");
        self.backlog_in_flight -= usize::from(moving.lane == Lane::Backlog);
        let hold = self.settings.hold_without_subscriber;
        if reason == Reason::Success || (reason == Reason::NoSubscriber && !hold) {
            self.actions.push_back(Action::Delete(seq));
            return self.queue.finish(moving.device);
        }
        let refused = self.queue.refuse(moving.device, reason.blames_message());
        if refused.blamed >= REFUSALS_MAX {
            self.actions
                .push_back(Action::Quarantine(seq, reason.code()));
            return self.queue.finish(moving.device);
        }
        let wait_ms = self
            .backoff
            .hold_ms(reason == Reason::NoSubscriber, refused.in_a_row);
        self.queue.hold(moving.device, now_ms + wait_ms);
        self.actions.push_back(Action::Forget(seq));
    }

    /// Ends the connection; all that the client had waits again. Deletes that are still to be told stay.
    fn doubt(&mut self, now_ms: u64, doubt: Doubt) {
        let since_ms = match self.phase {
            Phase::Off | Phase::Down { .. } => return,
            Phase::Up { since_ms } => since_ms,
            Phase::Connecting | Phase::Leaving => now_ms,
        };
        if now_ms >= since_ms + STEADY_MS {
            self.backoff.reset();
        }
        self.moving.clear();
        self.staged = Default::default();
        self.submitted.clear();
        self.flights.clear();
        self.backlog_in_flight = 0;
        let is_kept =
            |action: &Action| matches!(action, Action::Delete(_) | Action::Quarantine(..));
        self.actions.retain(is_kept);
        self.actions.push_back(Action::Drop(doubt));
        self.phase = if self.drain.is_some() {
            Phase::Off
        } else {
            let until_ms = now_ms + self.backoff.connect_ms();
            Phase::Down { until_ms }
        };
    }

    /// Nothing more will be accepted: send at most one more window, say goodbye, end.
    pub fn drain(&mut self, now_ms: u64) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain {
            left: self.window,
            publish_until_ms: now_ms + DRAIN_PUBLISH_MS,
            end_ms: now_ms + DRAIN_MS,
        });
        match self.phase {
            Phase::Up { .. } => self
                .actions
                .push_back(Action::PublishStatus(Status::Draining)),
            Phase::Down { .. } => self.phase = Phase::Off,
            _ => self.doubt(now_ms, Doubt::Closed),
        }
    }

    /// Time has passed. To be called at [`Publisher::deadline_ms`] and about once a second.
    pub fn tick(&mut self, now_ms: u64) {
        let flights = self.submitted.iter().chain(self.flights.values());
        if let Some(oldest_ms) = flights.map(|flight| flight.since_ms).min()
            && now_ms >= oldest_ms + ACK_MS_MAX
        {
            self.doubt(now_ms, Doubt::Late);
        }
        if let Phase::Down { until_ms } = self.phase
            && now_ms >= until_ms
        {
            self.phase = Phase::Connecting;
            self.actions.push_back(Action::Connect);
        }
        self.queue.release(now_ms);
        if let Some(drain) = self.drain
            && now_ms >= drain.end_ms
        {
            self.doubt(now_ms, Doubt::Late);
        }
    }

    /// When [`Publisher::tick`] has something to do, as far as that is known.
    pub fn deadline_ms(&self) -> Option<u64> {
        let phase = match (self.phase, self.drain) {
            (Phase::Down { until_ms }, _) => Some(until_ms),
            (Phase::Up { .. }, Some(drain)) => Some(drain.publish_until_ms),
            (Phase::Leaving, Some(drain)) => Some(drain.end_ms),
            _ => None,
        };
        phase.into_iter().chain(self.queue.release_ms()).min()
    }

    /// The next thing to do, until there is none.
    pub fn next_action(&mut self, now_ms: u64) -> Option<Action> {
        if self.actions.is_empty() {
            self.leave(now_ms);
        }
        if let Some(action) = self.actions.pop_front() {
            if let Action::PublishStatus(status) = action {
                self.submit(Cargo::Status(status), now_ms);
            }
            return Some(action);
        }
        if !self.is_connected() || self.drain.is_some_and(|drain| drain.left == 0) {
            return None;
        }
        self.publish(now_ms).or_else(|| self.load())
    }

    /// In a drain, says goodbye once the last window is confirmed, empty or out of time.
    fn leave(&mut self, now_ms: u64) {
        let Some(drain) = self.drain.filter(|_| self.is_connected()) else {
            return;
        };
        let nothing_moves = self.moving.is_empty() && !self.queue.has_turn();
        let waits = self
            .moving
            .values()
            .any(|moving| moving.stage == Stage::Sent);
        let sent_all = nothing_moves || (drain.left == 0 && !waits);
        if sent_all || now_ms >= drain.publish_until_ms {
            self.phase = Phase::Leaving;
            self.actions
                .push_back(Action::PublishStatus(Status::Offline));
        }
    }

    /// Hands over the next record whose content is at hand, if the window has a place for it.
    fn publish(&mut self, now_ms: u64) -> Option<Action> {
        if self.in_flight() >= self.window {
            return None;
        }
        let share = (self.window * BACKLOG_WINDOW_PERCENT / 100).max(1);
        let live = self.staged[Lane::Live as usize].loaded.pop_front();
        let seq = match live {
            Some(seq) => seq,
            None if self.backlog_in_flight < share => {
                self.staged[Lane::Backlog as usize].loaded.pop_front()?
            }
            None => return None,
        };
        let moving = self
            .moving
            .get_mut(&seq)
            .expect("a loaded record is moving");
        moving.stage = Stage::Sent;
        let (device, lane) = (moving.device, moving.lane);
        self.staged[lane as usize].count -= 1;
        self.backlog_in_flight += usize::from(lane == Lane::Backlog);
        self.submit(Cargo::Alarm(seq), now_ms);
        if let Some(drain) = &mut self.drain {
            drain.left -= 1;
        }
        let attempt = self.queue.attempt(device);
        Some(Action::Publish { seq, attempt })
    }

    fn submit(&mut self, cargo: Cargo, now_ms: u64) {
        let since_ms = now_ms;
        self.submitted.push_back(Flight { cargo, since_ms });
    }

    /// Asks for the content of the next record in turn, up to a window ahead in each lane.
    fn load(&mut self) -> Option<Action> {
        for lane in [Lane::Live, Lane::Backlog] {
            if self.staged[lane as usize].count >= self.window {
                continue;
            }
            if let Some((seq, device)) = self.queue.take(lane) {
                self.staged[lane as usize].count += 1;
                let stage = Stage::Loading;
                self.moving.insert(
                    seq,
                    Moving {
                        device,
                        lane,
                        stage,
                    },
                );
                return Some(Action::Load(seq));
            }
        }
        None
    }
}
