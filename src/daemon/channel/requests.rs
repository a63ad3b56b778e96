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

/// What programs were asked.
#[derive(Debug)]
enum What {
    /// To carry out an action.
    Action(String),
    /// To answer an event, or the call of a function, of intercom; it carries this number.
    Question(u64),
}

/// Something that programs were asked, and who waits for the answers.
#[derive(Debug)]
pub struct Asked {
    client: ConnId,
    tag: u64,
    what: What,
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
        text: &str,
    ) -> Answer {
        self.for_each_of(target, |daemon, id| daemon.say_text_to(id, message, text))
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

    pub(super) fn for_each_of(
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
            any |= done.is_ok();
            let Some(entry) = self.entries.get(&id) else { continue };
            if let Err(unsaid) = done {
                first.get_or_insert_with(|| refusal(unsaid, &entry.subject.name));
            }
            results.push(written(&entry.subject, done.err().map(Failed::Unsaid)));
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
            return Some(too_many());
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
            what: What::Action(trigger.action),
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
                (Err(unsaid), _) => asked.fail(&subject, Failed::Unsaid(unsaid)),
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
            let What::Action(asked_for) = &asked.what else { return false };
            asked.waiting.contains(&id) && action.as_ref().is_none_or(|it| **it == **asked_for)
        });
        let Some(asked) = asked else { return };
        asked.waiting.retain(|&child| child != id);
        asked.results.push(json!({
            "id": subject.id, "name": &*subject.name, "instance": subject.instance,
            "return": value(answer),
        }));
        self.answer_asked();
    }

    /// Begins to wait for programs to answer a question of intercom; gives its number.
    ///
    /// # Errors
    ///
    /// Too many wait already.
    pub(super) fn begin_question(
        &mut self,
        client: ConnId,
        tag: u64,
        patience: Duration,
    ) -> Result<u64, Answer> {
        if self.channels.asked.len() >= MAX_ASKED {
            return Err(too_many());
        }
        self.channels.questions += 1;
        let number = self.channels.questions;
        self.channels.asked.push(Asked {
            client,
            tag,
            what: What::Question(number),
            waiting: Vec::new(),
            results: Vec::new(),
            failed: 0,
            until: self.now.mono.after(patience.min(MOST)),
        });
        Ok(number)
    }

    /// A program was asked a question, or could not be.
    pub(super) fn note_asked(&mut self, number: u64, id: ProcId, asked: Result<ChildId, Unsaid>) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(question) = self.channels.question(number) else { return };
        match asked {
            Ok(child) => question.waiting.push(child),
            Err(unsaid) => question.fail(&entry.subject, Failed::Unsaid(unsaid)),
        }
    }

    /// All have been asked.
    pub(super) fn end_question(&mut self) {
        self.answer_asked();
    }

    /// A program has answered a question. `args`: JSON text.
    pub(super) fn note_reply(&mut self, id: ChildId, number: u64, args: &str) {
        let Some(subject) = self.subject_of_child(id) else { return };
        let Some(question) = self.channels.question(number) else { return };
        let before = question.waiting.len();
        question.waiting.retain(|&child| child != id);
        if question.waiting.len() < before {
            let mut result = written(&subject, None);
            result["answer"] = value(args);
            question.results.push(result);
            self.answer_asked();
        }
    }

    /// A channel has ended: its program answers nothing any more.
    pub(super) fn note_silence(&mut self, id: ChildId) {
        if self.channels.asked.is_empty() {
            return;
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        for asked in self.channels.asked.iter_mut().filter(|it| it.waiting.contains(&id)) {
            asked.waiting.retain(|&child| child != id);
            asked.fail(&subject, Failed::Ended);
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
            let number = if let What::Question(number) = asked.what { Some(number) } else { None };
            for child in std::mem::take(&mut asked.waiting) {
                if let Some(number) = number
                    && let Some(session) = self.channel(child).and_then(|it| it.session.as_mut())
                {
                    session.forget(number);
                }
                let Some(subject) = self.subject_of_child(child) else { continue };
                if let Some(asked) = self.channels.asked.get_mut(at) {
                    asked.fail(&subject, Failed::Late);
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
            let in_time = asked.until > self.now.mono;
            let (client, tag) = (asked.client, asked.tag);
            let answer = asked.answer(in_time);
            self.reply(client, tag, &answer);
        }
    }
}

impl Asked {
    fn fail(&mut self, subject: &Subject, failed: Failed) {
        self.failed += 1;
        let result = match self.what {
            What::Action(_) => json!({
                "id": subject.id, "name": &*subject.name, "instance": subject.instance,
                "return": null, "error": failed.why(),
            }),
            What::Question(_) => written(subject, Some(failed)),
        };
        self.results.push(result);
    }

    /// What the client is told in the end.
    fn answer(self, in_time: bool) -> Answer {
        let mut results = self.results;
        let has_failed = self.failed == results.len();
        let kind = match &self.what {
            What::Action(_) => "trigger",
            What::Question(_) => "ipc_result",
        };
        if !has_failed {
            sort_by(&mut results, |one, two| one["id"].as_u64() < two["id"].as_u64());
            return data(kind, &json!({"results": results}));
        }
        let first = results.into_iter().next().unwrap_or_default();
        let error = match &self.what {
            What::Action(action) => {
                let text = format!("no program has answered '{action}'");
                let code = if in_time { Code::OperationFailed } else { Code::Timeout };
                ErrorReply::new(code, text).with("why", first["error"].clone())
            }
            What::Question(_) => {
                let failed = Failed::ALL.into_iter().find(|one| first["reason"] == one.word());
                match failed.unwrap_or(Failed::Ended) {
                    Failed::Unsaid(unsaid) => {
                        return Answer::Error(refusal(
                            unsaid,
                            first["name"].as_str().unwrap_or(""),
                        ));
                    }
                    failed @ (Failed::Ended | Failed::Late) => {
                        let code = if in_time { Code::OperationFailed } else { Code::Timeout };
                        ErrorReply::new(code, "no program has answered")
                            .with("reason", failed.word())
                            .with("why", failed.why())
                    }
                }
            }
        };
        Answer::Error(error.with("process", first["name"].clone()))
    }

    pub(super) fn is_question(&self, number: u64) -> bool {
        matches!(self.what, What::Question(own) if own == number)
    }

    /// When it is given up.
    #[must_use]
    pub fn until(&self) -> Time {
        self.until
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
enum Failed {
    Unsaid(Unsaid),
    /// It was asked, and ended, or closed its channel.
    Ended,
    /// It was asked, and did not answer.
    Late,
}

impl Failed {
    const ALL: [Self; 8] = [
        Self::Unsaid(Unsaid::NoChannel),
        Self::Unsaid(Unsaid::NoSession),
        Self::Unsaid(Unsaid::Overflow),
        Self::Unsaid(Unsaid::Reserved),
        Self::Unsaid(Unsaid::Malformed),
        Self::Unsaid(Unsaid::Gone),
        Self::Ended,
        Self::Late,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Unsaid(unsaid) => unsaid.word(),
            Self::Ended => Unsaid::Gone.word(),
            Self::Late => "timeout",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Unsaid(unsaid) => why(unsaid),
            Self::Ended => why(Unsaid::Gone),
            Self::Late => "it did not answer in time",
        }
    }
}

/// Whether a program was told something.
fn written(subject: &Subject, failed: Option<Failed>) -> Value {
    let written = !matches!(failed, Some(Failed::Unsaid(_)));
    let reason = failed.map(Failed::word);
    json!({"id": subject.id, "name": &*subject.name, "written": written, "reason": reason})
}

/// What the library cannot hold is told as text.
fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::from(json))
}

fn too_many() -> Answer {
    let text = "too many requests wait for programs to answer";
    Answer::Error(ErrorReply::new(Code::RateLimited, text))
}

fn why(unsaid: Unsaid) -> &'static str {
    match unsaid {
        Unsaid::NoSession => "it has not begun to speak intercom",
        Unsaid::Malformed => "the name of an event is a text, or a list of texts",
        Unsaid::Gone => "it does not run, or has closed its channel",
        Unsaid::NoChannel => "it has no channel",
        Unsaid::Overflow => "it does not read its channel",
        Unsaid::Reserved => {
            "null, messages of Node's own and events of intercom's own are not sent"
        }
    }
}

fn refusal(unsaid: Unsaid, name: &str) -> ErrorReply {
    if matches!(unsaid, Unsaid::Reserved | Unsaid::Malformed) {
        return ErrorReply::argument("message", format!("that cannot be sent: {}", why(unsaid)));
    }
    ErrorReply::new(Code::OperationFailed, format!("cannot tell '{name}' anything"))
        .with("process", name)
        .with("reason", unsaid.word())
        .with("why", why(unsaid))
}

/// The run of a program that passed a function has ended.
pub(super) fn gone() -> ErrorReply {
    ErrorReply::new(Code::OperationFailed, "the run that passed this function has ended")
        .with("reason", Unsaid::Gone.word())
}
