//! How actions are asked for and reported: one line per process, or one JSON document, and the
//! exit code that fits all of them.

use serde_json::{Map, Value};

use crate::cli::args::Parsed;
use crate::cli::client::{Answer, Client};
use crate::cli::commands::list;
use crate::cli::daemons::Whose;
use crate::cli::entry::{Labels, take_list};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::results;
use crate::cli::session::Session;
use crate::json::json;
use crate::sorted::SortedSet;
use crate::sys::clock;

/// What came of one or more requests.
#[derive(Debug, Default)]
pub struct Outcome {
    pub results: Vec<Value>,
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Adds that one more request came to nothing, so that what came of the others is told, too.
    pub fn append_failure(&mut self, failure: &Failure) {
        let name = failure.details.get("process").or_else(|| failure.details.get("name"));
        self.results.push(json!({
            "id": null, "name": name.cloned().unwrap_or_default(), "instance": 0, "ok": false,
            "changed": false, "error": failure.to_json(),
        }));
    }

    /// Adds what came of one more request.
    pub fn append(&mut self, other: Self) {
        self.results.extend(other.results);
        self.warnings.extend(other.warnings);
    }
}

/// Sends a `command` request.
///
/// # Errors
///
/// What kept the daemon from attempting anything.
pub fn command(session: &mut Session, data: Map<String, Value>) -> Result<Outcome, End> {
    let data = session.with_timeout(data);
    request(session, "command", &data)
}

/// Sends a request whose answer has `results`.
///
/// # Errors
///
/// As [`command`].
pub fn request(session: &mut Session, kind: &str, data: &Value) -> Result<Outcome, End> {
    match session.action(kind, data)? {
        Answer::Given(mut reply) => Ok(Outcome {
            results: take_list(&mut reply["results"]),
            warnings: texts(&reply["warnings"]),
        }),
        Answer::Refused(mut error) => {
            // All targets failed: each has its own reason.
            let results = take_list(&mut error["details"]["results"]);
            if results.is_empty() {
                return Err(results::of_error(&error, &target(&error)).into());
            }
            Ok(Outcome { results, warnings: texts(&error["details"]["warnings"]) })
        }
    }
}

/// Tells what came of an action. The exit code is that of the failures, if they agree.
///
/// # Errors
///
/// Those of the output.
pub fn report(
    session: &mut Session,
    parsed: &Parsed,
    action: &str,
    mut outcome: Outcome,
) -> Result<Exit, End> {
    let labels = Labels::of(&outcome.results);
    let mut exits = Vec::new();
    let alone = outcome.results.len() == 1;
    let now = clock::now().wall;
    let mut failures = Vec::new();
    let mut warnings = outcome.warnings.clone();
    for result in &mut outcome.results {
        let failure = results::failure(result, &labels, &mut warnings);
        // What is online but not ready has a line of its own; what failed has not.
        if result["ok"] != false && !result["error"].is_object() {
            session.screen.result(&results::line(action, result, &labels, alone, now))?;
        }
        let Some(mut failure) = failure else { continue };
        if failure.exit == Exit::NotFound {
            hint_at_other_daemon(session, parsed.command.name, &mut failure);
        }
        exits.push(failure.exit);
        result["error"] = failure.to_json();
        failures.push(failure);
    }
    for warning in &warnings {
        session.screen.warning(warning, None);
    }
    // What is wrong with the host fails all instances in the same words: once is enough.
    let mut told = SortedSet::new();
    for failure in failures.iter().filter(|failure| told.insert(failure.message.as_str())) {
        session.screen.failure(failure);
    }
    let exit = Exit::of_several(exits);
    if session.screen.json {
        session.screen.document(&json!({
            "ok": exit == Exit::Done, "command": parsed.command.name,
            "results": outcome.results, "warnings": outcome.warnings,
        }))?;
    } else if parsed.command.long("list").is_some() && parsed.flag("list") {
        list::print_all(session)?;
    }
    Ok(exit)
}

/// Row 15: if the process is not known here, the daemon that was not asked may have it.
pub fn hint_at_other_daemon(session: &Session, command: &str, failure: &mut Failure) {
    let Some(wanted) = failure.details.get("process").and_then(Value::as_str) else { return };
    if failure.hint.is_some() {
        return;
    }
    let Some(other) = session.whose().and_then(|whose| session.daemons.other(whose)) else {
        return;
    };
    let Ok(mut client) = Client::connect(&other.socket) else { return };
    let question = json!({"processes": [wanted], "brief": true});
    let limit = Some(std::time::Duration::from_secs(1));
    if !matches!(client.request("get_info", &question, limit), Ok(Answer::Given(_))) {
        return;
    }
    failure.hint = Some(match other.whose {
        Whose::System => format!("the system daemon has it: pmd --system {command} {wanted}"),
        Whose::User | Whose::Given => {
            format!("your own daemon has it: pmd {command} {wanted} (without sudo)")
        }
    });
}

/// What the error is about, for commands that the message proposes.
fn target(error: &Value) -> String {
    let details = &error["details"];
    let named = details["process"].as_str().or_else(|| details["name"].as_str());
    named.unwrap_or("<name>").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
