//! What is left of a process tree after its main process has ended, and how it is ended.
//!
//! The daemon is a subreaper: orphans of its children become its own children. A tree's members are
//! its process group, the walk down from them, and orphans that carry the tree's cookie in their
//! environment. Looking for orphans costs a pass over our children, so stops that come together
//! share one.

use std::time::Duration;

use crate::base::{ChildId, Pid, Signal, Time};
use crate::daemon::Daemon;
use crate::daemon::plan::cookie_variable;
use crate::sorted::{SortedMap, SortedSet, sort};
use crate::supervisor::vocabulary::Input;
use crate::sys::cgroup::Cgroup;
use crate::sys::{kill, tree};

/// Passes over the orphans are at least this far apart.
const PACE: Duration = Duration::from_millis(2);
/// Nobody tells us when a member ends that is no child of ours (its tree was adopted).
const POLL: Duration = Duration::from_millis(50);

/// Trees whose main process is gone and that may have members left.
#[derive(Debug, Default)]
pub struct Sweeps {
    open: SortedMap<ChildId, Sweep>,
    /// When to look again; `None`: nothing happened since the last look.
    due: Option<Time>,
    last: Time,
}

#[derive(Debug)]
struct Sweep {
    leader: Pid,
    cookie: String,
    /// All that is in it belongs to the tree.
    group: Option<Cgroup>,
    /// Its orphans went to pid 1, not to us: look at every process.
    everywhere: bool,
    /// To be passed on to members that did not get it with the group.
    signal: Option<Signal>,
    told: SortedSet<Pid>,
    reported: Option<usize>,
}

impl Sweeps {
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    /// A process of nobody's table was reaped: perhaps the last member of a tree.
    pub fn orphan_reaped(&mut self, _pid: Pid) {
        if !self.open.is_empty() {
            self.hurry();
        }
    }

    pub fn forget(&mut self, child: ChildId) {
        self.open.remove(&child);
        if self.open.is_empty() {
            self.due = None;
        }
    }

    fn hurry(&mut self) {
        let at = self.last.after(PACE);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Sweep {
    /// Who is left; `orphans`: children of ours that are in no table, `None` if they could not be
    /// listed.
    fn members(&self, orphans: Option<&[Pid]>, known: tree::Known<'_>) -> Vec<Pid> {
        // Whoever lost its parent is our child, and the others descend from one that did.
        let none = orphans.is_some_and(<[Pid]>::is_empty) && kill::group_is_empty(self.leader);
        if none && !self.everywhere {
            return Vec::new();
        }
        let cookie = self.cookie.as_bytes();
        let mut members =
            tree::members(self.leader, cookie, self.everywhere, known).unwrap_or_default();
        if let Some(group) = &self.group {
            members.extend(group.pids().unwrap_or_default());
            members.retain(|&pid| pid != self.leader && !known(pid));
            sort(&mut members);
            members.dedup();
        }
        members
    }
}

impl Daemon {
    /// Carries out `Effect::Sweep`.
    pub(super) fn sweep(&mut self, id: ChildId, signal: Signal) {
        self.open_sweep(id, Some(signal));
    }

    fn open_sweep(&mut self, id: ChildId, signal: Option<Signal>) {
        let Some(child) = self.children.get(id) else {
            self.outcomes.push_back(Input::Swept { child: id, left: 0 });
            return;
        };
        let sweep = Sweep {
            leader: child.pid,
            cookie: cookie_variable(child.cookie),
            group: self.groups.of(child),
            everywhere: child.adopted.is_some(),
            signal,
            told: SortedSet::new(),
            reported: None,
        };
        // In the turn of the reaping the group's number is still its own, or free.
        self.sweeps.open.insert(id, sweep);
        self.sweeps.hurry();
    }

    /// Carries out `Effect::Kill`.
    pub(super) fn kill(&mut self, id: ChildId, whole_tree: bool) {
        let Some(child) = self.children.get_mut(id) else {
            if whole_tree {
                self.outcomes.push_back(Input::Swept { child: id, left: 0 });
            }
            return;
        };
        let killed = if whole_tree { self.groups.kill(child) } else { Ok(()) };
        let Some(child) = self.children.get(id) else { return };
        let (leader, lives) = (child.pid, child.lives);
        if let Err(error) = killed {
            let why = crate::sys::describe(&error);
            self.own_log.warn(format_args!("cannot kill the group of pid {leader}: {why}"));
        }
        if whole_tree {
            let cookie = cookie_variable(child.cookie);
            let everywhere = child.adopted.is_some();
            let known = |pid: Pid| self.children.by_pid(pid).is_some_and(|other| other != id);
            // Those who left the group, too.
            let killed =
                tree::freeze_and_kill(leader, lives, cookie.as_bytes(), everywhere, &known);
            if let Err(error) = killed {
                let why = crate::sys::describe(&error);
                self.own_log.warn(format_args!("cannot look for the tree of pid {leader}: {why}"));
            }
        }
        if lives {
            let _ = match &child.adopted {
                Some(adopted) => adopted.pidfd.signal(Signal::KILL),
                None => kill::kill(leader, Signal::KILL),
            };
        }
        if whole_tree {
            self.open_sweep(id, None);
        }
    }

    /// Looks at the open sweeps, if it is time to.
    pub(super) fn sweep_due(&mut self) {
        if self.sweeps.due.is_none_or(|due| due > self.now.mono) {
            return;
        }
        self.sweeps.due = None;
        self.sweeps.last = self.now.mono;
        let mut open = std::mem::take(&mut self.sweeps.open);
        // One look at our children serves all sweeps. Mostly there is no orphan at all.
        let orphans = tree::own_orphans(&|pid| self.children.by_pid(pid).is_some()).ok();
        open.retain(|&id, sweep| {
            let known = |pid: Pid| self.children.by_pid(pid).is_some();
            let members = sweep.members(orphans.as_deref(), &known);
            if let Some(signal) = sweep.signal {
                let new: Vec<Pid> =
                    members.iter().copied().filter(|&pid| sweep.told.insert(pid)).collect();
                tree::signal(&new, signal);
            }
            if sweep.reported != Some(members.len()) {
                sweep.reported = Some(members.len());
                let swept = Input::Swept { child: id, left: members.len() };
                self.supervisor.handle(self.now, swept, &mut self.decided);
                self.effects.extend(self.decided.drain(..));
            }
            !members.is_empty()
        });
        for (id, sweep) in std::mem::take(&mut self.sweeps.open) {
            open.insert(id, sweep);
        }
        self.sweeps.open = open;
        if self.sweeps.open.values().any(|sweep| sweep.everywhere || sweep.signal.is_none()) {
            self.sweeps.due = Some(self.now.mono.after(POLL));
        }
    }

    /// The second signal to end: nobody waits any longer.
    pub(super) fn kill_everything(&mut self) {
        let all: Vec<_> = self.children.iter().map(|(id, _)| id).collect();
        for id in all {
            self.kill(id, true);
        }
    }
}
