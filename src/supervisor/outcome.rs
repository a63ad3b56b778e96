//! What is told of a task: the outcome in the answer to a request.

use std::time::Duration;

use crate::base::Time;
use crate::supervisor::table::Table;
use crate::supervisor::tasks::{Job, Task};
use crate::supervisor::vocabulary::{Failure, Outcome, Status, Target, Until};

/// The outcome of a task as things are now.
pub(super) fn outcome(table: &Table, task: &Task, failure: Option<Failure>, now: Time) -> Outcome {
    let process = table.get(task.process);
    let exit = match task.job {
        Job::Wait(Until::Stopped | Until::Done) => {
            process.and_then(|process| process.last_exit()).map(|exit| exit.status)
        }
        Job::Start
        | Job::Stop { .. }
        | Job::Restart { .. }
        | Job::Reload { .. }
        | Job::Delete
        | Job::Halt
        | Job::Signal(_)
        | Job::Reset
        | Job::Wait(Until::Online | Until::Ready | Until::Healthy)
        | Job::Nothing { .. }
        | Job::Refuse(_) => task.exit,
    };
    Outcome {
        target: None,
        process: Some(task.process),
        name: process.map_or_else(String::new, |process| process.name().as_ref().to_owned()),
        instance: process.map_or(0, |process| process.instance()),
        changed: task.changed,
        status: process.map_or(Status::Stopped, |process| process.status()),
        ready: process.is_none_or(|process| process.is_ready()),
        pid: process.and_then(|process| process.pid()),
        was_pid: task.was_pid,
        killed: task.killed,
        exit,
        took: now.since(task.since),
        restarted_instead: task.restarted_instead,
        failure,
    }
}

/// The outcome for a target that names nothing.
pub(super) fn not_found(target: Target) -> Outcome {
    Outcome {
        name: target.to_string(),
        target: Some(target),
        process: None,
        instance: 0,
        changed: false,
        status: Status::Stopped,
        ready: true,
        pid: None,
        was_pid: None,
        killed: false,
        exit: None,
        took: Duration::ZERO,
        restarted_instead: None,
        failure: Some(Failure::NotFound),
    }
}

/// Whether what failed for one process can be expected to fail for the next.
pub(super) fn is_broken(failure: &Failure) -> bool {
    match failure {
        Failure::Spawn(_)
        | Failure::Died { .. }
        | Failure::GaveUp { .. }
        | Failure::NotReady
        | Failure::Unstoppable { .. }
        | Failure::Dependency(_) => true,
        Failure::NotFound
        | Failure::NotRunning
        | Failure::Deleted
        | Failure::Superseded
        | Failure::TimedOut
        | Failure::Invalid(_) => false,
    }
}
