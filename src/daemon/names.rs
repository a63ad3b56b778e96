//! THREAD: host names to addresses. A resolver may block for as long as it likes.
//!
//! Started with the first name; what needs no resolver never comes here. Apart from the worker: a
//! save must not wait for a name server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::thread;

use crate::mailbox::{Receiver, Sender, mailbox};
use crate::reactor::waker::Waker;

/// Stack of the thread, in bytes: C libraries have large buffers.
const STACK: usize = 256 * 1024;
/// Names that wait; more are refused.
const MAX_WAITING: usize = 64;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A name and where the answer goes.
#[derive(Debug)]
struct Question {
    ticket: u64,
    host: String,
    port: u16,
}

/// What became of a name.
#[derive(Debug)]
pub struct Found {
    pub ticket: u64,
    pub addresses: io::Result<Vec<SocketAddr>>,
}

/// The thread's two ends in the loop.
#[derive(Debug)]
pub struct Names {
    questions: Sender<Question>,
    answers: Receiver<Found>,
}

impl Names {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn start(waker: Waker) -> io::Result<Self> {
        let (questions, inbox) = mailbox::<Question>(MAX_WAITING);
        // Never full: as many as may wait, one that is being looked up, and one more.
        let (results, answers) = mailbox(2 * MAX_WAITING);
        thread::Builder::new().name("pmd-names".into()).stack_size(STACK).spawn(move || {
            while let Some(Question { ticket, host, port }) = inbox.wait() {
                let addresses = (host.as_str(), port).to_socket_addrs();
                let addresses = addresses.map(|found| found.take(MAX_ADDRESSES).collect());
                if !results.send(Found { ticket, addresses }) {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { questions, answers })
    }

    /// Asks for a name; false: too many wait already, or the thread is gone.
    pub fn ask(&self, ticket: u64, host: &str, port: u16) -> bool {
        self.questions.send(Question { ticket, host: host.to_owned(), port })
    }

    /// The next answer that has come.
    pub fn take(&self) -> Option<Found> {
        self.answers.take()
    }
}

/// The addresses that a word means without asking anybody.
#[must_use]
pub fn literal(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![(address, port).into()]);
    }
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let is_local = host.eq_ignore_ascii_case("localhost");
    is_local.then(|| local.map(|address| (address, port).into()).to_vec())
}
