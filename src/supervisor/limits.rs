//! What a measurement leads to: too much memory, a restart.
//!
//! A process is held to the limit of the definition it was started from, and only while it is up:
//! one that is being stopped or replaced is on its way out already. Such a restart says nothing
//! about crashes: the history stays as it is.

use crate::base::ChildId;
use crate::supervisor::process::{Event, Seat};
use crate::supervisor::vocabulary::{Effect, NoticeKind, RestartReason, Status};
use crate::supervisor::{Supervisor, Turn};

impl Supervisor {
    /// `memory`: what the tree of `child` uses, in bytes.
    pub(super) fn measured(&mut self, child: ChildId, memory: u64, turn: &mut Turn<'_>) {
        let Some(seat @ Seat::Front(id)) = self.children.find(child) else { return };
        let Some(process) = self.table.get(id) else { return };
        let is_up = matches!(process.status(), Status::Starting | Status::Online);
        if !is_up || self.halting || self.table.has_side(id) {
            return;
        }
        let Some(limit) = process.running_spec().max_memory_restart.filter(|&most| memory > most)
        else {
            return;
        };
        let notice = process.notice(NoticeKind::MemoryLimitExceeded { memory, limit });
        turn.effects.push(Effect::Publish(notice));
        let (reason, kill_timeout) = (RestartReason::Memory, None);
        self.step(seat, Event::Restart { reason, kill_timeout }, turn);
    }
}
