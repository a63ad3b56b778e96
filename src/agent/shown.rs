//! How the agent's connections are, for people and for metrics.

use serde_json::Value;

use crate::agent::Agent;
use crate::agent::line::{Line, Wire};
use crate::agent::queue::Queue;

/// One connection as it is shown.
#[derive(Debug)]
pub struct Link<'a> {
    pub wire: Wire,
    pub line: &'a Line,
    pub waiting: usize,
    pub bytes: usize,
    pub dropped: u64,
    pub is_fine: bool,
}

impl Agent {
    /// What waits and went for each transporter that there is, for people and for metrics.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        Wire::ALL.into_iter().filter_map(|wire| {
            let line = self.line(wire);
            let queue: Option<&Queue> = match wire {
                Wire::WebSocket => Some(&self.socket.queue),
                Wire::Mqtt => self.fleet.as_ref().map(|fleet| &fleet.queue),
                #[cfg(feature = "agent-axon")]
                Wire::Push => Some(&self.axon.queue),
                _ => None,
            };
            let is_there = match wire {
                Wire::Verify => self.config.root.is_some(),
                Wire::WebSocket => self.config.websocket.is_some(),
                Wire::Push | Wire::Reverse => self.config.axon.is_some(),
                Wire::Mqtt => self.config.mqtt.is_some(),
            };
            let (waiting, bytes) = queue.map_or((0, 0), Queue::waiting);
            is_there.then(|| Link {
                wire,
                line,
                waiting,
                bytes,
                dropped: queue.map_or(0, |queue| queue.dropped),
                is_fine: if wire == Wire::Verify { self.verify.is_fine() } else { line.is_open() },
            })
        })
    }

    /// Whether every transporter that there is, is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.links().all(|link| link.wire == Wire::Verify || link.is_fine)
    }

    /// The place for people that the root told of.
    #[must_use]
    pub fn remote_host(&self) -> Option<&str> {
        self.verify.endpoints.get("web").and_then(Value::as_str)
    }

    /// Whether the root has let this host in.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.config.root.is_none() || self.verify.is_fine()
    }
}
