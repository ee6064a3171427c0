//! The program of an `exec` sensor: it has to be there, and what it is to run as has to be ours to give.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Group, Uid, User, access};
use toml::Spanned;

use super::ConfigError;
use super::check::{Source, plain};
use super::document::SensorSection;
use super::settings::Program;

/// Where programs are looked for if nobody says so.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Variables that say which sensor it is; nobody else sets them.
const OURS: [&str; 2] = ["RINGWAY_SENSOR", "RINGWAY_PROTOCOL"];

/// Most arguments, and most variables.
const WORDS_MAX: usize = 256;

/// Checks the program; `missing` makes the error for a key that has to be there.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn program(
    source: &Source,
    s: &SensorSection,
    missing: impl Fn(&str, &str) -> ConfigError,
) -> Result<Program, ConfigError> {
    let command = s.command.as_ref();
    let command = command.ok_or_else(|| missing("command", "which program to run"))?;
    let environment = environment(source, s)?;
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(PATH_DEFAULT, |(_, path)| path.as_str());
    Ok(Program {
        command: words(source, command, path)?,
        directory: s
            .directory
            .as_ref()
            .map(|directory| folder(source, directory))
            .transpose()?,
        user: s
            .user
            .as_ref()
            .map(|name| {
                let own = |user: &User| user.uid == Uid::effective();
                let found = User::from_name(name.get_ref()).map(|found| found.as_ref().map(own));
                account(source, name, "user", found)
            })
            .transpose()?,
        group: s
            .group
            .as_ref()
            .map(|name| {
                let own = |group: &Group| group.gid == nix::unistd::Gid::effective();
                let found = Group::from_name(name.get_ref()).map(|found| found.as_ref().map(own));
                account(source, name, "group", found)
            })
            .transpose()?,
        answers: s.answers.as_ref().is_some_and(|answers| *answers.get_ref()),
        environment,
    })
}

/// The program and its arguments, the program where it is.
fn words(
    source: &Source,
    command: &Spanned<Vec<String>>,
    path: &str,
) -> Result<Vec<String>, ConfigError> {
    let wrong = |reason: String| source.error(&command.span(), reason);
    let mut words = command.get_ref().clone();
    let Some(program) = words.first_mut().filter(|program| !program.is_empty()) else {
        return Err(wrong("command names no program".into()));
    };
    let name = program.clone();
    let cannot = |why: &str| wrong(format!("cannot run program {name:?}: {why}"));
    if name.contains('/') {
        let resolved = absolute(source.path(&name));
        executable(&resolved).map_err(|why| cannot(&why))?;
        *program = resolved.display().to_string();
    } else if !path
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .any(|folder| executable(&Path::new(folder).join(&name)).is_ok())
    {
        return Err(cannot(&format!("it is in none of {path}")));
    }
    if words.len() > WORDS_MAX {
        return Err(wrong(format!("command has more than {WORDS_MAX} words")));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(wrong("command holds a character of code 0".into()));
    }
    Ok(words)
}

/// Whether the file can be run.
fn executable(path: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|cause| plain(&cause))?;
    if !meta.is_file() {
        return Err("not a file".into());
    }
    access(path, AccessFlags::X_OK).map_err(|_| "not executable".into())
}

/// A folder that is there.
fn folder(source: &Source, directory: &Spanned<String>) -> Result<String, ConfigError> {
    let resolved = absolute(source.path(directory.get_ref()));
    let why = match std::fs::metadata(&resolved) {
        Ok(meta) if meta.is_dir() => return Ok(resolved.display().to_string()),
        Ok(_) => "not a folder".into(),
        Err(cause) => plain(&cause),
    };
    let reason = format!("cannot work in {:?}: {why}", directory.get_ref());
    Err(source.error(&directory.span(), reason))
}

/// Not relative to where somebody happens to stand: the program may stand elsewhere.
fn absolute(path: String) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path.into())
}

/// A user or group that a program can be given: one that is there (`found`, and whether it is our own), and by root
/// only if it is another.
fn account(
    source: &Source,
    name: &Spanned<String>,
    what: &str,
    found: nix::Result<Option<bool>>,
) -> Result<String, ConfigError> {
    let shown = name.get_ref();
    let why = match found {
        Ok(Some(own)) if own || Uid::effective().is_root() => return Ok(shown.clone()),
        Ok(Some(_)) => {
            "only root can give it; ringway runs as another user: leave it out".to_owned()
        }
        Ok(None) => format!("there is no such {what}"),
        Err(errno) => errno.desc().to_lowercase(),
    };
    let reason = format!("cannot run as {what} {shown:?}: {why}");
    Err(source.error(&name.span(), reason))
}

/// The whole environment but for what says which sensor it is.
fn environment(source: &Source, s: &SensorSection) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables: Vec<(String, String)> = Vec::new();
    if let Some(given) = &s.environment {
        let wrong = |reason: String| Err(source.error(&given.span(), reason));
        if given.get_ref().len() > WORDS_MAX {
            return wrong(format!("environment has more than {WORDS_MAX} variables"));
        }
        for (name, value) in given.get_ref() {
            if OURS.contains(&name.as_str()) {
                return wrong(format!("{name} is set by ringway itself"));
            }
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return wrong(format!("{name:?} is not a variable with a value"));
            }
            variables.push((name.clone(), value.clone()));
        }
    }
    if !variables.iter().any(|(name, _)| name == "PATH") {
        let path = std::env::var("PATH").unwrap_or_else(|_| PATH_DEFAULT.into());
        variables.push(("PATH".into(), path));
    }
    Ok(variables)
}
