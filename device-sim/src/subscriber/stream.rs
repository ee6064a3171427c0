//! The live stream, over WebSocket. Made to be cheap: ten thousand positions a second are a few percent of a core.

use std::borrow::Cow;
use std::time::Instant;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::{RECONNECT_AFTER, Seen};
use crate::report::Shown;

/// Characters of an unreadable message that are passed on.
const EXCERPT_CHARS_MAX: usize = 200;

/// A message of the stream, of any type: an enum by tag would be read into a tree first, which costs more than the
/// reading itself. Strings are borrowed wherever JSON needs no unescaping.
#[derive(Deserialize)]
struct StreamMessage<'a> {
    r#type: &'a str,
    #[serde(borrow, default)]
    tracks: Vec<Track<'a>>,
    alarm: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Track<'a> {
    #[serde(borrow)]
    device: Cow<'a, str>,
    time: &'a str,
    lat: Option<f64>,
    lon: Option<f64>,
    speed_mps: Option<f64>,
    course_deg: Option<f64>,
    #[serde(default)]
    conflated: u64,
}

/// Follows `ws://.../v1/stream` until the receiver of `tx` is gone.
pub async fn stream(url: String, tx: mpsc::Sender<Seen>) {
    loop {
        if let Ok((mut socket, _)) = connect_async(url.as_str()).await {
            if tx.send(Seen::Connected).await.is_err() {
                return;
            }
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else {
                    continue;
                };
                if read(&text, Instant::now(), &tx).await.is_err() {
                    return;
                }
            }
            if tx.send(Seen::Closed).await.is_err() {
                return;
            }
        }
        if tx.is_closed() {
            return;
        }
        sleep(RECONNECT_AFTER).await;
    }
}

/// Passes on what a message holds.
async fn read(
    text: &str,
    at: Instant,
    tx: &mpsc::Sender<Seen>,
) -> Result<(), mpsc::error::SendError<Seen>> {
    let message: StreamMessage = match serde_json::from_str(text) {
        Ok(message) => message,
        Err(error) => return tx.send(unreadable(text, &error.to_string())).await,
    };
    let snapshot = match (message.r#type, message.alarm) {
        ("snapshot", None) => true,
        ("tracks", None) => false,
        ("alarm", Some(alarm)) => return tx.send(Seen::StreamAlarm { alarm, at }).await,
        ("closing", None) => return Ok(()),
        _ => return tx.send(unreadable(text, "not a type of the stream")).await,
    };
    for track in message.tracks {
        let seen = match time_ms(track.time) {
            Some(time_ms) => Seen::Track {
                device: track.device.into_owned(),
                time_ms,
                shown: Shown {
                    lat: track.lat,
                    lon: track.lon,
                    speed_mps: track.speed_mps,
                    course_deg: track.course_deg,
                },
                conflated: track.conflated,
                snapshot,
                at,
            },
            None => unreadable(track.time, "this is no RFC 3339 time in UTC"),
        };
        tx.send(seen).await?;
    }
    Ok(())
}

fn unreadable(text: &str, reason: &str) -> Seen {
    let excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    let what = format!("{excerpt:?}: {reason}");
    Seen::Unreadable { what }
}

/// Milliseconds since 1970 of `2026-01-31T23:59:59.123Z`; the fraction may be absent.
fn time_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, digits: usize| {
        let part = bytes.get(from..from + digits)?;
        part.iter().try_fold(0i64, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i64::from(byte - b'0'))
        })
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|&(at, mark)| bytes.get(at) != Some(&mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let millis = match bytes.get(19..)? {
        b"Z" => 0,
        [b'.', _, _, _, b'Z'] => number(20, 3)?,
        _ => return None,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in years that begin in March so that the leap day is the last.
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = 365 * shifted_year + leap_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::SinkExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tokio_tungstenite::WebSocketStream;

    use super::*;

    #[test]
    fn times_are_read_as_the_calendar_has_them() {
        // Checked with date -u -d TIME +%s.
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696_000),
            ("2024-03-01T00:00:00.001Z", 1_709_251_200_001),
            ("2026-12-31T23:59:59.999Z", 1_798_761_599_999),
        ] {
            assert_eq!(time_ms(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "2024-03-01",
            "2024-13-01T00:00:00Z",
            "2024-03-01T00:00:00+01:00",
        ] {
            assert_eq!(time_ms(text), None, "{text}");
        }
    }

    async fn accept(listener: &TcpListener) -> WebSocketStream<tokio::net::TcpStream> {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    }

    #[tokio::test]
    async fn a_stream_is_read_and_joined_again_when_it_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/stream", listener.local_addr().unwrap());
        let (tx, mut rx) = mpsc::channel(16);
        let subscriber = tokio::spawn(stream(url, tx));
        let mut socket = accept(&listener).await;
        for text in [
            r#"{"type":"snapshot","tracks":[{"device":"a\u0062","time":"1970-01-01T00:00:01.000Z","lat":1}],"more":false}"#,
            r#"{"type":"tracks","tracks":[{"device":"x","sensor":"s","time":"1970-01-01T00:00:02.500Z","conflated":3}]}"#,
            r#"{"type":"alarm","alarm":{"id":"00"}}"#,
            r#"{"type":"tracks","tracks":[{"device":"x"}]}"#,
            r#"{"type":"closing"}"#,
        ] {
            socket.send(Message::text(text)).await.unwrap();
        }
        drop(socket);
        let mut next = async || timeout(Duration::from_secs(20), rx.recv()).await.unwrap();
        assert!(matches!(next().await, Some(Seen::Connected)));
        assert!(
            matches!(next().await, Some(Seen::Track { device, time_ms: 1000, conflated: 0, snapshot: true, .. }) if device == "ab")
        );
        assert!(
            matches!(next().await, Some(Seen::Track { device, time_ms: 2500, conflated: 3, snapshot: false, .. }) if device == "x")
        );
        assert!(
            matches!(next().await, Some(Seen::StreamAlarm { alarm, .. }) if alarm["id"] == "00")
        );
        assert!(matches!(next().await, Some(Seen::Unreadable { what }) if what.contains("time")));
        assert!(matches!(next().await, Some(Seen::Closed)));
        let _again = accept(&listener).await;
        assert!(matches!(next().await, Some(Seen::Connected)));
        subscriber.abort();
    }
}
