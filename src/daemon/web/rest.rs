//! REST: answers in PMDaemon's shapes.

use serde_json::{Map, Value};

use crate::base::ProcId;
use crate::daemon::Daemon;
use crate::json::{json, object};
use crate::proto::http::record::{Facts, record};
use crate::proto::http::response::Response;
use crate::proto::http::route::Route;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::health::health_check;
use crate::proto::messages::request::LogQuery;
use crate::proto::messages::session::Answer;
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::{HealthStatus, Target};

impl Daemon {
    /// Answers what changes nothing.
    pub(super) fn view(&mut self, route: &Route) -> Result<Response, ErrorReply> {
        let data = match route {
            Route::List { namespace, status, name } => {
                let is = |wish: &Option<String>, value: &str| {
                    wish.as_ref().is_none_or(|wish| wish == value)
                };
                let wanted = |process: &&Process| {
                    is(namespace, process.namespace())
                        && is(name, process.name())
                        && is(status, process.status().name())
                };
                let ids: Vec<ProcId> =
                    self.supervisor.processes().filter(wanted).map(Process::id).collect();
                let list = self.records(&ids);
                let meta = json!({"total": list.len(), "namespace": namespace});
                return Ok(success([("data", list.into()), ("meta", meta)]));
            }
            Route::One(target) => {
                let mut list = self.records(&self.find(target)?);
                if list.len() < 2 {
                    list.pop().unwrap_or_default()
                } else {
                    let mut first = list.first().cloned().unwrap_or_default();
                    first["instances"] = list.into();
                    first
                }
            }
            Route::Logs { target, lines, stream } => {
                let query = LogQuery {
                    processes: Some(vec![target.clone()]),
                    lines: *lines,
                    stream: *stream,
                    since: None,
                    until: None,
                    grep: None,
                };
                log_data(target, *lines, &answered(self.log_lines(&query))?)
            }
            Route::HealthOf(target) => {
                let ids = self.find(target)?;
                let first = ids.first().and_then(|id| self.supervisor.process(*id));
                let Some(health) = first.and_then(health_check) else {
                    let text = format!("'{target}' has no health check");
                    return Err(ErrorReply::new(Code::ProcessNotFound, text));
                };
                json!({"process": target.to_string(), "health": health})
            }
            Route::System => self.host_data(),
            Route::Status => {
                let ids: Vec<ProcId> = self.supervisor.processes().map(Process::id).collect();
                let list = self.records(&ids);
                let ports: Vec<u16> =
                    self.supervisor.processes().filter_map(Process::port).collect();
                let system = self.host_data()["system"].take();
                json!({
                    "processes": list, "system": system,
                    "ports": {"total": ports.len(), "allocated": ports},
                    "meta": {
                        "pm2_version": env!("CARGO_PKG_VERSION"), "node_version": "N/A (Rust)",
                        "timestamp": timestamp(self.now.wall),
                    },
                })
            }
            Route::Index
            | Route::Asset(_)
            | Route::Health
            | Route::Metrics
            | Route::WebSocket
            | Route::Create
            | Route::Act { .. } => Value::Null,
        };
        Ok(success([("data", data)]))
    }

    /// Processes as REST shows them.
    fn records(&mut self, ids: &[ProcId]) -> Vec<Value> {
        for &id in ids {
            self.prepare_log_names(id);
        }
        ids.iter()
            .filter_map(|id| {
                let (process, entry) = (self.supervisor.process(*id)?, self.entries.get(id)?);
                let files = entry.pm2_files(&self.places);
                let usage = self.usage(process);
                let health = process.health_status().map(HealthStatus::name);
                let facts = Facts { cpu: usage.cpu, memory: usage.memory, health, files: &files };
                Some(record(process, self.now, &facts))
            })
            .collect()
    }

    /// What the host uses, in PMDaemon's words and in pmd's own.
    fn host_data(&self) -> Value {
        let text = self.system_metrics(None);
        let mut data: Value = serde_json::from_str(&text).unwrap_or_default();
        let (memory, load) = (&data["memory"], &data["load"]);
        let system = json!({
            "cpu": data["cpu"]["usage"],
            "memory": {
                "used": memory["used"], "total": memory["total"],
                "percentage": memory["usage_percent"],
            },
            "load_average": [load["one"], load["five"], load["fifteen"]],
            "uptime": data["uptime"].as_u64().unwrap_or(0) / 1000,
            "timestamp": timestamp(self.now.wall),
        });
        data["system"] = system;
        data
    }

    /// The answer to what changed something.
    pub(super) fn result_response(&mut self, route: Option<&Route>, data: &str) -> Response {
        let result: Value = serde_json::from_str(data).unwrap_or_default();
        let results = result["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        if result["ok"] == false {
            let failed = results.iter().find(|one| one["ok"] == false);
            let why = failed.and_then(|one| one["error"]["message"].as_str());
            let error = ErrorReply::new(Code::OperationFailed, why.unwrap_or("it failed"));
            return Response::error(&error.with("results", results));
        }
        let warnings = &result["warnings"];
        let name = results.first().and_then(|one| one["name"].as_str()).unwrap_or_default();
        let (status, done) = match route {
            Some(Route::Create) => (201, "created"),
            Some(Route::Act { action, .. }) => (200, done_word(action, result["changed"] == true)),
            Some(_) | None => (200, "done"),
        };
        let mut members = Map::new();
        members.insert("message".to_owned(), format!("process '{name}' {done}").into());
        members.insert("warnings".to_owned(), warnings.clone());
        let ids = results.iter().filter_map(|one| one["id"].as_u64());
        let ids: Vec<ProcId> = ids.filter_map(|id| u32::try_from(id).ok()).map(ProcId).collect();
        members.insert("data".to_owned(), self.records(&ids).into());
        let location = format!("/api/processes/{}", ids.first().map_or(0, |id| id.0));
        let response = Response::success(status, members);
        if status == 201 { response.with("Location", location) } else { response }
    }
}

fn done_word(action: &str, changed: bool) -> &'static str {
    match (action, changed) {
        ("start", true) => "started",
        ("start", false) => "is online already",
        ("stop", true) => "stopped",
        ("stop", false) => "is stopped already",
        ("delete", _) => "deleted",
        ("reload", _) => "reloaded",
        _ => "restarted",
    }
}

fn success<const N: usize>(members: [(&str, Value); N]) -> Response {
    Response::success(200, object(members))
}

/// The `data` of an answer.
fn answered(answer: Answer) -> Result<Value, ErrorReply> {
    match answer {
        Answer::Data(_, text) => Ok(serde_json::from_str(&text).unwrap_or_default()),
        Answer::Error(error) => Err(error),
    }
}

/// Lines of a log as one text, and one by one.
fn log_data(target: &Target, wanted: usize, logs: &Value) -> Value {
    let lines = logs["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    let mut entries = Vec::with_capacity(lines.len());
    for line in lines {
        text.push_str(line["message"].as_str().unwrap_or_default());
        text.push('\n');
        entries.push(json!({
            "timestamp": line["timestamp"], "stream": line["stream"], "message": line["message"],
        }));
    }
    json!({"logs": text, "lines": wanted, "process_id": target.to_string(), "entries": entries})
}
