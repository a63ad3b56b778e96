//! Waiting: mio behind a small generic type.
//!
//! The kernel reports edges: that something *became* ready, once. Owners want levels: that
//! something *is* ready, until they have dealt with it, each in turn and nobody for long. So for
//! each source there are three masks: what the kernel said and nobody has contradicted (`known`),
//! what the owner wants now (`wanted`), and the two together. While that is not empty the source
//! is in line, and whoever is in line is in every batch. Pausing a source and resuming it are
//! stores to a field; no edge is lost, because it is remembered.
//!
//! A busy pipe is better not waited for at all: [`Reactor::suspend`] takes it out of the poll set.
//!
//! Only mio and the standard library. Nothing here reads or writes a source.

use std::io;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};
use std::time::Duration;

use mio::event::{Event, Source};
use mio::{Events, Poll, Token};

use crate::reactor::waker::Waker;

pub use mio::Interest;

/// A word from another thread.
pub mod waker;

/// Kernel events taken in one turn; more wait in the kernel for the next.
const MAX_EVENTS: usize = 256;
/// Half of a token is the place in the table, half says which use of that place.
const INDEX_BITS: u32 = usize::BITS / 2;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
/// The token of the waker: no place has this number.
const WAKER: Token = Token(usize::MAX);

/// What can be done to a source, or is wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readiness(u8);

impl Readiness {
    pub const NONE: Self = Self(0);
    /// A read will not wait: there is something, or the end, or an error.
    pub const READ: Self = Self(1);
    /// A write will not wait: there is room, or an error.
    pub const WRITE: Self = Self(2);

    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }
}

impl BitOr for Readiness {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAnd for Readiness {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Readiness {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// A source's place. Of a removed source it finds nothing, also when the place is used again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Slot(Token);

impl Slot {
    fn index(self) -> usize {
        self.0.0 & INDEX_MASK
    }
}

/// One entry of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ready<K> {
    pub key: K,
    /// Of the waker one that finds nothing.
    pub slot: Slot,
    /// What is ready and wanted; never empty.
    pub readiness: Readiness,
}

/// Sources by key. `K` is the owner's own enum, so that dispatch is one exhaustive `match`.
#[derive(Debug)]
pub struct Reactor<K> {
    poll: Poll,
    events: Events,
    places: Vec<Place<K>>,
    free: Vec<usize>,
    /// Places of sources that may have something ready and wanted, in order of arrival.
    line: Vec<usize>,
    waker: Waker,
    /// Whom a call of the waker is for; `None`: it only ends the wait.
    woken: Option<K>,
}

#[derive(Debug)]
struct Place<K> {
    /// Grows by one each time the place changes hands.
    token: Token,
    /// `None`: free.
    source: Option<Entry<K>>,
    /// Whether `line` holds this place.
    in_line: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    key: K,
    known: Readiness,
    wanted: Readiness,
    suspended: bool,
    /// The kernel has said that the other end is closed, or an error: it will not say so again.
    ended: bool,
}

impl<K> Entry<K> {
    fn ready(&self) -> Readiness {
        if self.suspended { Readiness::NONE } else { self.known & self.wanted }
    }
}

impl<K: Copy> Reactor<K> {
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(MAX_EVENTS),
            places: vec![],
            free: vec![],
            line: vec![],
            waker,
            woken: None,
        })
    }

    /// Adds a source. It wants to hear about reading, if that is in `interest`; about writing only
    /// when [`Self::want`] says so. A raw descriptor is a source as `mio::unix::SourceFd`.
    ///
    /// # Errors
    ///
    /// `EPERM` for a regular file, `EEXIST` for one that is here already, `ENOSPC` above the
    /// user's limit of watches.
    pub fn add(
        &mut self,
        source: &mut impl Source,
        interest: Interest,
        key: K,
    ) -> io::Result<Slot> {
        let index = self.vacancy()?;
        let token = self.places[index].token;
        if let Err(error) = self.poll.registry().register(source, token, interest) {
            self.free.push(index);
            return Err(error);
        }
        let wanted = if interest.is_readable() { Readiness::READ } else { Readiness::NONE };
        let known = Readiness::NONE;
        self.places[index].source =
            Some(Entry { key, known, wanted, suspended: false, ended: false });
        Ok(Slot(token))
    }

    /// Forgets a source. Nothing of it is in a later batch.
    ///
    /// # Errors
    ///
    /// Those of taking it out of the poll set (its descriptor was closed before); it is forgotten
    /// all the same.
    pub fn remove(&mut self, slot: Slot, source: &mut impl Source) -> io::Result<()> {
        let Some(entry) = self.entry(slot).copied() else { return Ok(()) };
        let index = slot.index();
        let place = &mut self.places[index];
        place.source = None;
        place.token = next_use(place.token);
        self.free.push(index);
        if entry.suspended { Ok(()) } else { self.poll.registry().deregister(source) }
    }

    /// Has the kernel report from now on what is in `interest`, and at once what is ready by then.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`: its descriptor was closed before.
    pub fn change(
        &mut self,
        slot: Slot,
        source: &mut impl Source,
        interest: Interest,
    ) -> io::Result<()> {
        if !interest.is_writable() {
            self.drained(slot, Readiness::WRITE);
        }
        match self.entry(slot) {
            Some(entry) if !entry.suspended => {
                self.poll.registry().reregister(source, slot.0, interest)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Says what the owner wants to hear about. Costs no system call.
    pub fn want(&mut self, slot: Slot, wanted: Readiness) {
        if let Some(entry) = self.entry(slot) {
            entry.wanted = wanted;
            self.line_up(slot.index());
        }
    }

    /// The owner met `WouldBlock`: nothing more until the kernel's next edge.
    pub fn drained(&mut self, slot: Slot, what: Readiness) {
        if let Some(entry) = self.entry(slot) {
            entry.known = entry.known & !what;
        }
    }

    /// The owner read less of a stream than it had room for: there was no more, and what comes later is
    /// a new edge. It is asked again all the same if its end has been reported.
    pub fn read_short(&mut self, slot: Slot) {
        if self.entry(slot).is_some_and(|entry| !entry.ended) {
            self.drained(slot, Readiness::READ);
        }
    }

    /// Takes a source out of the poll set and keeps its place: the owner looks by itself.
    ///
    /// # Errors
    ///
    /// Those of taking it out (its descriptor was closed before).
    pub fn suspend(&mut self, slot: Slot, source: &mut impl Source) -> io::Result<()> {
        match self.entry(slot) {
            Some(entry) if !entry.suspended => {
                entry.suspended = true;
                entry.known = Readiness::NONE;
                self.poll.registry().deregister(source)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Puts a suspended source back. If it is ready by then, the next turn says so.
    ///
    /// # Errors
    ///
    /// As [`Self::add`]; it stays suspended.
    pub fn resume(
        &mut self,
        slot: Slot,
        source: &mut impl Source,
        interest: Interest,
    ) -> io::Result<()> {
        if !self.entry(slot).is_some_and(|entry| entry.suspended) {
            return Ok(());
        }
        self.poll.registry().register(source, slot.0, interest)?;
        if let Some(entry) = self.entry(slot) {
            entry.suspended = false;
        }
        Ok(())
    }

    /// From now on a batch has `key`, readable, when [`Self::waker`] was used.
    pub fn wake_with(&mut self, key: K) {
        self.woken = Some(key);
    }

    /// A handle with which other threads end a wait.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until something is ready or `timeout` (rounded up to milliseconds; `None`: for ever)
    /// has passed. `batch` is emptied first. Everyone in it gets one go; those who do not drain
    /// their source are in the next batch too, and until then no turn waits.
    ///
    /// # Errors
    ///
    /// Those of `epoll_wait(2)` but `EINTR`: nothing can be waited for any more.
    pub fn turn(&mut self, timeout: Option<Duration>, batch: &mut Vec<Ready<K>>) -> io::Result<()> {
        batch.clear();
        self.leave_line();
        let timeout = if self.line.is_empty() { timeout } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            // The events of the turn before are still in the buffer, or none are.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == WAKER {
                self.woken(batch);
            } else {
                self.learn(event);
            }
        }
        self.events = events;
        for &index in &self.line {
            let place = &self.places[index];
            if let Some(entry) = &place.source {
                let (slot, readiness) = (Slot(place.token), entry.ready());
                batch.push(Ready { key: entry.key, slot, readiness });
            }
        }
        Ok(())
    }

    fn woken(&self, batch: &mut Vec<Ready<K>>) {
        self.waker.heard();
        if let Some(key) = self.woken {
            batch.push(Ready { key, slot: Slot(WAKER), readiness: Readiness::READ });
        }
    }

    fn learn(&mut self, event: &Event) {
        let slot = Slot(event.token());
        let mut said = Readiness::NONE;
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            said |= Readiness::READ;
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            said |= Readiness::WRITE;
        }
        let ended = event.is_read_closed() || event.is_error();
        if let Some(entry) = self.entry(slot) {
            entry.known |= said;
            entry.ended |= ended;
            self.line_up(slot.index());
        }
    }

    fn line_up(&mut self, index: usize) {
        let place = &mut self.places[index];
        let ready = place.source.as_ref().is_some_and(|entry| !entry.ready().is_none());
        if ready && !place.in_line {
            place.in_line = true;
            self.line.push(index);
        }
    }

    /// Those who were drained, paused or removed since the last batch go.
    fn leave_line(&mut self) {
        let places = &mut self.places;
        self.line.retain(|&index| {
            let place = &mut places[index];
            place.in_line = place.source.as_ref().is_some_and(|entry| !entry.ready().is_none());
            place.in_line
        });
    }

    fn entry(&mut self, slot: Slot) -> Option<&mut Entry<K>> {
        let place = self.places.get_mut(slot.index())?;
        if place.token == slot.0 { place.source.as_mut() } else { None }
    }

    fn vacancy(&mut self) -> io::Result<usize> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        let index = self.places.len();
        // The last number is kept from use: with every bit of the other half it were the waker's.
        if index >= INDEX_MASK {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.places.push(Place { token: Token(index), source: None, in_line: false });
        Ok(index)
    }
}

/// The same place, another use. After 2^32 uses (2^16 on 32-bit hosts) the count begins again.
fn next_use(token: Token) -> Token {
    Token(token.0.wrapping_add(1 << INDEX_BITS))
}

#[cfg(test)]
mod tests;
