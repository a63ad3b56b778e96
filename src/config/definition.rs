//! A spec as the fields of an app file again.
//!
//! Pure. [`definition`] says what differs from the defaults, and resolves to the same spec: it is
//! what a client sends to the daemon. [`effective`] says everything, for people.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::assemble::DEFAULTS;
use crate::config::settings::LogTargets;
use crate::config::{assemble_serving, assemble_sharing, program, secrets, units};
use crate::json::json;
use crate::json::object;
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::{
    Address, AppSpec, Check, ClusterPolicy, Condition, Dependency, Environment, HealthCheck,
    IPC_LIMIT, Intercom, Ipc, Limits, LogBoth, LogFormat, LogFull, LogTarget, OnDaemonLoss, OnFail,
    Overlap, Ports, Restart, Serving, Stdin, Words,
};

/// The fields in which a spec differs from the defaults; `name`, `script`, `cwd` and `inherit_env`
/// always.
///
/// Resolved as [`Dialect::Client`](crate::config::Dialect::Client) with `spec.inherited` for the
/// caller's environment it gives `spec` again, but for [`AppSpec::source`]. Secrets are in it.
#[must_use]
pub fn definition(spec: &AppSpec) -> Map<String, Value> {
    object(ordered(spec))
}

/// [`definition`] in the order in which a person writes it.
pub(super) fn ordered(spec: &AppSpec) -> Vec<(&'static str, Value)> {
    let said = fields(spec).into_iter().filter(|field| field.said);
    said.map(|field| (field.name, field.value)).collect()
}

/// `spec` as it may be shown: secrets masked.
#[must_use]
pub fn without_secrets(spec: &AppSpec) -> AppSpec {
    let mut shown = spec.clone();
    shown.env = masked(&spec.env, &spec.secret_env);
    shown.args = masked_args(&spec.args);
    shown.interpreter_args = masked_args(&spec.interpreter_args);
    shown.serving = spec.serving.clone().map(masked_serving);
    shown
}

/// All fields of a spec, with secrets masked.
#[must_use]
pub fn effective(spec: &AppSpec) -> Map<String, Value> {
    let shown = without_secrets(spec);
    let mut all = object(fields(&shown).into_iter().map(|field| (field.name, field.value)));
    if let Some(source) = &spec.source {
        all.insert("source".to_owned(), path(source));
    }
    all
}

/// An environment as it may be shown.
#[must_use]
pub fn masked(env: &Environment, secret_env: &[String]) -> Environment {
    env.iter()
        .map(|(name, value)| (name, secrets::mask(name, value, secret_env).as_ref().to_owned()))
        .collect()
}

fn masked_args(args: &Words) -> Words {
    args.iter().map(secrets::mask_urls).collect()
}

/// A check's command line may hold what its arguments may.
fn masked_serving(mut serving: Box<Serving>) -> Box<Serving> {
    if let Some(HealthCheck { check: Check::Script(words), .. }) = &mut serving.health {
        for word in words {
            *word = secrets::mask_urls(word).into_owned();
        }
    }
    serving
}

struct Field {
    name: &'static str,
    value: Value,
    /// Whether it differs from the default.
    said: bool,
}

fn field(name: &'static str, value: impl Into<Value>, said: bool) -> Field {
    Field { name, value: value.into(), said }
}

fn optional(name: &'static str, value: Option<impl Into<Value>>) -> Field {
    let said = value.is_some();
    Field { name, value: value.map_or(Value::Null, Into::into), said }
}

fn list(name: &'static str, words: &[String]) -> Field {
    field(name, words, !words.is_empty())
}

fn words(name: &'static str, words: &Words) -> Field {
    field(name, words.iter().collect::<Value>(), !words.is_empty())
}

fn time(name: &'static str, value: Duration, default: Duration) -> Field {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    field(name, millis, value != default)
}

/// Its own directory is what one word says.
fn watch(spec: &AppSpec) -> Value {
    match &*spec.watch {
        [] => false.into(),
        [one] if Path::new(one) == &*spec.cwd => true.into(),
        several => json!(several),
    }
}

fn path(path: &Path) -> Value {
    Value::from(path.to_string_lossy())
}

/// Every field, in the order in which an app file is written.
fn fields(spec: &AppSpec) -> Vec<Field> {
    let mut all = what(spec);
    all.extend(environment(spec));
    all.extend(rights(spec));
    all.extend(life(spec));
    all.extend(output(spec));
    all
}

fn what(spec: &AppSpec) -> Vec<Field> {
    // Said even where it is nothing, if the script's name would ask for one.
    let direct = spec.interpreter.is_none();
    let by_name = program::interpreters(Path::new(&*spec.script)).is_some()
        || spec.script.contains(|c: char| c.is_ascii_whitespace());
    let counted = spec.instances != 1;
    let mode = assemble_sharing::default_mode(counted, spec.interpreter.as_deref(), spec.ipc);
    let listen: Vec<String> = spec.listen.iter().map(Address::to_string).collect();
    vec![
        field("name", &*spec.name, true),
        field("namespace", &*spec.namespace, *spec.namespace != *DEFAULTS.namespace),
        field("script", &*spec.script, true),
        words("args", &spec.args),
        field("interpreter", spec.interpreter.as_deref().unwrap_or("none"), !direct || by_name),
        words("interpreter_args", &spec.interpreter_args),
        field("pmx", spec.pmx, !spec.pmx),
        field("cwd", path(&spec.cwd), true),
        field("instances", spec.instances, spec.instances != 1),
        field("exec_mode", spec.exec_mode.word(), spec.exec_mode != mode),
        optional("cluster_policy", spec.cluster_policy.map(ClusterPolicy::word)),
        field("listen", listen, !spec.listen.is_empty()),
        field(
            "instance_var",
            spec.instance_var.as_str(),
            spec.instance_var != DEFAULTS.instance_var,
        ),
        optional("increment_var", spec.increment_var.as_deref()),
        optional("port", spec.ports().map(port)),
    ]
}

/// A number where it is one.
fn port(ports: Ports) -> Value {
    match ports {
        Ports::One(port) => port.into(),
        Ports::Range { .. } | Ports::Auto { .. } => ports.to_string().into(),
    }
}

fn environment(spec: &AppSpec) -> Vec<Field> {
    let env = object(spec.env.iter().map(|(name, value)| (name, Value::from(value))));
    let files: Vec<Value> = spec.env_file.iter().map(|file| path(file)).collect();
    vec![
        field("env", env, !spec.env.is_empty()),
        field("env_file", files, !spec.env_file.is_empty()),
        field("inherit_env", spec.inherit_env, true),
        list("secret_env", &spec.secret_env),
    ]
}

fn rights(spec: &AppSpec) -> Vec<Field> {
    let limits = limits(&spec.limits);
    let stdin = match spec.stdin {
        Stdin::Null => "null",
        Stdin::Pipe => "pipe",
    };
    vec![
        optional("user", spec.user.as_deref()),
        optional("group", spec.group.as_deref()),
        optional("umask", spec.umask.map(|mask| format!("{mask:03o}"))),
        optional("nice", spec.nice),
        optional("oom_score_adj", spec.oom_score_adj),
        field("limits", limits, spec.limits != Limits::default()),
        field("stdio", json!([stdin, "pipe", "pipe"]), spec.stdin != Stdin::Null),
    ]
}

fn limits(limits: &Limits) -> Map<String, Value> {
    let all = [
        ("nofile", limits.nofile),
        ("nproc", limits.nproc),
        ("core", limits.core),
        ("as", limits.address_space),
        ("memory", limits.memory),
        ("cpu", limits.cpu),
        ("pids", limits.pids),
    ];
    object(all.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?)))))
}

fn life(spec: &AppSpec) -> Vec<Field> {
    let backoff = DEFAULTS.exp_backoff_restart_delay;
    let min_uptime = match (spec.max_runs, spec.spin_sleep) {
        (None, None) => DEFAULTS.min_uptime,
        _ => Duration::ZERO,
    };
    vec![
        field("autostart", spec.autostart, !spec.autostart),
        field("restart", restart_word(spec.restart), spec.restart != Restart::Always),
        optional("cron_restart", spec.cron_restart.as_ref().map(Schedule::text)),
        optional("schedule", spec.schedule.as_ref().map(Schedule::text)),
        optional("timeout", spec.timeout.map(units::exact_duration)),
        field("watch", watch(spec), !spec.watch.is_empty()),
        field("ignore_watch", spec.ignore_watch.clone(), !spec.ignore_watch.is_empty()),
        list("on_event", &spec.on_event),
        time("watch_delay", spec.watch_delay, DEFAULTS.watch_delay),
        field("overlap", spec.overlap.word(), spec.overlap != Overlap::Skip),
        field("stop_exit_codes", spec.stop_exit_codes.clone(), !spec.stop_exit_codes.is_empty()),
        field("max_restarts", spec.max_restarts, spec.max_restarts != DEFAULTS.max_restarts),
        optional("max_runs", spec.max_runs),
        optional("spin_sleep", spec.spin_sleep.map(units::exact_duration)),
        time("min_uptime", spec.min_uptime, min_uptime),
        time("restart_delay", spec.restart_delay, Duration::ZERO),
        time("exp_backoff_restart_delay", spec.exp_backoff_restart_delay, backoff),
        optional("max_memory_restart", spec.max_memory_restart),
        field(
            "kill_signal",
            spec.kill_signal.to_string(),
            spec.kill_signal != DEFAULTS.kill_signal,
        ),
        time("kill_timeout", spec.kill_timeout, DEFAULTS.kill_timeout),
        field("treekill", spec.treekill, !spec.treekill),
        field(
            "on_daemon_loss",
            match spec.on_daemon_loss {
                OnDaemonLoss::Keep => "keep",
                OnDaemonLoss::Kill => "kill",
            },
            spec.on_daemon_loss != OnDaemonLoss::Keep,
        ),
        field("shutdown_with_message", spec.shutdown_with_message, spec.shutdown_with_message),
        field("ipc", spec.ipc.word(), spec.ipc != Ipc::Auto),
        field("ipc_raw", spec.ipc_raw, spec.ipc_raw),
        optional("ipc_delimiter", spec.ipc_delimiter.as_deref()),
        field("ipc_wildcard", spec.ipc_wildcard, !spec.ipc_wildcard),
        field("intercom", spec.intercom.word(), spec.intercom != Intercom::Auto),
        field("ipc_max_line", spec.ipc_max_line, spec.ipc_max_line != IPC_LIMIT),
        field("ipc_max_queue", spec.ipc_max_queue, spec.ipc_max_queue != IPC_LIMIT),
        field("wait_ready", spec.wait_ready, spec.wait_ready),
        field("notify", spec.notify, spec.notify),
        optional("notification_fd", spec.notification_fd),
        time("listen_timeout", spec.listen_timeout, DEFAULTS.listen_timeout),
        optional("health", spec.health().map(health)),
        field("depends_on", depends_on(&spec.depends_on), !spec.depends_on.is_empty()),
        field("essential", spec.essential, !spec.essential),
    ]
}

fn health(health: &HealthCheck) -> Map<String, Value> {
    let time = |time: Duration, default: Duration| {
        (time != default).then(|| Value::from(units::exact_duration(time)))
    };
    let (name, check) = match &health.check {
        Check::Http(url) => ("http", url.as_str().into()),
        Check::Tcp { host, port: Some(port) } if host.contains(':') => {
            ("tcp", format!("[{host}]:{port}").into())
        }
        Check::Tcp { host, port: Some(port) } => ("tcp", format!("{host}:{port}").into()),
        Check::Tcp { host, port: None } => ("host", host.as_str().into()),
        Check::Script(words) => ("cmd", words.as_slice().into()),
    };
    let retries = (health.retries != assemble_serving::RETRIES).then_some(health.retries);
    let on_fail = (health.on_fail == OnFail::None).then_some("none");
    let all = [
        (name, Some(check)),
        ("interval", time(health.interval, assemble_serving::INTERVAL)),
        ("timeout", time(health.timeout, assemble_serving::TIMEOUT)),
        ("retries", retries.map(Value::from)),
        ("start_period", time(health.start_period, Duration::ZERO)),
        ("on_fail", on_fail.map(Value::from)),
    ];
    object(all.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// The word of a restart policy in an app file.
#[must_use]
pub fn restart_word(restart: Restart) -> &'static str {
    match restart {
        Restart::Always => "always",
        Restart::OnFailure => "on-failure",
        Restart::Never => "never",
        Restart::Once => "once",
    }
}

/// A list where a list says it all.
fn depends_on(dependencies: &[Dependency]) -> Value {
    if dependencies.iter().all(|dependency| dependency.condition == Condition::Ready) {
        return dependencies.iter().map(|dependency| dependency.name.as_str()).collect();
    }
    let word = |condition| match condition {
        Condition::Started => "started",
        Condition::Ready => "ready",
        Condition::Healthy => "healthy",
        Condition::Done => "done",
    };
    let entry = |dependency: &Dependency| {
        (dependency.name.clone(), Value::from(word(dependency.condition)))
    };
    object(dependencies.iter().map(entry)).into()
}

fn output(spec: &AppSpec) -> Vec<Field> {
    let logs = &spec.logs;
    let format = match logs.format {
        LogFormat::Raw => "raw",
        LogFormat::Json => "json",
        LogFormat::Logfmt => "logfmt",
    };
    let both = match &logs.both {
        LogBoth::No => Value::from(false),
        LogBoth::Default => Value::from(true),
        LogBoth::File(file) => path(file),
    };
    let full = logs.full.map(|full| match full {
        LogFull::Drop => "drop",
        LogFull::Block => "block",
    });
    let files = logs.out != LogTarget::Memory;
    let targets = LogTargets { files, journald: logs.journald, syslog: logs.syslog };
    vec![
        field("log_target", targets.words(), targets != LogTargets::DEFAULT),
        stream("out_file", &logs.out),
        stream("error_file", &logs.error),
        field("log_file", both, logs.both != LogBoth::No),
        field("log_type", format, logs.format != LogFormat::Raw),
        optional("log_date_format", logs.date.as_deref()),
        field("merge_logs", logs.merge, logs.merge),
        optional("log_max_size", logs.max_size),
        optional("log_keep", logs.keep),
        optional("log_full", full),
        optional("pid_file", spec.pid_file.as_deref().map(path)),
    ]
}

fn stream(name: &'static str, target: &LogTarget) -> Field {
    match target {
        LogTarget::Default | LogTarget::Memory => field(name, Value::Null, false),
        LogTarget::Nowhere => field(name, "/dev/null", true),
        LogTarget::File(file) => field(name, path(file), true),
    }
}
