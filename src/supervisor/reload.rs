//! Reload: a new child that is ready before the old one is stopped.
//!
//! The successor is a process of its own that sits *beside* the one it is to replace and runs
//! through the same transition table. When it is ready, the two exchange their states, and what
//! was replaced is stopped, now sitting beside. A successor that fails is stopped; nothing else
//! happens. At no other time does one process have two children.
//!
//! Only apps that report readiness are reloaded like this, and only if their ports allow two
//! children; and clusters, whose workers share their sockets: there the successor is ready when it
//! listens (or, where the other never did, when it has lived for a while), and the other is
//! dismissed. Of others nobody could tell when the new child serves; they are restarted, one after
//! the other.

use std::rc::Rc;
use std::time::Duration;

use crate::base::ProcId;
use crate::supervisor::process::{Birth, Change, Event, Goal, Process, Seat, State};
use crate::supervisor::restart::History;
use crate::supervisor::spec::{AppSpec, Ports};
use crate::supervisor::table::{Fate, Side};
use crate::supervisor::tasks::{Phase, TaskId};
use crate::supervisor::timers::{Due, Timer};
use crate::supervisor::vocabulary::{Effect, Failure, Instead, NoticeKind, RestartReason};
use crate::supervisor::{Health, Supervisor, Todo, Turn, Unsaved};

impl Supervisor {
    /// Begins the reload of a process, to `spec` if there is one.
    pub(super) fn begin_reload(
        &mut self,
        task: TaskId,
        id: ProcId,
        spec: Option<Rc<AppSpec>>,
        port: Option<Ports>,
        turn: &mut Turn<'_>,
    ) {
        let Some(open) = self.operations.task_mut(task) else { return };
        if self.table.has_side(id) {
            open.phase = Phase::Parked;
            return;
        }
        let Some(process) = self.table.get(id) else { return };
        let lives = match process.state {
            State::Spawning { .. } | State::Starting { .. } | State::Online { .. } => true,
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Errored { .. } => false,
        };
        let spec = spec.unwrap_or_else(|| Rc::clone(process.spec()));
        let share = spec.is_cluster() && process.running_spec().is_cluster();
        let parts = spec.is_cluster() != process.running_spec().is_cluster();
        let instead = if !spec.wait_ready && !share {
            Some(Instead::NoReadiness)
        } else if parts || (!share && process.would_share_its_port(port.or_else(|| spec.ports()))) {
            Some(Instead::SamePort)
        } else {
            None
        };
        if lives && instead.is_none() {
            open.phase = Phase::Beside;
            self.table.insert_side(id, spec);
            self.serve_instead(Seat::Side(id), port);
            self.with(Seat::Side(id), turn, |successor, cx| successor.bear(Birth::First, cx));
            return;
        }
        open.restarted_instead = instead.filter(|_| lives);
        self.redefine(id, spec, turn);
        self.serve_instead(Seat::Front(id), port);
        let restart = Event::Restart { reason: RestartReason::Reload, kill_timeout: None };
        self.step(Seat::Front(id), restart, turn);
    }

    /// Gives a process another definition; its next child is started from it.
    pub(super) fn redefine(&mut self, id: ProcId, spec: Rc<AppSpec>, turn: &mut Turn<'_>) {
        let Some(process) = self.table.get_mut(id) else { return };
        if Rc::ptr_eq(process.spec(), &spec) {
            return;
        }
        let fields = process.spec().differences(&spec);
        self.table.rename(id, &spec);
        let Some(process) = self.table.get_mut(id) else { return };
        if process.child().is_some() {
            process.pending = Some(spec);
        } else {
            process.pending = None;
            process.spec = spec;
        }
        if !fields.is_empty() {
            let notice = process.notice(NoticeKind::ConfigChanged { fields });
            turn.effects.push(Effect::Publish(notice));
        }
        self.rewind(id, turn);
        self.unsaved = Unsaved::Now;
    }

    /// The process is wanted otherwise: what sits beside it is stopped.
    pub(super) fn end_side(
        &mut self,
        id: ProcId,
        kill_timeout: Option<Duration>,
        turn: &mut Turn<'_>,
    ) {
        self.step(Seat::Side(id), Event::Stop { goal: Goal::Gone, kill_timeout }, turn);
    }

    /// Fires a timer of a process, or of what sits beside it.
    pub(super) fn fire(&mut self, seat: Seat, timer: Timer, turn: &mut Turn<'_>) {
        match (seat, timer) {
            (Seat::Side(id), Timer::Ready)
                if self.table.side(id).is_some_and(|side| side.process.need_not_listen()) =>
            {
                self.step(seat, Event::Ready, turn);
            }
            // A successor counts only when it is ready in time.
            (Seat::Side(id), Timer::Ready) => {
                if let Some(side) = self.table.side_mut(id) {
                    side.fate = Fate::Failed(Failure::NotReady);
                }
                self.end_side(id, None, turn);
            }
            // The job has failed, whoever was to go on with it.
            (Seat::Front(id), Timer::Overrun) => {
                self.end_side(id, None, turn);
                self.step(seat, Event::Timer(timer), turn);
            }
            (
                Seat::Side(_),
                Timer::Kill
                | Timer::Linger
                | Timer::Restart
                | Timer::Probe
                | Timer::Settle
                | Timer::Overrun,
            )
            | (Seat::Front(_), _) => self.step(seat, Event::Timer(timer), turn),
        }
    }

    /// Something happened to what sits beside a process.
    pub(super) fn side_changed(&mut self, id: ProcId, change: &Change, turn: &mut Turn<'_>) {
        match change {
            Change::Online => return self.hand_over(id, turn),
            Change::Died { status, uptime, .. } => {
                self.fail_successor(
                    id,
                    Failure::Died {
                        status: *status,
                        uptime: *uptime,
                        restart_in: None,
                        unstable: 0,
                    },
                );
            }
            Change::NotSpawned(error) => self.fail_successor(id, Failure::Spawn(*error)),
            Change::Unstoppable { left } => self.side_is_unstoppable(id, *left, turn),
            Change::Nothing
            | Change::Stopping
            | Change::Spawned
            | Change::Ready
            | Change::Healthy
            | Change::Unhealthy
            | Change::Settled
            | Change::Ended { .. }
            | Change::Rested => {}
        }
        if self.table.side(id).is_some_and(|side| side.process.is_at_rest()) {
            let killed = matches!(change, Change::Ended { killed: true, .. });
            self.side_is_gone(id, killed, turn);
        }
    }

    fn fail_successor(&mut self, id: ProcId, failure: Failure) {
        let Some(side) = self.table.side_mut(id) else { return };
        match side.fate {
            Fate::Successor => side.fate = Fate::Failed(failure),
            Fate::Failed(_) | Fate::Predecessor => {}
        }
    }

    /// The successor is ready: it takes the place, and the other is stopped.
    fn hand_over(&mut self, id: ProcId, turn: &mut Turn<'_>) {
        let front = Seat::Front(id);
        let of_the_old =
            [Timer::Ready, Timer::Settle, Timer::Restart, Timer::Probe, Timer::Overrun];
        for timer in of_the_old {
            self.timers.cancel(Due::Process(front, timer));
        }
        // The next look at the successor is one at the process from now on.
        let probe = Due::Process(Seat::Side(id), Timer::Probe);
        if let Some(at) = self.timers.at(probe) {
            self.timers.cancel(probe);
            self.timers.arm(Due::Process(front, Timer::Probe), at);
        }
        if let Some(spec) = self.table.side(id).map(|side| Rc::clone(&side.process.spec)) {
            self.table.rename(id, &spec);
        }
        let Some((process, side)) = self.table.pair_mut(id) else { return };
        side.fate = Fate::Predecessor;
        if !Rc::ptr_eq(process.spec(), &side.process.spec) || !process.serves_like(&side.process) {
            self.unsaved = Unsaved::Now;
        }
        if process.goal != Goal::Up {
            // It had ended by itself meanwhile, successfully.
            process.goal = Goal::Up;
            self.unsaved = Unsaved::Now;
        }
        let health = process.health().map(Health::status).unwrap_or_default();
        let changed = replace(process, side);
        for (child, seat) in [(process.child(), front), (side.process.child(), Seat::Side(id))] {
            if let Some(child) = child {
                self.children.seat(child, seat);
            }
        }
        self.with(front, turn, |process, cx| {
            process.tell(cx);
            process.tell_health(health, process.last_probe(), cx);
            if !changed.is_empty() {
                process.publish(NoticeKind::ConfigChanged { fields: changed.clone() }, cx);
            }
            if let Some(pid) = process.pid() {
                let port = process.port();
                process.publish(NoticeKind::Reloaded { pid, port, changed }, cx);
            }
            Change::Online
        });
        self.rewind(id, turn);
        self.front_changed(id, &Change::Online, turn);
        self.end_side(id, None, turn);
    }

    /// `SIGKILL` did not help. It stays where it is until it ends; who waits for that does not.
    fn side_is_unstoppable(&mut self, id: ProcId, left: usize, turn: &mut Turn<'_>) {
        if let Some(process) = self.table.get_mut(id)
            && process.goal == Goal::Gone
        {
            process.goal = Goal::Down;
            self.unsaved = Unsaved::Now;
        }
        for task in self.operations.watching(id) {
            let Some(open) = self.operations.task_mut(task) else { continue };
            match open.phase {
                Phase::Beside | Phase::Parked => {
                    self.close(task, Some(Failure::Unstoppable { left }), turn);
                }
                Phase::Begun => self.consider(task, &Change::Unstoppable { left }, turn),
                Phase::Queued | Phase::Ready => {}
            }
        }
    }

    /// The reload is over, well or not.
    fn side_is_gone(&mut self, id: ProcId, killed: bool, turn: &mut Turn<'_>) {
        let Some(side) = self.table.remove_side(id) else { return };
        if let Some(process) = self.table.get_mut(id) {
            process.exits.absorb(&side.process.exits);
        }
        for task in self.operations.watching(id) {
            let Some(open) = self.operations.task_mut(task) else { continue };
            match open.phase {
                Phase::Beside => {
                    open.killed |= killed;
                    let failure = match &side.fate {
                        Fate::Predecessor => None,
                        Fate::Failed(failure) => Some(failure.clone()),
                        // Another request ended it.
                        Fate::Successor => Some(Failure::Superseded),
                    };
                    self.close(task, failure, turn);
                }
                Phase::Parked => self.todo.push_back(Todo::Resume(task)),
                Phase::Begun => self.consider(task, &Change::Nothing, turn),
                Phase::Queued | Phase::Ready => {}
            }
        }
        self.remove_if_gone(id, turn);
    }
}

/// Exchanges the children of a process and its successor. Returns the fields in which their
/// definitions differ.
fn replace(process: &mut Process, side: &mut Side) -> Vec<&'static str> {
    let changed = process.spec().differences(&side.process.spec);
    std::mem::swap(&mut process.state, &mut side.process.state);
    std::mem::swap(&mut process.spec, &mut side.process.spec);
    std::mem::swap(&mut process.served, &mut side.process.served);
    process.listens |= side.process.listens;
    process.pending = None;
    process.history = History::default();
    process.restarts = process.restarts.saturating_add(1);
    changed
}
