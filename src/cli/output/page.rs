//! Everything about one process, as `key  value` lines in groups.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::WallTime;
use crate::cli::entry::{Entry, ending};
use crate::cli::output::{note::note, text, when};
use crate::config::units;

/// Facts in groups; groups are separated by an empty line.
#[derive(Debug, Default)]
pub struct Page {
    groups: Vec<Vec<(String, String)>>,
}

impl Page {
    /// Begins a new group.
    pub fn group(&mut self) {
        if self.groups.last().is_none_or(|group| !group.is_empty()) {
            self.groups.push(Vec::new());
        }
    }

    /// Adds a fact; one without a value is left out.
    pub fn fact(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            self.push(key.replace('_', " "), value);
        }
    }

    fn push(&mut self, key: String, value: &str) {
        if self.groups.is_empty() {
            self.groups.push(Vec::new());
        }
        if let Some(group) = self.groups.last_mut() {
            group.push((key, text::one_line(value).into_owned()));
        }
    }

    /// All lines, each with its line end.
    #[must_use]
    pub fn render(&self) -> String {
        let groups = || self.groups.iter().filter(|group| !group.is_empty());
        let width = groups().flatten().map(|(key, _)| text::width(key)).max().unwrap_or(0);
        let mut page = String::new();
        for group in groups() {
            if !page.is_empty() {
                page.push('\n');
            }
            for (key, value) in group {
                let padding = " ".repeat(width - text::width(key));
                page.push_str(&format!("{key}{padding}  {value}\n"));
            }
        }
        page
    }
}

/// The page of one process. `daemon` names the daemon it belongs to, `env` its environment where
/// that was asked for.
#[must_use]
pub fn of_process(
    entry: Entry<'_>,
    daemon: &str,
    env: Option<&Map<String, Value>>,
    now: WallTime,
) -> String {
    let mut page = Page::default();
    page.group();
    page.fact("name", entry.name());
    page.fact("id", entry.id().to_string());
    page.fact("namespace", entry.namespace());
    page.fact("instance", entry.instance().to_string());
    page.group();
    page.fact("status", entry.word());
    page.fact("note", note(entry, now));
    page.fact("pid", entry.pid().map(|pid| pid.to_string()).unwrap_or_default());
    page.fact("port", entry.port().map(|port| port.to_string()).unwrap_or_default());
    page.fact("uptime", entry.uptime().map(units::uptime).unwrap_or_default());
    page.fact("restarts", entry.restarts().to_string());
    let unstable = entry.0["unstable_restarts"].as_u64().unwrap_or(0);
    match entry.0["max_restarts"].as_u64() {
        Some(most) if most > 0 => page.fact("unstable_restarts", format!("{unstable} of {most}")),
        Some(_) | None => page.fact("unstable_restarts", unstable.to_string()),
    }
    for key in ["created_at", "started_at", "retry_at", "next_run"] {
        page.fact(key, entry.text(key).and_then(when::parse).map(when::full).unwrap_or_default());
    }
    health(&mut page, &entry.0["health_check"]);
    page.group();
    resources(&mut page, entry);
    channel(&mut page, &entry.0["channel"]);
    page.group();
    for exit in entry.exits() {
        page.fact("exit", of_exit(exit));
    }
    page.group();
    page.fact("log_out", entry.0["logs"]["out"].as_str().unwrap_or_default());
    page.fact("log_error", entry.0["logs"]["error"].as_str().unwrap_or_default());
    let dropped = entry.0["log_dropped"].as_u64().filter(|&bytes| bytes > 0);
    page.fact("log_dropped", dropped.map(units::memory).unwrap_or_default());
    page.group();
    if let Some(config) = entry.0["config"].as_object() {
        for (key, value) in config {
            if !matches!(key.as_str(), "name" | "namespace" | "source" | "env") {
                page.fact(key, shown(key, value));
            }
        }
    }
    page.group();
    let source = entry.text("source").or_else(|| entry.config("source").as_str());
    if let Some(source) = source {
        let changed = if entry.0["source_changed"] == true { " (changed since)" } else { "" };
        page.fact("source", format!("{source}{changed}"));
    }
    page.fact("daemon", daemon);
    page.group();
    let configured = entry.config("env").as_object();
    for (name, value) in env.or(configured).into_iter().flatten() {
        page.push(format!("env.{}", text::one_line(name)), &plain(value));
    }
    page.render()
}

/// How it is, what is looked at, and what was seen.
fn health(page: &mut Page, check: &Value) {
    let Some(status) = check["status"].as_str() else { return };
    let at =
        |value: &Value| value.as_str().and_then(when::parse).map(when::full).unwrap_or_default();
    let failures = check["consecutive_failures"].as_u64().unwrap_or(0);
    page.group();
    page.fact(
        "health",
        match failures {
            0 => status.to_owned(),
            failures => format!("{status} ({failures} of {} failures)", check["retries"]),
        },
    );
    page.fact("health_check", check["check"].as_str().unwrap_or_default());
    page.fact("last_check", at(&check["last_check"]));
    if let (Some(passed), Some(failed)) = (check["passed"].as_u64(), check["failed"].as_u64()) {
        page.fact("checks", format!("{passed} passed, {failed} failed"));
    }
    for seen in check["history"].as_array().into_iter().flatten() {
        let what = seen["error"].as_str().unwrap_or("passed");
        let time = seen["response_time"].as_u64().map(Duration::from_millis);
        let time = time.map(|time| format!(", {}", units::span(time))).unwrap_or_default();
        page.fact("check", format!("{}  {what}{time}", at(&seen["at"])));
    }
}

/// What it speaks over its channel.
fn channel(page: &mut Page, channel: &Value) {
    let count = |key: &str| channel[key].as_u64().unwrap_or(0);
    let words = channel["speaks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let state = channel["state"].as_str().filter(|state| *state != "none").unwrap_or_default();
    page.group();
    page.fact(
        "channel",
        match words.collect::<Vec<_>>().join(", ") {
            words if words.is_empty() => state.to_owned(),
            words => format!("{state}: {words}"),
        },
    );
    if count("lines_in") + count("lines_out") > 0 {
        let size = |key: &str| units::memory(count(key));
        let (read, said) = (size("bytes_in"), size("bytes_out"));
        let lines = (count("lines_in"), count("lines_out"));
        page.fact("channel_lines", format!("{} in ({read}), {} out ({said})", lines.0, lines.1));
    }
    let dropped = ["bad", "too_long", "refused"].map(|key| (key, count(key)));
    for (key, number) in dropped.into_iter().filter(|(_, number)| *number > 0) {
        page.fact(&format!("channel_{key}"), number.to_string());
    }
}

/// What the tree of a process uses.
fn resources(page: &mut Page, entry: Entry<'_>) {
    let resources = &entry.0["resources"];
    let bytes = |value: &Value| value.as_u64().map(units::memory).unwrap_or_default();
    if let Some(cpu) = entry.cpu() {
        page.fact("cpu", format!("{}%", units::decimal(cpu, 1)));
        page.fact("memory", bytes(&entry.0["memory"]));
        page.fact("memory_tree", bytes(&entry.0["memory_tree"]));
        for key in ["processes", "threads", "descriptors"] {
            page.fact(key, plain(&resources[key]));
        }
    }
    let spent = resources["cpu_time"].as_u64().map(Duration::from_millis);
    page.fact("cpu_time", spent.map(units::span).unwrap_or_default());
    let hits = resources["memory_limit_exceeded"].as_u64().filter(|&hits| hits > 0);
    page.fact("memory_limit_exceeded", hits.map(|hits| hits.to_string()).unwrap_or_default());
}

/// The page of the host: the `data` of a `system_metrics`.
#[must_use]
pub fn of_system(system: &Value) -> String {
    let mut page = Page::default();
    let bytes = |value: &Value| value.as_u64().map(units::memory).unwrap_or_default();
    let time = |value: &Value| {
        value.as_u64().map(Duration::from_millis).map(units::uptime).unwrap_or_default()
    };
    let percent = |value: &Value| {
        value.as_f64().map(|share| format!("{}%", units::decimal(share, 1))).unwrap_or_default()
    };
    page.fact("hostname", plain(&system["hostname"]));
    page.fact("uptime", time(&system["uptime"]));
    page.fact("cpu", percent(&system["cpu"]["usage"]));
    page.fact("cores", plain(&system["cpu"]["cores"]));
    let memory = &system["memory"];
    for key in ["total", "used", "available"] {
        page.fact(&format!("memory_{key}"), bytes(&memory[key]));
    }
    let loads = ["one", "five", "fifteen"].map(|key| system["load"][key].as_f64().unwrap_or(0.0));
    page.fact("load", loads.map(|load| units::decimal(load, 2)).join(" "));
    page.group();
    for key in ["total", "online", "stopped", "errored"] {
        page.fact(&format!("processes_{key}"), plain(&system["processes"][key]));
    }
    page.group();
    let daemon = &system["daemon"];
    page.fact("daemon_pid", plain(&daemon["pid"]));
    page.fact("daemon_uptime", time(&daemon["uptime"]));
    page.fact("daemon_cpu", percent(&daemon["cpu"]));
    page.fact("daemon_memory", bytes(&daemon["memory"]));
    page.render()
}

/// `2026-01-15 02:00:01  exit 3 after 41 ms (exit)  missing DB_URL`.
fn of_exit(exit: &Value) -> String {
    let at = exit["at"].as_str().and_then(when::parse).map(when::full).unwrap_or_default();
    let how = ending(exit).unwrap_or_else(|| "unknown".to_owned());
    let mut line = format!("{at}  {how}");
    if let Some(uptime) = exit["uptime"].as_u64() {
        line.push_str(&format!(" after {}", units::span(Duration::from_millis(uptime))));
    }
    line.push_str(match exit["reason"].as_str() {
        Some("command") => ", as asked",
        Some("health") => ", since it was unhealthy",
        Some("cron") => ", since it was time",
        Some("watch") => ", since files changed",
        Some("timeout") => ", since it took too long",
        Some(_) | None => "",
    });
    if let Some(last) = exit["last_line"].as_str().filter(|line| !line.is_empty()) {
        line.push_str(&format!("  {last}"));
    }
    line.trim_start().to_owned()
}

/// A field of the definition on one line; times and sizes with their units.
fn shown(key: &str, value: &Value) -> String {
    const TIMES: [&str; 6] = [
        "min_uptime",
        "restart_delay",
        "exp_backoff_restart_delay",
        "kill_timeout",
        "listen_timeout",
        "timeout",
    ];
    match value.as_u64() {
        Some(size) if matches!(key, "max_memory_restart" | "log_max_size") => {
            units::exact_bytes(size)
        }
        Some(millis) if TIMES.contains(&key) => {
            units::exact_duration(Duration::from_millis(millis))
        }
        Some(_) | None => plain(value),
    }
}

/// Scalars as they are, lists of scalars with blanks between, the rest as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(" ")
        }
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_aligned_keys_and_groups() {
        let entry = json!({
            "id": 3, "name": "web", "namespace": "default", "instance": 0, "status": "online",
            "pid": 42, "uptime": 60_000, "restarts": 2, "unstable_restarts": 1,
            "max_restarts": 16, "created_at": null, "cpu": 3.1, "memory": 50_436_506,
            "memory_tree": 62 << 20, "resources": {"cpu_time": 61_000, "processes": 3,
                "threads": 11, "descriptors": null, "memory_limit_exceeded": 2},
            "last_exits": [{"exit_code": 3, "uptime": 41, "reason": "exit", "last_line": "boom"}],
            "logs": {"out": "/var/log/web-out.log", "error": null},
            "config": {"script": "/srv/web.js", "args": ["--port", "3000"], "kill_timeout": 1600,
                "max_memory_restart": 157_286_400, "env": {"DB_PASSWORD": "***"}},
            "source_changed": true, "source": "/srv/pmd.json",
        });
        let page = of_process(Entry(&entry), "of root", None, WallTime(0));
        for line in [
            "name                   web\n",
            "unstable restarts      1 of 16\n",
            "exit                   exit 3 after 41 ms  boom\n",
            "cpu                    3.1%\n",
            "memory                 48.1M\n",
            "memory tree            62.0M\n",
            "cpu time               61 s\n",
            "memory limit exceeded  2\n",
            "kill timeout           1s600ms\n",
            "max memory restart     150M\n",
            "args                   --port 3000\n",
            "source                 /srv/pmd.json (changed since)\n",
            "env.DB_PASSWORD        ***\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
        assert!(page.contains("\n\nstatus"), "{page}");
        assert!(!page.contains("\n\n\n") && !page.contains("log error"), "{page}");
    }
}
