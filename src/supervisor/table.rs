//! The table: processes by id, the apps they belong to, and who sits beside whom during a reload.

use std::rc::Rc;

use crate::base::{ProcId, WallTime};
use crate::sorted::{SortedMap, sort};
use crate::supervisor::exits::Exits;
use crate::supervisor::process::{Goal, Process, Rest, Seat, State};
use crate::supervisor::restart::History;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::{Failure, Target};

/// All processes. Small per process: what most of them do not have is kept elsewhere.
#[derive(Debug, Default)]
pub(super) struct Table {
    processes: SortedMap<ProcId, Box<Process>>,
    sides: SortedMap<ProcId, Box<Side>>,
    /// The processes of each app, by id. No app is without a process.
    apps: SortedMap<Rc<str>, Vec<ProcId>>,
    /// Above every id in the table.
    next_id: u32,
}

/// The second child of a process that is being reloaded: one that is to take its place, or one
/// that has lost it. It runs through the same transition table, is never restarted, and is not
/// seen from outside.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) process: Process,
    pub(super) fate: Fate,
}

/// What became of a reload, or will.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// Not decided: it is to become ready.
    Successor,
    /// It will not take the place.
    Failed(Failure),
    /// It has lost its place to the successor.
    Predecessor,
}

impl Table {
    /// Enters a process under the next id.
    pub(super) fn insert(
        &mut self,
        spec: Rc<AppSpec>,
        instance: u32,
        goal: Goal,
        created_at: WallTime,
    ) -> ProcId {
        if self.processes.is_empty() {
            self.next_id = 0;
        }
        let id = ProcId(self.next_id);
        self.insert_as(id, spec, instance, goal, created_at);
        id
    }

    /// Enters a process that has its id already. Of two with one id the first stays.
    pub(super) fn insert_as(
        &mut self,
        id: ProcId,
        spec: Rc<AppSpec>,
        instance: u32,
        goal: Goal,
        created_at: WallTime,
    ) {
        if self.processes.contains_key(&id) {
            return;
        }
        self.reserve(id.0.saturating_add(1));
        let (name, namespace) = self.enter_name(id, &spec);
        let process = Process {
            id,
            instance,
            seat: Seat::Front(id),
            goal,
            state: State::Stopped { rest: Rest::Fresh },
            told: None,
            history: History::default(),
            restarts: 0,
            spec,
            pending: None,
            name,
            namespace,
            created_at,
            exits: Exits::default(),
            served: None,
            listens: false,
        };
        self.processes.insert(id, Box::new(process));
    }

    /// Puts a process into the list of its app; gives its name and namespace.
    fn enter_name(&mut self, id: ProcId, spec: &AppSpec) -> (Rc<str>, Rc<str>) {
        let members = self.apps.get_or_default(Rc::clone(&spec.name));
        let place = members.partition_point(|&member| member < id);
        members.insert(place, id);
        (Rc::clone(&spec.name), Rc::clone(&spec.namespace))
    }

    fn leave_name(&mut self, id: ProcId, name: &str) {
        if let Some(members) = self.apps.get_mut(name) {
            members.retain(|&member| member != id);
            if members.is_empty() {
                self.apps.remove(name);
            }
        }
    }

    /// Gives a process the name and the namespace of this definition. Where its number is taken
    /// there, it gets the lowest one that is free.
    pub(super) fn rename(&mut self, id: ProcId, spec: &AppSpec) {
        let Some(process) = self.processes.get(&id) else { return };
        let (before, mut instance) = (Rc::clone(&process.name), process.instance);
        if before == spec.name && *process.namespace == *spec.namespace {
            return;
        }
        self.leave_name(id, &before);
        let others = self.instances(&spec.name);
        let is_taken = |number: u32| others.iter().any(|&(other, _)| other == number);
        if is_taken(instance) {
            instance = (0..).find(|&number| !is_taken(number)).unwrap_or(instance);
        }
        let (name, namespace) = self.enter_name(id, spec);
        if let Some(process) = self.processes.get_mut(&id) {
            (process.name, process.namespace, process.instance) = (name, namespace, instance);
        }
    }

    /// Gives only ids from `next` on.
    pub(super) fn reserve(&mut self, next: u32) {
        self.next_id = self.next_id.max(next);
    }

    pub(super) fn remove(&mut self, id: ProcId) {
        let Some(process) = self.processes.remove(&id) else { return };
        self.leave_name(id, &process.name);
    }

    /// Seats a successor beside the process that it is to replace.
    pub(super) fn insert_side(&mut self, id: ProcId, spec: Rc<AppSpec>) {
        let Some(front) = self.processes.get(&id) else { return };
        let process = Process {
            id,
            instance: front.instance,
            seat: Seat::Side(id),
            // Whatever happens to it, it does not come back.
            goal: Goal::Gone,
            state: State::Stopped { rest: Rest::Fresh },
            told: None,
            history: History::default(),
            restarts: 0,
            spec,
            pending: None,
            name: Rc::clone(&front.name),
            namespace: Rc::clone(&front.namespace),
            created_at: front.created_at,
            exits: Exits::default(),
            served: None,
            listens: front.listens,
        };
        self.sides.insert(id, Box::new(Side { process, fate: Fate::Successor }));
    }

    pub(super) fn remove_side(&mut self, id: ProcId) -> Option<Box<Side>> {
        self.sides.remove(&id)
    }

    pub(super) fn seated_mut(&mut self, seat: Seat) -> Option<&mut Process> {
        match seat {
            Seat::Front(id) => self.get_mut(id),
            Seat::Side(id) => self.sides.get_mut(&id).map(|side| &mut side.process),
        }
    }

    pub(super) fn get_mut(&mut self, id: ProcId) -> Option<&mut Process> {
        self.processes.get_mut(&id).map(AsMut::as_mut)
    }

    pub(super) fn side_mut(&mut self, id: ProcId) -> Option<&mut Side> {
        self.sides.get_mut(&id).map(AsMut::as_mut)
    }

    /// The process and what sits beside it, where something does.
    pub(super) fn pair_mut(&mut self, id: ProcId) -> Option<(&mut Process, &mut Side)> {
        Some((self.processes.get_mut(&id)?.as_mut(), self.sides.get_mut(&id)?.as_mut()))
    }

    pub(super) fn get(&self, id: ProcId) -> Option<&Process> {
        self.processes.get(&id).map(AsRef::as_ref)
    }

    pub(super) fn side(&self, id: ProcId) -> Option<&Side> {
        self.sides.get(&id).map(AsRef::as_ref)
    }

    pub(super) fn has_side(&self, id: ProcId) -> bool {
        self.sides.contains_key(&id)
    }

    /// Whether anything sits beside anything.
    pub(super) fn has_sides(&self) -> bool {
        !self.sides.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().map(AsRef::as_ref)
    }

    pub(super) fn ids(&self) -> Vec<ProcId> {
        self.processes.keys().copied().collect()
    }

    pub(super) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The processes of an app, by id; none: there is no such app.
    pub(super) fn members(&self, name: &str) -> &[ProcId] {
        self.apps.get(name).map_or(&[], Vec::as_slice)
    }

    /// The processes of an app, by instance.
    pub(super) fn instances(&self, name: &str) -> Vec<(u32, ProcId)> {
        let members = self.members(name).iter();
        let mut instances: Vec<_> =
            members.filter_map(|&id| Some((self.get(id)?.instance, id))).collect();
        sort(&mut instances);
        instances
    }

    /// The definition of an app, as its first process has it.
    pub(super) fn definition(&self, name: &str) -> Option<&Rc<AppSpec>> {
        self.members(name).first().and_then(|&id| self.get(id)).map(Process::spec)
    }

    /// The names of all apps.
    pub(super) fn apps(&self) -> impl Iterator<Item = &Rc<str>> {
        self.apps.keys()
    }

    /// The processes that a target names, by id; none: it names nothing.
    pub(super) fn resolve(&self, target: &Target) -> Vec<ProcId> {
        match target {
            Target::All => self.ids(),
            Target::Id(id) if self.processes.contains_key(id) => vec![*id],
            Target::Id(id) => self.resolve_name(&id.to_string()),
            Target::Name(name) => self.resolve_name(name),
            Target::Instance(name, instance) => self
                .members(name)
                .iter()
                .copied()
                .filter(|&id| self.get(id).is_some_and(|process| process.instance == *instance))
                .collect(),
        }
    }

    fn resolve_name(&self, name: &str) -> Vec<ProcId> {
        let members = self.members(name);
        if !members.is_empty() {
            return members.to_vec();
        }
        let members = self.iter().filter(|process| &*process.namespace == name);
        members.map(|process| process.id).collect()
    }
}
