//! The log engine against real pipes and real files, each test in a directory of its own.

mod crashes;
mod full;
mod others;
mod reading;
mod rotation;
mod transport;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::base::{ProcId, Time, WallTime};
use crate::supervisor::spec::{LogFormat, LogFull};
use crate::sys::map::SharedMap;

/// A directory that goes with the test.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pmd-logs-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Streams with their pipes and a journal: what outlives a daemon, and one daemon.
pub struct World {
    pub place: Place,
    pub logs: Logs,
    pub plans: Vec<StreamPlan>,
    pipes: Vec<OwnedFd>,
    map: Rc<SharedMap>,
    clock: Cell<u64>,
    total: Option<u64>,
}

/// A time in 2023, in milliseconds.
pub const START: u64 = 1_700_000_000_000;

impl World {
    pub fn new() -> Self {
        Self::with_total(None)
    }

    pub fn with_total(total: Option<u64>) -> Self {
        let place = Place::new();
        let map = SharedMap::open(&place.file("journal"), 1 << 20).unwrap();
        map.ensure(64 * JOURNAL_WORDS * 8).unwrap();
        let logs = Logs::new(LogSettings { stage_dir: place.file("stage"), total });
        let (plans, pipes) = (Vec::new(), Vec::new());
        Self { place, logs, plans, pipes, map: Rc::new(map), clock: Cell::new(0), total }
    }

    /// One stream with this plan.
    pub fn of(change: impl FnOnce(&Place, &mut StreamPlan)) -> Self {
        let mut world = Self::new();
        world.add(change);
        world
    }

    /// Adds a stream that is written raw to `app.log`, or as `change` says.
    pub fn add(&mut self, change: impl FnOnce(&Place, &mut StreamPlan)) -> StreamId {
        let mut plan = StreamPlan {
            app: "app".into(),
            target: Some(self.place.file("app.log")),
            both: None,
            shared: false,
            format: LogFormat::Raw,
            date: None,
            max_size: 0,
            keep: 100_000,
            full: LogFull::Drop,
        };
        change(&self.place, &mut plan);
        self.plans.push(plan);
        self.pipes.push(sys::fds::open_pipe_rdwr().unwrap());
        let number = self.plans.len() - 1;
        self.reopen(number);
        id(number)
    }

    fn reopen(&mut self, number: usize) {
        let journal = Journal::new(self.map.clone(), number * JOURNAL_WORDS);
        self.logs.open(id(number), self.plans[number].clone(), journal);
    }

    /// The daemon is gone; another takes over.
    pub fn restart(&mut self) {
        let stage_dir = self.place.file("stage");
        self.logs = Logs::new(LogSettings { stage_dir, total: self.total });
        for number in 0..self.plans.len() {
            self.reopen(number);
        }
    }

    pub fn now(&self) -> Now {
        let tick = self.clock.get();
        Now { mono: Time(tick), wall: WallTime(START + tick) }
    }

    pub fn pass(&self, milliseconds: u64) {
        self.clock.set(self.clock.get() + milliseconds);
    }

    /// A child writes; what the pipe cannot take would block the test.
    pub fn write(&self, id: StreamId, bytes: &[u8]) {
        let pipe = self.pipes[index(id)].try_clone().unwrap();
        File::from(pipe).write_all(bytes).unwrap();
    }

    /// As often as there is something and nothing to wait for: a move that falls short, because the
    /// disk is full perhaps, is the last of its pump.
    pub fn pump(&mut self, id: StreamId) -> Pumped {
        let mut moved = 0;
        loop {
            let pumped = self.pump_some(id, usize::MAX);
            moved += pumped.moved;
            if pumped.drained || pumped.retry.is_some() || pumped.moved == 0 {
                return Pumped { moved, ..pumped };
            }
        }
    }

    pub fn pump_some(&mut self, id: StreamId, budget: usize) -> Pumped {
        self.pass(1);
        let now = self.now();
        let pipe = self.pipes[index(id)].as_fd();
        self.logs.pump(id, pipe, budget, now)
    }

    /// Writes and pumps until the pipe is empty.
    pub fn say(&mut self, id: StreamId, bytes: &[u8]) {
        for part in bytes.chunks(60_000) {
            self.write(id, part);
            let pumped = self.pump(id);
            assert!(pumped.drained, "{pumped:?}");
        }
    }

    pub fn finish(&mut self, id: StreamId) {
        let now = self.now();
        self.logs.finish(id, now);
    }

    pub fn left_in_pipe(&self, id: StreamId) -> usize {
        sys::fds::waiting(self.pipes[index(id)].as_fd()).unwrap()
    }

    pub fn lines(&mut self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        self.logs.take_lines(&mut lines);
        lines
    }

    pub fn shown(&mut self) -> Vec<String> {
        self.lines().into_iter().map(|line| String::from_utf8(line.bytes).unwrap()).collect()
    }

    pub fn events(&mut self) -> Vec<LogEvent> {
        let mut events = Vec::new();
        self.logs.take_events(&mut events);
        events
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.place.file(name)).unwrap()).unwrap()
    }
}

pub fn id(number: usize) -> StreamId {
    let process = ProcId(u32::try_from(number / 2).unwrap());
    StreamId { process, stream: Stream::BOTH[number % 2] }
}

fn index(id: StreamId) -> usize {
    usize::try_from(id.process.0).unwrap() * 2 + id.stream.index()
}

/// The rotated files of `path`, oldest first, then the file itself.
pub fn pieces(path: &Path) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    pieces.extend(fs::read(path).ok());
    for number in 1.. {
        match fs::read(rotate::numbered(path, number)) {
            Ok(piece) => pieces.push(piece),
            Err(_) => break,
        }
    }
    pieces.reverse();
    pieces
}

pub fn whole(path: &Path) -> Vec<u8> {
    pieces(path).concat()
}

/// Numbers that are the same in each run: a linear congruential generator.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// `count` numbered lines of different lengths.
pub fn numbered_lines(count: usize, longest: usize) -> Vec<u8> {
    let mut dice = Dice::new(7);
    let mut text = Vec::new();
    for number in 0..count {
        let fill = "x".repeat(dice.below(longest));
        writeln!(text, "{number} {fill}").unwrap();
    }
    text
}
