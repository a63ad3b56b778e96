//! Which child is which OS process.

use std::collections::HashMap;

use crate::base::{ChildId, Pid, ProcId};
use crate::daemon::groups::Membership;
use crate::daemon::live::SlotId;
use crate::reactor::Slot;
use crate::sys::pidfd::PidFd;

/// A child between its spawn and the supervisor's word that nothing more is asked about it.
#[derive(Debug)]
pub struct Child {
    pub process: ProcId,
    pub pid: Pid,
    /// The main process is still there (or a zombie that was not reaped).
    pub lives: bool,
    pub adopted: Option<Adopted>,
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
    /// The daemon's end of its stdin, where that is a pipe.
    pub stdin: Option<std::fs::File>,
    pub notification: Option<Notification>,
}

/// A child whose parent we are not: watched and signalled through its pidfd.
#[derive(Debug)]
pub struct Adopted {
    pub pidfd: PidFd,
    pub watch: Slot,
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
    by_id: HashMap<ChildId, Child>,
    by_pid: HashMap<Pid, ChildId>,
}

impl Children {
    pub fn insert(&mut self, id: ChildId, child: Child) {
        self.by_pid.insert(child.pid, id);
        self.by_id.insert(id, child);
    }

    #[must_use]
    pub fn get(&self, id: ChildId) -> Option<&Child> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.by_id.get_mut(&id)
    }

    /// Whose main process this is; `None` for an orphan of somebody's tree.
    #[must_use]
    pub fn by_pid(&self, pid: Pid) -> Option<ChildId> {
        self.by_pid.get(&pid).copied()
    }

    /// The main process has been reaped: from now on the kernel may use its pid again.
    pub fn reaped(&mut self, id: ChildId) {
        if let Some(child) = self.by_id.get_mut(&id) {
            child.lives = false;
            self.by_pid.remove(&child.pid);
        }
    }

    pub fn remove(&mut self, id: ChildId) -> Option<Child> {
        let child = self.by_id.remove(&id)?;
        if child.lives {
            self.by_pid.remove(&child.pid);
        }
        Some(child)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.by_id.iter().map(|(id, child)| (*id, child))
    }
}
