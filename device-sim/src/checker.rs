//! The verdict on a run: what the ledger says must have arrived against what arrived.
//!
//! Lost: an answered report means it, and no subscriber got it. Invented: a subscriber got it, and no report that was
//! sent means it. Where the runtime may rightly have seen a device's reports out of order, or lost its state by a
//! declared kill of its supervisor, an alarm of the same device and rule that starts at another report of the same
//! episode counts for it (`shifted`), and after a declared loss it may be missing (`excused`); both are reported.
//! A report that its protocol does not answer was never promised: it counts as had once its position was pushed.
//! Misplaced: a position was pushed that is not the one that was sent. Unseen: a device reported, and none of its
//! positions was pushed; devices of one protocol speak several forms of it, and each form must be seen.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Serialize, Serializer};

use crate::delivery::{Delivery, Phase};
use crate::ledger::{Book, Ledger, Tally};
use crate::truth::{Episode, Mark, What};

/// What is sent just before or after a disturbance may be touched by it, ms.
const SPREAD_MS: i64 = 15_000;
/// Most lost or invented alarms that a verdict names; all are counted.
pub const NAMED_MAX: usize = 100;

/// Which ends took part, and what the run was to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A subscriber of the stream.
    pub tracks: bool,
    /// A subscriber of alarms.
    pub alarms: bool,
    /// A collector of traces.
    pub traces: bool,
    /// Kinds of alarm that must be delivered at least once.
    pub kinds: Vec<&'static str>,
    /// The same for each protocol, by name; each one here must be seen end to end.
    pub protocols: Vec<(&'static str, Vec<&'static str>)>,
}

/// The figures of a run, as its last line has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Devices of the fleet.
    pub devices: u32,
    /// Different position reports sent.
    pub frames_sent: u64,
    /// ... and answered.
    pub frames_answered: u64,
    /// Different reports that the stream's subscriber was told of.
    pub tracks_pushed: u64,
    /// Raises and clears that answered reports mean.
    pub alarms_raised: u64,
    /// Different raises and clears that came by MQTT and are true.
    pub alarms_delivered: u64,
    /// Answered but never delivered.
    pub lost: u64,
    /// Delivered but not true.
    pub invented: u64,
    /// Delivered again with the same id.
    pub duplicates: u64,
    /// From sending a report to its push to the stream's subscriber.
    pub latency_ms: Latency,
    /// Complete traces of alarms.
    pub traces: u64,
    /// The counts of each protocol, by name.
    pub protocols: BTreeMap<&'static str, Share>,
    /// Whether all that was wanted happened, and nothing else.
    pub ok: bool,
}

/// One protocol's part of the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Devices that speak it.
    pub devices: u32,
    /// Different position reports sent.
    pub frames_sent: u64,
    /// ... and answered, as far as the protocol answers them.
    pub frames_answered: u64,
    /// Different reports that the stream's subscriber was told of.
    pub tracks_pushed: u64,
    /// Raises and clears that had to come.
    pub alarms_raised: u64,
    /// Different raises and clears that came and are true.
    pub alarms_delivered: u64,
}

/// Milliseconds, to the microsecond; null if nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

/// An alarm that is missing or should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Id of the device.
    pub device: String,
    /// Kind of alarm.
    pub kind: String,
    /// Rule.
    pub rule: String,
    /// Raised or cleared.
    pub phase: Phase,
    /// Its start, UTC ms.
    pub start_ms: i64,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The figures.
    pub summary: Summary,
    /// What is lost, the first [`NAMED_MAX`] of it.
    pub lost: Vec<Named>,
    /// What is invented, the first [`NAMED_MAX`] of it.
    pub invented: Vec<Named>,
    /// First deliveries that came before an older one of their device.
    pub reordered: u64,
    /// Delivered with another start of the same episode, where that is right.
    pub shifted: u64,
    /// Missing, where a declared loss of state allows it.
    pub excused: u64,
    /// Reports sent again.
    pub resent: u64,
    /// Answers that said no.
    pub refused: u64,
    /// Positions that were pushed otherwise than they were sent.
    pub misplaced: u64,
    /// The first of them.
    pub misplaced_first: Option<String>,
    /// Devices that reported and of which no position was pushed, if positions were wanted.
    pub unseen: u64,
    /// The first of them.
    pub unseen_first: Option<String>,
    /// Reports that had to be answered.
    pub kept: u64,
    /// True raises and clears that came, by kind.
    pub came: BTreeMap<&'static str, [u64; 2]>,
    /// What was wanted of the whole fleet and did not happen at all.
    pub missing: Vec<&'static str>,
    /// Kinds that were wanted and never came.
    pub kinds_missing: Vec<&'static str>,
    /// What was wanted of protocols and never seen.
    pub protocols_missing: Vec<String>,
    /// Why the ledger's file is not complete.
    pub file_error: Option<String>,
}

/// Judges a run by its ledger; `traces` is the count of complete alarm traces that a collector got.
pub fn check(ledger: &Ledger, traces: usize, wanted: &Wanted) -> Check {
    let [p50, p99, max] = ledger.latency_ms();
    let book = ledger.open();
    let (shifted, strays) = shifts(&book);
    let stood_for: HashSet<(Key, Phase)> = shifted.iter().copied().collect();
    let unseen: Vec<u32> = book.unseen().filter(|_| wanted.tracks).collect();
    let mut verdict = Check {
        summary: Summary {
            devices: book.accounts.len() as u32,
            frames_sent: book.counts.sent,
            frames_answered: book.counts.answered,
            tracks_pushed: book.counts.tracked,
            alarms_raised: 0,
            alarms_delivered: 0,
            lost: 0,
            invented: strays.len() as u64 + book.counts.unreadable,
            duplicates: book.counts.duplicates,
            latency_ms: Latency { p50, p99, max },
            traces: traces as u64,
            protocols: BTreeMap::new(),
            ok: false,
        },
        lost: Vec::new(),
        invented: strays
            .iter()
            .take(NAMED_MAX)
            .map(|stray| Named::delivered(stray))
            .collect(),
        reordered: book.counts.reordered,
        shifted: shifted.len() as u64,
        excused: 0,
        resent: book.counts.resent,
        refused: book.counts.refused,
        misplaced: book.counts.misplaced,
        misplaced_first: book.misplaced.as_ref().map(|(device, sent, shown)| {
            format!("{} sent {sent:?} and was {shown:?}", book.crew.id(*device))
        }),
        unseen: unseen.len() as u64,
        unseen_first: unseen.first().map(|&device| book.crew.id(device)),
        kept: book.counts.kept,
        came: BTreeMap::new(),
        missing: Vec::new(),
        kinds_missing: Vec::new(),
        protocols_missing: Vec::new(),
        file_error: book.file_error.clone(),
    };
    let mut shares = shares(&book);
    for (episode, phase, seen) in book.expected() {
        let share = &mut shares[book.crew.turn(episode.device)];
        verdict.summary.alarms_raised += 1;
        share.alarms_raised += 1;
        let key = (episode.device, episode.what, episode.start_ms);
        if seen || stood_for.contains(&(key, phase)) || !wanted.alarms {
            continue;
        }
        if is_excused(&book, episode, phase) {
            verdict.excused += 1;
            verdict.summary.alarms_raised -= 1;
            share.alarms_raised -= 1;
        } else {
            verdict.summary.lost += 1;
            if verdict.lost.len() < NAMED_MAX {
                verdict.lost.push(Named::expected(&book, episode, phase));
            }
        }
    }
    let strange = strays.len() as u64;
    verdict.summary.alarms_delivered = book.counts.delivered - strange;
    let mut raised_by = HashSet::new();
    for (episode, seen) in book.episodes.iter().zip(&book.seen) {
        let [raised, cleared] = verdict.came.entry(episode.what.kind()).or_default();
        *raised += u64::from(seen[0]);
        *cleared += u64::from(seen[1]);
        let turn = book.crew.turn(episode.device);
        shares[turn].alarms_delivered += seen.iter().filter(|&&seen| seen).count() as u64;
        if seen[0] {
            raised_by.insert((turn, episode.what.kind()));
        }
    }
    for ((device, what, _), phase) in &shifted {
        let turn = book.crew.turn(*device);
        shares[turn].alarms_delivered += 1;
        if *phase == Phase::Raise {
            raised_by.insert((turn, what.kind()));
        }
    }
    for (turn, (protocol, share)) in book.crew.protocols().iter().zip(&shares).enumerate() {
        let kept = book.tallies[turn].kept > 0;
        let name = protocol.name();
        verdict.summary.protocols.insert(name, *share);
        let Some((_, kinds)) = wanted.protocols.iter().find(|(of, _)| *of == name) else {
            continue;
        };
        let mut missing = |what: &str| verdict.protocols_missing.push(format!("{name}: {what}"));
        if share.frames_sent == 0 {
            missing("no report was sent");
        }
        if kept && share.frames_answered == 0 {
            missing("no report was answered");
        }
        if wanted.tracks && share.tracks_pushed == 0 {
            missing("no position was pushed");
        }
        let kinds = kinds.iter().filter(|_| wanted.alarms);
        for kind in kinds.filter(|kind| !raised_by.contains(&(turn, **kind))) {
            missing(&format!("no {kind} was delivered"));
        }
    }
    let missing = |kind: &&'static str| verdict.came.get(kind).is_none_or(|came| came[0] == 0);
    verdict.kinds_missing = wanted.kinds.iter().copied().filter(missing).collect();
    verdict.missing = verdict.missing(wanted);
    verdict.summary.ok = verdict.holds(wanted);
    verdict
}

/// Device, matter and start of an episode.
type Key = (u32, What, i64);

/// Parts what came without an episode of its start into what stands for one all the same, and what is invented.
fn shifts(book: &Book) -> (Vec<(Key, Phase)>, Vec<&Delivery>) {
    let (mut shifted, mut strange) = (Vec::new(), Vec::new());
    for stray in &book.strays {
        let start_ms = stray.delivery.start_ms;
        let same = |episode: &&Episode| {
            let last_ms = episode.cleared.map_or(episode.last_ms, |mark| mark.time_ms);
            stray.about == Some((episode.device, episode.what))
                && (episode.start_ms..=last_ms).contains(&start_ms)
                && book.disturbed(
                    episode.device,
                    episode.start_ms - SPREAD_MS,
                    start_ms + SPREAD_MS,
                )
        };
        match book.episodes.iter().find(same) {
            Some(e) => shifted.push(((e.device, e.what, e.start_ms), stray.delivery.phase)),
            None => strange.push(&stray.delivery),
        }
    }
    (shifted, strange)
}

/// The counts of each protocol without alarms, by its turn.
fn shares(book: &Book) -> Vec<Share> {
    let tallies = book.tallies.iter().enumerate();
    let share = |(turn, tally): (usize, &Tally)| Share {
        devices: book.crew.speakers(turn),
        frames_sent: tally.sent,
        frames_answered: tally.answered,
        tracks_pushed: tally.tracked,
        ..Share::default()
    };
    tallies.map(share).collect()
}

/// Whether an alarm that must have come may be missing all the same: state was lost, or the reports that mean it were
/// not kept by their device and its connection was cut.
fn is_excused(book: &Book, episode: &Episode, phase: Phase) -> bool {
    let mut losses = book.state_lost.iter();
    if losses.any(|&lost_ms| straddles(episode, phase, lost_ms)) {
        return true;
    }
    let word = match episode.what {
        What::Device(bit) => 1 << bit,
        _ => 0,
    };
    let from_ms = episode.start_ms - SPREAD_MS;
    let to_ms = decided(episode, phase).time_ms + SPREAD_MS;
    !book.crew.protocol(episode.device).answers(word)
        && book.disturbed(episode.device, from_ms, to_ms)
}

/// The report that decided a phase.
fn decided(episode: &Episode, phase: Phase) -> Mark {
    match phase {
        Phase::Raise => episode.raised,
        Phase::Clear => episode.cleared.unwrap_or(episode.raised),
    }
}

/// Whether a loss of state falls between an episode's start and the report that decided.
fn straddles(episode: &Episode, phase: Phase, lost_ms: i64) -> bool {
    let decided = decided(episode, phase);
    // The loss is noted by the wall clock, up to a report's period and a resend after the reports' own times.
    (episode.start_ms - SPREAD_MS..=decided.time_ms + SPREAD_MS).contains(&lost_ms)
        && decided.time_ms > episode.start_ms
}

impl Check {
    /// What a run must show at least once and did not.
    fn missing(&self, wanted: &Wanted) -> Vec<&'static str> {
        let s = &self.summary;
        let counts = [
            (true, s.frames_sent, "no report was sent"),
            (self.kept > 0, s.frames_answered, "no report was answered"),
            (wanted.tracks, s.tracks_pushed, "no position was pushed"),
            (wanted.alarms, s.alarms_raised, "no alarm had to be raised"),
            (wanted.alarms, s.alarms_delivered, "no alarm was delivered"),
            (wanted.traces, s.traces, "no trace of an alarm came"),
        ];
        let missing = counts
            .into_iter()
            .filter(|&(must, count, _)| must && count == 0);
        missing.map(|(_, _, what)| what).collect()
    }

    fn holds(&self, wanted: &Wanted) -> bool {
        let s = &self.summary;
        let true_news = s.lost == 0 && s.invented == 0 && self.misplaced == 0;
        let nothing_wrong = true_news && self.file_error.is_none();
        let kinds = !wanted.alarms || self.kinds_missing.is_empty();
        let parts = self.protocols_missing.is_empty() && self.unseen == 0;
        nothing_wrong && self.missing.is_empty() && kinds && parts
    }
}

impl Named {
    fn delivered(delivery: &Delivery) -> Named {
        Named {
            device: delivery.device.clone(),
            kind: delivery.kind.clone(),
            rule: delivery.rule.clone(),
            phase: delivery.phase,
            start_ms: delivery.start_ms,
        }
    }

    fn expected(book: &Book, episode: &Episode, phase: Phase) -> Named {
        Named {
            device: book.crew.id(episode.device),
            kind: episode.what.kind().to_string(),
            rule: episode.what.rule(&book.rules).to_string(),
            phase,
            start_ms: episode.start_ms,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named {
            device,
            kind,
            rule,
            phase,
            start_ms,
        } = self;
        write!(
            f,
            "{device} {kind} by {rule}, {}, start {start_ms}",
            phase.name()
        )
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
