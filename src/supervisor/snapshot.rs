//! What is written down, and how a supervisor begins again from it.
//!
//! Plain data: which processes there are, what each is to run, and where the user wants it. What
//! changes by itself (pids, counters, deadlines) is not here: it lives in a table of its own, and
//! comes back through [`Adopted`]. A definition that several processes share is written once, and
//! so is an environment that several definitions share.
//!
//! A process that gave up is written as one that should run: it is tried again.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::base::{ChildId, Now, Pid, ProcId, WallTime};
use crate::sorted::{SortedMap, sort_by};
use crate::supervisor::process::{Change, Event, Goal, Life, Process, Rest, Seat, State};
use crate::supervisor::spec::{AppSpec, Environment, Ports};
use crate::supervisor::table::Fate;
use crate::supervisor::vocabulary::{Effect, NoticeKind};
use crate::supervisor::{Supervisor, Turn, Unsaved};

/// The table as it is saved.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Snapshot {
    /// The next process gets this id.
    next_id: u32,
    /// The next child gets at least this number.
    next_child: u64,
    /// What apps inherit, each different one once.
    environments: Vec<Rc<Environment>>,
    /// Definitions, each different one once.
    definitions: Vec<Definition>,
    processes: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Definition {
    /// Its place in `environments`.
    inherited: usize,
    spec: Rc<AppSpec>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Entry {
    id: ProcId,
    instance: u32,
    goal: Goal,
    /// Why it rests, where it does: those that depend on its end need not wait, and the clock may
    /// start it or not.
    #[serde(default, skip_serializing_if = "is_asked")]
    rest: Rest,
    created_at: WallTime,
    /// Its place in `definitions`.
    definition: usize,
    /// The port it had last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// What was asked for in place of its app's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Ports>,
}

/// A child that survived the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Adopted {
    pub process: ProcId,
    pub child: ChildId,
    pub pid: Pid,
    pub started: Now,
    pub restarts: u32,
    pub unstable: u32,
    /// It reported readiness, or was not asked to.
    pub ready: bool,
    /// What it was given.
    pub port: Option<u16>,
}

impl Snapshot {
    /// How many processes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether it holds this process.
    #[must_use]
    pub fn contains(&self, id: ProcId) -> bool {
        self.processes.iter().any(|entry| entry.id == id)
    }

    /// Children that are spawned from it get only numbers above `child`. For numbers that were
    /// given after it was saved: automatic restarts are not.
    pub fn reserve_children(&mut self, child: ChildId) {
        self.next_child = self.next_child.max(child.0.saturating_add(1));
    }
}

impl Supervisor {
    /// The table as it is to be saved.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            next_id: self.table.next_id(),
            next_child: self.children.next().0,
            ..Snapshot::default()
        };
        let mut definitions: SortedMap<*const AppSpec, usize> = SortedMap::new();
        let mut environments: SortedMap<Rc<Environment>, usize> = SortedMap::new();
        for process in self.table.iter() {
            let spec = process.spec();
            let definition = *definitions.get_or_insert_with(Rc::as_ptr(spec), || {
                let next = snapshot.environments.len();
                let inherited =
                    *environments.get_or_insert_with(Rc::clone(&spec.inherited), || next);
                if inherited == next {
                    snapshot.environments.push(Rc::clone(&spec.inherited));
                }
                snapshot.definitions.push(Definition { inherited, spec: Rc::clone(spec) });
                snapshot.definitions.len() - 1
            });
            let (goal, rest) = process.lasting();
            snapshot.processes.push(Entry {
                id: process.id(),
                instance: process.instance(),
                goal,
                rest,
                created_at: process.created_at(),
                definition,
                port: process.last_port(),
                ports: process.asked_ports(),
            });
        }
        snapshot
    }

    /// This supervisor, which is empty, going on from `snapshot` with the children in `adopted`.
    ///
    /// What should run and has no child is started, if `start`; with `start` false it stays
    /// stopped, with its goal as it was, until it is asked for. An adopted child that should not
    /// run any more is stopped. Of two adopted children of one process (the daemon died during a
    /// reload) the younger that is ready stays. A child of a process that is not in the snapshot
    /// is released.
    #[must_use]
    pub fn restore(
        self,
        now: Now,
        snapshot: Snapshot,
        adopted: &[Adopted],
        start: bool,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let turn = &mut Turn { now, effects };
        let mut supervisor = self;
        let definitions = definitions(&snapshot);
        for entry in &snapshot.processes {
            let Some(spec) = definitions.get(entry.definition).map(Rc::clone) else { continue };
            let (id, goal) = (entry.id, entry.goal);
            supervisor.table.insert_as(id, spec, entry.instance, goal, entry.created_at);
            if let Some(process) = supervisor.table.get_mut(id) {
                process.state = State::Stopped { rest: entry.rest };
                process.give(entry.port.filter(|&port| port > 0));
                process.serve_instead(entry.ports);
            }
        }
        supervisor.table.reserve(snapshot.next_id);
        if let Some(last) = snapshot.next_child.checked_sub(1) {
            supervisor.children.reserve(ChildId(last));
        }

        // The best child of each process last: it is the one that stays in front.
        let mut adopted: Vec<&Adopted> = adopted.iter().collect();
        sort_by(&mut adopted, |one, two| (one.ready, one.child) < (two.ready, two.child));
        for adopted in adopted {
            supervisor.children.reserve(adopted.child);
            supervisor.adopt(adopted, turn);
        }
        for id in supervisor.table.ids() {
            supervisor.resume_process(id, start, turn);
        }
        supervisor.settle(turn);
        supervisor
    }

    fn adopt(&mut self, adopted: &Adopted, turn: &mut Turn<'_>) {
        let id = adopted.process;
        let life = Life { child: adopted.child, pid: adopted.pid, started: adopted.started };
        let state = State::Online { life, ready: adopted.ready };
        let Some(process) = self.table.get_mut(id) else {
            turn.effects.push(Effect::Release { child: adopted.child });
            return;
        };
        let before = std::mem::replace(&mut process.state, state);
        process.restarts = process.restarts.max(adopted.restarts);
        process.history.unstable = process.history.unstable.max(adopted.unstable);
        let port = process.last_port();
        if process.give(adopted.port) {
            self.unsaved = Unsaved::Now;
        }
        if let State::Stopped { rest } = before
            && rest != Rest::Asked
            && process.spec.is_scheduled()
        {
            process.goal = Goal::Up;
        }
        self.children.adopt(adopted.child, Seat::Front(id));
        let State::Online { life: other, .. } = before else { return };
        if self.table.has_side(id) {
            // A third one was never ours to have.
            self.children.leave(other.child);
            turn.effects.push(Effect::Kill { child: other.child, tree: true });
            turn.effects.push(Effect::Release { child: other.child });
            return;
        }
        let Some(spec) = self.table.get(id).map(|process| Rc::clone(&process.spec)) else { return };
        self.table.insert_side(id, spec);
        if let Some(side) = self.table.side_mut(id) {
            side.fate = Fate::Predecessor;
            side.process.state = before;
            side.process.give(port);
        }
        self.children.seat(other.child, Seat::Side(id));
    }

    /// Brings a process that was read from a snapshot on its way to its goal.
    fn resume_process(&mut self, id: ProcId, start: bool, turn: &mut Turn<'_>) {
        let front = Seat::Front(id);
        self.end_side(id, None, turn);
        let Some(process) = self.table.get(id) else { return };
        let lives = process.is_online();
        if lives {
            self.with(front, turn, |process, cx| {
                process.tell(cx);
                process.watch(cx);
                if let State::Online { life, .. } = process.state {
                    process.limit_run(life, cx);
                    process.publish(NoticeKind::Adopted { pid: life.pid }, cx);
                }
                Change::Nothing
            });
        }
        let goal = self.table.get(id).map(Process::goal);
        match goal {
            Some(Goal::Up) if lives => {}
            Some(Goal::Up) if start => self.step(front, Event::Start, turn),
            Some(Goal::Up) | None => self.tell_front(front, turn),
            Some(goal @ (Goal::Down | Goal::Gone)) => {
                let stop = Event::Stop { goal, kill_timeout: None };
                self.tell_front(front, turn);
                // A job that waits for its time was not stopped.
                if lives || goal == Goal::Gone {
                    self.step(front, stop, turn);
                }
            }
        }
        self.wind(id, turn);
    }

    fn tell_front(&mut self, seat: Seat, turn: &mut Turn<'_>) {
        self.with(seat, turn, |process, cx| {
            process.tell(cx);
            Change::Nothing
        });
    }
}

fn is_asked(rest: &Rest) -> bool {
    *rest == Rest::Asked
}

/// The definitions with what they inherit. A place that does not exist inherits nothing.
fn definitions(snapshot: &Snapshot) -> Vec<Rc<AppSpec>> {
    let nothing = Rc::new(Environment::default());
    let mut specs: Vec<Rc<AppSpec>> = Vec::with_capacity(snapshot.definitions.len());
    for definition in &snapshot.definitions {
        let mut spec = AppSpec::clone(&definition.spec);
        let inherited = snapshot.environments.get(definition.inherited).unwrap_or(&nothing);
        spec.inherited = Rc::clone(inherited);
        if let Some(last) = specs.last() {
            spec.share(last);
        }
        specs.push(Rc::new(spec));
    }
    specs
}
