//! Events of PM2's bus and what processes write, as back ends are told.
//!
//! Events are taken from the bus, so that whatever is told there is told elsewhere too; `process`
//! becomes four members of it. Logs are not: they are told only while somebody wants them, what came
//! within a moment together, and no more of one process than its share.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::agent::queue::Class;
use crate::base::{ProcId, Stream, Time, WallTime};
use crate::daemon::Daemon;
use crate::daemon::agent::{Host, Outside};
use crate::daemon::entries::Entry;
use crate::json::json;
use crate::logs::LogLine;
use crate::proto::buffer::Frame;
use crate::proto::pm2::amp::{self, Message};
use crate::proto::pm2::object::Object;
use crate::sorted::SortedMap;

/// What a process wrote waits so long for more.
const TOGETHER: Duration = Duration::from_millis(100);
/// So much is told at once, in bytes.
const PAGE: usize = 32 * 1024;
/// So many seconds of its rate a process may write at once.
const BURST: u64 = 4;
/// Lines that an exception comes with.
const LAST_LOGS: usize = 8;
/// And their bytes.
const LAST_BYTES: usize = 8 * 1024;

/// Events of the bus for clients that are older than the agent's protocol, or for none of it.
const NOT_TOLD: [&str; 6] = [
    "process:online",
    "process:exit",
    "process:exit:overlimit",
    "axm:action",
    "axm:monitor",
    "pm2:kill",
];
/// Members of events for the same clients.
const OLD_MEMBERS: [&str; 3] = ["pm_id", "pm2_env", "msg"];

/// What processes wrote and nobody has been told.
#[derive(Debug, Default)]
pub struct Pages {
    pages: Vec<Page>,
    due: Option<Time>,
    paces: SortedMap<ProcId, Pace>,
}

#[derive(Debug)]
struct Page {
    process: ProcId,
    stream: Stream,
    at: WallTime,
    text: Vec<u8>,
    /// Bytes that were too many.
    dropped: u64,
}

/// How much a process may still say.
#[derive(Clone, Copy, Debug)]
struct Pace {
    bytes: u64,
    at: Time,
}

impl Pages {
    pub fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    /// Takes a line. True: a page is full.
    fn add(&mut self, line: &LogLine, rate: u64, now: Time, wall: WallTime) -> bool {
        let process = line.id.process;
        let most = rate.saturating_mul(BURST);
        let full = Pace { bytes: most, at: now };
        let mut pace = self.paces.get(&process).copied().unwrap_or(full);
        let millis = u64::try_from(now.since(pace.at).as_millis()).unwrap_or(u64::MAX);
        let gained = millis.saturating_mul(rate) / 1000;
        if gained > 0 {
            pace = Pace { bytes: pace.bytes.saturating_add(gained).min(most), at: now };
        }
        let length = u64::try_from(line.bytes.len() + 1).unwrap_or(u64::MAX);
        let fits = pace.bytes >= length;
        if fits {
            pace.bytes -= length;
        }
        self.paces.insert(process, pace);
        let stream = line.id.stream;
        let is_it = |page: &Page| page.process == process && page.stream == stream;
        let place = self.pages.iter().position(is_it).unwrap_or(self.pages.len());
        if place == self.pages.len() {
            let at = line.at.unwrap_or(wall);
            self.pages.push(Page { process, stream, at, text: Vec::new(), dropped: 0 });
        }
        let page = &mut self.pages[place];
        if fits {
            page.text.extend_from_slice(&line.bytes);
            if !line.partial {
                page.text.push(b'\n');
            }
        } else {
            page.dropped += length;
        }
        self.due.get_or_insert_with(|| now.after(TOGETHER));
        page.text.len() >= PAGE
    }
}

impl Outside {
    /// Whether the agent is to be shown what this process writes.
    #[must_use]
    pub fn wants_lines(&self, entry: &Entry) -> bool {
        self.host.as_deref().is_some_and(|host| {
            let (broadcast, mute) = host.flags(entry.subject.id, &entry.spec);
            let agent = &host.agent;
            let fleet = agent.fleet_wants_logs(&entry.subject.name);
            !mute && (broadcast || agent.wants_logs() || fleet)
        })
    }
}

impl Host {
    /// A process as events name it.
    fn process(&self, id: ProcId, name: &str) -> Value {
        let server = self.agent.config.machine_name.as_str();
        json!({"pm_id": id, "name": name, "rev": null, "server": server})
    }
}

impl Daemon {
    /// Takes note of what processes wrote, where somebody wants it.
    pub(in crate::daemon) fn lines_outside(&mut self, lines: &[LogLine]) {
        let rate = self.settings.agent.log_rate;
        let mut is_full = false;
        let mut wanted = None;
        for line in lines {
            let id = line.id.process;
            let wants = match wanted {
                Some((known, wants)) if known == id => wants,
                _ => {
                    let entry = self.entries.get(&id);
                    let wants = entry.is_some_and(|entry| self.outside.wants_lines(entry))
                        && self.is_monitored(id);
                    wanted = Some((id, wants));
                    wants
                }
            };
            let Some(host) = self.outside.host.as_deref_mut().filter(|_| wants) else { continue };
            is_full |= host.pages.add(line, rate, self.now.mono, self.now.wall);
        }
        if is_full {
            self.tell_pages();
        }
    }

    pub(super) fn carry_pages_outside(&mut self) {
        let due = self.outside.host.as_deref().and_then(|host| host.pages.due);
        if due.is_some_and(|due| due <= self.now.mono) {
            self.tell_pages();
        }
    }

    fn tell_pages(&mut self) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        host.pages.due = None;
        for page in std::mem::take(&mut host.pages.pages) {
            let Some(entry) = self.entries.get(&page.process) else {
                host.pages.paces.remove(&page.process);
                continue;
            };
            let name = &entry.subject.name;
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let stream = if page.stream == Stream::Out { "out" } else { "err" };
            let text = String::from_utf8_lossy(&page.text);
            if host.agent.fleet_wants_logs(name) {
                let mut payload = Vec::with_capacity(page.text.len() + 80);
                let mut object = Object::begin(&mut payload);
                object.number("v", 1);
                object.number("ts", number(page.at.0));
                object.number("id", page.process.0.into());
                object.text("s", stream);
                object.text("text", &text);
                object.number("dropped", number(page.dropped));
                object.end();
                host.agent.tell_fleet_log(name, payload);
            }
            if !host.agent.wants_logs() && !host.flags(page.process, &entry.spec).0 {
                continue;
            }
            let process = host.process(page.process, name);
            let mut payload = Vec::with_capacity(page.text.len() + 160);
            let mut object = Object::begin(&mut payload);
            object.value("process", &process);
            object.number("at", number(page.at.0));
            object.text("data", &text);
            object.text("log_type", stream);
            if page.dropped > 0 {
                object.number("dropped", number(page.dropped));
            }
            object.end();
            host.agent.tell_event("logs", payload, Class::Log);
        }
    }

    /// Hands on what the bus was told.
    pub(super) fn carry_events_outside(&mut self) {
        for frame in self.connections.take_tapped() {
            if let Some((name, event)) = read(&frame) {
                self.tell_outside(&name, event);
            }
        }
    }

    fn tell_outside(&mut self, name: &str, mut event: Map<String, Value>) {
        // A message without data is told under its own name for old clients only.
        let is_old = name != "process:msg" && event.contains_key("raw");
        if is_old || NOT_TOLD.contains(&name) || name.starts_with("axm:trace") {
            return;
        }
        let member = |key: &str| event.get("process").and_then(|process| process.get(key));
        let id = member("pm_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let (Some(id), Some(process)) = (id.map(ProcId), member("name").and_then(Value::as_str))
        else {
            return;
        };
        let process = process.to_owned();
        if !self.is_monitored(id) {
            return;
        }
        for member in OLD_MEMBERS {
            event.remove(member);
        }
        match name {
            "human:event" => {
                let data = event.get_mut("data").and_then(Value::as_object_mut);
                if let Some(word) = data.and_then(|data| data.remove("__name")) {
                    event.insert("name".to_owned(), word);
                }
            }
            "process:exception" => {
                let last = self.last_logs(id);
                if let Some(Value::Object(data)) = event.get_mut("data") {
                    data.insert("last_logs".to_owned(), last);
                }
            }
            _ => {}
        }
        let needs_file = matches!(name, "process:exception" | "axm:reply");
        if needs_file {
            let Some(rest) = self.read_first(id, &process, name, event) else { return };
            event = rest;
        }
        self.say_outside(name, id, &process, event);
    }

    /// Tells an event of a process.
    pub(super) fn say_outside(
        &mut self,
        channel: &str,
        id: ProcId,
        name: &str,
        mut event: Map<String, Value>,
    ) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        host.agent.tell_fleet_event(channel, id.0, name, &event);
        event.insert("process".to_owned(), host.process(id, name));
        let payload = Value::Object(event).to_string().into_bytes();
        host.agent.tell_event(channel, payload, Class::Event);
    }

    /// The last lines that a process wrote to either stream.
    fn last_logs(&mut self, id: ProcId) -> Value {
        let [out, err] =
            Stream::BOTH.map(|stream| self.last_lines_of(id, stream, LAST_LOGS, LAST_BYTES));
        let of_err = err.len().min((LAST_LOGS / 2).max(LAST_LOGS.saturating_sub(out.len())));
        let of_out = out.len().min(LAST_LOGS - of_err);
        let last = |lines: Vec<String>, count: usize| {
            let skipped = lines.len() - count;
            lines.into_iter().skip(skipped).map(|line| Value::from(line + "\n"))
        };
        last(out, of_out).chain(last(err, of_err)).collect()
    }
}

/// The name and the object of an event.
fn read(frame: &Frame) -> Option<(String, Map<String, Value>)> {
    let message = Message::first(frame).ok()??;
    let [name, json] = message.arguments() else { return None };
    let name = std::str::from_utf8(name.strip_prefix(b"s:")?).ok()?;
    match serde_json::from_slice(amp::json(json)?) {
        Ok(Value::Object(event)) => Some((name.to_owned(), event)),
        Ok(_) | Err(_) => None,
    }
}
