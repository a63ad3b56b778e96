//! The NOTE column of the list: in a few words, what is special about a process now.

use crate::base::WallTime;
use crate::cli::entry::{Entry, ending};
use crate::cli::output::{text, when};

/// What to say; empty where all is as it should be.
#[must_use]
pub fn note(entry: Entry<'_>, now: WallTime) -> String {
    let mut note = match entry.word() {
        "online" => online(entry),
        "waiting" => waiting(entry),
        "errored" => errored(entry),
        "stopped" => stopped(entry, now),
        _ => String::new(),
    };
    if let Some(at) = entry.next_run() {
        let word = if entry.is_job() { "next" } else { "restart" };
        let (pause, at) = (if note.is_empty() { "" } else { ", " }, when::short(at, now));
        note.push_str(&format!("{pause}{word} {at}"));
    }
    // What the daemon itself wants said, such as log space.
    if let Some(said) = entry.text("note") {
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(said);
    }
    text::one_line(&note).into_owned()
}

/// `:3000`, `not ready`, `healthy`.
fn online(entry: Entry<'_>) -> String {
    let port = entry.port().map(|port| format!(":{port}"));
    let unready = (!entry.is_ready()).then(|| "not ready".to_owned());
    let health = entry.text("health").filter(|health| *health != "unknown").map(str::to_owned);
    port.into_iter().chain(unready).chain(health).collect::<Vec<_>>().join(", ")
}

/// `exit 3, next try in 0.9s (7/16)`.
fn waiting(entry: Entry<'_>) -> String {
    let mut note = ending(entry.0).map(|ending| format!("{ending}, ")).unwrap_or_default();
    if let Some(pause) = entry.retry_in() {
        note.push_str(&format!("next try in {}", when::pause(pause)));
    }
    let unstable = entry.0["unstable_restarts"].as_u64().unwrap_or(0);
    match entry.0["max_restarts"].as_u64() {
        Some(most) if unstable > 0 && most > 0 => note.push_str(&format!(" ({unstable}/{most})")),
        Some(_) | None if unstable > 0 => note.push_str(&format!(" ({unstable})")),
        Some(_) | None => {}
    }
    note
}

/// `gave up: exit 3 "missing DB_URL"`, or why it could not be run at all.
fn errored(entry: Entry<'_>) -> String {
    let why = entry.text("error").unwrap_or_default();
    if !why.is_empty() && !why.contains("gave up") {
        return why.to_owned();
    }
    let Some(ending) = ending(entry.0) else { return why.to_owned() };
    let line = entry.last_line().unwrap_or("");
    if line.is_empty() {
        format!("gave up: {ending}")
    } else {
        format!("gave up: {ending} \"{line}\"")
    }
}

/// `done, exit 0 02:00` for a job, `exit 1 02:00` for what ended by itself, nothing for what was
/// stopped by hand.
fn stopped(entry: Entry<'_>, now: WallTime) -> String {
    let Some(last) = entry.last_exit() else { return String::new() };
    if last["reason"] == "timeout" {
        return "timed out".to_owned();
    }
    if last["reason"] != "exit" {
        return String::new();
    }
    let Some(mut note) = ending(last) else { return String::new() };
    if entry.is_job() && last["exit_code"] == 0 {
        note = format!("done, {note}");
    }
    if let Some(at) = last["at"].as_str().and_then(when::parse) {
        note.push_str(&format!(" {}", when::short(at, now)));
    }
    note
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(entry: &Value) -> String {
        note(Entry(entry), WallTime(1_705_329_025_123))
    }

    #[test]
    fn a_process_that_waits_says_for_what() {
        let entry = json!({"status": "restarting", "retry_in": 900, "exit_code": 3,
            "unstable_restarts": 7, "max_restarts": 16});
        assert_eq!(said(&entry), "exit 3, next try in 0.9s (7/16)");
        let endless = json!({"status": "restarting", "retry_in": 900, "signal": "SIGSEGV",
            "unstable_restarts": 7, "max_restarts": 0});
        assert_eq!(said(&endless), "SIGSEGV, next try in 0.9s (7)");
    }

    #[test]
    fn a_process_that_gave_up_says_why() {
        let entry = json!({"status": "errored", "exit_code": 3, "error": null,
            "last_exits": [{"exit_code": 3, "last_line": "missing DB_URL"}]});
        assert_eq!(said(&entry), "gave up: exit 3 \"missing DB_URL\"");
        let unspawned = json!({"status": "errored", "error": "no such file: '/srv/app.js'"});
        assert_eq!(said(&unspawned), "no such file: '/srv/app.js'");
    }

    #[test]
    fn a_job_that_is_done_says_when() {
        let at = when::rfc3339(when::typed("2024-01-15 02:00", WallTime(0)).unwrap());
        let entry = json!({"status": "stopped", "config": {"restart": "once"},
            "last_exits": [{"exit_code": 0, "signal": null, "reason": "exit", "at": at}]});
        let now = when::typed("2024-01-15 12:00", WallTime(0)).unwrap();
        assert_eq!(note(Entry(&entry), now), "done, exit 0 02:00");
        let next = when::rfc3339(when::typed("2024-01-16 02:00", WallTime(0)).unwrap());
        let mut entry = entry;
        entry["next_run"] = json!(next);
        assert_eq!(note(Entry(&entry), now), "done, exit 0 02:00, next Tue 02:00");
        entry["last_exits"][0]["reason"] = json!("timeout");
        assert_eq!(note(Entry(&entry), now), "timed out, next Tue 02:00");
        let web = json!({"status": "online", "port": 3000, "next_run": next});
        assert_eq!(note(Entry(&web), now), ":3000, restart Tue 02:00");
        let new = json!({"status": "stopped", "once": true, "next_run": next});
        assert_eq!(note(Entry(&new), now), "next Tue 02:00");
    }

    #[test]
    fn what_was_stopped_by_hand_needs_no_note() {
        let entry = json!({"status": "stopped",
            "last_exits": [{"signal": "SIGINT", "reason": "command"}]});
        assert_eq!(said(&entry), "");
    }

    #[test]
    fn what_runs_says_where_it_serves_and_whether_it_is_ready() {
        for (entry, note) in [
            (json!({"status": "online"}), ""),
            (json!({"status": "online", "ready": false}), "not ready"),
            (json!({"status": "online", "port": 3000}), ":3000"),
            (json!({"status": "online", "port": 3000, "ready": false}), ":3000, not ready"),
            (json!({"status": "online", "port": 3000, "health": "healthy"}), ":3000, healthy"),
            (json!({"status": "online", "health": "unhealthy"}), "unhealthy"),
            (json!({"status": "online", "health": "unknown"}), ""),
            (json!({"status": "stopped", "port": 3000, "health": "unknown"}), ""),
        ] {
            assert_eq!(said(&entry), note);
        }
    }

    #[test]
    fn what_a_program_wrote_cannot_break_the_line() {
        let entry = json!({"status": "errored", "exit_code": 1,
            "last_exits": [{"last_line": "\u{1b}[31mred\u{1b}[0m\nline\r"}]});
        assert_eq!(said(&entry), "gave up: exit 1 \"red\\nline\\r\"");
    }
}
