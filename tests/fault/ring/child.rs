//! A child of a ring test: this program again, which finds its control channel on standard input, as in the product, and
//! does what the first message there says.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use nix::unistd::Uid;
use ringway::sys::control::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attempt::Whose;
use super::{attack, attempt, consumer, producer, server};

/// First argument of such a child.
pub const CHILD: &str = "ring-child";

/// What a child is to do; the descriptors of its ring and its ledger come beside it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Publish until killed.
    Produce(producer::Task),
    /// Take until killed.
    Consume(consumer::Task),
    /// Take from an honest and a hostile ring, which the control channel brings.
    Serve,
    /// Be a hostile producer.
    Attack(attack::Task),
    /// Ask the kernel for what it must refuse; there is no ledger, the answer goes over the control channel.
    Attempt(Whose),
}

/// What a child does; it ends by being killed, or with a fault in its ledger.
pub fn main() -> ExitCode {
    let channel = Channel::from_stdin().expect("a ring child is started by the lab");
    // Nothing is wrong when the lab ends before it has a use for this child.
    let Ok(Some((task, fds))) = channel.recv::<Task>() else {
        return ExitCode::SUCCESS;
    };
    match task {
        Task::Produce(task) => producer::run(task, fds),
        Task::Consume(task) => consumer::run(task, fds),
        Task::Serve => server::run(fds, channel),
        Task::Attack(task) => attack::run(task, fds),
        Task::Attempt(whose) => attempt::run(whose, fds, &channel),
    }
    ExitCode::SUCCESS
}

/// A child process. Dropped, it is killed and reaped: whatever stops the lab, no child stays.
pub struct Worker {
    process: Child,
    channel: Channel,
}

impl Worker {
    /// Starts a process that waits for its task. Done ahead of time, so that between a death and its successor lies one
    /// message and not the loading of a program.
    pub fn start() -> Worker {
        Worker::start_as(None)
    }

    /// As [`Worker::start`], as another user.
    pub fn start_as(uid: Option<Uid>) -> Worker {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new("/proc/self/exe");
        if let Some(uid) = uid {
            command.uid(uid.as_raw()).gid(uid.as_raw());
        }
        let process = command
            .arg(CHILD)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker {
            process,
            channel: ours,
        }
    }

    /// Hands over the task.
    pub fn begin(&self, task: Task, fds: &[BorrowedFd<'_>]) {
        self.send(&task, fds);
    }

    /// Sends something more.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) {
        self.channel.send(message, fds).unwrap();
    }

    /// What the child answers to its task.
    pub fn answer<M: DeserializeOwned>(&self) -> M {
        let (answer, _) = self.channel.recv().unwrap().expect("a child that lives");
        answer
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Sends KILL and returns; the process is dead when [`Worker::reap`] returns.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Waits for the end.
    pub fn reap(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was reaped before is not killed again: the handle knows.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process that started this one. A child that outlives it ends by itself.
pub struct Parent(u32);

impl Parent {
    pub fn find() -> Parent {
        Parent(std::os::unix::process::parent_id())
    }

    pub fn lives(&self) -> bool {
        std::os::unix::process::parent_id() == self.0
    }
}

/// Runs what a child does on a runtime of its own, as a role of the product has it.
pub fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work);
}
