//! Process trees: finding and ending them without control groups.
//!
//! A process belongs to a child's tree if it is the child, a descendant of a member, or an orphan
//! that carries the child's cookie in its environment or is in the child's session or process
//! group. Orphans come to us, because we are the subreaper; those of an adopted child may have
//! gone to process 1, then every process of the host is asked for the cookie.
//!
//! Never a process that is not a member: a number found in `/proc` may be used again before the
//! signal is sent, so each signal goes by a pidfd whose start time is compared after it was
//! opened. Zombies do not count. Not found is what has become a daemon, has dropped its
//! environment *and* left the session: for that there are control groups.

use std::collections::BTreeMap;
use std::io;

use crate::base::{Pid, Signal};
use crate::sys::pidfd::PidFd;
use crate::sys::proc::{self, Stat};
use crate::sys::{is, kill, process};

/// How often the tree is searched for processes that were born during the search before.
const MAX_ROUNDS: u32 = 5;

/// What is known of a child whose tree is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// The child. It leads a session and a process group of the same number.
    pub leader: Pid,
    /// Whether the child has not been reaped: only then does the number mean the child. An adopted
    /// child counts as not reaped as long as its pidfd says so.
    pub leader_lives: bool,
    /// `NAME=value` as only this child and its descendants have it; empty: none.
    pub cookie: &'a [u8],
    /// Ask every process of the host for the cookie, not only our own orphans.
    pub scan_all: bool,
}

/// What became of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Killed {
    /// How many processes got `SIGKILL`.
    pub count: usize,
    /// Searches made.
    pub rounds: u32,
    /// Those that could not be signalled: they belong to other users.
    pub refused: Vec<Pid>,
}

/// The living children of a process; zombies left out.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn children_of(pid: Pid) -> io::Result<Vec<Pid>> {
    let mut children = proc::children(pid)?;
    children.retain(|&child| living(child).is_some());
    Ok(children)
}

/// Children of this process that it does not know: orphans of its children.
///
/// # Errors
///
/// As [`children_of`].
pub fn own_orphans(known: &dyn Fn(Pid) -> bool) -> io::Result<Vec<Pid>> {
    let mut children = children_of(process::own_pid())?;
    children.retain(|&child| !known(child));
    Ok(children)
}

impl Tree<'_> {
    /// The members that live now, in order of their numbers.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`: the search is not complete.
    pub fn members(&self) -> io::Result<Vec<Pid>> {
        Ok(self.search()?.into_keys().collect())
    }

    /// Whether no member lives.
    ///
    /// # Errors
    ///
    /// As [`Self::members`].
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.search()?.is_empty())
    }

    /// Sends a signal to every member. Answers how many got it.
    ///
    /// # Errors
    ///
    /// As [`Self::members`].
    pub fn signal(&self, signal: Signal) -> io::Result<usize> {
        let members = self.search()?;
        Ok(members.iter().filter(|&(&pid, &start)| send(pid, start, signal).is_ok()).count())
    }

    /// Stops every member, searches again until no new one appears, then kills them all. Gives up
    /// searching after five rounds (a tree that is born faster than it is found) and kills what it
    /// has.
    ///
    /// # Errors
    ///
    /// As [`Self::members`]; what had been found by then is killed all the same.
    pub fn freeze_and_kill(&self) -> io::Result<Killed> {
        let mut found = BTreeMap::new();
        let mut killed = Killed::default();
        let mut search = Ok(());
        while killed.rounds < MAX_ROUNDS {
            killed.rounds += 1;
            let before = found.len();
            match self.search() {
                Ok(members) => {
                    for (pid, start) in members {
                        if found.insert(pid, start) != Some(start) {
                            let _ = send(pid, start, Signal::STOP);
                        }
                    }
                }
                Err(error) => {
                    search = Err(error);
                    break;
                }
            }
            if found.len() == before {
                break;
            }
        }
        for (&pid, &start) in &found {
            match send(pid, start, Signal::KILL) {
                Ok(()) => killed.count += 1,
                Err(error) if is(&error, libc::ESRCH) => {}
                Err(_) => killed.refused.push(pid),
            }
        }
        search.map(|()| killed)
    }

    /// Members and their start times.
    fn search(&self) -> io::Result<BTreeMap<Pid, u64>> {
        let own = process::own_pid();
        let mut found = BTreeMap::new();
        let mut unvisited = vec![];
        let mut enter = |pid: Pid, stat: &Stat, unvisited: &mut Vec<Pid>| {
            if pid != own && found.insert(pid, stat.start_time).is_none() {
                unvisited.push(pid);
            }
        };
        if self.leader_lives
            && let Some(stat) = present(self.leader)
        {
            // A zombie has no children any more, but a main thread may end before the others.
            if !stat.is_zombie() {
                enter(self.leader, &stat, &mut unvisited);
            }
        }
        let candidates: Vec<Pid> =
            if self.scan_all { proc::all()?.collect() } else { proc::children(own)? };
        let number_is_free = present(self.leader).is_none();
        for pid in candidates {
            if pid == own || (pid == self.leader && !self.leader_lives) {
                continue;
            }
            let Some(stat) = living(pid) else { continue };
            let ours = stat.parent == own.raw();
            let in_group = stat.group == self.leader.raw() || stat.session == self.leader.raw();
            // Who is in the session of a living leader descends from it. Later the group keeps the
            // number from being used again; a number that has a process all the same has been used
            // again, and its group may be one of strangers.
            let in_our_group = in_group && (self.leader_lives || (ours && number_is_free));
            if in_our_group || self.has_cookie(pid) {
                enter(pid, &stat, &mut unvisited);
            }
        }
        while let Some(parent) = unvisited.pop() {
            for child in proc::children(parent)? {
                if let Some(stat) = living(child) {
                    enter(child, &stat, &mut unvisited);
                }
            }
        }
        Ok(found)
    }

    fn has_cookie(&self, pid: Pid) -> bool {
        !self.cookie.is_empty() && proc::environment_has(pid, self.cookie)
    }
}

fn present(pid: Pid) -> Option<Stat> {
    proc::stat(pid).ok().flatten()
}

fn living(pid: Pid) -> Option<Stat> {
    present(pid).filter(|stat| !stat.is_zombie())
}

/// Sends `signal` to the process that had this number when it was seen, and to no later one.
fn send(pid: Pid, start: u64, signal: Signal) -> io::Result<()> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    let pidfd = match PidFd::open(pid) {
        Ok(Some(pidfd)) => Some(pidfd),
        Ok(None) => return Err(gone()),
        // Kernels before 5.3, or no descriptor left: the number was right a moment ago.
        Err(_) => None,
    };
    if present(pid).is_none_or(|stat| stat.start_time != start) {
        return Err(gone());
    }
    match pidfd {
        Some(pidfd) => pidfd.signal(signal),
        None => kill::kill(pid, signal),
    }
}

#[cfg(test)]
mod tests;
