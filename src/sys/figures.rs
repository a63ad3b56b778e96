//! Files of `/proc` that are kept open and read again: the figures of processes and of the host.
//!
//! A kept descriptor is read with one `pread` and no look-up of a path, in less than half the time
//! of opening it anew; that of a process answers `ESRCH` when the process is gone, also when its
//! number was used again. Nothing here allocates once it is open.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use crate::base::Pid;
use crate::sorted::sort;
use crate::sys::proc::{self, MAX_STAT, Stat};
use crate::sys::{cvt_long, is};

/// Below so many resident pages the kernel's loose count, which is off by some dozens for each
/// processor, is not good enough.
const SMALL: u64 = 2048;
/// Bytes read of a file about the host; more than what is looked for in them.
const MAX_HOST: usize = 16 * 1024;
/// Bytes of directory entries read at a time.
const MAX_ENTRIES: usize = 8 * 1024;
/// Bytes of the longest path below `/proc` that is made here.
const MAX_PATH: usize = 32;

/// Opens `/proc/PID/NAME`; `None` if there is no such process.
fn open(pid: Pid, name: &str) -> io::Result<Option<File>> {
    let mut buffer = [0; MAX_PATH];
    let mut rest = &mut buffer[..];
    write!(rest, "/proc/{pid}/{name}")?;
    let length = MAX_PATH - rest.len();
    let path = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if proc::is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file from its start; `None` if the process it tells about is gone.
fn reread<'a>(file: &File, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        match file.read_at(buffer, 0) {
            Ok(length) => return Ok(Some(&buffer[..length])),
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) if proc::is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The files of one process.
#[derive(Debug)]
pub struct ProcessFiles {
    pid: Pid,
    stat: File,
    /// The exact count of pages, where the one in `stat` is too loose.
    statm: Option<File>,
}

impl ProcessFiles {
    /// `None` if there is no such process.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`.
    pub fn open(pid: Pid) -> io::Result<Option<Self>> {
        Ok(open(pid, "stat")?.map(|stat| Self { pid, stat, statm: None }))
    }

    /// What they say now; `None` if the process is gone.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` the first time that a small process is read; a line that is none.
    pub fn read(&mut self) -> io::Result<Option<Stat>> {
        let mut buffer = [0; MAX_STAT];
        let Some(line) = reread(&self.stat, &mut buffer)? else { return Ok(None) };
        let mut stat = proc::parse_stat(line).ok_or_else(odd)?;
        if stat.resident_pages < SMALL && !stat.is_zombie() {
            if self.statm.is_none() {
                self.statm = open(self.pid, "statm")?;
            }
            if let Some(statm) = &self.statm
                && let Some(line) = reread(statm, &mut buffer)?
            {
                stat.resident_pages = number_at(line, 1).unwrap_or(stat.resident_pages);
            }
        }
        Ok(Some(stat))
    }

    /// How many descriptors they are.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        1 + usize::from(self.statm.is_some())
    }
}

/// What `/proc/PID/stat` says, once; `None` if there is no such process.
///
/// # Errors
///
/// As [`ProcessFiles::read`].
pub fn look(pid: Pid) -> io::Result<Option<Stat>> {
    let Some(file) = open(pid, "stat")? else { return Ok(None) };
    let mut buffer = [0; MAX_STAT];
    let Some(line) = reread(&file, &mut buffer)? else { return Ok(None) };
    proc::parse_stat(line).map(Some).ok_or_else(odd)
}

/// How many descriptors a process has open; `None` if that cannot be known.
#[must_use]
pub fn open_descriptors(pid: Pid) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    // The size of the directory is their number since Linux 6.2; before, it is zero.
    match fs::metadata(&path).ok()?.len() {
        0 => u64::try_from(fs::read_dir(path).ok()?.count()).ok(),
        count => Some(count),
    }
}

/// What the host says about itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostStat {
    /// Time of all processors together since the boot, in ticks.
    pub total_ticks: u64,
    /// Of it, what was not spent idle or waiting for devices.
    pub busy_ticks: u64,
    /// Processors that are online.
    pub cores: u32,
    /// In bytes.
    pub memory_total: u64,
    pub memory_available: u64,
    /// Averages over 1, 5 and 15 minutes, in hundredths.
    pub load: [u32; 3],
    /// The newest process or thread; 0 where the kernel does not tell.
    pub newest: u32,
    /// Since the boot, time asleep included.
    pub uptime: Duration,
}

/// The files about the host.
#[derive(Debug)]
pub struct HostFiles {
    stat: File,
    memory: File,
    load: File,
    uptime: File,
    buffer: Vec<u8>,
}

impl HostFiles {
    /// # Errors
    ///
    /// Those of opening them.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            stat: File::open("/proc/stat")?,
            memory: File::open("/proc/meminfo")?,
            load: File::open("/proc/loadavg")?,
            uptime: File::open("/proc/uptime")?,
            buffer: vec![0; MAX_HOST],
        })
    }

    /// What they say now.
    ///
    /// # Errors
    ///
    /// Those of reading them. What is not in them is zero.
    pub fn read(&mut self) -> io::Result<HostStat> {
        let mut host = HostStat::default();
        read_processors(reread(&self.stat, &mut self.buffer)?.unwrap_or_default(), &mut host);
        read_memory(reread(&self.memory, &mut self.buffer)?.unwrap_or_default(), &mut host);
        read_load(reread(&self.load, &mut self.buffer)?.unwrap_or_default(), &mut host);
        let uptime = reread(&self.uptime, &mut self.buffer)?.unwrap_or_default();
        host.uptime = Duration::from_millis(hundredths(word_at(uptime, 0)).unwrap_or(0) * 10);
        Ok(host)
    }
}

/// `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq, steal; what guests used is in
/// user already.
fn read_processors(text: &[u8], host: &mut HostStat) {
    for line in text.split(|&byte| byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"cpu") else { break };
        if rest.first().is_some_and(u8::is_ascii_digit) {
            host.cores += 1;
            continue;
        }
        for (index, ticks) in (0..8).filter_map(|index| Some((index, number_at(rest, index)?))) {
            host.total_ticks = host.total_ticks.saturating_add(ticks);
            if index != 3 && index != 4 {
                host.busy_ticks = host.busy_ticks.saturating_add(ticks);
            }
        }
    }
}

/// `proc_meminfo(5)`; `MemAvailable` is there since Linux 3.14.
fn read_memory(text: &[u8], host: &mut HostStat) {
    let mut free = 0;
    let mut available = None;
    for line in text.split(|&byte| byte == b'\n').take(8) {
        let bytes = number_at(line, 1).unwrap_or(0).saturating_mul(1024);
        match word_at(line, 0) {
            b"MemTotal:" => host.memory_total = bytes,
            b"MemAvailable:" => available = Some(bytes),
            b"MemFree:" | b"Cached:" => free += bytes,
            _ => {}
        }
    }
    host.memory_available = available.unwrap_or(free).min(host.memory_total);
}

/// `proc_loadavg(5)`.
fn read_load(text: &[u8], host: &mut HostStat) {
    for (index, load) in host.load.iter_mut().enumerate() {
        let average = hundredths(word_at(text, index)).unwrap_or(0);
        *load = u32::try_from(average).unwrap_or(u32::MAX);
    }
    host.newest = number_at(text, 4).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
}

/// The word number `index`, from 0; empty where there is none.
fn word_at(line: &[u8], index: usize) -> &[u8] {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.nth(index).unwrap_or_default()
}

fn number_at(line: &[u8], index: usize) -> Option<u64> {
    std::str::from_utf8(word_at(line, index)).ok()?.parse().ok()
}

/// `1.07` as 107; more digits are left out.
fn hundredths(word: &[u8]) -> Option<u64> {
    let (whole, part) = std::str::from_utf8(word).ok()?.split_once('.')?;
    let part: u64 = part.get(..2)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)
}

fn odd() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// The numbers of all processes.
#[derive(Debug)]
pub struct ProcessList {
    directory: File,
    buffer: Vec<u8>,
}

impl ProcessList {
    /// # Errors
    ///
    /// Those of opening `/proc`.
    pub fn open() -> io::Result<Self> {
        Ok(Self { directory: File::open("/proc")?, buffer: vec![0; MAX_ENTRIES] })
    }

    /// Puts the number of every process into `pids`, lowest first.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`.
    pub fn read(&mut self, pids: &mut Vec<i32>) -> io::Result<()> {
        use std::io::Seek as _;
        pids.clear();
        self.directory.rewind()?;
        loop {
            // SAFETY: the buffer is valid for writes of its whole length for the whole call.
            let length = cvt_long(unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.directory.as_raw_fd(),
                    self.buffer.as_mut_ptr(),
                    self.buffer.len(),
                )
            })?;
            match usize::try_from(length).ok().and_then(|length| self.buffer.get(..length)) {
                None | Some([]) => break,
                Some(entries) => numbers(entries, pids),
            }
        }
        // As the kernel gives them; nobody promises that.
        sort(pids);
        Ok(())
    }
}

/// The names among directory entries that are numbers. `getdents(2)`: inode and offset, 8 bytes
/// each, the entry's length, 2, its type, 1, then the name with a NUL.
fn numbers(mut entries: &[u8], pids: &mut Vec<i32>) {
    while let Some(&[low, high]) = entries.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some((entry, rest)) = entries.split_at_checked(length.max(19)) else { return };
        let name = entry[19..].split(|&byte| byte == 0).next().unwrap_or_default();
        pids.extend(std::str::from_utf8(name).ok().and_then(|name| name.parse::<i32>().ok()));
        entries = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::own_pid;
    use crate::sys::testing::{Shell, plain};

    #[test]
    fn a_kept_file_follows_its_process_and_ends_with_it() {
        let mut own = ProcessFiles::open(own_pid()).unwrap().unwrap();
        let before = own.read().unwrap().unwrap();
        assert_eq!(before.start_time, proc::start_time(own_pid()).unwrap().unwrap());
        assert!(before.resident_pages > 0);
        assert!(ProcessFiles::open(Pid::new(i32::MAX).unwrap()).unwrap().is_none());

        let child = Shell::start("read x", plain());
        let mut files = ProcessFiles::open(child.pid).unwrap().unwrap();
        let stat = files.read().unwrap().unwrap();
        assert!(stat.resident_pages > 0 && stat.resident_pages < SMALL, "{stat:?}");
        assert_eq!(files.descriptors(), 2);
        crate::sys::kill::kill(child.pid, crate::base::Signal::KILL).unwrap();
        crate::sys::wait::wait_for(child.pid).unwrap();
        assert_eq!(files.read().unwrap(), None);
    }

    #[test]
    fn the_host_is_read() {
        let mut files = HostFiles::open().unwrap();
        let host = files.read().unwrap();
        assert!(host.cores >= 1 && host.busy_ticks > 0 && host.total_ticks > host.busy_ticks);
        assert!(host.memory_available > 0 && host.memory_total > host.memory_available);
        assert!(host.uptime > Duration::from_secs(1) && host.newest > 1);
    }

    #[test]
    fn every_process_is_listed_lowest_first() {
        let mut list = ProcessList::open().unwrap();
        let mut pids = Vec::new();
        for _ in 0..2 {
            list.read(&mut pids).unwrap();
            assert!(pids.contains(&own_pid().raw()) && pids.is_sorted(), "{pids:?}");
        }
        assert!(open_descriptors(own_pid()).unwrap() >= 3);
    }

    const STAT: &str = "cpu  10 1 5 1000 20 2 3 4 9 9\ncpu0 5 0 2 500 10 1 1 2 4 4\n\
        cpu1 5 1 3 500 10 1 2 2 5 5\nintr 12345 1 2\nctxt 99\n";
    const MEMORY: &str = "MemTotal:        2048 kB\nMemFree:          512 kB\n\
        MemAvailable:    1024 kB\nBuffers: 1 kB\nCached: 100 kB\n";
    const LOAD: &str = "0.85 1.20 12.07 2/310 4711\n";

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let mut host = HostStat::default();
        read_processors(STAT.as_bytes(), &mut host);
        read_memory(MEMORY.as_bytes(), &mut host);
        read_load(LOAD.as_bytes(), &mut host);
        assert_eq!((host.total_ticks, host.busy_ticks, host.cores), (1045, 25, 2));
        assert_eq!((host.memory_total, host.memory_available), (2 << 20, 1 << 20));
        assert_eq!((host.load, host.newest), ([85, 120, 1207], 4711));
        let mut old = HostStat::default();
        read_memory(MEMORY.replace("MemAvailable", "Shmem").as_bytes(), &mut old);
        assert_eq!(old.memory_available, 612 * 1024);
    }

    #[test]
    fn what_was_cut_or_altered_is_never_a_panic() {
        let read = |text: &[u8]| {
            let host = &mut HostStat::default();
            read_processors(text, host);
            read_memory(text, host);
            read_load(text, host);
        };
        for text in [STAT, MEMORY, LOAD] {
            for at in 0..text.len() {
                read(&text.as_bytes()[..at]);
                for byte in [0, b' ', b'\n', b'-', b'9', 0xff] {
                    let mut altered = text.as_bytes().to_vec();
                    altered[at] = byte;
                    read(&altered);
                }
            }
        }
        let mut pids = Vec::new();
        for length in 0..64 {
            numbers(&vec![1; length], &mut pids);
            numbers(&vec![0; length], &mut pids);
            numbers(&vec![0xff; length], &mut pids);
        }
        assert!(pids.is_empty(), "{pids:?}");
    }
}
