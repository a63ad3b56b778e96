//! Connections of every kind: reading, writing, deadlines, ends.
//!
//! A connection is a socket, an outbox and a protocol. The protocol owns what was received and is
//! not yet understood; everything else is the same for all. What happened to a connection in a turn
//! is noted ([`Connections::touch`]) and made good at its end: one vectored write, then what the
//! loop is to wait for. A connection to which nothing happened costs nothing.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use crate::base::{Now, Pid, Time};
use crate::daemon::accept::Listening;
use crate::daemon::key::{ConnId, Key, ListenerId};
use crate::daemon::socket::{Peer, Socket};
use crate::daemon::{Daemon, TRIM_AFTER};
use crate::proto::buffer::{Class, Frame, Outbox};
use crate::proto::ipc::hub::Link;
use crate::proto::messages::event::Publication;
use crate::proto::messages::session::{Answer, Session, Subscriptions};
use crate::proto::messages::stamp::MessageIds;
use crate::proto::pm2::amp::Pair;
use crate::proto::pm2::bus::Bus;
use crate::proto::protocol::{Context, Conversation, Demand, Hangup, Protocol};
use crate::reactor::{Interest, Reactor, Readiness, Ready, Slot};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::vocabulary::Target;
use crate::sys::crash;

/// Bytes read of one connection in one turn.
const READ_BUDGET: usize = 16 * 1024;
/// A client that takes nothing of what waits for it is closed after this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events of one turn that the agent is told; more are left out.
const MOST_TAPPED: usize = 1024;
/// How long a connection that is closed may go on to send what nobody reads.
const LINGER: Duration = Duration::from_secs(1);
/// How long lines may wait for a client to take those before them.
const PRESS: Duration = Duration::from_millis(100);

/// One peer.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    slot: Slot,
    pub peer: Peer,
    pub protocol: Protocol,
    pub(super) out: Outbox,
    phase: Phase,
    /// Not begun before the peer takes the answers before.
    held: Vec<(u64, Demand)>,
    /// The peer sends nothing more.
    input_ended: bool,
    /// The peer takes no more at the moment.
    blocked: bool,
    /// The kernel is to say when it does. Else it would do so, and wake us, for every message that is
    /// taken out of a Unix socket.
    awaits_room: bool,
    /// Since when nothing of what waits was taken.
    stuck_since: Option<Time>,
    /// Since when more than half of its queue for events is full.
    pressed_since: Option<Time>,
    /// What the reactor was told to look for.
    wanted: Readiness,
    /// The entry in `Connections::alarms`.
    alarm: Option<Time>,
    touched: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    /// To be closed when everything is sent.
    Closing,
    /// Everything is sent and said to be the end; what still comes is thrown away.
    Lingering {
        until: Time,
    },
    /// To be closed at once.
    Lost,
}

/// All connections and the sockets they come from.
#[derive(Debug)]
pub struct Connections {
    pub(super) listeners: SortedMap<ListenerId, Listening>,
    pub(super) clients: SortedMap<ConnId, Box<Connection>>,
    pub(super) next: u64,
    pub(super) limit: usize,
    /// The control socket's mode lets a group in.
    pub(super) group_may_enter: bool,
    /// Given up for a moment to tell a client that there is no room.
    pub(super) spare: Option<File>,
    /// Accepting goes on then.
    pub(super) paused_until: Option<Time>,
    buffer: Vec<u8>,
    /// Events of PM2's bus, for the agent; none while there is none.
    tapped: Option<Vec<Frame>>,
    touched: Vec<ConnId>,
    /// Those whose messages were not all understood in one go.
    unread: SortedSet<ConnId>,
    /// When which is to be looked at, at the latest.
    alarms: SortedSet<(Time, ConnId)>,
}

impl Connections {
    #[must_use]
    pub fn new(group_may_enter: bool) -> Self {
        Self {
            listeners: SortedMap::new(),
            clients: SortedMap::new(),
            next: 0,
            limit: 0,
            group_may_enter,
            spare: super::accept::spare(),
            paused_until: None,
            buffer: vec![0; READ_BUDGET],
            tapped: None,
            touched: Vec::new(),
            unread: SortedSet::new(),
            alarms: SortedSet::new(),
        }
    }

    /// A connection somebody may still have something to do with.
    #[must_use]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.clients.get_mut(&id).map(AsMut::as_mut)
    }

    /// What a client of the layer of messages subscribed to and is owed.
    #[must_use]
    pub fn session(&mut self, id: ConnId) -> Option<&mut Session> {
        self.clients.get_mut(&id)?.protocol.talk().session_mut()
    }

    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.clients.values().all(|client| client.out.is_empty())
    }

    /// When a connection is to be looked at, or accepting goes on.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|&(at, _)| at);
        [alarm, self.paused_until].into_iter().flatten().min()
    }

    /// Whether anyone subscribed to `event`.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.sessions().any(|session| session.subscriptions().has(event))
    }

    /// The filters of all subscriptions to lines.
    #[must_use]
    pub fn line_filters(&self) -> Vec<Option<Vec<Target>>> {
        self.sessions()
            .filter_map(|session| session.subscriptions().filter("log_message"))
            .map(|filter| filter.map(<[Target]>::to_vec))
            .collect()
    }

    /// Everyone who is heard of in the layer of messages.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.clients.values().filter_map(|client| client.protocol.view().session())
    }

    /// Offers news to everyone. True if more news had better wait for someone, see
    /// [`Self::pressed_until`].
    pub fn publish(&mut self, news: &Publication, now: Now, ids: &MessageIds) -> bool {
        let mut presses = false;
        for (&id, client) in self.clients.iter_mut() {
            if client.hear(news, now, ids) && !std::mem::replace(&mut client.touched, true) {
                self.touched.push(id);
            }
            presses |= client.pressed_until(now.mono).is_some();
        }
        presses
    }

    /// Until when news had better wait, so that everyone who takes what it is sent misses nothing.
    /// Not for long: whoever is slower than that does not hold up the others.
    #[must_use]
    pub fn pressed_until(&self, now: Time) -> Option<Time> {
        self.clients.values().filter_map(|client| client.pressed_until(now)).max()
    }

    /// Hands news to one client.
    pub fn publish_to(&mut self, id: ConnId, news: &Publication, now: Now, ids: &MessageIds) {
        if self.clients.get_mut(&id).is_some_and(|client| client.hear(news, now, ids)) {
            self.touch(id);
        }
    }

    /// Answers a call of PM2's RPC.
    pub fn answer_pm2(&mut self, id: ConnId, tag: u64, reply: Pair) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Protocol::Pm2Rpc(rpc) = &mut client.protocol else { return };
        if let Err(hangup) = rpc.answer(tag, reply, &mut client.out) {
            client.end(hangup);
        }
        self.touch(id);
    }

    /// Clients of PM2's bus.
    #[must_use]
    pub fn pm2_listeners(&self) -> usize {
        let protocols = self.clients.values().map(|client| &client.protocol);
        protocols.filter(|protocol| matches!(protocol, Protocol::Pm2Bus(_))).count()
    }

    /// Lets a call of PM2's RPC end without an answer.
    pub fn leave_unanswered(&mut self, id: ConnId, tag: u64) {
        if let Some(Protocol::Pm2Rpc(rpc)) = self.clients.get_mut(&id).map(|it| &mut it.protocol) {
            rpc.leave_unanswered(tag);
        }
    }

    /// Keeps the events of the bus for [`Self::take_tapped`], or no longer.
    pub fn tap(&mut self, on: bool) {
        self.tapped = on.then(Vec::new);
    }

    /// The events since the last call.
    pub fn take_tapped(&mut self) -> Vec<Frame> {
        self.tapped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Passes an event on to everyone on PM2's bus.
    pub fn tell_pm2(&mut self, frame: &Frame, class: Class) {
        // Logs come to the agent on a way of their own.
        if let Some(tapped) = &mut self.tapped
            && tapped.len() < MOST_TAPPED
            && frame.get(5..11) != Some(b"s:log:")
        {
            tapped.push(frame.clone());
        }
        for (&id, client) in self.clients.iter_mut() {
            if !matches!(client.protocol, Protocol::Pm2Bus(_)) || client.phase != Phase::Open {
                continue;
            }
            if let Err(hangup) = Bus::tell(frame.clone(), class, &mut client.out) {
                client.end(hangup);
            }
            if !std::mem::replace(&mut client.touched, true) {
                self.touched.push(id);
            }
        }
    }

    /// Tells everyone that the daemon is going down.
    pub fn say_good_bye(&mut self, reason: &str, now: Now, ids: &MessageIds) {
        let mut demands = Vec::new();
        for (&id, client) in self.clients.iter_mut() {
            if client.phase == Phase::Open {
                let (talk, mut cx) = client.context(now, ids, &mut demands);
                talk.say_good_bye(reason, &mut cx);
                client.phase = Phase::Closing;
            }
            if !std::mem::replace(&mut client.touched, true) {
                self.touched.push(id);
            }
        }
    }

    /// Something happened to a connection: it is looked at again before the turn ends.
    pub(super) fn touch(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(&id)
            && !std::mem::replace(&mut client.touched, true)
        {
            self.touched.push(id);
        }
    }

    fn forget(&mut self, id: ConnId) -> Option<Connection> {
        let client = self.clients.remove(&id)?;
        self.unread.remove(&id);
        if let Some(at) = client.alarm {
            self.alarms.remove(&(at, id));
        }
        Some(*client)
    }

    /// What the loop is to wait for on behalf of a connection.
    fn arrange(&mut self, id: ConnId, reactor: &mut Reactor<Key>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let wanted = client.interest();
        if wanted != client.wanted {
            client.wanted = wanted;
            reactor.want(client.slot, wanted);
        }
        if client.phase == Phase::Open && client.has_more() {
            self.unread.insert(id);
        } else {
            self.unread.remove(&id);
        }
        // An alarm that is too early only looks and sets the next.
        let due = client.deadline();
        if client.alarm.is_none_or(|set| due.is_none_or(|due| due < set)) && client.alarm != due {
            if let Some(set) = client.alarm {
                self.alarms.remove(&(set, id));
            }
            client.alarm = due;
            self.alarms.extend(due.map(|due| (due, id)));
        }
    }
}

impl Connection {
    pub(super) fn new(
        socket: Socket,
        slot: Slot,
        peer: Peer,
        protocol: Protocol,
        out: Outbox,
    ) -> Self {
        Self {
            socket,
            slot,
            peer,
            protocol,
            out,
            phase: Phase::Open,
            held: Vec::new(),
            input_ended: false,
            blocked: false,
            awaits_room: false,
            stuck_since: None,
            pressed_since: None,
            wanted: Readiness::READ,
            alarm: None,
            touched: false,
        }
    }

    /// The conversation and what it may touch.
    fn context<'a>(
        &'a mut self,
        now: Now,
        ids: &'a MessageIds,
        demands: &'a mut Vec<(u64, Demand)>,
    ) -> (&'a mut dyn Conversation, Context<'a>) {
        (self.protocol.talk(), Context { now, ids, out: &mut self.out, demands })
    }

    /// Takes news. True if it is to be looked at again.
    fn hear(&mut self, news: &Publication, now: Now, ids: &MessageIds) -> bool {
        if self.phase != Phase::Open || self.input_ended {
            return false;
        }
        let mut demands = Vec::new();
        let (talk, mut cx) = self.context(now, ids, &mut demands);
        match talk.publish(news, &mut cx) {
            Ok(()) => {
                if self.out.is_half_full(Class::Event) {
                    self.pressed_since.get_or_insert(now.mono);
                }
                !self.out.is_empty() && !self.blocked
            }
            Err(hangup) => {
                self.end(hangup);
                true
            }
        }
    }

    /// Closes when everything is sent, or at once.
    pub(super) fn end(&mut self, hangup: Hangup) {
        self.phase = match (hangup, self.phase) {
            (Hangup::TooSlow, _) => Phase::Lost,
            (Hangup::Done | Hangup::Malformed(_), Phase::Open) => Phase::Closing,
            (Hangup::Done | Hangup::Malformed(_), phase) => phase,
        };
    }

    fn pressed_until(&self, now: Time) -> Option<Time> {
        self.pressed_since.map(|since| since.after(PRESS)).filter(|&until| until > now)
    }

    /// Whether the peer has so many answers before it that it gets no more for now.
    fn has_enough(&self) -> bool {
        self.out.is_half_full(Class::Reply)
    }

    /// Whether there is something to be done for the peer at once.
    fn has_more(&self) -> bool {
        !self.has_enough() && (!self.held.is_empty() || self.protocol.view().has_more())
    }

    /// Whether an answer is due.
    fn owes(&self) -> bool {
        !self.held.is_empty() || self.protocol.view().owes()
    }

    fn interest(&self) -> Readiness {
        let reads = match self.phase {
            Phase::Open => {
                let has_time = !self.has_enough() && self.held.is_empty();
                has_time && !self.input_ended && self.protocol.view().wants_input()
            }
            Phase::Lingering { .. } => true,
            Phase::Closing | Phase::Lost => false,
        };
        let read = if reads { Readiness::READ } else { Readiness::NONE };
        if self.out.is_empty() { read } else { read | Readiness::WRITE }
    }

    fn deadline(&self) -> Option<Time> {
        let stuck = self.stuck_since.map(|since| since.after(PATIENCE));
        let own = match self.phase {
            Phase::Open => self.protocol.view().next_deadline(),
            Phase::Lingering { until } => Some(until),
            Phase::Closing | Phase::Lost => None,
        };
        [stuck, own].into_iter().flatten().min()
    }

    /// Sends what the peer takes. False when the connection is over.
    fn flush(&mut self, reactor: &mut Reactor<Key>, now: Time) -> bool {
        if !self.out.is_empty() && !self.blocked {
            crash::point("answer-before");
            let sent = self.out.send(&mut self.socket);
            crash::point("answer-after");
            match sent {
                Ok(_) => self.stuck_since = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    reactor.drained(self.slot, Readiness::WRITE);
                }
                Err(_) => return false,
            }
            self.pressed_since = self.pressed_since.filter(|_| self.out.is_half_full(Class::Event));
            self.blocked = !self.out.is_empty();
            if self.blocked {
                self.stuck_since.get_or_insert(now);
            }
            if self.blocked != self.awaits_room && self.await_room(reactor).is_err() {
                return false;
            }
        }
        if !self.out.is_empty() {
            return self.phase != Phase::Lost;
        }
        match self.phase {
            Phase::Open => !self.input_ended || self.owes(),
            Phase::Closing if self.socket.must_linger() && !self.input_ended => {
                self.socket.finish();
                self.phase = Phase::Lingering { until: now.after(LINGER) };
                true
            }
            Phase::Lingering { .. } => true,
            Phase::Closing | Phase::Lost => false,
        }
    }

    fn await_room(&mut self, reactor: &mut Reactor<Key>) -> io::Result<()> {
        self.awaits_room = self.blocked;
        let read = Interest::READABLE;
        let interest = if self.blocked { read | Interest::WRITABLE } else { read };
        reactor.change(self.slot, &mut self.socket, interest)
    }

    fn is_over(&self, now: Time) -> bool {
        let stuck = self.stuck_since.is_some_and(|since| since.after(PATIENCE) <= now);
        stuck || matches!(self.phase, Phase::Lingering { until } if until <= now)
    }
}

impl Daemon {
    pub(super) fn on_connection(&mut self, id: ConnId, ready: Ready<Key>) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        if ready.readiness.contains(Readiness::WRITE) {
            client.blocked = false;
        }
        self.connections.touch(id);
        if ready.readiness.contains(Readiness::READ) {
            self.read(id);
        }
    }

    fn read(&mut self, id: ConnId) {
        let connections = &mut self.connections;
        let Some(client) = connections.clients.get_mut(&id) else { return };
        if !client.interest().contains(Readiness::READ) {
            return;
        }
        let length = match client.socket.read(&mut connections.buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.reactor.drained(client.slot, Readiness::READ);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => return self.hang_up(id),
        };
        if client.phase != Phase::Open {
            if length == 0 {
                self.hang_up(id);
            }
            return;
        }
        if length == 0 {
            // What it asked for goes on; it gets what is queued, and what it is owed.
            client.input_ended = true;
            if !client.owes() {
                client.end(Hangup::Done);
            }
            return;
        }
        if length < connections.buffer.len() {
            self.reactor.read_short(client.slot);
        }
        let bytes = connections.buffer.get(..length).unwrap_or_default();
        let mut demands = Vec::new();
        let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
        let understood = talk.receive(bytes, &mut cx);
        self.meet(id, demands, understood);
        self.settle();
    }

    /// Does what a client demanded, and closes it if it is to be closed.
    pub(super) fn meet(
        &mut self,
        id: ConnId,
        demands: Vec<(u64, Demand)>,
        understood: Result<(), Hangup>,
    ) {
        for (tag, demand) in demands {
            // Of a peer that goes nothing is held: it would be too late.
            let demand = if understood.is_ok() { self.hold(id, tag, demand) } else { Some(demand) };
            let Some(demand) = demand else { continue };
            match self.must_measure(&demand) {
                Some(scope) => self.meet_when_measured(id, tag, demand, scope),
                None => self.meet_one(id, tag, demand),
            }
        }
        if let Err(hangup) = understood {
            self.end_connection(id, hangup);
        }
    }

    /// Keeps a demand for later if its peer has enough to take; otherwise gives it back.
    pub(super) fn hold(&mut self, id: ConnId, tag: u64, demand: Demand) -> Option<Demand> {
        if let Some(client) = self.connections.get_mut(id)
            && client.phase == Phase::Open
            && (client.has_enough() || !client.held.is_empty())
        {
            client.held.push((tag, demand));
            self.connections.touch(id);
            return None;
        }
        Some(demand)
    }

    pub(super) fn meet_one(&mut self, id: ConnId, tag: u64, demand: Demand) {
        match demand {
            Demand::Ask(ask) => self.ask(id, tag, ask),
            Demand::Pm2(call) => self.pm2_call(id, tag, call),
            Demand::Hub(line) => self.on_hub_line(id, &line),
            Demand::Http(request) => self.serve(id, tag, &request),
            Demand::View(view) => self.show_view(id, tag, &view),
            Demand::DefaultSubscription => self.subscribe_by_default(id),
            Demand::Statuses => {
                self.give(id, |daemon, subscriptions| daemon.snapshots(subscriptions))
            }
        }
    }

    /// Closes a connection as its protocol wants it.
    pub(super) fn end_connection(&mut self, id: ConnId, hangup: Hangup) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        client.end(hangup);
        if let Hangup::Malformed(why) = hangup {
            let peer = &client.peer;
            self.own_log.info(format_args!(
                "client closed: {why} pid={} uid={}",
                peer.pid.map_or(0, Pid::raw),
                peer.uid.map_or(-1, i64::from)
            ));
        }
        self.connections.touch(id);
    }

    /// Forgets a connection. What it asked for goes on.
    pub(super) fn hang_up(&mut self, id: ConnId) {
        let Some(mut client) = self.connections.forget(id) else { return };
        let _ = self.reactor.remove(client.slot, &mut client.socket);
        let session = client.protocol.view().session();
        let had_lines = session.is_some_and(|it| it.subscriptions().has("log_message"));
        if had_lines || matches!(client.protocol, Protocol::Pm2Bus(_)) {
            self.recount_watchers();
        }
        self.pm2_hung_up(id);
        if matches!(client.protocol, Protocol::Hub(_)) {
            self.leave_hub(Link::Socket(id.0));
        }
        drop(client);
        self.follow_metrics(id, &[]);
        if self.connections.paused_until.is_some() {
            self.resume_accepting();
        }
    }

    /// Understands more of what was sent at once, a slice of each connection, and looks after
    /// those whose time has come.
    pub(super) fn attend_connections(&mut self) {
        if self.connections.paused_until.is_some_and(|until| until <= self.now.mono) {
            self.resume_accepting();
        }
        while let Some(&(at, id)) = self.connections.alarms.first()
            && at <= self.now.mono
        {
            self.connections.alarms.pop_first();
            self.on_alarm(id);
        }
        for id in self.connections.unread.clone() {
            let Some(client) = self.connections.clients.get_mut(&id) else { continue };
            let mut demands = std::mem::take(&mut client.held);
            let mut understood = Ok(());
            if demands.is_empty() {
                let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
                understood = talk.understand(&mut cx);
            }
            self.connections.touch(id);
            self.meet(id, demands, understood);
        }
    }

    fn on_alarm(&mut self, id: ConnId) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        client.alarm = None;
        if client.is_over(self.now.mono) {
            return self.give_up(id);
        }
        let is_open = client.phase == Phase::Open;
        self.connections.touch(id);
        let Some(client) = self.connections.clients.get_mut(&id).filter(|_| is_open) else {
            return;
        };
        let mut demands = Vec::new();
        let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
        let went = talk.handle_timeout(&mut cx);
        self.meet(id, demands, went);
    }

    /// Sends what waits. The last thing in a turn: what is queued later would lie there until
    /// something else happens.
    pub(super) fn flush_connections(&mut self) {
        for id in std::mem::take(&mut self.connections.touched) {
            let Some(client) = self.connections.clients.get_mut(&id) else { continue };
            client.touched = false;
            let mut stays = client.flush(&mut self.reactor, self.now.mono);
            if stays && client.phase == Phase::Open {
                let mut demands = Vec::new();
                let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
                let went = talk.sent(&mut cx);
                self.meet(id, demands, went);
                let Some(client) = self.connections.clients.get_mut(&id) else { continue };
                stays = client.flush(&mut self.reactor, self.now.mono);
            }
            if stays {
                self.connections.arrange(id, &mut self.reactor);
            } else {
                self.give_up(id);
            }
        }
    }

    /// Closes a connection; a peer that was too slow may be told so.
    fn give_up(&mut self, id: ConnId) {
        if let Some(client) = self.connections.clients.get_mut(&id)
            && !client.out.is_empty()
        {
            let mut demands = Vec::new();
            let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
            talk.give_up(&mut cx);
            let _ = client.out.send(&mut client.socket);
        }
        self.hang_up(id);
    }

    /// Lets a conversation do something; closes it if it wants that. `None`: it is gone.
    pub(super) fn converse<R>(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Protocol, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let client = self.connections.clients.get_mut(&id)?;
        let mut demands = Vec::new();
        let out = &mut client.out;
        let mut cx = Context { now: self.now, ids: &self.ids, out, demands: &mut demands };
        let result = act(&mut client.protocol, &mut cx);
        self.connections.touch(id);
        self.meet(id, demands, Ok(()));
        Some(result)
    }

    /// Gives a subscriber what it is to know first.
    pub(super) fn give(
        &mut self,
        id: ConnId,
        what: impl FnOnce(&mut Self, &Subscriptions) -> Vec<Publication>,
    ) {
        let Some(session) = self.connections.session(id) else { return };
        let subscriptions = session.subscriptions().clone();
        let first = what(self, &subscriptions);
        self.converse(id, |protocol, cx| {
            let Some(session) = protocol.talk().session_mut() else { return };
            for news in first {
                session.give(&news, cx);
            }
        });
    }

    /// Answers one demand of a client, if the client is still there.
    pub(super) fn reply(&mut self, id: ConnId, tag: u64, answer: &Answer) {
        self.trim_at = Some(self.now.mono.after(TRIM_AFTER));
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        if let Protocol::Http(_) = client.protocol {
            return self.respond_with(id, tag, answer);
        }
        let mut demands = Vec::new();
        let (talk, mut cx) = client.context(self.now, &self.ids, &mut demands);
        let replied = talk.reply(tag, answer, &mut cx);
        self.connections.touch(id);
        self.meet(id, demands, replied);
    }
}
