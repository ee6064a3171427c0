//! Tables of the documents against the lists that the program is made of, and examples against the program.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use ringway::frame::{AlarmKind, AttributeKey, Severity};
use ringway::protocol::{Protocol, Reject};

use crate::authority::Authority;

fn read(document: &str) -> String {
    let path = format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn rows(document: &str, heading: &str) -> Vec<String> {
    let text = read(document);
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

/// The blocks of that language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    let blocks = text.split(&open).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// What `ringway check` says to a document's examples: the first is a node, the others are its drop-ins.
fn checked(document: &str) -> String {
    let text = read(document);
    let examples = blocks(&text, "toml");
    assert!(examples.len() >= 2, "{examples:?}");
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("edge.toml");
    std::fs::write(&main, examples[0]).unwrap();
    std::fs::create_dir(folder.path().join("edge.d")).unwrap();
    for (number, example) in examples[1..].iter().enumerate() {
        let drop_in = folder.path().join(format!("edge.d/{number}.toml"));
        std::fs::write(drop_in, example).unwrap();
    }
    let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("check")
        .arg("--config")
        .arg(&main)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{said}");
    String::from_utf8_lossy(&check.stdout).into_owned()
}

#[test]
fn the_example_configurations_are_right() {
    let found = checked("configuration.md");
    for sensor in ["mixed (tcp [::]:5000)", "datagrams (udp [::]:5000)"] {
        assert!(found.contains(sensor), "{found}");
    }
}

#[test]
fn the_read_me_names_every_protocol_and_its_configurations_are_right() {
    let found = checked("../README.md");
    assert!(found.contains("mixed (tcp [::]:5000)"), "{found}");
    for document in ["../README.md", "protocols.md", "configuration.md"] {
        let text = read(document);
        for protocol in Protocol::ALL {
            let name = format!("`{}`", protocol.name());
            let named = text.contains(&name) || *protocol == Protocol::Auto;
            assert!(named, "{document} does not name {name}");
        }
    }
}

#[test]
fn each_reason_for_refusing_a_message_is_explained_in_one_sentence() {
    let documented = rows("protocols.md", "## Why messages are refused");
    assert_eq!(documented.len(), Reject::ALL.len());
    for (row, reject) in documented.iter().zip(Reject::ALL) {
        let meaning = row.strip_prefix(&format!("| `{}` | ", reject.name()));
        let meaning = meaning.and_then(|rest| rest.strip_suffix(". |"));
        assert!(
            meaning.is_some_and(|m| m.len() > 20 && !m.contains(". ")),
            "{row}"
        );
    }
}

/// Each example stands for itself: it is checked alone, with the files that it names.
#[test]
fn the_examples_of_ways_in_are_right() {
    let text = read("sensors.md");
    for (number, example) in blocks(&text, "toml").iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        if example.contains("[sensor.tls]") {
            let authority = Authority::new("fleet");
            authority.server(2090).write(folder.path());
            std::fs::write(folder.path().join("fleet.pem"), &authority.pem).unwrap();
        }
        for name in example.split('"').skip(1).step_by(2) {
            let is_file = [".txt", ".log", ".nmea", ".ringcap", ".py"]
                .iter()
                .any(|ending| name.ends_with(ending));
            if is_file && !name.starts_with('/') {
                let path = folder.path().join(name);
                std::fs::write(&path, "").unwrap();
                // A program has to be one.
                std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
            }
        }
        let main = folder.path().join("edge.toml");
        let node = "[node]\nsite = \"depot\"\nname = \"gw1\"\n";
        std::fs::write(&main, format!("{node}{example}")).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
            .arg("check")
            .arg("--config")
            .arg(&main)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(
            check.status.success(),
            "example {number}: {said}\n{example}"
        );
    }
}

/// The tables of keys and signs had the same row twice, each with half of what is true.
#[test]
fn no_row_and_no_heading_of_a_document_stands_twice() {
    for document in [
        "configuration.md",
        "operations.md",
        "sensors.md",
        "metrics.md",
    ] {
        let text = read(document);
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if line.starts_with('#') {
                assert!(seen.insert(line), "{document}: {line} stands twice");
            }
        }
        let mut cells = BTreeSet::new();
        for line in text.lines() {
            let Some(row) = line.strip_prefix("| ") else {
                cells.clear();
                continue;
            };
            let first = row.split(" |").next().unwrap();
            // A sign of the metrics has a row for each thing that it is of.
            let key = if document == "metrics.md" { row } else { first };
            assert!(cells.insert(key), "{document}: {key} has two rows");
        }
    }
}

#[test]
fn each_input_has_its_section_and_is_named_where_inputs_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("edge.toml");
    let node = "[node]\nsite = \"depot\"\nname = \"gw1\"\n";
    let sensor = "[[sensor]]\nname = \"s\"\ninput = \"none\"\nprotocol = \"nmea\"\n";
    std::fs::write(&main, format!("{node}{sensor}")).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("check")
        .arg("--config")
        .arg(&main)
        .output()
        .unwrap();
    // "unknown variant `none`, expected one of `tcp`, ...": the list is the program's own.
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    let (_, list) = said.split_once("expected one of").expect(&said);
    let inputs: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    assert!(inputs.contains(&"tcp") && inputs.len() >= 8, "{said}");

    let key = rows("configuration.md", "## [[sensor]]");
    let key = key
        .iter()
        .find(|row| row.starts_with("| `input` |"))
        .unwrap();
    let (sensors, read_me) = (read("sensors.md"), read("../README.md"));
    for input in inputs {
        let name = format!("`{input}`");
        assert!(key.contains(&name), "configuration.md: {key} lacks {name}");
        assert!(read_me.contains(&name), "README.md does not name {name}");
        assert!(sensors.lines().any(|line| line == format!("## {input}")));
    }
}
