//! The statistics page: counters, gauges and histograms of one process in shared memory.
//!
//! The process adds with relaxed atomics; observer and `status` read whenever they like, also after its death. Counters
//! go on when a process is started again on its page; gauges begin at zero. What is counted is in `tables`; which
//! labels are added (role, instance) and how it is shown is left to the reader.

mod tables;

use std::io;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use tables::{
    ClassifierMetric, DispatcherMetric, IngestMetric, ObserverMetric, SupervisorMetric,
    UplinkMetric,
};

use crate::role::Role;
use crate::sys::region::{self, ReadRegion, WORD_BYTES, WriteRegion};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Most bytes of the name of an instance.
pub const INSTANCE_BYTES_MAX: usize = 64;

/// Upper bounds of a histogram's buckets, nanoseconds: three to a decade from 10 us to 10 s. One more bucket takes what
/// is above.
pub const BUCKET_BOUNDS_NS: [u64; 19] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Buckets of a histogram with the one above all bounds.
pub const BUCKETS: usize = BUCKET_BOUNDS_NS.len() + 1;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl Kind {
    /// Words that a value takes: a histogram has its buckets and the sum.
    const fn words(self) -> usize {
        match self {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram => BUCKETS + 1,
        }
    }
}

/// One metric of a table. Entries of one name stand together and differ in the label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The name, Prometheus style, unit last.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Name and value of the label, if entries of this name have one.
    pub label: Option<(&'static str, &'static str)>,
}

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The supervisor's.
    Supervisor,
    /// A child's.
    Child(Role),
}

impl Owner {
    /// All owners; the place in the list is the number on the page.
    const ALL: [Owner; 6] = [
        Owner::Supervisor,
        Owner::Child(Role::Ingest),
        Owner::Child(Role::Classifier),
        Owner::Child(Role::Dispatcher),
        Owner::Child(Role::Uplink),
        Owner::Child(Role::Observer),
    ];

    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Supervisor => "supervisor",
            Owner::Child(role) => role.name(),
        }
    }

    /// What a process of this kind counts.
    pub fn table(self) -> &'static [Definition] {
        match self {
            Owner::Supervisor => SupervisorMetric::TABLE,
            Owner::Child(Role::Ingest) => IngestMetric::TABLE,
            Owner::Child(Role::Classifier) => ClassifierMetric::TABLE,
            Owner::Child(Role::Dispatcher) => DispatcherMetric::TABLE,
            Owner::Child(Role::Uplink) => UplinkMetric::TABLE,
            Owner::Child(Role::Observer) => ObserverMetric::TABLE,
        }
    }

    fn number(self) -> u64 {
        let place = Owner::ALL.iter().position(|owner| *owner == self);
        place.expect("the list is complete") as u64
    }

    fn from_number(number: u64) -> Option<Owner> {
        Owner::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// The metrics of one kind of process, an enum whose values are places in the table.
pub trait Metric: Copy {
    /// Whose they are.
    const OWNER: Owner;
    /// Their definitions, in the order of the enum.
    const TABLE: &'static [Definition];
    /// The place in the table.
    fn index(self) -> usize;
}

/// Words of the page's head.
mod word {
    pub const MAGIC: usize = 0;
    pub const OWNER: usize = 1;
    pub const PID: usize = 2;
    pub const STARTED: usize = 3;
    pub const HEARTBEAT: usize = 4;
    pub const READY: usize = 5;
    pub const FINGERPRINT: usize = 6;
    pub const INSTANCE_BYTES: usize = 7;
    pub const INSTANCE: usize = 8;
    pub const VALUES: usize = 16;
}

const MAGIC: u64 = u64::from_le_bytes(*b"RWSTAT01");

/// Words that the values of a table take.
const fn table_words(table: &[Definition]) -> usize {
    let mut words = 0;
    let mut entry = 0;
    while entry < table.len() {
        words += table[entry].kind.words();
        entry += 1;
    }
    words
}

/// Identity of a table: a page of another version of it is begun anew rather than misread.
fn fingerprint(table: &[Definition]) -> u64 {
    let mut sum = 0;
    for entry in table {
        let (key, value) = entry.label.unwrap_or_default();
        for text in [entry.name, key, value] {
            sum = crc32c::crc32c_append(sum, text.as_bytes());
            sum = crc32c::crc32c_append(sum, &[0, entry.kind as u8]);
        }
    }
    u64::from(sum)
}

/// Makes an empty page.
///
/// # Errors
/// What the kernel says.
pub fn create() -> io::Result<OwnedFd> {
    region::create("ringway-stats", PAGE_BYTES)
}

/// A process's own page. Clones share it.
pub struct Stats<M> {
    page: Arc<WriteRegion>,
    /// First word of each metric.
    places: Arc<[usize]>,
    metrics: PhantomData<M>,
}

impl<M> Clone for Stats<M> {
    fn clone(&self) -> Stats<M> {
        Stats {
            page: self.page.clone(),
            places: self.places.clone(),
            metrics: PhantomData,
        }
    }
}

impl<M: Metric> Stats<M> {
    /// Takes over a page: counters of a predecessor of the same kind go on, all else begins anew, not ready. A name
    /// longer than [`INSTANCE_BYTES_MAX`] is cut.
    ///
    /// # Errors
    /// What [`WriteRegion::map`] says.
    pub fn attach(
        fd: BorrowedFd<'_>,
        instance: &str,
        started_unix_ms: i64,
    ) -> io::Result<Stats<M>> {
        let page = WriteRegion::map(fd, PAGE_BYTES)?;
        let set = |word, value| page.store(word, value, Ordering::Relaxed);
        let fingerprint = fingerprint(M::TABLE);
        let goes_on = page.load(word::MAGIC, Ordering::Relaxed) == MAGIC
            && page.load(word::OWNER, Ordering::Relaxed) == M::OWNER.number()
            && page.load(word::FINGERPRINT, Ordering::Relaxed) == fingerprint;
        let mut places = Vec::with_capacity(M::TABLE.len());
        let mut place = word::VALUES;
        for entry in M::TABLE {
            places.push(place);
            if !goes_on || entry.kind == Kind::Gauge {
                (place..place + entry.kind.words()).for_each(|word| set(word, 0));
            }
            place += entry.kind.words();
        }
        let mut end = instance.len().min(INSTANCE_BYTES_MAX);
        while !instance.is_char_boundary(end) {
            end -= 1;
        }
        let instance = &instance[..end];
        set(word::READY, 0);
        set(word::HEARTBEAT, 0);
        set(word::OWNER, M::OWNER.number());
        set(word::PID, u64::from(std::process::id()));
        set(word::STARTED, started_unix_ms as u64);
        set(word::FINGERPRINT, fingerprint);
        set(word::INSTANCE_BYTES, instance.len() as u64);
        page.copy_in(word::INSTANCE * WORD_BYTES, instance.as_bytes());
        // Release: pairs with the acquire load in `Reader::read`; a page of zeros shows no head before it has one.
        page.store(word::MAGIC, MAGIC, Ordering::Release);
        Ok(Stats {
            page: Arc::new(page),
            places: places.into(),
            metrics: PhantomData,
        })
    }

    /// Adds to a counter or a gauge.
    pub fn add(&self, metric: M, count: u64) {
        debug_assert!(M::TABLE[metric.index()].kind != Kind::Histogram);
        // Relaxed, as all that follows: numbers for people, no partner.
        self.page
            .fetch_add(self.places[metric.index()], count, Ordering::Relaxed);
    }

    /// Takes from a gauge.
    pub fn subtract(&self, metric: M, count: u64) {
        debug_assert!(M::TABLE[metric.index()].kind == Kind::Gauge);
        self.page.fetch_add(
            self.places[metric.index()],
            count.wrapping_neg(),
            Ordering::Relaxed,
        );
    }

    /// Sets a gauge.
    pub fn set(&self, metric: M, value: u64) {
        debug_assert!(M::TABLE[metric.index()].kind == Kind::Gauge);
        self.page
            .store(self.places[metric.index()], value, Ordering::Relaxed);
    }

    /// The value of a counter or a gauge.
    pub fn get(&self, metric: M) -> u64 {
        debug_assert!(M::TABLE[metric.index()].kind != Kind::Histogram);
        self.page
            .load(self.places[metric.index()], Ordering::Relaxed)
    }

    /// Adds a duration to a histogram.
    pub fn observe(&self, metric: M, duration: Duration) {
        debug_assert!(M::TABLE[metric.index()].kind == Kind::Histogram);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_NS.partition_point(|bound| *bound < ns);
        let place = self.places[metric.index()];
        self.page.fetch_add(place + bucket, 1, Ordering::Relaxed);
        self.page.fetch_add(place + BUCKETS, ns, Ordering::Relaxed);
    }

    /// Says that the process is alive at the monotonic time `now_ns`.
    pub fn heartbeat(&self, now_ns: u64) {
        self.page.store(word::HEARTBEAT, now_ns, Ordering::Relaxed);
    }

    /// Says whether the process serves.
    pub fn set_ready(&self, ready: bool) {
        self.page
            .store(word::READY, u64::from(ready), Ordering::Relaxed);
    }
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The memory cannot be mapped.
    #[error("cannot read statistics page: {0}")]
    Region(#[from] io::Error),
    /// No process has taken it over yet, or one of another version.
    #[error("cannot read statistics page: no process has begun it")]
    Empty,
    /// The head is not one that any process writes.
    #[error("cannot read statistics page: its head is not valid")]
    Head,
}

/// One metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a counter or gauge.
    Number(u64),
    /// Of a histogram.
    Histogram {
        /// Durations in each bucket alone, not summed up.
        buckets: [u64; BUCKETS],
        /// Sum of all durations, nanoseconds.
        sum_ns: u64,
    },
}

/// A page as read at one moment. Its numbers are another process's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Whose it is.
    pub owner: Owner,
    /// Which of them: the sensor's name for an ingest, else the role's name. Without control characters.
    pub instance: String,
    /// Its process id.
    pub pid: u32,
    /// Wall clock at its start, milliseconds since 1970.
    pub started_unix_ms: i64,
    /// Monotonic time at which it last said that it is alive, nanoseconds; 0: not yet.
    pub heartbeat_ns: u64,
    /// Whether it serves.
    pub ready: bool,
    /// Its metrics, in the order of the table.
    pub values: Vec<(&'static Definition, Value)>,
}

impl Page {
    /// The number of a counter or gauge; `None` for a histogram and for another owner's metric.
    pub fn number<M: Metric>(&self, metric: M) -> Option<u64> {
        match self.values.get(metric.index()) {
            Some((_, Value::Number(number))) if M::OWNER == self.owner => Some(*number),
            _ => None,
        }
    }
}

/// Another process's page.
pub struct Reader {
    page: ReadRegion,
}

impl Reader {
    /// Maps a page.
    ///
    /// # Errors
    /// `Region` when it cannot be mapped.
    pub fn map(fd: BorrowedFd<'_>) -> Result<Reader, StatsError> {
        Ok(Reader {
            page: ReadRegion::map(fd, PAGE_BYTES)?,
        })
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `Empty` before the process began it, `Head` for what no process of ours writes.
    pub fn read(&self) -> Result<Page, StatsError> {
        let load = |word| self.page.load(word, Ordering::Relaxed);
        // Acquire: pairs with the release store in `Stats::attach`.
        if self.page.load(word::MAGIC, Ordering::Acquire) != MAGIC {
            return Err(StatsError::Empty);
        }
        let owner = Owner::from_number(load(word::OWNER)).ok_or(StatsError::Head)?;
        if load(word::FINGERPRINT) != fingerprint(owner.table()) {
            return Err(StatsError::Empty);
        }
        let mut place = word::VALUES;
        let values = owner.table().iter().map(|entry| {
            let value = match entry.kind {
                Kind::Counter | Kind::Gauge => Value::Number(load(place)),
                Kind::Histogram => Value::Histogram {
                    buckets: std::array::from_fn(|bucket| load(place + bucket)),
                    sum_ns: load(place + BUCKETS),
                },
            };
            place += entry.kind.words();
            (entry, value)
        });
        Ok(Page {
            owner,
            instance: self.instance()?,
            pid: u32::try_from(load(word::PID)).map_err(|_| StatsError::Head)?,
            started_unix_ms: load(word::STARTED) as i64,
            heartbeat_ns: load(word::HEARTBEAT),
            ready: load(word::READY) != 0,
            values: values.collect(),
        })
    }

    fn instance(&self) -> Result<String, StatsError> {
        let length = self.page.load(word::INSTANCE_BYTES, Ordering::Relaxed);
        let length = usize::try_from(length).map_err(|_| StatsError::Head)?;
        let mut bytes = [0; INSTANCE_BYTES_MAX];
        let bytes = bytes.get_mut(..length).ok_or(StatsError::Head)?;
        self.page.copy_out(word::INSTANCE * WORD_BYTES, bytes);
        match std::str::from_utf8(bytes) {
            Ok(name) if !name.chars().any(char::is_control) => Ok(name.to_owned()),
            _ => Err(StatsError::Head),
        }
    }
}

/// Reads a page once; who reads it again and again keeps a [`Reader`].
///
/// # Errors
/// As [`Reader::map`] and [`Reader::read`].
pub fn read(fd: BorrowedFd<'_>) -> Result<Page, StatsError> {
    Reader::map(fd)?.read()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn value(page: &Page, metric: impl Metric) -> Value {
        page.values[metric.index()].1
    }

    #[test]
    fn what_a_process_counts_is_what_a_reader_sees() {
        let fd = create().unwrap();
        let stats = Stats::<DispatcherMetric>::attach(fd.as_fd(), "dispatcher", 1234).unwrap();
        stats.add(DispatcherMetric::Tracks, 3);
        stats.clone().add(DispatcherMetric::Tracks, 2);
        stats.set(DispatcherMetric::Subscribers, 9);
        stats.subtract(DispatcherMetric::Subscribers, 2);
        stats.observe(DispatcherMetric::Freshness, Duration::from_micros(10));
        stats.observe(DispatcherMetric::Freshness, Duration::from_micros(11));
        stats.observe(DispatcherMetric::Freshness, Duration::from_secs(60));
        stats.heartbeat(55);
        stats.set_ready(true);
        let page = read(region::read_only(fd.as_fd()).unwrap().as_fd()).unwrap();
        assert_eq!(page.owner, Owner::Child(Role::Dispatcher));
        assert_eq!(
            (page.instance.as_str(), page.pid),
            ("dispatcher", std::process::id())
        );
        assert_eq!(
            (page.started_unix_ms, page.heartbeat_ns, page.ready),
            (1234, 55, true)
        );
        assert_eq!(page.number(DispatcherMetric::Tracks), Some(5));
        assert_eq!(page.number(DispatcherMetric::Subscribers), Some(7));
        assert_eq!(page.number(UplinkMetric::Published), None);
        let mut expected = [0; BUCKETS];
        (expected[0], expected[1], expected[BUCKETS - 1]) = (1, 1, 1);
        assert_eq!(
            value(&page, DispatcherMetric::Freshness),
            Value::Histogram {
                buckets: expected,
                sum_ns: 60_000_021_000
            }
        );
    }

    #[test]
    fn counters_outlive_their_process_and_gauges_do_not() {
        let fd = create().unwrap();
        let stats = Stats::<IngestMetric>::attach(fd.as_fd(), "a", 1).unwrap();
        stats.add(IngestMetric::FramesPublished, 5);
        stats.set(IngestMetric::ConnectionsOpen, 5);
        stats.set_ready(true);
        let stats = Stats::<IngestMetric>::attach(fd.as_fd(), "a", 2).unwrap();
        stats.add(IngestMetric::FramesPublished, 1);
        let page = read(fd.as_fd()).unwrap();
        assert_eq!(page.number(IngestMetric::FramesPublished), Some(6));
        assert_eq!(page.number(IngestMetric::ConnectionsOpen), Some(0));
        assert_eq!((page.started_unix_ms, page.ready), (2, false));
    }

    #[test]
    fn a_page_of_another_kind_is_begun_anew() {
        let fd = create().unwrap();
        let stats = Stats::<IngestMetric>::attach(fd.as_fd(), "a", 1).unwrap();
        stats.add(IngestMetric::ConnectionsAccepted, 5);
        Stats::<ClassifierMetric>::attach(fd.as_fd(), "b", 1).unwrap();
        let page = read(fd.as_fd()).unwrap();
        assert_eq!(page.owner, Owner::Child(Role::Classifier));
        assert!(
            page.values.iter().all(|(entry, value)| {
                entry.kind == Kind::Histogram || *value == Value::Number(0)
            })
        );
    }

    #[test]
    fn an_empty_page_and_a_forged_head_are_refused() {
        let fd = create().unwrap();
        assert!(matches!(read(fd.as_fd()), Err(StatsError::Empty)));
        Stats::<IngestMetric>::attach(fd.as_fd(), "a", 1).unwrap();
        let forge = WriteRegion::map(fd.as_fd(), PAGE_BYTES).unwrap();
        for (word, lie) in [
            (word::OWNER, 99),
            (word::INSTANCE_BYTES, 65),
            (word::INSTANCE_BYTES, u64::MAX),
            (word::INSTANCE, u64::from_ne_bytes(*b"\n\n\n\n\n\n\n\n")),
            (word::INSTANCE, u64::MAX),
            (word::PID, u64::MAX),
        ] {
            let truth = forge.load(word, Ordering::Relaxed);
            forge.store(word, lie, Ordering::Relaxed);
            assert!(
                matches!(read(fd.as_fd()), Err(StatsError::Head)),
                "word {word}"
            );
            forge.store(word, truth, Ordering::Relaxed);
        }
        assert!(read(fd.as_fd()).is_ok());
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let fd = create().unwrap();
        let name = "é".repeat(40);
        Stats::<IngestMetric>::attach(fd.as_fd(), &name, 1).unwrap();
        assert_eq!(read(fd.as_fd()).unwrap().instance, "é".repeat(32));
    }

    #[test]
    fn tables_are_fit_to_be_shown() {
        for owner in Owner::ALL {
            let table = owner.table();
            assert_eq!(Owner::from_number(owner.number()), Some(owner));
            for (place, entry) in table.iter().enumerate() {
                let ending = match entry.kind {
                    Kind::Counter => entry.name.ends_with("_total"),
                    Kind::Gauge => !entry.name.ends_with("_total"),
                    Kind::Histogram => entry.name.ends_with("_seconds"),
                };
                assert!(
                    ending && entry.name.starts_with("ringway_"),
                    "{}",
                    entry.name
                );
                let same = |other: &&Definition| other.name == entry.name;
                let family: Vec<_> = table.iter().filter(same).collect();
                let together = table[place..].iter().take_while(same).count();
                let before = table[..place].iter().filter(same).count();
                assert_eq!(
                    before + together,
                    family.len(),
                    "{} stand together",
                    entry.name
                );
                for other in &family {
                    assert_eq!((other.kind, other.help), (entry.kind, entry.help));
                    assert_eq!(
                        other.label.map(|(key, _)| key),
                        entry.label.map(|(key, _)| key)
                    );
                }
                let labels: std::collections::HashSet<_> =
                    family.iter().map(|other| other.label).collect();
                assert_eq!(labels.len(), family.len(), "{} labels differ", entry.name);
            }
        }
    }
}
