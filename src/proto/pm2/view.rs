//! A process as PM2 shows it: `{pid, name, pm2_env, pm_id, monit}`.
//!
//! `pm2_env` is what a client gave to `prepare`, its environment once more flattened beside it, and
//! what the daemon knows. What changes only with the definition is rendered once ([`Fixed`]) and
//! copied into every answer; of a process that did not come from PM2's client it is made up from
//! the definition. No key comes twice: the daemon's own stand above the client's, and those above
//! the environment's.
//!
//! Source: the record of pm2 7.0.4 (`getMonitorData`, bus events).

use serde_json::{Map, Value};

use crate::base::{ExitStatus, Pid, WallTime};
use crate::config::pm2;
use crate::json::number;
use crate::proto::buffer::Frame;
use crate::proto::messages::metrics::Usage;
use crate::proto::pm2::object::{Object, write};
use crate::supervisor::Process;
use crate::supervisor::spec::{AppSpec, Environment, Restart};
use crate::supervisor::vocabulary::Status;

/// Members that this file writes besides those that are the daemon's alone.
const RENDERED: [&str; 8] = [
    "env",
    "name",
    "namespace",
    "pm_err_log_path",
    "pm_log_path",
    "pm_out_log_path",
    "pm_pid_path",
    "watch",
];

fn is_own(key: &str) -> bool {
    RENDERED.contains(&key) || pm2::is_the_daemons(key)
}

/// Paths that a record names.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub out: String,
    pub error: String,
    /// Gets both streams, where there is one.
    pub both: Option<String>,
    pub pid: String,
}

/// What was learnt about a process at run time, and what PM2's clients switched.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the child said of its Node.
    pub node_version: Option<Box<str>>,
    /// Of the package the script belongs to.
    pub version: Option<Box<str>>,
    /// Actions, metrics and options that the child's monitoring library announced.
    pub actions: Vec<Value>,
    pub monitor: Map<String, Value>,
    pub options: Map<String, Value>,
    pub monitored: Option<bool>,
    /// Watching was switched on or off.
    pub watch: Option<bool>,
    /// When a client started it anew, if later than its entry.
    pub created_at: Option<WallTime>,
}

impl Known {
    /// A new child: what the last one announced is void.
    pub fn renew(&mut self) {
        self.actions = Vec::new();
        self.monitor = Map::new();
        self.options = Map::new();
        self.version = None;
    }
}

/// The part of a record that changes only with the definition: members of `pm2_env` as JSON text.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// All but `env`, the environment flattened among them: `,"a":1,"b":2`.
    pub plain: Frame,
    /// The member `env`, and the ends of `pm2_env` and of the record: `,"env":{...}}}`.
    pub env: Frame,
    /// The value of `watch`.
    watch: Box<[u8]>,
}

impl Fixed {
    /// `env`: what the children are given, masked as the caller wants it. `declared`: what PM2's
    /// client gave, where it was one.
    #[must_use]
    pub fn new(
        process: &Process,
        declared: Option<&Map<String, Value>>,
        env: &Environment,
        files: &Files,
        unique_id: &str,
    ) -> Self {
        let spec = process.spec();
        let mut fields = match declared {
            Some(declared) => declared.clone(),
            None => from_definition(spec),
        };
        let odd = match fields.remove("env") {
            Some(Value::Object(odd)) => odd,
            Some(_) | None => Map::new(),
        };
        let watch = fields.remove("watch").unwrap_or(Value::Bool(false));
        fields.insert("exec_mode".to_owned(), spec.exec_mode.pm2_name().into());
        fields.retain(|key, _| !is_own(key) && *key != spec.instance_var);
        let mut text = b"{0".to_vec();
        let mut plain = Object::resume(&mut text);
        for (key, value) in &fields {
            plain.value(key, value);
        }
        plain.text("name", &spec.name);
        plain.text("namespace", &spec.namespace);
        plain.text("pm_out_log_path", &files.out);
        plain.text("pm_err_log_path", &files.error);
        plain.text("pm_pid_path", &files.pid);
        if let Some(both) = &files.both {
            plain.text("pm_log_path", both);
        }
        plain.text("unique_id", unique_id);
        plain.number(&spec.instance_var, process.instance().into());
        let is_taken =
            |key: &str| is_own(key) || key == spec.instance_var || fields.contains_key(key);
        for (key, value) in env.iter().filter(|(key, _)| !is_taken(key)) {
            match odd.get(key).filter(|odd| is_same(odd, value)) {
                Some(odd) => plain.value(key, odd),
                None => plain.text(key, value),
            }
        }
        Self {
            plain: Frame::from(text.get(2..).unwrap_or_default()),
            env: environment(env, &odd, unique_id),
            watch: watch.to_string().into_bytes().into(),
        }
    }
}

/// The member `env` of a record: what the children are given, with the values that are no strings
/// as the client gave them.
fn environment(env: &Environment, odd: &Map<String, Value>, unique_id: &str) -> Frame {
    let mut out = b",\"env\":".to_vec();
    let mut object = Object::begin(&mut out);
    for (key, value) in env.iter().filter(|(key, _)| *key != "unique_id") {
        match odd.get(key) {
            Some(odd) if is_same(odd, value) => object.value(key, odd),
            Some(_) | None => object.text(key, value),
        }
    }
    for (key, value) in odd {
        if env.get(key).is_none() {
            object.value(key, value);
        }
    }
    object.text("unique_id", unique_id);
    object.end();
    out.extend_from_slice(b"}}");
    out.into()
}

/// Whether a variable still is what a client gave as something else than a string.
fn is_same(odd: &Value, value: &str) -> bool {
    match odd {
        Value::Number(_) | Value::Bool(_) => {
            let text = odd.to_string();
            text == value
        }
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// What a client would have given for this app.
fn from_definition(spec: &AppSpec) -> Map<String, Value> {
    let millis = |pause: std::time::Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let auto = !matches!(spec.restart, Restart::Never | Restart::Once);
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("pm_exec_path", spec.script.as_ref().into());
    set("pm_cwd", spec.cwd.to_string_lossy().into());
    set("exec_interpreter", spec.interpreter.as_deref().unwrap_or("none").into());
    set("exec_mode", spec.exec_mode.pm2_name().into());
    set("instances", spec.instances.into());
    set("instance_var", spec.instance_var.as_str().into());
    set("args", spec.args.iter().map(Value::from).collect());
    set("node_args", spec.interpreter_args.iter().map(Value::from).collect());
    set("autorestart", auto.into());
    set("autostart", spec.autostart.into());
    set("merge_logs", spec.logs.merge.into());
    set("treekill", spec.treekill.into());
    set("kill_timeout", millis(spec.kill_timeout).into());
    if !spec.watch.is_empty() {
        set("watch", true.into());
    }
    if let Some(schedule) = &spec.cron_restart {
        set("cron_restart", schedule.text().into());
    }
    if let Some(user) = &spec.user {
        set("username", user.as_str().into());
    }
    fields
}

/// What a row was rendered from, besides [`Fixed`] and [`Known`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pid: Option<Pid>,
    status: Status,
    started: WallTime,
    created: WallTime,
    restarts: u32,
    unstable: u32,
    exit: Option<ExitStatus>,
    usage: Usage,
}

impl Moment {
    #[must_use]
    pub fn of(process: &Process, known: &Known, usage: Usage) -> Self {
        let created = known.created_at.unwrap_or_default().max(process.created_at());
        Self {
            pid: process.pid(),
            status: process.status(),
            started: process.started().map_or(created, |at| at.wall),
            created,
            restarts: process.restarts(),
            unstable: process.unstable_restarts(),
            exit: process.last_exit().map(|exit| exit.status),
            usage,
        }
    }
}

/// The begin of one record as `getMonitorData` has it, after a comma: all that changes by itself.
/// [`Fixed::plain`] and [`Fixed::env`] complete it.
#[must_use]
pub fn row(process: &Process, fixed: &Fixed, known: &Known, moment: &Moment) -> Frame {
    let mut out = Vec::with_capacity(1024);
    out.push(b',');
    let mut object = Object::begin(&mut out);
    object.number("pid", moment.pid.map_or(0, Pid::raw).into());
    object.text("name", &process.spec().name);
    object.number("pm_id", process.id().0.into());
    let usage = moment.usage;
    let monit = format!("{{\"memory\":{},\"cpu\":{}}}", usage.memory, number(usage.cpu));
    object.raw("monit", monit.as_bytes());
    let mut env = Object::begin(object.key("pm2_env"));
    live(&mut env, process, fixed, known, moment);
    Frame::from(out)
}

/// Appends one whole record as `getMonitorData` has it.
pub fn record(out: &mut Vec<u8>, process: &Process, fixed: &Fixed, known: &Known, usage: Usage) {
    let row = row(process, fixed, known, &Moment::of(process, known, usage));
    out.extend_from_slice(row.get(1..).unwrap_or_default());
    out.extend_from_slice(&fixed.plain);
    out.extend_from_slice(&fixed.env);
}

/// Appends one record as other replies have it: without `monit`, but with what remains of PM2's
/// child object.
pub fn reply(out: &mut Vec<u8>, process: &Process, fixed: &Fixed, known: &Known) {
    let mut object = Object::begin(out);
    object.number("pid", pid(process).into());
    object.text("name", &process.spec().name);
    pm2_env(object.key("pm2_env"), process, fixed, known, true);
    object.number("pm_id", process.id().0.into());
    object.raw("process", format!("{{\"pid\":{}}}", pid(process)).as_bytes());
    object.end();
}

/// Appends `pm2_env`; events of the bus have it without `env`.
pub fn pm2_env(out: &mut Vec<u8>, process: &Process, fixed: &Fixed, known: &Known, env: bool) {
    let mut object = Object::begin(out);
    let moment = Moment::of(process, known, Usage::default());
    live(&mut object, process, fixed, known, &moment);
    out.extend_from_slice(&fixed.plain);
    if env {
        // Less the end of a record.
        out.extend_from_slice(fixed.env.split_last().map_or(&[][..], |(_, env)| env));
    } else {
        out.push(b'}');
    }
}

/// The members of `pm2_env` that change by themselves.
fn live(object: &mut Object<'_>, process: &Process, fixed: &Fixed, known: &Known, moment: &Moment) {
    object.number("pm_id", process.id().0.into());
    object.text("status", moment.status.pm2_name());
    object.number("pm_uptime", signed(moment.started.0));
    object.number("created_at", signed(moment.created.0));
    object.number("restart_time", moment.restarts.into());
    object.number("unstable_restarts", moment.unstable.into());
    if let Some(status) = moment.exit {
        // PM2 knows an exit code only; a signal is told as 0 there.
        object.number("exit_code", status.code().unwrap_or(0).into());
        if let Some(signal) = ExitStatus::signal(status) {
            object.text("exit_signal", &signal.to_string());
        }
    }
    list(object.key("axm_actions"), &known.actions);
    map(object.key("axm_monitor"), &known.monitor);
    map(object.key("axm_options"), &known.options);
    object.raw("axm_dynamic", b"{}");
    object.flag("vizion_running", false);
    match known.watch {
        Some(false) => object.flag("watch", false),
        Some(true) if *fixed.watch == *b"false" => object.flag("watch", true),
        Some(true) | None => object.raw("watch", &fixed.watch),
    }
    object.text("version", known.version.as_deref().unwrap_or("N/A"));
    if let Some(version) = &known.node_version {
        object.text("node_version", version);
    }
    if let Some(monitored) = known.monitored {
        object.flag("_km_monitored", monitored);
    }
}

fn pid(process: &Process) -> i32 {
    process.pid().map_or(0, Pid::raw)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn list(out: &mut Vec<u8>, values: &[Value]) {
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, value);
    }
    out.push(b']');
}

fn map(out: &mut Vec<u8>, members: &Map<String, Value>) {
    let mut object = Object::begin(out);
    for (key, value) in members {
        object.value(key, value);
    }
    object.end();
}
