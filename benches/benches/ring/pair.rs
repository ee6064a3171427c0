//! Starts the two processes of a case, each on a core of its own, and ends them, also when they hang.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::side::{EndSpec, Found, Measure, Side, Spec};
use crate::transport::{Channel, Mode};

/// Beyond its window a case gets this long; then it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Hung(side) => write!(f, "hangs: no result of the {side} in time"),
            Failure::Died(why) => write!(f, "fails: {why}"),
            Failure::Setup(error) => write!(f, "cannot be set up: {error}"),
        }
    }
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
    complaints: Receiver<String>,
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
            .stderr(Stdio::piped())
            .spawn();
        for fd in inherited {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
        }
        let mut child = spawned?;
        let lines = lines_of(child.stdout.take().expect("it was asked to be piped"));
        let complaints = lines_of(child.stderr.take().expect("it was asked to be piped"));
        let process = Process {
            stdin: child.stdin.take(),
            child,
            lines,
            complaints,
            side: match spec.side {
                Side::Writer => "writer",
                Side::Reader => "reader",
            },
        };
        process.line(PATIENCE)?;
        Ok(process)
    }

    fn line(&self, within: Duration) -> Result<String, Failure> {
        self.lines
            .recv_timeout(within)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Failure::Hung(self.side),
                RecvTimeoutError::Disconnected => {
                    let why = self
                        .complaint()
                        .unwrap_or_else(|| "it says nothing".to_owned());
                    Failure::Died(format!("the {} ended: {why}", self.side))
                }
            })
    }

    /// The last thing that it said on standard error.
    pub fn complaint(&self) -> Option<String> {
        // Its output is closed, or nearly: a moment is enough for the rest.
        let mut last = None;
        while let Ok(line) = self.complaints.recv_timeout(Duration::from_millis(50)) {
            last = Some(line);
        }
        last
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

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Both sides of a case, ready to go.
pub struct Pair {
    /// The writer.
    pub writer: Process,
    /// The reader.
    pub reader: Process,
    /// What outlives them: fields are dropped in this order.
    _keep: Vec<Option<Box<dyn std::any::Any>>>,
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
        // The writer first: a subscriber of iceoryx2 connects to publishers that are there when it is made, to others when
        // it receives; until then frames beyond the first buffer are dropped, whatever its settings say.
        let writer = start(Side::Writer, cores[0])?;
        let reader = start(Side::Reader, cores[1])?;
        // The descriptors go with the channels: only the two sides, and what is kept, hold the transport now.
        Ok(Pair {
            writer,
            reader,
            _keep: vec![there.keep, back.and_then(|back| back.keep)],
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
