//! Clients of the control socket: accepting, reading, writing, limits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use serde_json::json;

use crate::base::{Now, Time};
use crate::daemon::key::{ConnId, Key};
use crate::daemon::{Daemon, TRIM_AFTER};
use crate::proto::buffer::Class;
use crate::proto::control::{Control, Hello};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{Publication, envelope};
use crate::proto::messages::session::{Answer, Hangup};
use crate::proto::messages::stamp::MessageIds;
use crate::reactor::{Interest, Reactor, Readiness, Ready, Slot};
use crate::supervisor::vocabulary::Target;
use crate::sys::peer::{self, PeerCredentials};
use crate::sys::{fds, process};

/// Bytes read of one connection in one turn.
const READ_BUDGET: usize = 16 * 1024;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// A client that takes nothing of what waits for it is closed after this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections of one uid other than root and the daemon's own.
const MAX_FOREIGN: usize = 64;
/// Connections kept free for the daemon's own user and root.
const RESERVED: usize = 16;
/// How long accepting pauses when there is no descriptor to be had.
const PAUSE: Duration = Duration::from_millis(100);

/// One client.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    slot: Slot,
    peer: PeerCredentials,
    pub owner: bool,
    pub control: Control,
    /// Since when nothing of what waits was taken.
    stuck_since: Option<Time>,
    /// Close when everything is sent.
    closing: bool,
    wants_write: bool,
}

/// All clients and the socket they come from.
#[derive(Debug)]
pub struct Connections {
    listener: Option<(UnixListener, Slot)>,
    clients: BTreeMap<ConnId, Connection>,
    next: u64,
    limit: usize,
    /// The socket's mode lets a group in.
    group_may_enter: bool,
    /// Given up for a moment to tell a client that there is no room.
    spare: Option<File>,
    /// Accepting goes on then.
    paused_until: Option<Time>,
    buffer: Vec<u8>,
}

impl Connections {
    /// `limit`: connections at a time.
    #[must_use]
    pub fn new(
        listener: Option<(UnixListener, Slot)>,
        limit: usize,
        group_may_enter: bool,
    ) -> Self {
        Self {
            listener,
            clients: BTreeMap::new(),
            next: 0,
            limit,
            group_may_enter,
            spare: spare(),
            paused_until: None,
            buffer: vec![0; READ_BUDGET],
        }
    }

    #[must_use]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.clients.get_mut(&id)
    }

    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.clients.values().any(|client| !client.closing && client.control.has_more())
    }

    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.clients.values().all(|client| client.control.out.is_empty())
    }

    /// When a stuck client is given up, or accepting goes on.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let stuck = self.clients.values().filter_map(|client| client.stuck_since).min();
        [stuck.map(|since| since.after(PATIENCE)), self.paused_until].into_iter().flatten().min()
    }

    /// Whether anyone subscribed to `event`.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.clients.values().any(|client| client.control.session.subscriptions().has(event))
    }

    /// The filters of all subscriptions to lines.
    #[must_use]
    pub fn line_filters(&self) -> Vec<Option<Vec<Target>>> {
        self.clients
            .values()
            .filter_map(|client| client.control.session.subscriptions().filter("log_message"))
            .map(|filter| filter.map(<[Target]>::to_vec))
            .collect()
    }

    /// Offers news to every client.
    pub fn publish(&mut self, news: &Publication, ids: &MessageIds) {
        for client in self.clients.values_mut().filter(|client| !client.closing) {
            client.control.session.publish(news, ids, &mut client.control.out);
        }
    }

    /// Tells everyone that the daemon is going down.
    pub fn say_good_bye(&mut self, reason: &str, now: Now, ids: &MessageIds) {
        let line =
            envelope("shutdown", &json!({"reason": reason}).to_string(), now.wall, None, ids);
        for client in self.clients.values_mut() {
            let _ = client.control.out.push(line.clone(), Class::Reply);
            client.closing = true;
        }
    }
}

fn spare() -> Option<File> {
    fds::null_device().ok().map(File::from)
}

impl Daemon {
    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some((listener, slot)) = &self.connections.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reactor.drained(*slot, Readiness::READ);
                    return;
                }
                Err(error) if fds::is_out_of_descriptors(&error) => {
                    if !self.turn_away() {
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
    fn turn_away(&mut self) -> bool {
        self.connections.spare = None;
        if let Some((listener, _)) = &self.connections.listener {
            let _ = listener.accept();
        }
        self.connections.spare = spare();
        if self.connections.spare.is_none() {
            self.pause_accepting();
        }
        self.connections.spare.is_some()
    }

    fn pause_accepting(&mut self) {
        if let Some((_, slot)) = &self.connections.listener {
            self.reactor.want(*slot, Readiness::NONE);
            self.connections.paused_until = Some(self.now.mono.after(PAUSE));
        }
    }

    fn welcome(&mut self, mut stream: UnixStream) {
        let Ok(peer) = peer::peer_credentials(&stream) else { return };
        let own_uid = process::effective_uid();
        let owner = peer.uid == own_uid || peer.uid == 0;
        let connections = &mut self.connections;
        let limit =
            if owner { connections.limit } else { connections.limit.saturating_sub(RESERVED) };
        let foreign = connections.clients.values().filter(|client| client.peer.uid == peer.uid);
        if connections.clients.len() >= limit || (!owner && foreign.count() >= MAX_FOREIGN) {
            return;
        }
        let id = ConnId(connections.next);
        connections.next += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let Ok(slot) = self.reactor.add(&mut stream, interest, Key::Connection(id)) else { return };
        self.reactor.want(slot, Readiness::READ);
        let home = self.paths.state.to_string_lossy();
        let hello = Hello { pid: process::own_pid().raw(), home: &home, owner };
        let mut control = Control::greet(&hello, self.now.wall, &self.ids);
        let may_enter = owner || self.connections.group_may_enter;
        if !may_enter {
            let error = ErrorReply::new(Code::ForbiddenUser, "this daemon serves another user");
            let line = envelope("error", &json!(error).to_string(), self.now.wall, None, &self.ids);
            let _ = control.out.push(line, Class::Reply);
        }
        self.connections.clients.insert(
            id,
            Connection {
                stream,
                slot,
                peer,
                owner,
                control,
                stuck_since: None,
                closing: !may_enter,
                wants_write: false,
            },
        );
    }

    pub(super) fn on_connection(&mut self, id: ConnId, ready: Ready<Key>) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        if ready.readiness.contains(Readiness::WRITE) {
            client.wants_write = false;
            self.reactor.want(client.slot, Readiness::READ);
        }
        if !ready.readiness.contains(Readiness::READ) {
            return;
        }
        if client.closing {
            // Nothing of it is read any more, its end included: that must keep nobody awake.
            self.reactor.drained(client.slot, Readiness::READ);
            return;
        }
        if client.control.has_more() {
            // Whole lines wait to be understood: until then no more is read, so that only a line
            // that is too long can pass the limit of a line.
            return;
        }
        let mut asks = Vec::new();
        let end = match client.stream.read(&mut self.connections.buffer) {
            Ok(0) => Some(None),
            Ok(length) => {
                let bytes = self.connections.buffer.get(..length).unwrap_or_default();
                let understood = client.control.receive(bytes, self.now.wall, &self.ids, &mut asks);
                understood.err().map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.reactor.drained(client.slot, Readiness::READ);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(_) => Some(None),
        };
        for (tag, ask) in asks {
            self.ask(id, tag, ask);
        }
        self.settle();
        match end {
            None => {}
            Some(None) => self.hang_up(id),
            Some(Some(hangup)) => self.end_connection(id, hangup),
        }
    }

    /// The client broke a rule: it gets what is queued, then the end.
    fn end_connection(&mut self, id: ConnId, hangup: Hangup) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        match hangup {
            Hangup::Malformed(why) => {
                client.closing = true;
                self.own_log.info(format_args!(
                    "client closed: {why} pid={} uid={}",
                    client.peer.pid.map_or(0, crate::base::Pid::raw),
                    client.peer.uid
                ));
            }
            Hangup::TooSlow => self.hang_up(id),
        }
    }

    /// Forgets a client. What it asked for goes on.
    pub(super) fn hang_up(&mut self, id: ConnId) {
        let Some(mut client) = self.connections.clients.remove(&id) else { return };
        let _ = self.reactor.remove(client.slot, &mut client.stream);
        if client.control.session.subscriptions().has("log_message") {
            self.recount_watchers();
        }
        if self.connections.paused_until.take().is_some() {
            self.resume_accepting();
        }
    }

    fn resume_accepting(&mut self) {
        self.connections.paused_until = None;
        if self.connections.spare.is_none() {
            self.connections.spare = spare();
        }
        if let Some((_, slot)) = &self.connections.listener {
            self.reactor.want(*slot, Readiness::READ);
        }
    }

    /// Understands more of what clients sent at once: a slice of each in every turn.
    pub(super) fn understand_unread(&mut self) {
        let mut asked = Vec::new();
        let mut ended = Vec::new();
        for (&id, client) in &mut self.connections.clients {
            if client.closing || !client.control.has_more() {
                continue;
            }
            let mut asks = Vec::new();
            let understood = client.control.understand(self.now.wall, &self.ids, &mut asks);
            asked.extend(asks.into_iter().map(|(tag, ask)| (id, tag, ask)));
            if let Err(hangup) = understood {
                ended.push((id, hangup));
            }
        }
        for (id, tag, ask) in asked {
            self.ask(id, tag, ask);
        }
        for (id, hangup) in ended {
            self.end_connection(id, hangup);
        }
    }

    /// Sends what waits, gives up who is stuck. The last thing in a turn: what is queued later
    /// would lie there until something else happens.
    pub(super) fn flush_connections(&mut self) {
        if self.connections.paused_until.is_some_and(|until| until <= self.now.mono) {
            self.resume_accepting();
        }
        let mut gone = Vec::new();
        for (&id, client) in &mut self.connections.clients {
            let mut stays = client.flush(&mut self.reactor, self.now.mono);
            let control = &mut client.control;
            if control.session.catch_up(self.now.wall, &self.ids, &mut control.out) {
                stays &= client.flush(&mut self.reactor, self.now.mono);
            }
            if !stays {
                gone.push(id);
            }
        }
        for id in gone {
            self.hang_up(id);
        }
    }

    /// Answers one request of a client, if the client is still there.
    pub(super) fn reply(&mut self, id: ConnId, tag: u64, answer: &Answer) {
        self.trim_at = Some(self.now.mono.after(TRIM_AFTER));
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        let control = &mut client.control;
        let sent = control.session.reply(tag, answer, self.now.wall, &self.ids, &mut control.out);
        if sent.is_err() {
            self.hang_up(id);
        }
    }
}

impl Connection {
    /// Sends what the peer takes; false when the connection is over.
    fn flush(&mut self, reactor: &mut Reactor<Key>, now: Time) -> bool {
        if self.control.out.is_empty() {
            return !self.closing;
        }
        if self.wants_write {
            return self.stuck_since.is_none_or(|since| now < since.after(PATIENCE));
        }
        let Ok(sent) = self.control.out.send(&mut self.stream) else { return false };
        if self.control.out.is_empty() {
            self.stuck_since = None;
            return !self.closing;
        }
        self.stuck_since = if sent > 0 { Some(now) } else { self.stuck_since.or(Some(now)) };
        self.wants_write = true;
        reactor.drained(self.slot, Readiness::WRITE);
        reactor.want(self.slot, Readiness::READ | Readiness::WRITE);
        true
    }
}
