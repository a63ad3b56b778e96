//! Who listens on what, and which connection is whose.
//!
//! A *socket* belongs to processes: those whose workers have asked for it, as long as they are to
//! run, be it that no worker is there at the moment. Processes of one app share it; another app that
//! asks for the same address has to find it taken. A *holder* is a worker that listens on it now.
//!
//! In round robin a connection is accepted only when a holder is free to take it; until then it
//! waits in the kernel. It is kept until its worker has said that it took it: of one that does not,
//! or ends before, it goes to another.
//!
//! Pure: sockets and connections are values of any kind (`H`); what is to be done with them comes
//! out as [`Deed`]s, in order.

use std::collections::VecDeque;

use crate::base::{ChildId, ProcId};
use crate::proto::cluster::errno;
use crate::proto::cluster::message::{self, Query, Said, Wish};
use crate::sorted::SortedMap;

/// Sockets of one app.
pub const MAX_SOCKETS: usize = 256;
/// Bytes of what a worker leaves with a socket for the others.
const MAX_DATA: usize = 64 * 1024;
/// Workers that end over one connection until it is given up.
const MAX_DEATHS: usize = 3;

/// Names a socket; never reused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SocketId(pub u64);

/// What has to be known of the world to answer a worker.
pub trait World<H> {
    /// Whether a process is of the same app as the worker.
    fn is_kin(&self, process: ProcId) -> bool;
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// The errno.
    fn open(&mut self, wish: &Wish) -> Result<Opened<H>, i32>;
    /// Whether connections are handed out in turn.
    fn in_turn(&self) -> bool;
    /// Whether the worker is about to be replaced: then what it closes stays open.
    fn is_ending(&self) -> bool;
}

/// A socket that was opened.
#[derive(Clone, Debug)]
pub struct Opened<H> {
    pub handle: H,
    /// Its address as an object of Node's, JSON; `None`: of a Unix socket.
    pub name: Option<String>,
    pub port: Option<u16>,
    /// There are connections to it, which could be handed out one by one.
    pub has_connections: bool,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed<H> {
    /// A line for a worker.
    Tell { worker: ChildId, line: String },
    /// A line for a worker, and with it a handle.
    Hand { worker: ChildId, parcel: Parcel<H> },
    /// Connections of this socket are ours to accept from now on.
    Watch { socket: SocketId, handle: H },
    /// Whether the next connection is to be accepted.
    Want { socket: SocketId, wanted: bool },
    /// Nobody needs it any more.
    Close { socket: SocketId, handle: H },
}

/// A line that a handle comes with. One that cannot be delivered goes back
/// ([`Primary::undelivered`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel<H> {
    pub line: String,
    pub handle: H,
    /// What it is.
    pub kind: Kind,
}

/// What is handed to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A socket: the answer to the query `ack`.
    Socket { key: String, ack: u64 },
    /// A connection: our message `seq`.
    Connection { seq: u64 },
}

/// The sockets of all clusters.
#[derive(Debug)]
pub struct Primary<H> {
    workers: SortedMap<ChildId, Worker<H>>,
    sockets: SortedMap<SocketId, Socket<H>>,
    next: u64,
    deeds: VecDeque<Deed<H>>,
}

#[derive(Debug)]
struct Worker<H> {
    process: ProcId,
    /// Of our next message.
    seq: u64,
    /// It opens nothing any more.
    leaving: bool,
    /// Connections it has not answered for, by the message they came with.
    unanswered: Vec<(u64, SocketId, Connection<H>)>,
}

#[derive(Debug)]
struct Socket<H> {
    key: String,
    handle: H,
    name: Option<String>,
    port: Option<u16>,
    data: Option<Box<str>>,
    in_turn: bool,
    owners: Vec<ProcId>,
    holders: Vec<ChildId>,
    /// Holders that can be handed the next connection, in their turn.
    free: VecDeque<ChildId>,
    /// Connections that came back.
    returned: VecDeque<Connection<H>>,
    wanted: bool,
}

#[derive(Debug)]
struct Connection<H> {
    handle: H,
    /// Workers that had no room for it.
    refusals: usize,
    deaths: usize,
}

impl<H> Default for Primary<H> {
    fn default() -> Self {
        Self {
            workers: SortedMap::new(),
            sockets: SortedMap::new(),
            next: 0,
            deeds: VecDeque::new(),
        }
    }
}

impl<H: Clone> Primary<H> {
    /// A worker was started.
    pub fn enter(&mut self, worker: ChildId, process: ProcId) {
        let worker_of = Worker { process, seq: 0, leaving: false, unanswered: Vec::new() };
        self.workers.insert(worker, worker_of);
    }

    #[must_use]
    pub fn is_worker(&self, child: ChildId) -> bool {
        self.workers.contains_key(&child)
    }

    /// What is to be done next.
    pub fn next_deed(&mut self) -> Option<Deed<H>> {
        let deed = self.deeds.pop_front();
        if deed.is_none() {
            self.deeds.shrink_to(8);
        }
        deed
    }

    /// A worker said something. True: it listens.
    pub fn hear(&mut self, worker: ChildId, said: Said<'_>, world: &mut dyn World<H>) -> bool {
        match said {
            Said::Query(query) => self.query(worker, &query, world),
            Said::Close { key } => self.closed(worker, &key, world.is_ending()),
            Said::Leaving { seq } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.leaving = true;
                }
                self.tell(worker, &format!("\"ack\":{seq}"));
            }
            Said::Answer { ack, accepted } => self.answered(worker, ack, accepted),
            Said::Listening => return self.is_worker(worker),
            Said::Other => {}
        }
        false
    }

    /// Asks a worker to close what it listens on, to serve the connections it has to their end, and
    /// then to close its channel. False: it cannot be asked.
    pub fn dismiss(&mut self, worker: ChildId) -> bool {
        let Some(known) = self.workers.get_mut(&worker) else { return false };
        known.leaving = true;
        self.tell(worker, "\"act\":\"disconnect\"");
        true
    }

    /// A connection was accepted, as was wanted.
    pub fn arrived(&mut self, socket: SocketId, handle: H) {
        if let Some(found) = self.sockets.get_mut(&socket) {
            found.returned.push_back(Connection { handle, refusals: 0, deaths: 0 });
            self.hand_out(socket);
        }
    }

    /// A handle did not reach its worker, however often it was sent: it can have no more open.
    pub fn undelivered(&mut self, worker: ChildId, kind: &Kind) {
        match kind {
            Kind::Socket { key, ack } => {
                let errno = format!("-{}", errno::TOO_MANY_FILES);
                self.tell(worker, &message::answer(&errno, key, *ack, "null", ""));
            }
            Kind::Connection { seq } => self.answered(worker, *seq, false),
        }
    }

    /// A worker's channel has ended: it can be told nothing any more.
    pub fn left(&mut self, worker: ChildId) {
        let Some(gone) = self.workers.remove(&worker) else { return };
        for socket in self.sockets.values_mut() {
            socket.forget(worker);
        }
        for (_, id, mut connection) in gone.unanswered.into_iter().rev() {
            connection.deaths += 1;
            if let Some(socket) = self.sockets.get_mut(&id)
                && connection.deaths < MAX_DEATHS
            {
                socket.returned.push_front(connection);
            }
        }
        let ids: Vec<SocketId> = self.sockets.keys().copied().collect();
        for id in ids {
            self.hand_out(id);
        }
    }

    /// A process is not to run any more: what only it needed is closed.
    pub fn release(&mut self, process: ProcId) {
        let mut unowned = Vec::new();
        for (id, socket) in self.sockets.iter_mut() {
            socket.owners.retain(|&owner| owner != process);
            if socket.owners.is_empty() {
                unowned.push(*id);
            }
        }
        for id in unowned {
            self.close(id);
        }
    }

    /// Whether a socket of this process has the port.
    #[must_use]
    pub fn has_port(&self, process: ProcId, port: u16) -> bool {
        let own = |socket: &&Socket<H>| socket.owners.contains(&process);
        self.sockets.values().filter(own).any(|socket| socket.port == Some(port))
    }

    fn query(&mut self, worker: ChildId, query: &Query<'_>, world: &mut dyn World<H>) {
        let Some(known) = self.workers.get(&worker) else { return };
        let process = known.process;
        if known.leaving {
            // As Node does: it will not listen any more.
            return;
        }
        let own = |socket: &Socket<H>| {
            socket.owners.iter().any(|&owner| owner == process || world.is_kin(owner))
        };
        let fits = |socket: &Socket<H>| {
            socket.key == query.key && !socket.holders.contains(&worker) && own(socket)
        };
        let found = self.sockets.iter().find(|(_, socket)| fits(socket)).map(|(id, _)| *id);
        let count = self.sockets.values().filter(|socket| own(socket)).count();
        let id = match found {
            Some(id) => Ok(id),
            None if count >= MAX_SOCKETS => Err(errno::TOO_MANY_FILES),
            None => self.open(query, world),
        };
        let id = match id {
            Ok(id) => id,
            Err(errno) => {
                let members =
                    message::answer(&format!("-{errno}"), &query.key, query.seq, query.data, "");
                return self.tell(worker, &members);
            }
        };
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !socket.owners.contains(&process) {
            socket.owners.push(process);
        }
        if socket.data.is_none() && query.data != "null" && query.data.len() <= MAX_DATA {
            socket.data = Some(query.data.into());
        }
        socket.holders.push(worker);
        let data = socket.data.as_deref().unwrap_or(query.data);
        if socket.in_turn {
            let name = socket.name.as_ref().map(|name| format!(",\"sockname\":{name}"));
            let more = name.unwrap_or_default();
            let members = message::answer("null", &query.key, query.seq, data, &more);
            socket.free.push_back(worker);
            self.tell(worker, &members);
            self.hand_out(id);
        } else {
            let members = message::answer("0", &query.key, query.seq, data, "");
            let kind = Kind::Socket { key: query.key.clone(), ack: query.seq };
            let handle = socket.handle.clone();
            self.hand(worker, &members, handle, kind);
        }
    }

    fn open(&mut self, query: &Query<'_>, world: &mut dyn World<H>) -> Result<SocketId, i32> {
        let wish = query.wish.as_ref().map_err(|errno| *errno)?;
        let Opened { handle, name, port, has_connections } = world.open(wish)?;
        let id = SocketId(self.next);
        self.next += 1;
        let in_turn = world.in_turn() && has_connections;
        if in_turn {
            self.deeds.push_back(Deed::Watch { socket: id, handle: handle.clone() });
        }
        let socket = Socket {
            key: query.key.clone(),
            handle,
            name,
            port,
            data: None,
            in_turn,
            owners: Vec::new(),
            holders: Vec::new(),
            free: VecDeque::new(),
            returned: VecDeque::new(),
            wanted: false,
        };
        self.sockets.insert(id, socket);
        Ok(id)
    }

    fn closed(&mut self, worker: ChildId, key: &str, is_ending: bool) {
        let held = |socket: &Socket<H>| socket.key == key && socket.holders.contains(&worker);
        let found = self.sockets.iter().find(|(_, socket)| held(socket)).map(|(id, _)| *id);
        let Some(id) = found else { return };
        let leaving = self.workers.get(&worker).is_some_and(|worker| worker.leaving);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.forget(worker);
        if socket.holders.is_empty() && !leaving && !is_ending {
            return self.close(id);
        }
        self.hand_out(id);
    }

    fn answered(&mut self, worker: ChildId, ack: u64, accepted: bool) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let Some(at) = known.unanswered.iter().position(|(seq, ..)| *seq == ack) else { return };
        let (_, id, mut connection) = known.unanswered.remove(at);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !accepted {
            connection.refusals += 1;
            // Where nobody has room it is closed, as a program of its own would do.
            if connection.refusals < socket.holders.len().max(1) {
                socket.returned.push_front(connection);
            } else if !socket.holders.contains(&worker) {
                // The one that refused it has closed meanwhile: the next one has it.
                connection.refusals = 0;
                socket.returned.push_front(connection);
            }
        }
        if socket.holders.contains(&worker) {
            socket.free.push_back(worker);
        }
        self.hand_out(id);
    }

    /// Hands connections that came back to those who are free; then says whether more are wanted.
    fn hand_out(&mut self, id: SocketId) {
        while let Some(socket) = self.sockets.get_mut(&id).filter(|socket| socket.in_turn) {
            if socket.free.is_empty() || socket.returned.is_empty() {
                let wanted = !socket.free.is_empty();
                if std::mem::replace(&mut socket.wanted, wanted) != wanted {
                    self.deeds.push_back(Deed::Want { socket: id, wanted });
                }
                return;
            }
            let (Some(worker), Some(connection)) =
                (socket.free.pop_front(), socket.returned.pop_front())
            else {
                return;
            };
            let (members, handle) = (message::connection(&socket.key), connection.handle.clone());
            if let Some(known) = self.workers.get_mut(&worker) {
                let seq = known.seq;
                known.unanswered.push((seq, id, connection));
                self.hand(worker, &members, handle, Kind::Connection { seq });
            }
        }
    }

    fn close(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.remove(&id) {
            self.deeds.push_back(Deed::Close { socket: id, handle: socket.handle });
        }
    }

    fn tell(&mut self, worker: ChildId, members: &str) {
        if let Some(seq) = self.next_seq(worker) {
            self.deeds.push_back(Deed::Tell { worker, line: message::plain(members, seq) });
        }
    }

    fn hand(&mut self, worker: ChildId, members: &str, handle: H, kind: Kind) {
        if let Some(seq) = self.next_seq(worker) {
            let parcel = Parcel { line: message::with_handle(members, seq), handle, kind };
            self.deeds.push_back(Deed::Hand { worker, parcel });
        }
    }

    fn next_seq(&mut self, worker: ChildId) -> Option<u64> {
        let worker = self.workers.get_mut(&worker)?;
        worker.seq += 1;
        Some(worker.seq - 1)
    }
}

impl<H> Socket<H> {
    fn forget(&mut self, worker: ChildId) {
        self.holders.retain(|&holder| holder != worker);
        self.free.retain(|&holder| holder != worker);
    }
}

#[cfg(test)]
mod tests;
