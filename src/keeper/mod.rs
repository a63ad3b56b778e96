//! The keeper: first process of `pmd daemon`, parent of the daemon and of whatever falls to it.
//!
//! It is passive. The daemon hands it descriptors, such as the pipes of children, and it holds them.
//! When the daemon dies, what the daemon was the parent of falls to the keeper, its nearest
//! subreaper. It starts the daemon again, hands the descriptors back, and from then on tells how
//! those processes end. Until a daemon is there to be told, what has ended stays a zombie: the kernel
//! keeps the status, and the number means nobody else.
//!
//! It starts nothing but the daemon, sends its charges no signal, parses nothing, has one thread and
//! allocates nothing once it is up. If it dies itself, a daemon in the foreground dies with it, and
//! one in the background goes on alone.

use std::ffi::{CString, OsString};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::base::{ExitStatus, Pid, Signal, Time};
use crate::sys::args::CArgs;
use crate::sys::limits::{self, Resource};
use crate::sys::packet::{self, Words};
use crate::sys::poll::{self, Wait};
use crate::sys::process::Code;
use crate::sys::signals::{self, Signals};
use crate::sys::spawn::{Spawn, Spawner};
use crate::sys::wait::{self, Reaped};
use crate::sys::{clock, describe, fds, process};

mod words;

pub use words::{VERSION, Word};

/// The first word of its command line: people see it in `ps`, and the program knows what it is to be.
pub const NAME: &str = "pmd: keeper";
/// Where a daemon in the background tells that it is up: the keeper is given it and hands it on to
/// its first daemon; later ones get the null device.
pub const READY_FD: i32 = 3;
/// Of the option that says so; see [`READY_FD`].
pub const READY_OPTION: &str = "--ready-fd=3";
/// The daemon's end of the pair of sockets.
pub const LINK_FD: i32 = 4;
/// Of the option that says so; see [`LINK_FD`].
pub const LINK_OPTION: &str = "--keeper-fd=4";

/// Before a daemon that crashed is started again; twice as long each time, up to the other.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A daemon that has lived for so long did not crash because of how it was started.
const CALM: Duration = Duration::from_secs(30);
/// Out of memory the kernel is to take something else first.
const OOM_SCORE: i32 = -500;
/// After the last thing that happened, the code that served it is given back.
const TRIM_AFTER: Duration = Duration::from_millis(500);
/// Descriptors held at most.
const MAX_HELD: u64 = 65_536;
/// Passed on to the daemon.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];
/// Of these, as bits, the orders to end.
const ORDERS: u8 = 0b111;

/// Keeps the daemon whose command line is `words`, until its orderly end; gives its exit code.
#[must_use]
pub fn run(words: &[OsString]) -> ExitCode {
    match Keeper::new(words) {
        Ok(mut keeper) => ExitCode::from(keeper.run()),
        Err(error) => {
            let _ = writeln!(io::stderr(), "pmd: error: no keeper: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

struct Keeper {
    signals: Signals,
    spawner: Spawner,
    args: CArgs,
    env: CArgs,
    /// Names `program`, whatever becomes of its file.
    path: CString,
    program: OwnedFd,
    /// For the daemon's first life.
    ready: Option<OwnedFd>,
    null: OwnedFd,
    /// The limit of open files that the daemon is to have.
    nofile: u64,
    held: Vec<(u64, OwnedFd)>,
    daemon: Option<Running>,
    /// When the next one is started.
    start_at: Option<Time>,
    delay: Duration,
    /// Daemons so far, and how the last one ended.
    before: u64,
    last: ExitStatus,
    /// One of them served: from then on there is to be one.
    was_up: bool,
    /// To be passed on as soon as there is one that serves; bits, by [`PASSED_ON`].
    signals_due: u8,
    /// Such a signal has come: the next daemon is not waited for.
    hurry: bool,
    code: Code,
    /// Memory is to be given back then.
    trim_at: Option<Time>,
}

/// A daemon.
struct Running {
    pid: Pid,
    since: Time,
    link: OwnedFd,
    /// It has not closed its end.
    linked: bool,
    /// What it is told first: `Hello`, all that is held, `All`. The next of these; `None`: done.
    handing: Option<usize>,
    up: bool,
    /// What has ended and could not be told yet.
    untold: Option<Words>,
    /// Signals it was sent; bits, by [`PASSED_ON`].
    passed: u8,
    /// It said that it was about to end.
    end: Option<End>,
}

impl Running {
    /// One that has just been started and is to be told everything.
    fn new(pid: Pid, since: Time, link: OwnedFd) -> Self {
        Self {
            pid,
            since,
            link,
            linked: true,
            handing: Some(0),
            up: false,
            untold: None,
            passed: 0,
            end: None,
        }
    }
}

#[derive(Clone, Copy)]
struct End {
    again: bool,
}

impl Keeper {
    fn new(words: &[OsString]) -> io::Result<Self> {
        signals::reset_inherited();
        signals::ignore_harmless();
        let all: Vec<Signal> = PASSED_ON.into_iter().chain([Signal::CHLD]).collect();
        let signals = Signals::install(&all)?;
        process::become_subreaper()?;
        process::set_name(NAME);
        let nofile = limits::raise_nofile()?;
        let _ = process::set_oom_score_adj(OOM_SCORE);
        std::env::set_current_dir("/")?;
        let program = process::own_program()?;
        let path = format!("/proc/{}/fd/{}", process::own_pid(), program.as_raw_fd());
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (mut args, mut env) = (CArgs::new(), CArgs::new());
        args.push("pmd").map_err(invalid)?;
        for word in words {
            args.push(word.as_bytes()).map_err(invalid)?;
        }
        for (name, value) in std::env::vars_os() {
            env.push_pair(name.as_bytes(), value.as_bytes()).map_err(invalid)?;
        }
        let ready = words.iter().any(|word| word == READY_OPTION);
        let room = usize::try_from(limits::nofile().min(MAX_HELD)).unwrap_or(0);
        Ok(Self {
            signals,
            spawner: Spawner::new()?,
            args,
            env,
            path: CString::new(path)?,
            program,
            ready: if ready { Some(fds::inherited(READY_FD)?) } else { None },
            null: fds::null_device()?,
            nofile,
            // Touched only as far as it is used.
            held: Vec::with_capacity(room),
            daemon: None,
            start_at: Some(clock::now().mono),
            delay: FIRST_DELAY,
            before: 0,
            last: ExitStatus::Unknown,
            was_up: false,
            signals_due: 0,
            hurry: false,
            code: Code::find(),
            trim_at: None,
        })
    }

    fn run(&mut self) -> u8 {
        loop {
            self.hear();
            if let Some(reaped) = self.reap()
                && let Some(code) = self.daemon_ended(reaped.status)
            {
                return code;
            }
            if let Some(code) = self.start_if_due() {
                return code;
            }
            self.hand_over();
            self.pass_on();
            self.wait();
            self.take_signals();
        }
    }

    /// Until something happens; gives memory back when nothing has for a while.
    fn wait(&mut self) {
        let now = clock::now().mono;
        let trimmed = self.trim_at.is_some_and(|at| at <= now);
        if trimmed {
            self.spawner.rest();
            process::forget_stack();
        }
        // A wait that ends by itself is no reason for another.
        self.trim_at = if trimmed { None } else { Some(now.after(TRIM_AFTER)) };
        let link = self.daemon.as_ref().filter(|daemon| daemon.linked).map(|daemon| Wait {
            fd: daemon.link.as_fd(),
            write: daemon.handing.is_some() || daemon.untold.is_some(),
        });
        let signals = Some(Wait { fd: self.signals.as_fd(), write: false });
        let timeout = self.start_at.into_iter().chain(self.trim_at).min().map(|at| at.since(now));
        if trimmed {
            self.code.forget();
        }
        // ENOMEM: tried again by the next turn.
        let _ = poll::wait([signals, link], timeout);
    }

    fn take_signals(&mut self) {
        while let Ok(Some((signal, _))) = self.signals.next() {
            let bit = PASSED_ON.iter().position(|&other| other == signal);
            self.signals_due |= bit.map_or(0, |bit| 1 << bit);
            self.hurry |= bit.is_some();
        }
    }

    /// A daemon that is not up yet would die of them.
    fn pass_on(&mut self) {
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.up) else { return };
        daemon.passed |= self.signals_due;
        for (bit, &signal) in PASSED_ON.iter().enumerate() {
            if self.signals_due & (1 << bit) != 0 {
                let _ = crate::sys::kill::kill(daemon.pid, signal);
            }
        }
        self.signals_due = 0;
    }

    /// Takes what the daemon says.
    fn hear(&mut self) {
        while let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.linked) {
            let (words, fd) = match packet::receive(&daemon.link) {
                Ok(Some(message)) => message,
                Ok(None) => {
                    daemon.linked = false;
                    return;
                }
                Err(_) => return,
            };
            match (Word::decode(words), fd) {
                (Some(Word::Up { .. }), _) => {
                    daemon.up = true;
                    self.was_up = true;
                }
                (Some(Word::End { again }), _) => daemon.end = Some(End { again }),
                (Some(Word::Hold { key }), Some(fd)) => {
                    self.let_go(key);
                    if self.held.len() < self.held.capacity() {
                        self.held.push((key, fd));
                    }
                }
                (Some(Word::Drop { key }), _) => self.let_go(key),
                (Some(Word::Program), Some(fd)) => {
                    let _ = fds::put_into(&fd, &mut self.program);
                }
                // Words of its own, of a later version, or without what belongs to them.
                (
                    Some(
                        Word::Hello { .. }
                        | Word::Held { .. }
                        | Word::All
                        | Word::Exited { .. }
                        | Word::Hold { .. }
                        | Word::Program,
                    )
                    | None,
                    _,
                ) => {}
            }
        }
    }

    fn let_go(&mut self, key: u64) {
        if let Some(at) = self.held.iter().position(|(other, _)| *other == key) {
            self.held.swap_remove(at);
        }
    }

    /// Takes what has ended: the daemon, which is given back; while one serves, also what has fallen
    /// to us, as fast as it can be told.
    fn reap(&mut self) -> Option<Reaped> {
        loop {
            let daemon = self.daemon.as_mut()?;
            let told = daemon.untold.is_none_or(|words| is_said(&daemon.link, &words));
            if told {
                daemon.untold = None;
            }
            let next = if daemon.up && told { wait::reap_one() } else { wait::reap(daemon.pid) };
            match next {
                Ok(Some(reaped)) if reaped.pid == daemon.pid => return Some(reaped),
                Ok(Some(Reaped { pid, status, cpu })) => {
                    daemon.untold = Some(Word::Exited { pid, status, cpu }.encode());
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The exit code to end with, or none: another daemon is to follow.
    fn daemon_ended(&mut self, status: ExitStatus) -> Option<u8> {
        // What it said last.
        self.hear();
        let daemon = self.daemon.take()?;
        self.before += 1;
        self.last = status;
        let code = match status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal { signal, .. } => {
                u8::try_from(128 + signal.raw()).unwrap_or(u8::MAX)
            }
            ExitStatus::OutOfMemory | ExitStatus::Unknown => u8::MAX,
        };
        let now = clock::now().mono;
        match daemon.end {
            Some(End { again: true }) => self.start_at = Some(now),
            Some(End { again: false }) => return Some(code),
            // It never came up, and has said why.
            None if !self.was_up => return Some(code),
            None => {
                if now.since(daemon.since) >= CALM {
                    self.delay = FIRST_DELAY;
                }
                self.start_at = Some(now.after(self.delay));
                self.delay = (self.delay * 2).min(LAST_DELAY);
                // An order to end that it did not carry out is the next one's.
                self.signals_due |= daemon.passed & ORDERS;
                self.hurry |= self.signals_due != 0;
            }
        }
        None
    }

    /// The exit code to end with, if there can be no first daemon.
    fn start_if_due(&mut self) -> Option<u8> {
        let now = clock::now().mono;
        // Whoever wants it to end wants it to be there for that.
        let hurry = std::mem::take(&mut self.hurry);
        if self.start_at.is_none_or(|at| at > now && !hurry) {
            return None;
        }
        match self.start(now) {
            Ok(daemon) => {
                self.daemon = Some(daemon);
                self.start_at = None;
                None
            }
            Err(_) if self.was_up => {
                self.start_at = Some(now.after(self.delay));
                self.delay = (self.delay * 2).min(LAST_DELAY);
                None
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "pmd: error: no daemon: {}", describe(&error));
                Some(1)
            }
        }
    }

    fn start(&mut self, now: Time) -> io::Result<Running> {
        let (link, theirs) = packet::pair()?;
        let ready = self.ready.take();
        let has_ready = ready.is_some() || self.before > 0;
        let [stdin, stdout, stderr] = fds::standard();
        let descriptors = [
            (0, stdin),
            (1, stdout),
            (2, stderr),
            (LINK_FD, theirs.as_fd()),
            (READY_FD, ready.as_ref().unwrap_or(&self.null).as_fd()),
        ];
        let count = if has_ready { descriptors.len() } else { descriptors.len() - 1 };
        let spawned = self.spawner.spawn(&Spawn {
            fds: descriptors.get(..count).unwrap_or_default(),
            rlimits: &[(Resource::OpenFiles, self.nofile)],
            ..Spawn::new(&self.path, &self.args, &self.env, c"/")
        });
        let pid = spawned.map_err(|error| io::Error::from_raw_os_error(error.errno))?.pid;
        Ok(Running::new(pid, now, link))
    }

    /// Tells a new daemon what it is to know first, as fast as it takes it.
    fn hand_over(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        while let Some(next) = daemon.handing {
            let (word, fd) = match next.checked_sub(1) {
                None => {
                    let (before, last) = (self.before, self.last);
                    (Word::Hello { version: VERSION, before, last }, None)
                }
                Some(at) => match self.held.get(at) {
                    Some((key, fd)) => (Word::Held { key: *key }, Some(fd.as_fd())),
                    None => (Word::All, None),
                },
            };
            if packet::send(&daemon.link, &word.encode(), fd).is_err() {
                return;
            }
            daemon.handing = if word == Word::All { None } else { Some(next + 1) };
        }
    }
}

/// Whether that is off our hands: said, or to nobody.
fn is_said(link: &OwnedFd, words: &Words) -> bool {
    !packet::send(link, words, None).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests;
