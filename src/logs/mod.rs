//! The data plane: what children write, and where it goes.
//!
//! The pipe of a stream is one read-write descriptor that its owner keeps for as long as the
//! process is in the table and gives to each child; so there is no end of file, and nothing is
//! lost between two children or two daemons. [`Logs::pump`] moves what is in it, one of three
//! ways:
//!
//! - one file for one stream, bytes unchanged: `raw.rs`, from the pipe into the file by `splice`;
//! - lines changed or a file shared: `stage.rs`, by way of a stage file and a journal;
//! - nowhere: taken out and thrown away.
//!
//! What a child has written is in a file or still in the pipe, never in the daemon's memory: a
//! daemon that is killed loses and doubles nothing. Watchers are shown lines read back from what
//! was just written; while nobody watches, no line is looked at.
//!
//! A file that cannot be written (no space, no rights, whatever the reason) begins an episode: one
//! [`LogEvent::Full`], then the stream's policy (drop and count, or leave it in the pipe), tries
//! with growing pauses, and one [`LogEvent::Resumed`] in the end. What was dropped is reported in
//! the file itself: `pmd: N bytes dropped`.

mod crash;
mod engine;
mod file;
mod format;
mod journal;
mod lines;
mod marks;
mod pattern;
mod raw;
mod rotate;
mod space;
mod stage;
mod table;
mod tail;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;

use crate::base::{Now, Stream};
use crate::logs::engine::{Engine, Head, Watch};
use crate::logs::format::Style;
use crate::logs::stage::Staged;
use crate::logs::table::FileId;
use crate::sorted::SortedMap;
use crate::sys;

pub use journal::{Journal, WORDS as JOURNAL_WORDS};
pub use lines::{LINE_CAP, Splitter};
pub use pattern::{DatePattern, write_rfc3339};
pub use vocabulary::{
    DEFAULT_KEEP, DEFAULT_MAX_SIZE, DEFAULT_TOTAL, LogError, LogEvent, LogLine, LogSettings,
    Pumped, StreamId, StreamPlan, TailQuery,
};

/// All streams of all processes.
pub struct Logs {
    stage_dir: Box<Path>,
    streams: SortedMap<StreamId, Box<StreamLog>>,
    engine: Engine,
}

struct StreamLog {
    head: Head,
    way: Way,
}

/// How a stream's bytes travel.
enum Way {
    Raw(FileId),
    Lines(Box<Staged>),
    Nowhere,
}

impl Logs {
    #[must_use]
    pub fn new(settings: LogSettings) -> Self {
        Self {
            stage_dir: settings.stage_dir.into(),
            streams: SortedMap::new(),
            engine: Engine::new(settings.total),
        }
    }

    /// Another cap for all files together, in bytes; see [`LogSettings::total`].
    pub fn set_total(&mut self, total: Option<u64>) {
        self.engine.set_total(total);
    }

    /// Enters a stream, or gives one that is in the table another plan. No file is opened before
    /// its first byte. What a crash left half done is finished or undone here, so after a restart
    /// all streams must be opened before any is pumped.
    pub fn open(&mut self, id: StreamId, plan: StreamPlan, journal: Journal) {
        let before = self.streams.remove(&id);
        let StreamPlan { app, target, both, shared, format, date, max_size, keep, full } = plan;
        let twice = target.is_some() && target == both;
        let (both, shared) = (both.filter(|_| !twice), shared || twice);
        let style = Style { id, app, format, date };
        let mut head = Head::new(style, full, journal);
        let targets = [target, both].map(|path| {
            path.map(|path| {
                let file = self.engine.files.share(&path, max_size, keep);
                if self.engine.files.get(file).is_some_and(|log| log.users == 1) {
                    // Where this fails, the unfinished line stays in the file beside it.
                    drop(rotate::recover(&path));
                }
                file
            })
        });
        if let Some(StreamLog { head: old, way }) = before.map(|stream| *stream) {
            head.watch = old.watch;
            head.dropped = old.dropped;
            self.release(id, way.targets());
        }
        let mut staged = Staged::open(self.stage_path(id), targets, &head, &self.engine);
        let raw = match targets {
            [Some(file), None] if !shared && head.style.is_unchanged() && self.is_alone(file) => {
                Some(file)
            }
            _ => None,
        };
        let way = if raw.is_some() || targets == [None, None] {
            // Lines that waited under another plan are written as far as that is possible.
            if !staged.is_empty() {
                staged.finish(&mut head, &mut self.engine, sys::clock::now());
            }
            staged.remove();
            raw.map_or(Way::Nowhere, Way::Raw)
        } else {
            Way::Lines(Box::new(staged))
        };
        for file in targets.into_iter().flatten() {
            self.leave_raw(file, id);
            if let Some(log) = self.engine.files.get_mut(file) {
                log.raw_user = raw.map(|_| id);
            }
        }
        self.streams.insert(id, Box::new(StreamLog { head, way }));
    }

    /// Moves what is in the stream's pipe, at most about `budget` bytes, to where it belongs. Never
    /// blocks on the pipe. A stream that is not in the table leaves it alone.
    pub fn pump(&mut self, id: StreamId, pipe: BorrowedFd<'_>, budget: usize, now: Now) -> Pumped {
        let engine = &mut self.engine;
        match self.streams.get_mut(&id).map(Box::as_mut) {
            Some(StreamLog { head, way: Way::Raw(file) }) => {
                raw::pump(head, *file, engine, pipe, budget, now)
            }
            Some(StreamLog { head, way: Way::Lines(staged) }) => {
                staged.pump(head, engine, pipe, budget, now)
            }
            Some(StreamLog { head, way: Way::Nowhere }) => {
                engine.take_away(head, pipe, budget, now)
            }
            None => Pumped { moved: 0, drained: true, retry: None },
        }
    }

    /// A child ended and its pipe is empty: its unfinished line is finished. A raw file stays as
    /// it is; watchers are shown the line.
    pub fn finish(&mut self, id: StreamId, now: Now) {
        if let Some(StreamLog { head, way }) = self.streams.get_mut(&id).map(Box::as_mut) {
            match way {
                Way::Lines(staged) => staged.finish(head, &mut self.engine, now),
                Way::Raw(_) | Way::Nowhere => self.engine.show_end(head, now),
            }
        }
    }

    /// The process is deleted. Its log files stay; its stage goes, and the journal's words are
    /// free for another stream.
    pub fn close(&mut self, id: StreamId) {
        let Some(StreamLog { mut head, mut way }) = self.streams.remove(&id).map(|stream| *stream)
        else {
            return;
        };
        if let Way::Lines(staged) = &mut way {
            staged.finish(&mut head, &mut self.engine, sys::clock::now());
            staged.remove();
        }
        self.release(id, way.targets());
        head.journal.clear();
    }

    /// From now on the stream's lines are wanted, or no longer.
    pub fn watch(&mut self, id: StreamId, on: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            match (on, &stream.head.watch) {
                (true, None) => stream.head.watch = Some(Box::new(Watch::default())),
                (true, Some(_)) => {}
                (false, _) => stream.head.watch = None,
            }
        }
    }

    /// Moves the lines that watchers are to be shown to `out`, in the order of each stream. To be
    /// called in each turn: of lines that wait, only 8 MiB are kept.
    pub fn take_lines(&mut self, out: &mut Vec<LogLine>) {
        self.engine.take_lines(out);
    }

    /// Moves what the user must hear about to `out`.
    pub fn take_events(&mut self, out: &mut Vec<LogEvent>) {
        out.append(&mut self.engine.events);
    }

    /// The last lines of these streams, in the order of time; see [`TailQuery`]. Streams that
    /// share a file are read once, under the first one's name.
    #[must_use]
    pub fn tail(&self, ids: &[StreamId], query: &TailQuery) -> Vec<LogLine> {
        let mut files: Vec<(StreamId, FileId)> = Vec::new();
        for &id in ids {
            if let Some(file) = self.main_file(id)
                && !files.iter().any(|&(_, known)| known == file)
            {
                files.push((id, file));
            }
        }
        let limits = tail::Limits::of(query, files.len());
        let found = files
            .into_iter()
            .filter_map(|(id, file)| Some(tail::read(id, self.engine.files.get(file)?, limits)))
            .flatten()
            .collect();
        tail::merge(found, query.lines)
    }

    /// The last lines of one stream, at most `max_bytes` in all; of a longer line its end.
    #[must_use]
    pub fn last_lines(&self, id: StreamId, max_lines: usize, max_bytes: usize) -> Vec<Vec<u8>> {
        let limits = tail::Limits {
            lines: max_lines,
            bytes: max_bytes,
            line: max_bytes.min(LINE_CAP),
            since: None,
            until: None,
        };
        let log = self.main_file(id).and_then(|file| self.engine.files.get(file));
        let found = log.map(|log| tail::read(id, log, limits)).unwrap_or_default();
        found.into_iter().map(|found| found.line.bytes).collect()
    }

    /// Empties the stream's files and removes the rotated ones.
    ///
    /// # Errors
    ///
    /// The first file that could not be emptied; the others are.
    pub fn flush(&mut self, id: StreamId) -> Result<(), LogError> {
        self.each_file(id, |engine, file| {
            let log = engine.files.get_mut(file);
            log.map_or(Ok(()), |log| {
                log.flush().map_err(|error| LogError::Flush {
                    path: log.path().to_path_buf(),
                    reason: sys::describe(&error).into(),
                })
            })
        })
    }

    /// Rotates the stream's files now. Empty files stay.
    ///
    /// # Errors
    ///
    /// The first file that could not be rotated; it is as it was.
    pub fn rotate(&mut self, id: StreamId) -> Result<(), LogError> {
        self.each_file(id, |engine, file| match engine.rotate(file) {
            Ok(_) => Ok(()),
            Err(error) => Err(LogError::Rotate {
                path: engine
                    .files
                    .get(file)
                    .map(|log| log.path().to_path_buf())
                    .unwrap_or_default(),
                reason: sys::describe(&error).into(),
            }),
        })
    }

    /// Opens the paths of all log files anew, and makes those that are missing. For after an outside
    /// logrotate.
    pub fn reopen(&mut self) {
        for log in self.engine.files.iter_mut() {
            log.reopen();
        }
    }

    /// Bytes that are in no file, since the stream was opened.
    #[must_use]
    pub fn dropped_bytes(&self, id: StreamId) -> u64 {
        self.streams.get(&id).map_or(0, |stream| stream.head.dropped)
    }

    /// Why the stream's file cannot be written at present, and whether that is for want of space.
    #[must_use]
    pub fn trouble(&self, id: StreamId) -> Option<(&str, bool)> {
        let targets = self.streams.get(&id)?.way.targets();
        let mut files = targets.into_iter().flatten().filter_map(|id| self.engine.files.get(id));
        files.find_map(|log| log.trouble().map(|trouble| (&*trouble.reason, trouble.no_space)))
    }

    /// The stream's files, without the rotated ones.
    pub fn paths(&self, id: StreamId) -> impl Iterator<Item = &Rc<Path>> {
        let targets = self.streams.get(&id).map_or([None; 2], |stream| stream.way.targets());
        targets.into_iter().flatten().filter_map(|id| Some(self.engine.files.get(id)?.path()))
    }

    fn main_file(&self, id: StreamId) -> Option<FileId> {
        self.streams.get(&id)?.way.targets().into_iter().flatten().next()
    }

    /// Does something to each of a stream's files; the first error, after all are done.
    fn each_file(
        &mut self,
        id: StreamId,
        mut action: impl FnMut(&mut Engine, FileId) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let targets = self.streams.get(&id).map_or([None; 2], |stream| stream.way.targets());
        let results =
            targets.map(|file| file.map_or(Ok(()), |file| action(&mut self.engine, file)));
        results.into_iter().collect()
    }

    fn is_alone(&self, file: FileId) -> bool {
        self.engine.files.get(file).is_some_and(|log| log.users == 1)
    }

    /// `file` has a new user: a stream that had it for itself writes whole lines from now on.
    fn leave_raw(&mut self, file: FileId, newcomer: StreamId) {
        let user = self.engine.files.get(file).and_then(|log| log.raw_user);
        let Some(user) = user.filter(|&user| user != newcomer) else {
            return;
        };
        let path = self.stage_path(user);
        if let Some(StreamLog { head, way }) = self.streams.get_mut(&user).map(Box::as_mut) {
            let staged = Staged::open(path, [Some(file), None], head, &self.engine);
            *way = Way::Lines(Box::new(staged));
        }
    }

    fn release(&mut self, id: StreamId, targets: [Option<FileId>; 2]) {
        for file in targets.into_iter().flatten() {
            if let Some(log) = self.engine.files.get_mut(file) {
                log.raw_user = log.raw_user.filter(|&user| user != id);
            }
            self.engine.files.release(file);
        }
    }

    fn stage_path(&self, id: StreamId) -> Box<Path> {
        let kind = match id.stream {
            Stream::Out => "out",
            Stream::Err => "err",
        };
        self.stage_dir.join(format!("{}-{kind}.stage", id.process)).into()
    }
}

impl Way {
    fn targets(&self) -> [Option<FileId>; 2] {
        match self {
            Self::Raw(file) => [Some(*file), None],
            Self::Lines(staged) => staged.targets,
            Self::Nowhere => [None; 2],
        }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}
