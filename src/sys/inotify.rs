//! Changes below directories: `inotify(7)`.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::sys::cvt;

/// Bytes of what happened that are read at once; has room for the longest name.
const BUFFER: usize = 16 * 1024;

/// Bytes before the name: watch, mask, cookie, length of the name.
const HEAD: usize = 16;

/// What happens to a file that somebody has worked on, and to a directory's names.
const WANTED: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_ONLYDIR
    | libc::IN_EXCL_UNLINK;

/// A queue of changes.
#[derive(Debug)]
pub struct Inotify(File);

/// One change of a name in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event<'a> {
    /// What [`Inotify::add`] gave; -1: [`Self::is_overflow`].
    pub watch: i32,
    pub name: &'a OsStr,
    mask: u32,
}

impl Event<'_> {
    /// The name is that of a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mask & libc::IN_ISDIR != 0
    }

    /// The name has appeared.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0
    }

    /// The name was moved away; what was below it is not told apart.
    #[must_use]
    pub fn has_moved_away(&self) -> bool {
        self.mask & libc::IN_MOVED_FROM != 0
    }

    /// The directory itself is gone, or is not watched any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.mask & libc::IN_IGNORED != 0
    }

    /// More has happened than there was room for: anything may be different.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.mask & libc::IN_Q_OVERFLOW != 0
    }
}

impl Inotify {
    /// # Errors
    ///
    /// `EMFILE`: above `fs.inotify.max_user_instances`, or no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain number goes in, a descriptor or -1 comes out.
        let raw = cvt(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        // SAFETY: `raw` was opened just now and is nobody else's.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(raw) })))
    }

    /// Watches a directory; gives its number, the same again for one that is watched already.
    /// `follow`: it may be a symbolic link.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: above `fs.inotify.max_user_watches`; `ENOTDIR`, `ENOENT`, `EACCES`.
    pub fn add(&self, directory: &Path, follow: bool) -> io::Result<i32> {
        let path = CString::new(directory.as_os_str().as_bytes())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mask = if follow { WANTED } else { WANTED | libc::IN_DONT_FOLLOW };
        // SAFETY: `path` ends with NUL and is valid for the call.
        cvt(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) })
    }

    /// Ends a watch; one that has ended is no fault.
    pub fn remove(&self, watch: i32) {
        // SAFETY: two plain numbers go in.
        let _ = unsafe { libc::inotify_rm_watch(self.0.as_raw_fd(), watch) };
    }

    /// What happened, for [`events`]; empty: nothing more for now.
    ///
    /// # Errors
    ///
    /// None that a valid descriptor has.
    pub fn read<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        buffer.resize(BUFFER, 0);
        match (&self.0).read(buffer) {
            Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The events in what [`Inotify::read`] gave.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at_checked(HEAD)?;
        let word =
            |at: usize| head.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let (watch, mask, length) = (word(0)?, word(4)?, usize::try_from(word(12)?).ok()?);
        let (name, next) = tail.split_at_checked(length)?;
        rest = next;
        // Filled up with NUL bytes.
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(Event { watch: watch.cast_signed(), name: OsStr::from_bytes(name), mask })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_with_their_names() {
        let dir = std::env::temp_dir().join(format!("pmd-inotify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let inotify = Inotify::new().unwrap();
        let watch = inotify.add(&dir, true).unwrap();
        assert_eq!(inotify.add(&dir, false).unwrap(), watch);
        let mut buffer = Vec::new();
        assert!(inotify.read(&mut buffer).unwrap().is_empty());
        std::fs::write(dir.join("a file"), "x").unwrap();
        std::fs::create_dir(dir.join("sub")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let mut seen = Vec::new();
        for event in events(inotify.read(&mut buffer).unwrap()) {
            assert_eq!(event.watch, watch);
            seen.push((
                event.name.to_str().unwrap().to_owned(),
                event.is_directory(),
                event.has_come(),
            ));
            if event.is_end() {
                seen.push(("end".to_owned(), false, false));
            }
        }
        assert_eq!(seen[0], ("a file".to_owned(), false, true));
        assert!(seen.contains(&("sub".to_owned(), true, true)), "{seen:?}");
        assert_eq!(seen.last().unwrap().0, "end");
        assert_eq!(inotify.add(&dir, true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_cut_short_is_no_event() {
        assert_eq!(events(&[1; 15]).count(), 0);
        assert_eq!(events(&[0xff; 64]).count(), 0);
    }
}
