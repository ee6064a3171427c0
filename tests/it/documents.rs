//! Tables of the documents against the lists that the program is made of.

use ringway::frame::{AlarmKind, AttributeKey, Severity};

fn rows(document: &str, heading: &str) -> Vec<String> {
    let path = format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.lines().skip_while(|line| *line != heading);
    let table = section.skip_while(|line| !line.starts_with('|'));
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.skip(2).map(String::from).collect()
}

#[test]
fn every_standard_attribute_is_documented_as_it_is() {
    let expected: Vec<String> = AttributeKey::STANDARD
        .iter()
        .map(|(name, meaning)| format!("| `{name}` | {meaning} |"))
        .collect();
    assert_eq!(rows("protocols.md", "## Attributes"), expected);
}

#[test]
fn every_kind_of_alarm_is_documented_with_its_severity() {
    let documented = rows("protocols.md", "## Kinds of alarms");
    assert_eq!(documented.len(), AlarmKind::ALL.len());
    for (row, kind) in documented.iter().zip(AlarmKind::ALL) {
        let severity = match kind.severity() {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let start = format!("| `{}` | {severity} | ", kind.name());
        assert!(row.starts_with(&start), "{row}");
    }
}
