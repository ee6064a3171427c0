//! A subscriber of a broker that keeps all that an MQTT 5 message says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::Value;

use crate::node::DEADLINE;

/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 16;

/// A message.
#[derive(Clone, Debug)]
pub struct Letter {
    pub topic: String,
    pub payload: Value,
    /// It was there before the subscription.
    pub retained: bool,
    pub quality: QoS,
    pub content_type: Option<String>,
    pub user: BTreeMap<String, String>,
}

/// A subscription that collects; it ends with its broker or with the test.
pub struct Mailbox {
    letters: Receiver<Letter>,
}

impl Mailbox {
    /// Subscribes, and returns once the broker has confirmed it.
    pub fn open(broker: SocketAddr, filter: &str) -> Mailbox {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("mailbox-{}-{number}", std::process::id());
        let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, REQUESTS_MAX);
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (subscribed, confirmed) = channel();
        let (tx, letters) = channel();
        std::thread::spawn(move || {
            // Kept, or the connection ends.
            let _client = client;
            while let Ok(Ok(event)) = connection.recv() {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(subscribed.send(())),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let properties = publish.properties.unwrap_or_default();
                        let letter = Letter {
                            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                            payload: serde_json::from_slice(&publish.payload).unwrap_or_default(),
                            retained: publish.retain,
                            quality: publish.qos,
                            content_type: properties.content_type,
                            user: properties.user_properties.into_iter().collect(),
                        };
                        if tx.send(letter).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        let confirmed = confirmed.recv_timeout(DEADLINE);
        confirmed.expect("the broker confirms a subscription");
        Mailbox { letters }
    }

    /// The next message.
    pub fn next(&self) -> Letter {
        self.find("a message", |_| true)
    }

    /// Takes messages until one is what was looked for.
    pub fn find(&self, what: &str, mut wanted: impl FnMut(&Letter) -> bool) -> Letter {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.letters.recv_timeout(left) {
                Ok(letter) if wanted(&letter) => return letter,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited {DEADLINE:?} for {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("no broker any more to get {what}"),
            }
        }
    }

    /// All messages that have come by now.
    pub fn empty(&self) -> Vec<Letter> {
        self.letters.try_iter().collect()
    }
}
