//! From a spec to a running child: environment, arguments, descriptors, and the spawn itself.
//!
//! Nothing here decides anything; what happened goes back to the supervisor. The vectors are kept
//! between launches, so that a restart allocates next to nothing.

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::{ChildId, Pid, ProcId, SpawnError, Stage, Stream};
use crate::config::{envfile, program};
use crate::daemon::Daemon;
use crate::daemon::account::{self, Account};
use crate::daemon::aftercare::identity;
use crate::daemon::channel;
use crate::daemon::children::{Child, Notification};
use crate::daemon::entries::{Entry, Mode, Pipe};
use crate::daemon::groups::Membership;
use crate::daemon::key::Key;
use crate::daemon::news::subject_of;
use crate::daemon::{home, listening, places, plan, preload};
use crate::proto::messages::event::Subject;
use crate::reactor::{Interest, Readiness};
use crate::supervisor::spec::{AppSpec, Environment, LogTarget, OnDaemonLoss, Stdin};
use crate::supervisor::vocabulary::{Input, PortWish, Target};
use crate::sys::args::CArgs;
use crate::sys::limits::Resource;
use crate::sys::route::Route;
use crate::sys::spawn::{Spawn, Spawned};
use crate::sys::{crash, fds, process};

/// Errors of Linux by number, for stages that fail in the daemon.
mod errno {
    pub const INVALID: i32 = 22;
    pub const NO_SUCH_FILE: i32 = 2;
}

/// So many processes have pipes with room for this many bytes once they have written something;
/// hosts with more of them keep the usual size, since a user's pipes share a limit.
const ROOMY_PIPES: usize = 64;
const ROOMY: usize = 256 * 1024;

/// What every launch needs.
#[derive(Debug)]
pub struct Launcher {
    /// Whose arguments and environment the next fields hold, if they are good for its next life.
    ready: Option<(Given, Rc<AppSpec>)>,
    pub(super) args: CArgs,
    pub(super) env: CArgs,
    program: CString,
    cwd: CString,
    rlimits: Vec<(Resource, u64)>,
    /// What the arguments have Node load.
    preload: Option<PathBuf>,
    text: String,
    null: OwnedFd,
    /// What the daemon itself was started with, to be handed back to the children.
    pub umask: u32,
    pub nofile: Option<u64>,
    /// The daemon lowered its own, so that children need it set back.
    pub oom_score_adj: Option<i32>,
}

/// What one child is given besides its definition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Given {
    pub process: ProcId,
    pub instance: u32,
    pub port: Option<u16>,
    pub cookie: u64,
}

impl Launcher {
    /// The null device.
    pub(super) fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }

    /// # Errors
    ///
    /// Those of opening the null device.
    pub fn new(umask: u32, nofile: Option<u64>, oom_score_adj: Option<i32>) -> io::Result<Self> {
        Ok(Self {
            ready: None,
            args: CArgs::new(),
            env: CArgs::new(),
            program: CString::default(),
            cwd: CString::default(),
            rlimits: Vec::new(),
            preload: None,
            text: String::new(),
            null: fds::null_device()?,
            umask,
            nofile,
            oom_score_adj,
        })
    }

    /// What every child gets has changed.
    pub(super) fn start_afresh(&mut self) {
        self.ready = None;
    }

    /// Nothing that a launch is prepared from can have changed since.
    fn is_ready_for(&self, given: &Given, spec: &Rc<AppSpec>) -> bool {
        let ready = self.ready.as_ref();
        ready.is_some_and(|ready| ready.0 == *given && Rc::ptr_eq(&ready.1, spec))
            && self.preload.as_ref().is_none_or(|file| file.exists())
    }
}

impl Daemon {
    /// Carries out `Effect::Spawn`.
    pub(super) fn launch(
        &mut self,
        child: ChildId,
        process: ProcId,
        instance: u32,
        spec: &Rc<AppSpec>,
        port: Option<PortWish>,
    ) {
        let entry = self.entries.get(&process);
        let remembered = entry.is_some_and(|entry| entry.program.is_some());
        let launched = self.choose_port(process, instance, port).and_then(|port| {
            let mut launched = self.try_launch(child, process, instance, spec, port);
            if remembered && launched.is_err_and(|error| error.stage == Stage::Exec) {
                // The program may be somewhere else by now.
                launched = self.try_launch(child, process, instance, spec, port);
            }
            Ok((launched?, port))
        });
        let input = match launched {
            Ok((pid, port)) => Input::Spawned { child, pid, port },
            Err(error) => {
                if let Some(entry) =
                    self.entries.get(&process).filter(|entry| entry.child.is_none())
                {
                    self.live.gone(entry.slot);
                }
                Input::SpawnFailed { child, error }
            }
        };
        self.outcomes.push_back(input);
    }

    fn try_launch(
        &mut self,
        child: ChildId,
        process: ProcId,
        instance: u32,
        spec: &Rc<AppSpec>,
        port: Option<u16>,
    ) -> Result<Pid, SpawnError> {
        self.prepare_entry(process, instance, spec).map_err(prepare)?;
        let inherit = self.container.as_ref().is_some_and(|container| container.inherit);
        for stream in Stream::BOTH.into_iter().filter(|_| !inherit) {
            self.open_pipe(process, stream).map_err(prepare)?;
        }
        let entry = self.entries.get(&process).ok_or_else(|| at_prepare(errno::INVALID))?;
        let lives = |id| self.children.get(id).is_some_and(|child: &Child| child.lives);
        let successor = entry.child.is_some_and(lives);
        // Two children at a time are told apart by their cookies.
        let cookie = if successor { process::random() } else { entry.cookie };
        let given = Given { process, instance, port, cookie };
        let account = if self.launcher.is_ready_for(&given, spec) {
            None
        } else {
            self.prepare_launch(child, spec, &given)?
        };
        let credentials = account.as_ref().map(|account| &account.credentials);

        let stdin = match spec.stdin {
            Stdin::Null => None,
            Stdin::Pipe => Some(fds::pipe().map_err(prepare)?),
        };
        let notification = match spec.notification_fd {
            None => None,
            Some(number) => {
                let number = i32::try_from(number).map_err(|_| at_prepare(errno::INVALID))?;
                Some((number, fds::pipe().map_err(prepare)?))
            }
        };
        let offer = channel::Offer::to(spec).map_err(prepare)?;
        if !successor && !spec.is_cluster() {
            self.release_cluster(process);
        }
        let sockets = self.inherited(process, spec, credentials, !successor)?;
        let entry = self.entries.get_mut(&process).ok_or_else(|| at_prepare(errno::INVALID))?;
        let mut are_set = entry.limits_are_set && !successor;
        let entrance = self.groups.enter(cookie, &spec.limits, &mut are_set);
        if let Some(Err(error)) = entrance.as_ref().map(|entrance| &entrance.limited) {
            let why = crate::sys::describe(error);
            self.own_log.warn(format_args!("cannot set the limits of {}: {why}", spec.name));
        }
        if !successor {
            entry.limits_are_set = are_set;
        }
        let null = self.launcher.null.as_fd();
        let own = inherit.then(|| (io::stdout(), io::stderr()));
        let output = |stream| match (entry.pipe(stream), &own, stream) {
            (Some(pipe), _, _) => pipe.borrow(),
            (None, Some((stdout, _)), Stream::Out) => stdout.as_fd(),
            (None, Some((_, stderr)), Stream::Err) => stderr.as_fd(),
            (None, None, Stream::Out | Stream::Err) => null,
        };
        let mut given = 3;
        let mut descriptors: [(i32, BorrowedFd<'_>); 5] = [
            (0, stdin.as_ref().map_or(null, |(read, _)| read.as_fd())),
            (1, output(Stream::Out)),
            (2, output(Stream::Err)),
            (0, null),
            (0, null),
        ];
        let noticed = notification.as_ref().map(|(number, (_, write))| (*number, write.as_fd()));
        let spoken = offer.as_ref().map(channel::Offer::theirs);
        for extra in noticed.into_iter().chain(spoken) {
            if let Some(place) = descriptors.get_mut(given) {
                *place = extra;
                given += 1;
            }
        }
        let mut descriptors = Cow::Borrowed(descriptors.get(..given).unwrap_or_default());
        if !sockets.is_empty() {
            descriptors.to_mut().extend(listening::numbered(&sockets));
        }
        if let Some(credentials) = credentials {
            // So that the child may open /dev/stdout anew. Only pipes of our own: what a container
            // inherits may be anything, the host's null device too.
            for pipe in Stream::BOTH.into_iter().filter_map(|stream| entry.pipe(stream)) {
                let _ = fds::change_owner(pipe.borrow(), credentials.uid, credentials.gid);
            }
        }
        if spec.pm2.is_some() {
            // PM2's clients look at them before there is a byte in them.
            let files = entry.files(&self.places);
            files.logs.iter().flatten().chain(&files.both).for_each(|it| touch(it));
        }
        let slot = if successor {
            self.live.claim(process, cookie, true).map_err(prepare)?
        } else {
            entry.slot
        };
        self.live.spawning(slot, child, port);
        crash::point("spawn-before");
        let spawned = self.spawner.spawn(&Spawn {
            program: &self.launcher.program,
            args: &self.launcher.args,
            env: &self.launcher.env,
            cwd: &self.launcher.cwd,
            fds: &descriptors,
            credentials,
            umask: Some(spec.umask.unwrap_or(self.launcher.umask)),
            nice: spec.nice,
            oom_score_adj: spec.oom_score_adj.or(self.launcher.oom_score_adj),
            rlimits: &self.launcher.rlimits,
            die_with_parent: spec.on_daemon_loss == OnDaemonLoss::Kill,
            cgroup: entrance.as_ref().map(|entrance| entrance.group.as_fd()),
            listen_pid: !sockets.is_empty(),
            no_new_privs: credentials.is_some(),
        });
        let Spawned { pid, in_cgroup } = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                if successor {
                    self.live.release(slot);
                    self.groups.forget(cookie);
                }
                if error.stage == Stage::Exec {
                    entry.program = None;
                    self.launcher.ready = None;
                }
                return Err(error);
            }
        };
        crash::point("spawn-after");
        self.live.spawned(slot, pid, self.now);
        crash::point("spawn-noted");
        if successor {
            self.live.identified(slot, pid, identity(pid));
        } else {
            entry.child = Some(child);
        }
        if let Some(shown) = entry.pm2.as_mut().filter(|_| !successor) {
            shown.begin(child);
        }
        let has_channel = offer.is_some();
        let channel = offer.and_then(|offer| self.open_channel(child, offer, spec));
        let stdin = stdin.map(|(_, write)| {
            let _ = fds::set_nonblocking(&write, true);
            File::from(write)
        });
        let notification = notification.and_then(|(_, (read, _))| {
            let _ = fds::set_nonblocking(&read, true);
            let raw = std::os::fd::AsRawFd::as_raw_fd(&read);
            let watch = self
                .reactor
                .add(&mut Pipe::source(&raw), Interest::READABLE, Key::Notification(child))
                .ok()?;
            self.reactor.want(watch, Readiness::READ);
            Some(Box::new(Notification { pipe: File::from(read), watch }))
        });
        self.children.insert(
            child,
            Child {
                process,
                pid,
                lives: true,
                adopted: None,
                group: if in_cgroup { Membership::Ours } else { Membership::None },
                group_is_spent: false,
                cookie,
                port,
                slot,
                successor,
                limited: spec.max_memory_restart.is_some(),
                stdin,
                notification,
                has_channel,
                channel,
            },
        );
        if spec.is_cluster() {
            self.enter_worker(child, process);
        }
        self.owe_aftercare(process);
        Ok(pid)
    }

    /// Fills the launcher with everything that a spawn takes from the spec; whom the child runs as.
    fn prepare_launch(
        &mut self,
        child: ChildId,
        spec: &Rc<AppSpec>,
        given: &Given,
    ) -> Result<Option<Account>, SpawnError> {
        let notified = spec.notify || (spec.wait_ready && spec.notification_fd.is_none());
        let (files, account) = self.prepare_environment(spec, given, notified)?;
        let entry =
            self.entries.get_mut(&given.process).ok_or_else(|| at_prepare(errno::INVALID))?;
        let word = spec.interpreter.as_deref().unwrap_or(&spec.script);
        if word.contains('/') {
            entry.program = None;
        } else if entry.program.is_none() {
            entry.is_nodes = None;
            entry.program = find_word(word, spec, &files).map(PathBuf::into_boxed_path);
            if entry.program.is_none() {
                return Err(SpawnError { stage: Stage::Exec, errno: errno::NO_SUCH_FILE });
            }
        }
        let program = match &entry.program {
            Some(found) => Cow::Borrowed(&**found),
            None => Cow::Owned(spec.cwd.join(word)),
        };
        let number = channel::number(spec);
        let is_nodes = number.is_some()
            && *entry.is_nodes.get_or_insert_with(|| channel::is_nodes(spec, &program));
        let preload = (is_nodes && preload::suits(spec, &program))
            .then(|| preload::file(&self.paths))
            .flatten();
        let launcher = &mut self.launcher;
        plan::arguments(spec, &program, preload.as_deref(), &mut launcher.args)
            .map_err(|_| at_prepare(errno::INVALID))?;
        launcher.preload = preload;
        if let Some(number) = number {
            let worker = spec.is_cluster().then_some(child);
            plan::channel(number, is_nodes, worker, &mut launcher.env, &mut launcher.text)
                .map_err(|_| at_prepare(errno::INVALID))?;
        }
        launcher.program = c_path(&program)?;
        launcher.cwd = c_path(&spec.cwd)?;
        launcher.rlimits = plan::rlimits(spec, launcher.nofile);
        // What comes out of files may be another by the next time, and PM2's variables count.
        // A worker has a number of its own.
        let lasts = spec.env_file.is_empty() && account.is_none() && !spec.is_cluster();
        if lasts && spec.pm2.is_none() {
            launcher.ready = Some((*given, Rc::clone(spec)));
        }
        Ok(account)
    }

    /// Fills the launcher's environment with what a child of this instance gets, and says what else
    /// was read for it: its environment files, and whom it runs as. `notified`: it may speak to the
    /// notify socket.
    pub(super) fn prepare_environment(
        &mut self,
        spec: &AppSpec,
        given: &Given,
        notified: bool,
    ) -> Result<(Vec<Environment>, Option<Account>), SpawnError> {
        self.launcher.ready = None;
        let files: Vec<Environment> = spec
            .env_file
            .iter()
            .map(|path| {
                let read = envfile::read(path, "").map_err(|_| at_prepare(errno::INVALID))?;
                Ok(read.into_iter().collect())
            })
            .collect::<Result<_, _>>()?;
        let account = account::of(spec).map_err(prepare)?;
        let notify = self.notify.as_ref().filter(|_| notified);
        let process = self.supervisor.process(given.process);
        let entry = self.entries.get(&given.process).ok_or_else(|| at_prepare(errno::INVALID))?;
        let more = self.pm2.variables(process, spec, entry, &self.places, self.now.wall);
        let injected = plan::Injected {
            process: given.process,
            instance: given.instance,
            cookie: given.cookie,
            port: given.port,
            notify_socket: notify.map(|(socket, _)| socket.path()),
            account: account.as_ref().and_then(|account| account.user.as_ref()),
            more: &more,
        };
        plan::environment(spec, &files, &injected, &mut self.launcher.env, &mut self.launcher.text)
            .map_err(|_| at_prepare(errno::INVALID))?;
        Ok((files, account))
    }

    /// Makes the entry fit the spec: a new one, or one whose definition changed.
    ///
    /// # Errors
    ///
    /// The live table cannot grow.
    pub(super) fn prepare_entry(
        &mut self,
        process: ProcId,
        instance: u32,
        spec: &Rc<AppSpec>,
    ) -> io::Result<()> {
        if self.entries.get(&process).is_some_and(|entry| Rc::ptr_eq(&entry.spec, spec)) {
            return Ok(());
        }
        self.find_memory(spec);
        let distinct = self.is_distinct(spec);
        let files = self.places.files(spec, instance, process, distinct);
        match self.entries.get_mut(&process) {
            Some(entry) => {
                let moved = entry.files(&self.places) != files || entry.spec.logs != spec.logs;
                if moved {
                    self.empty_pipes(process);
                }
                let Some(entry) = self.entries.get_mut(&process) else { return Ok(()) };
                if *entry.subject.name != *spec.name
                    && let Some(process) = self.supervisor.process(process)
                {
                    entry.subject = subject_of(process);
                }
                entry.spec = spec.clone();
                entry.distinct = distinct;
                entry.program = None;
                entry.is_nodes = None;
                entry.limits_are_set = false;
                if moved {
                    self.move_logs(process);
                }
            }
            None => {
                let cookie = process::random();
                let slot = self.live.claim(process, cookie, false)?;
                let subject = match self.supervisor.process(process) {
                    Some(process) => subject_of(process),
                    None => Subject {
                        id: process,
                        name: spec.name.clone(),
                        namespace: spec.namespace.clone(),
                        instance,
                    },
                };
                let entry = Entry::new(subject, spec.clone(), distinct, slot, cookie);
                self.entries.insert(process, Box::new(entry));
            }
        }
        Ok(())
    }

    /// What was written so far goes to the files of now.
    fn empty_pipes(&mut self, process: ProcId) {
        for stream in Stream::BOTH {
            self.drain(process, stream);
        }
    }

    /// From now on the process writes to other files. The pipes stay, since the old child may still
    /// be there while it is reloaded.
    fn move_logs(&mut self, process: ProcId) {
        let Some(entry) = self.entries.get(&process) else { return };
        for stream in Stream::BOTH {
            let journal = self.live.journal(entry.slot, stream);
            let plan = plan::stream(entry, stream, &self.places, &self.settings);
            self.logs.open(crate::logs::StreamId { process, stream }, plan, journal);
        }
    }

    /// Where logs are kept in memory, before the first that is.
    pub(super) fn find_memory(&mut self, spec: &AppSpec) {
        let places = &mut self.places;
        if spec.logs.out == LogTarget::Memory && places.memory.is_none() && !places.container {
            places.memory = Some(home::memory(&self.paths));
        }
    }

    /// Whether the name of an app gives the same files as another's: then its id is in them.
    pub(super) fn is_distinct(&mut self, spec: &AppSpec) -> bool {
        if self.container.is_some() {
            return false;
        }
        let stem = places::file_name(&spec.name);
        if *stem == *spec.name {
            self.stems.contains_key(&stem)
        } else {
            let taken = !self.supervisor.resolve(&Target::Name(stem.clone())).is_empty();
            let owner = self.stems.get_or_insert_with(stem, || spec.name.as_ref().to_owned());
            taken || **owner != *spec.name
        }
    }

    /// A pipe for the stream, if the entry has none.
    pub(super) fn open_pipe(&mut self, process: ProcId, stream: Stream) -> io::Result<()> {
        let Some(entry) = self.entries.get(&process) else { return Ok(()) };
        if entry.pipe(stream).is_some() {
            return Ok(());
        }
        let fd = fds::unless_last(fds::open_pipe_rdwr()?)?;
        if self.entries.len() <= ROOMY_PIPES {
            // More room for what is written while no daemon reads. EPERM: the user's share of pipe
            // memory is used up.
            let _ = fds::set_pipe_size(fd.as_fd(), ROOMY);
        }
        // Before there is a child: its last words are not lost, whenever both of us die.
        self.kept.hold(fd.as_fd());
        crash::point("hold-after");
        self.take_pipe(process, stream, fd)
    }

    /// Watches a pipe.
    pub(super) fn take_pipe(
        &mut self,
        process: ProcId,
        stream: Stream,
        fd: OwnedFd,
    ) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(&process) else { return Ok(()) };
        let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
        let watch = self.reactor.add(
            &mut Pipe::source(&raw),
            Interest::READABLE,
            Key::Output(process, stream),
        )?;
        self.reactor.want(watch, Readiness::READ);
        self.live.pipe(entry.slot, stream, fds::inode_of(fd.as_fd())?);
        entry.pipes[stream.index()] =
            Some(Pipe { fd, watch, mode: Mode::Polled, logged: false, finish: false });
        Ok(())
    }

    /// Opens the log of a stream, if that has not been done: what never writes costs no memory, and
    /// what rests can be read, flushed and rotated.
    pub(super) fn open_log(&mut self, process: ProcId, stream: Stream) {
        let few = self.entries.len() <= ROOMY_PIPES;
        let Some(entry) = self.entries.get_mut(&process) else { return };
        if let Some(pipe) = entry.pipe_mut(stream) {
            if std::mem::replace(&mut pipe.logged, true) {
                return;
            }
            if few {
                // More room for what is written while no daemon reads. EPERM: the user's share of
                // pipe memory is used up.
                let _ = fds::set_pipe_size(pipe.borrow(), ROOMY);
            }
        }
        let id = crate::logs::StreamId { process, stream };
        let journal = self.live.journal(entry.slot, stream);
        let plan = plan::stream(entry, stream, &self.places, &self.settings);
        self.logs.open(id, plan, journal);
        let wanted = self.container.is_some()
            || entry.spec.logs.wants_lines()
            || self.news.wants_lines(&entry.subject)
            || self.outside.wants_lines(entry);
        self.logs.watch(id, wanted);
    }
}

/// Makes an empty file, and the directories above it, where there is none. What goes wrong comes up
/// again when something is to be written there.
fn touch(path: &Path) {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    let _ = Route::made_to(path).and_then(|route| route.open(&mut options));
}

/// A program, looked up in the app's own `PATH`.
pub(super) fn find_word(word: &str, spec: &AppSpec, files: &[Environment]) -> Option<PathBuf> {
    let path = spec
        .env
        .get("PATH")
        .or_else(|| files.iter().rev().find_map(|file| file.get("PATH")))
        .or_else(|| spec.inherited.get("PATH"));
    if word.contains('/') {
        return Some(spec.cwd.join(word));
    }
    program::find_in_path(word, path.unwrap_or(program::DEFAULT_PATH), &spec.cwd)
}

fn c_path(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| at_prepare(errno::INVALID))
}

fn at_prepare(errno: i32) -> SpawnError {
    SpawnError { stage: Stage::Prepare, errno }
}

fn prepare(error: io::Error) -> SpawnError {
    at_prepare(error.raw_os_error().unwrap_or(errno::INVALID))
}

/// Keeps `write!` to a `String` from having a result.
pub(super) fn put(text: &mut String, value: impl std::fmt::Display) -> &str {
    text.clear();
    let _ = write!(text, "{value}");
    text
}
