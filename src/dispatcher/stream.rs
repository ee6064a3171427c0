//! One subscriber's WebSocket: news out as it comes, a ping when it is quiet, a goodbye at the end.
//!
//! Everything that waits for the subscriber goes out in one write. A subscriber that does not take it holds up only
//! its own task; the connection itself gives up on it ([`super::server`]).

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::feed::{Subscriber, Wake};

/// Quiet time after which a subscriber is pinged, so that one that vanished is noticed.
const PING_AFTER: Duration = Duration::from_secs(20);

/// Time for the other side's close, so that what was written before is not lost to a reset.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Said before a drain.
const CLOSING: Utf8Bytes = Utf8Bytes::from_static("{\"type\":\"closing\"}");

/// Serves one subscriber until either side has enough.
pub async fn serve(mut socket: WebSocket, mut subscriber: Subscriber) {
    // Why it ended is no news: the other side went away, or said something that it should not.
    let _ = push(&mut socket, &mut subscriber).await;
}

async fn push(socket: &mut WebSocket, subscriber: &mut Subscriber) -> Result<(), axum::Error> {
    let mut messages: Vec<Bytes> = Vec::new();
    let mut ping_at = Instant::now() + PING_AFTER;
    let mut told = false;
    loop {
        // Before taking: what was pushed before the end was said is then taken after it was seen.
        let wake = subscriber.wake();
        subscriber.take(&mut messages);
        if wake >= Wake::Closing && !std::mem::replace(&mut told, true) {
            socket.feed(Message::Text(CLOSING)).await?;
            socket.flush().await?;
        }
        if !messages.is_empty() {
            for message in messages.drain(..) {
                let text = Utf8Bytes::try_from(message).map_err(axum::Error::new)?;
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await?;
            ping_at = Instant::now() + PING_AFTER;
            continue;
        }
        if wake == Wake::Ended {
            return close(socket, close_code::AWAY, "the dispatcher ends").await;
        }
        tokio::select! {
            () = subscriber.changed() => {}
            heard = socket.recv() => match heard {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                // Subscribers only listen; who talks could keep this thread from everybody else.
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    return close(socket, close_code::UNSUPPORTED, "subscribers only listen").await;
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Err(error)) => return Err(error),
            },
            () = sleep_until(ping_at) => {
                socket.send(Message::Ping(Bytes::new())).await?;
                ping_at = Instant::now() + PING_AFTER;
            }
        }
    }
}

/// Closes from this side.
async fn close(socket: &mut WebSocket, code: u16, why: &'static str) -> Result<(), axum::Error> {
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(why),
    };
    socket.send(Message::Close(Some(frame))).await?;
    let answer = async { while let Some(Ok(_)) = socket.recv().await {} };
    // Without an answer the connection just ends.
    let _ = timeout(CLOSE_MAX, answer).await;
    Ok(())
}
