//! Who subscribed to what, and what is retained: the part of the broker that all connections share. Pure but for the
//! bell that wakes a subscriber's connection.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Publish, PublishProperties};
use tokio::sync::Notify;

use super::topic::TopicFilter;

/// Messages that wait for one subscriber. With one more, the publisher is answered 0x97 (quota exceeded).
pub const SUBSCRIBER_MESSAGES_MAX: usize = 65_536;

/// Retained messages; a further topic is answered 0x97.
pub const RETAINED_MESSAGES_MAX: usize = 10_000;

/// Messages on their way to one subscriber.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<OutboxState>,
    /// Rung when there is something to do.
    pub bell: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    queue: VecDeque<Publish>,
    evicted: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, OutboxState> {
        // A poisoned queue is still a queue: nothing below panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest message.
    pub fn pop(&self) -> Option<Publish> {
        self.state().queue.pop_front()
    }

    /// Quality of the oldest message.
    pub fn next_qos(&self) -> Option<QoS> {
        self.state().queue.front().map(|publish| publish.qos)
    }

    /// Whether another connection took the client id.
    pub fn evicted(&self) -> bool {
        self.state().evicted
    }

    fn has_room(&self) -> bool {
        self.state().queue.len() < SUBSCRIBER_MESSAGES_MAX
    }

    fn push(&self, publish: Publish) {
        self.state().queue.push_back(publish);
        self.bell.notify_one();
    }

    fn evict(&self) {
        self.state().evicted = true;
        self.bell.notify_one();
    }
}

/// One subscription of a client.
#[derive(Debug)]
pub struct Subscription {
    /// What it wants.
    pub filter: TopicFilter,
    /// The best quality it takes.
    pub qos: QoS,
    /// Not what the client itself publishes.
    pub no_local: bool,
    /// Keep the retain mark of live messages.
    pub retain_as_published: bool,
}

#[derive(Debug)]
struct Client {
    id: String,
    outbox: Arc<Outbox>,
    subscriptions: Vec<Subscription>,
    will: Option<LastWill>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Queued for this many subscribers.
    Queued(u64),
    /// Nobody subscribed.
    Nobody,
    /// A queue was full; it was queued for no one.
    Full,
}

/// Clients, subscriptions, retained messages.
#[derive(Debug, Default)]
pub struct Exchange {
    clients: HashMap<u64, Client>,
    retained: HashMap<String, Publish>,
    connects: u64,
    turn: usize,
}

impl Exchange {
    /// Enters a client and returns the number of its session. An older session of the same id is evicted and its will
    /// published.
    pub fn connect(&mut self, id: &str, outbox: Arc<Outbox>, will: Option<LastWill>) -> u64 {
        let older = self.clients.iter().find(|(_, client)| client.id == id);
        if let Some(session) = older.map(|(session, _)| *session) {
            if let Some(client) = self.clients.get(&session) {
                client.outbox.evict();
            }
            self.disconnect(session, true);
        }
        self.connects += 1;
        let client = Client {
            id: id.to_owned(),
            outbox,
            subscriptions: Vec::new(),
            will,
        };
        self.clients.insert(self.connects, client);
        self.connects
    }

    /// Removes a session, once; with its will published if it ended badly. Returns whether a will was published.
    pub fn disconnect(&mut self, session: u64, badly: bool) -> bool {
        let will = self.clients.remove(&session).and_then(|client| client.will);
        let Some(will) = will.filter(|_| badly) else {
            return false;
        };
        let properties = will.properties.map(|properties| PublishProperties {
            payload_format_indicator: properties.payload_format_indicator,
            message_expiry_interval: properties.message_expiry_interval,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
            user_properties: properties.user_properties,
            content_type: properties.content_type,
            ..PublishProperties::default()
        });
        let publish = Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: will.topic,
            pkid: 0,
            payload: will.message,
            properties,
        };
        self.publish(session, publish);
        true
    }

    /// Adds or replaces a subscription. Returns whether it is new.
    pub fn subscribe(&mut self, session: u64, subscription: Subscription) -> bool {
        let Some(client) = self.clients.get_mut(&session) else {
            return false;
        };
        let before = client.subscriptions.len();
        client
            .subscriptions
            .retain(|old| old.filter != subscription.filter);
        let new = client.subscriptions.len() == before;
        client.subscriptions.push(subscription);
        new
    }

    /// Ends a subscription. Returns whether there was one.
    pub fn unsubscribe(&mut self, session: u64, filter: &TopicFilter) -> bool {
        let Some(client) = self.clients.get_mut(&session) else {
            return false;
        };
        let before = client.subscriptions.len();
        client.subscriptions.retain(|old| old.filter != *filter);
        client.subscriptions.len() != before
    }

    /// Queues for a client what is retained under a filter.
    pub fn send_retained(&self, session: u64, filter: &TopicFilter, qos: QoS) {
        let Some(client) = self.clients.get(&session) else {
            return;
        };
        for (topic, publish) in &self.retained {
            if filter.matches(topic) && client.outbox.has_room() {
                let mut copy = publish.clone();
                copy.qos = lower(copy.qos, qos);
                client.outbox.push(copy);
            }
        }
    }

    /// Routes a message from a session.
    pub fn publish(&mut self, from: u64, publish: Publish) -> Routed {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else {
            return Routed::Nobody;
        };
        let takers = self.takers(from, topic);
        let full = |taker: &Taker| {
            let counted = lower(taker.qos, publish.qos) != QoS::AtMostOnce;
            counted && !self.clients[&taker.session].outbox.has_room()
        };
        let new_topic = publish.retain && !self.retained.contains_key(topic);
        let retained_full = new_topic && self.retained.len() >= RETAINED_MESSAGES_MAX;
        if takers.iter().any(full) || retained_full {
            return Routed::Full;
        }
        if publish.retain {
            if publish.payload.is_empty() {
                self.retained.remove(topic);
            } else {
                self.retained.insert(topic.to_owned(), publish.clone());
            }
        }
        let mut queued = 0;
        for taker in takers {
            let outbox = &self.clients[&taker.session].outbox;
            if outbox.has_room() {
                let mut copy = publish.clone();
                copy.dup = false;
                copy.qos = lower(copy.qos, taker.qos);
                copy.retain = copy.retain && taker.retain_as_published;
                outbox.push(copy);
                queued += 1;
            }
        }
        match queued {
            0 => Routed::Nobody,
            queued => Routed::Queued(queued),
        }
    }

    /// Who gets a message on `topic`. Each client once, at its best quality; of a shared subscription's members one,
    /// in turn.
    fn takers(&mut self, from: u64, topic: &str) -> Vec<Taker> {
        let mut takers = Vec::new();
        let mut groups: HashMap<(&str, &str), Vec<Taker>> = HashMap::new();
        for (&session, client) in &self.clients {
            let mut best: Option<Taker> = None;
            for subscription in &client.subscriptions {
                let own = subscription.no_local && session == from;
                if own || !subscription.filter.matches(topic) {
                    continue;
                }
                let taker = Taker {
                    session,
                    qos: subscription.qos,
                    retain_as_published: subscription.retain_as_published,
                };
                let filter = &subscription.filter;
                match &filter.group {
                    Some(group) => {
                        let members = groups.entry((group, &filter.levels)).or_default();
                        members.push(taker);
                    }
                    None if best.as_ref().is_none_or(|best| best.qos < taker.qos) => {
                        best = Some(taker);
                    }
                    None => {}
                }
            }
            takers.extend(best);
        }
        for mut members in groups.into_values() {
            members.sort_by_key(|member| member.session);
            let turn = self.turn % members.len();
            takers.push(members.swap_remove(turn));
        }
        self.turn = self.turn.wrapping_add(1);
        takers
    }
}

/// A session that gets a message.
#[derive(Debug)]
struct Taker {
    session: u64,
    qos: QoS,
    retain_as_published: bool,
}

fn lower(a: QoS, b: QoS) -> QoS {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(filter: &str) -> Subscription {
        Subscription {
            filter: TopicFilter::parse(filter).unwrap(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
        }
    }

    fn message(topic: &str) -> Publish {
        Publish::new(topic, QoS::AtLeastOnce, "x", None)
    }

    #[test]
    fn a_full_subscriber_refuses_the_message_for_everybody() {
        let mut exchange = Exchange::default();
        let (slow, quick) = (Arc::new(Outbox::default()), Arc::new(Outbox::default()));
        for (id, outbox) in [("slow", &slow), ("quick", &quick)] {
            let session = exchange.connect(id, Arc::clone(outbox), None);
            exchange.subscribe(session, subscription("a/#"));
        }
        for _ in 0..SUBSCRIBER_MESSAGES_MAX {
            assert_eq!(exchange.publish(0, message("a/b")), Routed::Queued(2));
            quick.pop();
        }
        assert_eq!(exchange.publish(0, message("a/b")), Routed::Full);
        assert!(quick.pop().is_none());
    }

    #[test]
    fn a_client_with_two_matching_filters_gets_one_copy() {
        let mut exchange = Exchange::default();
        let session = exchange.connect("c", Arc::default(), None);
        exchange.subscribe(session, subscription("a/#"));
        exchange.subscribe(session, subscription("a/+"));
        assert_eq!(exchange.publish(0, message("a/b")), Routed::Queued(1));
        assert_eq!(exchange.publish(0, message("b")), Routed::Nobody);
    }

    #[test]
    fn a_shared_subscription_takes_turns() {
        let mut exchange = Exchange::default();
        let outboxes: Vec<Arc<Outbox>> = (0..2).map(|_| Arc::default()).collect();
        for (at, outbox) in outboxes.iter().enumerate() {
            let session = exchange.connect(&at.to_string(), Arc::clone(outbox), None);
            exchange.subscribe(session, subscription("$share/g/a"));
        }
        for _ in 0..4 {
            assert_eq!(exchange.publish(0, message("a")), Routed::Queued(1));
        }
        for outbox in &outboxes {
            assert!(outbox.pop().is_some() && outbox.pop().is_some() && outbox.pop().is_none());
        }
    }
}
