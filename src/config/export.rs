//! What runs, as a file: pmd's own form, PM2's, Compose's and systemd's.
//!
//! Pure. Secrets are left out and named; what another tool cannot express is left out and named.

use std::time::Duration;

use serde_json::Value;

use crate::config::definition::{self, restart_word};
use crate::config::environment::escape;
use crate::config::export_units;
use crate::config::problem::{Problem, shorten};
use crate::config::{files, secrets, suggest, units};
use crate::json::json;
use crate::json::object;
use crate::supervisor::spec::{AppSpec, LogBoth, LogTarget, Restart};

/// A file format to export to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportFormat {
    /// `pmd.json`.
    Json,
    /// PM2's `ecosystem.json`.
    Pm2,
    /// `compose.yaml`.
    Compose,
    /// Unit files, one below the other.
    Systemd,
}

/// What was exported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exported {
    /// The file, ending in a newline.
    pub text: String,
    /// What is not in it.
    pub notes: Vec<String>,
}

impl ExportFormat {
    /// Reads the word of `--format`.
    ///
    /// # Errors
    ///
    /// A format that is not built in, or none.
    pub fn parse(word: &str) -> Result<Self, Problem> {
        match word {
            "json" => Ok(Self::Json),
            "pm2" => Ok(Self::Pm2),
            "compose" => Ok(Self::Compose),
            "systemd" => Ok(Self::Systemd),
            "toml" => Err(files::not_built("TOML")),
            _ => {
                let known = ["json", "pm2", "compose", "systemd"];
                let message = format!("unknown export format '{}'", shorten(word));
                let problem = Problem::new(message).suggest(suggest::nearest(word, known));
                let has_hint = problem.hint.is_some();
                Err(if has_hint { problem } else { problem.hint(known.join(", ")) })
            }
        }
    }
}

/// Writes apps as a file of another tool, or of pmd.
#[must_use]
pub fn export(specs: &[&AppSpec], format: ExportFormat) -> Exported {
    let mut notes = Vec::new();
    let mut apps = Vec::new();
    for spec in specs {
        let (spec, left_out) = without_secrets(spec);
        if !left_out.is_empty() {
            notes.push(format!("{}: secrets left out: {}", spec.name, left_out.join(", ")));
        }
        apps.push(spec);
    }
    let text = match format {
        ExportFormat::Json => app_file(&apps, portable),
        ExportFormat::Pm2 => app_file(&apps, |spec| pm2(spec, &mut notes)),
        ExportFormat::Compose => export_units::compose(&apps, &mut notes),
        ExportFormat::Systemd => export_units::systemd(&apps, &mut notes),
    };
    Exported { text, notes }
}

/// The same spec without variables that hold secrets, and the names of those. Passwords in
/// arguments are masked; they are named `args`.
#[must_use]
pub fn without_secrets(spec: &AppSpec) -> (AppSpec, Vec<String>) {
    let mut clean = spec.clone();
    let mut left_out = Vec::new();
    for (name, value) in spec.env.iter() {
        if secrets::mask(name, value, &spec.secret_env) != value {
            clean.env.remove(name);
            left_out.push(name.to_owned());
        }
    }
    clean.args = spec.args.iter().map(secrets::mask_urls).collect();
    if clean.args != spec.args {
        left_out.push("args".to_owned());
    }
    left_out.dedup();
    (clean, left_out)
}

type Fields = Vec<(&'static str, Value)>;

/// `{"apps": [...]}` with the fields of each app in a reader's order.
fn app_file(apps: &[AppSpec], mut fields: impl FnMut(&AppSpec) -> Fields) -> String {
    let mut text = "{\n  \"apps\": [".to_owned();
    for (index, spec) in apps.iter().enumerate() {
        text.push_str(if index == 0 { "\n    {" } else { ",\n    {" });
        for (position, (name, value)) in fields(spec).iter().enumerate() {
            text.push_str(if position == 0 { "\n" } else { ",\n" });
            text.push_str(&format!("      \"{name}\": {}", inline(value)));
        }
        text.push_str("\n    }");
    }
    text.push_str(if apps.is_empty() { "]\n}\n" } else { "\n  ]\n}\n" });
    text
}

/// JSON on one line, with blanks where people put them.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", json!(key), inline(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The definition as a person writes it in `pmd.json`.
fn portable(spec: &AppSpec) -> Fields {
    let mut fields = definition::ordered(spec);
    fields.retain(|(name, value)| *name != "inherit_env" || *value == Value::Bool(true));
    for (name, value) in &mut fields {
        match *name {
            "min_uptime"
            | "restart_delay"
            | "exp_backoff_restart_delay"
            | "kill_timeout"
            | "listen_timeout" => {
                let time = value.as_u64().map(Duration::from_millis).unwrap_or_default();
                *value = Value::from(units::exact_duration(time));
            }
            "log_max_size" | "max_memory_restart" => {
                *value = Value::from(units::exact_bytes(value.as_u64().unwrap_or(0)));
            }
            // `$` means something in these.
            "env" | "args" | "cwd" => *value = escaped(value),
            _ => {}
        }
    }
    fields
}

fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(escape(text)),
        Value::Array(list) => list.iter().map(escaped).collect(),
        Value::Object(map) => {
            object(map.iter().map(|(key, value)| (key.as_str(), escaped(value)))).into()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// What PM2 has no word for.
const NOT_IN_PM2: &[&str] = &[
    "env_file",
    "secret_env",
    "umask",
    "nice",
    "oom_score_adj",
    "limits",
    "stdio",
    "on_daemon_loss",
    "notify",
    "notification_fd",
    "health",
    "listen",
    "cluster_policy",
    "depends_on",
    "essential",
    "log_max_size",
    "log_keep",
    "log_full",
    "autostart",
];

/// The definition in PM2's words, where PM2's defaults are others said in full.
fn pm2(spec: &AppSpec, notes: &mut Vec<String>) -> Fields {
    let mut fields = Fields::new();
    let mut lost = Vec::new();
    for (name, value) in definition::ordered(spec) {
        match name {
            "inherit_env" if spec.inherit_env => {}
            "inherit_env" => fields.push(("filter_env", Value::from(true))),
            "user" => fields.push(("uid", value)),
            "group" => fields.push(("gid", value)),
            "restart" => {
                if spec.restart == Restart::Never || spec.restart == Restart::Once {
                    fields.push(("autorestart", Value::from(false)));
                }
            }
            "stop_exit_codes" | "exp_backoff_restart_delay" => {}
            "max_restarts" if spec.max_restarts == 0 => lost.push("max_restarts: 0"),
            "log_type" if value == "json" => fields.push((name, value)),
            "log_type" => lost.push("log_type"),
            "log_target" => {
                if spec.logs.out == LogTarget::Memory {
                    fields.push(("disable_logs", Value::from(true)));
                }
                lost.extend(spec.logs.journald.then_some("log_target: journald"));
                lost.extend(spec.logs.syslog.then_some("log_target: syslog"));
            }
            "exec_mode" => {}
            "port" if !value.is_number() => lost.push("port"),
            name if NOT_IN_PM2.contains(&name) => lost.push(name),
            name => fields.push((name, value)),
        }
    }
    let mut codes = spec.stop_exit_codes.clone();
    if spec.restart == Restart::OnFailure && !codes.contains(&0) {
        codes.insert(0, 0);
    }
    if !codes.is_empty() {
        fields.push(("stop_exit_codes", json!(codes)));
    }
    let backoff = u64::try_from(spec.exp_backoff_restart_delay.as_millis()).unwrap_or(0);
    fields.push(("exp_backoff_restart_delay", Value::from(backoff)));
    fields.push(("exec_mode", Value::from(spec.exec_mode.word())));
    if !lost.is_empty() {
        notes.push(format!("{}: PM2 has no {}", spec.name, lost.join(", ")));
    }
    fields
}

/// What no target of `export_units` says about output.
pub(super) fn has_files(spec: &AppSpec) -> bool {
    let own = |target: &LogTarget| matches!(target, LogTarget::File(_));
    own(&spec.logs.out) || own(&spec.logs.error) || matches!(spec.logs.both, LogBoth::File(_))
}

/// One line about fields that another tool does not get.
pub(super) fn note_lost(spec: &AppSpec, tool: &str, lost: &[&str], notes: &mut Vec<String>) {
    let mut lost: Vec<&str> = lost.to_vec();
    if spec.restart == Restart::Once && tool == "Compose" {
        lost.push(restart_word(spec.restart));
    }
    if !lost.is_empty() {
        notes.push(format!("{}: not expressed for {tool}: {}", spec.name, lost.join(", ")));
    }
}
