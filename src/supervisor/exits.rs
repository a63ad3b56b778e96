//! The last deaths of a process, for people who ask why.

use std::time::Duration;

use crate::base::{ExitStatus, WallTime};

/// This many are kept.
pub const KEPT: usize = 5;

/// The end of one child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exit {
    pub at: WallTime,
    pub status: ExitStatus,
    pub uptime: Duration,
    pub reason: ExitReason,
}

/// Why a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExitReason {
    /// By itself, not as wanted.
    Crash,
    /// By itself, as wanted.
    Finished,
    /// It was told to stop.
    Stop,
    /// It was ended because it was unhealthy.
    Unhealthy,
    /// It was told to make room for its next life.
    Restart,
    /// It was told to make room for its next life because it used too much memory.
    Memory,
    /// It was told to make room for its next life, since it was time.
    Cron,
    /// It was told to make room for its next life, since files had changed.
    Watch,
    /// The run lasted too long.
    Overrun,
    /// It was replaced, or was the successor that failed to replace another.
    Reload,
}

/// The last [`KEPT`] ends, oldest first. Takes no memory before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Exits(Box<[Exit]>);

impl Exits {
    pub(super) fn record(&mut self, exit: Exit) {
        if self.0.len() == KEPT {
            self.0.rotate_left(1);
            if let Some(last) = self.0.last_mut() {
                *last = exit;
            }
            return;
        }
        let mut exits = std::mem::take(&mut self.0).into_vec();
        exits.reserve_exact(1);
        exits.push(exit);
        self.0 = exits.into_boxed_slice();
    }

    /// Takes over what a child beside this process came to.
    pub(super) fn absorb(&mut self, other: &Self) {
        for &exit in other.as_slice() {
            self.record(exit);
        }
    }

    pub(super) fn as_slice(&self) -> &[Exit] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut exits = Exits::default();
        for at in 0..7 {
            let (status, uptime) = (ExitStatus::Code(0), Duration::ZERO);
            exits.record(Exit { at: WallTime(at), status, uptime, reason: ExitReason::Crash });
        }
        let at: Vec<u64> = exits.as_slice().iter().map(|exit| exit.at.0).collect();
        assert_eq!(at, [2, 3, 4, 5, 6]);
    }
}
