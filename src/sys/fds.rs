//! Pipes and their re-opening, the null device.
//!
//! A child's output pipe is held open for reading *and* writing, by the child and by us: then
//! there is always a reader, no child dies of `SIGPIPE` when the daemon does, and what it wrote
//! stays in the kernel until the next daemon has attached itself. The price is that such a pipe
//! never reports its end; the end of a child is learned from the child.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::Pid;
use crate::sys::{cvt, is, limits};

/// For opening files by path: not through a symbolic link in the last place.
pub const NOFOLLOW: i32 = libc::O_NOFOLLOW;

/// `PIPEFS_MAGIC` of `statfs(2)`.
const PIPE_FILE_SYSTEM: u64 = 0x5049_5045;

/// A pipe held by one read-write descriptor, in blocking mode, as a child's standard output.
///
/// It has the usual 64 KiB: a user's pipes share a limit, so none is enlarged before it is found
/// full. The daemon reads by [`crate::sys::splice`] alone, which never blocks whatever the mode.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`; those of opening `/proc/self/fd`.
pub fn open_pipe_rdwr() -> io::Result<OwnedFd> {
    let (reader, _writer) = pipe()?;
    reopen(&reader)
}

/// An ordinary pipe: where to read, where to write. Both block.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is valid for writes of two numbers.
    cvt(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made both descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The pipe with this inode that is descriptor `fd` of a living process, or any other of its
/// descriptors; opened for reading and writing. `None` if it has no such pipe (any more).
///
/// # Errors
///
/// `EACCES`, `EPERM` for a process of another user; `EMFILE`, `ENFILE`.
pub fn attach_pipe(pid: Pid, fd: RawFd, inode: u64) -> io::Result<Option<OwnedFd>> {
    let table = PathBuf::from(format!("/proc/{pid}/fd"));
    if let Some(pipe) = attach(&table.join(fd.to_string()), inode)? {
        return Ok(Some(pipe));
    }
    let entries = match fs::read_dir(&table) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Ok(entry) = entry else { break };
        if let Some(pipe) = attach(&entry.path(), inode)? {
            return Ok(Some(pipe));
        }
    }
    Ok(None)
}

/// Looks before it opens, at the very thing it opens: another process may put what it likes under
/// its numbers, and opening a device can do things.
fn attach(path: &Path, inode: u64) -> io::Result<Option<OwnedFd>> {
    let place: OwnedFd = match File::options().read(true).custom_flags(libc::O_PATH).open(path) {
        Ok(place) => place.into(),
        Err(error) if is_gone(&error) || is(&error, libc::ENXIO) => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = metadata(borrow(&place))?;
    if !about.file_type().is_fifo() || about.ino() != inode || !is_anonymous_pipe(&place)? {
        return Ok(None);
    }
    match reopen(&place) {
        Ok(pipe) => Ok(Some(pipe)),
        Err(error) if is_gone(&error) || is(&error, libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    is(error, libc::ENOENT) || is(error, libc::ESRCH)
}

/// Inode numbers are unique within a file system only.
fn is_anonymous_pipe(fd: &OwnedFd) -> io::Result<bool> {
    file_system(borrow(fd)).map(|magic| magic == PIPE_FILE_SYSTEM)
}

/// The magic number of the file system a descriptor is on.
pub(super) fn file_system(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: `statfs` is plain numbers, for which all zeroes is a value.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is valid for writes for the whole call.
    cvt(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut about) })?;
    // The C libraries disagree about width and sign; the kernel's number has 32 bits.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    Ok(about.f_type as u64 & 0xffff_ffff)
}

/// The same file once more, for reading and writing. By a raw number of a call: the C library's own
/// `open` makes two of it.
fn reopen(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the path is a C string that lives for the whole call.
    let raw = cvt(unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The inode number behind a descriptor: with the boot it names a pipe.
///
/// # Errors
///
/// None that a valid descriptor can meet.
pub fn inode_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    metadata(fd).map(|about| about.ino())
}

/// What `fstat(2)` says, in the standard library's wide form.
pub(super) fn metadata(fd: BorrowedFd<'_>) -> io::Result<fs::Metadata> {
    // SAFETY: the descriptor is open as long as `fd` lives, which is longer than `file`; and
    // `file` does not close it, being never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    file.metadata()
}

/// Gives a descriptor's file to another user, so that a child with that user can open its own
/// `/dev/stdout`.
///
/// # Errors
///
/// `EPERM` unless we are root.
pub fn change_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::fchown(fd, Some(uid), Some(gid))
}

/// How many bytes wait to be read.
///
/// # Errors
///
/// `ENOTTY` for a descriptor that does not know.
pub fn waiting(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one `int`, for which `count` is valid.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How many bytes a pipe holds when every page of it is full.
///
/// # Errors
///
/// `EBADF` for what is no pipe.
pub fn pipe_size(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: asks for a number; touches no memory.
    let size = cvt(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// Asks for a larger or smaller pipe; answers what it became, rounded up by the kernel.
///
/// # Errors
///
/// `EPERM` above the limit for this user: stay as it is. `EBUSY` when it holds more than `size`.
pub fn set_pipe_size(pipe: BorrowedFd<'_>, size: usize) -> io::Result<usize> {
    let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: sets a number; touches no memory.
    let size = cvt(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size) })?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// A descriptor that this process was started with, by its number. Becomes close-on-exec.
///
/// # Errors
///
/// `EBADF` if there is none; `EINVAL` for the standard streams, which are not to be taken.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: sets a flag of a descriptor, or fails if there is none of this number.
    cvt(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and the caller names one that was handed to this process for it to take.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives the program that this process is about to become a descriptor under a number; what had the
/// number here is closed.
///
/// # Errors
///
/// `EBADF` above the limit.
pub fn hand_down(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: sets a flag; touches no memory.
        return cvt(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: takes numbers. Whoever owns the descriptor of that number here is about to be replaced.
    cvt(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// From now on `target`, by its own number, is what `source` is.
///
/// # Errors
///
/// `EBUSY` in a race with `open(2)`; nothing has changed then.
pub fn put_into(source: &OwnedFd, target: &mut OwnedFd) -> io::Result<()> {
    // SAFETY: both are open descriptors; whoever owns `target` has lent it for being changed.
    let number = unsafe { libc::dup3(source.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC) };
    cvt(number).map(drop)
}

/// A file in memory alone, gone with its last descriptor.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a C string; the flags are plain numbers.
    let raw = cvt(unsafe { libc::memfd_create(c"pmd".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) }.into())
}

/// The three that every process has: input, output, errors.
#[must_use]
pub fn standard() -> [BorrowedFd<'static>; 3] {
    // SAFETY: the standard library sees to it that they are open, and nobody here closes them.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// `/dev/null`, for reading and writing.
///
/// # Errors
///
/// Those of opening it.
pub fn null_device() -> io::Result<OwnedFd> {
    File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

/// The highest number open in this process, or what could be it.
pub(super) fn highest_open() -> RawFd {
    let listed = fs::read_dir("/proc/self/fd").ok().and_then(|entries| {
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).max()
    });
    listed.unwrap_or(65_535)
}

/// How many descriptors this process has open; 0 where it may not look.
#[must_use]
pub fn open_descriptors() -> usize {
    // One of them is the descriptor of this very look.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// Descriptors that children and log files leave to what must not fail: saving the state, answering
/// a client.
pub const RESERVE: u64 = 8;

/// Gives back a descriptor that was just made, unless it is one of the last.
///
/// # Errors
///
/// `EMFILE`: it was one of the last, and is closed again.
pub fn unless_last<F: AsRawFd>(fd: F) -> io::Result<F> {
    // The kernel gives the lowest number that is free.
    let number = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
    if number.saturating_add(RESERVE) < limits::nofile() {
        Ok(fd)
    } else {
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }
}

/// Whether a call failed because this process, or the system, has no descriptor left.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    is(error, libc::EMFILE) || is(error, libc::ENFILE)
}

/// Whether reads and writes through this open file wait. All descriptors that were copied from
/// one another share this.
///
/// # Errors
///
/// None that a valid descriptor can meet.
pub fn set_nonblocking(fd: &impl AsFd, nonblocking: bool) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: asks for flags; touches no memory.
    let before = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    let after = if nonblocking { before | libc::O_NONBLOCK } else { before & !libc::O_NONBLOCK };
    if after != before {
        // SAFETY: sets flags; touches no memory.
        cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, after) })?;
    }
    Ok(())
}

/// Writes a line and its end into a pipe; see [`write_whole`].
///
/// # Errors
///
/// As [`write_whole`].
pub fn write_line(pipe: &File, line: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line);
    bytes.push(b'\n');
    write_whole(pipe, &bytes)
}

/// Writes into a pipe that nobody else writes to: all of it at once, or nothing. Never waits. The
/// pipe's end does not block from then on.
///
/// # Errors
///
/// `EAGAIN`: there is no room, the reader does not read. `EPIPE`: there is no reader. `EMSGSIZE`:
/// longer than the pipe.
pub fn write_whole(mut pipe: &File, bytes: &[u8]) -> io::Result<()> {
    set_nonblocking(pipe, true)?;
    // What is shorter the kernel takes whole or not at all.
    if bytes.len() > libc::PIPE_BUF {
        let size = pipe_size(pipe.as_fd())?;
        if bytes.len() > size {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        // Room is given in whole pages, and what waits may be spread over more of them than it
        // needs: only an empty pipe is sure to have room.
        if waiting(pipe.as_fd())? > 0 {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
    }
    pipe.write_all(bytes)
}

/// Opens or makes a lock file, with mode 0600, and takes its lock; `None` if somebody has it. It
/// is held until the descriptor is closed, whatever becomes of the process, and not by children.
///
/// # Errors
///
/// Those of opening it; `ELOOP` for a symbolic link; file systems that cannot lock.
pub fn try_lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).custom_flags(NOFOLLOW).open(path)?;
    // SAFETY: takes a descriptor; touches no memory.
    match cvt(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(Some(file.into())),
        Err(error) if is(&error, libc::EWOULDBLOCK) => Ok(None),
        Err(error) => Err(error),
    }
}

fn borrow(fd: &OwnedFd) -> BorrowedFd<'_> {
    fd.as_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use crate::sys::testing::unique_path;
    use std::io::Read;

    #[test]
    fn a_pipe_is_read_and_written_through_one_descriptor() {
        let mut pipe = File::from(open_pipe_rdwr().unwrap());
        pipe.write_all(b"hello").unwrap();
        assert_eq!(waiting(pipe.as_fd()).unwrap(), 5);
        let mut word = [0; 5];
        pipe.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
    }

    #[test]
    fn a_pipe_may_be_larger_or_smaller() {
        let pipe = open_pipe_rdwr().unwrap();
        let size = pipe_size(pipe.as_fd()).unwrap();
        let page = set_pipe_size(pipe.as_fd(), 1).unwrap();
        assert!(page <= size);
        assert_eq!(pipe_size(pipe.as_fd()).unwrap(), page);
    }

    #[test]
    fn a_pipe_is_found_again_under_its_number_or_another() {
        let pipe = open_pipe_rdwr().unwrap();
        let inode = inode_of(pipe.as_fd()).unwrap();
        File::from(pipe.try_clone().unwrap()).write_all(b"x").unwrap();
        for number in [pipe.as_raw_fd(), 0] {
            let again = attach_pipe(process::own_pid(), number, inode).unwrap().unwrap();
            assert_eq!(inode_of(again.as_fd()).unwrap(), inode);
            assert_eq!(waiting(again.as_fd()).unwrap(), 1);
        }
    }

    #[test]
    fn what_is_not_that_pipe_is_not_attached() {
        let pipe = open_pipe_rdwr().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let inode = inode_of(file.as_fd()).unwrap();
        assert!(attach_pipe(process::own_pid(), file.as_raw_fd(), inode).unwrap().is_none());
        let gone = inode_of(pipe.as_fd()).unwrap();
        let number = pipe.as_raw_fd();
        drop(pipe);
        assert!(attach_pipe(process::own_pid(), number, gone).unwrap().is_none());
        let nobody = Pid::new(i32::MAX).unwrap();
        assert!(attach_pipe(nobody, 1, gone).unwrap().is_none());
    }

    /// Inode numbers are unique within a file system only: a FIFO of the same number is none of ours.
    #[test]
    fn a_named_pipe_is_not_attached() {
        let path = unique_path("fifo");
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name is a C string that lives for the whole call.
        cvt(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }).unwrap();
        let fifo = File::options().read(true).write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let inode = inode_of(fifo.as_fd()).unwrap();
        assert!(attach_pipe(process::own_pid(), fifo.as_raw_fd(), inode).unwrap().is_none());
    }

    #[test]
    fn a_line_is_written_whole_or_not_at_all() {
        let (reader, writer) = pipe().unwrap();
        let (mut reader, writer) = (File::from(reader), File::from(writer));
        let size = pipe_size(writer.as_fd()).unwrap();
        let too_long = write_line(&writer, &vec![b'x'; size]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
        write_line(&writer, &vec![b'x'; size - 1]).unwrap();
        for line in [b"".as_slice(), &[b'y'; 5000]] {
            let full = write_line(&writer, line).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        }
        reader.read_exact(&mut vec![0; size]).unwrap();
        write_line(&writer, b"short").unwrap();
        let mut line = [0; 6];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"short\n");
        drop(reader);
        assert_eq!(write_line(&writer, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let path = unique_path("lock");
        let lock = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(lock);
        assert!(try_lock(&path).unwrap().is_some());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        let error = try_lock(&path).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn descriptors_are_counted() {
        assert!(open_descriptors() >= 3);
    }

    #[test]
    fn every_descriptor_is_close_on_exec() {
        let (read, write) = pipe().unwrap();
        let (ours, theirs) = crate::sys::channel::pair().unwrap();
        for fd in [read, write, ours, theirs, open_pipe_rdwr().unwrap(), null_device().unwrap()] {
            // SAFETY: asks for flags; touches no memory.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags, libc::FD_CLOEXEC);
        }
    }
}
