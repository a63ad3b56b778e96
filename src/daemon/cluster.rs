//! The daemon as the primary of Node's cluster module: carries out what `proto::cluster` decides.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::json::json;

use crate::base::{ChildId, ProcId, Time};
use crate::daemon::Daemon;
use crate::daemon::entries::Pipe;
use crate::daemon::key::Key;
use crate::daemon::listening::give_path;
use crate::proto::cluster::{self, Deed, Kind, Opened, Primary, Said, SocketId, Wish, World};
use crate::reactor::{Interest, Readiness, Slot};
use crate::sorted::SortedMap;
use crate::supervisor::spec::{AppSpec, ClusterPolicy};
use crate::supervisor::vocabulary::Input;
use crate::sys::listening::{self, How};

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting pauses when it fails, for want of descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Clusters, and the sockets whose connections are handed out in turn.
#[derive(Debug, Default)]
pub struct Cluster {
    primary: Primary<Rc<OwnedFd>>,
    watches: SortedMap<SocketId, Watch>,
    paused_until: Option<Time>,
}

#[derive(Debug)]
struct Watch {
    socket: Rc<OwnedFd>,
    slot: Slot,
    wanted: bool,
}

impl Cluster {
    #[must_use]
    pub fn is_worker(&self, child: ChildId) -> bool {
        self.primary.is_worker(child)
    }

    #[must_use]
    pub fn has_port(&self, process: ProcId, port: u16) -> bool {
        self.primary.has_port(process, port)
    }

    /// When accepting goes on.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.paused_until
    }
}

impl Daemon {
    /// A child was started that is a worker.
    pub(super) fn enter_worker(&mut self, child: ChildId, process: ProcId) {
        self.cluster.primary.enter(child, process);
    }

    /// A worker said something to its primary: an object, JSON text.
    pub(super) fn hear_worker(&mut self, child: ChildId, text: &str) {
        let Some(process) = self.children.get(child).map(|child| child.process) else { return };
        let Some(spec) = self.entries.get(&process).map(|entry| Rc::clone(&entry.spec)) else {
            return;
        };
        let mut primary = std::mem::take(&mut self.cluster.primary);
        let mut place = Place { daemon: self, child, process, spec: &spec };
        let listens = primary.hear(child, Said::read(text), &mut place);
        self.cluster.primary = primary;
        self.do_deeds();
        if listens {
            self.input(Input::Listening { child });
        }
    }

    /// Carries out `Effect::Dismiss`.
    pub(super) fn dismiss(&mut self, child: ChildId) {
        if self.cluster.primary.dismiss(child) {
            self.do_deeds();
        } else {
            self.outcomes.push_back(Input::Left { child });
        }
    }

    /// The channel of a child has ended.
    pub(super) fn worker_left(&mut self, child: ChildId) {
        if self.cluster.is_worker(child) {
            self.cluster.primary.left(child);
            self.do_deeds();
            self.input(Input::Left { child });
        }
    }

    pub(super) fn undelivered(&mut self, child: ChildId, kind: &Kind) {
        self.cluster.primary.undelivered(child, kind);
        self.do_deeds();
    }

    /// A process is no cluster (any more).
    pub(super) fn release_cluster(&mut self, process: ProcId) {
        self.cluster.primary.release(process);
        self.do_deeds();
    }

    fn do_deeds(&mut self) {
        while let Some(deed) = self.cluster.primary.next_deed() {
            match deed {
                Deed::Tell { worker, line } => {
                    // One that does not read is told nothing; it is complained of.
                    let _ = self.say(worker, line.as_bytes());
                }
                Deed::Hand { worker, parcel } => self.hand(worker, parcel),
                Deed::Watch { socket, handle } => self.watch_cluster(socket, handle),
                Deed::Want { socket, wanted } => {
                    if let Some(watch) = self.cluster.watches.get_mut(&socket) {
                        watch.wanted = wanted;
                        self.want_connections();
                    }
                }
                Deed::Close { socket, handle } => {
                    if let Some(watch) = self.cluster.watches.remove(&socket) {
                        let raw = watch.socket.as_raw_fd();
                        let _ = self.reactor.remove(watch.slot, &mut Pipe::source(&raw));
                    }
                    if !self.sockets.has(&handle)
                        && let Some(path) = listening::path(handle.as_fd())
                    {
                        let _ = std::fs::remove_file(path);
                    }
                }
            }
        }
    }

    fn watch_cluster(&mut self, id: SocketId, socket: Rc<OwnedFd>) {
        let raw = socket.as_raw_fd();
        let source = &mut Pipe::source(&raw);
        match self.reactor.add(source, Interest::READABLE, Key::Cluster(id)) {
            Ok(slot) => {
                self.reactor.want(slot, Readiness::NONE);
                self.cluster.watches.insert(id, Watch { socket, slot, wanted: false });
            }
            Err(error) => {
                let why = crate::sys::describe(&error);
                self.own_log.error(format_args!("cannot watch a socket of a cluster: {why}"));
            }
        }
    }

    fn want_connections(&mut self) {
        let paused = self.cluster.paused_until.is_some();
        for watch in self.cluster.watches.values() {
            let wanted = if watch.wanted && !paused { Readiness::READ } else { Readiness::NONE };
            self.reactor.want(watch.slot, wanted);
        }
    }

    /// Somebody connects.
    pub(super) fn on_cluster(&mut self, id: SocketId) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(watch) = self.cluster.watches.get(&id).filter(|watch| watch.wanted) else {
                return;
            };
            match listening::accept(watch.socket.as_fd()) {
                Ok(connection) => {
                    self.cluster.primary.arrived(id, Rc::new(connection));
                    self.do_deeds();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.reactor.drained(watch.slot, Readiness::READ);
                }
                // The client has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptor, no memory, or a program has spoilt the socket: they wait in the
                // kernel.
                Err(_) => {
                    self.cluster.paused_until = Some(self.now.mono.after(PAUSE));
                    return self.want_connections();
                }
            }
        }
    }

    /// Accepts again after a pause.
    pub(super) fn resume_cluster(&mut self) {
        if self.cluster.paused_until.is_some_and(|until| until <= self.now.mono) {
            self.cluster.paused_until = None;
            self.want_connections();
        }
    }
}

/// Where a worker's question is answered.
struct Place<'a> {
    daemon: &'a Daemon,
    child: ChildId,
    process: ProcId,
    /// What the process runs by.
    spec: &'a AppSpec,
}

impl World<Rc<OwnedFd>> for Place<'_> {
    fn is_kin(&self, process: ProcId) -> bool {
        self.daemon.is_kin(process, self.process)
    }

    fn open(&mut self, wish: &Wish) -> Result<Opened<Rc<OwnedFd>>, i32> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(cluster::errno::INVALID);
        let sockets = &self.daemon.sockets;
        let how = How { nonblocking: true, ..How::default() };
        let handle = match *wish {
            // What the app has declared is open already.
            Wish::Given(number) => sockets
                .given(self.process, self.spec, number)
                .cloned()
                .ok_or(cluster::errno::BAD_DESCRIPTOR)?,
            Wish::Tcp { host, port, v6_only, backlog } => {
                match sockets.on(self.process, false, host, port) {
                    Some(socket) => Rc::clone(socket),
                    None => listening::tcp(host, port, How { v6_only, backlog, ..how })
                        .map(Rc::new)
                        .map_err(errno)?,
                }
            }
            Wish::Udp { host, port, v6_only, reuse } => {
                match sockets.on(self.process, true, host, port) {
                    Some(socket) => Rc::clone(socket),
                    None => listening::udp(host, port, How { v6_only, reuse, ..how })
                        .map(Rc::new)
                        .map_err(errno)?,
                }
            }
            Wish::Unix { ref path, backlog, mode } => {
                // A program of another user is not to have files made in our name.
                if self.spec.user.is_some() || self.spec.group.is_some() {
                    return Err(cluster::errno::FORBIDDEN);
                }
                let umask = self.spec.umask.unwrap_or(self.daemon.launcher.umask);
                let path = Path::new(path);
                let socket = listening::unix(path, How { backlog, ..how }).map_err(errno)?;
                give_path(path, umask, mode, None).map_err(errno)?;
                Rc::new(socket)
            }
        };
        let address = listening::address(handle.as_fd()).ok();
        let name = address.map(|address| {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let ip = address.ip().to_string();
            json!({"address": ip, "family": family, "port": address.port()}).to_string()
        });
        let has_connections = !listening::is_datagram(handle.as_fd());
        Ok(Opened { handle, name, port: address.map(|address| address.port()), has_connections })
    }

    fn in_turn(&self) -> bool {
        self.spec.policy() == ClusterPolicy::RoundRobin
    }

    fn is_ending(&self) -> bool {
        let process = self.daemon.supervisor.process(self.process);
        process.is_some_and(|it| it.child() != Some(self.child) || !it.is_online())
    }
}
