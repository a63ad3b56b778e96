//! ipevents: messages between processes that form a tree, with the daemon at its top.
//!
//! ```text
//! > {"from":"7","pids":["7"],"type":"toParents","event":"newListener","args":["pong"]}
//! > {"from":"7","pids":["7"],"type":"toParents","event":"online","args":[]}
//! < {"from":"1","pids":["1"],"to":"7","type":"toChild","event":"parent","args":["1"]}
//! ```
//!
//! Each hop appends its own id to `pids` when it receives; so the last is the neighbour that sent,
//! and a message that comes round again is known. What the daemon does with each type:
//!
//! | type                  | to                                                        | told |
//! |-----------------------|-----------------------------------------------------------|------|
//! | `toParents`, `toGM`   | nobody further                                            | yes  |
//! | `toSiblings`          | the other peers that want it                              | no   |
//! | `broadcast`           | every peer that wants it and has not had it               | yes  |
//! | `sendTo`              | the next hop of `route`; else where `to` was heard from   | no   |
//! | `toChilds`, `toChild` | nobody: they do not travel upwards                        | no   |
//!
//! A peer is known by what it calls itself, unless another is called that already: then it has a
//! name of the hub's, and names are replaced at the boundary, both ways.
//!
//! Knows no socket and no clock. `args` pass as the text they came as. Source: ipevents 0.1.3.

use std::borrow::Cow;

use serde_json::Value;

use crate::base::ChildId;
use crate::json::json;
use crate::proto::ipc::Message;
use crate::proto::ipc::members::{elements, quote, string};
use crate::sorted::{SortedMap, SortedSet};

/// Hops of a message at most.
const MAX_HOPS: usize = 32;
/// Origins whose way is remembered.
const MAX_ROUTES: usize = 4096;
/// Events one peer announces; of one that announces more, all are wanted.
const MAX_LISTENERS: usize = 1024;
/// Bytes of a name in those.
const MAX_NAME: usize = 256;
/// What every client on a Unix socket calls itself.
const NAMELESS: &str = "undefined:undefined";

/// The connection of a peer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Link {
    /// The channel of a child.
    Child(ChildId),
    /// A connection, by its number.
    Socket(u64),
}

/// A direct neighbour.
#[derive(Debug)]
pub struct Peer {
    /// `ipc`, `unix` or `tcp`.
    pub kind: &'static str,
    /// What it calls itself.
    wire: String,
    /// Its name here.
    pub id: String,
    pub listeners: SortedSet<String>,
    /// It announced more than is kept.
    listens_to_all: bool,
    /// Messages that did not fit into its queue.
    pub dropped: u64,
}

impl Peer {
    fn wants(&self, event: &str) -> bool {
        self.listens_to_all || self.listeners.is_empty() || self.listeners.contains(event)
    }
}

#[derive(Debug)]
struct Route {
    link: Link,
    /// From the origin to the neighbour.
    path: Vec<String>,
    age: u64,
}

/// What comes of a message.
#[derive(Debug, Eq, PartialEq)]
pub enum Deed {
    /// `lost`: whom to tell if it cannot be sent.
    Send { to: Link, line: String, lost: Option<Box<Lost>> },
    /// To those who listen outside. `payload`: a JSON object.
    Tell { event: &'static str, payload: String },
    /// What is wrong with the message, which was dropped.
    Wrong(&'static str),
}

/// A message that has one receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lost {
    from: String,
    to: String,
    event: String,
}

/// Nobody knows the way to a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoute;

/// A message on its way.
struct Letter<'a> {
    from: Cow<'a, str>,
    pids: Vec<Cow<'a, str>>,
    to: Option<Cow<'a, str>>,
    route: Option<Vec<Cow<'a, str>>>,
    kind: Cow<'a, str>,
    /// JSON text.
    event: &'a str,
    name: Cow<'a, str>,
    /// JSON text.
    args: &'a str,
}

/// An id as text, also where it is a number.
fn id(json: &str) -> Cow<'_, str> {
    string(json).unwrap_or(Cow::Borrowed(json))
}

impl<'a> Letter<'a> {
    fn read(message: &Message<'a>) -> Option<Self> {
        let pids: Vec<_> = elements(message.pids?).take(MAX_HOPS + 1).map(id).collect();
        Some(Self {
            from: message.from.map_or_else(|| pids.first().cloned().unwrap_or_default(), id),
            pids,
            to: message.to.map(id),
            route: message
                .route
                .filter(|route| route.starts_with('['))
                .map(|route| elements(route).take(MAX_HOPS + 1).map(id).collect()),
            kind: message.kind()?,
            event: message.event?,
            name: message.event.and_then(string).unwrap_or_default(),
            args: message.args?,
        })
    }

    /// `old` becomes `new` wherever it names a process.
    fn rename(&mut self, old: &str, new: &str) {
        let all = self.pids.iter_mut().chain(self.route.iter_mut().flatten());
        for name in all.chain([&mut self.from]).chain(&mut self.to) {
            if **name == *old {
                *name = Cow::Owned(new.to_owned());
            }
        }
    }

    /// As JSON, `old` written as `new`.
    fn text(&self, (old, new): (&str, &str)) -> String {
        let mut out = String::with_capacity(self.args.len() + 128);
        let name =
            |out: &mut String, id: &str| out.push_str(&quote(if id == old { new } else { id }));
        let list = |out: &mut String, ids: &[Cow<'_, str>]| {
            for (at, id) in ids.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                name(out, id);
            }
            out.push_str(if ids.is_empty() { "[]" } else { "]" });
        };
        out.push_str("{\"from\":");
        name(&mut out, &self.from);
        out.push_str(",\"pids\":");
        list(&mut out, &self.pids);
        if let Some(to) = &self.to {
            out.push_str(",\"to\":");
            name(&mut out, to);
        }
        if let Some(route) = &self.route {
            out.push_str(",\"route\":");
            list(&mut out, route);
        }
        out.push_str(",\"type\":\"");
        out.push_str(&self.kind);
        out.push_str("\",\"event\":");
        out.push_str(self.event);
        out.push_str(",\"args\":");
        out.push_str(self.args);
        out.push('}');
        out
    }
}

/// The grand master.
#[derive(Debug)]
pub struct Hub {
    /// Its own name.
    pub id: String,
    peers: SortedMap<Link, Peer>,
    names: SortedMap<String, Link>,
    routes: SortedMap<String, Route>,
    /// Names given so far.
    named: u64,
    /// Messages so far.
    messages: u64,
}

impl Hub {
    #[must_use]
    pub fn new(id: String) -> Self {
        Self {
            id,
            peers: SortedMap::new(),
            names: SortedMap::new(),
            routes: SortedMap::new(),
            named: 0,
            messages: 0,
        }
    }

    #[must_use]
    pub fn has(&self, link: Link) -> bool {
        self.peers.contains_key(&link)
    }

    /// The direct neighbours.
    pub fn peers(&self) -> impl Iterator<Item = (Link, &Peer)> {
        self.peers.iter().map(|(&link, peer)| (link, peer))
    }

    /// Every process that was heard of, with the neighbour it is behind and the path up to that.
    pub fn tree(&self) -> impl Iterator<Item = (&str, Link, &[String])> {
        self.routes.iter().map(|(name, route)| (name.as_str(), route.link, route.path.as_slice()))
    }

    /// Takes a message of the class [`Ipevents`](crate::proto::ipc::Class::Ipevents).
    pub fn receive(
        &mut self,
        link: Link,
        kind: &'static str,
        message: &Message<'_>,
        announce: bool,
    ) -> Vec<Deed> {
        let Some(mut letter) = Letter::read(message) else { return vec![Deed::Wrong("malformed")] };
        let last = letter.pids.last().cloned().unwrap_or_default();
        if !self.peers.contains_key(&link) {
            self.join(link, kind, &last);
        }
        let Some(peer) = self.peers.get_mut(&link) else { return Vec::new() };
        if *last != *peer.wire {
            return vec![Deed::Wrong("spoofed")];
        }
        if peer.wire != peer.id {
            letter.rename(&peer.wire, &peer.id);
        }
        if letter.pids.len() > MAX_HOPS || letter.pids.iter().any(|hop| **hop == *self.id) {
            return vec![Deed::Wrong("loop")];
        }
        let own = peer.id.clone();
        self.messages += 1;
        self.learn(link, &letter);
        letter.pids.push(Cow::Owned(self.id.clone()));
        match &*letter.kind {
            "toParents" => self.up(link, &own, &letter, announce),
            "toGM" => vec![tell(&letter)],
            "toSiblings" => self.fan(&letter, Some(&letter.from)),
            "broadcast" => {
                let mut deeds = vec![tell(&letter)];
                deeds.extend(self.fan(&letter, None));
                deeds
            }
            "sendTo" => self.pass(letter),
            _ => vec![Deed::Wrong("wrong-direction")],
        }
    }

    fn join(&mut self, link: Link, kind: &'static str, wire: &str) {
        let mut id = wire.to_owned();
        while id == NAMELESS || id == self.id || self.names.contains_key(&id) {
            self.named += 1;
            id = format!("{kind}:{}", self.named);
        }
        self.names.insert(id.clone(), link);
        let peer = Peer {
            kind,
            wire: wire.to_owned(),
            id,
            listeners: SortedSet::new(),
            listens_to_all: false,
            dropped: 0,
        };
        self.peers.insert(link, peer);
    }

    /// Remembers where an origin is.
    fn learn(&mut self, link: Link, letter: &Letter<'_>) {
        if letter.pids.first() != Some(&letter.from) {
            return;
        }
        let age = self.messages;
        if let Some(known) = self.routes.get_mut(&*letter.from) {
            known.age = age;
            if known.link == link && known.path.iter().eq(letter.pids.iter()) {
                return;
            }
        }
        if self.routes.len() >= MAX_ROUTES && !self.routes.contains_key(&*letter.from) {
            let oldest = self.routes.iter().min_by_key(|(_, route)| route.age);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.routes.remove(&oldest);
            }
        }
        let path = letter.pids.iter().map(|id| id.to_string()).collect();
        self.routes.insert(letter.from.to_string(), Route { link, path, age });
    }

    fn up(&mut self, link: Link, own: &str, letter: &Letter<'_>, announce: bool) -> Vec<Deed> {
        match &*letter.name {
            "newListener" => {
                let name = elements(letter.args).next().and_then(string);
                let (Some(name), Some(peer)) = (name, self.peers.get_mut(&link)) else {
                    return vec![Deed::Wrong("malformed")];
                };
                if peer.listeners.len() >= MAX_LISTENERS || name.len() > MAX_NAME {
                    peer.listens_to_all = true;
                } else if !peer.listeners.contains(&*name) {
                    peer.listeners.insert(name.into_owned());
                }
                Vec::new()
            }
            "online" => {
                let mut deeds = vec![presence("ipevents:online", &letter.from)];
                if letter.from == own {
                    let args = format!("[{}]", quote(&self.id));
                    deeds.extend(self.originate("toChild", own, "\"parent\"", &args).ok());
                }
                if announce {
                    deeds.extend(self.announce("\"online\"", &letter.from));
                }
                deeds
            }
            "offline" => {
                let gone = elements(letter.args).next().map(id).unwrap_or_default();
                self.routes.remove(&*gone);
                let mut deeds = vec![presence("ipevents:offline", &gone)];
                if announce {
                    deeds.extend(self.announce("\"offline\"", &gone));
                }
                deeds
            }
            _ => vec![tell(letter)],
        }
    }

    fn fan(&self, letter: &Letter<'_>, skipped: Option<&str>) -> Vec<Deed> {
        let mut line: Option<String> = None;
        let mut deeds = Vec::new();
        for (&to, peer) in self.peers.iter() {
            let has_had_it = letter.pids.iter().any(|hop| **hop == *peer.id);
            if has_had_it || skipped == Some(&*peer.id) || !peer.wants(&letter.name) {
                continue;
            }
            // Written once for all who are called what they call themselves.
            let line = match peer.id == peer.wire {
                true => line.get_or_insert_with(|| letter.text(("", ""))).clone(),
                false => letter.text((&peer.id, &peer.wire)),
            };
            deeds.push(Deed::Send { to, line, lost: None });
        }
        deeds
    }

    fn pass(&self, mut letter: Letter<'_>) -> Vec<Deed> {
        let Some(to) = letter.to.clone() else { return vec![Deed::Wrong("malformed")] };
        if *to == *self.id {
            return vec![tell(&letter)];
        }
        let route = letter.route.get_or_insert_default();
        let hop = route.pop().unwrap_or_else(|| to.clone());
        let lost = Lost {
            from: letter.from.to_string(),
            to: to.to_string(),
            event: letter.event.to_owned(),
        };
        let link = self.names.get(&*hop).copied().or_else(|| {
            let known = self.routes.get(&*to)?;
            let below = known.path.split_last()?.1;
            letter.route = Some(below.iter().map(|hop| Cow::Owned(hop.clone())).collect());
            Some(known.link)
        });
        let Some((to, peer)) = link.and_then(|link| Some((link, self.peers.get(&link)?))) else {
            return self.undeliverable(&lost, "no-route").into_iter().collect();
        };
        let line = letter.text((&peer.id, &peer.wire));
        vec![Deed::Send { to, line, lost: Some(Box::new(lost)) }]
    }

    /// Tells the origin that its message did not arrive; nobody is told of such a notice.
    #[must_use]
    pub fn undeliverable(&self, lost: &Lost, reason: &str) -> Option<Deed> {
        if lost.event == "\"undeliverable\"" || lost.from == self.id {
            return None;
        }
        let what = format!(
            "[{{\"to\":{},\"event\":{},\"reason\":\"{reason}\"}}]",
            quote(&lost.to),
            lost.event
        );
        self.originate("sendTo", &lost.from, "\"undeliverable\"", &what).ok()
    }

    /// A message of the grand master's own to one process. `event`, `args`: JSON text.
    fn originate(&self, kind: &str, to: &str, event: &str, args: &str) -> Result<Deed, NoRoute> {
        let known = self.routes.get(to);
        let (link, path) = match known {
            Some(route) if kind == "sendTo" => (route.link, route.path.as_slice()),
            _ => (*self.names.get(to).ok_or(NoRoute)?, &[][..]),
        };
        let peer = self.peers.get(&link).ok_or(NoRoute)?;
        let below = path.split_last().map_or(&[][..], |(_, below)| below);
        let route = below.iter().map(|hop| Cow::Borrowed(hop.as_str())).collect();
        let letter = Letter {
            to: Some(Cow::Borrowed(to)),
            route: (kind == "sendTo").then_some(route),
            ..self.letter(kind, event, args)
        };
        Ok(Deed::Send { to: link, line: letter.text((&peer.id, &peer.wire)), lost: None })
    }

    fn letter<'a>(&'a self, kind: &'a str, event: &'a str, args: &'a str) -> Letter<'a> {
        Letter {
            from: Cow::Borrowed(&self.id),
            pids: vec![Cow::Borrowed(&self.id)],
            to: None,
            route: None,
            kind: Cow::Borrowed(kind),
            event,
            name: string(event).unwrap_or_default(),
            args,
        }
    }

    fn announce(&self, event: &str, who: &str) -> Vec<Deed> {
        let args = format!("[{}]", quote(who));
        self.fan(&self.letter("toChilds", event, &args), Some(who))
    }

    /// Says something as the grand master.
    ///
    /// # Errors
    ///
    /// Nobody knows the way to `to`.
    pub fn say(
        &self,
        kind: &str,
        to: Option<&str>,
        event: &str,
        args: &Value,
    ) -> Result<Vec<Deed>, NoRoute> {
        let (event, args) = (quote(event), args.to_string());
        match (kind, to) {
            ("toChilds" | "broadcast", _) => Ok(self.fan(&self.letter(kind, &event, &args), None)),
            (_, Some(to)) => self.originate(kind, to, &event, &args).map(|deed| vec![deed]),
            (_, None) => Err(NoRoute),
        }
    }

    /// A message to this peer did not fit.
    pub fn note_dropped(&mut self, link: Link) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.dropped += 1;
        }
    }

    /// The connection of a peer has ended.
    pub fn leave(&mut self, link: Link, announce: bool) -> Vec<Deed> {
        let Some(peer) = self.peers.remove(&link) else { return Vec::new() };
        self.names.remove(&peer.id);
        self.routes.retain(|_, route| route.link != link);
        let mut deeds = vec![presence("ipevents:offline", &peer.id)];
        if announce {
            deeds.extend(self.announce("\"offline\"", &peer.id));
        }
        deeds
    }
}

fn tell(letter: &Letter<'_>) -> Deed {
    Deed::Tell { event: "ipevents:event", payload: letter.text(("", "")) }
}

fn presence(event: &'static str, id: &str) -> Deed {
    Deed::Tell { event, payload: json!({"id": id}).to_string() }
}

#[cfg(test)]
mod tests;
