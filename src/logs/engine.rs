//! What all streams share: the files, the room on the disk, the buffers, and what is to be told.
//!
//! Every write goes through the same three steps: [`Engine::ready`] (may the file be written, and
//! where), the write itself, then [`Engine::wrote`] or [`Engine::failed`]. A file that failed is
//! left alone until its pause is over; what is to be done with the bytes meanwhile is the stream's
//! policy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Now, Time};
use crate::logs::file::LogFile;
use crate::logs::format::{Frame, Style};
use crate::logs::journal::Journal;
use crate::logs::lines::{LINE_CAP, Splitter, without_return};
use crate::logs::space::{Space, has_room, is_full, remove_oldest};
use crate::logs::table::{FileId, Files};
use crate::logs::vocabulary::{LogEvent, LogLine, Pumped};
use crate::supervisor::spec::LogFull;
use crate::sys;

/// At most this many bytes in one system call.
pub const MOVE: usize = 256 * 1024;

/// Bytes of lines that wait for [`super::Logs::take_lines`], at most; more are not shown.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// What a waiting line costs beyond its bytes.
const LINE_COST: usize = 64;

/// A file that could not be rotated is let grow by this much before the next try, in bytes.
const GROWTH: u64 = 1024 * 1024;

/// That old logs went is told no more often than this.
const SPACE_PACE: Duration = Duration::from_secs(60);

/// A file that is not in the table, which cannot be, is tried again after this long.
const UNKNOWN: Duration = Duration::from_secs(5);

/// `EMFILE`, Linux.
const TOO_MANY_OPEN: i32 = 24;

/// What every kind of stream has.
#[derive(Debug)]
pub struct Head {
    pub style: Style,
    pub full: LogFull,
    pub journal: Journal,
    pub watch: Option<Box<Watch>>,
    /// The user was told that the first or second file cannot be written.
    pub told: [bool; 2],
    /// Bytes that are in no file, since this stream was opened.
    pub dropped: u64,
    /// Lines nobody took.
    unseen: u64,
}

/// Somebody wants to see the lines.
#[derive(Debug, Default)]
pub struct Watch {
    splitter: Splitter,
    /// The first bytes have been seen: a line that was unfinished before is whole.
    begun: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    pub files: Files,
    space: Space,
    uncounted: u64,
    /// Rotated files that went for want of space, and nobody was told yet.
    removed: u32,
    told_of_space: Option<Time>,
    /// Bytes on their way, at most one line and one byte more.
    pub input: Vec<u8>,
    /// Formatted lines.
    pub output: Vec<u8>,
    pub frame: Frame,
    pub lines: Vec<LogLine>,
    waiting: usize,
    pub events: Vec<LogEvent>,
    /// `/dev/null`, where dropped bytes go; opened when there are any.
    null: Option<OwnedFd>,
}

impl Head {
    pub fn new(style: Style, full: LogFull, journal: Journal) -> Self {
        Self { style, full, journal, watch: None, told: [false; 2], dropped: 0, unseen: 0 }
    }
}

impl Engine {
    pub fn set_total(&mut self, total: Option<u64>) {
        self.space.set_total(total);
    }

    pub fn new(total: Option<u64>) -> Self {
        Self {
            files: Files::default(),
            space: Space::new(total),
            uncounted: 0,
            removed: 0,
            told_of_space: None,
            input: Vec::new(),
            output: Vec::new(),
            frame: Frame::default(),
            lines: Vec::new(),
            waiting: 0,
            events: Vec::new(),
            null: None,
        }
    }

    /// The length of a file that may be written now; otherwise how long it must be left alone.
    /// `target` is the file's place in the journal. Reports in the file what is missing there.
    pub fn ready(
        &mut self,
        head: &mut Head,
        file: FileId,
        target: usize,
        now: Now,
    ) -> Result<u64, Duration> {
        loop {
            let Some(log) = self.files.get_mut(file) else {
                return Err(UNKNOWN);
            };
            if let Some(trouble) = log.trouble() {
                let no_space = trouble.no_space;
                let pause = log.pause(now).or_else(|| {
                    let still_full = no_space && !has_room(log.path());
                    let reason = log.trouble().map(|trouble| trouble.reason.clone());
                    still_full.then(|| log.failed(reason.unwrap_or_default(), true, now))
                });
                if let Some(pause) = pause {
                    self.tell_full(head, file, target);
                    return Err(pause);
                }
            }
            let result = log.refresh().and_then(|_| report(head, log, target, now));
            match result {
                Ok(reported) => {
                    let length = log.length();
                    if let Some(dropped) = reported
                        && head.told[target]
                    {
                        self.tell_resumed(head, file, target, dropped);
                    }
                    return Ok(length);
                }
                Err(error) => self.failed(head, file, target, &error, now),
            }
        }
    }

    /// How much may be written to a file that is ready, in bytes, rotating it when it is full. The
    /// file must be asked for again (`None`) when it was rotated.
    pub fn room(&mut self, file: FileId, needed: u64) -> Option<u64> {
        let log = self.files.get_mut(file)?;
        let (length, max_size) = (log.length(), log.max_size);
        if max_size == 0 {
            return Some(u64::MAX);
        }
        if length < max_size && needed <= max_size - length {
            return Some(max_size - length);
        }
        if length == 0 {
            return Some(needed.max(1));
        }
        if let Some(from) = log.rotate_from
            && length < from
        {
            return Some(from - length);
        }
        match self.rotate(file) {
            Ok(true) => None,
            // One unfinished line that is larger than the file may be: it stays whole up to its
            // own limit.
            Ok(false) => Some((LINE_CAP as u64 + 1).saturating_sub(length).max(needed).max(1)),
            Err(error) => {
                let log = self.files.get_mut(file)?;
                if log.rotate_from.is_none() {
                    self.events.push(LogEvent::RotateFailed {
                        path: log.path().clone(),
                        reason: sys::describe(&error).into(),
                    });
                }
                log.rotate_from = Some(length + GROWTH);
                Some(GROWTH)
            }
        }
    }

    /// Rotates; on a full disk older files make room first.
    pub fn rotate(&mut self, file: FileId) -> io::Result<bool> {
        loop {
            let Some(log) = self.files.get_mut(file) else {
                return Ok(false);
            };
            let result = log.rotate();
            let device = log.seen().map(|seen| seen.device);
            let path = log.path().clone();
            match result {
                Err(error) if is_full(&error) => {
                    if remove_oldest(&mut self.files, device).is_none() {
                        return Err(error);
                    }
                    self.made_room(path, 0, 1);
                }
                result => return result,
            }
        }
    }

    /// `bytes` now stand at the end of a file that was ready.
    pub fn wrote(&mut self, head: &mut Head, file: FileId, target: usize, bytes: usize, now: Now) {
        let Some(log) = self.files.get_mut(file) else {
            return;
        };
        let bytes = bytes as u64;
        log.wrote(bytes, now.wall);
        if head.told[target] {
            self.tell_resumed(head, file, target, 0);
        }
        self.uncounted += bytes;
    }

    /// After the bytes just written have been shown: looks after the room on the disk, when it is
    /// time. May rotate any file.
    pub fn settle(&mut self, file: FileId) {
        if self.space.grew(std::mem::take(&mut self.uncounted))
            && let Some(path) = self.files.get(file).map(|log| log.path().clone())
            && let Some((percent_free, removed)) = self.space.count(&mut self.files, &path)
        {
            self.made_room(path, percent_free, removed);
        }
    }

    /// Rotated files went, because the disk is filling up or full. Told once a minute.
    fn made_room(&mut self, path: Rc<Path>, percent_free: u8, removed: u32) {
        self.removed += removed;
        let now = sys::clock::now().mono;
        if self.told_of_space.is_none_or(|at| now.since(at) >= SPACE_PACE) {
            self.told_of_space = Some(now);
            let removed = std::mem::take(&mut self.removed);
            self.events.push(LogEvent::SpaceLow { path, percent_free, removed });
        }
    }

    /// A file that was ready could not be written after all. When something could be done about
    /// it, [`Engine::ready`] will say yes again; otherwise the pause begins.
    pub fn failed(
        &mut self,
        head: &mut Head,
        file: FileId,
        target: usize,
        error: &io::Error,
        now: Now,
    ) {
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        let no_space = is_full(error);
        let device = self.files.get(file).and_then(LogFile::seen).map(|seen| seen.device);
        if no_space && remove_oldest(&mut self.files, device).is_some() {
            if let Some(path) = self.files.get(file).map(|log| log.path().clone()) {
                self.made_room(path, 0, 1);
            }
            return;
        }
        if error.raw_os_error() == Some(TOO_MANY_OPEN) && self.files.close_others(file) {
            return;
        }
        if let Some(log) = self.files.get_mut(file) {
            log.failed(sys::describe(error).into(), no_space, now);
        }
        self.tell_full(head, file, target);
    }

    fn tell_full(&mut self, head: &mut Head, file: FileId, target: usize) {
        let Some(log) = self.files.get(file) else {
            return;
        };
        if let Some(trouble) = log.trouble()
            && !std::mem::replace(&mut head.told[target], true)
        {
            self.events.push(LogEvent::Full {
                id: head.style.id,
                path: log.path().clone(),
                policy: head.full,
                reason: trouble.reason.clone(),
            });
        }
    }

    fn tell_resumed(&mut self, head: &mut Head, file: FileId, target: usize, dropped: u64) {
        head.told[target] = false;
        if let Some(log) = self.files.get(file) {
            let path = log.path().clone();
            self.events.push(LogEvent::Resumed { id: head.style.id, path, dropped });
        }
    }

    /// What a stream does about a pipe whose file cannot be written for another `pause`.
    pub fn refuse(
        &mut self,
        head: &mut Head,
        target: usize,
        pipe: BorrowedFd<'_>,
        budget: usize,
        now: Now,
        pause: Duration,
    ) -> Pumped {
        let retry = Some(pause);
        match head.full {
            LogFull::Block => Pumped { moved: 0, drained: false, retry },
            LogFull::Drop => {
                let mut pumped = self.take_away(head, pipe, budget, now);
                head.drop_bytes(target, pumped.moved as u64);
                pumped.retry = pumped.retry.or(retry);
                pumped
            }
        }
    }

    /// Takes bytes out of a pipe that are written nowhere; watchers see them.
    pub fn take_away(
        &mut self,
        head: &mut Head,
        pipe: BorrowedFd<'_>,
        budget: usize,
        now: Now,
    ) -> Pumped {
        let mut moved = 0;
        let mut drained = false;
        while moved < budget && !drained {
            let result = if head.watch.is_some() {
                let mut input = std::mem::take(&mut self.input);
                input.resize(LINE_CAP.min(budget - moved), 0);
                let result = sys::splice::read(pipe, &mut input);
                if let Ok(count) = result {
                    self.show(head, input.get(..count).unwrap_or_default(), now);
                }
                self.input = input;
                result
            } else {
                self.discard(pipe, MOVE.min(budget - moved))
            };
            match result {
                Ok(count) if count > 0 => moved += count,
                Ok(_) => drained = true,
                // The null device cannot be opened: the bytes wait.
                Err(_) => return Pumped { moved, drained: false, retry: Some(UNKNOWN) },
            }
        }
        Pumped { moved, drained, retry: None }
    }

    fn discard(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let null = match &mut self.null {
            Some(null) => null,
            none => none.insert(sys::fds::null_device()?),
        };
        sys::splice::discard(pipe, null.as_fd(), most)
    }

    /// Shows watchers the bytes from `from` to the end of a file, as they were just written.
    pub fn show_written(&mut self, head: &mut Head, file: FileId, from: u64, now: Now) {
        let Some(watch) = &mut head.watch else {
            return;
        };
        let begun = std::mem::replace(&mut watch.begun, true);
        let Some(log) = self.files.get(file) else {
            return;
        };
        let end = log.length();
        let mut at = from;
        if let Some(handle) = log.handle()
            && !begun
        {
            at = line_start(handle, from);
        }
        let mut input = std::mem::take(&mut self.input);
        while at < end {
            let wanted = usize::try_from(end - at).map_or(LINE_CAP, |left| left.min(LINE_CAP));
            input.resize(wanted, 0);
            let handle = self.files.get(file).and_then(LogFile::handle);
            match handle.map(|handle| handle.read_at(&mut input, at)) {
                Some(Ok(count)) if count > 0 => {
                    self.show(head, input.get(..count).unwrap_or_default(), now);
                    at += count as u64;
                }
                Some(_) | None => break, // cut by others in this instant
            }
        }
        self.input = input;
    }

    /// Cuts the next bytes of a stream into lines for its watchers.
    pub fn show(&mut self, head: &mut Head, bytes: &[u8], now: Now) {
        if let Some(mut watch) = head.watch.take() {
            watch.begun = true;
            watch.splitter.feed(bytes, |line, partial| self.show_line(head, line, partial, now));
            head.watch = Some(watch);
        }
    }

    /// The stream ended: an unfinished line is shown.
    pub fn show_end(&mut self, head: &mut Head, now: Now) {
        if let Some(mut watch) = head.watch.take() {
            watch.splitter.finish(|line, partial| self.show_line(head, line, partial, now));
            head.watch = Some(watch);
        }
    }

    /// Shows one line to the watchers.
    pub fn show_line(&mut self, head: &mut Head, line: &[u8], partial: bool, now: Now) {
        if self.waiting > MOST_WAITING {
            head.unseen += 1;
            return;
        }
        if head.unseen > 0 {
            let lines = std::mem::take(&mut head.unseen);
            self.events.push(LogEvent::Unseen { id: head.style.id, lines });
        }
        let bytes = without_return(line).to_vec();
        self.waiting += bytes.len() + LINE_COST;
        self.lines.push(LogLine { id: head.style.id, bytes, partial, at: Some(now.wall) });
    }

    /// Moves the waiting lines to `out`.
    pub fn take_lines(&mut self, out: &mut Vec<LogLine>) {
        self.waiting = 0;
        out.append(&mut self.lines);
        self.lines.shrink_to(LINE_COST);
    }

    /// Gives back memory that one large move left behind.
    pub fn tidy(&mut self) {
        const KEPT: usize = 256 * 1024;
        self.output.clear();
        self.output.shrink_to(KEPT);
    }
}

impl Head {
    /// `bytes` are missing in the file at `target`.
    pub fn drop_bytes(&mut self, target: usize, bytes: u64) {
        self.dropped += bytes;
        self.miss(target, bytes);
    }

    /// As [`Head::drop_bytes`], for a second file whose bytes have been counted.
    pub fn miss(&mut self, target: usize, bytes: u64) {
        if bytes > 0 {
            self.journal.set_dropped(target, self.journal.dropped(target) + bytes);
        }
    }
}

/// Writes into `log` how many bytes are missing there, if any are; their number.
fn report(head: &Head, log: &mut LogFile, target: usize, now: Now) -> io::Result<Option<u64>> {
    let dropped = head.journal.dropped(target);
    if dropped == 0 {
        return Ok(None);
    }
    let mut frame = Frame::default();
    let mut line = Vec::new();
    if !log.ends_line() {
        line.push(b'\n');
    }
    head.style.frame(now.wall, &mut frame);
    let text = format!("pmd: {dropped} bytes dropped");
    head.style.write(&frame, text.as_bytes(), false, &mut line);
    if let Err(error) = log.write_at_end(&line) {
        log.cut_back();
        return Err(error);
    }
    head.journal.set_dropped(target, 0);
    log.wrote(line.len() as u64, now.wall);
    Ok(Some(dropped))
}

/// Where the line begins that has the byte before `at`, no more than a line's cap before it.
fn line_start(file: &std::fs::File, at: u64) -> u64 {
    let from = at.saturating_sub(LINE_CAP as u64);
    let mut bytes = vec![0; usize::try_from(at - from).unwrap_or(0)];
    if file.read_exact_at(&mut bytes, from).is_err() {
        return at;
    }
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(newline) => from + newline as u64 + 1,
        None => from,
    }
}
