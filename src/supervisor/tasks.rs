//! The parts of operations: tasks, groups of tasks, and which of them may begin.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ExitStatus, Pid, ProcId, Signal, Time};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::process::{Change, Goal};
use crate::supervisor::spec::{AppSpec, Ports};
use crate::supervisor::vocabulary::{Instead, Options, Outcome, Patience, ReplyTo, Target, Until};

/// Names an operation; never reused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct OperationId(pub(super) u64);

/// A task of an operation, by its place there.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct TaskId {
    pub(super) operation: OperationId,
    pub(super) index: usize,
}

/// What is done to one process.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Start,
    Stop {
        kill_timeout: Option<Duration>,
    },
    Restart {
        spec: Option<Rc<AppSpec>>,
        port: Option<Ports>,
        kill_timeout: Option<Duration>,
    },
    Reload {
        spec: Option<Rc<AppSpec>>,
        port: Option<Ports>,
    },
    Delete,
    /// Stop, because the supervisor goes down.
    Halt,
    Signal(Signal),
    Reset,
    Wait(Until),
    /// It was done when the request was read: `changed`, or there was nothing to do.
    Nothing {
        changed: bool,
    },
    Refuse(String),
}

/// Everything that is asked by one request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) from: ReplyTo,
    pub(super) tasks: Vec<(ProcId, Job)>,
    /// Targets that name no process.
    pub(super) missing: Vec<Target>,
    pub(super) options: Options,
    pub(super) order: Order,
}

/// In what order the apps of an operation are worked on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Dependencies first. They are not waited for: a process does that itself.
    Up,
    /// As `Up`, and the processes of one app one after the other.
    Rolling,
    /// Dependents first, and an app only when they are done.
    Down,
    /// As `Down`; the answer is `Reply::Stopped`.
    Shutdown,
}

/// Operations in progress.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) running: SortedMap<OperationId, Operation>,
    /// The open tasks of each process.
    pub(super) watchers: SortedSet<(ProcId, TaskId)>,
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) from: ReplyTo,
    pub(super) order: Order,
    pub(super) patience: Patience,
    pub(super) answered: bool,
    pub(super) tasks: Vec<Slot>,
    pub(super) missing: Vec<Target>,
    pub(super) groups: Vec<Group>,
    /// Tasks that may begin, in order.
    pub(super) ready: VecDeque<usize>,
    /// Tasks not closed.
    pub(super) open: usize,
    /// Tasks begun and not closed, and how many there may be.
    pub(super) busy: usize,
    pub(super) limit: usize,
}

#[derive(Debug)]
pub(super) enum Slot {
    Open(Task),
    Closed(Box<Outcome>),
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) process: ProcId,
    pub(super) job: Job,
    pub(super) phase: Phase,
    pub(super) group: usize,
    pub(super) since: Time,
    /// Something was done for it.
    pub(super) changed: bool,
    pub(super) was_pid: Option<Pid>,
    /// The child was ended, whatever came then.
    pub(super) ended: bool,
    pub(super) killed: bool,
    pub(super) exit: Option<ExitStatus>,
    pub(super) restarted_instead: Option<Instead>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Its turn has not come.
    Queued,
    /// It may begin.
    Ready,
    /// Begun; it waits for the process.
    Begun,
    /// Begun; it waits for what sits beside the process.
    Beside,
    /// A reload that waits for the end of another one.
    Parked,
}

/// The tasks of one app.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) tasks: Vec<usize>,
    /// Of `tasks`, how many have had their turn.
    pub(super) turns: usize,
    pub(super) open: usize,
    /// Groups that must be done before this one, and those for which this one must.
    pub(super) blocked_by: usize,
    pub(super) then: Vec<usize>,
}

impl Task {
    /// Keeps what the answer will tell.
    pub(super) fn note(&mut self, change: &Change) {
        match change {
            Change::Ended { status, killed } => {
                self.ended = true;
                self.killed |= killed;
                self.exit = status.or(self.exit);
            }
            Change::Died { status, .. } => self.exit = Some(*status),
            Change::Nothing
            | Change::Stopping
            | Change::Spawned
            | Change::Online
            | Change::Ready
            | Change::Healthy
            | Change::Unhealthy
            | Change::Settled
            | Change::NotSpawned(_)
            | Change::Rested
            | Change::Unstoppable { .. } => {}
        }
    }
}

impl Job {
    /// Whether it wants the process up or down, if it wants either.
    pub(super) fn direction(&self) -> Option<Goal> {
        match self {
            Self::Start | Self::Restart { .. } | Self::Reload { .. } => Some(Goal::Up),
            Self::Stop { .. } | Self::Delete | Self::Halt => Some(Goal::Down),
            Self::Signal(_)
            | Self::Reset
            | Self::Wait(_)
            | Self::Nothing { .. }
            | Self::Refuse(_) => None,
        }
    }
}

impl Operations {
    pub(super) fn task(&self, id: TaskId) -> Option<&Task> {
        match self.running.get(&id.operation)?.tasks.get(id.index)? {
            Slot::Open(task) => Some(task),
            Slot::Closed(_) => None,
        }
    }

    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        match self.running.get_mut(&id.operation)?.tasks.get_mut(id.index)? {
            Slot::Open(task) => Some(task),
            Slot::Closed(_) => None,
        }
    }

    /// The open tasks of a process, oldest first.
    pub(super) fn watching(&self, process: ProcId) -> Vec<TaskId> {
        let first = TaskId { operation: OperationId(0), index: 0 };
        let last = TaskId { operation: OperationId(u64::MAX), index: usize::MAX };
        self.watchers.range((process, first)..=(process, last)).map(|&(_, id)| id).collect()
    }

    /// Every open task.
    pub(super) fn open_tasks(&self) -> Vec<TaskId> {
        self.watchers.iter().map(|&(_, id)| id).collect()
    }

    /// The processes of tasks that wait for what sits beside them.
    #[cfg(test)]
    pub(super) fn waiting_for_sides(&self) -> impl Iterator<Item = ProcId> {
        self.watchers.iter().filter_map(|&(process, id)| match self.task(id)?.phase {
            Phase::Beside | Phase::Parked => Some(process),
            Phase::Queued | Phase::Ready | Phase::Begun => None,
        })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.watchers.is_empty()
    }
}

impl Operation {
    /// Gives the tasks of a group their turn: all of them, or the next.
    pub(super) fn release(&mut self, group: usize) {
        let Some(group) = self.groups.get_mut(group) else { return };
        while let Some(&index) = group.tasks.get(group.turns) {
            group.turns += 1;
            if let Some(Slot::Open(task)) = self.tasks.get_mut(index) {
                task.phase = Phase::Ready;
                self.ready.push_back(index);
                if self.order == Order::Rolling {
                    break;
                }
            }
        }
    }

    /// A task of this group is closed; `had_turn`: it was not waiting for its turn.
    pub(super) fn advance(&mut self, group: usize, had_turn: bool) {
        let Some(this) = self.groups.get_mut(group) else { return };
        this.open -= 1;
        if this.open > 0 {
            if had_turn && self.order == Order::Rolling {
                self.release(group);
            }
            return;
        }
        for next in std::mem::take(&mut this.then) {
            let Some(other) = self.groups.get_mut(next) else { continue };
            other.blocked_by -= 1;
            if other.blocked_by == 0 {
                self.release(next);
            }
        }
    }

    /// The next task to begin, as far as the limit allows.
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.busy < self.limit {
            let index = self.ready.pop_front()?;
            if let Some(Slot::Open(task)) = self.tasks.get_mut(index) {
                task.phase = Phase::Begun;
                self.busy += 1;
                return Some(index);
            }
        }
        None
    }

    /// Whether a task needs this operation in order to go on.
    pub(super) fn has_unbegun(&self) -> bool {
        self.tasks.iter().any(|slot| match slot {
            Slot::Open(task) => match task.phase {
                Phase::Queued | Phase::Ready | Phase::Parked => true,
                Phase::Begun | Phase::Beside => false,
            },
            Slot::Closed(_) => false,
        })
    }
}
