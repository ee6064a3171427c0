//! Feeds: what a sensor's bytes come from and what the supervisor opens, and opens again whenever it ends.
//!
//! An ingest says how its feed is doing; [`super::reopen`], which is pure, says when the next one is opened. What is open
//! is kept by the node: an ingest that is started again goes on with it.

mod exec;
mod fifo;
mod gpsd;
mod running;
mod serial;
mod state;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, interval, sleep};
use tracing::{debug, info, warn};

use self::exec::ProgramKeeper;
use self::gpsd::Gpsd;
pub use self::state::FeedState;
use self::state::meaning;

use super::child::News;
use super::node::Node;
use super::plan::ProcessName;
use super::reopen::Reopen;
use crate::config::{Input, SensorSettings};
use crate::role::{Feed, FeedEnd};

/// Words of an ingest about its feed that may wait; it says two of each.
const SAID_MAX: usize = 64;

/// How long a drain waits for programs: until they have ended or were killed, and a little for what is read then.
pub const STOP_WAIT: Duration = exec::TERM_WAIT.saturating_add(Duration::from_millis(500));

/// How often it is looked whether a named pipe is still what its path leads to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
                reopen: match &sensor.input {
                    Input::Serial { bauds, .. } => Reopen::new(bauds.len(), false),
                    Input::Fifo { .. } => Reopen::new(1, true),
                    _ => Reopen::new(1, false),
                },
                sensor,
                news,
                said: heard,
                gpsd: Gpsd::new(),
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
    gpsd: Gpsd,
    number: u64,
}

/// What happened to a feed that is open.
enum Turn {
    /// It ended.
    Ended(FeedEnd),
    /// Its path leads elsewhere.
    Replaced,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = Duration::ZERO;
        while self.paused(pause).await {
            self.number += 1;
            pause = match self.open().await {
                Ok(feed) => {
                    let baud = self.baud();
                    self.node.note_feed(&self.name, |state| state.opened(baud));
                    self.node.set_feed(&self.name, Some(feed));
                    // The supervisor may be past listening.
                    let _ = self.news.send(News::Opened(self.name.clone())).await;
                    let opened = Instant::now();
                    match self.watched().await {
                        Some(Turn::Ended(why)) => self.ended(why, opened.elapsed()),
                        // The one that is open is kept until then, so that nobody who writes to it is cut off.
                        Some(Turn::Replaced) => Duration::ZERO,
                        None => return,
                    }
                }
                Err(cause) => {
                    let why = format!("cannot open {}: {cause}", self.what());
                    if self.waits(&why) {
                        warn!("{}: {why}; trying again until it is there", self.name);
                    }
                    self.reopen.failed()
                }
            };
        }
    }

    async fn open(&mut self) -> io::Result<Feed> {
        let number = self.number;
        match &self.sensor.input {
            Input::Fifo { path, answers_path } => fifo::open(path, answers_path.as_deref(), number),
            Input::Serial { path, bauds } => {
                serial::open(path, bauds[self.reopen.variant()], number)
            }
            Input::Gpsd {
                connect,
                receiver,
                sentences,
            } => {
                let receiver = receiver.as_deref();
                self.gpsd.open(connect, receiver, *sentences, number).await
            }
            Input::Exec(_) => unreachable!("a program has a keeper of its own"),
            Input::Tcp(_) | Input::Http(_) | Input::Udp { .. } | Input::File { .. } => {
                unreachable!("only what is a feed has a keeper")
            }
        }
    }

    /// What it is that is opened.
    fn what(&self) -> String {
        match &self.sensor.input {
            Input::Fifo { path, .. } => format!("named pipe {path}"),
            Input::Serial { path, .. } => format!("serial line {path}"),
            Input::Gpsd { connect, .. } => format!("gpsd at {connect}"),
            Input::Exec(_) => unreachable!("a program has a keeper of its own"),
            Input::Tcp(_) | Input::Http(_) | Input::Udp { .. } | Input::File { .. } => {
                unreachable!("only what is a feed has a keeper")
            }
        }
    }

    /// The rate of a line.
    fn baud(&self) -> Option<u32> {
        match &self.sensor.input {
            Input::Serial { bauds, .. } => Some(bauds[self.reopen.variant()]),
            _ => None,
        }
    }

    /// Notes why it is not open; whether that is news.
    fn waits(&self, why: &str) -> bool {
        self.node.note_feed(&self.name, |state| state.waits(why))
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

    /// Waits until the feed has ended; `None` once it is to stop.
    async fn watched(&mut self) -> Option<Turn> {
        let mut look = interval(LOOK_EVERY);
        loop {
            let said = tokio::select! {
                said = self.said.recv() => said?,
                _ = look.tick() => {
                    if self.is_replaced() {
                        info!("{}: {} was removed or made anew", self.name, self.what());
                        return Some(Turn::Replaced);
                    }
                    continue;
                }
            };
            match said {
                Said::Sound { number } if number == self.number => self.sound(),
                Said::Ended { number, why } if number == self.number => {
                    return Some(Turn::Ended(why));
                }
                Said::Sound { .. } | Said::Ended { .. } => {}
            }
        }
    }

    fn is_replaced(&self) -> bool {
        match &self.sensor.input {
            Input::Fifo { path, .. } => {
                let feed = self.node.feed(&self.name).ok().flatten();
                feed.is_some_and(|feed| !fifo::is_there(path, &feed))
            }
            _ => false,
        }
    }

    fn sound(&mut self) {
        self.reopen.sound();
        let news = self.node.note_feed(&self.name, FeedState::sound);
        match self.baud() {
            _ if !news => debug!("{}: its feed is sound again", self.name),
            None => info!("{}: its feed is sound", self.name),
            Some(baud) => info!("{}: its line is sound at {baud} baud", self.name),
        }
    }

    /// The pause before it is opened again.
    fn ended(&mut self, why: FeedEnd, lasted: Duration) -> Duration {
        if let Some(baud) = self.baud().filter(|_| why == FeedEnd::Unreadable) {
            debug!("{}: nothing can be read at {baud} baud", self.name);
        }
        let pause = self.reopen.ended(why, lasted);
        if matches!(self.sensor.input, Input::Serial { .. })
            && let Ok(Some(line)) = self.node.feed(&self.name)
        {
            serial::discard_output(&line);
        }
        if !matches!(self.sensor.input, Input::Fifo { .. }) {
            // A line is locked and a connection takes a place: the next one needs it.
            self.node.set_feed(&self.name, None);
        } else if why == FeedEnd::Closed {
            debug!("{}: its last writer is gone", self.name);
            return pause;
        }
        let why = format!("{} has ended: {}", self.what(), meaning(why));
        if self.waits(&why) {
            warn!("{}: {why}; opening it again", self.name);
        }
        pause
    }
}
