//! The hub of ipevents: over the channels of children, on a Unix socket and on TCP.
//!
//! Where it listens is a matter of the settings. Without any, a Unix socket in the runtime
//! directory is there from the first child on that speaks ipevents; before that nothing of it is.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mio::net::TcpListener;
use serde_json::Value;

use crate::base::{ChildId, Time};
use crate::daemon::Daemon;
use crate::daemon::accept::Door;
use crate::daemon::channel::Unsaid;
use crate::daemon::key::{ConnId, ListenerId};
use crate::daemon::pm2::{listen_for_owner, lives};
use crate::daemon::requests::data;
use crate::daemon::socket::Acceptor;
use crate::json::json;
use crate::proto::buffer::{Class, Outbox};
use crate::proto::ipc::Message;
use crate::proto::ipc::hub::{Deed, Hub, Link, NoRoute};
use crate::proto::ipc::peer::HubPeer;
use crate::proto::messages::channel;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::Publication;
use crate::proto::messages::session::Answer;
use crate::proto::protocol::{Hangup, Protocol};
use crate::sys::{describe, process};

/// Between two attempts to listen where somebody else does.
const RETRY: Duration = Duration::from_secs(5);
/// Between two complaints about messages.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
const SOCKET: &str = "ipevents.sock";

/// Where peers come from.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The hub and its sockets.
#[derive(Debug)]
pub struct Ipevents {
    hub: Hub,
    /// With what listens there; otherwise why nothing does.
    places: Vec<(Place, Result<ListenerId, String>)>,
    retry_at: Option<Time>,
    /// A child has spoken ipevents.
    is_used: bool,
    complained: Option<Time>,
}

impl Default for Ipevents {
    fn default() -> Self {
        Self {
            hub: Hub::new(process::own_pid().to_string()),
            places: Vec::new(),
            retry_at: None,
            is_used: false,
            complained: None,
        }
    }
}

impl Ipevents {
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Whether a child speaks it.
    #[must_use]
    pub fn has(&self, child: ChildId) -> bool {
        self.hub.has(Link::Child(child))
    }

    /// Why it is not where it should be.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.places.iter().filter_map(|(place, state)| {
            let why = state.as_ref().err()?;
            Some(format!("ipevents off: {} {why}", place.text()))
        })
    }
}

impl Place {
    fn text(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(address) => address.to_string(),
        }
    }
}

impl Daemon {
    /// Listens where the settings say, and no longer where they do not: there nobody stays.
    pub(super) fn open_hub(&mut self) {
        let settings = &self.settings.ipevents;
        let mut wanted = Vec::new();
        match &settings.unix {
            Some(path) => wanted.push(Place::Unix(path.clone())),
            None if self.ipevents.is_used => {
                wanted.push(Place::Unix(self.paths.runtime.join(SOCKET)));
            }
            None => {}
        }
        for &address in &settings.tcp {
            wanted.push(Place::Tcp(address));
            // `localhost` is either, and each is a socket of its own: clients are known by address.
            if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
                let other = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port());
                wanted.push(Place::Tcp(other));
            }
        }
        let before = std::mem::take(&mut self.ipevents.places);
        let (kept, gone): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|(place, _)| wanted.contains(place));
        for (place, state) in gone {
            if let Ok(id) = state {
                self.connections.stop_listening(&mut self.reactor, id);
            }
            if let Place::Unix(path) = &place {
                let _ = std::fs::remove_file(path);
            }
            let is_tcp = matches!(place, Place::Tcp(_));
            let all = self.connections.clients.iter();
            let leaving: Vec<ConnId> = all
                .filter(|(_, it)| matches!(it.protocol, Protocol::Hub(_)))
                .filter(|(_, it)| it.peer.address.is_some() == is_tcp)
                .map(|(&id, _)| id)
                .collect();
            for id in leaving {
                self.end_connection(id, Hangup::Done);
            }
        }
        self.ipevents.places = kept;
        for place in wanted {
            if !self.ipevents.places.iter().any(|(known, _)| *known == place) {
                self.ipevents.places.push((place, Err(String::new())));
            }
        }
        self.try_hub();
    }

    /// Tries again what could not be had, when it is time.
    pub(super) fn retry_hub(&mut self) {
        if self.ipevents.retry_at.is_some_and(|at| at <= self.now.mono) {
            self.try_hub();
        }
    }

    fn try_hub(&mut self) {
        self.ipevents.retry_at = None;
        let mut places = std::mem::take(&mut self.ipevents.places);
        // Where there is no IPv6, nobody misses it.
        places.retain_mut(|(place, state)| {
            let Err(before) = state else { return true };
            let is_new = before.is_empty();
            match self.listen_hub(place) {
                Ok(id) => {
                    self.own_log.info(format_args!("ipevents on: {}", place.text()));
                    *state = Ok(id);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return false,
                Err(error) => {
                    let why = describe(&error).to_string();
                    if is_new {
                        let text = place.text();
                        self.own_log.warn(format_args!("ipevents off: {text}: {why}"));
                    }
                    *state = Err(why);
                    self.ipevents.retry_at = Some(self.now.mono.after(RETRY));
                }
            }
            true
        });
        self.ipevents.places = places;
    }

    fn listen_hub(&mut self, place: &Place) -> io::Result<ListenerId> {
        let acceptor = match place {
            Place::Unix(path) if lives(path).is_some() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Place::Unix(path) => Acceptor::Unix(listen_for_owner(path)?),
            Place::Tcp(address) => Acceptor::Tcp(TcpListener::bind(*address)?),
        };
        self.connections.listen(&mut self.reactor, acceptor, Door::Hub)
    }

    pub(super) fn close_hub(&mut self) {
        for (place, state) in &self.ipevents.places {
            if let (Place::Unix(path), Ok(_)) = (place, state) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Who comes in by a socket of the hub.
    pub(super) fn greet_hub(&self) -> (Protocol, Outbox) {
        let settings = &self.settings.ipevents;
        (Protocol::Hub(HubPeer::new(settings.max_line)), Outbox::new(0, settings.max_queue))
    }

    /// A line of a peer on a socket.
    pub(super) fn on_hub_line(&mut self, id: ConnId, line: &[u8]) {
        let link = Link::Socket(id.0);
        let Some(client) = self.connections.get_mut(id) else { return };
        let kind = if client.peer.address.is_some() { "tcp" } else { "unix" };
        if !self.ipevents.hub.has(link) {
            let is_socket = |(link, _): &(Link, _)| matches!(link, Link::Socket(_));
            let peers = self.ipevents.hub.peers().filter(is_socket).count();
            if peers >= self.settings.ipevents.max_peers {
                return self.end_connection(id, Hangup::Malformed("too many peers"));
            }
        }
        if let Some(message) = Message::read(line) {
            self.on_ipevents(link, kind, &message);
        }
    }

    /// A message of ipevents, from a child or a peer on a socket.
    pub(super) fn on_ipevents(&mut self, link: Link, kind: &'static str, message: &Message<'_>) {
        if matches!(link, Link::Child(_)) && !std::mem::replace(&mut self.ipevents.is_used, true) {
            self.open_hub();
        }
        let announce = self.settings.ipevents.announce;
        let deeds = self.ipevents.hub.receive(link, kind, message, announce);
        self.do_all(Some(link), deeds);
    }

    /// The connection of a peer, if it was one, has ended.
    pub(super) fn leave_hub(&mut self, link: Link) {
        let deeds = self.ipevents.hub.leave(link, self.settings.ipevents.announce);
        self.do_all(Some(link), deeds);
    }

    fn do_all(&mut self, about: Option<Link>, deeds: Vec<Deed>) {
        let mut deeds = VecDeque::from(deeds);
        while let Some(deed) = deeds.pop_front() {
            match deed {
                Deed::Send { to, line, lost } => {
                    let Err(reason) = self.post(to, line) else { continue };
                    self.ipevents.hub.note_dropped(to);
                    let notice =
                        lost.and_then(|lost| self.ipevents.hub.undeliverable(&lost, reason));
                    deeds.extend(notice);
                }
                Deed::Tell { event, payload } => self.tell_hub(about, event, payload),
                Deed::Wrong(why) => self.complain_of_message(about, why),
            }
        }
    }

    /// Queues a line for a peer; gives back why it does not fit.
    fn post(&mut self, to: Link, mut line: String) -> Result<(), &'static str> {
        line.push('\n');
        let (id, most) = match to {
            Link::Child(id) => {
                let most = self.channel_limit(id);
                let said = self.say(id, line.as_bytes());
                return said.map_err(|unsaid| match unsaid {
                    Unsaid::Overflow if line.len() > most => "too-large",
                    Unsaid::Overflow => "overflow",
                    Unsaid::Gone
                    | Unsaid::NoChannel
                    | Unsaid::Reserved
                    | Unsaid::NoSession
                    | Unsaid::Malformed => "no-route",
                });
            }
            Link::Socket(id) => (ConnId(id), self.settings.ipevents.max_queue),
        };
        let client = self.connections.get_mut(id).ok_or("no-route")?;
        let length = line.len();
        let frame = line.into_bytes().into();
        let queued = client.out.push(frame, Class::Event);
        self.connections.touch(id);
        queued.map_err(|_| if length > most { "too-large" } else { "overflow" })
    }

    fn tell_hub(&mut self, about: Option<Link>, event: &str, payload: String) {
        if !self.connections.wants("channel_event") {
            return;
        }
        if let Some(Link::Child(id)) = about {
            return self.tell_channel(id, event, |_| payload);
        }
        let data = channel::of_nobody(event, &payload);
        self.broadcast(Publication::periodic("channel_event", self.now.wall, data).named(event));
    }

    fn complain_of_message(&mut self, about: Option<Link>, why: &'static str) {
        let payload = format!("{{\"reason\":\"{why}\"}}");
        self.tell_hub(about, "ipc:warn", payload);
        let now = self.now.mono;
        if self.ipevents.complained.is_none_or(|last| last.after(COMPLAIN_EVERY) <= now) {
            self.ipevents.complained = Some(now);
            self.own_log.warn(format_args!("ipevents: a message was dropped: {why}"));
        }
    }

    /// `ipevents.send`: a message of the hub's own.
    pub(super) fn send_by_hub(
        &mut self,
        kind: &str,
        to: Option<&str>,
        event: &str,
        args: &Value,
    ) -> Answer {
        match self.ipevents.hub.say(kind, to, event, args) {
            Ok(deeds) => {
                self.do_all(None, deeds);
                Answer::Data("done", "{}".to_owned())
            }
            Err(NoRoute) => {
                let to = to.unwrap_or_default();
                let text = format!("nobody knows the way to '{to}'");
                let error = ErrorReply::new(Code::OperationFailed, text);
                Answer::Error(error.with("reason", "no-route"))
            }
        }
    }

    /// `ipevents.peers`: the neighbours, and who was heard of behind them.
    pub(super) fn hub_peers(&self) -> Answer {
        let mut all = Vec::new();
        let process = |link: Link| match link {
            Link::Child(id) => self.subject_of_child(id).map(|subject| subject.name.to_string()),
            Link::Socket(_) => None,
        };
        for (link, peer) in self.ipevents.hub.peers() {
            let queued = match link {
                Link::Child(id) => self.channel_queue(id),
                Link::Socket(id) => {
                    let client = self.connections.clients.get(&ConnId(id));
                    client.map_or(0, |client| client.out.waiting(Class::Event))
                }
            };
            let listeners: Vec<&String> = peer.listeners.iter().collect();
            all.push(json!({
                "id": peer.id, "kind": peer.kind, "process": process(link),
                "listeners": listeners, "queued": queued, "dropped": peer.dropped,
                "path": [peer.id],
            }));
        }
        for (name, link, path) in self.ipevents.hub.tree().filter(|(_, _, path)| path.len() > 1) {
            let down: Vec<&String> = path.iter().rev().collect();
            all.push(json!({
                "id": name, "kind": "below", "process": process(link), "listeners": [],
                "queued": 0, "dropped": 0, "path": down,
            }));
        }
        let places: Vec<Value> = self
            .ipevents
            .places
            .iter()
            .map(|(place, state)| json!({"address": place.text(), "error": state.as_ref().err()}))
            .collect();
        data("ipevents_peers", &json!({"id": self.ipevents.hub.id, "peers": all, "listen": places}))
    }
}
