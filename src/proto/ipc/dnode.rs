//! A session of intercom: one emitter mirrored on both sides of a channel with dnode.
//!
//! ```text
//! > {"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"0":["0","emit"]},"links":[]}
//! < the same
//! > {"method":0,"arguments":["question",{"n":1},"[Function]"],"callbacks":{"1":["2"]},"links":[]}
//! < {"method":1,"arguments":[null,42],"callbacks":{},"links":[]}
//! ```
//!
//! Each side exports one function, `emit`, and whatever functions it passes in arguments; a number
//! as the `method` calls what the receiver exported under it. Nothing is acknowledged, and nothing
//! is ever sent before the program has begun, unless it is configured so.
//!
//! For clients a function of the program is `{"$fn":"<generation>:<number>"}` and a back reference
//! `{"$ref":[path]}`, from the root of the arguments. What the program sends is never parsed into
//! values: only what is at these paths is replaced.
//!
//! Knows no socket and no clock. Source: dnode-protocol 0.2.2 and 0.0.12, intercom 0.5.1, observed.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::Value;

use crate::proto::ipc::graft::{Graft, path, path_text};
use crate::proto::ipc::members::{after_comma, elements, members, quote, string, value};
use crate::proto::ipc::{DELIMITER, Message};

/// What pmd exports: `emit`, under number 0.
pub const METHODS: &[u8] = b"{\"method\":\"methods\",\"arguments\":[{\"emit\":\"[Function]\"}],\
    \"callbacks\":{\"0\":[\"0\",\"emit\"]},\"links\":[]}\n";

/// Functions of the program that are remembered; the oldest is forgotten.
const MAX_FUNCTIONS: usize = 1024;
/// Functions that the program was given and has not called.
const MAX_EXPORTS: usize = 256;

/// Events of intercom's own: none of them is ever sent or told.
const RESERVED: [&str; 13] = [
    "error",
    "stdout",
    "stderr",
    "warn",
    "exit",
    "close",
    "start",
    "restart",
    "stop",
    "rpcready",
    "rpcexit",
    "disconnect",
    "disconnected",
];

/// The two ends' functions.
#[derive(Debug, Default)]
pub struct Session {
    /// The run of the program, so that a function of an earlier one is known as such.
    generation: u64,
    /// The program was told what pmd exports.
    pub announced: bool,
    /// The number of the program's `emit`; `None`: it has not begun.
    emit: Option<i64>,
    /// Numbers of its functions, the one mentioned last at the end.
    functions: VecDeque<i64>,
    exports: Vec<(i64, Export)>,
    /// The number that was given last.
    last: i64,
}

/// What happens when the program calls a function it was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Export {
    /// Somebody waits for it.
    Answer(u64),
    /// It is one of its own.
    Function(i64),
}

/// What a frame of the program means.
#[derive(Debug, Eq, PartialEq)]
pub enum Heard {
    Nothing,
    /// It has begun; it is to be told what pmd exports, unless it was.
    Begun,
    /// `args`: a JSON array.
    Event {
        name: String,
        args: String,
    },
    /// Somebody's question is answered. `args`: a JSON array.
    Answer {
        to: u64,
        args: String,
    },
    /// To be said to the program: it called a function of its own.
    Say(String),
    Wrong(&'static str),
}

/// Why something cannot be said to a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It has not begun.
    NoSession,
    /// The function is of an earlier run, or was forgotten.
    Gone,
    /// It was given too many functions that it has not called.
    Overflow,
    /// The event is one of intercom's own.
    Reserved,
    /// The name of the event, or a reference, is none.
    Malformed,
}

impl Session {
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// Whether events pass.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.emit.is_some()
    }

    /// How many functions of the program are known.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Understands a frame: a message of the class [`Dnode`](crate::proto::ipc::Class::Dnode).
    pub fn hear(&mut self, frame: &Message<'_>) -> Heard {
        let (Some(method), Some(arguments)) = (frame.method, frame.arguments) else {
            return Heard::Wrong("malformed");
        };
        match string(method).as_deref() {
            Some("methods") => self.begin(frame.callbacks.unwrap_or_default()),
            Some("cull") => {
                let culled = |id: i64| elements(arguments).any(|one| one.parse() == Ok(id));
                self.exports.retain(|(id, _)| !culled(*id));
                Heard::Nothing
            }
            Some("emit") => self.event(frame, arguments),
            Some(_) => Heard::Wrong("unknown-method"),
            None if method.parse() == Ok(0) => self.event(frame, arguments),
            None => {
                let called = method.parse().ok();
                let at = self.exports.iter().position(|(id, _)| Some(*id) == called);
                match at.map(|at| (at, self.exports[at].1)) {
                    None => Heard::Wrong("unknown-method"),
                    Some((at, Export::Answer(to))) => {
                        self.exports.remove(at);
                        match self.told(frame, arguments, 0) {
                            Some(args) => Heard::Answer { to, args },
                            None => Heard::Wrong("malformed"),
                        }
                    }
                    Some((_, Export::Function(id))) => self.pass_on(id, frame, arguments),
                }
            }
        }
    }

    fn begin(&mut self, callbacks: &str) -> Heard {
        let is_emit = |json| path(json).is_some_and(|path| path == ["0", "emit"]);
        let found = members(callbacks).filter(|(_, json)| is_emit(json));
        let emit = found.filter_map(|(id, _)| string(id)?.parse().ok()).last();
        match (self.emit, emit) {
            (_, None) => {
                self.emit = None;
                Heard::Wrong("no-emit")
            }
            (None, Some(_)) => {
                self.emit = emit;
                Heard::Begun
            }
            (Some(_), Some(_)) => {
                self.emit = emit;
                Heard::Nothing
            }
        }
    }

    fn event(&mut self, frame: &Message<'_>, arguments: &str) -> Heard {
        let inside = arguments.get(1..).unwrap_or_default();
        let Some((name, rest)) = value(after_comma(inside)) else {
            return Heard::Wrong("no-name");
        };
        let name = match string(name) {
            Some(name) => name.into_owned(),
            None => {
                let words: Option<Vec<_>> = elements(name).map(string).collect();
                let words = words.filter(|words| !words.is_empty());
                let Some(words) = words else { return Heard::Wrong("no-name") };
                words.join(DELIMITER)
            }
        };
        if is_reserved(&name) {
            return Heard::Wrong("reserved");
        }
        let args = format!("[{}", after_comma(rest));
        match self.told(frame, &args, 1) {
            Some(args) => Heard::Event { name, args },
            None => Heard::Wrong("malformed"),
        }
    }

    /// Arguments as clients see them. `skipped`: so many of the frame's are not in `args`.
    fn told(&mut self, frame: &Message<'_>, args: &str, skipped: usize) -> Option<String> {
        let mut graft = Graft::default();
        let shifted = |json| {
            let mut path = path(json)?;
            if skipped > 0 {
                let first = path.first()?.parse::<usize>().ok()?.checked_sub(skipped)?;
                path[0] = Cow::Owned(first.to_string());
            }
            Some(path)
        };
        for (id, json) in members(frame.callbacks.unwrap_or_default()) {
            let id = string(id).and_then(|id| id.parse().ok());
            let (Some(id), Some(path)) = (id, shifted(json)) else { continue };
            self.remember(id);
            graft.put(path, format!("{{\"$fn\":\"{}:{id}\"}}", self.generation));
            if graft.is_too_much() {
                return None;
            }
        }
        for link in elements(frame.links.unwrap_or_default()) {
            if let Some((from, to)) = ends(link)
                && let (Some(from), Some(to)) = (shifted(from), shifted(to))
            {
                graft.refer(to, from);
            }
            if graft.is_too_much() {
                return None;
            }
        }
        Some(graft.apply(args))
    }

    fn remember(&mut self, id: i64) {
        self.functions.retain(|known| *known != id);
        if self.functions.len() >= MAX_FUNCTIONS {
            self.functions.pop_front();
        }
        self.functions.push_back(id);
    }

    /// The program calls a function of its own that it was given: functions in the arguments become
    /// ours, since it is we who call.
    fn pass_on(&mut self, id: i64, frame: &Message<'_>, arguments: &str) -> Heard {
        let mut callbacks = Vec::new();
        for (theirs, path) in members(frame.callbacks.unwrap_or_default()) {
            let Some(theirs) = string(theirs).and_then(|id| id.parse().ok()) else { continue };
            let Ok(ours) = self.export(Export::Function(theirs)) else {
                return Heard::Wrong("too-many-functions");
            };
            callbacks.push(format!("\"{ours}\":{path}"));
        }
        let links = frame.links.filter(|links| links.starts_with('['));
        Heard::Say(call(id, arguments, &callbacks, links.unwrap_or("[]")))
    }

    /// An event for the program. `answer`: who waits for the call of a function that is appended to
    /// the arguments.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing has changed.
    pub fn emit(
        &mut self,
        name: &Value,
        args: &[Value],
        answer: Option<u64>,
    ) -> Result<String, Refusal> {
        let joined = match name {
            Value::String(name) => name.clone(),
            Value::Array(words) if !words.is_empty() => {
                let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
                words.ok_or(Refusal::Malformed)?.join(DELIMITER)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => return Err(Refusal::Malformed),
        };
        if is_reserved(&joined) {
            return Err(Refusal::Reserved);
        }
        let emit = self.emit.ok_or(Refusal::NoSession)?;
        self.call_with(emit, Some(name.to_string()), args, answer)
    }

    /// Calls a function of the program, by its reference.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing has changed.
    pub fn call(
        &mut self,
        function: &str,
        args: &[Value],
        answer: Option<u64>,
    ) -> Result<String, Refusal> {
        let id = self.known(function)?;
        self.call_with(id, None, args, answer)
    }

    fn call_with(
        &mut self,
        id: i64,
        head: Option<String>,
        args: &[Value],
        answer: Option<u64>,
    ) -> Result<String, Refusal> {
        let (before, skipped) = (self.exports.len(), usize::from(head.is_some()));
        let mut out = Out { skipped, ..Out::default() };
        let done = self.arguments(&mut out, head, args, answer);
        if let Err(refusal) = done {
            self.exports.truncate(before);
            return Err(refusal);
        }
        Ok(call(id, &out.text, &out.callbacks, &format!("[{}]", out.links.join(","))))
    }

    fn arguments<'v>(
        &mut self,
        out: &mut Out<'v>,
        head: Option<String>,
        args: &'v [Value],
        answer: Option<u64>,
    ) -> Result<(), Refusal> {
        out.text.push('[');
        out.text.extend(head);
        for (at, arg) in args.iter().enumerate() {
            out.comma();
            out.at.push(Cow::Owned((at + out.skipped).to_string()));
            self.write(arg, out)?;
            out.at.pop();
        }
        if let Some(answer) = answer {
            out.comma();
            out.at.push(Cow::Owned((args.len() + out.skipped).to_string()));
            let ours = self.export(Export::Answer(answer))?;
            out.function(ours);
        }
        out.text.push(']');
        Ok(())
    }

    fn write<'v>(&mut self, value: &'v Value, out: &mut Out<'v>) -> Result<(), Refusal> {
        match value {
            Value::Object(object) => {
                let sole = object.iter().next().filter(|_| object.len() == 1);
                match sole.map(|(name, value)| (name.as_str(), value)) {
                    Some(("$fn", Value::String(function))) => {
                        let theirs = self.known(function)?;
                        let ours = self.export(Export::Function(theirs))?;
                        out.function(ours);
                    }
                    Some(("$ref", Value::Array(steps))) => out.link(steps)?,
                    _ => {
                        out.text.push('{');
                        for (name, value) in object {
                            out.comma();
                            out.text.push_str(&quote(name));
                            out.text.push(':');
                            out.at.push(Cow::Borrowed(name));
                            self.write(value, out)?;
                            out.at.pop();
                        }
                        out.text.push('}');
                    }
                }
            }
            Value::Array(items) => {
                out.text.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.comma();
                    out.at.push(Cow::Owned(at.to_string()));
                    self.write(item, out)?;
                    out.at.pop();
                }
                out.text.push(']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                out.text.push_str(&value.to_string());
            }
        }
        Ok(())
    }

    /// A number under which the program may call. A function of its own makes room for another.
    fn export(&mut self, export: Export) -> Result<i64, Refusal> {
        if self.exports.len() >= MAX_EXPORTS {
            let is_own = |(_, export): &(i64, Export)| matches!(export, Export::Function(_));
            let at = self.exports.iter().position(is_own).ok_or(Refusal::Overflow)?;
            self.exports.remove(at);
        }
        self.last += 1;
        self.exports.push((self.last, export));
        Ok(self.last)
    }

    /// Nobody waits for this answer any more.
    pub fn forget(&mut self, answer: u64) {
        self.exports.retain(|(_, export)| *export != Export::Answer(answer));
    }

    fn known(&self, function: &str) -> Result<i64, Refusal> {
        let (generation, id) = reference(function).ok_or(Refusal::Malformed)?;
        let is_known = generation == self.generation && self.functions.contains(&id);
        if is_known { Ok(id) } else { Err(Refusal::Gone) }
    }
}

/// The run and the number in a reference to a function; `None`: it is none.
#[must_use]
pub fn reference(function: &str) -> Option<(u64, i64)> {
    let (generation, id) = function.split_once(':')?;
    Some((generation.parse().ok()?, id.parse().ok()?))
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Where a link comes from and where it leads to.
fn ends(link: &str) -> Option<(&str, &str)> {
    let (mut from, mut to) = (None, None);
    for (name, value) in members(link) {
        match name {
            "\"from\"" => from = Some(value),
            "\"to\"" => to = Some(value),
            _ => {}
        }
    }
    from.zip(to)
}

fn call(id: i64, arguments: &str, callbacks: &[String], links: &str) -> String {
    let callbacks = callbacks.join(",");
    format!(
        "{{\"method\":{id},\"arguments\":{arguments},\"callbacks\":{{{callbacks}}},\"links\":{links}}}\n"
    )
}

/// Arguments on their way to the program.
#[derive(Default)]
struct Out<'v> {
    text: String,
    callbacks: Vec<String>,
    links: Vec<String>,
    /// Where the next value stands.
    at: Vec<Cow<'v, str>>,
    /// Arguments before those of the client.
    skipped: usize,
}

impl Out<'_> {
    fn comma(&mut self) {
        if !self.text.ends_with(['[', '{']) {
            self.text.push(',');
        }
    }

    fn function(&mut self, ours: i64) {
        self.text.push_str("\"[Function]\"");
        self.callbacks.push(format!("\"{ours}\":{}", path_text(&self.at)));
    }

    fn link(&mut self, steps: &[Value]) -> Result<(), Refusal> {
        let mut from = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            from.push(match (step, at) {
                (Value::Number(_), _) | (Value::String(_), 0) => {
                    let text = step.as_str().map_or_else(|| step.to_string(), str::to_owned);
                    let number: usize = text.parse().map_err(|_| Refusal::Malformed)?;
                    let shift = if at == 0 { self.skipped } else { 0 };
                    Cow::Owned((number + shift).to_string())
                }
                (Value::String(step), _) => Cow::Borrowed(step.as_str()),
                _ => return Err(Refusal::Malformed),
            });
        }
        if from.is_empty() {
            return Err(Refusal::Malformed);
        }
        self.text.push_str("\"[Circular]\"");
        let (from, to) = (path_text(&from), path_text(&self.at));
        self.links.push(format!("{{\"from\":{from},\"to\":{to}}}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
