//! Whether a process is healthy: when it is looked at, and what follows from what was seen.
//!
//! | phase    | lasts                                        | pause before a check        | a failure    |
//! |----------|----------------------------------------------|-----------------------------|--------------|
//! | settling | until the first success, at most `interval`, | 100 ms, growing by half     | is no news   |
//! |          | `start_period`, and until it is online       | up to a second              |              |
//! | watched  | as long as the child                         | `interval`                  | counts       |
//!
//! So a server that is up after 200 ms is known to be, whatever the interval; and one that is not
//! yet up is not blamed for it before the first regular check. After `retries` failures in a row it
//! is unhealthy and, unless its app wants otherwise or is never restarted by itself, restarted. Such
//! an end is judged like a crash: one that comes too soon too often ends in `errored`.
//!
//! At most one check is under way for each child, and none for what is being stopped. A check that
//! could not be made (the host was short of something) says nothing about the process.

use std::rc::Rc;
use std::time::Duration;

use crate::base::WallTime;
use crate::supervisor::process::{Change, Context, Life, Process, Seat, State};
use crate::supervisor::spec::{HealthCheck, OnFail, Restart};
use crate::supervisor::timers::Timer;
use crate::supervisor::vocabulary::{
    Effect, Finding, HealthStatus, NoticeKind, Probe, RestartReason,
};

/// The first pause of a process that settles, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const SETTLING_PAUSE: Duration = Duration::from_secs(1);

/// So much of what was seen is kept.
const KEPT: usize = 8;

/// What is known of the health of a process.
#[derive(Clone, Debug, Default)]
pub struct Health {
    status: HealthStatus,
    /// Failures in a row that count.
    failures: u32,
    /// Checks of the present child.
    tries: u32,
    /// The present child has passed once.
    passed_once: bool,
    /// The last pause, while it settles.
    pause: Duration,
    /// Of all children.
    passed: u64,
    failed: u64,
    last: Option<(WallTime, Probe)>,
    seen: Vec<(WallTime, Probe)>,
}

impl Health {
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.status
    }

    /// Failures in a row that count.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Checks of the present child, those that do not count among them.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Checks of all children that passed, and that failed.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.passed, self.failed)
    }

    #[must_use]
    pub fn last(&self) -> Option<&(WallTime, Probe)> {
        self.last.as_ref()
    }

    /// The last failures that counted and the successes that ended them, oldest first.
    #[must_use]
    pub fn seen(&self) -> &[(WallTime, Probe)] {
        &self.seen
    }

    /// The same for the next child: nothing is known of that.
    fn next_life(&self) -> Self {
        Self {
            status: HealthStatus::Unknown,
            failures: 0,
            tries: 0,
            passed_once: false,
            pause: Duration::ZERO,
            ..self.clone()
        }
    }

    fn keep(&mut self) {
        if self.seen.len() == KEPT {
            self.seen.remove(0);
        }
        self.seen.extend(self.last.clone());
    }
}

impl Process {
    /// `None`: it has no health check, or one that needs a port which it has not.
    #[must_use]
    pub fn health(&self) -> Option<&Health> {
        self.served.as_ref()?.health.as_ref()
    }

    /// What is told of it: `None` without a health check.
    #[must_use]
    pub fn health_status(&self) -> Option<HealthStatus> {
        match self.health() {
            Some(health) => Some(health.status),
            None if self.child().is_some() => None,
            None => self.spec().health().map(|_| HealthStatus::Unknown),
        }
    }

    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health().is_some_and(|health| health.status == HealthStatus::Healthy)
    }

    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.health().is_some_and(|health| health.status == HealthStatus::Unhealthy)
    }

    /// The port that its program serves on, as far as that is known.
    #[must_use]
    pub fn serving_port(&self) -> Option<u16> {
        self.spec.port_of(self.instance, self.port())
    }

    /// A child has come: its health is to be known.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) {
        let check = self
            .spec
            .health()
            .filter(|health| !health.check.needs_port() || self.serving_port().is_some());
        let Some(interval) = check.map(|check| check.interval) else {
            if let Some(served) = &mut self.served {
                served.health = None;
            }
            return;
        };
        let health = self.health().map_or_else(Health::default, Health::next_life);
        self.served.get_or_insert_default().health = Some(health);
        self.look_again(interval, cx);
    }

    /// The child is to go, or is gone.
    pub(super) fn unwatch(&mut self, cx: &mut Context<'_>) {
        let Some(health) = self.health_mut() else { return };
        health.failures = 0;
        let from = std::mem::take(&mut health.status);
        self.cancel(Timer::Probe, cx);
        self.tell_health(from, None, cx);
    }

    /// Keeps what was seen, before it is judged.
    pub(super) fn note_probe(&mut self, at: WallTime, probe: Probe) {
        if let Some(health) = self.health_mut() {
            health.last = Some((at, probe));
        }
    }

    pub(super) fn probe(&mut self, life: Life, cx: &mut Context<'_>) {
        if let Some(health) = self.health_mut() {
            health.tries = health.tries.saturating_add(1);
            let spec = Rc::clone(&self.spec);
            cx.effects.push(Effect::Probe { child: life.child, spec });
        }
    }

    /// Judges what was seen of the present child.
    pub(super) fn probed(&mut self, life: Life, found: Finding, cx: &mut Context<'_>) -> Change {
        let Some(check) = self.spec.health().cloned() else { return Change::Nothing };
        let counts = self.failures_count(life, &check, cx);
        let Some(health) = self.health_mut() else { return Change::Nothing };
        let from = health.status;
        let last = health.last.clone().map(|(_, probe)| probe);
        match found {
            Finding::Passed => {
                health.passed += 1;
                health.passed_once = true;
                health.status = HealthStatus::Healthy;
                if std::mem::take(&mut health.failures) > 0 || from != HealthStatus::Healthy {
                    health.keep();
                }
                self.look_again(check.interval, cx);
                self.tell_health(from, last, cx);
                self.is_ready_by_health(from, life, cx)
            }
            Finding::Failed if counts => {
                health.failed += 1;
                health.failures = health.failures.saturating_add(1);
                health.keep();
                let failures = health.failures;
                let is_enough = failures >= check.retries;
                if is_enough {
                    health.status = HealthStatus::Unhealthy;
                }
                if let Some(probe) = last.clone() {
                    let (kind, retries) = (check.check.kind(), check.retries);
                    let failed = NoticeKind::HealthCheckFailed { kind, failures, retries, probe };
                    self.publish(failed, cx);
                }
                self.tell_health(from, last, cx);
                if is_enough && self.is_restarted_for_its_health(&check) {
                    self.stop(RestartReason::Health, None, cx);
                } else {
                    self.look_again(check.interval, cx);
                }
                if is_enough { Change::Unhealthy } else { Change::Nothing }
            }
            Finding::Failed => {
                health.failed += 1;
                self.look_again(check.interval, cx);
                Change::Nothing
            }
            Finding::Nothing => {
                self.look_again(check.interval, cx);
                Change::Nothing
            }
        }
    }

    /// A success is as good as a word from the program itself.
    fn is_ready_by_health(
        &mut self,
        from: HealthStatus,
        life: Life,
        cx: &mut Context<'_>,
    ) -> Change {
        match self.state {
            // Its sockets are shared: another worker may have answered.
            State::Starting { .. } if self.awaits_listening() => Change::Nothing,
            State::Starting { birth, .. } => {
                self.cancel(Timer::Ready, cx);
                self.online(life, birth, true, life.started.mono, cx)
            }
            State::Online { ready: false, .. } => {
                self.state = State::Online { life, ready: true };
                Change::Ready
            }
            State::Online { ready: true, .. } if from != HealthStatus::Healthy => Change::Healthy,
            State::Online { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Errored { .. } => Change::Nothing,
        }
    }

    fn failures_count(&self, life: Life, check: &HealthCheck, cx: &Context<'_>) -> bool {
        let up = cx.now.mono.since(life.started.mono);
        let passed_once = self.health().is_some_and(|health| health.passed_once);
        self.is_online() && up >= check.start_period && (passed_once || up >= check.interval)
    }

    fn is_restarted_for_its_health(&self, check: &HealthCheck) -> bool {
        let policy = match self.spec.restart {
            Restart::Always | Restart::OnFailure => true,
            Restart::Never | Restart::Once => false,
        };
        policy && check.on_fail == OnFail::Restart && matches!(self.seat, Seat::Front(_))
    }

    /// Arms the next check.
    fn look_again(&mut self, interval: Duration, cx: &mut Context<'_>) {
        let Some(health) = self.health_mut() else { return };
        let settles = !health.passed_once && health.failures == 0;
        let pause = if settles {
            health.pause = (health.pause * 3 / 2).clamp(FIRST_PAUSE, SETTLING_PAUSE);
            health.pause.min(interval)
        } else {
            interval
        };
        self.arm(Timer::Probe, pause, cx);
    }

    /// Tells of a change of health, if there was one.
    pub(super) fn tell_health(
        &self,
        from: HealthStatus,
        probe: Option<Probe>,
        cx: &mut Context<'_>,
    ) {
        let to = self.health().map(Health::status).unwrap_or_default();
        if from != to {
            let failures = self.health().map_or(0, Health::failures);
            self.publish(NoticeKind::Health { from, to, failures, probe }, cx);
        }
    }

    pub(super) fn last_probe(&self) -> Option<Probe> {
        self.health()?.last.clone().map(|(_, probe)| probe)
    }

    fn health_mut(&mut self) -> Option<&mut Health> {
        self.served.as_mut()?.health.as_mut()
    }
}
