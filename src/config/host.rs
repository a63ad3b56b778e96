//! What this host says about users, mounts and limits, in the sentences of a preflight.
//!
//! Reads user tables and `/proc`; changes nothing.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::SpawnError;
use crate::config::problem::{Kind, Problem, shorten};
use crate::supervisor::spec::AppSpec;
use crate::sys::process::{effective_gid, effective_uid};
use crate::sys::{limits, users};

// Linux error numbers.
pub(super) const E2BIG: i32 = 7;
pub(super) const ENOEXEC: i32 = 8;
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Whether this error number says "you may not".
pub(super) fn is_denied(errno: i32) -> bool {
    matches!(errno, EPERM | EACCES)
}

/// Whether a path leads nowhere.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether user and group of an app exist and may be taken on. Tables that cannot be read are for
/// the spawn to tell.
pub(super) fn check_accounts(spec: &AppSpec) -> Result<(), Problem> {
    let account = match &spec.user {
        Some(name) => match users::user(name) {
            Ok(Some(account)) => Some(account),
            Ok(None) => return Err(no_such("user", name)),
            Err(_) => return Ok(()),
        },
        None => None,
    };
    let gid = match &spec.group {
        Some(name) => match users::group(name) {
            Ok(Some(gid)) => Some(gid),
            Ok(None) => return Err(no_such("group", name)),
            Err(_) => return Ok(()),
        },
        None => None,
    };
    let own = effective_uid();
    let is_other_user = account.as_ref().is_some_and(|account| account.uid != own);
    let is_other_group = gid.is_some_and(|gid| gid != effective_gid());
    if own != 0 && (is_other_user || is_other_group) {
        return Err(not_root(spec));
    }
    match account {
        Some(account) if account.gid.is_none() && gid.is_none() => {
            let message = format!("cannot run as user '{}': it has no group", account.name);
            Err(Problem::new(message).of_kind(Kind::NotPermitted).hint("give a 'group' too"))
        }
        Some(_) | None => Ok(()),
    }
}

fn no_such(what: &str, name: &str) -> Problem {
    Problem::new(format!("cannot run as {what} '{}': there is no such {what}", shorten(name)))
        .of_kind(Kind::NotPermitted)
}

/// The daemon cannot become another user.
pub(super) fn not_root(spec: &AppSpec) -> Problem {
    let (what, name) = match (&spec.user, &spec.group) {
        (Some(user), _) => ("user", user.as_str()),
        (None, Some(group)) => ("group", group.as_str()),
        (None, None) => ("user", ""),
    };
    let message = format!("cannot run as {what} '{}': the daemon is not root", shorten(name));
    Problem::new(message)
        .of_kind(Kind::NotPermitted)
        .hint("sudo pmd startup, then pmd --system start ...")
}

/// Who may do what with a file, and who wants to: `mode 0644, user 'www'`.
pub(super) fn mode_and_user(file: &Path, spec: &AppSpec) -> String {
    let user = spec.user.clone().unwrap_or_else(|| {
        let uid = effective_uid();
        let user = users::user_by_id(uid).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    });
    match std::fs::metadata(file) {
        Ok(metadata) => format!("mode {:04o}, user '{}'", metadata.mode() & 0o7777, shorten(&user)),
        Err(_) => format!("user '{}'", shorten(&user)),
    }
}

/// Whether the file system of `file` was mounted without the right to execute.
pub(super) fn is_mounted_noexec(file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else { return false };
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    noexec_of(&file, &mounts)
}

/// The mount that holds `file` is the last one of those with the longest mount point.
fn noexec_of(file: &Path, mounts: &str) -> bool {
    let mut longest = 0;
    let mut noexec = false;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(point), Some(options)) = (words.nth(4), words.next()) else { continue };
        let point = unescape(point);
        let length = point.as_os_str().len();
        if file.starts_with(&point) && length >= longest {
            longest = length;
            noexec = options.split(',').any(|option| option == "noexec");
        }
    }
    noexec
}

/// Undoes the octal escapes of `proc_pid_mountinfo(5)`.
fn unescape(text: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let text = plain.iter().fold(text.to_owned(), |text, (code, c)| text.replace(code, c));
    PathBuf::from(text)
}

/// Whether the kernel was taught formats of other systems or machines (`binfmt_misc`): then only
/// trying tells what runs.
pub(super) fn has_foreign_formats() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/sys/fs/binfmt_misc") else { return false };
    entries.flatten().any(|entry| entry.file_name() != "register" && entry.file_name() != "status")
}

/// The sentence for a daemon that has run out of descriptors.
pub(super) fn out_of_descriptors(error: SpawnError) -> Option<Problem> {
    let message = match error.errno {
        EMFILE => {
            // Not counted: a few are kept for the daemon itself, and the same sentence for all that
            // failed is told once.
            let limit = limits::nofile();
            format!("out of file descriptors ({limit} of {limit})")
        }
        ENFILE => "the host is out of file descriptors".to_owned(),
        _ => return None,
    };
    Some(Problem::new(message).of_kind(Kind::Failed).hint("LimitNOFILE in the unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw\n\
            2 1 0:5 / /srv rw,nosuid,noexec - tmpfs tmpfs rw\n\
            3 2 0:6 / /srv/a\\040b rw - tmpfs tmpfs rw\n\
            broken line\n";
        assert!(!noexec_of(Path::new("/bin/sh"), mounts));
        assert!(noexec_of(Path::new("/srv/app"), mounts));
        assert!(!noexec_of(Path::new("/srv/a b/app"), mounts));
        assert!(!noexec_of(Path::new("/srvx"), mounts));
    }
}
