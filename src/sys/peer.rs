//! Who is at the other end of a Unix socket: of a connection, or of each datagram.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::base::Pid;
use crate::sys::{cvt, cvt_size, is};

/// Who connected, as the kernel saw it at `connect(2)` or `socketpair(2)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerCredentials {
    /// For display only: the process may have ended since. `None` where it has no number in our
    /// namespace.
    pub pid: Option<Pid>,
    pub uid: u32,
    pub gid: u32,
}

/// The peer of a connected Unix socket.
///
/// # Errors
///
/// `ENOTSOCK`, `ENOPROTOOPT` or `EOPNOTSUPP` for any other descriptor.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<PeerCredentials> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: `found` is valid for writes of `length` bytes, `length` for reads and writes.
    cvt(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    })?;
    // A socket that is not connected, or of another family, answers "nobody".
    if found.uid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
    }
    Ok(PeerCredentials { pid: Pid::new(found.pid), uid: found.uid, gid: found.gid })
}

/// Makes the kernel say with each datagram who sent it.
///
/// # Errors
///
/// `ENOTSOCK` and such for what is no Unix socket.
pub fn pass_credentials(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: `on` is valid for reads of `length` bytes for the whole call.
    cvt(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            length,
        )
    })
    .map(drop)
}

/// Room for one `ucred` and the head of its message, aligned like one. What does not fit, such as
/// descriptors somebody sends along, the kernel drops and closes.
#[repr(C)]
union Control {
    head: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Receives one datagram: how long it is (cut at the length of `buffer`) and who sent it. Never
/// waits. The sender is `None` unless [`pass_credentials`] was called before it was sent.
///
/// # Errors
///
/// `EAGAIN` when there is none.
pub fn receive_with_sender(
    socket: &impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<Pid>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: `msghdr` is pointers and numbers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: computes a number.
    let space = unsafe { libc::CMSG_SPACE(UCRED_SIZE) };
    // The C libraries disagree about the width.
    #[allow(clippy::unnecessary_cast)]
    {
        message.msg_controllen = space as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: `message` points to one buffer and to room for control messages, with their
        // lengths; both live for the whole call.
        let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
        match cvt_size(result) {
            Err(error) if is(&error, libc::EINTR) => {}
            other => break other?,
        }
    };
    // SAFETY: `message` is as the kernel left it: the first control message, if any, is whole and
    // inside `control`.
    let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let sender = head
        .filter(|head| {
            head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_CREDENTIALS
        })
        .and_then(|head| {
            // SAFETY: behind the head of such a message stands a `ucred`, perhaps not aligned.
            let who = unsafe { libc::CMSG_DATA(head).cast::<libc::ucred>().read_unaligned() };
            Pid::new(who.pid)
        });
    Ok((length, sender))
}

#[allow(clippy::cast_possible_truncation)]
const UCRED_SIZE: libc::c_uint = size_of::<libc::ucred>() as libc::c_uint;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use crate::sys::testing::unique_path;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _two) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&one).unwrap();
        assert_eq!(peer.pid.map(Pid::raw), i32::try_from(std::process::id()).ok());
        assert_eq!((peer.uid, peer.gid), (process::effective_uid(), process::effective_gid()));
    }

    #[test]
    fn what_is_no_connected_unix_socket_has_no_peer() {
        assert!(peer_credentials(&TcpListener::bind("127.0.0.1:0").unwrap()).is_err());
        assert!(peer_credentials(&std::fs::File::open("/dev/null").unwrap()).is_err());
        let path = unique_path("peer");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // A listener's own credentials are those of whoever called `listen`.
        assert_eq!(peer_credentials(&listener).unwrap().uid, process::effective_uid());
    }
    #[test]
    fn a_datagram_comes_with_its_sender() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        pass_credentials(&ours).unwrap();
        let mut buffer = [0; 4];
        let error = receive_with_sender(&ours, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        theirs.send(b"ready").unwrap();
        let own = process::own_pid();
        assert_eq!(receive_with_sender(&ours, &mut buffer).unwrap(), (4, Some(own)));
        assert_eq!(&buffer, b"read");
        // Not asked for on the other end.
        ours.send(b"x").unwrap();
        assert_eq!(receive_with_sender(&theirs, &mut buffer).unwrap(), (1, None));
    }
}
