//! The options of `pmd start` as fields of an app file.

use std::rc::Rc;

use serde_json::{Map, Value};

use crate::cli::app_files::Caller;
use crate::cli::args::Parsed;
use crate::cli::error::Failure;
use crate::cli::grammar::Kind;
use crate::config::{environment, names, units, words};
use crate::json::json;
use crate::json::object;

/// Options whose value is a field of the same name (with `_`), and its form.
const FIELDS: &[&str] = &[
    "name",
    "namespace",
    "exec-mode",
    "cwd",
    "interpreter",
    "env-file",
    "restart",
    "max-restarts",
    "max-memory-restart",
    "min-uptime",
    "restart-delay",
    "exp-backoff-restart-delay",
    "kill-timeout",
    "kill-signal",
    "listen-timeout",
    "log-type",
    "log-date-format",
    "log-max-size",
    "log-keep",
    "uid",
    "gid",
    "instances",
    "port",
    "schedule",
    "listen",
];

/// Options whose value is a field of another name.
const RENAMED: [(&str, &str); 4] = [
    ("output", "out_file"),
    ("log", "log_file"),
    ("node-args", "node_args"),
    ("cron", "cron_restart"),
];

/// Options whose value is a member of `health`.
const HEALTH: [(&str, &str); 9] = [
    ("health-http", "http"),
    ("health-tcp", "tcp"),
    ("health-cmd", "cmd"),
    ("health-interval", "interval"),
    ("health-timeout", "timeout"),
    ("health-retries", "retries"),
    ("health-start-period", "start_period"),
    ("health-check-interval", "interval"),
    ("health-check-timeout", "timeout"),
];

/// Flags that set a field when they are on, and flags that are on unless they are said to be off.
const FLAGS: [(&str, &str); 14] = [
    // So that it is said that they have no effect.
    ("vizion", "vizion"),
    ("source-map-support", "source_map_support"),
    ("disable-source-map-support", "disable_source_map_support"),
    ("deep-monitoring", "deep_monitoring"),
    ("trace", "trace"),
    ("disable-trace", "disable_trace"),
    ("v8", "v8"),
    ("autorestart", "autorestart"),
    ("autostart", "autostart"),
    ("treekill", "treekill"),
    ("wait-ready", "wait_ready"),
    ("merge-logs", "merge_logs"),
    ("time", "time"),
    ("disable-logs", "disable_logs"),
];

/// Whether options are given that only make sense for something new: then a word is a script even
/// where a process of that name is there.
#[must_use]
pub fn defines(parsed: &Parsed) -> bool {
    let definition =
        ["force", "replace", "once", "name", "instances", "interpreter", "cwd", "schedule"];
    !parsed.rest.is_empty()
        || definition.iter().any(|long| parsed.text(long).is_some() || parsed.flag(long))
}

/// The fields that the command line declares for `script`.
///
/// # Errors
///
/// Options that contradict each other, or have no meaning here.
pub fn fields(
    parsed: &Parsed,
    caller: &Caller,
    script: &str,
) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if parsed.flag("shell") {
        let name = names::default_name(script, true);
        set("script", json!(words::SHELL));
        set("interpreter", json!("none"));
        set("args", json!(words::shell_args(script, &name, &parsed.rest)));
        set("name", json!(if name.is_empty() { "sh" } else { &name }));
    } else {
        set("script", json!(from_here(parsed, caller, script)));
        if !parsed.rest.is_empty() {
            set("args", json!(parsed.rest));
        }
    }
    for long in FIELDS {
        if let Some(value) = value(parsed, long) {
            set(&long.replace('-', "_"), value);
        }
    }
    for (long, field) in RENAMED {
        if let Some(value) = value(parsed, long) {
            set(field, value);
        }
    }
    for text in parsed.texts("pid") {
        set(if is_port(text) { "port" } else { "pid_file" }, json!(text));
    }
    let arguments: Vec<&str> = parsed.texts("interpreter-args").collect();
    if !arguments.is_empty() {
        set("interpreter_args", json!(arguments.join(" ")));
    }
    for (long, field) in FLAGS {
        if let Some(on) = parsed.flag_given(long) {
            set(field, json!(on));
        }
    }
    let health = health(parsed);
    if !health.is_empty() {
        set("health", Value::Object(health));
    }
    if parsed.flag("once") {
        if parsed.text("restart").is_some() {
            return Err(Failure::usage("start: '--once' and '--restart' contradict each other"));
        }
        set("restart", json!("once"));
    }
    let paths = parsed.list("watch");
    if !paths.is_empty() {
        set("watch", json!(paths));
    } else if let Some(on) = parsed.flag_given("watch") {
        set("watch", json!(on));
    }
    let ignored = parsed.list("ignore-watch");
    if !ignored.is_empty() {
        set("ignore_watch", json!(ignored));
    }
    if let Some(text) = parsed.text("watch-delay") {
        // To PM2 a bare number is seconds here, and only here.
        let is_bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        set("watch_delay", json!(if is_bare { format!("{text}s") } else { text.to_owned() }));
    }
    let targets = parsed.list("log-target");
    if !targets.is_empty() {
        set("log_target", json!(targets));
    }
    let codes = parsed.list("stop-exit-codes");
    if !codes.is_empty() {
        let codes: Vec<u8> = codes.iter().filter_map(|code| code.parse().ok()).collect();
        set("stop_exit_codes", json!(codes));
    }
    if let Some(depends_on) = depends_on(parsed) {
        set("depends_on", depends_on);
    }
    if let Some(whom) = parsed.text("run-as") {
        let (user, group) = whom.split_once(':').map_or((whom, None), |(u, g)| (u, Some(g)));
        set("uid", json!(user));
        if let Some(group) = group {
            set("gid", json!(group));
        }
    }
    if parsed.flag("clean-env") {
        set("inherit_env", json!(false));
    }
    let filter = parsed.list("filter-env");
    if !filter.is_empty() {
        set("filter_env", json!(filter));
    }
    let (env, error_file) = environment(parsed)?;
    if !env.is_empty() {
        set("env", Value::Object(env));
    }
    if let Some(file) = error_file {
        set("error_file", json!(file));
    }
    Ok(fields)
}

/// The script as it is found from `--cwd`; where it only is in the directory the user stands in,
/// that one is meant.
fn from_here(parsed: &Parsed, caller: &Caller, script: &str) -> String {
    let Some(cwd) = parsed.text("cwd") else { return script.to_owned() };
    let here = caller.dir.join(script);
    if !caller.dir.join(cwd).join(script).exists() && here.is_file() {
        return here.to_string_lossy().into_owned();
    }
    script.to_owned()
}

/// What of the caller's environment is passed on, `--filter-env` considered: the resolved app no
/// longer knows of it.
#[must_use]
pub fn filtered(parsed: &Parsed, caller: &Caller) -> Caller {
    let parts = parsed.list("filter-env");
    let environment = if parts.is_empty() {
        caller.environment.clone()
    } else {
        Rc::new(environment::filtered(&caller.environment, &parts))
    };
    Caller { environment, dir: caller.dir.clone() }
}

/// The value of an option in the form of its field.
fn value(parsed: &Parsed, long: &str) -> Option<Value> {
    let option = parsed.command.long(long)?;
    if option.repeats {
        let all: Vec<&str> = parsed.texts(long).collect();
        return match all.as_slice() {
            [] => None,
            // Arguments are one line, split as a shell would.
            words if long == "node-args" => Some(json!(words.join(" "))),
            words => Some(json!(words)),
        };
    }
    let text = parsed.text(long)?;
    Some(match option.kind {
        Kind::Number => json!(text.parse::<u32>().ok()?),
        Kind::Instances => match text.parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) => json!(text),
        },
        Kind::Duration | Kind::OptionalDuration => {
            json!(u64::try_from(parsed.duration(long)?.as_millis()).ok()?)
        }
        Kind::Size
        | Kind::Text
        | Kind::OptionalText
        | Kind::Signal
        | Kind::Port
        | Kind::OneOf(_)
        | Kind::Codes
        | Kind::Flag => {
            json!(text)
        }
    })
}

/// The members of `health`; times in them are written with their unit.
fn health(parsed: &Parsed) -> Map<String, Value> {
    let member = |(long, member): (&str, &'static str)| {
        let is_time = parsed.command.long(long)?.kind == Kind::Duration;
        let value = if is_time {
            json!(units::exact_duration(parsed.duration(long)?))
        } else {
            value(parsed, long)?
        };
        Some((member, value))
    };
    object(HEALTH.into_iter().filter_map(member))
}

/// Whether what follows `-p` is a port (PMDaemon), right or wrong, and no file (PM2).
fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix("auto:").unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// `--env K=V`, `-e K=V` (PMDaemon) and `-e FILE` (PM2).
fn environment(parsed: &Parsed) -> Result<(Map<String, Value>, Option<String>), Failure> {
    let mut env = Map::new();
    let mut error_file = None;
    let is_pair = |text: &str| {
        text.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    let mut insert = |text: &str| {
        if let Some((name, value)) = text.split_once('=') {
            env.insert(name.to_owned(), json!(value));
        }
    };
    for text in parsed.texts("error") {
        if is_pair(text) { insert(text) } else { error_file = Some(text.to_owned()) }
    }
    for text in parsed.texts("env") {
        if !text.contains('=') {
            return Err(Failure::usage(format!(
                "start: '--env {text}' names a profile, which needs a configuration file"
            ))
            .hint("--env NAME=value, or: pmd start pmd.json --env production"));
        }
        if text.starts_with('=') {
            return Err(Failure::usage(format!("start: '--env {text}' has no name")));
        }
        insert(text);
    }
    Ok((env, error_file))
}

/// `db,cache:done` as the field's map or list.
fn depends_on(parsed: &Parsed) -> Option<Value> {
    let list = parsed.list("depends-on");
    if list.is_empty() {
        return None;
    }
    if list.iter().all(|item| !item.contains(':')) {
        return Some(json!(list));
    }
    let conditions = list.iter().map(|item| {
        let (name, condition) = item.rsplit_once(':').unwrap_or((item, "ready"));
        (name, json!(condition))
    });
    Some(Value::Object(object(conditions)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Wish, parse};

    fn fields_of(words: &[&str]) -> Result<Map<String, Value>, Failure> {
        let words = std::iter::once("start").chain(words.iter().copied());
        let Wish::Run(parsed) = parse(words.map(Into::into).collect()).unwrap() else {
            panic!("not a command")
        };
        let caller = Caller::here().unwrap();
        fields(&parsed, &caller, &parsed.operands[0])
    }

    #[test]
    fn options_become_fields() {
        let fields = fields_of(&[
            "app.js",
            "-n",
            "web",
            "-i",
            "max",
            "-k",
            "5s",
            "--max-restarts=3",
            "--max-memory=1.5G",
            "--env",
            "A=1",
            "-e",
            "B=2",
            "-e",
            "/tmp/err.log",
            "--no-autorestart",
            "--stop-exit-codes",
            "0,64",
            "--depends-on",
            "db,job:done",
            "--run-as",
            "www:staff",
            "-p",
            "3000-3003",
            "-p",
            "/run/web.pid",
            "--health-http",
            "http://localhost/",
            "--health-interval",
            "1500",
            "--health-check-timeout",
            "5",
            "--health-retries=2",
            "--",
            "--port",
            "1",
        ])
        .unwrap();
        assert_eq!(
            Value::Object(fields),
            json!({
                "script": "app.js", "args": ["--port", "1"], "name": "web", "instances": "max",
                "kill_timeout": 5000, "max_restarts": 3,
                "max_memory_restart": "1.5G", "env": {"A": "1", "B": "2"},
                "error_file": "/tmp/err.log", "autorestart": false, "stop_exit_codes": [0, 64],
                "depends_on": {"db": "ready", "job": "done"}, "uid": "www", "gid": "staff",
                "port": "3000-3003", "pid_file": "/run/web.pid",
                "health": {"http": "http://localhost/", "interval": "1s500ms", "timeout": "5",
                    "retries": 2},
            })
        );
    }

    #[test]
    fn a_command_line_is_run_by_a_shell() {
        let fields = fields_of(&["-x", "npm run dev | tee x", "--", "a b"]).unwrap();
        assert_eq!(fields["args"], json!(["-c", "npm run dev | tee x \"$@\"", "npm", "a b"]));
        let plain = fields_of(&["-x", "npm run dev"]).unwrap();
        assert_eq!(plain["args"], json!(["-c", "exec npm run dev"]));
        assert_eq!(fields["name"], "npm");
        let named = fields_of(&["-x", "npm run dev", "-n", "web"]).unwrap();
        assert_eq!(named["name"], "web");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(fields_of(&["job.sh", "--once", "--restart", "always"]).is_err());
        assert!(fields_of(&["app.js", "--env", "production"]).is_err());
    }
}
