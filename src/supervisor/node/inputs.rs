//! What a node takes in from outside: ports and files that are opened before anything starts, feeds and programs that
//! come and go, recordings of them, and device ids that an operator should look at.

use std::cell::RefMut;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, getrlimit};

use super::{Node, NodeError};
use crate::config::{Config, Input, SensorSettings};
use crate::role::{DESCRIPTORS_RESERVED, Feed, Notice, Recording, Role};
use crate::stats::SupervisorMetric;
use crate::supervisor::captures::Captures;
use crate::supervisor::feed::FeedState;
use crate::supervisor::listener;
use crate::supervisor::plan::ProcessName;
use crate::supervisor::report::ProgramReport;
use crate::sys::log::foreign;

/// Most notices of an ingest that are kept: as many as it makes.
const NOTICES_MAX: usize = 128;

impl Node {
    /// The sensors that are fed, with the process of each.
    pub fn fed(&self) -> impl Iterator<Item = (&ProcessName, &SensorSettings)> {
        let ingests = self.processes().filter(|name| name.role == Role::Ingest);
        let all = ingests.map(|name| (name, sensor(&self.config, name)));
        all.filter(|(_, sensor)| sensor.input.is_feed())
    }

    /// Keeps the feed of an ingest, or drops the one that ended.
    pub fn set_feed(&self, name: &ProcessName, feed: Option<Feed>) {
        *self.process(name).feed.borrow_mut() = feed;
    }

    /// The feed of an ingest, to hand over.
    pub fn feed(&self, name: &ProcessName) -> std::io::Result<Option<Feed>> {
        let feed = self.process(name).feed.borrow();
        feed.as_ref().map(Feed::try_clone).transpose()
    }

    /// Changes what is known of the feed of an ingest.
    pub fn note_feed<T>(&self, name: &ProcessName, change: impl FnOnce(&mut FeedState) -> T) -> T {
        change(&mut self.process(name).feed_state.borrow_mut())
    }

    /// Changes what is known of the program that feeds a sensor.
    pub fn note_program(&self, name: &ProcessName, change: impl FnOnce(&mut ProgramReport)) {
        let mut program = self.process(name).program.borrow_mut();
        change(program.get_or_insert_with(|| ProgramReport::of(&name.instance)));
    }

    /// Counts that a program is started again.
    pub fn count_program_restart(&self) {
        self.stats.add(SupervisorMetric::ProgramRestarts, 1);
    }

    /// The recordings.
    pub fn captures(&self) -> RefMut<'_, Captures> {
        self.captures.borrow_mut()
    }

    /// What an ingest is to record in, to hand over.
    pub fn recording(&self, name: &ProcessName) -> std::io::Result<Option<Recording>> {
        let life = self.process(name).state.borrow().restarts;
        self.captures.borrow().recording(&name.instance, life)
    }

    /// Keeps what an ingest noticed of device ids; one that was taken over may say anything.
    pub fn set_notices(&self, name: &ProcessName, mut notices: Vec<Notice>) {
        notices.truncate(NOTICES_MAX);
        for notice in &mut notices {
            notice.source = foreign(&notice.source);
        }
        *self.process(name).notices.borrow_mut() = notices;
    }
}

/// Checks that every sensor can have as many connections as it may; nothing is started otherwise.
pub fn enough_descriptors(config: &Config) -> Result<(), NodeError> {
    let (_, limit) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|cause| NodeError::Memory(cause.into()))?;
    for sensor in &config.sensors {
        let connections = sensor.input.connections_max();
        let needed = u64::from(connections) + DESCRIPTORS_RESERVED;
        if needed > limit {
            return Err(NodeError::Descriptors {
                sensor: sensor.name.clone(),
                connections,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

/// What a role takes in from outside.
pub fn open_input(
    config: &Config,
    name: &ProcessName,
    listeners: &mut BTreeMap<String, String>,
) -> Result<Option<OwnedFd>, NodeError> {
    let (key, opened) = match name.role {
        Role::Ingest => {
            let key = format!("sensor:{}", name.instance);
            let opened = match &sensor(config, name).input {
                Input::Tcp(listening) | Input::Http(listening) => {
                    listener::tcp(&listening.listen, &key)
                }
                Input::Serial { .. } | Input::Gpsd { .. } | Input::Exec(_) | Input::Fifo { .. } => {
                    return Ok(None);
                }
                Input::Udp { listen, .. } => listener::udp(listen, &key),
                Input::File { path, .. } => {
                    let who = format!("sensor {}", name.instance);
                    return Ok(Some(listener::file(path, &who)?));
                }
            };
            (key, opened)
        }
        Role::Dispatcher => {
            let key = "dispatcher".to_string();
            let opened = listener::tcp(&config.dispatcher.listen, &key);
            (key, opened)
        }
        Role::Observer => {
            let key = "observer".to_string();
            let opened = listener::tcp(&config.observer.listen, &key);
            (key, opened)
        }
        Role::Classifier | Role::Uplink => return Ok(None),
    };
    let (fd, real) = opened?;
    listeners.insert(key, real.to_string());
    Ok(Some(fd))
}

/// The sensor that an ingest is for.
pub fn sensor<'a>(config: &'a Config, name: &ProcessName) -> &'a SensorSettings {
    let mut sensors = config.sensors.iter();
    let found = sensors.find(|sensor| sensor.name == name.instance);
    found.expect("an ingest is made from a sensor")
}

/// What an ingest is told of its sensor: not the environment of a program, where secrets may be.
pub fn told(sensor: &SensorSettings) -> SensorSettings {
    let mut told = sensor.clone();
    if let Input::Exec(program) = &mut told.input {
        program.environment.clear();
    }
    told
}
