//! Waiting for a handful of descriptors, for programs that have no loop of their own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys::{cvt, is};

/// One descriptor that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    pub fd: BorrowedFd<'a>,
    /// Until it can be written, too; its end and what can be read are always told.
    pub write: bool,
}

/// Waits until one of the descriptors is ready or `timeout` has passed (`None`: for ever). Which
/// are, is left to be found by trying. A signal that is handled does not end the wait.
///
/// # Errors
///
/// `ENOMEM`.
#[inline(always)]
pub fn wait<const N: usize>(
    on: [Option<Wait<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut entries = on.map(|wait| match wait {
        None => libc::pollfd { fd: -1, events: 0, revents: 0 },
        Some(Wait { fd, write }) => {
            let events = if write { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
            libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 }
        }
    });
    // Rounded up: whoever waits for a moment is not woken before it.
    let milliseconds = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    let count = libc::nfds_t::try_from(N).unwrap_or(0);
    loop {
        // SAFETY: `entries` is valid for reads and writes of `count` entries.
        match cvt(unsafe { libc::poll(entries.as_mut_ptr(), count, milliseconds) }) {
            Ok(_) => return Ok(()),
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::packet;

    #[test]
    fn the_wait_ends_with_what_is_waited_for() {
        let (ours, theirs) = packet::pair().unwrap();
        let on = |write| [Some(Wait { fd: ours.as_fd(), write }), None];
        wait(on(false), Some(Duration::from_millis(1))).unwrap();
        wait(on(true), None).unwrap();
        packet::send(&theirs, &[0; 4], None).unwrap();
        wait(on(false), None).unwrap();
    }
}
