//! Log lines and events, one line each.
//!
//! ```text
//! 12:00:01.204 api:0  | listening on 3000
//! 12:00:01.310 worker ! boom: missing DB_URL
//! 12:00:01.312 worker * exit code 3 after 41 ms, restart in 150 ms
//! ```

use std::time::Duration;

use serde_json::Value;

use crate::cli::entry::{Labels, ending_sentence};
use crate::cli::output::{text, when};
use crate::config::units;

/// How log lines are to look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Only what the program wrote.
    pub raw: bool,
    pub time: bool,
    pub colour: bool,
    pub highlight: Option<String>,
}

/// Renders lines; knows how wide the names are so far.
#[derive(Debug, Default)]
pub struct Lines {
    pub look: Look,
    pub labels: Labels,
    label_width: usize,
}

impl Lines {
    #[must_use]
    pub fn new(look: Look, labels: Labels) -> Self {
        Self { look, labels, label_width: 0 }
    }

    /// Makes room for a name before it is seen.
    pub fn make_room(&mut self, label: &str) {
        self.label_width = self.label_width.max(text::width(label));
    }

    /// A line of a program: the `data` of `log_message`, or an entry of `logs`, with its line end.
    pub fn log(&mut self, data: &Value, timestamp: Option<&str>) -> String {
        let message = data["message"].as_str().unwrap_or("");
        let partial = data["partial"] == true;
        if self.look.raw {
            return if partial { message.to_owned() } else { format!("{message}\n") };
        }
        let mark = if data["stream"] == "stderr" { '!' } else { '|' };
        let shown = if self.look.colour {
            text::keep_colours(message)
        } else {
            text::strip_escapes(message)
        };
        let shown = if self.look.colour {
            let reset = if shown.contains('\u{1b}') { "\u{1b}[0m" } else { "" };
            format!("{}{reset}", self.highlighted(&shown))
        } else {
            text::escape_controls(&shown)
        };
        format!("{}{mark} {shown}\n", self.front(data, timestamp))
    }

    /// What pmd itself has to say: the `data` of `process_event`, with its line end. `None` for
    /// what only programs want to know, and with `raw`.
    pub fn event(&mut self, data: &Value, timestamp: Option<&str>) -> Option<String> {
        if self.look.raw {
            return None;
        }
        let front = self.front(data, timestamp);
        if let Some(payload) = data.get("payload") {
            return Some(format!("{front}> {}\n", said(data["event"].as_str(), payload)));
        }
        Some(format!("{front}* {}\n", happening(data)))
    }

    /// Time and name, padded.
    fn front(&mut self, data: &Value, timestamp: Option<&str>) -> String {
        let name = data["process"].as_str().unwrap_or("?");
        let instance = data["instance"].as_u64().unwrap_or(0);
        self.labels.learn(name, instance);
        let label = text::one_line(&self.labels.label(name, instance)).into_owned();
        self.make_room(&label);
        let padding = " ".repeat(self.label_width - text::width(&label));
        let time = match timestamp.and_then(when::parse) {
            _ if !self.look.time => String::new(),
            Some(wall) => format!("{} ", when::clock_time(wall)),
            // A line that was written before pmd knew when.
            None => format!("{:12} ", "-"),
        };
        if self.look.colour {
            format!("{time}\u{1b}[{}m{label}\u{1b}[0m{padding} ", colour_of(name))
        } else {
            format!("{time}{label}{padding} ")
        }
    }

    fn highlighted(&self, text: &str) -> String {
        match self.look.highlight.as_deref().filter(|wanted| !wanted.is_empty()) {
            Some(wanted) => text.replace(wanted, &format!("\u{1b}[7m{wanted}\u{1b}[27m")),
            None => text.to_owned(),
        }
    }
}

/// One of six colours, always the same for one name (FNV-1a).
fn colour_of(name: &str) -> u32 {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    31 + (hash >> 8) % 6
}

/// What was said over a channel: `process:msg {"a":1}`, `intercom:event child::hello ["x"]`.
fn said(event: Option<&str>, payload: &Value) -> String {
    let inner = payload["event"].as_str().unwrap_or_default();
    let data = ["raw", "data", "args"].into_iter().find_map(|key| payload.get(key));
    let data = data.unwrap_or(payload);
    let data = if data.as_object().is_some_and(serde_json::Map::is_empty) {
        String::new()
    } else {
        data.to_string()
    };
    let parts = [event.unwrap_or("?"), inner, &data];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    text::one_line(&parts.join(" ")).into_owned()
}

/// An event in a sentence: `exit code 3 after 41 ms, restart in 150 ms`.
#[must_use]
pub fn happening(data: &Value) -> String {
    let details = &data["details"];
    let span = |field: &str| {
        details[field].as_u64().map(|millis| units::span(Duration::from_millis(millis)))
    };
    let pid = details["pid"].as_u64().map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let after = span("uptime").map(|uptime| format!(" after {uptime}")).unwrap_or_default();
    let words = |field: &str| {
        let list = details[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(", ")
    };
    match data["event"].as_str().unwrap_or("?") {
        "started" => format!("started{pid}"),
        "restarted" => {
            let count = details["restarts"].as_u64().unwrap_or(0);
            let reason = details["reason"].as_str().unwrap_or("?");
            format!("restarted ({reason}){pid}, restart {count}")
        }
        "reloaded" => match words("config_changed") {
            fields if fields.is_empty() => format!("reloaded{pid}"),
            fields => format!("reloaded{pid}, changed: {fields}"),
        },
        // It was not running: it waited for its next try.
        "stopped" if details["reason"] == "command" && details["uptime"] == 0 => {
            "stopped".to_owned()
        }
        "stopped" if details["reason"] == "command" => format!("stopped{after}"),
        "stopped" => format!("{}{after}, not restarted", ending_sentence(details)),
        "crashed" => {
            let next = span("restart_in").map_or_else(
                || ", not restarted".to_owned(),
                |pause| format!(", restart in {pause}"),
            );
            format!("{}{after}{next}", ending_sentence(details))
        }
        "errored" => {
            let why = details["error"].as_str().map(|error| format!(": {error}"));
            let why = why.unwrap_or_default();
            match details["reason"].as_str() {
                Some("max_restarts") => {
                    let runs = details["unstable_restarts"].as_u64().unwrap_or(0);
                    format!("gave up after {runs} short runs{why}")
                }
                Some("spawn_failed") => format!("could not be started{why}"),
                Some(other) => format!("errored ({}){why}", text::one_line(other)),
                None => format!("errored{why}"),
            }
        }
        "not_ready" => {
            let limit = span("listen_timeout").unwrap_or_default();
            format!("not ready after {limit}; goes on")
        }
        "health_check_failed" => {
            let (failures, of) = (&details["consecutive_failures"], &details["retries"]);
            let why = details["error"].as_str().map(text::one_line).unwrap_or_default();
            match failures.as_u64() > of.as_u64() {
                true => format!("health check failed: {why} ({failures} in a row)"),
                false => format!("health check failed: {why} ({failures} of {of})"),
            }
        }
        "adopted" => format!("adopted{pid}"),
        "memory_limit_exceeded" => {
            let size = |field: &str| units::memory(details[field].as_u64().unwrap_or(0));
            format!("uses {}, more than its {}: restart", size("memory"), size("limit"))
        }
        "config_changed" => format!("definition changed: {}", words("fields")),
        "deleted" => "deleted".to_owned(),
        "log_full" => match (details["error"].as_str(), details["policy"].as_str()) {
            (Some(error), _) if !error.contains("space") && !error.contains("quota") => {
                format!("cannot write log: {}", text::one_line(error))
            }
            (_, Some("block")) => "waits for log space (log_full=block)".to_owned(),
            _ => "dropping log bytes (log_full=drop)".to_owned(),
        },
        "log_space_low" => {
            let (free, removed) = (&details["percent_free"], &details["removed"]);
            format!("log space low ({free}% free): {removed} old logs removed")
        }
        "log_resumed" => {
            let dropped = details["dropped_bytes"].as_u64().unwrap_or(0);
            format!("logs go on, {} were dropped", units::memory(dropped))
        }
        other => text::one_line(other).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(look: Look) -> Lines {
        let entries = [json!({"name": "api", "instance": 1}), json!({"name": "worker"})];
        let mut lines = Lines::new(look, Labels::of(&entries));
        lines.make_room("worker");
        lines
    }

    #[test]
    fn a_log_line_has_a_time_a_name_a_mark_and_the_text() {
        let mut lines = lines(Look { time: true, ..Look::default() });
        let at = "2024-01-15T14:30:25.123Z";
        let time = when::clock_time(when::parse(at).unwrap());
        let out = json!({"process": "api", "instance": 0, "stream": "stdout", "message": "hello"});
        assert_eq!(lines.log(&out, Some(at)), format!("{time} api:0  | hello\n"));
        let err = json!({"process": "worker", "instance": 0, "stream": "stderr", "message": "b"});
        assert_eq!(lines.log(&err, None), "-            worker ! b\n");
        let crash = json!({"process": "worker", "event": "crashed",
            "details": {"exit_code": 3, "uptime": 41, "restart_in": 150}});
        assert_eq!(
            lines.event(&crash, Some(at)).unwrap(),
            format!("{time} worker * exit code 3 after 41 ms, restart in 150 ms\n")
        );
    }

    #[test]
    fn without_a_terminal_colours_are_stripped_and_controls_written_out() {
        let mut lines = lines(Look::default());
        let data = json!({"process": "api", "stream": "stdout",
            "message": "\u{1b}[31mred\u{1b}[0m\rover\u{1b}[2J"});
        assert_eq!(lines.log(&data, None), "api:0  | red\\rover\n");
    }

    #[test]
    fn on_a_terminal_colours_stay_and_nothing_else() {
        let mut lines = lines(Look { colour: true, ..Look::default() });
        let data = json!({"process": "api", "stream": "stdout",
            "message": "\u{1b}[31mred\u{1b}[2J"});
        let line = lines.log(&data, None);
        assert!(line.ends_with("| \u{1b}[31mred\u{1b}[0m\n"), "{line:?}");
    }

    #[test]
    fn raw_is_what_the_program_wrote() {
        let mut lines = lines(Look { raw: true, time: true, ..Look::default() });
        let data = json!({"process": "api", "message": "\u{1b}[2Jx", "partial": true});
        assert_eq!(lines.log(&data, None), "\u{1b}[2Jx");
        assert_eq!(lines.event(&json!({"event": "started"}), None), None);
    }

    #[test]
    fn every_event_reads_as_a_sentence() {
        for (event, sentence) in [
            (json!({"event": "started", "details": {"pid": 7}}), "started, pid 7"),
            (
                json!({"event": "stopped", "details": {"exit_code": 0, "uptime": 41,
                    "reason": "exit"}}),
                "exit code 0 after 41 ms, not restarted",
            ),
            (
                json!({"event": "restarted", "details": {"pid": 7, "restarts": 2,
                    "reason": "crash"}}),
                "restarted (crash), pid 7, restart 2",
            ),
            (
                json!({"event": "errored", "details": {"reason": "max_restarts",
                    "unstable_restarts": 16, "error": "exit code 3"}}),
                "gave up after 16 short runs: exit code 3",
            ),
            (
                json!({"event": "memory_limit_exceeded", "details": {"memory": 130_023_424,
                    "limit": 125_829_120, "action": "restart"}}),
                "uses 124M, more than its 120M: restart",
            ),
            (json!({"event": "deleted", "details": {}}), "deleted"),
        ] {
            assert_eq!(happening(&event), sentence);
        }
    }
}
