//! What is to be run and how: [`AppSpec`], valid by construction.
//!
//! `config::resolve` is the only maker of an `AppSpec` from outside data; after it nothing in here
//! can be wrong, and nobody checks it again. The serialised form is the one of the state file and
//! of the `config` object that clients see: the field names of an app file, durations in
//! milliseconds.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Signal;

mod serving;

pub use serving::{Check, HealthCheck, OnFail, PORT_VARIABLE, Ports, Serving};

/// At most this many instances of one app.
pub const MAX_INSTANCES: u32 = 1024;

/// Environment variables, sorted by name, each name once.
///
/// What a caller's shell exports is the same for many apps: it is kept once and shared.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Environment(std::collections::BTreeMap<Box<str>, Box<str>>);

impl Environment {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Sets `name`; the last value given wins.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: impl Into<Box<str>>) {
        self.0.insert(name.into(), value.into());
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        // One by one: collecting would bring a sort of its own for every kind of iterator.
        let mut all = Self::default();
        for (name, value) in pairs {
            all.set(name, value);
        }
        all
    }
}

/// An app as the user declared it, with every default filled in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AppSpec {
    /// 1 to 128 bytes, no `/`, no control characters, not `all`, `.` or `..`.
    pub name: String,
    pub namespace: String,

    /// An absolute path, or a bare command name to be looked up in the app's `PATH`.
    pub script: String,
    pub args: Vec<String>,
    /// What runs the script; `None`: the script is executed itself.
    pub interpreter: Option<String>,
    pub interpreter_args: Vec<String>,
    /// Absolute.
    pub cwd: PathBuf,

    /// What the app gets besides `env`: the base variables, or all of the caller's. Kept apart so
    /// that apps can share it; the state file keeps each different one once.
    #[serde(skip)]
    pub inherited: Rc<Environment>,
    pub env: Environment,
    /// Read at every start, later files win, `env` wins over them.
    pub env_file: Vec<PathBuf>,
    /// Whether `inherited` is the caller's whole environment (then `restart --update-env` renews
    /// it) or only the base.
    pub inherit_env: bool,
    /// Names masked in every view besides those that look like secrets.
    pub secret_env: Vec<String>,

    /// User to run as: a name or a number.
    pub user: Option<String>,
    /// Group to run as: a name or a number; `None`: the user's own.
    pub group: Option<String>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub limits: Limits,
    pub stdin: Stdin,

    pub instances: u32,
    /// Variable that carries the instance number.
    pub instance_var: String,
    /// Variable of `env` whose number grows by one per instance.
    pub increment_var: Option<String>,

    /// False: entered in the table, not started.
    pub autostart: bool,
    pub restart: Restart,
    /// Exits with these codes are final.
    pub stop_exit_codes: Vec<u8>,
    /// Consecutive unstable runs that end in `errored`; 0: never.
    pub max_restarts: u32,
    /// A run at least this long is stable.
    #[serde(with = "millis")]
    pub min_uptime: Duration,
    /// Pause before every automatic restart.
    #[serde(with = "millis")]
    pub restart_delay: Duration,
    /// First pause after an unstable run; zero: no growing pause.
    #[serde(with = "millis")]
    pub exp_backoff_restart_delay: Duration,

    pub kill_signal: Signal,
    #[serde(with = "millis")]
    pub kill_timeout: Duration,
    /// Stop the whole process tree, not only the main process.
    pub treekill: bool,
    pub on_daemon_loss: OnDaemonLoss,

    pub wait_ready: bool,
    /// Set `NOTIFY_SOCKET` even without `wait_ready`.
    pub notify: bool,
    /// Descriptor in the child on which a newline means ready.
    pub notification_fd: Option<u32>,
    #[serde(with = "millis")]
    pub listen_timeout: Duration,

    /// Its ports and its health check; `None`: it has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Box<Serving>>,

    /// Started before this app, stopped after it.
    pub depends_on: Vec<Dependency>,
    /// Container mode: giving up ends the container.
    pub essential: bool,

    pub logs: LogSpec,
    /// Default: `<pid dir>/<name>[-<instance>].pid`.
    pub pid_file: Option<PathBuf>,
    /// The configuration file this came from.
    pub source: Option<PathBuf>,
}

impl AppSpec {
    /// How long a new child must live before `start` calls it stable.
    #[must_use]
    pub fn settle_time(&self) -> Duration {
        self.min_uptime.min(Duration::from_secs(1))
    }

    /// The fields, by their names in an app file, in which two definitions differ. What was
    /// inherited from the caller's shell and where the definition came from do not count.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        macro_rules! compare {
            ($($field:ident),+ $(,)?) => {$(
                if self.$field != other.$field {
                    fields.push(stringify!($field));
                }
            )+};
        }
        compare!(
            name,
            namespace,
            script,
            args,
            interpreter,
            interpreter_args,
            cwd,
            env,
            env_file,
            inherit_env,
            secret_env,
            user,
            group,
            umask,
            nice,
            oom_score_adj,
            limits,
            stdin,
            instances,
            instance_var,
            increment_var,
            autostart,
            restart,
            stop_exit_codes,
            max_restarts,
            min_uptime,
            restart_delay,
            exp_backoff_restart_delay,
            kill_signal,
            kill_timeout,
            treekill,
            on_daemon_loss,
            wait_ready,
            notify,
            notification_fd,
            listen_timeout,
            depends_on,
            essential,
            logs,
            pid_file,
        );
        if self.ports() != other.ports() {
            fields.push("port");
        }
        if self.health() != other.health() {
            fields.push("health");
        }
        fields
    }
}

/// What may be restarted after it ended by itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    #[default]
    Always,
    /// Exit code 0 and `stop_exit_codes` are final.
    OnFailure,
    /// PM2's `autorestart: false`.
    Never,
    /// A job: runs to completion; exit code 0 is success, nothing is run again.
    Once,
}

/// What becomes of a child whose daemon died.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDaemonLoss {
    #[default]
    Keep,
    /// The kernel kills it (`PR_SET_PDEATHSIG`).
    Kill,
}

/// What a child finds on descriptor 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe, for `pmd send`.
    Pipe,
}

/// Resource limits; `None` leaves what the daemon was started with.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Limits {
    /// Open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
    /// Processes of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nproc: Option<u64>,
    /// Core file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u64>,
    /// Address space, in bytes.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub address_space: Option<u64>,
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dependency {
    /// Name of another app.
    pub name: String,
    pub condition: Condition,
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It has been spawned.
    Started,
    /// It is online and, where readiness is configured, ready.
    #[default]
    Ready,
    /// It is online, and its health check passes; where it has none, as `Ready`.
    Healthy,
    /// It has run and ended with exit code 0.
    Done,
}

/// What becomes of an app's output.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LogSpec {
    pub out: LogTarget,
    pub error: LogTarget,
    /// A file that gets both streams, besides the two above.
    pub both: LogBoth,
    pub format: LogFormat,
    /// A day.js pattern that prefixes every line.
    pub date: Option<String>,
    /// Instances share their files.
    pub merge: bool,
    /// Rotate before a file grows beyond this many bytes; 0: never. `None`: the daemon's setting.
    pub max_size: Option<u64>,
    /// Rotated files kept. `None`: the daemon's setting.
    pub keep: Option<u32>,
    pub full: Option<LogFull>,
}

/// Where one stream is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// `<log dir>/<name>-out.log` or `-error.log`.
    #[default]
    Default,
    /// Nowhere (`/dev/null`, `none`); subscribers are still fed.
    Nowhere,
    /// Absolute.
    File(PathBuf),
}

/// Whether both streams also go into one file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogBoth {
    #[default]
    No,
    /// `<log dir>/<name>.log`.
    Default,
    /// Absolute.
    File(PathBuf),
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Bytes unchanged.
    #[default]
    Raw,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// What to do when the disk is full and removing rotated files did not help.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFull {
    /// Drop, count and report.
    #[default]
    Drop,
    /// Leave the bytes in the pipe; the app waits when it is full.
    Block,
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
