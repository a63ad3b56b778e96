//! Requests and replies of PM2's RPC, and the conversation of one client.
//!
//! A request has two arguments: a JSON body and an id. The reply repeats the id, byte for byte, as
//! its last argument; replies may come in any order. `{"type":"methods"}` asks for the list of
//! methods, `{"type":"call","method":M,"args":[...]}` calls one. A reply is `{"args":[...]}` or
//! `{"error":TEXT}`: the presence of `error` decides.
//!
//! Source: pm2-axon-rpc 0.7; observed with pm2 7.0.4.

use serde_json::{Map, Value};

use crate::proto::buffer::{Class, Frame, Inbox, Outbox};
use crate::proto::messages::session::Answer;
use crate::proto::pm2::amp::{self, MAX_MESSAGE, Message, Pair};
use crate::proto::pm2::methods::{Call, Method};
use crate::proto::pm2::object::{self, Object};
use crate::proto::protocol::{Context, Conversation, Demand, Hangup, MESSAGES_PER_TURN};
use crate::sorted::SortedMap;

/// Bytes of replies that wait for one client at most; one reply is always taken.
pub const REPLY_QUEUE: usize = 16 * 1024 * 1024;
/// Calls of one client that are not yet answered; PM2's own makes up to ten at a time.
pub const MAX_IN_PROGRESS: usize = 256;
/// The id of a request, in bytes; those of clients have about ten.
const MAX_ID: usize = 1024;
/// Room for one message, and for what came with its end.
const INBOX: usize = MAX_MESSAGE + 64 * 1024;

/// One client of `rpc.sock`.
#[derive(Debug)]
pub struct Rpc {
    methods: &'static [Method],
    inbox: Inbox,
    /// The ids of calls in progress, by tag.
    in_progress: SortedMap<u64, Box<[u8]>>,
    next_tag: u64,
}

impl Rpc {
    /// A client who may call these.
    #[must_use]
    pub fn new(methods: &'static [Method]) -> Self {
        Self { methods, inbox: Inbox::new(INBOX), in_progress: SortedMap::new(), next_tag: 0 }
    }

    /// Answers the call that carried `tag`; a tag that was answered is ignored.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`] if the client's replies do not fit any more.
    pub fn answer(&mut self, tag: u64, reply: Pair, out: &mut Outbox) -> Result<(), Hangup> {
        match self.in_progress.remove(&tag) {
            Some(id) => send(reply.close_reply(&id), out),
            None => Ok(()),
        }
    }

    /// Lets a call end without an answer, as PM2 does with some.
    pub fn leave_unanswered(&mut self, tag: u64) {
        self.in_progress.remove(&tag);
    }

    fn next(&self) -> Result<Option<Message<'_>>, Hangup> {
        Message::first(self.inbox.pending()).map_err(|_| Hangup::Malformed("a message is too long"))
    }

    /// The call that a body makes, or `None` when it was answered here.
    fn take(&self, body: Value, id: &[u8], out: &mut Outbox) -> Result<Option<Call>, Hangup> {
        if body.get("type").and_then(Value::as_str) == Some("methods") {
            send(methods(self.methods).close_reply(id), out)?;
            return Ok(None);
        }
        let call = if self.in_progress.len() < MAX_IN_PROGRESS {
            call(self.methods, body)
        } else {
            Err("too many calls in progress".to_owned())
        };
        match call {
            Ok(call) => Ok(Some(call)),
            Err(text) => {
                send(error(&text).close_reply(id), out)?;
                Ok(None)
            }
        }
    }
}

impl Conversation for Rpc {
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.inbox.extend(bytes).map_err(|_| Hangup::Malformed("a message is too long"))?;
        self.understand(cx)
    }

    fn understand(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.next()? else { break };
            let length = message.length;
            let (body, id) = request(&message)?;
            if let Some(call) = self.take(body, &id, cx.out)? {
                self.next_tag += 1;
                self.in_progress.insert(self.next_tag, id);
                cx.demands.push((self.next_tag, Demand::Pm2(call)));
            }
            self.inbox.consume(length);
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        !matches!(self.next(), Ok(None))
    }

    fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let reply = match answer {
            Answer::Data(_, text) => result(|out| out.extend_from_slice(text.as_bytes())),
            Answer::Error(reply) => error(&reply.message),
        };
        self.answer(tag, reply, cx.out)
    }
}

fn send(frames: Vec<Frame>, out: &mut Outbox) -> Result<(), Hangup> {
    out.push_all(frames, Class::Reply).map_err(|_| Hangup::TooSlow)
}

/// The body and the id of a request.
fn request(message: &Message<'_>) -> Result<(Value, Box<[u8]>), Hangup> {
    let (Some(body), Some(id)) = (message.arguments().first(), message.arguments().get(1..)) else {
        return Err(Hangup::Malformed("a message without arguments"));
    };
    let Some(id) = id.last() else { return Err(Hangup::Malformed("a request without an id")) };
    if id.is_empty() || id.len() > MAX_ID {
        return Err(Hangup::Malformed("the id of a request is empty or too long"));
    }
    let body = match amp::json(body) {
        // Which refuses what is nested too deep, too.
        Some(text) => {
            serde_json::from_slice(text).map_err(|_| Hangup::Malformed("a request is not JSON"))?
        }
        // Text and raw bytes have no members: neither a method nor arguments.
        None => Value::Null,
    };
    Ok((body, Box::from(*id)))
}

fn call(methods: &[Method], mut body: Value) -> Result<Call, String> {
    let Some(method) = body.get("method").filter(|method| object::is_truthy(method)) else {
        return Err(".method required".to_owned());
    };
    let name = object::text(method);
    let Some(method) = methods.iter().find(|method| method.name == name) else {
        return Err(format!("method \"{name}\" does not exist"));
    };
    let Some(Value::Array(arguments)) = body.get_mut("args") else {
        return Err(".args required".to_owned());
    };
    (method.read)(arguments)
}

/// The list of methods, as pm2-interface builds its `rpc` object from it.
fn methods(methods: &[Method]) -> Pair {
    let mut reply = Pair::reply();
    let mut list = Object::begin(reply.json());
    let mut all = Object::begin(list.key("methods"));
    for method in methods {
        let mut entry = Object::begin(all.key(method.name));
        entry.text("name", method.name);
        let params: Vec<Value> = method.params.split_terminator(' ').map(Value::from).collect();
        entry.value("params", &Value::from(params));
        entry.end();
    }
    all.end();
    list.end();
    reply
}

/// `{"error":TEXT,"stack":TEXT}`.
#[must_use]
pub fn error(text: &str) -> Pair {
    let mut reply = Pair::reply();
    let mut body = Object::begin(reply.json());
    body.text("error", text);
    body.text("stack", &format!("Error: {text}"));
    body.end();
    reply
}

/// `{"args":[RESULT]}`, with the result written by `write`.
pub fn result(write: impl FnOnce(&mut Vec<u8>)) -> Pair {
    let mut reply = Pair::reply();
    reply.json().extend_from_slice(br#"{"args":["#);
    write(reply.json());
    reply.json().extend_from_slice(b"]}");
    reply
}

/// `{"args":[VALUE]}`.
#[must_use]
pub fn value(value: &Value) -> Pair {
    result(|out| object::write(out, value))
}

/// `{"success":true}`, with members of its own.
#[must_use]
pub fn success(mut members: Map<String, Value>) -> Pair {
    members.insert("success".to_owned(), true.into());
    value(&Value::Object(members))
}

/// `{"args":[]}`.
#[must_use]
pub fn nothing() -> Pair {
    result(|_| {})
}
