//! THREAD: the calls that may block for long: `fsync` and what goes with it.
//!
//! Started with the first job. It owns nothing of the daemon's state: bytes go in, outcomes come
//! out, and a waker tells the loop.

use std::io;
use std::path::PathBuf;
use std::thread;

use crate::daemon::state;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::reactor::waker::Waker;

/// Stack of the thread, in bytes.
const STACK: usize = 64 * 1024;

/// A state to be made durable.
#[derive(Debug)]
pub struct Job {
    /// Counts the saves; comes back with the outcome.
    pub ticket: u64,
    pub directory: PathBuf,
    pub bytes: Vec<u8>,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    pub ticket: u64,
    pub result: io::Result<()>,
}

/// The thread's two ends in the loop. At most one job is under way.
#[derive(Debug)]
pub struct Worker {
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn start(waker: Waker) -> io::Result<Self> {
        let (jobs, inbox) = mailbox::<Job>(1);
        let (results, outcomes) = mailbox(1);
        thread::Builder::new().name("pmd-worker".into()).stack_size(STACK).spawn(move || {
            while let Some(job) = inbox.wait() {
                let result = state::write(&job.directory, &job.bytes);
                if !results.send(Outcome { ticket: job.ticket, result }) {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { jobs, outcomes })
    }

    /// Hands a job over; false if the thread is gone.
    pub fn give(&self, job: Job) -> bool {
        self.jobs.send(job)
    }

    /// The outcome of the job under way, if it has ended.
    pub fn take(&self) -> Option<Outcome> {
        self.outcomes.take()
    }

    /// Waits for the job under way: the daemon is about to end.
    pub fn wait(&self) -> Option<Outcome> {
        self.outcomes.wait()
    }
}
