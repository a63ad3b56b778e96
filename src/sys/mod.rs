//! The fence: all `unsafe`, all of libc, no knowledge of pmd.
//!
//! Each file wraps one interface of the kernel in safe functions over the nouns of
//! [`crate::base`]. Nothing here decides anything, keeps a table or writes a log. Every descriptor
//! made here is close-on-exec.

#![allow(unsafe_code)]

/// A descriptor that is readable at a time of day.
pub mod alarm;
/// Vectors of C strings for a program's arguments and environment.
pub mod args;
/// Control groups, version 2: one per child where the host lets us.
pub mod cgroup;
/// The channel between the daemon and a child.
pub mod channel;
/// Both clocks, read together, and local time.
pub mod clock;
/// Where this process may die, for tests.
pub mod crash;
/// Files below a directory that is held open.
pub mod dir;
/// Names and texts of error numbers.
mod errno;
/// Pipes and their re-opening, socket pairs, the null device.
pub mod fds;
/// Files of `/proc` that are kept open and read again.
pub mod figures;
/// Changes of files below directories.
pub mod inotify;
/// Signals to processes and to process groups.
pub mod kill;
/// Resource limits.
pub mod limits;
/// Sockets that others are to serve.
pub mod listening;
/// Shared memory in a file that grows.
pub mod map;
/// Who listens on a port.
pub mod net;
/// Whom the kernel killed for want of memory.
pub mod oom;
/// Whose the other end of a TCP connection is.
pub mod owner;
/// Small messages between two processes, with descriptors.
pub mod packet;
/// Who is at the other end of a Unix socket.
pub mod peer;
/// Processes that are not our children, and all signals that must not meet a stranger.
pub mod pidfd;
/// Waiting for a handful of descriptors.
pub mod poll;
/// What `/proc` says about one process.
pub mod proc;
/// This process: its rights, its terminal, its host.
pub mod process;
/// Paths given by configuration, and where they lead.
pub mod route;
/// Signals as a readable descriptor; dispositions.
pub mod signals;
/// Children: clone and exec with a clean slate.
pub mod spawn;
/// Bytes from pipe to file without passing through us.
pub mod splice;
#[cfg(test)]
pub mod testing;
/// Process trees: finding and ending them without control groups.
pub mod tree;
/// What is left of the unwinder.
#[cfg(panic = "abort")]
mod unwind;
/// Users and groups, from the files.
pub mod users;
/// The exit status of our own children.
pub mod wait;

use std::io;

pub use errno::{describe, errno_name, errno_text};

/// Turns libc's -1 into the error it stands for.
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// [`cvt`] for calls that answer a length.
fn cvt_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// [`cvt`] for calls that go through `syscall(2)`.
fn cvt_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether the kernel said "this number, please".
fn is(error: &io::Error, errno: libc::c_int) -> bool {
    error.raw_os_error() == Some(errno)
}
