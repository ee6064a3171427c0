//! The listening side: accepts connections within limits and gives each to hyper.
//!
//! Limits: connections at a time (further ones wait in the kernel's backlog), time for a request's head, and time
//! for which a client may take nothing of what it is sent. The last holds for every answer, the stream included.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::stats::{DispatcherMetric, Stats};

/// Time for the head of a request, and for which a connection may be idle between requests.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after a failed accept: what failed (descriptors, memory) needs time to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much the server lets clients have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// A client that takes nothing for this long is cut off.
    pub stalled: Duration,
}

/// Accepts until dropped. Connections live on in tasks of their own.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stats: Stats<DispatcherMetric>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = Connection::new(stream, limits.stalled, permit, stats.clone());
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_MAX)
                        .max_buf_size(HEAD_BYTES_MAX)
                        .serve_connection(TokioIo::new(connection), service)
                        .with_upgrades()
                        .await;
                });
            }
            Err(error) => {
                warn!("cannot accept connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A socket that fails when the other side takes nothing for too long, and holds its place among the connections.
struct Connection {
    stream: TcpStream,
    stalled: Duration,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    stats: Stats<DispatcherMetric>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        stream: TcpStream,
        stalled: Duration,
        permit: OwnedSemaphorePermit,
        stats: Stats<DispatcherMetric>,
    ) -> Connection {
        // A fix must not wait for the acknowledgement of the one before it. Neither option can fail on a TCP socket
        // that is still there, and one that is not is noticed at the first write.
        let _ = stream.set_nodelay(true);
        // For who vanished with everything still in the kernel's buffers; later than our own deadline, which counts.
        let vanished_ms = u32::try_from(2 * stalled.as_millis()).unwrap_or(u32::MAX);
        let _ = setsockopt(&stream.as_fd(), sockopt::TcpUserTimeout, &vanished_ms);
        Connection {
            stream,
            stalled,
            deadline: None,
            stats,
            _permit: permit,
        }
    }

    /// Passes a finished write on; while it waits, watches the deadline.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = &written {
            self.deadline = None;
            // The kernel gave up first: a thread that has much to do looks at its timers late.
            if matches!(result, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                self.stats.add(DispatcherMetric::SubscribersCutOff, 1);
            }
            return written;
        }
        let stalled = self.stalled;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(stalled)));
        ready!(deadline.as_mut().poll(context));
        self.stats.add(DispatcherMetric::SubscribersCutOff, 1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Whether only this machine can reach `address`.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
