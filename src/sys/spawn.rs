//! Children: clone and exec with a clean slate.
//!
//! The child borrows the daemon's memory (`CLONE_VM`) and holds the calling thread (`CLONE_VFORK`)
//! until its `execve` has succeeded or failed; nothing is copied, so a start takes the same time
//! however large the daemon is. It runs on a stack of its own, mapped once, and because memory is
//! shared it reports a failure by writing the stage and the error number to a field that the
//! parent reads: no pipe, no further system call.
//!
//! The price of shared memory: between clone and exec there are raw system calls and nothing else
//! (`child.rs`). All signals are blocked around it, so that no handler of this program runs in
//! the child. A child that changes its user is made non-dumpable first: until its `execve` it
//! still shares our memory, and its new user must not be able to read that with a debugger.
//!
//! Everything that can be prepared is prepared by the caller: the program is a path, not a name to
//! look up. A spawn allocates nothing once the spawner's tables have reached their size.

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;

use crate::base::{Pid, SpawnError, Stage};
use crate::sys::args::CArgs;
use crate::sys::limits::Resource;
use crate::sys::signals::NotDefault;
use crate::sys::users::Credentials;
use crate::sys::{cvt, fds, is, wait};

mod child;
mod clone3;

/// What a child is to be: everything else is empty, closed or default.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// The file to execute; not looked up in `PATH`. Relative to `cwd`.
    pub program: &'a CStr,
    /// The arguments, the program's own name first.
    pub args: &'a CArgs,
    /// The whole environment, as `NAME=value`.
    pub env: &'a CArgs,
    /// Entered with the child's credentials.
    pub cwd: &'a CStr,
    /// `(number in the child, descriptor here)`; everything else is closed. Whoever leaves out 0,
    /// 1 or 2 gives the child a closed one.
    pub fds: &'a [(i32, BorrowedFd<'a>)],
    /// Another user. `None`: stay who we are.
    pub credentials: Option<&'a Credentials>,
    pub umask: Option<u32>,
    /// -20 to 19, absolute.
    pub nice: Option<i32>,
    /// -1000 to 1000, absolute.
    pub oom_score_adj: Option<i32>,
    /// Soft and hard limit alike. But of [`Resource::OpenFiles`] the soft one, and the hard one
    /// only where it is lower: programs that know how raise their own.
    pub rlimits: &'a [(Resource, u64)],
    /// `SIGKILL` for the child when the *thread* that spawned it ends.
    pub die_with_parent: bool,
    /// The directory of the control group it is born in. Where the kernel cannot do that (Linux
    /// 5.7, and only on some architectures), it is born where we are; see [`Spawned`].
    pub cgroup: Option<BorrowedFd<'a>>,
    /// It also finds its own pid in the variable `LISTEN_PID`, as `sd_listen_fds(3)` wants it.
    pub listen_pid: bool,
    /// Neither the child nor its children gain rights by executing a set-user-ID program.
    pub no_new_privs: bool,
}

impl<'a> Spawn<'a> {
    /// A child that inherits user, limits, umask and priority and has no descriptors.
    #[must_use]
    pub fn new(program: &'a CStr, args: &'a CArgs, env: &'a CArgs, cwd: &'a CStr) -> Self {
        Self {
            program,
            args,
            env,
            cwd,
            fds: &[],
            credentials: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            rlimits: &[],
            die_with_parent: false,
            cgroup: None,
            listen_pid: false,
            no_new_privs: false,
        }
    }
}

/// A child that executes its program.
#[derive(Debug)]
pub struct Spawned {
    pub pid: Pid,
    /// It is in the control group that was asked for.
    pub in_cgroup: bool,
}

/// Starts children. Keeps the stack they begin on and the tables they need.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// Where a child writes the variable that only it knows the value of.
    listen_pid: Box<child::ListenPid>,
    fds: Vec<child::Move>,
    not_default: NotDefault,
    has_close_range: bool,
    /// Until the kernel, or a filter in front of it, says otherwise.
    has_clone3: bool,
    low: Low,
    /// Whether this process is to be dumpable.
    dumpable: bool,
}

// SAFETY: the pointers in the tables are used only inside `spawn`, which fills them anew; the
// stack belongs to the spawner alone.
unsafe impl Send for Spawner {}

impl Spawner {
    /// Maps the stack.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            stack: Stack::new()?,
            argv: vec![],
            envp: vec![],
            listen_pid: Box::new(child::ListenPid::new()),
            fds: vec![],
            not_default: NotDefault::new(),
            has_close_range: child::has_close_range(),
            has_clone3: clone3::IS_HERE,
            low: Low::reserve(),
            dumpable: *DUMPABLE.get_or_init(dumpable),
        })
    }

    /// Gives back the memory that the last child began on.
    pub fn rest(&mut self) {
        // SAFETY: the mapping is ours, and no child is on it: `spawn` has returned. The guard has no
        // memory to give back.
        unsafe { libc::madvise(self.stack.base, Stack::SIZE, libc::MADV_DONTNEED) };
    }

    /// Starts one child. Holds the calling thread until the program is executed: some 50
    /// microseconds when it is cached, longer from slow storage.
    ///
    /// The child leads a session and a process group of its own; all signals have their default
    /// disposition and none is blocked.
    ///
    /// # Errors
    ///
    /// The stage that failed and its error number. There is no child then, and none to reap.
    pub fn spawn(&mut self, spec: &Spawn<'_>) -> Result<Spawned, SpawnError> {
        spec.args.point(&mut self.argv);
        spec.env.point(&mut self.envp);
        let listen_pid = spec.listen_pid.then_some(&raw mut *self.listen_pid);
        if let (Some(variable), Some(end)) = (listen_pid, self.envp.last_mut()) {
            *end = variable.cast_const().cast();
            self.envp.push(ptr::null());
        }
        self.fds.clear();
        self.fds.extend(
            spec.fds.iter().map(|(target, source)| child::Move {
                target: *target,
                source: source.as_raw_fd(),
            }),
        );
        let shared_below = if self.has_close_range { self.low.lend(&mut self.fds) } else { None };
        let mut job = child::Job {
            program: spec.program.as_ptr(),
            argv: self.argv.as_ptr(),
            envp: self.envp.as_ptr(),
            cwd: spec.cwd.as_ptr(),
            fds: self.fds.as_mut_ptr(),
            fd_count: self.fds.len(),
            fd_floor: spec
                .fds
                .iter()
                .map(|(target, _)| target.saturating_add(1))
                .max()
                .unwrap_or(0),
            fd_highest: if self.has_close_range { None } else { Some(fds::highest_open()) },
            shared_below,
            listen_pid,
            spec,
            not_default: self.not_default.get(),
            parent: std::process::id(),
            report: child::Report::default(),
            begun: child::Begun::default(),
        };
        // A change of user makes the shared memory, so also this process, non-dumpable.
        let result = self.clone_child(&mut job);
        if shared_below.is_some() {
            self.low.take_back(job.fd_count);
        }
        if spec.credentials.is_some() && self.dumpable {
            set_dumpable();
        }
        let spawned = result.map_err(|error| SpawnError {
            stage: Stage::Fork,
            errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
        })?;
        match job.report.take() {
            None => Ok(spawned),
            Some(failure) => {
                // Another thread that reaps whatever ended may have been quicker: all the same.
                let _ = wait::wait_for(spawned.pid);
                Err(failure)
            }
        }
    }

    fn clone_child(&mut self, job: &mut child::Job<'_>) -> io::Result<Spawned> {
        let files = if job.shared_below.is_some() { libc::CLONE_FILES } else { 0 };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | files;
        let _blocked = Blocked::all();
        let cgroup = job.spec.cgroup.filter(|_| self.has_clone3);
        if let Some(cgroup) = cgroup {
            match clone3::into_cgroup(job, flags, &self.stack, cgroup) {
                Ok(raw) if job.begun.get() => return spawned(raw, true),
                // Killed at birth, as in every group that was killed by `cgroup.kill` before: seen
                // with Linux 6.18.
                Ok(raw) => drop(wait::wait_for(spawned(raw, true)?.pid)),
                // Limits of the group are for the child to meet, not to be got round.
                Err(error) if is(&error, libc::EAGAIN) || is(&error, libc::ENOMEM) => {
                    return Err(error);
                }
                Err(error) => self.has_clone3 = !is(&error, libc::ENOSYS),
            }
        }
        let (flags, stack) = (flags | libc::SIGCHLD, self.stack.top());
        // SAFETY: `child::run` gets a pointer to `job`, which outlives the child's use of it
        // because CLONE_VFORK holds this thread until the child has executed or ended. The stack is
        // ours, unused by anyone else (`&mut self`) and large enough for a few calls. The child
        // shares our memory and does only raw system calls, see `child.rs`.
        let raw = cvt(unsafe {
            libc::clone(child::run, stack, flags, ptr::from_mut(job).cast::<c_void>())
        })?;
        spawned(raw, false)
    }
}

/// What `clone` gave.
fn spawned(raw: libc::c_int, in_cgroup: bool) -> io::Result<Spawned> {
    let pid = Pid::new(raw).ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
    Ok(Spawned { pid, in_cgroup })
}

/// Low descriptor numbers kept for children to come.
///
/// A child gets a copy of its parent's table of descriptors, which takes long when that has
/// thousands. So where there are many, the child shares the table and makes a copy of its lowest
/// part alone; what it needs is put there before.
#[derive(Debug, Default)]
struct Low {
    /// The null device under numbers of ours, ascending; empty: there was none to be had.
    slots: Vec<OwnedFd>,
}

/// So many descriptors a child may be given this way.
const LOW_SLOTS: usize = 8;
/// Below this number a copy of the whole table costs next to nothing.
const FEW: RawFd = 128;

impl Low {
    fn reserve() -> Self {
        let slots: io::Result<Vec<OwnedFd>> = (0..LOW_SLOTS).map(|_| fds::null_device()).collect();
        let slots = slots.unwrap_or_default();
        if slots.iter().all(|slot| slot.as_raw_fd() < FEW) {
            Self { slots }
        } else {
            Self::default()
        }
    }

    /// Puts what the child needs into the slots, and says below which number all of it is. `None`:
    /// it is not worth it, or cannot be done; nothing has changed then.
    fn lend(&self, moves: &mut [child::Move]) -> Option<RawFd> {
        let worth = moves.iter().any(|entry| entry.source >= FEW);
        let fits = moves.len() < self.slots.len() && moves.iter().all(|entry| entry.target < FEW);
        if !worth || !fits {
            return None;
        }
        for (entry, slot) in moves.iter().zip(&self.slots) {
            if put(entry.source, slot.as_raw_fd()).is_err() {
                self.take_back(moves.len());
                return None;
            }
        }
        for (entry, slot) in moves.iter_mut().zip(&self.slots) {
            entry.source = slot.as_raw_fd();
        }
        self.slots.last().map(|slot| slot.as_raw_fd() + 1)
    }

    /// The slots hold nothing of the child's any more. The last one never does: it is what the
    /// others are filled with.
    fn take_back(&self, count: usize) {
        let Some((spare, lent)) = self.slots.split_last() else { return };
        for slot in lent.iter().take(count) {
            let _ = put(spare.as_raw_fd(), slot.as_raw_fd());
        }
    }
}

/// Makes the descriptor `number` mean what `source` means; close-on-exec.
fn put(source: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: both are descriptors of ours; what `number` meant before is given up by its owner.
    cvt(unsafe { libc::dup3(source, number, libc::O_CLOEXEC) }).map(drop)
}

/// Becomes another program: the same process, with all descriptors that are not close-on-exec.
/// Comes back only with the reason why it could not.
pub fn replace(program: &CStr, args: &CArgs, env: &CArgs) -> io::Error {
    let (mut argv, mut envp) = (vec![], vec![]);
    args.point(&mut argv);
    env.point(&mut envp);
    // SAFETY: the program is a C string, and both tables point to such and end with a null pointer;
    // all of it lives for the whole call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Starts a program that outlives this one: in a session of its own, in `/`, with the null device
/// as its standard streams. `ready` is a descriptor it gets besides, under the given number, for
/// telling that it is ready.
///
/// When the caller ends, the program becomes a child of the nearest subreaper or of process 1.
///
/// # Errors
///
/// As [`Spawner::spawn`]; [`Stage::Prepare`] if the null device cannot be opened.
pub fn detach(
    program: &CStr,
    args: &CArgs,
    env: &CArgs,
    ready: Option<(i32, BorrowedFd<'_>)>,
) -> Result<Pid, SpawnError> {
    let prepare = |error: io::Error| SpawnError {
        stage: Stage::Prepare,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let null = fds::null_device().map_err(prepare)?;
    let null = std::os::fd::AsFd::as_fd(&null);
    let streams = [(0, null), (1, null), (2, null)];
    let fds: Vec<_> = streams.into_iter().chain(ready).collect();
    let spec = Spawn { fds: &fds, ..Spawn::new(program, args, env, c"/") };
    Spawner::new().map_err(prepare)?.spawn(&spec).map(|spawned| spawned.pid)
}

/// The stack children begin on, with a page below it that cannot be touched.
#[derive(Debug)]
struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// Guard included. Of this a child touches some 4 KiB; a page may have 64 KiB.
    const SIZE: usize = 192 * 1024;

    fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the mapping is ours, and this is its lowest page (a longer one than the length
        // given is rounded up to).
        cvt(unsafe { libc::mprotect(base, 1, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// Where the stack begins: it grows down on every architecture pmd builds for. Pages are
    /// aligned more strictly than any of them asks.
    pub(self) fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(Self::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child is on it: `spawn` has returned.
        unsafe { libc::munmap(self.base, Self::SIZE) };
    }
}

/// All signals blocked in this thread, until dropped.
struct Blocked {
    before: u64,
}

impl Blocked {
    fn all() -> Self {
        Self { before: set_mask(u64::MAX) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// By raw call: the C library's wrapper leaves its own signals unblocked, whose handlers must not
/// run in the child either.
fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both sets are valid for the call and have the 8 bytes that the last argument says.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::c_long::from(libc::SIG_SETMASK),
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}

/// What it was before the first child, which could have changed it.
static DUMPABLE: OnceLock<bool> = OnceLock::new();

fn dumpable() -> bool {
    // SAFETY: reads a flag of this process, touches no memory.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

fn set_dumpable() {
    // SAFETY: sets a flag of this process, touches no memory.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

#[cfg(test)]
mod tests;
