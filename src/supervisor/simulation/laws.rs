//! What must hold, whatever happens.
//!
//! | law | says                                                                                  |
//! |-----|---------------------------------------------------------------------------------------|
//! | P1  | at most one living child per process; beside it a second one, only during a reload     |
//! | P2  | every child is known until its end was handed in                                      |
//! | P3  | nothing is done to a child that was reaped or let go                                  |
//! | P4  | what was told to stop is stopped within kill timeout + 1 s, and stays so              |
//! | P5  | pauses after unstable runs do not shrink, and have a limit                            |
//! | P6  | counters of restarts only grow                                                        |
//! | P7  | timers are armed only in the states that list them; a deleted process leaves nothing  |
//! | P8  | what was saved last is the table as it is: a lost daemon comes back to the same       |
//! | P9  | every request is answered exactly once                                                |
//! | P10 | every notice of a status begins where the last one ended                              |
//! | P11 | a living child has the port that is told of it, and no other child has that            |
//! | P12 | one look at a time at a living child; only the unhealthy are restarted for that        |
//! | P13 | the clock is set for whom it may start, and for nobody else                           |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, ProcId, Time};
use crate::supervisor::life::LINGER;
use crate::supervisor::process::{Rest, Seat, State};
use crate::supervisor::restart::{FORGET_AFTER, LONGEST_PAUSE};
use crate::supervisor::simulation::world::{Kid, KidState};
use crate::supervisor::spec::{AppSpec, Ports};
use crate::supervisor::timers::{Due, Timer};
use crate::supervisor::vocabulary::{
    Action, Effect, Existing, HealthStatus, NoticeKind, Options, ReplyTo, Request, RestartReason,
    Status, Target,
};
use crate::supervisor::{Goal, Process, Supervisor};

/// What of the table must survive.
type Saved = Vec<(ProcId, (Goal, Rest), *const AppSpec, Option<u16>, Option<Ports>)>;

type Kids = BTreeMap<ChildId, Kid>;

#[derive(Default)]
pub(super) struct Laws {
    unanswered: BTreeSet<ReplyTo>,
    told: BTreeMap<ProcId, Status>,
    health: BTreeMap<ProcId, HealthStatus>,
    /// Have been unhealthy since they were restarted for that last.
    unhealthy: BTreeSet<ProcId>,
    restarts: BTreeMap<ProcId, u32>,
    /// The last pause after an unstable run, and when it is over.
    pauses: BTreeMap<ProcId, (Duration, Time)>,
    /// When these must have stopped.
    stops: BTreeMap<ProcId, Time>,
    /// Whether a reload was asked for, ever.
    reloads: bool,
    saved: Saved,
    going_down: bool,
}

impl Laws {
    pub(super) fn is_going_down(&self) -> bool {
        self.going_down
    }

    pub(super) fn asked(
        &mut self,
        from: ReplyTo,
        request: &Request,
        supervisor: &Supervisor,
        now: Time,
    ) {
        assert!(self.unanswered.insert(from));
        match request {
            Request::Create { apps, existing, .. } => {
                self.reloads |= *existing == Existing::Apply;
                for app in apps {
                    self.touched(&[Target::Name(app.name.as_ref().to_owned())], supervisor);
                }
                if apps.iter().any(|app| !app.depends_on.is_empty()) {
                    self.stops.clear();
                    self.pauses.clear();
                }
            }
            Request::Command { action, targets, options } => {
                self.touched(targets, supervisor);
                self.commanded(action, targets, *options, supervisor, now);
            }
            Request::Add { app, .. } => {
                self.touched(&[Target::Name(app.name.to_string())], supervisor);
            }
            Request::Wait { .. } => {}
            Request::Shutdown => self.going_down = true,
        }
    }

    fn commanded(
        &mut self,
        action: &Action,
        targets: &[Target],
        options: Options,
        supervisor: &Supervisor,
        now: Time,
    ) {
        let ids = targets.iter().flat_map(|target| supervisor.resolve(target));
        match action {
            Action::Reset => {
                for id in ids {
                    self.restarts.remove(&id);
                }
            }
            Action::Reload { .. } => self.reloads = true,
            Action::Stop { .. } | Action::Delete => {
                if options.parallel.is_some() || has_dependencies(supervisor) {
                    return;
                }
                let stop =
                    if let Action::Stop { kill_timeout } = action { *kill_timeout } else { None };
                for id in ids {
                    let process = supervisor.process(id).unwrap();
                    let timeout = stop.unwrap_or(process.running_spec().kill_timeout);
                    self.stops.insert(id, now.after(timeout).after(LINGER));
                }
            }
            Action::Start | Action::Restart { .. } | Action::Signal(_) | Action::Scale(_) => {}
        }
    }

    /// Somebody wants something of these processes: what held while nobody did need not hold.
    fn touched(&mut self, targets: &[Target], supervisor: &Supervisor) {
        for id in targets.iter().flat_map(|target| supervisor.resolve(target)) {
            self.stops.remove(&id);
            self.pauses.remove(&id);
        }
        if has_dependencies(supervisor) {
            self.stops.clear();
            self.pauses.clear();
        }
    }

    pub(super) fn effect(
        &mut self,
        effect: &Effect,
        now: Time,
        supervisor: &Supervisor,
        kids: &Kids,
    ) {
        let state = |child| kids.get(child).map(|kid: &Kid| kid.state);
        match effect {
            Effect::Spawn { process, .. } => {
                assert!(!self.going_down, "spawned while going down");
                assert!(!self.stops.contains_key(process), "P4: {process} is to be stopped");
                if self.pauses.get(process).is_some_and(|&(_, over)| now < over) {
                    // Somebody did not want to wait.
                    self.pauses.remove(process);
                }
            }
            Effect::Probe { child, spec } => {
                assert_eq!(state(child), Some(KidState::Alive), "P12: look at {child:?}");
                assert!(!kids[child].asked, "P12: two looks at {child:?}");
                assert!(spec.health().is_some(), "P12: {child:?} has no check");
            }
            Effect::Signal { child, .. }
            | Effect::Ask { child, .. }
            | Effect::Dismiss { child } => {
                assert_eq!(state(child), Some(KidState::Alive), "P3: signal to {child:?}");
            }
            Effect::Sweep { child, .. } => {
                assert_eq!(state(child), Some(KidState::Ended), "P3: sweep after {child:?}");
            }
            Effect::Kill { child, tree } => match state(child) {
                Some(KidState::Alive) => {}
                Some(KidState::Ended) => assert!(tree, "P3: kill of {child:?}"),
                other => panic!("P3: kill of {child:?}, {other:?}"),
            },
            Effect::Release { child } => {
                assert_eq!(state(child), Some(KidState::Ended), "P2: {child:?} is let go");
            }
            Effect::Forget { process } => {
                let left: Vec<_> = kids.values().filter(|kid| kid.process == *process).collect();
                assert!(left.is_empty(), "P7: {process} left {left:?} at {now:?}");
                self.restarts.remove(process);
                self.pauses.remove(process);
                self.stops.remove(process);
            }
            Effect::Reply { to, .. } => {
                assert!(self.unanswered.remove(to), "P9: {to:?} was not open");
            }
            Effect::Publish(notice) => {
                if let NoticeKind::Reloaded { .. } = notice.kind {
                    let child = supervisor.process(notice.process).and_then(Process::child);
                    assert!(
                        child.is_some_and(|it| kids[&it].ready || kids[&it].cluster),
                        "{child:?} took over unready"
                    );
                }
                self.notice(notice.process, &notice.kind, now, supervisor);
            }
            Effect::Save => {}
        }
    }

    fn notice(&mut self, id: ProcId, kind: &NoticeKind, now: Time, supervisor: &Supervisor) {
        match kind {
            NoticeKind::Status { from, to } => {
                assert_eq!(self.told.get(&id), from.as_ref(), "P10: {id} to {to:?}");
                assert_ne!(Some(*to), *from, "P10: {id}");
                self.told.insert(id, *to);
                if matches!(to, Status::Errored | Status::Stopped) {
                    // From here only somebody who asks brings it back, and that begins anew.
                    self.pauses.remove(&id);
                }
            }
            NoticeKind::Crashed { uptime, restart_in: Some(after), .. } => {
                // It may have been the next to be deleted.
                let Some(spec) = supervisor.process(id).map(Process::running_spec) else { return };
                if *uptime >= FORGET_AFTER {
                    self.pauses.remove(&id);
                }
                if *uptime >= spec.min_uptime {
                    assert_eq!(*after, spec.restart_delay, "P5: {id} after a stable run");
                    return;
                }
                let cap = LONGEST_PAUSE.max(spec.exp_backoff_restart_delay).max(spec.restart_delay);
                let (before, _) =
                    self.pauses.insert(id, (*after, now.after(*after))).unwrap_or_default();
                assert!((before..=cap).contains(after), "P5: {id}: {before:?}, then {after:?}");
            }
            NoticeKind::Health { from, to, .. } => {
                let told = self.health.insert(id, *to).unwrap_or_default();
                assert!(told == *from && from != to, "P10: health of {id}: {told:?}, {from:?}");
                if *to == HealthStatus::Unhealthy {
                    self.unhealthy.insert(id);
                }
            }
            NoticeKind::HealthCheckFailed { failures, .. } => assert!(*failures > 0),
            NoticeKind::Restarted { reason: RestartReason::Health, .. } => {
                assert!(self.unhealthy.remove(&id), "P12: {id} was not unhealthy");
                self.pauses.remove(&id);
            }
            NoticeKind::Deleted => {
                self.health.remove(&id);
                self.told.remove(&id);
            }
            // What a user asked for begins anew.
            NoticeKind::Started { .. }
            | NoticeKind::Reloaded { .. }
            | NoticeKind::Restarted {
                reason:
                    RestartReason::Command
                    | RestartReason::Reload
                    | RestartReason::Cron
                    | RestartReason::Watch
                    | RestartReason::Overrun,
                ..
            } => {
                self.pauses.remove(&id);
            }
            NoticeKind::Crashed { .. }
            | NoticeKind::Restarted {
                reason: RestartReason::Crash | RestartReason::Memory, ..
            }
            | NoticeKind::MemoryLimitExceeded { .. }
            | NoticeKind::Stopped { .. }
            | NoticeKind::Errored { .. }
            | NoticeKind::NotReady { .. }
            | NoticeKind::Adopted { .. }
            | NoticeKind::ConfigChanged { .. } => {}
        }
    }

    pub(super) fn saved(&mut self, supervisor: &Supervisor) {
        self.saved = to_be_saved(supervisor);
    }

    pub(super) fn daemon_lost(&mut self) {
        self.unanswered.clear();
        self.told.clear();
        self.health.clear();
        self.unhealthy.clear();
        self.restarts.clear();
        self.pauses.clear();
        self.stops.clear();
    }

    /// P8, seen from the other side.
    pub(super) fn restored(&mut self, before: &[(ProcId, Goal)], supervisor: &Supervisor) {
        self.saved = to_be_saved(supervisor);
        for &(id, goal) in before {
            let process = supervisor.process(id);
            match goal {
                Goal::Gone => assert!(process.is_none_or(|it| it.goal() == Goal::Gone), "P8"),
                // A start pulls in what it depends on.
                Goal::Down if has_dependencies(supervisor) => {}
                Goal::Up | Goal::Down => {
                    assert_eq!(process.map(|it| it.lasting().0), Some(goal), "P8");
                }
            }
            let rests = process.is_some_and(|process| process.status() == Status::Stopped);
            assert!(goal != Goal::Up || !rests, "P8: {id} should run");
        }
    }

    /// `lost`: the daemon was killed at some time.
    pub(super) fn check(&mut self, supervisor: &Supervisor, kids: &Kids, now: Time, lost: bool) {
        self.check_children(supervisor, kids, lost);
        self.check_stops(supervisor, kids, now);
        check_timers(supervisor);
        assert!(supervisor.todo.is_empty());
        for process in supervisor.operations.waiting_for_sides() {
            assert!(
                supervisor.table.has_side(process),
                "P9: a reload of {process} waits for nothing"
            );
        }
        assert_eq!(self.saved, to_be_saved(supervisor), "P8: the table was not saved");
        for process in supervisor.processes() {
            let id = process.id();
            let restarts = self.restarts.entry(id).or_default();
            assert!(process.restarts() >= *restarts, "P6: {id}");
            *restarts = process.restarts();
            let told = self.told.get(&id);
            assert!(told.is_none_or(|told| *told == process.status()), "P10: {id} is untold");
            assert_eq!(
                process.is_waiting(),
                supervisor.dependencies.holds(id),
                "{id} waits for nothing"
            );
            assert!(!process.is_waiting() || misses_something(supervisor, process), "{id} waits");
            assert!(process.exits().len() <= 5);
            let wound = process.is_wound() && !self.going_down;
            assert_eq!(supervisor.next_run(id).is_some(), wound, "P13: {id}");
        }
    }

    fn check_children(&self, supervisor: &Supervisor, kids: &Kids, lost: bool) {
        let mut seats = BTreeSet::new();
        for (&child, kid) in kids {
            let seat = supervisor.children.find(child);
            assert_eq!(seat.map(Seat::process), Some(kid.process), "P2: {child:?} is unknown");
            if kid.state == KidState::Ended {
                continue;
            }
            let seat = seat.unwrap();
            assert!(seats.insert(seat), "P1: two children at {seat:?}");
            let sits = match seat {
                Seat::Front(id) => supervisor.process(id),
                Seat::Side(id) => supervisor.table.side(id).map(|side| &side.process),
            };
            let told = sits.and_then(Process::port);
            assert!(kid.state == KidState::Asked || told == kid.port, "P11: {child:?}: {told:?}");
            let may_be_second = self.reloads || lost;
            let Seat::Side(id) = seat else { continue };
            assert!(may_be_second, "P1: {seat:?}");
            let online = supervisor.table.side(id).is_some_and(|side| side.process.is_online());
            assert!(!online, "P1: what sits beside {id} is not on its way in or out");
        }
    }

    fn check_stops(&self, supervisor: &Supervisor, kids: &Kids, now: Time) {
        for (&id, &deadline) in self.stops.iter().filter(|&(_, &at)| now > at) {
            let Some(process) = supervisor.process(id) else { continue };
            let status = process.status();
            let stopped = status == Status::Stopped || status == Status::Errored;
            assert!(stopped, "P4: {id} is {status:?} after {deadline:?}");
            for (child, kid) in kids.iter().filter(|(_, kid)| kid.process == id) {
                assert!(kid.resisted, "P4: {child:?} of {id} lives: {kid:?}");
            }
        }
    }

    pub(super) fn check_end(&self, supervisor: &Supervisor, kids: &Kids) {
        assert!(self.unanswered.is_empty(), "P9: never answered: {:?}", self.unanswered);
        assert!(kids.is_empty(), "P2: left: {kids:?}");
        assert!(supervisor.next_deadline().is_none(), "P7: {:?}", supervisor.timers);
        assert!(supervisor.next_alarm().is_none(), "P13: {:?}", supervisor.alarms);
        assert!(supervisor.operations.is_empty(), "{:?}", supervisor.operations);
        assert!(supervisor.dependencies.is_empty());
        assert!(supervisor.is_idle());
    }
}

/// P7: every armed timer is one that its owner's state lists.
fn check_timers(supervisor: &Supervisor) {
    for due in supervisor.timers.armed() {
        let Due::Process(seat, timer) = due else { continue };
        let state = match seat {
            Seat::Front(id) => supervisor.table.get(id).map(|process| process.state),
            Seat::Side(id) => supervisor.table.side(id).map(|side| side.process.state),
        };
        let listed = match (state, timer) {
            (Some(State::Stopping(_)), Timer::Kill | Timer::Linger)
            | (
                Some(State::Starting { .. } | State::Online { .. }),
                Timer::Probe | Timer::Overrun,
            )
            | (Some(State::Starting { .. }), Timer::Ready)
            | (Some(State::Online { .. }), Timer::Settle)
            | (Some(State::Backoff { .. }), Timer::Restart) => true,
            (Some(_) | None, _) => false,
        };
        assert!(listed, "P7: {timer:?} at {seat:?} in {state:?}");
    }
}

fn misses_something(supervisor: &Supervisor, process: &Process) -> bool {
    process.running_spec().depends_on.iter().any(|dependency| {
        let members = supervisor.table.members(&dependency.name).iter();
        members
            .filter_map(|&id| supervisor.process(id))
            .any(|other| !other.satisfies(dependency.condition))
    })
}

fn has_dependencies(supervisor: &Supervisor) -> bool {
    supervisor.processes().any(|process| !process.spec().depends_on.is_empty())
}

/// What is on its way out need not be saved as such: it goes either way.
fn to_be_saved(supervisor: &Supervisor) -> Saved {
    let mut saved: Saved = supervisor
        .processes()
        .map(|it| {
            let spec = Rc::as_ptr(it.spec());
            (it.id(), it.lasting(), spec, it.last_port(), it.asked_ports())
        })
        .collect();
    saved.retain(|&(_, (goal, _), ..)| goal != Goal::Gone);
    saved
}
