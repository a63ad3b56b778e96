//! What clients ask, turned into requests to the supervisor or answered from what is known.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::base::{ProcId, Stream, Time, WallTime};
use crate::config::definition::{definition, effective};
use crate::config::resolve::{self, Dialect, Origin};
use crate::config::{secrets, suggest};
use crate::daemon::key::ConnId;
use crate::daemon::news::subject_of;
use crate::daemon::{Daemon, Ending, answers, places};
use crate::logs::{StreamId, TailQuery};
use crate::proto::buffer::Class;
use crate::proto::control::{Hello, PROTOCOL, hello_data};
use crate::proto::messages::entry::{Entry, Facts, LogPaths};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{LogMessage, level, process_event};
use crate::proto::messages::pm2_record;
use crate::proto::messages::request::{Apply, Ask, Command, EnvWish, LogQuery, MAX_LINES, Verb};
use crate::proto::messages::session::Answer;
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::{Goal, Process};
use crate::supervisor::spec::{AppSpec, Environment};
use crate::supervisor::vocabulary::{
    Action, EnvChange, Existing, Input, Options, Request, Target, Until,
};
use crate::sys::limits::{self, Resource};
use crate::sys::process;

/// The longest that one request may take, unless the client gives a limit of its own.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// Lines of stderr in `show`.
const SHOWN_LINES: usize = 10;

/// A request that the supervisor has not answered yet.
#[derive(Debug)]
pub enum Pending {
    /// The daemon itself asked for its end.
    Stop,
    Command {
        client: ConnId,
        tag: u64,
        action: String,
        label: String,
        started: Time,
        warnings: Vec<String>,
    },
    Wait { client: ConnId, tag: u64, until: Until },
    /// Names to be deleted after the new apps have been taken over.
    Apply { client: ConnId, tag: u64, steps: Value, prune: Vec<Target>, results: Vec<Value> },
    Resurrect { client: ConnId, tag: u64 },
    Shutdown { client: ConnId, tag: u64 },
    /// The daemon itself entered apps.
    Nobody,
}

impl Daemon {
    /// Begins to answer one request of a client.
    pub(super) fn ask(&mut self, client: ConnId, tag: u64, ask: Ask) {
        let answer = match ask {
            Ask::Ping => Some(data("pong", &json!({}))),
            Ask::Protocol(version) => Some(self.hello(client, version)),
            Ask::Subscribe { events, processes, backlog } => {
                self.subscribe(client, tag, &events, processes.as_deref(), backlog);
                None
            }
            Ask::Unsubscribe { events } => {
                let answer = self
                    .connections
                    .get_mut(client)
                    .map(|found| found.control.session.unsubscribe(events.as_deref()));
                self.recount_watchers();
                answer
            }
            Ask::Command(command) => self.command(client, tag, *command),
            Ask::GetInfo { processes, brief } => Some(self.info(processes.as_deref(), brief)),
            Ask::GetLogs(query) => Some(self.log_lines(&query)),
            Ask::GetEvents { processes, since } => Some(self.events(processes.as_deref(), since)),
            Ask::GetEnv { process, reveal } => Some(self.environment(client, &process, reveal)),
            Ask::GetPm2List { reveal } => Some(self.pm2_list(client, reveal)),
            Ask::GetDaemon => Some(self.about()),
            Ask::Export { processes } => Some(self.export(processes.as_deref())),
            Ask::Flush(targets) => Some(self.on_logs(targets, LogWork::Flush)),
            Ask::Rotate(targets) => Some(self.on_logs(targets, LogWork::Rotate)),
            Ask::ReloadLogs(targets) => Some(self.on_logs(targets, LogWork::Reopen)),
            Ask::SendLine { process, line } => Some(self.send_line(&process, &line)),
            Ask::Wait { processes, until, timeout } => {
                let from = self.reply_to(Pending::Wait { client, tag, until });
                let request = Request::Wait { targets: processes, until, timeout };
                self.input(Input::Request { from, request });
                None
            }
            Ask::Apply(apply) => self.apply(client, tag, *apply),
            Ask::Save => self.save_now(client, tag),
            Ask::Resurrect => self.resurrect(client, tag),
            Ask::Shutdown { leave_running } => self.shutdown(client, tag, leave_running),
        };
        if let Some(answer) = answer {
            self.reply(client, tag, &answer);
        }
    }

    fn hello(&mut self, client: ConnId, version: u64) -> Answer {
        if version != PROTOCOL {
            let text = format!("protocol {version} is not spoken here, only {PROTOCOL}");
            return Answer::Error(ErrorReply::new(Code::Unsupported, text));
        }
        let owner = self.is_owner(client);
        let home = self.paths.state.to_string_lossy();
        let hello = Hello { pid: process::own_pid().raw(), home: &home, owner };
        Answer::Data("hello", hello_data(&hello, &self.ids))
    }

    fn is_owner(&mut self, client: ConnId) -> bool {
        self.connections.get_mut(client).is_some_and(|found| found.owner)
    }

    fn subscribe(
        &mut self,
        client: ConnId,
        tag: u64,
        events: &[String],
        processes: Option<&[Target]>,
        backlog: usize,
    ) {
        let Some(found) = self.connections.get_mut(client) else { return };
        let answer = found.control.session.subscribe(events, processes);
        let subscriptions = found.control.session.subscriptions().clone();
        let fine = matches!(answer, Answer::Data(..));
        self.reply(client, tag, &answer);
        if !fine {
            return;
        }
        let mut first = self.snapshots(&subscriptions);
        if let Some(filter) = subscriptions.filter("log_message").filter(|_| backlog > 0) {
            first.extend(self.backlog(filter, backlog));
        }
        let Some(found) = self.connections.get_mut(client) else { return };
        for news in first {
            let _ = found.control.out.push(news.line(&self.ids), Class::Reply);
        }
        self.recount_watchers();
    }

    fn backlog(
        &mut self,
        filter: Option<&[Target]>,
        lines: usize,
    ) -> Vec<crate::proto::messages::event::Publication> {
        let wanted: Vec<ProcId> = self
            .supervisor
            .processes()
            .filter(|process| subject_of(process).is_wanted(filter))
            .map(Process::id)
            .collect();
        let query = TailQuery::last(lines);
        let tail = self.tail(&wanted, None, &query);
        tail.into_iter()
            .filter_map(|line| {
                let subject = subject_of(self.supervisor.process(line.id.process)?);
                let mut message =
                    LogMessage::new(&subject, line.id.stream, &line.bytes, line.partial);
                message.backlog = true;
                let data = serde_json::to_string(&message).ok()?;
                let at = line.at.unwrap_or_default();
                Some(crate::proto::messages::event::Publication::new(
                    "log_message",
                    subject,
                    at,
                    data,
                ))
            })
            .collect()
    }

    /// The last lines of processes, what is still in their pipes included.
    fn tail(
        &mut self,
        processes: &[ProcId],
        stream: Option<Stream>,
        query: &TailQuery,
    ) -> Vec<crate::logs::LogLine> {
        let mut ids = Vec::new();
        for &process in processes {
            self.prepare_log_names(process);
            for stream in Stream::BOTH.into_iter().filter(|&one| stream.is_none_or(|s| s == one)) {
                self.drain(process, stream);
                ids.push(StreamId { process, stream });
            }
        }
        self.logs.tail(&ids, query)
    }

    fn command(&mut self, client: ConnId, tag: u64, command: Command) -> Option<Answer> {
        let label = match command.targets.as_slice() {
            [one] => one.to_string(),
            [] => String::new(),
            several => format!("{} targets", several.len()),
        };
        let timeout = command.timeout.or(match command.wait {
            crate::supervisor::vocabulary::Patience::None => None,
            _ => Some(REQUEST_LIMIT),
        });
        let options = Options { wait: command.wait, parallel: command.parallel, timeout };
        let mut warnings = Vec::new();
        let request = match self.request(command, options, &mut warnings) {
            Ok(request) => request,
            Err(error) => return Some(Answer::Error(error)),
        };
        let (action, request) = request;
        let started = self.now.mono;
        let pending = Pending::Command { client, tag, action, label, started, warnings };
        let from = self.reply_to(pending);
        self.input(Input::Request { from, request });
        None
    }

    fn request(
        &mut self,
        command: Command,
        options: Options,
        warnings: &mut Vec<String>,
    ) -> Result<(String, Request), ErrorReply> {
        let Command { action, verb, targets, .. } = command;
        let acting = match verb {
            Verb::Create { configs, environment, replace, force, source } => {
                let inherited = self.shared_environment(environment)?;
                let apps = self.resolve(&configs, &inherited, source.as_deref(), warnings)?;
                let existing = match (replace, force) {
                    (true, _) => Existing::Replace,
                    (false, true) => Existing::Rename,
                    (false, false) => Existing::Refuse,
                };
                return Ok((action, Request::Create { apps, existing, options }));
            }
            Verb::Start => Action::Start,
            Verb::Stop { kill_timeout } => Action::Stop { kill_timeout },
            Verb::Restart { change, kill_timeout } => {
                Action::Restart { change: self.change(change)?, kill_timeout }
            }
            Verb::Reload { change } => Action::Reload { change: self.change(change)? },
            Verb::Delete { purge_logs } => {
                if purge_logs {
                    let ids = targets.iter().flat_map(|target| self.supervisor.resolve(target));
                    self.purges.extend(ids);
                }
                Action::Delete
            }
            Verb::Signal(signal) => Action::Signal(signal),
            Verb::Reset => Action::Reset,
            Verb::Scale(scale) => Action::Scale(scale),
        };
        Ok((action, Request::Command { action: acting, targets, options }))
    }

    fn change(&mut self, wish: EnvWish) -> Result<Option<EnvChange>, ErrorReply> {
        if wish == EnvWish::default() {
            return Ok(None);
        }
        let inherited = match wish.environment {
            Some(variables) => Some(self.shared_environment(Some(variables))?),
            None => None,
        };
        let env = variables(wish.env.unwrap_or_default())?;
        Ok(Some(EnvChange { inherited, env }))
    }

    /// The caller's environment, shared with processes that have the same.
    fn shared_environment(
        &self,
        variables_given: Option<Map<String, Value>>,
    ) -> Result<Rc<Environment>, ErrorReply> {
        let given: Environment = match variables_given {
            Some(given) => variables(given)?.into_iter().collect(),
            None => return Ok(self.base_environment.clone()),
        };
        let known = self.supervisor.processes().map(|process| &process.spec().inherited);
        Ok(known.into_iter().find(|known| ***known == given).cloned().unwrap_or_else(|| given.into()))
    }

    fn resolve(
        &self,
        configs: &[Map<String, Value>],
        inherited: &Rc<Environment>,
        source: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Rc<AppSpec>>, ErrorReply> {
        let origin = Origin {
            dialect: Dialect::Client,
            dir: &self.paths.state,
            environment: inherited,
            profile: None,
            source: source.map(std::path::Path::new),
            file: None,
            strict: false,
            defaults: &self.settings.defaults(),
        };
        let document = Value::Array(configs.iter().cloned().map(Value::Object).collect());
        let resolved = resolve::apps(&document, &origin);
        warnings.extend(resolved.warnings.iter().map(ToString::to_string));
        match resolved.problems.first() {
            None => Ok(resolved.apps.into_iter().map(Rc::new).collect()),
            Some(problem) => Err(answers::problem(problem)),
        }
    }

    fn find(&self, target: &Target) -> Result<Vec<ProcId>, ErrorReply> {
        let found = self.supervisor.resolve(target);
        if found.is_empty() { Err(self.not_found(target)) } else { Ok(found) }
    }

    /// The processes meant; `None`: all.
    fn find_all(&self, targets: Option<&[Target]>) -> Result<Vec<ProcId>, ErrorReply> {
        let Some(targets) = targets else {
            return Ok(self.supervisor.processes().map(Process::id).collect());
        };
        let mut ids = Vec::new();
        for target in targets {
            ids.extend(match target {
                Target::All => self.supervisor.resolve(target),
                Target::Id(_) | Target::Name(_) | Target::Instance(..) => self.find(target)?,
            });
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// "no process named 'wbe'", with the nearest name there is.
    pub(super) fn not_found(&self, target: &Target) -> ErrorReply {
        let text = target.to_string();
        let names = self.supervisor.processes().map(|process| process.spec().name.as_str());
        let error = match target {
            Target::Id(id) => format!("no process with id {id}"),
            Target::All | Target::Name(_) | Target::Instance(..) => {
                format!("no process named '{text}'")
            }
        };
        let error = ErrorReply::new(Code::ProcessNotFound, error).with("process", text.as_str());
        match suggest::nearest(&text, names) {
            Some(name) => error
                .with("suggestion", name)
                .with("hint", format!("did you mean '{name}'? (pmd ls)")),
            None => error,
        }
    }

    fn info(&mut self, targets: Option<&[Target]>, brief: bool) -> Answer {
        let ids = match self.find_all(targets) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut text = String::from(r#"{"processes":["#);
        for (at, id) in ids.into_iter().enumerate() {
            let facts = if brief { None } else { Some(self.facts(id)) };
            let Some(process) = self.supervisor.process(id) else { continue };
            let entry = match facts {
                Some(facts) => Entry::full(process, self.now, facts),
                None => Entry::brief(process, self.now, answers::errored_text(process)),
            };
            if at > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&entry).unwrap_or_default());
        }
        text.push_str("]}");
        Answer::Data("process_info", text)
    }

    fn facts(&mut self, id: ProcId) -> Facts {
        self.prepare_log_names(id);
        let last_output = self.last_output(id);
        let Some(process) = self.supervisor.process(id) else { return Facts::default() };
        let spec = process.spec();
        let source_changed = spec.source.as_deref().is_some_and(|source| {
            let changed = std::fs::metadata(source).and_then(|meta| meta.modified()).ok();
            let changed = changed
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
                .map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
            changed.is_none_or(|changed| WallTime(changed) > process.created_at())
        });
        let entry = self.entries.get(&id);
        let path = |stream: Stream| {
            entry
                .and_then(|entry| entry.files.logs[stream.index()].as_ref())
                .map(|path| path.to_string_lossy().into_owned())
        };
        let dropped = Stream::BOTH
            .iter()
            .map(|&stream| self.logs.dropped_bytes(StreamId { process: id, stream }))
            .sum();
        let skip = last_output.len().saturating_sub(SHOWN_LINES);
        Facts {
            logs: LogPaths { out: path(Stream::Out), error: path(Stream::Err) },
            log_dropped: dropped,
            source_changed,
            error: answers::errored_text(process),
            config: effective(spec),
            last_output: last_output.into_iter().skip(skip).collect(),
        }
    }

    /// An entry for a process that has not been started by this daemon, so that its files have
    /// names.
    fn prepare_log_names(&mut self, id: ProcId) {
        if self.entries.contains_key(&id) {
            return;
        }
        let Some(process) = self.supervisor.process(id) else { return };
        let (instance, spec) = (process.instance(), process.spec().clone());
        if self.prepare_entry(id, instance, &spec).is_ok() {
            for stream in Stream::BOTH {
                self.open_log_of_resting(id, stream);
            }
        }
    }

    fn log_lines(&mut self, query: &LogQuery) -> Answer {
        let ids = match self.find_all(query.processes.as_deref()) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let wanted = match query.grep {
            None => query.lines,
            Some(_) => MAX_LINES,
        };
        let tail = TailQuery {
            since: query.since,
            until: query.until,
            ..TailQuery::last(wanted)
        };
        let mut found = self.tail(&ids, query.stream, &tail);
        if let Some(text) = &query.grep {
            found.retain(|line| String::from_utf8_lossy(&line.bytes).contains(text.as_str()));
            found.drain(..found.len().saturating_sub(query.lines));
        }
        let lines: Vec<Value> = found
            .into_iter()
            .filter_map(|line| {
                let subject = subject_of(self.supervisor.process(line.id.process)?);
                Some(json!({
                    "timestamp": line.at.map(timestamp), "process": &*subject.name,
                    "id": subject.id, "instance": subject.instance, "stream": line.id.stream,
                    "level": level(line.id.stream), "partial": line.partial,
                    "message": String::from_utf8_lossy(&line.bytes),
                }))
            })
            .collect();
        data("logs", &json!({"lines": lines, "truncated": false}))
    }

    fn events(&self, targets: Option<&[Target]>, since: Option<WallTime>) -> Answer {
        let events: Vec<Value> = self
            .news
            .kept()
            .filter(|kept| since.is_none_or(|since| kept.at >= since))
            .filter_map(|kept| {
                let notice = &kept.notice;
                let subject = crate::proto::messages::event::Subject {
                    id: notice.process,
                    name: notice.name.clone(),
                    namespace: notice.namespace.clone(),
                    instance: notice.instance,
                };
                if !subject.is_wanted(targets) {
                    return None;
                }
                let last: Vec<String> =
                    kept.last_line.iter().map(|line| line.to_string()).collect();
                let text = process_event(&subject, &notice.kind, &last)?;
                let mut event: Value = serde_json::from_str(&text).ok()?;
                event["timestamp"] = timestamp(kept.at).into();
                Some(event)
            })
            .collect();
        data("events", &json!({"events": events}))
    }

    fn environment(&mut self, client: ConnId, target: &Target, reveal: bool) -> Answer {
        if reveal && !self.is_owner(client) {
            return Answer::Error(owner_only("--reveal"));
        }
        let id = match self.find(target) {
            Ok(ids) => ids.first().copied(),
            Err(error) => return Answer::Error(error),
        };
        let Some(process) = id.and_then(|id| self.supervisor.process(id)) else {
            return Answer::Error(self.not_found(target));
        };
        let env = answers::environment_of(process.spec(), reveal);
        data("environment", &json!({"process": process.spec().name, "env": env}))
    }

    fn pm2_list(&mut self, client: ConnId, reveal: bool) -> Answer {
        if reveal && !self.is_owner(client) {
            return Answer::Error(owner_only("--reveal"));
        }
        let ids: Vec<ProcId> = self.supervisor.processes().map(Process::id).collect();
        for &id in &ids {
            self.prepare_log_names(id);
        }
        let list: Vec<Value> = ids
            .iter()
            .filter_map(|id| {
                let (process, entry) = (self.supervisor.process(*id)?, self.entries.get(id)?);
                let env = answers::environment_of(process.spec(), reveal);
                let memory = process.pid().map_or(0, resident);
                Some(pm2_record::record(process, memory, env, &entry.pm2_files()))
            })
            .collect();
        data("pm2_list", &json!({"list": list}))
    }

    fn about(&self) -> Answer {
        let mut problems = Vec::new();
        if let Some(why) = &self.saving.failure {
            problems.push(json!({"code": "state", "message": format!("cannot save state: {why}")}));
        }
        if !self.live.outlives_us() {
            problems.push(json!({"code": "live-table",
                "message": "no live table: programs cannot be adopted after a crash"}));
        }
        let used = limits::open_files().ok();
        let limit = limits::limit(Resource::OpenFiles).map(|limit| limit.soft).ok();
        data(
            "daemon",
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "pid": process::own_pid(),
                "keeper_pid": null, "boot": self.ids.boot(),
                "uptime": crate::proto::messages::event::millis(
                    self.now.mono.since(self.started.mono)),
                "home": self.paths.state,
                "paths": {
                    "state": self.paths.state, "socket": self.paths.socket,
                    "logs": self.paths.logs, "log": self.paths.own_log(),
                    "config": self.paths.config, "runtime": self.paths.runtime,
                },
                "cgroup": null,
                "limits": {"descriptors": limit, "descriptors_used": used,
                           "connections": self.settings.max_connections},
                "processes": self.supervisor.processes().count(),
                "problems": problems,
            }),
        )
    }

    fn export(&self, targets: Option<&[Target]>) -> Answer {
        let ids = match self.find_all(targets) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut names = std::collections::BTreeSet::new();
        let definitions: Vec<Value> = ids
            .into_iter()
            .filter_map(|id| self.supervisor.process(id))
            .filter(|process| names.insert(process.spec().name.clone()))
            .map(|process| {
                let mut fields = definition(process.spec());
                let secret: Vec<String> = match fields.get_mut("env") {
                    Some(Value::Object(env)) => {
                        let spec = process.spec();
                        let secret: Vec<String> = env
                            .iter()
                            .filter(|(name, value)| {
                                let value = value.as_str().unwrap_or_default();
                                secrets::mask(name, value, &spec.secret_env) != value
                            })
                            .map(|(name, _)| name.clone())
                            .collect();
                        env.retain(|name, _| !secret.contains(name));
                        secret
                    }
                    Some(_) | None => Vec::new(),
                };
                json!({"definition": fields, "left_out": secret})
            })
            .collect();
        let left_out: Vec<&Value> = definitions.iter().map(|one| &one["left_out"]).collect();
        let plain: Vec<&Value> = definitions.iter().map(|one| &one["definition"]).collect();
        data("definitions", &json!({"definitions": plain, "left_out": left_out}))
    }

    fn on_logs(&mut self, targets: Option<Vec<Target>>, work: LogWork) -> Answer {
        if matches!(work, LogWork::Reopen) {
            self.reopen_logs();
            return data("done", &json!({"processes": self.entries.len()}));
        }
        let ids = match self.find_all(targets.as_deref()) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut failed = None;
        for &process in &ids {
            self.prepare_log_names(process);
            for stream in Stream::BOTH {
                self.drain(process, stream);
                let id = StreamId { process, stream };
                self.open_log_of_resting(process, stream);
                let worked = match work {
                    LogWork::Flush => self.logs.flush(id),
                    LogWork::Rotate => self.logs.rotate(id),
                    LogWork::Reopen => Ok(()),
                };
                failed = failed.or(worked.err());
            }
        }
        if let Some(error) = failed {
            return Answer::Error(ErrorReply::new(Code::OperationFailed, error.to_string()));
        }
        data("done", &json!({"processes": ids.len()}))
    }

    /// Opens files again after somebody moved them away.
    pub(super) fn reopen_logs(&mut self) {
        self.logs.reopen();
        self.own_log.reopen();
    }

    fn send_line(&mut self, target: &Target, line: &str) -> Answer {
        let ids = match self.find(target) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        for &id in &ids {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let name = entry.subject.name.clone();
            let Some(stdin) = &mut entry.stdin else {
                let text = format!("stdin of '{name}' is not open");
                return Answer::Error(
                    ErrorReply::new(Code::OperationFailed, text)
                        .with("why", "its stdin is /dev/null")
                        .with("hint", "\"stdio\": [\"pipe\", \"pipe\", \"pipe\"] in its definition"),
                );
            };
            if let Err(error) = write_line(stdin, line) {
                let why = crate::sys::describe(&error);
                let text = format!("cannot write to stdin of '{name}': {why}");
                return Answer::Error(ErrorReply::new(Code::OperationFailed, text));
            }
        }
        data("done", &json!({"processes": ids.len()}))
    }

    fn apply(&mut self, client: ConnId, tag: u64, apply: Apply) -> Option<Answer> {
        let mut warnings = Vec::new();
        let wanted = self.shared_environment(apply.environment).and_then(|inherited| {
            self.resolve(&apply.configs, &inherited, apply.source.as_deref(), &mut warnings)
        });
        let apps = match wanted {
            Ok(apps) => apps,
            Err(error) => return Some(Answer::Error(error)),
        };
        let plan = self.plan(&apps, apply.source.as_deref(), apply.prune);
        let steps = json!({"steps": plan.steps, "warnings": warnings});
        if apply.dry_run {
            return Some(data("plan", &steps));
        }
        let existing = if apply.restart { Existing::Apply } else { Existing::Refuse };
        let apps = if apply.restart {
            apps
        } else {
            apps.into_iter().filter(|app| !plan.changed.contains(&app.name)).collect()
        };
        let pending =
            Pending::Apply { client, tag, steps, prune: plan.prune, results: Vec::new() };
        let from = self.reply_to(pending);
        let options =
            Options { wait: apply.wait, parallel: None, timeout: Some(REQUEST_LIMIT) };
        self.input(Input::Request { from, request: Request::Create { apps, existing, options } });
        None
    }

    fn plan(&self, apps: &[Rc<AppSpec>], source: Option<&str>, prune: bool) -> Plan {
        let mut plan = Plan::default();
        for app in apps {
            let known = self.supervisor.processes().find(|p| p.spec().name == app.name);
            let (op, changed) = match known {
                None => ("start", Vec::new()),
                Some(process) => match process.spec().differences(app) {
                    fields if fields.is_empty() => ("unchanged", fields),
                    fields => ("reload", fields),
                },
            };
            let changed: Vec<Value> = match known {
                Some(process) if op == "reload" => {
                    plan.changed.push(app.name.clone());
                    answers::changes(process.spec(), app, &changed)
                }
                Some(_) | None => Vec::new(),
            };
            plan.steps.push(json!({"op": op, "name": app.name, "changed": changed}));
        }
        let source = source.map(std::path::Path::new);
        let mut gone: Vec<&str> = self
            .supervisor
            .processes()
            .filter(|process| source.is_some() && process.spec().source.as_deref() == source)
            .map(|process| process.spec().name.as_str())
            .filter(|name| apps.iter().all(|app| app.name != *name))
            .collect();
        gone.dedup();
        for name in gone {
            let op = if prune { "delete" } else { "keep" };
            plan.steps.push(json!({"op": op, "name": name, "changed": []}));
            if prune {
                plan.prune.push(Target::Name(name.to_owned()));
            }
        }
        plan
    }

    fn save_now(&mut self, client: ConnId, tag: u64) -> Option<Answer> {
        if !self.saving.enabled {
            let text = "this daemon keeps its state in memory only";
            return Some(Answer::Error(ErrorReply::new(Code::OperationFailed, text)));
        }
        self.saving.mark(self.now.mono);
        self.saving.wait(client, tag);
        None
    }

    /// Answers the `save` requests that waited for this save.
    pub(super) fn saves_answered(&mut self, ticket: u64) {
        let count = self.supervisor.processes().count();
        for (client, tag) in self.saving.waiting_for(ticket) {
            let answer = match &self.saving.failure {
                None => data("done", &json!({"processes": count})),
                Some(why) => Answer::Error(
                    ErrorReply::new(Code::OperationFailed, format!("cannot save state: {why}"))
                        .with("why", "the state saved before stays whole"),
                ),
            };
            self.reply(client, tag, &answer);
        }
    }

    fn resurrect(&mut self, client: ConnId, tag: u64) -> Option<Answer> {
        let targets: Vec<Target> = self
            .supervisor
            .processes()
            .filter(|process| process.goal() == Goal::Up && process.child().is_none())
            .map(|process| Target::Id(process.id()))
            .collect();
        if targets.is_empty() {
            let count = self.supervisor.processes().count();
            return Some(data("done", &json!({"processes": count, "results": []})));
        }
        let from = self.reply_to(Pending::Resurrect { client, tag });
        let options = Options { timeout: Some(REQUEST_LIMIT), ..Options::default() };
        let request = Request::Command { action: Action::Start, targets, options };
        self.input(Input::Request { from, request });
        None
    }

    fn shutdown(&mut self, client: ConnId, tag: u64, leave_running: bool) -> Option<Answer> {
        if !self.is_owner(client) {
            return Some(Answer::Error(owner_only("ending the daemon")));
        }
        if self.ending != Ending::No {
            let text = "the daemon is going down";
            return Some(Answer::Error(ErrorReply::new(Code::ShuttingDown, text)));
        }
        if leave_running {
            self.own_log.info("leaving, programs stay reason=command");
            self.reply(client, tag, &data("done", &json!({})));
            self.leave("command");
            return None;
        }
        self.own_log.info("stopping everything reason=command");
        self.ending = Ending::Stopping;
        let from = self.reply_to(Pending::Shutdown { client, tag });
        self.input(Input::Request { from, request: Request::Shutdown });
        None
    }

    /// The files an instance writes to; an app whose name gives the same files as another's gets
    /// its id into them.
    pub(super) fn choose_files(
        &mut self,
        process: ProcId,
        instance: u32,
        spec: &AppSpec,
    ) -> places::Files {
        if self.container.is_some() {
            return places::files_of_container(spec, instance);
        }
        let stem = places::file_name(&spec.name);
        let owner = self.stems.entry(stem).or_insert_with(|| spec.name.clone());
        let distinct = *owner != spec.name;
        places::files(spec, instance, process, distinct, &self.paths.logs, &self.paths.pids)
    }
}

#[derive(Debug, Default)]
struct Plan {
    steps: Vec<Value>,
    changed: Vec<String>,
    prune: Vec<Target>,
}

#[derive(Clone, Copy, Debug)]
enum LogWork {
    Flush,
    Rotate,
    Reopen,
}

/// An answer from a JSON value.
pub fn data(kind: &'static str, value: &Value) -> Answer {
    Answer::Data(kind, value.to_string())
}

fn owner_only(what: &str) -> ErrorReply {
    let text = format!("{what} is for the daemon's own user and root");
    ErrorReply::new(Code::PermissionDenied, text)
}

/// Resident bytes of a process; 0 when it has just ended.
fn resident(pid: crate::base::Pid) -> u64 {
    crate::sys::proc::memory(pid).ok().flatten().map_or(0, |memory| memory.resident)
}

/// Writes a line to a child's stdin, whole or not at all.
fn write_line(stdin: &mut std::fs::File, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(b'\n');
    // A pipe takes up to PIPE_BUF (4096) bytes whole; beyond, what does not fit is refused.
    match stdin.write(&bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(std::io::ErrorKind::WouldBlock.into()),
    }
}

/// Variables as JSON: strings, numbers and booleans.
fn variables(given: Map<String, Value>) -> Result<Vec<(String, String)>, ErrorReply> {
    given
        .into_iter()
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let text = format!("variable '{name}' must be a string");
                    return Err(ErrorReply::argument("env", text));
                }
            };
            if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
                let text = format!("'{}' is no variable", name.escape_debug());
                return Err(ErrorReply::argument("env", text));
            }
            Ok((name, text))
        })
        .collect()
}
