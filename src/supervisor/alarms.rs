//! What happens at times of day: restarts by the clock, and runs of jobs.
//!
//! An alarm is armed as long as its process is to be seen to: not after somebody stopped it, until
//! somebody starts it again. It stands on the wall clock, so the daemon has to say when that was
//! set. A time that was missed (the host slept, the clock was put forward) is not made up, unless
//! it is only a moment ago; one that has been is not had again when the clock is put back a little.

use crate::base::{Now, ProcId, WallTime};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::process::{Event, Process, Rest, Seat, State};
use crate::supervisor::schedule::{Schedule, Zone};
use crate::supervisor::spec::{AppSpec, Overlap};
use crate::supervisor::tasks::{Operations, Phase};
use crate::supervisor::vocabulary::{Effect, RestartReason};
use crate::supervisor::{Goal, Supervisor, Todo, Turn, Unsaved};

/// A time that is longer ago has been missed, in milliseconds.
const LATE: u64 = 60_000;

/// A clock that is put back by no more than this repeats nothing, in milliseconds.
const STEP_BACK: u64 = 3_600_000;

/// Who is to be woken when.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    zone: Zone,
    armed: SortedMap<ProcId, WallTime>,
    /// The first of them.
    next: Option<WallTime>,
    /// The last that came.
    rang: WallTime,
    /// Jobs that are run again when their present run is over.
    queued: SortedSet<ProcId>,
}

impl Alarms {
    pub(super) fn at(&self, id: ProcId) -> Option<WallTime> {
        self.armed.get(&id).copied()
    }

    pub(super) fn clear(&mut self) {
        *self = Self { zone: self.zone, rang: self.rang, ..Self::default() };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    fn arm(&mut self, id: ProcId, at: Option<WallTime>) {
        match at {
            Some(at) => self.armed.insert(id, at),
            None => self.armed.remove(&id),
        };
        self.next = self.armed.values().min().copied();
    }

    /// From when on the next time counts.
    fn base(&self, now: WallTime) -> WallTime {
        let is_again = (1..=STEP_BACK).contains(&self.rang.0.saturating_sub(now.0));
        if is_again { self.rang } else { now }
    }
}

impl AppSpec {
    /// When something is to happen to it by itself.
    #[must_use]
    pub fn clock(&self) -> Option<&Schedule> {
        self.schedule.as_ref().or(self.cron_restart.as_ref())
    }

    /// Whether the clock or a change of files may start what has ended.
    #[must_use]
    pub fn starts_by_itself(&self) -> bool {
        self.clock().is_some() || !self.watch.is_empty()
    }

    /// Whether it runs at its times only, not when it is entered.
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        self.schedule.is_some()
    }
}

impl Process {
    /// Whether it may be started by the clock.
    fn may_be_started(&self) -> bool {
        match (self.goal, self.state) {
            (Goal::Gone, _) => false,
            (Goal::Up, _) => true,
            (Goal::Down, State::Stopped { rest }) => rest != Rest::Asked,
            (Goal::Down, State::Stopping(ending) | State::Errored { undead: Some(ending), .. }) => {
                ending.reason == RestartReason::Overrun
            }
            (
                Goal::Down,
                State::Waiting { .. }
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Online { .. }
                | State::Backoff { .. }
                | State::Errored { undead: None, .. },
            ) => false,
        }
    }

    /// What of it outlives the daemon: where it is wanted, and why it rests. Runs of a job that come
    /// and go with the clock are nothing to be written down.
    pub(super) fn lasting(&self) -> (Goal, Rest) {
        match self.state {
            _ if self.spec().is_scheduled() && self.goal != Goal::Gone => {
                (Goal::Down, if self.may_be_started() { Rest::Fresh } else { Rest::Asked })
            }
            State::Stopped { rest } => (self.goal, rest),
            State::Waiting { .. }
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Online { .. }
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Errored { .. } => (self.goal, Rest::Asked),
        }
    }

    /// To PM2 a stop does not end what the clock does.
    pub(super) fn is_wound(&self) -> bool {
        let spec = self.spec();
        let always = spec.pm2.is_some() && self.goal != Goal::Gone;
        spec.clock().is_some() && (always || self.may_be_started())
    }
}

impl Supervisor {
    /// A supervisor whose host is in this zone.
    #[must_use]
    pub fn in_zone(zone: Zone) -> Self {
        Self { alarms: Alarms { zone, ..Alarms::default() }, ..Self::default() }
    }

    /// When [`Self::handle_alarms`] wants to be called next.
    #[must_use]
    pub fn next_alarm(&self) -> Option<WallTime> {
        self.alarms.next
    }

    /// When the clock will start or restart this process.
    #[must_use]
    pub fn next_run(&self, id: ProcId) -> Option<WallTime> {
        self.alarms.at(id)
    }

    /// Does what is due at this time of day. `was_set`: somebody has set the clock.
    pub fn handle_alarms(&mut self, now: Now, was_set: bool, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        let all: Vec<_> = self.alarms.armed.iter().map(|(&id, &at)| (id, at)).collect();
        for (id, at) in all {
            let is_due = at <= now.wall;
            if is_due || was_set {
                self.alarms.arm(id, None);
            }
            if is_due && now.wall.0 - at.0 <= LATE {
                self.alarms.rang = self.alarms.rang.max(at);
                self.ring(id, turn);
            }
            self.wind(id, turn);
            self.settle(turn);
        }
    }

    fn ring(&mut self, id: ProcId, turn: &mut Turn<'_>) {
        let Some(process) = self.table.get(id).filter(|_| !self.table.has_side(id)) else { return };
        let spec = process.spec();
        let is_moot = match (spec.is_scheduled(), spec.overlap) {
            (false, _) => {
                matches!(process.state, State::Stopping(_)) || is_awaited(&self.operations, id)
            }
            (true, Overlap::Kill) => false,
            (true, Overlap::Skip | Overlap::Queue) => !process.is_at_rest(),
        };
        if !is_moot {
            self.step(Seat::Front(id), by_the_clock(), turn);
        } else if spec.is_scheduled() && spec.overlap == Overlap::Queue {
            self.alarms.queued.insert(id);
        }
    }

    /// A job that somebody stopped is run at its times again. False: it was anyhow.
    pub(super) fn let_run(&mut self, id: ProcId, turn: &Turn<'_>) -> bool {
        let Some(process) = self.table.get_mut(id) else { return false };
        if process.lasting().1 != Rest::Asked || !process.is_at_rest() {
            return false;
        }
        process.state = State::Stopped { rest: Rest::Fresh };
        self.unsaved = Unsaved::Now;
        self.wind(id, turn);
        true
    }

    /// Something happened to this process: it has an alarm from here on, or has none.
    pub(super) fn wind(&mut self, id: ProcId, turn: &Turn<'_>) {
        self.look_whether_watched(id);
        let process = self.table.get(id).filter(|it| it.is_wound() && !self.halting);
        let Some(process) = process else {
            self.alarms.queued.remove(&id);
            if self.alarms.at(id).is_some() {
                self.alarms.arm(id, None);
            }
            return;
        };
        if process.is_at_rest() && self.alarms.queued.remove(&id) {
            self.todo.push_back(Todo::Step(Seat::Front(id), by_the_clock()));
        }
        if self.alarms.at(id).is_none() {
            let base = self.alarms.base(turn.now.wall);
            let next = process.spec().clock().and_then(|it| it.next(base, self.alarms.zone));
            self.alarms.arm(id, next);
        }
    }

    /// Its definition is another: perhaps its times are, too.
    pub(super) fn rewind(&mut self, id: ProcId, turn: &Turn<'_>) {
        if self.alarms.at(id).is_some() {
            self.alarms.arm(id, None);
        }
        self.wind(id, turn);
        self.watch_anew(id);
    }
}

/// Whether somebody has just started it, and waits until it is up: a restart would make them wait for
/// good where one follows the other closely.
pub(super) fn is_awaited(operations: &Operations, id: ProcId) -> bool {
    operations
        .watching(id)
        .into_iter()
        .filter_map(|task| operations.task(task))
        .any(|task| task.phase == Phase::Begun && task.job.direction() == Some(Goal::Up))
}

fn by_the_clock() -> Event {
    Event::Restart { reason: RestartReason::Cron, kill_timeout: None }
}
