//! Small messages of one size over a pair of sockets, each with at most one descriptor.
//!
//! `SOCK_SEQPACKET`: a message arrives whole or not at all, in order, and the other end's death is
//! seen when all it sent has been taken. Nothing here waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::{cvt, cvt_size, is};

/// What a message carries besides a descriptor; its meaning is the caller's.
pub type Words = [u64; 4];

/// Room for the head and one descriptor, aligned like a head.
#[repr(C)]
union Control {
    head: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Two connected sockets.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `ends` is valid for writes of two numbers.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made both descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Sends one message; the descriptor stays open here.
///
/// # Errors
///
/// `EAGAIN`: the other end has much to read. `ETOOMANYREFS`: too many descriptors are on their way.
/// `EPIPE`, `ECONNRESET`: there is no other end any more.
pub fn send(socket: &impl AsFd, words: &Words, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut part =
        libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: size_of::<Words>() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: `msghdr` is plain numbers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        let size = size_of::<RawFd>();
        message.msg_control = (&raw mut control).cast();
        // SAFETY: `control` has room for a head and one number, is aligned like a head, and
        // `CMSG_FIRSTHDR` points into it. The C libraries differ in the types of lengths.
        #[allow(clippy::cast_possible_truncation)]
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: `message` and all that it points to are valid for the whole call, which only
        // reads them.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
        match cvt_size(sent) {
            Ok(_) => return Ok(()),
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes one message. `None`: the other end is gone and all it sent has been taken. A descriptor
/// that could not be had here (`EMFILE`) is missing.
///
/// # Errors
///
/// `EAGAIN`: there is none. `EINVAL`: not of the size of a message.
pub fn receive(socket: &impl AsFd) -> io::Result<Option<(Words, Option<OwnedFd>)>> {
    let mut words: Words = [0; 4];
    let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of::<Words>() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: `msghdr` is plain numbers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // Room for one descriptor: the kernel closes what does not fit.
    // SAFETY: computes a number.
    #[allow(clippy::cast_possible_truncation)]
    let room = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) };
    message.msg_controllen = room as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let taken = loop {
        // SAFETY: `message` and all that it points to are valid for writes for the whole call.
        let taken = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
        match cvt_size(taken) {
            Ok(taken) => break taken,
            Err(error) if is(&error, libc::EINTR) => {}
            // It left without reading all we sent, which is told once; what it sent is still there.
            Err(error) if is(&error, libc::ECONNRESET) => {}
            Err(error) => return Err(error),
        }
    };
    // SAFETY: the kernel has filled `control` as far as `msg_controllen` says; a head of this kind
    // is followed by descriptors, which it has just made for us, and there was room for one.
    let fd = unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        let is_fd = !head.is_null()
            && (*head).cmsg_level == libc::SOL_SOCKET
            && (*head).cmsg_type == libc::SCM_RIGHTS;
        is_fd.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(head).cast::<RawFd>().read_unaligned()))
    };
    match taken {
        0 => Ok(None),
        taken if taken == size_of::<Words>() => Ok(Some((words, fd))),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fds;

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let pipe = fds::open_pipe_rdwr().unwrap();
        send(&ours, &[1, 2, 3, 4], Some(pipe.as_fd())).unwrap();
        send(&ours, &[5, 6, 7, u64::MAX], None).unwrap();
        drop(ours);
        let (words, fd) = receive(&theirs).unwrap().unwrap();
        assert_eq!(words, [1, 2, 3, 4]);
        let inode = |fd: &OwnedFd| fds::inode_of(fd.as_fd()).unwrap();
        assert_eq!(inode(&fd.unwrap()), inode(&pipe));
        let (words, fd) = receive(&theirs).unwrap().unwrap();
        assert_eq!((words, fd.is_none()), ([5, 6, 7, u64::MAX], true));
        assert!(receive(&theirs).unwrap().is_none());
        assert!(is(&send(&theirs, &[0; 4], None).unwrap_err(), libc::EPIPE));
    }

    #[test]
    fn the_last_words_of_an_end_that_did_not_listen_arrive() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &[1; 4], None).unwrap();
        send(&theirs, &[2; 4], None).unwrap();
        drop(theirs);
        assert_eq!(receive(&ours).unwrap().unwrap().0, [2; 4]);
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn nothing_waits_and_what_has_another_size_is_refused() {
        let (ours, theirs) = pair().unwrap();
        assert!(is(&receive(&theirs).unwrap_err(), libc::EAGAIN));
        let mut sent = 0;
        let error = loop {
            match send(&ours, &[sent, 0, 0, 0], None) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(is(&error, libc::EAGAIN) && sent > 16, "{sent}");
        for expected in 0..sent {
            assert_eq!(receive(&theirs).unwrap().unwrap().0[0], expected);
        }
        // SAFETY: `ours` is open, and one byte is valid for reads.
        unsafe { libc::send(ours.as_raw_fd(), [0_u8; 1].as_ptr().cast(), 1, 0) };
        assert!(is(&receive(&theirs).unwrap_err(), libc::EINVAL));
    }
}
