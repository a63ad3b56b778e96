//! What PM2's daemon tells on its bus: an event's name, then one JSON object.
//!
//! | event                        | members                                                        |
//! |------------------------------|----------------------------------------------------------------|
//! | `process:event`              | `event`, `manually`, `process` (`pm2_env` without `env`), `at` |
//! | `log:out`, `log:err`         | `process`, `at`, `data`: what was written, as it came          |
//! | `log:PM2`                    | the same, of the daemon itself                                 |
//! | a message's `type`           | `process`, `at`, `data`                                        |
//! | `process:msg`                | `process`, `at`, `raw`: a message without `type` or `data`     |
//! | `pm2:kill`                   | `status`, `msg`                                                |
//!
//! Clients that were written for PM2 before 0.12 look for `pm_id`, `pm2_env` and `msg` in every
//! object, and for the events `process:online`, `process:exit`, `process:exit:overlimit` and a
//! message's own `type`: they get them too.
//!
//! Source: pm2 7.0.4, observed; 0.6 to 0.8 for what is older.

use crate::base::{ExitStatus, Stream, WallTime};
use crate::proto::buffer::{Class, Frame, Outbox};
use crate::proto::ipc::{Message, members};
use crate::proto::messages::channel::speaker;
use crate::proto::messages::event::Subject;
use crate::proto::pm2::amp::Pair;
use crate::proto::pm2::object::Object;
use crate::proto::pm2::view::{self, Fixed, Known};
use crate::proto::protocol::{Context, Conversation, Hangup};
use crate::supervisor::Process;

/// Events that no program may have told in the daemon's name.
const RESERVED: [&str; 5] =
    ["process:event", "process:online", "process:exit", "process:exit:overlimit", "pm2:kill"];
/// Messages that are meant for the daemon and not told.
const CONSUMED: [&str; 4] =
    ["axm:action", "axm:monitor", "axm:option:configuration", "axm:option:setPID"];

/// Bytes of what programs say and write that wait for one client at most: a burst of some ten
/// thousand messages, which a program can say faster than a client understands them. What does not
/// fit is left out.
pub const QUEUE: usize = 4 * 1024 * 1024;
/// The same of what happens to processes. With one that does not fit the client is given up, and
/// connects anew by itself.
pub const NEWS_QUEUE: usize = 1024 * 1024;

/// One client of `pub.sock`: it is told everything, and asks nothing.
#[derive(Debug)]
pub struct Bus;

impl Bus {
    /// Passes on one event.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`]; see [`NEWS_QUEUE`].
    pub fn tell(frame: Frame, class: Class, out: &mut Outbox) -> Result<(), Hangup> {
        match (out.push(frame, class), class) {
            (Err(_), Class::Reply) => Err(Hangup::TooSlow),
            (Ok(()), _) | (Err(_), Class::Event) => Ok(()),
        }
    }
}

impl Conversation for Bus {
    /// Clients send nothing; what comes is thrown away.
    fn receive(&mut self, _bytes: &[u8], _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }
}

/// Whether a message of this type goes to the bus.
#[must_use]
pub fn is_told(kind: &str) -> bool {
    !RESERVED.contains(&kind) && !CONSUMED.contains(&kind) && !kind.starts_with("log:")
}

/// A process as the events about it show it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub process: &'a Process,
    pub fixed: &'a Fixed,
    pub known: &'a Known,
}

/// How a child ended, for those who ask why (D19).
#[derive(Clone, Debug)]
pub struct End {
    pub status: ExitStatus,
    /// In milliseconds.
    pub uptime: u64,
    /// The last lines of stderr, newest last.
    pub last_output: Vec<String>,
}

/// A `process:event`. `manually`: a client asked for it.
#[must_use]
pub fn process_event(
    shown: Shown<'_>,
    event: &str,
    manually: bool,
    end: Option<&End>,
    at: WallTime,
) -> Frame {
    let mut pair = Pair::event("process:event");
    let mut object = about(&mut pair, shown);
    object.text("event", event);
    object.flag("manually", manually);
    view::pm2_env(object.key("process"), shown.process, shown.fixed, shown.known, false);
    if let Some(end) = end {
        how(&mut object, end);
    }
    time(&mut object, at);
    object.end();
    pair.close()
}

/// The event of older versions that goes with a `process:event`, if there is one.
#[must_use]
pub fn old_process_event(
    shown: Shown<'_>,
    event: &str,
    end: Option<&End>,
    at: WallTime,
) -> Option<Frame> {
    let name = match event {
        "online" => "process:online",
        "exit" => "process:exit",
        "restart overlimit" => "process:exit:overlimit",
        _ => return None,
    };
    let mut pair = Pair::event(name);
    let mut object = Object::begin(pair.json());
    object.number("pm_id", shown.process.id().0.into());
    view::pm2_env(object.key("pm2_env"), shown.process, shown.fixed, shown.known, false);
    let mut process = Object::begin(object.key("process"));
    process.number("pm_id", shown.process.id().0.into());
    process.text("name", shown.process.name());
    process.text("namespace", shown.process.namespace());
    process.number("pid", shown.process.pid().map_or(0, |pid| pid.raw().into()));
    process.end();
    if let Some(end) = end {
        how(&mut object, end);
    }
    time(&mut object, at);
    object.end();
    Some(pair.close())
}

/// What a process wrote. `data`: bytes as they came; what is no UTF-8 becomes U+FFFD.
#[must_use]
pub fn log(subject: &Subject, status: &str, stream: Stream, data: &[u8], at: WallTime) -> Frame {
    let mut pair = Pair::event(match stream {
        Stream::Out => "log:out",
        Stream::Err => "log:err",
    });
    let mut object = of(&mut pair, subject, status);
    let mut process = Object::begin(object.key("process"));
    process.number("pm_id", subject.id.0.into());
    process.text("name", &subject.name);
    process.raw("rev", b"null");
    process.text("namespace", &subject.namespace);
    process.end();
    time(&mut object, at);
    object.text("data", &String::from_utf8_lossy(data));
    object.end();
    pair.close()
}

/// A line of the daemon's own log, without its end.
#[must_use]
pub fn own_log(line: &str, at: WallTime) -> Frame {
    let mut pair = Pair::event("log:PM2");
    let mut object = Object::begin(pair.json());
    object.raw("pm2_env", br#"{"name":"PM2"}"#);
    object.raw("process", br#"{"pm_id":"PM2","name":"PM2","rev":null}"#);
    time(&mut object, at);
    object.text("data", &format!("{line}\n"));
    object.end();
    pair.close()
}

/// The daemon goes down.
#[must_use]
pub fn kill(by_signal: bool) -> Frame {
    let mut pair = Pair::event("pm2:kill");
    let mut object = Object::begin(pair.json());
    object.raw("pm2_env", br#"{"name":"PM2"}"#);
    object.text("status", "killed");
    let how = if by_signal { "by SIGNAL" } else { "via CLI" };
    object.text("msg", &format!("pm2 has been killed {how}"));
    object.end();
    pair.close()
}

/// What a child sent, as the bus tells it: under its `type` if it has `data`, as `process:msg` if
/// it has not, and then under its `type` as well. Empty: it is meant for the daemon alone.
#[must_use]
pub fn message(subject: &Subject, status: &str, message: &Message<'_>, at: WallTime) -> Vec<Frame> {
    let kind = message.kind.filter(|kind| members::is_truthy(kind)).and_then(|_| message.kind());
    let name = kind.as_deref().filter(|name| is_told(name));
    let data = message.data.filter(|data| members::is_truthy(data));
    let tell = |name, key, value| told(name, subject, status, message.text, (key, value), at);
    match (name, data) {
        (Some(name), Some(data)) => vec![tell(name, "data", data)],
        (None, Some(_)) if kind.as_deref().is_some_and(|kind| CONSUMED.contains(&kind)) => {
            Vec::new()
        }
        (name, _) => ["process:msg"]
            .into_iter()
            .chain(name)
            .map(|name| tell(name, "raw", message.text))
            .collect(),
    }
}

/// What the daemon says of a child's channel, under a name of its own. `data`: JSON text.
#[must_use]
pub fn of_channel(subject: &Subject, status: &str, name: &str, data: &str, at: WallTime) -> Frame {
    told(name, subject, status, data, ("data", data), at)
}

/// `message` and the value are JSON text.
fn told(
    name: &str,
    subject: &Subject,
    status: &str,
    message: &str,
    (key, value): (&str, &str),
    at: WallTime,
) -> Frame {
    let mut pair = Pair::event(name);
    let mut object = Object::begin(pair.json());
    object.number("pm_id", subject.id.0.into());
    object.raw("msg", message.as_bytes());
    brief(&mut object, subject, status);
    time(&mut object, at);
    object.raw(key, value.as_bytes());
    speaker(object.key("process"), subject);
    object.end();
    pair.close()
}

fn about<'a>(pair: &'a mut Pair, shown: Shown<'_>) -> Object<'a> {
    let process = shown.process;
    let subject = Subject {
        id: process.id(),
        name: process.name().clone(),
        namespace: process.namespace().clone(),
        instance: process.instance(),
    };
    of(pair, &subject, process.status().pm2_name())
}

fn of<'a>(pair: &'a mut Pair, subject: &Subject, status: &str) -> Object<'a> {
    let mut object = Object::begin(pair.json());
    object.number("pm_id", subject.id.0.into());
    brief(&mut object, subject, status);
    object
}

/// What clients before 0.12 look for.
fn brief(object: &mut Object<'_>, subject: &Subject, status: &str) {
    let mut env = Object::begin(object.key("pm2_env"));
    env.text("name", &subject.name);
    env.number("pm_id", subject.id.0.into());
    env.text("namespace", &subject.namespace);
    env.text("status", status);
    env.end();
}

fn how(object: &mut Object<'_>, end: &End) {
    if let Some(code) = end.status.code() {
        object.number("exit_code", code.into());
    }
    if let Some(signal) = end.status.signal() {
        object.text("signal", &signal.to_string());
    }
    object.number("uptime", i64::try_from(end.uptime).unwrap_or(i64::MAX));
    object.value("last_output", &end.last_output.as_slice().into());
}

fn time(object: &mut Object<'_>, at: WallTime) {
    object.number("at", i64::try_from(at.0).unwrap_or(i64::MAX));
}
