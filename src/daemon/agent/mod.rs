//! The agent and the world: its connections as sources of the loop, what happens here as its
//! messages, what is asked from afar as requests to the supervisor.
//!
//! | file      | what it knows                                                |
//! |-----------|--------------------------------------------------------------|
//! | `sockets` | connections: names, addresses, what is read and sent         |
//! | `status`  | how everything is                                            |
//! | `events`  | events of the bus, and what processes write                  |
//! | `files`   | files that children name                                      |
//! | `orders`  | what is to be done on behalf of somebody elsewhere           |
//! | `link`    | where it is configured, how it is shown, switched on and off |
//!
//! An agent that is not configured is a null pointer.

mod events;
mod files;
mod link;
mod orders;
mod sockets;
mod status;
#[cfg(feature = "tls")]
mod tls;

use crate::agent::fleet::Say;
use crate::agent::line::Wire;
use crate::agent::{Agent, Effect};
use crate::base::{ProcId, Time};
use crate::config::agent::AgentConfig;
use crate::daemon::Daemon;
use crate::daemon::key::ListenerId;
use crate::daemon::pm2::uuid;
use crate::sorted::SortedMap;
use crate::sys::process;

use events::Pages;
use sockets::Live;
use status::Fixed;

/// Orders begun in one turn.
const ORDERS_PER_TURN: usize = 64;

/// The agent, or why there is none.
#[derive(Debug, Default)]
pub struct Outside {
    host: Option<Box<Host>>,
    /// Why it is off although it was to be on: a sentence.
    trouble: Option<Box<str>>,
}

/// The agent and what is kept for it.
#[derive(Debug)]
struct Host {
    agent: Agent,
    sockets: [Option<Live>; Wire::ALL.len()],
    /// Names that are being looked up, by their tickets.
    tickets: [Option<u64>; Wire::ALL.len()],
    /// Whom the other end has to prove to be, where there is TLS.
    #[cfg(feature = "tls")]
    names: [Option<String>; Wire::ALL.len()],
    /// `interactor.sock`.
    door: Option<ListenerId>,
    /// What is told of each process and changes only with its definition.
    fixed: SortedMap<ProcId, Fixed>,
    pages: Pages,
    /// An address of this host, and when it is looked up again.
    address: (String, Time),
    files: Option<files::Files>,
    /// A sample has been asked for, for the status.
    sampling: bool,
}

impl Outside {
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.host.is_some()
    }

    /// How it is.
    #[must_use]
    pub fn agent(&self) -> Option<&Agent> {
        self.host.as_deref().map(|host| &host.agent)
    }

    /// Why it is off although it was to be on.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// When something is to be done by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let host = self.host.as_deref()?;
        let status = host.agent.status_at().filter(|_| !host.sampling);
        let fleet = host.agent.fleet_wants();
        let fleet = fleet.filter(|(_, say)| *say == Say::State || !host.sampling);
        let fleet = fleet.map(|(at, _)| at);
        [host.agent.next_deadline(), status, fleet, host.pages.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Daemon {
    fn begin_agent(&mut self, config: AgentConfig) {
        let boot = uuid(process::random(), process::random());
        let agent = Agent::new(config, boot, process::random(), self.now);
        self.outside.host = Some(Box::new(Host {
            agent,
            sockets: Wire::ALL.map(|_| None),
            tickets: [None; Wire::ALL.len()],
            #[cfg(feature = "tls")]
            names: Wire::ALL.map(|_| None),
            door: None,
            fixed: SortedMap::new(),
            pages: Pages::default(),
            address: (String::new(), Time(0)),
            files: None,
            sampling: false,
        }));
        self.open_interactor();
        self.connections.tap(true);
        self.recount_watchers();
    }

    /// Ends the agent in order, and nothing else.
    pub(super) fn end_agent(&mut self) {
        self.carry_events_outside();
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        host.agent.stop(self.now);
        self.agent_effects();
        let Some(mut host) = self.outside.host.take() else { return };
        for live in host.sockets.iter_mut().filter_map(Option::take) {
            self.hang_up_outside(live);
        }
        if let Some(door) = host.door {
            self.connections.stop_listening(&mut self.reactor, door);
            let _ = std::fs::remove_file(self.agent_places().socket);
        }
        self.connections.tap(false);
        self.recount_watchers();
        self.own_log.info("agent: ended");
    }

    /// Does what is due, hands on what happened, sends what waits.
    pub(super) fn attend_agent(&mut self) {
        if self.outside.host.is_none() {
            return;
        }
        self.carry_events_outside();
        let now = self.now;
        if let Some(host) = self.outside.host.as_deref_mut()
            && host.agent.next_deadline().is_some_and(|at| at <= now.mono)
        {
            host.agent.handle_timeout(now);
        }
        self.carry_pages_outside();
        self.tell_status_outside();
        self.tell_fleet_outside();
        for _ in 0..ORDERS_PER_TURN {
            let next = self.outside.host.as_deref_mut();
            let Some(order) = next.and_then(|host| host.agent.next_order(now)) else { break };
            self.obey(order);
            self.settle();
        }
        // What is sent may end a connection, and that is to be carried out too.
        for _ in 0..2 {
            self.agent_effects();
            self.send_outside();
        }
        self.agent_effects();
    }

    fn agent_effects(&mut self) {
        while let Some(effect) =
            self.outside.host.as_deref_mut().and_then(|host| host.agent.take_effect())
        {
            match effect {
                Effect::Connect(wire, to) => self.connect_outside(wire, &to),
                Effect::Disconnect(wire, mut out) => {
                    let Some(host) = self.outside.host.as_deref_mut() else { return };
                    host.tickets[wire.index()] = None;
                    if let Some(mut live) = host.sockets[wire.index()].take() {
                        live.send_last(&mut out);
                        self.hang_up_outside(live);
                    }
                }
                Effect::Tell { warning: true, text } => self.own_log.warn(text),
                Effect::Tell { warning: false, text } => self.own_log.info(text),
                Effect::Logging => self.recount_watchers(),
            }
        }
    }
}
