//! A recorded NMEA log, sent over TCP in its own time, faster, or as fast as it goes.
//!
//! Bytes go out as they were recorded, damage included; only the comments of a collection (`#`) stay behind. What a
//! sentence says is read for its time of day alone.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

const DAY_MS: i64 = 86_400_000;
/// A longer gap in the log is not waited for, nor a step back, ms.
const GAP_MS_MAX: i64 = 3_600_000;
/// How long the other side may take to close after the end.
const CLOSE: Duration = Duration::from_secs(2);

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Replayed {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Seconds that the log covers.
    pub log_seconds: f64,
}

/// Sends the log `file` to `target`, `speed` times faster than it was recorded; 0: without waiting.
///
/// # Errors
/// When the file cannot be read, or the connection fails before its end.
pub async fn replay(file: &Path, target: SocketAddr, speed: f64) -> io::Result<Replayed> {
    let log = std::fs::read(file)?;
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let started = Instant::now();
    let (mut clock, mut sent) = (LogClock::default(), Replayed::default());
    let mut epoch = Vec::new();
    for line in log.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b"#") {
            continue;
        }
        let before = clock.elapsed_ms;
        clock.read(line);
        if clock.elapsed_ms > before && speed > 0.0 {
            // What came before belongs to the epoch that is over.
            stream.write_all(&epoch).await?;
            epoch.clear();
            let after = Duration::from_secs_f64(clock.elapsed_ms as f64 / 1e3 / speed);
            sleep_until(started + after).await;
        }
        epoch.extend_from_slice(line);
        sent.lines += 1;
        sent.bytes += line.len() as u64;
    }
    stream.write_all(&epoch).await?;
    stream.shutdown().await?;
    // Closing at once could reset the connection under what is still on its way.
    let mut rest = Vec::new();
    let _ = timeout(CLOSE, stream.read_to_end(&mut rest)).await;
    sent.log_seconds = clock.elapsed_ms as f64 / 1e3;
    Ok(sent)
}

/// How far a log is in its own time.
#[derive(Debug, Default)]
struct LogClock {
    last_ms: Option<i64>,
    elapsed_ms: i64,
}

impl LogClock {
    fn read(&mut self, line: &[u8]) {
        let Some(now_ms) = time_of_day_ms(line) else {
            return;
        };
        if let Some(last_ms) = self.last_ms {
            // Across midnight the time of day starts anew.
            let step = (now_ms - last_ms).rem_euclid(DAY_MS);
            if step <= GAP_MS_MAX {
                self.elapsed_ms += step;
            }
        }
        self.last_ms = Some(now_ms);
    }
}

/// The time of day that a sentence states, ms.
fn time_of_day_ms(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line).ok()?;
    let mut fields = text.strip_prefix('$')?.split([',', '*']);
    let field = match fields.next()?.get(2..)? {
        "RMC" | "GGA" | "GNS" | "ZDA" | "GST" => fields.next()?,
        "GLL" => fields.nth(4)?,
        _ => return None,
    };
    let number = |range: std::ops::Range<usize>| field.get(range)?.parse::<i64>().ok();
    let whole = (number(0..2)? * 60 + number(2..4)?) * 60 + number(4..6)?;
    let part = field.get(6..).filter(|part| part.len() > 1);
    let part = part.map_or(Some(0.0), |part| part.parse::<f64>().ok())?;
    Some(whole * 1000 + (part * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_are_read_where_sentences_have_them() {
        let cases: [(&[u8], Option<i64>); 6] = [
            (
                b"$GPRMC,235959.50,A,4807.038,N,01131.000,E,022.4,084.4,230394,,*6A\r\n",
                Some(86_399_500),
            ),
            (b"$GNGLL,4916.45,N,12311.12,W,000001,A,*1D\r\n", Some(1_000)),
            (b"$GPGGA,,,,,,0,,,,,,,,*66\r\n", None),
            (b"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n", None),
            (b"!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D\r\n", None),
            (b"\xff\xfe", None),
        ];
        for (line, expected) in cases {
            assert_eq!(
                time_of_day_ms(line),
                expected,
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn log_time_goes_on_over_midnight_and_skips_what_is_no_gap() {
        let mut clock = LogClock::default();
        for time in [
            "235958",
            "235959",
            "235959",
            "000001",
            "000000",
            "060000",
            "060001.25",
        ] {
            clock.read(format!("$GPRMC,{time},A\r\n").as_bytes());
        }
        // 1 s, 2 s over midnight, a step back, six hours without a record, 1.25 s.
        assert_eq!(clock.elapsed_ms, 1_000 + 2_000 + 1_250);
    }
}
