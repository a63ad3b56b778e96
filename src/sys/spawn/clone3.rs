//! A child born in a control group: `clone3` with `CLONE_INTO_CGROUP` (Linux 5.7).
//!
//! The C library has no wrapper for it. With `CLONE_VM` the child begins on another stack in the
//! middle of our code, so the call and the child's first steps are written in assembly.

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::sys::spawn::{Stack, child};

/// Whether this architecture has what is needed.
pub(super) const IS_HERE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `linux/sched.h`; not in every version of the C library's headers.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` up to the control group (`CLONE_ARGS_SIZE_VER2`).
#[repr(C)]
#[derive(Default)]
struct Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// As `libc::clone` of [`child::run`], but into `cgroup`, a directory. `flags` without a signal.
///
/// # Errors
///
/// `ENOSYS`: not here. `EBUSY`, `EOPNOTSUPP`: the group takes no processes. `EAGAIN`: it has as
/// many as it may.
pub(super) fn into_cgroup(
    job: &mut child::Job<'_>,
    flags: c_int,
    stack: &Stack,
    cgroup: BorrowedFd<'_>,
) -> io::Result<c_int> {
    let args = Args {
        flags: u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: stack.base.expose_provenance() as u64,
        stack_size: Stack::SIZE as u64,
        cgroup: u64::from(cgroup.as_raw_fd().cast_unsigned()),
        ..Args::default()
    };
    // SAFETY: `args` is valid for the call and says its size; the job outlives the child's use of
    // it, and the stack is unused by anyone else: see `Spawner::clone_child`. The flags have
    // CLONE_VM and CLONE_VFORK.
    let result = unsafe { call(&args, ptr::from_mut(job).cast()) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(c_int::try_from(-result).unwrap_or(libc::EINVAL)));
    }
    c_int::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EAGAIN))
}

/// The call; in the child [`child::run`], which never returns.
#[cfg(target_arch = "x86_64")]
unsafe fn call(args: &Args, job: *mut c_void) -> c_long {
    let result;
    // SAFETY: the caller answers for the call. The parent comes out with the registers as the
    // compiler was told; the child leaves only by ending.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<Args>(),
            in("r12") child::run as extern "C" fn(*mut c_void) -> c_int,
            in("r13") job,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As on the other architecture.
#[cfg(target_arch = "aarch64")]
unsafe fn call(args: &Args, job: *mut c_void) -> c_long {
    let result;
    // SAFETY: as on the other architecture.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            inlateout("x0") ptr::from_ref(args) => result,
            in("x1") size_of::<Args>(),
            in("x8") libc::SYS_clone3,
            in("x20") child::run as extern "C" fn(*mut c_void) -> c_int,
            in("x21") job,
        );
    }
    result
}

/// Without it there is nothing to call.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn call(_: &Args, _: *mut c_void) -> c_long {
    -c_long::from(libc::ENOSYS)
}
