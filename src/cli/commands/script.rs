//! Commands for scripts: the exit code is the answer.

use serde_json::{Map, Value};

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::client::Answer;
use crate::cli::commands::outcome;
use crate::cli::entry::{Entry, Labels, ending_sentence, take_list};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::results;
use crate::cli::session::Session;
use crate::cli::targets;
use crate::json::json;

/// `pmd is-online`: silent, but for `--json`.
pub fn is_online(session: &mut Session, parsed: &Parsed) -> Run {
    let answer = targets::expand(session, parsed)
        .and_then(|targets| session.processes(Some(&targets), true));
    let processes = match answer {
        Ok(processes) => processes,
        // The exit code says it; the text is for those who ask for JSON.
        Err(End::Failed(failure))
            if !session.screen.json && matches!(failure.exit, Exit::NotFound | Exit::NoDaemon) =>
        {
            return Ok(failure.exit);
        }
        Err(end) => return Err(end),
    };
    let well =
        |entry: Entry<'_>| entry.status() == "online" && entry.text("health") != Some("unhealthy");
    let online = !processes.is_empty() && processes.iter().map(Entry).all(well);
    if session.screen.json {
        let list: Vec<Value> = processes
            .iter()
            .map(Entry)
            .map(|entry| {
                json!({"id": entry.id(), "name": entry.name(), "instance": entry.instance(),
                    "status": entry.status(), "online": well(entry)})
            })
            .collect();
        session.screen.document(&json!({"online": online, "processes": list}))?;
    }
    Ok(if online { Exit::Done } else { Exit::Failed })
}

/// `pmd wait`.
pub fn wait(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    let until = parsed.text("for").unwrap_or("online");
    let mut data = Map::new();
    data.insert("processes".to_owned(), json!(targets));
    data.insert("for".to_owned(), json!(until));
    let data = session.with_timeout(data);
    let results = match session.action("wait", &data)? {
        Answer::Given(mut reply) => take_list(&mut reply["results"]),
        Answer::Refused(error) => {
            let mut failure = results::of_error(&error, &targets.join(" "));
            if failure.exit == Exit::NotFound {
                outcome::hint_at_other_daemon(session, "wait", &mut failure);
            }
            return Err(failure.into());
        }
    };
    let labels = Labels::of(&results);
    let mut exits = Vec::new();
    for result in &results {
        let label = labels.of_entry(Entry(result));
        let failure =
            results::failure(result, &labels, &mut Vec::new()).filter(|_| result["ok"] == false);
        let failure = match failure {
            None if until == "done" && !ended_well(result) => Some(Failure::new(
                Exit::NotStarted,
                format!("{label} is done: {}", ending_sentence(result)),
            )),
            other => other,
        };
        if let Some(failure) = failure {
            exits.push(failure.exit);
            session.screen.failure(&failure);
        } else {
            session.screen.result(&format!("{label}  {}", state(until, result)))?;
        }
    }
    let exit = Exit::of_several(exits);
    if session.screen.json {
        session.screen.document(&json!({
            "ok": exit == Exit::Done, "command": "wait", "results": results, "warnings": [],
        }))?;
    }
    Ok(exit)
}

/// A program that never ran has nothing to be blamed for.
fn ended_well(result: &Value) -> bool {
    result["signal"].is_null() && matches!(result["exit_code"].as_i64(), None | Some(0))
}

fn state(until: &str, result: &Value) -> String {
    match until {
        "done" | "healthy" => until.to_owned(),
        _ => Entry(result).status().to_owned(),
    }
}

/// `pmd ping`. Never starts a daemon.
pub fn ping(session: &mut Session, _parsed: &Parsed) -> Run {
    session.question("ping", &json!({}))?;
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "ping"}))?;
    } else {
        session.screen.result("pong")?;
    }
    Ok(Exit::Done)
}
