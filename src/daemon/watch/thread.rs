//! THREAD: what is watched on disk. Walking a tree may take long, and so may a disk.
//!
//! Started with the first app that is to be watched, ended with the last. Orders come in, changes go
//! out, each after it has been quiet for a while; a waker tells the loop. Nothing wakes it up while no
//! file changes.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;

use crate::daemon::watch::trees::{Plan, Trees};
use crate::mailbox::{Nothing, Receiver, Sender, mailbox};
use crate::reactor::waker::Waker;
use crate::reactor::{Interest, Reactor, Readiness};
use crate::sys::clock;
use crate::sys::inotify::{Inotify, events};

/// Stack of the thread, in bytes.
const STACK: usize = 128 * 1024;

/// Reads in one turn before orders are looked at again.
const READS_PER_TURN: usize = 16;

/// What the loop wants.
#[derive(Debug)]
pub enum Order {
    Watch(u64, Box<Plan>),
    Forget(u64),
}

/// What the loop is told about one order.
#[derive(Debug, Eq, PartialEq)]
pub enum Told {
    /// Something has changed, this path first.
    Changed(PathBuf),
    /// It cannot be watched altogether, and why.
    Trouble(String),
}

/// The thread's ends in the loop.
#[derive(Debug)]
pub struct Watcher {
    orders: Option<Sender<Order>>,
    told: Receiver<(u64, Told)>,
    waker: Waker,
}

impl Watcher {
    /// Starts the thread. `waker`: of the loop.
    ///
    /// # Errors
    ///
    /// `EMFILE`: above the limit of inotify instances, or of descriptors; those of starting a thread.
    pub fn start(waker: Waker) -> io::Result<Self> {
        let inotify = Inotify::new()?;
        let mut reactor = Reactor::new()?;
        let raw = inotify.as_raw_fd();
        reactor.add(&mut SourceFd(&raw), Interest::READABLE, ())?;
        let own = reactor.waker();
        let (orders, inbox) = mailbox(usize::MAX);
        let (outbox, told) = mailbox(usize::MAX);
        let tell = move |ticket, what| {
            let sent = outbox.send((ticket, what));
            waker.wake();
            sent
        };
        thread::Builder::new().name("pmd-watch".into()).stack_size(STACK).spawn(move || {
            run(&mut reactor, &inotify, &inbox, &tell);
        })?;
        Ok(Self { orders: Some(orders), told, waker: own })
    }

    /// Hands an order over.
    pub fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
            self.waker.wake();
        }
    }

    /// The next that it tells.
    pub fn take(&self) -> Option<(u64, Told)> {
        self.told.take()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.orders = None;
        self.waker.wake();
    }
}

fn run(
    reactor: &mut Reactor<()>,
    inotify: &Inotify,
    orders: &Receiver<Order>,
    tell: &dyn Fn(u64, Told) -> bool,
) {
    let mut trees = Trees::default();
    let (mut batch, mut buffer) = (Vec::new(), Vec::new());
    loop {
        let timeout = trees.next_deadline().map(|at| at.since(clock::now().mono));
        if reactor.turn(timeout, &mut batch).is_err() {
            return;
        }
        loop {
            match orders.wait_for(Duration::ZERO) {
                Ok(Order::Watch(ticket, plan)) => {
                    if let Some(trouble) = trees.watch(inotify, ticket, *plan) {
                        tell(ticket, Told::Trouble(trouble));
                    }
                }
                Ok(Order::Forget(ticket)) => trees.forget(inotify, ticket),
                Err(Nothing::Yet) => break,
                Err(Nothing::Ever) => return,
            }
        }
        let now = clock::now().mono;
        for ready in batch.drain(..) {
            for _ in 0..READS_PER_TURN {
                let bytes = inotify.read(&mut buffer).unwrap_or_default();
                if bytes.is_empty() {
                    reactor.drained(ready.slot, Readiness::READ);
                    break;
                }
                for event in events(bytes) {
                    for (ticket, trouble) in trees.take(inotify, &event, now) {
                        tell(ticket, Told::Trouble(trouble));
                    }
                }
            }
        }
        while let Some((ticket, path)) = trees.pop_due(now) {
            if !tell(ticket, Told::Changed(path)) {
                return;
            }
        }
    }
}
