//! What surrounds the supervisor in a simulation: children with a will of their own, a clock, a
//! disk that keeps what was saved last.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{
    ChildId, ExitStatus, Now, Pid, ProcId, Signal, SpawnError, Stage, Time, WallTime,
};
use crate::supervisor::simulation::Random;
use crate::supervisor::simulation::laws::Laws;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::{Effect, Finding, Input, PortWish, Probe, ReplyTo, Request};
use crate::supervisor::{Adopted, Goal, Snapshot, Supervisor};

pub(super) const NO_PROGRAM: SpawnError = SpawnError { stage: Stage::Exec, errno: 2 };
const NO_PROCESS_SLOT: SpawnError = SpawnError { stage: Stage::Fork, errno: 11 };

pub(super) const FAILED: Probe =
    Probe { found: Finding::Failed, took: Duration::ZERO, code: None, error: None };

/// `SIGKILL` works on an undead child only after this long.
const UNDEAD: Duration = Duration::from_secs(4);

pub(super) struct World {
    supervisor: Supervisor,
    laws: Laws,
    now: Time,
    kids: BTreeMap<ChildId, Kid>,
    random: Random,
    /// What will happen outside, and when.
    coming: BTreeMap<(Time, u64), Input>,
    sequence: u64,
    saved: Snapshot,
    weather: Weather,
    requests: u64,
    highest_child: Option<ChildId>,
    /// Whether the daemon was ever killed.
    lost: bool,
    /// Print everything: for looking into one sequence.
    verbose: bool,
}

/// A child as it really is.
#[derive(Clone, Debug)]
pub(super) struct Kid {
    pub(super) process: ProcId,
    pub(super) state: KidState,
    spawned: Time,
    deaf: bool,
    /// The first `SIGKILL` does nothing for long.
    pub(super) undead: bool,
    /// It has been seen to be undead.
    pub(super) resisted: bool,
    /// Members of its tree besides the main process.
    pub(super) members: usize,
    pub(super) ready: bool,
    pub(super) port: Option<u16>,
    /// A health check is under way.
    pub(super) asked: bool,
    wait_ready: bool,
    pub(super) cluster: bool,
    /// Its end is on its way.
    ending: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KidState {
    Asked,
    Alive,
    Ended,
}

/// How things go outside.
#[derive(Clone, Copy)]
struct Weather {
    spawn: Option<SpawnError>,
    /// Everybody does at once what is asked.
    fair: bool,
}

impl World {
    pub(super) fn new(random: Random) -> Self {
        Self {
            supervisor: Supervisor::new(),
            laws: Laws::default(),
            now: Time(50_000),
            kids: BTreeMap::new(),
            random,
            coming: BTreeMap::new(),
            sequence: 0,
            saved: Snapshot::default(),
            weather: Weather { spawn: None, fair: false },
            requests: 0,
            highest_child: None,
            lost: false,
            verbose: super::from_environment("PMD_SEED").is_some(),
        }
    }

    pub(super) fn ask(&mut self, request: Request) {
        let from = ReplyTo(self.requests);
        self.requests += 1;
        self.laws.asked(from, &request, &self.supervisor, self.now);
        self.hand_in(Input::Request { from, request });
    }

    /// Hands in one thing; then the outcomes of what it led to, in order.
    pub(super) fn hand_in(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.verbose {
                eprintln!("{} < {input:?}", self.now.0);
            }
            self.note(&input);
            let mut effects = Vec::new();
            let now = self.clock();
            self.supervisor.handle(now, input, &mut effects);
            inputs.extend(self.carry_out(effects));
        }
    }

    /// A worker of a cluster that lives listens.
    pub(super) fn hand_in_listening(&mut self, child: ChildId) {
        let listens =
            self.kids.get(&child).is_some_and(|kid| kid.cluster && kid.state == KidState::Alive);
        if listens {
            self.hand_in(Input::Listening { child });
        }
    }

    /// News of children that never were, or are no more.
    pub(super) fn hand_in_if_unknown(&mut self, input: Input) {
        let child = match input {
            Input::Spawned { child, .. }
            | Input::SpawnFailed { child, .. }
            | Input::Ready { child }
            | Input::Listening { child }
            | Input::Left { child }
            | Input::Probed { child, .. }
            | Input::Exited { child, .. }
            | Input::Swept { child, .. }
            | Input::Measured { child, .. } => child,
            Input::Request { .. } | Input::Changed { .. } => return,
        };
        if !self.kids.contains_key(&child) {
            self.hand_in(input);
        }
    }

    /// A main process ends by itself.
    pub(super) fn end(&mut self, child: ChildId, status: ExitStatus) {
        self.hand_in(Input::Exited { child, status });
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        loop {
            let coming = self.coming.keys().next().copied();
            let deadline = self.supervisor.next_deadline();
            let next = match (coming, deadline) {
                (Some((at, _)), Some(deadline)) => at.min(deadline),
                (Some((at, _)), None) => at,
                (None, Some(deadline)) => deadline,
                (None, None) => break,
            };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            let outside_first = self.random.one_in(2) || deadline != Some(next);
            match coming.filter(|&(at, _)| at <= self.now && outside_first) {
                Some(key) => {
                    let input = self.coming.remove(&key).unwrap();
                    self.hand_in(input);
                }
                None => self.time_out(),
            }
            self.check();
        }
        self.now = self.now.max(until);
    }

    /// It is the time of the next alarm, or the clock was set to anything.
    pub(super) fn ring(&mut self, random: &mut Random) {
        let mut now = self.clock();
        let was_set = random.one_in(4);
        if let (Some(at), false) = (self.supervisor.next_alarm(), was_set) {
            now.wall = at;
        }
        if self.verbose {
            eprintln!("{} rings at {}, {was_set}", now.mono.0, now.wall.0);
        }
        let mut effects = Vec::new();
        self.supervisor.handle_alarms(now, was_set, &mut effects);
        for input in self.carry_out(effects) {
            self.hand_in(input);
        }
        self.check();
        // And files change.
        let id = ProcId(random.below(8));
        self.hand_in(Input::Changed { process: id });
    }

    fn time_out(&mut self) {
        let mut effects = Vec::new();
        let now = self.clock();
        self.supervisor.handle_timeout(now, &mut effects);
        for input in self.carry_out(effects) {
            self.hand_in(input);
        }
    }

    /// The daemon is killed and comes back: it knows what was saved, and finds what lives.
    pub(super) fn lose_the_daemon(&mut self, random: &mut Random) {
        self.laws.daemon_lost();
        self.coming.clear();
        let mut adopted = Vec::new();
        self.kids.retain(|&child, kid| {
            let lives = match kid.state {
                KidState::Asked => random.one_in(2),
                KidState::Alive => !random.one_in(4),
                KidState::Ended => false,
            };
            if lives {
                kid.state = KidState::Alive;
                kid.ending = false;
                kid.asked = false;
                adopted.push(Adopted {
                    process: kid.process,
                    child,
                    pid: pid(child),
                    started: Now { mono: kid.spawned, wall: WallTime(0) },
                    restarts: 0,
                    unstable: 0,
                    ready: kid.ready || !kid.wait_ready,
                    port: kid.port,
                });
            }
            lives
        });
        let mut effects = Vec::new();
        let now = self.clock();
        let before: Vec<(ProcId, Goal)> =
            self.supervisor.processes().map(|it| (it.id(), it.lasting().0)).collect();
        // The numbers of children that have died are known to their logs.
        let mut saved = self.saved.clone();
        if let Some(child) = self.highest_child {
            saved.reserve_children(child);
        }
        self.supervisor = Supervisor::new().restore(now, saved, &adopted, true, &mut effects);
        self.lost = true;
        let inputs = self.carry_out(effects);
        self.laws.restored(&before, &self.supervisor);
        for input in inputs {
            self.hand_in(input);
        }
    }

    /// From now on spawns fail, or do not.
    pub(super) fn change_weather(&mut self, random: &mut Random) {
        self.weather.spawn = random.pick([
            None,
            None,
            Some(NO_PROGRAM),
            Some(NO_PROCESS_SLOT),
            Some(NO_PROCESS_SLOT),
        ]);
    }

    /// Everything is stopped in fair weather; then nothing may be left.
    pub(super) fn finish(&mut self) {
        self.weather = Weather { spawn: None, fair: true };
        for kid in self.kids.values_mut() {
            kid.undead = false;
        }
        if !self.is_going_down() {
            self.ask(Request::Shutdown);
        }
        for _ in 0..10 {
            self.pass(Duration::from_secs(20));
        }
        self.laws.check_end(&self.supervisor, &self.kids);
    }

    pub(super) fn check(&mut self) {
        self.laws.check(&self.supervisor, &self.kids, self.now, self.lost);
    }

    pub(super) fn is_going_down(&self) -> bool {
        self.laws.is_going_down()
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.supervisor.processes().count() > 12
    }

    pub(super) fn some_process(&self, random: &mut Random) -> Option<(ProcId, Rc<AppSpec>)> {
        let count = u32::try_from(self.supervisor.processes().count()).unwrap();
        let at = random.below(count.max(1)) as usize;
        self.supervisor.processes().nth(at).map(|it| (it.id(), Rc::clone(it.spec())))
    }

    pub(super) fn until_deadline(&self) -> u64 {
        self.supervisor.next_deadline().map_or(0, |at| at.0.saturating_sub(self.now.0))
    }

    pub(super) fn some_alive(&self, random: &mut Random) -> Option<ChildId> {
        let alive: Vec<ChildId> = self.alive().collect();
        let count = u32::try_from(alive.len()).unwrap();
        (count > 0).then(|| alive[random.below(count) as usize])
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = ChildId> + '_ {
        let alive = self.kids.iter().filter(|(_, kid)| kid.state == KidState::Alive);
        alive.map(|(&child, _)| child)
    }

    /// The wall clock is set to something new at every look; nothing may come of it.
    fn clock(&mut self) -> Now {
        Now { mono: self.now, wall: WallTime(u64::from(self.random.below(1_000_000))) }
    }

    /// What an input means outside.
    fn note(&mut self, input: &Input) {
        match input {
            Input::Spawned { child, .. } => {
                let now = self.now;
                let kid = self.kids.get_mut(child).unwrap();
                kid.state = KidState::Alive;
                kid.spawned = now;
            }
            Input::SpawnFailed { child, .. } => {
                self.kids.remove(child);
            }
            Input::Ready { child } | Input::Listening { child } => {
                if let Some(kid) = self.kids.get_mut(child) {
                    kid.ready = true;
                }
            }
            Input::Probed { child, probe } => {
                if let Some(kid) = self.kids.get_mut(child) {
                    kid.asked = false;
                    kid.ready |= probe.found == Finding::Passed;
                }
            }
            Input::Exited { child, .. } => {
                if let Some(kid) = self.kids.get_mut(child) {
                    kid.state = KidState::Ended;
                    self.coming.retain(|_, coming| {
                        !matches!(coming, Input::Exited { child: other, .. } if other == child)
                    });
                }
            }
            Input::Left { .. }
            | Input::Swept { .. }
            | Input::Measured { .. }
            | Input::Changed { .. }
            | Input::Request { .. } => {}
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Input> {
        let mut outcomes = Vec::new();
        for effect in effects {
            if self.verbose {
                eprintln!("{} > {}", self.now.0, brief(&effect));
            }
            self.laws.effect(&effect, self.now, &self.supervisor, &self.kids);
            match effect {
                Effect::Spawn { child, process, spec, instance, port } => {
                    self.highest_child = self.highest_child.max(Some(child));
                    let rough = !self.weather.fair;
                    let port = self.port(instance, port);
                    let kid = Kid {
                        process,
                        port: port.unwrap_or(None),
                        asked: false,
                        state: KidState::Asked,
                        spawned: self.now,
                        deaf: rough && self.random.one_in(4),
                        undead: rough && self.random.one_in(16),
                        resisted: false,
                        members: if self.random.one_in(3) { 2 } else { 0 },
                        ready: false,
                        wait_ready: spec.wait_ready,
                        cluster: spec.is_cluster(),
                        ending: false,
                    };
                    assert!(self.kids.insert(child, kid).is_none(), "{child:?} is used again");
                    let outcome = match (self.weather.spawn, port) {
                        (Some(error), _) | (None, Err(error)) => {
                            Input::SpawnFailed { child, error }
                        }
                        (None, Ok(port)) => Input::Spawned { child, pid: pid(child), port },
                    };
                    if rough && self.random.one_in(8) {
                        self.later(60, outcome);
                    } else {
                        outcomes.push(outcome);
                    }
                }
                Effect::Signal { child, signal, .. } | Effect::Ask { child, signal, .. } => {
                    let kid = self.kids.get_mut(&child).unwrap();
                    if signal == Signal::INT && !kid.deaf && !kid.ending {
                        kid.ending = true;
                        let status = ExitStatus::Code(0);
                        self.later(900, Input::Exited { child, status });
                    }
                }
                Effect::Dismiss { child } => {
                    if !self.kids[&child].deaf {
                        self.later(900, Input::Left { child });
                    }
                }
                Effect::Sweep { child, .. } => {
                    let left = self.kids[&child].members;
                    outcomes.push(Input::Swept { child, left });
                    if left > 0 && self.random.one_in(2) {
                        self.kids.get_mut(&child).unwrap().members = 0;
                        self.later(2000, Input::Swept { child, left: 0 });
                    }
                }
                Effect::Kill { child, tree } => self.kill(child, tree, &mut outcomes),
                Effect::Probe { child, .. } => {
                    self.kids.get_mut(&child).unwrap().asked = true;
                    let probe = self.look();
                    self.later(5000, Input::Probed { child, probe });
                }
                Effect::Release { child } => {
                    self.kids.remove(&child);
                }
                Effect::Save => {
                    self.saved = self.supervisor.snapshot();
                    self.laws.saved(&self.supervisor);
                }
                Effect::Forget { .. } | Effect::Reply { .. } | Effect::Publish(_) => {}
            }
        }
        outcomes
    }

    /// What a health check comes to.
    fn look(&mut self) -> Probe {
        let found = match self.random.below(8) {
            _ if self.weather.fair => Finding::Passed,
            0..4 => Finding::Passed,
            4..7 => Finding::Failed,
            _ => Finding::Nothing,
        };
        Probe { found, took: Duration::ZERO, code: None, error: None }
    }

    /// Which port a child gets: none that another has, and not always one that none has.
    fn port(&mut self, instance: u32, wish: Option<PortWish>) -> Result<Option<u16>, SpawnError> {
        let Some(PortWish { ports, last }) = wish else { return Ok(None) };
        let foreign = u16::try_from(self.random.below(40)).unwrap();
        ports.choose(instance, last, &|port| port % 2 == 0, &mut |port| {
            port != foreign && self.kids.values().all(|kid| kid.port != Some(port))
        })
    }

    fn kill(&mut self, child: ChildId, tree: bool, outcomes: &mut Vec<Input>) {
        let kid = self.kids.get_mut(&child).unwrap();
        let status = ExitStatus::Signal { signal: Signal::KILL, core: false };
        let alive = kid.state == KidState::Alive;
        if kid.undead {
            kid.resisted = true;
            if tree {
                outcomes.push(Input::Swept { child, left: kid.members });
            }
            if alive && !kid.ending {
                kid.ending = true;
                kid.undead = false;
                kid.members = 0;
                self.at(self.now.after(UNDEAD), Input::Exited { child, status });
            } else if !alive {
                kid.undead = false;
                kid.members = 0;
                self.at(self.now.after(UNDEAD), Input::Swept { child, left: 0 });
            }
            return;
        }
        kid.members = 0;
        if tree {
            outcomes.push(Input::Swept { child, left: 0 });
        }
        if alive {
            kid.ending = true;
            outcomes.push(Input::Exited { child, status });
        }
    }

    fn later(&mut self, within: u32, input: Input) {
        let delay = Duration::from_millis(u64::from(self.random.below(within)));
        self.at(self.now.after(delay), input);
    }

    fn at(&mut self, at: Time, input: Input) {
        self.coming.insert((at, self.sequence), input);
        self.sequence += 1;
    }
}

fn brief(effect: &Effect) -> String {
    let text = format!("{effect:?}");
    match text.find("spec: AppSpec") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn pid(child: ChildId) -> Pid {
    Pid::new(i32::try_from(child.0).unwrap() + 1).unwrap()
}
