//! Requests in progress: what is begun when, what is waited for, and the one answer.
//!
//! A request becomes an *operation* with one *task* per process. Tasks of one app form a group;
//! groups may have to wait for one another (a stop goes to dependents first), tasks within a group
//! may go one after the other (a reload), and only so many at a time may be in progress. After
//! every change of a process the tasks that wait for it are judged; when the last task is closed,
//! the operation is answered. An operation may be answered before (no patience, a timeout): what
//! has begun goes on, and what has not yet begun still will.
//!
//! Requests meet at processes. What is in progress is superseded when the goal becomes another;
//! what has not begun is superseded by a later request that wants the opposite.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::ProcId;
use crate::sorted::{SortedMap, SortedSet, sort_by};
use crate::supervisor::dependencies::in_order;
use crate::supervisor::judge::{Judgement, judge};
use crate::supervisor::outcome::{is_broken, not_found, outcome};
use crate::supervisor::process::{Change, Event, Goal, Seat};
use crate::supervisor::spec::Ports;
use crate::supervisor::tasks::{
    Group, Job, Operation, OperationId, Order, Phase, Plan, Slot, Task, TaskId,
};
use crate::supervisor::timers::Due;
use crate::supervisor::vocabulary::{
    Effect, Failure, Outcome, Patience, Reply, RestartReason, Status, Until,
};
use crate::supervisor::{Process, Supervisor, Todo, Turn, Unsaved};

impl Supervisor {
    /// Enters an operation and begins what may begin.
    pub(super) fn open(&mut self, plan: Plan, turn: &mut Turn<'_>) {
        self.supersede(&plan.tasks, turn);
        let id = OperationId(self.operations.next);
        self.operations.next += 1;

        let (groups, group_of, groups_in_order) = self.group(&plan);
        let mut tasks = Vec::with_capacity(plan.tasks.len());
        for (index, ((process, job), group)) in plan.tasks.into_iter().zip(group_of).enumerate() {
            self.operations.watchers.insert((process, TaskId { operation: id, index }));
            tasks.push(Slot::Open(Task {
                process,
                job,
                phase: Phase::Queued,
                group,
                since: turn.now.mono,
                changed: false,
                was_pid: None,
                ended: false,
                killed: false,
                exit: None,
                restarted_instead: None,
            }));
        }
        let mut operation = Operation {
            from: plan.from,
            order: plan.order,
            patience: plan.options.wait,
            answered: false,
            open: tasks.len(),
            tasks,
            missing: plan.missing,
            groups,
            ready: VecDeque::new(),
            busy: 0,
            limit: plan.options.parallel.map_or(usize::MAX, |limit| limit.max(1)),
        };
        for group in groups_in_order {
            if operation.groups[group].blocked_by == 0 {
                operation.release(group);
            }
        }
        self.operations.running.insert(id, operation);
        if let Some(timeout) = plan.options.timeout {
            self.timers.arm(Due::Operation(id), turn.now.mono.after(timeout));
        }
        self.pump(id, turn);
        if plan.options.wait == Patience::None {
            self.answer_early(id, None, turn);
        }
    }

    /// Closes what has not begun and is no longer wanted, now that the opposite is.
    fn supersede(&mut self, tasks: &[(ProcId, Job)], turn: &mut Turn<'_>) {
        for (process, job) in tasks {
            let Some(direction) = job.direction() else { continue };
            for id in self.operations.watching(*process) {
                let Some(task) = self.operations.task(id) else { continue };
                let opposite = task.job.direction().is_some_and(|other| other != direction);
                match task.phase {
                    Phase::Queued | Phase::Ready | Phase::Parked if opposite => {
                        self.close(id, Some(Failure::Superseded), turn);
                    }
                    Phase::Queued | Phase::Ready | Phase::Parked | Phase::Begun | Phase::Beside => {
                    }
                }
            }
        }
    }

    /// Sorts the tasks into groups, one per app: the groups, the group of each task, and the groups
    /// in order.
    fn group(&self, plan: &Plan) -> (Vec<Group>, Vec<usize>, Vec<usize>) {
        let mut group_of = Vec::with_capacity(plan.tasks.len());
        let mut groups: Vec<Group> = Vec::new();
        let mut apps: SortedMap<Rc<str>, usize> = SortedMap::new();
        for (index, (id, _)) in plan.tasks.iter().enumerate() {
            let name = self.table.get(*id).map_or_else(|| Rc::from(""), |it| Rc::clone(it.name()));
            let group = *apps.get_or_insert_with(name, || {
                groups.push(Group::default());
                groups.len() - 1
            });
            group_of.push(group);
            groups[group].tasks.push(index);
            groups[group].open += 1;
        }
        // Pairs of a dependency and its dependent.
        let mut pairs = SortedSet::new();
        for (name, &group) in apps.iter() {
            for dependency in self.table.definition(name).map_or(&[][..], |spec| &spec.depends_on) {
                if let Some(&before) = apps.get(dependency.name.as_str()) {
                    pairs.insert((before, group));
                }
            }
        }
        // A circle can only come from a state file that somebody edited; then any order will do.
        let Some(order) = in_order(groups.len(), &pairs) else {
            let order = (0..groups.len()).collect();
            return (groups, group_of, order);
        };
        match plan.order {
            Order::Up | Order::Rolling => {}
            Order::Down | Order::Shutdown => {
                for (dependency, dependent) in pairs {
                    groups[dependent].then.push(dependency);
                    groups[dependency].blocked_by += 1;
                }
            }
        }
        (groups, group_of, order)
    }

    /// Begins what may begin; ends the operation when nothing is open.
    pub(super) fn pump(&mut self, id: OperationId, turn: &mut Turn<'_>) {
        while let Some(index) = self.operations.running.get_mut(&id).and_then(Operation::next) {
            self.begin(TaskId { operation: id, index }, turn);
        }
        let Some(operation) = self.operations.running.get(&id) else { return };
        if operation.open == 0 {
            if !operation.answered {
                self.answer(id, None, turn);
            }
            self.forget(id);
        }
    }

    fn begin(&mut self, id: TaskId, turn: &mut Turn<'_>) {
        let Some(task) = self.operations.task_mut(id) else { return };
        let Some(process) = self.table.get(task.process) else {
            return self.close(id, Some(Failure::Deleted), turn);
        };
        let (process_id, job) = (task.process, task.job.clone());
        let front = Seat::Front(process_id);
        task.phase = Phase::Begun;
        task.since = turn.now.mono;
        task.was_pid = process.pid();
        if job.direction() == Some(Goal::Up) && process.goal() == Goal::Gone {
            return self.close(id, Some(Failure::Deleted), turn);
        }
        let up = match process.status() {
            Status::Starting | Status::Restarting | Status::Online => true,
            Status::Stopping | Status::Backoff | Status::Stopped | Status::Errored => false,
        };
        if job.direction() == Some(Goal::Up) && process.is_waiting() {
            // It may have to wait for something else from now on.
            self.todo.push_back(Todo::Check { id: process_id, pull_in: true });
        }
        let resting = process.status() == Status::Stopped && !self.table.has_side(process_id);
        match job {
            Job::Start => {
                task.changed = !up;
                if !up {
                    self.serve_instead(front, None);
                }
                self.step(front, Event::Start, turn);
                self.consider(id, &Change::Nothing, turn);
            }
            Job::Stop { kill_timeout } => {
                task.changed = !resting
                    || self.alarms.at(process_id).is_some()
                    || self.watched.has(process_id);
                self.end_side(process_id, kill_timeout, turn);
                self.step(front, Event::Stop { goal: Goal::Down, kill_timeout }, turn);
                self.consider(id, &Change::Nothing, turn);
            }
            Job::Restart { spec, port, kill_timeout } => {
                if let Some(reason) = no_port(port, process) {
                    return self.close(id, Some(Failure::Invalid(reason)), turn);
                }
                task.changed = true;
                self.end_side(process_id, kill_timeout, turn);
                if let Some(spec) = spec {
                    self.redefine(process_id, spec, turn);
                }
                self.serve_instead(front, port);
                let reason = RestartReason::Command;
                self.step(front, Event::Restart { reason, kill_timeout }, turn);
            }
            Job::Reload { spec, port } => {
                if let Some(reason) = no_port(port, process) {
                    return self.close(id, Some(Failure::Invalid(reason)), turn);
                }
                task.changed = true;
                self.begin_reload(id, process_id, spec, port, turn);
            }
            Job::Delete => {
                task.changed = true;
                self.end_side(process_id, None, turn);
                let (goal, kill_timeout) = (Goal::Gone, None);
                self.step(front, Event::Stop { goal, kill_timeout }, turn);
            }
            Job::Halt => {
                task.changed = !resting;
                self.end_side(process_id, None, turn);
                self.step(front, Event::Halt, turn);
                self.consider(id, &Change::Nothing, turn);
            }
            Job::Signal(signal) => {
                let child = process.child().filter(|_| process.pid().is_some());
                task.changed = child.is_some();
                if let Some(child) = child {
                    turn.effects.push(Effect::Signal { child, signal, group: false });
                }
                let failure = child.is_none().then_some(Failure::NotRunning);
                self.close(id, failure, turn);
            }
            Job::Reset => {
                task.changed = process.restarts() > 0 || process.unstable_restarts() > 0;
                if let Some(process) = self.table.get_mut(process_id) {
                    process.reset();
                }
                self.close(id, None, turn);
            }
            Job::Wait(_) => self.consider(id, &Change::Nothing, turn),
            Job::Nothing { changed } => {
                task.changed = changed;
                self.close(id, None, turn);
            }
            Job::Refuse(reason) => self.close(id, Some(Failure::Invalid(reason)), turn),
        }
    }

    /// The port that somebody asked for with this start, or nobody did.
    pub(super) fn serve_instead(&mut self, seat: Seat, ports: Option<Ports>) {
        let Some(process) = self.table.seated_mut(seat) else { return };
        if process.serve_instead(ports) {
            self.unsaved = Unsaved::Now;
        }
    }

    /// A parked reload may begin.
    pub(super) fn resume(&mut self, id: TaskId, turn: &mut Turn<'_>) {
        if self.operations.task(id).is_some_and(|task| task.phase == Phase::Parked) {
            self.begin(id, turn);
        }
    }

    /// Judges the tasks that wait for this process.
    pub(super) fn react(&mut self, process: ProcId, change: &Change, turn: &mut Turn<'_>) {
        for id in self.operations.watching(process) {
            self.consider(id, change, turn);
        }
    }

    pub(super) fn consider(&mut self, id: TaskId, change: &Change, turn: &mut Turn<'_>) {
        let Some(operation) = self.operations.running.get_mut(&id.operation) else { return };
        let Some(Slot::Open(task)) = operation.tasks.get_mut(id.index) else { return };
        if task.phase != Phase::Begun {
            return;
        }
        let Some(process) = self.table.get(task.process) else { return };
        task.note(change);
        let has_side = self.table.has_side(task.process);
        match judge(task, process, has_side, change, operation.patience, turn.now.mono) {
            Judgement::Wait => {}
            Judgement::Settle(at) => self.timers.arm(Due::settle(task.process), at),
            Judgement::Done => self.close(id, None, turn),
            Judgement::Failed(failure) => self.close(id, Some(failure), turn),
        }
    }

    /// The tasks that wait for this process to be up fail.
    pub(super) fn fail_starts(&mut self, process: ProcId, failure: &Failure, turn: &mut Turn<'_>) {
        for id in self.operations.watching(process) {
            let starts = self.operations.task(id).is_some_and(|task| {
                task.phase == Phase::Begun && task.job.direction() == Some(Goal::Up)
            });
            if starts {
                self.close(id, Some(failure.clone()), turn);
            }
        }
    }

    /// The process leaves the table: all its tasks are closed.
    pub(super) fn close_removed(&mut self, process: ProcId, turn: &mut Turn<'_>) {
        for id in self.operations.watching(process) {
            let Some(task) = self.operations.task(id) else { continue };
            let wanted = match task.job {
                Job::Delete
                | Job::Stop { .. }
                | Job::Halt
                | Job::Wait(Until::Stopped | Until::Done) => true,
                Job::Start
                | Job::Restart { .. }
                | Job::Reload { .. }
                | Job::Signal(_)
                | Job::Reset
                | Job::Wait(Until::Online | Until::Ready | Until::Healthy)
                | Job::Nothing { .. }
                | Job::Refuse(_) => false,
            };
            self.close(id, (!wanted).then_some(Failure::Deleted), turn);
        }
    }

    /// The supervisor goes down: what wants something up will not get it.
    pub(super) fn close_hopeless(&mut self, turn: &mut Turn<'_>) {
        for id in self.operations.open_tasks() {
            let Some(task) = self.operations.task(id) else { continue };
            let unbegun = match task.phase {
                Phase::Queued | Phase::Ready | Phase::Parked => true,
                Phase::Begun | Phase::Beside => false,
            };
            let hopeless = match task.job {
                Job::Wait(Until::Online | Until::Ready | Until::Healthy) => true,
                Job::Wait(Until::Stopped | Until::Done) => false,
                Job::Start
                | Job::Restart { .. }
                | Job::Reload { .. }
                | Job::Stop { .. }
                | Job::Delete
                | Job::Halt
                | Job::Signal(_)
                | Job::Reset
                | Job::Nothing { .. }
                | Job::Refuse(_) => unbegun || task.job.direction() == Some(Goal::Up),
            };
            if hopeless {
                self.close(id, Some(Failure::Superseded), turn);
            }
        }
    }

    /// Closes a task with its outcome.
    pub(super) fn close(&mut self, id: TaskId, failure: Option<Failure>, turn: &mut Turn<'_>) {
        let Some(operation) = self.operations.running.get_mut(&id.operation) else { return };
        let Some(slot) = operation.tasks.get_mut(id.index) else { return };
        let Slot::Open(task) = slot else { return };
        let (process, group, phase) = (task.process, task.group, task.phase);
        let breaks = operation.order == Order::Rolling && failure.as_ref().is_some_and(is_broken);
        let outcome = outcome(&self.table, task, failure, turn.now.mono);
        let label = format!("{}:{}", outcome.name, outcome.instance);
        *slot = Slot::Closed(Box::new(outcome));
        operation.open -= 1;
        match phase {
            Phase::Queued | Phase::Ready => {}
            Phase::Begun | Phase::Beside | Phase::Parked => operation.busy -= 1,
        }
        operation.advance(group, phase != Phase::Queued);
        self.operations.watchers.remove(&(process, id));
        if breaks {
            self.break_off(id.operation, group, label, turn);
        }
        self.todo.push_back(Todo::Pump(id.operation));
        self.catch_up_with_files(process);
    }

    /// A reload of one process failed: those of the same app that have not begun are left alone.
    fn break_off(&mut self, id: OperationId, group: usize, label: String, turn: &mut Turn<'_>) {
        let Some(group) = self.operations.running.get(&id).and_then(|it| it.groups.get(group))
        else {
            return;
        };
        for index in group.tasks.clone() {
            let id = TaskId { operation: id, index };
            let unbegun = self.operations.task(id).is_some_and(|task| match task.phase {
                Phase::Queued | Phase::Ready | Phase::Parked => true,
                Phase::Begun | Phase::Beside => false,
            });
            if unbegun {
                self.close(id, Some(Failure::Dependency(label.clone())), turn);
            }
        }
    }

    /// Nobody waits any longer for this operation.
    pub(super) fn time_out(&mut self, id: OperationId, turn: &mut Turn<'_>) {
        self.answer_early(id, Some(&Failure::TimedOut), turn);
    }

    /// Answers an operation that may have open tasks. It goes on only as far as it is needed for
    /// what has not begun; what has begun goes on by itself.
    fn answer_early(&mut self, id: OperationId, open: Option<&Failure>, turn: &mut Turn<'_>) {
        let Some(operation) = self.operations.running.get(&id) else { return };
        if !operation.answered {
            self.answer(id, open, turn);
        }
        if self.operations.running.get(&id).is_some_and(|operation| !operation.has_unbegun()) {
            self.forget(id);
        }
    }

    fn answer(&mut self, id: OperationId, open: Option<&Failure>, turn: &mut Turn<'_>) {
        self.timers.cancel(Due::Operation(id));
        let Some(operation) = self.operations.running.get_mut(&id) else { return };
        operation.answered = true;
        let to = operation.from;
        let reply = match operation.order {
            Order::Shutdown => Reply::Stopped,
            Order::Up | Order::Rolling | Order::Down => {
                let mut outcomes: Vec<Outcome> = operation
                    .tasks
                    .iter()
                    .map(|slot| match slot {
                        Slot::Open(task) => {
                            outcome(&self.table, task, open.cloned(), turn.now.mono)
                        }
                        Slot::Closed(outcome) => outcome.as_ref().clone(),
                    })
                    .collect();
                sort_by(&mut outcomes, |one, two| one.process < two.process);
                outcomes.extend(std::mem::take(&mut operation.missing).into_iter().map(not_found));
                Reply::Outcomes(outcomes)
            }
        };
        self.save(turn);
        turn.effects.push(Effect::Reply { to, reply });
    }

    fn forget(&mut self, id: OperationId) {
        self.timers.cancel(Due::Operation(id));
        let Some(operation) = self.operations.running.remove(&id) else { return };
        for (index, slot) in operation.tasks.iter().enumerate() {
            if let Slot::Open(task) = slot {
                self.operations.watchers.remove(&(task.process, TaskId { operation: id, index }));
            }
        }
    }
}

/// Why this process cannot have one of the ports that were asked for.
fn no_port(ports: Option<Ports>, process: &Process) -> Option<String> {
    let ports @ Ports::Range { .. } = ports? else { return None };
    let (name, instance) = (process.name(), process.instance());
    ports.fixed(instance).is_none().then(|| format!("{name}:{instance} has no port in {ports}"))
}
