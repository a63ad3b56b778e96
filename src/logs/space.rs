//! Room on the disk: one cap for all log files together, and pmd's own oldest rotated files first
//! when the file system runs out.
//!
//! Counting looks at every file, so it is done after some megabytes were written, never per move.

use std::io;
use std::path::Path;

use crate::logs::table::Files;
use crate::logs::vocabulary::DEFAULT_TOTAL;
use crate::sys::dir::{Space as Room, space_at};

/// At most this many bytes are written between two counts.
const STEP: u64 = 4 * 1024 * 1024;

/// At least this many, unless the cap itself is small.
const STEP_MIN: u64 = 256 * 1024;

/// When the cap was passed, a sixteenth is freed, so that the next count is some time away.
const SLACK: u64 = 16;

/// Per cent of a disk that rotated files must leave free.
const LEAST_FREE: u64 = 3;

/// A full disk is tried again when this much is free, or a 64th of a smaller disk.
const ENOUGH: u64 = 1024 * 1024;

/// Keeps the count.
#[derive(Debug)]
pub struct Space {
    total: Option<u64>,
    /// Bytes until the next count.
    left: u64,
}

impl Space {
    /// Another cap, from now on.
    pub fn set_total(&mut self, total: Option<u64>) {
        self.total = total;
    }

    pub fn new(total: Option<u64>) -> Self {
        Self { total, left: total.unwrap_or(DEFAULT_TOTAL).div_ceil(SLACK).min(STEP_MIN) }
    }

    /// `bytes` were written: whether it is time to count.
    pub fn grew(&mut self, bytes: u64) -> bool {
        self.left = self.left.saturating_sub(bytes);
        self.left == 0
    }

    /// Counts, and removes what is too much: rotated files, the oldest first. `near`: a file on the
    /// disk that is filling up; if files were removed for that: how much of it is free, in percent,
    /// and how many they were.
    pub fn count(&mut self, files: &mut Files, near: &Path) -> Option<(u8, u32)> {
        let disk = room_near(near);
        let cap = self.total.unwrap_or_else(|| {
            disk.map_or(DEFAULT_TOTAL, |disk| DEFAULT_TOTAL.min(disk.total / 10))
        });
        let mut used = used(files);
        if used > cap {
            let goal = cap - cap / SLACK;
            while used > goal {
                // What is being written stays: a disk that is full has a policy of its own.
                let Some(freed) = remove_oldest(files, None) else { break };
                used = used.saturating_sub(freed);
            }
        }
        let mut spare = u64::MAX;
        let mut removed = 0;
        if let Some(disk) = disk {
            let device = device_of(near);
            let least = disk.total / 100 * LEAST_FREE;
            let mut free = disk.free;
            while free < least
                && let Some(freed) = remove_oldest(files, device)
            {
                free = free.saturating_add(freed);
                removed += 1;
            }
            spare = free.saturating_sub(least);
        }
        let least = STEP_MIN.min(cap.div_ceil(SLACK)).min(disk.map_or(u64::MAX, |d| d.total / 64));
        self.left = cap.saturating_sub(used).min(spare).min(STEP).max(least);
        disk.filter(|_| removed > 0).map(|disk| (disk.percent_free(), removed))
    }
}

fn used(files: &mut Files) -> u64 {
    files
        .iter_mut()
        .map(|file| file.look() + file.history().iter().map(|old| old.size).sum::<u64>())
        .sum()
}

/// Removes the oldest rotated file of all, on `device` where given; how many bytes it had.
pub fn remove_oldest(files: &mut Files, device: Option<u64>) -> Option<u64> {
    loop {
        let file = files
            .iter_mut()
            .filter(|file| device.is_none() || device == file.seen().map(|seen| seen.device))
            .filter_map(|file| file.history().last().map(|old| old.at).map(|at| (at, file)))
            .min_by_key(|(at, _)| *at)?
            .1;
        match file.remove_oldest() {
            Ok(freed) => return freed,
            // Not to be removed, for whatever reason: not to be counted on.
            Err(_) => drop(file.history().pop()),
        }
    }
}

/// Whether a disk that was full has room again. Where that cannot be asked, trying is the answer.
pub fn has_room(path: &Path) -> bool {
    room_near(path).is_none_or(|disk| disk.free >= ENOUGH.min(disk.total / 64))
}

/// The room beside a log file; `None` where that is not known.
fn room_near(path: &Path) -> Option<Room> {
    space_at(path.parent().unwrap_or(path)).ok().filter(|disk| disk.total > 0)
}

/// Whether `error` says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn device_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|metadata| metadata.dev())
}
