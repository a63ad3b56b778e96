//! PM2's daemon, as its clients see it: sockets, calls, bus.
//!
//! | file        | what it knows                                                     |
//! |-------------|-------------------------------------------------------------------|
//! | `sockets`   | where clients look, and who may come in                           |
//! | `calls`     | what a call asks of the supervisor                                |
//! | `changes`   | starts, restarts and reloads with what a client wants changed     |
//! | `answers`   | what becomes of the supervisor's answer                           |
//! | `records`   | a process as clients are shown it                                 |
//! | `channel`   | what goes to children and comes from them, on behalf of clients   |
//! | `bus`       | notices and output as events                                      |
//! | `system`    | the host, and the daemon itself                                   |
//! | `dump`      | the list as PM2 saves it                                          |
//! | `moving`    | programs that come from such a list                               |

mod answers;
mod bus;
mod calls;
mod changes;
mod channel;
mod dump;
mod moving;
mod records;
mod sockets;

pub(in crate::daemon) use sockets::{listen_for_owner, lives};

mod system;

use std::path::PathBuf;

use crate::base::{Pid, ProcId, WallTime};
use crate::config::paths::Pm2Paths;
use crate::config::pm2;
use crate::daemon::entries::Entry;
use crate::daemon::key::ConnId;
use crate::daemon::places::Places;
use crate::sorted::SortedSet;
use crate::supervisor::Process;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::Status;

pub use answers::Then;
pub use moving::Moving;
pub use records::{Shown, uuid};

/// The interface for PM2's clients.
#[derive(Debug, Default)]
pub struct Pm2 {
    /// Where it is served; `None`: it is off.
    paths: Option<Pm2Paths>,
    /// Why it is off although it was to be on.
    trouble: Option<String>,
    /// Sockets and the pid file, to be removed at the end.
    files: Vec<PathBuf>,
    /// The version it calls itself.
    version: String,
    /// Other users may come in: a group was named.
    open: bool,
    /// A client said that it is about to end the daemon: nothing is restarted any more.
    being_killed: Option<ConnId>,
    /// Processes in the middle of a reload that a client asked for.
    reloading: SortedSet<ProcId>,
    /// Whose end the last notice told.
    crashed: Option<ProcId>,
    /// The client that ended the daemon waits for a signal.
    farewell: Option<Pid>,
    /// Clients of the bus.
    pub(in crate::daemon) listeners: usize,
}

impl Pm2 {
    /// Why it is off although it was to be on: a sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The variables that PM2 gives to a process besides its environment: to one that its client
    /// declared everything there is about it, to others where PM2 is.
    pub fn variables(
        &self,
        process: Option<&Process>,
        spec: &AppSpec,
        entry: &Entry,
        places: &Places,
        now: WallTime,
    ) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
        let Some(record) = pm2::declared(spec) else {
            if let Some(paths) = &self.paths {
                set("PM2_HOME", paths.home.to_string_lossy().into_owned());
            }
            return all;
        };
        let files = entry.pm2_files(places);
        let again = process.is_some_and(|process| process.status() != Status::Starting);
        let restarts = process.map_or(0, Process::restarts) + u32::from(again);
        let created = process.map_or(now, Process::created_at);
        set("status", "launching".to_owned());
        set("namespace", spec.namespace.to_string());
        set("pm_uptime", now.0.to_string());
        set("created_at", created.0.to_string());
        set("restart_time", restarts.to_string());
        set("unstable_restarts", process.map_or(0, Process::unstable_restarts).to_string());
        set("pm_out_log_path", files.out);
        set("pm_err_log_path", files.error);
        set("pm_pid_path", files.pid);
        let own = ["name", "pm_id", "pm_log_path", spec.instance_var.as_str()];
        for (name, value) in pm2::variables(&record) {
            if !own.contains(&name) && all.iter().all(|(known, _)| known != name) {
                all.push((name.to_owned(), value.into_owned()));
            }
        }
        all
    }

    /// Whether anybody listens to the bus.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.listeners > 0
    }
}
