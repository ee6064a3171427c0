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

/// Places that no model can catch, each with its reason. A place with a reason to be there is better argued by a model.
const EXCEPTIONS: [(&str, &str); 0] = [];

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
    /// Whether it is as it should be: a model fails, or there is a reason why none can.
    pub good: bool,
    /// The model and how it fails, or what is wrong.
    pub verdict: String,
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
    let place = site.to_string();
    let exception = EXCEPTIONS.iter().find(|(name, _)| *name == place);
    for searched in models {
        let name = searched.model.name;
        let (good, verdict) = match run_weakened(name, &site.place()) {
            Fate::Holds => continue,
            Fate::Fails(how) if exception.is_none() => (true, format!("{name}: {how}")),
            Fate::Fails(_) => (false, format!("an exception, but {name} catches it")),
            Fate::Lost(why) => (false, format!("{name} did not run: {why}")),
        };
        return Bite {
            place,
            good,
            verdict,
        };
    }
    let verdict = match exception {
        Some((_, reason)) => format!("no model; {reason}"),
        None => format!("no model misses it ({} tried)", models.len()),
    };
    Bite {
        place,
        good: exception.is_some(),
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
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    });
    match started.and_then(|mut child| ended(&mut child)) {
        Ok((Some(0), _)) => Fate::Holds,
        Ok((Some(USAGE_CODE), said)) => Fate::Lost(said),
        Ok((_, said)) => Fate::Fails(reason(&said)),
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
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let message = lines.nth(1).unwrap_or("it died").trim();
    let end = message
        .char_indices()
        .map(|(at, _)| at)
        .nth(60)
        .unwrap_or(message.len());
    message[..end].into()
}

/// Files of the source with places that no model passed, one line each. A place that nobody passes would never be
/// weakened.
pub fn unpassed(searches: &[Searched], root: &Path) -> Vec<String> {
    let mut passed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for site in searches.iter().flat_map(|searched| &searched.passed) {
        passed.entry(site.file()).or_default().insert(site.place());
    }
    let mut missing = Vec::new();
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
