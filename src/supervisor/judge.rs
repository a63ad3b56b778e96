//! When a task is done: what a change of a process means to somebody who waits for it.

use std::time::Duration;

use crate::base::Time;
use crate::supervisor::process::{Change, Goal, Process};
use crate::supervisor::restart::{RestartPolicy, Verdict};
use crate::supervisor::spec::Restart;
use crate::supervisor::tasks::{Job, Task};
use crate::supervisor::vocabulary::{Failure, Patience, Until};

pub(super) enum Judgement {
    Wait,
    /// Wait until then: it is stable if it lives.
    Settle(Time),
    Done,
    Failed(Failure),
}

/// Judges a task that has begun, after `change` (`Nothing`: when it began). `has_side`: a second
/// child sits beside the process.
pub(super) fn judge(
    task: &Task,
    process: &Process,
    has_side: bool,
    change: &Change,
    patience: Patience,
    now: Time,
) -> Judgement {
    match &task.job {
        Job::Start | Job::Restart { .. } | Job::Reload { .. } => {
            judge_start(task, process, change, patience, now)
        }
        Job::Stop { .. } | Job::Halt => match change {
            Change::Unstoppable { left } => Judgement::Failed(Failure::Unstoppable { left: *left }),
            Change::Nothing
            | Change::Stopping
            | Change::Spawned
            | Change::Online
            | Change::Ready
            | Change::Healthy
            | Change::Unhealthy
            | Change::Settled
            | Change::Died { .. }
            | Change::NotSpawned(_)
            | Change::Ended { .. }
            | Change::Rested => done_if((task.ended || process.is_at_rest()) && !has_side),
        },
        // Done when it is out of the table.
        Job::Delete => match change {
            Change::Unstoppable { left } => Judgement::Failed(Failure::Unstoppable { left: *left }),
            Change::Nothing
            | Change::Stopping
            | Change::Spawned
            | Change::Online
            | Change::Ready
            | Change::Healthy
            | Change::Unhealthy
            | Change::Settled
            | Change::Died { .. }
            | Change::NotSpawned(_)
            | Change::Ended { .. }
            | Change::Rested => Judgement::Wait,
        },
        Job::Wait(Until::Healthy) if process.spec().health().is_none() => {
            let reason = format!("{} has no health check", process.name());
            Judgement::Failed(Failure::Invalid(reason))
        }
        Job::Wait(until) => done_if(match until {
            Until::Healthy => process.is_healthy(),
            Until::Online => process.is_online(),
            Until::Ready => process.is_online() && process.is_ready(),
            Until::Stopped | Until::Done => process.is_at_rest() && !has_side,
        }),
        // Closed when they are begun.
        Job::Signal(_) | Job::Reset | Job::Nothing { .. } | Job::Refuse(_) => Judgement::Wait,
    }
}

fn done_if(done: bool) -> Judgement {
    if done { Judgement::Done } else { Judgement::Wait }
}

fn judge_start(
    task: &Task,
    process: &Process,
    change: &Change,
    patience: Patience,
    now: Time,
) -> Judgement {
    match change {
        // It was online when this began, and nothing had to be done.
        Change::Nothing => done_if(!task.changed && process.is_online()),
        Change::Died { status, uptime, verdict, unstable, failing_since } => match verdict {
            // A short job, or a program that had little to do: that is no failure.
            Verdict::Finish if RestartPolicy(process.running_spec()).is_wanted(*status) => {
                Judgement::Done
            }
            Verdict::GiveUp => Judgement::Failed(Failure::GaveUp {
                status: Some(*status),
                runs: *unstable,
                over: now.since(*failing_since),
            }),
            Verdict::Finish => Judgement::Failed(Failure::Died {
                status: *status,
                uptime: *uptime,
                restart_in: None,
                unstable: *unstable,
            }),
            Verdict::Restart { after } => Judgement::Failed(Failure::Died {
                status: *status,
                uptime: *uptime,
                restart_in: Some(*after),
                unstable: *unstable,
            }),
        },
        Change::NotSpawned(error) => Judgement::Failed(Failure::Spawn(*error)),
        Change::Unstoppable { left } => Judgement::Failed(Failure::Unstoppable { left: *left }),
        Change::Spawned => {
            done_if(patience == Patience::Stable && process.running_spec().restart == Restart::Once)
        }
        Change::Online => match patience {
            Patience::None | Patience::Online => Judgement::Done,
            Patience::Stable => settle(process),
        },
        Change::Settled => Judgement::Done,
        Change::Ready | Change::Healthy | Change::Unhealthy => Judgement::Wait,
        Change::Stopping | Change::Ended { .. } | Change::Rested => match process.goal() {
            Goal::Up => Judgement::Wait,
            Goal::Down => Judgement::Failed(Failure::Superseded),
            Goal::Gone => Judgement::Failed(Failure::Deleted),
        },
    }
}

/// It is online: is that all that is wanted, or has it to live a while?
fn settle(process: &Process) -> Judgement {
    let spec = process.running_spec();
    let settle_time = spec.settle_time();
    if spec.wait_ready || spec.restart == Restart::Once || settle_time == Duration::ZERO {
        return Judgement::Done;
    }
    match process.started() {
        Some(started) => Judgement::Settle(started.mono.after(settle_time)),
        None => Judgement::Wait,
    }
}
