//! Notices and lines on their way to those who asked, and the memory of the last events.

use std::collections::VecDeque;

use crate::base::{ProcId, Stream, Time, WallTime};
use crate::daemon::entries::Pipe;
use crate::daemon::{Daemon, sinks};
use crate::json::json;
use crate::logs::{LogEvent, LogLine, StreamId};
use crate::proto::messages::event::{
    LogMessage, Publication, StatusFacts, Subject, process_event, process_status,
};
use crate::proto::messages::health::{Update, health_update};
use crate::proto::messages::session::Subscriptions;
use crate::supervisor::Health;
use crate::supervisor::spec::LogFull;
use crate::supervisor::vocabulary::{Notice, NoticeKind, Status};
use crate::sys::fds;

/// Events kept for `pmd events`.
const KEPT: usize = 1000;
/// Lines of stderr in a crash event (D19), and their bytes.
const LAST_LINES: usize = 30;
const LAST_BYTES: usize = 8 * 1024;
/// Bytes of the last line that are kept with a remembered crash.
const KEPT_LINE: usize = 200;

/// Bytes of lines that wait for followers, at most.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// An event that happened.
#[derive(Debug)]
pub struct Kept {
    pub at: WallTime,
    pub what: What,
}

/// What it was.
#[derive(Debug)]
pub enum What {
    Notice {
        notice: Notice,
        /// The last line of stderr, where it crashed.
        last_line: Option<Box<str>>,
    },
    /// Something about a log; `text`: as it was told.
    Log { subject: Subject, text: Box<str> },
}

/// The last events, and whether anyone listens.
#[derive(Debug, Default)]
pub struct News {
    kept: VecDeque<Kept>,
    /// Subscriptions to lines of all clients together; recounted when one changes.
    line_filters: Vec<Option<Vec<crate::supervisor::vocabulary::Target>>>,
    /// PM2's bus is told every line.
    bus: bool,
    lines: Vec<LogLine>,
    /// Lines for followers who have enough at the moment, and what they take.
    waiting: VecDeque<LogLine>,
    waiting_bytes: usize,
    log_events: Vec<LogEvent>,
}

impl News {
    /// Whether anybody is to be shown what this process writes.
    #[must_use]
    pub fn wants_lines(&self, subject: &Subject) -> bool {
        self.bus || self.is_followed(subject)
    }

    fn is_followed(&self, subject: &Subject) -> bool {
        self.line_filters.iter().any(|filter| subject.is_wanted(filter.as_deref()))
    }

    /// A line that is shown as soon as that is possible.
    fn queue(&mut self, line: LogLine) {
        self.waiting_bytes += cost(&line);
        self.waiting.push_back(line);
    }

    fn next_line(&mut self) -> Option<LogLine> {
        let Some(line) = self.waiting.pop_front() else {
            // What one outburst needed.
            self.waiting = VecDeque::new();
            return None;
        };
        self.waiting_bytes -= cost(&line);
        Some(line)
    }

    /// So much waits that it cannot wait for those who are slow.
    fn is_overdue(&self) -> bool {
        self.waiting_bytes > MOST_WAITING
    }

    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.kept.iter()
    }
}

impl Daemon {
    /// Carries out `Effect::Publish`.
    pub(super) fn publish(&mut self, notice: Notice) {
        if self.container.is_some() {
            self.container_notice(&notice);
        }
        self.touch_state_outside();
        let subject = subject_of_notice(&notice);
        match &notice.kind {
            NoticeKind::Status { from, to } => {
                if matches!(to, Status::Stopped | Status::Errored) {
                    self.stop_listening(notice.process);
                }
                if self.connections.wants("process_status") {
                    let facts = self.status_facts(notice.process);
                    let from = from.map(Status::name);
                    let data = process_status(&subject, from, to.name(), facts);
                    self.broadcast(Publication::new(
                        "process_status",
                        subject,
                        self.now.wall,
                        data,
                    ));
                }
                self.note_counters(notice.process);
                self.tell_notice(&notice, &[]);
            }
            NoticeKind::Health { from, to, failures, probe } => {
                let update = Update {
                    from: Some(*from),
                    to: *to,
                    failures: *failures,
                    probe: probe.as_ref(),
                    snapshot: false,
                };
                if self.connections.wants("health_update")
                    && let Some(process) = self.supervisor.process(notice.process)
                    && let Some(data) = health_update(&subject, process, &update)
                {
                    self.broadcast(Publication::new("health_update", subject, self.now.wall, data));
                }
            }
            kind @ (NoticeKind::Started { .. }
            | NoticeKind::Restarted { .. }
            | NoticeKind::Reloaded { .. }
            | NoticeKind::Stopped { .. }
            | NoticeKind::Crashed { .. }
            | NoticeKind::Errored { .. }
            | NoticeKind::NotReady { .. }
            | NoticeKind::HealthCheckFailed { .. }
            | NoticeKind::Adopted { .. }
            | NoticeKind::MemoryLimitExceeded { .. }
            | NoticeKind::ConfigChanged { .. }
            | NoticeKind::Deleted) => {
                if matches!(kind, NoticeKind::MemoryLimitExceeded { .. })
                    && let Some(entry) = self.entries.get_mut(&notice.process)
                {
                    entry.memory_hits += 1;
                }
                let crashed = matches!(kind, NoticeKind::Crashed { .. });
                if crashed && let Some(entry) = self.entries.get_mut(&notice.process) {
                    entry.crashes += 1;
                }
                let listened = self.connections.wants("process_event");
                let commanded = self.has_event_command(&notice);
                let last_output =
                    if crashed { self.last_output(notice.process) } else { Vec::new() };
                if (listened || commanded)
                    && let Some(data) = process_event(&subject, kind, &last_output)
                {
                    if commanded {
                        self.run_event_command(&notice, data.clone());
                    }
                    let at = self.now.wall;
                    self.broadcast(Publication::new("process_event", subject, at, data));
                }
                self.tell_notice(&notice, &last_output);
                let last_line = last_output.last().map(|line| cut(line).into());
                self.keep(What::Notice { notice, last_line });
            }
        }
    }

    fn keep(&mut self, what: What) {
        if self.news.kept.len() == KEPT {
            self.news.kept.pop_front();
        }
        self.news.kept.push_back(Kept { at: self.now.wall, what });
    }

    /// Status and counters as a later daemon should show them.
    pub(super) fn note_counters(&self, process: ProcId) {
        if let (Some(found), Some(entry)) =
            (self.supervisor.process(process), self.entries.get(&process))
        {
            let (restarts, unstable) = (found.restarts(), found.unstable_restarts());
            self.live.counters(entry.slot, restarts, unstable, found.is_ready());
        }
    }

    fn status_facts(&self, process: ProcId) -> StatusFacts {
        self.supervisor.process(process).map_or_else(StatusFacts::default, |found| StatusFacts {
            pid: found.pid().map(crate::base::Pid::raw),
            port: found.port(),
            health: found.health_status(),
            restarts: found.restarts(),
            unstable_restarts: found.unstable_restarts(),
            last_exit: found.last_exit().map(|exit| exit.status),
            snapshot: false,
        })
    }

    /// A `process_status` and a `health_update` of each wanted process as it is now, for a new
    /// subscriber.
    pub(super) fn snapshots(&self, subscriptions: &Subscriptions) -> Vec<Publication> {
        let mut snapshots = Vec::new();
        for event in ["process_status", "health_update"] {
            let Some(filter) = subscriptions.filter(event) else { continue };
            for process in self.supervisor.processes() {
                let subject = subject_of(process);
                if !subject.is_wanted(filter) {
                    continue;
                }
                let data = if event == "process_status" {
                    let facts = StatusFacts { snapshot: true, ..self.status_facts(process.id()) };
                    Some(process_status(&subject, None, process.status().name(), facts))
                } else {
                    health_snapshot(&subject, process)
                };
                let at = self.now.wall;
                snapshots.extend(data.map(|data| Publication::new(event, subject, at, data)));
            }
        }
        snapshots
    }

    /// The last lines a process wrote to stderr, what is still in the pipe included.
    pub(super) fn last_output(&mut self, process: ProcId) -> Vec<String> {
        self.last_lines_of(process, Stream::Err, LAST_LINES, LAST_BYTES)
    }

    /// The last lines of one stream, what is still in the pipe included.
    pub(super) fn last_lines_of(
        &mut self,
        process: ProcId,
        stream: Stream,
        lines: usize,
        bytes: usize,
    ) -> Vec<String> {
        let silent =
            |pipe: &Pipe| !pipe.logged && fds::waiting(pipe.borrow()).is_ok_and(|bytes| bytes == 0);
        let entry = self.entries.get(&process);
        if entry.and_then(|entry| entry.pipe(stream)).is_some_and(silent) {
            return Vec::new();
        }
        self.open_log(process, stream);
        self.drain(process, stream);
        self.logs
            .last_lines(StreamId { process, stream }, lines, bytes)
            .into_iter()
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .collect()
    }

    /// Passes on the lines that the last move brought.
    pub(super) fn deliver_lines(&mut self) {
        self.logs.take_events(&mut self.news.log_events);
        for event in std::mem::take(&mut self.news.log_events) {
            self.on_log_event(&event);
        }
        let mut lines = std::mem::take(&mut self.news.lines);
        self.logs.take_lines(&mut lines);
        self.container_lines(&mut lines);
        if self.news.bus {
            self.tell_lines(&lines);
        }
        if self.outside.is_on() {
            self.lines_outside(&lines);
        }
        self.give_to_host(&lines);
        for line in lines.drain(..) {
            let entry = self.entries.get(&line.id.process);
            if entry.is_some_and(|entry| self.news.is_followed(&entry.subject)) {
                self.news.queue(line);
            }
        }
        self.news.lines = lines;
        self.show_lines();
    }

    /// Shows followers the lines that wait, as many as those who read take at once.
    pub(super) fn show_lines(&mut self) {
        if self.news.waiting.is_empty() {
            return;
        }
        let mut must_wait = self.connections.pressed_until(self.now.mono).is_some();
        while !must_wait || self.news.is_overdue() {
            let Some(line) = self.news.next_line() else { return };
            must_wait = self.show_line(&line);
        }
    }

    /// Shows followers all lines that wait: what comes next must not come before them.
    pub(super) fn show_all_lines(&mut self) {
        while let Some(line) = self.news.next_line() {
            self.show_line(&line);
        }
    }

    fn show_line(&mut self, line: &LogLine) -> bool {
        let Some(entry) = self.entries.get(&line.id.process) else { return false };
        let subject = entry.subject.clone();
        let message = LogMessage::new(&subject, line.id.stream, &line.bytes, line.partial);
        let Ok(data) = serde_json::to_string(&message) else { return false };
        let at = line.at.unwrap_or(self.now.wall);
        let news = Publication::new("log_message", subject, at, data);
        self.connections.publish(&news, self.now, &self.ids)
    }

    /// When lines that wait are shown; `None`: there are none.
    pub(super) fn next_lines(&self) -> Option<Time> {
        let now = self.now.mono;
        let waits = !self.news.waiting.is_empty();
        waits.then(|| self.connections.pressed_until(now).unwrap_or(now))
    }

    /// Lines of apps that want them in the host's own logs.
    fn give_to_host(&mut self, lines: &[LogLine]) {
        for line in lines {
            let Some(entry) = self.entries.get(&line.id.process) else { continue };
            let logs = &entry.spec.logs;
            if !logs.journald && !logs.syslog {
                continue;
            }
            let child = entry.child.and_then(|child| self.children.get(child));
            let one = sinks::Line {
                subject: &entry.subject,
                stream: line.id.stream,
                pid: child.map(|child| child.pid.raw()),
                at: line.at.unwrap_or(self.now.wall),
                text: &line.bytes,
            };
            let mut news = None;
            if logs.journald {
                news = self.sinks.journald(&one);
            }
            if logs.syslog {
                news = self.sinks.syslog(&one).or(news);
            }
            match news {
                None => {}
                Some(sinks::News::Lost { sink, why }) => {
                    self.own_log.warn(format_args!("{sink} does not take log lines: {why}"));
                }
                Some(sinks::News::Again { sink, lost }) => {
                    self.own_log.info(format_args!("{sink} takes log lines again lost={lost}"));
                }
            }
        }
    }

    fn on_log_event(&mut self, event: &LogEvent) {
        let (id, word, details) = match event {
            LogEvent::Full { id, path, policy, reason } => {
                let policy = match policy {
                    LogFull::Drop => "drop",
                    LogFull::Block => "block",
                };
                self.own_log.warn(format_args!(
                    "cannot write log: {reason} path={} log_full={policy}",
                    path.display()
                ));
                (
                    Some(id.process),
                    "log_full",
                    json!({"policy": policy, "path": path, "error": reason}),
                )
            }
            LogEvent::Resumed { id, path, dropped } => {
                self.own_log.info(format_args!(
                    "log is written again path={} dropped_bytes={dropped}",
                    path.display()
                ));
                (Some(id.process), "log_resumed", json!({"path": path, "dropped_bytes": dropped}))
            }
            LogEvent::SpaceLow { path, percent_free, removed } => {
                self.own_log.warn(format_args!(
                    "log space low ({percent_free}% free): {removed} old logs removed path={}",
                    path.display()
                ));
                let writer =
                    self.entries.iter().find(|(_, entry)| entry.files(&self.places).has(path));
                let details = json!({"percent_free": percent_free, "removed": removed});
                (writer.map(|(&id, _)| id), "log_space_low", details)
            }
            LogEvent::RotateFailed { path, reason } => {
                let place = path.display();
                return self.own_log.warn(format_args!("cannot rotate {place}: {reason}"));
            }
            // The reader was told by `lagged`, or is gone.
            LogEvent::Unseen { .. } => return,
        };
        let Some(entry) = id.and_then(|id| self.entries.get(&id)) else { return };
        let subject = entry.subject.clone();
        let text = json!({
            "event": word, "process": &*subject.name, "id": subject.id,
            "namespace": &*subject.namespace, "instance": subject.instance,
            "details": details,
        })
        .to_string();
        self.keep(What::Log { subject: subject.clone(), text: text.as_str().into() });
        if self.connections.wants("process_event") {
            self.broadcast(Publication::new("process_event", subject, self.now.wall, text));
        }
    }

    pub(super) fn broadcast(&mut self, news: Publication) {
        let _ = self.connections.publish(&news, self.now, &self.ids);
    }

    /// Counts again who follows lines: a client subscribed or left.
    pub(super) fn recount_watchers(&mut self) {
        self.news.line_filters = self.connections.line_filters();
        let clients = self.connections.pm2_listeners();
        self.pm2.listeners = clients + usize::from(self.outside.is_on());
        self.news.bus = clients > 0;
        self.own_log.tap(self.news.bus);
        for (&process, entry) in self.entries.iter() {
            let wanted = self.container.is_some()
                || entry.spec.logs.wants_lines()
                || self.news.wants_lines(&entry.subject)
                || self.outside.wants_lines(entry);
            for stream in Stream::BOTH {
                self.logs.watch(StreamId { process, stream }, wanted);
            }
        }
    }
}

/// How a process is, for those who want to hear of changes.
fn health_snapshot(subject: &Subject, process: &crate::supervisor::Process) -> Option<String> {
    let health = process.health();
    let update = Update {
        from: None,
        to: process.health_status()?,
        failures: health.map_or(0, Health::failures),
        probe: health.and_then(Health::last).map(|(_, probe)| probe),
        snapshot: true,
    };
    health_update(subject, process, &update)
}

/// Whom a notice is about.
pub fn subject_of_notice(notice: &Notice) -> Subject {
    Subject {
        id: notice.process,
        name: notice.name.clone(),
        namespace: notice.namespace.clone(),
        instance: notice.instance,
    }
}

/// A process as events name it.
pub fn subject_of(process: &crate::supervisor::Process) -> Subject {
    Subject {
        id: process.id(),
        name: process.name().clone(),
        namespace: process.namespace().clone(),
        instance: process.instance(),
    }
}

/// Bytes that a waiting line takes.
fn cost(line: &LogLine) -> usize {
    size_of::<LogLine>() + line.bytes.len()
}

/// How a crash reads in one line.
fn cut(line: &str) -> &str {
    let end = (0..=KEPT_LINE.min(line.len())).rev().find(|&at| line.is_char_boundary(at));
    line.get(..end.unwrap_or(0)).unwrap_or_default()
}
