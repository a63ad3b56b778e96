//! The web interface: where it listens, who has come in, what it is set to.
//!
//! A place that is taken is tried again from time to time; supervision never waits for it. What is
//! beyond loopback is listened on only when a token is configured.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mio::net::TcpListener;
use serde_json::Value;

use crate::base::Time;
use crate::config::web::{Overrides, WebSettings, is_token};
use crate::daemon::Daemon;
use crate::daemon::accept::Door;
use crate::daemon::home::StartError;
use crate::daemon::key::{ConnId, ListenerId};
use crate::daemon::socket::{Acceptor, Peer};
use crate::json::json;
use crate::proto::http::access;
use crate::proto::protocol::Protocol;
use crate::proto::ws::code;
use crate::sorted::SortedMap;
use crate::sys::describe;

/// Answers to requests of REST.
mod rest;
/// Metrics.
pub mod scrape;
/// Requests over HTTP.
mod serve;

use scrape::Counts;

/// How long until a place that was taken is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Wrong tokens of one peer in a second.
const MAX_FAILURES: u32 = 10;
/// Peers whose failures are remembered.
const MAX_SUSPECTS: usize = 1024;

/// The web interface.
#[derive(Debug, Default)]
pub struct Web {
    /// What holds: files, options and variables together, the token read.
    pub settings: WebSettings,
    pub overrides: Overrides,
    places: Vec<Place>,
    retry_at: Option<Time>,
    suspects: SortedMap<Suspect, Failures>,
    counts: Counts,
}

/// Where the web interface is to be.
#[derive(Debug)]
struct Place {
    wanted: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    /// With the address that it came to, where the port was left open.
    On(ListenerId, SocketAddr),
    /// Taken, or refused: tried again.
    Off(String),
    /// This host has no such address.
    Absent,
}

/// Who tried tokens: a user of this host, or an address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Suspect {
    User(u32),
    Address(IpAddr),
}

/// Wrong tokens within the second that began then.
#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Time,
    count: u32,
}

impl Web {
    /// The settings that hold: those of the file, what the command line and the environment say
    /// instead, and the token read from its file.
    ///
    /// # Errors
    ///
    /// A token file that cannot be read, or that others may read; an address that is open to the
    /// network without a token.
    pub fn settle(
        file: &WebSettings,
        overrides: Overrides,
        directory: &Path,
    ) -> Result<Self, StartError> {
        let settings = Self::effective(file, &overrides, directory)?;
        Ok(Self { settings, overrides, ..Self::default() })
    }

    /// See [`Self::settle`].
    ///
    /// # Errors
    ///
    /// The same.
    pub fn effective(
        file: &WebSettings,
        overrides: &Overrides,
        directory: &Path,
    ) -> Result<WebSettings, StartError> {
        let mut settings = overrides.apply(file);
        if let Some(path) = &settings.token_file
            && settings.token.is_none()
        {
            settings.token = Some(read_token(&directory.join(path))?);
        }
        let open = settings.listen.iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = open
            && !access::needs_token(&settings)
        {
            let text = format!("refusing to listen on {address} without a token");
            return Err(StartError::configuration(text).hint("pmd set web.token_file <file>"));
        }
        Ok(settings)
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// For `pmd web`.
    #[must_use]
    pub fn report(&self, clients: usize) -> Value {
        let places: Vec<Value> = self
            .places
            .iter()
            .map(|place| {
                let (address, state, why) = match &place.state {
                    State::On(_, address) => (address, "on", None),
                    State::Off(why) => (&place.wanted, "off", Some(why)),
                    State::Absent => (&place.wanted, "absent", None),
                };
                json!({"address": address.to_string(), "state": state, "why": why})
            })
            .collect();
        let is_on = self.places.iter().any(|place| matches!(place.state, State::On(..)));
        json!({
            "state": if is_on { "on" } else { "off" }, "addresses": places, "clients": clients,
            "token": self.settings.token.is_some(), "read_token": self.settings.read_token.is_some(),
            "anonymous": self.settings.anonymous.name(),
        })
    }

    /// Why it is not where it should be.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.places.iter().filter_map(|place| match &place.state {
            State::Off(why) => Some(format!("web interface off: {} {why}", place.wanted)),
            State::On(..) | State::Absent => None,
        })
    }

    fn suspect(peer: &Peer) -> Option<Suspect> {
        let address = peer.address.map(|address| Suspect::Address(address.ip()));
        peer.uid.map(Suspect::User).or(address)
    }

    /// Whether this peer has tried so many wrong tokens in this second that it has to wait.
    fn is_barred(&self, peer: &Peer, now: Time) -> bool {
        let failures = Self::suspect(peer).and_then(|suspect| self.suspects.get(&suspect));
        failures.is_some_and(|failures| failures.is_fresh(now) && failures.count >= MAX_FAILURES)
    }

    fn count_failure(&mut self, peer: &Peer, now: Time) {
        let Some(suspect) = Self::suspect(peer) else { return };
        if self.suspects.len() >= MAX_SUSPECTS {
            self.suspects.retain(|_, failures| failures.is_fresh(now));
        }
        let failures =
            self.suspects.get_or_insert_with(suspect, || Failures { since: now, count: 0 });
        if !failures.is_fresh(now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

impl Failures {
    fn is_fresh(&self, now: Time) -> bool {
        now.since(self.since) < Duration::from_secs(1)
    }
}

/// The token in a file that only its owner may read.
fn read_token(path: &Path) -> Result<String, StartError> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let failed = |error: io::Error| {
        StartError::configuration(format!(
            "cannot read web.token_file {shown}: {}",
            describe(&error)
        ))
    };
    let mode = std::fs::metadata(path).map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("web.token_file {shown} can be read by others (mode {mode:04o})");
        return Err(StartError::configuration(text).hint(format!("chmod 600 {shown}")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if !is_token(token) {
        let text =
            format!("web.token_file {shown} holds no token (16 to 512 printable characters)");
        return Err(StartError::configuration(text).hint("pmd web token new"));
    }
    Ok(token.to_owned())
}

impl Daemon {
    /// Listens where the settings say, and no longer where they do not.
    pub(super) fn open_web(&mut self) {
        let wanted = std::mem::take(&mut self.web.settings.listen);
        let (kept, gone): (Vec<Place>, Vec<Place>) = std::mem::take(&mut self.web.places)
            .into_iter()
            .partition(|place| wanted.contains(&place.wanted));
        for place in gone {
            if let State::On(id, _) = place.state {
                self.connections.stop_listening(&mut self.reactor, id);
            }
        }
        self.web.places = kept;
        for &address in &wanted {
            if !self.web.places.iter().any(|place| place.wanted == address) {
                let state = State::Off(String::new());
                self.web.places.push(Place { wanted: address, state });
            }
        }
        self.web.settings.listen = wanted;
        self.try_places();
    }

    /// Tries the places that were taken again, when it is time.
    pub(super) fn retry_web(&mut self) {
        if self.web.retry_at.is_some_and(|at| at <= self.now.mono) {
            self.try_places();
        }
    }

    fn try_places(&mut self) {
        self.web.retry_at = None;
        let mut places = std::mem::take(&mut self.web.places);
        for place in &mut places {
            let State::Off(before) = &place.state else { continue };
            let (address, is_new) = (place.wanted, before.is_empty());
            place.state = match self.listen_web(address) {
                Ok((id, actual)) => {
                    self.own_log.info(format_args!("web interface on: {actual}"));
                    State::On(id, actual)
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => State::Absent,
                // No IPv6 here.
                Err(_) if address.is_ipv6() && TcpListener::bind(ANY_V6).is_err() => State::Absent,
                Err(error) => {
                    let why = if error.kind() == io::ErrorKind::AddrInUse {
                        "is in use".to_owned()
                    } else {
                        format!("cannot be listened on: {}", describe(&error))
                    };
                    if is_new {
                        self.own_log.warn(format_args!("web interface off: {address} {why}"));
                    }
                    self.web.retry_at = Some(self.now.mono.after(RETRY));
                    State::Off(why)
                }
            };
        }
        self.web.places = places;
    }

    fn listen_web(&mut self, address: SocketAddr) -> io::Result<(ListenerId, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        let actual = listener.local_addr()?;
        let acceptor = Acceptor::Tcp(listener);
        let id = self.connections.listen(&mut self.reactor, acceptor, Door::Web)?;
        Ok((id, actual))
    }

    /// Takes over other settings; whoever came in by what no longer holds has to come again.
    pub(super) fn change_web(&mut self, settings: WebSettings) {
        let before = std::mem::replace(&mut self.web.settings, settings);
        let now = &self.web.settings;
        let same_access = before.token == now.token
            && before.read_token == now.read_token
            && before.anonymous == now.anonymous
            && before.trusted_uids == now.trusted_uids
            && before.allowed_hosts == now.allowed_hosts
            && before.allowed_origins == now.allowed_origins;
        if !same_access {
            for id in self.web_clients() {
                self.converse(id, |protocol, cx| {
                    if let Protocol::Ws(ws) = protocol {
                        ws.close(code::WITHDRAWN, "access withdrawn", cx);
                    }
                });
            }
        }
        self.open_web();
    }

    /// The connections that are WebSockets.
    pub(super) fn web_clients(&self) -> Vec<ConnId> {
        let all = self.connections.clients.iter();
        all.filter(|(_, client)| matches!(client.protocol, Protocol::Ws(_)))
            .map(|(&id, _)| id)
            .collect()
    }
}

/// Any port of any address of IPv6, to see whether there is such a thing.
const ANY_V6: SocketAddr = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 0);
