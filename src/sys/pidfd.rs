//! Processes that are not our children, and all signals that must not meet a stranger.
//!
//! A pidfd names one process for ever: its number may be used again, the descriptor then answers
//! "gone". It is readable when the process has ended (Linux 5.3); on a kernel with pidfs (6.9) its
//! inode number is unique for the boot; and since 6.15 it tells the exit status to whoever held it
//! open while the process was reaped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::base::{ExitStatus, Pid, Signal};
use crate::sys::{cvt, cvt_long, fds, is, wait};

/// `PID_FS_MAGIC` of `linux/magic.h`.
const PIDFS: u64 = 0x5049_4446;
/// `PIDFD_GET_INFO` of `linux/pidfd.h`, for the first published form of the structure.
const GET_INFO: u32 = 0xC040_FF0B;
/// `PIDFD_INFO_EXIT`: the exit status is wanted, or given.
const INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info`, its first published form of 64 bytes.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// pid, thread group, parent; user and group four times each.
    ids: [u32; 11],
    /// As `waitpid(2)` gives it.
    exit_code: i32,
}

/// A process, whatever becomes of its number.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How far a process has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// It lives.
    Running,
    /// It has ended; its parent has not reaped it yet.
    Ended,
    /// It has ended and was reaped (or its end cannot be told from that on this kernel).
    Gone,
}

impl PidFd {
    /// The process that has this number now; `None` if there is none. The caller compares the
    /// identity afterwards.
    ///
    /// # Errors
    ///
    /// `ENOSYS` on kernels before 5.3; `EMFILE`, `ENFILE`.
    pub fn open(pid: Pid) -> io::Result<Option<Self>> {
        let flags: libc::c_long = 0;
        let pid = libc::c_long::from(pid.raw());
        // SAFETY: takes numbers; touches no memory.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
        match cvt_long(result) {
            Ok(raw) => {
                let raw = RawFd::try_from(raw).map_err(|_| io::ErrorKind::InvalidData)?;
                // SAFETY: the kernel has just made this descriptor for us.
                Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(raw) })))
            }
            Err(error) if is(&error, libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the process has as descriptor `number`; `None` if it has none. Linux 5.6.
    ///
    /// # Errors
    ///
    /// `EPERM`: we may not look into it (`ptrace(2)`); `ENOSYS` on kernels before 5.6.
    pub fn descriptor(&self, number: RawFd) -> io::Result<Option<OwnedFd>> {
        let none: libc::c_long = 0;
        let (pidfd, number) = (libc::c_long::from(self.0.as_raw_fd()), libc::c_long::from(number));
        // SAFETY: takes numbers; touches no memory.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, none) };
        match cvt_long(result) {
            Ok(raw) => {
                let raw = RawFd::try_from(raw).map_err(|_| io::ErrorKind::InvalidData)?;
                // SAFETY: the kernel has just made this descriptor for us, close-on-exec.
                Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
            }
            Err(error) if is(&error, libc::EBADF) || is(&error, libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number that names this process and no other in this boot; `None` on kernels where all
    /// pidfds share one.
    ///
    /// # Errors
    ///
    /// None that can be met.
    pub fn inode(&self) -> io::Result<Option<u64>> {
        if fds::file_system(self.0.as_fd())? != PIDFS {
            return Ok(None);
        }
        fds::inode_of(self.0.as_fd()).map(Some)
    }

    /// Sends a signal to this process and to no other.
    ///
    /// # Errors
    ///
    /// `ESRCH`: it has ended and was reaped. `EPERM`: it belongs to another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let fd = libc::c_long::from(self.0.as_raw_fd());
        let number = libc::c_long::from(signal.raw());
        let info = std::ptr::null::<libc::siginfo_t>();
        let flags: libc::c_long = 0;
        // SAFETY: takes numbers; a null pointer asks for the usual information about the sender.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, flags) };
        cvt_long(result).map(drop)
    }

    /// How far it has come.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn life(&self) -> io::Result<Life> {
        let fd = self.0.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: `poll` is one valid entry for the whole call.
            match cvt(unsafe { libc::poll(&raw mut poll, 1, 0) }) {
                Ok(0) => return Ok(Life::Running),
                Ok(_) if poll.revents & libc::POLLHUP != 0 => return Ok(Life::Gone),
                Ok(_) => return Ok(Life::Ended),
                Err(error) if is(&error, libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How it ended. `None` while it lives, while its parent has not reaped it, and for ever on
    /// kernels that do not tell (then [`crate::sys::proc::Stat::exit_status`] may, before it is
    /// reaped).
    ///
    /// # Errors
    ///
    /// None that can be met: whatever the kernel refuses is `None`.
    pub fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // The C libraries disagree about the sign of a request's number.
        #[allow(clippy::cast_possible_wrap, clippy::cast_lossless)]
        let request = GET_INFO as libc::Ioctl;
        // SAFETY: the request's number carries the size of `Info`, 64 bytes, for which `info` is
        // valid.
        match cvt(unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut info) }) {
            Ok(_) if info.mask & INFO_EXIT != 0 => Ok(Some(wait::from_wait_word(info.exit_code))),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

const _: () = assert!(size_of::<Info>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Shell, await_end, plain};
    use crate::sys::{proc, process};

    #[test]
    fn a_process_has_one_inode_for_life_and_no_other_has_it() {
        let own = PidFd::open(process::own_pid()).unwrap().unwrap();
        let Some(inode) = own.inode().unwrap() else { return };
        assert_eq!(PidFd::open(process::own_pid()).unwrap().unwrap().inode().unwrap(), Some(inode));
        let parent = PidFd::open(process::parent().unwrap()).unwrap().unwrap();
        assert_ne!(parent.inode().unwrap(), Some(inode));
        // Not on pidfs: no number at all.
        assert_eq!(PidFd(fds::null_device().unwrap()).inode().unwrap(), None);
    }

    #[test]
    fn nobody_is_nobody() {
        assert!(PidFd::open(Pid::new(i32::MAX).unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_signal_reaches_the_process_and_after_its_end_nobody() {
        let shell = Shell::start("read x", plain());
        let pidfd = PidFd::open(shell.pid).unwrap().unwrap();
        assert_eq!(pidfd.life().unwrap(), Life::Running);
        assert_eq!(pidfd.exit_status().unwrap(), None);
        pidfd.signal(Signal::KILL).unwrap();
        await_end(&pidfd);
        assert_eq!(pidfd.life().unwrap(), Life::Ended);
        assert_eq!(pidfd.exit_status().unwrap(), None);
        let killed = ExitStatus::Signal { signal: Signal::KILL, core: false };
        assert_eq!(proc::stat(shell.pid).unwrap().unwrap().exit_status(), Some(killed));
        assert_eq!(wait::wait_for(shell.pid).unwrap(), killed);
        assert!(is(&pidfd.signal(Signal::KILL).unwrap_err(), libc::ESRCH));
        if tells_exit_status() {
            assert_eq!(pidfd.life().unwrap(), Life::Gone);
            assert_eq!(pidfd.exit_status().unwrap(), Some(killed));
        }
    }

    #[test]
    fn the_end_of_a_process_that_is_no_child_is_told() {
        if !tells_exit_status() {
            return;
        }
        // The shell waits for its child, so it is reaped, but not by us.
        let script = "sh -c 'echo $$; kill -STOP $$; exit 42' & wait; read x";
        let mut shell = Shell::start(script, plain());
        let grandchild = Pid::new(shell.line().parse().unwrap()).unwrap();
        let pidfd = PidFd::open(grandchild).unwrap().unwrap();
        while proc::state_letter(grandchild) != Some('T') {
            std::thread::yield_now();
        }
        pidfd.signal(Signal::CONT).unwrap();
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: `poll` is one valid entry for the whole call. POLLHUP is always reported.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
        assert_eq!(pidfd.life().unwrap(), Life::Gone);
        assert_eq!(pidfd.exit_status().unwrap(), Some(ExitStatus::Code(42)));
        shell.finish();
    }

    /// Linux 6.15.
    fn tells_exit_status() -> bool {
        let kernel = process::host().unwrap().kernel;
        let mut numbers = kernel.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
    }
}
