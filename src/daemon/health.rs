//! Makes the health checks that the supervisor wants made, and hands in what came of them.
//!
//! Nothing here waits: connections are sources of the loop, scripts are children of ours, names go
//! to a thread. Whatever it is, it is given up at its deadline. What fails for want of descriptors or
//! memory says nothing about the process that is looked at.

use std::ffi::CString;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::time::Duration;

use mio::net::TcpStream;

use crate::base::{ChildId, ExitStatus, Pid, Signal, SpawnError, Stage, Time};
use crate::config::{units, url};
use crate::daemon::Daemon;
use crate::daemon::key::Key;
use crate::daemon::launch::Given;
use crate::daemon::names::{Names, literal};
use crate::daemon::plan;
use crate::proto::fetch::{self, StatusReader};
use crate::proto::messages::health::with_port;
use crate::reactor::{Interest, Readiness, Ready, Slot};
use crate::sorted::SortedMap;
use crate::supervisor::spec::{AppSpec, Check};
use crate::supervisor::vocabulary::{Finding, Input, Probe};
use crate::sys::spawn::Spawn;
use crate::sys::{kill, process};

/// Bytes of an answer that are read in one turn.
const PER_TURN: usize = 1024;

/// Checks under way, at most one for each child.
#[derive(Debug, Default)]
pub struct Probes {
    running: SortedMap<ChildId, Running>,
    names: Option<Names>,
    /// The last question to `names`.
    ticket: u64,
}

/// One check.
#[derive(Debug)]
struct Running {
    since: Time,
    timeout: Duration,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The answer with this ticket has the addresses; then `request` is sent.
    Naming {
        ticket: u64,
        request: Vec<u8>,
    },
    Talking(Box<Talk>),
    Script(Pid),
}

/// A connection, and what is to be said over it.
#[derive(Debug)]
struct Talk {
    stream: TcpStream,
    watch: Slot,
    /// Addresses to try if this one fails.
    more: Vec<SocketAddr>,
    /// What failed first.
    failure: Option<String>,
    connected: bool,
    /// Empty: to be connected is all that is wanted.
    request: Vec<u8>,
    sent: usize,
    reader: StatusReader,
}

/// What a check has come to.
struct End {
    found: Finding,
    code: Option<u16>,
    error: Option<String>,
}

impl End {
    const PASSED: Self = Self { found: Finding::Passed, code: None, error: None };

    fn failed(error: impl Into<String>) -> Self {
        Self { found: Finding::Failed, code: None, error: Some(error.into()) }
    }

    fn of_error(error: &io::Error) -> Self {
        // Linux numbers: EAGAIN, ENOMEM, ENFILE, EMFILE, ENOBUFS.
        let ours = matches!(error.raw_os_error(), Some(11 | 12 | 23 | 24 | 105));
        let found = if ours { Finding::Nothing } else { Finding::Failed };
        Self { found, code: None, error: Some(crate::sys::describe(error)) }
    }

    /// A name could not be looked up.
    fn of_name(error: &io::Error) -> Self {
        let text = format!("name look-up: {}", in_words(error));
        Self { error: Some(text), ..Self::of_error(error) }
    }
}

impl Probes {
    /// When the first check is to be given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.running.values().map(|check| check.since.after(check.timeout)).min()
    }

    /// The check whose script this is.
    fn of_script(&self, pid: Pid) -> Option<ChildId> {
        let is_it = |check: &Running| matches!(check.step, Step::Script(script) if script == pid);
        self.running.iter().find(|(_, check)| is_it(check)).map(|(&child, _)| child)
    }
}

impl Daemon {
    /// Carries out `Effect::Probe`.
    pub(super) fn probe(&mut self, child: ChildId, spec: &Rc<AppSpec>) {
        let Some(health) = spec.health() else { return };
        let Some(found) = self.children.get(child) else { return };
        let process = found.process;
        let instance = self.supervisor.process(process).map_or(0, |process| process.instance());
        let port = spec.port_of(instance, found.port);
        let given = Given { process, instance, port: found.port, cookie: process::random() };
        let (since, timeout) = (self.now.mono, health.timeout);
        let begun = match &health.check {
            Check::Http(text) => {
                let text = with_port(text, port);
                match url::parse(&text) {
                    Ok(url) => {
                        let request = fetch::request(url.authority, url.target);
                        self.connect(child, url.host, url.port, request)
                    }
                    Err(reason) => Err(End::failed(format!("the URL {reason}"))),
                }
            }
            Check::Tcp { host, port: own } => match own.or(port) {
                Some(port) => self.connect(child, host, port, Vec::new()),
                None => Err(End::failed("no port is known")),
            },
            Check::Script(words) => self.run_script(spec, words, &given),
        };
        match begun {
            Ok(step) => {
                self.probes.running.insert(child, Running { since, timeout, step });
            }
            Err(end) => self.tell_probe(child, Duration::ZERO, end),
        }
    }

    /// The child is no more: what is being found out about it is of no use.
    pub(super) fn abandon_probe(&mut self, child: ChildId) {
        if let Some(check) = self.probes.running.remove(&child) {
            self.drop_step(check.step);
        }
    }

    /// Gives up the checks whose time is over.
    pub(super) fn expire_probes(&mut self) {
        let now = self.now.mono;
        let is_over = |check: &Running| check.since.after(check.timeout) <= now;
        let over = self.probes.running.iter().filter(|(_, check)| is_over(check));
        let over: Vec<(ChildId, Duration)> = over.map(|(&id, it)| (id, it.timeout)).collect();
        for (child, timeout) in over {
            let text = format!("timed out after {}", units::span(timeout));
            self.end_probe(child, End::failed(text));
        }
    }

    /// A child of ours that is in no table has ended: perhaps the script of a check. True if it was.
    pub(super) fn script_ended(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let Some(child) = self.probes.of_script(pid) else { return false };
        let code = status.code().map(u16::from);
        self.end_probe(
            child,
            match status.is_success() {
                true => End { code, ..End::PASSED },
                false => End { code, ..End::failed(status.to_string()) },
            },
        );
        true
    }

    /// Takes the addresses that names have been found to mean.
    pub(super) fn take_names(&mut self) {
        while let Some(found) = self.probes.names.as_ref().and_then(Names::take) {
            let waiting =
                self.probes.running.iter_mut().find_map(|(&child, check)| match &mut check.step {
                    Step::Naming { ticket, request } if *ticket == found.ticket => {
                        Some((child, std::mem::take(request)))
                    }
                    Step::Naming { .. } | Step::Talking(_) | Step::Script(_) => None,
                });
            let Some((child, request)) = waiting else {
                // The agent's, or given up meanwhile.
                let addresses = found.addresses.map_err(|error| in_words(&error));
                self.name_found_outside(found.ticket, addresses);
                continue;
            };
            let step = match found.addresses {
                Ok(addresses) => self.talk(child, addresses, request, None),
                Err(error) => Err(End::of_name(&error)),
            };
            self.go_on(child, step);
        }
    }

    /// Something happened on the connection of a check.
    pub(super) fn on_probe(&mut self, child: ChildId, ready: Ready<Key>) {
        let Some(check) = self.probes.running.get_mut(&child) else { return };
        let Step::Talking(talk) = &mut check.step else { return };
        if talk.watch != ready.slot {
            return;
        }
        match talk.advance() {
            Ok(None) => {
                let (watch, wanted) = (talk.watch, talk.wanted());
                self.reactor.drained(watch, wanted);
                self.reactor.want(watch, wanted);
            }
            // There is more: in the next turn.
            Ok(Some(None)) => {}
            Ok(Some(Some(end))) => self.end_probe(child, end),
            Err(error) => self.try_next(child, &error),
        }
    }

    fn connect(
        &mut self,
        child: ChildId,
        host: &str,
        port: u16,
        request: Vec<u8>,
    ) -> Result<Step, End> {
        if let Some(addresses) = literal(host, port) {
            return self.talk(child, addresses, request, None);
        }
        let ticket = self.ask_name(host, port).map_err(|error| End::of_error(&error))?;
        let busy =
            || End { found: Finding::Nothing, ..End::failed("too many name look-ups at a time") };
        Ok(Step::Naming { ticket: ticket.ok_or_else(busy)?, request })
    }

    /// Has a name looked up; `None`: too many wait. The answer carries the ticket.
    pub(super) fn ask_name(&mut self, host: &str, port: u16) -> io::Result<Option<u64>> {
        if self.probes.names.is_none() {
            self.probes.names = Some(Names::start(self.waker.clone())?);
        }
        self.probes.ticket += 1;
        let ticket = self.probes.ticket;
        let asked = self.probes.names.as_ref().is_some_and(|names| names.ask(ticket, host, port));
        Ok(asked.then_some(ticket))
    }

    /// Connects to the first of the addresses that does not fail at once.
    fn talk(
        &mut self,
        child: ChildId,
        mut more: Vec<SocketAddr>,
        request: Vec<u8>,
        mut failure: Option<String>,
    ) -> Result<Step, End> {
        while !more.is_empty() {
            let address = more.remove(0);
            let opened = TcpStream::connect(address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let watch = self.reactor.add(&mut stream, interest, Key::Probe(child))?;
                Ok((stream, watch))
            });
            match opened {
                Ok((stream, watch)) => {
                    self.reactor.want(watch, Readiness::WRITE);
                    let reader = StatusReader::default();
                    let (connected, sent) = (false, 0);
                    return Ok(Step::Talking(Box::new(Talk {
                        stream,
                        watch,
                        more,
                        failure,
                        connected,
                        request,
                        sent,
                        reader,
                    })));
                }
                Err(error) => {
                    let end = End::of_error(&error);
                    if end.found == Finding::Nothing {
                        return Err(end);
                    }
                    failure = failure.or(end.error);
                }
            }
        }
        Err(End::failed(failure.unwrap_or_else(|| "the name has no address".to_owned())))
    }

    /// An address did not work: the next one, if there is one.
    fn try_next(&mut self, child: ChildId, error: &io::Error) {
        let Some(check) = self.probes.running.get_mut(&child) else { return };
        let Step::Talking(talk) = &mut check.step else { return };
        let (more, request) = (std::mem::take(&mut talk.more), std::mem::take(&mut talk.request));
        let failure = talk.failure.take().or_else(|| Some(crate::sys::describe(error)));
        // What was connected has heard us; another address would be another server.
        let step = if talk.connected || more.is_empty() {
            Err(End { error: failure, ..End::of_error(error) })
        } else {
            let old =
                std::mem::replace(&mut check.step, Step::Naming { ticket: 0, request: Vec::new() });
            self.drop_step(old);
            self.talk(child, more, request, failure)
        };
        self.go_on(child, step);
    }

    fn go_on(&mut self, child: ChildId, step: Result<Step, End>) {
        match (step, self.probes.running.get_mut(&child)) {
            (Ok(step), Some(check)) => check.step = step,
            (Ok(step), None) => self.drop_step(step),
            (Err(end), _) => self.end_probe(child, end),
        }
    }

    /// Starts the script of a check, with all that its app is given.
    fn run_script(
        &mut self,
        spec: &Rc<AppSpec>,
        words: &[String],
        given: &Given,
    ) -> Result<Step, End> {
        let null = self.launcher.null().try_clone_to_owned();
        let null = null.map_err(|error| End::of_error(&error))?;
        match self.spawn_script(spec, words, given, null.as_fd(), &[]) {
            Ok(pid) => Ok(Step::Script(pid)),
            Err(error) => {
                let text = format!("cannot run it: {}", crate::sys::errno_text(error.errno));
                let found = if error.is_transient() { Finding::Nothing } else { Finding::Failed };
                Err(End { found, ..End::failed(text) })
            }
        }
    }

    /// Starts a command with all that its app is given, and `variables`.
    pub(super) fn spawn_script(
        &mut self,
        spec: &Rc<AppSpec>,
        words: &[String],
        given: &Given,
        input: BorrowedFd<'_>,
        variables: &[(String, String)],
    ) -> Result<Pid, SpawnError> {
        let invalid = || SpawnError { stage: Stage::Prepare, errno: 22 };
        let (files, account) = self.prepare_environment(spec, given, false)?;
        for (name, value) in variables {
            let pair = [name.as_str(), "=", value].concat();
            self.launcher.env.push(pair).map_err(|_| invalid())?;
        }
        let word = words.first().ok_or_else(invalid)?;
        let program = crate::daemon::launch::find_word(word, spec, &files)
            .ok_or(SpawnError { stage: Stage::Exec, errno: 2 })?;
        let path = |path: &std::path::Path| {
            CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid())
        };
        let (program, cwd) = (path(&program)?, path(&spec.cwd)?);
        plan::words(words, &mut self.launcher.args).map_err(|_| invalid())?;
        let null = self.launcher.null();
        let rlimits = plan::rlimits(spec, self.launcher.nofile);
        let credentials = account.as_ref().map(|account| &account.credentials);
        let spawned = self.spawner.spawn(&Spawn {
            fds: &[(0, input), (1, null), (2, null)],
            credentials,
            umask: Some(spec.umask.unwrap_or(self.launcher.umask)),
            nice: spec.nice,
            oom_score_adj: spec.oom_score_adj.or(self.launcher.oom_score_adj),
            rlimits: &rlimits,
            // Nobody is left who would end it.
            die_with_parent: true,
            no_new_privs: credentials.is_some(),
            ..Spawn::new(&program, &self.launcher.args, &self.launcher.env, &cwd)
        })?;
        Ok(spawned.pid)
    }

    fn end_probe(&mut self, child: ChildId, end: End) {
        let Some(check) = self.probes.running.remove(&child) else { return };
        self.drop_step(check.step);
        self.tell_probe(child, self.now.mono.since(check.since), end);
    }

    fn tell_probe(&mut self, child: ChildId, took: Duration, end: End) {
        let End { found, code, error } = end;
        let probe = Probe { found, took, code, error: error.map(Rc::from) };
        self.outcomes.push_back(Input::Probed { child, probe });
    }

    fn drop_step(&mut self, step: Step) {
        match step {
            Step::Naming { .. } => {}
            Step::Talking(mut talk) => {
                let _ = self.reactor.remove(talk.watch, &mut talk.stream);
            }
            // With all that it started. Its number is its own until it is reaped, and in the turn
            // of that nobody else's.
            Step::Script(pid) => {
                let _ = kill::kill_group(pid, Signal::KILL);
            }
        }
    }
}

impl Talk {
    /// What to wait for.
    fn wanted(&self) -> Readiness {
        if self.connected && self.sent == self.request.len() {
            Readiness::READ
        } else {
            Readiness::WRITE
        }
    }

    /// Goes on as far as it goes without waiting, but reads once only. `None`: it waits;
    /// `Some(None)`: there may be more to be read; else how it ended.
    fn advance(&mut self) -> io::Result<Option<Option<End>>> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(error),
            }
            if self.request.is_empty() {
                return Ok(Some(Some(End::PASSED)));
            }
        }
        while let Some(rest) = self.request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; PER_TURN];
        let count = match self.stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Some(None)),
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(Some(Some(End::failed("the connection was closed without an answer"))));
        }
        Ok(Some(match self.reader.read(buffer.get(..count).unwrap_or_default()) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match status {
                200..=299 => End { code: Some(status), ..End::PASSED },
                _ => End { code: Some(status), ..End::failed(format!("status {status}")) },
            }),
            Err(reason) => Some(End::failed(reason)),
        }))
    }
}

/// A resolver's errors are not the kernel's: they bring their own words.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_is_not_the_fault_of_a_process() {
        for (errno, found) in [
            (111, Finding::Failed),  // ECONNREFUSED
            (113, Finding::Failed),  // EHOSTUNREACH
            (24, Finding::Nothing),  // EMFILE
            (12, Finding::Nothing),  // ENOMEM
            (105, Finding::Nothing), // ENOBUFS
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(End::of_error(&error).found, found, "{errno}");
            assert_eq!(End::of_name(&error).found, found, "{errno}");
        }
    }
}
