//! What came of an action, one line per process, and what to say where it failed.

use std::time::Duration;

use serde_json::Value;

use crate::base::WallTime;
use crate::cli::entry::{Entry, Labels, telling};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::output::{text, when};
use crate::config::units;

/// `web  restarted  pid 4250  (was 4242, 0.4 s)`: the line for one entry of `results` that is ok.
///
/// `alone`: it is the only one, so there is room for how long it took. `now`: to say when it runs.
#[must_use]
pub fn line(action: &str, result: &Value, labels: &Labels, alone: bool, now: WallTime) -> String {
    let entry = Entry(result);
    let label = text::one_line(&labels.of_entry(entry)).into_owned();
    let next = entry.next_run().filter(|_| entry.status() == "stopped");
    let status = if next.is_some() { "scheduled" } else { entry.status() };
    let changed = result["changed"].as_bool().unwrap_or(true);
    if !changed && matches!(action, "start" | "stop" | "scale" | "resurrect") {
        return format!("{label} already {status}");
    }
    let took = millis(result, "took").map(units::took);
    let pid = entry.pid().map(|pid| format!("  pid {pid}")).unwrap_or_default();
    match action {
        "stop" | "delete" => {
            let word = if action == "stop" { "stopped" } else { "deleted" };
            match took {
                Some(took) if result["killed"] == true => {
                    format!(
                        "{label}  {word}  killed after {took}: did not react to {}",
                        stop_signal(result)
                    )
                }
                Some(took) => format!("{label}  {word}  ({took})"),
                None => format!("{label}  {word}"),
            }
        }
        "restart" | "reload" => {
            let instead = result["restarted_instead"] == true;
            let word = match (action, status) {
                (_, status) if status != "online" => status,
                ("reload", _) if !instead => "reloaded",
                _ => "restarted",
            };
            let was = result["was_pid"].as_u64().map(|pid| format!("was {pid}"));
            let facts: Vec<_> = was.into_iter().chain(took).collect();
            let mut line = format!("{label}  {word}{pid}");
            if !facts.is_empty() {
                line.push_str(&format!("  ({})", facts.join(", ")));
            }
            if instead && action == "reload" {
                let why =
                    result["restarted_because"].as_str().unwrap_or("a reload was not possible");
                line.push_str(&format!("  restarted: {why}"));
            }
            line
        }
        "scale" if status == "stopped" => format!("{label}  deleted"),
        "reset" => format!("{label}  reset"),
        "signal" => format!("{label}  signalled{pid}"),
        _ => {
            let took = took.filter(|_| alone).map(|took| format!("  ({took})"));
            let took = match next {
                Some(at) => Some(format!("  next {}", when::short(at, now))),
                None => took,
            };
            let id = result["id"].as_u64().map(|id| format!("  id {id}")).unwrap_or_default();
            format!("{label}  {status}{id}{pid}{}", took.unwrap_or_default())
        }
    }
}

/// What to say about an entry of `results`, where it failed or is not ready. What the daemon said
/// about that among its `warnings` is taken out of them: it is told once.
#[must_use]
pub fn failure(result: &Value, labels: &Labels, warnings: &mut Vec<String>) -> Option<Failure> {
    let entry = Entry(result);
    if result["error"].is_object() {
        return Some(of_error(&result["error"], &labels.of_entry(entry)));
    }
    let label = text::one_line(&labels.of_entry(entry)).into_owned();
    if result["ok"] == false {
        return Some(Failure::new(Exit::Failed, format!("{label}: the daemon gave no reason")));
    }
    if result["ready"] == false && entry.status() == "online" {
        let words = result["unready"].as_str().unwrap_or("is running but not ready");
        let said = format!("{} {words}", entry.name());
        if let Some(at) = warnings.iter().position(|text| *text == said) {
            warnings.remove(at);
        }
        let failure = Failure::new(Exit::TimedOut, format!("{label} {words}"));
        let failure = match words.contains("unhealthy") {
            true => failure,
            false => failure.why("waits for process.send('ready'), READY=1 or its notification_fd"),
        };
        return Some(failure.hint("--listen-timeout 10s"));
    }
    None
}

/// An error of the daemon, with what a program that died wrote and what becomes of it.
#[must_use]
pub fn of_error(error: &Value, target: &str) -> Failure {
    let mut failure = Failure::of_reply(error);
    let details = &error["details"];
    let output: Vec<&str> =
        details["last_output"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(line) = telling(&output) {
        failure.below.push(format!("last output: {line}"));
    }
    if let Some(pause) = millis(details, "restart_in") {
        let of = match (details["unstable"].as_u64(), details["max_restarts"].as_u64()) {
            (Some(unstable), Some(most)) if most > 0 => format!(" ({unstable} of {most})"),
            _ => String::new(),
        };
        failure.below.push(format!(
            "now:  pmd tries again in {}{of}; to give up: pmd stop {target}",
            units::span(pause)
        ));
    }
    let died = details["exit_code"].is_number() || details["signal"].is_string();
    if failure.code == "PROCESS_START_FAILED" && died {
        failure.below.push(format!("see:  pmd logs {target} --err"));
    }
    failure
}

fn stop_signal(result: &Value) -> &str {
    result["kill_signal"].as_str().unwrap_or("the stop signal")
}

fn millis(fields: &Value, field: &str) -> Option<Duration> {
    fields[field].as_u64().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    fn said(action: &str, result: &Value) -> String {
        line(action, result, &Labels::of([result]), true, NOW)
    }

    #[test]
    fn results_read_as_the_manual_prints_them() {
        let start = json!({"id": 0, "name": "app", "instance": 0, "ok": true, "changed": true,
            "status": "online", "pid": 4242, "took": 1012});
        assert_eq!(said("start", &start), "app  online  id 0  pid 4242  (1.0 s)");
        let labels = Labels::of([&json!({"name": "app", "instance": 1})]);
        assert_eq!(line("start", &start, &labels, false, NOW), "app:0  online  id 0  pid 4242");
        let restart = json!({"name": "web", "status": "online", "pid": 4250, "was_pid": 4242,
            "took": 400, "ok": true, "changed": true});
        assert_eq!(said("restart", &restart), "web  restarted  pid 4250  (was 4242, 0.4 s)");
        let stop = json!({"name": "web", "status": "stopped", "took": 100, "changed": true});
        assert_eq!(said("stop", &stop), "web  stopped  (0.1 s)");
        let killed = json!({"name": "web", "status": "stopped", "took": 1600, "changed": true,
            "killed": true, "kill_signal": "SIGINT"});
        assert_eq!(
            said("stop", &killed),
            "web  stopped  killed after 1.6 s: did not react to SIGINT"
        );
        let fewer = json!({"name": "web", "status": "stopped", "id": 3, "changed": true});
        assert_eq!(said("scale", &fewer), "web  deleted");
        let next = "2023-11-14T23:00:00.000Z";
        let job = json!({"name": "job", "status": "stopped", "id": 4, "changed": true, "took": 0,
            "next_run": next});
        let at = when::short(when::parse(next).unwrap(), NOW);
        assert_eq!(said("start", &job), format!("job  scheduled  id 4  next {at}"));
        let same = json!({"name": "web", "status": "online", "changed": false});
        assert_eq!(said("start", &same), "web already online");
    }

    #[test]
    fn a_crash_at_start_shows_the_last_words_and_what_comes_next() {
        let result = json!({"name": "crash", "ok": false, "error": {
            "code": "PROCESS_START_FAILED",
            "message": "crash did not stay up: exit code 3 after 41 ms",
            "details": {"last_output": ["starting", "boom: missing DB_URL", ""],
                "exit_code": 3, "restart_in": 100, "unstable": 1, "max_restarts": 16}}});
        let failure = failure(&result, &Labels::default(), &mut Vec::new()).unwrap();
        assert_eq!(failure.exit, Exit::NotStarted);
        assert_eq!(
            failure.lines(false),
            [
                "pmd: error: crash did not stay up: exit code 3 after 41 ms",
                "  last output: boom: missing DB_URL",
                "  now:  pmd tries again in 100 ms (1 of 16); to give up: pmd stop crash",
                "  see:  pmd logs crash --err",
            ]
        );
    }

    #[test]
    fn online_without_readiness_is_told() {
        let result = json!({"name": "web", "ok": true, "status": "online", "ready": false,
            "unready": "is running but not ready after 3 s", "took": 3000});
        let mut warnings =
            vec!["odd".to_owned(), "web is running but not ready after 3 s".to_owned()];
        let told = failure(&result, &Labels::default(), &mut warnings).unwrap();
        assert_eq!(told.exit, Exit::TimedOut);
        assert_eq!(told.message, "web is running but not ready after 3 s");
        assert_eq!(warnings, ["odd"]);
    }
}
