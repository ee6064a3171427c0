//! What a transport leaves behind when one of its two processes is killed, found out by trying.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::catalogue;
use crate::iceoryx;
use crate::pair::{Case, Failure, Pair, Process};

/// Frames flow for this long before the kill.
const FLOW: Duration = Duration::from_millis(60);

/// The other side gets this long to notice.
const NOTICE: Duration = Duration::from_millis(400);

/// Runs a case, kills one side in the middle, then the other, and says what the other one noticed and what is left.
///
/// # Errors
/// When the case cannot be set up.
pub fn after_kill(
    case: &Case,
    cores: [usize; 2],
    folder: &Path,
    kill_reader: bool,
) -> Result<String, Failure> {
    let before = named(folder)?;
    let mut pair = Pair::start(case, cores, || {
        catalogue::create(case.transport, folder, case.size)
    })?;
    pair.reader.go()?;
    pair.writer.go()?;
    thread::sleep(FLOW);
    let (victim, other) = match kill_reader {
        true => (&mut pair.reader, &mut pair.writer),
        false => (&mut pair.writer, &mut pair.reader),
    };
    victim.kill()?;
    let noticed = noticed(other)?;
    // The one who made it is still here: what it holds is what a supervisor would have to take care of.
    let after = named(folder)?;
    drop(pair);
    let left = after.difference(&before).map(|(what, _)| *what);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    left.for_each(|what| *counts.entry(what).or_default() += 1);
    let counts: Vec<String> = counts
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    sweep()?;
    let named = match counts.is_empty() {
        true => "nothing with a name is left".to_owned(),
        false => format!("left with a name: {}", counts.join(", ")),
    };
    Ok(format!("{noticed}; {named}"))
}

/// What the survivor does; it is killed then.
fn noticed(other: &mut Process) -> Result<String, Failure> {
    let deadline = Instant::now() + NOTICE;
    while Instant::now() < deadline {
        if other.has_ended()? {
            let why = other
                .complaint()
                .unwrap_or_else(|| "says nothing".to_owned());
            return Ok(format!("the other side ends: {why}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    other.kill()?;
    let said = other.complaint();
    Ok(match said {
        Some(said) => format!("the other side goes on waiting, and says: {said}"),
        None => "the other side waits on".to_owned(),
    })
}

/// Everything with a name that processes can leave, and what it is: files, POSIX and System V shared memory, semaphores.
fn named(folder: &Path) -> io::Result<BTreeSet<(&'static str, String)>> {
    let mut names = BTreeSet::new();
    collect(folder, "file(s)", &mut names)?;
    collect(Path::new(SHARED_MEMORY), "POSIX shared memory", &mut names)?;
    for (table, what) in [
        ("shm", "System V segment"),
        ("sem", "System V semaphore set"),
    ] {
        let text = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let id = line.split_whitespace().nth(1).unwrap_or_default();
            names.insert((what, id.to_owned()));
        }
    }
    Ok(names)
}

fn collect(
    folder: &Path,
    what: &'static str,
    names: &mut BTreeSet<(&'static str, String)>,
) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, what, names)?;
        } else {
            names.insert((what, path.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}

/// Where POSIX shared memory has its names.
const SHARED_MEMORY: &str = "/dev/shm";

/// Removes what iceoryx2 leaves in shared memory, after an orderly end too; files go with the folder of the run, System V
/// with its owner.
///
/// # Errors
/// What the kernel says.
pub fn sweep() -> io::Result<()> {
    for entry in fs::read_dir(SHARED_MEMORY)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(iceoryx::PREFIX)
        {
            // Gone already is as good.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
