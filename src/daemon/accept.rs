//! Where connections come from: sockets that listen, who may come in, how many.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::connection::{Connection, Connections};
use crate::daemon::key::{ConnId, Key, ListenerId};
use crate::daemon::socket::{Acceptor, Peer, Socket};
use crate::proto::buffer::Outbox;
use crate::proto::control::{Control, Hello};
use crate::proto::http::{self, Http};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::session::{Answer, EVENT_QUEUE, MAX_REPLY};
use crate::proto::pm2::methods::AGENT_METHODS;
use crate::proto::pm2::rpc::{REPLY_QUEUE, Rpc};
use crate::proto::protocol::{Context, Hangup, Protocol};
use crate::reactor::{Interest, Reactor, Readiness, Slot};
use crate::sys::{fds, limits, process};

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Connections of one uid other than root and the daemon's own.
const MAX_FOREIGN: usize = 64;
/// Connections kept free for the daemon's own user and root.
const RESERVED: usize = 16;
/// How long accepting pauses when there is no descriptor to be had.
const PAUSE: Duration = Duration::from_millis(100);

/// What is spoken behind a listening socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    Control,
    Pm2Rpc,
    Pm2Bus,
    /// What PM2's agent answers.
    Agent,
    Web,
    Hub,
}

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listening {
    door: Door,
    acceptor: Acceptor,
    slot: Slot,
}

/// A descriptor to be given up when there is no other.
pub(super) fn spare() -> Option<File> {
    fds::null_device().ok().map(File::from)
}

impl Peer {
    /// Whether it is root or the daemon's own user.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == process::effective_uid())
    }
}

impl Connections {
    /// Takes connections from one more socket.
    ///
    /// # Errors
    ///
    /// Those of watching it.
    pub fn listen(
        &mut self,
        reactor: &mut Reactor<Key>,
        mut acceptor: Acceptor,
        door: Door,
    ) -> io::Result<ListenerId> {
        let id = ListenerId(self.next);
        self.next += 1;
        let slot = reactor.add(&mut acceptor, Interest::READABLE, Key::Listener(id))?;
        self.listeners.insert(id, Listening { door, acceptor, slot });
        Ok(id)
    }

    /// Takes no more connections from a socket; those that came stay.
    pub fn stop_listening(&mut self, reactor: &mut Reactor<Key>, id: ListenerId) {
        if let Some(mut listening) = self.listeners.remove(&id) {
            let _ = reactor.remove(listening.slot, &mut listening.acceptor);
        }
    }

    /// Connections at a time, from now on; never more than half of the descriptors.
    pub fn set_limit(&mut self, limit: usize) {
        let half = usize::try_from(limits::nofile() / 2).unwrap_or(usize::MAX);
        self.limit = limit.min(half.max(8));
    }

    /// Whether there is room for one more of this peer's.
    fn has_room_for(&self, peer: &Peer) -> bool {
        let kept = self.limit.saturating_sub(RESERVED);
        if peer.is_owner() {
            // A page in the owner's browser may be anybody's: it does not shut out the owner.
            let limit = if peer.address.is_some() { kept } else { self.limit };
            return self.clients.len() < limit;
        }
        let same = |other: &Peer| match (peer.uid, peer.address) {
            (Some(uid), _) => other.uid == Some(uid),
            (None, Some(address)) => other.address.is_some_and(|a| a.ip() == address.ip()),
            (None, None) => other.uid.is_none() && other.address.is_none(),
        };
        let others = self.clients.values().filter(|client| same(&client.peer)).count();
        self.clients.len() < kept && others < MAX_FOREIGN
    }
}

impl Daemon {
    pub(super) fn accept(&mut self, id: ListenerId) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listening) = self.connections.listeners.get(&id) else { return };
            match listening.acceptor.accept() {
                Ok((socket, peer)) => {
                    let door = listening.door;
                    self.welcome(socket, peer, door);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.reactor.drained(listening.slot, Readiness::READ);
                }
                Err(error) if fds::is_out_of_descriptors(&error) => {
                    if !self.turn_away(id) {
                        return;
                    }
                }
                // The client has gone again, or the kernel is short of memory.
                Err(_) => return,
            }
        }
    }

    /// No descriptor is free: the spare one takes a client in, only to close it. Without a spare
    /// accepting pauses.
    fn turn_away(&mut self, id: ListenerId) -> bool {
        self.connections.spare = None;
        if let Some(listening) = self.connections.listeners.get(&id) {
            let _ = listening.acceptor.accept();
        }
        self.connections.spare = spare();
        let has_spare = self.connections.spare.is_some();
        if !has_spare {
            self.connections.paused_until = Some(self.now.mono.after(PAUSE));
            self.listeners_want(Readiness::NONE);
        }
        has_spare
    }

    pub(super) fn resume_accepting(&mut self) {
        self.connections.paused_until = None;
        if self.connections.spare.is_none() {
            self.connections.spare = spare();
        }
        self.listeners_want(Readiness::READ);
    }

    fn listeners_want(&mut self, wanted: Readiness) {
        for listening in self.connections.listeners.values() {
            self.reactor.want(listening.slot, wanted);
        }
    }

    fn welcome(&mut self, mut socket: Socket, peer: Peer, door: Door) {
        if !self.connections.has_room_for(&peer) {
            return;
        }
        let Some((protocol, out, hangup)) = self.greet(&peer, door) else { return };
        let id = ConnId(self.connections.next);
        let key = Key::Connection(id);
        let Ok(slot) = self.reactor.add(&mut socket, Interest::READABLE, key) else { return };
        self.connections.next += 1;
        let mut client = Connection::new(socket, slot, peer, protocol, out);
        if let Some(hangup) = hangup {
            client.end(hangup);
        }
        self.connections.clients.insert(id, Box::new(client));
        self.connections.touch(id);
        if door == Door::Pm2Bus {
            self.recount_watchers();
        }
    }

    /// The protocol behind a door, with its first words; and whether they are the last.
    fn greet(&mut self, peer: &Peer, door: Door) -> Option<(Protocol, Outbox, Option<Hangup>)> {
        match door {
            Door::Control => {
                peer.uid?;
                let owner = peer.is_owner();
                let home = self.paths.state.to_string_lossy();
                let hello = Hello { pid: process::own_pid().raw(), home: &home, owner };
                let mut out = Outbox::new(MAX_REPLY, EVENT_QUEUE);
                let (now, ids) = (self.now, &self.ids);
                let mut cx = Context { now, ids, out: &mut out, demands: &mut Vec::new() };
                let control = Control::greet(&hello, &mut cx);
                let may_enter = owner || self.connections.group_may_enter;
                if !may_enter {
                    let text = "this daemon serves another user";
                    let error = Answer::Error(ErrorReply::new(Code::ForbiddenUser, text));
                    let _ = control.tell(&error, &mut cx);
                }
                let hangup = if may_enter { None } else { Some(Hangup::Done) };
                Some((Protocol::Control(control), out, hangup))
            }
            Door::Pm2Rpc | Door::Pm2Bus => {
                let (protocol, out) = self.greet_pm2(peer, door == Door::Pm2Bus)?;
                Some((protocol, out, None))
            }
            Door::Agent => {
                peer.is_owner().then_some(())?;
                let rpc = Protocol::Pm2Rpc(Rpc::new(AGENT_METHODS));
                Some((rpc, Outbox::new(REPLY_QUEUE, 0), None))
            }
            Door::Hub => {
                let (protocol, out) = self.greet_hub();
                Some((protocol, out, None))
            }
            Door::Web => {
                let http = Http::new(self.now.mono);
                let out = Outbox::new(http::BODY_QUEUE, http::HEAD_QUEUE);
                Some((Protocol::Http(Box::new(http)), out, None))
            }
        }
    }
}
