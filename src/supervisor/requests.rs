//! What a request asks of which process.

use std::rc::Rc;

use crate::base::ProcId;
use crate::sorted::SortedSet;
use crate::supervisor::process::{Event, Process, Seat};
use crate::supervisor::spec::{AppSpec, Ports};
use crate::supervisor::tasks::{Job, Order, Plan};
use crate::supervisor::vocabulary::{
    Action, Effect, EnvChange, Options, Patience, Redefinition, Refusal, Reply, ReplyTo, Request,
    Target, Until,
};
use crate::supervisor::{Supervisor, Turn};

impl Supervisor {
    /// Takes a request, and answers it now or later.
    pub(super) fn request(&mut self, from: ReplyTo, request: Request, turn: &mut Turn<'_>) {
        if self.halting {
            return refuse(from, Refusal::ShuttingDown, turn);
        }
        match request {
            Request::Create { apps, existing, options } => {
                self.create(from, apps, existing, options, turn);
            }
            Request::Add { app, count, first, start, options } => {
                if let Some(first) = first {
                    self.table.reserve(first.0);
                }
                self.add(from, &app, count, start, options, turn);
            }
            Request::Command { action, targets, options } => {
                self.command(from, action, targets, options, turn);
            }
            Request::Wait { targets, until, timeout } => {
                // The caller waits until it is so, however long; `wait` is about starts.
                let options = Options { wait: Patience::Online, parallel: None, timeout };
                self.wait(from, targets, until, options, turn);
            }
            Request::Shutdown => self.shut_down(from, turn),
        }
    }

    fn command(
        &mut self,
        from: ReplyTo,
        action: Action,
        targets: Vec<Target>,
        options: Options,
        turn: &mut Turn<'_>,
    ) {
        let (ids, missing) = self.find(targets);
        let mut order = Order::Up;
        let tasks = match action {
            Action::Start => all(&ids, &Job::Start),
            Action::Stop { kill_timeout } => {
                order = Order::Down;
                all(&ids, &Job::Stop { kill_timeout })
            }
            Action::Restart { change, kill_timeout } => {
                let port = port_of(change.as_ref());
                self.changed(&ids, change)
                    .into_iter()
                    .map(|(id, spec)| (id, Job::Restart { spec, port, kill_timeout }))
                    .collect()
            }
            Action::Reload { change } => {
                order = Order::Rolling;
                let port = port_of(change.as_ref());
                let changed = self.changed(&ids, change).into_iter();
                changed.map(|(id, spec)| (id, Job::Reload { spec, port })).collect()
            }
            Action::Delete => {
                if let Err(refusal) = self.may_delete(&ids) {
                    return refuse(from, refusal, turn);
                }
                order = Order::Down;
                all(&ids, &Job::Delete)
            }
            Action::Signal(signal) => all(&ids, &Job::Signal(signal)),
            Action::Reset => all(&ids, &Job::Reset),
            Action::Scale(scale) => self.scale(&ids, scale, turn),
        };
        self.open(Plan { from, tasks, missing, options, order }, turn);
    }

    fn wait(
        &mut self,
        from: ReplyTo,
        targets: Vec<Target>,
        until: Until,
        options: Options,
        turn: &mut Turn<'_>,
    ) {
        let (ids, missing) = self.find(targets);
        let tasks = all(&ids, &Job::Wait(until));
        self.open(Plan { from, tasks, missing, options, order: Order::Up }, turn);
    }

    fn shut_down(&mut self, from: ReplyTo, turn: &mut Turn<'_>) {
        self.halting = true;
        self.alarms.clear();
        self.watched.clear();
        self.close_hopeless(turn);
        // Out of order, since nothing has to end for them: they are not to start meanwhile.
        let due: Vec<ProcId> = self
            .table
            .iter()
            .filter(|process| process.is_waiting() || process.retry_at().is_some())
            .map(Process::id)
            .collect();
        for id in due {
            self.step(Seat::Front(id), Event::Halt, turn);
        }
        let ids = self.table.ids().into_iter().collect();
        let (tasks, missing) = (all(&ids, &Job::Halt), Vec::new());
        let (options, order) = (Options::default(), Order::Shutdown);
        self.open(Plan { from, tasks, missing, options, order }, turn);
    }

    /// The processes that targets name, each once, and the targets that name none. `all` names
    /// none only by being empty, which is no error.
    fn find(&self, targets: Vec<Target>) -> (SortedSet<ProcId>, Vec<Target>) {
        let mut ids = SortedSet::new();
        let mut missing = Vec::new();
        for target in targets {
            let found = self.table.resolve(&target);
            if found.is_empty() && target != Target::All {
                missing.push(target);
            }
            ids.extend(found);
        }
        (ids, missing)
    }

    /// The definitions of processes after a change. What was shared stays shared.
    fn changed(
        &self,
        ids: &SortedSet<ProcId>,
        change: Option<Redefinition>,
    ) -> Vec<(ProcId, Option<Rc<AppSpec>>)> {
        let all = |spec: Option<Rc<AppSpec>>| ids.iter().map(|&id| (id, spec.clone())).collect();
        let change = match change {
            None => return all(None),
            Some(Redefinition::Whole(spec)) => return all(Some(spec)),
            Some(Redefinition::Environment(change)) => change,
        };
        if change.inherited.is_none() && change.env.is_empty() {
            return all(None);
        }
        let mut made: Option<(Rc<AppSpec>, Rc<AppSpec>)> = None;
        let mut changed = Vec::with_capacity(ids.len());
        for &id in ids {
            let Some(before) = self.table.get(id).map(Process::spec) else { continue };
            let after = match &made {
                Some((from, to)) if Rc::ptr_eq(from, before) => Rc::clone(to),
                Some(_) | None => {
                    let mut spec = AppSpec::clone(before);
                    apply(&change, &mut spec);
                    let spec = Rc::new(spec);
                    made = Some((Rc::clone(before), Rc::clone(&spec)));
                    spec
                }
            };
            changed.push((id, Some(after)));
        }
        changed
    }

    /// An app that others need stays as long as they do.
    fn may_delete(&self, ids: &SortedSet<ProcId>) -> Result<(), Refusal> {
        let mut names: Vec<&str> = Vec::new();
        for process in ids.iter().filter_map(|&id| self.table.get(id)) {
            let name = process.name().as_ref();
            let stays = self.table.members(name).iter().any(|id| !ids.contains(id));
            if !stays && names.last() != Some(&name) {
                names.push(name);
            }
        }
        for name in names {
            if let Some(dependent) = self.dependent_on(name, ids) {
                return Err(Refusal::Invalid(format!(
                    "{name} cannot be deleted while {dependent} depends on it"
                )));
            }
        }
        Ok(())
    }
}

/// The port that a change asks for.
fn port_of(change: Option<&Redefinition>) -> Option<Ports> {
    match change {
        Some(Redefinition::Environment(change)) => change.port,
        Some(Redefinition::Whole(_)) | None => None,
    }
}

/// Answers that nothing was attempted.
pub(super) fn refuse(to: ReplyTo, refusal: Refusal, turn: &mut Turn<'_>) {
    turn.effects.push(Effect::Reply { to, reply: Reply::Refused(refusal) });
}

fn all(ids: &SortedSet<ProcId>, job: &Job) -> Vec<(ProcId, Job)> {
    ids.iter().map(|&id| (id, job.clone())).collect()
}

fn apply(change: &EnvChange, spec: &mut AppSpec) {
    if let Some(inherited) = &change.inherited {
        spec.inherited = Rc::clone(inherited);
    }
    for (name, value) in &change.env {
        spec.env.set(name.as_str(), value.as_str());
    }
}
