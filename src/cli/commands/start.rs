//! `pmd start`: files, known processes, scripts, programs and command lines.

use std::path::Path;

use serde_json::{Map, Value};

use crate::cli::Run;
use crate::cli::app_files::{self, Caller, Loaded, Purpose};
use crate::cli::args::Parsed;
use crate::cli::commands::outcome::{self, Outcome};
use crate::cli::commands::{logs, start_options};
use crate::cli::entry::Entry;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::invoked::Invoked;
use crate::cli::session::Session;
use crate::cli::{glob, targets};
use crate::config::files::{self, Format};
use crate::config::resolve::{self, Defaults, Dialect, Origin};
use crate::config::{preflight, program};
use crate::json::json;

/// What the user wants to be started.
#[derive(Debug)]
enum What {
    File(String),
    /// Processes that are there.
    Known(String),
    /// A script, a program or a command line.
    New(String),
}

/// Runs `pmd start`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let caller = Caller::here()?;
    let words = if parsed.operands.is_empty() {
        vec![default_file(parsed, &caller)?]
    } else {
        parsed.operands.clone()
    };
    let whats = sort(session, parsed, &caller, words)?;
    check_options(parsed, &whats)?;
    let purpose = session.start_purpose()?;
    let mut outcome = Outcome::default();
    let mut known = Vec::new();
    // All is read and checked before anything is started.
    let mut requests = Vec::new();
    for what in whats {
        match what {
            What::Known(target) => known.push(target),
            What::File(file) => {
                let loaded = app_files::load(parsed, Path::new(&file), purpose)?;
                app_files::warn(session, &loaded.warnings);
                requests.push(request(&loaded, &caller));
            }
            What::New(script) => {
                let loaded = define(parsed, &caller, &script, purpose)
                    .map_err(|failure| elsewhere(session, &script, failure))?;
                app_files::warn(session, &loaded.warnings);
                requests.push(request(&loaded, &start_options::filtered(parsed, &caller)));
            }
        }
    }
    for request in &mut requests {
        if request.get("configs").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            return Err(Failure::new(Exit::Invalid, "the file declares no apps").into());
        }
        add_options(request, parsed);
    }
    if !known.is_empty() {
        let mut request = Map::new();
        // Under PM2's name what runs is started anew.
        let action = if session.global.invoked == Invoked::Pm2 { "restart" } else { "start" };
        request.insert("action".to_owned(), json!(action));
        request.insert("processes".to_owned(), json!(known));
        request.insert("wait".to_owned(), json!(patience(parsed)));
        requests.push(request);
    }
    session.need_daemon()?;
    let alone = requests.len() == 1;
    for request in requests {
        match outcome::command(session, request) {
            Ok(more) => outcome.append(more),
            // What the other requests did is told all the same.
            Err(End::Failed(failure)) if !alone => outcome.append_failure(&failure),
            Err(end) => return Err(end),
        }
    }
    let started: Vec<String> = outcome
        .results
        .iter()
        .filter_map(|result| result["id"].as_u64().map(|id| id.to_string()))
        .collect();
    let exit = outcome::report(session, parsed, "start", outcome)?;
    if exit == Exit::Done && parsed.flag("attach") && !session.screen.json {
        session.screen.flush()?;
        return logs::follow(session, Some(started));
    }
    Ok(exit)
}

/// The `command` request that enters what a file or a command line declares.
#[must_use]
pub fn request(loaded: &Loaded, caller: &Caller) -> Map<String, Value> {
    let mut request = Map::new();
    request.insert("action".to_owned(), json!("start"));
    request.insert("configs".to_owned(), json!(loaded.configs));
    request.insert("environment".to_owned(), caller.environment_json());
    if let Some(source) = &loaded.source {
        request.insert("source".to_owned(), json!(source));
    }
    request
}

fn add_options(request: &mut Map<String, Value>, parsed: &Parsed) {
    request.insert("wait".to_owned(), json!(patience(parsed)));
    request.insert("replace".to_owned(), json!(parsed.flag("replace")));
    request.insert("force".to_owned(), json!(parsed.flag("force")));
}

fn patience(parsed: &Parsed) -> &'static str {
    if parsed.flag("wait") { "stable" } else { "none" }
}

/// Row 5: what is no file may be a process of the daemon that was not asked.
fn elsewhere(session: &Session, word: &str, failure: Failure) -> Failure {
    if failure.exit != Exit::Invalid || word.contains(['/', ' ']) {
        return failure;
    }
    let mut failure = failure;
    failure.details.insert("process".to_owned(), json!(word));
    outcome::hint_at_other_daemon(session, "start", &mut failure);
    failure
}

/// The file that is meant when none is named.
pub fn default_file(parsed: &Parsed, caller: &Caller) -> Result<String, Failure> {
    let found = files::DEFAULT_FILES.iter().find(|name| caller.dir.join(name).is_file());
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        let command = parsed.command.name;
        Failure::usage(format!("{command}: what? There is no configuration file in this directory"))
            .hint(format!("pmd {command} app.js, or: pmd init"))
    })
}

/// Says of each word what it is; the first rule that fits counts.
fn sort(
    session: &mut Session,
    parsed: &Parsed,
    caller: &Caller,
    words: Vec<String>,
) -> Result<Vec<What>, End> {
    let mut whats = Vec::new();
    let mut names: Option<Vec<(String, String, String)>> = None;
    for word in words {
        if parsed.flag("shell") {
            whats.push(What::New(word));
            continue;
        }
        if word == "-" || Format::of(Path::new(&word)).is_some() {
            whats.push(What::File(word));
            continue;
        }
        if glob::is_pattern(&word) && !caller.dir.join(&word).exists() {
            let expanded = targets::expand_words(session, parsed, std::slice::from_ref(&word))?;
            whats.extend(expanded.into_iter().map(What::Known));
            continue;
        }
        // Known processes are only asked for where a word may be one.
        let may_be_known = !word.contains('/') && !start_options::defines(parsed);
        if may_be_known {
            let names = match &mut names {
                Some(names) => names,
                None => {
                    wake_for(session, caller, &word)?;
                    names.insert(known_names(session)?)
                }
            };
            if is_known(names, &word) {
                whats.push(What::Known(word));
                continue;
            }
        }
        whats.push(What::New(word));
    }
    Ok(whats)
}

/// After a reboot nothing runs, but what ran is saved: a word that is no file may be one of these.
fn wake_for(session: &mut Session, caller: &Caller, word: &str) -> Result<(), End> {
    let is_program = || program::find_in_path(word, caller.path(), &caller.dir).is_some();
    let is_saved = session.daemons.paths().is_ok_and(|paths| paths.state_file().exists());
    if is_saved
        && !session.global.no_spawn
        && !session.is_there()?
        && !word.contains(char::is_whitespace)
        && !caller.dir.join(word).exists()
        && !is_program()
    {
        session.need_daemon()?;
    }
    Ok(())
}

/// Name, namespace and id of everything in the table; nothing where no daemon runs.
fn known_names(session: &mut Session) -> Result<Vec<(String, String, String)>, End> {
    if !session.is_there()? {
        return Ok(Vec::new());
    }
    let processes = session.processes(None, true)?;
    Ok(processes
        .iter()
        .map(|process| {
            let entry = Entry(process);
            (entry.name().to_owned(), entry.namespace().to_owned(), entry.id().to_string())
        })
        .collect())
}

fn is_known(names: &[(String, String, String)], word: &str) -> bool {
    let bare = match word.rsplit_once(':') {
        Some((name, instance)) if instance.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => word,
    };
    word == "all"
        || names.iter().any(|(name, namespace, id)| {
            name == word || name == bare || namespace == word || id == word
        })
}

/// Options that fit one new program only.
fn check_options(parsed: &Parsed, whats: &[What]) -> Result<(), Failure> {
    let new = whats.iter().filter(|what| matches!(what, What::New(_))).count();
    if new > 1 && parsed.text("name").is_some() {
        return Err(Failure::usage("start: '--name' fits one program only"));
    }
    if new == 0 && !parsed.rest.is_empty() {
        return Err(Failure::usage("start: arguments after '--' need a script to go to"));
    }
    Ok(())
}

/// A definition from the command line.
pub fn define(
    parsed: &Parsed,
    caller: &Caller,
    script: &str,
    purpose: Purpose,
) -> Result<Loaded, Failure> {
    let fields = start_options::fields(parsed, caller, script)?;
    let origin = Origin {
        dialect: Dialect::Client,
        dir: &caller.dir,
        environment: &caller.environment,
        profile: None,
        source: None,
        file: None,
        strict: parsed.flag("strict"),
        defaults: &Defaults::default(),
    };
    let resolved = resolve::app(&fields, &origin);
    if let Some(problem) = resolved.problems.first() {
        return Err(app_files::failure(std::slice::from_ref(problem), script, purpose));
    }
    // The daemon looks again; here a typing error is caught without one. What another user may do
    // is not for us to judge.
    for app in resolved.apps.iter().filter(|_| purpose.looks_at_programs()) {
        if let Err(problem) = preflight::check(app, Some(caller.path())) {
            return Err(app_files::failure(&[problem], script, purpose));
        }
    }
    let configs = resolved.apps.iter().map(|app| app_files::config(app, None)).collect();
    Ok(Loaded { apps: resolved.apps, configs, warnings: resolved.warnings, source: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_process_is_named_by_name_instance_group_or_id() {
        let names = vec![("web".to_owned(), "shop".to_owned(), "3".to_owned())];
        for word in ["web", "web:0", "shop", "3", "all"] {
            assert!(is_known(&names, word), "{word}");
        }
        for word in ["wbe", "web:x", "4", "web.js"] {
            assert!(!is_known(&names, word), "{word}");
        }
    }
}
