//! Connections that are not read yet, or for a while: for rubbish that came from where they come from, or because they
//! sent too much.

use super::{Connections, Key};
use crate::ingest::offence::Standing;

impl Connections {
    /// A connection sent a sound message of a known device: what else comes from there can be trusted a little.
    pub fn sound(&mut self, key: Key) {
        let Some(connection) = self.get(key).filter(|c| !c.proven) else {
            return;
        };
        connection.proven = true;
        connection.standing = Standing::Sound;
        let source = connection.source;
        self.unproven.is_none_any_more(key.token());
        if self.offenders.sound(source) {
            for (until_ms, token) in std::mem::take(&mut self.delayed) {
                let key = Key::from_token(token);
                if self.get(key).is_some_and(|c| c.source == source) {
                    self.read_from_now_on(key, Standing::Probation);
                } else {
                    self.delayed.insert((until_ms, token));
                }
            }
        }
    }

    /// A connection sent too much rubbish, and will be closed: who comes from there is not read for a while.
    pub fn offend(&mut self, key: Key, now_ms: u64) {
        if let Some(connection) = self.get(key) {
            let source = connection.source;
            self.offenders.offend(source, now_ms);
        }
    }

    /// Begins to read those whose delay is over.
    pub fn end_delays(&mut self, now_ms: u64) {
        while let Some(&(until_ms, token)) = self.delayed.first()
            && until_ms <= now_ms
        {
            self.delayed.pop_first();
            self.read_from_now_on(Key::from_token(token), Standing::New);
        }
    }

    /// When the next delay is over.
    pub fn delayed_until_ms(&self) -> Option<u64> {
        self.delayed.first().map(|&(until_ms, _)| until_ms)
    }

    /// A connection sent too much, and is not read until then.
    pub fn rest(&mut self, key: Key, until_ms: u64) {
        let Some(connection) = self.get(key) else {
            return;
        };
        let before_ms = connection.rests_until_ms;
        let until_ms = before_ms.map_or(until_ms, |before_ms| before_ms.max(until_ms));
        connection.rests_until_ms = Some(until_ms);
        if let Some(before_ms) = before_ms {
            self.resting.remove(&(before_ms, key.token()));
        }
        self.resting.insert((until_ms, key.token()));
    }

    /// Whether a connection rests.
    pub fn rests(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.rests_until_ms.is_some())
    }

    /// The next connection whose rest is over; it may have whole messages kept.
    pub fn next_rested(&mut self, now_ms: u64) -> Option<Key> {
        while let Some(&(until_ms, token)) = self.resting.first()
            && until_ms <= now_ms
        {
            self.resting.pop_first();
            let key = Key::from_token(token);
            if let Some(connection) = self.get(key) {
                connection.rests_until_ms = None;
                // It could not be heard while nobody listened.
                connection.heard_ms = connection.heard_ms.max(until_ms);
                return Some(key);
            }
        }
        None
    }

    /// When the next rest is over.
    pub fn resting_until_ms(&self) -> Option<u64> {
        self.resting.first().map(|&(until_ms, _)| until_ms)
    }

    fn read_from_now_on(&mut self, key: Key, standing: Standing) {
        let Some(connection) = self.get(key) else {
            return;
        };
        if let Standing::Delayed { until_ms } = connection.standing {
            // It could not be heard while nobody listened.
            connection.heard_ms = until_ms;
        }
        connection.standing = standing;
        self.settle(key);
    }
}
