//! What a recording says, one line a record: messages read, answers, and who came and went.

use std::io::{self, BufWriter, Stdout, Write};

use serde_json::{Value as Json, json};

use crate::capture::{Item, Playback, Played, Record, Remark, What};
use crate::cli::said::{Said, text_or_hex};
use crate::frame::rfc3339_ms;
use crate::protocol::Protocol;

/// Prints to standard output.
pub struct Printer {
    out: BufWriter<Stdout>,
    json: bool,
    bytes: bool,
    protocol: Protocol,
    playback: Playback,
    played: Vec<Played>,
}

impl Printer {
    /// `json`: one object a line; `bytes`: raw bytes, too.
    pub fn new(json: bool, bytes: bool) -> Printer {
        Printer {
            out: BufWriter::new(io::stdout()),
            json,
            bytes,
            protocol: Protocol::Auto,
            playback: Playback::default(),
            played: Vec::new(),
        }
    }

    /// Prints what an item says.
    ///
    /// # Errors
    /// When the output fails.
    pub fn take(&mut self, item: Item<'_>, remark: impl FnMut(Remark)) -> io::Result<()> {
        match &item {
            Item::Header(header) => {
                self.protocol = header.protocol().unwrap_or(Protocol::Auto);
                let (site, name) = &header.node;
                self.line(
                    header.created_ms,
                    json!({
                        "file": header.number, "node": format!("{site}/{name}"), "sensor": header.sensor,
                        "input": header.input, "protocol": header.protocol,
                    }),
                )?;
            }
            Item::Record(record) => self.record(record)?,
            Item::Damaged { .. } | Item::End { .. } => {}
        }
        let mut played = std::mem::take(&mut self.played);
        self.playback.take(item, &mut played, remark);
        for Played { stream, at, what } in played.drain(..) {
            let mut said = Said::default();
            match what {
                Ok(message) => said.add(self.protocol, message),
                Err(reason) => said.fail(reason),
            }
            let mut object = said.into_json();
            object["stream"] = json!(stream);
            // What was really answered has a line of its own.
            object.as_object_mut().map(|object| object.remove("answer"));
            self.line(at.wall_ms, object)?;
        }
        self.played = played;
        Ok(())
    }

    /// Writes out what is gathered.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Prints what is in a record itself.
    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let data = |protocol| text_or_hex(protocol, record.data);
        let object = match record.what {
            What::Opened { stream, peer } => json!({ "stream": stream, "opened": peer }),
            What::Closed { stream, why } => json!({ "stream": stream, "closed": why }),
            What::Sent { stream } => json!({ "stream": stream, "sent": data(self.protocol) }),
            What::Bytes { stream } if self.bytes => {
                json!({ "stream": stream, "bytes": data(self.protocol) })
            }
            What::Lost { records, bytes } => json!({ "lost": records, "bytes": bytes }),
            What::Begun { .. } | What::Bytes { .. } | What::Quiet { .. } | What::Ended => {
                return Ok(());
            }
        };
        self.line(record.at.wall_ms, object)
    }

    fn line(&mut self, wall_ms: i64, mut object: Json) -> io::Result<()> {
        let time = rfc3339_ms(wall_ms);
        if self.json {
            object["received"] = json!(time);
            return writeln!(self.out, "{object}");
        }
        writeln!(self.out, "{time} {}", words(&object))
    }
}

/// An object for people: its stream, then what it says. Texts are escaped, since devices chose some of them.
fn words(object: &Json) -> String {
    let mut words = Vec::new();
    let number = object["stream"].as_u64();
    words.extend(number.map(|number| format!("#{number}")));
    let text = |value: &Json| match value {
        Json::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    };
    for (key, value) in object.as_object().into_iter().flatten() {
        let empty = value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        if key != "stream" && !empty {
            words.push(format!("{key} {}", text(value)));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_chose_cannot_steer_the_terminal() {
        let object = json!({ "stream": 3, "opened": "\x1b[2J", "fixes": [], "device": null });
        assert_eq!(words(&object), "#3 opened \\u{1b}[2J");
    }
}
