//! Signals to processes and to process groups.
//!
//! By number: the caller knows that the number is still the process it means, because it is an
//! unreaped child. For all others there is [`crate::sys::pidfd`].

use std::io;

use crate::base::{Pid, Signal};
use crate::sys::{cvt, is};

/// Sends `signal` to one process.
///
/// # Errors
///
/// `ESRCH` if there is no such process: it ended by itself. `EPERM` if it belongs to another user.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: `kill` touches no memory; a `Pid` is positive, so this is one process.
    cvt(unsafe { libc::kill(pid.raw(), signal.raw()) }).map(drop)
}

/// Sends `signal` to the process group that `leader` leads or led.
///
/// # Errors
///
/// `ESRCH` if no process is left in the group. `EPERM` if all of them belong to other users.
pub fn kill_group(leader: Pid, signal: Signal) -> io::Result<()> {
    group(leader, signal.raw())
}

/// Whether no process is left in the group of `leader`. One that has ended and was not reaped yet
/// is still in it: reap first.
#[must_use]
pub fn group_is_empty(leader: Pid) -> bool {
    match group(leader, 0) {
        Ok(()) => false,
        Err(error) => is(&error, libc::ESRCH),
    }
}

fn group(leader: Pid, number: libc::c_int) -> io::Result<()> {
    // `kill(-1)` means every process there is.
    if leader.raw() == 1 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: `kill` touches no memory; a `Pid` is positive and not 1, so this is one group.
    cvt(unsafe { libc::kill(-leader.raw(), number) }).map(drop)
}
