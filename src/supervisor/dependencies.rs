//! Apps that need other apps: who waits for whom, and in what order things are done.
//!
//! An app is started when every instance of every app it depends on is as its condition says.
//! Until then its processes wait. Starting an app starts the apps it depends on too, as far as
//! they are at rest: who asks for the one asks for the other (systemd's `Requires=`). This holds
//! for starts and restarts that were asked for; an automatic restart looks at nobody else.
//!
//! A process that waits is registered at one thing that it misses, and looked at again when that
//! has come. When what is missing fails, the requests in progress for the waiting process fail
//! ([`Failure::Dependency`]); the process goes on waiting, and starts when the other has recovered.

use std::rc::Rc;

use crate::base::ProcId;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::process::{Change, Event, Process, Seat};
use crate::supervisor::spec::{AppSpec, Condition};
use crate::supervisor::vocabulary::Failure;
use crate::supervisor::{Supervisor, Todo, Turn};

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// What is missed, and by whom.
    missed: SortedSet<(ProcId, Need, ProcId)>,
    /// The same from the other side: each waiting process misses one thing.
    waiting: SortedMap<ProcId, (ProcId, Need)>,
}

/// A [`Condition`] with an order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Need {
    Started,
    Ready,
    Healthy,
    Done,
}

impl Dependencies {
    /// Whether this process is registered as waiting.
    pub(super) fn holds(&self, id: ProcId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// The process does not wait any more.
    pub(super) fn forget(&mut self, id: ProcId) {
        if let Some((on, need)) = self.waiting.remove(&id) {
            self.missed.remove(&(on, need, id));
        }
    }

    fn register(&mut self, id: ProcId, on: ProcId, need: Need) {
        self.forget(id);
        self.waiting.insert(id, (on, need));
        self.missed.insert((on, need, id));
    }

    fn is_missed(&self, on: ProcId) -> bool {
        let all = (on, Need::Started, ProcId(0))..=(on, Need::Done, ProcId(u32::MAX));
        self.missed.range(all).next().is_some()
    }

    fn missing(&self, on: ProcId, need: Need) -> Vec<ProcId> {
        let all = (on, need, ProcId(0))..=(on, need, ProcId(u32::MAX));
        self.missed.range(all).map(|&(_, _, id)| id).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.missed.is_empty() && self.waiting.is_empty()
    }
}

impl Need {
    const ALL: [Self; 4] = [Self::Started, Self::Ready, Self::Healthy, Self::Done];

    fn condition(self) -> Condition {
        match self {
            Self::Started => Condition::Started,
            Self::Ready => Condition::Ready,
            Self::Healthy => Condition::Healthy,
            Self::Done => Condition::Done,
        }
    }
}

impl From<Condition> for Need {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Started => Self::Started,
            Condition::Ready => Self::Ready,
            Condition::Healthy => Self::Healthy,
            Condition::Done => Self::Done,
        }
    }
}

impl Supervisor {
    /// Lets a waiting process proceed, or registers it at the first thing it misses. `pull_in`:
    /// starts what it depends on and is at rest.
    pub(super) fn check_dependencies(&mut self, id: ProcId, pull_in: bool, turn: &mut Turn<'_>) {
        let Some(process) = self.table.get(id).filter(|process| process.is_waiting()) else {
            return;
        };
        let mut missed = None;
        for dependency in &process.running_spec().depends_on {
            for &other in self.table.members(&dependency.name) {
                let Some(on) = self.table.get(other) else { continue };
                if on.satisfies(dependency.condition) {
                    continue;
                }
                missed.get_or_insert_with(|| (other, Need::from(dependency.condition)));
                if pull_in && on.is_at_rest() {
                    self.todo.push_back(Todo::Step(Seat::Front(other), Event::Start));
                }
            }
        }
        let Some((other, need)) = missed else {
            self.dependencies.forget(id);
            return self.step(Seat::Front(id), Event::Proceed, turn);
        };
        self.dependencies.register(id, other, need);
        let Some(on) = self.table.get(other) else { return };
        let is_late =
            (need == Need::Ready && on.is_online()) || (need == Need::Healthy && on.is_unhealthy());
        if is_late || (!pull_in && on.is_at_rest()) {
            let failure = Failure::Dependency(on.name().as_ref().to_owned());
            self.fail_starts(id, &failure, turn);
        }
    }

    /// Looks at those who wait for this process, after something happened to it.
    pub(super) fn tell_dependents(&mut self, id: ProcId, change: &Change, turn: &mut Turn<'_>) {
        if !self.dependencies.is_missed(id) {
            return;
        }
        for need in Need::ALL {
            let waiting = self.dependencies.missing(id, need);
            let Some(process) = self.table.get(id) else { return };
            if process.satisfies(need.condition()) {
                for dependent in waiting {
                    self.dependencies.forget(dependent);
                    self.todo.push_back(Todo::Check { id: dependent, pull_in: false });
                }
            } else if has_failed(process, need, change) {
                let failure = Failure::Dependency(process.name().as_ref().to_owned());
                for dependent in waiting {
                    self.fail_starts(dependent, &failure, turn);
                }
            }
        }
    }

    /// This process is no more: who waited for it looks at what is left.
    pub(super) fn free_dependents(&mut self, id: ProcId) {
        for need in Need::ALL {
            for dependent in self.dependencies.missing(id, need) {
                self.dependencies.forget(dependent);
                self.todo.push_back(Todo::Check { id: dependent, pull_in: false });
            }
        }
    }

    /// An app outside `leaving` that needs `name`.
    pub(super) fn dependent_on(&self, name: &str, leaving: &SortedSet<ProcId>) -> Option<&Rc<str>> {
        self.table.apps().find(|app| {
            self.table.definition(app).is_some_and(|spec| depends(spec, name))
                && self.table.members(app).iter().any(|id| !leaving.contains(id))
        })
    }
}

/// Whether what is needed of it will not come now; it may yet come later.
fn has_failed(process: &Process, need: Need, change: &Change) -> bool {
    match change {
        Change::Died { .. } | Change::NotSpawned(_) | Change::Unstoppable { .. } => true,
        Change::Online => need == Need::Ready,
        Change::Unhealthy => need == Need::Healthy,
        Change::Nothing
        | Change::Stopping
        | Change::Spawned
        | Change::Ready
        | Change::Healthy
        | Change::Settled
        | Change::Ended { .. }
        | Change::Rested => process.is_at_rest(),
    }
}

fn depends(spec: &AppSpec, name: &str) -> bool {
    spec.depends_on.iter().any(|dependency| dependency.name == name)
}

/// A circle in the dependencies that can be reached from `roots`, as the names on it.
pub(super) fn find_circle<'a>(
    roots: impl Iterator<Item = &'a str>,
    definition: impl Fn(&str) -> Option<&'a Rc<AppSpec>>,
) -> Option<Vec<&'a str>> {
    let mut finished = SortedSet::new();
    for root in roots {
        // The way from the root to here, each name with the number of its dependencies seen.
        let mut way: Vec<(&str, usize)> = vec![(root, 0)];
        while let Some((name, seen)) = way.last_mut() {
            let next = definition(name).and_then(|spec| spec.depends_on.get(*seen));
            *seen += 1;
            match next.map(|dependency| dependency.name.as_str()) {
                Some(next) => {
                    if let Some(begin) = way.iter().position(|&(name, _)| name == next) {
                        return Some(way[begin..].iter().map(|&(name, _)| name).collect());
                    }
                    if !finished.contains(next) {
                        way.push((next, 0));
                    }
                }
                None => {
                    finished.insert(*name);
                    way.pop();
                }
            }
        }
    }
    None
}

/// Sorts `count` things so that each `before` of a pair comes before its `after`. In a circle, and
/// behind one, there is no such order: `None`.
pub(super) fn in_order(count: usize, pairs: &SortedSet<(usize, usize)>) -> Option<Vec<usize>> {
    let mut open = vec![0_usize; count];
    for &(_, after) in pairs {
        open[after] += 1;
    }
    let mut order: Vec<usize> = (0..count).filter(|&thing| open[thing] == 0).collect();
    let mut done = 0;
    while let Some(&thing) = order.get(done) {
        done += 1;
        for &(_, after) in pairs.range((thing, 0)..=(thing, usize::MAX)) {
            open[after] -= 1;
            if open[after] == 0 {
                order.push(after);
            }
        }
    }
    (order.len() == count).then_some(order)
}
