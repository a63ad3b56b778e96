//! This process: its rights, its terminal, its host.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::base::{Pid, Signal};
use crate::sys::limits::{self, Limit, Resource};
use crate::sys::{cvt, cvt_size, is, proc};

/// This process.
#[must_use]
pub fn own_pid() -> Pid {
    // SAFETY: reads a number of this process; cannot fail.
    let raw = unsafe { libc::getpid() };
    // A pid is positive: the other branch is never taken.
    Pid::new(raw).unwrap_or_else(|| std::process::abort())
}

/// The parent; `None` if it is outside our namespace.
#[must_use]
pub fn parent() -> Option<Pid> {
    // SAFETY: reads a number of this process; cannot fail.
    Pid::new(unsafe { libc::getppid() })
}

/// From now on orphaned descendants become children of this process.
///
/// # Errors
///
/// `EINVAL` on kernels before 3.4.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: sets a flag of this process; touches no memory.
    cvt(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// `SIGKILL` for this process when the thread that made it ends.
///
/// # Errors
///
/// None that the kernel documents.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: sets a number of this process; touches no memory.
    cvt(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// The name of this process in lists of them: at most 15 bytes are kept.
pub fn set_name(name: &str) {
    let mut bytes = [0; 16];
    let kept = name.len().min(bytes.len() - 1);
    bytes[..kept].copy_from_slice(&name.as_bytes()[..kept]);
    // SAFETY: `bytes` ends with a NUL and lives for the whole call.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

/// The file that this process executes, to be executed again, whatever becomes of its path.
///
/// # Errors
///
/// Those of opening it below `/proc`.
pub fn own_program() -> io::Result<OwnedFd> {
    let mut options = fs::File::options();
    let file = options.read(true).custom_flags(libc::O_PATH).open("/proc/self/exe")?;
    Ok(file.into())
}

/// Sets the mask of permissions that new files do not get; answers the one before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: sets a number of this process; cannot fail.
    unsafe { libc::umask(mask & 0o777) }
}

/// How much sooner (below 0) or later (above) than others the kernel ends this process when memory
/// runs out: -1000 to 1000.
///
/// # Errors
///
/// `EACCES` below what it was started with, unless we are root.
pub fn set_oom_score_adj(score: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
}

/// What [`set_oom_score_adj`] sets, as it is now.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn oom_score_adj() -> io::Result<i32> {
    let text = fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim_end().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Columns and rows of a terminal; `None` for what is none or does not know.
#[must_use]
pub fn terminal_size(terminal: &impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, for which `size` is valid.
    cvt(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })
        .ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Whether a descriptor is a terminal.
#[must_use]
pub fn is_terminal(fd: &impl AsFd) -> bool {
    io::IsTerminal::is_terminal(&fd.as_fd())
}

/// Never write more than this many bytes of a core file; 0: none, for it would hold every
/// environment of every app.
///
/// # Errors
///
/// `EINVAL` above the hard limit.
pub fn set_core_limit(bytes: u64) -> io::Result<()> {
    let hard = limits::limit(Resource::Core)?.hard;
    limits::set_limit(Resource::Core, Limit { soft: bytes, hard })
}

/// Where this program's code and constants are mapped: what its file holds, and nobody changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Code {
    /// Addresses and lengths.
    parts: [(usize, usize); 4],
}

impl Code {
    /// Looks it up.
    #[must_use]
    pub fn find() -> Self {
        let mut found = Self::default();
        // SAFETY: the callback is given `found` back during this call, and keeps to what else it is
        // given.
        unsafe { libc::dl_iterate_phdr(Some(note_parts), (&raw mut found).cast()) };
        found
    }

    /// Gives back the memory of all of it. What is needed again comes back from the page cache, a few
    /// pages at a time; what only starting needed does not.
    ///
    /// Inlined: its caller needs few pages for what it does next.
    #[inline(always)]
    pub fn forget(&self) {
        for &(start, length) in &self.parts {
            // SAFETY: a part of this program that is mapped from its file and cannot be written to, or
            // nothing: its pages hold what the file holds, and are read from there again on use.
            unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
        }
    }
}

/// Enters the parts of the program itself, which comes first: libraries are shared with others.
extern "C" fn note_parts(about: *mut libc::dl_phdr_info, _: usize, code: *mut c_void) -> c_int {
    // SAFETY: the C library hands over a description that is valid during the call, with as many
    // program headers as it says; and the pointer that `find` gave it.
    let (base, headers, code) = unsafe {
        let (about, code) = (&*about, &mut *code.cast::<Code>());
        let count = usize::from(about.dlpi_phnum);
        (about.dlpi_addr, std::slice::from_raw_parts(about.dlpi_phdr, count), code)
    };
    let page = usize::try_from(proc::page_size()).unwrap_or(4096);
    let mapped =
        headers.iter().filter(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0);
    for (part, header) in code.parts.iter_mut().zip(mapped) {
        // Widths differ between hosts of 32 and 64 bits; an address fits in either.
        #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]
        let (from, length) = ((base + header.p_vaddr) as usize, header.p_memsz as usize);
        let start = from & !(page - 1);
        *part = (start, from + length - start);
    }
    1
}

/// Gives back the memory below the end of the first thread's stack, which deeper calls had needed.
/// Does nothing in other threads.
pub fn forget_stack() {
    /// The kernel maps 128 KiB of it from the beginning.
    const DEPTH: usize = 64 * 1024;
    // SAFETY: reads a number of this thread; cannot fail.
    if unsafe { libc::syscall(libc::SYS_gettid) } != libc::c_long::from(own_pid().raw()) {
        return;
    }
    let here = 0_u8;
    let page = usize::try_from(proc::page_size()).unwrap_or(4096);
    // The page that is in use, and one more for the calls from here, stay.
    let end = ((&raw const here) as usize & !(page - 1)) - page;
    // SAFETY: nothing below the end of a stack is in use but what a call from here needs; all of it is
    // mapped, see `DEPTH`.
    unsafe { libc::madvise((end - DEPTH) as *mut c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// The user in whose name this process acts.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: reads a number of this process; cannot fail.
    unsafe { libc::geteuid() }
}

/// The group in whose name this process acts.
#[must_use]
pub fn effective_gid() -> u32 {
    // SAFETY: reads a number of this process; cannot fail.
    unsafe { libc::getegid() }
}

/// A number nobody can guess. Where the kernel has none to give, the standard library's own
/// source stands in.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    match fill_random(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

/// Fills `bytes` with numbers nobody can guess: for keys.
///
/// # Errors
///
/// `ENOSYS` on kernels before 3.17. Waits only in the first seconds of a boot.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: `rest` is valid for writes of its length.
        let result = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match cvt_size(result) {
            Ok(count) => rest = &mut rest[count..],
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends this process as if it had not handled `signal`, so that a shell sees an interrupted
/// program (130 for `SIGINT`, 143 for `SIGTERM`). Nothing is flushed and nothing dropped.
pub fn die_by(signal: Signal) -> ! {
    crate::sys::signals::restore(signal);
    // SAFETY: sends a signal to this thread; touches no memory.
    unsafe { libc::raise(signal.raw()) };
    // A signal whose default is not to end: say so in the way of shells.
    // SAFETY: ends the process.
    unsafe { libc::_exit(128 + signal.raw()) }
}

/// What the kernel says about itself and the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    pub name: String,
    /// `6.18.44`.
    pub kernel: String,
    /// `x86_64`.
    pub machine: String,
}

/// The host's name, kernel and architecture.
///
/// # Errors
///
/// None that can be met.
pub fn host() -> io::Result<Host> {
    // SAFETY: `utsname` is arrays of characters, for which all zeroes is a value.
    let mut about: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is valid for writes for the whole call.
    cvt(unsafe { libc::uname(&raw mut about) })?;
    Ok(Host {
        name: text(&about.nodename),
        kernel: text(&about.release),
        machine: text(&about.machine),
    })
}

fn text(field: &[c_char]) -> String {
    // SAFETY: the kernel ends every field of a `utsname` with a NUL inside the array.
    unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn this_process_and_its_host_are_named() {
        assert_eq!(u32::try_from(own_pid().raw()).unwrap(), std::process::id());
        assert!(parent().is_some());
        let host = host().unwrap();
        assert!(!host.machine.is_empty() && host.kernel.contains('.'));
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(host.name, name.trim_end());
    }

    #[test]
    fn code_that_was_given_back_is_there_again() {
        let code = Code::find();
        assert!(code.parts[1].1 > 0);
        code.forget();
        forget_stack();
        this_process_and_its_host_are_named();
    }

    #[test]
    fn random_bytes_differ() {
        let (mut one, mut two) = ([0; 32], [0; 32]);
        fill_random(&mut one).unwrap();
        fill_random(&mut two).unwrap();
        assert_ne!(one, two);
        assert_ne!(random(), random());
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(terminal_size(&file), None);
        assert!(!is_terminal(&file));
    }
}
