//! Control groups, version 2: one per child where the host lets us.
//!
//! No controllers are used: a group is only the sure way to find and end everything a child has
//! started, whatever sessions and parents it gave itself. Plain file I/O.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::base::{Pid, Signal};
use crate::sys::{is, kill};

/// Where our children's groups are.
#[derive(Debug)]
pub struct Cgroups {
    dir: PathBuf,
}

impl Cgroups {
    /// Makes (or finds again) a group called `name` below our own. `None` where the host has no
    /// control groups of version 2, or does not let us.
    #[must_use]
    pub fn probe(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let dir = mount_point(&mounts)?.join(own_group(&own)?);
        Self::below(&dir, name)
    }

    /// Moving a child needs the right to write to the `cgroup.procs` of the group that its old and
    /// its new group have in common, which is ours.
    fn below(own: &Path, name: &str) -> Option<Self> {
        File::options().write(true).open(own.join("cgroup.procs")).ok()?;
        let dir = own.join(checked(name).ok()?);
        make(&dir).ok()?;
        let groups = Self { dir };
        File::options().write(true).open(groups.dir.join("cgroup.procs")).ok()?;
        Some(groups)
    }

    /// The directory, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the group of one child, or finds it again.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a name with a slash or a leading dot; `EAGAIN`, `ENOMEM` when there are too
    /// many.
    pub fn create(&self, name: &str) -> io::Result<Cgroup> {
        let dir = self.dir.join(checked(name)?);
        make(&dir)?;
        Ok(Cgroup { dir })
    }

    /// Removes the group of all, when it is empty.
    ///
    /// # Errors
    ///
    /// `EBUSY` while there are children in it.
    pub fn remove(&self) -> io::Result<()> {
        remove_tree(&self.dir)
    }
}

/// The group of one child and everything it has started.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// What a new child writes to in order to enter; for [`crate::sys::spawn::Spawn`].
    ///
    /// # Errors
    ///
    /// `ENOENT` if the group was removed; `EMFILE`, `ENFILE`.
    pub fn procs(&self) -> io::Result<OwnedFd> {
        File::options().write(true).open(self.dir.join("cgroup.procs")).map(OwnedFd::from)
    }

    /// Ends every process in it and below it, at once (Linux 5.14); on older kernels one by one
    /// while the group is frozen.
    ///
    /// # Errors
    ///
    /// Those of writing to the group; one that was removed is empty, which is no error.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.dir.join("cgroup.kill"), "1") {
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            Err(error) if is(&error, libc::ENOENT) && self.dir.exists() => self.kill_one_by_one(),
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn kill_one_by_one(&self) -> io::Result<()> {
        let freezer = self.dir.join("cgroup.freeze");
        fs::write(&freezer, "1")?;
        let pids = self.pids();
        for &pid in pids.iter().flatten() {
            // `ESRCH`: it ended by itself.
            let _ = kill::kill(pid, Signal::KILL);
        }
        fs::write(&freezer, "0")?;
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
        Cgroups::probe(path.file_name().unwrap().to_str().unwrap())
    }

    /// A child in the group, with a daemon that has left its session and its parent.
    fn with_daemon(group: &Cgroup) -> (Shell, Pid) {
        process::become_subreaper().unwrap();
        let procs = group.procs().unwrap();
        let spec = Spawn { cgroup_procs: Some(procs.as_fd()), ..plain() };
        let script =
            "setsid sh -c 'sh -c \"echo \\$\\$; exec env -i /bin/sleep 1000\" & exit'; read x";
        let mut shell = Shell::start(script, spec);
        let daemon = Pid::new(shell.line().parse().unwrap()).unwrap();
        (shell, daemon)
    }

    #[test]
    fn a_group_has_everything_its_child_started_and_ends_all_of_it() {
        let Some(groups) = groups() else { return };
        let group = groups.create("web-0").unwrap();
        assert!(group.is_empty().unwrap());
        for one_by_one in [false, true] {
            let (shell, daemon) = with_daemon(&group);
            assert!(!group.is_empty().unwrap());
            let mut members = group.pids().unwrap();
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
        let group = groups.create("outer").unwrap();
        let inner = Cgroup { dir: group.dir.join("inner") };
        make(&inner.dir).unwrap();
        let (shell, daemon) = with_daemon(&inner);
        assert_eq!(group.pids().unwrap().len(), 2);
        // Found again after a crash of the daemon.
        let again = groups.create("outer").unwrap();
        again.kill().unwrap();
        assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
        await_gone(daemon);
        again.remove().unwrap();
        groups.remove().unwrap();
    }

    #[test]
    fn a_host_that_does_not_let_us_has_no_groups() {
        assert!(Cgroups::below(Path::new("/proc/self"), "name").is_none());
        assert!(Cgroups::probe("a/b").is_none());
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
