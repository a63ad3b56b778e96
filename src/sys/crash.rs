//! Where this process may die at the worst moment, for tests: debug builds alone.
//!
//! `PMD_CRASH_AT=NAME:N:FILE` ends it as `kill -9` would when it passes the point `NAME` for the
//! N-th time. `FILE` is made before, and where it exists already nothing happens: the next daemon
//! lives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Wanted {
    name: String,
    /// Passes that are left.
    left: AtomicU32,
    file: String,
}

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();

/// The process may die here. In a release build this is nothing.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions) {
        pass(name);
    }
}

fn pass(name: &str) {
    let wanted = WANTED.get_or_init(|| read(&std::env::var("PMD_CRASH_AT").ok()?));
    let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.name == name) else { return };
    if wanted.left.fetch_sub(1, Ordering::Relaxed) == 1
        && std::fs::File::create_new(&wanted.file).is_ok()
    {
        // SAFETY: ends this process; touches no memory.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

fn read(text: &str) -> Option<Wanted> {
    let mut words = text.splitn(3, ':');
    let (name, left, file) = (words.next()?, words.next()?, words.next()?);
    let left = AtomicU32::new(left.parse().ok()?);
    Some(Wanted { name: name.to_owned(), left, file: file.to_owned() })
}
