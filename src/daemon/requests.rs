//! What clients ask, turned into requests to the supervisor or answered from what is known.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::{ProcId, Time};
use crate::config::resolve::{self, Dialect, Origin};
use crate::config::suggest;
use crate::daemon::key::ConnId;
use crate::daemon::log_requests::LogWork;
use crate::daemon::pm2::{Moving, Then};
use crate::daemon::{Daemon, Ending, answers};
use crate::json::json;
use crate::proto::control::{Hello, PROTOCOL, hello_data};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::Publication;
use crate::proto::messages::request::{Ask, Change, Command, Verb};
use crate::proto::messages::session::{Answer, Subscription};
use crate::sorted::sort;
use crate::supervisor::spec::{AppSpec, Environment};
use crate::supervisor::vocabulary::{
    Action, EnvChange, Existing, Input, Options, Patience, Redefinition, Request, Target, Until,
};
use crate::supervisor::{Goal, Process};
use crate::sys::process;

/// The longest that one request may take, unless the client gives a limit of its own.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(120);

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
    Wait {
        client: ConnId,
        tag: u64,
        until: Until,
    },
    /// Names to be deleted after the new apps have been taken over.
    Apply {
        client: ConnId,
        tag: u64,
        steps: Value,
        prune: Vec<Target>,
        results: Vec<Value>,
    },
    Resurrect {
        client: ConnId,
        tag: u64,
    },
    Shutdown {
        client: ConnId,
        tag: u64,
    },
    /// The daemon itself entered apps.
    Nobody,
    /// Programs come from PM2's list, one after the other.
    Moving(Box<Moving>),
    /// Somebody elsewhere asked for it.
    Outside,
    /// A call of PM2's RPC.
    Pm2 {
        client: ConnId,
        tag: u64,
        then: Then,
    },
}

impl Daemon {
    /// Begins to answer one request of a client.
    pub(super) fn ask(&mut self, client: ConnId, tag: u64, ask: Ask) {
        let answer = match ask {
            Ask::Auth(token) => {
                self.authenticate(client, tag, &token);
                None
            }
            Ask::Ping => Some(Answer::Data("pong", "{}".to_owned())),
            Ask::Protocol(version) => Some(self.hello(client, version)),
            Ask::Subscribe { events, processes, interval, backlog, names } => {
                let interval = interval.unwrap_or(self.settings.metrics_interval);
                let names = names.map(Rc::from);
                let wish = Subscription { processes, interval, names };
                self.subscribe(client, tag, &events, &wish, backlog);
                None
            }
            Ask::Unsubscribe { events } => {
                self.unsubscribe(client, tag, events.as_deref());
                None
            }
            Ask::Command(command) => self.command(client, tag, *command),
            Ask::GetInfo { processes, brief, metrics: _ } => {
                Some(self.info(processes.as_deref(), brief))
            }
            Ask::GetSystem => Some(Answer::Data("system_metrics", self.system_metrics(None))),
            Ask::GetLogs(query) => Some(self.log_lines(&query)),
            Ask::GetEvents { processes, since, limit } => {
                Some(self.events(processes.as_deref(), since, limit))
            }
            Ask::GetEnv { process, reveal } => Some(self.environment(client, &process, reveal)),
            Ask::GetPm2List { reveal } => Some(self.pm2_list(client, reveal)),
            Ask::GetDaemon => Some(self.about()),
            Ask::GetSettings { key } => Some(self.show_settings(key.as_deref())),
            Ask::SetSetting { key, value } => Some(self.set_setting(client, &key, &value)),
            Ask::Agent(wish) => Some(self.agent_wish(client, wish)),
            Ask::Token { new } => Some(self.token(client, new)),
            Ask::Export { processes } => Some(self.export(processes.as_deref())),
            Ask::Flush(targets) => Some(self.on_logs(targets, LogWork::Flush)),
            Ask::Rotate(targets) => Some(self.on_logs(targets, LogWork::Rotate)),
            Ask::ReloadLogs(targets) => Some(self.on_logs(targets, LogWork::Reopen)),
            Ask::SendLine { process, line } => Some(self.send_line(&process, &line)),
            Ask::IpcSend { target, message, text } => {
                Some(self.send_message_to(&target, &message, &text))
            }
            Ask::IpcEmit { target, event, args, answer } => {
                self.emit_to(client, tag, &target, (&event, &args), answer)
            }
            Ask::IpcCall { function, args, answer } => {
                self.call_function(client, tag, &function, &args, answer)
            }
            Ask::IpcDisconnect(target) => Some(self.disconnect(&target)),
            Ask::IpeventsSend { kind, to, event, args } => {
                let args = Value::Array(args);
                Some(self.send_by_hub(&kind, to.as_deref(), &event, &args))
            }
            Ask::IpeventsPeers => Some(self.hub_peers()),
            Ask::Trigger(trigger) => self.trigger(client, tag, trigger),
            Ask::Wait { processes, until, timeout } => {
                let from = self.reply_to(Pending::Wait { client, tag, until });
                let request = Request::Wait { targets: processes, until, timeout };
                self.input(Input::Request { from, request });
                None
            }
            Ask::Apply(apply) => self.apply(client, tag, *apply),
            Ask::Save => self.save_now(client, tag),
            Ask::Resurrect => self.resurrect(client, tag),
            Ask::ResurrectPm2 { path, ids } => self.resurrect_pm2(client, tag, &path, &ids),
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

    /// Whether a client came over the network.
    pub(super) fn is_remote(&mut self, client: ConnId) -> bool {
        self.connections.get_mut(client).is_some_and(|found| found.peer.address.is_some())
    }

    pub(super) fn is_owner(&mut self, client: ConnId) -> bool {
        self.connections
            .get_mut(client)
            .is_some_and(|c| c.peer.address.is_none() && c.peer.is_owner())
    }

    fn subscribe(
        &mut self,
        client: ConnId,
        tag: u64,
        events: &[String],
        wish: &Subscription,
        backlog: usize,
    ) {
        let has_lines = |event: &String| matches!(event.as_str(), "log_message" | "all" | "*");
        // Before the client is a subscriber: what is still in the pipes is moved for the backlog,
        // and would come twice.
        let lines = match backlog > 0 && events.iter().any(has_lines) {
            true => self.backlog(wish.processes.as_deref(), backlog),
            false => Vec::new(),
        };
        self.show_all_lines();
        let Some(session) = self.connections.session(client) else { return };
        let answer = session.subscribe(events, wish);
        let fine = matches!(answer, Answer::Data(..));
        self.reply(client, tag, &answer);
        if fine {
            self.begin_subscription(client, lines, events);
        }
    }

    /// A client that names no events gets those that most want.
    pub(super) fn subscribe_by_default(&mut self, client: ConnId) {
        if let Some(session) = self.connections.session(client) {
            session.subscribe_by_default();
            self.begin_subscription(client, Vec::new(), &[]);
        }
    }

    fn unsubscribe(&mut self, client: ConnId, tag: u64, events: Option<&[String]>) {
        let Some(session) = self.connections.session(client) else { return };
        let begins = session.awaits_default();
        let answer = session.unsubscribe(events);
        self.reply(client, tag, &answer);
        if begins {
            self.begin_subscription(client, Vec::new(), &[]);
        }
        self.recount_watchers();
        self.follow_metrics(client, &[]);
    }

    /// How things are, then the lines before, then what happens from now on.
    fn begin_subscription(&mut self, client: ConnId, lines: Vec<Publication>, events: &[String]) {
        self.give(client, |daemon, subscriptions| {
            let mut first = daemon.snapshots(subscriptions);
            first.extend(lines);
            first
        });
        self.recount_watchers();
        self.follow_metrics(client, events);
    }

    fn command(&mut self, client: ConnId, tag: u64, command: Command) -> Option<Answer> {
        let label = match command.targets.as_slice() {
            [one] => one.to_string(),
            [] => String::new(),
            several => format!("{} targets", several.len()),
        };
        let timeout = command.timeout.or(match command.wait {
            Patience::None => None,
            Patience::Online | Patience::Stable => Some(REQUEST_LIMIT),
        });
        let options = Options { wait: command.wait, parallel: command.parallel, timeout };
        let mut warnings = Vec::new();
        let remote = self.is_remote(client);
        let request = match self.request(command, options, remote, &mut warnings) {
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
        remote: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(String, Request), ErrorReply> {
        let Command { action, verb, targets, .. } = command;
        warnings.extend(targets.iter().filter_map(|target| self.ambiguous(target)));
        let acting = match verb {
            Verb::Create { configs, environment, replace, force, source } => {
                let inherited = self.shared_environment(environment)?;
                let apps = self.resolve(&configs, &inherited, source.as_deref(), warnings)?;
                let existing = match (replace, force) {
                    (true, _) => Existing::Replace,
                    (false, true) => Existing::Rename,
                    (false, false) => Existing::Refuse,
                };
                if remote && existing == Existing::Refuse {
                    self.refuse_known(&apps)?;
                }
                return Ok((action, Request::Create { apps, existing, options }));
            }
            Verb::Start => Action::Start,
            Verb::Stop { kill_timeout } => Action::Stop { kill_timeout },
            Verb::Restart { change, kill_timeout } => {
                Action::Restart { change: self.change(change)?, kill_timeout }
            }
            Verb::Reload { change, config } => {
                let plain = change == Change::default();
                if (config.is_some() || (remote && plain))
                    && let Some(apps) =
                        self.changed_definitions(&targets, config.as_ref(), warnings)?
                {
                    let existing = Existing::Apply;
                    return Ok((action, Request::Create { apps, existing, options }));
                }
                Action::Reload { change: self.change(change)? }
            }
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

    /// Who creates from afar means something new, also where the definition is the same.
    fn refuse_known(&self, apps: &[Rc<AppSpec>]) -> Result<(), ErrorReply> {
        let known = |name: &str| self.supervisor.processes().any(|p| *p.spec().name == *name);
        match apps.iter().find(|app| known(&app.name)) {
            None => Ok(()),
            Some(app) => {
                let text = format!("'{}' exists already", app.name);
                let error = ErrorReply::new(Code::ProcessAlreadyExists, text);
                Err(error.with("process", &*app.name))
            }
        }
    }

    /// A word that is both a name and a namespace means the name; said where somebody is left out.
    fn ambiguous(&self, target: &Target) -> Option<String> {
        let Target::Name(word) = target else { return None };
        let is_named = self.supervisor.processes().any(|one| **one.name() == **word);
        let left_out = |one: &Process| **one.namespace() == **word && **one.name() != **word;
        (is_named && self.supervisor.processes().any(left_out))
            .then(|| format!("'{word}' is a name and a namespace: the name is meant"))
    }

    fn change(&mut self, wish: Change) -> Result<Option<Redefinition>, ErrorReply> {
        if wish == Change::default() {
            return Ok(None);
        }
        let inherited = match wish.environment {
            Some(variables) => Some(self.shared_environment(Some(variables))?),
            None => None,
        };
        let env = variables(wish.env.unwrap_or_default())?;
        Ok(Some(Redefinition::Environment(EnvChange { inherited, env, port: wish.port })))
    }

    /// The caller's environment, shared with processes that have the same.
    pub(super) fn shared_environment(
        &self,
        variables_given: Option<Map<String, Value>>,
    ) -> Result<Rc<Environment>, ErrorReply> {
        let given: Environment = match variables_given {
            Some(given) => variables(given)?.into_iter().collect(),
            None => return Ok(self.base_environment.clone()),
        };
        Ok(self.share_environment(given))
    }

    /// An environment, shared with processes that have the same.
    pub(super) fn share_environment(&self, given: Environment) -> Rc<Environment> {
        let known = self.supervisor.processes().map(|process| &process.spec().inherited);
        let known = known.into_iter().find(|known| ***known == given).cloned();
        known.unwrap_or_else(|| given.into())
    }

    /// What new apps have in common with each other and with those in the table is kept once.
    pub(super) fn share(&self, apps: Vec<AppSpec>) -> Vec<Rc<AppSpec>> {
        let mut known: Option<Rc<AppSpec>> =
            self.supervisor.processes().last().map(|process| process.spec().clone());
        let share = |mut app: AppSpec| {
            if let Some(known) = &known {
                app.share(known);
            }
            Rc::clone(known.insert(Rc::new(app)))
        };
        apps.into_iter().map(share).collect()
    }

    pub(super) fn resolve(
        &mut self,
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
        let groups = &mut self.groups;
        warnings.extend(resolved.apps.iter().filter_map(|app| groups.shortcoming(app)));
        match resolved.problems.first() {
            None => Ok(self.share(resolved.apps)),
            Some(problem) => Err(answers::problem(problem)),
        }
    }

    pub(super) fn find(&self, target: &Target) -> Result<Vec<ProcId>, ErrorReply> {
        let found = self.supervisor.resolve(target);
        if found.is_empty() { Err(self.not_found(target)) } else { Ok(found) }
    }

    /// The processes meant; `None`: all.
    pub(super) fn find_all(&self, targets: Option<&[Target]>) -> Result<Vec<ProcId>, ErrorReply> {
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
        sort(&mut ids);
        ids.dedup();
        Ok(ids)
    }

    /// "no process named 'wbe'", with the nearest name there is.
    pub(super) fn not_found(&self, target: &Target) -> ErrorReply {
        let text = target.to_string();
        let names = self.supervisor.processes().map(|process| &*process.spec().name);
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

    fn save_now(&mut self, client: ConnId, tag: u64) -> Option<Answer> {
        if let Some(text) = self.saving.lost {
            return Some(Answer::Error(ErrorReply::new(Code::OperationFailed, text)));
        }
        if !self.saving.enabled {
            let text = "this daemon keeps its state in memory only";
            return Some(Answer::Error(ErrorReply::new(Code::OperationFailed, text)));
        }
        self.dump_pm2();
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
}

/// An answer from a JSON value.
pub fn data(kind: &'static str, value: &Value) -> Answer {
    Answer::Data(kind, value.to_string())
}

/// The refusal of what only the daemon's own user and root may do.
pub fn owner_only(what: &str) -> ErrorReply {
    let text = format!("{what} is for the daemon's own user and root");
    ErrorReply::new(Code::PermissionDenied, text)
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
