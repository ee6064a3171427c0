//! Fail points exist where they are listed, and nowhere in a release build. That each of them kills, and that nothing is
//! lost there, is for `tests/lab fail-points` to show.

use std::path::{Path, PathBuf};

use ringway::sys::fail::{FOLDER_VARIABLE, Point};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_point_is_passed_at_one_place() {
    let mut files = Vec::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&source, &mut files);
    let text: String = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for point in Point::ALL {
        let places = text
            .matches(&format!("fail::pass(Point::{point:?})"))
            .count();
        assert_eq!(places, 1, "{point:?}");
    }
}

#[test]
fn a_release_build_knows_no_fail_points() {
    let here = Path::new(env!("CARGO_BIN_EXE_ringway"));
    let release = here.parent().unwrap().with_file_name("release");
    let release = release.join(here.file_name().unwrap());
    let Ok(program) = std::fs::read(&release) else {
        return eprintln!(
            "SKIPPED the names of fail points in a release build: {release:?} is not built"
        );
    };
    let names = Point::ALL.iter().map(|point| point.name());
    let contains = |program: &[u8], name: &str| {
        let mut parts = program.windows(name.len());
        parts.any(|part| part == name.as_bytes())
    };
    // Looking for them must find them where they are.
    if cfg!(debug_assertions) {
        let with = std::fs::read(here).unwrap();
        assert!(contains(&with, FOLDER_VARIABLE));
    }
    for name in names.chain([FOLDER_VARIABLE]) {
        assert!(!contains(&program, name), "{name} is in {release:?}");
    }
}
