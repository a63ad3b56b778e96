//! A process as the REST interface shows it: what `pmd list --json` prints.

use serde_json::Value;

use crate::cli::entry::Entry;
use crate::cli::output::when;
use crate::json::json;
use crate::json::object;

/// The object `P`, with pmd's own facts beside PM2's names.
#[must_use]
pub fn process(entry: Entry<'_>) -> Value {
    let millis = |field: &str| entry.text(field).and_then(when::parse).map(|at| at.0);
    let absent = || Value::Null;
    let field = |name: &str| entry.0.get(name).cloned().unwrap_or_else(absent);
    let config = |name: &str| entry.config(name).clone();
    let uptime = entry.uptime().map_or(0, |up| u64::try_from(up.as_millis()).unwrap_or(u64::MAX));
    let memory = entry.0["memory"].as_u64().unwrap_or(0);
    let cpu = entry.0["cpu"].as_f64().unwrap_or(0.0);
    let mode = match entry.config("exec_mode").as_str() {
        Some("cluster" | "cluster_mode") => "cluster_mode",
        Some(_) | None => "fork_mode",
    };
    let fields: [(&str, Value); 33] = [
        ("pm_id", json!(entry.id())),
        ("id", json!(entry.id())),
        ("name", json!(entry.name())),
        ("namespace", json!(entry.namespace())),
        ("pid", json!(entry.pid())),
        ("status", json!(entry.status())),
        ("restart_time", json!(entry.restarts())),
        ("restarts", json!(entry.restarts())),
        ("unstable_restarts", field("unstable_restarts")),
        ("max_restarts", field("max_restarts")),
        ("cpu", json!(cpu)),
        ("memory", json!(memory)),
        ("port", field("port")),
        ("instance_id", json!(entry.instance())),
        ("instance", json!(entry.instance())),
        ("exit_code", field("exit_code")),
        ("signal", field("signal")),
        ("exec_mode", json!(mode)),
        ("created_at", json!(millis("created_at"))),
        ("uptime", json!(uptime)),
        ("pm_uptime", json!(millis("started_at"))),
        ("ready", json!(entry.is_ready())),
        ("retry_in", field("retry_in")),
        ("error", field("error")),
        ("health", field("health")),
        ("user", json!(entry.user())),
        ("watching", json!(false)),
        ("pm_exec_path", config("script")),
        ("pm_cwd", config("cwd")),
        ("pm_out_log_path", entry.0["logs"]["out"].clone()),
        ("pm_err_log_path", entry.0["logs"]["error"].clone()),
        ("pm_pid_path", config("pid_file")),
        ("monit", json!({"memory": memory, "cpu": cpu})),
    ];
    let mut view = object(fields);
    // PM2's scripts look for these a level deeper.
    let deeper =
        ["name", "namespace", "exec_mode", "pm_id", "restart_time", "status", "port", "pm_uptime"];
    let deeper = object(deeper.map(|name| (name, view[name].clone())));
    view.insert("pm2_env".to_owned(), Value::Object(deeper));
    Value::Object(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_even_where_nothing_is_known() {
        let view = process(Entry(&json!({"id": 3, "name": "web", "status": "stopped"})));
        assert_eq!(view["pm_id"], 3);
        assert_eq!(view["pid"], Value::Null);
        assert_eq!(view["exec_mode"], "fork_mode");
        for name in ["exit_code", "created_at", "pm_exec_path", "port"] {
            assert!(view.as_object().unwrap().contains_key(name), "{name}");
        }
    }

    #[test]
    fn times_are_milliseconds() {
        let view = process(Entry(&json!({"pid": 7, "uptime": 41,
            "created_at": "2024-01-15T14:30:25.123Z"})));
        assert_eq!(view["created_at"], 1_705_329_025_123_u64);
        assert_eq!(view["uptime"], 41);
    }
}
