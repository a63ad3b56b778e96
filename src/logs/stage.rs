//! Logs whose lines are changed, or that share a file: from the pipe into a stage file, from there
//! line by line into the log files, each byte exactly once.
//!
//! `splice` moves bytes from the pipe into the stage, a file of this stream alone, normally on a
//! tmpfs: they survive the daemon. The journal says up to which position the stage has been
//! written to the log files; a batch of lines is written between [`Journal::begin`] and
//! [`Journal::commit`]. After a crash in between, the log files are cut back to the lengths in the
//! journal and the batch is made again.
//!
//! An unfinished line waits in the stage until its newline comes, until it is longer than 64 KiB
//! (then it is written in pieces, each a line of its own, marked partial where the format can say
//! so) or until the stream ends. A prompt without a newline is therefore not seen in such a log;
//! in a raw one it is.
//!
//! The stage is emptied when all of it is written: first cut to nothing, then the position set to
//! 0. A position beyond the end means the end, so a crash between the two is harmless. When an
//! unfinished line is in the way, it is copied to the front first.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::base::Now;
use crate::logs::crash;
use crate::logs::engine::{Engine, Head};
use crate::logs::file::write_all_at;
use crate::logs::journal::{Phase, Target};
use crate::logs::lines::{LINE_CAP, first_line};
use crate::logs::table::FileId;
use crate::logs::vocabulary::{LogEvent, Pumped};
use crate::supervisor::spec::LogFull;
use crate::sys;

/// The largest a stage becomes, in bytes.
const STAGE_MAX: u64 = 256 * 1024;

/// An unfinished line moves to the front when this much before it has been written, in bytes: at
/// least as much as the line can have, so that the copy does not overlap.
const COMPACT: u64 = LINE_CAP as u64 + 1;

/// A stage that cannot be written is tried again after this long.
const STUCK: Duration = Duration::from_secs(1);

/// Formatted lines are written when they are this many bytes together; one line more may follow.
const BATCH: u64 = 64 * 1024;

/// One stream on its way through a stage.
#[derive(Debug)]
pub struct Staged {
    /// The log files; the second is [`super::StreamPlan::both`].
    pub targets: [Option<FileId>; 2],
    path: Box<Path>,
    file: Option<File>,
    /// Length of the stage, in bytes.
    end: u64,
    /// Everything before is in the log files; the journal's position.
    position: u64,
    /// Set while the stage itself cannot be written: how many bytes that has cost.
    lost: Option<u64>,
}

/// Why the lines in the stage were not all written.
#[derive(Clone, Copy)]
enum Stop {
    /// No whole line is left.
    Unfinished,
    /// A file cannot be written for this long, and the policy is to wait.
    Wait(Duration),
}

impl Staged {
    /// Takes over the stage at `path`, if there is one, and undoes what a crash left half done.
    /// Must be done for all streams before anything is pumped: they may share files.
    pub fn open(
        path: Box<Path>,
        targets: [Option<FileId>; 2],
        head: &Head,
        engine: &Engine,
    ) -> Self {
        let has_stage = head.journal.has_stage();
        let mut options = OpenOptions::new();
        let mut open = |path: &Path| options.read(true).write(true).open(path).ok();
        let file = if has_stage { open(&path) } else { None };
        let mut staged = Self { targets, path, file, end: 0, position: 0, lost: None };
        let journal = &head.journal;
        match journal.phase() {
            Phase::Clean => {}
            Phase::Writing { targets: before } => {
                for (id, target) in targets.into_iter().zip(before) {
                    if let Some(log) = id.and_then(|id| engine.files.get(id)) {
                        cut_to(log.path(), target);
                    }
                }
                crash::point();
                journal.undo();
            }
            Phase::Compacting { length } => {
                if let Some(file) = &staged.file {
                    drop(file.set_len(length));
                }
                journal.compacted();
            }
        }
        staged.end = match &staged.file {
            Some(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            None => 0,
        };
        if has_stage {
            staged.position = journal.position().min(staged.end);
            journal.set_position(staged.position);
        }
        staged
    }

    /// Whether bytes wait in the stage.
    pub fn is_empty(&self) -> bool {
        self.position == self.end
    }

    /// Moves at most `budget` bytes from `pipe` to the stage and on to the log files.
    pub fn pump(
        &mut self,
        head: &mut Head,
        engine: &mut Engine,
        pipe: BorrowedFd<'_>,
        budget: usize,
        now: Now,
    ) -> Pumped {
        let mut moved = 0;
        let mut drained = false;
        loop {
            let stop = self.drain(head, engine, now);
            self.empty(head);
            if let Stop::Wait(pause) = stop
                && self.end >= STAGE_MAX
            {
                return Pumped { moved, drained: false, retry: Some(pause) };
            }
            let retry = match stop {
                Stop::Unfinished => self.retry(head, engine, now),
                Stop::Wait(pause) => Some(pause),
            };
            if drained || moved >= budget {
                return Pumped { moved, drained, retry };
            }
            let room = usize::try_from(STAGE_MAX - self.end).unwrap_or(0);
            let wanted = room.min(budget - moved);
            if wanted == 0 {
                // Not to be emptied and not to be read: as long as that lasts, the bytes wait.
                return Pumped { moved, drained: false, retry: retry.or(Some(STUCK)) };
            }
            match self.fill(head, pipe, wanted) {
                Ok(0) => return Pumped { moved, drained: true, retry },
                Ok(count) => {
                    moved += count;
                    drained = count < wanted && sys::fds::waiting(pipe).is_ok_and(|left| left == 0);
                    self.resumed(head, engine);
                }
                Err(error) => {
                    let mut pumped = self.stuck(head, engine, pipe, budget - moved, &error, now);
                    pumped.moved += moved;
                    return pumped;
                }
            }
        }
    }

    /// The stream ended: its last line is finished.
    pub fn finish(&mut self, head: &mut Head, engine: &mut Engine, now: Now) {
        self.drain(head, engine, now);
        // The newline goes into the stage: if the line must wait, it waits as a whole one.
        let mut last = [0];
        if !self.is_empty()
            && let Some(file) = &self.file
            && file.read_exact_at(&mut last, self.end - 1).is_ok()
            && last != *b"\n"
            && write_all_at(file, b"\n", self.end).is_ok()
        {
            self.end += 1;
            self.drain(head, engine, now);
        }
        self.empty(head);
    }

    /// The stream is gone, and its stage with it.
    pub fn remove(&mut self) {
        if self.file.take().is_some() {
            drop(std::fs::remove_file(&self.path));
        }
    }

    fn fill(&mut self, head: &Head, pipe: BorrowedFd<'_>, wanted: usize) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = none.insert(create(&self.path)?);
                crash::point();
                head.journal.begin_stage();
                file
            }
        };
        let count = sys::splice::to_file(pipe, file.as_fd(), self.end, wanted)?;
        self.end += count as u64;
        crash::point();
        Ok(count)
    }

    /// The stage itself cannot be written: for the stream that is as if its files could not.
    fn stuck(
        &mut self,
        head: &mut Head,
        engine: &mut Engine,
        pipe: BorrowedFd<'_>,
        budget: usize,
        error: &io::Error,
        now: Now,
    ) -> Pumped {
        if self.lost.is_none() {
            self.lost = Some(0);
            engine.events.push(LogEvent::Full {
                id: head.style.id,
                path: (&*self.path).into(),
                policy: head.full,
                reason: sys::describe(error).into(),
            });
        }
        let mut targets = self.targets();
        let first = targets.next().map_or(0, |(target, _)| target);
        let pumped = engine.refuse(head, first, pipe, budget, now, STUCK);
        if head.full == LogFull::Drop {
            let bytes = pumped.moved as u64;
            targets.for_each(|(target, _)| head.miss(target, bytes));
            self.lost = self.lost.map(|lost| lost + bytes);
        }
        pumped
    }

    fn resumed(&mut self, head: &Head, engine: &mut Engine) {
        if let Some(dropped) = self.lost.take() {
            let path = (&*self.path).into();
            engine.events.push(LogEvent::Resumed { id: head.style.id, path, dropped });
        }
    }

    fn targets(&self) -> impl Iterator<Item = (usize, FileId)> + use<> {
        self.targets.into_iter().enumerate().filter_map(|(place, id)| Some((place, id?)))
    }

    /// Whether something is still to be told in a file that could not be written.
    fn retry(&self, head: &Head, engine: &Engine, now: Now) -> Option<Duration> {
        self.targets()
            .filter(|&(target, _)| head.told[target])
            .filter_map(|(_, id)| engine.files.get(id)?.pause(now))
            .min()
    }

    /// Writes all whole lines that are in the stage.
    fn drain(&mut self, head: &mut Head, engine: &mut Engine, now: Now) -> Stop {
        let mut input = std::mem::take(&mut engine.input);
        let mut framed = false;
        let stop = loop {
            if self.is_empty() && !head.told.contains(&true) {
                break Stop::Unfinished;
            }
            // Who can be written?
            let mut ready = [None; 2];
            let mut wait = None;
            for (target, id) in self.targets() {
                match engine.ready(head, id, target, now) {
                    Ok(_) => ready[target] = Some(id),
                    Err(pause) => wait = Some(pause),
                }
            }
            if let Some(pause) = wait
                && head.full == LogFull::Block
            {
                break Stop::Wait(pause);
            }
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            input.resize(left.min(LINE_CAP + 1), 0);
            let read = match &self.file {
                Some(file) if !input.is_empty() => file.read_at(&mut input, self.position),
                Some(_) | None => Ok(0),
            };
            input.truncate(read.unwrap_or(0));
            if !framed {
                head.style.frame(now.wall, &mut engine.frame);
                framed = true;
            }
            let room = self.room(engine, ready, 1);
            let Some(room) = room else {
                continue; // rotated
            };
            let taken = format(head, engine, &input, room);
            if taken == 0 {
                break Stop::Unfinished;
            }
            if self.room(engine, ready, engine.output.len() as u64).is_none() {
                continue; // the first line alone was too long for what was left: rotated
            }
            self.write(head, engine, ready, taken as u64, now);
        };
        engine.input = input;
        engine.tidy();
        stop
    }

    /// The room in all files that are ready, in bytes; `None`: ask again, one was rotated.
    fn room(&self, engine: &mut Engine, ready: [Option<FileId>; 2], needed: u64) -> Option<u64> {
        let mut room = BATCH;
        for id in ready.into_iter().flatten() {
            room = room.min(engine.room(id, needed)?);
        }
        Some(room)
    }

    /// Writes the formatted lines, which are `taken` bytes of the stage.
    fn write(
        &mut self,
        head: &mut Head,
        engine: &mut Engine,
        ready: [Option<FileId>; 2],
        taken: u64,
        now: Now,
    ) {
        let mut before = [Target::default(); 2];
        for (place, id) in before.iter_mut().zip(ready) {
            if let Some(log) = id.and_then(|id| engine.files.get(id)) {
                *place = log.as_target();
            }
        }
        let next = self.position + taken;
        head.journal.begin(before, next);
        for (target, id) in ready.into_iter().enumerate() {
            let Some(id) = id else {
                continue;
            };
            let result = engine.files.get(id).map(|log| log.write_at_end(&engine.output));
            if let Some(Err(error)) = result {
                for log in ready.into_iter().flatten().filter_map(|id| engine.files.get(id)) {
                    log.cut_back();
                }
                head.journal.undo();
                engine.failed(head, id, target, &error, now);
                return;
            }
        }
        head.journal.commit();
        self.position = next;
        let written = engine.output.len();
        for (target, id) in self.targets() {
            if ready[target].is_some() {
                engine.wrote(head, id, target, written, now);
            } else {
                head.miss(target, taken);
            }
        }
        if self.targets().any(|(target, _)| ready[target].is_none()) {
            head.dropped += taken;
        }
        show(head, engine, now);
        for (_, id) in self.targets() {
            engine.settle(id);
        }
    }

    /// Empties the stage, or moves an unfinished line to its front.
    fn empty(&mut self, head: &Head) {
        let Some(file) = &self.file else {
            return;
        };
        if self.end == 0 || self.position == 0 {
            return;
        }
        let left = self.end - self.position;
        if left == 0 {
            if file.set_len(0).is_ok() {
                crash::point();
                head.journal.set_position(0);
                (self.end, self.position) = (0, 0);
            }
        } else if self.position >= COMPACT && left <= COMPACT {
            let mut line = vec![0; usize::try_from(left).unwrap_or(0)];
            let copied = file
                .read_exact_at(&mut line, self.position)
                .and_then(|()| write_all_at(file, &line, 0));
            if copied.is_err() {
                return;
            }
            head.journal.begin_compacting(left);
            if file.set_len(left).is_ok() {
                crash::point();
                head.journal.compacted();
                (self.end, self.position) = (left, 0);
            } else {
                head.journal.undo();
            }
        }
    }
}

/// Formats whole lines of `input` until they fill `room`, at least one; how many bytes of the input
/// they are.
fn format(head: &Head, engine: &mut Engine, input: &[u8], room: u64) -> usize {
    let Engine { frame, output, .. } = engine;
    output.clear();
    let mut taken = 0;
    loop {
        let rest = input.get(taken..).unwrap_or_default();
        let (line, consumed, partial) = match first_line(rest) {
            Some(line) => (line, line.len() + 1, false),
            None if taken == 0 && rest.len() > LINE_CAP => {
                (rest.get(..LINE_CAP).unwrap_or(rest), LINE_CAP, true)
            }
            None => return taken,
        };
        let before = output.len();
        head.style.write(frame, line, partial, output);
        if before > 0 && output.len() as u64 > room {
            output.truncate(before);
            return taken;
        }
        taken += consumed;
    }
}

/// Shows watchers the lines just written, as they stand in the file.
fn show(head: &mut Head, engine: &mut Engine, now: Now) {
    if head.watch.is_none() {
        return;
    }
    let output = std::mem::take(&mut engine.output);
    let mut rest = &*output;
    while let Some(line) = first_line(rest) {
        engine.show_line(head, line, false, now);
        rest = rest.get(line.len() + 1..).unwrap_or_default();
    }
    engine.output = output;
}

fn cut_to(path: &Path, target: Target) {
    use std::os::unix::fs::MetadataExt;
    let Ok(file) = OpenOptions::new().write(true).open(path) else {
        return;
    };
    let Ok(metadata) = file.metadata() else {
        return;
    };
    let same = metadata.ino() & u64::from(u32::MAX) == u64::from(target.inode);
    if target.inode != 0 && same && metadata.len() > target.length {
        drop(file.set_len(target.length));
    }
}

/// A new stage, empty even if somebody left a file there.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            options.open(path)
        }
        result => result,
    }
}
