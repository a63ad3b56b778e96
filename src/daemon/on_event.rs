//! Runs the command that an app wants to be run when something happens to it: `on_event`.
//!
//! It gets the event on its standard input, as subscribers get it, and the plain members of it as
//! `PMD_EVENT_*`. One at a time for an app, and few at all; what happens meanwhile waits, and only so
//! much of it.

use std::collections::VecDeque;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::base::{ExitStatus, Pid, ProcId, Signal, SpawnError, Time};
use crate::daemon::launch::Given;
use crate::daemon::{Daemon, Ending};
use crate::proto::messages::stamp::timestamp;
use crate::sorted::SortedMap;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::Notice;
use crate::sys::{fds, kill, process};

/// A run that lasts longer is killed.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs at a time, of all apps together.
const MAX_RUNNING: usize = 16;

/// Events of one app that wait; the next is dropped.
const MAX_WAITING: usize = 64;

/// Commands that run, and events that wait for one.
#[derive(Debug, Default)]
pub struct EventCommands {
    apps: SortedMap<Rc<str>, App>,
    running: usize,
}

#[derive(Debug, Default)]
struct App {
    /// Its number, and when it has run long enough.
    running: Option<(Pid, Time)>,
    waiting: VecDeque<Told>,
    dropped: u64,
}

/// One event, and what it happened to.
#[derive(Debug)]
struct Told {
    process: ProcId,
    instance: u32,
    port: Option<u16>,
    spec: Rc<AppSpec>,
    data: String,
}

impl EventCommands {
    /// When the first run has lasted long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.apps.values().filter_map(|app| app.running).map(|(_, until)| until).min()
    }
}

impl Daemon {
    /// Whether the app of this notice wants to be told.
    pub(super) fn has_event_command(&self, notice: &Notice) -> bool {
        let process = self.supervisor.process(notice.process);
        self.ending == Ending::No && process.is_some_and(|it| !it.spec().on_event.is_empty())
    }

    /// Something happened: `data` of a `process_event`.
    pub(super) fn run_event_command(&mut self, notice: &Notice, data: String) {
        let Some(process) = self.supervisor.process(notice.process) else { return };
        let spec = Rc::clone(process.spec());
        let name = Rc::clone(&spec.name);
        let (instance, port) = (process.instance(), process.port());
        let app = self.event_commands.apps.get_or_default(Rc::clone(&name));
        if app.waiting.len() == MAX_WAITING {
            app.dropped += 1;
            if app.dropped == 1 {
                self.own_log.warn(format_args!("{name}: on_event is too slow, events are dropped"));
            }
            return;
        }
        app.waiting.push_back(Told { process: notice.process, instance, port, spec, data });
        self.start_event_commands();
    }

    /// The command of an app has ended. False: it was none.
    pub(super) fn event_command_ended(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let is_it = |app: &App| app.running.is_some_and(|(running, _)| running == pid);
        let found = self.event_commands.apps.iter_mut().find(|(_, app)| is_it(app));
        let Some((name, app)) = found else { return false };
        app.running = None;
        if !status.is_success() {
            self.own_log.warn(format_args!("{name}: on_event: {status}"));
        }
        self.event_commands.running -= 1;
        self.start_event_commands();
        true
    }

    /// Ends what has run long enough.
    pub(super) fn expire_event_commands(&mut self) {
        let now = self.now.mono;
        for (name, app) in self.event_commands.apps.iter_mut() {
            let Some((pid, until)) = &mut app.running else { continue };
            if *until <= now {
                // With all that it started. It is reaped soon; if not, it is tried again.
                *until = now.after(LIMIT);
                let _ = kill::kill_group(*pid, Signal::KILL);
                self.own_log.warn(format_args!("{name}: on_event took longer than 30 s"));
            }
        }
    }

    /// Starts what may be started.
    fn start_event_commands(&mut self) {
        while self.event_commands.running < MAX_RUNNING {
            let apps = &mut self.event_commands.apps;
            let idle = |app: &App| app.running.is_none() && !app.waiting.is_empty();
            let Some((name, app)) = apps.iter_mut().find(|(_, app)| idle(app)) else { break };
            let (name, told) = (Rc::clone(name), app.waiting.pop_front());
            let Some(told) = told else { break };
            match self.spawn_event_command(&told) {
                Ok(pid) => {
                    let until = self.now.mono.after(LIMIT);
                    self.event_commands.apps.get_or_default(name).running = Some((pid, until));
                    self.event_commands.running += 1;
                }
                Err(error) => {
                    let why = crate::sys::errno_text(error.errno);
                    self.own_log.warn(format_args!("{name}: cannot run on_event: {why}"));
                }
            }
        }
        self.event_commands.apps.retain(|_, app| app.running.is_some() || !app.waiting.is_empty());
    }

    fn spawn_event_command(&mut self, told: &Told) -> Result<Pid, SpawnError> {
        let prepare = |error: std::io::Error| SpawnError {
            stage: crate::base::Stage::Prepare,
            errno: error.raw_os_error().unwrap_or(5),
        };
        let mut input = fds::memory_file().map_err(prepare)?;
        input.write_all(told.data.as_bytes()).map_err(prepare)?;
        input.write_all(b"\n").map_err(prepare)?;
        input.seek(SeekFrom::Start(0)).map_err(prepare)?;
        let Told { process: id, instance, port, spec, .. } = told;
        let given =
            Given { process: *id, instance: *instance, port: *port, cookie: process::random() };
        let variables = variables(&told.data, &timestamp(self.now.wall));
        self.spawn_script(spec, &spec.on_event, &given, input.as_fd(), &variables)
    }
}

/// `PMD_EVENT_NAME`, `PMD_EVENT_EXIT_CODE` and the like: the plain members of an event.
fn variables(data: &str, at: &str) -> Vec<(String, String)> {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let members = data.as_object().into_iter().flatten();
    let details = data["details"].as_object().into_iter().flatten();
    let mut all = vec![("PMD_EVENT_TIME".to_owned(), at.to_owned())];
    for (key, value) in members.chain(details) {
        let text = match value {
            Value::String(text) if !text.contains('\0') => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        let key = if key == "event" { "name" } else { key.as_str() };
        all.push((format!("PMD_EVENT_{}", key.to_ascii_uppercase()), text));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_members_are_variables() {
        let data = r#"{"event":"crashed","id":3,"process":"web","details":{"exit_code":1,
            "signal":null,"last_output":["x"],"core":false}}"#;
        let found: Vec<String> =
            variables(data, "T").into_iter().map(|(name, value)| name + "=" + &value).collect();
        assert_eq!(
            found,
            [
                "PMD_EVENT_TIME=T",
                "PMD_EVENT_NAME=crashed",
                "PMD_EVENT_ID=3",
                "PMD_EVENT_PROCESS=web",
                "PMD_EVENT_CORE=false",
                "PMD_EVENT_EXIT_CODE=1"
            ]
        );
    }
}
