//! What the supervisor answered, in words for the client that asked.

use serde_json::{Map, Value};

use crate::base::{ExitStatus, Stage};
use crate::config::definition::{definition, without_secrets};
use crate::config::problem::Problem;
use crate::config::units::span;
use crate::config::{envfile, preflight, secrets};
use crate::daemon::postmortem::{self, Cause};
use crate::daemon::requests::{Pending, data};
use crate::daemon::{Daemon, ports};
use crate::json::json;
use crate::json::object;
use crate::proto::messages::entry::ResultEntry;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::millis;
use crate::proto::messages::health::label;
use crate::proto::messages::session::Answer;
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::spec::{AppSpec, Environment};
use crate::supervisor::vocabulary::{
    Action, ErroredReason, Failure, Finding, Input, Instead, Options, Outcome, Refusal, Reply,
    ReplyTo, Request, Until,
};
use crate::supervisor::{Goal, Process};

impl Daemon {
    /// Passes the supervisor's answer on to whoever asked.
    pub(super) fn answer(&mut self, to: ReplyTo, reply: Reply) {
        let Some(pending) = self.pending.remove(&to) else { return };
        match pending {
            Pending::Nobody => {}
            Pending::Outside => self.ordered(reply),
            Pending::Moving(moving) => self.moved(*moving, reply),
            Pending::Pm2 { client, tag, then } => self.pm2_answered(client, tag, then, reply),
            Pending::Stop => self.leave("signal"),
            Pending::Shutdown { client, tag } => {
                self.reply(client, tag, &data("done", &json!({})));
                self.leave("command");
            }
            Pending::Command { client, tag, action, label, started, mut warnings } => {
                // A deletion that was refused or failed takes its wish for the logs with it.
                let supervisor = &self.supervisor;
                let goes = |id| supervisor.process(id).is_some_and(|p| p.goal() == Goal::Gone);
                self.purges.retain(|&id| goes(id));
                let answer = match self.results(reply) {
                    Err(error) => Answer::Error(error),
                    Ok(mut results) => {
                        if self.is_remote(client) {
                            results.iter_mut().for_each(failed_to_start);
                        }
                        warnings.extend(self.warnings_of(&results));
                        let duration = millis(self.now.mono.since(started));
                        match all_failed(&results) {
                            Some(error) => Answer::Error(error),
                            None => data(
                                "command_result",
                                &json!({
                                    "action": action, "process": label,
                                    "ok": results.iter().all(|result| result.ok),
                                    "changed": results.iter().any(|result| result.changed),
                                    "duration": duration, "warnings": warnings,
                                    "results": results,
                                }),
                            ),
                        }
                    }
                };
                self.reply(client, tag, &answer);
            }
            Pending::Wait { client, tag, until } => {
                let answer = match self.results(reply) {
                    Err(error) => Answer::Error(error),
                    Ok(mut results) => {
                        if until == Until::Healthy {
                            self.explain_unhealthy(&mut results);
                        }
                        wait_answer(&mut results, until)
                    }
                };
                self.reply(client, tag, &answer);
            }
            Pending::Resurrect { client, tag } => {
                let count = self.supervisor.processes().count();
                let answer = match self.results(reply) {
                    Err(error) => Answer::Error(error),
                    Ok(results) => data("done", &json!({"processes": count, "results": results})),
                };
                self.reply(client, tag, &answer);
            }
            Pending::Apply { client, tag, steps, prune, mut results } => {
                match self.results(reply) {
                    Err(error) => return self.reply(client, tag, &Answer::Error(error)),
                    Ok(more) => results.extend(more.into_iter().map(|result| json!(result))),
                }
                if prune.is_empty() {
                    let mut plan = steps;
                    plan["results"] = results.into();
                    return self.reply(client, tag, &data("plan", &plan));
                }
                let pending = Pending::Apply { client, tag, steps, prune: Vec::new(), results };
                let from = self.reply_to(pending);
                let request = Request::Command {
                    action: Action::Delete,
                    targets: prune,
                    options: Options::default(),
                };
                self.input(Input::Request { from, request });
            }
        }
    }

    pub(super) fn results(&mut self, reply: Reply) -> Result<Vec<ResultEntry>, ErrorReply> {
        match reply {
            Reply::Outcomes(outcomes) => {
                Ok(outcomes.into_iter().map(|outcome| self.result(outcome)).collect())
            }
            Reply::Refused(refusal) => Err(refused(refusal)),
            Reply::Stopped => Ok(Vec::new()),
        }
    }

    fn result(&mut self, outcome: Outcome) -> ResultEntry {
        let error = outcome.failure.clone().map(|failure| self.failure(&outcome, failure));
        let name = match &outcome.target {
            Some(target) if outcome.process.is_none() => target.to_string(),
            Some(_) | None => outcome.name,
        };
        let process = outcome.process.and_then(|id| self.supervisor.process(id));
        ResultEntry {
            id: outcome.process,
            name,
            instance: outcome.instance,
            ok: error.is_none(),
            changed: outcome.changed,
            status: outcome.status.name(),
            ready: outcome.ready,
            unready: process.filter(|it| it.is_online() && !outcome.ready).map(unready),
            pid: outcome.pid,
            was_pid: outcome.was_pid,
            killed: outcome.killed,
            kill_signal: process.map(|process| process.spec().kill_signal),
            exit_code: outcome.exit.and_then(ExitStatus::code),
            signal: outcome.exit.and_then(ExitStatus::signal),
            took: millis(outcome.took),
            restarted_instead: outcome.restarted_instead.is_some(),
            restarted_because: outcome.restarted_instead.map(|why| match why {
                Instead::NoReadiness => "a reload needs wait_ready",
                Instead::SamePort => "old and new cannot share the port",
            }),
            next_run: outcome.process.and_then(|id| self.supervisor.next_run(id)).map(timestamp),
            port: process.and_then(Process::port),
            error,
        }
    }

    /// The texts of the error catalogue.
    pub(super) fn failure(&mut self, outcome: &Outcome, failure: Failure) -> ErrorReply {
        let name = &outcome.name;
        match failure {
            Failure::NotFound => match &outcome.target {
                Some(target) => self.not_found(target),
                None => ErrorReply::new(Code::ProcessNotFound, "no such process"),
            },
            Failure::Spawn(error) => {
                let spec = outcome.process.and_then(|id| self.supervisor.process(id));
                match spec {
                    Some(process) if error.stage == Stage::Port => {
                        let now = self.now.mono;
                        let pause = process.retry_at().map(|at| millis(at.since(now)));
                        self.no_port(process, error)
                            .with("restart_in", pause)
                            .with("unstable", process.unstable_restarts())
                            .with("max_restarts", process.spec().max_restarts)
                    }
                    Some(process) => problem(&preflight::explain(process.spec(), error))
                        .with("errno", crate::sys::errno_name(error.errno))
                        .with("stage", error.stage.name()),
                    None => ErrorReply::new(Code::ProcessStartFailed, "it could not be started"),
                }
            }
            Failure::Died { status, uptime, restart_in, unstable } => {
                let lines = outcome.process.map(|id| self.last_output(id)).unwrap_or_default();
                let maximum = outcome
                    .process
                    .and_then(|id| self.supervisor.process(id))
                    .map(|process| process.spec().max_restarts);
                let cause = postmortem::cause(&lines);
                let why = match cause {
                    Some(Cause::PortInUse(port)) => ports::in_use(port, self.holder(port).as_ref()),
                    Some(Cause::PortForbidden(port)) => {
                        format!("not permitted to listen on port {port}")
                    }
                    None => format!("{status} after {}", short(uptime)),
                };
                let reply = died(format!("{name} did not stay up: {why}"), status, &lines);
                let reply = match cause {
                    Some(Cause::PortForbidden(_)) => reply.with("hint", "setcap, or a higher port"),
                    Some(Cause::PortInUse(_)) | None => reply,
                };
                reply
                    .with("uptime", millis(uptime))
                    .with("restart_in", restart_in.map(millis))
                    .with("unstable", unstable)
                    .with("max_restarts", maximum)
            }
            Failure::GaveUp { status, runs, over } => {
                let lines = outcome.process.map(|id| self.last_output(id)).unwrap_or_default();
                let how = status.map_or_else(|| "it does not start".to_owned(), |s| s.to_string());
                let message =
                    format!("{name} gave up after {runs} short runs in {}: {how}", short(over));
                died(message, status.unwrap_or(ExitStatus::Unknown), &lines)
                    .with("gave_up", true)
                    .with("hint", format!("fix it, then: pmd restart {name}"))
            }
            Failure::NotReady => {
                let after = outcome.process.and_then(|id| self.supervisor.process(id));
                let after = after.map_or(outcome.took, |p| p.spec().listen_timeout);
                ErrorReply::new(
                    Code::Timeout,
                    format!("{name}: the new one was not ready after {}", short(after)),
                )
                .with("why", "the old one stays")
                .with("hint", "--listen-timeout 10s")
            }
            Failure::Unstoppable { left } => {
                let stat = outcome.pid.and_then(|pid| crate::sys::proc::stat(pid).ok().flatten());
                let what = match stat {
                    Some(stat) => format!("survived SIGKILL (state {})", char::from(stat.state)),
                    None => format!("{left} of its processes survived SIGKILL"),
                };
                ErrorReply::new(
                    Code::Timeout,
                    format!("{name} did not stop within {} and {what}", short(outcome.took)),
                )
            }
            Failure::NotRunning => {
                ErrorReply::new(Code::OperationFailed, format!("{name} is not running"))
            }
            Failure::Deleted => {
                ErrorReply::new(Code::OperationFailed, format!("{name} was deleted meanwhile"))
            }
            Failure::Superseded => ErrorReply::new(
                Code::OperationFailed,
                format!("{name}: another command came in between"),
            ),
            Failure::Dependency(other) => ErrorReply::new(
                Code::ProcessStartFailed,
                format!("{name} was not started: '{other}', which it depends on, failed"),
            ),
            Failure::TimedOut => {
                let text = format!("{name}: time ran out after {}", short(outcome.took));
                ErrorReply::new(Code::Timeout, text).with("why", "the action goes on")
            }
            Failure::Invalid(text) => ErrorReply::new(Code::InvalidArgument, text),
        }
    }

    /// Who waited for health in vain is told what was seen instead.
    fn explain_unhealthy(&self, results: &mut [ResultEntry]) {
        for result in results {
            let process = result.id.and_then(|id| self.supervisor.process(id));
            if let (Some(error), Some(seen)) = (&mut result.error, process.and_then(unhealthy))
                && error.code == Code::Timeout
            {
                error.message = format!("{} {seen}", result.name);
                error.details.remove("why");
            }
        }
    }

    fn warnings_of(&self, results: &[ResultEntry]) -> Vec<String> {
        results
            .iter()
            .filter(|result| result.ok)
            .filter_map(|result| Some(format!("{} {}", result.name, result.unready.as_ref()?)))
            .chain(self.untold_troubles(results))
            .chain(self.saving.failure.iter().map(|why| format!("cannot save state: {why}")))
            .chain(self.saving.lost.map(str::to_owned))
            .collect()
    }
}

/// What is said of a process that runs and has not become ready.
fn unready(process: &Process) -> String {
    unhealthy(process).unwrap_or_else(|| {
        format!("is running but not ready after {}", short(process.running_spec().listen_timeout))
    })
}

/// `is running but unhealthy: GET http://127.0.0.1:3000/: connection refused (5 tries)`; `None`: the
/// last check did not fail.
fn unhealthy(process: &Process) -> Option<String> {
    let health = process.health()?;
    let (_, probe) = health.last().filter(|(_, probe)| probe.found != Finding::Passed)?;
    let check = &process.running_spec().health()?.check;
    let label = label(check, process.serving_port());
    let error = probe.error.as_deref().unwrap_or("failed");
    let tries = match health.tries() {
        1 => "1 try".to_owned(),
        tries => format!("{tries} tries"),
    };
    Some(format!("is running but unhealthy: {label}: {error} ({tries})"))
}

fn died(message: String, status: ExitStatus, lines: &[String]) -> ErrorReply {
    ErrorReply::new(Code::ProcessStartFailed, message)
        .with("exit_code", status.code())
        .with("signal", status.signal().map(|signal| signal.to_string()))
        .with("status", status.to_string())
        .with("last_output", lines)
}

/// Who cannot look at this host's files is not told what is wrong with its own.
fn failed_to_start(result: &mut ResultEntry) {
    if let Some(error) = &mut result.error
        && error.details.contains_key("errno")
    {
        error.code = Code::ProcessStartFailed;
    }
}

/// Every target failed: the reply is an error, with the first reason.
fn all_failed(results: &[ResultEntry]) -> Option<ErrorReply> {
    if results.is_empty() || results.iter().any(|result| result.ok) {
        return None;
    }
    let first = results.first()?.error.clone()?;
    Some(first.with("results", json!(results)))
}

fn wait_answer(results: &mut [ResultEntry], until: Until) -> Answer {
    let wanted = match until {
        Until::Online => "online",
        Until::Ready => "ready",
        Until::Healthy => "healthy",
        Until::Stopped => "stopped",
        Until::Done => "done",
    };
    for result in &mut *results {
        let after = short(std::time::Duration::from_millis(result.took));
        if let Some(error) = &mut result.error
            && error.code == Code::Timeout
            && error.details.remove("why").is_some()
        {
            // Nothing goes on: somebody only looked.
            error.message =
                format!("{} is {}, not {wanted}, after {after}", result.name, result.status);
        }
    }
    match results.iter().find_map(|result| result.error.clone()) {
        Some(error) => Answer::Error(error.with("results", json!(*results))),
        None => {
            let done = until == Until::Done;
            data("done", &json!({"processes": results.len(), "results": *results, "done": done}))
        }
    }
}

/// Why nothing was attempted.
pub fn refused(refusal: Refusal) -> ErrorReply {
    match refusal {
        Refusal::NameTaken { name, fields } => {
            let list = fields.join(", ");
            ErrorReply::new(
                Code::ProcessAlreadyExists,
                format!("'{name}' exists with another definition ({list})"),
            )
            .with("process", name)
            .with("fields", fields)
            .with("hint", "--replace, or --name other")
        }
        Refusal::ShuttingDown => ErrorReply::new(Code::ShuttingDown, "the daemon is going down"),
        Refusal::Invalid(text) => ErrorReply::new(Code::InvalidConfig, text),
    }
}

/// A configuration problem as an error reply.
pub fn problem(problem: &Problem) -> ErrorReply {
    let mut reply = ErrorReply::new(code_of(problem), problem.message.clone());
    if let Some(why) = &problem.why {
        reply = reply.with("why", why.as_str());
    }
    if let Some(hint) = &problem.hint {
        reply = reply.with("hint", hint.as_str());
    }
    reply
}

fn code_of(problem: &Problem) -> Code {
    match problem.kind.code() {
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "PROCESS_START_FAILED" => Code::ProcessStartFailed,
        "OPERATION_FAILED" => Code::OperationFailed,
        _ => Code::InvalidConfig,
    }
}

/// Why a process is errored, as a sentence.
pub fn errored_text(process: &Process) -> Option<String> {
    Some(match process.errored()? {
        ErroredReason::MaxRestarts { last } => {
            let how = last.map_or_else(|| "it does not start".to_owned(), |s| s.to_string());
            format!("gave up: {how}")
        }
        ErroredReason::SpawnFailed(error) => preflight::explain(process.spec(), error).message,
        ErroredReason::Unstoppable { left } => {
            format!("{left} of its processes survived SIGKILL")
        }
    })
}

/// What an app's children are given, secrets masked unless revealed.
pub fn environment_of(spec: &AppSpec, reveal: bool) -> Map<String, Value> {
    object(whole_environment(spec).iter().map(|(name, value)| {
        let text = if reveal {
            value.to_owned()
        } else {
            secrets::mask(name, value, &spec.secret_env).into_owned()
        };
        (name, Value::from(text))
    }))
}

/// What an app's children are given: what it inherits, its environment files, its own variables.
pub fn whole_environment(spec: &AppSpec) -> Environment {
    let read = |path: &std::path::PathBuf| envfile::read(path, "").unwrap_or_default();
    let files: Vec<(String, String)> = spec.env_file.iter().flat_map(read).collect();
    let files = files.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    spec.inherited.iter().chain(files).chain(spec.env.iter()).collect()
}

/// The fields in which two definitions differ, with the old and the new value, secrets masked.
pub fn changes(old: &AppSpec, new: &AppSpec, fields: &[&'static str]) -> Vec<Value> {
    let shown = |spec| definition(&without_secrets(spec));
    let (old_shown, new_shown) = (shown(old), shown(new));
    let (old, new) = (definition(old), definition(new));
    let mut changes: Vec<Value> = Vec::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        if old.get(key) != new.get(key) {
            let (old, new) = (old_shown.get(key), new_shown.get(key));
            changes.push(json!({"field": key, "old": old, "new": new}));
        }
    }
    if changes.is_empty() {
        changes.extend(fields.iter().map(|field| json!({"field": field})));
    }
    changes
}

/// `41 ms`, `3 s`.
fn short(duration: std::time::Duration) -> String {
    span(duration)
}
