//! What a process serves: its port, and its health (in `health.rs`).
//!
//! Rare, so it is kept outside the process.

use crate::supervisor::health::Health;
use crate::supervisor::process::Process;
use crate::supervisor::spec::Ports;
use crate::supervisor::vocabulary::PortWish;

/// See [`Process::port`].
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The port of the present child, or of the last one.
    port: Option<u16>,
    /// Asked for in place of the app's own.
    instead: Option<Ports>,
    pub(super) health: Option<Health>,
}

impl Process {
    /// The port that the present child was given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.last_port().filter(|_| self.child().is_some())
    }

    /// The ports that its next child may be given.
    #[must_use]
    pub fn ports(&self) -> Option<Ports> {
        self.asked_ports().or_else(|| self.spec().ports())
    }

    /// The port of the present child, or of the last one.
    #[must_use]
    pub fn last_port(&self) -> Option<u16> {
        self.served.as_ref()?.port
    }

    pub(super) fn asked_ports(&self) -> Option<Ports> {
        self.served.as_ref()?.instead
    }

    pub(super) fn port_wish(&self) -> Option<PortWish> {
        self.ports().map(|ports| PortWish { ports, last: self.last_port() })
    }

    /// Its child has this port. True if that is another one than before.
    pub(super) fn give(&mut self, port: Option<u16>) -> bool {
        let changed = self.last_port() != port;
        if changed {
            self.served.get_or_insert_default().port = port;
        }
        changed
    }

    /// What is to be served in place of the app's own ports. True if that is new.
    pub(super) fn serve_instead(&mut self, ports: Option<Ports>) -> bool {
        let changed = self.asked_ports() != ports;
        if changed {
            self.served.get_or_insert_default().instead = ports;
        }
        changed
    }

    /// Whether both are given the same, as far as it is saved.
    pub(super) fn serves_like(&self, other: &Self) -> bool {
        self.last_port() == other.last_port() && self.asked_ports() == other.asked_ports()
    }

    /// Whether a second child could only have the port of the present one.
    pub(super) fn would_share_its_port(&self, ports: Option<Ports>) -> bool {
        let fixed = ports.and_then(|ports| ports.fixed(self.instance));
        fixed.is_some() && fixed == self.port()
    }
}
