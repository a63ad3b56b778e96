//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::base::Pid;
use crate::sys::{cvt, cvt_size};

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

/// Asks the kernel to say with each datagram who sent it.
///
/// # Errors
///
/// `ENOTSOCK` for what is no socket.
pub fn pass_credentials(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: `on` is valid for reads of `length` bytes.
    cvt(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            length,
        )
    })?;
    Ok(())
}

/// Takes one datagram and who sent it, from a socket that was given to [`pass_credentials`]. Never
/// waits. Descriptors that come along are closed by the kernel: there is no room for them.
///
/// # Errors
///
/// `WouldBlock` when there is none.
pub fn receive_with_sender(
    socket: &impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<Pid>)> {
    // Room for one credentials message and nothing else; u64 aligns it as `cmsghdr` needs.
    let mut control = [0_u64; 4];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid `msghdr`: null pointers with lengths of zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a length from a length.
    let room = unsafe { libc::CMSG_SPACE(u32::try_from(size_of::<libc::ucred>()).unwrap_or(0)) };
    message.msg_controllen = (room as usize).min(size_of_val(&control)) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points at `part`, `buffer` and `control`, all valid for writes of the
    // lengths it names for the whole call.
    let length =
        cvt_size(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) })?;
    // SAFETY: the kernel has filled `message`; the header it gives, if any, lies in `control`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let sender = header
        .filter(|header| {
            header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_CREDENTIALS
        })
        .and_then(|header| {
            // SAFETY: a message of this type carries one `ucred`; it may lie unaligned.
            let found = unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() };
            Pid::new(found.pid)
        });
    Ok((length, sender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::users;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _two) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&one).unwrap();
        assert_eq!(peer.pid.map(Pid::raw), i32::try_from(std::process::id()).ok());
        assert_eq!((peer.uid, peer.gid), (users::effective_uid(), users::effective_gid()));
    }

    #[test]
    fn what_is_no_connected_unix_socket_has_no_peer() {
        assert!(peer_credentials(&TcpListener::bind("127.0.0.1:0").unwrap()).is_err());
        assert!(peer_credentials(&std::fs::File::open("/dev/null").unwrap()).is_err());
        let path = std::env::temp_dir().join(format!("pmd-peer-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // A listener's own credentials are those of whoever called `listen`.
        assert_eq!(peer_credentials(&listener).unwrap().uid, users::effective_uid());
    }
}
