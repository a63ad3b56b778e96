//! Whether and when a process that ended by itself is started again.
//!
//! | the run                         | what follows                                             |
//! |---------------------------------|----------------------------------------------------------|
//! | ended with a final status       | nothing: [`Verdict::Finish`]                             |
//! | lasted `min_uptime`             | a restart at once, or after `restart_delay`              |
//! | was shorter (*unstable*)        | a restart after a pause that grows with each such run    |
//! | was the `max_restarts`th such   | nothing: [`Verdict::GiveUp`]                             |
//!
//! With `max_runs` or `spin_sleep` it is decided as intercom does:
//!
//! | the run                         | what follows                                             |
//! |---------------------------------|----------------------------------------------------------|
//! | was the `max_runs`th            | nothing                                                  |
//! | was shorter than `min_uptime`   | a restart after `spin_sleep`, without one nothing        |
//! | any other                       | a restart at once, or after `restart_delay`              |
//!
//! The pause begins at `exp_backoff_restart_delay`, grows by half each time up to [`LONGEST_PAUSE`]
//! and begins anew only after a run of [`FORGET_AFTER`]. It is never shorter than `restart_delay`.

use std::time::Duration;

use crate::base::{ExitStatus, Time};
use crate::supervisor::spec::{AppSpec, Restart};

/// The growing pause ends here, unless the app's first pause is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A run this long lets the growing pause begin anew.
pub const FORGET_AFTER: Duration = Duration::from_secs(30);

/// Between two attempts to spawn what the host had no room for, however the app is configured:
/// such an attempt fails in no time, and would be repeated in no time.
const SPAWN_PAUSE: Duration = Duration::from_millis(100);

/// What is remembered of the runs before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct History {
    /// Unstable runs since the last stable one.
    pub unstable: u32,
    /// Runs that have ended since it was asked to start, where intercom's order holds.
    pub runs: u32,
    /// The last pause, in milliseconds; zero: there was none.
    pause: u32,
    /// When the first of those unstable runs began.
    pub failing_since: Option<Time>,
    /// When the first run began since it was asked to start.
    pub begun: Option<Time>,
}

/// What follows the end of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is done.
    Finish,
    /// It failed too often too soon.
    GiveUp,
    /// It gets another life, zero: at once.
    Restart { after: Duration },
}

/// The part of an app's definition that decides about restarts.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy<'a>(pub &'a AppSpec);

impl RestartPolicy<'_> {
    /// Judges the end of a run that lasted `uptime`, `age` after the start that was asked for, and
    /// records it.
    pub fn judge(
        self,
        history: &mut History,
        uptime: Duration,
        age: Duration,
        status: ExitStatus,
    ) -> Verdict {
        if self.is_final(status) {
            *history = History::default();
            return Verdict::Finish;
        }
        self.judge_run(history, uptime, age)
    }

    /// The same for a run that was ended because it was unhealthy.
    pub fn judge_run(self, history: &mut History, uptime: Duration, age: Duration) -> Verdict {
        if self.counts_runs() {
            return self.judge_as_intercom(history, uptime);
        }
        if uptime >= FORGET_AFTER {
            history.pause = 0;
        }
        let window =
            self.0.unstable_window.then(|| self.0.min_uptime.saturating_mul(self.0.max_restarts));
        let unstable = uptime < self.0.min_uptime;
        if unstable && window.is_none_or(|window| age < window) {
            return self.judge_unstable(history);
        }
        if window.is_none() {
            history.unstable = 0;
            history.failing_since = None;
        }
        let pause = if unstable || self.0.backoff_always {
            self.growing_pause(history)
        } else {
            Duration::ZERO
        };
        Verdict::Restart { after: pause.max(self.0.restart_delay) }
    }

    /// Whether intercom's order of decision holds.
    pub fn counts_runs(self) -> bool {
        self.0.max_runs.is_some() || self.0.spin_sleep.is_some()
    }

    fn judge_as_intercom(self, history: &mut History, uptime: Duration) -> Verdict {
        history.runs = history.runs.saturating_add(1);
        let spinning = uptime < self.0.min_uptime;
        history.unstable = if spinning { history.unstable.saturating_add(1) } else { 0 };
        if self.0.max_runs.is_some_and(|most| history.runs >= most) {
            return Verdict::Finish;
        }
        match self.0.spin_sleep.filter(|pause| !pause.is_zero()) {
            _ if !spinning => Verdict::Restart { after: self.0.restart_delay },
            Some(pause) => Verdict::Restart { after: pause.max(self.0.restart_delay) },
            None => Verdict::GiveUp,
        }
    }

    /// Judges a spawn that failed because the host was short of something.
    pub fn judge_failed_spawn(self, history: &mut History) -> Verdict {
        match self.0.restart {
            // It has not run, so it is not done; and it is not to be tried twice.
            Restart::Never | Restart::Once => Verdict::GiveUp,
            Restart::Always | Restart::OnFailure => match self.judge_unstable(history) {
                Verdict::Restart { after } => Verdict::Restart { after: after.max(SPAWN_PAUSE) },
                verdict @ (Verdict::Finish | Verdict::GiveUp) => verdict,
            },
        }
    }

    /// Whether this end was wanted: a success, or an exit code that the app calls final.
    pub fn is_wanted(self, status: ExitStatus) -> bool {
        status.is_success()
            || status.code().is_some_and(|code| self.0.stop_exit_codes.contains(&code))
    }

    fn is_final(self, status: ExitStatus) -> bool {
        match self.0.restart {
            Restart::Always => {
                status.code().is_some_and(|code| self.0.stop_exit_codes.contains(&code))
            }
            Restart::OnFailure => self.is_wanted(status),
            Restart::Never | Restart::Once => true,
        }
    }

    fn judge_unstable(self, history: &mut History) -> Verdict {
        history.unstable = history.unstable.saturating_add(1);
        if self.0.max_restarts > 0 && history.unstable >= self.0.max_restarts {
            return Verdict::GiveUp;
        }
        Verdict::Restart { after: self.growing_pause(history).max(self.0.restart_delay) }
    }

    fn growing_pause(self, history: &mut History) -> Duration {
        let first = self.0.exp_backoff_restart_delay;
        let last = Duration::from_millis(history.pause.into());
        let pause =
            if last.is_zero() { first } else { (last * 3 / 2).min(LONGEST_PAUSE.max(first)) };
        history.pause = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Signal;
    use crate::supervisor::tests::spec;

    const FAILED: ExitStatus = ExitStatus::Code(1);
    const SHORT: Duration = Duration::from_millis(5);

    fn pauses(spec: &AppSpec, uptimes: &[Duration]) -> Vec<Verdict> {
        let mut history = History::default();
        uptimes
            .iter()
            .map(|&uptime| RestartPolicy(spec).judge(&mut history, uptime, Duration::ZERO, FAILED))
            .collect()
    }

    fn restart(millis: u64) -> Verdict {
        Verdict::Restart { after: Duration::from_millis(millis) }
    }

    #[test]
    fn a_stable_run_is_restarted_at_once_and_an_unstable_one_after_a_growing_pause() {
        let spec = spec("web");
        let stable = spec.min_uptime;
        assert_eq!(
            pauses(&spec, &[stable, SHORT, SHORT, stable, SHORT]),
            [restart(0), restart(100), restart(150), restart(0), restart(225)]
        );
    }

    #[test]
    fn the_pause_stops_growing_and_begins_anew_after_half_a_minute_up() {
        let mut spec = spec("web");
        spec.max_restarts = 0;
        let mut uptimes = vec![SHORT; 40];
        uptimes.extend([FORGET_AFTER, SHORT]);
        let pauses = pauses(&spec, &uptimes);
        assert_eq!(pauses[39], Verdict::Restart { after: LONGEST_PAUSE });
        assert_eq!(pauses[41], restart(100));
    }

    #[test]
    fn so_many_unstable_runs_in_a_row_are_enough() {
        let mut spec = spec("web");
        spec.max_restarts = 2;
        let stable = spec.min_uptime;
        assert_eq!(
            pauses(&spec, &[SHORT, stable, SHORT, SHORT]),
            [restart(100), restart(0), restart(150), Verdict::GiveUp]
        );
    }

    #[test]
    fn a_restart_delay_is_the_shortest_pause() {
        let mut spec = spec("web");
        spec.restart_delay = Duration::from_millis(120);
        let stable = spec.min_uptime;
        assert_eq!(
            pauses(&spec, &[stable, SHORT, SHORT]),
            [restart(120), restart(120), restart(150)]
        );
    }

    #[test]
    fn runs_are_counted_as_intercom_does() {
        let long = Duration::from_secs(2);
        let mut spec = spec("web");
        spec.max_runs = Some(3);
        assert_eq!(pauses(&spec, &[long, long, long]), [restart(0), restart(0), Verdict::Finish]);
        // Short, and no pause after such a run: final.
        assert_eq!(pauses(&spec, &[long, SHORT]), [restart(0), Verdict::GiveUp]);
        spec.spin_sleep = Some(Duration::from_millis(70));
        assert_eq!(
            pauses(&spec, &[SHORT, long, SHORT]),
            [restart(70), restart(0), Verdict::Finish]
        );
        spec.max_runs = Some(0);
        assert_eq!(pauses(&spec, &[long]), [Verdict::Finish]);
        spec.max_runs = None;
        spec.spin_sleep = Some(Duration::ZERO);
        assert_eq!(pauses(&spec, &[long, SHORT]), [restart(0), Verdict::GiveUp]);
    }

    #[test]
    fn a_pause_may_follow_every_run() {
        let mut spec = spec("web");
        spec.backoff_always = true;
        let stable = spec.min_uptime;
        assert_eq!(
            pauses(&spec, &[stable, stable, FORGET_AFTER]),
            [restart(100), restart(150), restart(100)]
        );
    }

    #[test]
    fn unstable_runs_may_count_only_soon_after_the_start() {
        let mut spec = spec("web");
        spec.unstable_window = true;
        spec.max_restarts = 2;
        let stable = spec.min_uptime;
        let mut history = History::default();
        let mut judge = |uptime, age| RestartPolicy(&spec).judge(&mut history, uptime, age, FAILED);
        assert_eq!(judge(SHORT, SHORT), restart(100));
        // Too late to count, and no reason to forget the first.
        assert_eq!(judge(SHORT, stable * 2), restart(150));
        assert_eq!(judge(stable, stable), restart(0));
        assert_eq!(judge(SHORT, stable), Verdict::GiveUp);
    }

    #[test]
    fn the_final_ends_of_each_kind_of_app() {
        let killed = ExitStatus::Signal { signal: Signal::KILL, core: false };
        let table = [
            (Restart::Always, ExitStatus::Code(0), false),
            (Restart::Always, ExitStatus::Code(64), true),
            (Restart::OnFailure, ExitStatus::Code(0), true),
            (Restart::OnFailure, ExitStatus::Code(64), true),
            (Restart::OnFailure, ExitStatus::Code(1), false),
            (Restart::OnFailure, killed, false),
            (Restart::OnFailure, ExitStatus::Unknown, false),
            (Restart::Never, ExitStatus::Code(1), true),
            (Restart::Once, killed, true),
        ];
        for (restart, status, done) in table {
            let mut spec = spec("web");
            spec.restart = restart;
            spec.stop_exit_codes = vec![64];
            let history = &mut History::default();
            let verdict = RestartPolicy(&spec).judge(history, SHORT, SHORT, status);
            assert_eq!(verdict == Verdict::Finish, done, "{restart:?}, {status}");
        }
    }

    #[test]
    fn a_spawn_that_fails_is_never_repeated_without_a_pause() {
        let mut spec = spec("web");
        spec.exp_backoff_restart_delay = Duration::ZERO;
        let verdict = RestartPolicy(&spec).judge_failed_spawn(&mut History::default());
        assert_eq!(verdict, restart(100));
        spec.restart = Restart::Once;
        let verdict = RestartPolicy(&spec).judge_failed_spawn(&mut History::default());
        assert_eq!(verdict, Verdict::GiveUp);
    }
}
