//! What clients ask about logs: lines, flushing, rotating, a line for a child's stdin.

use serde_json::Value;

use crate::base::{ProcId, Stream};
use crate::daemon::Daemon;
use crate::daemon::news::subject_of;
use crate::daemon::requests::data;
use crate::json::json;
use crate::logs::{LogLine, StreamId, TailQuery};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{LogMessage, Publication, level};
use crate::proto::messages::request::LogQuery;
use crate::proto::messages::session::{Answer, LIMITS};
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::Target;
use crate::sys::fds;

impl Daemon {
    pub(super) fn backlog(&mut self, filter: Option<&[Target]>, lines: usize) -> Vec<Publication> {
        let wanted: Vec<ProcId> = self
            .supervisor
            .processes()
            .filter(|process| subject_of(process).is_wanted(filter))
            .map(Process::id)
            .collect();
        let query = TailQuery::last(lines);
        let tail = self.tail(&wanted, None, &query);
        tail.into_iter()
            .filter_map(|line| {
                let subject = subject_of(self.supervisor.process(line.id.process)?);
                let mut message =
                    LogMessage::new(&subject, line.id.stream, &line.bytes, line.partial);
                message.backlog = true;
                let data = serde_json::to_string(&message).ok()?;
                let at = line.at.unwrap_or_default();
                Some(Publication::new("log_message", subject, at, data))
            })
            .collect()
    }

    /// The last lines of processes, what is still in their pipes included.
    pub(super) fn tail(
        &mut self,
        processes: &[ProcId],
        stream: Option<Stream>,
        query: &TailQuery,
    ) -> Vec<LogLine> {
        let mut ids = Vec::new();
        for &process in processes {
            self.prepare_log_names(process);
            for stream in Stream::BOTH.into_iter().filter(|&one| stream.is_none_or(|s| s == one)) {
                self.open_log(process, stream);
                self.drain(process, stream);
                ids.push(StreamId { process, stream });
            }
        }
        self.logs.tail(&ids, query)
    }

    /// Makes sure that the files of a process have names, also of one that this daemon has not
    /// started.
    pub(super) fn prepare_log_names(&mut self, id: ProcId) {
        if self.entries.contains_key(&id) {
            return;
        }
        let Some(process) = self.supervisor.process(id) else { return };
        let (instance, spec) = (process.instance(), process.spec().clone());
        if let Err(error) = self.prepare_entry(id, instance, &spec) {
            let why = crate::sys::describe(&error);
            self.own_log.warn(format_args!("cannot enter {} in the live table: {why}", spec.name));
        }
    }

    pub(super) fn log_lines(&mut self, query: &LogQuery) -> Answer {
        let ids = match self.find_all(query.processes.as_deref()) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let wanted = match query.grep {
            None => query.lines,
            Some(_) => LIMITS.lines,
        };
        let tail = TailQuery { since: query.since, until: query.until, ..TailQuery::last(wanted) };
        let mut found = self.tail(&ids, query.stream, &tail);
        if let Some(text) = &query.grep {
            found.retain(|line| String::from_utf8_lossy(&line.bytes).contains(text.as_str()));
            found.drain(..found.len().saturating_sub(query.lines));
        }
        let lines: Vec<Value> = found
            .into_iter()
            .filter_map(|line| {
                let subject = subject_of(self.supervisor.process(line.id.process)?);
                Some(json!({
                    "timestamp": line.at.map(timestamp), "process": &*subject.name,
                    "id": subject.id, "instance": subject.instance, "stream": line.id.stream,
                    "level": level(line.id.stream), "partial": line.partial,
                    "message": String::from_utf8_lossy(&line.bytes),
                }))
            })
            .collect();
        let label = match query.processes.as_deref() {
            Some([one]) => Some(one.to_string()),
            Some(_) | None => None,
        };
        data("logs", &json!({"process": label, "lines": lines, "truncated": false}))
    }

    pub(super) fn on_logs(&mut self, targets: Option<Vec<Target>>, work: LogWork) -> Answer {
        if matches!(work, LogWork::Reopen) {
            self.reopen_logs();
            return data("done", &json!({"processes": self.entries.len()}));
        }
        let ids = match self.find_all(targets.as_deref()) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut failed = None;
        for &process in &ids {
            self.prepare_log_names(process);
            for stream in Stream::BOTH {
                self.open_log(process, stream);
                self.drain(process, stream);
                let id = StreamId { process, stream };
                let worked = match work {
                    LogWork::Flush => self.logs.flush(id),
                    LogWork::Rotate => self.logs.rotate(id),
                    LogWork::Reopen => Ok(()),
                };
                failed = failed.or_else(|| worked.err());
            }
        }
        if let Some(error) = failed {
            return Answer::Error(ErrorReply::new(Code::OperationFailed, error.to_string()));
        }
        data("done", &json!({"processes": ids.len()}))
    }

    /// Opens files again after somebody moved them away.
    pub(super) fn reopen_logs(&mut self) {
        self.logs.reopen();
        self.own_log.reopen();
    }

    pub(super) fn send_line(&mut self, target: &Target, line: &str) -> Answer {
        let ids = match self.find(target) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        for &id in &ids {
            let Some(entry) = self.entries.get(&id) else { continue };
            let name = entry.subject.name.clone();
            let child = entry.child.and_then(|child| self.children.get(child));
            let Some(stdin) = child.and_then(|child| child.stdin.as_ref()) else {
                let text = format!("stdin of '{name}' is not open");
                return Answer::Error(
                    ErrorReply::new(Code::OperationFailed, text)
                        .with("why", "its stdin is /dev/null")
                        .with(
                            "hint",
                            "\"stdio\": [\"pipe\", \"pipe\", \"pipe\"] in its definition",
                        ),
                );
            };
            if let Err(error) = fds::write_line(stdin, line.as_bytes()) {
                let why = crate::sys::describe(&error);
                let text = format!("cannot write to stdin of '{name}': {why}");
                return Answer::Error(ErrorReply::new(Code::OperationFailed, text));
            }
        }
        data("done", &json!({"processes": ids.len()}))
    }
}

/// What is to be done with log files.
#[derive(Clone, Copy, Debug)]
pub enum LogWork {
    Flush,
    Rotate,
    Reopen,
}
