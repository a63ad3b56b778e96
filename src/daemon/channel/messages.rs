//! What becomes of what a program says.

use std::time::Duration;

use crate::base::ChildId;
use crate::daemon::Daemon;
use crate::daemon::channel::LastTime;
use crate::proto::ipc::hub::Link;
use crate::proto::ipc::{Class, HANDLE_ACK, Message, members};
use crate::proto::messages::channel::{self, Said};
use crate::proto::messages::event::{Inner, Publication, Subject};
use crate::supervisor::spec::Intercom;
use crate::supervisor::vocabulary::Input;

/// Between two complaints about one channel.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// What is wrong with what came, or with who does not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    NotJson,
    TooLong,
    /// A handle came with a message and was lost.
    Handle,
    /// A message of Node's own that nobody here understands.
    Node,
    /// What it announced is too much, or is nonsense.
    Announcement,
    /// It does not read.
    Overflow,
}

impl Trouble {
    fn word(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::TooLong => "too-long",
            Self::Handle => "handle",
            Self::Node => "node",
            Self::Announcement => "announcement",
            Self::Overflow => "overflow",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotJson => "a line that is not JSON was dropped",
            Self::TooLong => "a line longer than ipc_max_line was dropped",
            Self::Handle => "a handle was dropped, its message is kept",
            Self::Node => "an internal message of Node was dropped",
            Self::Announcement => "an announcement was dropped",
            Self::Overflow => "the program does not read, messages to it are refused",
        }
    }
}

/// What was complained of.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Since the last complaint.
    count: u32,
    last: LastTime,
}

impl Daemon {
    pub(super) fn on_line(&mut self, id: ChildId, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if let Some(channel) = self.channel(id) {
            channel.counts.lines_in += 1;
        }
        match Message::read(line) {
            Some(message) => self.on_message(id, &message),
            None => self.complain(id, Trouble::NotJson),
        }
    }

    fn on_message(&mut self, id: ChildId, message: &Message<'_>) {
        let Some(channel) = self.channel(id) else { return };
        let (speaks, raw) = (channel.terms.intercom != Intercom::Off, channel.terms.ipc_raw);
        match message.class(channel.session.is_some()) {
            Class::Node => self.on_node(id, message),
            Class::Bus => self.on_bus(id, message),
            Class::Version => self.note_node_version(id, message),
            Class::Dnode if speaks => {
                if raw {
                    self.tell_message(id, "process:msg", Said::Raw(message.text), message);
                }
                self.on_dnode(id, message);
            }
            Class::Ipevents => {
                if raw {
                    self.tell_message(id, "process:msg", Said::Raw(message.text), message);
                }
                self.on_ipevents(Link::Child(id), "ipc", message);
            }
            Class::Dnode | Class::Plain => {
                if members::string(message.text).is_some_and(|word| word == "ready") {
                    self.input(Input::Ready { child: id });
                }
                self.tell_message(id, "process:msg", Said::Raw(message.text), message);
            }
        }
    }

    /// Messages of Node's own: nobody is told of them.
    fn on_node(&mut self, id: ChildId, message: &Message<'_>) {
        let cmd = message.cmd.and_then(members::string).unwrap_or_default();
        match (&*cmd, message.inner) {
            ("NODE_HANDLE", Some(inner)) => {
                // The kernel has closed what was sent along.
                if self.say(id, HANDLE_ACK).is_err()
                    && let Some(channel) = self.channel(id)
                {
                    channel.unacknowledged = channel.unacknowledged.saturating_add(1);
                }
                self.complain(id, Trouble::Handle);
                let inner = Message::of(inner);
                if inner.class(false) != Class::Node {
                    self.on_message(id, &inner);
                }
            }
            ("NODE_HANDLE_ACK", _) => self.handle_answered(id, true),
            ("NODE_HANDLE_NACK", _) => self.handle_answered(id, false),
            ("NODE_CLUSTER", _) if self.cluster.is_worker(id) => self.hear_worker(id, message.text),
            _ => self.complain(id, Trouble::Node),
        }
    }

    fn on_bus(&mut self, id: ChildId, message: &Message<'_>) {
        let (Some(kind), Some(data)) = (message.kind(), message.data) else {
            // A name that is no string.
            return self.tell_message(id, "process:msg", Said::Raw(message.text), message);
        };
        if kind == "pmd:notify" {
            let ready = members::members(data).find(|(name, _)| *name == "\"ready\"");
            if ready.is_some_and(|(_, value)| value == "true") {
                self.input(Input::Ready { child: id });
            }
        } else if kind == "axm:reply" {
            self.note_answer(id, data);
        } else if kind.starts_with("axm:") {
            self.heed(id, &kind, data);
        }
        // Nobody speaks in the daemon's name.
        if ["process:msg", "ipc:", "intercom:", "ipevents:"].iter().any(|own| kind.starts_with(own))
        {
            return self.tell_message(id, "process:msg", Said::Raw(message.text), message);
        }
        self.tell_message(id, &kind, Said::Data(data), message);
    }

    /// Tells those who listen.
    fn tell_message(&mut self, id: ChildId, event: &str, said: Said<'_>, message: &Message<'_>) {
        self.tell_bus(id, message);
        let at = self.now.wall;
        self.tell_channel(id, event, |subject| channel::payload(subject, said, at));
    }

    /// The program, or its end, closed the channel.
    pub(super) fn tell_disconnected(&mut self, id: ChildId) {
        self.tell_channel(id, "ipc:disconnected", |_| "{}".to_owned());
    }

    pub(in crate::daemon) fn tell_channel(
        &mut self,
        id: ChildId,
        event: &str,
        payload: impl FnOnce(&Subject) -> String,
    ) {
        self.tell_channel_of(id, event, None, payload);
    }

    /// `name`: that of an event within the event.
    pub(super) fn tell_channel_of(
        &mut self,
        id: ChildId,
        event: &str,
        name: Option<Inner>,
        payload: impl FnOnce(&Subject) -> String,
    ) {
        if !self.connections.wants("channel_event") {
            return;
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        let data = channel::event(&subject, id, event, &payload(&subject));
        let news = Publication::new("channel_event", subject, self.now.wall, data);
        let mut news = news.named(event);
        news.inner = name;
        self.broadcast(news);
    }

    pub(in crate::daemon) fn subject_of_child(&self, id: ChildId) -> Option<Subject> {
        let process = self.children.get(id)?.process;
        Some(self.entries.get(&process)?.subject.clone())
    }

    /// Says once in a while what is wrong with a channel.
    pub(in crate::daemon) fn complain(&mut self, id: ChildId, trouble: Trouble) {
        let now = self.now.mono;
        let Some(channel) = self.channel(id) else { return };
        let troubles = &mut channel.troubles;
        troubles.count = troubles.count.saturating_add(1);
        match trouble {
            Trouble::NotJson => channel.counts.bad = channel.counts.bad.saturating_add(1),
            Trouble::TooLong => channel.counts.long = channel.counts.long.saturating_add(1),
            Trouble::Handle | Trouble::Node | Trouble::Announcement | Trouble::Overflow => {}
        }
        if troubles.last.is_some_and(|last| last.after(COMPLAIN_EVERY) > now) {
            return;
        }
        troubles.last = Some(now);
        let count = std::mem::take(&mut troubles.count);
        if let Some(subject) = self.subject_of_child(id) {
            let (name, text) = (&subject.name, trouble.text());
            self.own_log
                .warn(format_args!("channel of {name}: {text} id={} troubles={count}", subject.id));
        }
        let payload = format!(r#"{{"reason":"{}","count":{count}}}"#, trouble.word());
        self.tell_channel(id, "ipc:warn", |_| payload);
    }
}
