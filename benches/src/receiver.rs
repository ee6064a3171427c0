//! The subscriber at the other end of a hop: notes how long each message took from its device's socket to here.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use device_sim::broker;
use device_sim::subscriber::{Seen, stream};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{self, Nanos, Sent};
use crate::wire::jt808::Jt808;
use crate::wire::mqtt;

/// A subscription that is not confirmed by then never will be.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);

/// Positions between the socket's reader and the one that notes them.
const SEEN_MAX: usize = 16_384;

/// A message that came through.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it was sent.
    pub sent: Nanos,
    /// How long it took.
    pub took: Nanos,
}

/// What came through so far.
#[derive(Debug, Default)]
pub struct Arrivals {
    list: Mutex<Vec<Arrival>>,
    /// Messages that were replaced by later ones of the same device.
    pub conflated: AtomicU64,
}

impl Arrivals {
    fn note(&self, sent: Option<Nanos>, at: Nanos) {
        if let Some(sent) = sent {
            let took = at.saturating_sub(sent);
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(Arrival { sent, took });
        }
    }

    /// Takes out all that came.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running subscriber; it ends when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// What came through.
    pub arrivals: Arc<Arrivals>,
    end: End,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum End {
    Socket(TcpStream),
    Task(Option<oneshot::Sender<()>>),
}

impl Drop for Receiver {
    fn drop(&mut self) {
        match &mut self.end {
            // One that is closed already ended its thread.
            End::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            End::Task(end) => drop(end.take()),
        }
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Follows Ringway's live stream.
///
/// # Errors
/// When the stream is not open in time.
pub fn websocket(address: SocketAddr, wire: Jt808, sent: Arc<Sent>) -> io::Result<Receiver> {
    let arrivals = Arc::new(Arrivals::default());
    let (end, ended) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let noted = Arc::clone(&arrivals);
    let url = format!("ws://{address}/v1/stream");
    let runtime = runtime()?;
    let thread = thread::spawn(move || {
        runtime.block_on(async {
            let (tx, mut rx) = mpsc::channel(SEEN_MAX);
            let note = async {
                while let Some(seen) = rx.recv().await {
                    take(seen, &wire, &sent, &noted, &ready);
                }
            };
            tokio::select! {
                () = stream(url, tx) => {}
                () = note => {}
                _ = ended => {}
            }
        });
    });
    let receiver = Receiver {
        arrivals,
        end: End::Task(Some(end)),
        thread: Some(thread),
    };
    let opened = is_ready.recv_timeout(SUBSCRIBED_WITHIN);
    opened.map_err(|_| io::Error::other("the live stream does not open"))?;
    Ok(receiver)
}

fn take(
    seen: Seen,
    wire: &Jt808,
    sent: &Sent,
    noted: &Arrivals,
    ready: &std::sync::mpsc::Sender<()>,
) {
    match seen {
        Seen::Track {
            device,
            time_ms,
            conflated,
            snapshot: false,
            at,
            ..
        } => {
            noted.conflated.fetch_add(conflated, Ordering::Relaxed);
            let device = Jt808::device(&device);
            let message = device.zip(wire.number(time_ms));
            let time = message.and_then(|(device, number)| sent.time(device, number));
            noted.note(time, clock::at(at));
        }
        // After the first one nobody listens.
        Seen::Connected => drop(ready.send(())),
        Seen::Closed => eprintln!("the live stream was closed"),
        Seen::Unreadable { what } => eprintln!("the live stream has {what}"),
        Seen::Track { .. } | Seen::Alarm { .. } | Seen::StreamAlarm { .. } => {}
    }
}

/// Subscribes to everything at an MQTT broker.
///
/// # Errors
/// When it does not let us.
pub fn mqtt(address: SocketAddr, sent: Arc<Sent>) -> io::Result<Receiver> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SUBSCRIBED_WITHIN))?;
    let mut hello = Vec::new();
    mqtt::connect("subscriber", &mut hello);
    mqtt::subscribe_all(&mut hello);
    socket.write_all(&hello)?;
    socket.read_exact(&mut [0; 4 + 5])?;
    socket.set_read_timeout(None)?;
    let arrivals = Arc::new(Arrivals::default());
    let noted = Arc::clone(&arrivals);
    let mut reader = socket.try_clone()?;
    let thread = thread::spawn(move || {
        let (mut buffer, mut held) = (vec![0; 64 * 1024], 0);
        while let Ok(read @ 1..) = reader.read(&mut buffer[held..]) {
            let at = clock::now();
            let mut rest = &buffer[..held + read];
            while let Some((device, number, after)) = mqtt::next_message(rest) {
                noted.note(sent.time(device, number), at);
                rest = after;
            }
            let used = held + read - rest.len();
            held = rest.len();
            buffer.copy_within(used..used + held, 0);
        }
    });
    Ok(Receiver {
        arrivals,
        end: End::Socket(socket),
        thread: Some(thread),
    })
}

/// The broker for Ringway's uplink, in a thread of this program; it ends when this is dropped.
#[derive(Debug)]
pub struct Broker {
    /// `mqtt://` URL.
    pub url: String,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a broker.
///
/// # Errors
/// When it gets no port.
pub fn broker() -> io::Result<Broker> {
    let runtime = runtime()?;
    let started = runtime.block_on(broker::start(broker::Options::default()));
    let handle = started.map_err(io::Error::other)?;
    let (end, ended) = oneshot::channel::<()>();
    let url = handle.url();
    let thread = thread::spawn(move || {
        runtime.block_on(async {
            // An end of the other side is the signal.
            let _ = ended.await;
            handle.stop().await;
        });
    });
    Ok(Broker {
        url,
        end: Some(end),
        thread: Some(thread),
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
