//! Subscriptions: what each subscriber has still to hear, bounded.
//!
//! Subscribers that keep up share one log of updates and read it at their own place. One that falls so far behind
//! that the log must forget what it has not read gets the latest track of each vehicle instead, with the count of
//! updates it missed, until it has caught up. A new subscriber is one that has every vehicle to catch up on: that is
//! its snapshot. So memory a subscriber is four bytes or eight a vehicle, whatever it does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::json;
use super::live::{LiveView, Slot};

/// Tracks in one message.
pub const MESSAGE_TRACKS_MAX: usize = 500;

/// Messages handed out at a time: what one write to a socket may hold.
pub const TAKE_MESSAGES_MAX: usize = 4;

/// Alarms kept for a subscriber that is behind; the oldest fall away.
pub const BEHIND_ALARMS_MAX: usize = 256;

/// One thing that every subscriber must hear.
enum Update {
    Track {
        slot: Slot,
        json: Arc<str>,
    },
    /// The whole message.
    Alarm(Bytes),
}

/// Names a subscription for as long as it lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(u64);

/// What was handed out, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Tracks, those of a snapshot included.
    pub tracks: u64,
    /// Updates that were skipped because a later one of the same vehicle took their place.
    pub conflated: u64,
    /// Alarms that fell away.
    pub alarms_dropped: u64,
}

/// The update log and everybody who reads it.
pub struct Subscriptions {
    log: VecDeque<Update>,
    /// Number of the log's first update.
    first: u64,
    updates_max: usize,
    subscribers: BTreeMap<SubscriberId, Subscription>,
    subscribers_max: usize,
    next_id: u64,
    /// The last message made of the log, and what part: subscribers in step get the same bytes.
    shared: Option<(u64, u64, Bytes)>,
}

/// One subscriber.
struct Subscription {
    /// Number of the next update to read.
    next: u64,
    /// What it has missed, if it is behind.
    behind: Option<Behind>,
}

/// What a subscriber that is behind has to catch up on.
#[derive(Default)]
struct Behind {
    /// Vehicles with something new, the longest waiting first.
    order: VecDeque<Slot>,
    /// Updates waiting, by slot; zero: the vehicle is not in `order`.
    waiting: Vec<u32>,
    /// How many at the front of `order` belong to the snapshot.
    snapshot: Option<usize>,
    alarms: VecDeque<Bytes>,
    alarms_dropped: u64,
}

impl Subscriptions {
    /// No subscribers yet. `updates_max`: updates kept for those who have not read them.
    pub fn new(updates_max: usize, subscribers_max: usize) -> Subscriptions {
        Subscriptions {
            log: VecDeque::new(),
            first: 0,
            updates_max: updates_max.max(1),
            subscribers: BTreeMap::new(),
            subscribers_max,
            next_id: 0,
            shared: None,
        }
    }

    /// Count of subscribers.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Everybody must hear that this vehicle has a new track.
    pub fn push_track(&mut self, slot: Slot, json: &Arc<str>) {
        self.push(Update::Track {
            slot,
            json: Arc::clone(json),
        });
    }

    /// Everybody must hear this message of an alarm.
    pub fn push_alarm(&mut self, message: Bytes) {
        self.push(Update::Alarm(message));
    }

    fn push(&mut self, update: Update) {
        if self.subscribers.is_empty() {
            self.first += self.log.len() as u64 + 1;
            self.log.clear();
            return;
        }
        if self.log.len() == self.updates_max {
            self.forget_oldest();
        }
        self.log.push_back(update);
    }

    /// Lets go of what everybody has read: memory is for those who have not.
    pub fn forget_read(&mut self) {
        let nexts = self.subscribers.values().map(|one| one.next);
        let read = nexts.min().unwrap_or(self.end()) - self.first;
        self.log.drain(..read as usize);
        self.first += read;
    }

    /// Makes room; who has not read the oldest update is behind from now on.
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.log.pop_front() else {
            return;
        };
        for subscription in self.subscribers.values_mut() {
            if subscription.next == self.first {
                subscription.behind.get_or_insert_default().note(&oldest);
                subscription.next += 1;
            }
        }
        self.first += 1;
    }

    /// A new subscriber, who first gets `vehicles` vehicles as a snapshot; `None` if there are as many as may be.
    pub fn subscribe(&mut self, vehicles: usize) -> Option<SubscriberId> {
        if self.subscribers.len() >= self.subscribers_max {
            return None;
        }
        let id = SubscriberId(self.next_id);
        self.next_id += 1;
        let slots = 0..Slot::try_from(vehicles).expect("the view numbers its vehicles in a Slot");
        self.subscribers.insert(
            id,
            Subscription {
                next: self.end(),
                behind: Some(Behind {
                    order: slots.collect(),
                    waiting: vec![1; vehicles],
                    snapshot: Some(vehicles),
                    ..Behind::default()
                }),
            },
        );
        Some(id)
    }

    /// The subscriber is gone.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        self.subscribers.remove(&id);
    }

    /// Puts the subscriber's next messages into `out`, at most [`TAKE_MESSAGES_MAX`]; none if it has heard everything.
    ///
    /// # Panics
    /// When `id` was unsubscribed.
    pub fn take(&mut self, id: SubscriberId, view: &LiveView, out: &mut Vec<Bytes>) -> Taken {
        let mut taken = Taken::default();
        let end = self.end();
        let subscription = self
            .subscribers
            .get_mut(&id)
            .expect("whoever takes is subscribed");
        if let Some(behind) = &mut subscription.behind {
            // Everything of the log is noted, so that each vehicle is told once, and as it is now.
            let read = (subscription.next - self.first) as usize;
            self.log
                .range(read..)
                .for_each(|update| behind.note(update));
            subscription.next = end;
            if behind.take(view, out, &mut taken) {
                subscription.behind = None;
            }
            return taken;
        }
        while subscription.next < end && out.len() < TAKE_MESSAGES_MAX {
            let from = subscription.next;
            let read = (from - self.first) as usize;
            if let Some((shared_from, to, message)) = &self.shared
                && *shared_from == from
            {
                taken.tracks += to - from;
                out.push(message.clone());
                subscription.next = *to;
                continue;
            }
            if let Update::Alarm(message) = &self.log[read] {
                out.push(message.clone());
                subscription.next += 1;
                continue;
            }
            let tracks = self.log.range(read..).map_while(|update| match update {
                Update::Track { json, .. } => Some(&**json),
                Update::Alarm(_) => None,
            });
            let mut message = Message::new("tracks");
            let mut count = 0;
            for track in tracks.take(MESSAGE_TRACKS_MAX) {
                message.add(track, 0);
                count += 1;
            }
            let message = message.end(None);
            subscription.next += count;
            taken.tracks += count;
            self.shared = Some((from, subscription.next, message.clone()));
            out.push(message);
        }
        taken
    }

    /// Number that the next update will get.
    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }
}

impl Behind {
    fn note(&mut self, update: &Update) {
        match update {
            Update::Track { slot, .. } => {
                let index = *slot as usize;
                if self.waiting.len() <= index {
                    self.waiting.resize(index + 1, 0);
                }
                if self.waiting[index] == 0 {
                    self.order.push_back(*slot);
                }
                self.waiting[index] = self.waiting[index].saturating_add(1);
            }
            Update::Alarm(message) => {
                if self.alarms.len() == BEHIND_ALARMS_MAX {
                    self.alarms.pop_front();
                    self.alarms_dropped += 1;
                }
                self.alarms.push_back(message.clone());
            }
        }
    }

    /// Hands out alarms, then tracks; whether the subscriber has caught up.
    fn take(&mut self, view: &LiveView, out: &mut Vec<Bytes>, taken: &mut Taken) -> bool {
        taken.alarms_dropped += std::mem::take(&mut self.alarms_dropped);
        // A subscriber that has not seen the snapshot would not know the vehicle of an alarm.
        if self.snapshot.is_none() {
            let room = TAKE_MESSAGES_MAX.saturating_sub(out.len() + 1);
            out.extend(self.alarms.drain(..room.min(self.alarms.len())));
        }
        match self.snapshot {
            Some(left) => {
                let count = left.min(MESSAGE_TRACKS_MAX);
                let left = left - count;
                let mut message = Message::new("snapshot");
                for _ in 0..count {
                    let (slot, _) = self.pop();
                    message.add(view.track(slot), 0);
                }
                taken.tracks += count as u64;
                out.push(message.end(Some(left > 0)));
                self.snapshot = (left > 0).then_some(left);
            }
            None if !self.order.is_empty() => {
                let mut message = Message::new("tracks");
                for _ in 0..self.order.len().min(MESSAGE_TRACKS_MAX) {
                    let (slot, updates) = self.pop();
                    message.add(view.track(slot), updates - 1);
                    taken.tracks += 1;
                    taken.conflated += u64::from(updates - 1);
                }
                out.push(message.end(None));
            }
            None => {}
        }
        self.order.is_empty() && self.alarms.is_empty() && self.snapshot.is_none()
    }

    /// The vehicle that waited longest, and how many updates of it waited.
    fn pop(&mut self) -> (Slot, u32) {
        let slot = self.order.pop_front().expect("the caller counted");
        (slot, std::mem::take(&mut self.waiting[slot as usize]))
    }
}

/// A message of tracks being written.
struct Message {
    text: String,
    empty: bool,
}

impl Message {
    fn new(kind: &str) -> Message {
        let mut text = String::with_capacity(512);
        text.push_str("{\"type\":\"");
        text.push_str(kind);
        text.push_str("\",\"tracks\":[");
        Message { text, empty: true }
    }

    fn add(&mut self, track: &str, skipped: u32) {
        if !std::mem::take(&mut self.empty) {
            self.text.push(',');
        }
        json::write_conflated(&mut self.text, track, skipped);
    }

    fn end(mut self, more: Option<bool>) -> Bytes {
        self.text.push_str(match more {
            None => "]}",
            Some(true) => "],\"more\":true}",
            Some(false) => "],\"more\":false}",
        });
        self.text.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::live::Applied;
    use super::super::live::tests::frame;
    use super::*;

    struct Fleet {
        view: LiveView,
        subscriptions: Subscriptions,
        time_ms: i64,
    }

    impl Fleet {
        fn new(vehicles: usize, updates_max: usize) -> Fleet {
            let mut fleet = Fleet {
                view: LiveView::new(100_000),
                subscriptions: Subscriptions::new(updates_max, 4),
                time_ms: 0,
            };
            (0..vehicles).for_each(|vehicle| fleet.moves(vehicle));
            fleet
        }

        fn moves(&mut self, vehicle: usize) {
            self.time_ms += 1;
            let frame = frame(&format!("v{vehicle}"), self.time_ms);
            let Applied::Changed(slot) = self.view.apply_track(&frame) else {
                panic!("time only grows");
            };
            self.subscriptions.push_track(slot, self.view.track(slot));
        }

        fn subscribe(&mut self) -> SubscriberId {
            self.subscriptions.subscribe(self.view.len()).unwrap()
        }

        fn take(&mut self, id: SubscriberId) -> Vec<Value> {
            let mut out = Vec::new();
            self.subscriptions.take(id, &self.view, &mut out);
            out.iter()
                .map(|message| serde_json::from_slice(message).unwrap())
                .collect()
        }

        /// Takes until there is nothing more.
        fn take_all(&mut self, id: SubscriberId) -> Vec<Value> {
            let mut all = Vec::new();
            loop {
                let some = self.take(id);
                if some.is_empty() {
                    return all;
                }
                all.extend(some);
            }
        }
    }

    fn devices(message: &Value) -> Vec<&str> {
        let tracks = message["tracks"].as_array().unwrap();
        tracks
            .iter()
            .map(|track| track["device"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_new_subscriber_gets_a_snapshot_in_chunks_and_then_updates() {
        let mut fleet = Fleet::new(1_201, 100);
        let id = fleet.subscribe();
        let messages = fleet.take_all(id);
        let shape: Vec<_> = messages
            .iter()
            .map(|m| (m["type"].as_str().unwrap(), devices(m).len(), &m["more"]))
            .collect();
        assert_eq!(
            shape,
            [
                ("snapshot", 500, &json!(true)),
                ("snapshot", 500, &json!(true)),
                ("snapshot", 201, &json!(false)),
            ]
        );
        fleet.moves(7);
        fleet.moves(7);
        let messages = fleet.take_all(id);
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (&messages[0]["type"], devices(&messages[0])),
            (&json!("tracks"), vec!["v7", "v7"])
        );
    }

    #[test]
    fn an_empty_fleet_still_has_a_snapshot() {
        let mut fleet = Fleet::new(0, 10);
        let id = fleet.subscribe();
        assert_eq!(
            fleet.take_all(id),
            [json!({"type": "snapshot", "tracks": [], "more": false})]
        );
    }

    #[test]
    fn what_moves_during_the_snapshot_is_told_after_it_and_never_backwards() {
        let mut fleet = Fleet::new(600, 100);
        let id = fleet.subscribe();
        let first = fleet.take(id);
        assert_eq!(devices(&first[0]).len(), 500);
        fleet.moves(3); // already told
        fleet.moves(550); // still to be told, and then with this update
        fleet.moves(9_000); // new
        let rest = fleet.take_all(id);
        assert_eq!(rest[0]["more"], false);
        assert_eq!(devices(&rest[1]), ["v3", "v9000"]);
        assert_eq!(rest.len(), 2);
        assert_eq!(rest[1]["tracks"][0].get("conflated"), None);
    }

    #[test]
    fn a_slow_subscriber_gets_the_latest_of_each_vehicle_and_the_count_of_the_rest() {
        let mut fleet = Fleet::new(3, 4);
        let (slow, quick) = (fleet.subscribe(), fleet.subscribe());
        fleet.take_all(slow);
        fleet.take_all(quick);
        for vehicle in [0, 1, 0, 0, 2, 0] {
            fleet.moves(vehicle);
            assert_eq!(fleet.take_all(quick).len(), 1);
        }
        let messages = fleet.take_all(slow);
        assert_eq!(messages.len(), 1);
        let conflated: Vec<_> = messages[0]["tracks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|track| (track["device"].as_str().unwrap(), track.get("conflated")))
            .collect();
        assert_eq!(
            conflated,
            [("v0", Some(&json!(3))), ("v1", None), ("v2", None)]
        );
        assert_eq!(
            messages[0]["tracks"][0]["time"],
            json!("1970-01-01T00:00:00.009Z")
        );
        fleet.moves(1);
        assert_eq!(devices(&fleet.take_all(slow)[0]), ["v1"]);
    }

    #[test]
    fn alarms_keep_their_place_and_are_bounded_for_who_is_behind() {
        let mut fleet = Fleet::new(1, 2);
        let id = fleet.subscribe();
        fleet.take_all(id);
        let alarm = |n: usize| Bytes::from(format!("{{\"type\":\"alarm\",\"alarm\":{n}}}"));
        fleet.subscriptions.push_alarm(alarm(0));
        fleet.moves(0);
        let kinds: Vec<_> = fleet
            .take_all(id)
            .iter()
            .map(|m| m["type"].clone())
            .collect();
        assert_eq!(kinds, ["alarm", "tracks"]);

        for n in 0..BEHIND_ALARMS_MAX + 3 {
            fleet.subscriptions.push_alarm(alarm(n));
        }
        let mut out = Vec::new();
        let taken = fleet.subscriptions.take(id, &fleet.view, &mut out);
        assert_eq!(taken.alarms_dropped, 3);
        assert_eq!(out[0], alarm(3));
        assert_eq!(out.len() + fleet.take_all(id).len(), BEHIND_ALARMS_MAX);
    }

    #[test]
    fn subscribers_in_step_share_the_bytes() {
        let mut fleet = Fleet::new(5, 100);
        let (a, b) = (fleet.subscribe(), fleet.subscribe());
        fleet.take_all(a);
        fleet.take_all(b);
        fleet.moves(1);
        fleet.moves(2);
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        let taken_a = fleet.subscriptions.take(a, &fleet.view, &mut of_a);
        let taken_b = fleet.subscriptions.take(b, &fleet.view, &mut of_b);
        assert_eq!((taken_a, taken_a.tracks), (taken_b, 2));
        assert_eq!(of_a[0].as_ptr(), of_b[0].as_ptr());
    }

    #[test]
    fn what_everybody_has_read_is_let_go_of_and_nothing_else() {
        let mut fleet = Fleet::new(2, 100);
        let (quick, slow) = (fleet.subscribe(), fleet.subscribe());
        fleet.take_all(quick);
        fleet.take_all(slow);
        fleet.moves(0);
        fleet.take_all(quick);
        fleet.moves(1);
        fleet.subscriptions.forget_read();
        assert_eq!(fleet.subscriptions.log.len(), 2);
        let heard = fleet.take_all(slow);
        assert_eq!(
            heard.iter().flat_map(devices).collect::<Vec<_>>(),
            ["v0", "v1"]
        );
        fleet.subscriptions.forget_read();
        assert_eq!(fleet.subscriptions.log.len(), 1);
        assert_eq!(devices(&fleet.take_all(quick)[0]), ["v1"]);
    }

    #[test]
    fn one_subscriber_too_many_is_refused() {
        let mut fleet = Fleet::new(1, 10);
        let ids: Vec<_> = (0..4).map(|_| fleet.subscribe()).collect();
        assert_eq!(fleet.subscriptions.subscribe(1), None);
        fleet.subscriptions.unsubscribe(ids[0]);
        assert!(fleet.subscriptions.subscribe(1).is_some());
    }

    /// Whatever the order of moves and takes: after catching up each subscriber knows the latest of every vehicle,
    /// and got or skipped every update exactly once.
    #[test]
    fn no_subscriber_stays_wrong_and_every_update_is_accounted_for() {
        use proptest::prelude::*;
        proptest!(|(updates_max in 1usize..20, steps in proptest::collection::vec((0usize..8, 0usize..12), 1..200))| {
            let mut fleet = Fleet::new(4, updates_max);
            let id = fleet.subscribe();
            fleet.take_all(id);
            let mut latest: std::collections::HashMap<String, String> = (0..4)
                .map(|v| (format!("v{v}"), fleet.view.track(v).to_string()))
                .collect();
            let (mut moved, mut told) = (0u64, 0u64);
            let mut hear = |messages: Vec<Value>, latest: &mut std::collections::HashMap<String, String>| {
                for track in messages.iter().flat_map(|m| m["tracks"].as_array().unwrap()) {
                    told += 1 + track["conflated"].as_u64().unwrap_or(0);
                    let mut plain = track.clone();
                    plain.as_object_mut().unwrap().remove("conflated");
                    latest.insert(track["device"].as_str().unwrap().into(), plain["time"].to_string());
                }
            };
            for (vehicle, act) in steps {
                if act == 0 {
                    hear(fleet.take(id), &mut latest);
                } else {
                    fleet.moves(vehicle);
                    moved += 1;
                }
            }
            hear(fleet.take_all(id), &mut latest);
            prop_assert_eq!(moved, told);
            for slot in 0..fleet.view.len() as Slot {
                let track: Value = serde_json::from_str(fleet.view.track(slot)).unwrap();
                let known = &latest[track["device"].as_str().unwrap()];
                prop_assert!(known == &track["time"].to_string() || known == &**fleet.view.track(slot));
            }
        });
    }
}
