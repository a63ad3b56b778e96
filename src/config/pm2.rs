//! What PM2's client declares, as a spec.
//!
//! A *record* is the object that a client gives to PM2's `prepare`, and that `dump.pm2` keeps: an
//! app whose paths, interpreter and units the client has resolved, with its environment in `env`.
//! What pmd acts on becomes a spec by the same rules as an app file; the rest stays beside it
//! ([`AppSpec::pm2`]) for PM2's own views. Restart fields that a record gives keep PM2's meaning of
//! them; what it does not give has pmd's defaults.
//!
//! Source: pm2 7.0.4, observed.

use std::borrow::Cow;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::config::app;
use crate::config::names;
use crate::config::resolve::{Defaults, Dialect, Origin, app as resolve_app};
use crate::json::object;
use crate::supervisor::spec::{AppSpec, Environment, LogTarget, Words};

/// A record, or a part of one.
pub type Record = Map<String, Value>;

/// The members of a record that say what pmd calls otherwise.
const RENAMED: [(&str, &str); 8] = [
    ("pm_exec_path", "script"),
    ("pm_cwd", "cwd"),
    ("exec_interpreter", "interpreter"),
    ("node_args", "interpreter_args"),
    ("pm_out_log_path", "out_file"),
    ("pm_err_log_path", "error_file"),
    ("pm_log_path", "log_file"),
    ("pm_pid_path", "pid_file"),
];

/// The members that say what pmd calls so too.
const KEPT: [&str; 31] = [
    "args",
    "autorestart",
    "autostart",
    "cron_restart",
    "disable_logs",
    "exec_mode",
    "exp_backoff_restart_delay",
    "gid",
    "ignore_watch",
    "increment_var",
    "instance_var",
    "instances",
    "kill_timeout",
    "listen_timeout",
    "log_date_format",
    "log_type",
    "max_memory_restart",
    "max_restarts",
    "merge_logs",
    "min_uptime",
    "name",
    "namespace",
    "pmx",
    "restart_delay",
    "shutdown_with_message",
    "stop_exit_codes",
    "treekill",
    "uid",
    "wait_ready",
    "watch",
    "watch_delay",
];

/// Members that the daemon sets: nothing a client says may stand for them.
const DAEMONS: [&str; 20] = [
    "_km_monitored",
    "axm_actions",
    "axm_dynamic",
    "axm_monitor",
    "axm_options",
    "created_at",
    "exit_code",
    "exit_signal",
    "node_version",
    "pm_id",
    "pm_uptime",
    "prev_restart_delay",
    "restart_time",
    "status",
    "unique_id",
    "unstable_restarts",
    "version",
    "vizion_running",
    "_tree_pids",
    "_pm2_version",
];

/// Members that are of no use to a program, and not given to it.
const NOISE: [&str; 8] = [
    "automation",
    "km_link",
    "kill_retry_time",
    "pmx",
    "source_map_support",
    "vizion",
    "windowsHide",
    "filter_env",
];

/// Whether only the daemon says what the member `key` of a record is.
#[must_use]
pub fn is_the_daemons(key: &str) -> bool {
    DAEMONS.contains(&key)
}

/// Whether `key` means something in a record: no variable may stand for it.
fn is_member(key: &str) -> bool {
    key.starts_with("pm_") || key == "env" || is_the_daemons(key) || app::find(key).is_some()
}

/// What a record depends on besides itself.
pub struct Surroundings<'a> {
    pub defaults: &'a Defaults,
    /// Gives back an environment as it is shared with other apps.
    pub share: &'a dyn Fn(Environment) -> Rc<Environment>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("defaults", self.defaults).finish_non_exhaustive()
    }
}

/// The spec of a record. `unique_id`: what the processes made from it are known by.
///
/// # Errors
///
/// A sentence about the first thing that is wrong.
pub fn spec(
    mut record: Record,
    unique_id: &str,
    around: &Surroundings<'_>,
) -> Result<AppSpec, String> {
    let env = match record.remove("env") {
        Some(Value::Object(env)) => env,
        Some(_) | None => Map::new(),
    };
    // What the environment was flattened to before: it is flattened again.
    record.retain(|key, _| is_member(key) || !env.contains_key(key));
    let mut inherited = Vec::new();
    let mut own = Map::new();
    let mut odd = Map::new();
    for (name, value) in env {
        if !names::is_variable(&name) || name == "unique_id" {
            continue;
        }
        match value {
            Value::String(text) if !text.contains('\0') => inherited.push((name, text)),
            Value::Number(_) | Value::Bool(_) => {
                own.insert(name.clone(), value.to_string().into());
                odd.insert(name, value);
            }
            Value::Object(_) | Value::Array(_) | Value::Null => {
                odd.insert(name, value);
            }
            Value::String(_) => {}
        }
    }
    let inherited = (around.share)(inherited.into_iter().collect());
    let origin = Origin {
        dialect: Dialect::Client,
        dir: Path::new("/"),
        environment: &inherited,
        profile: None,
        source: None,
        file: None,
        strict: false,
        defaults: around.defaults,
    };
    let resolved = resolve_app(&fields(&record, own), &origin);
    let mut apps = resolved.apps.into_iter();
    let (Some(mut spec), None) = (apps.next(), resolved.problems.first()) else {
        let problem = resolved.problems.first().map(ToString::to_string);
        return Err(problem.unwrap_or_else(|| "the app is not complete".to_owned()));
    };
    let given = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
    spec.backoff_always = given("exp_backoff_restart_delay");
    spec.unstable_window = given("min_uptime") || given("max_restarts");
    record.retain(|key, _| !is_the_daemons(key));
    record.insert("unique_id".to_owned(), unique_id.into());
    if !odd.is_empty() {
        record.insert("env".to_owned(), odd.into());
    }
    spec.pm2 = Some(Rc::from(Value::Object(record).to_string()));
    Ok(spec)
}

/// The fields of an app file that say the same as a record. `env`: what goes there.
fn fields(record: &Record, env: Map<String, Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (from, to) in RENAMED.into_iter().chain(KEPT.map(|name| (name, name))) {
        if let Some(value) = record.get(from) {
            fields.insert(to.to_owned(), value.clone());
        }
    }
    if let Some(Value::String(text)) = fields.get("args")
        && let Ok(list @ Value::Array(_)) = serde_json::from_str(text)
    {
        fields.insert("args".to_owned(), list);
    }
    // A list of nothing, where there could have been a path.
    fields.retain(|_, value| !matches!(value, Value::String(text) if text.is_empty()));
    fields.insert("env".to_owned(), env.into());
    fields.insert("stdio".to_owned(), crate::json::json!(["pipe", "pipe", "pipe"]));
    fields.insert("ipc".to_owned(), "node".into());
    fields
}

/// The record of an app as it stands in a file, as the client of PM2 before 1.0 left it to the
/// daemon. `dir`: where its paths begin; `home`: PM2's, where its files go.
///
/// # Errors
///
/// A sentence about the first thing that is wrong.
pub fn from_app(
    given: &Map<String, Value>,
    dir: &Path,
    home: &Path,
    environment: &Rc<Environment>,
    defaults: &Defaults,
) -> Result<Record, String> {
    let origin = Origin {
        dialect: Dialect::Pm2,
        dir,
        environment,
        profile: None,
        source: None,
        file: None,
        strict: false,
        defaults,
    };
    let resolved = resolve_app(given, &origin);
    let Some(spec) = resolved.apps.first().filter(|_| resolved.problems.is_empty()) else {
        let problem = resolved.problems.first().map(ToString::to_string);
        return Err(problem.unwrap_or_else(|| "the app is not complete".to_owned()));
    };
    if !dir.join(&*spec.script).exists() && spec.script.contains('/') {
        return Err(format!("script not found: {}", spec.script));
    }
    let given_names = given.iter().map(|(key, value)| (app::snake_case(key), value.clone()));
    let mut record = object(given_names.filter(|(key, _)| KEPT.contains(&key.as_str())));
    let mut env = Map::new();
    for (name, value) in spec.inherited.iter() {
        env.insert(name.to_owned(), value.into());
    }
    if let Some(Value::Object(own)) = given.get("env") {
        env.extend(own.clone());
    }
    let file =
        |folder: &str, name: String| Value::from(home.join(folder).join(name).to_string_lossy());
    let name = &spec.name;
    let targets =
        [("out", &spec.logs.out), ("error", &spec.logs.error)].map(|(word, target)| match target {
            LogTarget::Default => file("logs", format!("{name}-{word}.log")),
            LogTarget::Nowhere | LogTarget::Memory => "/dev/null".into(),
            LogTarget::File(path) => path.to_string_lossy().into(),
        });
    let [out, error] = targets;
    for (key, value) in [
        ("env", env.into()),
        ("name", name.as_ref().into()),
        ("pm_exec_path", spec.script.as_ref().into()),
        ("pm_cwd", spec.cwd.to_string_lossy().into()),
        ("args", list(&spec.args)),
        ("exec_interpreter", spec.interpreter.as_deref().unwrap_or("none").into()),
        ("node_args", list(&spec.interpreter_args)),
        ("pm_out_log_path", out),
        ("pm_err_log_path", error),
        ("pm_pid_path", file("pids", format!("{name}.pid"))),
    ] {
        record.insert(key.to_owned(), value);
    }
    record.entry("exec_mode").or_insert_with(|| spec.exec_mode.pm2_name().into());
    Ok(record)
}

fn list(words: &Words) -> Value {
    words.iter().map(Value::from).collect()
}

/// The version of the package that a script belongs to: that of the nearest `package.json` above.
#[must_use]
pub fn package_version(script: &str) -> Option<String> {
    let package = Path::new(script).ancestors().skip(1).map(|dir| dir.join("package.json"));
    let package = package.take_while(|path| path.is_absolute()).find(|path| path.is_file())?;
    if std::fs::metadata(&package).ok()?.len() > MAX_PACKAGE {
        return None;
    }
    let value: Value = serde_json::from_slice(&std::fs::read(&package).ok()?).ok()?;
    value.get("version")?.as_str().map(str::to_owned)
}

/// A larger `package.json` is not looked into, in bytes.
const MAX_PACKAGE: u64 = 256 * 1024;

/// What PM2's client declared, where it was one.
#[must_use]
pub fn declared(spec: &AppSpec) -> Option<Record> {
    match serde_json::from_str(spec.pm2.as_deref()?) {
        Ok(Value::Object(record)) => Some(record),
        Ok(_) | Err(_) => None,
    }
}

/// The record of an app that PM2's client declared, its environment in it: what [`spec`] made it
/// from.
#[must_use]
pub fn record(spec: &AppSpec) -> Option<Record> {
    let mut record = declared(spec)?;
    let mut env = Map::new();
    for (name, value) in spec.inherited.iter().chain(spec.env.iter()) {
        env.insert(name.to_owned(), value.into());
    }
    if let Some(Value::Object(odd)) = record.remove("env") {
        for (name, value) in odd {
            let same = env.get(&name).and_then(Value::as_str) == Some(&value.to_string());
            if same || !env.contains_key(&name) {
                env.insert(name, value);
            }
        }
    }
    record.insert("env".to_owned(), env.into());
    record.insert("name".to_owned(), spec.name.as_ref().into());
    record.insert("namespace".to_owned(), spec.namespace.as_ref().into());
    Some(record)
}

/// Changes a record as a restart asks for: variables, and in `current_conf` members of the record
/// itself, of which the word `null` takes one out. False: nothing changes.
pub fn change(record: &mut Record, mut asked: Record) -> bool {
    let before = record.clone();
    let conf = match asked.remove("current_conf") {
        Some(Value::Object(conf)) => conf,
        Some(_) | None => Map::new(),
    };
    let mut variables = asked;
    for (key, value) in conf {
        let is_env = key == "env" && value.is_object();
        if value.as_str() == Some("null") {
            record.remove(&key);
        } else if value.is_string() && !is_member(&key) {
            // A client that renews the environment gives it here.
            variables.insert(key, value);
        } else if is_env && value.as_object().is_some_and(Map::is_empty) || is_the_daemons(&key) {
            // Nothing is meant by it.
        } else if is_env || key != "env" {
            record.insert(key, value);
        }
    }
    let env = record.entry("env").or_insert_with(|| Map::new().into());
    if let Value::Object(env) = env {
        // What is an object was flattened by mistake, as PM2 sees it.
        env.extend(variables.into_iter().filter(|(_, value)| !value.is_object()));
    }
    *record != before
}

/// The variables of a record that its processes are given besides its environment: its own
/// members, as PM2 gives them.
pub fn variables(record: &Record) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    record
        .iter()
        .filter(|(key, _)| !NOISE.contains(&key.as_str()) && names::is_variable(key))
        .filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) if text.contains('\0') => return None,
                Value::String(text) => Cow::Borrowed(text.as_str()),
                Value::Number(_) | Value::Bool(_) => Cow::Owned(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((key.as_str(), text))
        })
}
