//! Shared memory in a file that grows.
//!
//! A range of addresses of fixed size is taken once; the file behind it grows on demand, so no
//! pointer ever moves. Only what the file has blocks for can be reached through the safe
//! interface: touching a page that the disk has no room for would be a `SIGBUS`, so room is made
//! first, and a full disk is an error of [`SharedMap::ensure`].
//!
//! The promise ends where another program shortens the file: keep it in a private directory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::sys::{cvt, is};

/// A file as words of shared memory. They are atomic because another process may hold the same
/// file; each word is whole at every moment, even if the process is killed.
#[derive(Debug)]
pub struct SharedMap {
    file: File,
    base: *mut AtomicU64,
    /// Size of the mapping, in bytes.
    max: usize,
    /// Bytes from the beginning that are sure to have blocks. Only grows.
    ensured: AtomicUsize,
}

// SAFETY: the mapping belongs to the value, and what it gives out is atomic.
unsafe impl Send for SharedMap {}
// SAFETY: as above; growing is a call of the kernel and a store to an atomic number.
unsafe impl Sync for SharedMap {}

/// Bytes in a word.
const WORD: usize = size_of::<u64>();

impl SharedMap {
    /// Opens or makes a file, with mode 0600, and maps it.
    ///
    /// # Errors
    ///
    /// Those of opening it, `ELOOP` for a symbolic link; those of [`Self::of_file`].
    pub fn open(path: &Path, max: usize) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        Self::of_file(options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?, max)
    }

    /// Maps `file`, which must be open for reading and writing. Of a file longer than `max` bytes
    /// only the beginning is reached. What the file holds is kept, and is ensured.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if a file with holes cannot be filled; `ENODEV`, `EACCES` if it cannot be mapped;
    /// `ENOMEM`.
    pub fn of_file(file: File, max: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                max,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = Self { file, base: base.cast(), max, ensured: AtomicUsize::new(0) };
        let length = usize::try_from(map.file.metadata()?.len()).unwrap_or(max).min(max);
        map.ensure(length / WORD * WORD)?;
        Ok(map)
    }

    /// Makes sure that the first `bytes` bytes can be used; new ones are zero. Never shortens.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `EDQUOT`: nothing has changed. `EFBIG` above the size given at the beginning.
    pub fn ensure(&self, bytes: usize) -> io::Result<()> {
        let ensured = self.len();
        if bytes <= ensured {
            return Ok(());
        }
        if bytes > self.max {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        match allocate(&self.file, ensured, bytes) {
            Err(error) if is(&error, libc::EOPNOTSUPP) => fill(&self.file, ensured, bytes)?,
            other => other?,
        }
        self.ensured.fetch_max(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// Makes every word zero, and sure that the first `bytes` bytes can be used. The file is not
    /// shortened: somebody may be looking at what would go.
    ///
    /// # Errors
    ///
    /// As [`Self::ensure`].
    pub fn reset(&self, bytes: usize) -> io::Result<()> {
        for word in self.words() {
            word.store(0, Ordering::Release);
        }
        self.ensure(bytes)
    }

    /// Bytes that are ensured.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ensured.load(Ordering::Acquire)
    }

    /// Whether nothing is ensured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The words that are ensured.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is at least `ensured` bytes long, aligned to a page, lives as long
        // as `self`, and `ensure` has made blocks for that much; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.base, self.len() / WORD) }
    }

    /// Size of the mapping, in bytes: what [`Self::ensure`] may be asked for.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// The file behind it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.max) };
    }
}

/// Lengthens the file and gives it blocks, in one call.
fn allocate(file: &File, from: usize, to: usize) -> io::Result<()> {
    let too_big = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let start = libc::off_t::try_from(from).map_err(too_big)?;
    let length = libc::off_t::try_from(to - from).map_err(too_big)?;
    loop {
        // SAFETY: takes numbers; touches no memory.
        match cvt(unsafe { libc::fallocate(file.as_raw_fd(), 0, start, length) }) {
            Err(error) if is(&error, libc::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// For file systems that cannot allocate: writes every byte, what was there as it was.
fn fill(file: &File, from: usize, to: usize) -> io::Result<()> {
    let mut position = from;
    while position < to {
        let mut chunk = [0; 4096];
        let length = chunk.len().min(to - position);
        let mut known = 0;
        while known < length {
            match file.read_at(&mut chunk[known..length], (position + known) as u64) {
                Ok(0) => break,
                Ok(count) => known += count,
                Err(error) if is(&error, libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        file.write_all_at(&chunk[..length], position as u64)?;
        position += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{SmallDisk, nameless_file, unique_path};
    use std::sync::atomic::Ordering::Relaxed;

    fn file() -> File {
        nameless_file(&std::env::temp_dir())
    }

    #[test]
    fn a_map_grows_and_keeps_what_it_holds() {
        let map = SharedMap::of_file(file(), 1024 * 1024).unwrap();
        assert!(map.words().is_empty());
        map.ensure(16).unwrap();
        map.words()[1].store(7, Relaxed);
        let first = map.words().as_ptr();
        map.ensure(1024 * 1024).unwrap();
        map.words()[131_071].store(9, Relaxed);
        assert_eq!(map.words().as_ptr(), first);
        map.ensure(8).unwrap();
        assert_eq!((map.words().len(), map.words()[1].load(Relaxed)), (131_072, 7));
        assert_eq!(map.file().metadata().unwrap().len(), 1024 * 1024);
    }

    #[test]
    fn more_than_the_maximum_is_refused() {
        let map = SharedMap::of_file(file(), 4096).unwrap();
        let error = map.ensure(4097).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        assert!(map.words().is_empty());
    }

    #[test]
    fn a_reset_map_is_zero_all_over() {
        let path = unique_path("map");
        let map = SharedMap::open(&path, 8192).unwrap();
        map.ensure(64).unwrap();
        map.words()[7].store(7, Relaxed);
        drop(map);
        let map = SharedMap::open(&path, 8192).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((map.len(), map.words()[7].load(Relaxed)), (64, 7));
        map.reset(16).unwrap();
        assert_eq!((map.len(), map.words()[7].load(Relaxed)), (64, 0));
        assert!(!map.is_empty());
    }

    #[test]
    fn another_map_of_the_file_sees_the_same() {
        let file = file();
        let one = SharedMap::of_file(file.try_clone().unwrap(), 8192).unwrap();
        one.ensure(4096).unwrap();
        let two = SharedMap::of_file(file, 8192).unwrap();
        one.words()[3].store(5, Relaxed);
        assert_eq!(two.words()[3].load(Relaxed), 5);
        assert_eq!(two.words().len(), 512);
    }

    #[test]
    fn a_file_longer_than_the_map_is_used_in_part() {
        let file = file();
        file.set_len(10_000).unwrap();
        let map = SharedMap::of_file(file, 4096).unwrap();
        assert_eq!(map.words().len(), 512);
    }

    #[test]
    fn filling_by_hand_does_the_same() {
        let file = file();
        file.write_all_at(b"12345678abc", 0).unwrap();
        fill(&file, 0, 9000).unwrap();
        let mut text = [0; 12];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"12345678abc\0");
        assert_eq!(file.metadata().unwrap().len(), 9000);
    }

    /// A small tmpfs; needs the right to mount.
    #[test]
    fn a_full_disk_is_an_error_and_not_a_signal() {
        let Some(disk) = SmallDisk::mount(64 * 1024) else { return };
        let map = SharedMap::of_file(nameless_file(&disk.0), 1024 * 1024).unwrap();
        map.ensure(32 * 1024).unwrap();
        let error = map.ensure(512 * 1024).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        for word in map.words() {
            word.store(1, Relaxed);
        }
        // A file with a hole cannot be opened unless the hole can be filled.
        let holes = nameless_file(&disk.0);
        holes.set_len(512 * 1024).unwrap();
        let error = SharedMap::of_file(holes, 1024 * 1024).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
