//! Restarts because files changed: which processes are to be watched, and what a change leads to.
//!
//! A process is watched as long as it is wanted, and after it ended by itself: whoever mends a program
//! that failed wants to see it run. Not after somebody stopped it.

use crate::base::ProcId;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::alarms::is_awaited;
use crate::supervisor::process::{Event, Goal, Process, Rest, Seat, State};
use crate::supervisor::vocabulary::RestartReason;
use crate::supervisor::{Supervisor, Todo};

/// Who is watched.
#[derive(Debug, Default)]
pub(super) struct Watched {
    ids: SortedSet<ProcId>,
    /// Who is watched, is not any more, or is otherwise, since it was asked last.
    changed: SortedSet<ProcId>,
    /// Whom PM2's clients switched on or off.
    switched: SortedMap<ProcId, bool>,
    /// What changed while somebody waited for them to be up.
    late: SortedSet<ProcId>,
}

impl Watched {
    pub(super) fn has(&self, id: ProcId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn clear(&mut self) {
        *self = Self { changed: std::mem::take(&mut self.ids), ..Self::default() };
    }
}

impl Process {
    fn is_mended(&self) -> bool {
        match (self.goal, self.state) {
            (Goal::Up, _) => true,
            (Goal::Down, State::Stopped { rest: Rest::Failed }) => true,
            (Goal::Down, State::Stopped { rest: Rest::Done }) => self.spec().starts_by_itself(),
            (Goal::Down | Goal::Gone, _) => false,
        }
    }
}

impl Supervisor {
    /// The processes whose files are to be watched, by ascending id.
    pub fn watched(&self) -> impl Iterator<Item = &Process> {
        self.watched.ids.iter().filter_map(|&id| self.table.get(id))
    }

    /// The processes that came into [`Self::watched`] or went since the last call, or for which
    /// something else is to be watched.
    pub fn take_watched_changed(&mut self) -> SortedSet<ProcId> {
        std::mem::take(&mut self.watched.changed)
    }

    /// Switches the watching of one process on or off, whatever its definition says; `None`: as
    /// that says.
    pub fn switch_watch(&mut self, id: ProcId, to: Option<bool>) {
        match to {
            Some(on) => self.watched.switched.insert(id, on),
            None => self.watched.switched.remove(&id),
        };
        self.look_whether_watched(id);
    }

    /// Whether a process is watched while it is wanted.
    #[must_use]
    pub fn is_watch_on(&self, id: ProcId) -> bool {
        let declared = || self.table.get(id).is_some_and(|it| !it.spec().watch.is_empty());
        self.watched.switched.get(&id).copied().unwrap_or_else(declared)
    }

    /// Something happened to this process.
    pub(super) fn look_whether_watched(&mut self, id: ProcId) {
        let process = self.table.get(id);
        if process.is_none() {
            self.watched.switched.remove(&id);
        }
        let is_wanted = process.is_some_and(Process::is_mended) && !self.halting;
        if is_wanted && self.is_watch_on(id) {
            if self.watched.ids.insert(id) {
                self.watched.changed.insert(id);
            }
        } else if self.watched.ids.remove(&id) {
            self.watched.changed.insert(id);
            self.watched.late.remove(&id);
        }
    }

    /// Its definition is another.
    pub(super) fn watch_anew(&mut self, id: ProcId) {
        self.look_whether_watched(id);
        if self.watched.ids.contains(&id) {
            self.watched.changed.insert(id);
        }
    }

    /// Files of a process have changed.
    pub(super) fn files_changed(&mut self, id: ProcId) {
        let Some(process) = self.table.get(id) else { return };
        // Whoever is being started or replaced for another reason finds the new files, or will.
        let is_moot = matches!(process.state, State::Stopping(_)) || self.table.has_side(id);
        if is_moot || !self.watched.ids.contains(&id) {
            return;
        }
        if is_awaited(&self.operations, id) {
            self.watched.late.insert(id);
        } else {
            self.todo.push_back(Todo::Step(Seat::Front(id), because_files_changed()));
        }
    }

    /// Perhaps nobody waits for this process any more.
    pub(super) fn catch_up_with_files(&mut self, id: ProcId) {
        if self.watched.late.contains(&id) && !is_awaited(&self.operations, id) {
            self.watched.late.remove(&id);
            self.files_changed(id);
        }
    }
}

fn because_files_changed() -> Event {
    Event::Restart { reason: RestartReason::Watch, kill_timeout: None }
}
