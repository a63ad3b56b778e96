//! What the init system is told, where it listens: `sd_notify(3)`.
//!
//! The main process of the unit is the keeper, so the unit has `NotifyAccess=all`. The watchdog is
//! fed by the loop itself: one that is stuck feeds nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::{Pid, Time};
use crate::daemon::Daemon;
use crate::supervisor::vocabulary::Status;
use crate::sys::process;

/// The init system's socket, and what it was told.
#[derive(Debug, Default)]
pub struct Init {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog is fed, and when next.
    feed: Option<(Duration, Time)>,
    /// A process changed since the last look.
    pub stale: bool,
    is_ready: bool,
    told: (usize, usize),
}

impl Init {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, which is the keeper's or ours.
    #[must_use]
    pub fn of_environment(now: Time, keeper: Option<Pid>) -> Self {
        let var = |name: &str| std::env::var(name).ok();
        let socket = var("NOTIFY_SOCKET").and_then(|place| {
            let address = match place.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&place),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address.ok()?))
        });
        let pid = var("WATCHDOG_PID").and_then(|text| text.parse().ok()).and_then(Pid::new);
        let is_ours = pid.is_none() || pid == keeper || pid == Some(process::own_pid());
        let limit = var("WATCHDOG_USEC").and_then(|text| text.parse().ok());
        let feed = limit.filter(|&limit: &u64| limit > 0 && is_ours && socket.is_some());
        // Half of what would be too late.
        let feed = feed.map(|limit| (Duration::from_micros(limit / 2), now));
        Self { socket, feed, stale: true, ..Self::default() }
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.feed.map(|(_, at)| at)
    }

    /// An init system that does not listen any more is not waited for.
    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The settings are being read again; [`Self::reloaded`] follows.
    pub fn reloading(&self, now: Time) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}000", now.0));
    }

    pub fn reloaded(&self) {
        self.say("READY=1");
    }
}

impl Daemon {
    /// Feeds the watchdog, and tells how many run; once, after the first of all have been started,
    /// that the daemon is ready.
    pub(super) fn tell_init(&mut self) {
        if self.init.socket.is_none() {
            return;
        }
        if let Some((every, _)) = self.init.feed.filter(|&(_, at)| at <= self.now.mono) {
            self.init.feed = Some((every, self.now.mono.after(every)));
            self.init.say("WATCHDOG=1");
        }
        if !self.init.stale || !self.spawns.is_empty() {
            return;
        }
        self.init.stale = false;
        let (mut online, mut waiting) = (0, 0);
        for process in self.supervisor.processes() {
            match process.status() {
                Status::Online => online += 1,
                Status::Starting | Status::Restarting | Status::Backoff => waiting += 1,
                Status::Stopping | Status::Stopped | Status::Errored => {}
            }
        }
        let first = !std::mem::replace(&mut self.init.is_ready, true);
        if !first && self.init.told == (online, waiting) {
            return;
        }
        self.init.told = (online, waiting);
        let ready = if first { "READY=1\n" } else { "" };
        let more = if waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
        self.init.say(&format!("{ready}STATUS={online} online{more}"));
    }
}
