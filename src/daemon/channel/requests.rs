//! What clients have programs told, and the answers they wait for.

use std::time::Duration;

use serde_json::Value;

use crate::base::{ChildId, ProcId, Time};
use crate::daemon::Daemon;
use crate::daemon::channel::Unsaid;
use crate::daemon::key::ConnId;
use crate::daemon::requests::data;
use crate::json::json;
use crate::proto::ipc::members;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::Subject;
use crate::proto::messages::request::Trigger;
use crate::proto::messages::session::Answer;
use crate::sorted::{sort, sort_by};
use crate::supervisor::vocabulary::Target;

/// Triggers that wait for an answer.
const MAX_ASKED: usize = 1024;
/// How long an answer to a trigger is waited for, unless the client says otherwise, and at most.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(120);

/// An action that programs were asked to carry out.
#[derive(Debug)]
pub struct Asked {
    client: ConnId,
    tag: u64,
    action: String,
    waiting: Vec<ChildId>,
    results: Vec<Value>,
    failed: usize,
    until: Time,
}

impl Daemon {
    /// `ipc.send`: the same message to all that are meant.
    pub(in crate::daemon) fn send_message_to(
        &mut self,
        target: &Target,
        message: &Value,
    ) -> Answer {
        self.for_each_of(target, |daemon, id| daemon.say_to(id, message))
    }

    /// `ipc.disconnect`: what waits is sent, as far as the program takes it now.
    pub(in crate::daemon) fn disconnect(&mut self, target: &Target) -> Answer {
        self.for_each_of(target, |daemon, id| {
            let child = daemon.entries.get(&id).and_then(|entry| entry.child);
            let child = child.ok_or(Unsaid::Gone)?;
            let found = daemon.children.get(child).ok_or(Unsaid::Gone)?;
            if found.channel.is_none() {
                return Err(if found.has_channel { Unsaid::Gone } else { Unsaid::NoChannel });
            }
            daemon.send_waiting(child);
            daemon.end_channel(child);
            Ok(())
        })
    }

    fn for_each_of(
        &mut self,
        target: &Target,
        mut act: impl FnMut(&mut Self, ProcId) -> Result<(), Unsaid>,
    ) -> Answer {
        let ids = match self.find(target) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut results = Vec::new();
        let mut first = None;
        let mut any = false;
        for id in ids {
            let done = act(self, id);
            let reason = done.err().map(Unsaid::word);
            any |= done.is_ok();
            let Some(entry) = self.entries.get(&id) else { continue };
            let name = &*entry.subject.name;
            if let Err(unsaid) = done {
                first.get_or_insert_with(|| refusal(unsaid, name));
            }
            results
                .push(json!({"id": id, "name": name, "written": done.is_ok(), "reason": reason}));
        }
        match first.filter(|_| !any) {
            Some(error) => Answer::Error(error),
            None => data("ipc_result", &json!({"results": results})),
        }
    }

    /// `trigger`: answered when every program has answered, or has ended, or the time is up.
    pub(in crate::daemon) fn trigger(
        &mut self,
        client: ConnId,
        tag: u64,
        trigger: Trigger,
    ) -> Option<Answer> {
        if self.channels.asked.len() >= MAX_ASKED {
            let text = "too many triggers wait for an answer";
            return Some(Answer::Error(ErrorReply::new(Code::RateLimited, text)));
        }
        let ids = match self.find_all(Some(&trigger.processes)) {
            Ok(ids) => ids,
            Err(error) => return Some(Answer::Error(error)),
        };
        let action = Value::from(trigger.action.as_str());
        let able: Vec<ProcId> =
            ids.iter().copied().filter(|&id| self.has_action(id, &action)).collect();
        if able.is_empty() {
            return Some(Answer::Error(self.no_action(&ids, &trigger.action)));
        }
        let patience = trigger.timeout.unwrap_or(PATIENCE).min(MOST);
        let mut asked = Asked {
            client,
            tag,
            action: trigger.action,
            waiting: Vec::new(),
            results: Vec::new(),
            failed: 0,
            until: self.now.mono.after(patience),
        };
        for id in able {
            let Some(entry) = self.entries.get(&id) else { continue };
            let subject = entry.subject.clone();
            let child = entry.child;
            let message = match &trigger.param {
                None => action.clone(),
                Some(param) => json!({"msg": action, "opts": param, "name": &*subject.name}),
            };
            match (self.say_to(id, &message), child) {
                (Ok(()), Some(child)) => asked.waiting.push(child),
                (Ok(()), None) => {}
                (Err(unsaid), _) => asked.fail(&subject, why(unsaid)),
            }
        }
        self.channels.asked.push(asked);
        self.answer_asked();
        None
    }

    fn no_action(&self, ids: &[ProcId], action: &str) -> ErrorReply {
        let known = ids.iter().filter_map(|id| self.entries.get(id)?.pm2.as_ref());
        let mut known: Vec<&str> = known
            .flat_map(|shown| shown.known().actions.iter())
            .filter_map(|action| action.get("action_name")?.as_str())
            .collect();
        sort(&mut known);
        known.dedup();
        let text = format!("no program has an action '{action}'");
        let error = ErrorReply::new(Code::OperationFailed, text).with("reason", "no-action");
        match known.as_slice() {
            [] => error.with("why", "none of them has announced an action"),
            known => error.with("why", format!("there are: {}", known.join(", "))),
        }
    }

    /// A program has answered an action. `data`: JSON text.
    pub(in crate::daemon) fn note_answer(&mut self, id: ChildId, data: &str) {
        if self.channels.asked.is_empty() {
            return;
        }
        let (mut action, mut answer) = (None, "null");
        for (name, value) in members::members(data) {
            match name {
                "\"action_name\"" => action = members::string(value),
                "\"return\"" => answer = value,
                _ => {}
            }
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        let asked = self.channels.asked.iter_mut().find(|asked| {
            asked.waiting.contains(&id) && action.as_ref().is_none_or(|it| **it == *asked.action)
        });
        let Some(asked) = asked else { return };
        asked.waiting.retain(|&child| child != id);
        // What the library cannot hold is told as text.
        let answer = serde_json::from_str(answer).unwrap_or_else(|_| Value::from(answer));
        asked.results.push(json!({
            "id": subject.id, "name": &*subject.name, "instance": subject.instance,
            "return": answer,
        }));
        self.answer_asked();
    }

    /// A channel has ended: its program answers nothing any more.
    pub(super) fn note_silence(&mut self, id: ChildId) {
        if self.channels.asked.is_empty() {
            return;
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        for asked in self.channels.asked.iter_mut().filter(|it| it.waiting.contains(&id)) {
            asked.waiting.retain(|&child| child != id);
            asked.fail(&subject, why(Unsaid::Gone));
        }
        self.answer_asked();
    }

    /// Gives up on those who have not answered in time.
    pub(in crate::daemon) fn expire_asked(&mut self) {
        let now = self.now.mono;
        for at in 0..self.channels.asked.len() {
            let Some(asked) = self.channels.asked.get_mut(at).filter(|asked| asked.until <= now)
            else {
                continue;
            };
            for child in std::mem::take(&mut asked.waiting) {
                let Some(subject) = self.subject_of_child(child) else { continue };
                if let Some(asked) = self.channels.asked.get_mut(at) {
                    asked.fail(&subject, "it did not answer in time");
                }
            }
        }
        self.answer_asked();
    }

    /// Answers the clients for whom nothing is waited for any more.
    fn answer_asked(&mut self) {
        let done: Vec<Asked> =
            self.channels.asked.extract_if(.., |asked| asked.waiting.is_empty()).collect();
        for asked in done {
            let mut results = asked.results;
            let answer = if asked.failed == results.len() {
                let (name, why) = results.first().map_or((Value::Null, Value::Null), |first| {
                    (first["name"].clone(), first["error"].clone())
                });
                let text = format!("no program has answered '{}'", asked.action);
                let in_time = asked.until > self.now.mono;
                let code = if in_time { Code::OperationFailed } else { Code::Timeout };
                Answer::Error(ErrorReply::new(code, text).with("process", name).with("why", why))
            } else {
                sort_by(&mut results, |one, two| one["id"].as_u64() < two["id"].as_u64());
                data("trigger", &json!({"results": results}))
            };
            self.reply(asked.client, asked.tag, &answer);
        }
    }
}

impl Asked {
    fn fail(&mut self, subject: &Subject, why: &str) {
        self.failed += 1;
        self.results.push(json!({
            "id": subject.id, "name": &*subject.name, "instance": subject.instance,
            "return": null, "error": why,
        }));
    }

    /// When it is given up.
    #[must_use]
    pub fn until(&self) -> Time {
        self.until
    }
}

fn why(unsaid: Unsaid) -> &'static str {
    match unsaid {
        Unsaid::Gone => "it does not run, or has closed its channel",
        Unsaid::NoChannel => "it has no channel",
        Unsaid::Overflow => "it does not read its channel",
        Unsaid::Reserved => "null and messages of Node's own are not sent",
    }
}

fn refusal(unsaid: Unsaid, name: &str) -> ErrorReply {
    if unsaid == Unsaid::Reserved {
        return ErrorReply::argument(
            "message",
            format!("'message' cannot be sent: {}", why(unsaid)),
        );
    }
    ErrorReply::new(Code::OperationFailed, format!("cannot tell '{name}' anything"))
        .with("process", name)
        .with("reason", unsaid.word())
        .with("why", why(unsaid))
}
