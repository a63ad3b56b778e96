//! Paths given by configuration, and where they lead.
//!
//! Where another user may write in one of the directories on the way, that user could put a
//! symbolic link there and have root write, rename or remove files elsewhere. So root goes the way
//! itself, directory by directory: links are followed only out of directories that are root's alone.
//! What is found is held open, and the path to use leads through that descriptor, whatever
//! becomes of the names. For everybody else a path is just a path.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::sys::{fds, is, process};

/// Links followed on one way; as many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// A file that may be there or not, in a directory that is.
#[derive(Debug)]
pub struct Route {
    path: PathBuf,
    directory: Option<OwnedFd>,
}

impl Route {
    /// The way to `path`, which is absolute.
    ///
    /// # Errors
    ///
    /// Those of entering the directories on the way; a link that somebody else may have made.
    pub fn to(path: &Path) -> io::Result<Self> {
        Self::find(path, Wish { follow: true, make: false })
    }

    /// As [`Self::to`], but to the very name: a link there is meant itself, not where it leads.
    ///
    /// # Errors
    ///
    /// Those of entering the directories on the way; a link among them that somebody else may have
    /// made.
    pub fn to_name(path: &Path) -> io::Result<Self> {
        Self::find(path, Wish { follow: false, make: false })
    }

    /// As [`Self::to`]; makes the directories that are missing, with mode 0750.
    ///
    /// # Errors
    ///
    /// As [`Self::to`], and those of making a directory.
    pub fn made_to(path: &Path) -> io::Result<Self> {
        Self::find(path, Wish { follow: true, make: true })
    }

    fn find(path: &Path, wish: Wish) -> io::Result<Self> {
        if process::effective_uid() == 0 {
            return walk(path, wish);
        }
        if wish.make
            && let Some(parent) = path.parent()
        {
            DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
        }
        Ok(Self { path: path.into(), directory: None })
    }

    /// What to give to calls that follow no link in the last place, as long as this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file; does not wait for the other end of a FIFO.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`; `ELOOP` for a link that somebody else may have made.
    pub fn open(&self, options: &mut OpenOptions) -> io::Result<File> {
        let follow = if self.directory.is_some() { fds::NOFOLLOW } else { 0 };
        options.custom_flags(follow | libc::O_NONBLOCK | libc::O_NOCTTY).open(&self.path)
    }
}

#[derive(Clone, Copy)]
struct Wish {
    /// Follow a link in the last place.
    follow: bool,
    /// Make directories that are missing.
    make: bool,
}

fn walk(path: &Path, wish: Wish) -> io::Result<Route> {
    let mut here = directory(Path::new("/"))?;
    // What is still to go, the next part last.
    let mut parts: Vec<OsString> = vec![];
    ahead(path, &mut parts);
    let mut links = 0;
    while let Some(part) = parts.pop() {
        let next = below(&here, &part);
        let is_last = parts.is_empty();
        match fs::symlink_metadata(&next) {
            Ok(found) if found.is_symlink() && (wish.follow || !is_last) => {
                links += 1;
                if links > MAX_LINKS || !is_ours_alone(&here)? {
                    let text = "a symbolic link on the way that others could have made";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    here = directory(Path::new("/"))?;
                }
                ahead(&target, &mut parts);
                continue;
            }
            Err(error) if !is_last && wish.make && is(&error, libc::ENOENT) => {
                DirBuilder::new().mode(0o750).create(&next)?;
            }
            Err(error) if !is_last => return Err(error),
            Ok(_) | Err(_) => {}
        }
        if is_last {
            return Ok(Route { path: next, directory: Some(here) });
        }
        here = directory(&next)?;
    }
    Err(io::Error::from_raw_os_error(libc::EISDIR))
}

/// Puts the parts of a path before what is still to go.
fn ahead(path: &Path, parts: &mut Vec<OsString>) {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    parts.extend(names);
}

/// A directory that is no link, held open for going on from there.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    File::options().read(true).custom_flags(flags).open(path).map(OwnedFd::from)
}

fn below(directory: &OwnedFd, name: &OsString) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

fn is_ours_alone(directory: &OwnedFd) -> io::Result<bool> {
    let about = fds::metadata(directory.as_fd())?;
    Ok(about.uid() == 0 && about.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{is_root, unique_path};
    use std::io::Write;
    use std::os::unix::fs::{chown, symlink};

    /// Root's own directory with `theirs` in it, which belongs to somebody else.
    fn scene() -> Option<PathBuf> {
        if !is_root() {
            println!("skipped: not root");
            return None;
        }
        let base = unique_path("route");
        DirBuilder::new().mode(0o755).create(&base).unwrap();
        fs::create_dir_all(base.join("theirs/deep")).unwrap();
        for name in ["theirs", "theirs/deep"] {
            chown(base.join(name), Some(12_345), None).unwrap();
        }
        fs::create_dir(base.join("ours")).unwrap();
        Some(base)
    }

    fn write(path: &Path) -> io::Result<()> {
        let route = Route::made_to(path)?;
        let mut file = route.open(File::options().write(true).create(true).truncate(false))?;
        file.write_all(b"x")
    }

    #[test]
    fn a_link_of_somebody_else_is_not_followed_anywhere_on_the_way() {
        let Some(base) = scene() else { return };
        symlink(base.join("ours"), base.join("theirs/dir")).unwrap();
        symlink(base.join("ours/file"), base.join("theirs/file")).unwrap();
        symlink("../ours", base.join("theirs/up")).unwrap();
        // A link of ours may lead to where theirs are; it does not make those better.
        symlink("theirs/deep", base.join("bridge")).unwrap();
        symlink(base.join("ours"), base.join("theirs/deep/dir")).unwrap();
        for path in ["theirs/dir/x", "theirs/file", "theirs/up/x", "bridge/dir/x"] {
            let error = write(&base.join(path)).unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{path}: {error}");
        }
        assert_eq!(fs::read_dir(base.join("ours")).unwrap().count(), 0);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn other_paths_lead_where_they_always_did() {
        let Some(base) = scene() else { return };
        symlink(base.join("ours"), base.join("link")).unwrap();
        symlink("file", base.join("ours/alias")).unwrap();
        symlink("theirs/deep", base.join("bridge")).unwrap();
        for (path, really) in [
            ("theirs/file", "theirs/file"),
            ("link/file", "ours/file"),
            ("link/alias", "ours/file"),
            ("bridge/file", "theirs/deep/file"),
            ("ours/../ours/./more/dirs/file", "ours/more/dirs/file"),
        ] {
            write(&base.join(path)).unwrap();
            fs::remove_file(base.join(really)).unwrap();
        }
        let route = Route::to(&base.join("link/none")).unwrap();
        assert!(!route.path().exists());
        fs::remove_file(Route::to_name(&base.join("link/alias")).unwrap().path()).unwrap();
        assert!(!base.join("ours/alias").is_symlink());
        assert!(Route::to(&base.join("none/none")).is_err());
        assert!(Route::to(Path::new("/")).is_err());
        symlink("round", base.join("round")).unwrap();
        assert!(write(&base.join("round/x")).is_err());
        fs::remove_dir_all(base).unwrap();
    }
}
