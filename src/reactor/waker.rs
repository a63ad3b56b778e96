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
    ///
    /// # Errors
    ///
    /// None that can be met: the kernel's counter cannot be full.
    pub fn wake(&self) -> io::Result<()> {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.shared.waker.wake();
        if result.is_err() {
            self.shared.pending.store(false, Ordering::Release);
        }
        result
    }

    /// From here on another call is another word. The reactor says this before its owner looks.
    pub(super) fn heard(&self) {
        self.shared.pending.swap(false, Ordering::AcqRel);
    }
}
