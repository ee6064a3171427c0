//! A device that raises more at once than it may owe: nothing is left out, nothing is judged anew as late, and it is
//! answered once all of it is safe.

use device_sim::jt808::{self, BATCH};
use device_sim::report::Report;

use crate::aside;
use crate::mailbox::Mailbox;
use crate::node::{Node, QUIET};
use crate::terminal::{Terminal, now_s, report};

/// The main power is low: a bit that is held (JT/T 808, table of alarm bits).
const POWER_LOW: u32 = 1 << 7;

/// Every other report has the alarm, so each is a raise or a clear.
fn coming_and_going(count: u32) -> Vec<Report> {
    let first_s = now_s() - 100;
    let alarms = |n: u32| if n.is_multiple_of(2) { POWER_LOW } else { 0 };
    (0..count)
        .map(|n| Report {
            alarms: alarms(n),
            ..report(first_s + n)
        })
        .collect()
}

fn node(broker: &device_sim::broker::Handle) -> Node {
    let uplink = format!("[uplink]\nbroker = \"{}\"\n", broker.url());
    Node::start(&format!("{QUIET}\n{uplink}"))
}

/// Raises and clears in turn, none of them late, with the times of the reports.
fn are_all_there(mailbox: &Mailbox, reports: &[Report]) {
    for (n, report) in reports.iter().enumerate() {
        let payload = mailbox.next().payload;
        let phase = if n % 2 == 0 { "raise" } else { "clear" };
        assert_eq!(payload["phase"], phase, "event {n}: {payload}");
        assert_eq!(payload["late"], false, "event {n}: {payload}");
        let time_ms = device_sim::delivery::time_ms(payload["time"].as_str().unwrap());
        assert_eq!(time_ms, Some(report.time_ms()), "event {n}: {payload}");
    }
}

#[test]
fn a_stored_batch_in_which_an_alarm_comes_and_goes_is_kept_whole() {
    let broker = aside::broker();
    let node = node(&broker);
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let reports = coming_and_going(20);
    let (serial, bytes) = terminal.message(BATCH, &jt808::batch(reports.iter()));
    terminal.say(&bytes);
    terminal.await_answer(serial);
    are_all_there(&mailbox, &reports);
}

#[test]
fn a_dozen_messages_in_one_packet_are_all_answered_and_kept() {
    let broker = aside::broker();
    let node = node(&broker);
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_002);
    let reports = coming_and_going(12);
    let messages: Vec<(u16, Vec<u8>)> = reports.iter().map(|r| terminal.location(r)).collect();
    let packet: Vec<u8> = messages
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    terminal.say(&packet);
    for (serial, _) in messages {
        terminal.await_answer(serial);
    }
    are_all_there(&mailbox, &reports);
}
