//! The examples of docs/sensors.md, so that what a user copies is what the tests run.

/// The first configuration in the section with that heading. Each of `changes` has to be there and is replaced: ports,
/// paths, programs.
pub fn of(section: &str, changes: &[(&str, &str)]) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sensors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("docs/sensors.md has no section {section:?}"));
    let section_text = rest.split("\n## ").next().unwrap();
    let (_, rest) = section_text
        .split_once("```toml\n")
        .unwrap_or_else(|| panic!("section {section:?} has no example"));
    let mut example = rest.split("```").next().unwrap().to_owned();
    for (from, to) in changes {
        assert!(
            example.contains(from),
            "{section}: {from:?} is not in\n{example}"
        );
        example = example.replace(from, to);
    }
    example
}
