//! Resource limits.

use std::io;

use crate::sys::cvt;

/// What a limit is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Descriptors: one more than the highest number.
    OpenFiles,
    /// Processes and threads of the user.
    Processes,
    /// Bytes of a core file.
    Core,
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of a file.
    FileSize,
}

impl Resource {
    /// The number as the kernel knows it.
    pub(super) fn number(self) -> libc::c_long {
        let number = match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::Core => libc::RLIMIT_CORE,
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::FileSize => libc::RLIMIT_FSIZE,
        };
        libc::c_long::from(number.cast_signed_number())
    }
}

/// The C libraries disagree about the sign of a resource's number.
trait SignedNumber {
    fn cast_signed_number(self) -> libc::c_int;
}

impl SignedNumber for libc::c_uint {
    fn cast_signed_number(self) -> libc::c_int {
        self.cast_signed()
    }
}

impl SignedNumber for libc::c_int {
    fn cast_signed_number(self) -> libc::c_int {
        self
    }
}

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// A soft limit, which is in force, and the hard limit up to which it may be raised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// This process's limit.
///
/// # Errors
///
/// None that can be met: every [`Resource`] exists on every kernel.
pub fn limit(resource: Resource) -> io::Result<Limit> {
    let mut limit = [0; 2];
    exchange(resource, std::ptr::null(), &raw mut limit)?;
    Ok(Limit { soft: limit[0], hard: limit[1] })
}

/// Sets this process's limit.
///
/// # Errors
///
/// `EPERM` when the hard limit would grow and we are not root; `EINVAL` when soft is above hard.
pub fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let new = [limit.soft, limit.hard];
    exchange(resource, &raw const new, std::ptr::null_mut())
}

/// By raw call with the 64-bit form, so that 32-bit hosts see the same numbers.
fn exchange(resource: Resource, new: *const [u64; 2], old: *mut [u64; 2]) -> io::Result<()> {
    let itself: libc::c_long = 0;
    // SAFETY: both pointers are null or valid for the kernel's `struct rlimit64`, two 64-bit
    // numbers, for the whole call.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, itself, resource.number(), new, old) };
    crate::sys::cvt_long(result).map(drop)
}

/// Raises the soft limit of open files to the hard limit. Answers the soft limit from before, for
/// the children: programs that use `select(2)` break with descriptors above 1023.
///
/// # Errors
///
/// As [`set_limit`]; nothing has changed then.
pub fn raise_nofile() -> io::Result<u64> {
    let before = limit(Resource::OpenFiles)?;
    if before.soft < before.hard {
        set_limit(Resource::OpenFiles, Limit { soft: before.hard, hard: before.hard })?;
    }
    Ok(before.soft)
}

/// How many descriptors this process may have: the soft limit.
#[must_use]
pub fn nofile() -> u64 {
    // The usual limit, where the kernel does not say.
    limit(Resource::OpenFiles).map_or(1024, |limit| limit.soft)
}

/// How many processors this process may run on.
#[must_use]
pub fn processors() -> usize {
    // SAFETY: `cpu_set_t` is an array of bits, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writes of its own size for the whole call.
    let result =
        cvt(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) });
    // SAFETY: `set` is a valid set; counts bits.
    let count = result.map_or(1, |_| unsafe { libc::CPU_COUNT(&set) });
    usize::try_from(count).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let before = limit(Resource::OpenFiles).unwrap();
        assert_eq!(raise_nofile().unwrap(), before.soft);
        let after = limit(Resource::OpenFiles).unwrap();
        assert_eq!((after.soft, after.hard), (before.hard, before.hard));
        assert_eq!(nofile(), before.hard);
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused() {
        let now = limit(Resource::Core).unwrap();
        let bad = Limit { soft: 2, hard: 1 };
        let error = set_limit(Resource::Core, bad).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(limit(Resource::Core).unwrap(), now);
    }

    #[test]
    fn processors_are_counted() {
        assert!(processors() >= 1);
    }
}
