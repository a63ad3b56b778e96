//! What is to be run and how: [`AppSpec`], valid by construction.
//!
//! `config::resolve` is the only maker of an `AppSpec` from outside data; after it nothing in here
//! can be wrong, and nobody checks it again. The serialised form is the one of the state file: the
//! field names of an app file, durations in milliseconds.
//!
//! # What a definition weighs
//!
//! A thousand apps must not weigh a megabyte. So a spec is in two parts: what is an app's own (its
//! name, what is executed, its variables) stands in [`AppSpec`]; all else, the [`Terms`] on which
//! it runs, is kept once for all apps that agree in it, as most of a host's do
//! ([`AppSpec::share`]). A field added to `Terms` weighs nothing but where an app differs from the
//! others, so it needs no box of its own. Terms are read as if they were fields of the spec
//! (`spec.kill_timeout`); who writes one gets a copy first.
//!
//! To add a field: declare it in `Terms`, give its default in `Terms::default`, name it in the
//! table below (`record!`). That brings it into the state file and into
//! [`AppSpec::differences`]; `config::assemble` reads it, `config::definition` shows it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::base::Signal;
use crate::supervisor::schedule::Schedule;

mod block;
mod record;
mod serving;
mod sharing;

pub use block::{Environment, Words};
pub use serving::{Check, HealthCheck, OnFail, PORT_VARIABLE, Ports, Serving};
pub use sharing::{Address, ClusterPolicy, ExecMode, MAX_LISTEN, MAX_SOCKET_PATH};

pub(super) use record::{Datum, Plain};
use record::{record, words};

/// At most this many instances of one app.
pub const MAX_INSTANCES: u32 = 1024;

/// An app as the user declared it, with every default filled in: what is its own. What it has in
/// common with others is in [`Terms`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppSpec {
    /// 1 to 128 bytes, no `/`, no control characters, not `all`, `.` or `..`.
    pub name: Rc<str>,
    /// An absolute path, or a bare command name to be looked up in the app's `PATH`.
    pub script: Box<str>,
    pub args: Words,
    /// Absolute.
    pub cwd: Rc<Path>,
    /// What the app gets besides `env`: the base variables, or all of the caller's. Kept apart so
    /// that apps can share it; the state file keeps each different one once.
    pub inherited: Rc<Environment>,
    pub env: Environment,
    /// The configuration file this came from.
    pub source: Option<Rc<Path>>,
    /// What PM2's client declared besides, as JSON text: an object for PM2's own views of the
    /// process and for its environment, kept as it came.
    pub pm2: Option<Rc<str>>,
    /// Shared by all who agree.
    pub terms: Rc<Terms>,
}

/// How an app is run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    pub namespace: Rc<str>,

    /// What runs the script; `None`: the script is executed itself.
    pub interpreter: Option<String>,
    pub interpreter_args: Words,
    /// Node says which it is, and what the program dies of.
    pub pmx: bool,

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
    pub exec_mode: ExecMode,
    /// `None`: see [`AppSpec::policy`].
    pub cluster_policy: Option<ClusterPolicy>,
    /// What pmd listens on for the app: its descriptors from 3 on, in this order.
    pub listen: Vec<Address>,
    /// Variable that carries the instance number.
    pub instance_var: String,
    /// Variable of `env` whose number grows by one per instance.
    pub increment_var: Option<String>,

    /// False: entered in the table, not started.
    pub autostart: bool,
    pub restart: Restart,
    /// Exits with these codes are final.
    pub stop_exit_codes: Vec<u8>,
    /// Restarted at these times.
    pub cron_restart: Option<Schedule>,
    /// A job that is run at these times, and not when it is entered; `restart` is `Once`.
    pub schedule: Option<Schedule>,
    /// A job whose run lasts longer has failed, and is stopped.
    pub timeout: Option<Duration>,
    /// What becomes of a scheduled run while the last one goes on.
    pub overlap: Overlap,
    /// Restarted when one of these files, or what lies below, has changed: absolute paths, or
    /// patterns of them.
    pub watch: Vec<String>,
    /// Names and patterns of what does not count.
    pub ignore_watch: Vec<String>,
    /// How long nothing more must have changed.
    pub watch_delay: Duration,
    /// A command that is run when something happens to it, with the event on its standard input.
    pub on_event: Vec<String>,
    /// Consecutive unstable runs that end in `errored`; 0: never.
    pub max_restarts: u32,
    /// With either of these intercom's order of decision holds: runs, not restarts, after which the
    /// end is final; and the pause after a short run, without which such a run is final.
    pub max_runs: Option<u32>,
    pub spin_sleep: Option<Duration>,
    /// A run at least this long is stable.
    pub min_uptime: Duration,
    /// Pause before every automatic restart.
    pub restart_delay: Duration,
    /// First pause after an unstable run; zero: no growing pause.
    pub exp_backoff_restart_delay: Duration,
    /// The growing pause comes before every automatic restart, not only after an unstable run.
    pub backoff_always: bool,
    /// Unstable runs count only during the first `min_uptime` times `max_restarts` after a start
    /// that was asked for, and a stable one in between changes nothing.
    pub unstable_window: bool,

    /// Resident memory of the whole process tree, in bytes; above it the process is restarted.
    pub max_memory_restart: Option<u64>,

    pub kill_signal: Signal,
    pub kill_timeout: Duration,
    /// Stop the whole process tree, not only the main process.
    pub treekill: bool,
    pub on_daemon_loss: OnDaemonLoss,
    /// A stop begins with the message `"shutdown"` in place of the signal.
    pub shutdown_with_message: bool,

    /// Whether there is a channel, and who is told of it.
    pub ipc: Ipc,
    /// Frames of intercom and ipevents are told as messages, too.
    pub ipc_raw: bool,
    /// Between the segments of intercom's events, where subscribers choose; `None`: `::`.
    pub ipc_delimiter: Option<String>,
    /// Whether `*` and `**` mean something to them.
    pub ipc_wildcard: bool,
    pub intercom: Intercom,
    /// A longer line of the child is thrown away, in bytes.
    pub ipc_max_line: u64,
    /// What waits for the child at most, in bytes.
    pub ipc_max_queue: u64,

    pub wait_ready: bool,
    /// Set `NOTIFY_SOCKET` even without `wait_ready`.
    pub notify: bool,
    /// Descriptor in the child on which a newline means ready.
    pub notification_fd: Option<u32>,
    pub listen_timeout: Duration,

    /// Its ports and its health check; `None`: it has neither.
    pub serving: Option<Box<Serving>>,

    /// Started before this app, stopped after it.
    pub depends_on: Vec<Dependency>,
    /// Container mode: giving up ends the container.
    pub essential: bool,

    pub logs: LogSpec,
    /// Default: `<pid dir>/<name>[-<instance>].pid`.
    pub pid_file: Option<PathBuf>,
}

/// The defaults of an app file.
impl Default for Terms {
    fn default() -> Self {
        Self {
            namespace: Rc::from("default"),
            interpreter: None,
            interpreter_args: Words::default(),
            pmx: true,
            env_file: Vec::new(),
            inherit_env: true,
            secret_env: Vec::new(),
            user: None,
            group: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            limits: Limits::default(),
            stdin: Stdin::default(),
            instances: 1,
            exec_mode: ExecMode::default(),
            cluster_policy: None,
            listen: Vec::new(),
            instance_var: "NODE_APP_INSTANCE".to_owned(),
            increment_var: None,
            autostart: true,
            restart: Restart::default(),
            stop_exit_codes: Vec::new(),
            cron_restart: None,
            schedule: None,
            timeout: None,
            overlap: Overlap::default(),
            watch: Vec::new(),
            ignore_watch: Vec::new(),
            on_event: Vec::new(),
            watch_delay: Duration::from_millis(200),
            max_restarts: 16,
            max_runs: None,
            spin_sleep: None,
            min_uptime: Duration::from_secs(1),
            restart_delay: Duration::ZERO,
            exp_backoff_restart_delay: Duration::from_millis(100),
            backoff_always: false,
            unstable_window: false,
            max_memory_restart: None,
            kill_signal: Signal::INT,
            kill_timeout: Duration::from_millis(1600),
            treekill: true,
            on_daemon_loss: OnDaemonLoss::default(),
            shutdown_with_message: false,
            ipc: Ipc::default(),
            ipc_raw: false,
            ipc_delimiter: None,
            ipc_wildcard: true,
            intercom: Intercom::default(),
            ipc_max_line: IPC_LIMIT,
            ipc_max_queue: IPC_LIMIT,
            wait_ready: false,
            notify: false,
            notification_fd: None,
            listen_timeout: Duration::from_secs(3),
            serving: None,
            depends_on: Vec::new(),
            essential: true,
            logs: LogSpec::default(),
            pid_file: None,
        }
    }
}

/// Runs nothing: it has no name and no script.
impl Default for AppSpec {
    fn default() -> Self {
        Self {
            name: Rc::from(""),
            script: Box::from(""),
            args: Words::default(),
            cwd: Path::new("/").into(),
            inherited: Rc::default(),
            env: Environment::default(),
            source: None,
            pm2: None,
            terms: Rc::default(),
        }
    }
}

impl Deref for AppSpec {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// Changes this app alone: what was shared is copied first.
impl DerefMut for AppSpec {
    fn deref_mut(&mut self) -> &mut Terms {
        Rc::make_mut(&mut self.terms)
    }
}

record!(AppSpec { name, script, args, cwd, env, source, pm2 });

record!(Terms {
    namespace,
    interpreter,
    interpreter_args,
    pmx,
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
    exec_mode,
    cluster_policy,
    listen,
    instance_var,
    increment_var,
    autostart,
    restart,
    stop_exit_codes,
    cron_restart,
    schedule,
    timeout,
    overlap,
    watch,
    ignore_watch,
    watch_delay,
    on_event,
    max_restarts,
    max_runs,
    spin_sleep,
    min_uptime,
    restart_delay,
    exp_backoff_restart_delay,
    backoff_always,
    unstable_window,
    max_memory_restart,
    kill_signal,
    kill_timeout,
    treekill,
    on_daemon_loss,
    shutdown_with_message,
    ipc,
    ipc_raw,
    ipc_delimiter,
    ipc_wildcard,
    intercom,
    ipc_max_line,
    ipc_max_queue,
    wait_ready,
    notify,
    notification_fd,
    listen_timeout,
    serving,
    depends_on,
    essential,
    logs,
    pid_file,
});

impl AppSpec {
    /// How long a new child must live before `start` calls it stable.
    #[must_use]
    pub fn settle_time(&self) -> Duration {
        self.min_uptime.min(Duration::from_secs(1))
    }

    /// Takes from `other` what both have in common, so that it is kept once.
    pub fn share(&mut self, other: &Self) {
        fn share<T: PartialEq + ?Sized>(ours: &mut Rc<T>, theirs: &Rc<T>) {
            if !Rc::ptr_eq(ours, theirs) && **ours == **theirs {
                *ours = Rc::clone(theirs);
            }
        }
        share(&mut self.terms, &other.terms);
        share(&mut self.cwd, &other.cwd);
        share(&mut self.inherited, &other.inherited);
        if let (Some(ours), Some(theirs)) = (&mut self.source, &other.source) {
            share(ours, theirs);
        }
    }

    /// The fields, by their names in an app file, in which two definitions differ. What was
    /// inherited from the caller's shell and where the definition came from do not count.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut ours = Vec::with_capacity(64);
        self.each_field(&mut |name, datum| ours.push((name, datum)));
        let mut ours = ours.into_iter();
        let mut fields = Vec::new();
        other.each_field(&mut |name, theirs| {
            if !ours.next().is_some_and(|(_, ours)| ours != theirs) {
                return;
            }
            match name {
                "source" | "pm2" => {}
                // One field here, two for people.
                "serving" => {
                    let of = [("port", self.ports() != other.ports())];
                    let of = of.into_iter().chain([("health", self.health() != other.health())]);
                    fields.extend(of.filter_map(|(name, differs)| differs.then_some(name)));
                }
                name => fields.push(name),
            }
        });
        fields
    }

    /// Every field by its name, but for what is inherited.
    fn each_field<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Datum<'a>)) {
        self.fields(tell);
        self.terms.fields(tell);
    }

    /// Sets the field `name`; `None`: to such a thing it cannot be set.
    fn set_field(&mut self, name: &str, value: &Value) -> Option<()> {
        self.set(name, value)?;
        Rc::make_mut(&mut self.terms).set(name, value)
    }
}

/// What may be restarted after it ended by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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

words!(Restart { Always = "always", OnFailure = "on-failure", Never = "never", Once = "once" });

/// What becomes of a scheduled run of a job while the last one goes on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It begins when the other has been stopped.
    Kill,
    /// It begins when the other has ended; of several so only one.
    Queue,
}

words!(Overlap { Skip = "skip", Kill = "kill", Queue = "queue" });

/// What becomes of a child whose daemon died.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnDaemonLoss {
    #[default]
    Keep,
    /// The kernel kills it (`PR_SET_PDEATHSIG`).
    Kill,
}

words!(OnDaemonLoss { Keep = "keep", Kill = "kill" });

/// The channel of a child.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ipc {
    /// There is one; Node's own variable names it where the program is one that knows it.
    #[default]
    Auto,
    /// There is one, and Node's own variable names it.
    Node,
    /// There is one, and only pmd's variable names it.
    Fd,
    Off,
}

words!(Ipc { Auto = "auto", Node = "node", Fd = "fd", Off = "off" });

/// Who opens a session of intercom.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Intercom {
    /// The program.
    #[default]
    Auto,
    /// The daemon, before the program runs.
    Eager,
    /// Nobody: its frames are messages as any other.
    Off,
}

words!(Intercom { Auto = "auto", Eager = "eager", Off = "off" });

/// The default of both limits of a channel, in bytes.
pub const IPC_LIMIT: u64 = 1024 * 1024;

/// What a child finds on descriptor 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe, for `pmd send`.
    Pipe,
}

words!(Stdin { Null = "null", Pipe = "pipe" });

/// Resource limits; `None` leaves what the daemon was started with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Open files.
    pub nofile: Option<u64>,
    /// Processes of the user.
    pub nproc: Option<u64>,
    /// Core file, in bytes.
    pub core: Option<u64>,
    /// Address space, in bytes.
    pub address_space: Option<u64>,
    /// Of all processes of the tree together, in bytes; where there are control groups.
    pub memory: Option<u64>,
    /// As `memory`, in percent of one core.
    pub cpu: Option<u64>,
    /// As `memory`: processes and threads.
    pub pids: Option<u64>,
}

record!(nested Limits { nofile, nproc, core, address_space as "as", memory, cpu, pids });

/// One entry of `depends_on`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dependency {
    /// Name of another app.
    pub name: String,
    pub condition: Condition,
}

record!(nested Dependency { name, condition });

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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

words!(Condition { Started = "started", Ready = "ready", Healthy = "healthy", Done = "done" });

/// What becomes of an app's output.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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
    /// Every line goes to the host's journal, too.
    pub journald: bool,
    /// Every line goes to the host's syslog, too.
    pub syslog: bool,
}

impl LogSpec {
    /// Whether its lines go elsewhere than into files.
    #[must_use]
    pub fn wants_lines(&self) -> bool {
        self.journald || self.syslog
    }
}

record!(nested LogSpec {
    out, error, both, format, date, merge, max_size, keep, full, journald, syslog,
});

/// Where one stream is written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogTarget {
    /// `<log dir>/<name>-out.log` or `-error.log`.
    #[default]
    Default,
    /// Nowhere (`/dev/null`); subscribers are still fed.
    Nowhere,
    /// The last of it is kept in memory.
    Memory,
    /// Absolute.
    File(PathBuf),
}

impl Plain for LogTarget {
    fn show(&self) -> Datum<'_> {
        match self {
            Self::Default => Datum::Nothing,
            Self::Nowhere => Datum::Text("nowhere"),
            Self::Memory => Datum::Text("memory"),
            Self::File(path) => Datum::List(vec![path.show()]),
        }
    }

    fn read(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("nowhere") => Some(Self::Nowhere),
            Some("memory") => Some(Self::Memory),
            Some(_) => None,
            None => Plain::read(value.get(0)?).map(Self::File),
        }
    }
}

/// Whether both streams also go into one file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogBoth {
    #[default]
    No,
    /// `<log dir>/<name>.log`.
    Default,
    /// Absolute.
    File(PathBuf),
}

impl Plain for LogBoth {
    fn show(&self) -> Datum<'_> {
        match self {
            Self::No => Datum::Nothing,
            Self::Default => Datum::Text("default"),
            Self::File(path) => Datum::List(vec![path.show()]),
        }
    }

    fn read(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("default") => Some(Self::Default),
            Some(_) => None,
            None => Plain::read(value.get(0)?).map(Self::File),
        }
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// Bytes unchanged.
    #[default]
    Raw,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

words!(LogFormat { Raw = "raw", Json = "json", Logfmt = "logfmt" });

/// What to do when the disk is full and removing rotated files did not help.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFull {
    /// Drop, count and report.
    #[default]
    Drop,
    /// Leave the bytes in the pipe; the app waits when it is full.
    Block,
}

words!(LogFull { Drop = "drop", Block = "block" });
