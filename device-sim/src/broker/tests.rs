//! The broker on real sockets: a client made of the bare codec, which sees each packet, and rumqttc's own client.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, DisconnectReasonCode, Filter, LastWill, Packet, PingReq, PubAck,
    PubAckReason, Publish, PublishProperties, Subscribe, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// Nothing here takes longer, however loaded the machine is.
const DEADLINE: Duration = Duration::from_secs(20);

struct Client {
    stream: TcpStream,
    input: BytesMut,
}

impl Client {
    async fn connect(broker: &Handle, id: &str) -> Client {
        Client::connect_as(broker, id, 0, None, None).await.0
    }

    async fn connect_as(
        broker: &Handle,
        id: &str,
        keep_alive: u16,
        receive_maximum: Option<u16>,
        will: Option<LastWill>,
    ) -> (Client, Option<u16>) {
        let mut client = Client {
            stream: TcpStream::connect(broker.addr).await.unwrap(),
            input: BytesMut::new(),
        };
        let mut properties = ConnectProperties::new();
        properties.receive_maximum = receive_maximum;
        let connect = Connect {
            keep_alive,
            client_id: id.to_owned(),
            clean_start: true,
            properties: Some(properties),
        };
        client.send(Packet::Connect(connect, will, None)).await;
        match client.read().await {
            Some(Packet::ConnAck(ack)) => (client, ack.properties.unwrap().receive_max),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, topic: &str, pkid: u16) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, "x", None);
        publish.pkid = pkid;
        self.send(Packet::Publish(publish)).await;
    }

    async fn subscribe(&mut self, filter: &str) {
        let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
        subscribe.pkid = 1;
        self.send(Packet::Subscribe(subscribe)).await;
        let answer = self.read().await;
        assert!(matches!(answer, Some(Packet::SubAck(_))), "{answer:?}");
    }

    /// The next packet; `None` when the broker closed.
    async fn read(&mut self) -> Option<Packet> {
        timeout(DEADLINE, async {
            loop {
                match Packet::read(&mut self.input, None) {
                    Ok(packet) => return Some(packet),
                    Err(CodecError::InsufficientBytes(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
        .expect("a packet within the deadline")
    }

    async fn read_publish(&mut self) -> Publish {
        match self.read().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no message but {other:?}"),
        }
    }

    async fn read_ack(&mut self) -> (u16, PubAckReason) {
        match self.read().await {
            Some(Packet::PubAck(ack)) => (ack.pkid, ack.reason),
            other => panic!("no PUBACK but {other:?}"),
        }
    }

    /// Whether the broker has nothing to say: it answers a ping first.
    async fn is_silent(&mut self) -> bool {
        self.send(Packet::PingReq(PingReq)).await;
        matches!(self.read().await, Some(Packet::PingResp(_)))
    }
}

async fn broker(script: &str) -> Handle {
    let script = script::parse(script).unwrap();
    start(Options {
        script,
        ..Options::default()
    })
    .await
    .unwrap()
}

fn count(counter: &AtomicU64) -> u64 {
    Counters::read(counter)
}

#[tokio::test]
async fn a_message_reaches_its_subscriber_with_its_properties() {
    let broker = broker("[]").await;
    let mut subscriber = Client::connect(&broker, "sub").await;
    subscriber.subscribe("ringway/v1/+/+/alarm/#").await;
    let mut publisher = Client::connect(&broker, "pub").await;
    let properties = PublishProperties {
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("traceparent".to_owned(), "00-ab-cd-01".to_owned())],
        ..PublishProperties::default()
    };
    let mut publish = Publish::new(
        "ringway/v1/site/node/alarm/dev/sos",
        QoS::AtLeastOnce,
        "{}",
        Some(properties.clone()),
    );
    publish.pkid = 77;
    publisher.send(Packet::Publish(publish)).await;
    assert_eq!(publisher.read_ack().await, (77, PubAckReason::Success));
    let got = subscriber.read_publish().await;
    assert_eq!(got.properties, Some(properties));
    assert_eq!(&got.payload[..], b"{}");
    subscriber
        .send(Packet::PubAck(PubAck::new(got.pkid, None)))
        .await;
    assert!(subscriber.is_silent().await);
    assert_eq!(count(&broker.counters.confirmed), 1);
}

#[tokio::test]
async fn a_message_that_nobody_wants_is_answered_0x10() {
    let broker = broker("[]").await;
    let mut client = Client::connect(&broker, "c").await;
    client.subscribe("a/b").await;
    let unsubscribe = Unsubscribe {
        pkid: 2,
        filters: vec!["a/b".to_owned(), "c".to_owned()],
        properties: None,
    };
    client.send(Packet::Unsubscribe(unsubscribe)).await;
    let reasons = match client.read().await {
        Some(Packet::UnsubAck(ack)) => ack.reasons,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reasons,
        [
            UnsubAckReason::Success,
            UnsubAckReason::NoSubscriptionExisted
        ]
    );
    client.publish("a/b", 5).await;
    let expected = (5, PubAckReason::NoMatchingSubscribers);
    assert_eq!(client.read_ack().await, expected);
}

#[tokio::test]
async fn a_lost_client_leaves_its_retained_will_and_a_clean_one_does_not() {
    let broker = broker("[]").await;
    let will = |topic: &'static str| LastWill {
        topic: topic.into(),
        message: "offline".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: None,
    };
    let (lost, _) = Client::connect_as(&broker, "lost", 0, None, Some(will("s/lost"))).await;
    let (mut clean, _) = Client::connect_as(&broker, "clean", 0, None, Some(will("s/clean"))).await;
    clean.stream.write_all(&[0xe0, 0]).await.unwrap();
    assert_eq!(clean.read().await, None);
    let mut watcher = Client::connect(&broker, "w").await;
    watcher.subscribe("s/#").await;
    drop(lost);
    let got = watcher.read_publish().await;
    assert_eq!((&got.topic[..], got.retain), (&b"s/lost"[..], false));

    let mut later = Client::connect(&broker, "later").await;
    later.subscribe("#").await;
    let got = later.read_publish().await;
    assert_eq!((&got.topic[..], got.retain), (&b"s/lost"[..], true));
    assert!(later.is_silent().await);
}

#[tokio::test]
async fn a_second_connection_of_a_client_id_evicts_the_first() {
    let broker = broker("[]").await;
    let mut first = Client::connect(&broker, "same").await;
    let mut second = Client::connect(&broker, "same").await;
    match first.read().await {
        Some(Packet::Disconnect(last)) => {
            assert_eq!(last.reason_code, DisconnectReasonCode::SessionTakenOver);
        }
        other => panic!("{other:?}"),
    }
    assert!(second.is_silent().await);
}

#[tokio::test]
async fn a_subscriber_never_holds_more_than_its_receive_maximum() {
    let broker = broker("[]").await;
    let (mut subscriber, _) = Client::connect_as(&broker, "s", 0, Some(2), None).await;
    subscriber.subscribe("a").await;
    let mut publisher = Client::connect(&broker, "p").await;
    for id in 1..=3 {
        publisher.publish("a", id).await;
        assert_eq!(publisher.read_ack().await.0, id);
    }
    let first = subscriber.read_publish().await;
    subscriber.read_publish().await;
    assert!(subscriber.is_silent().await);
    subscriber
        .send(Packet::PubAck(PubAck::new(first.pkid, None)))
        .await;
    subscriber.read_publish().await;
}

#[tokio::test]
async fn a_silent_client_is_timed_out_and_rubbish_is_closed() {
    let broker = broker("[]").await;
    let mut rubbish = Client::connect(&broker, "r").await;
    rubbish.stream.write_all(&[0xff; 32]).await.unwrap();
    let last = rubbish.read().await;
    assert!(matches!(last, Some(Packet::Disconnect(_))), "{last:?}");
    let (mut silent, _) = Client::connect_as(&broker, "s", 1, None, None).await;
    match silent.read().await {
        Some(Packet::Disconnect(last)) => {
            assert_eq!(last.reason_code, DisconnectReasonCode::KeepAliveTimeout);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&broker.counters.timed_out), 1);
}

#[tokio::test]
async fn scripted_acks_are_missing_wrong_refusing_and_backwards() {
    let broker = broker(
        r#"[{"fault": "drop_ack", "times": 1},
            {"fault": "wrong_packet_id", "after": 1, "times": 1},
            {"fault": {"reason": {"code": 135}}, "after": 2, "times": 1},
            {"fault": {"reorder_acks": {"depth": 3}}, "after": 3}]"#,
    )
    .await;
    let mut client = Client::connect(&broker, "c").await;
    client.subscribe("a").await;
    for id in 1..=6 {
        client.publish("a", id).await;
    }
    let (mut acks, mut copies) = (Vec::new(), 0);
    while acks.len() < 5 {
        match client.read().await {
            Some(Packet::PubAck(ack)) => acks.push((ack.pkid, ack.reason)),
            Some(Packet::Publish(_)) => copies += 1,
            other => panic!("{other:?}"),
        }
    }
    let success = |id| (id, PubAckReason::Success);
    assert!(!(1..=6).contains(&acks[0].0), "{acks:?}");
    assert_eq!(
        acks[1..],
        [
            (3, PubAckReason::NotAuthorized),
            success(6),
            success(5),
            success(4)
        ]
    );
    while copies < 5 {
        client.read_publish().await;
        copies += 1;
    }
    assert!(client.is_silent().await);
    assert_eq!(broker.fired(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_scripted_close_and_freeze_end_the_talk() {
    let broker = broker(
        r#"[{"fault": "close", "after": 1, "client": "closed"},
            {"fault": "freeze", "client": "frozen"}]"#,
    )
    .await;
    let mut closed = Client::connect(&broker, "closed").await;
    closed.publish("a", 1).await;
    closed.publish("a", 2).await;
    let expected = (1, PubAckReason::NoMatchingSubscribers);
    assert_eq!(closed.read_ack().await, expected);
    assert_eq!(closed.read().await, None);

    let mut frozen = Client::connect(&broker, "frozen").await;
    frozen.publish("a", 1).await;
    frozen.send(Packet::PingReq(PingReq)).await;
    // Silence has no event to wait for; the broker's other connections would have answered many times.
    let answer = timeout(Duration::from_millis(100), frozen.read()).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(count(&broker.counters.frozen), 1);
}

#[tokio::test]
async fn a_client_beyond_the_stated_receive_maximum_is_disconnected() {
    let broker = broker(
        r#"[{"fault": {"receive_maximum": {"value": 2}}}, {"fault": {"delay_ack": {"ms": 60000}}}]"#,
    )
    .await;
    let (mut client, stated) = Client::connect_as(&broker, "c", 0, None, None).await;
    assert_eq!(stated, Some(2));
    for id in 1..=3 {
        client.publish("a", id).await;
    }
    match client.read().await {
        Some(Packet::Disconnect(last)) => assert_eq!(
            last.reason_code,
            DisconnectReasonCode::ReceiveMaximumExceeded
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&broker.counters.window_exceeded), 1);
}

#[tokio::test]
async fn rumqttc_publishes_and_subscribes_in_bulk() {
    const MESSAGES: usize = 2_000;
    let broker = broker("[]").await;
    let mut options = MqttOptions::new("bulk", broker.addr.ip().to_string(), broker.addr.port());
    options.set_receive_maximum(Some(100));
    let (client, mut events) = AsyncClient::new(options, MESSAGES + 1);
    client.subscribe("bulk/#", QoS::AtLeastOnce).await.unwrap();
    let (mut got, mut acks) = (Vec::new(), 0);
    let exchange = async {
        while got.len() < MESSAGES || acks < MESSAGES {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => {
                    for n in 0..MESSAGES {
                        let payload = n.to_string();
                        let publish =
                            client.try_publish("bulk/t", QoS::AtLeastOnce, false, payload);
                        publish.unwrap();
                    }
                }
                Event::Incoming(Packet::Publish(publish)) => got.push(publish.payload),
                Event::Incoming(Packet::PubAck(ack)) => {
                    assert_eq!(ack.reason, PubAckReason::Success);
                    acks += 1;
                }
                _ => {}
            }
        }
    };
    timeout(DEADLINE, exchange).await.unwrap();
    let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_stopped_broker_frees_its_port() {
    let first = broker("[]").await;
    let mut client = Client::connect(&first, "c").await;
    let listen = first.addr.to_string();
    first.stop().await;
    assert_eq!(client.read().await, None);
    let again = Options {
        listen,
        ..Options::default()
    };
    start(again).await.unwrap();
}
