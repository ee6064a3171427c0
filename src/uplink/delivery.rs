//! Delivery: carries out what the publisher decides, and tells it what the connection hears.
//!
//! Holds the contents of messages that are about to be sent; a bounded part of them comes straight from the commit, the
//! rest is read back from the journal. A broker that goes away is said once, and so is its return.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};

use super::journal::{Batch, Stored};
use super::mqtt::{Broker, Heard, Link, wire_bytes_max};
use super::publisher::{Action, Doubt, Publisher, Reason};
use super::topics::{Status, Topics};
use crate::frame::{DeviceId, Event, EventId, TraceRecord};
use crate::hop::TraceHead;
use crate::sys::clock::{wall_ms, wall_ns};

/// Contents kept from the commit until they are sent; what is beyond is read back from the journal.
const CONTENTS_MAX: usize = 1024;

/// Records read from the journal in one task.
const LOADS_MAX: usize = 256;

/// What happened since the last time it was asked for.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Alarms sent, repeats included.
    pub published: u64,
    /// Alarms that the broker confirmed.
    pub confirmed: Vec<TraceRecord>,
    /// Alarms that the broker refused.
    pub refused: u64,
    /// Connections begun after the first.
    pub reconnects: u64,
}

/// What is remembered of a message until the broker's word.
#[derive(Clone, Copy, Debug)]
struct Sent {
    head: TraceHead,
    device: DeviceId,
    event: EventId,
    sent_unix_ns: u64,
    attempts: u32,
}

/// The connection with all that hangs on it.
pub struct Delivery {
    publisher: Publisher,
    topics: Topics,
    broker: Option<Broker>,
    link: Option<Link>,
    connects: u64,
    packet_bytes_max: usize,
    contents: HashMap<u64, Stored>,
    sent: HashMap<u64, Sent>,
    wanted: Vec<u64>,
    delivered: Vec<u64>,
    quarantined: Vec<(u64, u8)>,
    news: News,
    away_said: bool,
    /// Refusals that this connection was told of in the log.
    refusals_said: HashSet<u8>,
}

impl Delivery {
    /// Nothing under way.
    pub fn new(publisher: Publisher, topics: Topics, broker: Option<Broker>) -> Delivery {
        Delivery {
            publisher,
            topics,
            broker,
            link: None,
            connects: 0,
            packet_bytes_max: usize::MAX,
            contents: HashMap::new(),
            sent: HashMap::new(),
            wanted: Vec::new(),
            delivered: Vec::new(),
            quarantined: Vec::new(),
            news: News::default(),
            away_said: false,
            refusals_said: HashSet::new(),
        }
    }

    /// The state machine, to be looked at.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Whether the broker takes a message of this event, as far as is known.
    pub fn fits(&self, event: &Event) -> bool {
        self.topics.alarm_bytes_max(&event.rule, &event.sensor) <= self.packet_bytes_max
    }

    /// A record that was in the journal when the process started.
    pub fn found(&mut self, seq: u64, device: DeviceId) {
        self.publisher.accepted(seq, device);
    }

    /// A record is in the journal.
    pub fn accepted(&mut self, stored: Stored) {
        self.publisher.accepted(stored.seq, stored.event.device);
        if self.publisher.is_connected() && self.contents.len() < CONTENTS_MAX {
            self.contents.insert(stored.seq, stored);
        }
    }

    /// The journal's answer to [`Delivery::take_wanted`].
    pub fn loaded(&mut self, asked: &[u64], found: Vec<Stored>) {
        for stored in found {
            self.contents.insert(stored.seq, stored);
        }
        for seq in asked {
            self.publisher.loaded(*seq, self.contents.contains_key(seq));
        }
    }

    /// Records that are to be read from the journal next.
    pub fn take_wanted(&mut self) -> Vec<u64> {
        let count = self.wanted.len().min(LOADS_MAX);
        self.wanted.drain(..count).collect()
    }

    /// Records that the broker is done with and that the journal still has.
    pub fn deletes(&self) -> usize {
        self.delivered.len() + self.quarantined.len()
    }

    /// Hands the deletes over to a batch.
    pub fn take_deletes(&mut self, batch: &mut Batch) {
        batch.delivered.append(&mut self.delivered);
        batch.quarantined.append(&mut self.quarantined);
    }

    /// Takes deletes back that a full disk did not allow.
    pub fn return_deletes(&mut self, batch: &mut Batch) {
        self.delivered.append(&mut batch.delivered);
        self.quarantined.append(&mut batch.quarantined);
    }

    /// What happened since the last call.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.publisher.tick(now_ms);
    }

    /// Sends what one window takes, says goodbye and ends.
    pub fn drain(&mut self, now_ms: u64) {
        self.publisher.drain(now_ms);
    }

    /// Whether the drain is over and the goodbye on the wire.
    pub fn is_finished(&self) -> bool {
        self.publisher.is_finished() && self.link.is_none()
    }

    /// The next thing that the connection hears; waits for ever without one. May be cancelled.
    pub async fn hear(&mut self) -> Heard {
        match &mut self.link {
            Some(link) => link.next().await,
            None => std::future::pending().await,
        }
    }

    /// Takes something heard, and all that came with it.
    pub fn take(&mut self, first: Heard, now_ms: u64) {
        let mut next = Some(first);
        while let Some(heard) = next {
            self.hear_one(heard, now_ms);
            next = self.link.as_mut().and_then(Link::try_next);
        }
    }

    fn hear_one(&mut self, heard: Heard, now_ms: u64) {
        match heard {
            Heard::Connected {
                receive_max,
                packet_bytes_max,
            } => {
                info!("connected to the broker");
                self.away_said = false;
                self.refusals_said.clear();
                self.packet_bytes_max = packet_bytes_max;
                self.publisher.connected(now_ms, receive_max);
            }
            Heard::Sent(packet_id) => self.publisher.sent(now_ms, packet_id),
            Heard::Acknowledged(packet_id, reason) => {
                // Nobody has to listen to the status.
                if self.publisher.is_alarm(packet_id) {
                    self.say_refusal(reason);
                }
                self.publisher.acknowledged(now_ms, packet_id, reason);
            }
            Heard::Closed(why) => {
                self.link = None;
                if !self.publisher.is_finished() {
                    self.say_away(&why);
                    self.publisher.closed(now_ms);
                }
            }
        }
    }

    fn say_away(&mut self, why: &str) {
        if !self.away_said {
            self.away_said = true;
            warn!("cannot reach the broker, alarms wait in the journal: {why}");
        }
    }

    fn say_refusal(&mut self, reason: Reason) {
        if reason != Reason::Success {
            self.news.refused += 1;
            if self.refusals_said.insert(reason.code()) {
                warn!("broker does not deliver an alarm: {reason}");
            }
        }
    }

    /// Carries out what the publisher wants, until it wants nothing more.
    pub fn act(&mut self, now_ms: u64) {
        while let Some(action) = self.publisher.next_action(now_ms) {
            match action {
                Action::Connect => self.connect(now_ms),
                Action::Drop(doubt) => self.drop_link(doubt),
                Action::Load(seq) if self.contents.contains_key(&seq) => {
                    self.publisher.loaded(seq, true);
                }
                Action::Load(seq) => self.wanted.push(seq),
                Action::Publish { seq, attempt } => self.publish(seq, attempt, now_ms),
                Action::PublishStatus(status) => self.publish_status(status, now_ms),
                Action::Forget(seq) => drop(self.sent.remove(&seq)),
                Action::Delete(seq) => {
                    self.delivered.push(seq);
                    self.confirm(seq);
                }
                Action::Quarantine(seq, reason) => {
                    self.sent.remove(&seq);
                    warn!(
                        seq,
                        reason, "broker will not take an alarm, moved to the quarantine"
                    );
                    self.quarantined.push((seq, reason));
                }
                Action::Disconnect => {
                    if let Some(link) = &self.link {
                        link.disconnect();
                    }
                }
            }
        }
    }

    fn connect(&mut self, now_ms: u64) {
        let Some(broker) = &self.broker else {
            return;
        };
        self.news.reconnects += u64::from(self.connects > 0);
        self.connects += 1;
        match Link::open(broker, self.topics.status(Status::Lost)) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                self.say_away(&format!("cannot read the password: {error}"));
                self.publisher.closed(now_ms);
            }
        }
    }

    fn drop_link(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Closed => {}
            Doubt::Unsolicited => self.say_away("it confirmed what was not sent"),
            Doubt::Late => self.say_away("it does not confirm"),
            Doubt::PacketId => self.say_away("its packet ids are not ours"),
        }
        self.link = None;
        self.contents.clear();
        self.sent.clear();
        self.wanted.clear();
    }

    fn publish(&mut self, seq: u64, attempt: u32, now_ms: u64) {
        let stored = self.contents.remove(&seq).expect("the content was at hand");
        let message = self.topics.alarm(&stored, wall_ms());
        if wire_bytes_max(&message) > self.packet_bytes_max {
            self.say_refusal(Reason::PacketTooLarge);
            return self.publisher.too_large(now_ms, seq);
        }
        let Some(link) = &self.link else {
            return self.publisher.closed(now_ms);
        };
        if !link.publish(message, false) {
            return self.publisher.closed(now_ms);
        }
        self.news.published += 1;
        let sent = Sent {
            head: stored.event.trace,
            device: stored.event.device,
            event: stored.event.id,
            sent_unix_ns: wall_ns(),
            attempts: attempt,
        };
        self.sent.insert(seq, sent);
    }

    fn publish_status(&mut self, status: Status, now_ms: u64) {
        let message = self.topics.status(status);
        let handed_over = self
            .link
            .as_ref()
            .is_some_and(|link| link.publish(message, true));
        if !handed_over {
            self.publisher.closed(now_ms);
        }
    }

    fn confirm(&mut self, seq: u64) {
        if let Some(sent) = self.sent.remove(&seq) {
            self.news.confirmed.push(TraceRecord::Confirmed {
                head: sent.head,
                device: sent.device,
                event: sent.event,
                sent_unix_ns: sent.sent_unix_ns,
                confirmed_unix_ns: wall_ns(),
                attempts: sent.attempts,
            });
        }
    }
}
