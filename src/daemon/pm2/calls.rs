//! What a call asks of the supervisor, or what is answered from what is known.

use serde_json::{Map, Value};

use crate::base::{ProcId, Signal};
use crate::daemon::Daemon;
use crate::daemon::key::ConnId;
use crate::daemon::pm2::Then;
use crate::daemon::requests::Pending;
use crate::json::{json, object};
use crate::proto::pm2::amp::Pair;
use crate::proto::pm2::methods::{Call, Id, Named};
use crate::proto::pm2::rpc;
use crate::supervisor::Process;
use crate::supervisor::spec::Stdin;
use crate::supervisor::vocabulary::{Action, Input, Options, Request, Status, Target};
use crate::sys::fds;

/// What a call comes to: a reply at once, or none yet, or an error.
pub(super) type Begun = Result<Option<Pair>, String>;

impl Daemon {
    /// Begins to answer one call of a client.
    pub(in crate::daemon) fn pm2_call(&mut self, client: ConnId, tag: u64, call: Call) {
        match self.begin_call(client, tag, call) {
            Ok(None) => {}
            Ok(Some(reply)) => self.pm2_reply(client, tag, reply),
            Err(text) => self.pm2_reply(client, tag, rpc::error(&text)),
        }
    }

    fn begin_call(&mut self, client: ConnId, tag: u64, call: Call) -> Begun {
        let id_unknown = |id: &Id| format!("{} id unknown", id.text);
        match call {
            Call::Ping => Ok(Some(rpc::value(&json!({"msg": "pong"})))),
            Call::AgentInfos => Ok(Some(rpc::value(&self.agent_infos()))),
            Call::AgentEnd => {
                self.end_agent();
                Ok(Some(rpc::nothing()))
            }
            Call::GetVersion => Ok(Some(rpc::value(&json!(self.pm2.version)))),
            Call::GetMonitorData => Ok(Some(self.monitor_data())),
            Call::GetSystemData => Ok(Some(rpc::value(&self.system_data()))),
            Call::GetReport => Ok(Some(rpc::value(&self.report()))),
            Call::Profile => Ok(Some(rpc::value(&json!({"error": "not supported"})))),
            Call::Prepare(record) => self.prepare(client, tag, record),
            Call::PrepareJson(app, cwd) => self.prepare_json(client, tag, &app, cwd.as_deref()),
            Call::Start(id) => {
                let process = self.known_process(&id).ok_or_else(|| id_unknown(&id))?;
                match (process.status(), process.pid()) {
                    (Status::Online, _) => Err("process already online".to_owned()),
                    (Status::Starting | Status::Restarting, _) => {
                        Err("process already started".to_owned())
                    }
                    (_, Some(pid)) => Err(format!("Process with pid {pid} already exists")),
                    (_, None) => self.act(client, tag, Then::Process, Action::Start, process.id()),
                }
            }
            Call::Stop(id) => {
                let process = self.id_of(&id).ok_or_else(|| format!("{} : id unknown", id.text))?;
                self.act(client, tag, Then::Process, Action::Stop { kill_timeout: None }, process)
            }
            Call::Restart(id, env) => self.restart(client, tag, &id, env),
            Call::Reload(id, env) => {
                let process = self.id_of(&id).ok_or("PM2 ID unknown")?;
                self.reload(client, tag, process, env)
            }
            Call::SoftReload(id, env) => {
                let process = self.id_of(&id);
                let text = format!("pm_id {} not available in {}", id.text, id.text);
                self.reload(client, tag, process.ok_or(text)?, env)
            }
            Call::Delete(id) => {
                let process = self.id_of(&id).ok_or_else(|| format!("{} : id unknown", id.text))?;
                // In two steps, since the reply shows the process as it stopped.
                let stop = Action::Stop { kill_timeout: None };
                self.act(client, tag, Then::Delete(process), stop, process)
            }
            Call::Duplicate(id) => {
                let process = self.known_process(&id).ok_or_else(|| id_unknown(&id))?;
                let (app, options) = (process.spec().clone(), Options::default());
                let request = Request::Add { app, count: 1, first: None, start: true, options };
                self.hand_on(client, tag, Then::Started { single: true }, request)
            }
            Call::ResetCounters(id) => {
                let process = self.id_of(&id).ok_or_else(|| id_unknown(&id))?;
                let at = self.now.wall;
                if let Some(known) = self.known_mut(process) {
                    known.created_at = Some(at);
                }
                self.act(client, tag, Then::All, Action::Reset, process)
            }
            Call::Notify { id, action, manually } => {
                let process = self.id_of(&id).ok_or("process id doesnt exists")?;
                self.tell_event(process, &action, manually, None);
                Ok(Some(rpc::nothing()))
            }
            Call::NotifyKill => {
                self.pm2.being_killed = Some(client);
                self.connections.leave_unanswered(client, tag);
                Ok(None)
            }
            Call::Kill { pid } => {
                self.kill_for(client, tag, pid);
                Ok(None)
            }
            Call::StopWatch(whose) => {
                let ids = whose.map_or_else(|| self.all_ids(), |whose| self.named(&whose));
                Ok(Some(self.switch_watch(&ids, |_| false)))
            }
            Call::StartWatch(whose) => {
                let ids = self.named(&whose);
                if ids.iter().any(|&id| self.is_watched(id)) {
                    let members = object([("notrestarted", Value::Bool(true))]);
                    return Ok(Some(rpc::success(members)));
                }
                Ok(Some(self.switch_watch(&ids, |_| true)))
            }
            Call::ToggleWatch(whose) => {
                let ids = self.named(&whose);
                Ok(Some(self.switch_watch(&ids, |was| !was)))
            }
            Call::SignalId(id, signal) => {
                let process = self.id_of(&id).ok_or_else(|| id_unknown(&id))?;
                let signal = signal_of(&signal)?;
                self.act(client, tag, Then::Signalled, Action::Signal(signal), process)
            }
            Call::SignalName(name, signal) => {
                let mut ids = self.named(&Named::Name(name));
                if ids.is_empty() {
                    return Err("Unknown process name".to_owned());
                }
                let signal = signal_of(&signal)?;
                ids.retain(|&id| self.supervisor.process(id).is_some_and(is_up));
                self.act_on(client, tag, Then::All, Action::Signal(signal), &ids)
            }
            Call::ReloadLogs => {
                self.reopen_logs();
                Ok(Some(rpc::value(&json!({}))))
            }
            Call::SendLine(id, line, given) => self.send_to_stdin(&id, &line, &given),
            Call::SendData(id, packet) => self.send_data(&id, packet),
            Call::Message(message) => self.send_message(&message),
            Call::Monitor(id, on) => {
                let process = self.id_of(&id).ok_or("Unknown pm_id")?;
                if let Some(known) = self.known_mut(process) {
                    known.monitored = Some(on);
                }
                let members = object([("pm_id", process.0.into())]);
                Ok(Some(rpc::success(members)))
            }
            Call::RestartName(name) => {
                let ids = self.named(&Named::Name(name));
                if ids.is_empty() {
                    return Err("Unknown process".to_owned());
                }
                self.refuse_if_killed()?;
                let action = Action::Restart { change: None, kill_timeout: None };
                self.act_on(client, tag, Then::All, action, &ids)
            }
            Call::StopName(name) => {
                let ids = self.named(&Named::Name(name));
                if ids.is_empty() {
                    return Err("Unknown process".to_owned());
                }
                self.act_on(client, tag, Then::All, Action::Stop { kill_timeout: None }, &ids)
            }
            Call::StopAll => {
                let ids = self.all_ids();
                if ids.is_empty() {
                    return Err("No process launched".to_owned());
                }
                self.act_on(client, tag, Then::All, Action::Stop { kill_timeout: None }, &ids)
            }
            Call::ReloadAll => {
                let mut ids = self.all_ids();
                ids.retain(|&id| self.is_cluster(id));
                self.act_on(client, tag, Then::Count, Action::Reload { change: None }, &ids)
            }
            Call::DeleteName(whose) => {
                let ids = match &whose {
                    Named::Name(_) => self.named(&whose),
                    // Digits may be a name as well.
                    Named::Id(id) => {
                        let by_name = self.named(&Named::Name(id.text.clone()));
                        if by_name.is_empty() { self.named(&whose) } else { by_name }
                    }
                };
                if ids.is_empty() {
                    return Err("Unknown process".to_owned());
                }
                self.act_on(client, tag, Then::All, Action::Delete, &ids)
            }
            Call::DeleteAll => {
                let ids = self.all_ids();
                self.act_on(client, tag, Then::All, Action::Delete, &ids)
            }
            Call::FindByScript(script) => {
                let ids: Vec<ProcId> = self
                    .supervisor
                    .processes()
                    .filter(|process| base_name(&process.spec().script) == script)
                    .map(Process::id)
                    .collect();
                if ids.is_empty() {
                    return Ok(Some(rpc::value(&Value::Null)));
                }
                Ok(Some(self.environments_reply(&ids)))
            }
        }
    }

    /// Hands a request to the supervisor; its answer becomes the reply.
    pub(super) fn hand_on(
        &mut self,
        client: ConnId,
        tag: u64,
        then: Then,
        request: Request,
    ) -> Begun {
        let from = self.reply_to(Pending::Pm2 { client, tag, then });
        self.input(Input::Request { from, request });
        Ok(None)
    }

    pub(super) fn act(
        &mut self,
        client: ConnId,
        tag: u64,
        then: Then,
        action: Action,
        id: ProcId,
    ) -> Begun {
        self.act_on(client, tag, then, action, &[id])
    }

    pub(super) fn act_on(
        &mut self,
        client: ConnId,
        tag: u64,
        then: Then,
        action: Action,
        ids: &[ProcId],
    ) -> Begun {
        let targets = ids.iter().map(|&id| Target::Id(id)).collect();
        let request = Request::Command { action, targets, options: Options::default() };
        self.hand_on(client, tag, then, request)
    }

    pub(super) fn refuse_if_killed(&self) -> Result<(), String> {
        match self.pm2.being_killed {
            None => Ok(()),
            Some(_) => {
                Err("[RestartProcessId] PM2 is being killed, stopping restart procedure..."
                    .to_owned())
            }
        }
    }

    fn known_process(&self, id: &Id) -> Option<&Process> {
        self.supervisor.process(id.id?)
    }

    pub(super) fn id_of(&self, id: &Id) -> Option<ProcId> {
        self.known_process(id).map(Process::id)
    }

    /// The processes that a client names: by id, by name, by the path of the script, or all.
    pub(in crate::daemon) fn named(&self, whose: &Named) -> Vec<ProcId> {
        match whose {
            Named::Id(id) => self.id_of(id).into_iter().collect(),
            Named::Name(name) => self
                .supervisor
                .processes()
                .filter(|it| name == "all" || **it.name() == **name || *it.spec().script == **name)
                .map(Process::id)
                .collect(),
        }
    }

    fn is_watched(&self, id: ProcId) -> bool {
        self.supervisor.is_watch_on(id)
    }

    fn switch_watch(&mut self, ids: &[ProcId], to: impl Fn(bool) -> bool) -> Pair {
        for &id in ids {
            let was = self.is_watched(id);
            let on = to(was);
            if let Some(known) = self.known_mut(id).filter(|_| was != on) {
                known.watch = Some(on);
                self.supervisor.switch_watch(id, Some(on));
            }
        }
        rpc::success(Map::new())
    }

    fn send_to_stdin(&mut self, id: &Id, line: &str, given: &Value) -> Begun {
        let unknown = || format!("Process with ID <{}> unknown.", id.text);
        let process = self.known_process(id).ok_or_else(unknown)?;
        if self.is_cluster(process.id()) {
            return Err("Cannot send line to processes in cluster mode".to_owned());
        }
        if !is_up(process) {
            return Err(format!("Process with ID <{}> offline.", id.text));
        }
        let child = process.child().and_then(|child| self.children.get(child));
        let Some(stdin) = child.and_then(|child| child.stdin.as_ref()) else {
            let why = match process.spec().stdin {
                Stdin::Null => "its stdin is /dev/null",
                Stdin::Pipe => "its stdin was lost",
            };
            return Err(format!("Cannot send line to process with ID <{}>: {why}", id.text));
        };
        fds::write_whole(stdin, line.as_bytes()).map_err(|error| {
            let why = crate::sys::describe(&error);
            format!("Cannot send line to process with ID <{}>: {why}", id.text)
        })?;
        Ok(Some(rpc::value(&json!({"pm_id": given, "line": line}))))
    }

    /// Whether its instances share their sockets.
    pub(in crate::daemon) fn is_cluster(&self, id: ProcId) -> bool {
        self.supervisor.process(id).is_some_and(|process| process.spec().is_cluster())
    }
}

/// Whether there is a child that can be told something.
pub(super) fn is_up(process: &Process) -> bool {
    process.pid().is_some()
        && match process.status() {
            Status::Online | Status::Starting | Status::Restarting => true,
            Status::Stopping | Status::Backoff | Status::Stopped | Status::Errored => false,
        }
}

pub(super) fn base_name(script: &str) -> &str {
    script.rsplit('/').next().unwrap_or_default()
}

/// A signal by its name or its number.
fn signal_of(given: &Value) -> Result<Signal, String> {
    let signal = match given {
        Value::String(name) => Signal::parse(name),
        Value::Number(number) => {
            number.as_i64().and_then(|number| i32::try_from(number).ok()).and_then(Signal::new)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    signal.ok_or_else(|| "Error when sending signal (signal unknown)".to_owned())
}
