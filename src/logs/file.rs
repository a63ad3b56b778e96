//! One log file: opened at its first byte, appended to, noticed when others touch it.
//!
//! A file is opened read-write without `O_APPEND` (splice refuses that), created 0640 in
//! directories 0750. Its length is asked of the kernel before every write, so a file that others
//! cut (`copytruncate`) goes on at its new end, and one that others removed is made anew. A file
//! that others renamed is followed until [`LogFile::close`].

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Now, Time, WallTime};
use crate::logs::crash;
use crate::logs::journal::Target;
use crate::logs::marks::Marks;
use crate::logs::vocabulary::StreamId;
use crate::sys::fds;
use crate::sys::route::Route;

/// Mode of a new log file.
pub(super) const MODE: u32 = 0o640;

/// The first pause before a file that failed is tried again; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A log file that streams are written to.
#[derive(Debug)]
pub struct LogFile {
    path: Rc<Path>,
    /// Open since its first byte.
    handle: Option<File>,
    /// Device and inode, and the length, as last seen.
    seen: Option<Seen>,
    /// Logical offset of the file's first byte: marks outlive a rotation.
    pub(super) origin: u64,
    marks: Option<Box<Marks>>,
    /// Rotate before it grows beyond this many bytes; 0: never.
    pub(super) max_size: u64,
    /// Rotated files kept.
    pub(super) keep: u32,
    /// Streams that are written to it.
    pub(super) users: u32,
    /// The stream that has it for itself and writes it raw.
    pub(super) raw_user: Option<StreamId>,
    /// The rotated files, newest (`.1`) first; `None`: nobody has looked.
    pub(super) history: Option<Vec<Old>>,
    /// Set when rotation failed: it is not tried again below this length.
    pub(super) rotate_from: Option<u64>,
    trouble: Option<Box<Trouble>>,
}

/// A rotated file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Old {
    pub size: u64,
    /// When it was last written, in milliseconds since the epoch.
    pub at: u64,
}

/// What the kernel last said about the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    pub device: u64,
    pub inode: u64,
    pub length: u64,
    /// In milliseconds since the epoch.
    pub modified: u64,
}

/// Why it cannot be written, and when it will be tried again.
#[derive(Debug)]
pub struct Trouble {
    pub reason: Box<str>,
    /// The disk is full: it is not tried before there is room.
    pub no_space: bool,
    next_try: Time,
    delay: Duration,
}

impl LogFile {
    pub fn new(path: Rc<Path>, max_size: u64, keep: u32) -> Self {
        Self {
            path,
            handle: None,
            seen: None,
            origin: 0,
            marks: None,
            max_size,
            keep,
            users: 0,
            raw_user: None,
            history: None,
            rotate_from: None,
            trouble: None,
        }
    }

    pub fn path(&self) -> &Rc<Path> {
        &self.path
    }

    /// The descriptor, if it has been opened.
    pub fn handle(&self) -> Option<&File> {
        self.handle.as_ref()
    }

    /// The length as last seen, in bytes; 0 for a file nobody has looked at.
    pub fn length(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.length)
    }

    /// What the kernel last said.
    pub fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// How the journal knows it.
    pub fn as_target(&self) -> Target {
        self.seen.map_or_else(Target::default, |seen| Target {
            length: seen.length,
            inode: u32::try_from(seen.inode & u64::from(u32::MAX)).unwrap_or(0),
        })
    }

    /// Opens the file where needed and asks for its length, in bytes.
    ///
    /// # Errors
    ///
    /// It cannot be opened or made, or is no regular file.
    pub fn refresh(&mut self) -> io::Result<u64> {
        if let Some(handle) = &self.handle {
            let metadata = handle.metadata()?;
            if metadata.nlink() > 0 {
                return Ok(self.note(&metadata));
            }
            self.handle = None; // removed by others: what is written there nobody can read
        }
        let handle = fds::unless_last(open(&self.path)?)?;
        let metadata = handle.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        self.handle = Some(handle);
        Ok(self.note(&metadata))
    }

    /// Looks at a file that need not be open; a missing one is empty.
    pub fn look(&mut self) -> u64 {
        if self.handle.is_none()
            && self.seen.is_none()
            && let Ok(metadata) = std::fs::metadata(&self.path)
        {
            self.note(&metadata);
        }
        self.length()
    }

    fn note(&mut self, metadata: &Metadata) -> u64 {
        let now = Seen {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: millis(metadata),
        };
        if let Some(before) = self.seen {
            if (before.device, before.inode) != (now.device, now.inode) {
                self.marks = None;
                self.history = None;
            } else if now.length < before.length {
                self.marks = None; // cut by others: the offsets mean nothing any more
            }
        }
        self.seen = Some(now);
        now.length
    }

    /// `bytes` were written at the end at `at`.
    pub fn wrote(&mut self, bytes: u64, at: WallTime) {
        let end = self.origin + self.length();
        self.marks.get_or_insert_default().push(end, at);
        if let Some(seen) = &mut self.seen {
            seen.length += bytes;
            seen.modified = at.0;
        }
        self.trouble = None;
    }

    /// Writes `bytes` at the end, which must have been asked for in this turn. Nothing is noted:
    /// the caller says [`Self::wrote`] once it counts.
    pub fn write_at_end(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(handle) = &self.handle else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        write_all_at(handle, bytes, self.length())
    }

    /// Cuts the file back to the length last seen, after a write that failed half-way.
    pub fn cut_back(&self) {
        if let Some(handle) = &self.handle {
            // If even this fails, the file keeps a piece of a line; the next length is asked for.
            drop(handle.set_len(self.length()));
        }
    }

    /// Whether the last byte is a newline; an empty file counts as such.
    pub fn ends_line(&self) -> bool {
        let mut last = [b'\n'];
        if let (Some(handle), Some(at)) = (&self.handle, self.length().checked_sub(1)) {
            drop(handle.read_exact_at(&mut last, at));
        }
        last == *b"\n"
    }

    /// When the byte at a logical offset was written: that of the file's first byte is the origin,
    /// those of rotated files are lower.
    pub fn time_of(&self, offset: u64) -> Option<WallTime> {
        self.marks.as_ref()?.time_of(offset)
    }

    /// The time of the oldest mark.
    pub fn oldest_mark(&self) -> Option<WallTime> {
        self.marks.as_ref()?.oldest()
    }

    /// Empties the file.
    pub fn empty(&mut self) -> io::Result<()> {
        if self.handle.is_none() && std::fs::symlink_metadata(&self.path).is_ok() {
            self.refresh()?;
        }
        if let Some(handle) = &self.handle {
            handle.set_len(0)?;
        }
        self.marks = None;
        if let Some(seen) = &mut self.seen {
            seen.length = 0;
        }
        Ok(())
    }

    /// Closes the descriptor; the next byte opens the path anew.
    pub fn close(&mut self) -> bool {
        self.handle.take().is_some()
    }

    /// Opens the path anew, where it had been opened: others may have moved the file away. Where
    /// that fails, the next byte tries again.
    pub fn reopen(&mut self) {
        let was_open = self.close();
        if self.seen.is_some() && self.refresh().is_ok() && !was_open {
            self.close();
        }
    }

    /// The file was renamed away, its bytes before `cut` with it; `next` has the rest, `length`
    /// bytes, under the old name.
    pub(super) fn replaced(&mut self, cut: u64, next: Option<File>) {
        self.origin += cut;
        self.handle = next;
        self.seen =
            self.handle.as_ref().and_then(|handle| handle.metadata().ok()).map(|metadata| Seen {
                device: metadata.dev(),
                inode: metadata.ino(),
                length: metadata.len(),
                modified: millis(&metadata),
            });
    }

    /// Why it cannot be written, if so.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_deref()
    }

    /// How long from `now` until it may be tried again; `None`: now.
    pub fn pause(&self, now: Now) -> Option<Duration> {
        let pause = self.trouble.as_ref()?.next_try.since(now.mono);
        (!pause.is_zero()).then_some(pause)
    }

    /// It could not be written: the pause before the next try.
    pub fn failed(&mut self, reason: Box<str>, no_space: bool, now: Now) -> Duration {
        let delay = match &self.trouble {
            Some(before) => (before.delay * 2).min(RETRY_MAX),
            None => RETRY_MIN,
        };
        let next_try = now.mono.after(delay);
        self.trouble = Some(Box::new(Trouble { reason, no_space, next_try, delay }));
        delay
    }
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    crash::point();
    let half = if cfg!(test) { bytes.len() / 2 } else { 0 };
    let (head, rest) = bytes.split_at(half);
    if !head.is_empty() {
        file.write_all_at(head, offset)?;
        crash::point();
    }
    file.write_all_at(rest, offset + half as u64)?;
    crash::point();
    Ok(())
}

/// Opens a log file for reading and writing; makes it and its directories where they are missing.
fn open(path: &Path) -> io::Result<File> {
    let route = Route::made_to(path)?;
    // Opening some devices does something; they are not even touched.
    if std::fs::metadata(route.path()).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    let file = route.open(&mut options)?;
    if file.metadata()?.len() == 0 {
        let_group_read(&file)?;
    }
    Ok(file)
}

/// Gives a new file the right that the daemon's umask took away.
pub(super) fn let_group_read(file: &File) -> io::Result<()> {
    if file.metadata()?.mode() & 0o777 == 0o600 {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(())
}

/// When a file was last written, in milliseconds since the epoch.
pub fn millis(metadata: &Metadata) -> u64 {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}
