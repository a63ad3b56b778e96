//! Process trees: finding and ending them without control groups.
//!
//! A process belongs to a child's tree if it is the child, a descendant of a member, or an orphan
//! that carries the child's cookie in its environment or is in the child's session or process
//! group. Orphans come to us, because we are the subreaper; those of an adopted child may have
//! gone to process 1, then every process of the host is asked.
//!
//! Never a process that is not a member: a number found in `/proc` may be used again before the
//! signal is sent, so each signal goes by a pidfd whose start time is compared after it was
//! opened. Zombies do not count. Not found is what has left the session *and* dropped its
//! environment *and* lost its parent: for that there are control groups.

use std::io;

use crate::base::{Pid, Signal};
use crate::sorted::SortedMap;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::{self, Stat};
use crate::sys::{is, kill, process};

/// How often the tree is searched for processes that were born during the search before.
const MAX_ROUNDS: u32 = 5;

/// Says of a process whether it is another child in the caller's table: neither it nor what
/// descends from it is a member.
pub type Known<'a> = &'a dyn Fn(Pid) -> bool;

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

/// The members of a tree that live now, in order of their numbers; the child that led it has been
/// reaped.
///
/// `cookie` is `NAME=value` as only this child and its descendants have it; empty: none.
/// `everywhere`: ask every process of the host, not only our own orphans.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`: the search is not complete.
pub fn members(
    leader: Pid,
    cookie: &[u8],
    everywhere: bool,
    known: Known<'_>,
) -> io::Result<Vec<Pid>> {
    let tree = Tree { leader, leader_lives: false, cookie, everywhere, known };
    Ok(tree.search()?.keys().copied().collect())
}

/// Stops every member of a tree, searches again until no new one appears, then kills them all.
/// Gives up searching after five rounds (a tree that is born faster than it is found) and kills
/// what it has.
///
/// `leader_lives`: the child has not been reaped (of an adopted one: its pidfd says so); only then
/// its number means the child, and it is a member. The others as for [`members`].
///
/// # Errors
///
/// As [`members`]; what had been found by then is killed all the same.
pub fn freeze_and_kill(
    leader: Pid,
    leader_lives: bool,
    cookie: &[u8],
    everywhere: bool,
    known: Known<'_>,
) -> io::Result<Killed> {
    Tree { leader, leader_lives, cookie, everywhere, known }.freeze_and_kill()
}

/// [`freeze_and_kill`] for a process that lives and is no child of ours, by session, group and
/// descent alone, wherever its orphans went.
///
/// # Errors
///
/// As [`members`].
pub fn kill_group_of(leader: Pid) -> io::Result<Killed> {
    freeze_and_kill(leader, true, b"", true, &|_| false)
}

/// Sends a signal to members of a tree that were found just now. A number that means nobody by now
/// is passed over; between finding and sending it could mean a stranger only if the whole range of
/// numbers was used up meanwhile.
pub fn signal(members: &[Pid], signal: Signal) {
    for &pid in members {
        // `ESRCH`: it ended by itself. `EPERM`: not ours to signal.
        let _ = kill::kill(pid, signal);
    }
}

/// Living children of this process that it does not know: orphans of its children. Zombies are left
/// out.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn own_orphans(known: Known<'_>) -> io::Result<Vec<Pid>> {
    // Most of them are known, and to look at one costs more than to look it up.
    let mut children = proc::children(process::own_pid())?;
    children.retain(|&child| !known(child) && living(child).is_some());
    Ok(children)
}

/// Whether this process has no living children but those it knows. False when that cannot be
/// found out.
#[must_use]
pub fn has_no_orphans(known: Known<'_>) -> bool {
    own_orphans(known).is_ok_and(|orphans| orphans.is_empty())
}

/// What is known of a child whose tree is to be found.
struct Tree<'a> {
    leader: Pid,
    leader_lives: bool,
    cookie: &'a [u8],
    everywhere: bool,
    known: Known<'a>,
}

/// Members found so far and their start times.
type Found = SortedMap<Pid, u64>;

impl Tree<'_> {
    fn freeze_and_kill(&self) -> io::Result<Killed> {
        let mut found = Found::new();
        let mut killed = Killed::default();
        let mut search = Ok(());
        while killed.rounds < MAX_ROUNDS && search.is_ok() {
            killed.rounds += 1;
            let mut news = false;
            match self.search() {
                Ok(members) => {
                    for (pid, start) in members {
                        if found.insert(pid, start) != Some(start) {
                            news = true;
                            let _ = send(pid, start, Signal::STOP);
                        }
                    }
                }
                Err(error) => search = Err(error),
            }
            if !news {
                break;
            }
        }
        for (&pid, &start) in found.iter() {
            match send(pid, start, Signal::KILL) {
                Ok(()) => killed.count += 1,
                Err(error) if is(&error, libc::ESRCH) => {}
                Err(_) => killed.refused.push(pid),
            }
        }
        search.map(|()| killed)
    }

    fn search(&self) -> io::Result<Found> {
        let own = process::own_pid();
        let mut found = Found::new();
        let mut unvisited = vec![];
        if self.leader_lives
            && let Some(stat) = living(self.leader)
        {
            found.insert(self.leader, stat.start_time);
            unvisited.push(self.leader);
        }
        let number_is_free = present(self.leader).is_none();
        let candidates: Vec<Pid> =
            if self.everywhere { proc::all()?.collect() } else { proc::children(own)? };
        for pid in candidates {
            if pid == own || pid == self.leader || (self.known)(pid) {
                continue;
            }
            let Some(stat) = living(pid) else { continue };
            if self.is_in_group(&stat, own, number_is_free) || self.has_cookie(pid) {
                found.insert(pid, stat.start_time);
                unvisited.push(pid);
            }
        }
        while let Some(parent) = unvisited.pop() {
            for child in proc::children(parent)? {
                if child == own || found.contains_key(&child) || (self.known)(child) {
                    continue;
                }
                if let Some(stat) = living(child) {
                    found.insert(child, stat.start_time);
                    unvisited.push(child);
                }
            }
        }
        Ok(found)
    }

    /// Who is in the session of a living leader descends from it. Later the group keeps the number
    /// from being used again; a number that has a process all the same has been used again, and
    /// its group may be one of strangers.
    fn is_in_group(&self, stat: &Stat, own: Pid, number_is_free: bool) -> bool {
        let number = self.leader.raw();
        let is_in = stat.group == number || stat.session == number;
        is_in && (self.leader_lives || (stat.parent == own.raw() && number_is_free))
    }

    fn has_cookie(&self, pid: Pid) -> bool {
        !self.cookie.is_empty() && proc::environ_contains(pid, self.cookie)
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
