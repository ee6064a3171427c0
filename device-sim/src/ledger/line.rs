//! The lines of a ledger's file: plain text, one fact each, the first letter says which.

use std::fmt::Write as _;

use crate::delivery::{Delivery, Phase};
use crate::device::{Sent, Way};
use crate::report::Report;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `s`: a report was about to be sent.
    Sent {
        /// Index of the device.
        device: u32,
        /// The report.
        sent: Sent,
    },
    /// `a`: a report was answered.
    Answered {
        /// Index of the device.
        device: u32,
        /// Number of the report.
        number: u32,
    },
    /// `c`: a connection was cut on which reports may be lost.
    Cut {
        /// Index of the device.
        device: u32,
    },
    /// `d`: an alarm came.
    Delivered(Delivery),
    /// `l`: all state of the runtime was lost at this time, UTC ms.
    StateLost(i64),
}

impl Line {
    /// The device that sent or was answered.
    pub fn device(&self) -> Option<u32> {
        match *self {
            Line::Sent { device, .. } | Line::Answered { device, .. } | Line::Cut { device } => {
                Some(device)
            }
            Line::Delivered(_) | Line::StateLost(_) => None,
        }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut String) {
        let written = match self {
            Line::Sent { device, sent } => {
                let way = match sent.way {
                    Way::Fresh => 'f',
                    Way::Again => 'a',
                    Way::Repeat => 'r',
                    Way::Backlog => 'b',
                };
                // A capital: the device kept nothing.
                let way = if sent.kept {
                    way
                } else {
                    way.to_ascii_uppercase()
                };
                let r = &sent.report;
                writeln!(
                    out,
                    "s {device} {} {way} {} {} {} {} {} {} {} {} {} {}",
                    sent.number,
                    r.time_s,
                    r.lat_e6,
                    r.lon_e6,
                    r.altitude_m,
                    r.speed_dkmh,
                    r.course_deg,
                    r.alarms,
                    r.odometer_hm,
                    r.satellites,
                    r.signal
                )
            }
            Line::Answered { device, number } => writeln!(out, "a {device} {number}"),
            Line::Cut { device } => writeln!(out, "c {device}"),
            Line::Delivered(d) => {
                let journal = d
                    .journal
                    .as_deref()
                    .filter(|name| !name.is_empty() && !name.contains(' '));
                let (journal, seq) = (journal.unwrap_or("-"), d.seq.map_or(-1, |seq| seq as i64));
                let (phase, start) = (d.phase.name(), d.start_ms);
                // The rule comes last: a fence's name may have spaces.
                writeln!(
                    out,
                    "d {:032x} {} {} {phase} {start} {journal} {seq} {}",
                    d.id, d.device, d.kind, d.rule
                )
            }
            Line::StateLost(time_ms) => writeln!(out, "l {time_ms}"),
        };
        written.expect("a string takes everything");
    }

    /// Reads a line without its end; `None` if it is none of a ledger.
    pub fn read(text: &str) -> Option<Line> {
        let (letter, rest) = text.split_once(' ')?;
        let mut words = rest.split(' ');
        let mut number = || words.next()?.parse::<i64>().ok();
        match letter {
            "s" => {
                let mut words = rest.split(' ');
                let device = words.next()?.parse().ok()?;
                let report_number = words.next()?.parse().ok()?;
                let letter = words.next()?;
                let kept = letter.bytes().all(|byte| byte.is_ascii_lowercase());
                let way = match letter.to_ascii_lowercase().as_str() {
                    "f" => Way::Fresh,
                    "a" => Way::Again,
                    "r" => Way::Repeat,
                    "b" => Way::Backlog,
                    _ => return None,
                };
                let report = Report {
                    time_s: words.next()?.parse().ok()?,
                    lat_e6: words.next()?.parse().ok()?,
                    lon_e6: words.next()?.parse().ok()?,
                    altitude_m: words.next()?.parse().ok()?,
                    speed_dkmh: words.next()?.parse().ok()?,
                    course_deg: words.next()?.parse().ok()?,
                    alarms: words.next()?.parse().ok()?,
                    odometer_hm: words.next()?.parse().ok()?,
                    satellites: words.next()?.parse().ok()?,
                    signal: words.next()?.parse().ok()?,
                };
                let sent = Sent {
                    number: report_number,
                    way,
                    kept,
                    report,
                };
                Some(Line::Sent { device, sent })
            }
            "a" => Some(Line::Answered {
                device: number()?.try_into().ok()?,
                number: number()?.try_into().ok()?,
            }),
            "c" => Some(Line::Cut {
                device: number()?.try_into().ok()?,
            }),
            "l" => Some(Line::StateLost(number()?)),
            "d" => {
                let mut words = rest.splitn(8, ' ');
                Some(Line::Delivered(Delivery {
                    id: u128::from_str_radix(words.next()?, 16).ok()?,
                    device: words.next()?.to_string(),
                    kind: words.next()?.to_string(),
                    phase: match words.next()? {
                        "raise" => Phase::Raise,
                        "clear" => Phase::Clear,
                        _ => return None,
                    },
                    start_ms: words.next()?.parse().ok()?,
                    journal: Some(words.next()?.to_string()).filter(|name| name != "-"),
                    seq: words.next()?.parse::<i64>().ok()?.try_into().ok(),
                    rule: words.next()?.to_string(),
                }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_written() {
        let report = Report {
            time_s: 1_700_000_000,
            lat_e6: -33_867_487,
            lon_e6: 151_206_990,
            altitude_m: 58,
            speed_dkmh: 655,
            course_deg: 271,
            alarms: 0x101,
            odometer_hm: 12_345,
            satellites: 9,
            signal: 22,
        };
        let delivery = Delivery {
            id: 0xabc,
            device: "13900000000".into(),
            kind: "geofence".into(),
            rule: "yard of the north".into(),
            phase: Phase::Clear,
            start_ms: -5,
            journal: None,
            seq: Some(9),
        };
        let lines = [
            Line::Sent {
                device: 3,
                sent: Sent {
                    number: 8,
                    way: Way::Backlog,
                    kept: true,
                    report,
                },
            },
            Line::Sent {
                device: 4,
                sent: Sent {
                    number: 9,
                    way: Way::Fresh,
                    kept: false,
                    report,
                },
            },
            Line::Answered {
                device: 3,
                number: 8,
            },
            Line::Delivered(delivery.clone()),
            Line::Delivered(Delivery {
                journal: Some("j1".into()),
                seq: None,
                ..delivery
            }),
            Line::Cut { device: 3 },
            Line::StateLost(1_700_000_000_123),
        ];
        for line in lines {
            let mut text = String::new();
            line.write(&mut text);
            assert_eq!(
                Line::read(text.strip_suffix('\n').unwrap()),
                Some(line),
                "{text}"
            );
        }
        for bad in ["", "x 1", "s 1 2 z", "a 1", "d 1 2 3 raise", "a 1 -2"] {
            assert_eq!(Line::read(bad), None, "{bad}");
        }
    }
}
