//! What a child does between clone and exec.
//!
//! It shares the parent's memory and runs while the parent's thread is held, other threads go on.
//! So: raw system calls and plain stores only. No allocation, no lock, no panic, no function of
//! the C library but `syscall` (which stores an error number where the held thread keeps its own).
//! The C library's `setgroups` and `setresuid` above all are out: they make every thread of the
//! process they believe to be in follow.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;

use crate::base::{SpawnError, Stage};
use crate::sys::limits::Resource;
use crate::sys::spawn::Spawn;
use crate::sys::users::Credentials;

/// Everything the child needs, in the parent's memory.
pub(super) struct Job<'a> {
    pub(super) program: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) cwd: *const c_char,
    pub(super) fds: *mut Move,
    pub(super) fd_count: usize,
    /// One more than the highest number the child is to have: from here on a descriptor is out of
    /// the way.
    pub(super) fd_floor: c_int,
    /// Highest descriptor open in the parent, where the kernel has no `close_range(2)`.
    pub(super) fd_highest: Option<c_int>,
    /// The child shares the parent's descriptors until it takes those below this number for itself;
    /// all it needs is there.
    pub(super) shared_below: Option<c_int>,
    pub(super) listen_pid: Option<*mut ListenPid>,
    pub(super) spec: &'a Spawn<'a>,
    /// Signals that are not at their default, as bits, 1 << (number - 1).
    pub(super) not_default: u64,
    /// Pid of the process that spawns.
    pub(super) parent: u32,
    pub(super) report: Report,
    pub(super) begun: Begun,
}

/// Whether the child got as far as to run.
#[derive(Default)]
pub(super) struct Begun(bool);

impl Begun {
    fn set(&mut self) {
        // SAFETY: a plain store to memory we have by reference, volatile as that of `Report`.
        unsafe { ptr::write_volatile(&raw mut self.0, true) }
    }

    pub(super) fn get(&self) -> bool {
        // SAFETY: a plain load of memory we have by reference, volatile as that of `Report`.
        unsafe { ptr::read_volatile(&raw const self.0) }
    }
}

/// `LISTEN_PID=` and the child's pid, which the child writes there.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct ListenPid([u8; 24]);

impl ListenPid {
    const NAME: [u8; 11] = *b"LISTEN_PID=";

    pub(super) const fn new() -> Self {
        Self([0; 24])
    }

    /// The name, the digits, and a NUL.
    fn set(&mut self, pid: c_int) {
        let mut text = [0; 12];
        let digits = decimal(pid, &mut text);
        let bytes = Self::NAME.iter().chain(digits).chain(&[0]);
        for (to, from) in self.0.iter_mut().zip(bytes) {
            // SAFETY: a plain store to memory we have by reference. Volatile: the compiler does not
            // see the kernel read it.
            unsafe { ptr::write_volatile(to, *from) };
        }
    }
}

/// A descriptor of the parent and the number it is to have in the child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) target: c_int,
    pub(super) source: c_int,
}

/// Where the child leaves word of a failure. Empty: the program was executed.
#[derive(Default)]
pub(super) struct Report(Option<SpawnError>);

impl Report {
    fn set(&mut self, failure: SpawnError) {
        // SAFETY: a plain store to memory we have by reference. Volatile: the child ends without
        // the compiler seeing who reads it.
        unsafe { ptr::write_volatile(&raw mut self.0, Some(failure)) }
    }

    /// What the child wrote, now that it has executed or ended.
    pub(super) fn take(&self) -> Option<SpawnError> {
        // SAFETY: a plain load of memory we have by reference. Volatile: the compiler did not see
        // the child write it.
        unsafe { ptr::read_volatile(&raw const self.0) }
    }
}

/// An argument that is nothing.
const ZERO: c_long = 0;
/// Exit code of a child that could not become its program. Nobody sees it.
const FAILED: c_int = 127;
/// Highest signal number.
const SIGNALS: c_long = 64;
/// What the kernel takes for a set of 64 signals.
const SIGNAL_SET_SIZE: usize = 8;

#[cfg(any(target_arch = "x86", target_arch = "arm"))]
mod number {
    //! The calls of old that know 32 bits of an id.
    pub(super) use libc::{
        SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID,
    };
}
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
mod number {
    pub(super) use libc::{
        SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID,
    };
}

/// One raw system call; `Err` is the error number. Every integer argument is a `c_long`, so that
/// all of the register is defined.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        // SAFETY: pointers among the arguments are valid for what the kernel does with them: they
        // come from a `Job`, whose parts live as long as the parent is held, or from this stack.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result < 0 {
            // SAFETY: the C library's address of the calling thread's error number is always valid.
            Err(unsafe { *libc::__errno_location() })
        } else {
            Ok(result)
        }
    }};
}

/// The child's first and last function of ours.
pub(super) extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: `clone` hands over the pointer the spawner gave it, and the spawner's thread, which
    // owns the job, is held until this process has executed or ended.
    let job = unsafe { &mut *job.cast::<Job<'_>>() };
    job.begun.set();
    let failure = become_program(job);
    job.report.set(failure);
    // Not `exit`: the handlers of the C library belong to the parent.
    let _ = call!(libc::SYS_exit_group, c_long::from(FAILED));
    FAILED
}

/// The whole way, in the order in which each step still has the rights it needs. Comes back only
/// with a failure.
fn become_program(job: &mut Job<'_>) -> SpawnError {
    match prepare(job) {
        Err(failure) => failure,
        Ok(()) => match call!(libc::SYS_execve, job.program, job.argv, job.envp) {
            Err(errno) => SpawnError { stage: Stage::Exec, errno },
            Ok(_) => SpawnError { stage: Stage::Exec, errno: 0 },
        },
    }
}

fn prepare(job: &mut Job<'_>) -> Result<(), SpawnError> {
    let spec = job.spec;
    let at = |stage| move |errno| SpawnError { stage, errno };

    if let Some(end) = job.shared_below {
        take_descriptors(end).map_err(at(Stage::Descriptors))?;
    }
    session(job).map_err(at(Stage::Session))?;
    if let Some(variable) = job.listen_pid {
        let pid = call!(libc::SYS_getpid).map_err(at(Stage::Session))?;
        // SAFETY: the spawner's buffer, which nobody else uses while it is held.
        let variable = unsafe { &mut *variable };
        variable.set(c_int::try_from(pid).unwrap_or_default());
    }
    limits(spec).map_err(at(Stage::Limits))?;
    descriptors(job).map_err(at(Stage::Descriptors))?;
    signals(job.not_default).map_err(at(Stage::Signals))?;
    credentials(job).map_err(at(Stage::Credentials))?;
    call!(libc::SYS_chdir, job.cwd).map_err(at(Stage::Directory))?;
    Ok(())
}

fn session(job: &Job<'_>) -> Result<(), c_int> {
    call!(libc::SYS_setsid)?;
    die_with_parent(job)
}

/// Once in the beginning, and again after a change of user, which takes it back.
fn die_with_parent(job: &Job<'_>) -> Result<(), c_int> {
    if job.spec.die_with_parent {
        prctl(libc::PR_SET_PDEATHSIG, c_long::from(libc::SIGKILL))?;
        // A parent that has ended before this sends no signal any more.
        if call!(libc::SYS_getppid)? != c_long::from(job.parent.cast_signed()) {
            return Err(libc::ESRCH);
        }
    }
    Ok(())
}

fn limits(spec: &Spawn<'_>) -> Result<(), c_int> {
    for &(resource, value) in spec.rlimits {
        let hard = match resource {
            Resource::OpenFiles => hard_limit(resource)?.max(value),
            Resource::Processes | Resource::Core | Resource::AddressSpace | Resource::FileSize => {
                value
            }
        };
        set_limit(resource, [value, hard])?;
    }
    if let Some(nice) = spec.nice {
        call!(libc::SYS_setpriority, ZERO, ZERO, c_long::from(nice))?;
    }
    if let Some(score) = spec.oom_score_adj {
        oom_score(score)?;
    }
    if let Some(mask) = spec.umask {
        call!(libc::SYS_umask, c_long::from((mask & 0o777).cast_signed()))?;
    }
    Ok(())
}

fn set_limit(resource: Resource, soft_and_hard: [u64; 2]) -> Result<(), c_int> {
    let new = soft_and_hard.as_ptr();
    let none = ptr::null_mut::<u64>();
    call!(libc::SYS_prlimit64, ZERO, resource.number(), new, none).map(drop)
}

fn hard_limit(resource: Resource) -> Result<u64, c_int> {
    let mut soft_and_hard = [0_u64; 2];
    let (none, old) = (ptr::null::<u64>(), soft_and_hard.as_mut_ptr());
    call!(libc::SYS_prlimit64, ZERO, resource.number(), none, old)?;
    Ok(soft_and_hard[1])
}

/// The kernel keeps this per memory; for a child that still borrows its parent's it makes an
/// exception (`__set_oom_adj`), so the parent's own stays.
fn oom_score(score: c_int) -> Result<(), c_int> {
    let path = c"/proc/self/oom_score_adj".as_ptr();
    let flags = c_long::from(libc::O_WRONLY | libc::O_CLOEXEC);
    let fd = call!(libc::SYS_openat, c_long::from(libc::AT_FDCWD), path, flags, ZERO)?;
    let mut text = [0; 12];
    let result = write(fd, decimal(score, &mut text));
    let _ = call!(libc::SYS_close, fd);
    result
}

/// `number` in ASCII, at the end of `text`.
fn decimal(number: c_int, text: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        text[start] = b'-';
    }
    &text[start..]
}

fn write(fd: c_long, bytes: &[u8]) -> Result<(), c_int> {
    call!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()).map(drop)
}

/// Gives each descriptor its number and closes all others.
fn descriptors(job: &mut Job<'_>) -> Result<(), c_int> {
    // SAFETY: the spawner's table, which nobody else uses while it is held.
    let moves = unsafe { std::slice::from_raw_parts_mut(job.fds, job.fd_count) };
    // A source below the floor may be overwritten before its turn comes: first out of the way.
    for entry in &mut *moves {
        if entry.source < job.fd_floor && entry.source != entry.target {
            let moved = call!(
                libc::SYS_fcntl,
                c_long::from(entry.source),
                c_long::from(libc::F_DUPFD_CLOEXEC),
                c_long::from(job.fd_floor),
            )?;
            entry.source = c_int::try_from(moved).map_err(|_| libc::EBADF)?;
        }
    }
    for entry in &*moves {
        let (source, target) = (c_long::from(entry.source), c_long::from(entry.target));
        if source == target {
            call!(libc::SYS_fcntl, target, c_long::from(libc::F_SETFD), ZERO)?;
        } else {
            call!(libc::SYS_dup3, source, target, ZERO)?;
        }
        if entry.target == 1 || entry.target == 2 {
            make_blocking(target)?;
        }
    }
    // Lowest to highest, the gaps between those that stay.
    let mut from = 0;
    loop {
        let next = moves.iter().map(|entry| entry.target).filter(|&fd| fd >= from).min();
        match next {
            Some(kept) => {
                close_between(from, kept, job.fd_highest)?;
                from = kept + 1;
            }
            None => return close_between(from, c_int::MAX, job.fd_highest),
        }
    }
}

/// Programs expect to wait when they print, not to lose what they print.
fn make_blocking(fd: c_long) -> Result<(), c_int> {
    let nonblocking = c_long::from(libc::O_NONBLOCK);
    let flags = call!(libc::SYS_fcntl, fd, c_long::from(libc::F_GETFL))?;
    if flags & nonblocking != 0 {
        call!(libc::SYS_fcntl, fd, c_long::from(libc::F_SETFL), flags & !nonblocking)?;
    }
    Ok(())
}

/// Closes from `first` up to, but not with, `end`.
fn close_between(first: c_int, end: c_int, highest: Option<c_int>) -> Result<(), c_int> {
    if first >= end {
        return Ok(());
    }
    let Some(highest) = highest else {
        return close_range(c_long::from(first), c_long::from(end - 1)).map(drop);
    };
    for fd in first..end.min(highest.saturating_add(1)) {
        let _ = call!(libc::SYS_close, c_long::from(fd)); // EBADF: it was not open
    }
    Ok(())
}

/// Makes a table of its own of the descriptors below `end`; the others, thousands perhaps, are never
/// copied. Linux 5.9.
fn take_descriptors(end: c_int) -> Result<(), c_int> {
    let flags = c_long::from(libc::CLOSE_RANGE_UNSHARE);
    call!(libc::SYS_close_range, c_long::from(end), c_long::from(c_int::MAX), flags).map(drop)
}

/// Linux 5.9.
fn close_range(first: c_long, last: c_long) -> Result<c_long, c_int> {
    call!(libc::SYS_close_range, first, last, ZERO)
}

/// Whether the kernel, and the filter in front of it, has the call. Asked with numbers that no
/// descriptor can have.
pub(super) fn has_close_range() -> bool {
    close_range(c_long::from(c_int::MAX), c_long::from(c_int::MAX)).is_ok()
}

/// Default dispositions, then an empty mask: the other way round a handler of the parent's could
/// still run here.
fn signals(not_default: u64) -> Result<(), c_int> {
    /// The kernel's `struct sigaction`, which begins with the handler; zero is the default. At
    /// most 32 bytes on the architectures pmd builds for.
    const DEFAULT: [u64; 4] = [0; 4];
    let none = ptr::null_mut::<u64>();
    for number in 1..=SIGNALS {
        let cannot_be_set =
            number == c_long::from(libc::SIGKILL) || number == c_long::from(libc::SIGSTOP);
        if not_default & 1 << (number - 1) != 0 && !cannot_be_set {
            call!(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), none, SIGNAL_SET_SIZE)?;
        }
    }
    let empty = 0_u64;
    let how = c_long::from(libc::SIG_SETMASK);
    call!(libc::SYS_rt_sigprocmask, how, &raw const empty, none, SIGNAL_SET_SIZE).map(drop)
}

fn credentials(job: &Job<'_>) -> Result<(), c_int> {
    if job.spec.no_new_privs {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    }
    let Some(Credentials { uid, gid, groups }) = job.spec.credentials else {
        return Ok(());
    };
    // From the moment this process belongs to the new user until its `execve`, that user's
    // debugger could otherwise read the memory it shares with us.
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    if *uid != 0 && job.spec.no_new_privs {
        drop_bounding_set();
    }
    call!(number::SETGROUPS, groups.len(), groups.as_ptr())?;
    let gid = id(*gid);
    call!(number::SETRESGID, gid, gid, gid)?;
    let user = id(*uid);
    call!(number::SETRESUID, user, user, user)?;
    let keep: c_long = -1;
    if *uid != 0 && call!(number::SETRESUID, keep, ZERO, keep).is_ok() {
        return Err(libc::EPERM);
    }
    die_with_parent(job)
}

/// Takes from the child and all its descendants what a set-user-ID program could give back.
/// `EINVAL` ends the list; a refusal is no reason not to start, `no_new_privs` stands in front.
fn drop_bounding_set() {
    for capability in 0..64 {
        if prctl(libc::PR_CAPBSET_DROP, capability).is_err() {
            return;
        }
    }
}

fn prctl(option: c_int, argument: c_long) -> Result<(), c_int> {
    call!(libc::SYS_prctl, c_long::from(option), argument, ZERO, ZERO, ZERO).map(drop)
}

/// An id as an argument of a call; the kernel takes the low 32 bits.
fn id(number: u32) -> c_long {
    c_long::from(number.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_kernel_reads_them() {
        for number in [0, 7, -1, 10, -1000, 1000, c_int::MAX, c_int::MIN] {
            assert_eq!(decimal(number, &mut [0; 12]), number.to_string().as_bytes());
        }
    }
}
