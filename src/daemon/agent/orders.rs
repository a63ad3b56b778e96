//! What is to be done on behalf of somebody elsewhere.

use serde_json::Value;

use crate::agent::orders::{Deed, Order, Refusal, Whom};
use crate::base::ProcId;
use crate::daemon::Daemon;
use crate::daemon::requests::{Pending, REQUEST_LIMIT};
use crate::proto::pm2::methods::{Call, Id, METHODS, Named};
use crate::proto::pm2::object::text;
use crate::supervisor::vocabulary::{Action, Input, Options, Reply, Request, Scale, Target};

impl Daemon {
    /// Begins what was asked; it is answered now or when the supervisor has done its part.
    pub(super) fn obey(&mut self, order: Order) {
        if let Err(refusal) = self.begin_order(order) {
            self.answer_outside(Err(refusal));
        }
    }

    fn begin_order(&mut self, order: Order) -> Result<(), Refusal> {
        if let Deed::Message(command) = order.deed {
            return self.tell_child(command);
        }
        let command = self.action(order.deed, &order.whom)?;
        let ids = match &order.whom {
            Whom::Id(text) => self.named(&Named::Id(Id::of(&Value::String(text.clone())))),
            Whom::Name(name) if name == "all" => Vec::new(),
            Whom::Name(name) => self.named(&Named::Name(name.clone())),
        };
        let Some(&first) = ids.first() else {
            let (Whom::Id(what) | Whom::Name(what)) = &order.whom;
            return Err(Refusal::new("not_found", format!("there is no process {what}")));
        };
        if matches!(command, Action::Reset) {
            let at = self.now.wall;
            for known in &ids {
                if let Some(known) = self.known_mut(*known) {
                    known.created_at = Some(at);
                }
            }
        }
        // One of an app stands for all of it.
        let targets = match matches!(command, Action::Scale(_)) {
            true => vec![Target::Id(first)],
            false => ids.into_iter().map(Target::Id).collect(),
        };
        let from = self.reply_to(Pending::Outside);
        let options = Options { timeout: Some(REQUEST_LIMIT), ..Options::default() };
        let request = Request::Command { action: command, targets, options };
        self.input(Input::Request { from, request });
        Ok(())
    }

    fn action(&mut self, deed: Deed, whom: &Whom) -> Result<Action, Refusal> {
        let restart = Action::Restart { change: None, kill_timeout: None };
        Ok(match deed {
            Deed::Start => Action::Start,
            Deed::Stop => Action::Stop { kill_timeout: None },
            Deed::Restart | Deed::Message(_) => restart,
            Deed::Reload if self.is_reloadable(whom) => Action::Reload { change: None },
            Deed::Reload => restart,
            Deed::Reset => Action::Reset,
            Deed::Delete => Action::Delete,
            Deed::Scale(scale) => {
                let Whom::Name(name) = whom else { return Ok(Action::Scale(scale)) };
                let ids = self.named(&Named::Name(name.clone()));
                let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                let is_there = matches!(scale, Scale::To(wanted) if wanted == count)
                    || matches!(scale, Scale::Up(0) | Scale::Down(0));
                if is_there && count > 0 {
                    let why = format!("{name} has {count} instances already");
                    return Err(Refusal::new("failed", why));
                }
                Action::Scale(scale)
            }
        })
    }

    /// PM2's own apps are replaced without a gap only where they share their sockets.
    fn is_reloadable(&self, whom: &Whom) -> bool {
        let named = match whom {
            Whom::Id(text) => Named::Id(Id::of(&Value::String(text.clone()))),
            Whom::Name(name) => Named::Name(name.clone()),
        };
        let can = |&id: &ProcId| {
            let process = self.supervisor.process(id);
            process.is_some_and(|process| process.spec().pm2.is_none()) || self.is_cluster(id)
        };
        self.named(&named).iter().all(can)
    }

    /// Hands an action to a child. What it makes of it comes as an event.
    fn tell_child(&mut self, command: Value) -> Result<(), Refusal> {
        let failed = |why: String| {
            let code = if why.contains("unknown") { "not_found" } else { "failed" };
            Refusal::new(code, why)
        };
        if command.get("id").is_none() {
            return self.tell_children(&command);
        }
        self.tell_one(command).map_err(failed)?;
        self.answer_outside(Ok(()));
        Ok(())
    }

    /// The same to every process of a name that has the action.
    fn tell_children(&mut self, command: &Value) -> Result<(), Refusal> {
        let name = text(command.get("name").unwrap_or(&Value::Null));
        let mut failure = Some(Refusal::new("not_found", format!("there is no process {name}")));
        for id in self.named(&Named::Name(name)) {
            let mut one = command.clone();
            one["id"] = id.0.into();
            failure = match (self.tell_one(one), failure) {
                (Ok(()), _) => None,
                (Err(why), Some(_)) => Some(Refusal::new("failed", why)),
                (Err(_), None) => None,
            };
        }
        failure.map_or(Ok(()), Err)?;
        self.answer_outside(Ok(()));
        Ok(())
    }

    fn tell_one(&mut self, command: Value) -> Result<(), String> {
        let read = METHODS.iter().find(|method| method.name == "msgProcess");
        let call = read.map(|method| method.call(&mut [command]));
        let Some(Ok(Call::Message(message))) = call else {
            return Err("no message for a process".to_owned());
        };
        self.send_message(&message).map(drop)
    }

    /// The supervisor has done its part.
    pub(in crate::daemon) fn ordered(&mut self, reply: Reply) {
        let done = match reply {
            Reply::Outcomes(outcomes) => {
                self.first_failure(&outcomes).map_err(|message| Refusal::new("failed", message))
            }
            Reply::Refused(refusal) => {
                Err(Refusal::new("failed", crate::daemon::answers::refused(refusal).message))
            }
            Reply::Stopped => Ok(()),
        };
        self.touch_state_outside();
        self.answer_outside(done);
    }

    /// Something about processes has changed, perhaps.
    pub(in crate::daemon) fn touch_state_outside(&mut self) {
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.touch_state(self.now);
        }
    }

    fn answer_outside(&mut self, done: Result<(), Refusal>) {
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.answer(done, self.now);
        }
    }
}
