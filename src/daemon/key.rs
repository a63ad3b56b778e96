//! Everything the loop can be woken by.

use crate::agent::line::Wire;
use crate::base::{ChildId, ProcId, Stream};
use crate::proto::cluster::SocketId;

/// Names a connection; never reused, so that an event for a closed one finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u64);

/// Names a listening socket; never reused either.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListenerId(pub u64);

/// What became ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// A signal arrived, `SIGCHLD` among them.
    Signals,
    /// Someone wants to talk to us.
    Listener(ListenerId),
    Connection(ConnId),
    /// A child wrote something.
    Output(ProcId, Stream),
    /// A child said something over its channel, or there is room in it.
    Channel(ChildId),
    /// A child said something on its notification descriptor.
    Notification(ChildId),
    /// A child sent a datagram to the notify socket.
    NotifySocket,
    /// A process that is not our child (adopted) has ended.
    Adopted(ChildId),
    /// Somebody connects to a cluster whose connections are handed out in turn.
    Cluster(SocketId),
    /// The keeper said something, or died.
    Keeper,
    /// A connection of the agent's.
    Outside(Wire),
    /// The connection of a health check.
    Probe(ChildId),
    /// It is time for what happens at times of day, or the clock was set.
    Alarm,
    /// Another thread has finished something.
    Waker,
}
