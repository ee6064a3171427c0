//! What wakes an ingest besides its devices: the supervisor's word, and the bell of its ring.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::role::{FromChild, Handed, Recording, ToChild};
use crate::sys::control::{Channel, ControlError};

const CONTROL: u64 = 0;
const BELL: u64 = 1;

/// The control channel and the bell in one epoll set, which other sets may contain.
#[derive(Debug)]
pub struct Wake {
    epoll: Epoll,
    control: Channel,
    handed: VecDeque<Handed>,
    capture: Option<Option<Recording>>,
    drain: bool,
}

impl Wake {
    /// Waits for the control channel and a ring's bell; `handed`: what came before the start.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(control: Channel, bell: BorrowedFd<'_>, handed: Vec<Handed>) -> io::Result<Wake> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            control.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, CONTROL),
        )?;
        // Edge-triggered and never read: a bell that somebody saturated wakes nobody for nothing.
        let rung = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(bell, EpollEvent::new(rung, BELL))?;
        let mut wake = Wake {
            epoll,
            control,
            handed: VecDeque::new(),
            capture: None,
            drain: false,
        };
        handed.into_iter().for_each(|part| wake.take_in(part));
        Ok(wake)
    }

    /// Tells the supervisor that this process serves.
    ///
    /// # Errors
    /// When the channel failed; a supervisor that is gone is none, it is met again as a drain.
    pub fn say_ready(&self) -> Result<(), ControlError> {
        self.say(&FromChild::Ready)
    }

    /// Tells the supervisor something.
    ///
    /// # Errors
    /// As [`Wake::say_ready`].
    pub fn say(&self, what: &FromChild) -> Result<(), ControlError> {
        match self.control.send(what, &[]) {
            Err(ControlError::Gone) => Ok(()),
            other => other,
        }
    }

    /// Tells the supervisor something if it can be told at once; whether it was.
    ///
    /// # Errors
    /// As [`Wake::say_ready`].
    pub fn try_say(&self, what: &FromChild) -> Result<bool, ControlError> {
        match self.control.try_send(what) {
            Err(ControlError::Gone) => Ok(true),
            other => other,
        }
    }

    /// What was handed over and not taken yet, one a call. The queue is no longer than what the supervisor sends.
    pub fn next_handed(&mut self) -> Option<Handed> {
        self.handed.pop_front()
    }

    /// The newest word about recording that was not taken yet, which concerns every loop in the same way. What it takes the
    /// place of is dropped.
    pub fn take_capture(&mut self) -> Option<Option<Recording>> {
        self.capture.take()
    }

    fn take_in(&mut self, part: Handed) {
        match part {
            Handed::Capture(recording) => self.capture = Some(recording),
            part => self.handed.push_back(part),
        }
    }

    /// The epoll set.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Sleeps until something happens, at most for `timeout`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 2];
        let count = wait(&self.epoll, &mut events, timeout)?;
        if events[..count].iter().any(|event| event.data() == CONTROL) {
            self.hear();
        }
        Ok(())
    }

    /// Whether the supervisor said to drain, or is gone, which means the same.
    pub fn drain(&self) -> bool {
        self.drain
    }

    /// Takes one message; more of them wake again.
    fn hear(&mut self) {
        match self.control.recv::<ToChild>() {
            Ok(Some((ToChild::Drain, _))) => self.drain = true,
            // Nothing else concerns an ingest that runs.
            Ok(Some((message, fds))) => {
                if let Some(part) = Handed::of(&message, fds) {
                    self.take_in(part);
                }
            }
            Ok(None) | Err(_) => {
                self.drain = true;
                // An ended channel is readable for ever.
                let _ = self.epoll.delete(self.control.as_fd());
            }
        }
    }
}

/// Waits for events of a set, at most for `timeout`; a signal is no event.
///
/// # Errors
/// What the kernel says.
pub fn wait(epoll: &Epoll, events: &mut [EpollEvent], timeout: Duration) -> io::Result<usize> {
    let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX);
    match epoll.wait(events, timeout) {
        Err(Errno::EINTR) => Ok(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::eventfd::EventFd;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn wake() -> (Wake, Channel, EventFd) {
        let (ours, theirs) = Channel::pair().unwrap();
        let bell = EventFd::new().unwrap();
        let wake = Wake::new(ours, bell.as_fd(), Vec::new()).unwrap();
        (wake, theirs, bell)
    }

    #[test]
    fn a_bell_wakes_once_for_each_ring_though_nobody_reads_it() {
        let (mut wake, _supervisor, bell) = wake();
        for _ in 0..3 {
            bell.write(1).unwrap();
            wake.wait(LONG).unwrap();
            let mut events = [EpollEvent::empty(); 2];
            assert_eq!(
                super::wait(&wake.epoll, &mut events, Duration::ZERO).unwrap(),
                0
            );
        }
        assert!(!wake.drain());
    }

    #[test]
    fn a_supervisor_that_is_gone_means_drain_and_is_said_once() {
        let (mut wake, supervisor, _bell) = wake();
        drop(OwnedFd::from(supervisor));
        wake.wait(LONG).unwrap();
        assert!(wake.drain());
        let mut events = [EpollEvent::empty(); 2];
        assert_eq!(
            super::wait(&wake.epoll, &mut events, Duration::ZERO).unwrap(),
            0
        );
    }

    #[test]
    fn drain_is_heard_among_other_messages() {
        let (mut wake, supervisor, _bell) = wake();
        supervisor.send(&ToChild::Start, &[]).unwrap();
        supervisor.send(&ToChild::Drain, &[]).unwrap();
        wake.wait(LONG).unwrap();
        assert!(!wake.drain());
        wake.wait(LONG).unwrap();
        assert!(wake.drain());
    }
}
