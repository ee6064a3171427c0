//! Feeds: what a sensor's bytes come from and what the supervisor opens, and opens again whenever it ends.
//!
//! An ingest says how its feed is doing; [`super::reopen`], which is pure, says when the next one is opened. What is open
//! is kept by the node: an ingest that is started again goes on with it.

mod exec;
mod fifo;
mod running;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;
use tracing::{info, warn};

use super::child::News;
use super::node::Node;
use super::plan::ProcessName;
use super::reopen::Reopen;
use crate::config::{Input, SensorSettings};
use crate::role::{Feed, FeedEnd};
use exec::ProgramKeeper;

/// How long a drain waits for programs: until they have ended or were killed, and a little for what is read then.
pub const STOP_WAIT: Duration = exec::TERM_WAIT.saturating_add(Duration::from_millis(500));

/// Words of an ingest about its feed that may wait; it says two of each.
const SAID_MAX: usize = 64;

/// What an ingest says of its feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A sound message came from it.
    Sound {
        /// Which feed.
        number: u64,
    },
    /// It is of no use any more.
    Ended {
        /// Which feed.
        number: u64,
        /// Why.
        why: FeedEnd,
    },
}

/// The supervisor's hold on one sensor's feed.
pub struct FeedKeeper {
    /// The ingest that it feeds.
    pub name: ProcessName,
    said: Option<mpsc::Sender<Said>>,
    stop: watch::Sender<bool>,
    /// The task of a program's keeper, which ends some time after it was told to.
    program: Option<JoinHandle<()>>,
    abort: AbortHandle,
}

impl FeedKeeper {
    /// Keeps a feed open from now on.
    pub fn keep(
        node: &Rc<Node>,
        name: ProcessName,
        sensor: SensorSettings,
        news: mpsc::Sender<News>,
    ) -> FeedKeeper {
        let (said, heard) = mpsc::channel(SAID_MAX);
        let (stop, stopped) = watch::channel(false);
        let node = Rc::clone(node);
        let (abort, program) = if let Input::Exec(program) = &sensor.input {
            let keeper = ProgramKeeper {
                node,
                name: name.clone(),
                program: program.clone(),
                sensor,
                news,
                said: heard,
                stop: stopped,
            };
            let task = tokio::task::spawn_local(keeper.keep());
            (task.abort_handle(), Some(task))
        } else {
            let keeper = Keeper {
                node,
                name: name.clone(),
                sensor,
                news,
                said: heard,
                reopen: Reopen::default(),
                number: 0,
            };
            let task = tokio::task::spawn_local(keeper.keep());
            (task.abort_handle(), None)
        };
        FeedKeeper {
            name,
            said: Some(said),
            stop,
            program,
            abort,
        }
    }

    /// Takes note of what the ingest said. A child that was taken over may say anything any number of times: what has
    /// no room is dropped.
    pub fn hear(&mut self, said: Said) {
        if let Some(to) = &self.said {
            let _ = to.try_send(said);
        }
    }

    /// Opens nothing any more. A program is asked to end, and what it still writes is waited for: returns what ends when
    /// that is so.
    pub fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.stop.send_replace(true);
        let program = self.program.take();
        if program.is_none() {
            self.said = None;
        }
        program
    }

    /// Drops the feed as it is; a program is killed.
    pub fn kill(&mut self) {
        self.abort.abort();
    }
}

/// The task behind a [`FeedKeeper`].
struct Keeper {
    node: Rc<Node>,
    name: ProcessName,
    sensor: SensorSettings,
    news: mpsc::Sender<News>,
    said: mpsc::Receiver<Said>,
    reopen: Reopen,
    number: u64,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = Duration::ZERO;
        while self.paused(pause).await {
            self.number += 1;
            pause = match self.open().await {
                Ok(feed) => {
                    self.node.set_feed(&self.name, Some(feed));
                    // The supervisor may be past listening.
                    let _ = self.news.send(News::Opened(self.name.clone())).await;
                    match self.watched().await {
                        Some(pause) => pause,
                        None => return,
                    }
                }
                Err(cause) => {
                    let pause = self.reopen.failed();
                    if self.reopen.failures() == 1 {
                        warn!("{}: {cause}; trying again until it is there", self.name);
                    }
                    pause
                }
            };
        }
    }

    async fn open(&mut self) -> io::Result<Feed> {
        match &self.sensor.input {
            Input::Fifo { path, answers_path } => {
                fifo::open(path, answers_path.as_deref(), self.number)
            }
            Input::Serial { .. } | Input::Gpsd { .. } => {
                Err(io::Error::from(io::ErrorKind::Unsupported))
            }
            Input::Exec(_) => unreachable!("a program has a keeper of its own"),
            Input::Tcp(_) | Input::Http(_) | Input::Udp { .. } | Input::File { .. } => {
                unreachable!("only what is a feed has a keeper")
            }
        }
    }

    /// Sleeps; `false` once it is to stop.
    async fn paused(&mut self, pause: Duration) -> bool {
        let asleep = sleep(pause);
        tokio::pin!(asleep);
        loop {
            tokio::select! {
                () = &mut asleep => return true,
                // What is said now is about a feed that ended.
                said = self.said.recv() => if said.is_none() { return false },
            }
        }
    }

    /// Waits until the feed has ended; the pause before the next one, or `None` once it is to stop.
    async fn watched(&mut self) -> Option<Duration> {
        loop {
            match self.said.recv().await? {
                Said::Sound { number } if number == self.number => {
                    self.reopen.sound();
                    info!("{}: its feed is sound", self.name);
                }
                Said::Ended { number, why } if number == self.number => {
                    info!("{}: its feed has ended: {why:?}", self.name);
                    return Some(self.reopen.ended(why));
                }
                Said::Sound { .. } | Said::Ended { .. } => {}
            }
        }
    }
}
