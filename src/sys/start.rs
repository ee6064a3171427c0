//! How a child comes to life: everything it may touch arrives over descriptor 0 before it does anything.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::control::{Channel, ControlError};
use crate::ring::RingFds;
use crate::role::{Assignment, Duty, Handed, RingAssignment, Role, States, ToChild};

/// Why a child cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Descriptor 0 is not a control channel.
    #[error("cannot start role: started by hand; `ringway run` starts its roles itself")]
    ByHand,
    /// Signals cannot be blocked.
    #[error("cannot block signals: {0}")]
    Signals(#[source] io::Error),
    /// The control channel failed.
    #[error("cannot read assignment: {0}")]
    Control(#[from] ControlError),
    /// The supervisor is gone already.
    #[error("cannot read assignment: the supervisor is gone")]
    Gone,
    /// The supervisor sent something else than the contract says.
    #[error("cannot read assignment: {0}")]
    Contract(&'static str),
}

/// All that a child was handed.
pub struct Started {
    /// What to do.
    pub assignment: Assignment,
    /// The lock on the state directory: held as long as this process lives.
    pub lock: OwnedFd,
    /// This process's statistics page.
    pub page: OwnedFd,
    /// The descriptors of the role's own duty, in the order that [`Duty`] states.
    pub fds: Vec<OwnedFd>,
    /// The rings.
    pub rings: Vec<(RingAssignment, RingFds)>,
    /// The statistics pages of the others (observer only).
    pub pages: Vec<OwnedFd>,
    /// What else an ingest uses.
    pub handed: Vec<Handed>,
    /// The device states of the last run (classifier only, if there are any).
    pub snapshot: Option<States>,
    /// The control channel.
    pub control: Channel,
}

impl Started {
    /// What this process is.
    pub fn role(&self) -> Role {
        match self.assignment.duty {
            Duty::Ingest(_) => Role::Ingest,
            Duty::Classifier { .. } => Role::Classifier,
            Duty::Dispatcher { .. } => Role::Dispatcher,
            Duty::Uplink { .. } => Role::Uplink,
            Duty::Observer { .. } => Role::Observer,
        }
    }
}

/// A child may have as many descriptors as the system lets it: the soft limit is low for the sake of programs that wait
/// with `select`, and none of ours does. Where it cannot be raised, accepting pauses earlier.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Reads from descriptor 0 until [`ToChild::Start`].
///
/// From here on INT, TERM and HUP are blocked: Ctrl-C and the service manager reach a whole group, but a child stops
/// by control message or end-of-file only.
///
/// # Errors
/// When descriptor 0 is no control channel or the supervisor breaks the contract.
pub fn receive() -> Result<Started, StartError> {
    let control = Channel::from_stdin().map_err(|_| StartError::ByHand)?;
    let mut set = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .for_each(|s| set.add(s));
    set.thread_block()
        .map_err(|cause| StartError::Signals(cause.into()))?;

    raise_descriptor_limit();

    let next = || control.recv::<ToChild>()?.ok_or(StartError::Gone);
    let (ToChild::Assign(assignment), fds) = next()? else {
        return Err(StartError::Contract(
            "the first message is not an assignment",
        ));
    };
    let mut fds = fds.into_iter();
    let missing = StartError::Contract("a descriptor is missing");
    let (Some(lock), Some(page)) = (fds.next(), fds.next()) else {
        return Err(missing);
    };
    let fds = fds.collect();
    let (mut rings, mut pages, mut handed, mut snapshot) =
        (Vec::new(), Vec::new(), Vec::new(), None);
    loop {
        let (message, fds) = next()?;
        match message {
            ToChild::Ring(assignment) => {
                let fds = RingFds::take(&mut fds.into_iter())
                    .ok_or(StartError::Contract("a ring has five descriptors"))?;
                rings.push((assignment, fds));
            }
            ToChild::Page => pages.extend(fds.into_iter().next()),
            ToChild::Snapshot { exact } => {
                snapshot = fds.into_iter().next().map(|fd| States { fd, exact });
            }
            ToChild::Feed { .. }
            | ToChild::Devices { .. }
            | ToChild::Capture { .. }
            | ToChild::Certificates { .. } => {
                let part = Handed::of(&message, fds);
                handed.push(part.ok_or(StartError::Contract("a descriptor is missing"))?);
            }
            ToChild::Start => break,
            ToChild::Assign(_) | ToChild::Drain => {
                return Err(StartError::Contract(
                    "an unexpected message before the start",
                ));
            }
        }
    }
    Ok(Started {
        assignment: *assignment,
        lock,
        page,
        fds,
        rings,
        pages,
        handed,
        snapshot,
        control,
    })
}
