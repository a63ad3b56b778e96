//! Commands that do something to processes that are there.

use std::path::Path;

use serde_json::{Map, Value};

use crate::base::Signal;
use crate::cli::Run;
use crate::cli::app_files::{self, Caller};
use crate::cli::args::Parsed;
use crate::cli::commands::{outcome, start};
use crate::cli::entry::{Entry, Labels};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::text;
use crate::cli::session::Session;
use crate::cli::targets;
use crate::json::json;

/// `pmd stop`.
pub fn stop(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    act(session, parsed, "stop", &targets)
}

/// `pmd restart`.
///
/// With a file, everything in the file is taken over.
pub fn restart(session: &mut Session, parsed: &Parsed) -> Run {
    again(session, parsed, "restart")
}

/// `pmd reload`.
///
/// With a file, everything in the file is taken over.
pub fn reload(session: &mut Session, parsed: &Parsed) -> Run {
    again(session, parsed, "reload")
}

/// `pmd delete`.
pub fn delete(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    if targets.iter().any(|target| target == "all")
        && !parsed.flag("yes")
        && session.screen.ask("delete all processes?") == Some(false)
    {
        return Ok(Exit::Failed);
    }
    act(session, parsed, "delete", &targets)
}

/// `pmd scale`.
pub fn scale(session: &mut Session, parsed: &Parsed) -> Run {
    let [target, number] = parsed.operands.as_slice() else {
        return Err(Failure::usage("scale: a name and a number are needed").into());
    };
    if number.trim_start_matches(['+', '-']).parse::<u32>().is_err()
        || number.strip_prefix(['+', '-']).is_some_and(|rest| rest.starts_with(['+', '-']))
    {
        return Err(Failure::usage(format!("scale: '{number}' is not a number of instances"))
            .hint("pmd scale <name> 4, +1 or -1")
            .into());
    }
    let targets = targets::expand_words(session, parsed, std::slice::from_ref(target))?;
    let mut data = request("scale", &targets, parsed);
    data.insert("instances".to_owned(), json!(number));
    let outcome = outcome::command(session, data)?;
    outcome::report(session, parsed, "scale", outcome)
}

/// `pmd signal`: the signal may stand before or after the targets.
pub fn signal(session: &mut Session, parsed: &Parsed) -> Run {
    let words = &parsed.operands;
    let (first, last) = (words.first().map(String::as_str), words.last().map(String::as_str));
    // `signal 1 2`: the usual order wins.
    let (signal, words) = match (first.and_then(Signal::parse), last.and_then(Signal::parse)) {
        (Some(signal), _) => (signal, words.get(1..).unwrap_or_default()),
        (None, Some(signal)) => (signal, &words[..words.len() - 1]),
        (None, None) => {
            let first = first.unwrap_or_default();
            return Err(Failure::usage(format!("signal: '{first}' is not a signal"))
                .hint("pmd signal SIGHUP <targets>")
                .into());
        }
    };
    let targets = targets::expand_words(session, parsed, words)?;
    let mut data = request("signal", &targets, parsed);
    data.insert("signal".to_owned(), json!(signal.to_string()));
    let outcome = outcome::command(session, data)?;
    outcome::report(session, parsed, "signal", outcome)
}

/// `pmd reset`.
pub fn reset(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    act(session, parsed, "reset", &targets)
}

/// `pmd send`.
pub fn send(session: &mut Session, parsed: &Parsed) -> Run {
    let Some((target, line)) = parsed.operands.split_first() else {
        return Err(Failure::usage("send: what?").into());
    };
    let line = line.join(" ");
    if line.contains('\n') {
        return Err(Failure::usage("send: the text is more than one line").into());
    }
    let data = json!({"process": target, "line": line});
    session.action("send_line", &data)?.given()?;
    if session.screen.json {
        let document = json!({"ok": true, "command": "send", "results": [], "warnings": []});
        session.screen.document(&document)?;
    }
    Ok(Exit::Done)
}

/// `pmd trigger`: prints what each program answered.
pub fn trigger(session: &mut Session, parsed: &Parsed) -> Run {
    let (target, action, param) = match parsed.operands.as_slice() {
        [target, action] => (target, action, None),
        [target, action, param] => (target, action, Some(param)),
        _ => return Err(Failure::usage("trigger: the parameter is one word; quote it").into()),
    };
    let targets = targets::expand_words(session, parsed, std::slice::from_ref(target))?;
    let mut data = Map::new();
    data.insert("processes".to_owned(), json!(targets));
    data.insert("action".to_owned(), json!(action));
    if let Some(param) = param {
        data.insert("param".to_owned(), json!(param));
    }
    let data = session.with_timeout(data);
    let results = outcome::request(session, "trigger", &data)?.results;
    let labels = Labels::of(&results);
    let mut exit = Exit::Done;
    for result in &results {
        let label = labels.of_entry(Entry(result));
        if let Some(why) = result["error"].as_str() {
            session.screen.failure(&Failure::new(Exit::Failed, format!("{label}: {why}")));
            exit = Exit::Failed;
            continue;
        }
        let answer = &result["return"];
        let answer = answer
            .as_str()
            .map_or_else(|| answer.to_string(), |answer| text::one_line(answer).into_owned());
        let line = if results.len() == 1 { answer } else { format!("{label}  {answer}") };
        session.screen.result(&line)?;
    }
    if session.screen.json {
        session.screen.document(
            &json!({"ok": exit == Exit::Done, "command": "trigger", "results": results}),
        )?;
    }
    Ok(exit)
}

/// Restart or reload: targets as they are, files taken over.
fn again(session: &mut Session, parsed: &Parsed, action: &str) -> Run {
    let (files, words): (Vec<String>, Vec<String>) =
        parsed.operands.iter().cloned().partition(|word| targets::names_file(word));
    let mut all = outcome::Outcome::default();
    for file in &files {
        all.append(take_over(session, parsed, action, Path::new(file))?);
    }
    if !words.is_empty() {
        let targets = targets::expand_words(session, parsed, &words)?;
        let mut data = request(action, &targets, parsed);
        with_environment(&mut data, parsed)?;
        all.append(outcome::command(session, data)?);
        if action == "restart" && !parsed.flag("update-env") && !session.screen.json {
            let note = environment_note(session, &all.results);
            let exit = outcome::report(session, parsed, action, all)?;
            if let Some(note) = note {
                session.screen.note(&note);
            }
            return Ok(exit);
        }
    }
    outcome::report(session, parsed, action, all)
}

/// Everything in the file becomes what runs; what did not change is restarted all the same.
fn take_over(
    session: &mut Session,
    parsed: &Parsed,
    action: &str,
    file: &Path,
) -> Result<outcome::Outcome, End> {
    session.client()?;
    let purpose = session.start_purpose()?;
    let loaded = app_files::load(parsed, file, purpose)?;
    app_files::warn(session, &loaded.warnings);
    let mut taken = if action == "restart" {
        let mut data = start::request(&loaded, &Caller::here()?);
        data.insert("replace".to_owned(), json!(true));
        data.insert("wait".to_owned(), json!(wait(parsed)));
        outcome::command(session, data)?
    } else {
        let mut data = start::request(&loaded, &Caller::here()?);
        data.remove("action");
        data.insert("wait".to_owned(), json!(wait(parsed)));
        let data = session.with_timeout(data);
        outcome::request(session, "apply", &data)?
    };
    let unchanged: Vec<String> = taken
        .results
        .iter()
        .filter(|result| result["ok"] == true && result["changed"] == false)
        .filter_map(|result| result["id"].as_u64().map(|id| id.to_string()))
        .collect();
    if !unchanged.is_empty() {
        taken.results.retain(|result| result["ok"] != true || result["changed"] != false);
        let data = request(action, &unchanged, parsed);
        taken.append(outcome::command(session, data)?);
    }
    Ok(taken)
}

/// The usual request about targets, and the report of what came of it.
fn act(session: &mut Session, parsed: &Parsed, action: &str, targets: &[String]) -> Run {
    let data = request(action, targets, parsed);
    let outcome = outcome::command(session, data)?;
    outcome::report(session, parsed, action, outcome)
}

/// A `command` with the members that the options ask for.
fn request(action: &str, targets: &[String], parsed: &Parsed) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("action".to_owned(), json!(action));
    data.insert("processes".to_owned(), json!(targets));
    let has = |long: &str| parsed.command.long(long).is_some();
    if has("wait") {
        data.insert("wait".to_owned(), json!(wait(parsed)));
    }
    if has("parallel")
        && let Some(parallel) = parsed.number("parallel")
    {
        data.insert("parallel".to_owned(), json!(parallel));
    }
    if has("kill-timeout")
        && let Some(pause) = parsed.duration("kill-timeout")
    {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        data.insert("kill_timeout".to_owned(), json!(millis));
    }
    if has("port")
        && let Some(port) = parsed.text("port")
    {
        data.insert("port".to_owned(), json!(port));
    }
    if has("purge-logs") && parsed.flag("purge-logs") {
        data.insert("purge_logs".to_owned(), json!(true));
    }
    data
}

/// Until it is online, or not at all.
fn wait(parsed: &Parsed) -> &'static str {
    if parsed.flag("wait") { "online" } else { "none" }
}

/// `-a` and `--env K=V`.
fn with_environment(data: &mut Map<String, Value>, parsed: &Parsed) -> Result<(), Failure> {
    if parsed.flag("update-env") {
        data.insert("update_env".to_owned(), json!(true));
        data.insert("environment".to_owned(), Caller::here()?.environment_json());
    }
    let mut env = Map::new();
    for text in parsed.texts("env") {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::usage(format!(
                "{}: '--env {text}' needs a configuration file, or NAME=value",
                parsed.command.name
            )));
        };
        env.insert(name.to_owned(), json!(value));
    }
    if !env.is_empty() {
        data.insert("env".to_owned(), Value::Object(env));
    }
    Ok(())
}

/// Whether the programs that were restarted with their old environment were started with another
/// one than this shell has. Only told where it is certain.
fn environment_note(session: &mut Session, results: &[Value]) -> Option<String> {
    // A note is worth one look, not one for each of a hundred instances.
    let [result] = results else { return None };
    let id = result["id"].as_u64()?.to_string();
    let processes = session.processes(Some(std::slice::from_ref(&id)), false).ok()?;
    let entry = Entry(processes.first()?);
    if entry.config("inherit_env") != true {
        return None;
    }
    let data = json!({"process": id, "reveal": false});
    let reply = session.question("get_env", &data).ok()?;
    let started_with = reply["env"].as_object()?;
    let configured = entry.config("env").as_object();
    let caller = Caller::here().ok()?;
    let differing: Vec<&str> = caller
        .environment
        .iter()
        .filter(|(name, _)| *name != "PWD")
        .filter(|(name, _)| configured.is_none_or(|env| !env.contains_key(*name)))
        .filter(|(name, value)| {
            let then = started_with.get(*name).and_then(Value::as_str);
            then.is_some_and(|then| then != *value && !then.contains("***"))
        })
        .map(|(name, _)| name)
        .collect();
    let noun = match differing.len() {
        0 => return None,
        1 => "1 variable differs".to_owned(),
        many => format!("{many} variables differ"),
    };
    let mut names = differing.get(..5).unwrap_or(&differing).join(", ");
    if differing.len() > 5 {
        names.push_str(", ...");
    }
    Some(format!("{noun} from your shell ({names}); --update-env takes them"))
}
