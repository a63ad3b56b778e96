//! Policy: decides what becomes of processes.
//!
//! Inputs and the time go in, effects come out; no I/O, no clock, no randomness of its own. Given
//! the same inputs at the same times it does the same things in the same order.
//!
//! | file            | what it knows                                                      |
//! |-----------------|--------------------------------------------------------------------|
//! | `spec`          | what is to be run and how                                          |
//! | `vocabulary`    | the words that go in and out                                       |
//! | `process`       | one process: states, events, the transition table                  |
//! | `life`, `view`  | how its transitions are made; what it tells about itself           |
//! | `restart`       | whether and when it gets another life                              |
//! | `limits`        | what a measurement leads to                                        |
//! | `schedule`      | times of day, and which of them is next                            |
//! | `alarms`        | what happens at them                                               |
//! | `watched`       | whose files are watched, and what a change of them leads to       |
//! | `exits`         | how its last children ended                                        |
//! | `served`        | its port                                                           |
//! | `health`        | whether it is healthy                                              |
//! | `reload`        | its second child, while it is being reloaded                       |
//! | `table`         | all processes, by id and by app                                    |
//! | `children`      | which child sits where                                             |
//! | `timers`        | what is due when                                                   |
//! | `dependencies`  | who waits for whom                                                 |
//! | `requests`      | what a request asks of which process                               |
//! | `create`        | the same for apps that are to be entered, replaced, resized        |
//! | `operations`    | requests in progress: what is begun when, and when it is answered  |
//! | `tasks`         | the parts they consist of                                          |
//! | `judge`         | when a task of theirs is done                                      |
//! | `outcome`       | what is told of it                                                 |
//! | `snapshot`      | what is written down                                               |

use std::collections::VecDeque;

use crate::base::{ChildId, Now, ProcId, Time};
use crate::supervisor::alarms::Alarms;
use crate::supervisor::children::Children;
use crate::supervisor::dependencies::Dependencies;
use crate::supervisor::process::{Change, Context, Event, Seat};
use crate::supervisor::table::Table;
use crate::supervisor::tasks::{OperationId, Operations, TaskId};
use crate::supervisor::timers::{Due, Timers};
use crate::supervisor::vocabulary::{Effect, Input, NoticeKind, Probe, Target};
use crate::supervisor::watched::Watched;

mod alarms;
mod children;
mod create;
mod dependencies;
mod exits;
mod health;
mod judge;
mod life;
mod limits;
mod operations;
mod outcome;
mod process;
mod reload;
mod requests;
mod restart;
pub mod schedule;
mod served;
mod snapshot;
pub mod spec;
mod table;
mod tasks;
mod timers;
mod view;
pub mod vocabulary;
mod watched;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use exits::{Exit, ExitReason};
pub use health::Health;
pub use process::{Goal, Process};
pub use snapshot::{Adopted, Snapshot};

/// All processes, and everything that is decided about them.
#[derive(Debug, Default)]
pub struct Supervisor {
    table: Table,
    children: Children,
    timers: Timers,
    alarms: Alarms,
    watched: Watched,
    dependencies: Dependencies,
    operations: Operations,
    /// What follows from what is being handled; empty between two calls.
    todo: VecDeque<Todo>,
    unsaved: Unsaved,
    /// Everything is being stopped; nothing is spawned any more.
    halting: bool,
}

/// What remains to be done in this call.
#[derive(Clone, Copy, Debug)]
enum Todo {
    Step(Seat, Event),
    /// See whether this process has to wait any longer.
    Check {
        id: ProcId,
        pull_in: bool,
    },
    /// Begin what may begin now.
    Pump(OperationId),
    /// Begin a reload that had to wait for another one.
    Resume(TaskId),
}

/// Whether the table differs from what was saved last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Unsaved {
    #[default]
    Nothing,
    /// Saved before the next answer.
    Later,
    /// Saved in this call.
    Now,
}

/// One call: its time, and where its effects go.
struct Turn<'a> {
    now: Now,
    effects: &'a mut Vec<Effect>,
}

impl Supervisor {
    /// A supervisor with an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one thing that happened and appends what must be done about it to `effects`.
    ///
    /// Effects are to be carried out in their order, all of one call before the outcome of any of
    /// them is handed in: notices would overtake each other otherwise. Time must not run backwards.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        match input {
            Input::Request { from, request } => self.request(from, request, turn),
            Input::Spawned { child, pid, port } => {
                self.given(child, port);
                self.news(child, Event::Spawned(pid), turn);
            }
            Input::SpawnFailed { child, error } => {
                self.news(child, Event::SpawnFailed(error), turn);
            }
            Input::Probed { child, probe } => self.probed(child, probe, turn),
            Input::Ready { child } => self.news(child, Event::Ready, turn),
            Input::Listening { child } => self.listening(child, turn),
            Input::Left { child } => self.news(child, Event::Left, turn),
            Input::Exited { child, status } => self.news(child, Event::Exited(status), turn),
            Input::Swept { child, left } => self.news(child, Event::Swept(left), turn),
            Input::Measured { child, memory } => self.measured(child, memory, turn),
            Input::Changed { process } => self.files_changed(process),
        }
        self.settle(turn);
    }

    /// Fires every timer that is due at `now`, in order of their deadlines.
    pub fn handle_timeout(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        while let Some(due) = self.timers.pop_due(now.mono) {
            match due {
                Due::Process(seat, timer) => self.fire(seat, timer, turn),
                Due::Operation(operation) => self.time_out(operation, turn),
            }
            self.settle(turn);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next; `None`: nothing is due, ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Gives only numbers above `child` to children from here on.
    pub fn reserve_children(&mut self, child: ChildId) {
        self.children.reserve(child);
    }

    /// All processes, by ascending id.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.table.iter()
    }

    #[must_use]
    pub fn process(&self, id: ProcId) -> Option<&Process> {
        self.table.get(id)
    }

    /// The process of a child that was asked for and is not done with; of a child that is to
    /// replace another during a reload, or was replaced, the process it (has) served.
    #[must_use]
    pub fn process_of(&self, child: ChildId) -> Option<&Process> {
        self.children.find(child).and_then(|seat| self.table.get(seat.process()))
    }

    /// The processes that a target names, by ascending id. Empty: it names nothing.
    #[must_use]
    pub fn resolve(&self, target: &Target) -> Vec<ProcId> {
        self.table.resolve(target)
    }

    /// Nothing runs, and nothing will without being asked. What could not be stopped does not
    /// count, nor do processes that wait for others that are not coming; what waits for its time does.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.alarms.is_empty()
            && !self.table.has_sides()
            && !self.table.iter().any(Process::is_active)
    }

    /// A child has been given its port. Which one is saved, so that it is the same the next time.
    fn given(&mut self, child: ChildId, port: Option<u16>) {
        let Some(seat) = self.children.find(child) else { return };
        let Some(process) = self.table.seated_mut(seat) else { return };
        if process.give(port) && seat == Seat::Front(process.id) {
            self.unsaved = Unsaved::Now;
        }
    }

    fn probed(&mut self, child: ChildId, probe: Probe, turn: &mut Turn<'_>) {
        let Some(seat) = self.children.find(child) else { return };
        let found = probe.found;
        if let Some(process) = self.table.seated_mut(seat) {
            process.note_probe(turn.now.wall, probe);
        }
        self.step(seat, Event::Probed(found), turn);
    }

    /// Where a worker's successor is waited for, this is what it was to do.
    fn listening(&mut self, child: ChildId, turn: &mut Turn<'_>) {
        let Some(seat) = self.children.find(child) else { return };
        let Some(process) = self.table.seated_mut(seat) else { return };
        process.listens = true;
        if process.awaits_listening() {
            self.step(seat, Event::Ready, turn);
        }
    }

    fn news(&mut self, child: ChildId, event: Event, turn: &mut Turn<'_>) {
        if let Some(seat) = self.children.find(child) {
            self.step(seat, event, turn);
        }
    }

    /// Does what follows, until nothing does.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Step(seat, event) => self.step(seat, event, turn),
                Todo::Check { id, pull_in } => self.check_dependencies(id, pull_in, turn),
                Todo::Pump(operation) => self.pump(operation, turn),
                Todo::Resume(task) => self.resume(task, turn),
            }
        }
        if self.unsaved == Unsaved::Now {
            self.save(turn);
        }
    }

    /// Puts a `Save` before what comes next, if there is anything to be saved.
    fn save(&mut self, turn: &mut Turn<'_>) {
        if self.unsaved != Unsaved::Nothing {
            self.unsaved = Unsaved::Nothing;
            turn.effects.push(Effect::Save);
        }
    }

    /// Gives one event to one process, and looks at what that meant for others.
    fn step(&mut self, seat: Seat, event: Event, turn: &mut Turn<'_>) {
        let Some(before) = self.table.seated_mut(seat).map(|process| process.lasting()) else {
            return;
        };
        let change = self.with(seat, turn, |process, cx| process.step(event, cx));
        match seat {
            Seat::Front(id) => {
                if self.table.get(id).is_some_and(|process| process.lasting() != before) {
                    self.unsaved = Unsaved::Now;
                }
                self.front_changed(id, &change, turn);
            }
            Seat::Side(id) => self.side_changed(id, &change, turn),
        }
    }

    /// Works on one process with all that its transitions may touch.
    fn with(
        &mut self,
        seat: Seat,
        turn: &mut Turn<'_>,
        work: impl FnOnce(&mut Process, &mut Context<'_>) -> Change,
    ) -> Change {
        let Some(process) = self.table.seated_mut(seat) else { return Change::Nothing };
        let cx = &mut Context {
            now: turn.now,
            timers: &mut self.timers,
            children: &mut self.children,
            effects: turn.effects,
            halting: self.halting,
        };
        work(process, cx)
    }

    fn front_changed(&mut self, id: ProcId, change: &Change, turn: &mut Turn<'_>) {
        let Some(process) = self.table.get(id) else { return };
        if !process.is_waiting() {
            self.dependencies.forget(id);
        } else if !self.dependencies.holds(id) {
            self.todo.push_back(Todo::Check { id, pull_in: true });
        }
        self.wind(id, turn);
        if matches!(change, Change::Nothing) {
            return;
        }
        self.tell_dependents(id, change, turn);
        self.react(id, change, turn);
        self.remove_if_gone(id, turn);
    }

    /// Takes a process out of the table that was to go and has nothing left that lives.
    fn remove_if_gone(&mut self, id: ProcId, turn: &mut Turn<'_>) {
        let Some(process) = self.table.get(id) else { return };
        if process.goal() != Goal::Gone || !process.is_at_rest() || self.table.has_side(id) {
            return;
        }
        turn.effects.push(Effect::Forget { process: id });
        turn.effects.push(Effect::Publish(process.notice(NoticeKind::Deleted)));
        self.close_removed(id, turn);
        self.free_dependents(id);
        self.table.remove(id);
        self.wind(id, turn);
        if self.unsaved == Unsaved::Nothing {
            self.unsaved = Unsaved::Later;
        }
    }
}
