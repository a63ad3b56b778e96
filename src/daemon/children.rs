//! Which child is which OS process.

use crate::base::{ChildId, Pid, ProcId};
use crate::daemon::channel::Line;
use crate::daemon::groups::Membership;
use crate::daemon::live::SlotId;
use crate::reactor::Slot;
use crate::sorted::SortedMap;
use crate::sys::pidfd::PidFd;

/// A child between its spawn and the supervisor's word that nothing more is asked about it.
#[derive(Debug)]
pub struct Child {
    pub process: ProcId,
    pub pid: Pid,
    /// The main process is still there (or a zombie that was not reaped).
    pub lives: bool,
    pub adopted: Option<Box<Adopted>>,
    /// Its control group.
    pub group: Membership,
    /// It was killed in its group, so that nobody can be born there any more.
    pub group_is_spent: bool,
    /// What it carries in its environment: `PMD_COOKIE`.
    pub cookie: u64,
    /// Nobody else is given it while this child lives.
    pub port: Option<u16>,
    /// Its place in the live table; a reload's successor has one of its own.
    pub slot: SlotId,
    pub successor: bool,
    /// Its memory is limited.
    pub limited: bool,
    /// The daemon's end of its stdin, where that is a pipe.
    pub stdin: Option<std::fs::File>,
    pub notification: Option<Box<Notification>>,
    /// It was given a channel; whether it has one still is in the next field.
    pub has_channel: bool,
    pub channel: Option<Line>,
}

/// A child whose parent we are not: watched and signalled through its pidfd.
#[derive(Debug)]
pub struct Adopted {
    pub pidfd: PidFd,
    pub watch: Slot,
    /// Its parent is the keeper, which tells how it ends.
    pub kept: bool,
}

/// The descriptor on which a child writes a newline when it is ready.
#[derive(Debug)]
pub struct Notification {
    pub pipe: std::fs::File,
    pub watch: Slot,
}

/// All children, by id and by pid.
#[derive(Debug, Default)]
pub struct Children {
    by_id: SortedMap<ChildId, Box<Child>>,
    by_pid: SortedMap<Pid, ChildId>,
    /// Living ones whose memory is limited.
    limited: usize,
    /// Counts births and deaths.
    changes: u64,
}

impl Children {
    pub fn insert(&mut self, id: ChildId, child: Child) {
        self.changes += 1;
        self.limited += usize::from(child.limited);
        self.by_pid.insert(child.pid, id);
        self.by_id.insert(id, Box::new(child));
    }

    /// Whether the memory of any living child is limited.
    #[must_use]
    pub fn any_is_limited(&self) -> bool {
        self.limited > 0
    }

    /// Another number after every birth and every death.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    #[must_use]
    pub fn get(&self, id: ChildId) -> Option<&Child> {
        self.by_id.get(&id).map(AsRef::as_ref)
    }

    pub fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.by_id.get_mut(&id).map(AsMut::as_mut)
    }

    /// Whose main process this is; `None` for an orphan of somebody's tree.
    #[must_use]
    pub fn by_pid(&self, pid: Pid) -> Option<ChildId> {
        self.by_pid.get(&pid).copied()
    }

    /// The main process has been reaped: from now on the kernel may use its pid again.
    pub fn reaped(&mut self, id: ChildId) {
        if let Some(child) = self.by_id.get_mut(&id)
            && std::mem::take(&mut child.lives)
        {
            self.changes += 1;
            self.limited -= usize::from(child.limited);
            self.by_pid.remove(&child.pid);
        }
    }

    pub fn remove(&mut self, id: ChildId) -> Option<Child> {
        self.reaped(id);
        self.by_id.remove(&id).map(|child| *child)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.by_id.iter().map(|(id, child)| (*id, child.as_ref()))
    }
}
