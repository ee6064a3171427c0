//! The statistics pages of all processes, as the observer was handed them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::span::Sensors;
use crate::role::Role;
use crate::stats::{Owner, Page, Reader, StatsError, Value};

/// Most pages: those of a node with as many sensors as anybody has, several times over.
const PAGES_MAX: usize = 1024;

/// A heartbeat older than this is one that stopped: processes beat at least once a second.
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(5);

/// A page as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What it says.
    pub page: Page,
    /// How old its last heartbeat was; `None`: there was none.
    pub heartbeat_age: Option<Duration>,
}

impl Seen {
    /// Whether the heartbeat is fresh.
    pub fn is_alive(&self) -> bool {
        self.heartbeat_age
            .is_some_and(|age| age <= HEARTBEAT_AGE_MAX)
    }
}

/// All pages. A later page of a process replaces an earlier one.
#[derive(Default)]
pub struct Pages {
    readers: Vec<Reader>,
}

/// What the pages say at one moment.
#[derive(Debug, Default)]
pub struct Survey {
    /// Pages that their processes have begun, one of each process.
    pub seen: Vec<Seen>,
    /// Pages that no process has begun, or that cannot be read.
    pub unread: usize,
}

impl Pages {
    /// Adds a page.
    ///
    /// # Errors
    /// When it cannot be mapped, or there are too many.
    pub fn add(&mut self, page: OwnedFd) -> Result<(), StatsError> {
        self.add_borrowed(std::os::fd::AsFd::as_fd(&page))
    }

    /// Adds a page that stays with the caller.
    ///
    /// # Errors
    /// As [`Pages::add`].
    pub fn add_borrowed(&mut self, page: BorrowedFd<'_>) -> Result<(), StatsError> {
        if self.readers.len() == PAGES_MAX {
            return Err(std::io::Error::other("there are too many pages").into());
        }
        self.readers.push(Reader::map(page)?);
        Ok(())
    }

    /// Reads all pages at the monotonic time `now_ns`, and forgets those that a later one replaces.
    pub fn survey(&mut self, now_ns: u64) -> Survey {
        let mut survey = Survey::default();
        let mut replaced = vec![false; self.readers.len()];
        for (at, reader) in self.readers.iter().enumerate().rev() {
            let Ok(page) = reader.read() else {
                survey.unread += 1;
                continue;
            };
            let same = |other: &Seen| {
                (other.page.owner, &other.page.instance) == (page.owner, &page.instance)
            };
            if survey.seen.iter().any(same) {
                replaced[at] = true;
                continue;
            }
            let beaten = page.heartbeat_ns != 0;
            let age = Duration::from_nanos(now_ns.saturating_sub(page.heartbeat_ns));
            survey.seen.push(Seen {
                heartbeat_age: beaten.then_some(age),
                page,
            });
        }
        survey.seen.reverse();
        let mut replaced = replaced.into_iter();
        self.readers
            .retain(|_| !replaced.next().expect("one for each reader"));
        survey
    }
}

impl Survey {
    /// The sensors and what they speak.
    pub fn sensors(&self) -> Sensors {
        let pages = self.seen.iter().map(|seen| &seen.page);
        pages
            .filter(|page| page.owner == Owner::Child(Role::Ingest))
            .map(|page| {
                let speaks = page.values.iter().find_map(|(definition, value)| {
                    match (definition.label, value) {
                        (Some(("protocol", name)), Value::Number(1)) => Some(name),
                        _ => None,
                    }
                });
                (page.instance.clone(), speaks.unwrap_or_default())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::stats::{self, ClassifierMetric, IngestMetric, Stats};

    #[test]
    fn a_later_page_of_a_process_replaces_the_earlier() {
        let mut pages = Pages::default();
        let (old, new) = (stats::create().unwrap(), stats::create().unwrap());
        for (page, frames) in [(&old, 1), (&new, 2)] {
            let stats = Stats::<ClassifierMetric>::attach(page.as_fd(), "classifier", 0).unwrap();
            stats.add(ClassifierMetric::Frames, frames);
            pages.add(page.try_clone().unwrap()).unwrap();
        }
        for _ in 0..2 {
            let survey = pages.survey(0);
            assert_eq!(survey.seen.len(), 1);
            assert_eq!(
                survey.seen[0].page.number(ClassifierMetric::Frames),
                Some(2)
            );
        }
        assert_eq!(pages.readers.len(), 1);
    }

    #[test]
    fn a_page_that_nobody_has_begun_is_counted_and_seen_once_it_is() {
        let mut pages = Pages::default();
        let page = stats::create().unwrap();
        pages.add(page.try_clone().unwrap()).unwrap();
        let survey = pages.survey(0);
        assert_eq!((survey.seen.len(), survey.unread), (0, 1));

        let stats = Stats::<IngestMetric>::attach(page.as_fd(), "yard", 0).unwrap();
        stats.set(IngestMetric::SpeaksNmea, 1);
        stats.heartbeat(1_000_000_000);
        let survey = pages.survey(3_000_000_000);
        assert_eq!(survey.seen[0].heartbeat_age, Some(Duration::from_secs(2)));
        assert_eq!(
            survey.sensors(),
            Sensors::from([("yard".to_owned(), "nmea")])
        );
    }
}
