//! A sample of what is known already allocates nothing.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pmd::base::{ChildId, Pid};
use pmd::metrics::{Metrics, Sample, Scope, Target};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's own, counted.
struct Counted;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

#[test]
fn a_sample_of_known_processes_allocates_nothing() {
    let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
    let target = Target { child: ChildId(1), pid, cookie: 0, adopted: false, limited: true };
    let waiting = thread::current();
    let metrics = Metrics::start("COOKIE=", 100, move || waiting.unpark()).unwrap();
    let mut last = Sample::default();
    let mut targets = Some(vec![target]);
    // Others begin processes meanwhile; a search for those may have to make room.
    let counts = (0..20).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        metrics.sample(Scope::Everything, targets.take());
        while !metrics.take(&mut last) {
            thread::park();
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    let counts: Vec<usize> = counts.collect();
    assert!(last.of(ChildId(1)).is_some_and(|reading| reading.memory > 0));
    assert_eq!(counts.iter().min(), Some(&0), "{counts:?}");
    assert!(counts.iter().filter(|&&count| count == 0).count() >= 10, "{counts:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
