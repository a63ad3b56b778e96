//! What the battery needs of the C library: clock, signals, FIFO, poll. The only unsafe code of it.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC, the clock the children report.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds that this thread was on a processor.
pub fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a whole timespec.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// Sends `signal` to `pid`; a process that is gone is none of our business.
pub fn kill(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a pid");
    assert!(pid > 0, "a pid is positive");
    // SAFETY: kill touches no memory; a positive pid is one process.
    unsafe { libc::kill(pid, signal) };
}

pub fn make_fifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is ended by a NUL byte.
    if unsafe { libc::mkfifo(path.as_ptr(), 0o600) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until `file` has bytes or lost its last writer; true: the latter.
pub fn wait_for_hangup(file: &File, timeout: Duration) -> bool {
    let mut look = libc::pollfd { fd: file.as_raw_fd(), events: 0, revents: 0 };
    let timeout = i32::try_from(timeout.as_millis()).expect("a short time");
    // SAFETY: one entry, as the count says.
    unsafe { libc::poll(&raw mut look, 1, timeout) };
    look.revents & libc::POLLHUP != 0
}

/// Descriptors that are waited for together.
pub struct Watch {
    polled: Vec<libc::pollfd>,
}

impl Watch {
    pub fn new(fds: impl Iterator<Item = i32>) -> Self {
        let polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        Self { polled: polled.collect() }
    }

    /// Waits until some can be read, a second at most; gives their places.
    pub fn ready(&mut self) -> Vec<usize> {
        let count = libc::nfds_t::try_from(self.polled.len()).unwrap();
        // SAFETY: the pointer is to `count` entries, for the whole call.
        unsafe { libc::poll(self.polled.as_mut_ptr(), count, 1000) };
        let ready = self.polled.iter().enumerate().filter(|(_, entry)| entry.revents != 0);
        ready.map(|(at, _)| at).collect()
    }
}

/// As many descriptors as may be had.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a whole limit.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}
