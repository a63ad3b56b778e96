//! Commands about what is kept: logs on disk, the saved list, the daemon itself.

use serde_json::{Map, Value, json};

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::client::Answer;
use crate::cli::commands::outcome;
use crate::cli::entry::take_list;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::session::{Session, no_daemon};
use crate::cli::targets;

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
    session.need_daemon()?;
    let data = session.with_timeout(Map::new());
    let (results, count) = match session.action("resurrect", &data)? {
        Answer::Given(mut reply) => {
            let results = take_list(&mut reply["results"]);
            (results, reply["processes"].as_u64().unwrap_or(0))
        }
        Answer::Refused(error) => return Err(Failure::of_reply(&error).into()),
    };
    if results.is_empty() {
        let noun = if count == 1 { "process" } else { "processes" };
        session.screen.result(&format!("nothing to start: {count} {noun} in the list"))?;
    }
    let outcome = outcome::Outcome { results, warnings: Vec::new() };
    outcome::report(session, parsed, "resurrect", outcome)
}

/// `pmd export`.
pub fn export(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand_some(session, parsed)?;
    let (apps, left_out) = definitions(session, targets.as_deref())?;
    let document = json!({ "apps": apps });
    if session.screen.json {
        session.screen.document(&document)?;
        return Ok(Exit::Done);
    }
    let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from)?;
    match parsed.text("format") {
        Some("pm2") => session.screen.text(&format!("module.exports = {text};\n"))?,
        Some(_) | None => session.screen.line(&text)?,
    }
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        session.screen.note(&format!("left out, because they look like secrets: {names}"));
    }
    Ok(Exit::Done)
}

/// The definitions of what the daemon has, and the names of the variables that were left out.
///
/// # Errors
///
/// Those of the question.
pub fn definitions(
    session: &mut Session,
    targets: Option<&[String]>,
) -> Result<(Vec<Value>, Vec<String>), End> {
    let mut reply = session.question("export", &json!({"processes": targets}))?;
    let apps = take_list(&mut reply["definitions"]);
    let mut left_out: Vec<String> = Vec::new();
    for (app, names) in apps.iter().zip(reply["left_out"].as_array().into_iter().flatten()) {
        let app = app["name"].as_str().unwrap_or("?");
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        left_out.extend(names.map(|name| format!("{app}: {name}")));
    }
    Ok((apps, left_out))
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
