//! The FIFO on which the supervised programs say when they ran their first instruction.
//!
//! The time of an event is in the report, so it does not matter when a report is read: the battery
//! looks now and then and leaves the processors to those it measures.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::os;

/// Pause between two looks at the FIFO.
const LOOK: Duration = Duration::from_millis(1);
/// How long a child may take before the battery gives up.
const PATIENCE: u64 = 120_000_000_000;
/// Bytes of one report: see `benches/child/child.rs`.
const REPORT: usize = 24;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The first instruction of a child.
    Started,
    /// The kernel took the last line of a child that writes.
    Written,
}

#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub id: usize,
    pub pid: u32,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    pub kind: Kind,
}

pub struct Reports {
    reader: File,
    /// Held open so that the FIFO does not end between two lives of an only child.
    writer: Option<File>,
    bytes: Vec<u8>,
}

impl Reports {
    pub fn open(path: &Path) -> Self {
        os::make_fifo(path).expect("cannot make the FIFO");
        let mut options = OpenOptions::new();
        let reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let writer = OpenOptions::new().write(true).open(path);
        Self {
            reader: reader.expect("cannot open the FIFO"),
            writer: Some(writer.expect("cannot open the FIFO")),
            bytes: Vec::new(),
        }
    }

    /// The next `count` reports, in the order in which they were written.
    ///
    /// # Panics
    ///
    /// When they do not come in time: then there is nothing to measure.
    pub fn collect(&mut self, count: usize) -> Vec<Report> {
        let deadline = os::now() + PATIENCE;
        while self.bytes.len() < count * REPORT {
            let mut chunk = [0; 16 * 1024];
            match self.reader.read(&mut chunk) {
                Ok(0) => sleep(LOOK),
                Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(LOOK),
                Err(error) => panic!("cannot read the FIFO: {error}"),
            }
            let there = self.bytes.len() / REPORT;
            assert!(os::now() < deadline, "only {there} of {count} children reported");
        }
        self.bytes.drain(..count * REPORT).as_slice().chunks_exact(REPORT).map(parse).collect()
    }

    /// Lets go of the FIFO, so that it ends with the last child.
    pub fn release(&mut self) {
        self.writer = None;
    }

    /// The moment at which the last child was gone: every child holds the FIFO until it ends.
    pub fn wait_until_all_are_gone(&self) -> u64 {
        let deadline = os::now() + PATIENCE;
        assert!(self.writer.is_none(), "the battery holds the FIFO itself");
        while !os::wait_for_hangup(&self.reader, Duration::from_secs(1)) {
            assert!(os::now() < deadline, "children do not end");
        }
        os::now()
    }
}

fn parse(bytes: &[u8]) -> Report {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let kind = if word(16) == 0 { Kind::Started } else { Kind::Written };
    let time = u64::from_ne_bytes(bytes[8..16].try_into().unwrap());
    Report { id: usize::try_from(word(0)).unwrap(), pid: word(4), time, kind }
}
