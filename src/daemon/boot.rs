//! How a daemon comes up: alone in its state directory, with what ran before taken over.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use mio::net::UnixListener;

use crate::base::Signal;
use crate::config::paths::Paths;
use crate::config::settings::Settings;
use crate::config::{environment, resolve};
use crate::daemon::children::Children;
use crate::daemon::connection::Connections;
use crate::daemon::entries::{Entries, Entry, Pipe};
use crate::daemon::key::Key;
use crate::daemon::launch::{Launcher, random};
use crate::daemon::live::LiveTable;
use crate::daemon::log::{Level, OwnLog};
use crate::daemon::news::News;
use crate::daemon::notify::NotifySocket;
use crate::daemon::output::Busy;
use crate::daemon::saving::Saving;
use crate::daemon::sweep::Sweeps;
use crate::daemon::{Daemon, Ending, Options, adopt, state};
use crate::logs::{LogSettings, Logs};
use crate::proto::messages::stamp::MessageIds;
use crate::reactor::{Interest, Reactor, Readiness};
use crate::supervisor::{Adopted, Supervisor};
use crate::sys::signals::{self, Signals};
use crate::sys::spawn::Spawner;
use crate::sys::dir::{Dir, try_lock};
use crate::sys::limits::Resource;
use crate::sys::{clock, describe, limits, proc, process, users};

/// Out of memory the kernel is to take something else first.
const OOM_SCORE: i32 = -500;

/// Why a daemon did not come up: a sentence, and the exit code it stands for.
#[derive(Debug)]
pub struct StartError {
    pub message: String,
    pub code: u8,
}

impl StartError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }
}

/// Runs a daemon in this process until its orderly end.
#[must_use]
pub fn start(options: Options) -> ExitCode {
    let mut ready = options.ready.map(fs::File::from);
    match prepare(&options.paths, options.foreground) {
        Ok((mut daemon, _lock)) => {
            if let Some(mut ready) = ready.take() {
                let _ = ready.write_all(b"ok\n");
            }
            match daemon.run() {
                Ok(()) => {
                    daemon.clean_up();
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
                    let _ = ready.write_all(error.message.as_bytes());
                }
                None => {
                    let _ = writeln!(io::stderr(), "pmd: error: {}", error.message);
                }
            }
            ExitCode::from(error.code)
        }
    }
}

/// The lock is held as long as the descriptor lives.
fn prepare(paths: &Paths, foreground: bool) -> Result<(Daemon, OwnedFd), StartError> {
    signals::reset_inherited();
    let umask = process::set_umask(0o077);
    make_directories(paths)?;
    let lock = lock(paths)?;
    let settings = Settings::load(&paths.settings_file())
        .map_err(|problem| StartError { message: problem.to_string(), code: 6 })?;
    let mut own_log = if foreground {
        OwnLog::to_stderr(Level::Info)
    } else {
        OwnLog::to_file(paths.own_log(), Level::Info).map_err(|error| {
            StartError::new(format!("cannot open {}: {}", paths.own_log().display(), describe(&error)))
        })?
    };
    let fatal = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| StartError::new(format!("{what}: {}", describe(&error)))
    };
    process::become_subreaper().map_err(fatal("cannot become a subreaper"))?;
    let _ = limits::forbid_core_files();
    let nofile = limits::raise_open_files().ok();
    let oom = process::set_oom_score_adj(OOM_SCORE).is_ok().then_some(0);
    let _ = std::env::set_current_dir("/");

    let now = clock::now();
    let mut reactor = Reactor::new().map_err(fatal("cannot wait for events"))?;
    let signals = Signals::install(&[
        Signal::CHLD,
        Signal::TERM,
        Signal::INT,
        Signal::QUIT,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::ALRM,
    ])
    .map_err(fatal("cannot receive signals"))?;
    signals::ignore(Signal::PIPE);
    let raw = std::os::fd::AsRawFd::as_raw_fd(&signals);
    let signals_slot = reactor
        .add(&mut Pipe::source(&raw), Interest::READABLE, Key::Signals)
        .map_err(fatal("cannot watch signals"))?;
    reactor.want(signals_slot, Readiness::READ);
    let waker = reactor.waker(Key::Waker).map_err(fatal("cannot be woken"))?;

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
    let notify = match NotifySocket::bind(&paths.runtime.join("notify.sock")) {
        Ok(notify) => {
            let slot = reactor
                .add(&mut Pipe::source(&notify.raw()), Interest::READABLE, Key::NotifySocket)
                .map_err(fatal("cannot watch the notify socket"))?;
            reactor.want(slot, Readiness::READ);
            Some((notify, slot))
        }
        Err(error) => {
            own_log.warn(format_args!("no notify socket: {}", describe(&error)));
            None
        }
    };
    let log_settings = LogSettings {
        stage_dir: paths.runtime.join("stage"),
        total: settings.log_total,
    };
    let spawner = Spawner::new().map_err(fatal("cannot prepare spawning"))?;
    let launcher =
        Launcher::new(umask, nofile, oom).map_err(fatal("cannot open the null device"))?;
    let saving = Saving { enabled: settings.save && !settings.volatile, ..Saving::default() };
    let boot = format!("{:08x}", random() >> 32);
    let mut listener = listen(&paths.socket, paths.group_may_connect)
        .map_err(fatal(&format!("cannot listen on {}", paths.socket.display())))?;
    let slot = reactor
        .add(&mut listener, Interest::READABLE, Key::Listener)
        .map_err(fatal("cannot watch the control socket"))?;
    reactor.want(slot, Readiness::READ);
    let descriptors = limits::limit(Resource::OpenFiles).map_or(1024, |limit| limit.soft);
    let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
    let most = settings.max_connections.min(half.max(8));
    let mut daemon = Daemon {
        now,
        started: now,
        reactor,
        signals,
        signals_slot,
        supervisor: Supervisor::new(),
        effects: std::collections::VecDeque::new(),
        spawns: std::collections::VecDeque::new(),
        children: Children::default(),
        entries: Entries::new(),
        stems: std::collections::BTreeMap::new(),
        purges: std::collections::BTreeSet::new(),
        launcher,
        spawner,
        logs: Logs::new(log_settings),
        busy: Busy::default(),
        sweeps: Sweeps::default(),
        live,
        saving,
        news: News::default(),
        notify,
        waker,
        connections: Connections::new(Some((listener, slot)), most),
        pending: std::collections::BTreeMap::new(),
        next_reply: 0,
        ids: MessageIds::new(boot),
        base_environment: Rc::new(resolve::base_environment(&environment::current())),
        settings,
        paths: paths.clone(),
        own_log,
        reap_due: true,
        pid_files_due: std::collections::VecDeque::new(),
        ending: Ending::No,
    };
    daemon.restore();
    daemon.write_own_pid();
    daemon.own_log.info(format_args!(
        "pmd {} is up pid={} home={}",
        env!("CARGO_PKG_VERSION"),
        process::own_pid(),
        paths.state.display()
    ));
    Ok((daemon, lock))
}

impl Daemon {
    /// Loads the saved state, takes over what still runs, starts what should.
    fn restore(&mut self) {
        let loaded = state::load(&self.paths.state);
        for warning in &loaded.warnings {
            self.own_log.warn(warning);
        }
        let snapshot = loaded.snapshot.unwrap_or_default();
        let (survivors, resting) = adopt::survivors(&mut self.live, &snapshot);
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
            })
            .collect();
        let slots: Vec<_> = survivors.iter().map(|s| s.found).chain(resting).collect();
        let mut effects = Vec::new();
        let start = self.settings.resurrect;
        self.supervisor = Supervisor::restore(self.now, snapshot, &adopted, start, &mut effects);
        self.effects.extend(effects);
        for found in &slots {
            let Some(process) = self.supervisor.process(found.process) else { continue };
            let (instance, spec) = (process.instance(), process.spec().clone());
            let files = self.choose_files(found.process, instance, &spec);
            let entry = Entry::new(
                found.process,
                instance,
                spec,
                files,
                found.slot,
                found.cookie,
            );
            self.entries.insert(found.process, entry);
        }
        let count = survivors.len();
        for survivor in survivors {
            if let Err(error) = self.adopt(survivor) {
                self.own_log.error(format_args!("cannot adopt: {}", describe(&error)));
            }
        }
        for found in &slots {
            self.recover_resting(found);
        }
        if count > 0 {
            self.own_log.info(format_args!("adopted {count} running processes"));
        }
    }

    fn write_own_pid(&self) {
        let path = self.paths.runtime.join("pmd.pid");
        let _ = fs::write(path, format!("{}\n", process::own_pid()));
    }

    /// Leaves nothing behind that says a daemon is there.
    fn clean_up(&mut self) {
        let _ = fs::remove_file(&self.paths.socket);
        let _ = fs::remove_file(self.paths.runtime.join("pmd.pid"));
        let _ = fs::remove_file(self.paths.runtime.join("notify.sock"));
        self.own_log.info("ended in order");
    }
}

/// One daemon per state directory: the lock is held for life and never inherited.
fn lock(paths: &Paths) -> Result<OwnedFd, StartError> {
    let path = paths.state.join("pmd.lock");
    let locked = Dir::open(&paths.state)
        .and_then(|dir| dir.read_write("pmd.lock"))
        .and_then(|file| Ok(try_lock(&file)?.then(|| OwnedFd::from(file))));
    match locked {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            let pid = fs::read_to_string(paths.runtime.join("pmd.pid")).unwrap_or_default();
            let who = match pid.trim() {
                "" => String::new(),
                pid => format!(" (pid {pid})"),
            };
            let home = paths.state.display();
            Err(StartError::new(format!("a daemon{who} already runs in {home}")))
        }
        Err(error) => {
            Err(StartError::new(format!("cannot lock {}: {}", path.display(), describe(&error))))
        }
    }
}

fn make_directories(paths: &Paths) -> Result<(), StartError> {
    let socket_dir = paths.socket.parent().unwrap_or(Path::new("/"));
    let stage = paths.runtime.join("stage");
    for directory in
        [&paths.state, &paths.runtime, &stage, &paths.logs, &paths.pids, &paths.config]
            .map(std::path::PathBuf::as_path)
            .into_iter()
            .chain([socket_dir])
    {
        let failed = |error: io::Error| {
            let place = directory.display();
            StartError::new(format!("cannot use directory {place}: {}", describe(&error)))
        };
        match DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A read-only configuration directory is no reason to stay down.
            Err(_) if directory == paths.config.as_path() => continue,
            other => other.map_err(failed)?,
        }
        check_owner(directory)?;
    }
    Ok(())
}

/// A directory somebody else may write to cannot be trusted.
fn check_owner(directory: &Path) -> Result<(), StartError> {
    let meta = fs::symlink_metadata(directory).map_err(|error| {
        StartError::new(format!("cannot look at {}: {}", directory.display(), describe(&error)))
    })?;
    let place = directory.display();
    if !meta.is_dir() {
        return Err(StartError::new(format!("{place} is not a directory")));
    }
    if meta.uid() != users::effective_uid() && meta.uid() != 0 {
        return Err(StartError::new(format!("{place} belongs to another user (uid {})", meta.uid())));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        let mode = meta.permissions().mode() & 0o777;
        return Err(StartError::new(format!("{place} is writable by others (mode {mode:04o})")));
    }
    Ok(())
}

/// Under the lock an old socket of this name belongs to nobody.
fn listen(path: &Path, group: bool) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = if group { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
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
