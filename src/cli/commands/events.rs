//! `pmd events`: what happened to processes.

use serde_json::Value;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands::logs;
use crate::cli::entry::{Entry, Labels};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::lines::{Lines, Look};
use crate::cli::output::when;
use crate::cli::session::Session;
use crate::cli::targets;
use crate::json::json;

/// Runs `pmd events`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let since = logs::time(parsed, "since")?;
    let targets = targets::expand_some(session, parsed)?;
    // Says whether the targets are there; a deleted process has events all the same, but no name.
    let processes = session.processes(targets.as_deref(), true)?;
    let look = Look { raw: false, time: true, colour: session.screen.view.colour, highlight: None };
    let mut lines = Lines::new(look, Labels::of(&processes));
    for process in &processes {
        let label = lines.labels.of_entry(Entry(process));
        lines.make_room(&label);
    }
    let channel = parsed.flag("channel");
    let follow = parsed.flag("follow") || channel;
    let kind = if channel { "channel_event" } else { "process_event" };
    if follow {
        let subscription = json!({"events": [kind], "processes": targets, "backlog": 0});
        session.question("subscribe", &subscription)?;
    }
    if channel {
        return forever(session, kind, &mut lines);
    }
    let question = json!({"processes": targets, "since": since.map(when::rfc3339)});
    let reply = session.question("get_events", &question)?;
    for event in reply["events"].as_array().into_iter().flatten() {
        print(session, event, event["timestamp"].as_str(), &mut lines)?;
    }
    session.screen.flush()?;
    if !follow {
        return Ok(Exit::Done);
    }
    forever(session, kind, &mut lines)
}

fn forever(session: &mut Session, kind: &str, lines: &mut Lines) -> Run {
    loop {
        let client = session.client()?;
        let Some(message) = client.event()? else {
            return Err(Failure::new(Exit::NoDaemon, "the daemon has ended").into());
        };
        if message.kind == kind {
            let event = logs::stamped(&message);
            print(session, &event, message.timestamp.as_deref(), lines)?;
            session.screen.flush()?;
        }
    }
}

fn print(
    session: &mut Session,
    event: &Value,
    timestamp: Option<&str>,
    lines: &mut Lines,
) -> Result<(), End> {
    // An event may come as a whole message or as its data.
    let data = if event["data"].is_object() { &event["data"] } else { event };
    if session.screen.json {
        let mut data = data.clone();
        data["timestamp"] = json!(timestamp);
        session.screen.document(&data)?;
    } else if let Some(line) = lines.event(data, timestamp) {
        session.screen.text(&line)?;
    }
    Ok(())
}
