//! Whether the node lives and serves, for orchestrators and load balancers.

use serde::Serialize;

use super::page::Survey;

/// The body of `/readyz`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Health {
    /// Whether every process serves.
    pub ready: bool,
    /// Why not, one sentence each.
    pub reasons: Vec<String>,
    /// Every process.
    pub processes: Vec<ProcessHealth>,
}

/// One process.
#[derive(Debug, PartialEq, Serialize)]
pub struct ProcessHealth {
    /// Its role.
    pub role: &'static str,
    /// Which of them.
    pub instance: String,
    /// Whether it says that it serves.
    pub ready: bool,
    /// How long ago it said that it is alive; none: never.
    pub heartbeat_age_ms: Option<u64>,
}

impl Health {
    /// What the pages say.
    pub fn of(survey: &Survey) -> Health {
        let mut reasons = Vec::new();
        if survey.unread > 0 {
            reasons.push(format!("{} processes have not begun", survey.unread));
        }
        for seen in &survey.seen {
            let (role, instance) = (seen.page.owner.name(), &seen.page.instance);
            let reason = match seen.heartbeat_age {
                None => "has not begun to beat".to_owned(),
                Some(age) if !seen.is_alive() => {
                    format!("is silent for {:.1} s", age.as_secs_f64())
                }
                Some(_) if !seen.page.ready => "is not ready".to_owned(),
                Some(_) => continue,
            };
            reasons.push(format!("{role} {instance} {reason}"));
        }
        let processes = survey.seen.iter().map(|seen| ProcessHealth {
            role: seen.page.owner.name(),
            instance: seen.page.instance.clone(),
            ready: seen.page.ready,
            heartbeat_age_ms: seen.heartbeat_age.map(|age| age.as_millis() as u64),
        });
        Health {
            ready: reasons.is_empty(),
            reasons,
            processes: processes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::page::Pages;
    use super::*;
    use crate::stats::{self, ClassifierMetric, IngestMetric, Stats};

    #[test]
    fn ready_means_that_every_process_says_so_and_is_alive() {
        let mut pages = Pages::default();
        let page = || stats::create().unwrap();
        let (a, b) = (page(), page());
        let ingest = Stats::<IngestMetric>::attach(a.as_fd(), "yard", 0).unwrap();
        pages.add(a).unwrap();
        pages.add(b.try_clone().unwrap()).unwrap();
        let second = 1_000_000_000;
        let mut reasons = |now_s: u64| Health::of(&pages.survey(now_s * second)).reasons;

        let begun = [
            "1 processes have not begun",
            "ingest yard has not begun to beat",
        ];
        assert_eq!(reasons(1), begun);
        ingest.heartbeat(second);
        let classifier = Stats::<ClassifierMetric>::attach(b.as_fd(), "classifier", 0).unwrap();
        classifier.heartbeat(2 * second);
        classifier.set_ready(true);
        assert_eq!(reasons(2), ["ingest yard is not ready"]);
        ingest.set_ready(true);
        assert_eq!(reasons(2), [""; 0]);
        assert_eq!(reasons(7), ["ingest yard is silent for 6.0 s"]);
    }
}
