//! A process as PM2's list shows it: `{pid, name, pm2_env, pm_id, monit}`.
//!
//! Source: the record of PM2 7.0.4 (`getMonitorData`), less what needs its own protocol.

use serde_json::{Map, Value, json};

use crate::base::{ExitStatus, Pid};
use crate::supervisor::Process;
use crate::supervisor::spec::Restart;

/// Paths that a record names.
#[derive(Debug)]
pub struct Files {
    pub out: String,
    pub error: String,
    pub pid: String,
}

/// Renders one record; `env`: what the children are given, masked as the caller wants it.
///
/// `memory`: resident bytes of the main process. PM2's `cpu` is a rate, which takes two looks; a
/// single one is 0, as PM2's own first is.
#[must_use]
pub fn record(process: &Process, memory: u64, env: Map<String, Value>, files: &Files) -> Value {
    let spec = process.spec();
    let started = process.started().map_or_else(|| process.created_at(), |at| at.wall);
    let last = process.last_exit().map(|exit| exit.status);
    let mut pm2_env = Map::new();
    let fields = json!({
        "pm_id": process.id(), "name": spec.name, "namespace": spec.namespace,
        "status": process.status().pm2_name(), "pm_uptime": started,
        "created_at": process.created_at(), "restart_time": process.restarts(),
        "unstable_restarts": process.unstable_restarts(), "pm_exec_path": spec.script,
        "pm_cwd": spec.cwd, "exec_interpreter": spec.interpreter.as_deref().unwrap_or("none"),
        "exec_mode": "fork_mode", "instances": spec.instances, "args": spec.args,
        "node_args": spec.interpreter_args, "pm_out_log_path": files.out,
        "pm_err_log_path": files.error, "pm_pid_path": files.pid,
        "autorestart": !matches!(spec.restart, Restart::Never | Restart::Once),
        "autostart": spec.autostart, "watch": false, "merge_logs": spec.logs.merge,
        "treekill": spec.treekill, "vizion_running": false, "axm_actions": [], "axm_monitor": {},
        "axm_options": {}, "axm_dynamic": {}, "version": "N/A",
        "kill_timeout": u64::try_from(spec.kill_timeout.as_millis()).unwrap_or(u64::MAX),
        "username": spec.user,
    });
    if let Value::Object(fields) = fields {
        pm2_env.extend(fields);
    }
    pm2_env.insert(spec.instance_var.clone(), process.instance().into());
    if let Some(status) = last {
        // PM2 knows an exit code only; a signal is told as 0 there.
        pm2_env.insert("exit_code".to_owned(), status.code().unwrap_or(0).into());
        if let Some(signal) = ExitStatus::signal(status) {
            pm2_env.insert("exit_signal".to_owned(), signal.to_string().into());
        }
    }
    pm2_env.insert("env".to_owned(), env.into());
    json!({
        "pid": process.pid().map_or(0, Pid::raw), "name": spec.name, "pm2_env": pm2_env,
        "pm_id": process.id(), "monit": {"memory": memory, "cpu": 0},
    })
}
