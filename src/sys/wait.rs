//! The exit status of our own children.

use std::io;
use std::time::Duration;

use crate::base::{ExitStatus, Pid, Signal};
use crate::sys::{cvt, is};

/// A child that has ended and was reaped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reaped {
    pub pid: Pid,
    pub status: ExitStatus,
    /// Processor time that it used, it and those descendants that were waited for.
    pub cpu: Duration,
}

/// Takes one ended child, or `None` when no child is waiting to be reaped.
///
/// A pid cannot be reused before this returns it, so the caller may map pids to children as long
/// as it forgets the pid here. One `SIGCHLD` may stand for many children: call until `None`. As a
/// subreaper this process also gets the orphans of its children: pids that are in no table.
///
/// # Errors
///
/// None that the kernel documents for these arguments; having no children is `None`.
pub fn reap_one() -> io::Result<Option<Reaped>> {
    match wait(-1, libc::WNOHANG) {
        Err(error) if is(&error, libc::ECHILD) => Ok(None),
        other => other,
    }
}

/// Takes this child if it has ended; `None` while it lives.
///
/// # Errors
///
/// `ECHILD` if `pid` is not a child of this process, or has been reaped.
pub fn reap(pid: Pid) -> io::Result<Option<Reaped>> {
    wait(pid.raw(), libc::WNOHANG)
}

/// Waits until `pid`, a child of this process, has ended, and reaps it. For the command line and
/// for tests: the daemon never blocks here.
///
/// # Errors
///
/// `ECHILD` if `pid` is not a child of this process, or has been reaped.
pub fn wait_for(pid: Pid) -> io::Result<ExitStatus> {
    match wait(pid.raw(), 0)? {
        Some(reaped) => Ok(reaped.status),
        None => Err(io::Error::from_raw_os_error(libc::ECHILD)),
    }
}

fn wait(which: libc::c_int, flags: libc::c_int) -> io::Result<Option<Reaped>> {
    let mut word = 0;
    // SAFETY: `rusage` is plain numbers, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both places are valid for writes for the whole call; the others are plain
        // numbers.
        let result = unsafe { libc::wait4(which, &raw mut word, flags, &raw mut usage) };
        match cvt(result) {
            Ok(raw) => {
                return Ok(Pid::new(raw).map(|pid| Reaped {
                    pid,
                    status: from_wait_word(word),
                    cpu: time(usage.ru_utime) + time(usage.ru_stime),
                }));
            }
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds)
        .saturating_add(Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0)))
}

/// Reads the word that `waitpid(2)` and `PIDFD_GET_INFO` give.
#[must_use]
pub fn from_wait_word(word: i32) -> ExitStatus {
    if libc::WIFEXITED(word) {
        return u8::try_from(libc::WEXITSTATUS(word)).map_or(ExitStatus::Unknown, ExitStatus::Code);
    }
    match Signal::new(libc::WTERMSIG(word)) {
        Some(signal) if libc::WIFSIGNALED(word) => {
            ExitStatus::Signal { signal, core: libc::WCOREDUMP(word) }
        }
        Some(_) | None => ExitStatus::Unknown,
    }
}

/// The word that [`from_wait_word`] reads, for telling another process.
#[must_use]
pub fn to_wait_word(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => i32::from(code) << 8,
        ExitStatus::Signal { signal, core } => signal.raw() | if core { 0x80 } else { 0 },
        ExitStatus::OutOfMemory => Signal::KILL.raw(),
        // Stopped, which is no end.
        ExitStatus::Unknown => 0x137f,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_goes_through_a_word_and_back() {
        let abort = Signal::new(6).unwrap();
        for status in [
            ExitStatus::Code(0),
            ExitStatus::Code(255),
            ExitStatus::Signal { signal: Signal::KILL, core: false },
            ExitStatus::Signal { signal: abort, core: true },
            ExitStatus::Unknown,
        ] {
            assert_eq!(from_wait_word(to_wait_word(status)), status);
        }
    }

    #[test]
    fn every_way_to_end_is_told_apart() {
        assert_eq!(from_wait_word(0), ExitStatus::Code(0));
        assert_eq!(from_wait_word(0x0300), ExitStatus::Code(3));
        assert_eq!(from_wait_word(9), ExitStatus::Signal { signal: Signal::KILL, core: false });
        let segv = Signal::new(11).unwrap();
        assert_eq!(from_wait_word(0x8b), ExitStatus::Signal { signal: segv, core: true });
        // Stopped, which is no end at all.
        assert_eq!(from_wait_word(0x137f), ExitStatus::Unknown);
    }

    #[test]
    fn waiting_for_a_stranger_is_an_error() {
        let error = wait_for(Pid::new(1).unwrap()).unwrap_err();
        assert!(is(&error, libc::ECHILD));
    }
}
