//! How a daemon comes up: alone in its state directory, with what ran before taken over.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use mio::net::UnixListener;

use crate::base::Signal;
use crate::config::paths::Paths;
use crate::config::resolve::{self, Dialect, Origin};
use crate::config::settings::{Settings, StateMode};
use crate::config::web::Overrides;
use crate::config::{base_environment, strip_shell_noise};
use crate::daemon::accept::Door;
use crate::daemon::adopt::Remains;
use crate::daemon::aftercare::Aftercare;
use crate::daemon::agent::Outside;
use crate::daemon::alarm::AlarmClock;
use crate::daemon::channel::Channels;
use crate::daemon::children::Children;
use crate::daemon::cluster::Cluster;
use crate::daemon::connection::Connections;
use crate::daemon::entries::{Entries, Entry, Pipe};
use crate::daemon::groups::Groups;
use crate::daemon::health::Probes;
use crate::daemon::home::{self, Declared, StartError};
use crate::daemon::init::Init;
use crate::daemon::ipevents::Ipevents;
use crate::daemon::kept::Kept;
use crate::daemon::key::Key;
use crate::daemon::launch::Launcher;
use crate::daemon::listening::Sockets;
use crate::daemon::live::LiveTable;
use crate::daemon::log::{Level, OwnLog};
use crate::daemon::metrics::Figures;
use crate::daemon::news::{News, subject_of};
use crate::daemon::notify::NotifySocket;
use crate::daemon::on_event::EventCommands;
use crate::daemon::output::Busy;
use crate::daemon::places::Places;
use crate::daemon::pm2::Pm2;
use crate::daemon::requests::Pending;
use crate::daemon::saving::Saving;
use crate::daemon::sinks::Sinks;
use crate::daemon::socket::Acceptor;
use crate::daemon::sweep::Sweeps;
use crate::daemon::watch::Watches;
use crate::daemon::web::Web;
use crate::daemon::web::scrape::Turns;
use crate::daemon::{Daemon, Ending, TRIM_AFTER, adopt, options, state};
use crate::keeper::{self, Word};
use crate::logs::{LogSettings, Logs};
use crate::proto::messages::stamp::MessageIds;
use crate::reactor::{Interest, Reactor, Readiness};
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::schedule::Zone;
use crate::supervisor::vocabulary::{Existing, Input, Options, Patience, Request};
use crate::supervisor::{Adopted, Supervisor};
use crate::sys::oom::OomKills;
use crate::sys::signals::{self, Signals};
use crate::sys::spawn::Spawner;
use crate::sys::{clock, describe, limits, proc, process};

/// Out of memory the kernel is to take something else first.
const OOM_SCORE: i32 = -500;

/// Runs a daemon in this process until its orderly end.
#[must_use]
pub fn start(mut options: options::Options) -> ExitCode {
    let mut ready = options.ready.take().map(fs::File::from);
    process::set_name("pmd");
    let kept = options.keeper.take().map(Kept::greet).unwrap_or_default();
    if options.foreground && kept.pid().is_some() {
        // Whoever watches the keeper is to see both end.
        let _ = process::die_with_parent();
        if process::parent() != kept.pid() {
            return ExitCode::FAILURE;
        }
    }
    match prepare(&options, kept) {
        Ok((mut daemon, _lock)) => {
            daemon.kept.tell(Word::Up { version: keeper::VERSION }, None);
            if let Some(mut ready) = ready.take() {
                let _ = ready.write_all(b"ok\n");
            }
            match daemon.run() {
                Ok(()) => {
                    daemon.clean_up();
                    daemon.kept.tell(Word::End { again: false }, None);
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    daemon.own_log.error(format_args!("the loop failed: {}", describe(&error)));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            match ready {
                Some(mut ready) => {
                    let hint = error.hint.as_deref().unwrap_or_default();
                    let _ = write!(ready, "{} {hint}\n{}", error.code, error.message);
                }
                None => error.print(),
            }
            ExitCode::from(error.code)
        }
    }
}

/// The lock is held as long as the descriptor lives.
fn prepare(options: &options::Options, kept: Kept) -> Result<(Daemon, OwnedFd), StartError> {
    let (mut paths, foreground) = (options.paths.clone(), options.foreground);
    let host = Host::settle()?;
    let (mut settings, declared) = home::settings(&paths)?;
    if let Some(directory) = &settings.log.dir {
        paths.logs.clone_from(directory);
    }
    let paths = &paths;
    let read_only = home::make_directories(paths)?;
    let mut kept = kept;
    let place = if read_only.state { &paths.runtime } else { &paths.state };
    let lock = match kept.claim_lock(&home::lock_path(place)) {
        Some(lock) => lock,
        None => home::lock(paths, place)?,
    };
    kept.hold_lock(&lock);
    settings.log.targets.files &= !read_only.logs;
    settings.pm2.enabled &= options.pm2;
    let web = Web::settle(&settings.web, options.web.clone(), &paths.config)?;
    let level = Level::from(settings.log_level);
    let mut own_log = if foreground || read_only.logs {
        OwnLog::to_stderr(level)
    } else {
        OwnLog::to_file(paths.own_log(), level).map_err(|error| {
            let place = paths.own_log();
            StartError::new(format!("cannot open {}: {}", place.display(), describe(&error)))
        })?
    };
    let live = match LiveTable::open(&paths.runtime.join("live"), boot_number()) {
        Ok(live) => live,
        Err(error) => {
            own_log.warn(format_args!(
                "no live table in {}: {}; programs cannot be adopted after a crash",
                paths.runtime.display(),
                describe(&error)
            ));
            LiveTable::in_memory().map_err(fatal("cannot make a live table"))?
        }
    };
    // Children of root's daemon may be other users, who cannot enter the runtime directory.
    let bound = match process::effective_uid() {
        0 => NotifySocket::bind_abstract(process::random()),
        _ => NotifySocket::bind(&paths.runtime.join("notify.sock")),
    };
    let notify = match bound {
        Ok(notify) => Some(notify),
        Err(error) => {
            own_log.warn(format_args!("no notify socket: {}", describe(&error)));
            None
        }
    };
    let listener = home::listen(&paths.socket, home::connecting_group(paths))
        .map_err(fatal(&format!("cannot listen on {}", paths.socket.display())))?;
    // The runtime directory lasts as long as the boot: long enough for another daemon.
    let mut saving = match settings.state_mode {
        StateMode::File if !read_only.state => Saving::new(settings.save, paths.state.clone()),
        StateMode::File | StateMode::Volatile => Saving::new(settings.save, paths.runtime.clone()),
    };
    if read_only.state && settings.state_mode == StateMode::File {
        saving.lost = Some("state cannot be saved (read-only file system): running from memory");
        saving.begin_with = Some(paths.state.clone());
    }
    let parts = Parts {
        group: home::connecting_group(paths).is_some(),
        paths: paths.clone(),
        settings,
        own_log,
        live,
        notify,
        listener: Some(listener),
        saving,
        groups: Groups::probe(&paths.state, kept.pid()),
        web,
        kept,
    };
    let mut daemon = assemble(host, parts)?;
    daemon.restore();
    daemon.enter_declared(declared);
    daemon.open_pm2();
    daemon.open_agent();
    daemon.write_own_pid();
    daemon.open_web();
    daemon.open_hub();
    daemon.own_log.info(format_args!(
        "pmd {} is up pid={} home={}",
        env!("CARGO_PKG_VERSION"),
        process::own_pid(),
        paths.state.display()
    ));
    Ok((daemon, lock))
}

/// A daemon without a home: nothing on disk, a control socket only if `control` names one.
pub(super) fn prepare_container(
    control: Option<Paths>,
    overrides: Overrides,
) -> Result<Daemon, StartError> {
    let host = Host::settle()?;
    let web = Web::settle(&Settings::default().web, overrides, Path::new("/"))?;
    let listener = match &control {
        None => None,
        Some(paths) => {
            let place = paths.socket.display();
            let directory = paths.socket.parent().unwrap_or_else(|| Path::new("/"));
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(fatal(&format!("cannot use directory {}", directory.display())))?;
            Some(
                home::listen(&paths.socket, None)
                    .map_err(fatal(&format!("cannot listen on {place}")))?,
            )
        }
    };
    let nowhere = PathBuf::from("/");
    let paths = control.unwrap_or_else(|| Paths {
        home: nowhere.clone(),
        socket: nowhere.clone(),
        config: nowhere.clone(),
        state: nowhere.clone(),
        runtime: nowhere.clone(),
        logs: nowhere.clone(),
        pids: nowhere,
        pm2: None,
    });
    let parts = Parts {
        paths,
        settings: Settings::default(),
        own_log: OwnLog::to_stderr(Level::Warn),
        live: LiveTable::in_memory().map_err(fatal("cannot make a live table"))?,
        notify: NotifySocket::bind_abstract(process::random()).ok(),
        listener,
        group: false,
        saving: Saving::default(),
        groups: Groups::default(),
        web,
        kept: Kept::default(),
    };
    let mut daemon = assemble(host, parts)?;
    daemon.open_web();
    Ok(daemon)
}

/// What this process was started with, before it made itself at home.
struct Host {
    umask: u32,
    nofile: Option<u64>,
    oom_score_adj: Option<i32>,
    signals: Signals,
}

impl Host {
    /// Makes this process fit to be a daemon, whoever started it.
    fn settle() -> Result<Self, StartError> {
        signals::reset_inherited();
        let umask = process::set_umask(0o077);
        process::become_subreaper().map_err(fatal("cannot become a subreaper"))?;
        let _ = process::set_core_limit(0);
        let nofile = limits::raise_nofile().ok();
        let oom_score_adj = process::set_oom_score_adj(OOM_SCORE).is_ok().then_some(0);
        let _ = std::env::set_current_dir("/");
        let signals = Signals::install(&[
            Signal::CHLD,
            Signal::TERM,
            Signal::INT,
            Signal::QUIT,
            Signal::HUP,
            Signal::USR1,
            Signal::USR2,
            Signal::ALRM,
            Signal::HALT,
        ])
        .map_err(fatal("cannot receive signals"))?;
        signals::ignore(Signal::PIPE);
        Ok(Self { umask, nofile, oom_score_adj, signals })
    }
}

/// What differs between a daemon with a home and one without.
struct Parts {
    paths: Paths,
    settings: Settings,
    own_log: OwnLog,
    live: LiveTable,
    notify: Option<NotifySocket>,
    listener: Option<UnixListener>,
    /// A group may use the control socket.
    group: bool,
    saving: Saving,
    groups: Groups,
    web: Web,
    kept: Kept,
}

fn assemble(host: Host, parts: Parts) -> Result<Daemon, StartError> {
    let now = clock::now();
    let mut reactor = Reactor::new().map_err(fatal("cannot wait for events"))?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&host.signals);
    let signals_slot = reactor
        .add(&mut Pipe::source(&raw), Interest::READABLE, Key::Signals)
        .map_err(fatal("cannot watch signals"))?;
    reactor.want(signals_slot, Readiness::READ);
    reactor.wake_with(Key::Waker);
    let waker = reactor.waker();
    let notify = match parts.notify {
        Some(notify) => {
            let slot = reactor
                .add(&mut Pipe::source(&notify.raw()), Interest::READABLE, Key::NotifySocket)
                .map_err(fatal("cannot watch the notify socket"))?;
            reactor.want(slot, Readiness::READ);
            Some((notify, slot))
        }
        None => None,
    };
    let mut kept = parts.kept;
    kept.watch(&mut reactor).map_err(fatal("cannot watch the keeper"))?;
    let mut connections = Connections::new(parts.group);
    connections.set_limit(parts.settings.max_connections);
    if let Some(listener) = parts.listener {
        connections
            .listen(&mut reactor, Acceptor::Unix(listener), Door::Control)
            .map_err(fatal("cannot watch the control socket"))?;
    }
    let log_settings = LogSettings {
        stage_dir: parts.paths.runtime.join("stage"),
        total: parts.settings.log.total,
    };
    Ok(Daemon {
        now,
        started: now,
        reactor,
        signals: host.signals,
        signals_slot,
        supervisor: Supervisor::in_zone(Zone(clock::offset)),
        effects: VecDeque::new(),
        decided: Vec::new(),
        outcomes: VecDeque::new(),
        spawns: VecDeque::new(),
        children: Children::default(),
        channels: Channels::default(),
        ipevents: Ipevents::default(),
        cluster: Cluster::default(),
        sockets: Sockets::default(),
        entries: Entries::new(),
        stems: SortedMap::new(),
        places: Places {
            logs: parts.paths.logs.clone(),
            pids: parts.paths.pids.clone(),
            memory: None,
            container: false,
        },
        purges: SortedSet::new(),
        launcher: Launcher::new(host.umask, host.nofile, host.oom_score_adj)
            .map_err(fatal("cannot open the null device"))?,
        spawner: Spawner::new().map_err(fatal("cannot prepare spawning"))?,
        groups: parts.groups,
        oom_kills: OomKills::listen(),
        sinks: Sinks::default(),
        logs: Logs::new(log_settings),
        busy: Busy::default(),
        sweeps: Sweeps::default(),
        probes: Probes::default(),
        alarm: AlarmClock::default(),
        watches: Watches::default(),
        event_commands: EventCommands::default(),
        live: parts.live,
        saving: parts.saving,
        news: News::default(),
        figures: Figures::default(),
        notify,
        waker,
        init: Init::of_environment(now.mono, kept.pid()),
        kept,
        connections,
        web: parts.web,
        turns: Turns::default(),
        pending: SortedMap::new(),
        next_reply: 0,
        ids: MessageIds::new(format!("{:08x}", process::random() >> 32)),
        base_environment: Rc::new(base_environment(&own_environment())),
        settings: parts.settings,
        paths: parts.paths,
        own_log: parts.own_log,
        reap_due: true,
        aftercare: Aftercare::default(),
        last_words_due: Vec::new(),
        ending: Ending::No,
        code: process::Code::find(),
        trim_at: Some(now.mono.after(TRIM_AFTER)),
        pm2: Pm2::default(),
        outside: Outside::default(),
        container: None,
    })
}

/// Says what failed.
fn fatal(what: &str) -> impl FnOnce(io::Error) -> StartError + use<> {
    let what = what.to_owned();
    move |error| StartError::new(format!("{what}: {}", describe(&error)))
}

impl Daemon {
    /// Loads the saved state, takes over what still runs, starts what should.
    fn restore(&mut self) {
        let mut loaded = state::load(self.saving.directory());
        if let (None, Some(before)) = (&loaded.snapshot, &self.saving.begin_with) {
            loaded = state::load(before);
        }
        if let Some(text) = self.saving.lost {
            self.own_log.warn(text);
        }
        for warning in &loaded.warnings {
            self.own_log.warn(warning);
        }
        let mut snapshot = loaded.snapshot.unwrap_or_default();
        let Remains { alive: survivors, resting, strays } =
            adopt::survivors(&mut self.live, &snapshot, loaded.lost, self.kept.pid());
        for pid in strays {
            self.own_log.warn(format_args!(
                "pid {pid} runs on and is not in the list any more: the state was lost"
            ));
        }
        for found in survivors.iter().map(|survivor| &survivor.found).chain(&resting) {
            snapshot.reserve_children(found.child);
        }
        let adopted: Vec<Adopted> = survivors
            .iter()
            .map(|survivor| Adopted {
                process: survivor.found.process,
                child: survivor.found.child,
                pid: survivor.pid,
                started: survivor.found.started,
                restarts: survivor.found.restarts,
                unstable: survivor.found.unstable,
                ready: survivor.found.ready,
                port: survivor.found.port,
            })
            .collect();
        let slots: Vec<_> = survivors.iter().map(|s| s.found).chain(resting).collect();
        let mut effects = Vec::new();
        let start = self.settings.resurrect;
        let supervisor = std::mem::take(&mut self.supervisor);
        self.supervisor = supervisor.restore(self.now, snapshot, &adopted, start, &mut effects);
        self.effects.extend(effects);
        for found in &slots {
            let Some(process) = self.supervisor.process(found.process) else { continue };
            let spec = process.spec().clone();
            self.find_memory(&spec);
            let distinct = self.is_distinct(&spec);
            let Some(process) = self.supervisor.process(found.process) else { continue };
            let subject = subject_of(process);
            let entry = Entry::new(subject, spec, distinct, found.slot, found.cookie);
            self.entries.insert(found.process, Box::new(entry));
        }
        // What a crash left half written is undone here, before any stream is moved: files may be
        // shared.
        for found in &slots {
            self.recover_resting(found);
        }
        for found in &slots {
            self.take_kept_pipes(found);
        }
        self.kept.let_go_unclaimed();
        self.groups.tidy();
        let count = survivors.len();
        for survivor in survivors {
            if let Err(error) = self.adopt(survivor) {
                self.own_log.error(format_args!("cannot adopt: {}", describe(&error)));
            }
        }
        if let Some(status) = self.kept.last {
            self.own_log.warn(format_args!("the daemon before this one: {status}"));
        }
        if count > 0 {
            self.own_log.info(format_args!("adopted {count} running processes"));
        }
    }

    /// Enters the apps that the configuration directory declares: new ones are started, changed
    /// ones take over their new definition.
    fn enter_declared(&mut self, declared: Vec<Declared>) {
        for Declared { path, document, text } in declared {
            let shown = path.to_string_lossy().into_owned();
            let defaults = self.settings.defaults();
            let origin = Origin {
                dialect: Dialect::Pmd,
                dir: path.parent().unwrap_or_else(|| Path::new("/")),
                environment: &self.base_environment,
                profile: None,
                source: Some(&path),
                file: Some((&shown, &text)),
                strict: false,
                defaults: &defaults,
            };
            let resolved = resolve::apps(&document, &origin);
            for problem in resolved.problems.iter().chain(&resolved.warnings) {
                self.own_log.warn(problem);
            }
            for text in resolved.apps.iter().filter_map(|app| self.groups.shortcoming(app)) {
                self.own_log.warn(text);
            }
            if resolved.problems.is_empty() {
                let apps = resolved.apps.into_iter().map(Rc::new).collect();
                let from = self.reply_to(Pending::Nobody);
                let options = Options { wait: Patience::None, ..Options::default() };
                let request = Request::Create { apps, existing: Existing::Apply, options };
                self.input(Input::Request { from, request });
            }
        }
    }

    fn write_own_pid(&self) {
        let path = self.paths.runtime.join("pmd.pid");
        let _ = fs::write(path, format!("{}\n", process::own_pid()));
    }

    /// Leaves nothing behind that says a daemon is there.
    fn clean_up(&mut self) {
        self.close_pm2();
        self.close_hub();
        let _ = fs::remove_file(&self.paths.socket);
        let _ = fs::remove_file(self.paths.runtime.join("pmd.pid"));
        let _ = fs::remove_file(self.paths.runtime.join("notify.sock"));
        self.groups.leave();
        self.own_log.info("ended in order");
    }
}

fn own_environment() -> crate::supervisor::spec::Environment {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    strip_shell_noise(variables)
}

/// This boot of the kernel, as a number.
fn boot_number() -> u64 {
    proc::boot_id()
        .map(|id| {
            id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
        .unwrap_or_default()
}
