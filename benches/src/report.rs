//! All figures of a run: medians over the repetitions with their spread (lowest to highest), as tables for people and
//! as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::figure::{Figure, Times};

/// Which figure: table, load, name, column.
type Key = (&'static str, String, String, &'static str);

/// The figures, in the order in which they were first noted.
#[derive(Debug, Default)]
pub struct Report {
    /// The values of all repetitions of each.
    figures: Vec<(Key, Vec<f64>)>,
    goals: Vec<Goal>,
    notes: Vec<String>,
}

/// A figure beside the goal of the design.
#[derive(Debug)]
struct Goal {
    what: String,
    unit: &'static str,
    goal: &'static str,
    stands: Option<f64>,
}

impl Report {
    /// Notes the value of one repetition.
    pub fn note(
        &mut self,
        table: &'static str,
        load: &str,
        name: &str,
        column: &'static str,
        value: f64,
    ) {
        let key = (table, load.to_owned(), name.to_owned(), column);
        match self.figures.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((key, vec![value])),
        }
    }

    /// Notes a distribution, if there is one.
    pub fn note_times(
        &mut self,
        table: &'static str,
        load: &str,
        name: &str,
        times: Option<Times>,
    ) {
        if let Some(times) = times {
            self.note(table, load, name, "p50", times.p50);
            self.note(table, load, name, "p99", times.p99);
            self.note(table, load, name, "max", times.max);
        }
    }

    /// Median over the repetitions.
    pub fn median(&self, table: &str, load: &str, name: &str, column: &str) -> Option<f64> {
        let wanted =
            |key: &Key| key.0 == table && key.1 == load && key.2 == name && key.3 == column;
        let (_, values) = self.figures.iter().find(|(key, _)| wanted(key))?;
        Figure::of(values.iter().copied()).map(|figure| figure.median)
    }

    /// Sum of the medians of all names of a load; `None` of none.
    pub fn sum(&self, table: &str, load: &str) -> Option<f64> {
        let of_load = |(key, _): &&(Key, Vec<f64>)| key.0 == table && key.1 == load;
        let medians = self
            .figures
            .iter()
            .filter(of_load)
            .filter_map(|(_, values)| {
                let figure = Figure::of(values.iter().copied())?;
                Some(figure.median)
            });
        medians.reduce(|sum, median| sum + median)
    }

    /// The highest value of a table; `None` of none.
    pub fn highest(&self, table: &str) -> Option<f64> {
        let values = self.of(table).flat_map(|(_, values)| values);
        values.copied().max_by(f64::total_cmp)
    }

    fn of(&self, table: &str) -> impl Iterator<Item = &(Key, Vec<f64>)> {
        self.figures.iter().filter(move |(key, _)| key.0 == table)
    }

    /// Sets a figure beside its goal.
    pub fn goal(
        &mut self,
        what: &str,
        unit: &'static str,
        goal: &'static str,
        stands: Option<f64>,
    ) {
        let what = what.to_owned();
        self.goals.push(Goal {
            what,
            unit,
            goal,
            stands,
        });
    }

    /// Something that a reader of the figures must know.
    pub fn say(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Everything, with the single values of each repetition.
    pub fn json(&self) -> Value {
        let figures = self
            .figures
            .iter()
            .map(|((table, load, name, column), values)| {
                json!({
                    "table": table, "load": load, "name": name, "column": column,
                    "figure": Figure::of(values.iter().copied()), "values": values,
                })
            });
        let goals = self.goals.iter().map(|goal| {
            json!({
                "what": goal.what, "unit": goal.unit, "goal": goal.goal, "stands": goal.stands,
            })
        });
        json!({
            "figures": figures.collect::<Vec<Value>>(),
            "goals": goals.collect::<Vec<Value>>(),
            "notes": self.notes,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables: Vec<&str> = Vec::new();
        for ((table, ..), _) in &self.figures {
            if !tables.contains(table) {
                tables.push(table);
            }
        }
        for table in tables {
            write!(f, "\n\n{table}")?;
            let mut row = ("", "");
            for ((_, load, name, column), values) in self.of(table) {
                if row != (load, name) {
                    write!(f, "\n  {load:<20} {name:<28}")?;
                }
                row = (load, name);
                let Some(figure) = Figure::of(values.iter().copied()) else {
                    continue;
                };
                write!(f, " {column} {:>7}", short(figure.median))?;
                if values.len() > 1 {
                    let spread = format!("({}..{})", short(figure.min), short(figure.max));
                    write!(f, " {spread:<16}")?;
                }
            }
        }
        write!(f, "\n\nwhere we stand")?;
        for goal in &self.goals {
            let stands = goal.stands.map_or("-".to_owned(), short);
            let (what, unit) = (&goal.what, goal.unit);
            write!(
                f,
                "\n  {what:<60} {stands:>10} {unit:<12} goal {}",
                goal.goal
            )?;
        }
        for note in &self.notes {
            write!(f, "\n\nnote: {note}")?;
        }
        writeln!(f)
    }
}

/// Three figures or so.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        below if below < 10.0 => format!("{value:.2}"),
        below if below < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_of_a_figure_become_its_median() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.note("cpu", "10,000 x 1 Hz", "ingest", "us", value);
        }
        report.note("cpu", "10,000 x 1 Hz", "uplink", "us", 0.5);
        let median = report.median("cpu", "10,000 x 1 Hz", "ingest", "us");
        assert_eq!(median, Some(2.0));
        assert_eq!(report.sum("cpu", "10,000 x 1 Hz"), Some(2.5));
        assert_eq!(report.median("cpu", "", "ingest", "us"), None);
        assert_eq!(report.json()["figures"][0]["figure"]["max"], 3.0);
        assert!(report.to_string().contains("2.00 (1.00..3.00)"));
    }
}
