//! `ringway reload`: has a running node read its certificates and lists of devices again.

use clap::Args;

use super::ConfigPath;
use super::status::{request, unanswered};
use crate::config::Config;
use crate::role::exit;
use crate::supervisor::report::Reloaded;
use crate::supervisor::request::Request;

/// Have a running node read its certificates and lists of devices again; the rest of the configuration takes a restart.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ringway reload\n  ringway reload --config edge.toml --json")]
pub struct Reload {
    #[command(flatten)]
    path: ConfigPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and shows; the exit code is 69 when no node runs there, 78 when something is wrong and what was
/// there before stays.
pub fn run(reload: &Reload) -> i32 {
    let config = match Config::load(&reload.path.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringway: {error}; nothing was read again");
            return exit::CONFIG;
        }
    };
    let told = request(&config.state_dir, &Request::Reload);
    let read = told.and_then(|told| Ok(serde_json::from_str(&told)?));
    let reloaded: Reloaded = match read {
        Ok(reloaded) => reloaded,
        Err(cause) => return unanswered(&config.state_dir, &cause),
    };
    if reload.json {
        let text = serde_json::to_string(&reloaded).expect("a report is plain data");
        println!("{text}");
    } else {
        show(&reloaded);
    }
    let lists = reloaded.device_lists.iter().map(|list| &list.error);
    let certificates = reloaded.certificates.iter().map(|read| &read.error);
    if lists.chain(certificates).any(Option::is_some) {
        exit::CONFIG
    } else {
        exit::OK
    }
}

fn show(reloaded: &Reloaded) {
    if reloaded.device_lists.is_empty() && reloaded.certificates.is_empty() {
        println!(
            "no sensor has certificates or a list of devices; the rest of the configuration takes a restart"
        );
    }
    for read in &reloaded.certificates {
        let sensor = &read.sensor;
        match &read.error {
            None => println!("{sensor}: new connections get the certificates read now"),
            Some(wrong) => eprintln!("{sensor}: {wrong}; the old certificates stay"),
        }
    }
    for list in &reloaded.device_lists {
        let (sensor, path) = (&list.sensor, &list.path);
        match (&list.error, list.devices) {
            (None, count) => println!("{sensor}: {path}: {} devices", count.unwrap_or_default()),
            (Some(wrong), _) => eprintln!("{sensor}: {path}: {wrong}; the list before stays"),
        }
    }
}
