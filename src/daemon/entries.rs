//! What the daemon keeps for each process besides what the supervisor knows: its pipes, its place
//! in the live table, where its output goes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;

use crate::base::{ChildId, ProcId, Stream};
use crate::daemon::live::SlotId;
use crate::daemon::places::{Files, Places};
use crate::daemon::pm2::Shown;
use crate::proto::messages::event::Subject;
use crate::proto::pm2::view;
use crate::reactor::Slot;
use crate::sorted::SortedMap;
use crate::supervisor::spec::AppSpec;

/// One process.
#[derive(Debug)]
pub struct Entry {
    pub subject: Subject,
    /// The definition that `program` was found for.
    pub spec: Rc<AppSpec>,
    /// What a bare command name means; looked up once and again when it is not found.
    pub program: Option<Box<Path>>,
    /// Whether Node's variable tells a child of its channel; found out when it is needed.
    pub is_nodes: Option<bool>,
    /// Another app's name gives the same names of files: the id is in them.
    pub distinct: bool,
    /// The process's own child; a reload's successor is not.
    pub child: Option<ChildId>,
    pub pipes: [Option<Pipe>; 2],
    pub slot: SlotId,
    /// What the process's own child carries in its environment; kept from child to child until a
    /// reload's successor brings another.
    pub cookie: u64,
    /// The control group that goes with the cookie has the limits of `spec`.
    pub limits_are_set: bool,
    /// What PM2's clients are shown; only where one has asked.
    pub pm2: Option<Box<Shown>>,
    /// Processor time of its children that have ended.
    pub spent: Duration,
    /// The most processor time that was told of it: a counter that never goes back.
    pub told_cpu: Duration,
    /// How often its tree was found to use too much memory.
    pub memory_hits: u32,
    /// How often its children ended without being asked to.
    pub crashes: u32,
    /// Bytes that came through its pipes.
    pub written: [u64; 2],
}

/// One output stream: a pipe that the daemon keeps for the whole life of the entry. The child gets
/// the same read-write descriptor, so neither the death of a child nor that of the daemon ever
/// breaks it.
#[derive(Debug)]
pub struct Pipe {
    pub fd: OwnedFd,
    pub watch: Slot,
    pub mode: Mode,
    /// The log behind it has been opened: with the first byte, or because somebody asked.
    pub logged: bool,
    /// A child has ended: when the pipe is found empty, its last line is ended too.
    pub finish: bool,
}

/// How a pipe is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// In the poll set: silent, or so busy that waiting is not worth it.
    Polled,
    /// Emptied on a tick, out of the poll set.
    Ticked,
    /// Its file cannot be written; tried again later.
    Stalled,
}

impl Pipe {
    pub fn borrow(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For the reactor.
    pub fn source<'a>(raw: &'a i32) -> SourceFd<'a> {
        SourceFd(raw)
    }

    pub fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl Entry {
    /// An entry without pipes: they come with the first child.
    #[must_use]
    pub fn new(
        subject: Subject,
        spec: Rc<AppSpec>,
        distinct: bool,
        slot: SlotId,
        cookie: u64,
    ) -> Self {
        Self {
            subject,
            spec,
            program: None,
            is_nodes: None,
            distinct,
            child: None,
            pipes: [None, None],
            slot,
            cookie,
            limits_are_set: false,
            pm2: None,
            spent: Duration::ZERO,
            told_cpu: Duration::ZERO,
            memory_hits: 0,
            crashes: 0,
            written: [0, 0],
        }
    }

    /// Its files. Worked out each time: what a process writes to is rarely asked for, and the paths
    /// of a thousand are 300 KB.
    #[must_use]
    pub fn files(&self, places: &Places) -> Files {
        places.files(&self.spec, self.subject.instance, self.subject.id, self.distinct)
    }

    /// The paths a PM2 record names.
    #[must_use]
    pub fn pm2_files(&self, places: &Places) -> view::Files {
        let files = self.files(places);
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let log = |at: usize| files.logs[at].as_ref().map_or_else(|| "/dev/null".to_owned(), text);
        let pid = files.pid_file.as_ref().map_or_else(String::new, text);
        let both = files.both.as_ref().map(text);
        view::Files { out: log(0), error: log(1), both, pid }
    }

    pub fn pipe(&self, stream: Stream) -> Option<&Pipe> {
        self.pipes[stream.index()].as_ref()
    }

    pub fn pipe_mut(&mut self, stream: Stream) -> Option<&mut Pipe> {
        self.pipes[stream.index()].as_mut()
    }
}

/// All entries by process. Boxed: what stands in the map is moved when another is put before it.
pub type Entries = SortedMap<ProcId, Box<Entry>>;
