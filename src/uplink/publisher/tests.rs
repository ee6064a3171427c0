use super::*;

fn device(n: u64) -> DeviceId {
    DeviceId::new(format!("truck-{n}").as_bytes()).unwrap()
}

fn settings(window: u16) -> Settings {
    Settings {
        window,
        hold_without_subscriber: true,
        broker: true,
    }
}

/// Carries out actions with a client that writes at once and contents that are always at hand.
struct Rig {
    publisher: Publisher,
    now_ms: u64,
    next_id: u16,
}

impl Rig {
    fn connected(window: u16) -> Rig {
        let mut rig = Rig {
            publisher: Publisher::new(settings(window), 1),
            now_ms: 0,
            next_id: 1,
        };
        rig.reconnect(u16::MAX);
        rig
    }

    fn reconnect(&mut self, receive_max: u16) {
        self.now_ms += 60_000;
        self.publisher.tick(self.now_ms);
        assert!(self.run().contains(&Action::Connect));
        self.publisher.connected(self.now_ms, receive_max);
        let id = self.next_id;
        assert_eq!(self.run(), [Action::PublishStatus(Status::Online)]);
        self.acknowledge(id, Reason::Success);
    }

    fn accept(&mut self, seq: u64, truck: u64) {
        self.publisher.accepted(seq, device(truck));
    }

    /// All actions but loads, which are answered.
    fn run(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = self.publisher.next_action(self.now_ms) {
            match action {
                Action::Load(seq) => self.publisher.loaded(seq, true),
                Action::Publish { .. } | Action::PublishStatus(_) => {
                    self.publisher.sent(self.now_ms, self.next_id);
                    self.next_id += 1;
                    done.push(action);
                }
                _ => done.push(action),
            }
        }
        done
    }

    /// Sequences that are published now.
    fn published(&mut self) -> Vec<u64> {
        let seq = |action| match action {
            Action::Publish { seq, .. } => seq,
            other => panic!("only publishes were expected, not {other:?}"),
        };
        self.run().into_iter().map(seq).collect()
    }

    fn acknowledge(&mut self, id: u16, reason: Reason) {
        self.publisher.acknowledged(self.now_ms, id, reason);
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.publisher.tick(self.now_ms);
    }
}

#[test]
fn a_device_has_one_unconfirmed_message_and_its_next_follows_the_confirmation() {
    let mut rig = Rig::connected(10);
    rig.accept(1, 1);
    rig.accept(2, 1);
    rig.accept(3, 2);
    let first = rig.next_id;
    assert_eq!(rig.published(), [1, 3]);
    rig.acknowledge(first, Reason::Success);
    assert_eq!(
        rig.run(),
        [Action::Delete(1), Action::Publish { seq: 2, attempt: 1 }]
    );
}

#[test]
fn the_window_is_the_smaller_of_ours_and_the_brokers() {
    let mut rig = Rig::connected(10);
    rig.publisher.closed(rig.now_ms);
    rig.run();
    (1..=20).for_each(|n| rig.accept(n, n));
    rig.now_ms += 60_000;
    rig.publisher.tick(rig.now_ms);
    rig.run();
    rig.publisher.connected(rig.now_ms, 4);
    // The birth message takes a place too, and the backlog leaves one to live alarms.
    assert_eq!(rig.run().len(), 4);
    assert_eq!(rig.publisher.in_flight(), 4);
}

#[test]
fn a_live_alarm_overtakes_the_backlog_of_others_but_not_its_own() {
    let mut rig = Rig::connected(1);
    rig.publisher.closed(rig.now_ms);
    rig.run();
    (1..=9).for_each(|n| rig.accept(n, n));
    rig.reconnect(u16::MAX);
    rig.accept(10, 10);
    rig.accept(11, 9);
    let mut order = rig.published();
    assert_eq!(order, [1]);
    while rig.publisher.records() > 0 {
        rig.acknowledge(rig.next_id - 1, Reason::Success);
        order.extend(rig.run().into_iter().filter_map(|action| match action {
            Action::Publish { seq, .. } => Some(seq),
            _ => None,
        }));
    }
    // 1 and 2 were loaded already when a place in the window fell free.
    assert_eq!(order, [1, 10, 9, 2, 11, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn only_success_deletes_and_every_other_reason_has_its_rule() {
    for (reason, gone_after) in [
        (Reason::Success, Some(1)),
        (Reason::NoSubscriber, None),
        (Reason::Unspecified, None),
        (Reason::Implementation, None),
        (Reason::NotAuthorized, None),
        (Reason::QuotaExceeded, None),
        (Reason::TopicInvalid, Some(REFUSALS_MAX)),
        (Reason::PayloadInvalid, Some(REFUSALS_MAX)),
    ] {
        let mut rig = Rig::connected(10);
        rig.accept(7, 1);
        rig.run();
        let mut gone = None;
        for round in 1..=20 {
            rig.acknowledge(rig.next_id - 1, reason);
            // Others go on meanwhile.
            rig.accept(100 + u64::from(round), 2);
            let mut actions = rig.run();
            assert!(actions.contains(&Action::Publish {
                seq: 100 + u64::from(round),
                attempt: 1
            }));
            rig.acknowledge(rig.next_id - 1, Reason::Success);
            actions.extend(rig.run());
            let ended = Action::Quarantine(7, reason.code());
            if actions.contains(&Action::Delete(7)) || actions.contains(&ended) {
                gone = Some(round);
                break;
            }
            rig.wait(30_000);
            assert_eq!(
                rig.run(),
                [Action::Publish {
                    seq: 7,
                    attempt: round + 1
                }]
            );
        }
        assert_eq!(gone, gone_after, "{reason:?}");
    }
}

#[test]
fn without_hold_an_alarm_that_nobody_subscribes_to_counts_as_delivered() {
    let mut rig = Rig::connected(10);
    rig.publisher.settings.hold_without_subscriber = false;
    rig.accept(1, 1);
    rig.run();
    rig.acknowledge(rig.next_id - 1, Reason::NoSubscriber);
    assert_eq!(rig.run(), [Action::Delete(1)]);
}

#[test]
fn a_message_larger_than_the_broker_takes_ends_in_the_quarantine() {
    let mut rig = Rig::connected(10);
    rig.accept(1, 1);
    for refusal in 1..=REFUSALS_MAX {
        let load = rig.publisher.next_action(rig.now_ms);
        assert_eq!(load, Some(Action::Load(1)));
        rig.publisher.loaded(1, true);
        rig.publisher.next_action(rig.now_ms);
        rig.publisher.too_large(rig.now_ms, 1);
        assert_eq!(rig.publisher.in_flight(), 0);
        let last = refusal == REFUSALS_MAX;
        let expected = if last {
            Action::Quarantine(1, 0x95)
        } else {
            Action::Forget(1)
        };
        assert_eq!(rig.run(), [expected]);
        rig.wait(30_000);
    }
    assert_eq!(rig.publisher.records(), 0);
}

#[test]
fn any_doubt_ends_the_connection_and_replays_in_order() {
    type Provoke = fn(&mut Rig);
    let doubts: [(Doubt, Provoke); 4] = [
        (Doubt::Unsolicited, |rig| {
            rig.acknowledge(999, Reason::Success)
        }),
        (Doubt::Late, |rig| rig.wait(ACK_MS_MAX)),
        (Doubt::PacketId, |rig| rig.publisher.sent(rig.now_ms, 999)),
        (Doubt::Closed, |rig| rig.publisher.closed(rig.now_ms)),
    ];
    for (doubt, provoke) in doubts {
        let mut rig = Rig::connected(10);
        (1..=3).for_each(|n| rig.accept(n, n));
        let first = rig.next_id;
        assert_eq!(rig.published(), [1, 2, 3]);
        rig.acknowledge(first + 1, Reason::Success);
        provoke(&mut rig);
        assert_eq!(rig.run(), [Action::Delete(2), Action::Drop(doubt)]);
        assert!(!rig.publisher.is_connected());
        rig.accept(4, 4);
        rig.now_ms += 60_000;
        rig.publisher.tick(rig.now_ms);
        rig.run();
        rig.publisher.connected(rig.now_ms, 100);
        let again = rig.run();
        let sent: Vec<_> = again[1..].to_vec();
        let publish = |seq, attempt| Action::Publish { seq, attempt };
        assert_eq!(sent, [publish(1, 2), publish(3, 2), publish(4, 1)]);
    }
}

#[test]
fn a_record_that_the_journal_lost_lets_the_next_go() {
    let mut rig = Rig::connected(10);
    rig.accept(1, 1);
    rig.accept(2, 1);
    assert_eq!(rig.publisher.next_action(0), Some(Action::Load(1)));
    rig.publisher.loaded(1, false);
    assert_eq!(rig.published(), [2]);
}

#[test]
fn a_drain_sends_one_window_says_goodbye_and_waits_for_nobody() {
    let mut rig = Rig::connected(2);
    (1..=5).for_each(|n| rig.accept(n, n));
    assert_eq!(rig.published(), [1, 2]);
    rig.publisher.drain(rig.now_ms);
    assert_eq!(rig.run(), [Action::PublishStatus(Status::Draining)]);
    let mut sent = 2;
    for id in rig.next_id - 3.. {
        rig.acknowledge(id, Reason::Success);
        let actions = rig.run();
        sent += actions
            .iter()
            .filter(|a| matches!(a, Action::Publish { .. }))
            .count();
        if actions.contains(&Action::Disconnect) {
            break;
        }
    }
    assert_eq!((sent, rig.publisher.records()), (4, 1));
    assert!(rig.publisher.is_finished());

    let mut stuck = Rig::connected(2);
    stuck.accept(1, 1);
    stuck.run();
    stuck.publisher.drain(stuck.now_ms);
    stuck.run();
    stuck.wait(DRAIN_PUBLISH_MS);
    assert_eq!(stuck.run(), [Action::PublishStatus(Status::Offline)]);
    stuck.wait(DRAIN_MS);
    stuck.run();
    assert!(stuck.publisher.is_finished());

    let mut away = Publisher::new(settings(2), 1);
    away.drain(0);
    while away.next_action(0).is_some() {}
    assert!(away.is_finished());
}
