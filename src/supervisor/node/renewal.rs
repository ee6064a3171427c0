//! What is read again while a node runs: lists of devices and certificates. What is no good changes nothing.

use std::rc::Rc;

use tracing::{error, info, warn};

use super::Node;
use super::inputs::sensor;
use crate::config::{Config, Input, Tls};
use crate::role::{Certificates, Devices, Role};
use crate::supervisor::certificates;
use crate::supervisor::device_list::Judgement;
use crate::supervisor::plan::ProcessName;
use crate::sys::log::foreign;

/// What was to be read again.
#[derive(Debug, Default)]
pub struct ReadAgain {
    /// Certificates of sensors.
    pub certificates: Vec<ReadCertificates>,
    /// Lists of devices.
    pub lists: Vec<ReadList>,
}

/// Certificates of a sensor that were to be read again.
#[derive(Debug)]
pub struct ReadCertificates {
    /// Whose.
    pub name: ProcessName,
    /// Why they could not be read or are no good; else they are to be handed over.
    pub outcome: Result<(), String>,
}

/// A list of devices that was to be read again.
#[derive(Debug)]
pub struct ReadList {
    /// Whose.
    pub name: ProcessName,
    /// From where.
    pub path: String,
    /// Its number, which its ingest will judge; or why it could not be read.
    pub outcome: Result<u64, String>,
}

impl Node {
    /// Reads the list of devices of every sensor that has one.
    pub fn read_device_lists(&self) -> Vec<ReadList> {
        let lists = self.processes.iter().filter_map(|process| {
            let path = devices_path(&self.config, &process.name)?;
            let who = format!("sensor {}", process.name.instance);
            let outcome = process.devices.borrow_mut().read(path, &who);
            let outcome = outcome.map_err(|cause| {
                error!("{cause}; the list before stays");
                cause.to_string()
            });
            Some(ReadList {
                name: process.name.clone(),
                path: path.to_owned(),
                outcome,
            })
        });
        lists.collect()
    }

    /// The lists of devices for an ingest that starts.
    pub fn device_lists(&self, name: &ProcessName) -> std::io::Result<Vec<Devices>> {
        self.process(name).devices.borrow().all()
    }

    /// The list of devices for an ingest that runs, if there is a new one.
    pub fn fresh_device_list(&self, name: &ProcessName) -> std::io::Result<Option<Devices>> {
        self.process(name).devices.borrow().fresh()
    }

    /// An ingest says what became of a list: how many devices are on it, or what is wrong with it.
    pub fn judge_device_list(&self, name: &ProcessName, number: u64, outcome: Result<u32, String>) {
        let path = devices_path(&self.config, name).unwrap_or_default();
        let outcome = outcome.map_err(|wrong| foreign(&wrong));
        let said = outcome.clone();
        let mut lists = self.process(name).devices.borrow_mut();
        match (lists.judged(number, outcome), said) {
            (Judgement::Awaited, Ok(count)) => {
                info!("{name}: {count} devices are on the list {path}");
            }
            (Judgement::Awaited, Err(wrong)) => {
                error!("{name}: the list {path} is wrong: {wrong}; the list before stays");
            }
            (Judgement::Repeated, _) => {}
            (Judgement::Invented, _) => {
                warn!("{name} judged a list of devices that it was not handed");
            }
        }
    }

    /// What became of a list of devices, once its ingest has said so.
    pub fn device_list_outcome(
        &self,
        name: &ProcessName,
        number: u64,
    ) -> Option<Result<u32, String>> {
        self.process(name).devices.borrow().outcome(number)
    }

    /// What the TLS of an ingest is made of, to hand over.
    pub fn certificates(&self, name: &ProcessName) -> Option<Rc<Certificates>> {
        self.process(name).certificates.borrow().clone()
    }

    /// Reads the certificates of all sensors anew. Those that are no good change nothing.
    pub fn renew_certificates(&self) -> Vec<ReadCertificates> {
        let renewed = self.processes.iter().filter_map(|process| {
            let name = process.name.clone();
            let outcome = match certificates::read(tls(&self.config, &name)?) {
                Ok(certificates) => {
                    process.certificates.replace(Some(Rc::new(certificates)));
                    Ok(())
                }
                Err(cause) => {
                    error!("{name} goes on with its old certificates: {cause}");
                    Err(cause.to_string())
                }
            };
            Some(ReadCertificates { name, outcome })
        });
        renewed.collect()
    }
}

/// Where an ingest's list of devices is, if it has one.
pub fn devices_path<'a>(config: &'a Config, name: &ProcessName) -> Option<&'a str> {
    let is_ingest = name.role == Role::Ingest;
    is_ingest
        .then(|| sensor(config, name).admit.devices.as_deref())
        .flatten()
}

/// The TLS of an ingest, if it has any.
pub fn tls<'a>(config: &'a Config, name: &ProcessName) -> Option<&'a Tls> {
    if name.role != Role::Ingest {
        return None;
    }
    match &sensor(config, name).input {
        Input::Tcp(listening) | Input::Http(listening) => listening.tls.as_ref(),
        _ => None,
    }
}
