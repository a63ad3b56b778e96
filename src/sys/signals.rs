//! Signals as a readable descriptor; dispositions.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::{Pid, Signal};
use crate::sys::{cvt, cvt_size, is};

/// Highest signal number.
const LAST: libc::c_int = 64;

/// A choice of signals, readable as they arrive. Does not block.
///
/// Signals of one kind that arrive before they are read are one: `SIGCHLD` may stand for many
/// children.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    /// What the last read brought and was not asked for yet, the first last.
    read: Vec<(Signal, Option<Pid>)>,
    /// The last read brought less than it could have: there was no more.
    drained: bool,
}

/// Signals taken in one read.
const AT_ONCE: usize = 4;

impl Signals {
    /// Blocks these signals in the calling thread and makes them readable instead. Call it before
    /// other threads start, which inherit the mask: a signal goes to any thread that has it
    /// unblocked. Children start with nothing blocked, see [`crate::sys::spawn`].
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn install(which: &[Signal]) -> io::Result<Self> {
        let set = set_of(which);
        mask(libc::SIG_BLOCK, &set)?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` is a valid set for the whole call.
        let fd = cvt(unsafe { libc::signalfd(-1, &raw const set, flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, read: Vec::with_capacity(AT_ONCE), drained: false })
    }

    /// The next signal that has arrived and who sent it (`None`: the kernel, or someone outside
    /// our namespace), or `None` when there was none after the last one.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for this descriptor.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<(Signal, Option<Pid>)>> {
        if self.read.is_empty() && !mem::take(&mut self.drained) {
            self.fill()?;
        }
        Ok(self.read.pop())
    }

    fn fill(&mut self) -> io::Result<()> {
        // SAFETY: `signalfd_siginfo` is plain numbers, for which all zeroes is a value.
        let mut infos: [libc::signalfd_siginfo; AT_ONCE] = unsafe { mem::zeroed() };
        let bytes = loop {
            // SAFETY: `infos` is valid for writes of its size.
            let result = unsafe {
                libc::read(self.fd.as_raw_fd(), (&raw mut infos).cast(), size_of_val(&infos))
            };
            match cvt_size(result) {
                Ok(bytes) => break bytes,
                Err(error) if is(&error, libc::EINTR) => {}
                Err(error) if is(&error, libc::EAGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        let count = bytes / size_of::<libc::signalfd_siginfo>();
        self.drained = count < AT_ONCE;
        let number = |raw: u32| i32::try_from(raw).unwrap_or(0);
        let signals = infos.iter().take(count).rev().filter_map(|info| {
            Some((Signal::new(number(info.ssi_signo))?, Pid::new(number(info.ssi_pid))))
        });
        self.read.extend(signals);
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// From now on this process ignores `signal`. Children do not inherit that.
pub fn ignore(signal: Signal) {
    dispose(signal.raw(), libc::SIG_IGN);
}

/// Ignores every signal that would end or stop this process and neither says that it is at fault
/// nor is meant to. Children do not inherit that.
pub fn ignore_harmless() {
    let meant = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGSYS,
    ];
    for number in (1..=LAST).filter(|number| !meant.contains(number)) {
        dispose(number, libc::SIG_IGN);
    }
}

/// Undoes what the program that started us may have left behind: ignored signals have their
/// default again, and none is blocked. `SIGPIPE` stays ignored, as Rust's own start leaves it.
pub fn reset_inherited() {
    for number in 1..=LAST {
        if number != libc::SIGPIPE && is_ignored(number) {
            dispose(number, libc::SIG_DFL);
        }
    }
    // Cannot fail: the arguments are valid.
    let _ = mask(libc::SIG_SETMASK, &set_of(&[]));
}

/// Gives `signal` its default disposition and unblocks it in this thread.
pub fn restore(signal: Signal) {
    dispose(signal.raw(), libc::SIG_DFL);
    // Cannot fail: the arguments are valid.
    let _ = mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
}

/// From now on these signals end this process at once, with exit code 128 and their number; those
/// that whoever started us told us to ignore stay ignored. Nothing is flushed and nothing dropped.
///
/// Programs started from here have the default again: `execve(2)` resets handlers.
pub fn exit_on(which: &[Signal]) {
    extern "C" fn leave(number: libc::c_int) {
        // SAFETY: `_exit` is async-signal-safe and touches no memory of ours.
        unsafe { libc::_exit(128 + number) }
    }
    for number in which.iter().map(|signal| signal.raw()) {
        if !is_ignored(number) {
            dispose(number, leave as extern "C" fn(libc::c_int) as libc::sighandler_t);
        }
    }
}

fn is_ignored(number: libc::c_int) -> bool {
    disposition(number) == Some(libc::SIG_IGN)
}

/// Asked of the kernel: the C library does not tell about the numbers that it keeps for itself, which
/// a child would then be given a default that they have.
fn disposition(number: libc::c_int) -> Option<libc::sighandler_t> {
    // The kernel's `struct sigaction`, which begins with the handler.
    let mut now: [libc::sighandler_t; 8] = [0; 8];
    let none = ptr::null::<libc::sighandler_t>();
    let (number, size) = (libc::c_long::from(number), size_of::<u64>());
    // SAFETY: asks only; `now` is valid for writes, and longer than what the kernel writes.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, none, now.as_mut_ptr(), size) };
    (result == 0).then_some(now[0])
}

/// How often dispositions have been changed here. Nobody else changes them: the other way to do so
/// is Rust's own start, which is over before `main`.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// The signals that a child would not find at their default, as bits, 1 << (number - 1); kept as
/// long as nothing changes, because asking costs a system call for each.
#[derive(Debug)]
pub(super) struct NotDefault {
    set: u64,
    seen: u32,
}

impl NotDefault {
    pub(super) fn new() -> Self {
        let seen = CHANGES.load(Ordering::Acquire);
        let changed = (1..=LAST).filter(|&number| disposition(number) != Some(libc::SIG_DFL));
        Self { set: changed.fold(0, |set, number| set | 1 << (number - 1)), seen }
    }

    /// The set as it is now.
    pub(super) fn get(&mut self) -> u64 {
        if self.seen != CHANGES.load(Ordering::Acquire) {
            *self = Self::new();
        }
        self.set
    }
}

/// Numbers that the kernel or the C library keeps for itself are passed over.
fn dispose(number: libc::c_int, disposition: libc::sighandler_t) {
    // SAFETY: the dispositions used here run no code of ours, but for the handler of `exit_on`,
    // which may run at any time.
    unsafe { libc::signal(number, disposition) };
    CHANGES.fetch_add(1, Ordering::AcqRel);
}

fn set_of(which: &[Signal]) -> libc::sigset_t {
    // SAFETY: a set is plain bits, for which all zeroes is a value; the calls only change it, and
    // refuse numbers they do not know.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in which {
            libc::sigaddset(&raw mut set, signal.raw());
        }
        set
    }
}

fn mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is valid for the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To this thread, which is the one that has it blocked.
    fn raise(signal: Signal) {
        // SAFETY: sends a signal to this thread, which blocks it.
        assert_eq!(unsafe { libc::raise(signal.raw()) }, 0);
    }

    #[test]
    fn signals_are_read_once_each_with_their_sender() {
        let mut signals = Signals::install(&[Signal::USR1, Signal::USR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        raise(Signal::USR2);
        raise(Signal::USR2);
        raise(Signal::USR1);
        let own = Some(crate::sys::process::own_pid());
        let mut seen = [signals.next().unwrap(), signals.next().unwrap()];
        seen.sort();
        assert_eq!(seen, [Some((Signal::USR1, own)), Some((Signal::USR2, own))]);
        assert_eq!(signals.next().unwrap(), None);
    }

    #[test]
    fn what_is_not_at_its_default_is_known_after_each_change() {
        let vtalrm = Signal::new(26).unwrap();
        let mut known = NotDefault::new();
        let bit = 1 << (vtalrm.raw() - 1);
        assert_eq!(known.get() & bit, 0);
        ignore(vtalrm);
        assert_ne!(known.get() & bit, 0);
        restore(vtalrm);
        assert_eq!(known.get() & bit, 0);
        // Rust's own.
        assert_ne!(known.get() & 1 << (libc::SIGPIPE - 1), 0);
    }

    #[test]
    fn what_was_inherited_is_undone() {
        let winch = Signal::new(28).unwrap();
        ignore(winch);
        let mut signals = Signals::install(&[Signal::CONT]).unwrap();
        reset_inherited();
        assert!(!is_ignored(winch.raw()));
        assert!(is_ignored(libc::SIGPIPE));
        // Not blocked any more: it is delivered, which means nothing, and cannot be read.
        raise(Signal::CONT);
        assert_eq!(signals.next().unwrap(), None);
    }
}
