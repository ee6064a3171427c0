//! One connection of the broker: packets in, packets out, and the script's faults in between. Both directions go on
//! independently; what is read is bounded by what can be written.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, DisconnectReasonCode, LastWill, Packet,
    PingResp, PubAck, PubAckReason, Publish, RetainForwardRule, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::acks::Acks;
use super::exchange::{Outbox, Routed, Subscription};
use super::script::{Ack, Part, Verdict};
use super::topic::{self, TopicFilter};
use super::{Shared, ack_reason};

/// Largest packet.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// With more than this unwritten, nothing is read and no message is taken from the queue.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// A connection that has not said CONNECT by then is closed.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A last packet that is not written by then is given up.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The client said goodbye; no will.
    Clean,
    /// The client vanished, timed out or asked for its will.
    Lost,
    /// We close, with this last word.
    Expelled(DisconnectReasonCode),
    /// The script closes.
    Closed,
    /// The script freezes.
    Frozen,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Lost
    }
}

/// Serves one client until it ends.
pub async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    shared.counters.connections.fetch_add(1, Relaxed);
    let mut input = BytesMut::new();
    let hello = timeout(CONNECT_WITHIN, read_connect(&mut stream, &mut input));
    let Ok(Some((connect, will))) = hello.await else {
        return;
    };
    let outbox = Arc::new(Outbox::default());
    let client_id = match connect.client_id.as_str() {
        "" => format!("anonymous-{}", shared.counters.connections.load(Relaxed)),
        given => given.to_owned(),
    };
    let session = shared
        .exchange()
        .connect(&client_id, Arc::clone(&outbox), will);
    let part = shared.script.part(&client_id);
    let properties = connect.properties.as_ref();
    let mut connection = Connection {
        session,
        outbox,
        receive_maximum: part.receive_maximum(&shared.script).unwrap_or(u16::MAX),
        send_maximum: properties
            .and_then(|properties| properties.receive_maximum)
            .unwrap_or(u16::MAX),
        // Section 3.1.2.10: one and a half times.
        silence_max: (connect.keep_alive != 0)
            .then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500)),
        heard: Instant::now(),
        part,
        input,
        output: BytesMut::new(),
        acks: Acks::new(),
        unacknowledged: HashSet::new(),
        in_flight: HashSet::new(),
        last_id: 0,
        shared: Arc::clone(&shared),
    };
    let assigned = connect.client_id.is_empty().then_some(client_id);
    connection.greet(assigned);
    let Err(end) = connection.exchange_packets(&mut stream).await;
    connection.finish(&mut stream, end).await;
}

/// Reads the first packet; `None` if it is no CONNECT of MQTT 5.
async fn read_connect(
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Option<(Connect, Option<LastWill>)> {
    loop {
        match Packet::read(input, Some(PACKET_BYTES_MAX)) {
            Ok(Packet::Connect(connect, will, _)) => return Some((connect, will)),
            Err(CodecError::InsufficientBytes(_)) => {}
            _ => return None,
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

struct Connection {
    session: u64,
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    part: Part,
    /// What the client may leave unacknowledged.
    receive_maximum: u16,
    /// What we may leave unacknowledged.
    send_maximum: u16,
    silence_max: Option<Duration>,
    heard: Instant,
    input: BytesMut,
    output: BytesMut,
    acks: Acks<PubAck>,
    /// Ids of the client's publishes that we have not acknowledged.
    unacknowledged: HashSet<u16>,
    /// Ids of our publishes that the client has not acknowledged.
    in_flight: HashSet<u16>,
    last_id: u16,
}

impl Connection {
    /// Serves until the connection ends.
    async fn exchange_packets(&mut self, stream: &mut TcpStream) -> Result<Infallible, End> {
        let (mut reader, mut writer) = stream.split();
        // What came in one segment with CONNECT.
        self.take_packets()?;
        loop {
            if self.outbox.evicted() {
                return Err(End::Expelled(DisconnectReasonCode::SessionTakenOver));
            }
            self.send_messages()?;
            let silent_at = self.silence_max.map(|silence| self.heard + silence);
            let due = silent_at.into_iter().chain(self.acks.due()).min();
            let outbox = Arc::clone(&self.outbox);
            tokio::select! {
                read = reader.read_buf(&mut self.input), if self.output.len() < OUTPUT_BYTES_MAX => {
                    if read? == 0 {
                        return Err(End::Lost);
                    }
                    self.heard = Instant::now();
                    self.take_packets()?;
                }
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    written?;
                }
                () = outbox.bell.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    let now = Instant::now();
                    if silent_at.is_some_and(|silent_at| silent_at <= now) {
                        self.shared.counters.timed_out.fetch_add(1, Relaxed);
                        return Err(End::Expelled(DisconnectReasonCode::KeepAliveTimeout));
                    }
                    let (output, open) = (&mut self.output, &mut self.unacknowledged);
                    let counters = &self.shared.counters;
                    self.acks.release(now, |ack| write_ack(ack, output, open, counters));
                }
            }
        }
    }

    fn greet(&mut self, assigned_client_identifier: Option<String>) {
        let scripted = (self.receive_maximum != u16::MAX).then_some(self.receive_maximum);
        let properties = ConnAckProperties {
            session_expiry_interval: Some(0),
            receive_max: scripted,
            max_qos: Some(1),
            retain_available: None,
            max_packet_size: Some(PACKET_BYTES_MAX),
            assigned_client_identifier,
            topic_alias_max: None,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscription_available: None,
            subscription_identifiers_available: Some(0),
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        self.write(&Packet::ConnAck(ConnAck {
            session_present: false,
            code: ConnectReturnCode::Success,
            properties: Some(properties),
        }));
    }

    fn write(&mut self, packet: &Packet) {
        packet
            .write(&mut self.output, None)
            .expect("our own packets are below MQTT's limits");
    }

    /// Handles all complete packets of the input.
    fn take_packets(&mut self) -> Result<(), End> {
        loop {
            // By hand: the codec takes a DISCONNECT without a reason for a malformed one, and waits for ever after one
            // without properties.
            match self.input[..] {
                [0xe0, 0, ..] | [0xe0, _, 0, ..] => return Err(End::Clean),
                [0xe0, _, _, ..] => return Err(End::Lost),
                _ => {}
            }
            match Packet::read(&mut self.input, Some(PACKET_BYTES_MAX)) {
                Ok(packet) => self.take(packet)?,
                Err(CodecError::InsufficientBytes(_)) => return Ok(()),
                Err(CodecError::PayloadSizeLimitExceeded { .. }) => {
                    return Err(End::Expelled(DisconnectReasonCode::PacketTooLarge));
                }
                Err(_) => return Err(End::Expelled(DisconnectReasonCode::MalformedPacket)),
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.take_publish(publish)?,
            Packet::PubAck(ack) => {
                if !self.in_flight.remove(&ack.pkid) {
                    return Err(End::Expelled(DisconnectReasonCode::ProtocolError));
                }
                self.shared.counters.confirmed.fetch_add(1, Relaxed);
            }
            Packet::Subscribe(subscribe) => self.take_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.take_unsubscribe(unsubscribe),
            Packet::PingReq(_) => self.write(&Packet::PingResp(PingResp)),
            _ => return Err(End::Expelled(DisconnectReasonCode::ProtocolError)),
        }
        Ok(())
    }

    fn take_publish(&mut self, publish: Publish) -> Result<(), End> {
        let name = std::str::from_utf8(&publish.topic);
        if !name.is_ok_and(topic::is_name) {
            return Err(End::Expelled(DisconnectReasonCode::TopicNameInvalid));
        }
        let id = publish.pkid;
        match publish.qos {
            QoS::AtMostOnce => {
                self.shared.counters.published.fetch_add(1, Relaxed);
                self.route(publish);
                return Ok(());
            }
            QoS::AtLeastOnce => {}
            QoS::ExactlyOnce => {
                return Err(End::Expelled(DisconnectReasonCode::QoSNotSupported));
            }
        }
        self.unacknowledged.insert(id);
        if self.unacknowledged.len() > usize::from(self.receive_maximum) {
            self.shared.counters.window_exceeded.fetch_add(1, Relaxed);
            return Err(End::Expelled(DisconnectReasonCode::ReceiveMaximumExceeded));
        }
        self.shared.counters.published.fetch_add(1, Relaxed);
        let (reason, how) = match self.part.judge(&self.shared.script) {
            Verdict::Close => return Err(End::Closed),
            Verdict::Freeze => return Err(End::Frozen),
            Verdict::Refuse(code, how) => {
                let reason = ack_reason(code).expect("a script's codes are checked");
                (reason, how)
            }
            Verdict::Take(how) => (self.route(publish), how),
        };
        self.acknowledge(id, reason, how);
        Ok(())
    }

    /// Hands a message to its subscribers and says what its publisher is told.
    fn route(&self, publish: Publish) -> PubAckReason {
        let routed = self.shared.exchange().publish(self.session, publish);
        let counters = &self.shared.counters;
        match routed {
            Routed::Queued(copies) => {
                counters.queued.fetch_add(copies, Relaxed);
                PubAckReason::Success
            }
            Routed::Nobody => {
                counters.unmatched.fetch_add(1, Relaxed);
                PubAckReason::NoMatchingSubscribers
            }
            Routed::Full => {
                counters.refused_full.fetch_add(1, Relaxed);
                PubAckReason::QuotaExceeded
            }
        }
    }

    fn acknowledge(&mut self, id: u16, reason: PubAckReason, how: Ack) {
        let pkid = if how.wrong_id {
            self.unacknowledged.remove(&id);
            (1..=u16::MAX)
                .rev()
                .find(|free| *free != id && !self.unacknowledged.contains(free))
                .unwrap_or(id)
        } else {
            id
        };
        let ack = PubAck {
            pkid,
            reason,
            properties: None,
        };
        let (output, open) = (&mut self.output, &mut self.unacknowledged);
        let counters = &self.shared.counters;
        let send = |ack| write_ack(ack, output, open, counters);
        self.acks.push(ack, how, Instant::now(), send);
    }

    fn take_subscribe(&mut self, subscribe: Subscribe) {
        let mut return_codes = Vec::with_capacity(subscribe.filters.len());
        let mut exchange = self.shared.exchange();
        for wanted in subscribe.filters {
            let Some(filter) = TopicFilter::parse(&wanted.path) else {
                return_codes.push(SubscribeReasonCode::TopicFilterInvalid);
                continue;
            };
            let qos = match wanted.qos {
                QoS::ExactlyOnce => QoS::AtLeastOnce,
                lower => lower,
            };
            let subscription = Subscription {
                filter: filter.clone(),
                qos,
                no_local: wanted.nolocal,
                retain_as_published: wanted.preserve_retain,
            };
            let new = exchange.subscribe(self.session, subscription);
            let retained = match wanted.retain_forward_rule {
                RetainForwardRule::OnEverySubscribe => true,
                RetainForwardRule::OnNewSubscribe => new,
                RetainForwardRule::Never => false,
            };
            if retained && filter.group.is_none() {
                exchange.send_retained(self.session, &filter, qos);
            }
            return_codes.push(SubscribeReasonCode::Success(qos));
        }
        drop(exchange);
        self.write(&Packet::SubAck(SubAck {
            pkid: subscribe.pkid,
            return_codes,
            properties: None,
        }));
    }

    fn take_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let mut exchange = self.shared.exchange();
        let mut end = |path: &String| match TopicFilter::parse(path) {
            Some(filter) if exchange.unsubscribe(self.session, &filter) => UnsubAckReason::Success,
            Some(_) => UnsubAckReason::NoSubscriptionExisted,
            None => UnsubAckReason::TopicFilterInvalid,
        };
        let reasons = unsubscribe.filters.iter().map(&mut end).collect();
        drop(exchange);
        self.write(&Packet::UnsubAck(UnsubAck {
            pkid: unsubscribe.pkid,
            reasons,
            properties: None,
        }));
    }

    /// Moves messages from the queue to the output while window and output have room.
    fn send_messages(&mut self) -> Result<(), End> {
        while self.output.len() < OUTPUT_BYTES_MAX {
            let Some(qos) = self.outbox.next_qos() else {
                return Ok(());
            };
            let counted = qos != QoS::AtMostOnce;
            if counted && self.in_flight.len() >= usize::from(self.send_maximum) {
                return Ok(());
            }
            let mut publish = self
                .outbox
                .pop()
                .expect("only this connection takes from it");
            if counted {
                publish.pkid = self.free_id();
                self.in_flight.insert(publish.pkid);
            }
            self.write(&Packet::Publish(publish));
            self.shared.counters.sent.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// The next packet id that is not in flight; there is one while the window has room.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }

    async fn finish(mut self, stream: &mut TcpStream, end: End) {
        if matches!(end, End::Frozen) {
            self.shared.counters.frozen.fetch_add(1, Relaxed);
            // Half-open: the socket lives, nobody is there. It ends with the broker.
            return std::future::pending().await;
        }
        let badly = !matches!(end, End::Clean);
        if self.shared.exchange().disconnect(self.session, badly) {
            self.shared.counters.wills.fetch_add(1, Relaxed);
        }
        if let End::Expelled(reason) = end {
            // By hand: the codec writes one byte more than it announces when there are no properties.
            self.output.extend_from_slice(&[0xe0, 2, reason as u8, 0]);
            let farewell = stream.write_all_buf(&mut self.output);
            // Whether it arrives changes nothing: the connection is over.
            let _ = timeout(FAREWELL_WITHIN, farewell).await;
        }
    }
}

fn write_ack(
    ack: PubAck,
    output: &mut BytesMut,
    unacknowledged: &mut HashSet<u16>,
    counters: &super::Counters,
) {
    unacknowledged.remove(&ack.pkid);
    counters.acknowledged.fetch_add(1, Relaxed);
    ack.write(output)
        .expect("our own packets are below MQTT's limits");
}
