//! A small MQTT 5 broker for demos and fault tests, on rumqttc's public codec. It can misbehave by [`script`].
//!
//! It keeps everything in memory, forgets a session with its connection, speaks QoS 0 and 1, and knows no users and no
//! encryption: nothing to run for real. A PUBACK means "queued for every subscriber", or says 0x10 when there is none
//! and 0x97 when a queue is full, in which case nobody got the message.

mod acks;
mod connection;
mod exchange;
pub mod script;
#[cfg(test)]
mod tests;
mod topic;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};

use exchange::Exchange;
use script::{Rule, Script, ScriptError};

/// Connections at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 1_000;

/// What to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Address and port; port 0 takes a free one. Empty: a free port of 127.0.0.1.
    pub listen: String,
    /// How to misbehave; empty: not at all.
    pub script: Vec<Rule>,
}

/// A broker that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken or no address.
    #[error("cannot listen on {address:?}: {cause}")]
    Listen {
        /// As given.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// The script's file cannot be read.
    #[error("cannot open script {path:?}: {cause}")]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The script makes no sense.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// Standard output or signals are not to be had.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

/// What happened, counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Messages that clients published, those that the script refused, closed or froze at included.
    pub published: AtomicU64,
    /// Acknowledgements written.
    pub acknowledged: AtomicU64,
    /// Copies queued for subscribers.
    pub queued: AtomicU64,
    /// Copies written to subscribers.
    pub sent: AtomicU64,
    /// Copies that subscribers acknowledged.
    pub confirmed: AtomicU64,
    /// Messages that nobody subscribed to.
    pub unmatched: AtomicU64,
    /// Messages refused because a queue was full.
    pub refused_full: AtomicU64,
    /// Clients that published beyond the Receive Maximum.
    pub window_exceeded: AtomicU64,
    /// Clients that were silent for too long.
    pub timed_out: AtomicU64,
    /// Connections that the script froze.
    pub frozen: AtomicU64,
    /// Wills published when a connection ended.
    pub wills: AtomicU64,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    exchange: Mutex<Exchange>,
    script: Script,
    counters: Arc<Counters>,
}

impl Shared {
    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running broker; it ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What happened so far.
    pub counters: Arc<Counters>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Handle {
    /// `mqtt://` URL of the broker.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.addr)
    }

    /// How often each rule of the script fired.
    pub fn fired(&self) -> Vec<u64> {
        self.shared.script.fired()
    }

    /// Closes the port and all connections, as a killed broker would. Its memory is gone.
    pub async fn stop(mut self) {
        self.task.abort();
        // Only the abort can end it, so the answer says nothing.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a broker on the current runtime.
///
/// # Errors
/// [`BrokerError::Listen`] when the address cannot be had.
pub async fn start(options: Options) -> Result<Handle, BrokerError> {
    let address = match options.listen.as_str() {
        "" => "127.0.0.1:0".to_owned(),
        given => given.to_owned(),
    };
    let listener = match TcpListener::bind(&address).await {
        Ok(listener) => listener,
        Err(cause) => return Err(BrokerError::Listen { address, cause }),
    };
    let addr = listener.local_addr()?;
    let counters = Arc::new(Counters::default());
    let shared = Arc::new(Shared {
        exchange: Mutex::default(),
        script: Script::new(options.script),
        counters: Arc::clone(&counters),
    });
    let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
    Ok(Handle {
        addr,
        counters,
        shared,
        task,
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task: then all connections end.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors: those that end make room.
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                };
                if connections.len() < CONNECTIONS_MAX && stream.set_nodelay(true).is_ok() {
                    connections.spawn(connection::serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Runs a broker until SIGTERM or SIGINT; says where it listens in one JSON line on standard output.
///
/// # Errors
/// [`BrokerError`] when the address, standard output or signals cannot be had.
pub async fn run(options: Options) -> Result<(), BrokerError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let handle = start(options).await?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!({ "broker": handle.url() }))?;
    stdout.flush()?;
    drop(stdout);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    handle.stop().await;
    Ok(())
}

/// A small MQTT 5 broker that can misbehave, for demos and fault tests only: no users, no encryption, no disk.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port; port 0 takes a free one. The address in use is printed as one JSON line.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// File with a JSON list of faults, such as [{"fault":"drop_ack","every":7}]. Faults: {"delay_ack":{"ms":N}},
    /// "drop_ack", "wrong_packet_id", {"reorder_acks":{"depth":N}}, {"reason":{"code":N}}, "close", "freeze",
    /// {"receive_maximum":{"value":N}}; beside each: every, after, times, client.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// The `broker` verb.
///
/// # Errors
/// [`BrokerError`]: an unreadable script, an address that is taken.
pub async fn command(args: Args) -> Result<(), BrokerError> {
    let script = match args.script {
        None => Vec::new(),
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => script::parse(&text)?,
            Err(cause) => return Err(BrokerError::Open { path, cause }),
        },
    };
    let listen = args.listen;
    run(Options { listen, script }).await
}

/// The reason of a PUBACK that is no success.
fn ack_reason(code: u8) -> Option<PubAckReason> {
    Some(match code {
        0x10 => PubAckReason::NoMatchingSubscribers,
        0x80 => PubAckReason::UnspecifiedError,
        0x83 => PubAckReason::ImplementationSpecificError,
        0x87 => PubAckReason::NotAuthorized,
        0x90 => PubAckReason::TopicNameInvalid,
        0x91 => PubAckReason::PacketIdentifierInUse,
        0x97 => PubAckReason::QuotaExceeded,
        0x99 => PubAckReason::PayloadFormatInvalid,
        _ => return None,
    })
}

impl Counters {
    /// The value of a counter now.
    pub fn read(counter: &AtomicU64) -> u64 {
        // Relaxed: a count is read for people and tests, never to order memory.
        counter.load(Ordering::Relaxed)
    }
}
