//! Commands about the daemon's settings, and about the web interface.
//!
//! Without a daemon the file is read and changed all the same: a setting may be what keeps one from
//! coming up.

use serde_json::Value;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::config::problem::Problem;
use crate::config::settings;
use crate::config::web;
use crate::daemon;
use crate::json::{json, object};

/// What PM2's log rotation calls its settings, and what pmd calls them; `None`: not needed here.
const ROTATION: [(&str, Option<&str>); 7] = [
    ("max_size", Some("log.max_size")),
    ("retain", Some("log.keep")),
    ("compress", Some("log.compress")),
    ("dateFormat", None),
    ("rotateModule", None),
    ("workerInterval", None),
    ("rotateInterval", None),
];
/// Its name, before the colon.
const ROTATION_MODULE: &str = "pm2-logrotate:";

/// `pmd set KEY VALUE...`.
pub fn set(session: &mut Session, parsed: &Parsed) -> Run {
    let [key, values @ ..] = parsed.operands.as_slice() else { return Ok(Exit::Usage) };
    let Some(key) = translate(session, parsed, key)? else { return Ok(Exit::Done) };
    let value = match values {
        [one] => typed(key, one),
        several => json!(several),
    };
    change(session, parsed, key, &value)
}

/// `pmd unset KEY`.
pub fn unset(session: &mut Session, parsed: &Parsed) -> Run {
    let key = parsed.operands.first().map_or("", String::as_str);
    let Some(key) = translate(session, parsed, key)? else { return Ok(Exit::Done) };
    change(session, parsed, key, &Value::Null)
}

/// `pmd get [KEY]`.
pub fn get(session: &mut Session, parsed: &Parsed) -> Run {
    let key = match parsed.operands.first() {
        Some(key) => translate(session, parsed, key)?,
        None => None,
    };
    if !parsed.operands.is_empty() && key.is_none() {
        return Ok(Exit::Done);
    }
    let values = match session.is_there()? {
        true => session.question("get_settings", &json!({"key": key}))?["values"].take(),
        false => written(session, key)?,
    };
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "get", "values": values}))?;
        return Ok(Exit::Done);
    }
    let values = values.as_object().cloned().unwrap_or_default();
    let width = values.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in &values {
        let text = plain(value);
        let line = if key.is_some() { text } else { format!("{name:width$}  {text}") };
        session.screen.line(line.trim_end())?;
    }
    Ok(Exit::Done)
}

/// `pmd conf [KEY [VALUE]]`, PM2's word for the three.
pub fn conf(session: &mut Session, parsed: &Parsed) -> Run {
    if parsed.operands.len() > 1 { set(session, parsed) } else { get(session, parsed) }
}

/// `pmd web [token show|new]`.
pub fn web(session: &mut Session, parsed: &Parsed) -> Run {
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => state(session),
        ["token"] | ["token", "show"] => token(session, "show"),
        ["token", "new"] => token(session, "new"),
        [word, ..] => {
            let text = format!("web: '{word}' is not what it takes");
            Err(Failure::usage(text).hint("pmd web, pmd web token show, pmd web token new").into())
        }
    }
}

/// `pmd show-api-key`, PMDaemon's word.
pub fn show_token(session: &mut Session, _parsed: &Parsed) -> Run {
    token(session, "show")
}

/// `pmd regenerate-api-key`, PMDaemon's word.
pub fn new_token(session: &mut Session, _parsed: &Parsed) -> Run {
    token(session, "new")
}

fn state(session: &mut Session) -> Run {
    let web = session.question("get_daemon", &json!({}))?["web"].take();
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "web", "web": web}))?;
        return Ok(Exit::Done);
    }
    let places = web["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    if places.is_empty() {
        session.screen.line("off")?;
        return Ok(Exit::Done);
    }
    for place in places {
        let address = place["address"].as_str().unwrap_or_default();
        let line = match place["state"].as_str() {
            Some("on") => format!("on   http://{address}"),
            Some("absent") => format!("off  {address}  this host has no such address"),
            _ => {
                let why = place["why"].as_str().unwrap_or_default();
                format!("off  {address}  {why}; it is tried again every 30 s")
            }
        };
        session.screen.line(&line)?;
    }
    let who = match (web["token"] == true, web["read_token"] == true) {
        (true, true) => "whoever has the token, or the token to read",
        (true, false) => "whoever has the token",
        (false, true) => "whoever has the token to read",
        (false, false) => "the daemon's own user and root",
    };
    session.screen.line(&format!("for  {who}"))?;
    session.screen.line(&format!("now  {} clients", web["clients"]))?;
    Ok(Exit::Done)
}

fn token(session: &mut Session, op: &str) -> Run {
    let reply = match op {
        "new" => session.action("token", &json!({"op": op}))?.given()?,
        _ => session.question("token", &json!({"op": op}))?,
    };
    let Some(token) = reply["token"].as_str() else {
        let failure = Failure::new(Exit::Failed, "no token is set")
            .why("only the daemon's own user and root may use the web interface")
            .hint("pmd web token new");
        return Err(failure.into());
    };
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "web", "token": token}))?;
    } else {
        session.screen.line(token)?;
        if op == "new" {
            session.screen.note("who was connected has to come again, with this token");
        }
    }
    Ok(Exit::Done)
}

/// pmd's name of a setting. `None`: it is one of PM2's log rotation that pmd does not need; that is
/// said.
fn translate<'a>(
    session: &mut Session,
    parsed: &Parsed,
    key: &'a str,
) -> Result<Option<&'a str>, End> {
    let Some(name) = key.strip_prefix(ROTATION_MODULE) else { return Ok(Some(key)) };
    match ROTATION.iter().find(|(known, _)| *known == name) {
        Some((_, Some(ours))) => {
            session.screen.note(&format!("'{key}' is called '{ours}' here"));
            Ok(Some(ours))
        }
        Some((_, None)) => {
            session.screen.note(&format!("'{key}' is not needed: files rotate when they are full"));
            if session.screen.json {
                session.screen.document(&json!({"ok": true, "command": parsed.command.name}))?;
            }
            Ok(None)
        }
        None => {
            let text = format!("{}: unknown setting '{key}'", parsed.command.name);
            Err(Failure::usage(text).hint("pmd conf lists them").into())
        }
    }
}

/// A value as the type that fits: a number, a word or a list.
fn typed(key: &str, text: &str) -> Value {
    serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| !value.is_string() && settings::check(key, value).is_ok())
        .unwrap_or_else(|| text.into())
}

fn change(session: &mut Session, parsed: &Parsed, key: &str, value: &Value) -> Run {
    let (file, effect) = if session.is_there()? {
        let data = json!({"key": key, "value": value});
        let reply = session.action("set_setting", &data)?.given()?;
        let effect = reply["takes_effect"].as_str().unwrap_or("now").to_owned();
        (reply["file"].as_str().unwrap_or_default().to_owned(), effect)
    } else {
        let path = session.daemons.paths()?.settings();
        if !value.is_null() {
            settings::check(key, value).map_err(|problem| of_problem(&problem))?;
        } else if !settings::keys().any(|known| known == key) {
            return Err(unknown(key).into());
        }
        daemon::write_setting(&path, key, Some(value).filter(|value| !value.is_null()))
            .map_err(|error| Failure::of_reply(&json!(error)))?;
        (path.to_string_lossy().into_owned(), "next start".to_owned())
    };
    if session.screen.json {
        session.screen.document(&json!({
            "ok": true, "command": parsed.command.name, "key": key, "file": file,
            "takes_effect": effect,
        }))?;
        return Ok(Exit::Done);
    }
    let what = if value.is_null() {
        format!("{key} is as it is by default")
    } else if web::SECRET_KEYS.contains(&key) {
        format!("{key} is set")
    } else {
        format!("{key} = {}", plain(value))
    };
    let when = if effect == "now" { "" } else { "  (from the next start of the daemon on)" };
    session.screen.result(&format!("{what}{when}"))?;
    Ok(Exit::Done)
}

/// What the file says, where no daemon runs.
fn written(session: &mut Session, key: Option<&str>) -> Result<Value, Failure> {
    if let Some(key) = key.filter(|key| !settings::keys().any(|known| known == *key)) {
        return Err(unknown(key));
    }
    let path = session.daemons.paths()?.settings();
    let found = daemon::read_settings(&path).map_err(|error| Failure::of_reply(&json!(error)))?;
    let wanted = settings::keys().filter(|known| key.is_none_or(|key| key == *known));
    let values = wanted.map(|known| {
        let value = found.get(known);
        let is_secret = web::SECRET_KEYS.contains(&known) && !value.is_null();
        (known, if is_secret { "***".into() } else { value })
    });
    Ok(Value::Object(object(values)))
}

fn unknown(key: &str) -> Failure {
    match settings::check(key, &Value::Null) {
        Err(problem) => of_problem(&problem),
        Ok(()) => Failure::usage(format!("unknown setting '{key}'")),
    }
}

fn of_problem(problem: &Problem) -> Failure {
    let failure = Failure::new(Exit::Invalid, problem.message.clone());
    match &problem.hint {
        Some(hint) => failure.hint(hint.clone()),
        None => failure,
    }
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
