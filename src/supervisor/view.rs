//! What a process tells about itself: to the daemon's views, and in notices.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, Now, Pid, ProcId, Time, WallTime};
use crate::supervisor::exits::Exit;
use crate::supervisor::process::{
    Birth, Context, Ending, Goal, Life, Main, Process, Rest, Seat, State,
};
use crate::supervisor::spec::{AppSpec, Condition};
use crate::supervisor::vocabulary::{Effect, ErroredReason, Notice, NoticeKind, Status};

impl Process {
    #[must_use]
    pub fn id(&self) -> ProcId {
        self.id
    }

    /// The ordinal within its app, from 0.
    #[must_use]
    pub fn instance(&self) -> u32 {
        self.instance
    }

    #[must_use]
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    #[must_use]
    pub fn namespace(&self) -> &Rc<str> {
        &self.namespace
    }

    /// Its definition: what the next child will be started from. See [`Self::running_spec`].
    #[must_use]
    pub fn spec(&self) -> &Rc<AppSpec> {
        self.pending.as_ref().unwrap_or(&self.spec)
    }

    /// What the present child was started from.
    #[must_use]
    pub fn running_spec(&self) -> &Rc<AppSpec> {
        &self.spec
    }

    #[must_use]
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Where it is. A process that waits for the apps it depends on is `Starting` (at a restart:
    /// `Restarting`).
    #[must_use]
    pub fn status(&self) -> Status {
        match self.state {
            State::Stopped { .. } => Status::Stopped,
            // What has been told of the pause holds until there is a child.
            State::Spawning { .. } if self.told == Some(Status::Backoff) => Status::Backoff,
            State::Waiting { birth } | State::Spawning { birth, .. } => match birth {
                Birth::First => Status::Starting,
                Birth::Again(_) => Status::Restarting,
            },
            State::Starting { .. } => Status::Starting,
            State::Online { .. } => Status::Online,
            State::Stopping(_) => Status::Stopping,
            State::Backoff { .. } => Status::Backoff,
            State::Errored { .. } => Status::Errored,
        }
    }

    /// The present child, from the moment it is asked for until it is done with; also one that
    /// could not be ended.
    #[must_use]
    pub fn child(&self) -> Option<ChildId> {
        match self.state {
            State::Spawning { child, .. } => Some(child),
            State::Starting { life, .. } | State::Online { life, .. } => Some(life.child),
            State::Stopping(ending) | State::Errored { undead: Some(ending), .. } => {
                Some(ending.child)
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Backoff { .. }
            | State::Errored { undead: None, .. } => None,
        }
    }

    /// The pid of the main process while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.life().map(|life| life.pid)
    }

    /// When the present child was spawned.
    #[must_use]
    pub fn started(&self) -> Option<Now> {
        self.life().map(|life| life.started)
    }

    /// How long the main process has been up; zero without one.
    #[must_use]
    pub fn uptime(&self, now: Time) -> Duration {
        self.life().map_or(Duration::ZERO, |life| now.since(life.started.mono))
    }

    #[must_use]
    pub fn created_at(&self) -> WallTime {
        self.created_at
    }

    /// Lives after the first, asked for or not, since the last reset.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Unstable runs in a row.
    #[must_use]
    pub fn unstable_restarts(&self) -> u32 {
        self.history.unstable
    }

    /// When the first of the unstable runs began: "gave up after 16 runs in 69 s".
    #[must_use]
    pub fn failing_since(&self) -> Option<Time> {
        self.history.failing_since
    }

    /// The last ends, at most five, oldest first.
    #[must_use]
    pub fn exits(&self) -> &[Exit] {
        self.exits.as_slice()
    }

    #[must_use]
    pub fn last_exit(&self) -> Option<&Exit> {
        self.exits().last()
    }

    /// When the pause before the next life is over.
    #[must_use]
    pub fn retry_at(&self) -> Option<Time> {
        match self.state {
            State::Backoff { until, .. } => Some(until),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Online { .. }
            | State::Stopping(_)
            | State::Errored { .. } => None,
        }
    }

    /// False only while it is online and its readiness is overdue.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!(self.state, State::Online { ready: false, .. })
    }

    #[must_use]
    pub fn errored(&self) -> Option<ErroredReason> {
        match self.state {
            State::Errored { reason, .. } => Some(reason),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Online { .. }
            | State::Stopping(_)
            | State::Backoff { .. } => None,
        }
    }

    /// Whether it ended by itself, successfully, and rests since.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Stopped { rest: Rest::Done })
    }

    /// No child, and none is coming.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Stopped { .. } | State::Errored { undead: None, .. })
    }

    /// Online; ready or not.
    #[must_use]
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online { .. })
    }

    /// It waits for the apps it depends on.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether something will happen by itself: a child lives, or one is due. What could not be
    /// ended does not count, nor who waits for others: when nothing else moves, they do not.
    pub(super) fn is_active(&self) -> bool {
        match self.state {
            State::Spawning { .. }
            | State::Starting { .. }
            | State::Online { .. }
            | State::Stopping(_)
            | State::Backoff { .. } => true,
            State::Stopped { .. } | State::Waiting { .. } | State::Errored { .. } => false,
        }
    }

    /// Whether it is all that a dependent needs of it.
    pub(super) fn satisfies(&self, condition: Condition) -> bool {
        match (self.state, condition) {
            (State::Stopped { rest }, _) => rest == Rest::Done,
            (State::Starting { .. }, Condition::Started) => true,
            (State::Online { .. }, Condition::Started) => true,
            (State::Online { ready, .. }, Condition::Ready) => ready,
            (State::Online { ready, .. }, Condition::Healthy) => match self.spec.health() {
                Some(_) => self.is_healthy(),
                None => ready,
            },
            (State::Starting { .. }, Condition::Ready | Condition::Healthy | Condition::Done)
            | (State::Online { .. }, Condition::Done)
            | (
                State::Waiting { .. }
                | State::Spawning { .. }
                | State::Stopping(_)
                | State::Backoff { .. }
                | State::Errored { .. },
                Condition::Started | Condition::Ready | Condition::Healthy | Condition::Done,
            ) => false,
        }
    }

    fn life(&self) -> Option<Life> {
        match self.state {
            State::Starting { life, .. } | State::Online { life, .. } => Some(life),
            State::Stopping(Ending { main, .. })
            | State::Errored { undead: Some(Ending { main, .. }), .. } => match main {
                Main::Alive(life) => Some(life),
                Main::Unspawned | Main::Ended { .. } | Main::Unborn => None,
            },
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Spawning { .. }
            | State::Backoff { .. }
            | State::Errored { undead: None, .. } => None,
        }
    }

    /// Tells the status, if it is another than the one told last.
    pub(super) fn tell(&mut self, cx: &mut Context<'_>) {
        let to = self.status();
        if self.told != Some(to) {
            self.publish(NoticeKind::Status { from: self.told, to }, cx);
            self.told = Some(to);
        }
    }

    pub(super) fn publish(&self, kind: NoticeKind, cx: &mut Context<'_>) {
        match self.seat {
            Seat::Front(_) => cx.effects.push(Effect::Publish(self.notice(kind))),
            // To the world there is one process; it is told of what becomes of that.
            Seat::Side(_) => {}
        }
    }

    pub(super) fn notice(&self, kind: NoticeKind) -> Notice {
        Notice {
            process: self.id,
            name: Rc::clone(&self.name),
            namespace: Rc::clone(&self.namespace),
            instance: self.instance,
            kind,
        }
    }
}
