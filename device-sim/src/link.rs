//! A device's connection: carries out what its session says, over TCP or UDP, for as long as the run lasts.
//!
//! Promises that the ledger knows a report before its bytes leave. Sometimes a message is cut into two segments with
//! a pause between, as mobile networks do. Over UDP each message is a datagram of its own.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::crew::{Carrier, Target};
use crate::device::HangUp;
use crate::fleet::Shared;
use crate::teltonika;
use crate::tls::{self, Trust};
use crate::unit::Unit;

/// A connection that takes longer to come about is given up.
const CONNECT: Duration = Duration::from_secs(5);
/// One write in this many is cut in two.
const SPLIT_ONE_IN: usize = 64;
/// Shortest and longest pause between two halves, ms.
const SPLIT_MS: (f64, f64) = (2.0, 20.0);
/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 4_096;

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The server closed it, or the network did.
    Gone,
    /// The session gave up.
    HangUp(HangUp),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Gone
    }
}

impl From<HangUp> for End {
    fn from(reason: HangUp) -> End {
        End::HangUp(reason)
    }
}

/// Connects a device, again and again, until the task is dropped. It first waits `after`.
pub(crate) async fn serve(shared: Arc<Shared>, index: u32, after: Duration) {
    sleep(after).await;
    let mut unit = Unit::new(&shared, index);
    let carrier = shared.crew.protocol(index).carrier();
    loop {
        let connected = {
            let _permit = shared.connecting.acquire().await;
            let trust = shared.trust.as_ref();
            timeout(CONNECT, Wire::connect(carrier, shared.target, trust)).await
        };
        if let Ok(Ok(wire)) = connected {
            let mut link = Link {
                wire,
                shared: &shared,
                unit: &mut unit,
                hold: None,
            };
            if let End::HangUp(reason) = link.run().await {
                shared.hung_up(reason);
            }
        }
        sleep(Duration::from_millis(unit.disconnected(&shared))).await;
    }
}

/// What a device is connected by.
enum Wire {
    Stream(TcpStream),
    Tls(Box<tls::Stream>),
    Datagrams(UdpSocket),
}

impl Wire {
    async fn connect(carrier: Carrier, target: Target, trust: Option<&Trust>) -> io::Result<Wire> {
        match (carrier, target.udp) {
            (Carrier::Tcp, _) => {
                let stream = TcpStream::connect(target.tcp).await?;
                stream.set_nodelay(true)?;
                Ok(match trust {
                    Some(trust) => Wire::Tls(Box::new(tls::Stream::connect(stream, trust).await?)),
                    None => Wire::Stream(stream),
                })
            }
            (Carrier::Udp, Some(target)) => {
                let any: IpAddr = match target {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(target).await?;
                Ok(Wire::Datagrams(socket))
            }
            (Carrier::Udp, None) => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Whether a message may be cut in two.
    fn cuts(&self) -> bool {
        matches!(self, Wire::Stream(_) | Wire::Tls(_))
    }

    /// Writes what it can take at once.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Stream(stream) => stream.try_write(bytes),
            Wire::Tls(stream) => stream.try_write(bytes),
            Wire::Datagrams(socket) => socket.try_send(&bytes[..teltonika::datagram_bytes(bytes)]),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Stream(stream) => Pin::new(stream).poll_read(cx, to),
            Wire::Tls(stream) => stream.poll_read(cx, to),
            Wire::Datagrams(socket) => socket.poll_recv(cx, to),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Stream(stream) => stream.poll_write_ready(cx),
            Wire::Tls(stream) => stream.poll_write_ready(cx),
            Wire::Datagrams(socket) => socket.poll_send_ready(cx),
        }
    }
}

struct Link<'a> {
    wire: Wire,
    shared: &'a Shared,
    unit: &'a mut Unit,
    /// The second half of a cut message must not leave before.
    hold: Option<Instant>,
}

impl Link<'_> {
    async fn run(&mut self) -> End {
        let mut timer = pin!(sleep(Duration::ZERO));
        self.unit.connected(self.shared);
        loop {
            match self.turn() {
                Ok(wake) if wake != timer.deadline() => timer.as_mut().reset(wake),
                Ok(_) => {}
                Err(end) => return end,
            }
            if let Err(end) = poll_fn(|context| self.wait(context, timer.as_mut())).await {
                return end;
            }
        }
    }

    /// Does what is due and says when to come back.
    fn turn(&mut self) -> Result<Instant, End> {
        let now = Instant::now();
        self.unit.work(self.shared, now)?;
        self.unit.enter(self.shared, now);
        self.write(now)?;
        let wake = self.unit.wake(self.shared, now);
        Ok(self.hold.map_or(wake, |hold| hold.min(wake)))
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        let halved = self.hold.is_some();
        if self.hold.is_some_and(|hold| now < hold) {
            return Ok(());
        }
        self.hold = None;
        let bytes = &mut self.unit.out.bytes;
        let mut end = bytes.len();
        if end > 1
            && !halved
            && self.wire.cuts()
            && self.shared.schedule.paced()
            && self.unit.random.one_in(SPLIT_ONE_IN)
        {
            end = 1 + self.unit.random.below(end - 1);
            let pause = self.unit.random.between(SPLIT_MS.0, SPLIT_MS.1);
            self.hold = Some(now + Duration::from_secs_f64(pause / 1e3));
        }
        let mut start = 0;
        while start < end {
            match self.wire.try_write(&bytes[start..end]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => start += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        bytes.drain(..start);
        if halved && bytes.is_empty() {
            self.unit.left(self.shared, now);
        }
        Ok(())
    }

    /// Waits until there is something to read, to write or to do; takes what there is to read.
    fn wait(&mut self, context: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Result<(), End>> {
        let mut woken = false;
        let mut room = [0; READ_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match self.wire.poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Poll::Ready(Err(End::Gone));
                }
                Poll::Ready(Ok(())) => self.unit.received(self.shared, buffer.filled())?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
            woken = true;
        }
        if self.hold.is_none() && !self.unit.out.bytes.is_empty() {
            woken |= self.wire.poll_write_ready(context).is_ready();
        }
        woken |= timer.poll(context).is_ready();
        match woken {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}
