//! The supervisor: owns every shared object, starts, watches and ends the children, and never reads a byte of a
//! device. It leaves what to restart when and what to stop first to `restart` and `shutdown`, which are pure.

mod captures;
mod certificates;
mod child;
pub mod control;
mod device_list;
mod feed;
pub mod launcher;
mod listener;
mod node;
mod plan;
mod reopen;
pub mod report;
pub mod request;
mod restart;
mod sealed;
mod shutdown;
mod state_dir;

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::role::{End, Purpose, Role, exit};
use crate::sys::{log, start};
use child::{Child, News, Part};
use feed::FeedKeeper;
use node::{Node, NodeError, ReadAgain};
use restart::Exit;

/// News of children that may wait; each child has few at a time.
const NEWS_MAX: usize = 256;
/// How long the classifier waits for the device states of the last run: without a journal, positions go on.
const STATES_WAIT: Duration = Duration::from_secs(5);
/// How long a killed child may take to be reaped.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// How often the supervisor says on its page that it lives.
const BEAT: Duration = Duration::from_millis(250);

/// Runs a node until a signal ends it and returns the exit code.
pub fn run(config: Config) -> i32 {
    log::init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            error!("cannot start runtime: {cause}");
            return exit::SOFTWARE;
        }
    };
    let served = LocalSet::new().block_on(&runtime, serve(config));
    served.unwrap_or_else(|error| {
        error!("{error}");
        error.exit_code()
    })
}

/// Runs one role as a child of the supervisor and returns the exit code.
pub fn child_main() -> i32 {
    log::init();
    let started = match start::receive() {
        Ok(started) => started,
        Err(error) => {
            error!("{error}");
            return exit::USAGE;
        }
    };
    match started.role() {
        Role::Ingest => crate::ingest::run(started),
        Role::Classifier => code_of(crate::classifier::run(started)),
        Role::Dispatcher => code_of(crate::dispatcher::run(started)),
        Role::Uplink => crate::uplink::run(started),
        Role::Observer => crate::observer::run(started),
    }
}

/// The one error line of a child, and its exit code.
fn code_of<E: std::fmt::Display>(result: Result<(), E>) -> i32 {
    match result {
        Ok(()) => exit::OK,
        Err(error) => {
            error!("{error}");
            exit::SOFTWARE
        }
    }
}

async fn serve(config: Config) -> Result<i32, NodeError> {
    let began = Instant::now();
    let mut signals = Signals::new().map_err(NodeError::Signals)?;
    let node = Rc::new(Node::open(config)?);
    let (tell, mut news) = mpsc::channel(NEWS_MAX);
    let mut control = control::serve(Rc::clone(&node), tell.clone())?;
    let mut children = Vec::new();
    for name in node.processes() {
        // The classifier needs the device states of the last run, which the uplink reads from the journal.
        let held = name.role == Role::Classifier;
        children.push(Child::keep(
            Rc::clone(&node),
            name.clone(),
            tell.clone(),
            held,
        ));
    }

    let mut feeds: Vec<FeedKeeper> = node
        .fed()
        .map(|(name, sensor)| FeedKeeper::keep(&node, name.clone(), sensor.clone(), tell.clone()))
        .collect();

    let mut beat = interval(BEAT);
    let states_due = sleep(STATES_WAIT);
    tokio::pin!(states_due);
    let mut states_awaited = true;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                node.beat();
                let changed = node.captures().beat(std::time::Instant::now());
                changed.iter().for_each(|sensor| hand_capture(&mut children, sensor));
            }
            () = &mut states_due, if states_awaited => {
                states_awaited = false;
                if release_classifier(&mut children) {
                    warn!("the uplink is not ready: positions go on without the device states of the last run");
                }
            }
            Some(what) = news.recv() => hear(&node, &mut children, &mut feeds, what, began),
            which = signals.next() => match which {
                Ask::Stop(name) => {
                    info!("draining on {name}; a second one ends at once");
                    break;
                }
                Ask::Report => info!("{}", serde_json::to_string(&node.report()).expect("a report is plain data")),
                Ask::Reload => {
                    warn!("cannot reload: restart to use a changed configuration; certificates and lists of devices are read again");
                    reload(&node, &mut children);
                }
            },
            _ = &mut control => unreachable!("the control socket is served for ever"),
        }
    }
    node.drain_began();
    node.beat();
    let left = tokio::select! {
        left = async {
            stop_feeds(&node, &mut children, &mut feeds, &mut news, began).await;
            drain(&node, &mut children, &mut news).await
        } => left,
        _ = signals.stop() => {
            feeds.iter_mut().for_each(FeedKeeper::kill);
            // Told to drain as well, so that nobody is started again.
            children.iter_mut().for_each(|child| {
                child.drain();
                child.kill();
            });
            // Waited for: the lock on the state directory goes with this process, and they use what it protects.
            let _ = timeout(KILL_WAIT, ended(&node, &Role::ALL, &mut news, &mut Vec::new())).await;
            vec!["everything: a second signal ended the drain".to_string()]
        }
    };
    if left.is_empty() {
        info!("stopped; all that was accepted is on disk");
        return Ok(exit::OK);
    }
    warn!(
        "stopped; left behind: {}; devices that were not answered send again",
        left.join(", ")
    );
    Ok(exit::LEFT)
}

/// Takes note of what a child said or did.
fn hear(
    node: &Rc<Node>,
    children: &mut [Child],
    feeds: &mut [FeedKeeper],
    news: News,
    began: Instant,
) {
    match news {
        News::Ready(name) => {
            if name.role == Role::Classifier {
                node.snapshot_restored();
            }
            if name.role == Role::Uplink {
                release_classifier(children);
            }
            if node.all_ready(began.elapsed()) {
                let listeners = node
                    .listeners()
                    .map(|(name, at)| format!("{name} {at}"))
                    .collect::<Vec<_>>();
                info!(
                    "ready after {:.0?}: {}",
                    began.elapsed(),
                    listeners.join(", ")
                );
            }
        }
        News::Capture { sensor } => hand_capture(children, &sensor),
        News::Snapshot(states) => node.keep_snapshot(states),
        News::Replaced { ring, reaped } => match reaped {
            End::Producer => hand_on(node, children, ring),
            End::Consumer => kill_producer(node, children, ring),
        },
        News::Violation { ring, what } => {
            error!(
                "ring {ring} is quarantined: {what}; its producer is started again on a fresh one"
            );
            kill_producer(node, children, ring);
            // Before the producer is started again, so that it gets the fresh one.
            node.replace_ring(ring);
            hand_on(node, children, ring);
        }
        News::Feed { name, said } => {
            let feeds = feeds.iter_mut().filter(|feed| feed.name == name);
            feeds.for_each(|feed| feed.hear(said));
        }
        News::Opened(name) => {
            let children = children.iter_mut().filter(|child| child.name == name);
            children.for_each(|child| child.hand(Part::Feed));
        }
        News::Reload(done) => {
            // Whoever asked may be gone.
            let _ = done.send(reload(node, children));
        }
        News::Ended { .. } => {}
    }
}

/// Reads certificates and lists of devices again and hands them to their ingests, which judge the lists.
fn reload(node: &Node, children: &mut [Child]) -> ReadAgain {
    let certificates = node.renew_certificates();
    for read in certificates.iter().filter(|read| read.outcome.is_ok()) {
        let children = children.iter_mut().filter(|child| child.name == read.name);
        children.for_each(|child| child.hand(Part::Certificates));
    }
    let lists = node.read_device_lists();
    for list in lists.iter().filter(|list| list.outcome.is_ok()) {
        let children = children.iter_mut().filter(|child| child.name == list.name);
        children.for_each(|child| child.hand(Part::Devices));
    }
    ReadAgain {
        certificates,
        lists,
    }
}

/// Tells the ingest of a sensor where to record.
fn hand_capture(children: &mut [Child], sensor: &str) {
    let ingests = children
        .iter_mut()
        .filter(|child| child.name.role == Role::Ingest);
    let ingests = ingests.filter(|child| child.name.instance == sensor);
    ingests.for_each(|child| child.hand(Part::Capture));
}

/// Lets the classifier start if it still waits; whether it did.
fn release_classifier(children: &mut [Child]) -> bool {
    let mut classifier = children
        .iter_mut()
        .filter(|child| child.name.role == Role::Classifier);
    classifier.any(Child::release)
}

/// Kills the producer of a replaced ring; it is started again on the new one.
fn kill_producer(node: &Node, children: &mut [Child], number: u32) {
    let producer = node.ring(number).map(|ring| &ring.producer);
    let producer = children
        .iter_mut()
        .filter(|child| Some(&child.name) == producer);
    producer.for_each(Child::kill);
}

/// Gives the consumer of a replaced ring the new one. The classifier takes a sensor's ring while it runs; a ring
/// between two roles is taken by starting its consumer again.
fn hand_on(node: &Node, children: &mut [Child], number: u32) {
    let Some(ring) = node.ring(number) else {
        return;
    };
    let consumer = children
        .iter_mut()
        .filter(|child| child.name == ring.consumer);
    match ring.purpose {
        Purpose::Sensor => consumer.for_each(|child| child.hand(Part::Ring(number))),
        Purpose::Track | Purpose::Alarm | Purpose::Trace => consumer.for_each(Child::kill),
    }
}

/// Opens nothing any more; what is open stays so until the ingests are done with it. Programs are asked to end, and the
/// ingests read on until they have, within [`feed::STOP_WAIT`].
async fn stop_feeds(
    node: &Rc<Node>,
    children: &mut [Child],
    feeds: &mut [FeedKeeper],
    news: &mut mpsc::Receiver<News>,
    began: Instant,
) {
    let programs: Vec<_> = feeds.iter_mut().filter_map(FeedKeeper::stop).collect();
    let ended = async {
        for program in programs {
            // One that failed has ended, too.
            let _ = program.await;
        }
    };
    let ended = timeout(feed::STOP_WAIT, ended);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => {
                if ended.is_err() {
                    warn!("a program's last words could not be read in time");
                    feeds.iter_mut().for_each(FeedKeeper::kill);
                }
                return;
            }
            Some(what) = news.recv() => hear(node, children, feeds, what, began),
        }
    }
}

/// Stops the node in the order of [`shutdown::STAGES`] and returns what was left behind.
async fn drain(
    node: &Node,
    children: &mut [Child],
    news: &mut mpsc::Receiver<News>,
) -> Vec<String> {
    let mut left = Vec::new();
    for stage in shutdown::STAGES {
        for child in children
            .iter_mut()
            .filter(|child| stage.told.contains(&child.name.role))
        {
            child.drain();
        }
        if timeout(stage.grace, ended(node, stage.awaited, news, &mut left))
            .await
            .is_err()
        {
            for child in children
                .iter_mut()
                .filter(|child| node.is_left(stage.awaited, &child.name))
            {
                warn!(
                    "{} did not drain within {:?}: killed",
                    child.name, stage.grace
                );
                child.kill();
            }
            // A killed process ends; this only bounds the wait for the news of it.
            let _ = timeout(KILL_WAIT, ended(node, stage.awaited, news, &mut left)).await;
        }
        node.close_rings_of(stage.awaited);
    }
    left
}

/// Returns once no process of these roles runs; whoever held something is noted.
async fn ended(
    node: &Node,
    roles: &[Role],
    news: &mut mpsc::Receiver<News>,
    left: &mut Vec<String>,
) {
    while node.processes().any(|name| node.is_left(roles, name)) {
        if let Some(News::Ended { name, exit }) = news.recv().await
            && exit != Exit::Code(exit::OK)
        {
            left.push(format!("what {name} held ({exit})"));
        }
    }
}

/// What a signal asks for.
enum Ask {
    Stop(&'static str),
    Report,
    Reload,
}

/// The signals that mean something to a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.terminate.recv() => Ask::Stop("TERM"),
            _ = self.interrupt.recv() => Ask::Stop("INT"),
            _ = self.hangup.recv() => Ask::Reload,
            _ = self.user1.recv() => Ask::Report,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Ask::Stop(_)) {}
    }
}
