//! Health as messages show it: the event `health_update`, and what answers tell of a process.
//!
//! Source of the shapes: the WebSocket API document, A5 and A8.

use serde_json::{Map, Value};

use crate::base::WallTime;
use crate::config::secrets::mask_urls;
use crate::json::json;
use crate::proto::messages::event::{Subject, millis};
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::spec::{Check, PORT_VARIABLE};
use crate::supervisor::vocabulary::{Finding, HealthStatus, Probe};
use crate::supervisor::{Health, Process};

/// A change of health.
#[derive(Debug)]
pub struct Update<'a> {
    pub from: Option<HealthStatus>,
    pub to: HealthStatus,
    pub failures: u32,
    /// The check that showed it.
    pub probe: Option<&'a Probe>,
    pub snapshot: bool,
}

/// Renders a `health_update`; `None` for a process without a health check.
#[must_use]
pub fn health_update(subject: &Subject, process: &Process, update: &Update<'_>) -> Option<String> {
    let check = &process.running_spec().health()?.check;
    Some(
        json!({
            "process": &*subject.name, "id": subject.id, "instance": subject.instance,
            "namespace": &*subject.namespace, "status": update.to.name(),
            "previous_status": update.from.map(HealthStatus::name), "check_type": check.kind(),
            "details": details(check, process.serving_port(), update.probe),
            "consecutive_failures": update.failures, "snapshot": update.snapshot,
        })
        .to_string(),
    )
}

/// What was looked at, and what came of it.
fn details(check: &Check, port: Option<u16>, probe: Option<&Probe>) -> Value {
    let mut details = Map::new();
    let mut add = |name: &str, value: Value| details.insert(name.to_owned(), value);
    let code = probe.and_then(|probe| probe.code).map_or(Value::Null, Value::from);
    match check {
        Check::Http(url) => {
            add("url", with_port(url, port).into());
            add("status_code", code);
        }
        Check::Tcp { host, port: own } => {
            add("host", host.as_str().into());
            add("port", own.or(port).map_or(Value::Null, Value::from));
        }
        Check::Script(_) => {
            add("script", script(check).into());
            add("exit_code", code);
        }
    }
    add("response_time", probe.map_or(Value::Null, |probe| millis(probe.took).into()));
    let error = probe.and_then(|probe| probe.error.as_deref());
    add("error", error.map_or(Value::Null, Value::from));
    Value::Object(details)
}

/// What is told of a process's health; `None` for one without a health check.
#[must_use]
pub fn health_check(process: &Process) -> Option<Value> {
    let spec = process.running_spec().health().or_else(|| process.spec().health())?;
    let status = process.health_status()?;
    let health = process.health();
    let last = health.and_then(Health::last);
    let (passed, failed) = health.map(Health::totals).unwrap_or_default();
    let seen = health.map_or(&[][..], Health::seen).iter().map(seen);
    Some(json!({
        "status": status.name(), "check_type": spec.check.kind(),
        "check": label(&spec.check, process.serving_port()),
        "last_check": last.map(|(at, _)| timestamp(*at)),
        "details": details(&spec.check, process.serving_port(), last.map(|(_, probe)| probe)),
        "consecutive_failures": health.map_or(0, Health::failures), "retries": spec.retries,
        "tries": health.map_or(0, Health::tries), "passed": passed, "failed": failed,
        "history": seen.collect::<Vec<_>>(),
    }))
}

fn seen((at, probe): &(WallTime, Probe)) -> Value {
    json!({
        "at": timestamp(*at), "ok": probe.found == Finding::Passed,
        "response_time": millis(probe.took), "code": probe.code, "error": probe.error.as_deref(),
    })
}

/// A check in words: `GET http://127.0.0.1:3000/health`, `tcp 127.0.0.1:6379`, `./check.sh`.
#[must_use]
pub fn label(check: &Check, port: Option<u16>) -> String {
    match check {
        Check::Http(url) => format!("GET {}", with_port(url, port)),
        Check::Tcp { host, port: own } => match own.or(port) {
            Some(port) => format!("tcp {host}:{port}"),
            None => format!("tcp {host}"),
        },
        Check::Script(_) => script(check),
    }
}

/// A command line is shown as it was written, not with the shell that runs it.
fn script(check: &Check) -> String {
    match check {
        Check::Script(words) => match words.as_slice() {
            [shell, dash, line] if shell == "/bin/sh" && dash == "-c" => mask_urls(line).into(),
            words => mask_urls(&words.join(" ")).into(),
        },
        Check::Http(_) | Check::Tcp { .. } => String::new(),
    }
}

/// A URL with the port in its place.
#[must_use]
pub fn with_port(url: &str, port: Option<u16>) -> String {
    match port {
        Some(port) => url.replace(PORT_VARIABLE, &port.to_string()),
        None => url.to_owned(),
    }
}
