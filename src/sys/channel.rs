//! The channel between the daemon and one child: a pair of connected stream sockets.
//!
//! Neither end is made non-blocking, since the child's end is the child's to decide about: each of
//! our calls says that it does not wait. A descriptor that a child sends along is closed by the
//! kernel, there being no room for it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys::cvt_size;

/// Our end and a child's.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours.into(), theirs.into()))
}

/// Reads what is there; 0: nothing will come any more. Never waits.
///
/// # Errors
///
/// `EAGAIN` when there is nothing; `ECONNRESET` when the other end was closed with something
/// unread in it.
pub fn receive(channel: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `buffer` is valid for writes of its length for the whole call.
        let read = cvt_size(unsafe {
            libc::recv(
                channel.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends what the other end takes now. Never waits, raises no signal.
///
/// # Errors
///
/// `EAGAIN` when it takes nothing now; `EPIPE`, `ECONNRESET` when it is closed.
pub fn send(channel: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: `bytes` is valid for reads of its length for the whole call.
        let sent = cvt_size(unsafe {
            libc::send(channel.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn nothing_waits_and_nothing_kills() {
        let (ours, theirs) = pair().unwrap();
        let mut buffer = [0; 16];
        let empty = receive(ours.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(theirs.as_fd(), b"hello").unwrap(), 5);
        assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap(), 5);
        let full = loop {
            if let Err(error) = send(ours.as_fd(), &[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(send(ours.as_fd(), b"x").unwrap_err().raw_os_error(), Some(libc::EPIPE));
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap(), 0);
    }
}
