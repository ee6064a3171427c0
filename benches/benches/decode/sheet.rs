//! The figures of a run as a table and as JSON.

use std::fmt::Write;

use benches::figure::Figure;
use serde_json::{Value, json};

/// One reader of one kind of message.
pub struct Row {
    pub case: &'static str,
    pub reader: &'static str,
    pub differs: &'static str,
    /// Bytes of one message.
    pub bytes: f64,
    /// Nanoseconds a message, one value a round.
    pub ns: Vec<f64>,
}

/// All figures of a run.
#[derive(Default)]
pub struct Sheet {
    pub rows: Vec<Row>,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

impl Sheet {
    /// Median of ours for that kind of message.
    fn ours(&self, case: &str) -> Option<f64> {
        let ours = |row: &&Row| row.case == case && row.reader == crate::OURS;
        let row = self.rows.iter().find(ours)?;
        Some(Figure::of(row.ns.iter().copied())?.median)
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| message | reader | ns a message | spread | messages/s | beside ours | differs |\n\
             |---|---|---:|---|---:|---:|---|\n",
        );
        for row in &self.rows {
            let Some(figure) = Figure::of(row.ns.iter().copied()) else {
                continue;
            };
            let ratio = self.ours(row.case).map_or(String::from("-"), |ours| {
                format!("{:.2}", figure.median / ours)
            });
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.0}..{:.0} | {:.2} M | {ratio} | {} |",
                row.case,
                row.reader,
                figure.median,
                figure.min,
                figure.max,
                1_000.0 / figure.median,
                row.differs,
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    /// Everything, with the value of each round.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "message": row.case, "reader": row.reader, "differs": row.differs,
                "bytes": row.bytes, "ns": Figure::of(row.ns.iter().copied()), "rounds": row.ns,
            })
        });
        json!({ "rows": rows.collect::<Vec<Value>>(), "notes": self.notes })
    }
}
