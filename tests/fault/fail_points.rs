//! R8: every fail point of the roles that have custody, one after the other, on a real node with a real fleet. Each of
//! them must fire, and after all of them nothing answered is lost and nothing invented.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway::cli::status::ask;
use ringway::sys::fail::Point;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::guests::{Guests, HELD};
use crate::node::Node;
use crate::stand::{Chance, IN_DOUBT, Load, Stand, await_, block_on, judge};
use crate::{Form, Outcome, Verdict};

const LOAD: Load = Load {
    devices: 120,
    sos_every_s: 3,
    rate: 1.0,
};
const ROUNDS: u32 = 1;
const ROUNDS_LONG: u32 = 6;
/// A point is passed up to so many times before it kills.
const PASSINGS_MAX: u64 = 4;
/// Small enough to be filled at will.
const UPLINK: &str = "journal_size_max = \"1MiB\"";

pub fn run(form: Form) -> Verdict {
    if cfg!(debug_assertions) {
        block_on(every_point(form))
    } else {
        Verdict {
            outcome: Outcome::Skipped("a release build has no fail points".into()),
            counts: BTreeMap::new(),
        }
    }
}

/// Two fleets: one that nothing may be forgotten of, and one for the points at which a node dies with the states of its
/// devices, as in a power cut. What their ledger excuses for that must not hide a fault of the others.
async fn every_point(form: Form) -> Verdict {
    let rounds = if form.long { ROUNDS_LONG } else { ROUNDS };
    let all = Point::ALL.repeat(rounds as usize);
    let (crashes, kills): (Vec<Point>, Vec<Point>) =
        all.iter().partition(|point| cause(**point).forgets());
    let first = die_at(form, &kills).await;
    let second = die_at(form, &crashes).await;
    if first.outcome != Outcome::Holds {
        return first;
    }
    let mut verdict = second;
    for (name, count) in first.counts {
        let sum = |a: &Value, b: &Value| Some(json!(a.as_u64()? + b.as_u64()?));
        if let Some(sum) = verdict.counts.get(name).and_then(|more| sum(&count, more)) {
            verdict.counts.insert(name, sum);
        }
    }
    let resent = verdict.counts.get("resent").and_then(Value::as_u64);
    verdict.but(&[(resent == Some(0), "no device had to send again")])
}

async fn die_at(form: Form, points: &[Point]) -> Verdict {
    let mut stand = Stand::prepared(form.seed, LOAD, UPLINK, Node::heed_fail_points).await;
    let mut chance = Chance::new(form.seed);
    let mut guests = Guests::default();
    // An alarm of theirs is open from now on.
    guests.come(&stand.sensor, &[HELD]);
    let (mut fired, mut states_lost) = (0, 0);
    let mut silent = Vec::new();
    for &point in points {
        sleep(Duration::from_millis(chance.below(100))).await;
        stand.node.arm(point, passings(point, &mut chance));
        provoke(&mut stand, &mut guests, point).await;
        if await_(|| stand.node.fired(point)).await {
            fired += 1;
        } else {
            silent.push(point.name());
        }
        restore(&mut stand, point).await;
        // Also where it was not to be expected: a snapshot may have found no room.
        let in_doubt = stand.node.log().matches(IN_DOUBT).count();
        if in_doubt > states_lost {
            stand.fleet.ledger().state_lost();
            states_lost = in_doubt;
        }
    }
    let check = stand.fleet.finish().await;
    let counts = BTreeMap::from([
        ("points", json!(points.len())),
        ("fired", json!(fired)),
        ("silent", json!(silent)),
        ("states_lost", json!(states_lost)),
    ]);
    judge(&check, counts)
        .but(&[(
            !silent.is_empty(),
            "a fail point was never passed: it proves nothing",
        )])
        .with_log(&stand.node)
}

/// How often a point is passed before it kills: once where it is passed once in a life.
fn passings(point: Point, chance: &mut Chance) -> u64 {
    match cause(point) {
        Cause::Load => 1 + chance.below(PASSINGS_MAX),
        _ => 1,
    }
}

/// What it takes to get to a point.
#[derive(PartialEq, Eq)]
enum Cause {
    /// The fleet at work.
    Load,
    /// A device that raises more at once than it may owe.
    Crowd,
    /// Something that was refused.
    Refusal,
    /// A new life of the classifier.
    Classifier,
    /// A new life of the uplink.
    Uplink,
    /// A new life of the node.
    Start,
    /// An orderly end of the node.
    End,
    /// An end that is not noted.
    CutEnd,
    /// An end of the node that is not in order, and a new life.
    Crash,
}

impl Cause {
    /// Whether the states since the last snapshot go with it.
    fn forgets(&self) -> bool {
        matches!(self, Cause::CutEnd | Cause::Crash)
    }
}

fn cause(point: Point) -> Cause {
    match point {
        Point::ClassifierRoom => Cause::Crowd,
        Point::ClassifierOwed => Cause::Refusal,
        Point::UplinkRestored | Point::UplinkHandedBack => Cause::Uplink,
        Point::ClassifierRestoring | Point::ClassifierRestored => Cause::Start,
        Point::ClassifierResumed => Cause::Classifier,
        Point::UplinkEnded => Cause::End,
        Point::UplinkSnapshot | Point::UplinkSnapshotted => Cause::CutEnd,
        Point::UplinkRepeating | Point::UplinkRepeated => Cause::Crash,
        _ => Cause::Load,
    }
}

async fn provoke(stand: &mut Stand, guests: &mut Guests, point: Point) {
    match cause(point) {
        Cause::Load => {}
        Cause::Crowd => guests.come(&stand.sensor, &[HELD, 0, HELD, 0, HELD]),
        Cause::Refusal => {
            stand.broker_away().await;
            guests.fill(&stand.sensor);
            await_(|| stand.uplink("refused") > 0).await;
        }
        Cause::Classifier => {
            await_(|| stand.node.signal("classifier", Signal::SIGKILL)).await;
        }
        Cause::Uplink => {
            await_(|| stand.node.signal("uplink", Signal::SIGKILL)).await;
        }
        Cause::Start => {
            stand.node.signal_supervisor(Signal::SIGKILL);
            ended(&mut stand.node).await;
            stand.node.launch();
        }
        Cause::End | Cause::CutEnd => {
            stand.node.signal_supervisor(Signal::SIGTERM);
            ended(&mut stand.node).await;
        }
        Cause::Crash => {
            // Only open alarms that do not wait for the broker are written again: of those that a guest has, one at least.
            let written_again = u64::from(HELD.count_ones());
            await_(|| stand.uplink("ringway_journal_records") < written_again).await;
            let mut uplink = None;
            await_(|| {
                uplink = stand.node.process("uplink").and_then(|p| p.pid);
                uplink.is_some()
            })
            .await;
            stand.node.signal_supervisor(Signal::SIGKILL);
            if let Some(pid) = uplink {
                // It may have ended by itself by now.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            ended(&mut stand.node).await;
            stand.node.launch();
        }
    }
    if cause(point).forgets() {
        stand.fleet.ledger().state_lost();
    }
}

/// Sees to it that the next point finds a node that serves.
async fn restore(stand: &mut Stand, point: Point) {
    match cause(point) {
        Cause::End | Cause::CutEnd => stand.node.launch(),
        Cause::Refusal => {
            stand.broker_back().await;
            // A snapshot needs room.
            await_(|| stand.uplink("ringway_journal_records") == 0).await;
        }
        _ => {}
    }
    await_(|| ask(&stand.node.state_dir()).is_ok_and(|report| report.state == "ready")).await;
}

/// The fleet shares this thread: it must go on while the node ends.
async fn ended(node: &mut Node) {
    while node.try_ended().is_none() {
        sleep(Duration::from_millis(5)).await;
    }
}
