//! Whose the other end of a local TCP connection is.
//!
//! The kernel is asked for exactly that socket (`sock_diag(7)`, a look-up in a hash table); where
//! it does not answer such questions, `/proc/net/tcp` is read. Only an established socket that
//! somebody holds counts: one whose owner has ended is listed as root's.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::sys::{cvt, cvt_size};

/// `SOCK_DIAG_BY_FAMILY` and `TCP_ESTABLISHED` of the kernel's headers.
const BY_FAMILY: u16 = 20;
const ESTABLISHED: u8 = 1;
/// Bytes of a request: `nlmsghdr` and `inet_diag_req_v2`.
const REQUEST: usize = 16 + 56;
/// Bytes of an answer up to what we look at: `nlmsghdr` and `inet_diag_msg`.
const ANSWER: usize = 16 + 72;
/// Bytes of `/proc/net/tcp` that are read at most: thousands of connections.
const MAX_TABLE: u64 = 1024 * 1024;

/// The user who holds the socket at `theirs` that is connected to ours at `ours`. `None`: there is
/// no such socket on this host (any more), or nobody can tell.
#[must_use]
pub fn of_peer(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    match ask(theirs, ours) {
        Ok(owner) => owner,
        Err(_) => look_up(theirs, ours),
    }
}

fn ask(theirs: SocketAddr, ours: SocketAddr) -> io::Result<Option<u32>> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers; the descriptor is new, and ours.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG);
        OwnedFd::from_raw_fd(cvt(raw)?)
    };
    let request = request(theirs, ours);
    // SAFETY: `request` is valid for reads of its length.
    cvt_size(unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) })?;
    let mut answer = [0_u8; 1024];
    // The kernel answers before `send` returns.
    // SAFETY: `answer` is valid for writes of its length.
    let length = cvt_size(unsafe {
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    })?;
    let answer = answer.get(..length).unwrap_or_default();
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(BY_FAMILY) if length >= ANSWER => {
            // `idiag_state`, `idiag_uid`, `idiag_inode`.
            let (state, uid, inode) = (answer.get(17).copied(), word(16 + 64), word(16 + 68));
            Ok((state == Some(ESTABLISHED) && inode != 0).then_some(uid))
        }
        // `NLMSG_ERROR` carries the negative number: there is no such socket, or no such service.
        Some(2) if word(16) == (-libc::ENOENT).cast_unsigned() => Ok(None),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`: the one socket with these addresses.
fn request(theirs: SocketAddr, ours: SocketAddr) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        if let Some(room) = bytes.get_mut(at..at + part.len()) {
            room.copy_from_slice(part);
        }
        at += part.len();
    };
    let family = if theirs.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    put(&u32::try_from(REQUEST).unwrap_or(0).to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&1_u16.to_ne_bytes()); // NLM_F_REQUEST
    put(&[0; 8]); // sequence number, sender
    put(&[u8::try_from(family).unwrap_or(0), 6, 0, 0]); // family, IPPROTO_TCP
    put(&u32::MAX.to_ne_bytes()); // any state
    put(&theirs.port().to_be_bytes());
    put(&ours.port().to_be_bytes());
    for address in [theirs.ip(), ours.ip()] {
        match address {
            IpAddr::V4(address) => {
                put(&address.octets());
                put(&[0; 12]);
            }
            IpAddr::V6(address) => put(&address.octets()),
        }
    }
    put(&0_u32.to_ne_bytes()); // any interface
    put(&[0xff; 8]); // any cookie
    bytes
}

fn look_up(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| {
        let mut table = String::new();
        File::open(path).ok()?.take(MAX_TABLE).read_to_string(&mut table).ok()?;
        owner_in(&table, theirs, ours)
    })
}

/// `  0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000  0 INODE ...`
fn owner_in(table: &str, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let [_, local, remote, "01", _, _, _, uid, _, inode] = fields.as_slice() else {
            return None;
        };
        let is_it = address(local)? == theirs && address(remote)? == ours && *inode != "0";
        uid.parse().ok().filter(|_| is_it)
    })
}

/// `0100007F:1F90`: words of the address as the machine has them in memory, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = [0_u8; 16];
    let length = words.len() / 2;
    if !matches!(length, 4 | 16) {
        return None;
    }
    for (at, chunk) in octets.chunks_exact_mut(4).take(length / 4).enumerate() {
        let word = u32::from_str_radix(words.get(at * 8..at * 8 + 8)?, 16).ok()?;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match length {
        4 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
        // A socket of both families shows an old address in the new form.
        _ => IpAddr::from(octets).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use std::net::{TcpListener, TcpStream};

    type Way = fn(SocketAddr, SocketAddr) -> Option<u32>;

    #[test]
    fn the_other_end_of_our_own_connection_is_ours_by_either_way() {
        let ways: [Way; 2] = [|theirs, ours| ask(theirs, ours).unwrap_or(Some(u32::MAX)), look_up];
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, theirs) = listener.accept().unwrap();
            let ours = server.local_addr().unwrap();
            for way in ways {
                // The kernel's list may leave out a row while others come and go.
                let found = (0..100).find_map(|_| way(theirs, ours));
                assert_eq!(found, Some(process::effective_uid()));
                // Another port of theirs is nobody's, whoever has ours.
                let other = SocketAddr::new(theirs.ip(), theirs.port() ^ 1);
                assert_eq!(way(other, ours), None);
            }
            // Closed: it lingers without an owner, and the kernel lists it as root's.
            drop(client);
            for way in ways {
                assert_eq!(way(theirs, ours), None);
            }
        }
    }

    #[test]
    fn only_a_whole_line_about_that_very_socket_counts() {
        let theirs: SocketAddr = "127.0.0.1:39321".parse().unwrap();
        let ours: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let line = |local, remote, state, uid, inode| {
            format!(" 1: {local} {remote} {state} 0:0 00:0 0 {uid} 0 {inode} 1 x\n")
        };
        let (us, them) = ("0100007F:1F90", "0100007F:9999");
        let table = [
            "  sl  local_address\n".to_owned(),
            line(us, them, "01", 7, 1),
            line(them, us, "05", 0, 0),
            line(them, us, "01", 0, 0),
            "broken\n 2: x:y z 01\n".to_owned(),
            line("0000000000000000FFFF00000100007F:9999", us, "01", 1000, 5),
        ]
        .concat();
        assert_eq!(owner_in(&table, theirs, ours), Some(1000));
        assert_eq!(owner_in(&table, ours, theirs), Some(7));
        for end in 0..table.len() {
            let _ = owner_in(&table[..end], theirs, ours);
        }
    }
}
