//! Starts the two processes of a case, each on a core of its own, and ends them, also when they hang.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::side::{EndSpec, Found, Measure, Side, Spec};
use crate::transport::{Channel, Mode};

/// Beyond its window a case gets this long; then it hangs.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why a case has no figures.
#[derive(Debug)]
pub enum Failure {
    /// It did not end in time.
    Hung(&'static str),
    /// A side ended without a result.
    Died(String),
    /// It could not be set up.
    Setup(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Setup(error)
    }
}

/// A case: one transport, one thing measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the transport.
    pub transport: &'static str,
    /// What is measured.
    pub measure: Measure,
    /// How ends wait.
    pub mode: Mode,
    /// Bytes of a frame.
    pub size: usize,
    /// Length of the window.
    pub window: Duration,
}

/// A running side.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    side: &'static str,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing its input lets it go; one that hangs does not see that.
        self.stdin = None;
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Process {
    /// Starts one side with its descriptors, and waits until it is ready.
    pub fn start(spec: &Spec, inherited: &[&OwnedFd]) -> Result<Process, Failure> {
        let argument = serde_json::to_string(spec).map_err(io::Error::other)?;
        for fd in inherited {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map_err(io::Error::from)?;
        }
        let spawned = Command::new(std::env::current_exe()?)
            .args(["side", &argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        for fd in inherited {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
        }
        let mut child = spawned?;
        let stdout = child.stdout.take().expect("it was asked to be piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let process = Process {
            stdin: child.stdin.take(),
            child,
            lines,
            side: match spec.side {
                Side::Writer => "writer",
                Side::Reader => "reader",
            },
        };
        process.line(PATIENCE)?;
        Ok(process)
    }

    fn line(&self, within: Duration) -> Result<String, Failure> {
        self.lines.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => Failure::Hung(self.side),
            RecvTimeoutError::Disconnected => Failure::Died(format!("the {} died", self.side)),
        })
    }

    /// Lets it begin.
    pub fn go(&mut self) -> Result<(), Failure> {
        let stdin = self.stdin.as_mut().expect("it is not let go yet");
        Ok(stdin.write_all(b"go\n")?)
    }

    /// What it found.
    pub fn found(&self, within: Duration) -> Result<Found, Failure> {
        let line = self.line(within)?;
        Ok(serde_json::from_str(&line).map_err(io::Error::other)?)
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

/// Both sides of a case, ready to go.
pub struct Pair {
    /// The writer.
    pub writer: Process,
    /// The reader.
    pub reader: Process,
    /// What outlives them.
    pub keep: Vec<Option<Box<dyn std::any::Any>>>,
}

impl Pair {
    /// Starts both on `cores`, on channels that `create` makes.
    pub fn start(
        case: &Case,
        cores: [usize; 2],
        create: impl Fn() -> io::Result<Channel>,
    ) -> Result<Pair, Failure> {
        let there = create()?;
        let back = match case.measure {
            Measure::Hop => Some(create()?),
            _ => None,
        };
        let end = |fds: &[OwnedFd], text: &str| EndSpec {
            fds: fds.iter().map(AsRawFd::as_raw_fd).collect(),
            text: text.to_owned(),
        };
        let start = |side, core| {
            let mut ends = Vec::new();
            let mut inherited: Vec<&OwnedFd> = Vec::new();
            for (channel, writes) in [(Some(&there), true), (back.as_ref(), false)] {
                let Some(channel) = channel else { continue };
                let fds = match writes == (side == Side::Writer) {
                    true => &channel.writer,
                    false => &channel.reader,
                };
                ends.push(end(fds, &channel.text));
                inherited.extend(fds);
            }
            let spec = Spec {
                transport: case.transport.to_owned(),
                side,
                measure: case.measure,
                mode: case.mode,
                size: case.size,
                window: case.window,
                core,
                ends,
            };
            Process::start(&spec, &inherited)
        };
        let reader = start(Side::Reader, cores[1])?;
        let writer = start(Side::Writer, cores[0])?;
        // The descriptors go with the channels: only the two sides, and what is kept, hold the transport now.
        Ok(Pair {
            writer,
            reader,
            keep: vec![there.keep, back.and_then(|back| back.keep)],
        })
    }

    /// Runs the case to its end: what the writer found and what the reader found.
    pub fn run(&mut self, window: Duration) -> Result<(Found, Found), Failure> {
        // The reader first, so that it is there when the first frame comes.
        self.reader.go()?;
        self.writer.go()?;
        let writer = self.writer.found(window + PATIENCE)?;
        let reader = self.reader.found(PATIENCE)?;
        Ok((writer, reader))
    }
}
