//! Commands that show one side of processes: show, slist, env, pid, id, jlist, prettylist.

use serde_json::{Map, Value};

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands::pm2;
use crate::cli::daemons::Whose;
use crate::cli::entry::Entry;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::invoked::Invoked;
use crate::cli::output::{page, text};
use crate::cli::session::Session;
use crate::cli::targets;
use crate::json::json;
use crate::sys::clock;

/// `pmd show`.
pub fn show(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    if session.global.invoked == Invoked::Pm2 && !session.screen.json {
        return describe(session, parsed, &targets);
    }
    let processes = session.measured(Some(&targets), false)?;
    let daemon = daemon_name(session);
    let now = clock::now().wall;
    let mut shown = Vec::new();
    for mut process in processes {
        let env = if parsed.flag("env") || parsed.flag("reveal") {
            let id = Entry(&process).id().to_string();
            Some(environment(session, &id, parsed.flag("reveal"))?)
        } else {
            None
        };
        if session.screen.json {
            if let (Some(env), Some(fields)) = (env, process.as_object_mut()) {
                fields.insert("env".to_owned(), Value::Object(env));
            }
            shown.push(process);
            continue;
        }
        if !shown.is_empty() {
            session.screen.line("")?;
        }
        let page = page::of_process(Entry(&process), &daemon, env.as_ref(), now);
        session.screen.text(&page)?;
        shown.push(Value::Null);
    }
    if session.screen.json {
        // One process is one object, as for everybody who asks for it.
        let document = match shown.as_mut_slice() {
            [only] => only.take(),
            _ => Value::Array(shown),
        };
        session.screen.document(&document)?;
    }
    Ok(Exit::Done)
}

/// `pm2 describe`.
fn describe(session: &mut Session, parsed: &Parsed, targets: &[String]) -> Run {
    let ids = numbers(session, Some(targets), |entry| Some(entry.id()))?;
    let list = pm2_list(session, parsed.flag("reveal"))?;
    let now = clock::now().wall.0;
    for record in list.as_array().into_iter().flatten() {
        if record["pm_id"].as_u64().is_some_and(|id| ids.contains(&id)) {
            session.screen.text(&pm2::describe(record, now))?;
        }
    }
    Ok(Exit::Done)
}

/// `pmd slist`: what the host and the daemon use.
pub fn slist(session: &mut Session, _: &Parsed) -> Run {
    let system = session.question("get_system", &json!({}))?;
    if session.screen.json {
        session.screen.document(&system)?;
    } else {
        session.screen.text(&page::of_system(&system))?;
    }
    Ok(Exit::Done)
}

/// `pmd env`.
pub fn env(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    let target = targets.first().map_or("", String::as_str);
    let env = environment(session, target, parsed.flag("reveal"))?;
    if session.screen.json {
        session.screen.document(&Value::Object(env))?;
        return Ok(Exit::Done);
    }
    for (name, value) in &env {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let line = format!("{name}={value}");
        // A terminal gets no control characters; a pipe gets what is there.
        let line =
            if session.screen.is_terminal() { text::one_line(&line).into_owned() } else { line };
        session.screen.line(&line)?;
    }
    Ok(Exit::Done)
}

/// `pmd pid`: one a line; nothing for what does not run.
pub fn pid(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand_some(session, parsed)?;
    let pids = numbers(session, targets.as_deref(), |entry| entry.pid())?;
    print_numbers(session, &pids)
}

/// `pmd id`.
pub fn id(session: &mut Session, parsed: &Parsed) -> Run {
    let targets = targets::expand(session, parsed)?;
    let ids = numbers(session, Some(&targets), |entry| Some(entry.id()))?;
    if session.global.invoked == Invoked::Pm2 && !session.screen.json {
        session.screen.line(&pm2::numbers(&ids))?;
        return Ok(Exit::Done);
    }
    print_numbers(session, &ids)
}

/// `pmd jlist`.
pub fn jlist(session: &mut Session, parsed: &Parsed) -> Run {
    let list = pm2_list(session, parsed.flag("reveal"))?;
    session.screen.document(&list)?;
    Ok(Exit::Done)
}

/// `pmd prettylist`.
pub fn prettylist(session: &mut Session, parsed: &Parsed) -> Run {
    let list = pm2_list(session, parsed.flag("reveal"))?;
    if session.screen.json {
        session.screen.document(&list)?;
    } else if session.global.invoked == Invoked::Pm2 {
        session.screen.line(&pm2::inspect(&list))?;
    } else {
        let text = serde_json::to_string_pretty(&list).map_err(std::io::Error::from)?;
        session.screen.line(&text)?;
    }
    Ok(Exit::Done)
}

fn pm2_list(session: &mut Session, reveal: bool) -> Result<Value, End> {
    let mut reply = session.question("get_pm2_list", &json!({"reveal": reveal}))?;
    Ok(reply["list"].take())
}

fn environment(
    session: &mut Session,
    target: &str,
    reveal: bool,
) -> Result<Map<String, Value>, End> {
    let data = json!({"process": target, "reveal": reveal});
    let mut reply = session.question("get_env", &data)?;
    let Value::Object(env) = reply["env"].take() else {
        return Err(Failure::new(Exit::Failed, "the daemon gave no environment").into());
    };
    Ok(env)
}

fn numbers(
    session: &mut Session,
    targets: Option<&[String]>,
    number: impl Fn(Entry<'_>) -> Option<u64>,
) -> Result<Vec<u64>, End> {
    let processes = session.processes(targets, true)?;
    Ok(processes.iter().filter_map(|process| number(Entry(process))).collect())
}

fn print_numbers(session: &mut Session, numbers: &[u64]) -> Run {
    if session.screen.json {
        session.screen.document(&json!(numbers))?;
    } else {
        for number in numbers {
            session.screen.line(&number.to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Whose daemon it is, for `show`.
fn daemon_name(session: &mut Session) -> String {
    let whose = session.whose();
    let Ok(client) = session.client() else { return String::new() };
    let Some(hello) = client.hello() else { return String::new() };
    let what = match whose {
        Some(Whose::System) => "the system daemon",
        Some(Whose::User) => "your own daemon",
        Some(Whose::Given) | None => "the daemon",
    };
    format!("{what}, pid {}, {}", hello.pid, hello.home)
}
