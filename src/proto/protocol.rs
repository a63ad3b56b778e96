//! What every protocol looks like to whoever owns the sockets.
//!
//! A protocol takes bytes and gives back demands; it takes answers and news and fills the peer's
//! outbox. The registry of all protocols is [`Protocol`]: a new one is a module, a line there and a
//! kind of listener.

use crate::base::{Now, Time};
use crate::proto::buffer::Outbox;
use crate::proto::control::Control;
use crate::proto::http::{Http, Request, View};
use crate::proto::ipc::peer::HubPeer;
use crate::proto::messages::event::Publication;
use crate::proto::messages::request::Ask;
use crate::proto::messages::session::{Answer, Session};
use crate::proto::messages::stamp::MessageIds;
use crate::proto::pm2::bus::Bus;
use crate::proto::pm2::methods::Call;
use crate::proto::pm2::rpc::Rpc;
use crate::proto::ws::Ws;

/// Messages of one connection understood in one go, before other connections have theirs.
pub const MESSAGES_PER_TURN: usize = 64;

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hangup {
    /// All is said.
    Done,
    /// The peer broke the rules.
    Malformed(&'static str),
    /// The peer does not take its replies: it is closed without another word.
    TooSlow,
}

/// What a peer wants of the daemon.
#[derive(Debug)]
pub enum Demand {
    /// A message of the layer that all interfaces of pmd's own share.
    Ask(Ask),
    /// A call of PM2's RPC.
    Pm2(Call),
    /// A message for the hub of ipevents. Needs no answer.
    Hub(Vec<u8>),
    /// An HTTP request.
    Http(Box<Request>),
    /// What a request over HTTP may see, which may need figures first.
    View(Box<View>),
    /// The subscription of a client that names no events. Needs no answer.
    DefaultSubscription,
    /// The status of every process it follows: it has missed changes. Needs no answer.
    Statuses,
}

/// What a protocol may touch.
#[derive(Debug)]
pub struct Context<'a> {
    pub now: Now,
    pub ids: &'a MessageIds,
    pub out: &'a mut Outbox,
    /// Each with the tag that comes back with its answer.
    pub demands: &'a mut Vec<(u64, Demand)>,
}

/// One conversation with one peer.
pub trait Conversation {
    /// Appends what was received and understands up to [`MESSAGES_PER_TURN`] messages of it.
    ///
    /// # Errors
    ///
    /// [`Hangup`]: send what is queued, then close.
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup>;

    /// Understands more of what was received.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    fn understand(&mut self, _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }

    /// Whether [`Self::understand`] would get on at once.
    fn has_more(&self) -> bool {
        false
    }

    /// Whether more bytes are welcome. While they are not, the peer's wait in the kernel.
    fn wants_input(&self) -> bool {
        !self.has_more()
    }

    /// Answers the demand that carried `tag`; a tag that was answered is ignored.
    ///
    /// # Errors
    ///
    /// [`Hangup`].
    fn reply(&mut self, _tag: u64, _: &Answer, _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }

    /// Whether an answer is due. The peer's half-close does not end such a conversation.
    fn owes(&self) -> bool {
        false
    }

    /// Passes on news if this peer asked for it.
    ///
    /// # Errors
    ///
    /// [`Hangup`].
    fn publish(&mut self, _news: &Publication, _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }

    /// The peer took some of what waited.
    ///
    /// # Errors
    ///
    /// [`Hangup`].
    fn sent(&mut self, _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }

    /// When [`Self::handle_timeout`] wants to be called.
    fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// The deadline has passed; or not quite: it is looked at again.
    ///
    /// # Errors
    ///
    /// [`Hangup`].
    fn handle_timeout(&mut self, _cx: &mut Context<'_>) -> Result<(), Hangup> {
        Ok(())
    }

    /// The peer is too slow: one last word instead of all that waits, if the protocol has one.
    fn give_up(&mut self, _cx: &mut Context<'_>) {}

    /// The daemon goes down: last words. The connection is closed when they are sent.
    fn say_good_bye(&mut self, _reason: &str, _cx: &mut Context<'_>) {}

    /// What the peer subscribed to and is owed, in the layer of messages.
    fn session(&self) -> Option<&Session> {
        None
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        None
    }
}

/// The protocols there are.
#[derive(Debug)]
pub enum Protocol {
    Control(Control),
    Pm2Rpc(Rpc),
    Pm2Bus(Bus),
    Http(Box<Http>),
    Ws(Box<Ws>),
    Hub(HubPeer),
}

impl Protocol {
    #[must_use]
    pub fn as_ws(&self) -> Option<&Ws> {
        if let Self::Ws(ws) = self { Some(ws) } else { None }
    }

    /// The conversation, whatever the protocol.
    pub fn talk(&mut self) -> &mut dyn Conversation {
        match self {
            Self::Control(control) => control,
            Self::Pm2Rpc(rpc) => rpc,
            Self::Pm2Bus(bus) => bus,
            Self::Http(http) => &mut **http,
            Self::Ws(ws) => &mut **ws,
            Self::Hub(peer) => peer,
        }
    }

    /// The same, to look at.
    #[must_use]
    pub fn view(&self) -> &dyn Conversation {
        match self {
            Self::Control(control) => control,
            Self::Pm2Rpc(rpc) => rpc,
            Self::Pm2Bus(bus) => bus,
            Self::Http(http) => &**http,
            Self::Ws(ws) => &**ws,
            Self::Hub(peer) => peer,
        }
    }
}
