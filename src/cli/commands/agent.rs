//! The agent: where it is linked to, and how it is.

use serde_json::Value;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::json::json;

/// `pmd link SECRET PUBLIC [NAME]`, `pmd link info|stop|delete`.
pub fn link(session: &mut Session, parsed: &Parsed) -> Run {
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    let request = match words.as_slice() {
        [] | ["info"] => return show(session, parsed),
        ["stop"] => json!({"op": "stop"}),
        ["delete"] => json!({"op": "delete"}),
        [secret, public, name @ ..] if name.len() < 2 => json!({
            "op": "link", "secret_key": secret, "public_key": public,
            "machine_name": name.first(), "info_node": parsed.text("info-node"),
        }),
        _ => {
            let text = "link: it takes a secret, a public key, and the name of this host";
            let hint = "pmd link SECRET PUBLIC [NAME] --info-node URL, pmd link info|stop|delete";
            return Err(Failure::usage(text.to_owned()).hint(hint).into());
        }
    };
    session.need_daemon()?;
    change(session, parsed, &request)
}

/// `pmd unlink`.
pub fn unlink(session: &mut Session, parsed: &Parsed) -> Run {
    change(session, parsed, &json!({"op": "delete"}))
}

/// `pmd agent [status]`.
pub fn agent(session: &mut Session, parsed: &Parsed) -> Run {
    match parsed.operands.first().map(String::as_str) {
        None | Some("status" | "info") => show(session, parsed),
        Some(word) => {
            let text = format!("agent: '{word}' is not what it takes");
            Err(Failure::usage(text).hint("pmd agent status").into())
        }
    }
}

fn change(session: &mut Session, parsed: &Parsed, request: &Value) -> Run {
    let agent = session.action("agent", request)?.given()?;
    if session.screen.json {
        return document(session, parsed, &agent);
    }
    let line = match (request["op"].as_str(), agent["machine_name"].as_str()) {
        (Some("link"), Some(name)) => {
            format!("linked as {name}; pmd agent status shows how it goes")
        }
        (Some("delete"), _) => "the agent has ended, its keys are forgotten".to_owned(),
        _ => "the agent has ended".to_owned(),
    };
    session.screen.result(&line)?;
    Ok(Exit::Done)
}

fn show(session: &mut Session, parsed: &Parsed) -> Run {
    let agent = session.question("agent", &json!({"op": "info"}))?;
    if session.screen.json {
        return document(session, parsed, &agent);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    if agent["state"] != "on" {
        let line = match agent["trouble"].as_str() {
            Some(why) => format!("off  {why}"),
            None => "off".to_owned(),
        };
        session.screen.line(&line)?;
        return Ok(Exit::Done);
    }
    let line =
        format!("on  {}  public key {}", text(&agent["machine_name"]), text(&agent["public_key"]));
    session.screen.line(&line)?;
    for link in agent["links"].as_array().into_iter().flatten() {
        let (waiting, dropped) = (&link["queued"], &link["dropped"]);
        let mut line = format!(
            "{:10} {:11} {}  waiting {waiting}, dropped {dropped}",
            text(&link["name"]),
            text(&link["state"]),
            text(&link["endpoint"]),
        );
        if let Some(why) = link["error"].as_str() {
            line.push_str(": ");
            line.push_str(why);
        }
        session.screen.line(&line)?;
    }
    Ok(Exit::Done)
}

fn document(session: &mut Session, parsed: &Parsed, agent: &Value) -> Run {
    let name = parsed.command.name;
    session.screen.document(&json!({"ok": true, "command": name, "agent": agent}))?;
    Ok(Exit::Done)
}
