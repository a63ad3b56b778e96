//! What apps declared that they listen on: opened once, inherited by every instance.
//!
//! A socket stays open as long as a process of its app is to run, so that no connection is lost
//! between the end of one child and the next; what a former daemon had opened is taken back from
//! the children it left.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;

use crate::base::{ProcId, SpawnError, Stage};
use crate::daemon::Daemon;
use crate::supervisor::spec::{Address, AppSpec};
use crate::sys::listening::{self, How};
use crate::sys::pidfd::PidFd;
use crate::sys::users::Credentials;

/// The number of the first one in a child, as `sd_listen_fds(3)` has it.
pub const FIRST: i32 = 3;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of all apps.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    address: Address,
    /// Node wants it so, nearly everybody else does not.
    nonblocking: bool,
    socket: Rc<OwnedFd>,
    /// Of one app.
    owners: Vec<ProcId>,
}

impl Sockets {
    /// The socket of a process behind one of its descriptors.
    pub fn given(&self, process: ProcId, spec: &AppSpec, number: i32) -> Option<&Rc<OwnedFd>> {
        let at = usize::try_from(number.checked_sub(FIRST)?).ok()?;
        self.of(process, spec.listen.get(at)?)
    }

    /// The socket of a process that serves a TCP port, or carries its datagrams. `host` `None`:
    /// every address.
    pub fn on(
        &self,
        process: ProcId,
        datagrams: bool,
        host: Option<IpAddr>,
        port: u16,
    ) -> Option<&Rc<OwnedFd>> {
        let any = |host: Option<IpAddr>| host.filter(|host| !host.is_unspecified());
        let fits = |kept: &&Kept| {
            let (is_udp, address) = match kept.address {
                Address::Tcp { host, port } => (false, (any(host), port)),
                Address::Udp { host, port } => (true, (any(host), port)),
                Address::Unix(_) => return false,
            };
            is_udp == datagrams && address == (any(host), port) && kept.owners.contains(&process)
        };
        self.0.iter().find(fits).map(|kept| &kept.socket)
    }

    /// Whether a socket of this process has the port.
    pub fn has_port(&self, process: ProcId, port: u16) -> bool {
        self.on(process, false, None, port).is_some()
    }

    /// Whether it is one of these.
    pub fn has(&self, socket: &Rc<OwnedFd>) -> bool {
        self.0.iter().any(|kept| Rc::ptr_eq(&kept.socket, socket))
    }

    fn of(&self, process: ProcId, address: &Address) -> Option<&Rc<OwnedFd>> {
        let own = |kept: &&Kept| kept.address == *address && kept.owners.contains(&process);
        self.0.iter().find(own).map(|kept| &kept.socket)
    }

    /// Gives up what a process does not need any more.
    fn retain(&mut self, process: ProcId, needed: impl Fn(&Kept) -> bool) {
        for kept in &mut self.0 {
            if !needed(kept) {
                kept.owners.retain(|&owner| owner != process);
            }
        }
        self.0.retain(|kept| {
            let is_needed = !kept.owners.is_empty();
            if let (false, Address::Unix(path)) = (is_needed, &kept.address) {
                let _ = std::fs::remove_file(path);
            }
            is_needed
        });
    }
}

impl Daemon {
    /// The sockets that the next child of a process inherits, in their order; those that are not
    /// open yet are opened. `replaces`: no other child of the process is to go on.
    pub(super) fn inherited(
        &mut self,
        process: ProcId,
        spec: &AppSpec,
        credentials: Option<&Credentials>,
        replaces: bool,
    ) -> Result<Vec<Rc<OwnedFd>>, SpawnError> {
        let nonblocking = spec.is_cluster();
        if replaces && !self.sockets.0.is_empty() {
            let is_needed = |kept: &Kept| {
                kept.nonblocking == nonblocking && spec.listen.contains(&kept.address)
            };
            self.sockets.retain(process, is_needed);
        }
        let mut all = Vec::with_capacity(spec.listen.len());
        for address in &spec.listen {
            let kin = |kept: &Kept| kept.owners.iter().any(|&it| self.is_kin(it, process));
            let found = |kept: &Kept| kept.address == *address && kin(kept);
            let at = self.sockets.0.iter().position(found);
            let at = match at {
                Some(at) => at,
                None => {
                    let umask = spec.umask.unwrap_or(self.launcher.umask);
                    let opened = open(address, nonblocking, umask, credentials);
                    let socket = Rc::new(opened.map_err(|error| SpawnError {
                        stage: Stage::Listen,
                        errno: error.raw_os_error().unwrap_or_default(),
                    })?);
                    let (address, owners) = (address.clone(), Vec::new());
                    self.sockets.0.push(Kept { address, nonblocking, socket, owners });
                    self.sockets.0.len() - 1
                }
            };
            if let Some(kept) = self.sockets.0.get_mut(at) {
                if !kept.owners.contains(&process) {
                    kept.owners.push(process);
                }
                all.push(Rc::clone(&kept.socket));
            }
        }
        Ok(all)
    }

    /// Whether two processes are of one app.
    pub(super) fn is_kin(&self, one: ProcId, other: ProcId) -> bool {
        let name = |id| self.supervisor.process(id).map(|process| process.name());
        one == other || (name(one).is_some() && name(one) == name(other))
    }

    /// A process is not to run any more: what only it needed is closed.
    pub(super) fn stop_listening(&mut self, process: ProcId) {
        self.sockets.retain(process, |_| false);
        self.release_cluster(process);
    }

    /// Takes back the sockets that a child of a former daemon has inherited.
    pub(super) fn adopt_sockets(&mut self, process: ProcId, child: &PidFd, spec: &AppSpec) {
        for (number, address) in (FIRST..).zip(&spec.listen) {
            let kin = |kept: &Kept| kept.owners.iter().any(|&it| self.is_kin(it, process));
            let found = |kept: &Kept| kept.address == *address && kin(kept);
            if let Some(at) = self.sockets.0.iter().position(found) {
                if let Some(kept) = self.sockets.0.get_mut(at) {
                    kept.owners.push(process);
                }
                continue;
            }
            match child.descriptor(number) {
                Ok(Some(socket)) if is_at(socket.as_fd(), address) => {
                    self.sockets.0.push(Kept {
                        address: address.clone(),
                        nonblocking: spec.is_cluster(),
                        socket: Rc::new(socket),
                        owners: vec![process],
                    });
                }
                // It has closed it, or has something else there.
                Ok(_) => {}
                Err(error) => {
                    let (name, why) = (&spec.name, crate::sys::describe(&error));
                    self.own_log.warn(format_args!("cannot take back {address} of {name}: {why}"));
                }
            }
        }
    }
}

/// Opens what an app declared.
fn open(
    address: &Address,
    nonblocking: bool,
    umask: u32,
    credentials: Option<&Credentials>,
) -> io::Result<OwnedFd> {
    let how = How { backlog: BACKLOG, nonblocking, ..How::default() };
    match address {
        Address::Tcp { host, port } => listening::tcp(*host, *port, how),
        Address::Udp { host, port } => listening::udp(*host, *port, how),
        Address::Unix(path) => {
            let socket = listening::unix(Path::new(path), how)?;
            let ready = give_path(Path::new(path), umask, 0, credentials);
            if let Err(error) = ready {
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
            Ok(socket)
        }
    }
}

/// Makes the file of a socket what it would be had the program made it. `more`: rights besides.
pub(super) fn give_path(
    path: &Path,
    umask: u32,
    more: u32,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    if let Some(credentials) = credentials {
        std::os::unix::fs::lchown(path, Some(credentials.uid), Some(credentials.gid))?;
    }
    let mode = (0o777 & !umask) | more;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Whether a descriptor that we were let have is the socket it is taken for.
fn is_at(socket: BorrowedFd<'_>, address: &Address) -> bool {
    let is_inet = |datagrams: bool, host: Option<IpAddr>, port: u16| {
        listening::is_datagram(socket) == datagrams
            && listening::address(socket).is_ok_and(|found| {
                let any = |host: Option<IpAddr>| host.filter(|host| !host.is_unspecified());
                found.port() == port && any(Some(found.ip())) == any(host)
            })
    };
    match address {
        Address::Tcp { host, port } => is_inet(false, *host, *port),
        Address::Udp { host, port } => is_inet(true, *host, *port),
        Address::Unix(path) => listening::path(socket).is_some_and(|it| it == Path::new(path)),
    }
}

/// For the spawner.
pub(super) fn numbered(sockets: &[Rc<OwnedFd>]) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
    (FIRST..).zip(sockets.iter().map(|socket| socket.as_fd()))
}
