//! The agent's connections: names, addresses, what is read and what is sent.

use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;

use crate::agent::line::Wire;
use crate::daemon::Daemon;
use crate::daemon::key::Key;
use crate::daemon::names::literal;
use crate::proto::agent::endpoint::Endpoint;
use crate::proto::buffer::Outbox;
use crate::reactor::{Interest, Readiness, Ready, Slot};

/// Bytes read of one connection in one turn.
const READ_BUDGET: usize = 16 * 1024;
/// Writes to one connection in one turn.
const WRITES: usize = 8;

/// One connection.
#[derive(Debug)]
pub struct Live {
    stream: TcpStream,
    slot: Slot,
    is_connected: bool,
    /// The other end takes no more at the moment.
    is_blocked: bool,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Tls>,
    /// Addresses that are tried when this one does not work.
    more: Vec<SocketAddr>,
}

impl Live {
    /// What can be sent at once is; nobody waits for the rest.
    pub fn send_last(&mut self, out: &mut Outbox) {
        for _ in 0..WRITES {
            if out.is_empty() || !self.is_connected || self.send(out).is_err() {
                return;
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    fn send(&mut self, out: &mut Outbox) -> io::Result<usize> {
        out.send(&mut self.stream)
    }

    #[cfg(not(feature = "tls"))]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    #[cfg(feature = "tls")]
    fn send(&mut self, out: &mut Outbox) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => out.send(&mut super::tls::Through(tls, &mut self.stream)),
            None => out.send(&mut self.stream),
        }
    }

    #[cfg(feature = "tls")]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read(&mut self.stream, buffer),
            None => self.stream.read(buffer),
        }
    }

    /// Whether a short read means that the kernel has no more.
    fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_none();
        #[cfg(not(feature = "tls"))]
        true
    }

    /// Sends what TLS has to say. True: more than the socket takes.
    fn is_pressed(&mut self) -> io::Result<bool> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            match tls.flush(&mut self.stream) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => return Ok(tls.wants_write()),
            }
        }
        Ok(false)
    }

    fn connect(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.is_connected = true;
                let _ = self.stream.set_nodelay(true);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Daemon {
    pub(super) fn connect_outside(&mut self, wire: Wire, to: &Endpoint) {
        if matches!(wire, Wire::Verify | Wire::Mqtt) {
            self.learn_facts();
        }
        #[cfg(feature = "tls")]
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.names[wire.index()] = to.tls.then(|| to.host.clone());
        }
        if let Some(addresses) = literal(&to.host, to.port) {
            return self.connect_to(wire, addresses, None);
        }
        let ticket = self.ask_name(&to.host, to.port);
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        match ticket {
            Ok(Some(ticket)) => host.tickets[wire.index()] = Some(ticket),
            Ok(None) => host.agent.lost(wire, "too many name look-ups at a time", self.now),
            Err(error) => host.agent.lost(wire, &crate::sys::describe(&error), self.now),
        }
    }

    /// A name has been looked up; it may have been one of the agent's.
    pub(in crate::daemon) fn name_found_outside(
        &mut self,
        ticket: u64,
        addresses: Result<Vec<SocketAddr>, String>,
    ) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let waits = |wire: &Wire| host.tickets[wire.index()] == Some(ticket);
        let Some(wire) = Wire::ALL.into_iter().find(waits) else { return };
        host.tickets[wire.index()] = None;
        match addresses {
            Ok(addresses) => self.connect_to(wire, addresses, None),
            Err(why) => host.agent.lost(wire, &format!("name look-up: {why}"), self.now),
        }
    }

    /// Connects to the first of the addresses that does not fail at once.
    fn connect_to(&mut self, wire: Wire, more: Vec<SocketAddr>, failure: Option<String>) {
        if let Some(host) = self.outside.host.as_deref_mut()
            && let Some(old) = host.sockets[wire.index()].take()
        {
            self.hang_up_outside(old);
        }
        let mut failure = failure;
        let mut more = more.into_iter();
        while let Some(address) = more.next() {
            let opened = TcpStream::connect(address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let slot = self.reactor.add(&mut stream, interest, Key::Outside(wire))?;
                Ok((stream, slot))
            });
            match opened {
                Ok((stream, slot)) => {
                    self.reactor.want(slot, Readiness::WRITE);
                    let more = more.collect();
                    let live = Live {
                        stream,
                        slot,
                        is_connected: false,
                        is_blocked: true,
                        #[cfg(feature = "tls")]
                        tls: None,
                        more,
                    };
                    if let Some(host) = self.outside.host.as_deref_mut() {
                        host.sockets[wire.index()] = Some(live);
                    }
                    return;
                }
                Err(error) => failure = failure.or_else(|| Some(crate::sys::describe(&error))),
            }
        }
        let why = failure.unwrap_or_else(|| "the name has no address".to_owned());
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.lost(wire, &why, self.now);
        }
    }

    /// Something happened on a connection.
    pub(in crate::daemon) fn on_outside(&mut self, wire: Wire, ready: Ready<Key>) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let Some(live) = host.sockets[wire.index()].as_mut() else { return };
        if live.slot != ready.slot {
            return;
        }
        if !live.is_connected {
            match live.connect() {
                Ok(false) => return self.reactor.drained(ready.slot, Readiness::WRITE),
                Ok(true) => {
                    #[cfg(feature = "tls")]
                    if let Some(name) = &host.names[wire.index()] {
                        let config = &host.agent.config;
                        let own = config.mqtt.as_ref().filter(|_| wire == Wire::Mqtt);
                        let files = own.map_or(&config.tls, |own| &own.tls);
                        match super::tls::Tls::new(name, files) {
                            Ok(tls) => live.tls = Some(tls),
                            Err(why) => return host.agent.lost(wire, &why, self.now),
                        }
                    }
                    host.agent.connected(wire, self.now);
                }
                Err(error) => {
                    let more = std::mem::take(&mut live.more);
                    if let Some(live) = host.sockets[wire.index()].take() {
                        self.hang_up_outside(live);
                    }
                    return self.connect_to(wire, more, Some(crate::sys::describe(&error)));
                }
            }
        }
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let Some(live) = host.sockets[wire.index()].as_mut() else { return };
        if ready.readiness.contains(Readiness::WRITE) {
            live.is_blocked = false;
        }
        if ready.readiness.contains(Readiness::READ) && host.agent.wants_input() {
            let mut buffer = [0; READ_BUDGET];
            match live.read(&mut buffer) {
                Ok(0) => host.agent.ended(wire, self.now),
                Ok(length) => {
                    if length < buffer.len() && live.is_plain() {
                        self.reactor.read_short(live.slot);
                    }
                    let bytes = buffer.get(..length).unwrap_or_default();
                    host.agent.received(wire, bytes, self.now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reactor.drained(live.slot, Readiness::READ);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => host.agent.lost(wire, &crate::sys::describe(&error), self.now),
            }
        }
    }

    /// Sends what waits, and says what is to be waited for.
    pub(super) fn send_outside(&mut self) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let reads = host.agent.wants_input();
        for wire in Wire::ALL {
            let Some(live) = host.sockets[wire.index()].as_mut() else { continue };
            if !live.is_connected {
                continue;
            }
            for _ in 0..WRITES {
                if live.is_blocked || host.agent.out(wire).is_empty() {
                    break;
                }
                match live.send(host.agent.out(wire)) {
                    Ok(_) => host.agent.sent(wire),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        live.is_blocked = true;
                        self.reactor.drained(live.slot, Readiness::WRITE);
                    }
                    Err(error) => {
                        host.agent.lost(wire, &crate::sys::describe(&error), self.now);
                        break;
                    }
                }
            }
            let mut wanted = if reads { Readiness::READ } else { Readiness::NONE };
            let is_pressed = match live.is_pressed() {
                Ok(is_pressed) => is_pressed,
                Err(error) => {
                    host.agent.lost(wire, &crate::sys::describe(&error), self.now);
                    continue;
                }
            };
            if is_pressed {
                self.reactor.drained(live.slot, Readiness::WRITE);
            }
            if is_pressed || !host.agent.out(wire).is_empty() {
                wanted |= Readiness::WRITE;
            }
            self.reactor.want(live.slot, wanted);
        }
    }

    /// Says that nothing more comes, and lets go.
    pub(super) fn hang_up_outside(&mut self, mut live: Live) {
        let _ = self.reactor.remove(live.slot, &mut live.stream);
        let _ = live.stream.shutdown(Shutdown::Write);
    }
}
