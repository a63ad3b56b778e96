//! Who listens on a port of this host, from `/proc`; whether a port can be bound.

use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use crate::base::Pid;
use crate::sys::{cvt, is, proc};

/// State of a listening socket in `/proc/net/tcp`: `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port, and its program's name, if that can be seen: sockets of
/// other users' processes cannot, unless we are root.
#[must_use]
pub fn listener_on(port: u16) -> Option<(Pid, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let holder = proc::all().ok()?.find(|&pid| has_socket(pid, inode))?;
    Some((holder, proc::name(holder)?))
}

/// Whether a server could listen on this TCP port, at every address. Connections that wait for
/// their end do not count, nor does a port that we are not permitted to have: the server may be.
#[must_use]
pub fn can_bind(port: u16) -> bool {
    match bind(port, libc::AF_INET6) {
        Err(error) if is(&error, libc::EADDRINUSE) => false,
        Ok(()) => true,
        // No IPv6 here.
        Err(_) => !bind(port, libc::AF_INET).is_err_and(|error| is(&error, libc::EADDRINUSE)),
    }
}

fn bind(port: u16, family: libc::c_int) -> io::Result<()> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers; the descriptor is new, and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(cvt(libc::socket(family, kind, 0))?) };
    for (level, option, value) in [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1),
        // One socket for both families.
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0),
    ] {
        if family == libc::AF_INET && level == libc::IPPROTO_IPV6 {
            continue;
        }
        let value: libc::c_int = value;
        let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
        // SAFETY: `value` is valid for reads of `length` bytes for the whole call.
        cvt(unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
        })?;
    }
    // SAFETY: an address of zeros is the valid one that means "every address"; so is its family
    // before it is set.
    let (mut v6, mut v4): (libc::sockaddr_in6, libc::sockaddr_in) = unsafe { zeroed() };
    let (address, length) = if family == libc::AF_INET6 {
        v6.sin6_family = libc::sa_family_t::try_from(family).unwrap_or(0);
        v6.sin6_port = port.to_be();
        ((&raw const v6).cast::<libc::sockaddr>(), size_of_val(&v6))
    } else {
        v4.sin_family = libc::sa_family_t::try_from(family).unwrap_or(0);
        v4.sin_port = port.to_be();
        ((&raw const v4).cast::<libc::sockaddr>(), size_of_val(&v4))
    };
    let length = libc::socklen_t::try_from(length).unwrap_or(0);
    // SAFETY: `address` is valid for reads of `length` bytes for the whole call.
    cvt(unsafe { libc::bind(socket.as_raw_fd(), address, length) }).map(drop)
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 INODE ...`
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (_, number) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let found = u16::from_str_radix(number, 16).ok()? == port && state == LISTEN;
        fields.nth(5).filter(|_| found)?.parse().ok().filter(|&inode| inode != 0)
    })
}

fn has_socket(pid: Pid, inode: u64) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_our_own_is_found_by_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let (pid, name) = listener_on(port).unwrap();
            assert_eq!(pid, process::own_pid());
            assert!(!name.is_empty());
            drop(listener);
            assert_ne!(listener_on(port).map(|found| found.0), Some(process::own_pid()));
        }
    }

    #[test]
    fn a_port_can_be_bound_while_nobody_listens_on_it() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            assert!(!can_bind(address.port()), "{address}");
            // A connection that was closed by the server lingers, and is in nobody's way.
            let client = std::net::TcpStream::connect(address).unwrap();
            drop(listener.accept().unwrap());
            drop((listener, client));
            assert!(can_bind(address.port()), "{address}");
        }
    }

    #[test]
    fn only_listening_sockets_count_and_broken_lines_do_no_harm() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 11 1\n\
            broken\n   1: x:y\n\
            2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 22 1\n";
        assert_eq!(listening_inode(table, 8080), Some(22));
        assert_eq!(listening_inode(table, 8081), None);
        for end in 0..table.len() {
            let _ = listening_inode(&table[..end], 8080);
        }
    }
}
