//! The import table of docs/architecture.md is law: this reads it and the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rows of the table whose header starts with `| {first}`, cells trimmed.
fn table(first: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {first}")))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_string())
                .collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table that starts with {first}");
    rows
}

fn names(cell: &str) -> impl Iterator<Item = String> + '_ {
    cell.split('`').skip(1).step_by(2).map(String::from)
}

/// Every source file below `src`, with its code up to the tests.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let code = |text: String| {
        let product = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_string();
        product
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|l| format!("{l}\n"))
            .collect()
    };
    files
        .into_iter()
        .map(|path| {
            let text = code(std::fs::read_to_string(&path).unwrap());
            (path.strip_prefix(root()).unwrap().to_path_buf(), text)
        })
        .collect()
}

/// The top module of a file, such as `ring` for `src/ring/layout.rs`.
fn module(path: &Path) -> String {
    let second = path.components().nth(1).unwrap();
    Path::new(second.as_os_str())
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into()
}

/// Top modules that the code names after `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            // Only the names at the first level of the braces are modules.
            let (mut depth, mut name) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    c if depth == 0 && (c.is_alphanumeric() || c == '_') => name.push(c),
                    ',' | ':' if depth == 0 && !name.is_empty() => {
                        found.insert(std::mem::take(&mut name));
                    }
                    _ => {}
                }
                if c == ',' && depth == 0 {
                    name.clear();
                }
            }
            if !name.is_empty() {
                found.insert(name);
            }
        } else {
            found.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    found
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let law: BTreeMap<String, BTreeSet<String>> = table("module")
        .iter()
        .map(|row| (names(&row[0]).next().unwrap(), names(&row[1]).collect()))
        .collect();
    let modules: BTreeSet<String> = law.keys().cloned().collect();
    let mut broken = Vec::new();
    for (path, code) in sources() {
        let own = module(&path);
        if own == "lib" || own == "main" {
            continue;
        }
        let allowed = law
            .get(&own)
            .unwrap_or_else(|| panic!("{own} is not in the table"));
        for import in imports(&code).intersection(&modules) {
            let free = *import == own || (own != "hop" && (import == "frame" || import == "hop"));
            if !free && !allowed.contains(import) {
                broken.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_files_know_no_clock_socket_or_runtime() {
    let pure: Vec<String> = table("pure")
        .iter()
        .flat_map(|row| names(&row[0]).collect::<Vec<_>>())
        .collect();
    let mut seen = 0;
    for (path, code) in sources() {
        let name = path.to_string_lossy();
        if !pure
            .iter()
            .any(|p| name == p.as_str() || (p.ends_with('/') && name.starts_with(p.as_str())))
        {
            continue;
        }
        seen += 1;
        for foreign in [
            "tokio",
            "nix::",
            "std::net",
            "std::os::fd",
            "Instant::now",
            "SystemTime",
            "crate::sys",
        ] {
            assert!(
                !code.contains(foreign),
                "{name} is pure but names {foreign}"
            );
        }
    }
    assert!(seen >= pure.len(), "a pure file of the table is missing");
}

#[test]
fn unsafe_stands_in_two_files_only() {
    let with: Vec<String> = sources()
        .into_iter()
        .filter(|(_, code)| {
            code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn")
        })
        .map(|(path, _)| path.to_string_lossy().into())
        .collect();
    assert!(
        with.iter()
            .all(|path| path == "src/sys/region.rs" || path == "src/sys/control.rs"),
        "unsafe in {with:?}"
    );
}
