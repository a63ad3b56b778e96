//! What clients have children told over their channels.
//!
//! The one way to a child is [`Daemon::send_to_child`]. What comes from a child goes the other way:
//! [`bus::message`](crate::proto::pm2::bus::message) makes events of it, `Known` keeps what its
//! monitoring library announces.

use serde_json::{Map, Value, json};

use crate::base::ProcId;
use crate::daemon::Daemon;
use crate::daemon::pm2::calls::{Begun, base_name, is_up};
use crate::proto::pm2::methods::{Id, Message, Named};
use crate::proto::pm2::object::{is_truthy, text};
use crate::proto::pm2::rpc;
use crate::supervisor::Process;

/// The child cannot be told anything: it was given no channel.
#[derive(Debug)]
pub struct NoChannel;

impl Daemon {
    /// Sends a message to the child of a process.
    ///
    /// # Errors
    ///
    /// [`NoChannel`]: in this version no child has one.
    fn send_to_child(&mut self, _process: ProcId, _message: &Value) -> Result<(), NoChannel> {
        Err(NoChannel)
    }

    pub(super) fn send_data(&mut self, id: &Id, packet: Value) -> Begun {
        let unknown = || format!("Process with ID <{}> unknown.", id.text);
        let process = self.id_of(id).ok_or_else(unknown)?;
        if !self.supervisor.process(process).is_some_and(is_up) {
            return Err(format!("Process with ID <{}> offline.", id.text));
        }
        self.send_to_child(process, &packet)
            .map_err(|NoChannel| format!("Process with ID <{}> has no channel.", id.text))?;
        Ok(Some(rpc::success(Map::from_iter([("data".to_owned(), packet)]))))
    }

    /// A message that is an object goes to children as it is, as PM2 had it up to 1.0; one that is
    /// a word is an action that the child must have announced.
    pub(super) fn send_message(&mut self, message: &Message) -> Begun {
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
                    .map_err(|NoChannel| format!("{} has no channel", id.text))?;
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

    fn has_action(&self, id: ProcId, action: &Value) -> bool {
        let shown = self.entries.get(&id).and_then(|entry| entry.pm2.as_ref());
        shown.is_some_and(|shown| {
            let mut actions = shown.known().actions.iter();
            actions.any(|known| known.get("action_name") == Some(action))
        })
    }
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
    rpc::success(Map::from_iter([("process_count".to_owned(), count.into())]))
}
