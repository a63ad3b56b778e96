//! Resource limits.

use std::path::Path;
use std::{fs, io};

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

/// How many processors this process may keep busy: those that it may run on, or fewer where a
/// control group, of either version, has a quota. At least one.
#[must_use]
pub fn processors_allowed() -> usize {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(":/")?;
        let mount = match controllers {
            "" => "/sys/fs/cgroup",
            v1 if v1.split(',').any(|name| name == "cpu") => "/sys/fs/cgroup/cpu",
            _ => return None,
        };
        // In a container the upper part of the way is often not there.
        Path::new(group).ancestors().filter_map(|group| quota(&Path::new(mount).join(group))).min()
    });
    quotas.min().unwrap_or(usize::MAX).min(processors())
}

/// The quota of one control group, in whole processors, at least one.
fn quota(group: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let text = read("cpu.max").or_else(|| {
        Some(format!("{} {}", read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?))
    })?;
    // `max`, or -1 in version 1: there is none.
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse::<usize>().ok());
    Some(numbers.next()??.checked_div(numbers.next()??)?.max(1))
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

    #[test]
    fn a_quota_of_either_version_is_read_in_whole_processors() {
        let dir = crate::sys::testing::unique_path("quota");
        fs::create_dir(&dir).unwrap();
        assert_eq!(quota(&dir), None);
        fs::write(dir.join("cpu.cfs_period_us"), "100000\n").unwrap();
        for (text, expected) in [("-1\n", None), ("50000\n", Some(1)), ("399999\n", Some(3))] {
            fs::write(dir.join("cpu.cfs_quota_us"), text).unwrap();
            assert_eq!(quota(&dir), expected, "{text}");
        }
        let cases =
            [("max 100000\n", None), ("200000 100000\n", Some(2)), ("1 0\n", None), ("", None)];
        for (text, expected) in cases {
            fs::write(dir.join("cpu.max"), text).unwrap();
            assert_eq!(quota(&dir), expected, "{text}");
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!((1..=processors()).contains(&processors_allowed()));
    }
}
