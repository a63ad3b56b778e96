//! When one app is started or restarted by itself: by the clock, and because files changed.
//!
//! Pure.

use std::time::Duration;

use crate::config::app;
use crate::config::assemble;
use crate::config::assemble::{DEFAULTS, Ground};
use crate::config::fields::{Fields, as_flag};
use crate::config::glob;
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

/// Items of `watch`, and of `ignore_watch`.
const MAX_PATTERNS: usize = 256;

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

/// What of the disk an app depends on.
pub(super) struct Watching {
    pub watch: Vec<String>,
    pub ignored: Vec<String>,
    pub delay: Duration,
}

pub(super) fn watching(fields: &mut Fields<'_, '_>, ground: &Ground) -> Watching {
    let mut watch = Vec::new();
    let entry = fields.peek("watch").cloned();
    let flag = entry.as_ref().and_then(|entry| as_flag(entry.value));
    let paths = match flag {
        Some(on) => {
            fields.take("watch");
            watch.extend(on.then(|| ground.cwd.to_string_lossy().into_owned()));
            None
        }
        // One path, whatever blanks are in it.
        None if entry.as_ref().is_some_and(|entry| entry.value.is_string()) => {
            fields.word("watch").map(|path| vec![path])
        }
        None => fields.list("watch"),
    };
    for path in paths.iter().flatten() {
        watch.push(ground.absolute(path).to_string_lossy().into_owned());
    }
    let ignored_entry = fields.peek("ignore_watch").cloned();
    let ignored = fields.list("ignore_watch").unwrap_or_default();
    for (entry, words) in [(entry, paths.unwrap_or_default()), (ignored_entry, ignored.clone())] {
        let Some(entry) = entry else { continue };
        if words.len() > MAX_PATTERNS {
            fields.error(&entry, format!("'{}' has more than {MAX_PATTERNS} items", entry.shown));
        }
        for word in words {
            // What names a file may have any characters.
            let is_path = entry.shown == "watch" && !glob::is_pattern(&word);
            if let Some(why) = glob::check(&word).err().filter(|_| !is_path) {
                let message = format!("'{}': '{}' {why}", entry.shown, shorten(&word));
                fields.error(&entry, message);
            }
        }
    }
    let delay = fields.duration("watch_delay").unwrap_or(DEFAULTS.watch_delay);
    Watching { watch, ignored, delay }
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
