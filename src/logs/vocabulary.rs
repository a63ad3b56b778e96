//! The words between the log engine and its owner: what a stream is, where it goes, what came of
//! it.
//!
//! Plain data. Nothing here touches a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ProcId, Stream, WallTime};
use crate::logs::pattern::DatePattern;
use crate::supervisor::spec::{LogFormat, LogFull};

/// Rotate before a file grows beyond this many bytes, where nothing else was said.
pub const DEFAULT_MAX_SIZE: u64 = 10 * 1024 * 1024;

/// Rotated files kept, where nothing else was said.
pub const DEFAULT_KEEP: u32 = 5;

/// All log files together, in bytes, where nothing else was said and the file system is large
/// enough.
pub const DEFAULT_TOTAL: u64 = 256 * 1024 * 1024;

/// One output stream of one process, over all its children.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId {
    pub process: ProcId,
    pub stream: Stream,
}

/// What becomes of one stream.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// The app's name, for [`LogFormat::Json`] and [`LogFormat::Logfmt`].
    pub app: Rc<str>,
    /// Absolute; `None`: read and thrown away, watchers are fed.
    pub target: Option<PathBuf>,
    /// A second file that gets the lines too, absolute.
    pub both: Option<PathBuf>,
    /// Other streams write to `target` as well: whole lines only.
    pub shared: bool,
    pub format: LogFormat,
    /// Before every line of a raw log; the time stamp of the other formats.
    pub date: Option<DatePattern>,
    /// Rotate before a file grows beyond this many bytes; 0: never.
    pub max_size: u64,
    /// Rotated files kept; 0: none, the file is emptied instead.
    pub keep: u32,
    pub full: LogFull,
}

/// Settings of the whole engine.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Where lines wait that are to be changed on their way; best on a tmpfs. Created when it is
    /// needed.
    pub stage_dir: PathBuf,
    /// All log files together, in bytes. `None`: [`DEFAULT_TOTAL`] or a tenth of the file system,
    /// whichever is less.
    pub total: Option<u64>,
}

/// What one [`Logs::pump`](super::Logs::pump) did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pumped {
    /// Bytes taken out of the pipe. Near the pipe's capacity means: it was nearly full.
    pub moved: usize,
    /// The pipe was found empty: the next byte makes a new edge.
    pub drained: bool,
    /// Pump again after this long, even if the pipe stays silent: something could not be written.
    /// With `drained` false as well, the bytes wait in the pipe until then.
    pub retry: Option<Duration>,
}

/// One line as it stands in the file, without its newline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLine {
    pub id: StreamId,
    /// Any bytes but a newline; a trailing carriage return is removed.
    pub bytes: Vec<u8>,
    /// The line is longer than 64 KiB; this is a piece of it.
    pub partial: bool,
    /// When it was read from the pipe; `None`: before anybody took note.
    pub at: Option<WallTime>,
}

/// Something the user must hear about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogEvent {
    /// A stream's file cannot be written; once per episode.
    Full { id: StreamId, path: Rc<Path>, policy: LogFull, reason: Box<str> },
    /// It can be written again. `dropped`: bytes that are in no file.
    Resumed { id: StreamId, path: Rc<Path>, dropped: u64 },
    /// The disk was filling up: rotated files went.
    SpaceLow { path: Rc<Path>, percent_free: u8, removed: u32 },
    /// A file could not be rotated and grows on; tried again later.
    RotateFailed { path: Rc<Path>, reason: Box<str> },
    /// Watchers were not shown these lines: nobody took them in time. The files have them.
    Unseen { id: StreamId, lines: u64 },
}

/// Which lines [`Logs::tail`](super::Logs::tail) looks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TailQuery {
    /// At most this many lines of each process, the last ones.
    pub lines: usize,
    /// None before this. Lines of unknown time are left out only when their file's times say so.
    pub since: Option<WallTime>,
    /// None after this.
    pub until: Option<WallTime>,
    /// At most this many bytes in all, the last ones of each stream.
    pub max_bytes: usize,
}

impl TailQuery {
    /// The last `lines` of each process, at most 4 MiB.
    #[must_use]
    pub fn last(lines: usize) -> Self {
        Self { lines, since: None, until: None, max_bytes: 4 * 1024 * 1024 }
    }
}

/// Why a log file could not be emptied or rotated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogError {
    Flush { path: PathBuf, reason: Box<str> },
    Rotate { path: PathBuf, reason: Box<str> },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush { path, reason } => {
                write!(f, "cannot empty log file {}: {reason}", path.display())
            }
            Self::Rotate { path, reason } => {
                write!(f, "cannot rotate log file {}: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for LogError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file() {
        let error = LogError::Flush { path: "/x/a.log".into(), reason: "file exists".into() };
        assert_eq!(error.to_string(), "cannot empty log file /x/a.log: file exists");
    }
}
