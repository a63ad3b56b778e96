//! Deadlines, ordered. The supervisor's only idea of time to come.
//!
//! An ordered set instead of a heap: exact cancelling, no dead entries, the same order on every
//! run. Nothing ticks: without an armed timer there is no deadline.

use crate::base::{ProcId, Time};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::process::Seat;
use crate::supervisor::tasks::OperationId;

/// Everything a process may wait for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// The stop signal was ignored for too long.
    Kill,
    /// `SIGKILL` was sent, and still something lives.
    Linger,
    /// The child did not report readiness in time.
    Ready,
    /// The pause between two lives is over.
    Restart,
    /// It is time to see whether the child is healthy.
    Probe,
    /// The child has been up long enough for those who wait for it to be stable.
    Settle,
    /// The run of a job has lasted too long.
    Overrun,
}

/// What is due.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Due {
    Process(Seat, Timer),
    /// Who asked will wait no longer.
    Operation(OperationId),
}

impl Due {
    /// The process has been up long enough.
    pub(super) fn settle(process: ProcId) -> Self {
        Self::Process(Seat::Front(process), Timer::Settle)
    }
}

/// Each thing has at most one deadline, so arming again moves it.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: SortedSet<(Time, Due)>,
    armed: SortedMap<Due, Time>,
}

impl Timers {
    pub(super) fn arm(&mut self, due: Due, at: Time) {
        if let Some(before) = self.armed.insert(due, at) {
            self.queue.remove(&(before, due));
        }
        self.queue.insert((at, due));
    }

    pub(super) fn cancel(&mut self, due: Due) {
        if let Some(at) = self.armed.remove(&due) {
            self.queue.remove(&(at, due));
        }
    }

    /// Takes the first deadline out if it has come; calling until `None` gives them in order.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Due> {
        let &(at, due) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.armed.remove(&due);
        Some(due)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// When this is due, if it is armed.
    pub(super) fn at(&self, due: Due) -> Option<Time> {
        self.armed.get(&due).copied()
    }

    /// Everything that is armed.
    #[cfg(test)]
    pub(super) fn armed(&self) -> impl Iterator<Item = Due> + '_ {
        self.armed.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Seat = Seat::Front(ProcId(0));
    const B: Seat = Seat::Front(ProcId(1));

    #[test]
    fn deadlines_come_in_order_and_not_before_they_are_due() {
        let mut timers = Timers::default();
        timers.arm(Due::Process(B, Timer::Kill), Time(20));
        timers.arm(Due::Process(A, Timer::Ready), Time(10));
        assert_eq!(timers.next(), Some(Time(10)));
        assert_eq!(timers.pop_due(Time(9)), None);
        assert_eq!(timers.pop_due(Time(20)), Some(Due::Process(A, Timer::Ready)));
        assert_eq!(timers.pop_due(Time(20)), Some(Due::Process(B, Timer::Kill)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn arming_again_moves_and_cancelling_removes() {
        let mut timers = Timers::default();
        let kill = Due::Process(A, Timer::Kill);
        timers.arm(kill, Time(10));
        timers.arm(kill, Time(30));
        timers.arm(Due::Process(A, Timer::Settle), Time(5));
        timers.cancel(Due::Process(A, Timer::Settle));
        assert_eq!(timers.pop_due(Time(29)), None);
        assert_eq!(timers.at(kill), Some(Time(30)));
        assert_eq!(timers.pop_due(Time(30)), Some(kill));
        assert_eq!(timers.armed().count(), 0);
    }
}
