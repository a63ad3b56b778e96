//! THREAD: what processes and the host use, read from `/proc` when somebody wants to know.
//!
//! The thread has no pace of its own: it sleeps until the loop asks for a sample, takes one into a
//! buffer of its own, swaps that with the one that lies ready, and wakes the loop. The loop holds
//! the lock for no longer than a swap takes. Between samples descriptors and buffers are kept, so
//! that a sample allocates nothing; [`Metrics::rest`] gives them back.
//!
//! | file      | what it knows                                                     |
//! |-----------|-------------------------------------------------------------------|
//! | `sampler` | how a sample is taken                                             |
//! | `trees`   | which process of the host belongs to which child; pure            |
//! | `rates`   | counters to percentages; pure                                     |

pub mod rates;
mod sampler;
mod trees;

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::{ChildId, Pid, Time};
use sampler::Sampler;

/// Stack of the thread, in bytes.
const STACK: usize = 64 * 1024;

/// A child whose figures are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub child: ChildId,
    /// Its main process, which has not been reaped when the sample is asked for.
    pub pid: Pid,
    /// What its tree carries in the environment, see [`Metrics::start`].
    pub cookie: u64,
    /// It is not our child: its orphans may have gone elsewhere.
    pub adopted: bool,
    /// Its memory is limited.
    pub limited: bool,
}

/// What a sample is to hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// Only children whose memory is limited; of the others what was read before.
    Limited,
    Everything,
    /// How many descriptors each main process has open, too.
    Descriptors,
}

/// What one child and its tree use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    pub child: ChildId,
    /// When it was read.
    pub at: Time,
    /// CPU time of the whole tree, of those of its processes that ended meanwhile too.
    pub cpu: Duration,
    /// Resident memory of the main process, in bytes.
    pub memory: u64,
    /// Resident memory of the main process and its descendants, in bytes; what they share counts
    /// for each.
    pub memory_tree: u64,
    /// Living processes of the tree.
    pub processes: u32,
    /// Threads of the main process.
    pub threads: u32,
    /// Descriptors of the main process; known after a sample that asked for them.
    pub descriptors: Option<u64>,
}

impl Reading {
    fn nothing(child: ChildId) -> Self {
        Self {
            child,
            at: Time(0),
            cpu: Duration::ZERO,
            memory: 0,
            memory_tree: 0,
            processes: 0,
            threads: 0,
            descriptors: None,
        }
    }
}

/// What the host uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Time of all processors together since the boot, in ticks.
    pub total_ticks: u64,
    /// Of it, what was neither idle nor waiting for devices.
    pub busy_ticks: u64,
    /// Processors that are online.
    pub cores: u32,
    /// In bytes.
    pub memory_total: u64,
    pub memory_available: u64,
    /// Averages over 1, 5 and 15 minutes, in hundredths.
    pub load: [u32; 3],
    /// Since the boot.
    pub uptime: Duration,
    /// CPU time of this daemon.
    pub own_cpu: Duration,
    /// Resident memory of this daemon, in bytes.
    pub own_memory: u64,
}

/// Figures of one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub at: Time,
    pub host: Host,
    /// Of every target, by ascending child.
    pub readings: Vec<Reading>,
}

impl Sample {
    /// What was read of a child; `None` if it came after the sample.
    #[must_use]
    pub fn of(&self, child: ChildId) -> Option<&Reading> {
        let at = self.readings.binary_search_by_key(&child, |reading| reading.child).ok()?;
        self.readings.get(at)
    }
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug)]
enum Order {
    Sample(Scope),
    Rest,
    End,
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    order: Option<Order>,
    /// By ascending child; where the targets changed since the last order.
    targets: Option<Vec<Target>>,
    /// The last sample, until the loop takes it.
    ready: Option<Sample>,
    /// The buffer that the loop gave back for it.
    spare: Option<Sample>,
}

#[derive(Debug, Default)]
struct Board {
    shared: Mutex<Shared>,
    ordered: Condvar,
}

impl Board {
    /// Nobody panics while holding the lock; if somebody did, the plain data would still be fine.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's end of the thread. At most one sample is under way.
pub struct Metrics {
    board: Arc<Board>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Starts the thread. `cookie_variable`, with its `=`, carries a target's cookie as a
    /// hexadecimal number; `wake` is called when a sample lies ready; about `most_descriptors` are
    /// kept open for processes; 0: nothing is kept open at all.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn start(
        cookie_variable: &'static str,
        most_descriptors: usize,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let mut sampler = Sampler::new(cookie_variable, most_descriptors);
        let theirs = Arc::clone(&board);
        thread::Builder::new().name("pmd-metrics".into()).stack_size(STACK).spawn(move || {
            serve(&theirs, &mut sampler, &wake);
        })?;
        Ok(Self { board })
    }

    /// Asks for a sample. `targets`, by ascending child: where they changed since the last one.
    pub fn sample(&self, scope: Scope, targets: Option<Vec<Target>>) {
        let mut shared = self.board.lock();
        shared.targets = targets.or_else(|| shared.targets.take());
        shared.order = Some(Order::Sample(scope));
        drop(shared);
        self.board.ordered.notify_one();
    }

    /// Puts the sample that lies ready into `last`; false if there is none.
    pub fn take(&self, last: &mut Sample) -> bool {
        let mut shared = self.board.lock();
        let Some(ready) = shared.ready.take() else { return false };
        shared.spare = Some(std::mem::replace(last, ready));
        true
    }

    /// Nobody wants to know any more: descriptors and buffers are given back.
    pub fn rest(&self) {
        // A sample that was asked for comes first, and with it the next rest.
        self.board.lock().order.get_or_insert(Order::Rest);
        self.board.ordered.notify_one();
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.board.lock().order = Some(Order::End);
        self.board.ordered.notify_one();
    }
}

fn serve(board: &Board, sampler: &mut Sampler, wake: &dyn Fn()) {
    let mut buffer = Sample::default();
    loop {
        let mut shared = board.lock();
        let order = loop {
            match shared.order.take() {
                Some(order) => break order,
                None => {
                    shared = board.ordered.wait(shared).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let targets = shared.targets.take();
        if let Some(spare) = shared.spare.take() {
            buffer = spare;
        }
        drop(shared);
        if let Some(targets) = targets {
            sampler.aim(&targets);
        }
        match order {
            Order::Sample(scope) => {
                sampler.sample(scope, &mut buffer);
                let old = board.lock().ready.replace(std::mem::take(&mut buffer));
                buffer = old.unwrap_or_default();
                wake();
            }
            Order::Rest => {
                sampler.rest();
                buffer = Sample::default();
            }
            Order::End => return,
        }
    }
}

#[cfg(test)]
mod tests;
