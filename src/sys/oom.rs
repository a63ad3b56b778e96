//! Whom the kernel killed for want of memory: it says so in its own log.
//!
//! `/dev/kmsg` is kept open at its end and read only when a child was killed; where it may not be
//! read, nobody knows. Source: `Documentation/ABI/testing/dev-kmsg`; the words are those of
//! `__oom_kill_process` in the kernel's `mm/oom_kill.c`, in memory control groups as well.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::base::Pid;

/// Records read at one look; the kernel's whole log has a few thousand.
const MAX_RECORDS: usize = 4096;
/// A record has at most this many bytes.
const MAX_RECORD: usize = 8 * 1024;
/// Of those who were killed so many are remembered, for whom it is asked later.
const REMEMBERED: usize = 16;

/// The kernel's log from now on.
#[derive(Debug)]
pub struct OomKills {
    log: Option<File>,
    killed: VecDeque<Pid>,
}

impl OomKills {
    /// Begins to listen, where we may.
    #[must_use]
    pub fn listen() -> Self {
        let mut options = File::options();
        let log = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok();
        let log = log.and_then(|mut log| log.seek(SeekFrom::End(0)).is_ok().then_some(log));
        Self { log, killed: VecDeque::new() }
    }

    /// Whether a process that `SIGKILL` has ended was killed for want of memory.
    pub fn has(&mut self, pid: Pid) -> bool {
        self.read();
        self.killed.contains(&pid)
    }

    fn read(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut record = [0; MAX_RECORD];
        for _ in 0..MAX_RECORDS {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(pid) = record.get(..length).and_then(killed) {
                        if self.killed.len() == REMEMBERED {
                            self.killed.pop_front();
                        }
                        self.killed.push_back(pid);
                    }
                }
                // Records were overwritten before anybody read them: on with the next.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => return,
            }
        }
    }
}

/// The pid in `3,1189,5140900,-;Out of memory: Killed process 1234 (name) total-vm:...`, if the
/// kernel itself says it.
fn killed(record: &[u8]) -> Option<Pid> {
    let text = std::str::from_utf8(record).ok()?;
    let (head, said) = text.split_once(';')?;
    // Facility 0: what programs write into this log has another.
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let (_, rest) = said.split_once("Killed process ").filter(|_| priority < 8)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().and_then(Pid::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood_and_nobody_elses() {
        let pid = |record: &str| killed(record.as_bytes()).map(Pid::raw);
        for text in ["Out of memory: ", "Memory cgroup out of memory: "] {
            let record = format!(
                "3,1189,5140900,-;{text}Killed process 1234 (my app) total-vm:9kB, anon-rss:8kB\n \
                 SUBSYSTEM=x\n"
            );
            assert_eq!(pid(&record), Some(1234));
        }
        assert_eq!(pid("12,1189,5140900,-;Out of memory: Killed process 1234 (x)\n"), None);
        for record in ["", ";", "3,1;Killed process ", "3,1;Killed process x", "3,1;oom", "\u{0};"]
        {
            assert_eq!(pid(record), None, "{record:?}");
        }
        assert_eq!(killed(b"3,1;Killed process 99999999999999999999 (x)"), None);
        assert_eq!(killed(b"3,1;\xff"), None);
    }

    #[test]
    fn who_was_not_killed_is_not_said_to_be() {
        assert!(!OomKills::listen().has(crate::sys::process::own_pid()));
    }
}
