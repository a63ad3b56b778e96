//! What PM2's clients have children told, and what they are told of children's messages.
//!
//! What a child's monitoring library announces (`axm:*`) is kept in `Known`, within limits: it is
//! the child that says how much that is.

use serde_json::{Map, Value};

use crate::base::{ChildId, ProcId};
use crate::daemon::Daemon;
use crate::daemon::channel::{Trouble, Unsaid};
use crate::daemon::pm2::calls::{Begun, base_name, is_up};
use crate::json::{json, object};
use crate::proto::buffer::Class;
use crate::proto::ipc::{Message as Line, members};
use crate::proto::pm2::bus;
use crate::proto::pm2::methods::{Id, Message, Named};
use crate::proto::pm2::object::{is_truthy, text};
use crate::proto::pm2::rpc;
use crate::proto::pm2::view::Known;
use crate::supervisor::Process;

/// Bytes of one announcement.
const MAX_ANNOUNCEMENT: usize = 16 * 1024;
/// Bytes of all that is announced of one kind: actions, metrics, options.
const MAX_ANNOUNCED: usize = 64 * 1024;

impl Daemon {
    /// Tells the bus what a child said.
    pub(in crate::daemon) fn tell_bus(&mut self, id: ChildId, message: &Line<'_>) {
        if !self.pm2.has_listeners() {
            return;
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        let process = self.supervisor.process(subject.id);
        let status = process.map_or("stopped", |process| process.status().pm2_name());
        for frame in bus::message(&subject, status, message, self.now.wall) {
            self.connections.tell_pm2(&frame, Class::Event);
        }
    }

    /// Tells the bus what the daemon says of a child's channel. `data`: JSON text.
    pub(in crate::daemon) fn tell_bus_of(&mut self, id: ChildId, name: &str, data: &str) {
        if !self.pm2.has_listeners() {
            return;
        }
        let Some(subject) = self.subject_of_child(id) else { return };
        let process = self.supervisor.process(subject.id);
        let status = process.map_or("stopped", |process| process.status().pm2_name());
        let frame = bus::of_channel(&subject, status, name, data, self.now.wall);
        self.connections.tell_pm2(&frame, Class::Event);
    }

    /// Which Node runs a child.
    pub(in crate::daemon) fn note_node_version(&mut self, id: ChildId, message: &Line<'_>) {
        let version = message.node_version.and_then(members::string);
        let version = version.filter(|version| version.len() <= 64);
        if let (Some(version), Some(known)) = (version, self.announced_by(id)) {
            known.node_version = Some(version.into());
        }
    }

    /// What a child's monitoring library announces. `data`: JSON text.
    pub(in crate::daemon) fn heed(&mut self, id: ChildId, kind: &str, data: &str) {
        let announce: fn(&mut Known, Value) -> bool = match kind {
            "axm:action" => |known, action| {
                let name = action.get("action_name");
                if known.actions.iter().any(|one| one.get("action_name") == name) {
                    return true;
                }
                let before: usize = known.actions.iter().map(|one| one.to_string().len()).sum();
                let fits = name.is_some_and(Value::is_string)
                    && before + action.to_string().len() <= MAX_ANNOUNCED;
                if fits {
                    known.actions.push(action);
                }
                fits
            },
            "axm:monitor" => |known, metrics| merge(&mut known.monitor, metrics),
            "axm:option:configuration" => |known, options| merge(&mut known.options, options),
            _ => return,
        };
        let value = Some(data).filter(|data| data.len() <= MAX_ANNOUNCEMENT);
        let value = value.and_then(|data| serde_json::from_str(data).ok());
        let Some(known) = self.announced_by(id) else { return };
        if !value.is_some_and(|value| announce(known, value)) {
            self.complain(id, Trouble::Announcement);
        }
    }

    fn announced_by(&mut self, id: ChildId) -> Option<&mut Known> {
        let process = self.children.get(id)?.process;
        self.prepare_log_names(process);
        self.entries.get_mut(&process)?.pm2.get_or_insert_default().announced_by(id)
    }

    /// Sends a message to the child of a process.
    fn send_to_child(&mut self, process: ProcId, message: &Value) -> Result<(), String> {
        self.say_to(process, message).map_err(|unsaid| match unsaid {
            Unsaid::Gone => "its channel is closed".to_owned(),
            Unsaid::NoChannel => "it has no channel".to_owned(),
            Unsaid::Overflow => "it does not read its channel".to_owned(),
            Unsaid::Reserved | Unsaid::NoSession | Unsaid::Malformed => {
                "the message would end it".to_owned()
            }
        })
    }

    pub(super) fn send_data(&mut self, id: &Id, packet: Value) -> Begun {
        let unknown = || format!("Process with ID <{}> unknown.", id.text);
        let process = self.id_of(id).ok_or_else(unknown)?;
        if !self.supervisor.process(process).is_some_and(is_up) {
            return Err(format!("Process with ID <{}> offline.", id.text));
        }
        self.send_to_child(process, &packet)
            .map_err(|why| format!("Cannot send to process with ID <{}>: {why}", id.text))?;
        Ok(Some(rpc::success(object([("data", packet)]))))
    }

    /// A message that is an object goes to children as it is, as PM2 had it up to 1.0; one that is
    /// a word is an action that the child must have announced.
    pub(in crate::daemon) fn send_message(&mut self, message: &Message) -> Begun {
        let what = message.command.get("msg").cloned().unwrap_or_default();
        let is_object = what.is_object();
        match &message.to {
            Named::Id(id) => {
                let process = self.id_of(id).ok_or_else(|| format!("{} id unknown", id.text))?;
                if !is_object && !self.has_action(process, &what) {
                    let name = self.supervisor.process(process).map(|it| it.name().to_string());
                    return Err(format!(
                        "Action doesn't exist {} for {}",
                        text(&what),
                        name.unwrap_or_default()
                    ));
                }
                if !self.supervisor.process(process).is_some_and(is_up) {
                    return Err(format!("{} : id offline", id.text));
                }
                self.send_to_child(process, &packet(&what, &message.command))
                    .map_err(|why| format!("Cannot send to {}: {why}", id.text))?;
                Ok(Some(if is_object { rpc::value(&json!("message sent")) } else { sent(1) }))
            }
            Named::Name(name) => {
                let ids: Vec<ProcId> = self
                    .supervisor
                    .processes()
                    .filter(|process| is_up(process) && is_called(process, name, is_object))
                    .map(Process::id)
                    .collect();
                let packet = packet(&what, &message.command);
                let mut count = 0;
                for id in ids {
                    if (is_object || self.has_action(id, &what))
                        && self.send_to_child(id, &packet).is_ok()
                    {
                        count += 1;
                    }
                }
                Ok(Some(if is_object {
                    rpc::value(&json!(format!("sent {count} messages")))
                } else {
                    sent(count)
                }))
            }
        }
    }

    /// Whether the child of a process has announced an action.
    pub(in crate::daemon) fn has_action(&self, id: ProcId, action: &Value) -> bool {
        let shown = self.entries.get(&id).and_then(|entry| entry.pm2.as_ref());
        shown.is_some_and(|shown| {
            let mut actions = shown.known().actions.iter();
            actions.any(|known| known.get("action_name") == Some(action))
        })
    }
}

/// Lays `new` over what was announced before. False: it is no object, or too much.
fn merge(known: &mut Map<String, Value>, new: Value) -> bool {
    let Value::Object(new) = new else { return false };
    let length = |one: (&String, &Value)| one.0.len() + one.1.to_string().len();
    let kept = known.iter().filter(|(name, _)| !new.contains_key(*name));
    let fits = kept.chain(&new).map(length).sum::<usize>() <= MAX_ANNOUNCED;
    if fits {
        known.extend(new);
    }
    fits
}

/// What goes to the child: the message alone, or all of the command where it has more to say.
fn packet(what: &Value, command: &Value) -> Value {
    let has_more = command.get("opts").is_some_and(|opts| !opts.is_null())
        || command.get("uuid").is_some_and(is_truthy);
    if has_more && !what.is_object() { command.clone() } else { what.clone() }
}

fn is_called(process: &Process, name: &str, plainly: bool) -> bool {
    **process.name() == *name
        || base_name(&process.spec().script) == name
        || (!plainly && (**process.namespace() == *name || name == "all"))
}

fn sent(count: usize) -> crate::proto::pm2::amp::Pair {
    rpc::success(object([("process_count", count.into())]))
}
