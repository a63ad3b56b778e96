//! The live table: what is true as long as this boot and these children last.
//!
//! One mapped file in the runtime directory with a slot per process: who its child is, which pipes
//! it writes to, counters, and the journals of its logs. Written with plain stores, never synced:
//! the pages outlive the daemon, not the boot. What users asked for is in the state file instead.
//!
//! A slot is written around a spawn so that no instant of a crash loses a child: first the mark
//! "spawning" with the cookie that the child carries in its environment, then the pid, and with
//! the identity the mark goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{ChildId, Now, Pid, ProcId, Stream, Time, WallTime};
use crate::logs::Journal;
use crate::sys::fds;
use crate::sys::map::SharedMap;

/// Words of one slot.
const SLOT: usize = 32;
/// The file grows by so many slots.
const GROWTH: usize = 16;
/// Words of the header; as long as a slot, so that slots are aligned.
const HEADER: usize = SLOT;
/// Bytes that say what this file is: magic, version, boot.
const HEADER_BYTES: usize = 3 * size_of::<u64>();
/// At most this many processes have a slot.
const MAX_SLOTS: usize = 16 * 1024;
/// First of a stream's journal words.
const JOURNALS: [usize; 2] = [16, 24];

const MAGIC: u64 = u64::from_le_bytes(*b"pmd live");
const VERSION: u64 = 1;

mod word {
    /// Process id + 1; 0: free.
    pub const PROCESS: usize = 0;
    pub const CHILD: usize = 1;
    /// 0: no child.
    pub const PID: usize = 2;
    pub const PIDFS_INODE: usize = 3;
    pub const START_TICKS: usize = 4;
    pub const COOKIE: usize = 5;
    pub const PIPES: [usize; 2] = [6, 7];
    pub const STARTED_MONO: usize = 8;
    pub const STARTED_WALL: usize = 9;
    pub const RESTARTS: usize = 10;
    pub const UNSTABLE: usize = 11;
    pub const FLAGS: usize = 12;
    /// 0: none.
    pub const PORT: usize = 13;
}

mod flag {
    pub const SPAWNING: u64 = 1;
    pub const READY: u64 = 2;
    pub const SUCCESSOR: u64 = 4;
}

/// Names a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotId(usize);

/// How a process can be told from every other of this boot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Inode on pidfs, unique for the boot (Linux 6.9); 0 where there is none.
    pub pidfs_inode: u64,
    /// Start time in clock ticks; 0 when it was not looked up. Not unique.
    pub start_ticks: u64,
}

/// A slot as it was found at start.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub slot: SlotId,
    pub process: ProcId,
    pub child: ChildId,
    /// `None`: no child, or a crash came before its pid was known (`spawning`).
    pub pid: Option<Pid>,
    /// A crash came before its identity was noted.
    pub spawning: bool,
    pub successor: bool,
    pub identity: Identity,
    pub cookie: u64,
    /// Inodes of the pipes behind stdout and stderr.
    pub pipes: [u64; 2],
    pub started: Now,
    pub restarts: u32,
    pub unstable: u32,
    pub ready: bool,
    pub port: Option<u16>,
}

/// The mapped table.
#[derive(Debug)]
pub struct LiveTable {
    map: Rc<SharedMap>,
    free: Vec<usize>,
    /// Slots in use or free; the file may have room for more.
    slots: usize,
    persistent: bool,
}

impl LiveTable {
    /// Opens or creates the table. One of another boot or another version is emptied: nothing in
    /// it is true any more.
    ///
    /// # Errors
    ///
    /// Those of opening, growing and mapping the file.
    pub fn open(path: &Path, boot: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Self::from_file(file, boot)
    }

    /// A table that ends with this daemon, for want of a place: after a crash nothing is adopted.
    ///
    /// # Errors
    ///
    /// Those of making and mapping it.
    pub fn in_memory() -> io::Result<Self> {
        Self::from_file(fds::memory_file()?, 0)
    }

    fn from_file(file: File, boot: u64) -> io::Result<Self> {
        let header = [MAGIC, VERSION, boot];
        let mut found = [0; HEADER_BYTES];
        let is_ours = file.read_exact_at(&mut found, 0).is_ok()
            && found
                .chunks_exact(size_of::<u64>())
                .zip(header)
                .all(|(bytes, word)| bytes == word.to_ne_bytes());
        if !is_ours {
            file.set_len(0)?;
        }
        let words = usize::try_from(file.metadata()?.len()).unwrap_or(0) / size_of::<u64>();
        let slots = (words.saturating_sub(HEADER) / SLOT).min(MAX_SLOTS);
        let map = SharedMap::of_file(file, (HEADER + MAX_SLOTS * SLOT) * size_of::<u64>())?;
        map.ensure((HEADER + slots * SLOT) * size_of::<u64>())?;
        let table = Self { map: Rc::new(map), free: Vec::new(), slots, persistent: boot != 0 };
        for (at, value) in header.into_iter().enumerate() {
            table.store(at, value);
        }
        Ok(table)
    }

    /// Whether a later daemon will find it.
    #[must_use]
    pub fn outlives_us(&self) -> bool {
        self.persistent
    }

    /// All slots in use.
    #[must_use]
    pub fn found(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        self.free.clear();
        for index in (0..self.slots).rev() {
            match self.read(SlotId(index)) {
                Some(slot) => found.push(slot),
                None => self.free.push(index),
            }
        }
        found.reverse();
        found
    }

    fn read(&self, slot: SlotId) -> Option<Found> {
        let load = |at| self.load_in(slot, at);
        let process = u32::try_from(load(word::PROCESS).checked_sub(1)?).ok()?;
        let flags = load(word::FLAGS);
        let count = |at| u32::try_from(load(at)).unwrap_or(u32::MAX);
        Some(Found {
            slot,
            process: ProcId(process),
            child: ChildId(load(word::CHILD)),
            pid: i32::try_from(load(word::PID)).ok().and_then(Pid::new),
            spawning: flags & flag::SPAWNING != 0,
            successor: flags & flag::SUCCESSOR != 0,
            identity: Identity {
                pidfs_inode: load(word::PIDFS_INODE),
                start_ticks: load(word::START_TICKS),
            },
            cookie: load(word::COOKIE),
            pipes: word::PIPES.map(load),
            started: Now {
                mono: Time(load(word::STARTED_MONO)),
                wall: WallTime(load(word::STARTED_WALL)),
            },
            restarts: count(word::RESTARTS),
            unstable: count(word::UNSTABLE),
            ready: flags & flag::READY != 0,
            port: u16::try_from(load(word::PORT)).ok().filter(|&port| port > 0),
        })
    }

    /// A slot for a process that has none.
    ///
    /// # Errors
    ///
    /// Those of growing the file: the runtime directory is full, or the table is.
    pub fn claim(&mut self, process: ProcId, cookie: u64, successor: bool) -> io::Result<SlotId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots < MAX_SLOTS => {
                let slots = (self.slots + 1).next_multiple_of(GROWTH);
                self.map.ensure((HEADER + slots * SLOT) * size_of::<u64>())?;
                self.slots += 1;
                self.slots - 1
            }
            None => return Err(io::Error::other("the live table is full")),
        };
        let slot = SlotId(index);
        for at in 0..SLOT {
            self.store_in(slot, at, 0);
        }
        self.store_in(slot, word::COOKIE, cookie);
        self.store_in(slot, word::FLAGS, if successor { flag::SUCCESSOR } else { 0 });
        self.store_in(slot, word::PROCESS, u64::from(process.0) + 1);
        Ok(slot)
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: SlotId) {
        self.store_in(slot, word::PROCESS, 0);
        self.free.push(slot.0);
    }

    /// A child is about to be spawned.
    pub fn spawning(&self, slot: SlotId, child: ChildId, port: Option<u16>) {
        self.store_in(slot, word::PID, 0);
        self.store_in(slot, word::CHILD, child.0);
        self.store_in(slot, word::PORT, port.unwrap_or(0).into());
        self.set_flags(slot, flag::SPAWNING, flag::READY);
    }

    /// The child runs.
    pub fn spawned(&self, slot: SlotId, pid: Pid, now: Now) {
        self.store_in(slot, word::STARTED_MONO, now.mono.0);
        self.store_in(slot, word::STARTED_WALL, now.wall.0);
        self.store_in(slot, word::PID, u64::from(pid.raw().unsigned_abs()));
    }

    /// Whether the child's identity has not been noted yet.
    #[must_use]
    pub fn wants_identity(&self, slot: SlotId) -> bool {
        self.load_in(slot, word::FLAGS) & flag::SPAWNING != 0
    }

    /// Which of all processes the child is.
    pub fn identified(&self, slot: SlotId, pid: Pid, identity: Identity) {
        self.store_in(slot, word::PIDFS_INODE, identity.pidfs_inode);
        self.store_in(slot, word::START_TICKS, identity.start_ticks);
        self.store_in(slot, word::PID, u64::from(pid.raw().unsigned_abs()));
        self.set_flags(slot, 0, flag::SPAWNING);
    }

    /// There is no child.
    pub fn gone(&self, slot: SlotId) {
        self.store_in(slot, word::PID, 0);
        self.set_flags(slot, 0, flag::SPAWNING | flag::READY);
    }

    /// What the slot of a reload's successor says becomes the process's own: child, identity and
    /// cookie; the slot keeps its journals.
    pub fn take_over(&self, from: SlotId, to: SlotId) {
        for at in [
            word::COOKIE,
            word::CHILD,
            word::PORT,
            word::PIDFS_INODE,
            word::START_TICKS,
            word::STARTED_MONO,
            word::STARTED_WALL,
            word::PID,
        ] {
            self.store_in(to, at, self.load_in(from, at));
        }
    }

    /// Which pipe a stream comes through, by inode.
    pub fn pipe(&self, slot: SlotId, stream: Stream, inode: u64) {
        self.store_in(slot, word::PIPES[stream.index()], inode);
    }

    /// The inode number of the pipe a stream came through last; 0: of none.
    #[must_use]
    pub fn pipe_of(&self, slot: SlotId, stream: Stream) -> u64 {
        self.load_in(slot, word::PIPES[stream.index()])
    }

    /// Counters and readiness, to be shown again by a later daemon.
    pub fn counters(&self, slot: SlotId, restarts: u32, unstable: u32, ready: bool) {
        self.store_in(slot, word::RESTARTS, restarts.into());
        self.store_in(slot, word::UNSTABLE, unstable.into());
        let flags = if ready { (flag::READY, 0) } else { (0, flag::READY) };
        self.set_flags(slot, flags.0, flags.1);
    }

    /// The journal of one stream.
    #[must_use]
    pub fn journal(&self, slot: SlotId, stream: Stream) -> Journal {
        Journal::new(self.map.clone(), HEADER + slot.0 * SLOT + JOURNALS[stream.index()])
    }

    fn set_flags(&self, slot: SlotId, set: u64, clear: u64) {
        let flags = self.load_in(slot, word::FLAGS);
        self.store_in(slot, word::FLAGS, (flags & !clear) | set);
    }

    fn load_in(&self, slot: SlotId, at: usize) -> u64 {
        self.load(HEADER + slot.0 * SLOT + at)
    }

    fn store_in(&self, slot: SlotId, at: usize, value: u64) {
        self.store(HEADER + slot.0 * SLOT + at, value);
    }

    fn load(&self, at: usize) -> u64 {
        self.map.words().get(at).map_or(0, |word: &AtomicU64| word.load(Ordering::Acquire))
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.map.words().get(at) {
            word.store(value, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("pmd-live-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir.join(name)
    }

    #[test]
    fn a_child_is_found_again_by_the_next_daemon() {
        let path = path("found");
        let now = Now { mono: Time(7), wall: WallTime(8) };
        let identity = Identity { pidfs_inode: 99, start_ticks: 0 };
        {
            let mut table = LiveTable::open(&path, 1).unwrap();
            let slot = table.claim(ProcId(3), 42, false).unwrap();
            table.spawning(slot, ChildId(5), Some(3000));
            table.pipe(slot, Stream::Err, 1234);
            let pid = Pid::new(77).unwrap();
            table.spawned(slot, pid, now);
            assert!(table.wants_identity(slot));
            table.identified(slot, pid, identity);
            table.counters(slot, 2, 1, true);
        }
        let found = LiveTable::open(&path, 1).unwrap().found();
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((only.process, only.child), (ProcId(3), ChildId(5)));
        assert_eq!((only.pid, only.spawning), (Pid::new(77), false));
        assert_eq!((only.identity, only.cookie, only.pipes), (identity, 42, [0, 1234]));
        assert_eq!((only.started, only.restarts, only.unstable, only.ready), (now, 2, 1, true));
        assert_eq!(only.port, Some(3000));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_table_of_another_boot_is_emptied() {
        let path = path("boot");
        LiveTable::open(&path, 1).unwrap().claim(ProcId(0), 1, false).unwrap();
        assert!(LiveTable::open(&path, 2).unwrap().found().is_empty());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn garbage_and_half_files_are_no_tables() {
        let path = path("garbage");
        for len in [0_usize, 1, 255, 300, 5000] {
            std::fs::write(&path, vec![0xa5; len]).unwrap();
            let mut table = LiveTable::open(&path, 1).unwrap();
            assert!(table.found().is_empty(), "{len}");
            table.claim(ProcId(1), 1, false).unwrap();
            assert_eq!(table.found().len(), 1);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_released_slot_is_used_again() {
        let path = path("reuse");
        let mut table = LiveTable::open(&path, 1).unwrap();
        let first = table.claim(ProcId(1), 1, false).unwrap();
        table.spawning(first, ChildId(1), None);
        table.release(first);
        assert_eq!(table.claim(ProcId(2), 2, false).unwrap(), first);
        let found = table.found();
        assert_eq!((found[0].process, found[0].spawning), (ProcId(2), false));
        std::fs::remove_file(path).unwrap();
    }
}
