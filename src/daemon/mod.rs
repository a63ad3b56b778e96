//! Where the layers meet: the loop that owns all state, all sockets and all pipes.
//!
//! One turn: wait, read the clock once, give every ready source one budgeted go, fire what is due,
//! carry out what the supervisor decided, send. Restarts come before anything that tells about
//! them; what nobody waits for (pid files) is done when nothing else is to do.

mod accept;
mod account;
mod adopt;
mod aftercare;
mod agent;
mod alarm;
mod answers;
mod apply;
mod boot;
mod channel;
mod children;
mod cluster;
mod connection;
pub mod container;
mod effects;
mod entries;
mod groups;
mod health;
mod home;
mod init;
mod ipevents;
mod kept;
mod key;
mod launch;
mod listening;
mod live;
mod log;
mod log_requests;
mod metrics;
mod names;
mod news;
mod notify;
mod on_event;
mod output;
mod paces;
mod places;
mod plan;
mod pm2;
mod ports;
mod postmortem;
mod preload;
mod queries;
mod reload;
mod requests;
mod saving;
mod settings;
mod sinks;
mod socket;
mod state;
mod sweep;
mod watch;
mod web;
mod worker;

pub mod options;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, Now, ProcId, Signal, Time};
use crate::config::paths::Paths;
use crate::config::settings::Settings;
use crate::logs::Logs;
use crate::proto::messages::stamp::MessageIds;
use crate::reactor::waker::Waker;
use crate::reactor::{Reactor, Readiness, Ready, Slot};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::Supervisor;
use crate::supervisor::spec::Environment;
use crate::supervisor::vocabulary::{Effect, Input, ReplyTo, Request};
use crate::sys::oom::OomKills;
use crate::sys::process::Code;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;
use crate::sys::wait::Reaped;
use crate::sys::{clock, crash};

use aftercare::Aftercare;
use agent::Outside;
use alarm::AlarmClock;
use channel::Channels;
use children::Children;
use cluster::Cluster;
use connection::Connections;
use entries::Entries;
use groups::Groups;
use health::Probes;
use init::Init;
use ipevents::Ipevents;
use kept::Kept;
use key::Key;
use launch::Launcher;
use listening::Sockets;
use live::LiveTable;
use log::OwnLog;
use metrics::Figures;
use news::News;
use notify::NotifySocket;
use on_event::EventCommands;
use output::Busy;
use places::Places;
use requests::Pending;
use saving::Saving;
use sinks::Sinks;
use sweep::Sweeps;
use watch::Watches;
use web::Web;
use web::scrape::Turns;

pub use boot::start;
pub use options::Options;
pub use settings::{read_settings, write_setting};

/// Children spawned in one turn, before the loop looks at its sources again.
const SPAWNS_PER_TURN: usize = 32;
/// How long after the last request code is given back. Long enough not to come between two.
const TRIM_AFTER: Duration = Duration::from_millis(500);
/// Ended children reaped in one turn.
const REAPS_PER_TURN: usize = 64;

/// Everything pmd is.
#[derive(Debug)]
pub struct Daemon {
    now: Now,
    /// When this daemon came up.
    started: Now,
    reactor: Reactor<Key>,
    signals: Signals,
    signals_slot: Slot,
    supervisor: Supervisor,
    effects: VecDeque<Effect>,
    /// Where the supervisor puts them; empty, kept for its memory.
    decided: Vec<Effect>,
    /// What carrying them out came to; told when all effects of the decision are carried out.
    outcomes: VecDeque<Input>,
    /// Spawns the supervisor wants, in order; a slice of them each turn.
    spawns: VecDeque<Effect>,
    children: Children,
    channels: Channels,
    ipevents: Ipevents,
    cluster: Cluster,
    sockets: Sockets,
    entries: Entries,
    /// Names of log files that are not the app's own name to the letter, by the app that had them
    /// first.
    stems: SortedMap<String, String>,
    places: Places,
    /// Processes whose log files go when they are deleted.
    purges: SortedSet<ProcId>,
    launcher: Launcher,
    spawner: Spawner,
    groups: Groups,
    oom_kills: OomKills,
    sinks: Sinks,
    logs: Logs,
    busy: Busy,
    sweeps: Sweeps,
    probes: Probes,
    alarm: AlarmClock,
    watches: Watches,
    event_commands: EventCommands,
    live: LiveTable,
    saving: Saving,
    news: News,
    figures: Figures,
    notify: Option<(NotifySocket, Slot)>,
    waker: Waker,
    kept: Kept,
    init: Init,
    connections: Connections,
    pending: SortedMap<ReplyTo, Pending>,
    next_reply: u64,
    web: Web,
    turns: Turns,
    ids: MessageIds,
    /// For apps that come without an environment.
    base_environment: Rc<Environment>,
    settings: Settings,
    paths: Paths,
    own_log: OwnLog,
    /// SIGCHLD came and not everything has been reaped.
    reap_due: bool,
    aftercare: Aftercare,
    /// Processes whose child has ended and may have left something in its pipes.
    last_words_due: Vec<ProcId>,
    ending: Ending,
    /// The daemon's own.
    code: Code,
    /// When the code that requests needed is given back.
    trim_at: Option<Time>,
    pm2: pm2::Pm2,
    outside: Outside,
    /// Container mode.
    container: Option<container::Running>,
}

/// How far the end of the daemon is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    No,
    /// Everything is being stopped.
    Stopping,
    /// Nothing is left to do but to say good-bye, until then.
    Leaving {
        until: Time,
    },
}

impl Daemon {
    /// Runs until an orderly end.
    ///
    /// # Errors
    ///
    /// Only what leaves the loop itself without footing: waiting or reaping fails.
    fn run(&mut self) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            let timeout = self.timeout();
            self.reactor.turn(timeout, &mut batch)?;
            self.now = clock::now();
            let quiet = batch.is_empty();
            for ready in batch.drain(..) {
                self.dispatch(ready)?;
            }
            if self.reap_due {
                self.reap()?;
            }
            self.attend_connections();
            self.retry_web();
            self.retry_hub();
            self.fire_timers();
            self.attend_metrics();
            self.settle();
            self.hear_last_words();
            self.pump_busy();
            self.show_lines();
            self.sweep_due();
            self.settle();
            self.save_if_due();
            self.watch_container();
            self.settle();
            self.attend_agent();
            self.look_after(quiet && self.spawns.is_empty() && !self.reap_due);
            self.flush_channels();
            self.tell_own_log();
            self.pay_keeper();
            self.tell_init();
            self.flush_connections();
            self.set_alarm();
            self.watch_files();
            let took = clock::now().mono.since(self.now.mono);
            self.turns.note(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            if quiet {
                self.trim();
            }
            if let Ending::Leaving { until } = self.ending
                && (self.connections.all_sent() || self.now.mono >= until)
            {
                return Ok(());
            }
        }
    }

    /// How long nothing will happen by itself; `None`: for ever.
    fn timeout(&self) -> Option<Duration> {
        if !self.spawns.is_empty() || self.reap_due || self.connections.has_unread() {
            return Some(Duration::ZERO);
        }
        let leaving = match self.ending {
            Ending::Leaving { until } => Some(until),
            Ending::No | Ending::Stopping => None,
        };
        let deadline = [
            self.supervisor.next_deadline(),
            self.busy.next_deadline(),
            self.sweeps.next_deadline(),
            self.next_lines(),
            self.saving.next_deadline(),
            self.aftercare.next_deadline(),
            self.connections.next_deadline(),
            self.probes.next_deadline(),
            self.event_commands.next_deadline(),
            self.channels.next_deadline(),
            self.alarm.next_deadline(),
            self.cluster.next_deadline(),
            self.figures.next_deadline(),
            self.outside.next_deadline(),
            self.web.next_deadline(),
            self.init.next_deadline(),
            self.ipevents.next_deadline(),
            self.container.as_ref().and_then(container::Running::next_deadline),
            leaving,
            self.trim_at,
        ]
        .into_iter()
        .flatten()
        .min()?;
        // A fresh reading: from `self.now` every deadline would be late by the turn's own length.
        Some(deadline.since(clock::now().mono))
    }

    fn dispatch(&mut self, ready: Ready<Key>) -> io::Result<()> {
        match ready.key {
            Key::Signals => self.on_signals()?,
            Key::Listener(id) => self.accept(id),
            Key::Connection(id) => self.on_connection(id, ready),
            Key::Output(process, stream) => self.on_output(process, stream),
            Key::Channel(child) => self.on_channel(child, ready),
            Key::Cluster(socket) => self.on_cluster(socket),
            Key::Notification(child) => self.on_notification(child),
            Key::NotifySocket => self.on_notify_socket(),
            Key::Adopted(child) => self.on_adopted_end(child),
            Key::Keeper => self.on_keeper(),
            Key::Outside(wire) => self.on_outside(wire, ready),
            Key::Probe(child) => self.on_probe(child, ready),
            Key::Alarm => self.on_time_of_day(),
            Key::Waker => {
                self.on_worker();
                self.take_names();
                self.take_files();
                self.on_sample();
                self.take_changes();
            }
        }
        Ok(())
    }

    /// Some time after the last request the code that served it leaves memory again; what the loop
    /// itself needs comes back with the next event.
    fn trim(&mut self) {
        if self.spawns.is_empty() && self.trim_at.is_some_and(|at| at <= self.now.mono) {
            self.trim_at = None;
            // What a thousand starts at once had needed.
            self.effects.shrink_to_fit();
            self.decided.shrink_to_fit();
            self.outcomes.shrink_to_fit();
            self.spawns.shrink_to_fit();
            self.last_words_due.shrink_to_fit();
            for shown in self.entries.values_mut().filter_map(|entry| entry.pm2.as_mut()) {
                shown.trim();
            }
            crate::sys::process::forget_stack();
            self.code.forget();
        }
    }

    fn on_signals(&mut self) -> io::Result<()> {
        while let Some((signal, _)) = self.signals.next()? {
            match signal {
                Signal::CHLD => self.reap_due = true,
                _ if self.container.is_some() => self.container_signal(signal),
                Signal::TERM | Signal::INT | Signal::QUIT => self.on_end_signal(signal),
                Signal::HUP => {
                    self.init.reloading(self.now.mono);
                    self.reread_settings();
                    self.reopen_logs();
                    self.init.reloaded();
                }
                Signal::USR2 => self.reopen_logs(),
                _ => {}
            }
        }
        self.reactor.drained(self.signals_slot, Readiness::READ);
        Ok(())
    }

    /// Ends the daemon in order; a second signal ends the children at once.
    fn on_end_signal(&mut self, signal: Signal) {
        match self.ending {
            Ending::No if self.settings.stop_on_exit => {
                self.own_log.info(format_args!("stopping everything signal={signal}"));
                self.tell_kill(true);
                self.dump_pm2();
                self.begin_stop();
            }
            Ending::No => {
                self.own_log.info(format_args!("leaving, programs stay signal={signal}"));
                self.leave("signal");
            }
            Ending::Stopping => self.kill_everything(),
            Ending::Leaving { .. } => {}
        }
    }

    /// Asks the supervisor to stop everything; its answer ends the daemon.
    fn begin_stop(&mut self) {
        self.ending = Ending::Stopping;
        self.init.stopping();
        let from = self.reply_to(Pending::Stop);
        self.input(Input::Request { from, request: Request::Shutdown });
    }

    /// Says good-bye to the clients, for at most a second, and ends the loop.
    fn leave(&mut self, reason: &str) {
        self.init.stopping();
        self.finish_saving();
        self.look_after_all();
        self.end_agent();
        self.show_all_lines();
        self.connections.say_good_bye(reason, self.now, &self.ids);
        self.ending = Ending::Leaving { until: self.now.mono.after(Duration::from_secs(1)) };
    }

    fn reap(&mut self) -> io::Result<()> {
        for _ in 0..REAPS_PER_TURN {
            let Some(Reaped { pid, status, cpu }) = crate::sys::wait::reap_one()? else {
                self.reap_due = false;
                return Ok(());
            };
            crash::point("reaped");
            match self.children.by_pid(pid) {
                Some(child) => {
                    self.note_spent(child, cpu);
                    self.children.reaped(child);
                    self.on_exit(child, status);
                    self.settle();
                    crash::point("exit-told");
                }
                None if self.script_ended(pid, status) => {}
                None if self.event_command_ended(pid, status) => {}
                None => self.sweeps.orphan_reaped(pid),
            }
        }
        Ok(())
    }

    fn on_exit(&mut self, child: ChildId, status: crate::base::ExitStatus) {
        self.hear_last_of(child);
        let mut status = status;
        if let Some(found) = self.children.get(child) {
            self.live.gone(found.slot);
            if status.signal() == Some(Signal::KILL) && self.oom_kills.has(found.pid) {
                status = crate::base::ExitStatus::OutOfMemory;
            }
        }
        self.input(Input::Exited { child, status });
    }

    fn fire_timers(&mut self) {
        self.expire_probes();
        self.expire_event_commands();
        self.expire_asked();
        self.alarm_is_late();
        self.resume_cluster();
        self.supervisor.handle_timeout(self.now, &mut self.decided);
        self.effects.extend(self.decided.drain(..));
    }

    /// Tells the supervisor what happened; what it wants done waits for [`Self::settle`].
    fn input(&mut self, input: Input) {
        let process = if let Input::Ready { child } | Input::Probed { child, .. } = &input {
            self.children.get(*child).map(|child| child.process)
        } else {
            None
        };
        self.supervisor.handle(self.now, input, &mut self.decided);
        self.effects.extend(self.decided.drain(..));
        // Readiness that comes late changes no status, of which the news would be noted.
        if let Some(process) = process {
            self.note_counters(process);
        }
    }

    /// A fresh address for an answer.
    fn reply_to(&mut self, pending: Pending) -> ReplyTo {
        self.next_reply += 1;
        let to = ReplyTo(self.next_reply);
        self.pending.insert(to, pending);
        to
    }
}
