//! The documentation holds: its examples are right, and its lists are complete.

use std::path::Path;
use std::process::Command;

use ringway::protocol::Reject;

/// A file of the documentation.
fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The blocks of that language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    let blocks = text.split(&open).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_example_configurations_are_right() {
    let text = read("configuration.md");
    let examples = blocks(&text, "toml");
    assert!(examples.len() >= 2, "{examples:?}");
    // The first is a node, the others are its drop-ins.
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
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    for sensor in ["mixed (tcp [::]:5000)", "datagrams (udp [::]:5000)"] {
        assert!(found.contains(sensor), "{found}");
    }
}

#[test]
fn each_reason_for_refusing_a_message_is_explained_in_one_sentence() {
    let text = read("protocols.md");
    let section = text.split("## Why messages are refused").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: Vec<(&str, &str)> = rows
        .map(|row| row.split_once("` | ").unwrap())
        .map(|(name, meaning)| (name, meaning.trim_end_matches(" |")))
        .collect();
    let named: Vec<&str> = explained.iter().map(|(name, _)| *name).collect();
    let all: Vec<&str> = Reject::ALL.iter().map(|reject| reject.name()).collect();
    assert_eq!(named, all);
    for (name, meaning) in explained {
        let sentence = meaning.ends_with('.') && meaning.matches(". ").count() == 0;
        assert!(sentence && meaning.len() > 20, "{name}: {meaning}");
    }
}
