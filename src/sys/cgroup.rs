//! Control groups, version 2: one per child where the host lets us.
//!
//! A group is the sure way to find and end everything a child has started, whatever sessions,
//! parents and environments it gave itself. Controllers are switched on only when somebody wants a
//! limit. Plain file I/O; a child is born in its group (`CLONE_INTO_CGROUP`), because moving a
//! process waits for a grace period of the kernel: 11 ms instead of 6 us, measured on Linux 6.18.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::{Pid, Signal};
use crate::sys::{cvt, is, kill, process};

/// Where the daemon itself goes when its group must have no processes of its own.
const LEAF: &str = "pmd-daemon";

/// Where our children's groups are.
#[derive(Debug)]
pub struct Cgroups {
    /// The group that all of this is below: the one we were started in.
    above: PathBuf,
    dir: PathBuf,
    /// `dir`, held open.
    handle: OwnedFd,
    limits: Option<Controllers>,
    /// Goes where we go.
    companion: Option<Pid>,
}

/// Which limits can be set on groups.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Controllers {
    pub memory: bool,
    pub cpu: bool,
    pub pids: bool,
}

/// Limits of one group; `None`: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GroupLimits {
    /// In bytes, page cache included.
    pub memory: Option<u64>,
    /// In percent of one core.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Cgroups {
    /// Makes (or finds again) a group called `name` below our own. `None` where the host has no
    /// control groups of version 2, or does not let us.
    ///
    /// `companion`: another process that leaves its group together with us.
    #[must_use]
    pub fn probe(name: &str, companion: Option<Pid>) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = mount_point(&mounts)?.join(own_group(&own)?);
        // Those of a daemon before us are beside the group it went to.
        let above = if own.ends_with(LEAF) { own.parent()? } else { &own };
        Self::below(above, name).map(|found| Self { companion, ..found })
    }

    /// Putting a child into a group needs the right to write to the `cgroup.procs` of the group
    /// that its old and its new group have in common, which is ours.
    fn below(above: &Path, name: &str) -> Option<Self> {
        File::options().write(true).open(above.join("cgroup.procs")).ok()?;
        let dir = above.join(checked(name).ok()?);
        make(&dir).ok()?;
        File::options().write(true).open(dir.join("cgroup.procs")).ok()?;
        let handle =
            File::options().read(true).custom_flags(libc::O_DIRECTORY).open(&dir).ok()?.into();
        Some(Self { above: above.into(), dir, handle, limits: None, companion: None })
    }

    /// The directory, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Opens the group of a child to come, for [`crate::sys::spawn::Spawn`]; makes it where there
    /// is none, and says so.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a name with a slash or a dot; `EAGAIN`, `ENOMEM` when there are too many
    /// groups; `EMFILE`, `ENFILE`.
    pub fn enter(&self, name: &str) -> io::Result<(OwnedFd, bool)> {
        match self.open(checked(name)?) {
            Err(error) if is(&error, libc::ENOENT) => {
                make(&self.dir.join(name))?;
                self.open(name).map(|group| (group, true))
            }
            other => other.map(|group| (group, false)),
        }
    }

    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let name = std::ffi::CString::new(name)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: the name is a C string that lives for the whole call.
        let fd = cvt(unsafe { libc::openat(self.handle.as_raw_fd(), name.as_ptr(), flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// The group of that name, whether there is one or not.
    #[must_use]
    pub fn group(&self, name: &str) -> Cgroup {
        Cgroup { dir: self.dir.join(name) }
    }

    /// The controllers of limits that the group above has, whether it may hand them down or not.
    #[must_use]
    pub fn offered(&self) -> Vec<String> {
        let text = fs::read_to_string(self.above.join("cgroup.controllers")).unwrap_or_default();
        let ours = |name: &&str| ["cpu", "memory", "pids"].contains(name);
        text.split_whitespace().filter(ours).map(str::to_owned).collect()
    }

    /// Makes it possible to set limits, as far as the host has and gives the controllers; which
    /// they are.
    pub fn enable_limits(&mut self) -> Controllers {
        if let Some(known) = self.limits {
            return known;
        }
        let enable = |name| self.enable(name).is_ok();
        let limits =
            Controllers { memory: enable("memory"), cpu: enable("cpu"), pids: enable("pids") };
        *self.limits.insert(limits)
    }

    /// A controller is handed down from the group above to ours, and from ours to the children's.
    fn enable(&self, controller: &str) -> io::Result<()> {
        let word = format!("+{controller}");
        let hand_down = |dir: &Path| write(&dir.join("cgroup.subtree_control"), &word);
        match hand_down(&self.above) {
            // Only a group without processes of its own may: it must be empty of us, too.
            Err(error) if is(&error, libc::EBUSY) => {
                step_aside(&self.above, self.companion)?;
                hand_down(&self.above)?;
            }
            other => other?,
        }
        hand_down(&self.dir)
    }

    /// Removes the groups in which nobody is. They are made anew when they are needed.
    pub fn remove_empty(&self) {
        for group in groups_in(&self.dir).unwrap_or_default() {
            // `EBUSY`: somebody is.
            let _ = remove_tree(&group);
        }
    }

    /// Removes all empty groups and, when none is left, that of all.
    ///
    /// # Errors
    ///
    /// `EBUSY` while there are children in it.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_empty();
        remove_tree(&self.dir)
    }
}

/// Moves this process, and its companion, out of `group` into one below it, if nobody else is there.
fn step_aside(group: &Path, companion: Option<Pid>) -> io::Result<()> {
    let ours = [Some(process::own_pid()), companion].map(|pid| pid.map(|pid| pid.to_string()));
    let there = fs::read_to_string(group.join("cgroup.procs"))?;
    if there.lines().any(|pid| !ours.iter().flatten().any(|own| own == pid)) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let leaf = group.join(LEAF);
    make(&leaf)?;
    ours.iter().flatten().try_for_each(|pid| write(&leaf.join("cgroup.procs"), pid))
}

/// The group of one child and everything it has started.
#[derive(Clone, Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// The group that a process is in, if that has this name; wherever it is.
    #[must_use]
    pub fn of(pid: Pid, name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let dir = mount_point(&mounts)?.join(own_group(&group)?);
        dir.ends_with(name).then_some(Self { dir })
    }

    /// Sets the limits, and takes away those that are `None`.
    ///
    /// # Errors
    ///
    /// `ENOENT`: its controller is not on, see [`Cgroups::enable_limits`]; `EINVAL`. The first that
    /// could not be set.
    pub fn set_limits(&self, limits: GroupLimits) -> io::Result<()> {
        // Microseconds in each tenth of a second; the kernel takes no less than 1000.
        let quota = limits.cpu.map(|percent| percent.max(1).saturating_mul(1000));
        let wanted = [
            ("memory.max", limits.memory, ""),
            ("cpu.max", quota, " 100000"),
            ("pids.max", limits.pids, ""),
        ];
        for (file, limit, rest) in wanted {
            let text = limit.map_or_else(|| format!("max{rest}"), |limit| format!("{limit}{rest}"));
            match write(&self.dir.join(file), &text) {
                Err(error) if limit.is_none() && is(&error, libc::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Ends every process in it and below it, at once (Linux 5.14); on older kernels one by one
    /// while the group is frozen. Nobody can be born in it any more: it is to be removed.
    ///
    /// # Errors
    ///
    /// Those of writing to the group; one that was removed is empty, which is no error.
    pub fn kill(&self) -> io::Result<()> {
        match write(&self.dir.join("cgroup.kill"), "1") {
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            Err(error) if is(&error, libc::ENOENT) && self.dir.exists() => self.kill_one_by_one(),
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn kill_one_by_one(&self) -> io::Result<()> {
        let freezer = self.dir.join("cgroup.freeze");
        write(&freezer, "1")?;
        let pids = self.pids();
        for &pid in pids.iter().flatten() {
            // `ESRCH`: it ended by itself.
            let _ = kill::kill(pid, Signal::KILL);
        }
        write(&freezer, "0")?;
        pids.map(drop)
    }

    /// Whether no living process is in it or below it. A group that was removed is empty.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub fn is_empty(&self) -> io::Result<bool> {
        match fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 0")),
            Err(error) if is(&error, libc::ENOENT) || is(&error, libc::ENODEV) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The processes in it and below it.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub fn pids(&self) -> io::Result<Vec<Pid>> {
        let mut found = vec![];
        collect(&self.dir, &mut found)?;
        Ok(found)
    }

    /// Removes the group and those that its processes made in it. One that was removed is no
    /// error.
    ///
    /// # Errors
    ///
    /// `EBUSY` while there are processes in it.
    pub fn remove(&self) -> io::Result<()> {
        remove_tree(&self.dir)
    }
}

/// Into a file that the kernel has made, or not.
fn write(file: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(file)?.write_all(text.as_bytes())
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if is(&error, libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// A name that stays where it is put and cannot be one of the kernel's files (those have a dot).
fn checked(name: &str) -> io::Result<&str> {
    let fit = !name.is_empty() && !name.contains(['/', '.', '\n', '\0']);
    fit.then_some(name).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn collect(dir: &Path, found: &mut Vec<Pid>) -> io::Result<()> {
    let text = match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => text,
        Err(error) if is(&error, libc::ENOENT) || is(&error, libc::ENODEV) => return Ok(()),
        // A threaded group has no processes of its own: they are listed above it.
        Err(error) if is(&error, libc::EOPNOTSUPP) => String::new(),
        Err(error) => return Err(error),
    };
    found.extend(text.lines().filter_map(|line| line.parse().ok().and_then(Pid::new)));
    for below in groups_in(dir)? {
        collect(&below, found)?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for below in groups_in(dir)? {
        remove_tree(&below)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if is(&error, libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn groups_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is(&error, libc::ENOENT) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let groups = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path())
    });
    Ok(groups.collect())
}

/// Where version 2 is mounted: alone at `/sys/fs/cgroup`, or beside version 1. Spaces in a path
/// are written as `\040`; such a mount is passed over.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        (fields.next()? == "cgroup2" && !point.contains('\\')).then(|| point.into())
    })
}

/// Our own group, below the mount point; `None` for one outside our namespace.
fn own_group(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.split('/').any(|part| part == "..") && !path.ends_with(" (deleted)")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ExitStatus;
    use crate::sys::spawn::Spawn;
    use crate::sys::testing::{Shell, await_gone, plain, unique_path};
    use crate::sys::{process, wait};
    use std::os::fd::AsFd;

    const KILLED: ExitStatus = ExitStatus::Signal { signal: Signal::KILL, core: false };

    /// Groups of the test's own; `None` where the host does not let us.
    fn groups() -> Option<Cgroups> {
        let path = unique_path("groups");
        Cgroups::probe(path.file_name().unwrap().to_str().unwrap(), None)
    }

    /// A child in the group, with a daemon that has left its session and its parent.
    fn with_daemon(group: &Cgroup) -> (Shell, Pid) {
        process::become_subreaper().unwrap();
        let name = group.dir.file_name().unwrap().to_str().unwrap();
        let handle = File::open(&group.dir).unwrap();
        let spec = Spawn { cgroup: Some(handle.as_fd()), ..plain() };
        let script =
            "setsid sh -c 'sh -c \"echo \\$\\$; exec env -i /bin/sleep 60\" & exit'; read x";
        let mut shell = Shell::start(script, spec);
        let daemon = Pid::new(shell.line().parse().unwrap()).unwrap();
        assert_eq!(Cgroup::of(shell.pid, name).unwrap().dir, group.dir);
        assert!(Cgroup::of(daemon, "other").is_none());
        (shell, daemon)
    }

    #[test]
    fn a_group_has_everything_its_child_started_and_ends_all_of_it() {
        let Some(groups) = groups() else { return };
        let (_, made) = groups.enter("web-0").unwrap();
        assert!(made && !groups.enter("web-0").unwrap().1);
        let group = groups.group("web-0");
        assert!(group.is_empty().unwrap());
        for one_by_one in [true, false] {
            let (shell, daemon) = with_daemon(&group);
            assert!(!group.is_empty().unwrap());
            let mut members = group.pids().unwrap();
            // The shell between them may not have ended yet.
            while members.len() > 2 {
                std::thread::yield_now();
                members = group.pids().unwrap();
            }
            members.sort_unstable();
            let mut expected = [shell.pid, daemon];
            expected.sort_unstable();
            assert_eq!(members, expected);
            assert!(is(&group.remove().unwrap_err(), libc::EBUSY));
            if one_by_one { group.kill_one_by_one() } else { group.kill() }.unwrap();
            assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
            await_gone(daemon);
            assert!(group.is_empty().unwrap());
        }
        // Whoever would be born into a group that was killed is born beside it.
        let handle = File::open(&group.dir).unwrap();
        let shell = Shell::start("echo alive", Spawn { cgroup: Some(handle.as_fd()), ..plain() });
        assert_eq!(shell.finish(), ("alive\n".to_owned(), ExitStatus::Code(0)));
        group.remove().unwrap();
        group.remove().unwrap();
        group.kill().unwrap();
        assert!(group.is_empty().unwrap());
        assert_eq!(group.pids().unwrap(), []);
        groups.remove().unwrap();
    }

    #[test]
    fn groups_inside_a_group_belong_to_it() {
        let Some(groups) = groups() else { return };
        groups.enter("outer").unwrap();
        let group = groups.group("outer");
        let inner = Cgroup { dir: group.dir.join("inner") };
        make(&inner.dir).unwrap();
        let (shell, daemon) = with_daemon(&inner);
        assert_eq!(group.pids().unwrap().len(), 2);
        // Found again after a crash of the daemon.
        groups.remove_empty();
        let again = groups.group("outer");
        again.kill().unwrap();
        assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
        await_gone(daemon);
        groups.remove().unwrap();
        assert!(!groups.path().exists());
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let dir = unique_path("limits");
        fs::create_dir(&dir).unwrap();
        let group = Cgroup { dir: dir.clone() };
        for file in ["memory.max", "cpu.max"] {
            fs::write(dir.join(file), "").unwrap();
        }
        let limits = GroupLimits { memory: Some(1 << 20), cpu: Some(50), pids: None };
        group.set_limits(limits).unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("cpu.max"), "50000 100000");
        let with_pids = GroupLimits { pids: Some(7), ..limits };
        assert!(is(&group.set_limits(with_pids).unwrap_err(), libc::ENOENT));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_controller_that_the_host_gives_is_handed_down() {
        let Some(groups) = groups() else { return };
        let given = fs::read_to_string(groups.above.join("cgroup.controllers")).unwrap();
        let Some(one) = given.split_whitespace().next() else { return groups.remove().unwrap() };
        let before = fs::read_to_string(groups.above.join("cgroup.subtree_control")).unwrap();
        if groups.enable(one).is_ok() {
            let own = fs::read_to_string(groups.dir.join("cgroup.subtree_control")).unwrap();
            assert_eq!(own.trim(), one);
        }
        assert!(groups.enable("nonsense").is_err());
        groups.remove().unwrap();
        if !before.split_whitespace().any(|name| name == one) {
            let _ = fs::write(groups.above.join("cgroup.subtree_control"), format!("-{one}"));
        }
    }

    #[test]
    fn a_host_that_does_not_let_us_has_no_groups() {
        assert!(Cgroups::below(Path::new("/proc/self"), "name").is_none());
        assert!(Cgroups::probe("a/b", None).is_none());
    }

    #[test]
    fn the_mount_of_version_2_is_found_alone_and_beside_version_1() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            mount_point("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"),
            Some("/sys/fs/cgroup".into())
        );
        assert_eq!(mount_point("cgroup2 /a\\040b cgroup2 rw 0 0\n"), None);
        assert_eq!(mount_point("\n \ncgroup2"), None);
    }

    #[test]
    fn our_own_group_is_below_the_mount() {
        assert_eq!(own_group("4:memory:/x\n0::/user.slice/a\n"), Some("user.slice/a"));
        assert_eq!(own_group("0::/\n"), Some(""));
        assert_eq!(own_group("0::/../outside\n"), None);
        assert_eq!(own_group("1:name=systemd:/\n"), None);
    }

    #[test]
    fn a_name_cannot_leave_or_meet_the_files_of_the_kernel() {
        for name in ["", "..", "a/b", "cgroup.procs", ".a", "a\nb"] {
            assert!(checked(name).is_err(), "{name}");
        }
        assert!(checked("web-3").is_ok());
    }
}
