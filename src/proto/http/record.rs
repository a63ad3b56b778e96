//! A process as REST shows it: PMDaemon's object in the manner of PM2.

use serde_json::Value;

use crate::base::{ExitStatus, Now};
use crate::json::json;
use crate::proto::messages::event::millis;
use crate::proto::pm2::view::Files;
use crate::supervisor::Process;
use crate::supervisor::spec::Restart;

/// What the daemon knows about a process and the supervisor does not.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Percent of one core.
    pub cpu: f64,
    /// Bytes of the main process.
    pub memory: u64,
    pub health: Option<&'a str>,
    pub files: &'a Files,
}

/// Renders one process. Nothing of its environment is in it.
#[must_use]
pub fn record(process: &Process, now: Now, facts: &Facts<'_>) -> Value {
    let spec = process.spec();
    let Facts { cpu, memory, health, files } = facts;
    let started = process.started().map_or_else(|| process.created_at(), |at| at.wall);
    let status = process.status().name();
    let mode = spec.exec_mode.pm2_name();
    let last = process.last_exit().map(|exit| exit.status);
    let pm2_env = json!({
        "name": spec.name, "namespace": spec.namespace, "exec_mode": mode,
        "pm_id": process.id(), "restart_time": process.restarts(),
        "unstable_restarts": process.unstable_restarts(), "status": status,
        "port": process.port(), "pm_uptime": started, "created_at": process.created_at(),
        "instances": spec.instances, "NODE_APP_INSTANCE": process.instance(), "args": spec.args.iter().collect::<Value>(),
        "exec_interpreter": spec.interpreter.as_deref().unwrap_or("none"), "watch": false,
        "autorestart": !matches!(spec.restart, Restart::Never | Restart::Once),
    });
    let mut record = json!({
        "pm_id": process.id(), "name": spec.name, "namespace": spec.namespace,
        "pid": process.pid(), "status": status, "restart_time": process.restarts(),
        "cpu": cpu, "memory": memory, "port": process.port(), "instance_id": process.instance(),
        "exit_code": last.and_then(ExitStatus::code), "exec_mode": mode,
        "created_at": process.created_at(), "uptime": millis(process.uptime(now.mono)),
        "pm_uptime": started, "health": health, "user": spec.user, "watching": false,
        "monit": {"memory": memory, "cpu": cpu}, "pm2_env": pm2_env,
    });
    let paths = [
        ("pm_exec_path", json!(spec.script)),
        ("pm_cwd", json!(spec.cwd)),
        ("pm_out_log_path", files.out.as_str().into()),
        ("pm_err_log_path", files.error.as_str().into()),
        ("pm_pid_path", files.pid.as_str().into()),
    ];
    for (name, path) in paths {
        record["pm2_env"][name] = path.clone();
        record[name] = path;
    }
    record
}
