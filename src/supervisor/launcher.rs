//! What stands between the supervisor and a sensor's program: this same binary, started once more, which gives up what
//! the program is not to have and then becomes the program (decision 29).
//!
//! A program gets descriptors 0, 1 and 2 and no other, a session and process group of its own, signals as the kernel
//! starts with, no core files, no way to gain rights, and its end when the supervisor ends. What cannot be had is said
//! on standard error, which is in the log under the sensor's name; the exit code is a shell's.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Group, Pid, Uid, User};
use rustix::thread::clear_ambient_capability_set;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Program, SensorSettings};

/// Descriptors that a program may have open. The supervisor's own limit is for ten thousand connections.
const DESCRIPTORS_MAX: u64 = 1024;

/// Exit code when the program is not there.
const NOT_FOUND: i32 = 127;
/// Exit code when it is there and cannot be run.
const NOT_RUN: i32 = 126;

/// Stands before the name of each variable until the program is run: what is meant for the program (a library to load,
/// say) must not become true for the launcher, which may still be root.
const VARIABLE_PREFIX: &str = "RINGWAY_FOR_PROGRAM_";

/// Where a process reads of itself which signals it ignores.
const STATUS: &str = "/proc/self/status";

/// What a program is started with, besides its environment and its descriptors.
#[derive(Debug, clap::Args)]
pub struct Launch {
    /// Process id of the supervisor.
    #[arg(long)]
    parent: i32,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    group: Option<String>,
    #[arg(long)]
    directory: Option<PathBuf>,
    #[arg(last = true, required = true)]
    words: Vec<String>,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("cannot {0}: {1}")]
    Give(&'static str, #[source] io::Error),
    #[error("cannot run as {0} {1:?}: it is not there")]
    Nobody(&'static str, String),
    #[error("cannot work in {0}: {1}")]
    Directory(PathBuf, #[source] io::Error),
    #[error("cannot run {0}: {1}")]
    Run(String, #[source] io::Error),
    #[error("cannot run: the supervisor is gone")]
    Orphan,
}

/// The command by which the supervisor starts the program of a sensor.
pub fn command(program: &Program, sensor: &SensorSettings) -> Command {
    // The kernel's link to this very program: an upgrade on disk cannot mix versions.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ringway-launch").arg("launch");
    command.arg(format!("--parent={}", std::process::id()));
    for (name, value) in [
        ("user", &program.user),
        ("group", &program.group),
        ("directory", &program.directory),
    ] {
        command.args(value.iter().map(|value| format!("--{name}={value}")));
    }
    command.arg("--").args(&program.command);
    let given = program.environment.iter();
    let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
    let ours = [
        ("RINGWAY_SENSOR", sensor.name.as_str()),
        ("RINGWAY_PROTOCOL", sensor.protocol.name()),
    ];
    let all = given.chain(ours);
    command
        .env_clear()
        .envs(all.map(|(name, value)| (format!("{VARIABLE_PREFIX}{name}"), value)));
    command
}

impl Launch {
    /// Becomes the program; returns the exit code if it cannot.
    pub fn run(self) -> i32 {
        let error = match self.prepare() {
            Ok(()) => self.exec(),
            Err(error) => error,
        };
        eprintln!("{error}");
        match error {
            LaunchError::Run(_, cause) if cause.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_RUN,
        }
    }

    fn prepare(&self) -> Result<(), LaunchError> {
        let give = |what: &'static str| move |cause: io::Error| LaunchError::Give(what, cause);
        close_others().map_err(give("close what the supervisor had open"))?;
        default_signals().map_err(give("reset signals"))?;
        unistd::setsid().map_err(|errno| LaunchError::Give("begin a session", errno.into()))?;
        umask(Mode::from_bits_truncate(0o022));
        limits().map_err(give("set limits"))?;
        self.account()?;
        // Not even those that a service manager has given to us for our ports.
        clear_ambient_capability_set()
            .map_err(|errno| LaunchError::Give("give up capabilities", errno.into()))?;
        prctl::set_no_new_privs()
            .map_err(|errno| LaunchError::Give("give up rights", errno.into()))?;
        // After the account: the kernel forgets it when credentials change. Before the look at the parent: one that has
        // ended in between would not be noticed.
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|errno| LaunchError::Give("tie it to the supervisor", errno.into()))?;
        if unistd::getppid() != Pid::from_raw(self.parent) {
            return Err(LaunchError::Orphan);
        }
        // As the program's user, who may not go everywhere.
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory)
                .map_err(|cause| LaunchError::Directory(directory.clone(), cause))?;
        }
        Ok(())
    }

    /// Becomes another user, if we are root; the groups of the supervisor are not the program's in any case.
    fn account(&self) -> Result<(), LaunchError> {
        let nobody = |what, name: &String| LaunchError::Nobody(what, name.clone());
        let failed = |errno: nix::Error| LaunchError::Give("change user or group", errno.into());
        if !Uid::effective().is_root() {
            return Ok(());
        }
        let user = match &self.user {
            Some(name) => Some(
                User::from_name(name)
                    .map_err(failed)?
                    .ok_or_else(|| nobody("user", name))?,
            ),
            None => None,
        };
        let group = match &self.group {
            Some(name) => Some(
                Group::from_name(name)
                    .map_err(failed)?
                    .ok_or_else(|| nobody("group", name))?
                    .gid,
            ),
            None => user.as_ref().map(|user| user.gid),
        };
        let gid = group.unwrap_or(Gid::effective());
        match &user {
            Some(user) => {
                let name =
                    CString::new(user.name.as_bytes()).map_err(|_| nobody("user", &user.name))?;
                unistd::initgroups(&name, gid).map_err(failed)?;
            }
            None => unistd::setgroups(&[]).map_err(failed)?,
        }
        unistd::setresgid(gid, gid, gid).map_err(failed)?;
        if let Some(user) = user {
            unistd::setresuid(user.uid, user.uid, user.uid).map_err(failed)?;
        }
        Ok(())
    }

    fn exec(&self) -> LaunchError {
        let (program, arguments) = self.words.split_first().expect("one is required");
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(VARIABLE_PREFIX)?.to_owned();
            Some((name, value))
        });
        let cause = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(variables)
            .exec();
        LaunchError::Run(program.clone(), cause)
    }
}

/// Closes what came with us besides 0, 1 and 2: whoever started the supervisor may have left something open.
fn close_others() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in open {
        // The listing's own is closed already.
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// Makes every ignored signal one that does what it does by default. A handler is put in the place of "ignore", and the
/// kernel puts the default in the place of every handler when a program is run; only this way needs no unsafe call.
/// `SIGPIPE`, which Rust ignores, and the mask of blocked signals are reset by the standard library.
fn default_signals() -> io::Result<()> {
    let status = std::fs::read_to_string(STATUS)?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = ignored.ok_or_else(|| io::Error::other(format!("{STATUS} has no SigIgn")))?;
    let others: Vec<i32> = (1..=64)
        .filter(|&number| ignored & (1 << (number - 1)) != 0)
        .filter(|&number| number != Signal::SIGPIPE as i32)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _inside = runtime.enter();
    for number in others {
        // Some cannot be caught: faults, which nobody can ignore either.
        let _ = signal(SignalKind::from_raw(number));
    }
    Ok(())
}

fn limits() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let descriptors = most.min(DESCRIPTORS_MAX);
    Ok(setrlimit(
        Resource::RLIMIT_NOFILE,
        descriptors,
        descriptors,
    )?)
}
