//! Notices and log lines as events, encoded once for all who want them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::{ExitStatus, ProcId, Stream, WallTime};
use crate::json::json;
use crate::json::set;
use crate::proto::buffer::Frame;
use crate::proto::messages::carrier::{Carrier, Envelope};
use crate::proto::messages::stamp::MessageIds;
use crate::supervisor::vocabulary::{
    ErroredReason, HealthStatus, NoticeKind, RestartReason, Target,
};

/// Events a client may subscribe to.
pub const EVENTS: [&str; 7] = [
    "process_status",
    "process_metrics",
    "system_metrics",
    "health_update",
    "process_event",
    "log_message",
    "channel_event",
];

/// Whether `event` comes at an interval, not when something happens.
#[must_use]
pub fn is_periodic(event: &str) -> bool {
    matches!(event, "process_metrics" | "system_metrics")
}

/// A process as events name it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub id: ProcId,
    pub name: Rc<str>,
    pub namespace: Rc<str>,
    pub instance: u32,
}

impl Subject {
    /// Whether a filter of a subscription means this process. `None`: every process.
    #[must_use]
    pub fn is_wanted(&self, filter: Option<&[Target]>) -> bool {
        filter.is_none_or(|targets| targets.iter().any(|target| self.is(target)))
    }

    fn is(&self, target: &Target) -> bool {
        match target {
            Target::All => true,
            Target::Id(id) => *id == self.id || id.0.to_string() == *self.name,
            Target::Name(name) => **name == *self.name || **name == *self.namespace,
            Target::Instance(name, instance) => **name == *self.name && *instance == self.instance,
        }
    }
}

/// Something on its way to many clients: encoded at most once.
#[derive(Debug)]
pub struct Publication {
    /// One of [`EVENTS`].
    pub event: &'static str,
    /// The process it is about; `None`: sent to clients that the sender chooses.
    pub subject: Option<Subject>,
    /// Of a `channel_event`: what clients choose by.
    pub name: Option<Box<str>>,
    /// Of an event that carries another: that one, by which they choose as well.
    pub inner: Option<Inner>,
    pub at: WallTime,
    /// The `data` object as JSON text.
    pub data: String,
    number: OnceCell<u64>,
    line: OnceCell<Frame>,
    text_frame: OnceCell<Frame>,
}

impl Publication {
    #[must_use]
    pub fn new(event: &'static str, subject: Subject, at: WallTime, data: String) -> Self {
        Self { subject: Some(subject), ..Self::periodic(event, at, data) }
    }

    /// The same under a name that clients choose by.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// A message that comes at an interval. Its receivers are chosen by who sends it: those whose
    /// interval is over and whose filters are equal.
    #[must_use]
    pub fn periodic(event: &'static str, at: WallTime, data: String) -> Self {
        Self {
            event,
            subject: None,
            name: None,
            inner: None,
            at,
            data,
            number: OnceCell::new(),
            line: OnceCell::new(),
            text_frame: OnceCell::new(),
        }
    }

    /// The whole message as `carrier` has it. Its id is the same for all.
    pub fn frame(&self, carrier: Carrier, ids: &MessageIds) -> Frame {
        let made = match carrier {
            Carrier::Line => &self.line,
            Carrier::WebSocket => &self.text_frame,
        };
        made.get_or_init(|| {
            let number = *self.number.get_or_init(|| ids.take());
            let Self { event: kind, data, at, .. } = self;
            let envelope = Envelope { kind, data, at: *at, reply_to: None };
            carrier.frame(&envelope, ids.boot(), number)
        })
        .clone()
    }
}

/// A `log_message`.
#[derive(Debug, Serialize)]
pub struct LogMessage<'a> {
    pub process: &'a str,
    pub instance: u32,
    /// `info` for stdout, `error` for stderr.
    pub level: &'static str,
    pub stream: Stream,
    pub message: Cow<'a, str>,
    pub id: ProcId,
    pub partial: bool,
    pub backlog: bool,
}

impl<'a> LogMessage<'a> {
    /// Invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn new(subject: &'a Subject, stream: Stream, line: &'a [u8], partial: bool) -> Self {
        Self {
            process: &subject.name,
            instance: subject.instance,
            level: level(stream),
            stream,
            message: String::from_utf8_lossy(line),
            id: subject.id,
            partial,
            backlog: false,
        }
    }
}

/// The name of an event of intercom, and how patterns match it.
#[derive(Debug)]
pub struct Inner {
    pub name: Box<str>,
    pub delimiter: Box<str>,
    pub wildcard: bool,
}

/// The log level a stream stands for.
#[must_use]
pub fn level(stream: Stream) -> &'static str {
    match stream {
        Stream::Out => "info",
        Stream::Err => "error",
    }
}

/// The `data` of a `process_status` beyond what the notice itself says.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusFacts {
    pub pid: Option<i32>,
    pub port: Option<u16>,
    pub health: Option<HealthStatus>,
    pub restarts: u32,
    pub unstable_restarts: u32,
    pub last_exit: Option<ExitStatus>,
    pub snapshot: bool,
}

/// Renders a `process_status`.
#[must_use]
pub fn process_status(
    subject: &Subject,
    previous: Option<&str>,
    status: &str,
    facts: StatusFacts,
) -> String {
    json!({
        "id": subject.id, "name": &*subject.name, "status": status, "pid": facts.pid,
        "port": facts.port,
        "previous_status": previous, "namespace": &*subject.namespace,
        "instance": subject.instance, "restarts": facts.restarts,
        "unstable_restarts": facts.unstable_restarts,
        "exit_code": facts.last_exit.and_then(ExitStatus::code),
        "signal": facts.last_exit.and_then(ExitStatus::signal), "health": facts.health.map(HealthStatus::name),
        "snapshot": facts.snapshot,
    })
    .to_string()
}

/// Renders a `process_event`; `None` for changes of status and health, which have messages of their
/// own.
///
/// `last_output`: the last lines of stderr, for those who ask why it crashed (D19).
#[must_use]
pub fn process_event(
    subject: &Subject,
    kind: &NoticeKind,
    last_output: &[String],
) -> Option<String> {
    let (event, mut details) = event_details(kind)?;
    if !last_output.is_empty() {
        details.insert("last_output".to_owned(), json!(last_output));
    }
    Some(
        json!({
            "event": event, "process": &*subject.name, "id": subject.id,
            "namespace": &*subject.namespace, "instance": subject.instance, "details": details,
        })
        .to_string(),
    )
}

fn event_details(kind: &NoticeKind) -> Option<(&'static str, Map<String, Value>)> {
    let (event, details) = match kind {
        NoticeKind::Status { .. } | NoticeKind::Health { .. } => return None,
        NoticeKind::Started { pid, port, took } => {
            ("started", json!({"pid": pid, "port": port, "startup_time": millis(*took)}))
        }
        NoticeKind::Restarted { pid, port, restarts, reason, took } => (
            "restarted",
            json!({"pid": pid, "port": port, "restarts": restarts, "reason": reason_word(*reason),
                   "startup_time": millis(*took)}),
        ),
        NoticeKind::Reloaded { pid, port, changed } => {
            ("reloaded", json!({"pid": pid, "port": port, "config_changed": changed}))
        }
        NoticeKind::Stopped { status, uptime, commanded, .. } => (
            "stopped",
            json!({"exit_code": status.and_then(ExitStatus::code),
                   "signal": status.and_then(ExitStatus::signal), "uptime": millis(*uptime),
                   "reason": if *commanded { "command" } else { "exit" }}),
        ),
        NoticeKind::Crashed { pid, status, uptime, restart_in, .. } => (
            "crashed",
            json!({"pid": pid, "exit_code": status.code(), "signal": status.signal(),
                   "uptime": millis(*uptime), "will_restart": restart_in.is_some(),
                   "restart_in": restart_in.map(millis),
                   "core_dumped": matches!(status, ExitStatus::Signal { core: true, .. }),
                   "out_of_memory": *status == ExitStatus::OutOfMemory}),
        ),
        NoticeKind::Errored { reason, unstable } => {
            ("errored", errored_details(*reason, *unstable))
        }
        NoticeKind::NotReady { after } => ("not_ready", json!({"listen_timeout": millis(*after)})),
        NoticeKind::HealthCheckFailed { kind, failures, retries, probe } => (
            "health_check_failed",
            json!({"check_type": kind, "consecutive_failures": failures, "retries": retries,
                   "error": probe.error.as_deref(), "response_time": millis(probe.took)}),
        ),
        NoticeKind::Adopted { pid } => ("adopted", json!({"pid": pid})),
        NoticeKind::MemoryLimitExceeded { memory, limit } => (
            "memory_limit_exceeded",
            json!({"memory": memory, "limit": limit, "action": "restart"}),
        ),
        NoticeKind::ConfigChanged { fields } => ("config_changed", json!({"fields": fields})),
        NoticeKind::Deleted => ("deleted", json!({})),
    };
    let Value::Object(mut details) = details else { return None };
    if let NoticeKind::Stopped { turn: Some(turn), .. }
    | NoticeKind::Crashed { turn: Some(turn), .. } = kind
    {
        set(&mut details, "runs", &turn.runs);
        set(&mut details, "spinning", &turn.spinning);
    }
    Some((event, details))
}

fn errored_details(reason: ErroredReason, unstable: u32) -> Value {
    match reason {
        ErroredReason::MaxRestarts { last } => {
            json!({"reason": "max_restarts", "unstable_restarts": unstable,
                   "error": last.map(|status| status.to_string())})
        }
        ErroredReason::SpawnFailed(error) => {
            json!({"reason": "spawn_failed", "unstable_restarts": unstable,
                   "stage": error.stage.name(), "errno": error.errno})
        }
        ErroredReason::Unstoppable { left } => {
            json!({"reason": "unstoppable", "unstable_restarts": unstable, "left": left})
        }
    }
}

fn reason_word(reason: RestartReason) -> &'static str {
    match reason {
        RestartReason::Crash => "crash",
        RestartReason::Command | RestartReason::Overrun => "command",
        RestartReason::Reload => "reload",
        RestartReason::Health => "health",
        RestartReason::Memory => "memory",
        RestartReason::Cron => "cron",
        RestartReason::Watch => "watch",
    }
}

/// Whole milliseconds.
#[must_use]
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject { id: ProcId(3), name: "api".into(), namespace: "shop".into(), instance: 1 }
    }

    #[test]
    fn a_filter_means_names_namespaces_instances_and_ids() {
        for (text, wanted) in [
            ("api", true),
            ("shop", true),
            ("api:1", true),
            ("3", true),
            ("all", true),
            ("api:0", false),
            ("ap", false),
            ("4", false),
        ] {
            assert_eq!(subject().is_wanted(Some(&[Target::parse(text)])), wanted, "{text}");
        }
        assert!(subject().is_wanted(None));
        assert!(!subject().is_wanted(Some(&[])));
    }

    #[test]
    fn a_broadcast_is_encoded_once() {
        let ids = MessageIds::new("9f3c2a71".into());
        let news = Publication::new("process_event", subject(), WallTime(0), "{}".into());
        let (first, second) = (news.frame(Carrier::Line, &ids), news.frame(Carrier::Line, &ids));
        assert!(Rc::ptr_eq(&first, &second));
        let framed = news.frame(Carrier::WebSocket, &ids);
        assert_eq!((&framed[2..], framed[0]), (&first[..first.len() - 1], 0x81));
        assert_eq!(
            std::str::from_utf8(&first).unwrap(),
            "{\"type\":\"process_event\",\"data\":{},\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"id\":\"9f3c2a71-1\"}\n"
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_become_replacement_characters() {
        let subject = subject();
        let message = LogMessage::new(&subject, Stream::Err, b"a\xffb\x1b[0m", false);
        let text = serde_json::to_string(&message).unwrap();
        assert!(text.contains("\"a\u{fffd}b\\u001b[0m\""), "{text}");
        assert!(text.contains("\"level\":\"error\""), "{text}");
    }
}
