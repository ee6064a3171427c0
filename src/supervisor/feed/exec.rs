//! A program whose output is a sensor's feed: started, read to its end, ended, started again.
//!
//! A run is over when two things are known: that the program has ended, and that the ingest has read its output to the
//! end. So nothing that it wrote is lost by its death. Each is waited for within limits once the other is there.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::running::{Rest, Running};
use super::{FeedState, Said};
use crate::config::{Program, SensorSettings};
use crate::role::FeedEnd;
use crate::supervisor::child::News;
use crate::supervisor::node::Node;
use crate::supervisor::plan::ProcessName;
use crate::supervisor::reopen::Reopen;
use crate::supervisor::restart::Exit;

/// Longest pause before a program that keeps failing is started again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A program that ends before has failed, whatever it wrote: one that says a line and ends would be started a hundred
/// times a second.
const EARLY: Duration = Duration::from_secs(5);

/// How long a program that has closed its output may take to end before it is asked to.
const CLOSED_WAIT: Duration = Duration::from_millis(500);

/// How long a program that was asked to end may take before it is killed. In a drain its last lines are read meanwhile.
pub const TERM_WAIT: Duration = Duration::from_secs(1);

/// How often it is looked whether output that somebody else holds open has anything in it.
const HELD_WAIT: Duration = Duration::from_secs(10);

/// After so many looks it is given up, whatever is in it.
const HELD_LOOKS_MAX: u32 = 6;

/// Keeps the program of one sensor running.
pub struct ProgramKeeper {
    /// The node.
    pub node: Rc<Node>,
    /// The ingest that it feeds.
    pub name: ProcessName,
    /// The sensor.
    pub sensor: SensorSettings,
    /// What to run.
    pub program: Program,
    /// To the supervisor.
    pub news: mpsc::Sender<News>,
    /// What the ingest says.
    pub said: mpsc::Receiver<Said>,
    /// Whether to end.
    pub stop: watch::Receiver<bool>,
}

/// What is known of the end of a run, and what to do if the rest is not known in time.
#[derive(Default)]
struct Ending {
    exit: Option<Exit>,
    read: Option<FeedEnd>,
    due: Option<(Instant, Next)>,
    looks: u32,
}

/// What follows when time is up.
#[derive(Clone, Copy)]
enum Next {
    Terminate,
    Kill,
    Look,
}

impl Ending {
    fn then(&mut self, wait: Duration, next: Next) {
        self.due = Some((Instant::now() + wait, next));
    }

    fn is_complete(&self) -> bool {
        self.exit.is_some() && self.read.is_some()
    }
}

impl ProgramKeeper {
    /// Returns when it was told to stop and the last program has ended.
    pub async fn keep(mut self) {
        let mut reopen = Reopen::up_to(PAUSE_MAX);
        let mut number = 0;
        let mut pause = Duration::ZERO;
        while self.paused(pause).await {
            number += 1;
            pause = match Running::start(&self.program, &self.sensor, number) {
                Ok((running, feed)) => {
                    let pid = running.id();
                    info!(sensor = self.sensor.name, pid, "program starts");
                    self.node.note_program(&self.name, |state| {
                        state.pid = Some(pid);
                        state.state = "running".into();
                    });
                    self.node.note_feed(&self.name, |state| state.opened(None));
                    self.node.set_feed(&self.name, Some(feed));
                    // The supervisor may be past listening.
                    let _ = self.news.send(News::Opened(self.name.clone())).await;
                    let began = running.began;
                    let (exit, sound) = self.watch(running, number).await;
                    self.node.set_feed(&self.name, None);
                    let lasted = began.elapsed();
                    let pause = if sound && lasted >= EARLY {
                        reopen = Reopen::up_to(PAUSE_MAX);
                        Duration::ZERO
                    } else {
                        reopen.failed()
                    };
                    self.tell(exit, lasted, pause);
                    pause
                }
                Err(cause) => {
                    let pause = reopen.failed();
                    let why = format!("cannot start program: {cause}");
                    warn!(
                        sensor = self.sensor.name,
                        "{why}; trying again in {pause:?}"
                    );
                    self.node.note_feed(&self.name, |state| state.waits(&why));
                    pause
                }
            };
        }
        self.node
            .note_program(&self.name, |state| state.state = "ended".into());
    }

    /// Says how a run ended.
    fn tell(&self, exit: Exit, lasted: Duration, pause: Duration) {
        let stopping = *self.stop.borrow();
        self.node.note_program(&self.name, |state| {
            state.pid = None;
            state.state = "waiting".into();
            state.last_exit = Some(exit.to_string());
            state.restarts += u32::from(!stopping);
        });
        let why = format!("program ended with {exit}");
        self.node.note_feed(&self.name, |state| state.waits(&why));
        let sensor = &self.sensor.name;
        if stopping {
            info!(sensor, "{why}");
        } else {
            self.node.count_program_restart();
            let when = match pause {
                Duration::ZERO => "at once".to_owned(),
                pause => format!("in {pause:?}"),
            };
            warn!(sensor, "{why} after {lasted:.1?}; starting again {when}");
        }
    }

    /// Sleeps; `false` once it is to stop.
    async fn paused(&mut self, pause: Duration) -> bool {
        let asleep = sleep(pause);
        tokio::pin!(asleep);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return false,
                () = &mut asleep => return true,
                // What is said now is about a run that is over.
                Some(_) = self.said.recv() => {}
            }
        }
    }

    /// One run: how the program ended, and whether it had written anything sound.
    async fn watch(&mut self, mut running: Running, number: u64) -> (Exit, bool) {
        let mut ending = Ending::default();
        let mut sound = false;
        let mut stopping = false;
        loop {
            if let (Some(exit), true) = (ending.exit, ending.is_complete()) {
                return (exit, sound);
            }
            let due = ending.due;
            tokio::select! {
                exit = running.ended(), if ending.exit.is_none() => {
                    ending.exit = Some(exit);
                    ending.then(if stopping { TERM_WAIT } else { HELD_WAIT }, Next::Look);
                }
                Some(said) = self.said.recv() => match said {
                    Said::Sound { number: of } if of == number => {
                        sound = true;
                        self.node.note_feed(&self.name, FeedState::sound);
                    }
                    Said::Ended { number: of, why } if of == number && ending.read.is_none() => {
                        ending.read = Some(why);
                        match why {
                            // It was asked already, and has its time.
                            FeedEnd::Closed if stopping => {}
                            FeedEnd::Closed => ending.then(CLOSED_WAIT, Next::Terminate),
                            FeedEnd::Broken | FeedEnd::Unreadable | FeedEnd::Stalled => {
                                warn!(sensor = self.sensor.name, "program is ended: {why:?}");
                                running.kill();
                            }
                        }
                    }
                    Said::Sound { .. } | Said::Ended { .. } => {}
                },
                () = stopped(&mut self.stop), if !stopping => {
                    stopping = true;
                    // First it, then the ingest: what it still has to say is read.
                    running.terminate();
                    ending.then(TERM_WAIT, Next::Kill);
                }
                () = until(due) => {
                    ending.due = None;
                    self.next(due, &running, &mut ending, stopping);
                }
            }
        }
    }

    /// Time is up for what was waited for.
    fn next(
        &self,
        due: Option<(Instant, Next)>,
        running: &Running,
        ending: &mut Ending,
        stopping: bool,
    ) {
        let sensor = &self.sensor.name;
        match due.map(|(_, next)| next) {
            None => {}
            Some(Next::Terminate) => {
                running.terminate();
                ending.then(TERM_WAIT, Next::Kill);
            }
            Some(Next::Kill) => {
                if ending.exit.is_none() {
                    warn!(sensor, "program did not end within {TERM_WAIT:?}: killed");
                }
                running.kill();
                if stopping {
                    ending.then(TERM_WAIT, Next::Look);
                }
            }
            Some(Next::Look) => {
                ending.looks += 1;
                match running.rest() {
                    // The ingest gets there, however long it takes.
                    Rest::Ended if !stopping => {}
                    Rest::Unread if !stopping && ending.looks < HELD_LOOKS_MAX => {
                        ending.then(HELD_WAIT, Next::Look);
                    }
                    rest => {
                        if rest != Rest::Ended {
                            warn!(
                                sensor,
                                "somebody whom the program started holds its output; not read any more"
                            );
                        }
                        ending.read = Some(FeedEnd::Broken);
                    }
                }
            }
        }
    }
}

/// Returns once it is to stop; nobody left to say so means the same. The value is not held: it locks.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns when something is due, or never.
async fn until(due: Option<(Instant, Next)>) {
    match due {
        Some((at, _)) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
