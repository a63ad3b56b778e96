//! Sockets of either family, for those who do not care which.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::base::Pid;
use crate::sys::{owner, peer};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A socket that connections come from.
#[derive(Debug)]
pub enum Acceptor {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    pub pid: Option<Pid>,
    /// `None` where nobody can tell.
    pub uid: Option<u32>,
    /// Of a TCP peer.
    pub address: Option<SocketAddr>,
}

impl Acceptor {
    /// # Errors
    ///
    /// Those of `accept(2)`, and of asking who it is.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let peer = peer::peer_credentials(&stream)
                    .map(|who| Peer { pid: who.pid, uid: Some(who.uid), address: None })
                    .unwrap_or_default();
                Ok((Socket::Unix(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, theirs) = listener.accept()?;
                // Whole messages are written; the kernel need not wait for more of them.
                let _ = stream.set_nodelay(true);
                let theirs = canonical(theirs);
                let ours = stream.local_addr().map(canonical);
                let is_here = theirs.ip().is_loopback();
                let uid =
                    ours.ok().filter(|_| is_here).and_then(|ours| owner::of_peer(theirs, ours));
                Ok((Socket::Tcp(stream), Peer { pid: None, uid, address: Some(theirs) }))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Unix(listener) => listener,
            Self::Tcp(listener) => listener,
        }
    }
}

/// The old form of an address that a socket of both families shows in the new one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Socket {
    /// Says that nothing more will be written; what the peer still sends can be read.
    pub fn finish(&self) {
        // A peer that is gone has heard it already.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Whether bytes that nobody read make closing discard what was sent before.
    #[must_use]
    pub fn must_linger(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Unix(stream) => stream,
            Self::Tcp(stream) => stream,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Tcp(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both kinds are watched as what is inside.
macro_rules! watched {
    ($kind:ty) => {
        impl Source for $kind {
            fn register(&mut self, at: &Registry, token: Token, what: Interest) -> io::Result<()> {
                self.source().register(at, token, what)
            }
            fn reregister(
                &mut self,
                at: &Registry,
                token: Token,
                what: Interest,
            ) -> io::Result<()> {
                self.source().reregister(at, token, what)
            }
            fn deregister(&mut self, at: &Registry) -> io::Result<()> {
                self.source().deregister(at)
            }
        }
    };
}

watched!(Socket);
watched!(Acceptor);
