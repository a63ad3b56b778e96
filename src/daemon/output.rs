//! When a child's output is moved: at once after silence, on a tick while it is busy.
//!
//! Answering every small write at once costs a wake-up each. So a pipe whose first move brought
//! little leaves the poll set and is emptied every millisecond until it is found empty; one tick
//! serves all such pipes, and there is no tick while there are none. How bytes are moved is the
//! business of `logs`.

use std::time::Duration;

use crate::base::{ProcId, Stream, Time};
use crate::daemon::Daemon;
use crate::daemon::container::{self, Running};
use crate::daemon::entries::{Mode, Pipe};
use crate::logs::{Pumped, StreamId};
use crate::reactor::{Interest, Readiness};
use crate::sys::fds;

/// Bytes moved of one pipe before others have their turn.
const BUDGET: usize = 256 * 1024;
/// Bytes moved before their lines are shown, where somebody wants to see them.
const SLICE: usize = 64 * 1024;
/// A move of less makes the pipe wait for the tick.
const LITTLE: usize = 16 * 1024;
/// The tick, in milliseconds.
const TICK: u64 = 1;
/// A pipe found three quarters full is made this large.
const LARGE: usize = 1024 * 1024;
/// Moves in a row when a pipe is emptied before it is closed.
const DRAIN_MOVES: usize = 64;

/// A pipe that the kernel would not watch is tried again after this long.
const UNWATCHED: Duration = Duration::from_secs(1);

/// Pipes out of the poll set.
#[derive(Debug, Default)]
pub struct Busy {
    ticked: Vec<(ProcId, Stream)>,
    tick: Option<Time>,
    stalled: Vec<(Time, ProcId, Stream)>,
}

impl Busy {
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let retry = self.stalled.iter().map(|&(at, _, _)| at).min();
        [self.tick, retry].into_iter().flatten().min()
    }

    pub fn forget(&mut self, process: ProcId, stream: Stream) {
        self.ticked.retain(|&entry| entry != (process, stream));
        self.stalled.retain(|&(_, other, of)| (other, of) != (process, stream));
    }
}

impl Daemon {
    /// A pipe in the poll set has something.
    pub(super) fn on_output(&mut self, process: ProcId, stream: Stream) {
        let Some(mode) = self.mode(process, stream) else { return };
        if mode != Mode::Polled {
            return;
        }
        let pumped = self.pump(process, stream);
        if self.must_wait(process, stream, &pumped) {
            return;
        }
        if pumped.moved == 0 {
            if let Some(pipe) = self.entries.get(&process).and_then(|entry| entry.pipe(stream)) {
                self.reactor.drained(pipe.watch, Readiness::READ);
            }
        } else if pumped.moved < LITTLE {
            self.set_mode(process, stream, Mode::Ticked);
            self.busy.ticked.push((process, stream));
            self.busy.tick.get_or_insert(Time(self.now.mono.0 + TICK));
        }
    }

    /// Empties the busy pipes, when it is time to.
    pub(super) fn pump_busy(&mut self) {
        self.retry_stalled();
        if self.busy.tick.is_none_or(|tick| tick > self.now.mono) {
            return;
        }
        self.busy.tick = None;
        let mut ticked = std::mem::take(&mut self.busy.ticked);
        ticked.retain(|&(process, stream)| {
            if self.mode(process, stream) != Some(Mode::Ticked) {
                return false;
            }
            let pumped = self.pump(process, stream);
            if self.must_wait(process, stream, &pumped) {
                return false;
            }
            let stays = pumped.moved > 0 && !self.is_too_busy(process, stream, pumped.moved);
            if !stays {
                self.set_mode(process, stream, Mode::Polled);
            }
            stays
        });
        ticked.append(&mut self.busy.ticked);
        self.busy.ticked = ticked;
        if !self.busy.ticked.is_empty() {
            self.busy.tick = Some(Time(self.now.mono.0 + TICK));
        }
    }

    /// Found three quarters full: enlarged; if it is large already, a tick is too slow for it.
    fn is_too_busy(&mut self, process: ProcId, stream: Stream, moved: usize) -> bool {
        let Some(pipe) = self.entries.get(&process).and_then(|entry| entry.pipe(stream)) else {
            return false;
        };
        let size = fds::pipe_size(pipe.borrow()).unwrap_or(LARGE);
        if moved < size / 4 * 3 {
            return false;
        }
        if size >= LARGE {
            return true;
        }
        // EPERM: the user's share of pipe memory is used up; the pipe stays as it is.
        let _ = fds::set_pipe_size(pipe.borrow(), LARGE);
        false
    }

    fn retry_stalled(&mut self) {
        let now = self.now.mono;
        if self.busy.stalled.iter().all(|&(at, _, _)| at > now) {
            return;
        }
        let (due, later) = self.busy.stalled.drain(..).partition(|&(at, _, _)| at <= now);
        self.busy.stalled = later;
        let due: Vec<(Time, ProcId, Stream)> = due;
        for (_, process, stream) in due {
            self.set_mode(process, stream, Mode::Polled);
            // Also when the pipe is silent: what was dropped meanwhile is to be reported.
            self.on_output(process, stream);
        }
    }

    /// Something cannot be written: it is tried again later. Bytes that wait for it stay in the
    /// pipe, out of the poll set; a stream whose bytes are dropped goes on as before.
    fn must_wait(&mut self, process: ProcId, stream: Stream, pumped: &Pumped) -> bool {
        let Some(retry) = pumped.retry else { return false };
        let at = self.now.mono.after(retry);
        self.busy.stalled.retain(|&(_, other, of)| (other, of) != (process, stream));
        self.busy.stalled.push((at, process, stream));
        if !pumped.drained {
            self.set_mode(process, stream, Mode::Stalled);
        }
        !pumped.drained
    }

    fn mode(&self, process: ProcId, stream: Stream) -> Option<Mode> {
        Some(self.entries.get(&process)?.pipe(stream)?.mode)
    }

    fn set_mode(&mut self, process: ProcId, stream: Stream, mode: Mode) {
        let Some(pipe) = self.entries.get_mut(&process).and_then(|entry| entry.pipe_mut(stream))
        else {
            return;
        };
        let was = std::mem::replace(&mut pipe.mode, mode);
        let (raw, watch) = (pipe.raw(), pipe.watch);
        let result = match (was == Mode::Polled, mode == Mode::Polled) {
            (true, false) => self.reactor.suspend(watch, &mut Pipe::source(&raw)),
            (false, true) => {
                self.reactor.resume(watch, &mut Pipe::source(&raw), Interest::READABLE)
            }
            (true, true) | (false, false) => Ok(()),
        };
        if let Err(error) = result {
            // It is out of the poll set: without another try its child would write into the void.
            pipe.mode = Mode::Stalled;
            self.busy.stalled.push((self.now.mono.after(UNWATCHED), process, stream));
            self.own_log
                .error(format_args!("cannot watch a pipe: {}", crate::sys::describe(&error)));
        }
    }

    /// One move. Lines go to those who follow; a stream whose child has ended gets its last line
    /// ended when nothing is left.
    pub(super) fn pump(&mut self, process: ProcId, stream: Stream) -> Pumped {
        let id = StreamId { process, stream };
        let Some(pipe) = self.entries.get_mut(&process).and_then(|entry| entry.pipe_mut(stream))
        else {
            return Pumped::default();
        };
        if self.container.as_ref().is_some_and(Running::is_full) {
            return Pumped { moved: 0, drained: false, retry: Some(container::RETRY) };
        }
        if !pipe.logged {
            if fds::waiting(pipe.borrow()).is_ok_and(|bytes| bytes == 0) {
                pipe.finish = false;
                return Pumped { moved: 0, drained: true, retry: None };
            }
            self.open_log(process, stream);
        }
        let mut moved = 0;
        loop {
            let Some(entry) = self.entries.get_mut(&process) else { return Pumped::default() };
            let budget = if self.news.wants_lines(&entry.subject) { SLICE } else { BUDGET };
            let Some(pipe) = entry.pipe_mut(stream) else { return Pumped::default() };
            let pumped = self.logs.pump(id, pipe.borrow(), budget, self.now);
            if pipe.finish && pumped.moved + moved == 0 && pumped.retry.is_none() {
                pipe.finish = false;
                self.logs.finish(id, self.now);
            }
            entry.written[stream.index()] += u64::try_from(pumped.moved).unwrap_or(0);
            self.deliver_lines();
            moved += pumped.moved;
            if pumped.moved < budget || pumped.retry.is_some() || moved >= BUDGET {
                return Pumped { moved, ..pumped };
            }
        }
    }

    /// Moves what the kernel holds of a stream, as far as it can be moved now.
    pub(super) fn drain(&mut self, process: ProcId, stream: Stream) {
        for _ in 0..DRAIN_MOVES {
            let pumped = self.pump(process, stream);
            if pumped.moved == 0 || pumped.retry.is_some() {
                return;
            }
        }
    }
}
