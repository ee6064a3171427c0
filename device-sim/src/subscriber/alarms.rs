//! Alarms at an MQTT 5 broker, QoS 1, in a session that outlives connections: what comes while this is away, a broker
//! with persistent sessions delivers later.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{RECONNECT_AFTER, Seen};

/// How long the broker keeps the session of a subscriber that is away, seconds.
const SESSION_EXPIRY_S: u32 = 3_600;

/// Messages that the broker may send before the first is acknowledged.
const RECEIVE_MAXIMUM: u16 = 1_000;

/// Largest packet that is taken.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// Requests that wait for the connection: subscriptions, one a reconnect.
const REQUESTS_MAX: usize = 16;

/// Not `mqtt://host:port`.
#[derive(Debug, thiserror::Error)]
#[error("cannot read broker address {url:?}: expected mqtt://host or mqtt://host:port")]
pub struct UrlError {
    url: String,
}

/// Host and port of an `mqtt://` URL.
fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let authority = url.strip_prefix("mqtt://")?.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 1883),
    };
    (!host.is_empty()).then_some((host, port))
}

/// Follows the alarms under `topic_filter` until the receiver of `tx` is gone. The client id is made of this process
/// and the filter, the same for each reconnect.
///
/// # Errors
/// [`UrlError`] when `mqtt_url` is none.
pub async fn alarms(
    mqtt_url: &str,
    topic_filter: &str,
    tx: mpsc::Sender<Seen>,
) -> Result<(), UrlError> {
    let url = || mqtt_url.to_owned();
    let (host, port) = host_and_port(mqtt_url).ok_or_else(|| UrlError { url: url() })?;
    let client_id = format!("device-sim-{}-{topic_filter}", std::process::id());
    let mut options = MqttOptions::new(client_id, host, port);
    options
        .set_keep_alive(Duration::from_secs(5))
        .set_clean_start(false)
        .set_session_expiry_interval(Some(SESSION_EXPIRY_S))
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(PACKET_BYTES_MAX));
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    let mut connected = false;
    while !tx.is_closed() {
        let seen = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                // Also when the session was kept: a broker that lost it and says otherwise must not silence us. A full
                // queue holds a subscription already.
                let _ = client.try_subscribe(topic_filter, QoS::AtLeastOnce);
                continue;
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                connected = true;
                Seen::Connected
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                match serde_json::from_slice(&publish.payload) {
                    Ok(payload) => Seen::Alarm {
                        payload,
                        duplicate_flag: publish.dup,
                        at: Instant::now(),
                    },
                    Err(error) => Seen::Unreadable {
                        what: format!("message on {:?}: {error}", publish.topic),
                    },
                }
            }
            Ok(_) => continue,
            Err(_) => {
                sleep(RECONNECT_AFTER).await;
                if !std::mem::take(&mut connected) {
                    continue;
                }
                Seen::Closed
            }
        };
        if tx.send(seen).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::broker::{self, Options};

    #[test]
    fn broker_addresses_are_read_with_and_without_a_port() {
        assert_eq!(
            host_and_port("mqtt://127.0.0.1:18"),
            Some(("127.0.0.1", 18))
        );
        assert_eq!(host_and_port("mqtt://host/"), Some(("host", 1883)));
        assert_eq!(host_and_port("mqtt://[::1]"), Some(("[::1]", 1883)));
        for url in ["", "mqtt://", "http://host", "mqtt://host:x"] {
            assert_eq!(host_and_port(url), None, "{url}");
        }
    }

    #[tokio::test]
    async fn alarms_come_before_and_after_the_broker_restarts() {
        let first = broker::start(Options::default()).await.unwrap();
        let (url, listen) = (first.url(), first.addr.to_string());
        let (tx, mut rx) = mpsc::channel(16);
        let topic = "ringway/v1/+/+/alarm/#";
        let subscriber = tokio::spawn(async move { alarms(&url, topic, tx).await });
        let mut next = async || timeout(Duration::from_secs(20), rx.recv()).await.unwrap();
        assert!(matches!(next().await, Some(Seen::Connected)));
        publish(&first, r#"{"id":"01"}"#).await;
        assert!(matches!(next().await, Some(Seen::Alarm { payload, .. }) if payload["id"] == "01"));
        publish(&first, "no JSON").await;
        assert!(matches!(next().await, Some(Seen::Unreadable { .. })));
        first.stop().await;
        assert!(matches!(next().await, Some(Seen::Closed)));
        let again = Options {
            listen,
            ..Options::default()
        };
        let second = broker::start(again).await.unwrap();
        assert!(matches!(next().await, Some(Seen::Connected)));
        publish(&second, r#"{"id":"02"}"#).await;
        assert!(matches!(next().await, Some(Seen::Alarm { payload, .. }) if payload["id"] == "02"));
        subscriber.abort();
    }

    async fn publish(broker: &broker::Handle, payload: &str) {
        let (host, port) = (broker.addr.ip().to_string(), broker.addr.port());
        let (client, mut events) = AsyncClient::new(MqttOptions::new("publisher", host, port), 1);
        let topic = "ringway/v1/s/n/alarm/d/sos";
        client
            .publish(topic, QoS::AtLeastOnce, false, payload.to_owned())
            .await
            .unwrap();
        while !matches!(
            events.poll().await.unwrap(),
            Event::Incoming(Packet::PubAck(_))
        ) {}
    }
}
