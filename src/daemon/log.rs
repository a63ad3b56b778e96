//! What the daemon says about itself: one line per fact, to stderr or to its own file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use crate::base::WallTime;
use crate::config::settings::LogLevel;
use crate::proto::messages::stamp::timestamp;
use crate::sys::clock;

/// The file is renamed to `.1` when it has grown beyond this, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// Lines kept for those who listen in, until they are taken.
const TAPPED: usize = 64;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    Error,
    Warn,
    Info,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info | LogLevel::Debug | LogLevel::Trace => Self::Info,
        }
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

/// Where the daemon's own lines go.
#[derive(Debug)]
pub struct OwnLog {
    file: Option<(File, PathBuf)>,
    most: Level,
    /// Lines for those who listen in; `None`: nobody does.
    tapped: Option<Vec<(WallTime, String)>>,
}

impl OwnLog {
    /// To stderr, for init systems and containers.
    #[must_use]
    pub fn to_stderr(most: Level) -> Self {
        Self { file: None, most, tapped: None }
    }

    /// To `path`, with one older file beside it.
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn to_file(path: PathBuf, most: Level) -> io::Result<Self> {
        Ok(Self { file: Some((open(&path)?, path)), most, tapped: None })
    }

    /// Opens the file anew, after somebody moved it away.
    pub fn reopen(&mut self) {
        if let Some((file, path)) = &mut self.file
            && let Ok(new) = open(path)
        {
            *file = new;
        }
    }

    /// From now on somebody listens in, or nobody any more.
    pub fn tap(&mut self, on: bool) {
        match on {
            true => drop(self.tapped.get_or_insert_default()),
            false => self.tapped = None,
        }
    }

    /// The lines since the last call. Of more than [`TAPPED`] the rest is left out.
    pub fn take_tapped(&mut self) -> Vec<(WallTime, String)> {
        self.tapped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn error(&mut self, text: impl fmt::Display) {
        self.line(Level::Error, &text);
    }

    pub fn warn(&mut self, text: impl fmt::Display) {
        self.line(Level::Warn, &text);
    }

    pub fn info(&mut self, text: impl fmt::Display) {
        self.line(Level::Info, &text);
    }

    /// A line that cannot be written is lost: there is nowhere to say so.
    fn line(&mut self, level: Level, text: &dyn fmt::Display) {
        if level > self.most {
            return;
        }
        let at = clock::now().wall;
        let line = format!("{} {} {text}\n", timestamp(at), level.name());
        if let Some(lines) = self.tapped.as_mut().filter(|lines| lines.len() < TAPPED) {
            lines.push((at, text.to_string()));
        }
        match &mut self.file {
            None => {
                let _ = io::stderr().write_all(line.as_bytes());
            }
            Some((file, path)) => {
                let _ = file.write_all(line.as_bytes());
                if file.metadata().is_ok_and(|meta| meta.size() > MAX_SIZE) {
                    let _ = std::fs::rename(&*path, path.with_added_extension("1"));
                    self.reopen();
                }
            }
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
