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

/// As [`send`], and with the first byte the descriptor `handle`.
///
/// # Errors
///
/// As [`send`]; `ETOOMANYREFS`: more descriptors of ours are on their way than we may have open.
pub fn send_with(
    channel: BorrowedFd<'_>,
    bytes: &[u8],
    handle: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: `msghdr` is pointers and numbers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: both compute a number.
    let (space, length) = unsafe { (libc::CMSG_SPACE(FD_SIZE), libc::CMSG_LEN(FD_SIZE)) };
    // The C libraries disagree about the width.
    #[allow(clippy::unnecessary_cast)]
    {
        message.msg_controllen = space as _;
    }
    // SAFETY: `message` has room for one control message in `control`, which is aligned like its
    // head and larger than `space`: the head and the descriptor behind it are inside.
    unsafe {
        let head = &mut *libc::CMSG_FIRSTHDR(&raw const message);
        head.cmsg_level = libc::SOL_SOCKET;
        head.cmsg_type = libc::SCM_RIGHTS;
        #[allow(clippy::unnecessary_cast)]
        {
            head.cmsg_len = length as _;
        }
        libc::CMSG_DATA(head).cast::<libc::c_int>().write_unaligned(handle.as_raw_fd());
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: `message` points to `bytes` and `control`, with their lengths; both live for the
        // whole call, and the kernel only reads them.
        let sent =
            cvt_size(unsafe { libc::sendmsg(channel.as_raw_fd(), &raw const message, flags) });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Room for one descriptor and the head of its message, aligned like one.
#[repr(C)]
union Control {
    head: libc::cmsghdr,
    bytes: [u8; 64],
}

#[allow(clippy::cast_possible_truncation)]
const FD_SIZE: libc::c_uint = size_of::<libc::c_int>() as libc::c_uint;

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
