//! When the state is saved, and which answers wait for it.
//!
//! A change is on disk before the command that made it is answered. Changes that come together are
//! saved together; one save is under way at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::Time;
use crate::daemon::key::ConnId;
use crate::daemon::worker::{Job, Worker};
use crate::daemon::{Daemon, state};
use crate::supervisor::vocabulary::{Reply, ReplyTo};

/// A save waits no longer than this for more changes.
const GATHER: Duration = Duration::from_millis(200);
/// What could not be saved is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// What is changed, being saved, and waiting.
#[derive(Debug, Default)]
pub struct Saving {
    /// False: nothing is ever written (`save=false`, volatile state, container mode).
    pub enabled: bool,
    /// Where the state is.
    directory: PathBuf,
    /// Where the state is read as long as there is none in `directory`.
    pub begin_with: Option<PathBuf>,
    /// Why nothing that is saved outlives the boot, where it should.
    pub lost: Option<&'static str>,
    worker: Option<Worker>,
    dirty_since: Option<Time>,
    /// The save that will hold the latest change.
    wanted: u64,
    under_way: Option<u64>,
    /// Why the last save failed, until one works.
    pub failure: Option<String>,
    /// It is tried again then.
    retry: Option<Time>,
    held: Vec<(u64, ReplyTo, Reply)>,
    /// `save` requests: the save they wait for, and whom to tell.
    waiting: Vec<(u64, ConnId, u64)>,
}

impl Saving {
    /// `enabled`: whether anything is ever written to `directory`.
    #[must_use]
    pub fn new(enabled: bool, directory: PathBuf) -> Self {
        Self { enabled, directory, ..Self::default() }
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The table changed.
    pub fn mark(&mut self, now: Time) {
        if self.enabled && self.dirty_since.is_none() {
            self.dirty_since = Some(now);
            self.wanted += 1;
        }
    }

    /// The save that an answer given now has to wait for.
    fn awaited(&self) -> Option<u64> {
        if self.dirty_since.is_some() { Some(self.wanted) } else { self.under_way }
    }

    /// A client wants to know when what is marked now is saved.
    pub fn wait(&mut self, client: ConnId, tag: u64) {
        self.waiting.push((self.wanted, client, tag));
    }

    /// Who waited for this save.
    pub fn waiting_for(&mut self, ticket: u64) -> Vec<(ConnId, u64)> {
        let (due, later) =
            std::mem::take(&mut self.waiting).into_iter().partition(|entry| entry.0 <= ticket);
        self.waiting = later;
        let due: Vec<(u64, ConnId, u64)> = due;
        due.into_iter().map(|(_, client, tag)| (client, tag)).collect()
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let dirty = self.dirty_since.map(|since| since.after(GATHER));
        [dirty, self.retry].into_iter().flatten().min().filter(|_| self.under_way.is_none())
    }
}

impl Daemon {
    /// Answers now, or when what the request changed is saved.
    pub(super) fn answer_when_saved(&mut self, to: ReplyTo, reply: Reply) {
        match self.saving.awaited() {
            Some(ticket) => self.saving.held.push((ticket, to, reply)),
            None => self.answer(to, reply),
        }
    }

    /// Begins a save, if one is due and none is under way.
    pub(super) fn save_if_due(&mut self) {
        if self.saving.retry.is_some_and(|at| at <= self.now.mono) {
            self.saving.retry = None;
            self.saving.mark(self.now.mono);
        }
        let Some(since) = self.saving.dirty_since else { return };
        let more_to_come = !self.spawns.is_empty() && self.now.mono < since.after(GATHER);
        if self.saving.under_way.is_none() && !more_to_come {
            self.begin_save();
        }
    }

    fn begin_save(&mut self) {
        let ticket = self.saving.wanted;
        self.saving.dirty_since = None;
        self.saving.retry = None;
        let bytes = match state::encode(&self.supervisor.snapshot()) {
            Ok(bytes) => bytes,
            Err(error) => return self.saved(ticket, Err(error)),
        };
        let job = Job { ticket, directory: self.saving.directory.clone(), bytes };
        if self.saving.worker.is_none() {
            self.saving.worker = Worker::start(self.waker.clone()).ok();
        }
        match &self.saving.worker {
            Some(worker) => {
                self.saving.under_way = Some(ticket);
                if !worker.give(job) {
                    self.saved(ticket, Err(std::io::Error::other("the worker thread has ended")));
                }
            }
            // No thread to be had: better slow than not at all.
            None => {
                let result = state::write(&job.directory, &job.bytes);
                self.saved(ticket, result);
            }
        }
    }

    pub(super) fn on_worker(&mut self) {
        while let Some(outcome) = self.saving.worker.as_ref().and_then(Worker::take) {
            self.saved(outcome.ticket, outcome.result);
        }
    }

    fn saved(&mut self, ticket: u64, result: std::io::Result<()>) {
        self.saving.under_way = None;
        match result {
            Ok(()) => {
                if self.saving.failure.take().is_some() {
                    self.own_log.info("state is saved again");
                }
            }
            Err(error) => {
                let why = crate::sys::describe(&error);
                if self.saving.failure.as_ref() != Some(&why) {
                    self.own_log.error(format_args!(
                        "cannot save state in {}: {why}",
                        self.saving.directory.display()
                    ));
                }
                self.saving.failure = Some(why);
                self.saving.retry = Some(self.now.mono.after(RETRY));
            }
        }
        let (due, later) =
            std::mem::take(&mut self.saving.held).into_iter().partition(|held| held.0 <= ticket);
        self.saving.held = later;
        let due: Vec<_> = due;
        for (_, to, reply) in due {
            self.answer(to, reply);
        }
        self.saves_answered(ticket);
    }

    /// Ends what is under way and saves what is not yet saved: the daemon is about to end.
    pub(super) fn finish_saving(&mut self) {
        if self.saving.failure.is_some() {
            self.saving.mark(self.now.mono);
        }
        for _ in 0..3 {
            if self.saving.under_way.is_some() {
                if let Some(outcome) = self.saving.worker.as_ref().and_then(Worker::wait) {
                    self.saved(outcome.ticket, outcome.result);
                } else {
                    return;
                }
            }
            if self.saving.dirty_since.is_some() {
                self.begin_save();
            }
        }
    }
}
