//! What is done for a child when its first moments are over.
//!
//! A new child and the loop often share a processor, and then the child's program begins when the
//! loop has nothing more to do. So what nobody waits for comes a little later: the note in the live
//! table of what tells the child from every other of this boot, and the pid file, unless
//! somebody has named it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::base::{Pid, ProcId, Time};
use crate::daemon::Daemon;
use crate::daemon::entries::Entry;
use crate::daemon::live::Identity;
use crate::sorted::SortedSet;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;
use crate::sys::route::Route;

/// How long a new child is left alone, and longer while others are born.
const LATER: Duration = Duration::from_millis(20);
/// But not longer than this.
const LATEST: Duration = Duration::from_millis(500);
/// Processes looked after in a turn in which nothing else happened. In any other it is one.
const AT_REST: usize = 2;

/// Processes whose child is new, or gone.
#[derive(Debug, Default)]
pub struct Aftercare {
    due: SortedSet<ProcId>,
    at: Option<Time>,
    /// The latest that `at` may become.
    at_most: Time,
}

impl Aftercare {
    pub fn owe(&mut self, process: ProcId, now: Time) {
        self.due.insert(process);
        if self.at.is_none() {
            self.at_most = now.after(LATEST);
        }
        self.at = Some(now.after(LATER).min(self.at_most));
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.at
    }
}

impl Daemon {
    /// Looks after those whose time has come. `quiet`: nothing else happened in this turn, or is to
    /// happen in the next.
    pub(super) fn look_after(&mut self, quiet: bool) {
        if self.aftercare.at.is_some_and(|at| at <= self.now.mono) {
            self.look_after_some(if quiet { AT_REST } else { 1 });
        }
    }

    /// Looks after all, when there is no later.
    pub(super) fn look_after_all(&mut self) {
        self.look_after_some(usize::MAX);
    }

    /// Looks after one whose pid file somebody may look for now.
    pub(super) fn look_after_now(&mut self, process: ProcId) {
        if self.aftercare.due.remove(&process) {
            self.look_after_one(process);
        }
    }

    fn look_after_some(&mut self, most: usize) {
        for _ in 0..most {
            let Some(process) = self.aftercare.due.pop_first() else { break };
            self.look_after_one(process);
        }
        if self.aftercare.due.is_empty() {
            self.aftercare.at = None;
        }
    }

    fn look_after_one(&mut self, process: ProcId) {
        let Some(entry) = self.entries.get(&process) else { return };
        let prompt = is_known_by_name(entry);
        let child = entry.child.and_then(|child| self.children.get(child));
        if let Some(child) = child.filter(|child| child.lives)
            && self.live.wants_identity(child.slot)
        {
            self.live.identified(child.slot, child.pid, identity(child.pid));
            crate::sys::crash::point("identity-noted");
        }
        if !prompt {
            self.keep_pid_file(process);
        }
    }

    /// Its child is new, or gone. A pid file that somebody knows by name is true before anybody is
    /// told of that; for those that pmd names itself there is time.
    pub(super) fn owe_aftercare(&mut self, process: ProcId) {
        self.aftercare.owe(process, self.now.mono);
        if self.entries.get(&process).is_some_and(|entry| is_known_by_name(entry)) {
            self.keep_pid_file(process);
        }
    }

    fn keep_pid_file(&mut self, process: ProcId) {
        let Some(entry) = self.entries.get(&process) else { return };
        let child = entry.child.and_then(|child| self.children.get(child));
        let Some(path) = &entry.files(&self.places).pid_file else { return };
        let done = match child.filter(|child| child.lives) {
            Some(child) if entry.spec.pm2.is_some() => write_pid_file(path, child.pid, ""),
            Some(child) => write_pid_file(path, child.pid, "\n"),
            None => remove_file(path),
        };
        if let Err(error) = done {
            let (path, why) = (path.display(), crate::sys::describe(&error));
            self.own_log.warn(format_args!("cannot write pid file {path}: {why}"));
        }
    }
}

/// Its pid file has a name that a person or a client gave it.
fn is_known_by_name(entry: &Entry) -> bool {
    entry.spec.pm2.is_some() || entry.spec.pid_file.is_some()
}

/// What tells this child, which has not been reaped, from every other of this boot.
pub(super) fn identity(pid: Pid) -> Identity {
    let pidfd = PidFd::open(pid).ok().flatten();
    let pidfs_inode = pidfd.and_then(|pidfd| pidfd.inode().ok().flatten()).unwrap_or_default();
    let start_ticks = match pidfs_inode {
        0 => proc::start_time(pid).ok().flatten().unwrap_or_default(),
        _ => 0,
    };
    Identity { pidfs_inode, start_ticks }
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    gone(Route::to_name(path).and_then(|route| std::fs::remove_file(route.path())))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// For people and for PM2's habits; never read. In place of whatever has that name: a link that
/// somebody put there is not followed. `end`: of the line; PM2 writes none.
fn write_pid_file(path: &Path, pid: Pid, end: &str) -> io::Result<()> {
    let route = Route::to_name(path)?;
    gone(std::fs::remove_file(route.path()))?;
    let mut file = route.open(File::options().write(true).create_new(true).mode(0o600))?;
    file.write_all(format!("{pid}{end}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_birth_is_waited_for_but_not_for_ever() {
        let mut care = Aftercare::default();
        assert_eq!(care.next_deadline(), None);
        let first = Time(1_000_000_000);
        let mut now = first;
        care.owe(ProcId(0), now);
        assert_eq!(care.next_deadline(), Some(now.after(LATER)));
        for id in 1..100 {
            now = now.after(LATER / 2);
            care.owe(ProcId(id), now);
            let at = care.next_deadline().unwrap();
            assert_eq!(at, now.after(LATER).min(first.after(LATEST)));
        }
        assert!(care.next_deadline() < Some(now));
    }
}
