//! One child: started, handed what it may touch, watched through its pidfd, started again.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::process::{self, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::feed::Said;
use super::node::{Node, ReadAgain};
use super::plan::ProcessName;
use super::restart::{Exit, Restart};
use crate::ring::AttachError;
use crate::role::{Devices, End, FromChild, Recording, Role, States, ToChild};
use crate::sys::control::{AsyncChannel, Channel, ControlError};

/// A child that is not ready by then is killed and started again.
const READY_WAIT: Duration = Duration::from_secs(10);

/// Parts that may wait for a child: more than a node has rings.
const PARTS_MAX: usize = 128;

/// What happened to a child.
#[derive(Debug)]
pub enum News {
    /// It serves.
    Ready(ProcessName),
    /// The uplink found device states of the last run.
    Snapshot(States),
    /// A ring was replaced when one of its ends was reaped.
    Replaced {
        /// Which ring.
        ring: u32,
        /// Whose end was reaped; the other does not know the new ring yet.
        reaped: End,
    },
    /// Where a sensor is recorded has changed.
    Capture {
        /// The sensor.
        sensor: String,
    },
    /// The consumer of a ring found its producer lying.
    Violation {
        /// Which ring.
        ring: u32,
        /// What was found.
        what: String,
    },
    /// An ingest says something of its feed.
    Feed {
        /// Whose feed.
        name: ProcessName,
        /// What.
        said: Said,
    },
    /// A feed was opened; its ingest does not have it yet.
    Opened(ProcessName),
    /// Somebody asks for the lists of devices to be read again.
    Reload(oneshot::Sender<ReadAgain>),
    /// It ended and is not started again.
    Ended {
        /// Who.
        name: ProcessName,
        /// How.
        exit: Exit,
    },
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Ring(#[from] AttachError),
}

/// What the supervisor wants of a child; later ones include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Wait,
    Run,
    Drain,
}

/// What a child that runs is handed anew. One that starts later gets it anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A ring that was replaced.
    Ring(u32),
    /// The feed that is open.
    Feed,
    /// The list of devices that was read.
    Devices,
    /// The file to record in.
    Capture,
    /// Certificates that were read anew.
    Certificates,
}

/// The supervisor's hold on one child.
pub struct Child {
    /// Which process.
    pub name: ProcessName,
    wish: watch::Sender<Wish>,
    kill: watch::Sender<u32>,
    parts: mpsc::Sender<Part>,
}

impl Child {
    /// Keeps a process alive from now on; if `held`, from [`Child::release`] on.
    pub fn keep(node: Rc<Node>, name: ProcessName, news: mpsc::Sender<News>, held: bool) -> Child {
        let (wish, wished) = watch::channel(if held { Wish::Wait } else { Wish::Run });
        let (kill, killed) = watch::channel(0);
        let (parts, replaced) = mpsc::channel(PARTS_MAX);
        let keeper = Keeper {
            node,
            name: name.clone(),
            news,
            wish: wished,
            kill: killed,
            parts: replaced,
            restart: Restart::default(),
        };
        tokio::task::spawn_local(keeper.keep());
        Child {
            name,
            wish,
            kill,
            parts,
        }
    }

    /// Lets a held child start; whether it was held.
    pub fn release(&mut self) -> bool {
        self.wish.send_if_modified(|wish| {
            let waits = *wish == Wish::Wait;
            if waits {
                *wish = Wish::Run;
            }
            waits
        })
    }

    /// Tells it to finish what is there and end; it is not started again.
    pub fn drain(&mut self) {
        self.wish.send_replace(Wish::Drain);
    }

    /// Hands it a part while it runs.
    pub fn hand(&mut self, part: Part) {
        if self.parts.try_send(part).is_err() {
            // More than there can be wait for it: it is started again on all of them.
            self.kill();
        }
    }

    /// Kills it; unless it drains, it is started again.
    pub fn kill(&mut self) {
        self.kill.send_modify(|count| *count += 1);
    }
}

/// The task behind a [`Child`].
struct Keeper {
    node: Rc<Node>,
    name: ProcessName,
    news: mpsc::Sender<News>,
    wish: watch::Receiver<Wish>,
    kill: watch::Receiver<u32>,
    parts: mpsc::Receiver<Part>,
    restart: Restart,
}

impl Keeper {
    async fn keep(mut self) {
        // A closed channel means that the supervisor ends: there is nobody left to keep the child for.
        if self
            .wish
            .wait_for(|wish| *wish != Wish::Wait)
            .await
            .is_err()
        {
            return;
        }
        let mut last = Exit::Code(0);
        while *self.wish.borrow() != Wish::Drain {
            let (exit, ready_for) = self.live().await;
            last = exit;
            for (ring, reaped) in self.node.reap(&self.name) {
                // The supervisor may be past listening.
                let _ = self.news.send(News::Replaced { ring, reaped }).await;
            }
            self.node.note(&self.name, |state| {
                state.pid = None;
                state.ready = false;
                state.last_exit = Some(exit.to_string());
            });
            if *self.wish.borrow() == Wish::Drain {
                break;
            }
            let pause = self.restart.ended(exit, ready_for);
            warn!(
                "{} ended with {exit}; starting again in {pause:?}",
                self.name
            );
            self.node.count_restart(self.name.role);
            self.node.note(&self.name, |state| {
                state.restarts += 1;
                state.looping = self.restart.is_looping();
            });
            tokio::select! {
                _ = sleep(pause) => {}
                () = wished(&mut self.wish, Wish::Drain) => {}
            }
        }
        self.node.note(&self.name, |state| state.ended = true);
        // The supervisor may be past listening.
        let _ = self
            .news
            .send(News::Ended {
                name: self.name,
                exit: last,
            })
            .await;
    }

    /// One life of the child: how it ended, and how long it was ready.
    async fn live(&mut self) -> (Exit, Option<Duration>) {
        // Before the start: a kill while it is handed its rings may mean that one of them was replaced.
        self.kill.mark_unchanged();
        while self.parts.try_recv().is_ok() {}
        let (mut process, control) = match self.start().await {
            Ok(started) => started,
            Err(cause) => {
                error!("cannot start {}: {cause}", self.name);
                return (Exit::Code(crate::role::exit::SOFTWARE), None);
            }
        };
        let ready_by = Instant::now() + READY_WAIT;
        let mut ready_since = None;
        let mut told = false;
        loop {
            tokio::select! {
                status = process.wait() => {
                    return (exit_of(status), ready_since.map(|since: Instant| since.elapsed()));
                }
                said = control.recv::<FromChild>() => match said {
                    Ok(Some((said, fds))) => self.hear(said, fds, &mut ready_since).await,
                    // It closed its end or broke the contract; its exit follows.
                    Ok(None) | Err(_) => {
                        let _ = process.start_kill();
                        let ready_for = ready_since.map(|since: Instant| since.elapsed());
                        return (exit_of(process.wait().await), ready_for);
                    }
                },
                () = wished(&mut self.wish, Wish::Drain), if !told => {
                    told = true;
                    // A child that is gone already needs no telling.
                    let _ = control.send(&ToChild::Drain, &[]).await;
                }
                Some(part) = self.parts.recv() => {
                    if let Err(cause) = self.hand_over_part(&control, part).await {
                        error!("cannot hand {part:?} to {}: {cause}; starting it again", self.name);
                        drop(process.start_kill());
                    }
                }
                Ok(()) = self.kill.changed() => drop(process.start_kill()),
                () = sleep_until(ready_by), if ready_since.is_none() => {
                    error!("{} was not ready within {READY_WAIT:?}: killed", self.name);
                    drop(process.start_kill());
                    let status = process.wait().await;
                    return (exit_of(status), None);
                }
            }
        }
    }

    async fn start(&self) -> Result<(process::Child, AsyncChannel), StartError> {
        let (ours, theirs) = Channel::pair()?;
        // The kernel's link to this very program: an upgrade on disk cannot mix versions.
        let process = Command::new("/proc/self/exe")
            .arg0(format!("ringway-{}", self.name.role.name()))
            .arg("role")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(false)
            .spawn()?;
        self.node.note(&self.name, |state| state.pid = process.id());
        let control = AsyncChannel::new(ours)?;
        self.hand_over(&control).await?;
        Ok((process, control))
    }

    async fn hand_over(&self, control: &AsyncChannel) -> Result<(), StartError> {
        let (assignment, fds) = self.node.assignment(&self.name)?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        control
            .send(&ToChild::Assign(Box::new(assignment)), &fds)
            .await?;
        for (ring, fds) in self.node.rings_of(&self.name)? {
            control.send(&ToChild::Ring(ring), &fds.as_fds()).await?;
        }
        self.hand_over_feed(control).await?;
        for devices in self.node.device_lists(&self.name)? {
            hand_over_devices(control, devices).await?;
        }
        if self.name.role == Role::Ingest {
            self.hand_over_capture(control).await?;
        }
        self.hand_over_certificates(control).await?;
        if self.name.role == Role::Observer {
            for page in self.node.pages()? {
                control.send(&ToChild::Page, &[page.as_fd()]).await?;
            }
        }
        if self.name.role == Role::Classifier
            && let Some(snapshot) = self.node.snapshot()?
        {
            control
                .send(
                    &ToChild::Snapshot {
                        exact: snapshot.exact,
                    },
                    &[snapshot.fd.as_fd()],
                )
                .await?;
        }
        Ok(control.send(&ToChild::Start, &[]).await?)
    }

    async fn hand_over_part(&self, control: &AsyncChannel, part: Part) -> Result<(), StartError> {
        let number = match part {
            Part::Ring(number) => number,
            Part::Feed => return self.hand_over_feed(control).await,
            Part::Devices => {
                if let Some(devices) = self.node.fresh_device_list(&self.name)? {
                    hand_over_devices(control, devices).await?;
                }
                return Ok(());
            }
            Part::Capture => return self.hand_over_capture(control).await,
            Part::Certificates => return self.hand_over_certificates(control).await,
        };
        for (ring, fds) in self.node.rings_of(&self.name)? {
            if ring.ring == number {
                control.send(&ToChild::Ring(ring), &fds.as_fds()).await?;
            }
        }
        Ok(())
    }

    /// Hands over the feed, if one is open.
    async fn hand_over_feed(&self, control: &AsyncChannel) -> Result<(), StartError> {
        if let Some(feed) = self.node.feed(&self.name)? {
            let (message, fds) = feed.into_message();
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            control.send(&message, &fds).await?;
        }
        Ok(())
    }

    /// Hands over the file to record in, or says that there is none.
    async fn hand_over_capture(&self, control: &AsyncChannel) -> Result<(), StartError> {
        let (message, fds) = Recording::into_message(self.node.recording(&self.name)?);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        Ok(control.send(&message, &fds).await?)
    }

    /// Hands over what the sensor's TLS is made of, if it has any.
    async fn hand_over_certificates(&self, control: &AsyncChannel) -> Result<(), StartError> {
        if let Some(certificates) = self.node.certificates(&self.name) {
            let (message, fds) = certificates.as_message();
            control.send(&message, &fds).await?;
        }
        Ok(())
    }

    async fn hear(&self, said: FromChild, fds: Vec<OwnedFd>, ready_since: &mut Option<Instant>) {
        let news = match said {
            FromChild::Ready => {
                *ready_since = Some(Instant::now());
                self.node.note(&self.name, |state| {
                    state.ready = true;
                    state.looping = false;
                });
                if self.restart.is_looping() {
                    info!("{} serves again", self.name);
                }
                News::Ready(self.name.clone())
            }
            // A child that was taken over may say anything; each may only say what is its to say.
            FromChild::Snapshot { exact } if self.name.role == Role::Uplink => {
                match fds.into_iter().next() {
                    Some(fd) => News::Snapshot(States { fd, exact }),
                    None => return,
                }
            }
            FromChild::Violation { ring, what } if self.node.is_consumer(&self.name, ring) => {
                News::Violation { ring, what }
            }
            FromChild::FeedSound { number } if self.name.role == Role::Ingest => News::Feed {
                name: self.name.clone(),
                said: Said::Sound { number },
            },
            FromChild::FeedEnded { number, why } if self.name.role == Role::Ingest => News::Feed {
                name: self.name.clone(),
                said: Said::Ended { number, why },
            },
            FromChild::Devices { number, outcome } if self.name.role == Role::Ingest => {
                self.node.judge_device_list(&self.name, number, outcome);
                return;
            }
            FromChild::Notices(notices) if self.name.role == Role::Ingest => {
                self.node.set_notices(&self.name, notices);
                return;
            }
            FromChild::CaptureFailed { mark, why } if self.name.role == Role::Ingest => {
                let mut captures = self.node.captures();
                captures.failed(&self.name.instance, mark, why);
                return;
            }
            said => {
                warn!("{} said what is not its to say: {said:?}", self.name);
                return;
            }
        };
        // The supervisor may be past listening.
        let _ = self.news.send(news).await;
    }
}

async fn hand_over_devices(control: &AsyncChannel, devices: Devices) -> Result<(), StartError> {
    let message = ToChild::Devices {
        number: devices.number,
    };
    Ok(control.send(&message, &[devices.list.as_fd()]).await?)
}

/// Returns once `wish` is wished, or never if nobody is left to wish. The value is not held over an await: it locks.
async fn wished(wishes: &mut watch::Receiver<Wish>, wish: Wish) {
    let found = wishes.wait_for(|now| *now == wish).await.is_ok();
    if !found {
        std::future::pending::<()>().await;
    }
}

fn exit_of(status: std::io::Result<ExitStatus>) -> Exit {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        },
        Err(_) => Exit::Code(crate::role::exit::SOFTWARE),
    }
}
