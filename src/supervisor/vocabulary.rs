//! The words between the supervisor and the world: requests and replies, inputs and effects,
//! notices.
//!
//! Plain data. A request is answered exactly once, by an [`Effect::Reply`] that carries its
//! [`ReplyTo`]. An effect never fails silently: its outcome comes back as an [`Input`].

use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, ExitStatus, Pid, ProcId, Signal, SpawnError};
use crate::supervisor::spec::{AppSpec, Environment, Ports};

/// Where the answer to a request goes; the daemon knows what the number stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReplyTo(pub u64);

/// Something a client asked for. Questions that change nothing (`list`, `show`) are not requests:
/// the daemon reads the table.
#[derive(Clone, Debug)]
pub enum Request {
    /// Enter new apps, all or none, and start them.
    Create { apps: Vec<Rc<AppSpec>>, existing: Existing, options: Options },
    /// Enter more processes of an app beside those that have its name, whatever they run, and
    /// start them if `start`. `first`: the id of the first one, where it is free and not below those
    /// in use.
    Add { app: Rc<AppSpec>, count: u32, first: Option<ProcId>, start: bool, options: Options },
    /// Do something to processes that are in the table.
    Command { action: Action, targets: Vec<Target>, options: Options },
    /// Wait until processes are as described.
    Wait { targets: Vec<Target>, until: Until, timeout: Option<Duration> },
    /// Stop everything, in reverse order of dependencies, then answer. The goals in the table stay
    /// as they are, so that the same processes run after the next start. From here on every other
    /// request is refused with [`Refusal::ShuttingDown`].
    Shutdown,
}

/// What `Create` does about a name that is in the table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Existing {
    /// Same definition: start what is not running. Another: refuse the whole request.
    #[default]
    Refuse,
    /// Take over the new definition (instances too) and restart.
    Replace,
    /// As `Replace`, but only when the definition differs, and by reload.
    Apply,
    /// Enter it under the first free name `name-2`, `name-3`, ...
    Rename,
}

/// What may be done to a process.
#[derive(Clone, Debug)]
pub enum Action {
    Start,
    /// `kill_timeout`: instead of the app's own, this once.
    Stop {
        kill_timeout: Option<Duration>,
    },
    Restart {
        change: Option<Redefinition>,
        kill_timeout: Option<Duration>,
    },
    /// One instance after the other, the next only when the last is ready. With readiness
    /// configured, the new child is ready before the old one is stopped; a new child that fails
    /// is stopped, the old one stays. Without, it is a restart of one instance at a time.
    Reload {
        change: Option<Redefinition>,
    },
    Delete,
    Signal(Signal),
    /// Zero the counters and forget the back-off.
    Reset,
    /// Targets name apps; every instance counts once.
    Scale(Scale),
}

/// What is different in the next life.
#[derive(Clone, Debug)]
pub enum Redefinition {
    Environment(EnvChange),
    /// Another definition, under another name perhaps.
    Whole(Rc<AppSpec>),
}

/// A new environment for a restart.
#[derive(Clone, Debug, Default)]
pub struct EnvChange {
    /// Replaces [`AppSpec::inherited`] (`--update-env`).
    pub inherited: Option<Rc<Environment>>,
    /// Laid over [`AppSpec::env`].
    pub env: Vec<(String, String)>,
    /// Instead of the app's own, until somebody starts it again.
    pub port: Option<Ports>,
}

/// How many instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    To(u32),
    Up(u32),
    Down(u32),
}

/// How a request is carried out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    pub wait: Patience,
    /// At most this many processes at a time; `None`: all at once.
    pub parallel: Option<usize>,
    /// Answer with what is known after this long ([`Failure::TimedOut`] for the rest); the action
    /// goes on.
    pub timeout: Option<Duration>,
}

/// When a start counts as done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Patience {
    /// At once: when it was accepted.
    None,
    /// When it is online (after readiness, where configured).
    #[default]
    Online,
    /// When it is ready, or has been up for [`AppSpec::settle_time`]. Jobs: when spawned.
    Stable,
}

/// What `Wait` waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    Online,
    /// Online and, where readiness is configured, reported ready.
    Ready,
    /// Online, and its health check passes. Fails where there is none.
    Healthy,
    /// Stopped or errored: no child, and none is coming.
    Stopped,
    /// As `Stopped`; the outcome carries how the last child ended.
    Done,
}

/// Processes as a user names them. Globs and files are expanded by the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    All,
    /// Only digits: an id; a name, if no process has this id.
    Id(ProcId),
    /// A name (all instances), else a namespace.
    Name(String),
    /// `name:instance`.
    Instance(String, u32),
}

impl Target {
    /// Reads a target as typed. Never fails: what is nothing else is a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "all" {
            return Self::All;
        }
        if !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(id) = text.parse()
        {
            return Self::Id(ProcId(id));
        }
        match text.rsplit_once(':') {
            Some((name, instance)) if !name.is_empty() => match instance.parse() {
                Ok(instance) => Self::Instance(name.to_owned(), instance),
                Err(_) => Self::Name(text.to_owned()),
            },
            Some(_) | None => Self::Name(text.to_owned()),
        }
    }
}

/// As the user typed it.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Instance(name, instance) => write!(f, "{name}:{instance}"),
        }
    }
}

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    Request {
        from: ReplyTo,
        request: Request,
    },
    /// Answers [`Effect::Spawn`]: `execve` worked.
    Spawned {
        child: ChildId,
        pid: Pid,
        /// What came of [`Effect::Spawn::port`].
        port: Option<u16>,
    },
    /// Answers [`Effect::Spawn`]: there is no child.
    SpawnFailed {
        child: ChildId,
        error: SpawnError,
    },
    /// The child said that it can serve.
    Ready {
        child: ChildId,
    },
    /// The child, a worker of a cluster, listens.
    Listening {
        child: ChildId,
    },
    /// The child, a worker of a cluster, has closed its channel: it serves nobody any more.
    Left {
        child: ChildId,
    },
    /// Answers [`Effect::Probe`].
    Probed {
        child: ChildId,
        probe: Probe,
    },
    /// The main process ended and was reaped.
    Exited {
        child: ChildId,
        status: ExitStatus,
    },
    /// Answers [`Effect::Sweep`] and [`Effect::Kill`] with the number of members of the child's
    /// process tree that still live (the main process not counted). Also comes unasked when a
    /// member of a tree that is being swept has ended.
    Swept {
        child: ChildId,
        left: usize,
    },
    /// The child's tree was measured: its resident memory in bytes.
    Measured {
        child: ChildId,
        memory: u64,
    },
    /// Files of a process that is watched have changed.
    Changed {
        process: ProcId,
    },
}

/// Something to do outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answered by `Spawned` or `SpawnFailed`, later by `Exited`.
    Spawn {
        child: ChildId,
        process: ProcId,
        instance: u32,
        spec: Rc<AppSpec>,
        /// It is to be given a port.
        port: Option<PortWish>,
    },
    /// To the main process, or to its whole group.
    Signal {
        child: ChildId,
        signal: Signal,
        group: bool,
    },
    /// Ask the main process over its channel to end; where that cannot be, [`Effect::Signal`].
    Ask {
        child: ChildId,
        signal: Signal,
        group: bool,
    },
    /// Ask a worker of a cluster to serve the connections it has and to take no more. Answered by
    /// `Left`, at once where it cannot be asked.
    Dismiss {
        child: ChildId,
    },
    /// The main process is gone: look for what is left of its tree and pass the stop signal on to
    /// those members that have not had it. Answered by `Swept`.
    Sweep {
        child: ChildId,
        signal: Signal,
    },
    /// End the main process, if it still lives, with SIGKILL; with `tree` all of the tree too.
    /// Answered by `Swept` (with `tree`) and, if the main process lived, by `Exited`.
    Kill {
        child: ChildId,
        tree: bool,
    },
    /// See whether the child is healthy. Answered by `Probed`, unless the child is released before.
    Probe {
        child: ChildId,
        spec: Rc<AppSpec>,
    },
    /// Nothing more will be asked about this child: its tree is gone or may stay. What it wrote
    /// is still in its pipes.
    Release {
        child: ChildId,
    },
    /// The process left the table; `purge` its files only if the request said so.
    Forget {
        process: ProcId,
    },
    Reply {
        to: ReplyTo,
        reply: Reply,
    },
    Publish(Notice),
    /// The table changed in a way that must survive a crash. Comes before the `Reply` to the
    /// request that changed it.
    Save,
}

/// What a health check came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    pub found: Finding,
    pub took: Duration,
    /// The HTTP status, or the exit code.
    pub code: Option<u16>,
    /// Why it failed, or could not be made: `connection refused`, `status 503`.
    pub error: Option<Rc<str>>,
}

/// What a health check says about a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    Passed,
    Failed,
    /// The check could not be made.
    Nothing,
}

/// Whether a process that has a health check is healthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HealthStatus {
    /// It has no child, or that has neither passed nor failed often enough.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// The word of the WebSocket API (`websocket-api.md` A5).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Which port a child is to have, by [`Ports::choose`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortWish {
    pub ports: Ports,
    /// What the process had last.
    pub last: Option<u16>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// One outcome per process (or per target that names none), in the order of ids.
    Outcomes(Vec<Outcome>),
    /// Nothing was attempted.
    Refused(Refusal),
    /// `Shutdown`: everything has stopped.
    Stopped,
}

/// Why nothing was attempted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// `name` exists with another definition; `fields` differ.
    NameTaken { name: String, fields: Vec<&'static str> },
    /// The daemon is going down.
    ShuttingDown,
    /// A name that is in use as a dependency, an unknown dependency, ...: a sentence.
    Invalid(String),
}

/// What became of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the user named, when it names no process.
    pub target: Option<Target>,
    pub process: Option<ProcId>,
    pub name: String,
    pub instance: u32,
    /// Whether anything was done.
    pub changed: bool,
    pub status: Status,
    /// False: online, but readiness did not come in time.
    pub ready: bool,
    pub pid: Option<Pid>,
    /// The pid before a restart.
    pub was_pid: Option<Pid>,
    /// The stop signal was ignored; SIGKILL was used.
    pub killed: bool,
    /// How the last child ended, where `Wait` asked or it ended during the request.
    pub exit: Option<ExitStatus>,
    /// From the begin of the action on this process to its end.
    pub took: Duration,
    /// The reload fell back to a restart, and why.
    pub restarted_instead: Option<Instead>,
    pub failure: Option<Failure>,
}

/// Why a reload is a restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Instead {
    /// The app does not report readiness.
    NoReadiness,
    /// Old and new child cannot have the same port.
    SamePort,
}

/// Why it did not work for one process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    NotFound,
    Spawn(SpawnError),
    /// It ended before it counted as started; `restart_in`: when the next try comes.
    Died {
        status: ExitStatus,
        uptime: Duration,
        restart_in: Option<Duration>,
        unstable: u32,
    },
    /// It ended too often too soon.
    GaveUp {
        status: Option<ExitStatus>,
        runs: u32,
        over: Duration,
    },
    /// Reload: the new child was not ready in time and was stopped; the old one stays.
    NotReady,
    /// SIGKILL did not end it, or members of its tree, within a second.
    Unstoppable {
        left: usize,
    },
    /// There is no child to signal.
    NotRunning,
    /// It was deleted by another request meanwhile.
    Deleted,
    /// Another request wanted something else meanwhile (a stop during a start).
    Superseded,
    /// A dependency failed, so this was not started.
    Dependency(String),
    TimedOut,
    Invalid(String),
}

/// Where a process is, for people and for wire formats.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    Starting,
    Online,
    /// Being stopped, for good or in order to be started again.
    Stopping,
    /// Between the end of one child and the next, without a pause.
    Restarting,
    /// Between two lives; a restart is due.
    Backoff,
    Stopped,
    Errored,
}

impl Status {
    /// The word of the WebSocket API (`websocket-api.md` A5).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Online => "online",
            Self::Stopping => "stopping",
            Self::Restarting | Self::Backoff => "restarting",
            Self::Stopped => "stopped",
            Self::Errored => "errored",
        }
    }

    /// The word PM2 uses (`pm2_env.status`).
    #[must_use]
    pub fn pm2_name(self) -> &'static str {
        match self {
            Self::Starting | Self::Restarting => "launching",
            Self::Online => "online",
            Self::Stopping => "stopping",
            Self::Backoff => "waiting restart",
            Self::Stopped => "stopped",
            Self::Errored => "errored",
        }
    }
}

/// Something that happened, for those who asked to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub process: ProcId,
    pub name: Rc<str>,
    pub namespace: Rc<str>,
    pub instance: u32,
    pub kind: NoticeKind,
}

/// What happened. `from` is `None` for a process that is new.
#[derive(Clone, Debug, PartialEq)]
pub enum NoticeKind {
    /// The chain rule: `from` is always the `to` of the notice before.
    Status {
        from: Option<Status>,
        to: Status,
    },
    Started {
        pid: Pid,
        port: Option<u16>,
        took: Duration,
    },
    Restarted {
        pid: Pid,
        port: Option<u16>,
        restarts: u32,
        reason: RestartReason,
        took: Duration,
    },
    Reloaded {
        pid: Pid,
        port: Option<u16>,
        changed: Vec<&'static str>,
    },
    /// Ended for good: told to, or by itself and not to be restarted.
    Stopped {
        status: Option<ExitStatus>,
        uptime: Duration,
        commanded: bool,
        turn: Option<Turn>,
    },
    /// Ended by itself, not as wanted.
    Crashed {
        pid: Pid,
        status: ExitStatus,
        uptime: Duration,
        restart_in: Option<Duration>,
        turn: Option<Turn>,
    },
    Errored {
        reason: ErroredReason,
        unstable: u32,
    },
    /// Readiness did not come within `listen_timeout`; the process counts as online (D8).
    NotReady {
        after: Duration,
    },
    /// Its health is another; `probe`: the check that showed it, if one did.
    Health {
        from: HealthStatus,
        to: HealthStatus,
        failures: u32,
        probe: Option<Probe>,
    },
    /// One that counts; `kind`: `http`, `tcp` or `script`.
    HealthCheckFailed {
        kind: &'static str,
        failures: u32,
        retries: u32,
        probe: Probe,
    },
    Adopted {
        pid: Pid,
    },
    /// Its tree uses more memory than it may, in bytes; it is restarted.
    MemoryLimitExceeded {
        memory: u64,
        limit: u64,
    },
    ConfigChanged {
        fields: Vec<&'static str>,
    },
    Deleted,
}

/// What intercom says of the end of a run, where its order of decision holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn {
    /// Runs that have ended since the process was asked to start.
    pub runs: u32,
    /// It was shorter than `min_uptime`.
    pub spinning: bool,
}

/// Why a process was started again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestartReason {
    Crash,
    Command,
    Reload,
    /// It was unhealthy.
    Health,
    /// It used more memory than it may.
    Memory,
    /// It was time.
    Cron,
    /// Its files changed.
    Watch,
    /// The run of a job had lasted too long. No restart by itself: somebody asked for one meanwhile.
    Overrun,
}

/// Why a process is `errored`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErroredReason {
    MaxRestarts { last: Option<ExitStatus> },
    SpawnFailed(SpawnError),
    Unstoppable { left: usize },
}
