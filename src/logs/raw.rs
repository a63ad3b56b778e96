//! Logs written as they come: from the pipe into the file without passing through pmd.
//!
//! `splice` takes a byte out of the pipe only when it is in the file, so a daemon that is killed
//! at any moment loses and doubles nothing, and there is nothing to remember. A move is two or
//! three system calls (the file's length, the splice, and what is left in the pipe when the splice
//! fell short) and allocates nothing while nobody watches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::base::Now;
use crate::logs::engine::{Engine, Head, MOVE};
use crate::logs::file::LogFile;
use crate::logs::table::FileId;
use crate::logs::vocabulary::Pumped;
use crate::sys;

/// Moves at most `budget` bytes from `pipe` to `file`.
pub fn pump(
    head: &mut Head,
    file: FileId,
    engine: &mut Engine,
    pipe: BorrowedFd<'_>,
    budget: usize,
    now: Now,
) -> Pumped {
    let mut moved = 0;
    let mut drained = false;
    while moved < budget && !drained {
        let from = match engine.ready(head, file, 0, now) {
            Ok(length) => length,
            Err(pause) => {
                let mut pumped = engine.refuse(head, 0, pipe, budget - moved, now, pause);
                pumped.moved += moved;
                return pumped;
            }
        };
        let Some(room) = engine.room(file, 1) else {
            continue; // rotated: the path is another file now
        };
        let wanted = (budget - moved).min(MOVE).min(usize::try_from(room).unwrap_or(MOVE));
        match splice(engine, file, pipe, from, wanted) {
            Ok(0) => drained = true,
            Ok(count) => {
                engine.wrote(head, file, 0, count, now);
                engine.show_written(head, file, from, now);
                engine.settle(file);
                moved += count;
                // Less than asked for: the pipe ran empty, or the disk full. What came meanwhile
                // waits for the next time: a writer is not to be chased line by line.
                if count < wanted {
                    drained = sys::fds::waiting(pipe).is_ok_and(|left| left == 0);
                    break;
                }
            }
            Err(error) => engine.failed(head, file, 0, &error, now),
        }
    }
    Pumped { moved, drained, retry: None }
}

fn splice(
    engine: &Engine,
    file: FileId,
    pipe: BorrowedFd<'_>,
    offset: u64,
    length: usize,
) -> io::Result<usize> {
    let Some(handle) = engine.files.get(file).and_then(LogFile::handle) else {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    };
    sys::crash::point("splice-before");
    let moved = sys::splice::to_file(pipe, handle.as_fd(), offset, length);
    sys::crash::point("splice-after");
    moved
}
