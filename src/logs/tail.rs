//! The last lines of log files, read from their ends, with times where they are known.
//!
//! Memory is bounded whatever the files hold: lines are cut at 64 KiB (the end of a longer line is
//! kept, marked partial), and no more than so many bytes are searched and kept. Rotated files are
//! read as far as they are needed.
//!
//! A line's time is that of the last mark before its first byte. Where there is no mark (it was
//! written before this daemon, or long ago) the line goes by the latest moment it can have been
//! written: the oldest mark, or the file's own time. Such lines keep their order and come before
//! all lines of known time in their stream.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::WallTime;
use crate::logs::file::{LogFile, millis};
use crate::logs::lines::{LINE_CAP, without_return};
use crate::logs::rotate::numbered;
use crate::logs::vocabulary::{LogLine, StreamId, TailQuery};
use crate::sorted::{SortedMap, sort_by};
use crate::sys::route::Route;

/// Bytes searched per stream, at most.
const SEARCH: u64 = 16 * 1024 * 1024;

/// Bytes read at once.
const BLOCK: u64 = 64 * 1024;

/// One line and when it goes.
#[derive(Debug)]
pub struct Found {
    pub line: LogLine,
    /// The latest moment it can have been written.
    pub key: u64,
}

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub lines: usize,
    pub bytes: usize,
    /// The end of a longer line is kept.
    pub line: usize,
    pub since: Option<WallTime>,
    pub until: Option<WallTime>,
}

impl Limits {
    /// The share of one of `streams`.
    pub fn of(query: &TailQuery, streams: usize) -> Self {
        let bytes = query.max_bytes / streams.max(1);
        Self {
            lines: query.lines,
            bytes,
            line: LINE_CAP.min(bytes),
            since: query.since,
            until: query.until,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    Route::to(path)?.open(File::options().read(true))
}

/// The last lines of one file and its rotated ones, oldest first.
pub fn read(id: StreamId, log: &LogFile, limits: Limits) -> Vec<Found> {
    let mut reader =
        Reader { id, log, limits, found: Vec::new(), bytes: 0, search: SEARCH, key: u64::MAX };
    let mut origin = Some(log.origin);
    for number in 0.. {
        let opened;
        let file = match (number, log.handle()) {
            (0, Some(handle)) => handle,
            (0, None) => match open(log.path()) {
                Ok(file) => {
                    opened = file;
                    &opened
                }
                Err(_) => continue, // rotated a moment ago, or not written yet
            },
            _ => match open(&numbered(log.path(), number)) {
                Ok(file) => {
                    opened = file;
                    &opened
                }
                Err(_) => break,
            },
        };
        let Ok(metadata) = file.metadata() else {
            break;
        };
        if number > 0 {
            origin = origin.and_then(|origin| origin.checked_sub(metadata.len()));
        }
        if !reader.file(file, &metadata, origin) {
            break;
        }
    }
    reader.found.reverse();
    reader.found
}

struct Reader<'a> {
    id: StreamId,
    log: &'a LogFile,
    limits: Limits,
    /// Newest first.
    found: Vec<Found>,
    bytes: usize,
    search: u64,
    /// Of the line last found: older ones are not later.
    key: u64,
}

/// The end of a line whose beginning has not been reached.
#[derive(Default)]
struct Rest {
    /// The last bytes of it, no more than the limit.
    bytes: Vec<u8>,
    /// There was more.
    cut: bool,
}

impl Reader<'_> {
    /// Reads one file from its end; whether an older one is wanted.
    fn file(&mut self, file: &File, metadata: &Metadata, origin: Option<u64>) -> bool {
        let modified = millis(metadata);
        if self.limits.since.is_some_and(|since| modified < since.0) {
            return false;
        }
        let mut block = Vec::new();
        let mut rest = Rest::default();
        let mut position = metadata.len();
        let mut last = true; // what stands after the last newline is a line only if it has bytes
        while position > 0 {
            let start = position.saturating_sub(BLOCK);
            block.resize(usize::try_from(position - start).unwrap_or(0), 0);
            if file.read_exact_at(&mut block, start).is_err() {
                return false;
            }
            let mut bytes = &*block;
            while let Some(newline) = bytes.iter().rposition(|&byte| byte == b'\n') {
                rest.prepend(bytes.get(newline + 1..).unwrap_or_default(), self.limits.line);
                let line = std::mem::take(&mut rest);
                let at = start + newline as u64 + 1;
                let nothing = std::mem::take(&mut last) && line.bytes.is_empty();
                if !nothing && !self.line(line, at, modified, origin) {
                    return false;
                }
                bytes = bytes.get(..newline).unwrap_or_default();
            }
            rest.prepend(bytes, self.limits.line);
            position = start;
            self.search = self.search.saturating_sub(block.len() as u64);
            if self.search == 0 {
                break;
            }
        }
        if position > 0 {
            rest.cut = true; // not searched to its beginning
            self.line(rest, position, modified, origin);
            return false;
        }
        if last && rest.bytes.is_empty() {
            return true;
        }
        self.line(rest, 0, modified, origin)
    }

    /// Takes a line, newest first; whether more are wanted.
    fn line(&mut self, line: Rest, at: u64, modified: u64, origin: Option<u64>) -> bool {
        let Limits { since, until, .. } = self.limits;
        let time = origin.and_then(|origin| self.log.time_of(origin + at));
        let latest = time.or_else(|| self.log.oldest_mark()).map_or(modified, |time| time.0);
        self.key = self.key.min(latest);
        if since.is_some_and(|since| latest < since.0) {
            return false;
        }
        if until.zip(time).is_some_and(|(until, time)| time > until) {
            return true;
        }
        let bytes = without_return(&line.bytes).to_vec();
        self.bytes += bytes.len();
        if self.found.len() >= self.limits.lines || self.bytes > self.limits.bytes {
            return false;
        }
        let line = LogLine { id: self.id, bytes, partial: line.cut, at: time };
        self.found.push(Found { line, key: self.key });
        self.found.len() < self.limits.lines
    }
}

impl Rest {
    /// Puts `bytes` before what is there, as far as the limit allows.
    fn prepend(&mut self, bytes: &[u8], limit: usize) {
        let room = limit - self.bytes.len().min(limit);
        let skip = bytes.len().saturating_sub(room);
        self.cut |= skip > 0;
        self.bytes.splice(..0, bytes.iter().skip(skip).copied());
    }
}

/// Puts the lines of several streams into one order in time. At most `lines` of each process stay,
/// the last ones.
pub fn merge(streams: Vec<Found>, lines: usize) -> Vec<LogLine> {
    let mut all = streams;
    // Stable, and each stream's keys rise: the order within a stream stays.
    sort_by(&mut all, |one, two| one.key < two.key);
    let mut counts = SortedMap::new();
    let mut kept: Vec<_> = all
        .into_iter()
        .rev()
        .filter(|found| {
            let count = counts.get_or_insert_with(found.line.id.process, || 0_usize);
            *count += 1;
            *count <= lines
        })
        .map(|found| found.line)
        .collect();
    kept.reverse();
    kept
}
