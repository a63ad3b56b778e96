//! Bytes from a pipe to a file without passing through us.
//!
//! A byte leaves the pipe only when it is in the file: whenever the daemon is killed, nothing is
//! lost and nothing doubled. None of these functions ever blocks on the pipe, whatever mode it is
//! in; `Ok(0)` means that it is empty (or, where there is an end to it, ended).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use crate::sys::{cvt_size, fds, is};

/// Moves up to `max` bytes from `pipe` into `file`, at `offset`. Answers how many: fewer when the
/// pipe held fewer or the disk took fewer.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `EFBIG`, `EIO`: no byte has moved, what was to be moved is still in the
/// pipe. `EINVAL` if the file is open for appending.
pub fn to_file(
    pipe: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    max: usize,
) -> io::Result<usize> {
    let mut offset =
        libc::loff_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    splice(pipe, file, &raw mut offset, max)
}

/// Takes up to `max` bytes out of `pipe` and drops them. `null` is [`fds::null_device`].
///
/// # Errors
///
/// `EBADF`, `EINVAL`: `pipe` is no pipe.
pub fn discard(pipe: BorrowedFd<'_>, null: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    splice(pipe, null, ptr::null_mut(), max)
}

/// Moves up to `max` bytes from one pipe into another; 0 also when `to` is full.
///
/// # Errors
///
/// As [`discard`].
pub fn to_pipe(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    splice(from, to, ptr::null_mut(), max)
}

/// Copies up to `max` bytes from one pipe into another and leaves them in the first; 0 also when
/// `to` is full.
///
/// # Errors
///
/// `EINVAL`: one of them is no pipe, or both are the same.
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    empty_is_zero(|| {
        // SAFETY: moves pages between two pipes inside the kernel; touches no memory of ours.
        unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), max, libc::SPLICE_F_NONBLOCK) }
    })
}

/// Reads what is in `pipe`, up to the length of `buffer`, and takes it out.
///
/// # Errors
///
/// Those of `read(2)`, without "would block".
pub fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    match read_now(pipe, buffer) {
        Err(error) if is(&error, libc::EOPNOTSUPP) || is(&error, libc::ENOSYS) => {
            read_by_detour(pipe, buffer)
        }
        other => other,
    }
}

/// Kernels on which pipes cannot do this answer `EOPNOTSUPP`.
fn read_now(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let fd = libc::c_long::from(pipe.as_raw_fd());
    let (one, here): (libc::c_long, libc::c_long) = (1, -1);
    let flags = libc::c_long::from(libc::RWF_NOWAIT);
    empty_is_zero(|| {
        // SAFETY: `part` describes `buffer`, which is valid for writes for the whole call. The
        // position is given in two halves; -1 is "where it stands", the only one a pipe has.
        let result = unsafe {
            libc::syscall(libc::SYS_preadv2, fd, &raw const part, one, here, here, flags)
        };
        libc::ssize_t::try_from(result).unwrap_or(-1)
    })
}

/// Where the kernel cannot read without waiting it can still splice without waiting: into a pipe
/// that nobody else reads, so that what has arrived there is sure to be read. (Asking `poll` first
/// would not do: the child holds a reading end of its output, too.)
fn read_by_detour(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (reader, writer): (OwnedFd, OwnedFd) = fds::pipe()?;
    let moved = to_pipe(pipe, writer.as_fd(), buffer.len())?;
    let mut rest = &mut buffer[..moved];
    while !rest.is_empty() {
        // SAFETY: `rest` is valid for writes of its length.
        let result =
            unsafe { libc::read(reader.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) };
        match cvt_size(result) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = &mut rest[count..],
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(moved)
}

fn splice(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    offset: *mut libc::loff_t,
    max: usize,
) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    empty_is_zero(|| {
        // SAFETY: `offset` is null or valid for reads and writes for the whole call; the bytes
        // move inside the kernel.
        unsafe { libc::splice(from, ptr::null_mut(), to, offset, max, flags) }
    })
}

fn empty_is_zero(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        match cvt_size(call()) {
            Err(error) if is(&error, libc::EINTR) => {}
            Err(error) if is(&error, libc::EAGAIN) => return Ok(0),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{SmallDisk, nameless_file, unique_path};
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    fn filled(bytes: &[u8]) -> OwnedFd {
        let pipe = fds::open_pipe_rdwr().unwrap();
        File::from(pipe.try_clone().unwrap()).write_all(bytes).unwrap();
        pipe
    }

    fn scratch() -> File {
        nameless_file(&std::env::temp_dir())
    }

    #[test]
    fn bytes_go_to_their_offset_and_leave_the_pipe() {
        let pipe = filled(b"hello");
        let mut file = scratch();
        assert_eq!(to_file(pipe.as_fd(), file.as_fd(), 2, 4).unwrap(), 4);
        assert_eq!(to_file(pipe.as_fd(), file.as_fd(), 6, 4).unwrap(), 1);
        let mut text = vec![];
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"\0\0hello");
    }

    #[test]
    fn an_empty_pipe_is_no_error_and_no_wait() {
        let (pipe, other) = (filled(b""), filled(b""));
        let (file, null) = (scratch(), fds::null_device().unwrap());
        assert_eq!(to_file(pipe.as_fd(), file.as_fd(), 0, 9).unwrap(), 0);
        assert_eq!(discard(pipe.as_fd(), null.as_fd(), 9).unwrap(), 0);
        assert_eq!(tee(pipe.as_fd(), other.as_fd(), 9).unwrap(), 0);
        assert_eq!(to_pipe(pipe.as_fd(), other.as_fd(), 9).unwrap(), 0);
        assert_eq!(read(pipe.as_fd(), &mut [0; 9]).unwrap(), 0);
        assert_eq!(read_by_detour(pipe.as_fd(), &mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn a_file_that_cannot_take_more_leaves_the_bytes_in_the_pipe() {
        let pipe = filled(b"hello");
        let error = to_file(pipe.as_fd(), scratch().as_fd(), u64::MAX, 5).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        let path = unique_path("append");
        let appending = File::options().append(true).create(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = to_file(pipe.as_fd(), appending.as_fd(), 0, 5).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(fds::waiting(pipe.as_fd()).unwrap(), 5);
    }

    /// Needs the right to mount.
    #[test]
    fn a_full_disk_takes_what_fits_and_the_rest_waits() {
        let Some(disk) = SmallDisk::mount(16 * 1024) else { return };
        let file = nameless_file(&disk.0);
        let pipe = filled(&[b'x'; 30_000]);
        let mut moved = 0;
        let error = loop {
            match to_file(pipe.as_fd(), file.as_fd(), moved, 30_000) {
                Ok(count) => moved += count as u64,
                Err(error) => break error,
            }
            assert!(moved < 30_000);
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.metadata().unwrap().len(), moved);
        assert_eq!(fds::waiting(pipe.as_fd()).unwrap() as u64, 30_000 - moved);
    }

    #[test]
    fn a_copy_leaves_the_bytes_and_discarding_takes_them() {
        let (pipe, copy) = (filled(b"hello"), filled(b""));
        let null = fds::null_device().unwrap();
        assert_eq!(tee(pipe.as_fd(), copy.as_fd(), 3).unwrap(), 3);
        assert_eq!(discard(pipe.as_fd(), null.as_fd(), 4).unwrap(), 4);
        let mut buffer = [0; 8];
        assert_eq!(read(copy.as_fd(), &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"hel");
        assert_eq!(read(pipe.as_fd(), &mut buffer).unwrap(), 1);
        assert_eq!(&buffer[..1], b"o");
    }

    #[test]
    fn the_detour_reads_the_same() {
        let pipe = filled(b"hello");
        let mut buffer = [0; 4];
        assert_eq!(read_by_detour(pipe.as_fd(), &mut buffer).unwrap(), 4);
        assert_eq!(&buffer, b"hell");
        assert_eq!(read_by_detour(pipe.as_fd(), &mut buffer).unwrap(), 1);
    }
}
