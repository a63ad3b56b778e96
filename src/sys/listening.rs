//! Sockets that others are to serve: opened here, handed to programs.
//!
//! What is set is what Node sets (libuv): `SO_REUSEADDR` for TCP, one socket for both families
//! unless asked otherwise. Whether it waits is a property of the socket that all its holders share:
//! Node needs one that does not, most others one that does.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use libc::c_int;

use crate::sys::{cvt, is};

/// How a socket is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Of an IPv6 socket: not for IPv4 as well.
    pub v6_only: bool,
    /// Of a datagram socket: others may have the same address.
    pub reuse: bool,
    /// Connections that wait to be accepted.
    pub backlog: i32,
    pub nonblocking: bool,
}

/// Listens on a TCP port; `host` `None`: at every address, of both families where there are two.
///
/// # Errors
///
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for a port below 1024; `EMFILE`, `ENFILE`.
pub fn tcp(host: Option<IpAddr>, port: u16, how: How) -> io::Result<OwnedFd> {
    let socket = inet(libc::SOCK_STREAM, host, port, How { reuse: true, ..how })?;
    listen(&socket, how.backlog)?;
    Ok(socket)
}

/// A datagram socket with this address; as [`tcp`].
///
/// # Errors
///
/// As [`tcp`].
pub fn udp(host: Option<IpAddr>, port: u16, how: How) -> io::Result<OwnedFd> {
    inet(libc::SOCK_DGRAM, host, port, how)
}

/// Listens at a path. A socket there that nobody listens on any more makes way.
///
/// # Errors
///
/// `EADDRINUSE`: there is something else; `ENAMETOOLONG`; those of making a file.
pub fn unix(path: &Path, how: How) -> io::Result<OwnedFd> {
    let socket = open(libc::AF_UNIX, libc::SOCK_STREAM, how.nonblocking)?;
    let (address, length) = unix_address(path)?;
    match bind(&socket, &raw const address, length) {
        Err(error) if is(&error, libc::EADDRINUSE) && is_stale(path) => {
            std::fs::remove_file(path)?;
            bind(&socket, &raw const address, length)?;
        }
        other => other?,
    }
    listen(&socket, how.backlog)?;
    Ok(socket)
}

/// The next connection that waits; it does not wait itself. [`tcp`] and [`unix`] sockets that do
/// not wait.
///
/// # Errors
///
/// `EAGAIN` when there is none; `ECONNABORTED` and others of a client that has gone; `EMFILE`.
pub fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (none, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    loop {
        // SAFETY: no address is asked for, so no memory is touched.
        match cvt(unsafe { libc::accept4(socket.as_raw_fd(), none, length, flags) }) {
            Err(error) if is(&error, libc::EINTR) => {}
            // SAFETY: the kernel has just made this descriptor for us.
            other => return other.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }),
        }
    }
}

/// The address of a TCP or UDP socket.
///
/// # Errors
///
/// It is none; `EMFILE`.
pub fn address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    std::net::TcpListener::from(socket.try_clone_to_owned()?).local_addr()
}

/// The path of a Unix socket; `None`: it is none, or has none.
#[must_use]
pub fn path(socket: BorrowedFd<'_>) -> Option<std::path::PathBuf> {
    let listener = std::os::unix::net::UnixListener::from(socket.try_clone_to_owned().ok()?);
    Some(listener.local_addr().ok()?.as_pathname()?.to_owned())
}

/// Whether it carries datagrams.
#[must_use]
pub fn is_datagram(socket: BorrowedFd<'_>) -> bool {
    let mut kind: c_int = 0;
    let mut length = INT_SIZE;
    // SAFETY: `kind` is valid for writes of `length` bytes for the whole call.
    let asked = cvt(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut length,
        )
    });
    asked.is_ok() && kind == libc::SOCK_DGRAM
}

fn inet(kind: c_int, host: Option<IpAddr>, port: u16, how: How) -> io::Result<OwnedFd> {
    let Some(host) = host else {
        return match inet(kind, Some(Ipv6Addr::UNSPECIFIED.into()), port, how) {
            // A host without IPv6. Where the port is taken it is taken for IPv4, too.
            Err(error) if is(&error, libc::EAFNOSUPPORT) || is(&error, libc::EADDRNOTAVAIL) => {
                inet(kind, Some(Ipv4Addr::UNSPECIFIED.into()), port, how)
            }
            other => other,
        };
    };
    match host {
        IpAddr::V4(host) => {
            let socket = open(libc::AF_INET, kind, how.nonblocking)?;
            reuse(&socket, how)?;
            // SAFETY: `sockaddr_in` is plain numbers, for which all zeroes is a value.
            let mut address: libc::sockaddr_in = unsafe { zeroed() };
            address.sin_family = family(libc::AF_INET);
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from_ne_bytes(host.octets());
            bind(&socket, &raw const address, size_of_val(&address))?;
            Ok(socket)
        }
        IpAddr::V6(host) => {
            let socket = open(libc::AF_INET6, kind, how.nonblocking)?;
            reuse(&socket, how)?;
            set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, how.v6_only)?;
            // SAFETY: `sockaddr_in6` is plain numbers, for which all zeroes is a value.
            let mut address: libc::sockaddr_in6 = unsafe { zeroed() };
            address.sin6_family = family(libc::AF_INET6);
            address.sin6_port = port.to_be();
            address.sin6_addr.s6_addr = host.octets();
            bind(&socket, &raw const address, size_of_val(&address))?;
            Ok(socket)
        }
    }
}

fn reuse(socket: &OwnedFd, how: How) -> io::Result<()> {
    if how.reuse { set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, true) } else { Ok(()) }
}

fn open(domain: c_int, kind: c_int, nonblocking: bool) -> io::Result<OwnedFd> {
    let waits = if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: takes numbers; touches no memory.
    let raw = cvt(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | waits, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

const INT_SIZE: libc::socklen_t = {
    #[allow(clippy::cast_possible_truncation)]
    let size = size_of::<c_int>() as libc::socklen_t;
    size
};

fn set(socket: &OwnedFd, level: c_int, option: c_int, on: bool) -> io::Result<()> {
    let on = c_int::from(on);
    // SAFETY: `on` is valid for reads of its size for the whole call.
    cvt(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), INT_SIZE)
    })
    .map(drop)
}

fn family(number: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

fn bind<T>(socket: &OwnedFd, address: *const T, length: usize) -> io::Result<()> {
    let length = libc::socklen_t::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the callers give a socket address that lives for the whole call, and its length or
    // less.
    cvt(unsafe { libc::bind(socket.as_raw_fd(), address.cast(), length) }).map(drop)
}

fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: takes numbers; touches no memory.
    cvt(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

fn unix_address(path: &Path) -> io::Result<(libc::sockaddr_un, usize)> {
    let bytes = path.as_os_str().as_encoded_bytes();
    // SAFETY: `sockaddr_un` is plain numbers, for which all zeroes is a value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    // An empty one has the kernel choose a name.
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    address.sun_family = family(libc::AF_UNIX);
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((address, length))
}

/// A socket on which nobody listens: what a program left behind that was killed.
fn is_stale(path: &Path) -> bool {
    let is_socket = |about: std::fs::Metadata| about.file_type().is_socket();
    if !std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        return false;
    }
    let Ok((address, length)) = unix_address(path) else { return false };
    let Ok(socket) = open(libc::AF_UNIX, libc::SOCK_STREAM, true) else { return false };
    let length = libc::socklen_t::try_from(length).unwrap_or_default();
    // SAFETY: the address lives for the whole call, and is as long as said.
    let met =
        cvt(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) });
    met.is_err_and(|error| is(&error, libc::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::unique_path;
    use std::net::{TcpStream, UdpSocket};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    const HOW: How = How { v6_only: false, reuse: false, backlog: 16, nonblocking: true };

    #[test]
    fn a_port_is_listened_on_once_and_at_all_addresses() {
        let socket = tcp(None, 0, HOW).unwrap();
        let port = address(socket.as_fd()).unwrap().port();
        assert!(accept(socket.as_fd()).unwrap_err().kind() == io::ErrorKind::WouldBlock);
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let served = accept(socket.as_fd()).unwrap();
        let far = TcpStream::from(served).peer_addr().unwrap();
        assert_eq!(far.port(), client.local_addr().unwrap().port());
        let again = tcp(Some(Ipv4Addr::LOCALHOST.into()), port, HOW).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EADDRINUSE));
        assert!(!is_datagram(socket.as_fd()));
    }

    #[test]
    fn datagrams_have_a_port_too() {
        let socket = udp(Some(Ipv4Addr::LOCALHOST.into()), 0, HOW).unwrap();
        assert!(is_datagram(socket.as_fd()));
        let place = address(socket.as_fd()).unwrap();
        let again = udp(Some(place.ip()), place.port(), HOW).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EADDRINUSE));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", place).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(UdpSocket::from(socket).recv(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn a_path_that_nobody_listens_on_makes_way_and_nothing_else_does() {
        let path = unique_path("listening");
        let first = unix(&path, HOW).unwrap();
        assert_eq!(super::path(first.as_fd()).as_deref(), Some(&*path));
        UnixStream::connect(&path).unwrap();
        let second = unix(&path, HOW).unwrap_err();
        assert_eq!(second.raw_os_error(), Some(libc::EADDRINUSE));
        drop(first);
        drop(unix(&path, HOW).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(unix(&path, HOW).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
        let long = Path::new("/").join("x".repeat(108));
        assert_eq!(unix(&long, HOW).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
