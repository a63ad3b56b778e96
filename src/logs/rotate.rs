//! Rotation: `web.log` becomes `web.log.1`, `.1` becomes `.2`, the oldest goes.
//!
//! No line is torn: what stands after the last newline moves to the new file, unless it is longer
//! than 64 KiB. No byte is lost or doubled if the daemon is killed in between. The steps:
//!
//! 1. the unfinished line is written to `web.log.rotating`;
//! 2. the older files move up by one;
//! 3. `web.log` is renamed to `web.log.1`;
//! 4. the unfinished line is cut off its end;
//! 5. `web.log.rotating` is renamed to `web.log`.
//!
//! Found after a crash, a `.rotating` beside `web.log` is from before step 3 and is removed. Alone,
//! it is complete: steps 4 and 5 are done. Whether 4 had been done shows in the last byte of
//! `web.log.1`: up to the cut it ends with a newline, and the unfinished line has none.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::logs::crash;
use crate::logs::file::{LogFile, MODE, Old, let_group_read, millis, write_all_at};
use crate::logs::lines::LINE_CAP;
use crate::sys::fds::NOFOLLOW;
use crate::sys::route::Route;

/// After so many missing numbers in a row nobody looks further.
const MOST_MISSING: usize = 16;

impl LogFile {
    /// Rotates, at a line's end. `false`: there is nothing to cut, the file is empty or holds one
    /// unfinished line of no more than 64 KiB.
    ///
    /// # Errors
    ///
    /// A rename or write failed; the file is as it was, and can be written.
    pub fn rotate(&mut self) -> io::Result<bool> {
        self.close(); // others may have put another file in its place
        let length = self.refresh()?;
        let Some(handle) = self.handle() else {
            return Ok(false);
        };
        let Some((cut, tail)) = unfinished(handle, length)? else {
            return Ok(false);
        };
        let modified = self.seen().map_or(0, |seen| seen.modified);
        if self.keep == 0 {
            self.start_over(cut, &tail)?;
            return Ok(true);
        }
        let route = Route::to(self.path())?;
        let aside = aside(route.path());
        let next = if tail.is_empty() { None } else { Some(write_aside(&aside, &tail)?) };
        let moved = self.shift(route.path());
        let moved = moved.and_then(|()| self.step_aside(cut, next.as_ref(), route.path()));
        if let Err(error) = moved {
            self.history = None;
            if next.is_some() {
                drop(fs::remove_file(&aside));
            }
            return Err(error);
        }
        self.replaced(cut, next);
        self.history().insert(0, Old { size: cut, at: modified });
        self.rotate_from = None;
        Ok(true)
    }

    /// Without rotated files: the file begins anew with its unfinished line.
    fn start_over(&mut self, cut: u64, tail: &[u8]) -> io::Result<()> {
        if tail.is_empty() {
            self.empty()?;
            self.origin += cut;
        } else {
            let route = Route::to(self.path())?;
            let aside = aside(route.path());
            let next = write_aside(&aside, tail)?;
            fs::rename(&aside, route.path())?;
            crash::point();
            self.replaced(cut, Some(next));
        }
        self.rotate_from = None;
        Ok(())
    }

    /// Makes room for a new `.1`: what is too old goes, the others move up.
    fn shift(&mut self, path: &Path) -> io::Result<()> {
        let keep = usize::try_from(self.keep).unwrap_or(usize::MAX);
        while self.history().len() >= keep {
            self.remove_oldest()?;
        }
        for number in (1..=self.history().len()).rev() {
            match fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Removed by others: the number stays empty.
                Ok(()) | Err(_) => crash::point(),
            }
        }
        Ok(())
    }

    fn step_aside(&self, cut: u64, next: Option<&File>, path: &Path) -> io::Result<()> {
        let (first, aside) = (numbered(path, 1), aside(path));
        fs::rename(path, &first)?;
        crash::point();
        if next.is_none() {
            return Ok(());
        }
        let finished = (|| {
            if let Some(handle) = self.handle() {
                handle.set_len(cut)?;
                crash::point();
            }
            fs::rename(&aside, path)
        })();
        crash::point();
        if finished.is_err() {
            // Back under its name, and whole again, so that it can be written on.
            if let (Some(handle), Ok(tail)) = (self.handle(), fs::read(&aside)) {
                drop(handle.write_all_at(&tail, cut));
            }
            drop(fs::rename(&first, path));
        }
        finished
    }

    /// Removes the oldest rotated file; its size, or `None` if there is none.
    pub fn remove_oldest(&mut self) -> io::Result<Option<u64>> {
        let number = self.history().len();
        let Some(&old) = self.history().last() else {
            return Ok(None);
        };
        let route = Route::to(self.path())?;
        match fs::remove_file(numbered(route.path(), number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.history().pop();
        Ok(Some(old.size))
    }

    /// The rotated files, newest first, with their numbers made gapless: a crash in the middle of
    /// the renames leaves one number out.
    pub fn history(&mut self) -> &mut Vec<Old> {
        let (path, keep) = (self.path().clone(), self.keep);
        self.history.get_or_insert_with(|| find_history(&path, keep))
    }

    /// Empties the file and removes the rotated ones.
    pub fn flush(&mut self) -> io::Result<()> {
        self.history = None;
        while self.remove_oldest()?.is_some() {}
        self.empty()
    }
}

fn find_history(path: &Path, keep: u32) -> Vec<Old> {
    let Ok(route) = Route::to(path) else { return Vec::new() };
    let path = route.path();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut missing = 0;
    for number in 1.. {
        let Ok(metadata) = fs::symlink_metadata(numbered(path, number)) else {
            missing += 1;
            if number > keep || missing == MOST_MISSING {
                break;
            }
            continue;
        };
        missing = 0;
        let place = found.len() + 1;
        if place < number && fs::rename(numbered(path, number), numbered(path, place)).is_err() {
            break;
        }
        found.push(Old { size: metadata.len(), at: millis(&metadata) });
    }
    found
}

/// Where the file can be cut so that no line is torn, and the bytes after that. `None`: not yet.
fn unfinished(file: &File, length: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let from = length.saturating_sub(LINE_CAP as u64 + 1);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(newline) => Some((from + newline as u64 + 1, bytes.split_off(newline + 1))),
        None if from > 0 => Some((length, Vec::new())),
        None => None,
    })
}

fn write_aside(aside: &Path, tail: &[u8]) -> io::Result<File> {
    // What is left of an earlier try goes; nothing that was put there is followed.
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(MODE).open(aside)?;
    crash::point();
    match let_group_read(&file).and_then(|()| write_all_at(&file, tail, 0)) {
        Ok(()) => Ok(file),
        Err(error) => {
            drop(fs::remove_file(aside));
            Err(error)
        }
    }
}

/// Finishes or undoes a rotation that a crash interrupted. To be called before `path` is written.
///
/// # Errors
///
/// A rename failed. The unfinished line then stands in the `.rotating` file.
pub fn recover(path: &Path) -> io::Result<()> {
    let Ok(route) = Route::to(path) else { return Ok(()) };
    let path = route.path();
    let aside = aside(path);
    let Ok(tail) = fs::symlink_metadata(&aside) else {
        return Ok(());
    };
    if fs::symlink_metadata(path).is_ok() {
        return fs::remove_file(&aside);
    }
    let first = numbered(path, 1);
    if let Ok(first) = OpenOptions::new().read(true).write(true).custom_flags(NOFOLLOW).open(first)
    {
        let length = first.metadata()?.size();
        let mut last = [b'\n'];
        if let (Some(cut), Some(at)) = (length.checked_sub(tail.len()), length.checked_sub(1)) {
            first.read_exact_at(&mut last, at)?;
            if last != *b"\n" {
                first.set_len(cut)?;
            }
        }
    }
    fs::rename(&aside, path)
}

/// `<path>.<number>`.
pub fn numbered(path: &Path, number: usize) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

fn aside(path: &Path) -> PathBuf {
    with_suffix(path, ".rotating")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
