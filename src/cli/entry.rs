//! One process as the daemon describes it: the `process_info` entry, read leniently.
//!
//! A field that is missing or of another type reads as absent, so that an older or newer daemon
//! can be looked at.

use std::time::Duration;

use serde_json::Value;

use crate::base::{ExitStatus, WallTime};
use crate::cli::output::when;
use crate::sorted::{SortedMap, SortedSet};

/// A view of one entry of `process_info`.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(pub &'a Value);

impl<'a> Entry<'a> {
    #[must_use]
    pub fn id(self) -> u64 {
        self.0["id"].as_u64().unwrap_or_default()
    }

    #[must_use]
    pub fn name(self) -> &'a str {
        self.0["name"].as_str().unwrap_or("?")
    }

    #[must_use]
    pub fn namespace(self) -> &'a str {
        self.0["namespace"].as_str().unwrap_or("default")
    }

    #[must_use]
    pub fn instance(self) -> u64 {
        self.0["instance"].as_u64().unwrap_or_default()
    }

    /// The API's word.
    #[must_use]
    pub fn status(self) -> &'a str {
        self.0["status"].as_str().unwrap_or("unknown")
    }

    /// The human word: a scheduled restart is `waiting`.
    #[must_use]
    pub fn word(self) -> &'a str {
        if self.status() == "restarting" && self.retry_in().is_some() {
            "waiting"
        } else {
            self.status()
        }
    }

    #[must_use]
    pub fn pid(self) -> Option<u64> {
        self.0["pid"].as_u64().filter(|&pid| pid > 0)
    }

    /// The port it was given.
    #[must_use]
    pub fn port(self) -> Option<u64> {
        self.0["port"].as_u64()
    }

    /// Share of one processor that its tree uses, in percent; of what runs.
    #[must_use]
    pub fn cpu(self) -> Option<f64> {
        self.0["cpu"].as_f64().filter(|_| self.pid().is_some())
    }

    /// Memory of its tree, in bytes; of what runs.
    #[must_use]
    pub fn memory_tree(self) -> Option<u64> {
        self.0["memory_tree"].as_u64().filter(|_| self.pid().is_some())
    }

    /// How long it has been running; `None` when it is not.
    #[must_use]
    pub fn uptime(self) -> Option<Duration> {
        self.pid()?;
        self.millis("uptime")
    }

    #[must_use]
    pub fn restarts(self) -> u64 {
        self.0["restarts"].as_u64().unwrap_or_default()
    }

    #[must_use]
    pub fn retry_in(self) -> Option<Duration> {
        self.millis("retry_in")
    }

    /// When the clock will start or restart it.
    #[must_use]
    pub fn next_run(self) -> Option<WallTime> {
        self.text("next_run").and_then(when::parse)
    }

    /// It is restarted when its files change.
    #[must_use]
    pub fn is_watched(self) -> bool {
        self.0["watch"] == true
    }

    /// Not said: as good as ready.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.0["ready"].as_bool().unwrap_or(true)
    }

    /// A field of the definition.
    #[must_use]
    pub fn config(self, field: &str) -> &'a Value {
        &self.0["config"][field]
    }

    /// The last exits, newest last.
    pub fn exits(self) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.0["last_exits"].as_array().into_iter().flatten()
    }

    /// How it ended last, where that is told.
    #[must_use]
    pub fn last_exit(self) -> Option<&'a Value> {
        let short = Some(&self.0["last_exit"]).filter(|exit| exit.is_object());
        short.or_else(|| self.exits().next_back())
    }

    /// The line of its last words that says most.
    #[must_use]
    pub fn last_line(self) -> Option<&'a str> {
        let of_exit = self.last_exit().and_then(|exit| exit["last_line"].as_str());
        of_exit.or_else(|| {
            let lines = self.0["last_output"].as_array().into_iter().flatten();
            telling(&lines.filter_map(Value::as_str).collect::<Vec<_>>())
        })
    }

    /// A job: runs to completion.
    #[must_use]
    pub fn is_job(self) -> bool {
        self.0["once"] == true || self.config("restart") == "once"
    }

    /// The user it runs as, where one is configured.
    #[must_use]
    pub fn user(self) -> Option<&'a str> {
        self.config("user").as_str()
    }

    #[must_use]
    pub fn text(self, field: &str) -> Option<&'a str> {
        self.0[field].as_str()
    }

    fn millis(self, field: &str) -> Option<Duration> {
        self.0[field].as_u64().map(Duration::from_millis)
    }
}

/// `exit 3`, `SIGKILL`: how a child ended, by the two fields that say so everywhere.
#[must_use]
pub fn ending(fields: &Value) -> Option<String> {
    if fields["out_of_memory"] == true {
        return Some("out of memory".to_owned());
    }
    if let Some(signal) = fields["signal"].as_str() {
        return Some(signal.to_owned());
    }
    fields["exit_code"].as_i64().map(|code| format!("exit {code}"))
}

/// `exit code 3`, `killed by SIGKILL`: the same in a sentence.
#[must_use]
pub fn ending_sentence(fields: &Value) -> String {
    if fields["out_of_memory"] == true {
        return ExitStatus::OutOfMemory.to_string();
    }
    match (fields["signal"].as_str(), fields["exit_code"].as_i64()) {
        (Some(signal), _) if fields["core_dumped"] == true => {
            format!("killed by {signal} (core dumped)")
        }
        (Some(signal), _) => format!("killed by {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "ended, exit status unknown".to_owned(),
    }
}

/// The line of a program's last words that says most: of a stack trace the line that names the
/// error, else the last one.
#[must_use]
pub fn telling<'a>(output: &[&'a str]) -> Option<&'a str> {
    let lines = || output.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    lines().find(|line| names_an_error(line)).or_else(|| lines().next())
}

/// `TypeError: x is not a function`, `java.lang.RuntimeException: boom`, `thread 'main' panicked at`.
fn names_an_error(line: &str) -> bool {
    let first = line.split(':').next().unwrap_or("");
    let is_name = !first.is_empty()
        && first.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '$'))
        && line.len() > first.len();
    (is_name && (first.ends_with("Error") || first.ends_with("Exception")))
        || (line.starts_with("thread '") && line.contains(" panicked at "))
}

/// The list that a field holds; nothing for what is no list.
#[must_use]
pub fn take_list(field: &mut Value) -> Vec<Value> {
    if let Value::Array(items) = field.take() { items } else { Vec::new() }
}

/// How processes are called where several of one name may meet: `api:1`, or `api` alone.
#[derive(Debug, Default)]
pub struct Labels {
    several: SortedSet<String>,
}

impl Labels {
    /// Learns from entries (or results) which names have several instances.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut seen = SortedMap::new();
        let mut labels = Self::default();
        for entry in entries.into_iter().map(Entry) {
            let first = *seen.get_or_insert_with(entry.name(), || entry.instance());
            if first != entry.instance() || entry.instance() > 0 {
                labels.several.insert(entry.name().to_owned());
            }
        }
        labels
    }

    /// Notes that an instance of this name was seen.
    pub fn learn(&mut self, name: &str, instance: u64) {
        if instance > 0 && !self.several.contains(name) {
            self.several.insert(name.to_owned());
        }
    }

    #[must_use]
    pub fn label(&self, name: &str, instance: u64) -> String {
        if self.several.contains(name) { format!("{name}:{instance}") } else { name.to_owned() }
    }

    #[must_use]
    pub fn of_entry(&self, entry: Entry<'_>) -> String {
        self.label(entry.name(), entry.instance())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instances_are_named_only_where_there_are_several() {
        let entries = [
            json!({"name": "db", "instance": 0}),
            json!({"name": "api", "instance": 0}),
            json!({"name": "api", "instance": 1}),
            json!({"name": "web", "instance": 3}),
        ];
        let labels = Labels::of(&entries);
        let names: Vec<_> = entries.iter().map(|entry| labels.of_entry(Entry(entry))).collect();
        assert_eq!(names, ["db", "api:0", "api:1", "web:3"]);
    }

    #[test]
    fn an_entry_of_another_version_can_be_read() {
        let entry = json!({"id": "x", "pid": 0, "uptime": null});
        assert_eq!(Entry(&entry).name(), "?");
        assert_eq!(Entry(&entry).pid(), None);
        assert_eq!(Entry(&entry).word(), "unknown");
    }

    #[test]
    fn of_a_stack_trace_the_error_is_shown() {
        let node = ["x.js:1", "^", "", "Error: boom", "    at x.js:1:7", "", "Node.js v22.0.0"];
        assert_eq!(telling(&node), Some("Error: boom"));
        assert_eq!(telling(&["Traceback", "KeyError: 'x'"]), Some("KeyError: 'x'"));
        assert_eq!(telling(&["", " "]), None);
    }

    #[test]
    fn the_last_exit_is_the_newest() {
        let entry = json!({"last_exits": [{"exit_code": 1}, {"exit_code": 2}],
            "last_output": ["one", "two"]});
        assert_eq!(Entry(&entry).last_exit().unwrap()["exit_code"], 2);
        assert_eq!(Entry(&entry).last_line(), Some("two"));
    }

    #[test]
    fn endings_are_said_in_words() {
        assert_eq!(ending(&json!({"exit_code": 3, "signal": null})).unwrap(), "exit 3");
        assert_eq!(ending_sentence(&json!({"signal": "SIGKILL"})), "killed by SIGKILL");
    }
}
