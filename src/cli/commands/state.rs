//! Commands about what is kept: logs on disk, the saved list, the daemon itself.

use serde_json::{Map, Value};

use crate::cli::Run;
use crate::cli::app_files::{self, Caller, Purpose};
use crate::cli::args::Parsed;
use crate::cli::client::Answer;
use crate::cli::commands::{from_pm2, outcome};
use crate::cli::entry::{Entry, take_list};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::session::{Session, no_daemon};
use crate::cli::targets;
use crate::config::export::{self, ExportFormat, Exported};
use crate::config::resolve::{self, Defaults, Dialect, Origin};
use crate::json::json;

/// `pmd flush`.
pub fn flush(session: &mut Session, parsed: &Parsed) -> Run {
    on_logs(session, parsed, "flush", "emptied")
}

/// `pmd rotate`.
pub fn rotate(session: &mut Session, parsed: &Parsed) -> Run {
    on_logs(session, parsed, "rotate", "rotated")
}

/// `pmd reloadLogs`.
pub fn reload_logs(session: &mut Session, parsed: &Parsed) -> Run {
    on_logs(session, parsed, "reload_logs", "opened anew")
}

/// `pmd save`.
pub fn save(session: &mut Session, parsed: &Parsed) -> Run {
    let reply = done(session, "save", &json!({}))?;
    let count = reply["processes"].as_u64().unwrap_or(0);
    let what =
        if count == 1 { "1 process is".to_owned() } else { format!("{count} processes are") };
    confirm(session, parsed, &reply, &format!("{what} saved (this happens by itself)"))
}

/// `pmd resurrect`. Starts a daemon where none runs, which by itself starts what is saved.
pub fn resurrect(session: &mut Session, parsed: &Parsed) -> Run {
    if parsed.flag("from-pm2") {
        return from_pm2::run(session, parsed);
    }
    let is_new = session.need_daemon()?;
    let data = session.with_timeout(Map::new());
    let (mut results, count) = match session.action("resurrect", &data)? {
        Answer::Given(mut reply) => {
            let results = take_list(&mut reply["results"]);
            (results, reply["processes"].as_u64().unwrap_or(0))
        }
        Answer::Refused(error) => return Err(Failure::of_reply(&error).into()),
    };
    if results.is_empty() && is_new {
        // It had started everything before it answered.
        results = session.processes(None, true)?;
        results.iter_mut().for_each(as_result);
    }
    if results.is_empty() {
        let noun = if count == 1 { "process" } else { "processes" };
        session.screen.result(&format!("nothing to start: {count} {noun} in the list"))?;
    }
    let outcome = outcome::Outcome { results, warnings: Vec::new() };
    outcome::report(session, parsed, "resurrect", outcome)
}

/// An entry of the list as the result of a start.
fn as_result(entry: &mut Value) {
    let running = Entry(entry).pid().is_some();
    if let Some(fields) = entry.as_object_mut() {
        fields.insert("ok".to_owned(), json!(true));
        fields.insert("changed".to_owned(), json!(running));
        fields.insert("error".to_owned(), Value::Null);
        // Nobody has waited for it.
        fields.remove("ready");
    }
}

/// `pmd export`.
pub fn export(session: &mut Session, parsed: &Parsed) -> Run {
    let word = parsed.text("format").unwrap_or("json");
    let format = ExportFormat::parse(word)
        .map_err(|problem| app_files::failure(&[problem], "export", Purpose::Check))?;
    let targets = targets::expand_some(session, parsed)?;
    let exported = definitions(session, targets.as_deref(), format)?;
    if session.screen.json {
        let document: Value = serde_json::from_str(&exported.text)
            .unwrap_or_else(|_| json!({"format": word, "text": exported.text}));
        session.screen.document(&document)?;
        return Ok(Exit::Done);
    }
    session.screen.text(&exported.text)?;
    for note in &exported.notes {
        session.screen.note(note);
    }
    Ok(Exit::Done)
}

/// What the daemon has, as a file; without secrets, which the notes name.
///
/// # Errors
///
/// Those of the question, and definitions that this version does not understand.
pub fn definitions(
    session: &mut Session,
    targets: Option<&[String]>,
    format: ExportFormat,
) -> Result<Exported, End> {
    let mut reply = session.question("export", &json!({"processes": targets}))?;
    let document = reply["definitions"].take();
    let caller = Caller::here()?;
    let origin = Origin {
        dialect: Dialect::Client,
        dir: &caller.dir,
        environment: &caller.environment,
        profile: None,
        source: None,
        file: None,
        strict: false,
        defaults: &Defaults::default(),
    };
    let resolved = resolve::apps(&document, &origin);
    if !resolved.problems.is_empty() {
        return Err(app_files::failure(&resolved.problems, "the daemon", Purpose::Check).into());
    }
    let specs: Vec<_> = resolved.apps.iter().collect();
    let mut exported = export::export(&specs, format);
    // The daemon keeps secrets to itself; it only says which there are.
    let names = document.as_array().into_iter().flatten().map(|app| app["name"].as_str());
    let left_out = reply["left_out"].as_array().into_iter().flatten();
    for (name, variables) in names.zip(left_out) {
        let variables: Vec<&str> =
            variables.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !variables.is_empty() {
            let name = name.unwrap_or("?");
            exported.notes.push(format!("{name}: secrets left out: {}", variables.join(", ")));
        }
    }
    Ok(exported)
}

/// `pmd kill`.
pub fn kill(session: &mut Session, parsed: &Parsed) -> Run {
    if !session.is_there()? {
        return Err(no_daemon());
    }
    let leave = parsed.flag("leave-running");
    if !leave && !parsed.flag("yes") {
        let processes = session.processes(None, true)?;
        let running = processes.iter().filter(|process| process["pid"].as_u64().is_some()).count();
        let question = match running {
            1 => "stop 1 program and the daemon?".to_owned(),
            many => format!("stop {many} programs and the daemon?"),
        };
        if running > 0 && session.screen.ask(&question) == Some(false) {
            return Ok(Exit::Failed);
        }
    }
    let data = json!({"leave_running": leave});
    let reply = session.action("shutdown", &data)?.given()?;
    // The daemon is gone when its end of the connection is.
    let client = session.client()?;
    while client.event()?.is_some() {}
    confirm(
        session,
        parsed,
        &reply,
        if leave { "daemon ended, programs go on" } else { "daemon ended" },
    )
}

fn on_logs(session: &mut Session, parsed: &Parsed, kind: &str, done_word: &str) -> Run {
    let targets = targets::expand_some(session, parsed)?;
    let reply = done(session, kind, &json!({"processes": targets}))?;
    let count = reply["processes"].as_u64().unwrap_or(0);
    let noun = if count == 1 { "process" } else { "processes" };
    confirm(session, parsed, &reply, &format!("logs of {count} {noun} {done_word}"))
}

fn done(session: &mut Session, kind: &str, data: &Value) -> Result<Value, End> {
    session.action(kind, data)?.given()
}

/// One line for people, the usual document for programs.
fn confirm(session: &mut Session, parsed: &Parsed, reply: &Value, line: &str) -> Run {
    if session.screen.json {
        session.screen.document(&json!({
            "ok": true, "command": parsed.command.name, "processes": reply["processes"],
            "results": [], "warnings": [],
        }))?;
    } else {
        session.screen.result(line)?;
    }
    Ok(Exit::Done)
}
