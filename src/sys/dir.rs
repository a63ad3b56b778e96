//! Files below a directory that is held open.
//!
//! State files are reached by descriptor and name, never by path, and never through a symbolic
//! link: whoever may write in a parent directory cannot lead us elsewhere.

use std::error::Error;
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::{cvt, describe, fds, is, process};

/// Mode of every file made here: for its owner alone.
const PRIVATE: libc::c_uint = 0o600;

/// A directory held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// Why a directory is not fit for state.
#[derive(Debug)]
pub enum DirError {
    /// It could not be made or opened.
    Io(io::Error),
    /// It belongs to the user with this number, not to us.
    Foreign(u32),
    /// Its mode: others may write in it.
    Writable(u32),
}

/// "is owned by user 1001": to be put behind the path.
impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&describe(error)),
            Self::Foreign(uid) => write!(f, "is owned by user {uid}"),
            Self::Writable(mode) => write!(f, "may be written by others (mode {mode:04o})"),
        }
    }
}

impl Error for DirError {}

impl From<io::Error> for DirError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Dir {
    /// Opens a directory, whoever it belongs to.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`; `ENOTDIR` for anything else.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        Ok(Self { fd: fd.into() })
    }

    /// Makes a directory (and its parents) with mode 0700 where there is none, opens it and checks
    /// it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`Self::check_private`].
    pub fn create_private(path: &Path) -> Result<Self, DirError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = Self::open(path)?;
        dir.check_private()?;
        Ok(dir)
    }

    /// Whether the directory is ours and nobody else may write in it.
    ///
    /// # Errors
    ///
    /// [`DirError::Foreign`], [`DirError::Writable`].
    pub fn check_private(&self) -> Result<(), DirError> {
        let about = fds::metadata(self.fd.as_fd())?;
        if about.uid() != process::effective_uid() {
            return Err(DirError::Foreign(about.uid()));
        }
        if about.mode() & 0o022 != 0 {
            return Err(DirError::Writable(about.mode() & 0o7777));
        }
        Ok(())
    }

    /// Makes a new file with mode 0600, for writing.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one, even if it is a link to nowhere; `ENOSPC` and others.
    pub fn create_new(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `ELOOP` for a symbolic link.
    pub fn read(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_RDONLY)
    }

    /// Gives `from` the name `to`, in one step; what had that name is gone.
    ///
    /// # Errors
    ///
    /// Those of `rename(2)`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (c_name(from)?, c_name(to)?);
        let dir = self.fd.as_raw_fd();
        // SAFETY: both names are C strings that live for the whole call.
        cvt(unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) }).map(drop)
    }

    /// Takes a name away. That there is none is no error.
    ///
    /// # Errors
    ///
    /// Those of `unlink(2)` but `ENOENT`.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = c_name(name)?;
        // SAFETY: the name is a C string that lives for the whole call.
        match cvt(unsafe { libc::unlinkat(self.fd.as_raw_fd(), name.as_ptr(), 0) }) {
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Waits until the names in this directory are on the disk.
    ///
    /// # Errors
    ///
    /// `EIO`, `ENOSPC`, `EDQUOT`: what was renamed may be undone by a power failure.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: takes a descriptor; touches no memory.
        match cvt(unsafe { libc::fsync(self.fd.as_raw_fd()) }) {
            // Some file systems have nothing to sync in a directory and say so.
            Err(error) if is(&error, libc::EINVAL) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The room on the file system this directory is on.
    ///
    /// # Errors
    ///
    /// `EIO`, `ENOSYS`.
    pub fn space(&self) -> io::Result<Space> {
        space(&self.fd)
    }

    fn open_at(&self, name: &str, flags: libc::c_int) -> io::Result<File> {
        let name = c_name(name)?;
        // Without O_NONBLOCK opening a FIFO that somebody put there would wait for ever.
        let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        let dir = self.fd.as_raw_fd();
        // SAFETY: the name is a C string that lives for the whole call.
        let fd = cvt(unsafe { libc::openat(dir, name.as_ptr(), flags, PRIVATE) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        if !file.metadata()?.is_file() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(file)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One name, not a way: no slash, and not the directory itself.
fn c_name(name: &str) -> io::Result<CString> {
    let refused = || io::Error::from_raw_os_error(libc::EINVAL);
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(refused());
    }
    CString::new(name).map_err(|_| refused())
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// Bytes that we may still write (root may use more than others).
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Space {
    /// 0 to 100, rounded down; 100 where the file system has no size.
    #[must_use]
    pub fn percent_free(self) -> u8 {
        let percent = (u128::from(self.free) * 100).checked_div(u128::from(self.total));
        percent.and_then(|percent| u8::try_from(percent).ok()).map_or(100, |p| p.min(100))
    }
}

/// Whether files in this directory are in memory (`tmpfs`, `ramfs`).
#[must_use]
pub fn is_memory(path: &Path) -> bool {
    const KINDS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    let kind = File::open(path).and_then(|dir| fds::file_system(dir.as_fd()));
    kind.is_ok_and(|kind| KINDS.contains(&kind))
}

/// The room on the file system that an open file is on.
///
/// # Errors
///
/// `EIO`, `ENOSYS`.
pub fn space(fd: &impl AsFd) -> io::Result<Space> {
    // SAFETY: `statvfs` is plain numbers, for which all zeroes is a value.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is valid for writes for the whole call.
    cvt(unsafe { libc::fstatvfs(fd.as_fd().as_raw_fd(), &raw mut about) })?;
    Ok(space_of(&about))
}

/// The room on the file system that `path` is on.
///
/// # Errors
///
/// Those of looking it up.
pub fn space_at(path: &Path) -> io::Result<Space> {
    look_at(path).map(|about| space_of(&about))
}

/// Whether the file system that `path` is on, or would be made on, takes no changes.
#[must_use]
pub fn is_read_only(path: &Path) -> bool {
    let existing = path.ancestors().find(|place| place.exists());
    let about = existing.and_then(|place| look_at(place).ok());
    about.is_some_and(|about| about.f_flag & libc::ST_RDONLY != 0)
}

fn look_at(path: &Path) -> io::Result<libc::statvfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statvfs` is plain numbers, for which all zeroes is a value.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string that lives for the whole call, `about` is valid for writes.
    cvt(unsafe { libc::statvfs(path.as_ptr(), &raw mut about) })?;
    Ok(about)
}

/// The numbers have 32 bits on some hosts, 64 on others.
#[allow(clippy::useless_conversion)]
fn space_of(about: &libc::statvfs) -> Space {
    let unit = u64::from(about.f_frsize);
    let blocks = if process::effective_uid() == 0 { about.f_bfree } else { about.f_bavail };
    Space {
        free: u64::from(blocks).saturating_mul(unit),
        total: u64::from(about.f_blocks).saturating_mul(unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::unique_path;
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// A directory of the test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = unique_path("dir");
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_state_file_is_written_beside_and_renamed() {
        let scratch = Scratch::new();
        let dir = Dir::create_private(&scratch.0.join("a/b")).unwrap();
        dir.create_new("new").unwrap().write_all(b"one").unwrap();
        assert_eq!(dir.create_new("new").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        dir.rename("new", "state").unwrap();
        dir.sync().unwrap();
        let mut file = dir.read("state").unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        dir.remove("state").unwrap();
        dir.remove("state").unwrap();
        assert_eq!(dir.read("state").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_link_or_a_device_in_the_place_of_a_file_is_refused() {
        let scratch = Scratch::new();
        let dir = Dir::open(&scratch.0).unwrap();
        symlink("/etc/passwd", scratch.0.join("link")).unwrap();
        for result in [dir.read("link"), dir.create_new("link")] {
            assert!(result.is_err());
        }
        let _socket = std::os::unix::net::UnixListener::bind(scratch.0.join("socket")).unwrap();
        assert!(dir.read("socket").is_err());
        fs::create_dir(scratch.0.join("dir")).unwrap();
        assert!(dir.read("dir").is_err());
    }

    #[test]
    fn a_name_is_not_a_way_out() {
        let scratch = Scratch::new();
        let dir = Dir::open(&scratch.0).unwrap();
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "nul\0"] {
            assert_eq!(dir.create_new(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert!(dir.remove(name).is_err());
            assert!(dir.rename("x", name).is_err());
        }
    }

    #[test]
    fn a_directory_that_others_may_write_in_is_refused() {
        let scratch = Scratch::new();
        for (mode, fit) in [(0o700, true), (0o750, true), (0o720, false), (0o1777, false)] {
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(mode)).unwrap();
            let result = Dir::create_private(&scratch.0);
            assert_eq!(result.is_ok(), fit, "{mode:o}");
            if let Err(error) = result {
                assert_eq!(
                    error.to_string(),
                    format!("may be written by others (mode {mode:04o})")
                );
            }
        }
        if process::effective_uid() == 0 {
            std::os::unix::fs::chown(&scratch.0, Some(12_345), None).unwrap();
            let error = Dir::open(&scratch.0).unwrap().check_private().unwrap_err();
            assert_eq!(error.to_string(), "is owned by user 12345");
        }
    }

    #[test]
    fn room_is_told_in_bytes_and_percent() {
        let space = space_at(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total);
        assert_eq!(Dir::open(Path::new("/")).unwrap().space().unwrap().total, space.total);
        assert_eq!(Space { free: 1, total: 3 }.percent_free(), 33);
        assert_eq!(Space { free: 0, total: 0 }.percent_free(), 100);
        assert_eq!(Space { free: u64::MAX, total: u64::MAX }.percent_free(), 100);
    }
}
