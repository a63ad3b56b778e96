//! Where the daemon may be killed, for tests: every step after which another state is on disk.
//!
//! In the program a point is nothing, in a debug build the point `log`. In a unit test it counts, and the one that was asked for ends the
//! run as a kill would: nothing that comes after it happens.

/// The daemon may be killed here.
#[cfg(not(test))]
#[inline]
pub fn point() {
    crate::sys::crash::point("log");
}

#[cfg(test)]
pub use simulated::{point, run};

#[cfg(test)]
mod simulated {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    struct Killed;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// The daemon may be killed here.
    pub fn point() {
        LEFT.with(|left| match left.get() {
            Some(0) => {
                left.set(None);
                resume_unwind(Box::new(Killed));
            }
            Some(more) => left.set(Some(more - 1)),
            None => {}
        });
    }

    /// Runs `steps` and kills it at the point number `at`; `None` if it was killed.
    pub fn run<T>(at: u32, steps: impl FnOnce() -> T) -> Option<T> {
        LEFT.with(|left| left.set(Some(at)));
        let result = catch_unwind(AssertUnwindSafe(steps));
        LEFT.with(|left| left.set(None));
        match result {
            Ok(value) => Some(value),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }
}
