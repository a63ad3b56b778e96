//! The channel of a child: its socket, what was read of it and what waits for it.
//!
//! | file       | what it knows                                        |
//! |------------|------------------------------------------------------|
//! | `mod`      | making, reading, writing and ending channels         |
//! | `messages` | what becomes of what a program says                  |
//! | `intercom` | sessions of intercom, and what clients have them say |
//! | `requests` | what clients have programs told                      |
//! | `handles`  | sockets and connections on their way to a child      |
//!
//! A channel belongs to one child, so that nothing an earlier child said or was asked is taken for
//! a later one's. Its end is not the child's: a program may close it and run on. When the main
//! process has ended, what is still in the channel is heard before anybody is told of that.
//!
//! A channel that is not used is two descriptors and a few words; one that is idle less than 320
//! bytes, without a buffer.

mod handles;
mod intercom;
mod messages;
mod requests;

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use crate::base::{ChildId, ProcId, Time};
use crate::config::program;
use crate::daemon::Daemon;
use crate::daemon::entries::Pipe;
use crate::daemon::key::Key;
use crate::proto::ipc::dnode::{METHODS, Refusal, Session};
use crate::proto::ipc::hub::Link;
use crate::proto::ipc::{HANDLE_ACK, Lines, Outgoing, Piece};
use crate::reactor::{Interest, Readiness, Ready, Slot};
use crate::supervisor::spec::{AppSpec, Intercom, Ipc, Terms};
use crate::sys::{channel, fds};

pub use messages::Trouble;
use requests::Asked;

/// Bytes read at once, and so many before others have their turn: some hundred messages.
const CHUNK: usize = 16 * 1024;
/// Read of a channel whose child has ended, at most: what the kernel holds, and some more that a
/// descendant may go on to write.
const LAST_WORDS: usize = 1024 * 1024;

/// The first number of a descriptor that is no standard stream.
const FIRST: i32 = 3;

/// The daemon's end of a channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    watch: Slot,
    lines: Lines,
    out: Outgoing,
    /// In bytes.
    max_line: usize,
    max_queue: usize,
    /// The child takes nothing at the moment.
    blocked: bool,
    /// The child's end is closed for what we say.
    deaf: bool,
    /// Looked at again before the turn ends.
    touched: bool,
    /// Something was refused because too much waits; not told again before there is room.
    full: bool,
    /// Handles that came and could not be acknowledged yet.
    unacknowledged: u32,
    troubles: messages::Troubles,
    handles: Option<Box<handles::Handles>>,
    /// With intercom, from the moment in which it is used.
    session: Option<Box<Session>>,
    /// What the app has said about its channel.
    terms: Rc<Terms>,
    counts: Counts,
}

/// What has passed since the child began.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lines_in: u64,
    lines_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Lines that were no JSON, were too long, or did not fit into what waits.
    bad: u32,
    long: u32,
    refused: u32,
}

/// A child's channel. Most programs never use theirs: until then it is no more than a socket.
#[derive(Debug)]
pub enum Line {
    Quiet(OwnedFd, Slot),
    InUse(Box<Channel>),
}

/// Channels in general.
#[derive(Debug, Default)]
pub struct Channels {
    touched: Vec<ChildId>,
    /// Closed when there is nothing else to do in a turn.
    ended: Vec<Channel>,
    asked: Vec<Asked>,
    /// Questions so far; each has a number.
    questions: u64,
}

impl Channels {
    fn question(&mut self, number: u64) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.is_question(number))
    }

    /// When an answer has been waited for long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.asked.iter().map(Asked::until).min()
    }
}

/// Why a child was not told something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsaid {
    /// It does not run, or has closed its channel.
    Gone,
    /// It was given no channel.
    NoChannel,
    /// It does not read, and too much waits for it.
    Overflow,
    /// The message is one that ends programs, or is Node's own.
    Reserved,
    /// It has not begun to speak intercom.
    NoSession,
    /// It has no form in which it could be said.
    Malformed,
}

impl From<Refusal> for Unsaid {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSession => Self::NoSession,
            Refusal::Gone => Self::Gone,
            Refusal::Overflow => Self::Overflow,
            Refusal::Reserved => Self::Reserved,
            Refusal::Malformed => Self::Malformed,
        }
    }
}

impl Unsaid {
    /// The word in replies.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::NoChannel => "no-channel",
            Self::Overflow => "overflow",
            Self::Reserved => "reserved",
            Self::NoSession => "no-session",
            Self::Malformed => "malformed",
        }
    }
}

/// Both ends of a channel before there is a child.
#[derive(Debug)]
pub struct Offer {
    number: i32,
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Offer {
    /// `None`: the app wants none.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`.
    pub fn to(spec: &AppSpec) -> io::Result<Option<Self>> {
        let Some(number) = number(spec) else { return Ok(None) };
        let (ours, theirs) = channel::pair()?;
        Ok(Some(Self { number, ours: fds::unless_last(ours)?, theirs }))
    }

    /// What the child is given, and under which number.
    pub fn theirs(&self) -> (i32, BorrowedFd<'_>) {
        (self.number, self.theirs.as_fd())
    }
}

/// The number of the channel's descriptor in the child, behind the sockets it inherits; `None`: it
/// gets none.
#[must_use]
pub fn number(spec: &AppSpec) -> Option<i32> {
    let taken = spec.notification_fd.and_then(|fd| i32::try_from(fd).ok());
    let sockets = i32::try_from(spec.listen.len()).unwrap_or_default();
    let first = FIRST + sockets;
    (spec.ipc != Ipc::Off).then_some(if taken == Some(first) { first + 1 } else { first })
}

/// Whether Node's own variable names the channel. A program that does not know it would hand it
/// down to one that does, which then finds no such descriptor, and aborts.
#[must_use]
pub fn is_nodes(spec: &AppSpec, program: &Path) -> bool {
    match spec.ipc {
        Ipc::Off | Ipc::Fd => false,
        Ipc::Node => true,
        Ipc::Auto if spec.is_cluster() => true,
        Ipc::Auto => program::is_node(program, spec.interpreter.is_none()),
    }
}

impl Channel {
    fn new(socket: OwnedFd, watch: Slot, terms: &Rc<Terms>) -> Self {
        let bytes = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            socket,
            watch,
            lines: Lines::default(),
            out: Outgoing::default(),
            max_line: bytes(terms.ipc_max_line),
            max_queue: bytes(terms.ipc_max_queue),
            blocked: false,
            deaf: false,
            touched: false,
            full: false,
            unacknowledged: 0,
            troubles: messages::Troubles::default(),
            handles: None,
            session: None,
            terms: Rc::clone(terms),
            counts: Counts::default(),
        }
    }
}

impl Daemon {
    /// Watches the channel of a child that runs. `None`: it cannot be watched; the child finds it
    /// closed.
    pub(super) fn open_channel(
        &mut self,
        id: ChildId,
        offer: Offer,
        spec: &AppSpec,
    ) -> Option<Line> {
        let raw = offer.ours.as_raw_fd();
        let source = &mut Pipe::source(&raw);
        let watch = match self.reactor.add(source, Interest::READABLE, Key::Channel(id)) {
            Ok(watch) => watch,
            Err(error) => {
                let why = crate::sys::describe(&error);
                self.own_log.error(format_args!("cannot watch a channel: {why}"));
                return None;
            }
        };
        if spec.intercom != Intercom::Eager {
            return Some(Line::Quiet(offer.ours, watch));
        }
        let mut channel = Box::new(Channel::new(offer.ours, watch, &spec.terms));
        let mut session = Box::new(Session::new(id.0));
        session.announced = channel.out.push(METHODS, channel.max_queue).is_ok();
        channel.session = Some(session);
        channel.touched = true;
        self.channels.touched.push(id);
        Some(Line::InUse(channel))
    }

    /// A child's channel, which is in use from now on.
    fn channel(&mut self, id: ChildId) -> Option<&mut Channel> {
        let child = self.children.get_mut(id)?;
        if let Some(Line::Quiet(..)) = child.channel {
            let terms = &self.entries.get(&child.process)?.spec.terms;
            if let Some(Line::Quiet(socket, watch)) = child.channel.take() {
                child.channel = Some(Line::InUse(Box::new(Channel::new(socket, watch, terms))));
            }
        }
        match &mut child.channel {
            Some(Line::InUse(channel)) => Some(channel),
            Some(Line::Quiet(..)) | None => None,
        }
    }

    pub(super) fn on_channel(&mut self, id: ChildId, ready: Ready<Key>) {
        if ready.readiness.contains(Readiness::WRITE) {
            if let Some(channel) = self.channel(id) {
                channel.blocked = false;
            }
            self.touch_channel(id);
        }
        if ready.readiness.contains(Readiness::READ) && self.read_channel(id, CHUNK) {
            self.end_channel(id);
        }
    }

    /// Hears what the child said, up to so many bytes. True: nothing will come any more.
    fn read_channel(&mut self, id: ChildId, budget: usize) -> bool {
        let mut buffer = [0; CHUNK];
        let mut heard = 0;
        while heard < budget {
            let Some(channel) = self.channel(id) else { return false };
            match channel::receive(channel.socket.as_fd(), &mut buffer) {
                Ok(0) => return true,
                Ok(length) => {
                    heard += length;
                    channel.counts.bytes_in += length as u64;
                    self.hear(id, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let watch = channel.watch;
                    self.reactor.drained(watch, Readiness::READ);
                    return false;
                }
                Err(_) => return true,
            }
        }
        false
    }

    fn hear(&mut self, id: ChildId, mut chunk: &[u8]) {
        let Some(channel) = self.channel(id) else { return };
        let (mut lines, limit) = (std::mem::take(&mut channel.lines), channel.max_line);
        while let Some(piece) = lines.next(&mut chunk, limit) {
            match piece {
                Piece::Line(line) => self.on_line(id, line),
                Piece::TooLong => self.complain(id, Trouble::TooLong),
            }
        }
        if let Some(channel) = self.channel(id) {
            channel.lines = lines;
        }
    }

    /// The main process has ended: its last words, then the end of its channel.
    pub(super) fn hear_last_of(&mut self, id: ChildId) {
        if self.channel(id).is_some() {
            self.read_channel(id, LAST_WORDS);
            self.end_channel(id);
        }
    }

    /// Nothing is heard and nothing is said any more.
    fn end_channel(&mut self, id: ChildId) {
        let Some(Line::InUse(channel)) =
            self.children.get_mut(id).and_then(|child| child.channel.take())
        else {
            return;
        };
        let had_session = channel.session.as_ref().is_some_and(|session| session.is_open());
        self.channels.ended.push(*channel);
        self.worker_left(id);
        self.note_silence(id);
        self.leave_hub(Link::Child(id));
        if had_session {
            self.tell_intercom(id, "intercom:rpcexit", None, &[]);
        }
        self.tell_disconnected(id);
    }

    /// Asks a child to end, as PM2 does.
    ///
    /// # Errors
    ///
    /// [`Unsaid`].
    pub(super) fn ask_to_end(&mut self, child: ChildId) -> Result<(), Unsaid> {
        self.say(child, b"\"shutdown\"\n")
    }

    /// Queues a message for the child of a process.
    ///
    /// # Errors
    ///
    /// [`Unsaid`]; nothing was queued. `null` ends the programs of two libraries, and what looks
    /// like a message of Node's own is not for anybody to send.
    pub(super) fn say_to(&mut self, process: ProcId, message: &Value) -> Result<(), Unsaid> {
        self.say_text_to(process, message, &message.to_string())
    }

    /// The same for a message as somebody has written it: `text`, on one line.
    fn say_text_to(&mut self, process: ProcId, message: &Value, text: &str) -> Result<(), Unsaid> {
        let is_nodes = |cmd: &str| cmd.starts_with("NODE_");
        if message.is_null() || message.get("cmd").and_then(Value::as_str).is_some_and(is_nodes) {
            return Err(Unsaid::Reserved);
        }
        let child = self.entries.get(&process).and_then(|entry| entry.child);
        let child = child.ok_or(Unsaid::Gone)?;
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        line.push('\n');
        self.say(child, line.as_bytes())
    }

    /// Queues a line, its end included, for a child.
    ///
    /// # Errors
    ///
    /// [`Unsaid`]; nothing was queued.
    pub(super) fn say(&mut self, id: ChildId, line: &[u8]) -> Result<(), Unsaid> {
        let Some(child) = self.children.get(id).filter(|child| child.lives) else {
            return Err(Unsaid::Gone);
        };
        let had_one = child.has_channel;
        let Some(channel) = self.channel(id).filter(|channel| !channel.deaf) else {
            return Err(if had_one { Unsaid::Gone } else { Unsaid::NoChannel });
        };
        let limit = channel.max_queue;
        if channel.out.push(line, limit).is_err() {
            // There may be room by now.
            self.send_waiting(id);
            let Some(channel) = self.channel(id) else { return Err(Unsaid::Gone) };
            if channel.out.push(line, limit).is_err() {
                channel.counts.refused = channel.counts.refused.saturating_add(1);
                if !std::mem::replace(&mut channel.full, true) {
                    self.complain(id, Trouble::Overflow);
                }
                return Err(Unsaid::Overflow);
            }
        }
        if let Some(channel) = self.channel(id) {
            channel.counts.lines_out += 1;
            channel.counts.bytes_out += line.len() as u64;
        }
        self.touch_channel(id);
        Ok(())
    }

    /// Bytes that may wait for a child.
    pub(super) fn channel_limit(&mut self, id: ChildId) -> usize {
        self.channel(id).map_or(0, |channel| channel.max_queue)
    }

    /// Bytes that wait for it.
    pub(super) fn channel_queue(&self, id: ChildId) -> usize {
        match self.children.get(id).and_then(|child| child.channel.as_ref()) {
            Some(Line::InUse(channel)) => channel.out.waiting().len(),
            Some(Line::Quiet(..)) | None => 0,
        }
    }

    fn touch_channel(&mut self, id: ChildId) {
        if let Some(channel) = self.channel(id)
            && !std::mem::replace(&mut channel.touched, true)
        {
            self.channels.touched.push(id);
        }
    }

    /// Sends what waits for children, all of a turn at once, and closes what has ended.
    pub(super) fn flush_channels(&mut self) {
        while let Some(id) = self.channels.touched.pop() {
            if let Some(channel) = self.channel(id) {
                channel.touched = false;
                self.send_waiting(id);
            }
        }
        for channel in self.channels.ended.drain(..) {
            let raw = channel.socket.as_raw_fd();
            let _ = self.reactor.remove(channel.watch, &mut Pipe::source(&raw));
        }
    }

    /// Sends what the child takes now.
    fn send_waiting(&mut self, id: ChildId) {
        let Some(channel) = self.channel(id) else { return };
        let was_blocked = channel.blocked;
        while !channel.blocked && !channel.deaf {
            while channel.unacknowledged > 0
                && channel.out.push(HANDLE_ACK, channel.max_queue).is_ok()
            {
                channel.unacknowledged -= 1;
            }
            if channel.out.waiting().is_empty() {
                break;
            }
            let sent = match (channel.out.next(), channel.handle()) {
                ((bytes, true), Some(handle)) => {
                    channel::send_with(channel.socket.as_fd(), bytes, handle)
                }
                ((bytes, _), _) => channel::send(channel.socket.as_fd(), bytes),
            };
            match sent {
                Ok(sent) => channel.out.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => channel.blocked = true,
                Err(_) => channel.deaf = true,
            }
        }
        if channel.deaf {
            // What the child said before is heard until the end.
            channel.out = Outgoing::default();
            channel.unacknowledged = 0;
        }
        if channel.out.waiting().len() <= channel.max_queue / 2 {
            channel.full = false;
        }
        if channel.blocked != was_blocked {
            self.watch_for_room(id);
        }
    }

    /// Room is waited for only where there was none: otherwise the daemon would wake whenever a
    /// child reads.
    fn watch_for_room(&mut self, id: ChildId) {
        let Some(channel) = self.channel(id) else { return };
        let (raw, watch) = (channel.socket.as_raw_fd(), channel.watch);
        let (interest, wanted) = if channel.blocked {
            (Interest::READABLE | Interest::WRITABLE, Readiness::READ | Readiness::WRITE)
        } else {
            (Interest::READABLE, Readiness::READ)
        };
        let source = &mut Pipe::source(&raw);
        let changed = self
            .reactor
            .suspend(watch, source)
            .and_then(|()| self.reactor.resume(watch, source, interest));
        self.reactor.want(watch, wanted);
        if let Err(error) = changed {
            let why = crate::sys::describe(&error);
            self.own_log.error(format_args!("cannot watch a channel: {why}"));
            self.end_channel(id);
        }
    }
}

/// When something was complained of last.
type LastTime = Option<Time>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_channel_is_small() {
        assert!(size_of::<Channel>() <= 296, "{}", size_of::<Channel>());
    }

    #[test]
    fn the_channel_makes_way_for_the_descriptor_of_readiness() {
        let mut spec = AppSpec::default();
        assert_eq!(number(&spec), Some(3));
        spec.notification_fd = Some(3);
        assert_eq!(number(&spec), Some(4));
        spec.notification_fd = Some(4);
        assert_eq!(number(&spec), Some(3));
        spec.ipc = Ipc::Off;
        assert_eq!(number(&spec), None);
    }
}
