//! Sessions of intercom on channels: what programs emit is told, what clients emit is said.

use std::time::Duration;

use serde_json::Value;

use crate::base::{ChildId, ProcId};
use crate::daemon::Daemon;
use crate::daemon::channel::{Line, Unsaid};
use crate::daemon::key::ConnId;
use crate::json::json;
use crate::proto::ipc::dnode::{self, Heard, METHODS, Refusal, Session};
use crate::proto::ipc::{DELIMITER, Message};
use crate::proto::messages::error::ErrorReply;
use crate::proto::messages::event::Inner;
use crate::proto::messages::session::Answer;
use crate::proto::pm2::object::Object;
use crate::supervisor::vocabulary::Target;

impl Daemon {
    /// A frame of a program that speaks intercom.
    pub(super) fn on_dnode(&mut self, id: ChildId, message: &Message<'_>) {
        let Some(channel) = self.channel(id) else { return };
        let mut session = channel.session.take().unwrap_or_else(|| Box::new(Session::new(id.0)));
        let heard = session.hear(message);
        let announces = heard == Heard::Begun && !session.announced;
        if session.is_open() || session.announced {
            session.announced = true;
            channel.session = Some(session);
        }
        match heard {
            Heard::Nothing => {}
            Heard::Begun => {
                if announces {
                    // What does not fit is complained of; the program then hears nothing.
                    let _ = self.say(id, METHODS);
                }
                self.tell_intercom(id, "intercom:rpcready", None, &[]);
            }
            Heard::Event { name, args } => {
                let shown = Value::from(name.as_str()).to_string();
                let inner = self.channel(id).map(|channel| Inner {
                    delimiter: channel.terms.ipc_delimiter.as_deref().unwrap_or(DELIMITER).into(),
                    wildcard: channel.terms.ipc_wildcard,
                    name: name.into(),
                });
                let members = [("event", shown.as_str()), ("args", &args)];
                self.tell_intercom(id, "intercom:event", inner, &members);
            }
            Heard::Answer { to, args } => self.note_reply(id, to, &args),
            Heard::Say(line) => {
                let _ = self.say(id, line.as_bytes());
            }
            Heard::Wrong(reason) => {
                let reason = format!("\"{reason}\"");
                self.tell_intercom(id, "intercom:warn", None, &[("reason", &reason)]);
            }
        }
    }

    /// Tells those who listen, on the bus of PM2, too. `members`: with JSON text.
    pub(super) fn tell_intercom(
        &mut self,
        id: ChildId,
        event: &str,
        inner: Option<Inner>,
        members: &[(&'static str, &str)],
    ) {
        if !self.connections.wants("channel_event") && !self.pm2.has_listeners() {
            return;
        }
        let mut data = Vec::new();
        let mut object = Object::begin(&mut data);
        for (name, json) in members {
            object.raw(name, json.as_bytes());
        }
        object.end();
        let data = String::from_utf8(data).unwrap_or_default();
        self.tell_bus_of(id, event, &data);
        self.tell_channel_of(id, event, inner, |_| data);
    }

    /// `ipc.emit` and `ipc.request`. `answer`: how long the answers are waited for.
    pub(in crate::daemon) fn emit_to(
        &mut self,
        client: ConnId,
        tag: u64,
        target: &Target,
        (event, args): (&Value, &[Value]),
        answer: Option<Duration>,
    ) -> Option<Answer> {
        let Some(patience) = answer else {
            return Some(self.for_each_of(target, |daemon, id| {
                daemon.in_session(id, |it| it.emit(event, args, None), None).map(drop)
            }));
        };
        let ids = match self.find(target) {
            Ok(ids) => ids,
            Err(error) => return Some(Answer::Error(error)),
        };
        let number = match self.begin_question(client, tag, patience) {
            Ok(number) => number,
            Err(answer) => return Some(answer),
        };
        for id in ids {
            let emit = |it: &mut Session| it.emit(event, args, Some(number));
            let asked = self.in_session(id, emit, Some(number));
            self.note_asked(number, id, asked);
        }
        self.end_question();
        None
    }

    /// `ipc.call`: a function that a program has passed.
    pub(in crate::daemon) fn call_function(
        &mut self,
        client: ConnId,
        tag: u64,
        function: &str,
        args: &[Value],
        answer: Option<Duration>,
    ) -> Option<Answer> {
        let Some((generation, _)) = dnode::reference(function) else {
            let text = "'fn' must be what stood in {\"$fn\": ..}";
            return Some(Answer::Error(ErrorReply::argument("fn", text)));
        };
        // Of an earlier run there is nobody to call: the process that runs now is not meant.
        let child = self.children.get(ChildId(generation)).filter(|child| child.lives);
        let Some(id) = child.map(|child| child.process) else {
            return Some(Answer::Error(super::requests::gone()));
        };
        let Some(patience) = answer else {
            return Some(self.for_each_of(&Target::Id(id), |daemon, id| {
                daemon.in_session(id, |it| it.call(function, args, None), None).map(drop)
            }));
        };
        let number = match self.begin_question(client, tag, patience) {
            Ok(number) => number,
            Err(answer) => return Some(answer),
        };
        let asked = self.in_session(id, |it| it.call(function, args, Some(number)), Some(number));
        self.note_asked(number, id, asked);
        self.end_question();
        None
    }

    /// What a process speaks over its channel, and how much has passed.
    pub(in crate::daemon) fn channel_facts(&self, process: ProcId) -> Value {
        let id = self.entries.get(&process).and_then(|entry| entry.child);
        let Some(child) = id.and_then(|id| self.children.get(id)) else { return Value::Null };
        let channel = match &child.channel {
            Some(Line::InUse(channel)) => Some(channel),
            Some(Line::Quiet(..)) => None,
            None => return json!({"state": if child.has_channel { "closed" } else { "none" }}),
        };
        let counts = channel.map(|channel| channel.counts).unwrap_or_default();
        let session = channel.and_then(|channel| channel.session.as_ref());
        let mut speaks = Vec::new();
        if let Some(session) = session {
            speaks.push(if session.is_open() { "intercom" } else { "intercom (not begun)" });
        }
        if id.is_some_and(|id| self.ipevents.has(id)) {
            speaks.push("ipevents");
        }
        if speaks.is_empty() && counts.lines_in > 0 {
            speaks.push("json");
        }
        json!({
            "state": "open", "speaks": speaks,
            "functions": session.map(|session| session.functions()),
            "lines_in": counts.lines_in, "lines_out": counts.lines_out,
            "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out,
            "bad": counts.bad, "too_long": counts.long, "refused": counts.refused,
            "queued": channel.map_or(0, |channel| channel.out.waiting().len()),
        })
    }

    /// Says what `line` makes in the session of a process; gives the child that was told.
    fn in_session(
        &mut self,
        process: ProcId,
        line: impl FnOnce(&mut Session) -> Result<String, Refusal>,
        answer: Option<u64>,
    ) -> Result<ChildId, Unsaid> {
        let child = self.entries.get(&process).and_then(|entry| entry.child);
        let id = child.ok_or(Unsaid::Gone)?;
        let found = self.children.get(id).ok_or(Unsaid::Gone)?;
        let none = if found.has_channel { Unsaid::Gone } else { Unsaid::NoChannel };
        let channel = self.channel(id).ok_or(none)?;
        // What is wrong with the event is told before what is wrong with the program.
        let mut closed = Session::new(id.0);
        let session = channel.session.as_deref_mut().unwrap_or(&mut closed);
        let line = line(session)?;
        let said = self.say(id, line.as_bytes());
        if let (Err(_), Some(number)) = (said, answer)
            && let Some(session) = self.channel(id).and_then(|channel| channel.session.as_mut())
        {
            session.forget(number);
        }
        said.map(|()| id)
    }
}
