//! How the transitions of a process are made: the steps that the table in `process.rs` names.
//!
//! Each leaves the process in a state with its timers, appends the effects, and says what that
//! meant. The order of effects is part of it: what must happen first comes first, notices last.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, ExitStatus, Pid, SpawnError, Time};
use crate::supervisor::exits::{Exit, ExitReason};
use crate::supervisor::process::{
    Birth, Change, Context, Ending, Goal, Life, Main, Process, Rest, Seat, State,
};
use crate::supervisor::restart::{History, RestartPolicy, Verdict};
use crate::supervisor::timers::{Due, Timer};
use crate::supervisor::vocabulary::{
    Effect, ErroredReason, NoticeKind, RestartReason, Status, Turn,
};

/// After `SIGKILL`: what lives longer than this is reported as not to be stopped.
pub const LINGER: Duration = Duration::from_secs(1);

impl Process {
    /// A goal once set to `Gone` is not taken back: there is nothing left to come back to.
    pub(super) fn aim(&mut self, goal: Goal) {
        if self.goal != Goal::Gone {
            self.goal = goal;
        }
    }

    /// A life that was asked for: first the dependencies, then the child.
    pub(super) fn begin(&mut self, birth: Birth, cx: &mut Context<'_>) -> Change {
        self.renew();
        if cx.halting || self.spec.depends_on.is_empty() {
            return self.bear(birth, cx);
        }
        self.state = State::Waiting { birth };
        self.tell(cx);
        Change::Nothing
    }

    /// The same where the pause before it is not waited for.
    pub(super) fn begin_now(&mut self, birth: Birth, cx: &mut Context<'_>) -> Change {
        self.aim(Goal::Up);
        self.history = History::default();
        self.cancel(Timer::Restart, cx);
        self.begin(birth, cx)
    }

    pub(super) fn bear(&mut self, birth: Birth, cx: &mut Context<'_>) -> Change {
        if cx.halting {
            return self.rest(cx);
        }
        self.spawn(birth, cx);
        self.tell(cx);
        Change::Nothing
    }

    /// Tells nobody: that is for the caller, after what else must come first.
    pub(super) fn spawn(&mut self, birth: Birth, cx: &mut Context<'_>) {
        self.renew();
        let child = cx.children.enter(self.seat);
        self.state = State::Spawning { child, since: cx.now.mono, birth };
        cx.effects.push(Effect::Spawn {
            child,
            process: self.id,
            instance: self.instance,
            spec: Rc::clone(&self.spec),
            port: self.port_wish(),
        });
    }

    pub(super) fn renew(&mut self) {
        if let Some(spec) = self.pending.take() {
            self.spec = spec;
        }
    }

    pub(super) fn spawned(
        &mut self,
        life: Life,
        since: Time,
        birth: Birth,
        cx: &mut Context<'_>,
    ) -> Change {
        match birth {
            Birth::First => {}
            Birth::Again(_) => self.restarts = self.restarts.saturating_add(1),
        }
        self.watch(cx);
        self.limit_run(life, cx);
        if !self.spec.wait_ready && !self.awaits_listening() {
            return self.online(life, birth, true, since, cx);
        }
        self.state = State::Starting { life, birth };
        // Who has never listened is not expected to.
        let listens = self.listens || self.spec.wait_ready;
        let time = if listens { self.spec.listen_timeout } else { self.spec.settle_time() };
        self.arm(Timer::Ready, time, cx);
        self.tell(cx);
        Change::Spawned
    }

    pub(super) fn online(
        &mut self,
        life: Life,
        birth: Birth,
        ready: bool,
        since: Time,
        cx: &mut Context<'_>,
    ) -> Change {
        self.state = State::Online { life, ready };
        self.tell(cx);
        let (pid, port, took) = (life.pid, self.port(), cx.now.mono.since(since));
        self.publish(
            match birth {
                Birth::First => NoticeKind::Started { pid, port, took },
                Birth::Again(reason) => {
                    NoticeKind::Restarted { pid, port, restarts: self.restarts, reason, took }
                }
            },
            cx,
        );
        Change::Online
    }

    pub(super) fn not_spawned(
        &mut self,
        error: SpawnError,
        birth: Birth,
        cx: &mut Context<'_>,
    ) -> Change {
        if self.goal != Goal::Up || cx.halting {
            self.state = State::Stopped { rest: Rest::Asked };
            self.tell(cx);
            return Change::NotSpawned(error);
        }
        let verdict = if error.is_transient() {
            self.history.failing_since.get_or_insert(cx.now.mono);
            RestartPolicy(&self.spec).judge_failed_spawn(&mut self.history)
        } else {
            Verdict::GiveUp
        };
        match verdict {
            Verdict::Restart { after } => self.back_off(after, birth, cx),
            Verdict::Finish | Verdict::GiveUp => {
                self.fail(ErroredReason::SpawnFailed(error), cx);
            }
        }
        Change::NotSpawned(error)
    }

    /// An end that nobody asked for. The next life comes first, then the news of the last one.
    pub(super) fn died(&mut self, life: Life, status: ExitStatus, cx: &mut Context<'_>) -> Change {
        let uptime = cx.now.mono.since(life.started.mono);
        self.cancel_for_life(cx);
        cx.children.leave(life.child);

        let failing_since = *self.history.failing_since.get_or_insert(life.started.mono);
        let age = cx.now.mono.since(*self.history.begun.get_or_insert(life.started.mono));
        let verdict = RestartPolicy(&self.spec).judge(&mut self.history, uptime, age, status);
        let unstable = self.history.unstable;
        let turn = self.turn(uptime);
        let verdict = if self.goal == Goal::Up && !cx.halting { verdict } else { Verdict::Finish };
        let wanted = RestartPolicy(&self.spec).is_wanted(status);
        let crashed =
            |restart_in| NoticeKind::Crashed { pid: life.pid, status, uptime, restart_in, turn };

        let reason = match verdict {
            Verdict::Restart { after } => {
                let birth = Birth::Again(RestartReason::Crash);
                if after.is_zero() {
                    self.spawn(birth, cx);
                }
                cx.effects.push(Effect::Release { child: life.child });
                self.publish(crashed(Some(after)), cx);
                if after.is_zero() {
                    self.tell(cx);
                } else {
                    self.back_off(after, birth, cx);
                }
                ExitReason::Crash
            }
            Verdict::Finish => {
                if !cx.halting {
                    self.aim(Goal::Down);
                }
                let rest = if status.is_success() { Rest::Done } else { Rest::Failed };
                self.state = State::Stopped { rest };
                cx.effects.push(Effect::Release { child: life.child });
                if !wanted {
                    self.publish(crashed(None), cx);
                }
                self.tell(cx);
                let status = Some(status);
                self.publish(NoticeKind::Stopped { status, uptime, commanded: false, turn }, cx);
                if wanted { ExitReason::Finished } else { ExitReason::Crash }
            }
            Verdict::GiveUp => {
                cx.effects.push(Effect::Release { child: life.child });
                self.publish(crashed(None), cx);
                self.fail(ErroredReason::MaxRestarts { last: Some(status) }, cx);
                ExitReason::Crash
            }
        };
        self.unwatch(cx);
        self.exits.record(Exit { at: cx.now.wall, status, uptime, reason });
        Change::Died { status, uptime, verdict, unstable, failing_since }
    }

    /// What intercom says of a run that has ended.
    fn turn(&self, uptime: Duration) -> Option<Turn> {
        RestartPolicy(&self.spec)
            .counts_runs()
            .then(|| Turn { runs: self.history.runs, spinning: uptime < self.spec.min_uptime })
    }

    pub(super) fn back_off(&mut self, after: Duration, birth: Birth, cx: &mut Context<'_>) {
        self.state = State::Backoff { until: cx.now.mono.after(after), birth };
        self.arm(Timer::Restart, after, cx);
        self.tell(cx);
    }

    pub(super) fn fail(&mut self, reason: ErroredReason, cx: &mut Context<'_>) {
        self.state = State::Errored { reason, undead: None };
        self.tell(cx);
        self.publish(NoticeKind::Errored { reason, unstable: self.history.unstable }, cx);
    }

    /// Stopped, without a child that had to end.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>) -> Change {
        self.cancel(Timer::Restart, cx);
        self.state = State::Stopped { rest: Rest::Asked };
        let before = self.told;
        self.tell(cx);
        if before.is_some_and(|status| status != Status::Stopped) {
            let uptime = Duration::ZERO;
            self.publish(
                NoticeKind::Stopped { status: None, uptime, commanded: true, turn: None },
                cx,
            );
        }
        Change::Rested
    }

    pub(super) fn stop(
        &mut self,
        reason: RestartReason,
        kill_timeout: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Change {
        self.cancel_for_life(cx);
        // Another one serves in its place.
        let is_side = matches!(self.seat, Seat::Side(_));
        let dismissed = is_side && self.spec.is_cluster() && self.is_online();
        let (child, main) = match self.state {
            State::Spawning { child, .. } => (child, Main::Unspawned),
            State::Starting { life, .. } | State::Online { life, .. } => {
                if dismissed {
                    cx.effects.push(Effect::Dismiss { child: life.child });
                } else {
                    self.send_stop_signal(life.child, cx);
                }
                (life.child, Main::Alive(life))
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Errored { .. } => return Change::Nothing,
        };
        let ending = Ending { child, main, left: None, dismissed, killed: false, reason };
        self.state = State::Stopping(ending);
        self.arm(Timer::Kill, kill_timeout.unwrap_or(self.spec.kill_timeout), cx);
        self.tell(cx);
        self.unwatch(cx);
        Change::Stopping
    }

    /// It has served whom it served, or has had the time to.
    pub(super) fn stop_dismissed(&mut self, ending: Ending, cx: &mut Context<'_>) {
        self.state = State::Stopping(Ending { dismissed: false, ..ending });
        self.send_stop_signal(ending.child, cx);
        self.arm(Timer::Kill, self.spec.kill_timeout, cx);
    }

    /// Whether it is to listen before it takes the place of another.
    pub(super) fn awaits_listening(&self) -> bool {
        !self.spec.wait_ready && self.spec.is_cluster() && matches!(self.seat, Seat::Side(_))
    }

    /// It is waited for in case it listens, and it is all the same if it does not.
    pub(super) fn need_not_listen(&self) -> bool {
        self.awaits_listening() && !self.listens
    }

    pub(super) fn send_stop_signal(&self, child: ChildId, cx: &mut Context<'_>) {
        let (signal, group) = (self.spec.kill_signal, self.spec.treekill);
        cx.effects.push(if self.spec.shutdown_with_message {
            Effect::Ask { child, signal, group }
        } else {
            Effect::Signal { child, signal, group }
        });
    }

    /// A later stop may shorten the time that is left, not lengthen it.
    pub(super) fn hurry(
        &self,
        ending: Ending,
        kill_timeout: Option<Duration>,
        cx: &mut Context<'_>,
    ) {
        if ending.killed {
            return;
        }
        let at = cx.now.mono.after(kill_timeout.unwrap_or(self.spec.kill_timeout));
        let kill = Due::Process(self.seat, Timer::Kill);
        if cx.timers.at(kill).is_none_or(|due| at < due) {
            cx.timers.arm(kill, at);
        }
    }

    /// The answer to a spawn that is no longer wanted.
    pub(super) fn spawned_late(
        &mut self,
        ending: Ending,
        pid: Pid,
        cx: &mut Context<'_>,
    ) -> Change {
        let life = Life { child: ending.child, pid, started: cx.now };
        self.state = State::Stopping(Ending { main: Main::Alive(life), ..ending });
        if ending.killed {
            cx.effects.push(Effect::Kill { child: ending.child, tree: self.spec.treekill });
        } else {
            self.send_stop_signal(ending.child, cx);
        }
        Change::Nothing
    }

    pub(super) fn main_ended(
        &mut self,
        ending: Ending,
        status: ExitStatus,
        cx: &mut Context<'_>,
    ) -> Change {
        let Main::Alive(life) = ending.main else { return Change::Nothing };
        let uptime = cx.now.mono.since(life.started.mono);
        let ending = Ending { main: Main::Ended { status, uptime }, dismissed: false, ..ending };
        if !self.spec.treekill || (ending.killed && ending.left == Some(0)) {
            return self.ended(ending, cx);
        }
        self.state = State::Stopping(ending);
        cx.effects.push(if ending.killed {
            Effect::Kill { child: ending.child, tree: true }
        } else {
            Effect::Sweep { child: ending.child, signal: self.spec.kill_signal }
        });
        Change::Nothing
    }

    pub(super) fn swept(&mut self, ending: Ending, left: usize, cx: &mut Context<'_>) -> Change {
        match ending.main {
            Main::Ended { .. } if left == 0 => self.ended(ending, cx),
            Main::Ended { .. } | Main::Alive(_) => {
                self.state = State::Stopping(Ending { left: Some(left), ..ending });
                Change::Nothing
            }
            Main::Unspawned | Main::Unborn => Change::Nothing,
        }
    }

    pub(super) fn kill(&mut self, ending: Ending, cx: &mut Context<'_>) {
        self.state = State::Stopping(Ending { killed: true, left: None, ..ending });
        match ending.main {
            // The answer to the spawn is killed when it comes.
            Main::Unspawned | Main::Unborn => {}
            Main::Alive(_) | Main::Ended { .. } => {
                cx.effects.push(Effect::Kill { child: ending.child, tree: self.spec.treekill });
            }
        }
        self.arm(Timer::Linger, LINGER, cx);
    }

    pub(super) fn kill_again(&mut self, ending: Ending, cx: &mut Context<'_>) -> Change {
        self.kill(ending, cx);
        self.tell(cx);
        Change::Stopping
    }

    pub(super) fn give_up_killing(&mut self, ending: Ending, cx: &mut Context<'_>) -> Change {
        let main = match ending.main {
            Main::Unspawned | Main::Alive(_) => 1,
            Main::Ended { .. } | Main::Unborn => 0,
        };
        // Nothing was heard of the tree: then there is at least one that cannot be counted.
        let left = match (main, ending.left) {
            (0, None) => 1,
            (main, left) => left.unwrap_or(0).saturating_add(main),
        };
        if self.goal == Goal::Gone {
            self.goal = Goal::Down;
        }
        let reason = ErroredReason::Unstoppable { left };
        self.state = State::Errored { reason, undead: Some(ending) };
        self.tell(cx);
        self.publish(NoticeKind::Errored { reason, unstable: self.history.unstable }, cx);
        Change::Unstoppable { left }
    }

    /// The end of what was given up; no life follows unless it is asked for.
    pub(super) fn buried(&mut self, ending: Ending, cx: &mut Context<'_>) -> Change {
        cx.children.leave(ending.child);
        cx.effects.push(Effect::Release { child: ending.child });
        if let State::Errored { reason, .. } = self.state {
            self.state = State::Errored { reason, undead: None };
        }
        match self.goal {
            Goal::Up => Change::Rested,
            Goal::Down | Goal::Gone => {
                let change = self.rest(cx);
                if ending.reason == RestartReason::Overrun {
                    self.state = State::Stopped { rest: Rest::Failed };
                }
                change
            }
        }
    }

    /// The stop is complete.
    pub(super) fn ended(&mut self, ending: Ending, cx: &mut Context<'_>) -> Change {
        self.cancel(Timer::Kill, cx);
        self.cancel(Timer::Linger, cx);
        cx.children.leave(ending.child);
        let again = self.goal == Goal::Up && !cx.halting;
        let exit = match ending.main {
            Main::Ended { status, uptime } => Some((status, uptime)),
            Main::Unspawned | Main::Alive(_) | Main::Unborn => None,
        };
        if let Some((status, uptime)) = exit {
            let reason = match (self.seat, ending.reason) {
                (Seat::Side(_), _) | (Seat::Front(_), RestartReason::Reload) => ExitReason::Reload,
                (Seat::Front(_), RestartReason::Health) if again => ExitReason::Unhealthy,
                (Seat::Front(_), RestartReason::Memory) if again => ExitReason::Memory,
                (Seat::Front(_), RestartReason::Cron) if again => ExitReason::Cron,
                (Seat::Front(_), RestartReason::Watch) if again => ExitReason::Watch,
                (Seat::Front(_), RestartReason::Overrun) => ExitReason::Overrun,
                (Seat::Front(_), RestartReason::Crash | RestartReason::Command) if again => {
                    ExitReason::Restart
                }
                (
                    Seat::Front(_),
                    RestartReason::Crash
                    | RestartReason::Command
                    | RestartReason::Health
                    | RestartReason::Memory
                    | RestartReason::Cron
                    | RestartReason::Watch,
                ) => ExitReason::Stop,
            };
            self.exits.record(Exit { at: cx.now.wall, status, uptime, reason });
            if reason != ExitReason::Unhealthy {
                // That one is judged.
                self.history.runs = self.history.runs.saturating_add(1);
            }
        }
        if let (true, RestartReason::Health, Some((status, uptime))) = (again, ending.reason, exit)
        {
            self.release(ending, cx);
            if let Some(change) = self.unhealthy_ended(status, uptime, cx) {
                return change;
            }
        } else if again {
            self.begin(Birth::Again(ending.reason), cx);
            self.release(ending, cx);
        } else if let (RestartReason::Overrun, Goal::Down, Main::Ended { status, uptime }) =
            (ending.reason, self.goal, ending.main)
        {
            return self.overran(ending, status, uptime, cx);
        } else {
            self.state = State::Stopped { rest: Rest::Asked };
            self.release(ending, cx);
            self.tell(cx);
            let (status, uptime) = exit.unzip();
            let uptime = uptime.unwrap_or_default();
            let turn = self.turn(uptime);
            self.publish(NoticeKind::Stopped { status, uptime, commanded: true, turn }, cx);
        }
        Change::Ended { status: exit.map(|(status, _)| status), killed: ending.killed }
    }

    /// A run that was ended because it lasted too long has failed.
    fn overran(
        &mut self,
        ending: Ending,
        status: ExitStatus,
        uptime: Duration,
        cx: &mut Context<'_>,
    ) -> Change {
        self.state = State::Stopped { rest: Rest::Failed };
        self.release(ending, cx);
        self.tell(cx);
        let told = Some(status);
        self.publish(
            NoticeKind::Stopped { status: told, uptime, commanded: false, turn: None },
            cx,
        );
        let (verdict, unstable, failing_since) = (Verdict::Finish, 0, cx.now.mono);
        Change::Died { status, uptime, verdict, unstable, failing_since }
    }

    /// What was ended because it was unhealthy gets another life, as after a crash, or none.
    fn unhealthy_ended(
        &mut self,
        status: ExitStatus,
        uptime: Duration,
        cx: &mut Context<'_>,
    ) -> Option<Change> {
        let now = cx.now.mono;
        let failing_since = *self.history.failing_since.get_or_insert(now);
        let age = now.since(*self.history.begun.get_or_insert(now));
        let verdict = RestartPolicy(&self.spec).judge_run(&mut self.history, uptime, age);
        let birth = Birth::Again(RestartReason::Health);
        match verdict {
            Verdict::Restart { after } if after.is_zero() => {
                // As after a crash, dependencies are not looked at.
                self.bear(birth, cx);
                None
            }
            Verdict::Restart { after } => {
                self.back_off(after, birth, cx);
                None
            }
            Verdict::Finish | Verdict::GiveUp => {
                self.fail(ErroredReason::MaxRestarts { last: Some(status) }, cx);
                let unstable = self.history.unstable;
                Some(Change::Died { status, uptime, verdict, unstable, failing_since })
            }
        }
    }

    pub(super) fn release(&self, ending: Ending, cx: &mut Context<'_>) {
        match ending.main {
            // There is nothing to let go of.
            Main::Unborn => {}
            Main::Unspawned | Main::Alive(_) | Main::Ended { .. } => {
                cx.effects.push(Effect::Release { child: ending.child });
            }
        }
    }

    /// Zero the counters and forget the back-off. A restart that is due stays due.
    pub(super) fn reset(&mut self) {
        self.restarts = 0;
        self.history = History::default();
    }

    /// Cancels what is due only while a child lives.
    fn cancel_for_life(&self, cx: &mut Context<'_>) {
        for timer in [Timer::Ready, Timer::Settle, Timer::Overrun] {
            self.cancel(timer, cx);
        }
    }

    /// Arms the end of a run that may last only so long.
    pub(super) fn limit_run(&self, life: Life, cx: &mut Context<'_>) {
        if let (Some(limit), Seat::Front(_)) = (self.spec.timeout, self.seat) {
            let due = Due::Process(self.seat, Timer::Overrun);
            cx.timers.arm(due, life.started.mono.after(limit));
        }
    }

    pub(super) fn arm(&self, timer: Timer, delay: Duration, cx: &mut Context<'_>) {
        cx.timers.arm(Due::Process(self.seat, timer), cx.now.mono.after(delay));
    }

    pub(super) fn cancel(&self, timer: Timer, cx: &mut Context<'_>) {
        cx.timers.cancel(Due::Process(self.seat, timer));
    }
}
