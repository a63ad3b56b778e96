//! Processes as answers show them: `process_info` and results of commands.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::{ExitStatus, Now, Pid, ProcId, Signal, WallTime};
use crate::json::{ToJson, json};
use crate::proto::messages::error::ErrorReply;
use crate::proto::messages::event::millis;
use crate::proto::messages::health::health_check;
use crate::proto::messages::metrics::{Resources, Usage};
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::vocabulary::HealthStatus;
use crate::supervisor::{Exit, ExitReason, Process};

/// What the daemon knows about a process and the supervisor does not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Files its output goes to; absent where it goes nowhere.
    pub logs: LogPaths,
    /// Log bytes dropped because the disk was full.
    pub log_dropped: u64,
    /// Whether the configuration file changed since the definition was taken from it.
    pub source_changed: bool,
    /// Why it is errored, as a sentence.
    pub error: Option<String>,
    pub resources: Resources,
    /// What it speaks over its channel, and how much.
    pub channel: Value,
    /// The effective configuration, secrets masked.
    pub config: Map<String, Value>,
    /// Last lines of stderr, newest last.
    pub last_output: Vec<String>,
    /// Last lines of stderr of earlier ends, by their moment.
    pub last_lines: Vec<(WallTime, String)>,
}

/// Files of a process's output.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogPaths {
    pub out: Option<String>,
    pub error: Option<String>,
}

/// One entry of `process_info`.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    id: ProcId,
    name: &'a str,
    namespace: &'a str,
    instance: u32,
    status: &'static str,
    /// PM2's word tells apart what `status` does not: `waiting restart`.
    waiting: bool,
    pid: Option<Pid>,
    port: Option<u16>,
    cpu: f64,
    memory: u64,
    memory_tree: u64,
    uptime: u64,
    restarts: u32,
    unstable_restarts: u32,
    max_restarts: u32,
    ready: bool,
    exit_code: Option<u8>,
    signal: Option<Signal>,
    /// The last child was killed by the kernel for want of memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    out_of_memory: bool,
    retry_at: Option<String>,
    retry_in: Option<u64>,
    /// When the clock will start or restart it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<String>,
    /// It is restarted when its files change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub watch: bool,
    created_at: String,
    started_at: Option<String>,
    /// A job: `done` when its last run ended with 0.
    once: bool,
    user: Option<&'a str>,
    health: Option<&'static str>,
    error: Option<String>,
    /// What the daemon wants said: its log cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How the last child ended, where there is none now.
    last_exit: Option<LastExit>,
    /// Last lines of stderr, newest last; in a brief entry only of what gave up.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_output: Option<Vec<String>>,
    #[serde(flatten)]
    details: Option<Details<'a>>,
}

#[derive(Debug, Serialize)]
struct Details<'a> {
    resources: Resources,
    last_exits: Vec<LastExit>,
    logs: LogPaths,
    log_dropped: u64,
    source: Option<&'a std::path::Path>,
    source_changed: bool,
    config: Map<String, Value>,
    /// Its only port, where it has one.
    ports: Vec<u16>,
    health_check: Option<Value>,
    channel: Value,
}

#[derive(Debug, Serialize)]
struct LastExit {
    at: String,
    exit_code: Option<u8>,
    signal: Option<Signal>,
    uptime: u64,
    reason: &'static str,
    /// The kernel killed it for want of memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    out_of_memory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_line: Option<String>,
}

impl LastExit {
    fn new(exit: &Exit) -> Self {
        Self {
            at: timestamp(exit.at),
            exit_code: exit.status.code(),
            signal: exit.status.signal(),
            uptime: millis(exit.uptime),
            reason: match exit.reason {
                ExitReason::Crash | ExitReason::Finished => "exit",
                ExitReason::Stop | ExitReason::Restart => "command",
                ExitReason::Unhealthy => "health",
                ExitReason::Memory => "memory",
                ExitReason::Cron => "cron",
                ExitReason::Watch => "watch",
                ExitReason::Overrun => "timeout",
                ExitReason::Reload => "reload",
            },
            out_of_memory: exit.status == ExitStatus::OutOfMemory,
            last_line: None,
        }
    }
}

impl<'a> Entry<'a> {
    /// What a list needs; `last_output`: what a process that gave up wrote last.
    #[must_use]
    pub fn brief(
        process: &'a Process,
        now: Now,
        usage: Usage,
        error: Option<String>,
        last_output: Option<Vec<String>>,
    ) -> Self {
        let spec = process.spec();
        let status = process.status();
        let started = process.started();
        let last = process.last_exit();
        let retry_in = process.retry_at().map(|at| at.since(now.mono));
        Self {
            id: process.id(),
            name: &spec.name,
            namespace: &spec.namespace,
            instance: process.instance(),
            status: status.name(),
            waiting: process.retry_at().is_some(),
            pid: process.pid(),
            port: process.port(),
            cpu: usage.cpu,
            memory: usage.memory,
            memory_tree: usage.memory_tree,
            uptime: millis(process.uptime(now.mono)),
            restarts: process.restarts(),
            unstable_restarts: process.unstable_restarts(),
            max_restarts: spec.max_restarts,
            ready: process.is_ready(),
            exit_code: last.and_then(|exit| exit.status.code()),
            signal: last.and_then(|exit| exit.status.signal()),
            out_of_memory: last.is_some_and(|exit| exit.status == ExitStatus::OutOfMemory),
            retry_at: retry_in.map(|pause| timestamp(later(now.wall, pause))),
            retry_in: retry_in.map(millis),
            next_run: None,
            watch: false,
            created_at: timestamp(process.created_at()),
            started_at: started.map(|at| timestamp(at.wall)),
            once: spec.restart == crate::supervisor::spec::Restart::Once,
            user: spec.user.as_deref(),
            health: process.health_status().map(HealthStatus::name),
            error,
            note: None,
            last_exit: last.filter(|_| process.is_at_rest()).map(LastExit::new),
            last_output,
            details: None,
        }
    }

    /// Everything.
    #[must_use]
    pub fn full(process: &'a Process, now: Now, usage: Usage, facts: Facts) -> Self {
        let last_exits = process
            .exits()
            .iter()
            .map(|exit| {
                let line = facts.last_lines.iter().find(|(at, _)| *at == exit.at);
                LastExit { last_line: line.map(|(_, line)| line.clone()), ..LastExit::new(exit) }
            })
            .collect();
        let details = Details {
            resources: facts.resources,
            last_exits,
            logs: facts.logs,
            log_dropped: facts.log_dropped,
            source: process.spec().source.as_deref(),
            source_changed: facts.source_changed,
            config: facts.config,
            ports: process.port().into_iter().collect(),
            health_check: health_check(process),
            channel: facts.channel,
        };
        Self {
            details: Some(details),
            ..Self::brief(process, now, usage, facts.error, Some(facts.last_output))
        }
    }
}

fn later(wall: WallTime, pause: Duration) -> WallTime {
    WallTime(wall.0.saturating_add(millis(pause)))
}

/// One entry of `command_result.results`.
#[derive(Debug)]
pub struct ResultEntry {
    pub id: Option<ProcId>,
    pub name: String,
    pub instance: u32,
    pub ok: bool,
    pub changed: bool,
    pub status: &'static str,
    pub ready: bool,
    /// What is to be said of one that is online and not ready.
    pub unready: Option<String>,
    pub pid: Option<Pid>,
    pub was_pid: Option<Pid>,
    pub killed: bool,
    /// What it was told to stop with, before it was killed; unknown once it is deleted.
    pub kill_signal: Option<Signal>,
    pub exit_code: Option<u8>,
    pub signal: Option<Signal>,
    pub took: u64,
    pub restarted_instead: bool,
    pub restarted_because: Option<&'static str>,
    pub next_run: Option<String>,
    pub port: Option<u16>,
    pub error: Option<ErrorReply>,
}

impl ToJson for ResultEntry {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "instance": self.instance, "ok": self.ok,
            "changed": self.changed, "status": self.status, "ready": self.ready,
            "unready": self.unready, "pid": self.pid, "was_pid": self.was_pid,
            "killed": self.killed, "kill_signal": self.kill_signal, "exit_code": self.exit_code,
            "signal": self.signal, "took": self.took, "restarted_instead": self.restarted_instead,
            "restarted_because": self.restarted_because, "next_run": self.next_run, "port": self.port, "error": self.error,
        })
    }
}
