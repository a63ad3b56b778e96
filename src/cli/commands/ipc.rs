//! `pmd ipc` and `pmd ipevents`: what programs are told and asked over their channels.

use serde_json::{Map, Value};

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands::outcome;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::output::text;
use crate::cli::session::Session;
use crate::json::{enter, json, set};

/// Runs `pmd ipc`. Of a request the answers are printed, a JSON array each.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let Some((verb, rest)) = parsed.operands.split_first() else { return Ok(Exit::Usage) };
    let mut data = Map::new();
    let timeout = session.global.timeout.map(|limit| limit.as_millis().to_string());
    if let Some(Ok(millis)) = timeout.map(|millis| millis.parse::<u64>())
        && matches!(verb.as_str(), "request" | "call")
    {
        set(&mut data, "timeout_ms", &millis);
    }
    match (verb.as_str(), rest) {
        ("emit" | "request", [target, event, values @ ..]) => {
            set(&mut data, "target", target);
            set(&mut data, "event", event);
            enter(&mut data, "args", values.iter().map(|word| value(word)).collect());
        }
        ("call", [function, values @ ..]) => {
            set(&mut data, "fn", function);
            enter(&mut data, "args", values.iter().map(|word| value(word)).collect());
        }
        ("send", [target, message]) => {
            set(&mut data, "target", target);
            enter(&mut data, "message", value(message));
        }
        ("disconnect", [target]) => set(&mut data, "target", target),
        _ => {
            let usage = "ipc: emit|request <target> <event> [values...], call <fn> [values...], \
                         send <target> <message> or disconnect <target>";
            return Err(Failure::usage(usage).into());
        }
    }
    let kind = format!("ipc.{verb}");
    let results = outcome::request(session, &kind, &Value::Object(data))?.results;
    let mut exit = Exit::Done;
    for result in &results {
        let name = text::one_line(result["name"].as_str().unwrap_or_default()).into_owned();
        let alone = results.len() == 1;
        let label = if alone { name } else { format!("{name} (id {})", result["id"]) };
        if let Some(reason) = result["reason"].as_str() {
            session.screen.failure(&Failure::new(Exit::Failed, format!("{label}: {reason}")));
            exit = Exit::Failed;
        } else if let Some(answer) = result.get("answer") {
            let answer = answer.to_string();
            let answer = text::one_line(&answer);
            let line = if alone { answer.into_owned() } else { format!("{label}  {answer}") };
            session.screen.result(&line)?;
        } else {
            session.screen.say(&format!("{label}: told"));
        }
    }
    if session.screen.json {
        let ok = exit == Exit::Done;
        session.screen.document(&json!({"ok": ok, "command": kind, "results": results}))?;
    }
    Ok(exit)
}

/// Runs `pmd ipevents`.
pub fn ipevents(session: &mut Session, parsed: &Parsed) -> Run {
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    let (kind, to, event, values) = match words.as_slice() {
        ["peers"] => return peers(session),
        ["send", kind @ ("toChilds" | "broadcast"), event, values @ ..] => {
            (*kind, None, *event, values)
        }
        ["send", kind @ ("toChild" | "sendTo"), to, event, values @ ..] => {
            (*kind, Some(*to), *event, values)
        }
        _ => {
            let usage = "ipevents: peers, send toChilds|broadcast <event> [values...] or \
                         send toChild|sendTo <to> <event> [values...]";
            return Err(Failure::usage(usage).into());
        }
    };
    let args: Vec<Value> = values.iter().map(|word| value(word)).collect();
    let data = json!({"type": kind, "to": to, "event": event, "args": args});
    session.question("ipevents.send", &data)?;
    Ok(Exit::Done)
}

fn peers(session: &mut Session) -> Run {
    let reply = session.question("ipevents.peers", &json!({}))?;
    if session.screen.json {
        session.screen.document(&reply)?;
        return Ok(Exit::Done);
    }
    for peer in reply["peers"].as_array().into_iter().flatten() {
        let text = |key: &str| text::one_line(peer[key].as_str().unwrap_or("-")).into_owned();
        let path: Vec<&str> =
            peer["path"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let dropped = &peer["dropped"];
        let path = path.join(" > ");
        let line = format!(
            "{}  {}  {}  {path}, {dropped} dropped",
            text("id"),
            text("kind"),
            text("process")
        );
        session.screen.result(&line)?;
    }
    Ok(Exit::Done)
}

/// A word that is JSON is that value, any other a string.
fn value(word: &str) -> Value {
    serde_json::from_str(word).unwrap_or_else(|_| Value::from(word))
}
