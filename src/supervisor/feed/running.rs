//! A sensor's program while it runs: its pipes, its process group, its end.
//!
//! The group is ended before its leader is reaped: until then its number cannot be anybody else's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, pipe2};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::Instant;

use crate::config::{Program, SensorSettings};
use crate::role::Feed;
use crate::supervisor::launcher;
use crate::supervisor::restart::Exit;

/// The supervisor's hold on a program. Dropped, it kills the whole group.
pub struct Running {
    /// When it was started.
    pub began: Instant,
    child: Child,
    pid: Pid,
    /// Our end of its output, to see whether anybody still has the other.
    output: OwnedFd,
    /// Some child of ours has ended.
    ends: unix::Signal,
    exit: Option<Exit>,
}

/// What is left of a program's output when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nobody has the other end: it is read to its end sooner or later.
    Ended,
    /// Somebody has, and there is something to read.
    Unread,
    /// Somebody has, and there is nothing to read.
    Held,
}

impl Running {
    /// Starts the program of a sensor; also the feed that it is.
    pub fn start(
        program: &Program,
        sensor: &SensorSettings,
        number: u64,
    ) -> io::Result<(Running, Feed)> {
        // Before the start: the news of an early end must not be missed.
        let ends = unix::signal(SignalKind::child())?;
        let (output, theirs_out) = from_program()?;
        let (log, theirs_log) = from_program()?;
        let (answers, theirs_in) = if program.answers {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            never_blocks(&ours)?;
            (Some(ours), Stdio::from(theirs))
        } else {
            (None, Stdio::null())
        };
        let mut command = launcher::command(program, sensor);
        command
            .stdin(theirs_in)
            .stdout(theirs_out)
            .stderr(theirs_log);
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let running = Running {
            began: Instant::now(),
            child,
            pid,
            output: output.try_clone()?,
            ends,
            exit: None,
        };
        let feed = Feed {
            number,
            input: output,
            answers,
            log: Some(log),
        };
        Ok((running, feed))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns once the program has ended; what it started and left in its group is killed then.
    pub async fn ended(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            if self.has_ended() {
                self.signal(Signal::SIGKILL);
                let exit = match self.child.wait() {
                    Ok(status) => match (status.code(), status.signal()) {
                        (Some(code), _) => Exit::Code(code),
                        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
                    },
                    Err(_) => Exit::Code(crate::role::exit::SOFTWARE),
                };
                self.exit = Some(exit);
                return exit;
            }
            if self.ends.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether it is a zombie now; it stays one.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => false,
            // Gone without us: somebody else reaped it, which nobody should.
            Ok(_) | Err(_) => true,
        }
    }

    /// Asks it and what it started to end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends it and what it started.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if self.exit.is_some() {
            return;
        }
        // Until the launcher has made its group there is only itself. Who is gone needs no signal.
        if killpg(self.pid, signal).is_err() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Whether the rest of its output will end.
    pub fn rest(&self) -> Rest {
        let mut polled = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        let found = match poll(&mut polled, PollTimeout::ZERO) {
            Ok(_) => polled[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => PollFlags::empty(),
        };
        if found.contains(PollFlags::POLLHUP) {
            Rest::Ended
        } else if found.contains(PollFlags::POLLIN) {
            Rest::Unread
        } else {
            Rest::Held
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.kill();
            // The supervisor ends, or the program could not be watched: not waited for.
            let _ = self.child.try_wait();
        }
    }
}

/// A pipe from a program: our end, which never blocks, and its own, which does, as programs expect.
fn from_program() -> io::Result<(OwnedFd, Stdio)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    never_blocks(&ours)?;
    Ok((ours, Stdio::from(theirs)))
}

fn never_blocks(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
