//! One of a crowd: connects, does what its kind does until it is closed, and comes again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::rubbish::{Rubbish, Then};
use super::{Counts, Kind, Shared};
use crate::jt808::{self, Answer, Edition, Reader, Terminal};
use crate::random::Random;
use crate::report::Report;

/// A connection that takes longer to come about counts as refused.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause after a connection that did not come about, and of an idle device that was closed.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often a flood sends what is due.
const TICK: Duration = Duration::from_millis(20);
/// What a flood that was not read makes up for at once; the rest is never sent.
const BURST: Duration = Duration::from_millis(100);
/// Bytes of a body that takes a slow sender many minutes.
const SLOW_BODY_BYTES: usize = 1_000;
/// Pause between two pieces of rubbish: a line of 3 Mbit/s, not the machine's memory.
const PIECE_PAUSE: Duration = Duration::from_millis(10);
/// Bytes that the kernel is asked to hold for each connection: rubbish waits with its sender, not in the memory of a
/// machine that both share.
const SEND_BYTES: u32 = 16 * 1024;
/// Bytes taken from a socket at a time.
const READ_BYTES: usize = 2 * 1024;

/// The other side, or the network, ended the connection.
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Gone {
        Gone
    }
}

/// Lives until the task is dropped; it first waits `after`.
pub(super) async fn live(shared: Arc<Shared>, kind: Kind, index: u32, after: Duration) {
    sleep(after).await;
    let number = u64::from(shared.options.before(kind) + index);
    let mut member = Member {
        counts: shared.counts(kind),
        random: Random::part(shared.options.seed, number),
        terminal: Terminal {
            edition: Edition::Y2013,
            phone: shared.options.first_phone + number,
        },
        shared: &shared,
    };
    loop {
        let Some(visit) = member.connect().await else {
            sleep(AGAIN_AFTER).await;
            continue;
        };
        let end = match kind {
            Kind::Idle => member.idle(&visit).await,
            Kind::Garbage => member.garbage(&visit).await,
            Kind::Slow => member.slow(&visit).await,
            Kind::Flood => member.flood(&visit).await,
        };
        if end.is_err() {
            add(&visit.counts.closed_by_peer, 1);
        }
        drop(visit);
        match kind {
            Kind::Idle => sleep(AGAIN_AFTER).await,
            // The others come again as fast as they are let.
            _ => tokio::task::yield_now().await,
        }
    }
}

fn add(counter: &std::sync::atomic::AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

struct Member<'a> {
    shared: &'a Shared,
    counts: &'a Counts,
    random: Random,
    terminal: Terminal,
}

impl<'a> Member<'a> {
    async fn connect(&mut self) -> Option<Visit<'a>> {
        let _permit = self.shared.connecting.acquire().await;
        let connected = timeout(CONNECT, self.attempt()).await;
        let Ok(Ok(stream)) = connected else {
            add(&self.counts.refused, 1);
            return None;
        };
        add(&self.counts.connected, 1);
        add(&self.counts.open, 1);
        Some(Visit {
            stream,
            counts: self.counts,
        })
    }

    async fn attempt(&mut self) -> io::Result<TcpStream> {
        let options = &self.shared.options;
        let socket = match options.target {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_send_buffer_size(SEND_BYTES)?;
        if let Some(sources) = &options.sources {
            let source = sources.pick(&mut self.random);
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        let stream = socket.connect(options.target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Logs in as a terminal does, then says nothing and answers nothing.
    async fn idle(&mut self, visit: &Visit<'_>) -> Result<(), Gone> {
        let mut reader = Reader::default();
        let registration = self.terminal.registration();
        self.say(visit, jt808::REGISTER, 1, &registration).await?;
        let code = visit
            .hear(&mut reader, |answer| match answer {
                Answer::Registered { code, .. } => code.ok(),
                _ => None,
            })
            .await?;
        let authentication = self.terminal.authentication(&code);
        self.say(visit, jt808::AUTHENTICATE, 2, &authentication)
            .await?;
        let done = |answer| matches!(answer, Answer::General { result: 0, .. }).then_some(());
        visit.hear(&mut reader, done).await?;
        add(&self.counts.logged_in, 1);
        drop(reader);
        Err(visit.last().await)
    }

    async fn garbage(&mut self, visit: &Visit<'_>) -> Result<(), Gone> {
        let mut rubbish = Rubbish::any(&mut self.random, self.terminal);
        loop {
            visit.write(&rubbish.bytes).await?;
            match rubbish.then {
                Then::Noise | Then::Tail => rubbish.next(&mut self.random),
                Then::Wait => return Err(visit.last().await),
                Then::Leave => return Ok(()),
            }
            sleep(PIECE_PAUSE).await;
        }
    }

    /// A byte now and then of a message that is sound as far as it goes, and never all of it.
    async fn slow(&mut self, visit: &Visit<'_>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        let body = [b'0'; SLOW_BODY_BYTES];
        self.terminal
            .message(&mut bytes, jt808::AUTHENTICATE, 1, &body);
        bytes.pop();
        for byte in bytes {
            visit.write(&[byte]).await?;
            if let Ok(gone) = timeout(self.shared.options.slow_every, visit.last()).await {
                return Err(gone);
            }
        }
        Err(visit.last().await)
    }

    /// Sound locations at a steady rate, whether they are answered or not; one second of driving between two.
    async fn flood(&mut self, visit: &Visit<'_>) -> Result<(), Gone> {
        let (rate, began) = (self.shared.options.rate, Instant::now());
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now_s.map_or(0, |since| since.as_secs() as u32);
        // Long enough ago that no report is ahead of its time.
        let history_s = rate * self.shared.options.length.as_secs_f64();
        let mut report = Report {
            time_s: now_s.saturating_sub(history_s as u32),
            lat_e6: 48_137_154,
            lon_e6: 11_576_124 + self.random.below(100_000) as i32,
            satellites: 9,
            ..Report::default()
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let burst = (rate * BURST.as_secs_f64()).ceil() as u64;
        let (mut made, mut serial) = (0_u64, 0_u16);
        let (mut bytes, mut body) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                gone = visit.last() => return Err(gone),
            }
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            made = made.max(due.saturating_sub(burst));
            bytes.clear();
            for _ in made..due {
                report.time_s += 1;
                serial = serial.wrapping_add(1);
                body.clear();
                jt808::location(&report, &mut body);
                self.terminal
                    .message(&mut bytes, jt808::LOCATION, serial, &body);
            }
            // Its answers are read: it is no worse than fast.
            tokio::select! {
                written = visit.write(&bytes) => written?,
                gone = visit.last() => return Err(gone),
            }
            add(&self.counts.messages, (due - made) as usize);
            made = due;
        }
    }

    async fn say(&self, visit: &Visit<'_>, id: u16, serial: u16, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.terminal.message(&mut bytes, id, serial, body);
        visit.write(&bytes).await
    }
}

/// A connection, which counts what goes over it.
struct Visit<'a> {
    stream: TcpStream,
    counts: &'a Counts,
}

impl Visit<'_> {
    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    add(&self.counts.sent_bytes, count);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands on what comes, until `found` has found what it waits for.
    async fn hear<T>(
        &self,
        reader: &mut Reader,
        mut found: impl FnMut(Answer) -> Option<T>,
    ) -> Result<T, Gone> {
        let mut what = None;
        while what.is_none() {
            self.stream.readable().await?;
            // Not held across a wait: ten thousand connections would hold it ten thousand times.
            let mut room = [0; READ_BYTES];
            let Some(count) = self.take(&mut room)? else {
                continue;
            };
            let mut each = |answer| what = what.take().or_else(|| found(answer));
            reader.read(&room[..count], &mut each).map_err(|_| Gone)?;
        }
        what.ok_or(Gone)
    }

    /// Drops what comes, until the other side ends the connection.
    async fn last(&self) -> Gone {
        loop {
            if self.stream.readable().await.is_err() {
                return Gone;
            }
            let mut room = [0; READ_BYTES];
            if let Err(gone) = self.take(&mut room) {
                return gone;
            }
        }
    }

    fn take(&self, room: &mut [u8]) -> Result<Option<usize>, Gone> {
        match self.stream.try_read(room) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                add(&self.counts.received_bytes, count);
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Gone),
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}
