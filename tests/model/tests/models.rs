//! Searches all models, then checks that they bite.
//!
//!   cargo test -p ring-model                    all of it
//!   cargo test -p ring-model --test models NAME the models whose names contain NAME, without the check

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use ring_model::models;
use ring_model::mutation::{self, Searched, USAGE_CODE};
use ring_model::search::Model;

/// Models searched, and weakened ones run, at a time.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, place, name] = &args[..]
        && flag == "--weaken"
    {
        let Some(model) = models().into_iter().find(|model| model.name == name) else {
            eprintln!("no model {name}");
            return ExitCode::from(USAGE_CODE as u8);
        };
        mutation::search_weakened(model, place.clone());
        return ExitCode::SUCCESS;
    }
    // Whatever else a test harness is told, such as `--nocapture`, changes nothing here.
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let chosen = models()
        .into_iter()
        .filter(|model| filter.is_none_or(|part| model.name.contains(part.as_str())));
    let searches = search_all(chosen.collect());
    let mut good = !searches.is_empty() && searches.iter().all(|searched| searched.holds);
    if filter.is_none() && good {
        good = check_bites(&searches);
    }
    if good {
        ExitCode::SUCCESS
    } else {
        println!("FAILED");
        ExitCode::FAILURE
    }
}

fn search_all(chosen: Vec<Model>) -> Vec<Searched> {
    let queue = Mutex::new(chosen.into_iter());
    let searches = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(model) = queue.lock().unwrap().next() else {
                        return;
                    };
                    // A thread of its own: what a failed search leaves behind stays there.
                    let searched = std::thread::spawn(move || mutation::search(model));
                    let searched = searched.join().unwrap();
                    println!(
                        "{:<74} {:>5}  {:>7} runs  {:>6} ms",
                        searched.model.name,
                        if searched.holds { "holds" } else { "FAILS" },
                        searched.runs,
                        searched.took.as_millis(),
                    );
                    searches.lock().unwrap().push(searched);
                }
            });
        }
    });
    searches.into_inner().unwrap()
}

/// Weakens every place, prints the table, and says whether each was missed.
fn check_bites(searches: &[Searched]) -> bool {
    let began = Instant::now();
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let unpassed = mutation::unpassed(searches, &root);
    unpassed.iter().for_each(|line| println!("UNPASSED {line}"));
    let bites = mutation::bite(searches, WORKERS);
    println!("\nweakened, alone                                  what fails");
    for bite in &bites {
        let mark = if bite.good { ' ' } else { '!' };
        println!("{mark}{:<48}{}", bite.place, bite.verdict);
    }
    let missed = bites.iter().filter(|bite| !bite.good).count();
    println!(
        "{} places, {missed} that nothing misses, {} ms",
        bites.len(),
        began.elapsed().as_millis()
    );
    !bites.is_empty() && missed == 0 && unpassed.is_empty()
}
