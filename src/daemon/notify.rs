//! Readiness: `READY=1` on the notify socket (sd_notify), a newline on a descriptor (s6).

use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::base::ChildId;
use crate::daemon::Daemon;
use crate::daemon::children::Notification;
use crate::daemon::entries::Pipe;
use crate::reactor::Readiness;
use crate::supervisor::vocabulary::Input;
use crate::sys::peer;

/// A datagram is never longer, in bytes.
const MAX_DATAGRAM: usize = 4096;
/// Datagrams read in one turn.
const PER_TURN: usize = 64;

/// The socket that children find in `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: String,
}

impl NotifySocket {
    /// Binds the socket; an old one of the same name is replaced (the caller holds the lock of the
    /// state directory).
    ///
    /// # Errors
    ///
    /// Those of binding.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Self::take(UnixDatagram::bind(path)?, path.to_string_lossy().into_owned())
    }

    /// A socket without a file: in the abstract name space, under a name nobody can guess.
    ///
    /// # Errors
    ///
    /// Those of binding.
    pub fn bind_abstract(name: u64) -> io::Result<Self> {
        let name = format!("pmd-notify-{name:016x}");
        let address = SocketAddr::from_abstract_name(&name)?;
        Self::take(UnixDatagram::bind_addr(&address)?, format!("@{name}"))
    }

    fn take(socket: UnixDatagram, path: String) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        peer::pass_credentials(&socket)?;
        Ok(Self { socket, path })
    }

    /// As it stands in the environment.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn raw(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Daemon {
    pub(super) fn on_notify_socket(&mut self) {
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..PER_TURN {
            let Some((notify, slot)) = &self.notify else { return };
            match peer::receive_with_sender(&notify.socket, &mut buffer) {
                Ok((length, Some(pid))) => {
                    let text = buffer.get(..length).unwrap_or_default();
                    let ready = text.split(|&byte| byte == b'\n').any(|line| line == b"READY=1");
                    // The main process speaks for itself, or a member of its group for it.
                    let child = self
                        .children
                        .by_pid(pid)
                        .or_else(|| self.children.by_pid(crate::sys::proc::group_of(pid)?));
                    if let (true, Some(child)) = (ready, child) {
                        self.input(Input::Ready { child });
                    }
                }
                Ok((_, None)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reactor.drained(*slot, Readiness::READ);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    pub(super) fn on_notification(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(id) else { return };
        let Some(notification) = &mut child.notification else { return };
        let mut buffer = [0; 512];
        match notification.pipe.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.reactor.drained(notification.watch, Readiness::READ);
            }
            Ok(length) if length > 0 => {
                let text = buffer.get(..length).unwrap_or_default();
                if text.contains(&b'\n') {
                    self.close_notification(id);
                    self.input(Input::Ready { child: id });
                }
            }
            // Closed without a word, or broken: nothing will come any more.
            Ok(_) | Err(_) => self.close_notification(id),
        }
    }

    fn close_notification(&mut self, id: ChildId) {
        if let Some(notification) =
            self.children.get_mut(id).and_then(|child| child.notification.take())
        {
            self.drop_notification(*notification);
        }
    }

    pub(super) fn drop_notification(&mut self, notification: Notification) {
        let raw = notification.pipe.as_raw_fd();
        let _ = self.reactor.remove(notification.watch, &mut Pipe::source(&raw));
    }
}
