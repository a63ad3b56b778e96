//! When one app is started or restarted by the clock, and how long its runs may last.
//!
//! Pure.

use std::time::Duration;

use crate::config::app;
use crate::config::assemble;
use crate::config::fields::Fields;
use crate::config::problem::shorten;
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::{Overlap, Restart};

/// What the clock does, and whether a run is followed by another.
pub(super) struct Times {
    pub restart: Restart,
    pub cron_restart: Option<Schedule>,
    pub schedule: Option<Schedule>,
    pub timeout: Option<Duration>,
    pub overlap: Overlap,
}

/// The words of `overlap`.
const OVERLAPS: &[(&str, Overlap)] =
    &[("skip", Overlap::Skip), ("kill", Overlap::Kill), ("queue", Overlap::Queue)];

pub(super) fn times(fields: &mut Fields<'_, '_>) -> Times {
    let [policy, auto, cron, timeout, overlap] =
        ["restart", "autorestart", "cron_restart", "timeout", "overlap"]
            .map(|name| fields.peek(name).cloned());
    let mut times = Times {
        restart: assemble::restart(fields),
        cron_restart: schedule(fields, "cron_restart"),
        schedule: schedule(fields, "schedule"),
        timeout: fields.duration("timeout").filter(|limit| !limit.is_zero()),
        overlap: fields.choice("overlap", OVERLAPS).unwrap_or_default(),
    };
    let mut wrong = Vec::new();
    if times.schedule.is_some() {
        let runs_again = matches!(times.restart, Restart::Always | Restart::OnFailure);
        wrong.extend(policy.filter(|_| runs_again).map(|it| (it, "contradicts 'schedule'")));
        wrong.extend(auto.filter(|_| runs_again).map(|it| (it, "contradicts 'schedule'")));
        wrong.extend(cron.filter(|_| times.cron_restart.is_some()).map(|it| {
            (it, "contradicts 'schedule': the one restarts a program, the other runs a job")
        }));
        times.restart = Restart::Once;
    } else {
        wrong.extend(overlap.map(|it| (it, "means nothing without 'schedule'")));
    }
    let lonely = timeout.filter(|_| times.timeout.is_some() && times.restart != Restart::Once);
    wrong
        .extend(lonely.map(|it| (it, "is for jobs: what has a 'schedule', or 'restart' \"once\"")));
    for (entry, why) in wrong {
        fields.error(&entry, format!("'{}' {why}", entry.shown));
    }
    times
}

/// A schedule; `None` where it is switched off.
fn schedule(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Schedule> {
    let entry = fields.take(name)?;
    if app::is_off(entry.value) {
        return None;
    }
    let Some(text) = entry.value.as_str() else {
        fields.wrong(&entry, "a schedule like \"0 2 * * *\"");
        return None;
    };
    match Schedule::parse(text) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            fields.error(&entry, format!("'{}' is not a schedule: {why}", shorten(text)));
            None
        }
    }
}
