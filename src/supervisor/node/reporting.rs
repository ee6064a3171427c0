//! How a node is doing, put together from what it keeps.

use std::os::fd::AsFd;

use super::{Node, Process};
use crate::stats;
use crate::supervisor::report::{NoticeReport, ProcessReport, Report, RingReport, figures};

impl Node {
    /// How the node is doing.
    pub fn report(&self) -> Report {
        let processes: Vec<ProcessReport> = self.processes.iter().map(process_report).collect();
        let rings = self.rings.iter().map(|ring| {
            let position = ring.owner.borrow().snapshot();
            RingReport {
                ring: ring.plan.number,
                name: ring.plan.name().to_string(),
                tail: position.tail,
                waiting: position.used(),
                slots: ring.plan.geometry.slots,
            }
        });
        let programs = self.processes.iter();
        let programs = programs.filter_map(|process| process.program.borrow().clone());
        let feeds = self.fed().map(|(name, sensor)| {
            let state = self.process(name).feed_state.borrow();
            state.report(&name.instance, sensor.input.name())
        });
        let state = match (self.draining.get(), self.ready_after.get()) {
            (true, _) => "draining",
            (_, None) => "starting",
            _ if processes.iter().all(|process| process.state == "ready") => "ready",
            _ => "degraded",
        };
        Report {
            state: state.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.began.elapsed().as_secs_f64(),
            start_to_ready_ms: self.ready_after.get().map(|time| time.as_secs_f64() * 1e3),
            listeners: self.listeners.clone(),
            feeds: feeds.collect(),
            rings: rings.collect(),
            programs: programs.collect(),
            captures: self.captures.borrow().report(),
            processes,
        }
    }
}

fn process_report(process: &Process) -> ProcessReport {
    let state = process.state.borrow();
    let doing = match (state.ended, state.ready, state.pid) {
        (true, _, _) => "ended",
        (_, true, _) => "ready",
        (_, _, Some(_)) => "starting",
        _ => "waiting",
    };
    ProcessReport {
        role: process.name.role.name().into(),
        instance: process.name.instance.clone(),
        pid: state.pid,
        state: doing.into(),
        restarts: state.restarts,
        looping: state.looping,
        last_exit: state.last_exit.clone(),
        notices: process
            .notices
            .borrow()
            .iter()
            .map(NoticeReport::of)
            .collect(),
        figures: stats::read(process.page.as_fd())
            .map(|page| figures(&page))
            .unwrap_or_default(),
    }
}
