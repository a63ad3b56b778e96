//! A word from another thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Token};

/// Ends a wait of the reactor it came from. Cheap to clone, and to use often: until the reactor has
/// heard the first call, further ones are no system call.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waker: mio::Waker,
    /// Woken, and not heard yet.
    pending: AtomicBool,
}

impl Waker {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = mio::Waker::new(registry, token)?;
        Ok(Self { shared: Arc::new(Shared { waker, pending: AtomicBool::new(false) }) })
    }

    /// Makes the reactor's present or next turn report its waker. What was stored before is seen
    /// by whoever acts on that report.
    pub fn wake(&self) {
        if !self.shared.pending.swap(true, Ordering::AcqRel) && self.shared.waker.wake().is_err() {
            // Cannot be met: a write to the kernel's counter fails only when it is full, and then
            // there is something to hear. The next call tries again.
            self.shared.pending.store(false, Ordering::Release);
        }
    }

    /// From here on another call is another word. The reactor says this before its owner looks.
    pub(super) fn heard(&self) {
        self.shared.pending.swap(false, Ordering::AcqRel);
    }
}
