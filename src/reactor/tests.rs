//! The reactor with socket pairs and pipes.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use mio::net::UnixStream;
use mio::unix::SourceFd;

use super::*;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// A reactor and the batch of its last turn.
struct World {
    reactor: Reactor<char>,
    batch: Vec<Ready<char>>,
}

impl World {
    fn new() -> Self {
        Self { reactor: Reactor::new().unwrap(), batch: vec![] }
    }

    /// A source that is here under `key`, and the other end of it.
    fn stream(&mut self, key: char, interest: Interest) -> (UnixStream, UnixStream, Slot) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let slot = self.reactor.add(&mut ours, interest, key).unwrap();
        (ours, theirs, slot)
    }

    /// Turns without waiting.
    fn turn(&mut self) -> Vec<(char, Readiness)> {
        self.reactor.turn(AT_ONCE, &mut self.batch).unwrap();
        self.batch.iter().map(|ready| (ready.key, ready.readiness)).collect()
    }
}

#[test]
fn an_undrained_source_stays_in_line_and_a_drained_one_sleeps() {
    let mut world = World::new();
    let (mut ours, mut theirs, slot) = world.stream('a', Interest::READABLE);
    assert_eq!(world.turn(), []);
    theirs.write_all(b"xy").unwrap();
    for _ in 0..3 {
        assert_eq!(world.turn(), [('a', Readiness::READ)]);
        assert_eq!(world.batch[0].slot, slot);
    }
    ours.read_exact(&mut [0; 2]).unwrap();
    world.reactor.drained(slot, Readiness::READ);
    assert_eq!(world.turn(), []);
    theirs.write_all(b"z").unwrap();
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
}

#[test]
fn nobody_sleeps_while_somebody_is_in_line() {
    let mut world = World::new();
    let (_ours, mut theirs, _slot) = world.stream('a', Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    for _ in 0..3 {
        world.reactor.turn(None, &mut world.batch).unwrap();
        assert_eq!(world.batch.len(), 1);
    }
}

#[test]
fn a_paused_source_is_silent_and_is_served_without_a_new_edge_when_resumed() {
    let mut world = World::new();
    let (_ours, mut theirs, slot) = world.stream('a', Interest::READABLE);
    world.reactor.want(slot, Readiness::NONE);
    theirs.write_all(b"x").unwrap();
    assert_eq!(world.turn(), []);
    assert_eq!(world.turn(), []);
    world.reactor.want(slot, Readiness::READ);
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
}

#[test]
fn room_to_write_is_told_only_to_those_who_want_it() {
    let mut world = World::new();
    let (_ours, _theirs, slot) = world.stream('a', BOTH);
    assert_eq!(world.turn(), []);
    world.reactor.want(slot, Readiness::READ | Readiness::WRITE);
    assert_eq!(world.turn(), [('a', Readiness::WRITE)]);
    world.reactor.drained(slot, Readiness::WRITE);
    assert_eq!(world.turn(), []);
}

#[test]
fn everyone_in_line_is_in_every_batch_once() {
    let mut world = World::new();
    let mut ends = vec![];
    for key in ['a', 'b', 'c'] {
        let (ours, mut theirs, slot) = world.stream(key, BOTH);
        theirs.write_all(b"x").unwrap();
        world.reactor.want(slot, Readiness::READ | Readiness::WRITE);
        ends.push((ours, theirs));
    }
    for _ in 0..2 {
        let mut seen = world.turn();
        seen.sort_by_key(|&(key, _)| key);
        let all = Readiness::READ | Readiness::WRITE;
        assert_eq!(seen, [('a', all), ('b', all), ('c', all)]);
    }
}

#[test]
fn a_closed_peer_is_something_to_read() {
    let mut world = World::new();
    let (mut ours, theirs, _slot) = world.stream('a', BOTH);
    drop(theirs);
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn nothing_of_a_removed_source_is_heard_by_the_next_one_in_its_place() {
    let mut world = World::new();
    let (mut ours, mut theirs, old) = world.stream('a', Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    world.reactor.remove(old, &mut ours).unwrap();
    let (_ours, mut theirs, new) = world.stream('b', Interest::READABLE);
    assert_eq!(new.index(), old.index());
    assert_eq!(world.turn(), []);
    // Words about the old one do not reach the new one.
    theirs.write_all(b"x").unwrap();
    assert_eq!(world.turn(), [('b', Readiness::READ)]);
    world.reactor.want(old, Readiness::NONE);
    world.reactor.drained(old, Readiness::READ);
    world.reactor.remove(old, &mut ours).unwrap();
    assert_eq!(world.turn(), [('b', Readiness::READ)]);
}

/// A descriptor closed while a copy of it lives stays in the poll set: the kernel goes on
/// reporting it under its old token.
#[test]
fn an_event_of_a_source_that_could_not_be_taken_out_finds_nothing() {
    let mut world = World::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = OwnedFd::from(ours);
    let copy = fd.try_clone().unwrap();
    let raw = fd.as_raw_fd();
    let old = world.reactor.add(&mut SourceFd(&raw), Interest::READABLE, 'a').unwrap();
    drop(fd);
    assert!(world.reactor.remove(old, &mut SourceFd(&raw)).is_err());
    let (_ours, _theirs, new) = world.stream('b', Interest::READABLE);
    assert_eq!(new.index(), old.index());
    theirs.write_all(b"x").unwrap();
    assert_eq!(world.turn(), []);
    drop(copy);
}

#[test]
fn a_suspended_source_is_silent_and_reports_at_once_when_resumed() {
    let mut world = World::new();
    let (mut ours, mut theirs, slot) = world.stream('a', Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    for _ in 0..2 {
        world.reactor.suspend(slot, &mut ours).unwrap();
    }
    theirs.write_all(b"y").unwrap();
    assert_eq!(world.turn(), []);
    for _ in 0..2 {
        world.reactor.resume(slot, &mut ours, Interest::READABLE).unwrap();
    }
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    ours.read_exact(&mut [0; 2]).unwrap();
    world.reactor.suspend(slot, &mut ours).unwrap();
    world.reactor.resume(slot, &mut ours, Interest::READABLE).unwrap();
    assert_eq!(world.turn(), []);
    world.reactor.suspend(slot, &mut ours).unwrap();
    world.reactor.remove(slot, &mut ours).unwrap();
    assert_eq!(world.turn(), []);
}

#[test]
fn a_raw_pipe_is_a_source() {
    let mut world = World::new();
    let (reader, mut writer) = io::pipe().unwrap();
    let raw = reader.as_raw_fd();
    let slot = world.reactor.add(&mut SourceFd(&raw), Interest::READABLE, 'p').unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(world.turn(), [('p', Readiness::READ)]);
    world.reactor.remove(slot, &mut SourceFd(&raw)).unwrap();
}

#[test]
fn what_cannot_be_waited_for_takes_no_place() {
    let mut world = World::new();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let raw = file.as_raw_fd();
    assert!(world.reactor.add(&mut SourceFd(&raw), Interest::READABLE, 'f').is_err());
    let (_ours, _theirs, slot) = world.stream('a', Interest::READABLE);
    assert_eq!(slot.index(), 0);
}

#[test]
fn another_thread_ends_a_wait_without_end() {
    let mut world = World::new();
    world.reactor.wake_with('w');
    let waker = world.reactor.waker();
    let other = thread::spawn(move || {
        for _ in 0..1000 {
            waker.wake();
        }
    });
    world.reactor.turn(None, &mut world.batch).unwrap();
    let [woken] = world.batch.as_slice() else { panic!("{:?}", world.batch) };
    assert_eq!((woken.key, woken.readiness), ('w', Readiness::READ));
    // Words about it find nothing.
    let slot = woken.slot;
    world.reactor.drained(slot, Readiness::READ);
    world.reactor.want(slot, Readiness::WRITE);
    other.join().unwrap();
    // However many words there were, at most one is left.
    world.turn();
    assert_eq!(world.turn(), []);
}

#[test]
fn every_word_after_the_last_report_is_reported() {
    let mut world = World::new();
    let (waker, same) = (world.reactor.waker(), world.reactor.waker());
    waker.wake();
    assert_eq!(world.turn(), []);
    world.reactor.wake_with('w');
    for handle in [&waker, &same, &waker] {
        handle.wake();
        assert_eq!(world.turn(), [('w', Readiness::READ)]);
    }
    assert_eq!(world.turn(), []);
}

#[test]
fn the_use_of_a_place_is_counted_in_the_other_half_of_its_token() {
    let mut token = Token(7);
    for _ in 0..3 {
        let next = next_use(token);
        assert_ne!(next, token);
        assert_eq!(Slot(next).index(), 7);
        token = next;
    }
    let last = Token(usize::MAX & !INDEX_MASK | 7);
    assert_eq!(next_use(last), Token(7));
}

#[test]
fn after_a_short_read_a_source_sleeps_until_more_comes_or_the_end() {
    let mut world = World::new();
    let (mut ours, mut theirs, slot) = world.stream('a', BOTH);
    world.reactor.want(slot, Readiness::READ);
    let mut buffer = [0; 8];
    for _ in 0..2 {
        theirs.write_all(b"xy").unwrap();
        assert_eq!(world.turn(), [('a', Readiness::READ)]);
        assert_eq!(ours.read(&mut buffer).unwrap(), 2);
        world.reactor.read_short(slot);
        assert_eq!(world.turn(), []);
    }
    theirs.write_all(b"xy").unwrap();
    drop(theirs);
    // Both came with one edge.
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    assert_eq!(ours.read(&mut buffer).unwrap(), 2);
    world.reactor.read_short(slot);
    assert_eq!(world.turn(), [('a', Readiness::READ)]);
    assert_eq!(ours.read(&mut buffer).unwrap(), 0);
}

#[test]
fn room_is_reported_while_it_is_in_the_interest() {
    let mut world = World::new();
    let (mut ours, mut theirs, slot) = world.stream('a', Interest::READABLE);
    world.reactor.want(slot, Readiness::READ | Readiness::WRITE);
    assert_eq!(world.turn(), []);
    while ours.write(&[0; 4096]).is_ok() {}
    world.reactor.change(slot, &mut ours, BOTH).unwrap();
    assert_eq!(world.turn(), []);
    while theirs.read(&mut [0; 4096]).is_ok() {}
    assert_eq!(world.turn(), [('a', Readiness::WRITE)]);
    world.reactor.change(slot, &mut ours, Interest::READABLE).unwrap();
    assert_eq!(world.turn(), []);
}
