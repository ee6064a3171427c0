use super::*;
use crate::crew::Protocol;
use crate::jt808::dialect::Speaker;
use crate::jt808::{Edition, Terminal};
use crate::{alarm, dialect};

const TERMINAL: Terminal = Terminal {
    edition: Edition::Y2013,
    phone: 13_900_000_001,
};

/// A server's message: the same frame, other ids.
fn server(id: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    TERMINAL.message(&mut bytes, id, 0, body);
    bytes
}

fn done(serial: u16, id: u16) -> Vec<u8> {
    result(serial, id, 0)
}

fn result(serial: u16, id: u16, result: u8) -> Vec<u8> {
    let ([a, b], [c, d]) = (serial.to_be_bytes(), id.to_be_bytes());
    server(0x8001, &[a, b, c, d, result])
}

/// Message ids in what was written.
fn ids(out: &Output) -> Vec<u16> {
    let messages = out
        .bytes
        .split(|&byte| byte == 0x7e)
        .filter(|part| !part.is_empty());
    messages.map(|m| u16::from_be_bytes([m[0], m[1]])).collect()
}

fn sent(out: &Output) -> Vec<(u32, Way)> {
    out.sent
        .iter()
        .map(|sent| (sent.number, sent.way))
        .collect()
}

fn take(out: &mut Output) -> Output {
    std::mem::take(out)
}

fn report(second: u32) -> Report {
    Report {
        time_s: 1_700_000_000 + second,
        ..Report::default()
    }
}

fn terminal(seed: u64) -> Session {
    let speaker = Box::new(Speaker::of(TERMINAL));
    Session::new(
        speaker,
        Protocol::Jt808.vocabulary(),
        5_000,
        Random::new(seed),
    )
}

/// A session that has used serials 0 (register) and 1 (authenticate).
fn online() -> (Session, Output) {
    let mut session = terminal(5);
    let mut out = Output::default();
    session.connected(0, &mut out);
    assert_eq!(ids(&take(&mut out)), [0x0100]);
    let registered = server(0x8100, b"\0\0\0CODE");
    session.received(&registered, 0, &mut out).unwrap();
    assert_eq!(ids(&take(&mut out)), [0x0102]);
    session.received(&done(1, 0x0102), 0, &mut out).unwrap();
    assert!(session.online());
    (session, take(&mut out))
}

/// Sends reports one second apart without glued heartbeats.
fn send(session: &mut Session, numbers: std::ops::Range<u32>, out: &mut Output) {
    for number in numbers {
        session.random = Random::new(5);
        session.report(number, report(number), u64::from(number) * 1_000, out);
    }
}

#[test]
fn answered_reports_are_let_go_and_others_kept() {
    let (mut session, mut out) = online();
    send(&mut session, 0..3, &mut out);
    let sent = sent(&take(&mut out));
    assert_eq!(sent, [(0, Way::Fresh), (1, Way::Fresh), (2, Way::Fresh)]);
    session.received(&done(3, 0x0200), 3_000, &mut out).unwrap();
    assert_eq!(out.answered, [1]);
    session.received(&done(2, 0x0704), 3_000, &mut out).unwrap();
    session
        .received(&result(2, 0x0200, 1), 3_000, &mut out)
        .unwrap();
    assert_eq!(
        (out.answered.len(), out.refused),
        (1, 1),
        "wrong id, or refused"
    );
    assert_eq!(session.unanswered(), 2);
}

#[test]
fn timeout_sends_all_unanswered_again_and_grows() {
    let (mut session, mut out) = online();
    send(&mut session, 0..2, &mut out);
    let first = take(&mut out).bytes;
    assert_eq!(session.deadline_ms(), 5_000);
    session.due(4_999, &mut out).unwrap();
    assert!(out.bytes.is_empty());
    session.due(5_000, &mut out).unwrap();
    assert_eq!(sent(&out), [(0, Way::Repeat), (1, Way::Repeat)]);
    assert_eq!(
        take(&mut out).bytes,
        first,
        "the same messages, serials included"
    );
    assert_eq!(session.deadline_ms(), 15_000);
    session.due(15_000, &mut out).unwrap();
    session.due(45_000, &mut out).unwrap();
    assert_eq!(session.due(165_000, &mut out), Err(HangUp::Silent));
}

#[test]
fn reconnect_sends_old_before_new_with_the_known_code() {
    let (mut session, mut out) = online();
    send(&mut session, 0..2, &mut out);
    session.disconnected();
    send(&mut session, 2..3, &mut out);
    take(&mut out);
    session.connected(9_000, &mut out);
    assert_eq!(ids(&take(&mut out)), [0x0102]);
    session.received(&done(4, 0x0102), 9_000, &mut out).unwrap();
    assert_eq!(
        sent(&out),
        [(0, Way::Again), (1, Way::Again), (2, Way::Fresh)]
    );
}

#[test]
fn many_stored_reports_go_in_batches_that_one_answer_settles() {
    let (mut session, mut out) = online();
    session.disconnected();
    send(&mut session, 0..30, &mut out);
    session.connected(40_000, &mut out);
    take(&mut out);
    session
        .received(&done(2, 0x0102), 40_000, &mut out)
        .unwrap();
    assert_eq!(ids(&out), [0x0704, 0x0704]);
    assert!(
        out.sent.iter().map(|sent| sent.number).eq(0..30),
        "oldest first"
    );
    assert!(out.sent.iter().all(|sent| sent.way == Way::Backlog));
    take(&mut out);
    send(&mut session, 30..31, &mut out);
    assert_eq!(sent(&out), [(30, Way::Fresh)]);
    session
        .received(&done(3, 0x0704), 41_000, &mut out)
        .unwrap();
    assert!(
        out.answered.iter().copied().eq(0..24),
        "24 of 42 bytes fit 1023"
    );
}

#[test]
fn pressed_button_stays_set_until_answered() {
    let (mut session, mut out) = online();
    let alarms = session.alarms(1, 0);
    session.random = Random::new(5);
    session.report(
        0,
        Report {
            alarms,
            ..report(0)
        },
        0,
        &mut out,
    );
    assert_eq!(session.alarms(0, 0), 1);
    session.received(&done(2, 0x0200), 10, &mut out).unwrap();
    assert_eq!(session.alarms(0, 0), 0);
    assert_eq!(session.alarms(1 << 8, 0), 0, "held bits are not buttons");
}

const SOS: u32 = 1 << alarm::SOS;

fn speaker_of(protocol: Protocol) -> Session {
    let dialect = dialect::open(protocol, "866999000000003", 0);
    Session::new(dialect, protocol.vocabulary(), 5_000, Random::new(5))
}

#[test]
fn reports_that_nobody_answers_are_let_go_when_they_are_written() {
    let mut session = speaker_of(Protocol::Nmea);
    let mut out = Output::default();
    send(&mut session, 0..2, &mut out);
    assert_eq!((session.unanswered(), out.sent.len()), (2, 0), "not there");
    session.connected(2_000, &mut out);
    send(&mut session, 2..3, &mut out);
    assert_eq!(session.unanswered(), 0);
    let fresh = [(0, Way::Fresh), (1, Way::Fresh), (2, Way::Fresh)];
    assert_eq!(sent(&out), fresh);
    assert!(out.sent.iter().all(|sent| !sent.kept));
}

#[test]
fn answered_kinds_are_kept_and_go_again_as_overtaken() {
    let mut session = speaker_of(Protocol::Gt06);
    let mut out = Output::default();
    session.connected(0, &mut out);
    // The example of the protocol's document: serial 1.
    let login = b"\x78\x78\x05\x01\x00\x01\xd9\xdc\x0d\x0a";
    session.received(login, 0, &mut out).unwrap();
    assert!(session.online());
    for (number, alarms) in [(0, SOS), (1, 0)] {
        session.random = Random::new(5);
        let report = Report {
            alarms,
            ..report(number)
        };
        session.report(number, report, 0, &mut out);
    }
    let kept: Vec<bool> = out.sent.iter().map(|sent| sent.kept).collect();
    assert_eq!((kept, session.unanswered()), (vec![true, false], 1));
    take(&mut out);
    session.due(5_000, &mut out).unwrap();
    assert_eq!(sent(&out), [(0, Way::Repeat)]);
}

#[test]
fn next_packet_waits_for_the_answer_and_holds_all_that_waited() {
    let mut session = speaker_of(Protocol::Teltonika);
    let mut out = Output::default();
    session.connected(0, &mut out);
    session.received(&[1], 0, &mut out).unwrap();
    send(&mut session, 0..4, &mut out);
    assert_eq!(sent(&take(&mut out)), [(0, Way::Fresh)]);
    session.received(&[0, 0, 0, 1], 4_000, &mut out).unwrap();
    assert_eq!(out.answered, [0]);
    let waited = [(1, Way::Fresh), (2, Way::Fresh), (3, Way::Fresh)];
    assert_eq!(sent(&take(&mut out)), waited);
    // Two of three: the packet goes out again, on a new connection.
    session.received(&[0, 0, 0, 2], 5_000, &mut out).unwrap();
    assert_eq!((out.answered.len(), out.refused), (0, 1));
    assert_eq!(session.due(9_000, &mut out), Err(HangUp::Silent));
    session.disconnected();
    session.connected(9_500, &mut out);
    take(&mut out);
    session.received(&[1], 9_500, &mut out).unwrap();
    let again = [(1, Way::Again), (2, Way::Again), (3, Way::Again)];
    assert_eq!(sent(&out), again);
}

#[test]
fn refused_authentication_registers_anew() {
    let (mut session, mut out) = online();
    session.disconnected();
    session.connected(0, &mut out);
    let refused = session.received(&result(2, 0x0102, 1), 0, &mut out);
    assert_eq!(refused, Err(HangUp::Refused(1)));
    session.disconnected();
    take(&mut out);
    session.connected(0, &mut out);
    assert_eq!(ids(&out), [0x0100]);
    assert_eq!(session.due(5_000, &mut out), Err(HangUp::Silent));
}

#[test]
fn pauses_grow_within_their_bounds() {
    let mut session = terminal(1);
    let pauses: Vec<u64> = (0..10).map(|_| session.disconnected()).collect();
    assert!((25..=50).contains(&pauses[0]), "{pauses:?}");
    assert!(
        pauses[6..]
            .iter()
            .all(|pause| (1_000..=2_000).contains(pause)),
        "{pauses:?}"
    );
}
