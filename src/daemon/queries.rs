//! Questions that change nothing, answered from what is known.

use serde_json::Value;

use crate::base::{ProcId, Stream, WallTime};
use crate::config::definition::{definition, effective};
use crate::config::secrets;
use crate::daemon::key::ConnId;
use crate::daemon::news::{What, subject_of_notice};
use crate::daemon::requests::{data, owner_only};
use crate::daemon::{Daemon, answers};
use crate::json::json;
use crate::logs::StreamId;
use crate::proto::messages::entry::{Entry, Facts, LogPaths};
use crate::proto::messages::event::{millis, process_event};
use crate::proto::messages::session::Answer;
use crate::proto::messages::stamp::timestamp;
use crate::sorted::SortedSet;
use crate::supervisor::Process;
use crate::supervisor::spec::LogFull;
use crate::supervisor::vocabulary::Target;
use crate::sys::{fds, limits, process};

/// Lines of stderr in `show`.
const SHOWN_LINES: usize = 10;

/// How `process_info` begins.
const INFO: &str = r#"{"processes":["#;

impl Daemon {
    pub(super) fn info(&mut self, targets: Option<&[Target]>, brief: bool) -> Answer {
        let ids = match self.find_all(targets) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut text = INFO.to_owned();
        let is_one = targets.is_some() && ids.len() == 1;
        for (at, id) in ids.into_iter().enumerate() {
            let facts = if brief { None } else { Some(self.facts(id)) };
            let last_words = if brief { self.words_of_failed(id) } else { None };
            let Some(process) = self.supervisor.process(id) else { continue };
            let usage = self.usage(process);
            let mut entry = match facts {
                Some(facts) => Entry::full(process, self.now, usage, facts),
                None => {
                    let error = answers::errored_text(process);
                    Entry::brief(process, self.now, usage, error, last_words)
                }
            };
            entry.note = self.log_note(process).or_else(|| self.watch_note(process));
            entry.next_run = self.supervisor.next_run(id).map(timestamp);
            entry.watch = self.supervisor.is_watch_on(id);
            if at > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&entry).unwrap_or_default());
        }
        text.push(']');
        // Of a single process the fields stand at the top, too, for simple clients.
        let fields = text.get(INFO.len() + 1..text.len() - 1).filter(|_| is_one);
        match fields.map(str::to_owned) {
            Some(fields) => {
                text.push(',');
                text.push_str(&fields);
            }
            None => text.push('}'),
        }
        Answer::Data("process_info", text)
    }

    /// That the log of a process cannot be written.
    fn log_note(&self, process: &Process) -> Option<String> {
        let id = process.id();
        let streams = Stream::BOTH.iter().map(|&stream| StreamId { process: id, stream });
        let (reason, no_space) = streams.into_iter().find_map(|id| self.logs.trouble(id))?;
        let full = process.spec().logs.full.unwrap_or(self.settings.log.full);
        Some(match full {
            _ if !no_space => format!("cannot write its log: {reason}"),
            LogFull::Drop => "dropping log bytes (log_full=drop)".to_owned(),
            LogFull::Block => "waits for log space (log_full=block)".to_owned(),
        })
    }

    /// That its files cannot be watched.
    fn watch_note(&self, process: &Process) -> Option<String> {
        self.watches.trouble(process.name()).map(str::to_owned)
    }

    /// What a process that gave up wrote last.
    fn words_of_failed(&mut self, id: ProcId) -> Option<Vec<String>> {
        self.supervisor.process(id)?.errored()?;
        self.prepare_log_names(id);
        Some(self.shown_output(id))
    }

    fn shown_output(&mut self, id: ProcId) -> Vec<String> {
        let mut lines = self.last_output(id);
        lines.drain(..lines.len().saturating_sub(SHOWN_LINES));
        lines
    }

    fn facts(&mut self, id: ProcId) -> Facts {
        self.prepare_log_names(id);
        let last_output = self.shown_output(id);
        let resources = self.resources(id);
        let channel = self.channel_facts(id);
        let Some(process) = self.supervisor.process(id) else { return Facts::default() };
        let spec = process.spec();
        let source_changed = spec.source.as_deref().is_some_and(|source| {
            let changed = std::fs::metadata(source).and_then(|meta| meta.modified()).ok();
            let changed = changed
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
                .map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
            changed.is_none_or(|changed| WallTime(changed) > process.created_at())
        });
        let files = self.entries.get(&id).map(|entry| entry.files(&self.places));
        let path = |stream: Stream| {
            let path = files.as_ref()?.logs[stream.index()].as_ref()?;
            Some(path.to_string_lossy().into_owned())
        };
        let dropped = Stream::BOTH
            .iter()
            .map(|&stream| self.logs.dropped_bytes(StreamId { process: id, stream }))
            .sum();
        Facts {
            logs: LogPaths { out: path(Stream::Out), error: path(Stream::Err) },
            log_dropped: dropped,
            source_changed,
            error: answers::errored_text(process),
            resources,
            channel,
            config: effective(spec),
            last_output,
            last_lines: self
                .news
                .kept()
                .filter_map(|kept| match &kept.what {
                    What::Notice { notice, last_line } if notice.process == id => {
                        Some((kept.at, last_line.as_deref()?.to_owned()))
                    }
                    What::Notice { .. } | What::Log { .. } => None,
                })
                .collect(),
        }
    }

    /// What happened, the last `limit` of it, oldest first.
    pub(super) fn events(
        &self,
        targets: Option<&[Target]>,
        since: Option<WallTime>,
        limit: Option<usize>,
    ) -> Answer {
        let mut events: Vec<Value> = self
            .news
            .kept()
            .rev()
            .filter(|kept| since.is_none_or(|since| kept.at >= since))
            .filter_map(|kept| {
                let (subject, text) = match &kept.what {
                    What::Notice { notice, last_line } => {
                        let subject = subject_of_notice(notice);
                        let last: Vec<String> =
                            last_line.iter().map(|line| line.to_string()).collect();
                        let text = process_event(&subject, &notice.kind, &last)?;
                        (subject, text)
                    }
                    What::Log { subject, text } => (subject.clone(), text.to_string()),
                };
                if !subject.is_wanted(targets) {
                    return None;
                }
                let mut event: Value = serde_json::from_str(&text).ok()?;
                event["timestamp"] = timestamp(kept.at).into();
                Some(event)
            })
            .take(limit.unwrap_or(usize::MAX))
            .collect();
        events.reverse();
        data("events", &json!({"events": events}))
    }

    pub(super) fn environment(&mut self, client: ConnId, target: &Target, reveal: bool) -> Answer {
        if reveal && !self.is_owner(client) {
            return Answer::Error(owner_only("--reveal"));
        }
        let id = match self.find(target) {
            Ok(ids) => ids.first().copied(),
            Err(error) => return Answer::Error(error),
        };
        let Some(process) = id.and_then(|id| self.supervisor.process(id)) else {
            return Answer::Error(self.not_found(target));
        };
        let env = answers::environment_of(process.spec(), reveal);
        data("environment", &json!({"process": process.spec().name, "env": env}))
    }

    pub(super) fn pm2_list(&mut self, client: ConnId, reveal: bool) -> Answer {
        if reveal && !self.is_owner(client) {
            return Answer::Error(owner_only("--reveal"));
        }
        Answer::Data("pm2_list", format!(r#"{{"list":{}}}"#, self.pm2_records(reveal)))
    }

    pub(super) fn about(&self) -> Answer {
        let mut problems = Vec::new();
        if let Some(text) = self.saving.lost {
            problems.push(json!({"code": "state", "message": text}));
        }
        if let Some(why) = &self.saving.failure {
            problems.push(json!({"code": "state", "message": format!("cannot save state: {why}")}));
        }
        if let Some(why) = self.pm2.trouble() {
            problems.push(json!({"code": "pm2", "message": format!("PM2 interface off: {why}")}));
        }
        if let Some(why) = self.outside.trouble() {
            problems.push(json!({"code": "agent", "message": format!("agent off: {why}")}));
        }
        if !self.live.outlives_us() {
            problems.push(json!({"code": "live-table",
                "message": "no live table: programs cannot be adopted after a crash"}));
        }
        if self.kept.lost {
            problems.push(json!({"code": "keeper",
                "message": "no keeper: nobody starts this daemon again should it die",
                "hint": "pmd kill --leave-running, then pmd resurrect (programs keep running)"}));
        }
        let hub = self.ipevents.problems();
        problems.extend(hub.map(|text| json!({"code": "ipevents", "message": text})));
        problems.extend(self.web.problems().map(|text| json!({"code": "web", "message": text})));
        let used = fds::open_descriptors();
        let limit = limits::nofile();
        data(
            "daemon",
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "pid": process::own_pid(),
                "keeper_pid": self.kept.pid(), "boot": self.ids.boot(),
                "uptime": millis(
                    self.now.mono.since(self.started.mono)),
                "home": self.paths.state,
                "paths": {
                    "state": self.paths.state, "socket": self.paths.socket,
                    "logs": self.paths.logs, "log": self.paths.own_log(),
                    "config": self.paths.config, "runtime": self.paths.runtime,
                },
                "cgroup": self.groups.about(), "web": self.web.report(self.web_clients().len()),
                "limits": {"descriptors": limit, "descriptors_used": used,
                           "connections": self.settings.max_connections},
                "processes": self.supervisor.processes().count(),
                "problems": problems,
            }),
        )
    }

    pub(super) fn export(&self, targets: Option<&[Target]>) -> Answer {
        let ids = match self.find_all(targets) {
            Ok(ids) => ids,
            Err(error) => return Answer::Error(error),
        };
        let mut names = SortedSet::new();
        let definitions: Vec<Value> = ids
            .into_iter()
            .filter_map(|id| self.supervisor.process(id))
            .filter(|process| names.insert(process.spec().name.clone()))
            .map(|process| {
                let mut fields = definition(process.spec());
                let secret: Vec<String> = match fields.get_mut("env") {
                    Some(Value::Object(env)) => {
                        let spec = process.spec();
                        let secret: Vec<String> = env
                            .iter()
                            .filter(|(name, value)| {
                                let value = value.as_str().unwrap_or_default();
                                secrets::mask(name, value, &spec.secret_env) != value
                            })
                            .map(|(name, _)| name.clone())
                            .collect();
                        env.retain(|name, _| !secret.contains(name));
                        secret
                    }
                    Some(_) | None => Vec::new(),
                };
                json!({"definition": fields, "left_out": secret})
            })
            .collect();
        let left_out: Vec<&Value> = definitions.iter().map(|one| &one["left_out"]).collect();
        let plain: Vec<&Value> = definitions.iter().map(|one| &one["definition"]).collect();
        data("definitions", &json!({"definitions": plain, "left_out": left_out}))
    }
}
