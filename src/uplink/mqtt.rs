//! The wire: rumqttc's MQTT 5 client, used as a driver of one connection and nothing more.
//!
//! Its own way of reconnecting loses messages (measured; see the design), so a [`Link`] lives for one connection: after
//! [`Heard::Closed`], or any doubt of the publisher's, it is dropped with all it holds, and a new one begins with a clean
//! session. It tells what it hears in the order in which it heard it. What to send, and what to believe, is decided in
//! [`super::publisher`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, LastWill, Packet, PubAckReason, PublishProperties,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::publisher::Reason;
use super::topics::Message;
use crate::config::UplinkSettings;

/// What the broker may send us, bytes: acknowledgements only.
const INCOMING_BYTES_MAX: u32 = 16 * 1024;

/// Time for name look-up, connection and CONNACK, seconds.
const CONNECT_S: u64 = 5;

/// Messages beside the window that may be under way: birth, draining and goodbye.
const STATUS_MESSAGES_MAX: usize = 3;

/// What was heard and not yet taken.
const HEARD_MAX: usize = 1024;

/// Bytes around topic, payload and properties of a message: fixed header, lengths, packet id, content type.
const FRAMING_BYTES: usize = 64;

const CONTENT_TYPE: &str = "application/json";

/// Where the broker is and who we are to it.
#[derive(Clone, Debug)]
pub struct Broker {
    host: String,
    port: u16,
    client_id: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    keep_alive: Duration,
    window: u16,
}

impl Broker {
    /// The broker of the configuration; `None` if there is none.
    pub fn new(settings: &UplinkSettings) -> Option<Broker> {
        let host = settings.broker_host.as_ref()?;
        let bare_ipv6 = host.contains(':') && !host.starts_with('[');
        Some(Broker {
            host: if bare_ipv6 {
                format!("[{host}]")
            } else {
                host.clone()
            },
            port: settings.broker_port,
            client_id: settings.client_id.clone(),
            username: settings.username.clone(),
            password_file: settings.password_file.as_ref().map(PathBuf::from),
            // The library panics below five seconds.
            keep_alive: Duration::from_secs(u64::from(settings.keep_alive_s.max(5))),
            window: settings.window.max(1),
        })
    }

    fn options(&self, will: Message) -> io::Result<MqttOptions> {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        if let Some(username) = &self.username {
            let password = match &self.password_file {
                Some(path) => std::fs::read_to_string(path)?,
                None => String::new(),
            };
            options.set_credentials(username, password.trim_end_matches(['\r', '\n']));
        }
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let will = LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, None);
        options
            .set_network_options(network)
            .set_connection_timeout(CONNECT_S)
            .set_keep_alive(self.keep_alive)
            // The journal is the session: whatever the broker remembers of an old one is in the way.
            .set_clean_start(true)
            .set_connect_properties(ConnectProperties {
                max_packet_size: Some(INCOMING_BYTES_MAX),
                ..ConnectProperties::new()
            })
            .set_outgoing_inflight_upper_limit(self.window)
            .set_last_will(will);
        Ok(options)
    }
}

/// What a connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The broker took us.
    Connected {
        /// Unconfirmed messages that it takes at a time.
        receive_max: u16,
        /// Bytes that it takes in one message.
        packet_bytes_max: usize,
    },
    /// The oldest message handed over and not yet sent has this packet id and is written.
    Sent(u16),
    /// The broker's word on a packet id.
    Acknowledged(u16, Reason),
    /// The connection is over, and why.
    Closed(String),
}

/// One connection, from its first packet to its end.
pub struct Link {
    client: AsyncClient,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Link {
    /// Begins to connect; `will` is what the broker says in our place when the connection breaks. Must be called on a
    /// runtime.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub fn open(broker: &Broker, will: Message) -> io::Result<Link> {
        let options = broker.options(will)?;
        let queued_max = usize::from(broker.window) + STATUS_MESSAGES_MAX;
        let (client, connection) = AsyncClient::new(options, queued_max);
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let task = tokio::spawn(drive(connection, broker.keep_alive, tell));
        Ok(Link {
            client,
            heard,
            task,
        })
    }

    /// Hands a message over. `false`: the connection takes no more, which cannot be within a window.
    pub fn publish(&self, message: Message, retain: bool) -> bool {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some(CONTENT_TYPE.to_owned()),
            user_properties: message.properties,
            ..PublishProperties::default()
        };
        self.client
            .try_publish_with_properties(
                message.topic,
                QoS::AtLeastOnce,
                retain,
                message.payload,
                properties,
            )
            .is_ok()
    }

    /// Ends the connection politely, so that the will is not published.
    pub fn disconnect(&self) {
        // A connection that takes no more is beyond politeness.
        let _ = self.client.try_disconnect();
    }

    /// The next thing heard; may be cancelled.
    pub async fn next(&mut self) -> Heard {
        let heard = self.heard.recv().await;
        heard.unwrap_or_else(|| Heard::Closed("the connection's task has ended".to_owned()))
    }

    /// The next thing heard, if it is there.
    pub fn try_next(&mut self) -> Option<Heard> {
        self.heard.try_recv().ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An upper bound of what a message takes on the wire, bytes.
pub fn wire_bytes_max(message: &Message) -> usize {
    let property = |(key, value): &(String, String)| key.len() + value.len() + 5;
    let properties: usize = message.properties.iter().map(property).sum();
    message.topic.len() + message.payload.len() + properties + FRAMING_BYTES
}

/// Polls the connection until it ends. A poll is never cancelled but to throw the connection away: the library would
/// lose the message that it was about to write.
async fn drive(mut connection: EventLoop, keep_alive: Duration, tell: mpsc::Sender<Heard>) {
    loop {
        let stillness_max = stillness_max(connection.options.keep_alive());
        let heard = match timeout(stillness_max, connection.poll()).await {
            Ok(Ok(event)) => {
                // A broker may switch keep-alive off by zero, for which the library would ping without a pause.
                if connection.options.keep_alive().is_zero() {
                    connection.options.set_keep_alive(keep_alive);
                }
                match translate(event) {
                    Some(heard) => heard,
                    None => continue,
                }
            }
            Ok(Err(error)) => Heard::Closed(error.to_string()),
            Err(_) => Heard::Closed("nothing moves on the connection".to_owned()),
        };
        let over = matches!(heard, Heard::Closed(_));
        if tell.send(heard).await.is_err() || over {
            return;
        }
    }
}

/// Longest time in which nothing at all may happen on a connection: pings are due far more often, and a flush has no
/// limit of its own in the library.
fn stillness_max(keep_alive: Duration) -> Duration {
    keep_alive * 3 / 2 + Duration::from_secs(CONNECT_S)
}

/// What the publisher has to know of an event of the library's.
fn translate(event: Event) -> Option<Heard> {
    match event {
        Event::Outgoing(Outgoing::Publish(packet_id)) => Some(Heard::Sent(packet_id)),
        Event::Outgoing(Outgoing::Disconnect) => Some(Heard::Closed("we said goodbye".to_owned())),
        Event::Incoming(Packet::PubAck(ack)) => {
            Some(Heard::Acknowledged(ack.pkid, reason(ack.reason)))
        }
        Event::Incoming(Packet::ConnAck(ack)) => {
            let properties = ack.properties.as_ref();
            let receive_max = properties.and_then(|p| p.receive_max);
            let packet_bytes_max = properties.and_then(|p| p.max_packet_size);
            Some(Heard::Connected {
                receive_max: receive_max.unwrap_or(u16::MAX),
                packet_bytes_max: packet_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
            })
        }
        _ => None,
    }
}

fn reason(reason: PubAckReason) -> Reason {
    match reason {
        PubAckReason::Success => Reason::Success,
        PubAckReason::NoMatchingSubscribers => Reason::NoSubscriber,
        PubAckReason::UnspecifiedError => Reason::Unspecified,
        PubAckReason::ImplementationSpecificError => Reason::Implementation,
        PubAckReason::NotAuthorized => Reason::NotAuthorized,
        PubAckReason::TopicNameInvalid => Reason::TopicInvalid,
        PubAckReason::PacketIdentifierInUse => Reason::PacketIdInUse,
        PubAckReason::QuotaExceeded => Reason::QuotaExceeded,
        PubAckReason::PayloadFormatInvalid => Reason::PayloadInvalid,
    }
}
