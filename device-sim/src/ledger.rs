//! What devices sent and had answered, and what subscribers got: the evidence on which a run is judged.
//!
//! Append-only. A report is entered before its bytes leave, an answer after it came, so that whatever dies, the
//! simulator included, the ledger errs only on the runtime's side: it may know too few answers, never too few
//! reports. With a file, every entry is handed to the kernel at once and [`Ledger::load`] reads it back. In memory a
//! report is forgotten once it is answered and nothing more is expected of it; the episodes found in it stay.

mod line;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use line::Line;
use serde_json::Value;

use crate::crew::Crew;
use crate::delivery::{Delivery, Phase};
use crate::device::{Sent, Way};
use crate::histogram::Histogram;
use crate::report::{Report, Shown};
use crate::truth::{Episode, Judge, Mark, Rules, What};

/// Answered reports that are remembered for each device while a subscriber may still be told of them.
const ANSWERED_KEPT_MAX: usize = 64;
/// Reports out of order within this time are one disturbance, ms.
const DISTURBANCE_MS: i64 = 10_000;
/// Disturbances noted for each device; the last one then grows.
const DISTURBANCES_MAX: usize = 64;

/// Handle to the evidence of a run; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    started: Instant,
}

/// Figures of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reports sent at least once.
    pub sent: u64,
    /// Of those, how many the device keeps until they are answered.
    pub kept: u64,
    /// Reports answered.
    pub answered: u64,
    /// Reports sent again, by any way.
    pub resent: u64,
    /// Answers that said no.
    pub refused: u64,
    /// Reports seen by the stream's subscriber.
    pub tracked: u64,
    /// Of those, how many were shown another place, speed or course than was sent.
    pub misplaced: u64,
    /// Raises and clears that reports so far mean.
    pub expected: u64,
    /// Different alarms that came in by MQTT.
    pub delivered: u64,
    /// Alarms that came again with the same id.
    pub duplicates: u64,
    /// Alarms that came before an older one of the same device and journal.
    pub reordered: u64,
    /// Messages to subscribers that could not be read.
    pub unreadable: u64,
}

/// Reports that wait for their answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// At which an alarm must be raised or cleared.
    pub deciding: u64,
    /// All others.
    pub plain: u64,
}

/// An alarm that no report so far means, or that means one for the second time under another id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub delivery: Delivery,
    /// Device and matter, if the fleet has them.
    pub about: Option<(u32, What)>,
}

#[derive(Debug)]
pub(crate) struct Book {
    pub rules: Rules,
    pub crew: Crew,
    /// By the turns of the crew's protocols.
    pub tallies: Vec<Tally>,
    pub accounts: Vec<Account>,
    pub episodes: Vec<Episode>,
    /// Delivered phases of each episode: raise, clear.
    pub seen: Vec<[bool; 2]>,
    by_start: HashMap<(u32, What, i64), usize>,
    ids: HashSet<u128>,
    pub strays: Vec<Stray>,
    /// Phone numbers from this one on are not the fleet's.
    guests_from: u64,
    /// Times at which all state was lost, UTC ms.
    pub state_lost: Vec<i64>,
    pub counts: Counts,
    pub latency: Histogram,
    /// The first report that was shown otherwise than it was sent.
    pub misplaced: Option<(u32, Report, Shown)>,
    file: Option<File>,
    /// Why the file is not complete.
    pub file_error: Option<String>,
    text: String,
}

/// What became of the reports of one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub sent: u64,
    pub kept: u64,
    pub answered: u64,
    pub tracked: u64,
}

/// One device's part.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Number of the first entry; all before it are answered.
    first: u32,
    entries: VecDeque<Entry>,
    /// Time of the newest report, UTC ms.
    newest_ms: Option<i64>,
    /// Whether the stream's subscriber was told of any of its reports.
    shown: bool,
    /// Numbers of reports that nobody was to answer and nobody was told of, as far as they are forgotten.
    untold: Vec<u32>,
    judge: Judge,
    /// First and last time of reports in a row that may have reached the runtime out of order or not at all, UTC ms.
    disturbed: Vec<(i64, i64)>,
    /// Newest place in the journal by journal.
    last_seq: Option<(String, u64)>,
}

#[derive(Debug)]
struct Entry {
    report: Report,
    sent_ns: u64,
    kept: bool,
    answered: bool,
    tracked: bool,
}

impl Entry {
    /// Whether nothing can happen any more that decides whether the runtime must have had it.
    fn is_settled(&self) -> bool {
        self.answered || !self.kept
    }
}

impl Ledger {
    /// An empty ledger of so many devices of JT/T 808, judged by these rules.
    pub fn new(devices: u32, rules: Rules) -> Ledger {
        Ledger::of(Crew::new(devices, &[]), rules)
    }

    /// An empty ledger of these devices, judged by these rules.
    pub fn of(crew: Crew, rules: Rules) -> Ledger {
        let account = |device| Account {
            judge: Judge::new(crew.protocol(device).vocabulary().lasting),
            ..Account::default()
        };
        let accounts = (0..crew.devices()).map(account).collect();
        let book = Book {
            rules,
            tallies: vec![Tally::default(); crew.protocols().len()],
            crew,
            accounts,
            episodes: Vec::new(),
            seen: Vec::new(),
            by_start: HashMap::new(),
            ids: HashSet::new(),
            strays: Vec::new(),
            guests_from: u64::MAX,
            state_lost: Vec::new(),
            counts: Counts::default(),
            latency: Histogram::default(),
            misplaced: None,
            file: None,
            file_error: None,
            text: String::new(),
        };
        Ledger {
            book: Arc::new(Mutex::new(book)),
            started: Instant::now(),
        }
    }

    /// Writes every further entry to a new file as well.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn keep_in(&self, path: &Path) -> io::Result<()> {
        self.open().file = Some(File::create_new(path)?);
        Ok(())
    }

    /// Reads a ledger's file; a last line that was cut off is passed over.
    ///
    /// # Errors
    /// When the file cannot be read, or a line in its middle is not one of a ledger.
    pub fn load(path: &Path, devices: u32, rules: Rules) -> io::Result<Ledger> {
        Ledger::load_of(path, Crew::new(devices, &[]), rules)
    }

    /// As [`Ledger::load`], of these devices.
    ///
    /// # Errors
    /// As [`Ledger::load`].
    pub fn load_of(path: &Path, crew: Crew, rules: Rules) -> io::Result<Ledger> {
        let devices = crew.devices();
        let ledger = Ledger::of(crew, rules);
        let mut reader = io::BufReader::new(File::open(path)?);
        let (mut text, mut number) = (String::new(), 0);
        while reader.read_line(&mut text)? > 0 {
            number += 1;
            let Some(whole) = text.strip_suffix('\n') else {
                break;
            };
            let line = Line::read(whole).filter(|line| line.device().is_none_or(|d| d < devices));
            let wrong = || format!("cannot read ledger line {number}");
            let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, wrong()))?;
            ledger.open().enter(line, 0);
            text.clear();
        }
        Ok(ledger)
    }

    /// Enters reports that are about to be written to a device's connection.
    pub fn sent(&self, device: u32, reports: &[Sent], at: Instant) {
        let (mut book, ns) = (self.open(), self.since(at));
        for &sent in reports {
            book.append(Line::Sent { device, sent }, ns);
        }
        book.flush();
    }

    /// Enters that the last byte of a device's newest report left only now.
    pub fn left(&self, device: u32, at: Instant) {
        let ns = self.since(at);
        if let Some(entry) = self.open().accounts[device as usize].entries.back_mut() {
            entry.sent_ns = ns;
        }
    }

    /// Enters reports that were answered.
    pub fn answered(&self, device: u32, numbers: &[u32]) {
        let mut book = self.open();
        for &number in numbers {
            book.append(Line::Answered { device, number }, 0);
        }
        book.flush();
    }

    /// Enters that the connection of a device was cut, whose protocol does not answer everything: its last reports may
    /// be lost.
    pub fn cut(&self, device: u32) {
        let mut book = self.open();
        book.append(Line::Cut { device }, 0);
        book.flush();
    }

    /// Counts answers that said no.
    pub fn refused(&self, count: u32) {
        self.open().counts.refused += u64::from(count);
    }

    /// Enters a position that the stream's subscriber saw, as it was shown; `news`: pushed just now, not part of a
    /// snapshot, so that its latency counts.
    pub fn tracked(&self, device: &str, time_ms: i64, shown: &Shown, at: Instant, news: bool) {
        let (mut book, ns) = (self.open(), self.since(at));
        if let Some(device) = book.device(device) {
            book.track(device, time_ms, shown, news.then_some(ns));
        }
    }

    /// Enters an alarm that came by MQTT.
    pub fn delivered(&self, payload: &Value) {
        let mut book = self.open();
        match Delivery::read(payload) {
            Some(delivery) => book.append(Line::Delivered(delivery), 0),
            None => book.counts.unreadable += 1,
        }
        book.flush();
    }

    /// Counts a message to a subscriber that is not what is documented.
    pub fn unreadable(&self) {
        self.open().counts.unreadable += 1;
    }

    /// Enters that the runtime has just lost all state, as when its supervisor is killed: what began before may be
    /// found again under another start, or missed.
    pub fn state_lost(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |since| since.as_millis() as i64);
        let mut book = self.open();
        book.append(Line::StateLost(now_ms), 0);
        book.flush();
    }

    /// Devices with this phone number or a greater one are somebody else's: what comes of them is passed over.
    pub fn pass_over_from(&self, phone: u64) {
        self.open().guests_from = phone;
    }

    /// Reports sent at least `since` ago that must be answered and are not.
    pub fn unanswered(&self, since: Duration) -> Unanswered {
        let (book, now_ns) = (self.open(), self.since(Instant::now()));
        let marks = book.episodes.iter().flat_map(|episode| {
            let marks = std::iter::once(episode.raised).chain(episode.cleared);
            marks.map(|mark| (episode.device, mark.number))
        });
        let deciding: HashSet<(u32, u32)> = marks.collect();
        let mut found = Unanswered::default();
        for (device, account) in (0..).zip(&book.accounts) {
            for (number, entry) in (account.first..).zip(&account.entries) {
                if entry.is_settled() || entry.sent_ns + since.as_nanos() as u64 > now_ns {
                    continue;
                }
                match deciding.contains(&(device, number)) {
                    true => found.deciding += 1,
                    false => found.plain += 1,
                }
            }
        }
        found
    }

    /// The figures so far.
    pub fn counts(&self) -> Counts {
        self.open().counts
    }

    /// Count of alarms that must have come and have not yet.
    pub fn outstanding(&self) -> usize {
        let book = self.open();
        book.expected().filter(|(_, _, seen)| !seen).count()
    }

    /// All times so far from sending a report to its arrival at the stream's subscriber.
    pub fn latency(&self) -> Histogram {
        self.open().latency.clone()
    }

    /// Median, 99th percentile and maximum from sending a report to its arrival at the stream's subscriber, ms.
    pub fn latency_ms(&self) -> [Option<f64>; 3] {
        let book = self.open();
        let share = |part| book.latency.share_ms(part);
        [share(0.5), share(0.99), book.latency.max_ms()]
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics while entering")
    }

    fn since(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_nanos() as u64
    }
}

impl Book {
    /// Index of a device by its id.
    pub fn device(&self, id: &str) -> Option<u32> {
        self.crew.device(id)
    }

    /// Every raise and clear that must come: episode, phase, and whether it came. A report that was answered means it;
    /// so does one that nobody was to answer, if the runtime is known to have had it: its position was pushed, or the
    /// alarm itself came.
    pub fn expected(&self) -> impl Iterator<Item = (&Episode, Phase, bool)> {
        let both = self.episodes.iter().zip(&self.seen);
        both.flat_map(move |(episode, seen)| {
            let raise = self.was_had(episode.device, episode.raised, seen[0]);
            let clear = episode
                .cleared
                .is_some_and(|mark| self.was_had(episode.device, mark, seen[1]));
            let raise = raise.then_some((episode, Phase::Raise, seen[0]));
            raise
                .into_iter()
                .chain(clear.then_some((episode, Phase::Clear, seen[1])))
        })
    }

    /// Devices that reported and of which no position was pushed.
    pub fn unseen(&self) -> impl Iterator<Item = u32> {
        let unseen = |account: &Account| account.newest_ms.is_some() && !account.shown;
        let accounts = (0..).zip(&self.accounts);
        accounts.filter_map(move |(device, account)| unseen(account).then_some(device))
    }

    /// Whether the runtime is known to have had a report. `seen`: the alarm that it means came.
    fn was_had(&self, device: u32, mark: Mark, seen: bool) -> bool {
        let account = &self.accounts[device as usize];
        let Some(at) = mark.number.checked_sub(account.first) else {
            return seen || account.untold.binary_search(&mark.number).is_err();
        };
        let entry = account.entries.get(at as usize);
        entry.is_some_and(|entry| match entry.kept {
            true => entry.answered,
            false => entry.tracked || seen,
        })
    }

    /// Whether the runtime may have seen reports of a device between two times out of order or without its state, so
    /// that what it found then may rightly start at another report.
    pub fn disturbed(&self, device: u32, from_ms: i64, to_ms: i64) -> bool {
        let mut spells = self.accounts[device as usize].disturbed.iter();
        let mut losses = self.state_lost.iter();
        spells.any(|&(first, last)| first <= to_ms && last >= from_ms)
            || losses.any(|time| (from_ms..=to_ms).contains(time))
    }

    /// Enters a line and writes it to the text for the file.
    fn append(&mut self, line: Line, ns: u64) {
        if self.file.is_some() {
            line.write(&mut self.text);
        }
        self.enter(line, ns);
    }

    fn flush(&mut self) {
        if let (Some(file), false) = (&mut self.file, self.text.is_empty()) {
            if let Err(error) = file.write_all(self.text.as_bytes()) {
                self.file_error = Some(format!("cannot write ledger: {error}"));
                self.file = None;
            }
            self.text.clear();
        }
    }

    fn enter(&mut self, line: Line, ns: u64) {
        match line {
            Line::Sent { device, sent } => self.enter_sent(device, sent, ns),
            Line::Answered { device, number } => self.enter_answered(device, number),
            Line::Cut { device } => {
                let account = &mut self.accounts[device as usize];
                if let Some(time_ms) = account.newest_ms {
                    account.disturb(time_ms);
                }
            }
            Line::Delivered(delivery) => self.enter_delivered(delivery),
            Line::StateLost(time_ms) => self.state_lost.push(time_ms),
        }
    }

    fn enter_sent(&mut self, device: u32, sent: Sent, sent_ns: u64) {
        let account = &mut self.accounts[device as usize];
        let time_ms = sent.report.time_ms();
        if matches!(sent.way, Way::Backlog | Way::Repeat) {
            account.disturb(time_ms);
        }
        if sent.number != account.first + account.entries.len() as u32 {
            self.counts.resent += 1;
            return;
        }
        account.newest_ms = Some(time_ms);
        account.entries.push_back(Entry {
            report: sent.report,
            sent_ns,
            kept: sent.kept,
            answered: false,
            tracked: false,
        });
        let tally = &mut self.tallies[self.crew.turn(device)];
        for count in [&mut self.counts.sent, &mut tally.sent] {
            *count += 1;
        }
        for count in [&mut self.counts.kept, &mut tally.kept] {
            *count += u64::from(sent.kept);
        }
        let before = self.episodes.len();
        let (judge, episodes) = (&mut account.judge, &mut self.episodes);
        let cleared = judge.feed(&self.rules, device, sent.number, &sent.report, episodes);
        for (index, episode) in self.episodes.iter().enumerate().skip(before) {
            let key = (episode.device, episode.what, episode.start_ms);
            self.by_start.insert(key, index);
            self.seen.push([false; 2]);
        }
        self.counts.expected += (self.episodes.len() - before + cleared) as u64;
    }

    fn enter_answered(&mut self, device: u32, number: u32) {
        let account = &mut self.accounts[device as usize];
        let at = number.checked_sub(account.first).map(|at| at as usize);
        let entry = at.and_then(|at| account.entries.get_mut(at));
        if let Some(entry) = entry.filter(|entry| !entry.answered) {
            entry.answered = true;
            self.counts.answered += 1;
            self.tallies[self.crew.turn(device)].answered += 1;
        }
        account.forget();
    }

    fn track(&mut self, device: u32, time_ms: i64, shown: &Shown, ns: Option<u64>) {
        let account = &mut self.accounts[device as usize];
        let at = account
            .entries
            .partition_point(|e| e.report.time_ms() < time_ms);
        let Some(entry) = account.entries.get_mut(at) else {
            return;
        };
        if entry.report.time_ms() == time_ms && !entry.tracked {
            entry.tracked = true;
            account.shown = true;
            if !entry.report.is_shown_by(shown) {
                self.counts.misplaced += 1;
                let sent = entry.report;
                self.misplaced.get_or_insert((device, sent, *shown));
            }
            self.counts.tracked += 1;
            self.tallies[self.crew.turn(device)].tracked += 1;
            if let Some(ns) = ns {
                self.latency.add(ns.saturating_sub(entry.sent_ns) / 1000);
            }
        }
        account.forget();
    }

    fn enter_delivered(&mut self, delivery: Delivery) {
        let phone = delivery.device.parse::<u64>();
        if phone.is_ok_and(|phone| phone >= self.guests_from) {
            return;
        }
        if !self.ids.insert(delivery.id) {
            self.counts.duplicates += 1;
            return;
        }
        self.counts.delivered += 1;
        let what = What::find(&delivery.kind, &delivery.rule, &self.rules);
        let about = self.device(&delivery.device).zip(what);
        let Some((device, what)) = about else {
            return self.strays.push(Stray { delivery, about });
        };
        if let (Some(journal), Some(seq)) = (&delivery.journal, delivery.seq) {
            let last = &mut self.accounts[device as usize].last_seq;
            match last {
                Some((known, newest)) if known == journal && *newest > seq => {
                    self.counts.reordered += 1;
                }
                _ => *last = Some((journal.clone(), seq)),
            }
        }
        let found = self.by_start.get(&(device, what, delivery.start_ms));
        let phase = delivery.phase as usize;
        match found {
            Some(&index)
                if !self.seen[index][phase]
                    && (delivery.phase == Phase::Raise
                        || self.episodes[index].cleared.is_some()) =>
            {
                self.seen[index][phase] = true;
            }
            _ => self.strays.push(Stray { delivery, about }),
        }
    }
}

impl Account {
    /// Notes that a report with this time may have come out of order.
    fn disturb(&mut self, time_ms: i64) {
        let full = self.disturbed.len() == DISTURBANCES_MAX;
        match self.disturbed.last_mut() {
            Some((first, last))
                if full
                    || (*first - DISTURBANCE_MS..=*last + DISTURBANCE_MS).contains(&time_ms) =>
            {
                *first = time_ms.min(*first);
                *last = time_ms.max(*last);
            }
            _ => self.disturbed.push((time_ms, time_ms)),
        }
    }

    /// Forgets the oldest entries that nothing more is expected of.
    fn forget(&mut self) {
        while let Some(oldest) = self.entries.front() {
            let few = self.entries.len() <= ANSWERED_KEPT_MAX;
            if !oldest.is_settled() || (few && !oldest.tracked) {
                return;
            }
            if !oldest.kept && !oldest.tracked {
                self.untold.push(self.first);
            }
            self.entries.pop_front();
            self.first += 1;
        }
    }
}
