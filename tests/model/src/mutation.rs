//! Whether the models bite: each fence, each ordering and each bell is weakened, alone, and some model has to fail.
//!
//! The places are those that the models pass while they are searched; that none of the source is left out is checked
//! against its text. A weakened model runs in a process of its own: it ends in a panic in the middle of a search.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::search::Model;
use crate::site::{self, Site};

/// Longest search of a weakened model. One that finds nothing takes as long as the search before; this is far beyond.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(240);

/// What a model that fails says first.
const PANIC: &str = "panicked at";

/// How a place looks in the source.
const PLACES: [&str; 5] = [
    "Ordering::Acquire",
    "Ordering::Release",
    "Ordering::AcqRel",
    "Ordering::SeqCst",
    ".ring()",
];

/// What came of a model's search.
pub struct Searched {
    /// The model.
    pub model: Model,
    /// Whether its claim holds.
    pub holds: bool,
    /// Runs that there were.
    pub runs: u64,
    /// Time that it took.
    pub took: Duration,
    passed: BTreeSet<Site>,
}

/// Searches a model on this thread.
pub fn search(model: Model) -> Searched {
    let (before, began) = (crate::search::runs(), Instant::now());
    let holds = std::panic::catch_unwind(model.search).is_ok();
    Searched {
        model,
        holds,
        runs: crate::search::runs() - before,
        took: began.elapsed(),
        passed: site::passed(),
    }
}

/// Searches a model with one place weakened, as the process that [`bite`] started.
pub fn search_weakened(model: Model, place: String) {
    site::weaken(place);
    (model.search)();
}

/// A place, and which model fails without it.
pub struct Bite {
    /// The place, as people read it.
    pub place: String,
    /// Whether a model fails without it.
    pub missed: bool,
    /// The model and how it fails, or what is wrong.
    pub verdict: String,
}

/// Whether a model that holds also holds in a process of its own that weakens a place which does not exist: else a
/// weakened one might fail for another reason.
pub fn control(searches: &[Searched]) -> bool {
    let quickest = searches.iter().min_by_key(|searched| searched.took);
    quickest.is_some_and(|searched| {
        matches!(
            run_weakened(searched.model.name, "nowhere:0:0"),
            Fate::Holds
        )
    })
}

/// Weakens each place that the searches passed. `workers` processes run at a time.
pub fn bite(searches: &[Searched], workers: usize) -> Vec<Bite> {
    let mut by_place: BTreeMap<&Site, Vec<&Searched>> = BTreeMap::new();
    for searched in searches {
        for site in &searched.passed {
            by_place.entry(site).or_default().push(searched);
        }
    }
    let queue = Mutex::new(by_place.into_iter());
    let bites = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some((site, mut models)) = queue.lock().unwrap().next() else {
                        return;
                    };
                    // The quickest first: most places are missed by several.
                    models.sort_by_key(|searched| searched.took);
                    let bite = weaken(site, &models);
                    bites.lock().unwrap().push((site.clone(), bite));
                }
            });
        }
    });
    let mut bites = bites.into_inner().unwrap();
    bites.sort_by(|(a, _), (b, _)| a.cmp(b));
    bites.into_iter().map(|(_, bite)| bite).collect()
}

fn weaken(site: &Site, models: &[&Searched]) -> Bite {
    let verdict = models.iter().find_map(|searched| {
        let name = searched.model.name;
        match run_weakened(name, &site.place()) {
            Fate::Holds => None,
            Fate::Fails(how) => Some((true, format!("{name}: {how}"))),
            Fate::Lost(why) => Some((false, format!("{name} did not run: {why}"))),
        }
    });
    let (missed, verdict) = verdict.unwrap_or_else(|| {
        let tried = models.len();
        (false, format!("no model misses it ({tried} tried)"))
    });
    Bite {
        place: site.to_string(),
        missed,
        verdict,
    }
}

enum Fate {
    Holds,
    Fails(String),
    Lost(String),
}

fn run_weakened(name: &str, place: &str) -> Fate {
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(["--weaken", place, name])
            // Its messages have to fit into a pipe that is read at the end.
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    });
    match started.and_then(|mut child| ended(&mut child)) {
        Ok((Some(0), _)) => Fate::Holds,
        Ok((code, said)) if code != Some(USAGE_CODE) && said.contains(PANIC) => {
            Fate::Fails(reason(&said))
        }
        Ok((code, said)) => Fate::Lost(format!("exit code {code:?}: {said}")),
        Err(error) => Fate::Lost(error.to_string()),
    }
}

/// Exit code for arguments that make no sense; never that of a model that fails.
pub const USAGE_CODE: i32 = 64;

/// Waits for a child, kills it when it takes too long, and returns its code and what it said.
fn ended(child: &mut Child) -> std::io::Result<(Option<i32>, String)> {
    let deadline = Instant::now() + SEARCH_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other("its search does not end"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut said = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_end(&mut said)?;
    }
    Ok((status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// The first line of the first panic's message, cut to a column of a table.
fn reason(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains(PANIC));
    let message = lines.nth(1).unwrap_or("it died").trim();
    let end = message
        .char_indices()
        .map(|(at, _)| at)
        .nth(60)
        .unwrap_or(message.len());
    message[..end].into()
}

/// Texts that say which files of the source are in the models.
const INCLUDERS: [&str; 2] = [include_str!("ring.rs"), include_str!("table.rs")];

/// Files of the source that a text includes by path, from the root of the source tree.
fn included(text: &str) -> impl Iterator<Item = String> {
    let paths = text.lines().filter_map(|line| {
        let path = line.trim().strip_prefix("#[path = \"")?;
        path.strip_suffix("\"]")
    });
    paths.map(site::from_root)
}

/// Files of the source with places that no model passed, one line each; also those of which no place at all was
/// passed. A place that nobody passes would never be weakened.
pub fn unpassed(searches: &[Searched], root: &Path) -> Vec<String> {
    let mut passed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for text in INCLUDERS {
        let before = passed.len();
        passed.extend(included(text).map(|file| (file, BTreeSet::new())));
        if passed.len() == before {
            missing.push("a part of the models includes no file".into());
        }
    }
    for site in searches.iter().flat_map(|searched| &searched.passed) {
        let places = passed.entry(site.file().into()).or_default();
        places.insert(site.place());
    }
    for (file, places) in &passed {
        let text = match std::fs::read_to_string(root.join(file)) {
            Ok(text) => text,
            Err(error) => {
                missing.push(format!("cannot read {file}: {error}"));
                continue;
            }
        };
        let asks = places_in(&text);
        if asks != places.len() {
            let passed = places.len();
            missing.push(format!(
                "{file}: {asks} places in its text, {passed} are passed"
            ));
        }
    }
    missing
}

/// Counts the orders and bells that the code of a file names, its comments and tests left out.
fn places_in(text: &str) -> usize {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| {
            PLACES
                .iter()
                .map(|place| line.matches(place).count())
                .sum::<usize>()
        })
        .sum()
}
