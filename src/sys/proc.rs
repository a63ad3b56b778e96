//! What `/proc` says about one process.
//!
//! Readings of a process that ends meanwhile are `None`, never an error. A process may put what it
//! likes into its name and arguments: nothing here trusts them.

use std::fs::{self, File};
use std::io::{self, Read};

use crate::base::{ExitStatus, Pid};
use crate::sys::{is, process, wait};

/// The most that is read of a process's arguments or environment, in bytes: the kernel's own limit
/// on both together for the usual stack of 8 MiB, twice.
const MAX_STRINGS: u64 = 4 * 1024 * 1024;
/// More than any `stat` line has, in bytes.
pub(super) const MAX_STAT: usize = 4096;

/// What pmd wants to know of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// The main thread's state letter, as `ps` shows it: `R`, `S`, `D`, `T`, `Z`, ...
    pub state: u8,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub threads: u32,
    /// User and system time, in ticks.
    pub cpu_ticks: u64,
    /// User and system time of its ended children that it has waited for, and of theirs, in ticks.
    pub waited_ticks: u64,
    /// Ticks since the boot: with the pid it nearly names a process.
    pub start_time: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
    /// The wait status of a zombie; 0 to those who may not look.
    exit_code: i32,
}

impl Stat {
    /// Whether it has ended and waits to be reaped. The main thread of a living process may have
    /// ended before the others.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// How it ended, while it waits to be reaped.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.is_zombie().then(|| wait::from_wait_word(self.exit_code))
    }
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`; `/proc` not mounted is as if there were no process.
pub fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    let mut buffer = [0; MAX_STAT];
    let Some(length) = read_into(&format!("/proc/{pid}/stat"), &mut buffer)? else {
        return Ok(None);
    };
    Ok(parse_stat(&buffer[..length]))
}

/// When a process started, in ticks since the boot.
///
/// # Errors
///
/// As [`stat`].
pub fn start_time(pid: Pid) -> io::Result<Option<u64>> {
    Ok(stat(pid)?.map(|stat| stat.start_time))
}

/// The name of the program stands in parentheses and may hold anything, parentheses, spaces and
/// line ends included; after the last one come numbers.
pub(super) fn parse_stat(line: &[u8]) -> Option<Stat> {
    let end_of_name = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
    // Field 3 of the manual page, `proc_pid_stat(5)`, comes first.
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let user: u64 = fields.nth(14 - 7)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let waited_user: i64 = fields.next()?.parse().ok()?;
    let waited_system: i64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(20 - 18)?.parse().ok()?;
    let start_time = fields.nth(22 - 21)?.parse().ok()?;
    // A count that the kernel keeps loosely may be negative.
    let resident: i64 = fields.nth(24 - 23)?.parse().ok()?;
    let exit_code = fields.nth(52 - 25).and_then(|code| code.parse().ok()).unwrap_or(0);
    Some(Stat {
        state,
        parent,
        group,
        session,
        threads,
        cpu_ticks: user.saturating_add(system),
        waited_ticks: u64::try_from(waited_user.saturating_add(waited_system)).unwrap_or(0),
        start_time,
        resident_pages: u64::try_from(resident).unwrap_or(0),
        exit_code,
    })
}

/// The state letter of a process as a whole; `None` if it is gone.
#[must_use]
pub fn state_letter(pid: Pid) -> Option<char> {
    let stat = stat(pid).ok().flatten()?;
    let main_thread_alone = matches!(stat.state, b'Z' | b'X') && !stat.is_zombie();
    Some(if main_thread_alone { 'S' } else { char::from(stat.state) })
}

/// The process group of a process, by its leader; `None` if it is gone.
#[must_use]
pub fn group_of(pid: Pid) -> Option<Pid> {
    stat(pid).ok().flatten().and_then(|stat| Pid::new(stat.group))
}

/// The name of a process's program, as the kernel keeps it (15 bytes); `None` if it is gone.
#[must_use]
pub fn name(pid: Pid) -> Option<String> {
    let mut buffer = [0; 64];
    let length = read_into(&format!("/proc/{pid}/comm"), &mut buffer).ok().flatten()?;
    Some(String::from_utf8_lossy(buffer.get(..length)?).trim_end().to_owned())
}

/// The arguments a process was started with, or has put in their place. Empty for a zombie.
///
/// # Errors
///
/// As [`stat`].
pub fn command_line(pid: Pid) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(bytes) = read_all(&format!("/proc/{pid}/cmdline"))? else {
        return Ok(None);
    };
    let strings = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if strings.is_empty() {
        return Ok(Some(vec![]));
    }
    Ok(Some(strings.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()))
}

/// Whether a process was started with this `NAME=value` in its environment. False for one we may
/// not look at, and for a zombie.
#[must_use]
pub fn environ_contains(pid: Pid, variable: &[u8]) -> bool {
    let Ok(Some(bytes)) = read_all(&format!("/proc/{pid}/environ")) else { return false };
    bytes.split(|&byte| byte == 0).any(|entry| entry == variable)
}

/// The value that `NAME=` has in the environment a process was started with. `None` for one we may
/// not look at, and for a zombie.
#[must_use]
pub fn environ_value(pid: Pid, variable: &[u8]) -> Option<Vec<u8>> {
    let bytes = read_all(&format!("/proc/{pid}/environ")).ok()??;
    let mut entries = bytes.split(|&byte| byte == 0);
    entries.find_map(|entry| entry.strip_prefix(variable)).map(<[u8]>::to_vec)
}

/// The first living process with this `NAME=value` in its environment that is not we ourselves,
/// lowest number first.
#[must_use]
pub fn find_by_environ(variable: &[u8]) -> Option<Pid> {
    let own = process::own_pid();
    let found = all().ok()?.filter(|&pid| pid != own && environ_contains(pid, variable));
    found.min()
}

/// Every process there is.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn all() -> io::Result<impl Iterator<Item = Pid>> {
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::new)))
}

/// The living children of a process, of all its threads; zombies too.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn children(pid: Pid) -> io::Result<Vec<Pid>> {
    let tasks = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(tasks) => tasks,
        Err(error) if is_gone(&error) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut found = vec![];
    for task in tasks {
        let Ok(task) = task else { break };
        let path = task.path().join("children");
        let Some(list) = read_all(&path.to_string_lossy())? else { continue };
        let numbers = list.split(|byte| byte.is_ascii_whitespace());
        found.extend(numbers.filter_map(|number| {
            std::str::from_utf8(number).ok()?.parse().ok().and_then(Pid::new)
        }));
    }
    Ok(found)
}

/// Names this boot: 36 characters. What was written down in another one is void.
///
/// # Errors
///
/// Those of reading it.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().to_owned())
}

/// Ticks a second, the unit of [`Stat::cpu_ticks`] and [`Stat::start_time`].
#[must_use]
pub fn ticks_per_second() -> u64 {
    configuration(libc::_SC_CLK_TCK, 100)
}

/// Bytes in a page.
#[must_use]
pub fn page_size() -> u64 {
    configuration(libc::_SC_PAGESIZE, 4096)
}

fn configuration(name: libc::c_int, usual: u64) -> u64 {
    // SAFETY: asks the C library for a number; touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(usual)
}

/// Fills `buffer` as far as the file goes; `None` if the process is gone.
fn read_into(path: &str, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let result = File::open(path).and_then(|mut file| {
        let mut length = 0;
        loop {
            match file.read(&mut buffer[length..]) {
                Ok(0) => return Ok(length),
                Ok(count) => length += count,
                Err(error) if is(&error, libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    });
    gone_is_none(result)
}

/// All of a file, up to [`MAX_STRINGS`]; `None` if the process is gone. The kernel puts some of them
/// together anew for every read, so that there are to be few.
fn read_all(path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(MAX_STAT);
    let result = File::open(path).and_then(|file| file.take(MAX_STRINGS).read_to_end(&mut bytes));
    Ok(gone_is_none(result)?.map(|_| bytes))
}

fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    is(error, libc::ENOENT) || is(error, libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::own_pid;

    /// As a kernel wrote it (Linux 6.18), with another name.
    const LINE: &str = "4711 (a) R (b \n c) S 1 2 3 34816 4711 4194304 94 0 0 0 5 6 7 8 20 0 4 0 \
        9911 2318336 216 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 \
        0 0 2304\n";

    #[test]
    fn a_name_made_to_deceive_does_not() {
        let stat = parse_stat(LINE.as_bytes()).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), (b'S', 1, 2, 3));
        assert_eq!((stat.cpu_ticks, stat.waited_ticks), (11, 15));
        assert_eq!((stat.threads, stat.start_time), (4, 9911));
        assert_eq!((stat.resident_pages, stat.exit_code), (216, 2304));
        assert_eq!(stat.exit_status(), None);
    }

    #[test]
    fn a_line_cut_anywhere_is_refused_and_never_a_panic() {
        for end in 0..LINE.len() {
            if let Some(stat) = parse_stat(&LINE.as_bytes()[..end]) {
                assert_eq!(stat.start_time, 9911);
            }
        }
    }

    #[test]
    fn a_zombie_tells_how_it_ended_and_a_dead_main_thread_is_none() {
        let zombie = LINE.replace(") S ", ") Z ").replace(" 20 0 4 ", " 20 0 1 ");
        let stat = parse_stat(zombie.as_bytes()).unwrap();
        assert_eq!(stat.exit_status(), Some(ExitStatus::Code(9)));
        let threads_live = LINE.replace(") S ", ") Z ");
        assert!(!parse_stat(threads_live.as_bytes()).unwrap().is_zombie());
    }

    #[test]
    fn this_process_is_read() {
        let stat = stat(own_pid()).unwrap().unwrap();
        assert!(stat.threads >= 1 && !stat.is_zombie());
        assert_eq!(start_time(own_pid()).unwrap(), Some(stat.start_time));
        assert!(matches!(state_letter(own_pid()), Some('R' | 'S')));
        assert_eq!(group_of(own_pid()).map(Pid::raw), Some(stat.group));
        assert!(!command_line(own_pid()).unwrap().unwrap().is_empty());
        assert!(all().unwrap().any(|pid| pid == own_pid()));
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(ticks_per_second() >= 1 && page_size() >= 4096);
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        let nobody = Pid::new(i32::MAX).unwrap();
        assert_eq!(stat(nobody).unwrap(), None);
        assert_eq!((state_letter(nobody), group_of(nobody)), (None, None));
        assert_eq!(command_line(nobody).unwrap(), None);
        assert_eq!(children(nobody).unwrap(), []);
        assert!(!environ_contains(nobody, b"A=b"));
    }
}
