//! The supervisor by hand: a world with a clock that is set, not waited for.
//!
//! The tests stand in `tests/`, one file per subject; this is the world they share.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{
    ChildId, ExitStatus, Now, Pid, ProcId, Signal, SpawnError, Stage, Time, WallTime,
};
use crate::supervisor::spec::{AppSpec, Condition, Dependency};
use crate::supervisor::vocabulary::{
    Action, Effect, Existing, Input, Notice, NoticeKind, Options, Outcome, Patience, Reply,
    ReplyTo, Request, Status, Target,
};
use crate::supervisor::{Process, Supervisor};

mod clock;
mod commands;
mod creating;
mod depending;
mod health;
mod living;
mod reloading;
mod saving;
mod stopping;

/// An app with every default, as the configuration layer makes it.
pub(super) fn spec(name: &str) -> AppSpec {
    AppSpec { name: name.into(), script: "/bin/app".into(), ..AppSpec::default() }
}

/// The same, changed.
pub(super) fn spec_with(name: &str, change: impl FnOnce(&mut AppSpec)) -> Rc<AppSpec> {
    let mut spec = spec(name);
    change(&mut spec);
    Rc::new(spec)
}

fn needs(name: &str, condition: Condition) -> Dependency {
    Dependency { name: name.to_owned(), condition }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const STABLE: Options = Options { wait: Patience::Stable, parallel: None, timeout: None };

const NO_PROGRAM: SpawnError = SpawnError { stage: Stage::Exec, errno: 2 };
const NO_PROCESS_SLOT: SpawnError = SpawnError { stage: Stage::Fork, errno: 11 };

/// What surrounds the supervisor: a clock, and children that do as they are told.
struct World {
    supervisor: Supervisor,
    now: Time,
    /// Every effect so far.
    done: Vec<Effect>,
    /// Living main processes.
    alive: BTreeSet<ChildId>,
    /// Answers to spawns to come, by app; without one it works.
    spawns: BTreeMap<String, SpawnError>,
    /// Apps that ignore the stop signal.
    deaf: BTreeSet<String>,
    /// Apps that not even SIGKILL ends.
    undead: BTreeSet<String>,
    /// Members of the tree of an app that outlive its main process until they are killed.
    leftovers: BTreeMap<String, usize>,
    /// Whether children get the ports they are to have.
    ports: bool,
    /// Children with a health check under way.
    asked: BTreeSet<ChildId>,
    replies: BTreeMap<ReplyTo, Reply>,
    requests: u64,
}

impl World {
    fn new() -> Self {
        Self {
            supervisor: Supervisor::new(),
            now: Time(1_000_000),
            done: Vec::new(),
            alive: BTreeSet::new(),
            spawns: BTreeMap::new(),
            deaf: BTreeSet::new(),
            undead: BTreeSet::new(),
            leftovers: BTreeMap::new(),
            ports: false,
            asked: BTreeSet::new(),
            replies: BTreeMap::new(),
            requests: 0,
        }
    }

    /// A world in which these apps run.
    fn with(apps: impl IntoIterator<Item = Rc<AppSpec>>) -> Self {
        let mut world = Self::new();
        world.create(apps.into_iter().collect());
        world
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0 + 1_700_000_000_000) }
    }

    fn create(&mut self, apps: Vec<Rc<AppSpec>>) -> ReplyTo {
        self.create_as(apps, Existing::Refuse)
    }

    fn create_as(&mut self, apps: Vec<Rc<AppSpec>>, existing: Existing) -> ReplyTo {
        self.request(Request::Create { apps, existing, options: Options::default() })
    }

    fn command(&mut self, action: Action, target: &str) -> ReplyTo {
        self.command_with(action, &[target], Options::default())
    }

    fn command_with(&mut self, action: Action, targets: &[&str], options: Options) -> ReplyTo {
        let targets = targets.iter().map(|target| Target::parse(target)).collect();
        self.request(Request::Command { action, targets, options })
    }

    fn request(&mut self, request: Request) -> ReplyTo {
        let from = ReplyTo(self.requests);
        self.requests += 1;
        self.handle(Input::Request { from, request });
        from
    }

    /// Hands an input to the supervisor and does what it wants done, until nothing is left.
    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.supervisor.handle(self.clock(), input, &mut effects);
        self.carry_out(effects);
    }

    /// Carries all effects of one call out before the outcome of any is handed in.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut outcomes = Vec::new();
        for effect in effects {
            self.done.push(effect.clone());
            match effect {
                Effect::Spawn { child, spec, instance, port, .. } => {
                    match self.spawns.get(&*spec.name) {
                        Some(&error) => outcomes.push(Input::SpawnFailed { child, error }),
                        None => {
                            self.alive.insert(child);
                            let port = port.filter(|_| self.ports);
                            let port = port.and_then(|wish| wish.ports.fixed(instance));
                            outcomes.push(Input::Spawned { child, pid: pid(child), port });
                        }
                    }
                }
                Effect::Signal { child, signal, .. } | Effect::Ask { child, signal, .. } => {
                    assert!(self.alive.contains(&child), "{child:?} was reaped");
                    if signal == Signal::INT && !self.deaf.contains(&self.name_of(child)) {
                        self.alive.remove(&child);
                        outcomes.push(Input::Exited { child, status: killed_by(signal) });
                    }
                }
                Effect::Sweep { child, .. } => {
                    let left = self.leftovers.get(&self.name_of(child)).copied().unwrap_or(0);
                    outcomes.push(Input::Swept { child, left });
                }
                Effect::Kill { child, tree } => self.kill(child, tree, &mut outcomes),
                Effect::Reply { to, reply } => {
                    assert!(self.replies.insert(to, reply).is_none(), "{to:?} answered twice");
                }
                Effect::Probe { child, .. } => {
                    assert!(self.alive.contains(&child), "{child:?} was reaped");
                    assert!(self.asked.insert(child), "{child:?} is looked at twice");
                }
                Effect::Release { child } => {
                    self.asked.remove(&child);
                }
                Effect::Dismiss { .. }
                | Effect::Forget { .. }
                | Effect::Publish(_)
                | Effect::Save => {}
            }
        }
        for outcome in outcomes {
            self.handle(outcome);
        }
    }

    fn kill(&mut self, child: ChildId, tree: bool, outcomes: &mut Vec<Input>) {
        let name = self.name_of(child);
        let undead = self.undead.contains(&name);
        if tree {
            if !undead {
                self.leftovers.remove(&name);
            }
            let left = self.leftovers.get(&name).copied().unwrap_or(0);
            outcomes.push(Input::Swept { child, left });
        }
        if !undead && self.alive.remove(&child) {
            outcomes.push(Input::Exited { child, status: killed_by(Signal::KILL) });
        }
    }

    fn name_of(&self, child: ChildId) -> String {
        self.supervisor.process_of(child).map_or_else(String::new, |it| it.name().to_string())
    }

    fn exit_child(&mut self, child: ChildId, status: ExitStatus) {
        assert!(self.alive.remove(&child), "{child:?} does not live");
        self.handle(Input::Exited { child, status });
    }

    /// The child of an app's first process ends by itself.
    fn exit(&mut self, name: &str, code: u8) {
        let child = self.process(name).child().unwrap();
        self.exit_child(child, ExitStatus::Code(code));
    }

    fn ready(&mut self, name: &str) {
        let child = self.process(name).child().unwrap();
        self.handle(Input::Ready { child });
    }

    /// Lets time pass, with everything that is due in it.
    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(deadline) = self.supervisor.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(deadline);
            self.time_out();
        }
        self.now = until;
    }

    /// Jumps to the next deadline. Returns how far that was.
    fn wait(&mut self) -> Duration {
        let deadline = self.supervisor.next_deadline().unwrap();
        let waited = deadline.since(self.now);
        self.now = deadline;
        self.time_out();
        waited
    }

    /// Jumps to the next alarm.
    fn ring(&mut self) {
        let at = self.supervisor.next_alarm().unwrap();
        self.pass(Duration::from_millis(at.0 - self.clock().wall.0));
        self.look_at_the_clock(self.clock(), false);
    }

    fn look_at_the_clock(&mut self, now: Now, was_set: bool) {
        let mut effects = Vec::new();
        self.supervisor.handle_alarms(now, was_set, &mut effects);
        self.carry_out(effects);
    }

    fn time_out(&mut self) {
        let mut effects = Vec::new();
        self.supervisor.handle_timeout(self.clock(), &mut effects);
        self.carry_out(effects);
    }

    /// The first process of an app, or `name:instance`.
    fn process(&self, name: &str) -> &Process {
        let ids = self.supervisor.resolve(&Target::parse(name));
        self.supervisor.process(*ids.first().unwrap()).unwrap()
    }

    fn status(&self, name: &str) -> Status {
        self.process(name).status()
    }

    fn pid(&self, name: &str) -> Pid {
        self.process(name).pid().unwrap()
    }

    fn answered(&self, to: ReplyTo) -> bool {
        self.replies.contains_key(&to)
    }

    fn outcomes(&self, to: ReplyTo) -> &[Outcome] {
        match self.replies.get(&to) {
            Some(Reply::Outcomes(outcomes)) => outcomes,
            other => panic!("no outcomes: {other:?}"),
        }
    }

    fn outcome(&self, to: ReplyTo) -> &Outcome {
        let outcomes = self.outcomes(to);
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        &outcomes[0]
    }

    fn forget_effects(&mut self) {
        self.done.clear();
    }

    /// What was published, in order.
    fn notices(&self) -> Vec<&Notice> {
        let mut notices = Vec::new();
        for effect in &self.done {
            if let Effect::Publish(notice) = effect {
                notices.push(notice);
            }
        }
        notices
    }

    /// The statuses told of an app, in order.
    fn statuses(&self, name: &str) -> Vec<Status> {
        let mut statuses = Vec::new();
        for notice in self.notices().into_iter().filter(|notice| &*notice.name == name) {
            if let NoticeKind::Status { to, .. } = notice.kind {
                statuses.push(to);
            }
        }
        statuses
    }

    /// The effects so far, in a word each; of a notice its kind.
    fn words(&self) -> Vec<&'static str> {
        self.done.iter().map(word).collect()
    }
}

fn killed_by(signal: Signal) -> ExitStatus {
    ExitStatus::Signal { signal, core: false }
}

fn pid(child: ChildId) -> Pid {
    Pid::new(i32::try_from(child.0).unwrap() + 100).unwrap()
}

fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::Spawn { .. } => "spawn",
        Effect::Signal { .. } => "signal",
        Effect::Ask { .. } => "ask",
        Effect::Dismiss { .. } => "dismiss",
        Effect::Sweep { .. } => "sweep",
        Effect::Kill { .. } => "kill",
        Effect::Probe { .. } => "probe",
        Effect::Release { .. } => "release",
        Effect::Forget { .. } => "forget",
        Effect::Reply { .. } => "reply",
        Effect::Save => "save",
        Effect::Publish(notice) => match notice.kind {
            NoticeKind::Status { to, .. } => to.name(),
            NoticeKind::Started { .. } => "started!",
            NoticeKind::Restarted { .. } => "restarted!",
            NoticeKind::Reloaded { .. } => "reloaded!",
            NoticeKind::Stopped { .. } => "stopped!",
            NoticeKind::Crashed { .. } => "crashed!",
            NoticeKind::Errored { .. } => "errored!",
            NoticeKind::NotReady { .. } => "not ready!",
            NoticeKind::Health { to, .. } => to.name(),
            NoticeKind::HealthCheckFailed { .. } => "check failed!",
            NoticeKind::Adopted { .. } => "adopted!",
            NoticeKind::MemoryLimitExceeded { .. } => "memory!",
            NoticeKind::ConfigChanged { .. } => "config changed!",
            NoticeKind::Deleted => "deleted!",
        },
    }
}

/// Ids as a short list.
fn ids(ids: &[ProcId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}
