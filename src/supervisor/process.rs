//! One supervised process: the transition table.
//!
//! *Goal* is where the user wants it; *state* is where it is. They change independently: asking
//! changes the goal at once, the state follows when the world does.
//!
//! | state    | child       | waits for                                    | timer        |
//! |----------|-------------|----------------------------------------------|--------------|
//! | Stopped  | none        | being asked                                  |              |
//! | Waiting  | none        | the apps it depends on                       |              |
//! | Spawning | asked for   | `Spawned` or `SpawnFailed`                   |              |
//! | Starting | yes         | readiness (only with `wait_ready`)           | Ready, Probe, Overrun  |
//! | Online   | yes         | its end                                      | Settle, Probe, Overrun |
//! | Stopping | yes, ending | its end, then that of its tree               | Kill, Linger |
//! | Backoff  | none        | the pause to pass                            | Restart      |
//! | Errored  | none        | being asked                                  |              |
//!
//! What follows Stopping depends on the goal alone: up, it is spawned again; down, it is Stopped;
//! gone, it leaves the table. A whole supervisor that is going down *halts* its processes: they
//! are stopped without a change of their goals.
//!
//! A stop sends the stop signal and arms Kill. A worker of a cluster that has been replaced is
//! *dismissed* before: it serves the connections it has; it is told to stop when it has done so, or
//! when Kill fires, which is armed once more then. When the main process has ended, its tree is swept
//! (with `treekill`); when Kill fires, everything gets `SIGKILL` and Linger is armed; what lives
//! when Linger fires is *undead*: the process is Errored, and its child is remembered, so that no
//! second one is spawned beside it.
//!
//! An end that nobody asked for is judged by `restart.rs`. Its tree is not swept, and the next
//! child is spawned before anybody is told of the end of the last one.
//!
//! Every child has a number of its own; the supervisor drops news of a child that is not the
//! process's present one before it comes here.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{ChildId, ExitStatus, Now, Pid, ProcId, SpawnError, Time, WallTime};
use crate::supervisor::children::Children;
use crate::supervisor::exits::Exits;
use crate::supervisor::restart::{History, Verdict};
use crate::supervisor::served::Served;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::timers::{Timer, Timers};
use crate::supervisor::vocabulary::{
    Effect, ErroredReason, Finding, NoticeKind, RestartReason, Status,
};

/// Where the user wants a process.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    Up,
    Down,
    /// Stopped, then out of the table.
    Gone,
}

/// Where a process sits: in the table, or beside its place there, during a reload.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Seat {
    Front(ProcId),
    /// The successor until it is ready, then the predecessor until it is gone.
    Side(ProcId),
}

impl Seat {
    pub(super) fn process(self) -> ProcId {
        match self {
            Self::Front(id) | Self::Side(id) => id,
        }
    }
}

/// One entry of the table. How its transitions are made is in `life.rs`, what it tells about itself
/// in `view.rs`.
#[derive(Debug)]
pub struct Process {
    pub(super) id: ProcId,
    pub(super) instance: u32,
    pub(super) seat: Seat,
    pub(super) goal: Goal,
    pub(super) state: State,
    /// The status last told; the next notice starts from here.
    pub(super) told: Option<Status>,
    pub(super) history: History,
    pub(super) restarts: u32,
    /// What the present child was started from.
    pub(super) spec: Rc<AppSpec>,
    /// What the next child will be started from, if that is something else.
    pub(super) pending: Option<Rc<AppSpec>>,
    pub(super) name: Rc<str>,
    pub(super) namespace: Rc<str>,
    pub(super) created_at: WallTime,
    pub(super) exits: Exits,
    /// Its port and its health; `None`: it has neither.
    pub(super) served: Option<Box<Served>>,
    /// A worker of its, or of the one it is to replace, has listened.
    pub(super) listens: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Stopped {
        rest: Rest,
    },
    Waiting {
        birth: Birth,
    },
    Spawning {
        child: ChildId,
        since: Time,
        birth: Birth,
    },
    Starting {
        life: Life,
        birth: Birth,
    },
    /// `ready` is false while readiness is overdue.
    Online {
        life: Life,
        ready: bool,
    },
    Stopping(Ending),
    Backoff {
        until: Time,
        birth: Birth,
    },
    Errored {
        reason: ErroredReason,
        undead: Option<Ending>,
    },
}

/// Why a process rests: whether somebody wanted that, and how its last child ended otherwise.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rest {
    /// It was told to.
    #[default]
    Asked,
    /// Nobody has started it yet.
    Fresh,
    /// It ended by itself, not successfully.
    Failed,
    /// It ended by itself, successfully.
    Done,
}

/// One running child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) child: ChildId,
    pub(super) pid: Pid,
    pub(super) started: Now,
}

/// A child that is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) child: ChildId,
    /// What became of the main process.
    pub(super) main: Main,
    /// Members of its tree that live, as last heard; `None`: not heard.
    pub(super) left: Option<usize>,
    /// It was asked to leave and was not told to stop yet.
    pub(super) dismissed: bool,
    /// `SIGKILL` was used.
    pub(super) killed: bool,
    /// What a new life would be called.
    pub(super) reason: RestartReason,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Main {
    /// The stop came before the answer to the spawn.
    Unspawned,
    Alive(Life),
    Ended {
        status: ExitStatus,
        uptime: Duration,
    },
    /// There never was one: the spawn failed.
    Unborn,
}

/// What a new life is to those who watch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Birth {
    /// A start.
    First,
    /// A restart.
    Again(RestartReason),
}

impl Birth {
    /// The same birth, brought forward for this reason.
    fn hastened(self, reason: RestartReason) -> Self {
        match self {
            Self::First => Self::First,
            Self::Again(_) => Self::Again(reason),
        }
    }
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Start,
    /// `goal`: `Down` or `Gone`.
    Stop {
        goal: Goal,
        kill_timeout: Option<Duration>,
    },
    Restart {
        reason: RestartReason,
        kill_timeout: Option<Duration>,
    },
    /// The supervisor goes down.
    Halt,
    /// All dependencies are satisfied.
    Proceed,
    Spawned(Pid),
    SpawnFailed(SpawnError),
    Ready,
    Probed(Finding),
    /// It serves nobody any more.
    Left,
    Exited(ExitStatus),
    Swept(usize),
    Timer(Timer),
}

/// What an event meant, for requests in progress and for dependents.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing that anybody waits for.
    Nothing,
    /// Its child is to be stopped now.
    Stopping,
    Spawned,
    Online,
    /// It is ready after all.
    Ready,
    /// It was not, or nobody knew.
    Healthy,
    /// It has failed too many checks; it may be restarted for that.
    Unhealthy,
    Settled,
    /// It ended by itself.
    Died {
        status: ExitStatus,
        uptime: Duration,
        verdict: Verdict,
        /// Unstable runs in a row, and since when.
        unstable: u32,
        failing_since: Time,
    },
    NotSpawned(SpawnError),
    /// The stop is complete.
    Ended {
        status: Option<ExitStatus>,
        killed: bool,
    },
    /// It is at rest, and no child had to end for it.
    Rested,
    Unstoppable {
        left: usize,
    },
}

/// What a transition may touch besides the process itself.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) timers: &'a mut Timers,
    pub(super) children: &'a mut Children,
    pub(super) effects: &'a mut Vec<Effect>,
    /// The supervisor goes down: nothing is spawned any more.
    pub(super) halting: bool,
}

impl Process {
    /// The transition table: every combination of state and event, by name.
    pub(super) fn step(&mut self, event: Event, cx: &mut Context<'_>) -> Change {
        use Event as E;
        use State as S;
        match (self.state, event) {
            // No child, and none is coming.
            (S::Stopped { .. } | S::Errored { undead: None, .. }, E::Start | E::Restart { .. }) => {
                self.aim(Goal::Up);
                self.history = History::default();
                self.begin(Birth::First, cx)
            }
            (S::Stopped { rest }, E::Stop { goal, .. }) => {
                self.aim(goal);
                // Where nothing else starts it, its success counts for those who depend on it.
                if rest != Rest::Done || self.spec().starts_by_itself() {
                    self.state = S::Stopped { rest: Rest::Asked };
                }
                Change::Rested
            }
            (S::Errored { undead: None, .. }, E::Stop { goal, .. }) => {
                self.aim(goal);
                self.rest(cx)
            }
            (S::Stopped { .. } | S::Errored { undead: None, .. }, E::Halt) => Change::Rested,

            // No child, but one is due.
            (S::Waiting { birth }, E::Proceed) => self.bear(birth, cx),
            (S::Backoff { birth, .. }, E::Timer(Timer::Restart)) => self.bear(birth, cx),
            (S::Backoff { birth, .. }, E::Start) => {
                self.begin_now(birth.hastened(RestartReason::Command), cx)
            }
            (S::Backoff { birth, .. }, E::Restart { reason, .. }) => {
                self.begin_now(birth.hastened(reason), cx)
            }
            (S::Waiting { .. }, E::Start | E::Restart { .. }) => {
                self.aim(Goal::Up);
                Change::Nothing
            }
            (S::Waiting { .. } | S::Backoff { .. }, E::Stop { goal, .. }) => {
                self.aim(goal);
                self.rest(cx)
            }
            (S::Waiting { .. } | S::Backoff { .. }, E::Halt) => self.rest(cx),

            // A child that should live.
            (S::Spawning { child, since, birth }, E::Spawned(pid)) => {
                let life = Life { child, pid, started: cx.now };
                self.spawned(life, since, birth, cx)
            }
            (S::Spawning { child, birth, .. }, E::SpawnFailed(error)) => {
                cx.children.leave(child);
                self.not_spawned(error, birth, cx)
            }
            (S::Starting { life, birth }, E::Ready) => {
                self.cancel(Timer::Ready, cx);
                self.online(life, birth, true, life.started.mono, cx)
            }
            (S::Starting { life, birth }, E::Timer(Timer::Ready)) => {
                let after = self.spec.listen_timeout;
                let change = self.online(life, birth, false, life.started.mono, cx);
                self.publish(NoticeKind::NotReady { after }, cx);
                change
            }
            (S::Online { life, ready: false }, E::Ready) => {
                self.state = S::Online { life, ready: true };
                Change::Ready
            }
            (S::Online { .. }, E::Timer(Timer::Settle)) => Change::Settled,
            (S::Starting { life, .. } | S::Online { life, .. }, E::Timer(Timer::Probe)) => {
                self.probe(life, cx);
                Change::Nothing
            }
            (S::Starting { life, .. } | S::Online { life, .. }, E::Probed(found)) => {
                self.probed(life, found, cx)
            }
            (S::Starting { .. } | S::Online { .. }, E::Timer(Timer::Overrun)) => {
                // Who waits for its end is told how it ended, not that somebody stopped it.
                self.aim(Goal::Down);
                self.stop(RestartReason::Overrun, None, cx);
                Change::Nothing
            }
            (S::Starting { life, .. } | S::Online { life, .. }, E::Exited(status)) => {
                self.died(life, status, cx)
            }
            (S::Spawning { .. } | S::Starting { .. } | S::Online { .. }, E::Start) => {
                self.aim(Goal::Up);
                Change::Nothing
            }
            (
                S::Spawning { .. } | S::Starting { .. } | S::Online { .. },
                E::Stop { goal, kill_timeout },
            ) => {
                self.aim(goal);
                self.stop(RestartReason::Command, kill_timeout, cx)
            }
            (
                S::Spawning { .. } | S::Starting { .. } | S::Online { .. },
                E::Restart { reason, kill_timeout },
            ) => {
                self.aim(Goal::Up);
                self.stop(reason, kill_timeout, cx)
            }
            (S::Spawning { .. } | S::Starting { .. } | S::Online { .. }, E::Halt) => {
                self.stop(RestartReason::Command, None, cx)
            }

            // A child that should die. What comes after depends on the goal alone.
            (S::Stopping(_), E::Start) => {
                self.aim(Goal::Up);
                Change::Nothing
            }
            (S::Stopping(ending), E::Restart { reason, kill_timeout }) => {
                self.aim(Goal::Up);
                self.hurry(ending, kill_timeout, cx);
                self.state = S::Stopping(Ending { reason, ..ending });
                Change::Nothing
            }
            (S::Stopping(ending), E::Stop { goal, kill_timeout }) => {
                self.aim(goal);
                if ending.dismissed {
                    // Whoever wants it stopped now does not wait for its clients.
                    self.stop_dismissed(ending, cx);
                }
                self.hurry(ending, kill_timeout, cx);
                // Whatever it was for: now somebody wants it.
                self.state = S::Stopping(Ending { reason: RestartReason::Command, ..ending });
                Change::Stopping
            }
            (S::Stopping(_), E::Halt) => Change::Stopping,
            (S::Stopping(ending), E::Spawned(pid)) => self.spawned_late(ending, pid, cx),
            (S::Stopping(ending), E::SpawnFailed(_)) => {
                self.ended(Ending { main: Main::Unborn, ..ending }, cx)
            }
            (S::Stopping(ending), E::Exited(status)) => self.main_ended(ending, status, cx),
            (S::Stopping(ending), E::Swept(left)) => self.swept(ending, left, cx),
            (S::Stopping(ending), E::Left | E::Timer(Timer::Kill)) if ending.dismissed => {
                self.stop_dismissed(ending, cx);
                Change::Nothing
            }
            (S::Stopping(ending), E::Timer(Timer::Kill)) => {
                self.kill(ending, cx);
                Change::Nothing
            }
            (S::Stopping(ending), E::Timer(Timer::Linger)) => self.give_up_killing(ending, cx),

            // A child that should have died long ago.
            (S::Errored { undead: Some(ending), .. }, E::Start | E::Restart { .. }) => {
                self.aim(Goal::Up);
                self.kill_again(ending, cx)
            }
            (S::Errored { undead: Some(ending), .. }, E::Stop { goal, .. }) => {
                self.aim(goal);
                self.kill_again(Ending { reason: RestartReason::Command, ..ending }, cx)
            }
            (S::Errored { undead: Some(ending), .. }, E::Halt) => self.kill_again(ending, cx),
            (S::Errored { undead: Some(ending), reason }, E::Spawned(pid)) => {
                let life = Life { child: ending.child, pid, started: cx.now };
                let ending = Ending { main: Main::Alive(life), ..ending };
                self.state = S::Errored { undead: Some(ending), reason };
                cx.effects.push(Effect::Kill { child: ending.child, tree: self.spec.treekill });
                Change::Nothing
            }
            (S::Errored { undead: Some(ending), .. }, E::SpawnFailed(_) | E::Exited(_)) => {
                self.buried(ending, cx)
            }
            (S::Errored { undead: Some(ending), .. }, E::Swept(left)) => match ending.main {
                Main::Ended { .. } | Main::Unborn if left == 0 => self.buried(ending, cx),
                Main::Ended { .. } | Main::Unborn | Main::Unspawned | Main::Alive(_) => {
                    Change::Nothing
                }
            },

            // Late or twice: harmless, and listed so that nothing is ignored by accident.
            (
                S::Stopped { .. } | S::Errored { undead: None, .. },
                E::Proceed
                | E::Spawned(_)
                | E::SpawnFailed(_)
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Exited(_)
                | E::Swept(_)
                | E::Timer(
                    Timer::Kill
                    | Timer::Linger
                    | Timer::Ready
                    | Timer::Restart
                    | Timer::Probe
                    | Timer::Settle
                    | Timer::Overrun,
                ),
            )
            | (
                S::Waiting { .. },
                E::Spawned(_)
                | E::SpawnFailed(_)
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Exited(_)
                | E::Swept(_)
                | E::Timer(
                    Timer::Kill
                    | Timer::Linger
                    | Timer::Ready
                    | Timer::Restart
                    | Timer::Probe
                    | Timer::Settle
                    | Timer::Overrun,
                ),
            )
            | (
                S::Backoff { .. },
                E::Proceed
                | E::Spawned(_)
                | E::SpawnFailed(_)
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Exited(_)
                | E::Swept(_)
                | E::Timer(
                    Timer::Kill
                    | Timer::Linger
                    | Timer::Ready
                    | Timer::Probe
                    | Timer::Settle
                    | Timer::Overrun,
                ),
            )
            | (
                S::Spawning { .. },
                E::Proceed
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Exited(_)
                | E::Swept(_)
                | E::Timer(
                    Timer::Kill
                    | Timer::Linger
                    | Timer::Ready
                    | Timer::Restart
                    | Timer::Probe
                    | Timer::Settle
                    | Timer::Overrun,
                ),
            )
            | (
                S::Starting { .. },
                E::Proceed
                | E::Left
                | E::Spawned(_)
                | E::SpawnFailed(_)
                | E::Swept(_)
                | E::Timer(Timer::Kill | Timer::Linger | Timer::Restart | Timer::Settle),
            )
            | (S::Online { ready: true, .. }, E::Ready)
            | (
                S::Online { .. },
                E::Proceed
                | E::Left
                | E::Spawned(_)
                | E::SpawnFailed(_)
                | E::Swept(_)
                | E::Timer(Timer::Kill | Timer::Linger | Timer::Ready | Timer::Restart),
            )
            | (
                S::Stopping(_),
                E::Proceed
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Timer(
                    Timer::Ready | Timer::Restart | Timer::Probe | Timer::Settle | Timer::Overrun,
                ),
            )
            | (
                S::Errored { undead: Some(_), .. },
                E::Proceed
                | E::Ready
                | E::Probed(_)
                | E::Left
                | E::Timer(
                    Timer::Kill
                    | Timer::Linger
                    | Timer::Ready
                    | Timer::Restart
                    | Timer::Probe
                    | Timer::Settle
                    | Timer::Overrun,
                ),
            ) => Change::Nothing,
        }
    }
}
