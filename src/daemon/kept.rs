//! The daemon's side of its keeper: what is kept for the next daemon, and how processes end that
//! fell to the keeper when the daemon before this one died.
//!
//! Descriptors are known by their inode numbers, which the live table holds for each process. Nothing
//! here waits for the keeper once the daemon is up; what it does not take at once is owed to it.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use crate::base::{ChildId, ExitStatus, Pid, Stream};
use crate::daemon::Daemon;
use crate::daemon::entries::Pipe;
use crate::daemon::key::Key;
use crate::keeper::{VERSION, Word};
use crate::reactor::{Interest, Reactor, Readiness, Slot};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::poll::{self, Wait};
use crate::sys::{fds, packet, process};

/// A keeper that has not said all it has to say by then does not speak to us.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of the lock; no inode has it.
const LOCK: u64 = u64::MAX;
/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 64;

/// The keeper as the daemon knows it; also the lack of one.
#[derive(Debug, Default)]
pub struct Kept {
    link: Option<Link>,
    /// What it has handed over and nobody has claimed yet.
    held: SortedMap<u64, OwnedFd>,
    /// It is still to be told whether these are in use.
    owed: SortedSet<u64>,
    /// Daemons before this one under the same keeper, and how the last of them ended.
    pub before: u64,
    pub last: Option<ExitStatus>,
    /// There was one, and it died.
    pub lost: bool,
}

#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    pid: Option<Pid>,
    slot: Option<Slot>,
    /// The kernel is to say when there is room.
    awaits_room: bool,
}

impl Kept {
    /// Hears what the keeper has to say first. One that says nothing, or that nobody understands any
    /// more, is none.
    pub fn greet(socket: OwnedFd) -> Self {
        let mut kept = Self::default();
        if kept.hear_all(&socket).is_some() {
            let pid = process::parent();
            kept.link = Some(Link { socket, pid, slot: None, awaits_room: false });
        } else {
            kept.lost = true;
        }
        kept
    }

    fn hear_all(&mut self, socket: &OwnedFd) -> Option<()> {
        loop {
            match packet::receive(socket) {
                Ok(Some((words, fd))) => match (Word::decode(words), fd) {
                    (Some(Word::Hello { version, .. }), _) if version > VERSION => return None,
                    (Some(Word::Hello { before, last, .. }), _) => {
                        self.before = before;
                        self.last = (before > 0).then_some(last);
                    }
                    (Some(Word::Held { key }), Some(fd)) => drop(self.held.insert(key, fd)),
                    (Some(Word::All), _) => return Some(()),
                    (Some(_) | None, _) => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let before = crate::sys::clock::now().mono;
                    let on = Some(Wait { fd: socket.as_fd(), write: false });
                    poll::wait([on], Some(PATIENCE)).ok()?;
                    if crate::sys::clock::now().mono.since(before) >= PATIENCE {
                        return None;
                    }
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The keeper; `None`: there is none, or not any more.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.link.as_ref()?.pid
    }

    /// What a daemon before this one had under this number.
    pub fn claim(&mut self, key: u64) -> Option<OwnedFd> {
        self.held.remove(&key)
    }

    /// Has a descriptor kept.
    pub fn hold(&mut self, fd: BorrowedFd<'_>) {
        if let Ok(key) = fds::inode_of(fd) {
            self.say(Word::Hold { key }, Some(fd), key);
        }
    }

    /// It need not be kept any more.
    pub fn let_go(&mut self, fd: BorrowedFd<'_>) {
        if let Ok(key) = fds::inode_of(fd) {
            self.say(Word::Drop { key }, None, key);
        }
    }

    /// The lock of the home, which is the keeper's too: while it starts another daemon, nobody else
    /// does. `None`: it has none, or somebody has put another file in its place.
    pub fn claim_lock(&mut self, path: &Path) -> Option<OwnedFd> {
        let lock = File::from(self.claim(LOCK)?);
        let of = |about: Metadata| (about.dev(), about.ino());
        let is_same = lock.metadata().ok().map(of) == std::fs::metadata(path).ok().map(of);
        is_same.then(|| lock.into())
    }

    /// See [`Self::claim_lock`].
    pub fn hold_lock(&self, lock: &OwnedFd) {
        self.tell(Word::Hold { key: LOCK }, Some(lock.as_fd()));
    }

    fn say(&mut self, word: Word, fd: Option<BorrowedFd<'_>>, key: u64) {
        let Some(link) = &self.link else { return };
        // One after the other, also about the same descriptor.
        if self.owed.contains(&key) || packet::send(&link.socket, &word.encode(), fd).is_err() {
            self.owed.insert(key);
        }
    }

    /// Says something that is about no descriptor in use. There is room for it: it is the first or
    /// the last, or said once in a long while.
    pub fn tell(&self, word: Word, fd: Option<BorrowedFd<'_>>) {
        if let Some(link) = &self.link {
            let _ = packet::send(&link.socket, &word.encode(), fd);
        }
    }

    /// Waits for the keeper in the loop, if there is one.
    ///
    /// # Errors
    ///
    /// Those of watching.
    pub fn watch(&mut self, reactor: &mut Reactor<Key>) -> io::Result<()> {
        if let Some(link) = &mut self.link {
            let raw = link.socket.as_raw_fd();
            let slot = reactor.add(&mut Pipe::source(&raw), Interest::READABLE, Key::Keeper)?;
            link.slot = Some(slot);
        }
        Ok(())
    }

    /// Everything that was handed over has found its use: the rest is let go.
    pub fn let_go_unclaimed(&mut self) {
        while let Some((key, _)) = self.held.pop_first() {
            self.say(Word::Drop { key }, None, key);
        }
    }

    fn await_room(&mut self, reactor: &mut Reactor<Key>, awaits: bool) {
        let Some(link) = self.link.as_mut().filter(|link| link.awaits_room != awaits) else {
            return;
        };
        link.awaits_room = awaits;
        let Some(slot) = link.slot else { return };
        let (interest, wanted) = if awaits {
            (Interest::READABLE.add(Interest::WRITABLE), Readiness::READ | Readiness::WRITE)
        } else {
            (Interest::READABLE, Readiness::READ)
        };
        let raw = link.socket.as_raw_fd();
        let _ = reactor.change(slot, &mut Pipe::source(&raw), interest);
        reactor.want(slot, wanted);
    }
}

impl Daemon {
    /// The keeper has said something, or takes more.
    pub(super) fn on_keeper(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(link) = &self.kept.link else { return };
            match packet::receive(&link.socket) {
                Ok(Some((words, _))) => {
                    if let Some(Word::Exited { pid, status, cpu }) = Word::decode(words) {
                        self.on_kept_end(pid, status, cpu);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(slot) = link.slot {
                        self.reactor.drained(slot, Readiness::READ);
                    }
                    break;
                }
                Ok(None) | Err(_) => return self.lose_keeper(),
            }
        }
        self.pay_keeper();
    }

    /// Tells the keeper what is owed to it, as far as it takes it.
    pub(super) fn pay_keeper(&mut self) {
        if self.kept.owed.is_empty() && self.kept.link.as_ref().is_none_or(|it| !it.awaits_room) {
            return;
        }
        while let Some(&key) = self.kept.owed.first() {
            let Some(link) = &self.kept.link else { break };
            let fd = self.descriptor(key);
            let word = if fd.is_some() { Word::Hold { key } } else { Word::Drop { key } };
            if packet::send(&link.socket, &word.encode(), fd).is_err() {
                if let Some(slot) = link.slot {
                    self.reactor.drained(slot, Readiness::WRITE);
                }
                break;
            }
            self.kept.owed.remove(&key);
        }
        let awaits = !self.kept.owed.is_empty();
        self.kept.await_room(&mut self.reactor, awaits);
    }

    /// What is to be kept under this number.
    fn descriptor(&self, key: u64) -> Option<BorrowedFd<'_>> {
        self.entries.values().find_map(|entry| {
            let of_key = |stream: &Stream| self.live.pipe_of(entry.slot, *stream) == key;
            let stream = Stream::BOTH.into_iter().find(of_key)?;
            Some(entry.pipe(stream)?.borrow())
        })
    }

    /// A process that had fallen to the keeper has ended.
    fn on_kept_end(&mut self, pid: Pid, status: ExitStatus, cpu: Duration) {
        let adopted = |id: &ChildId| {
            self.children.get(*id).is_some_and(|child| child.lives && child.adopted.is_some())
        };
        match self.children.by_pid(pid).filter(adopted) {
            Some(id) => {
                self.end_adopted(id, status, cpu);
                self.settle();
            }
            None => self.sweeps.orphan_reaped(pid),
        }
    }

    /// The keeper is dead: this daemon goes on without. What had fallen to it is pid 1's now.
    fn lose_keeper(&mut self) {
        let Some(link) = self.kept.link.take() else { return };
        if let Some(slot) = link.slot {
            let raw = link.socket.as_raw_fd();
            let _ = self.reactor.remove(slot, &mut Pipe::source(&raw));
        }
        self.kept.owed = SortedSet::new();
        self.kept.lost = true;
        self.own_log.warn("the keeper is dead: nobody starts this daemon again should it die");
        let adopted: Vec<_> = self
            .children
            .iter()
            .filter(|(_, child)| child.lives)
            .filter_map(|(_, child)| child.adopted.as_ref())
            .map(|adopted| (adopted.pidfd.as_raw_fd(), adopted.watch))
            .collect();
        for (raw, watch) in adopted {
            let _ = self.reactor.resume(watch, &mut Pipe::source(&raw), Interest::READABLE);
        }
    }
}
