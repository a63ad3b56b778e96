//! The host, and the daemon itself, as PM2's clients ask about them.

use serde_json::{Map, Value};

use crate::base::{Pid, WallTime};
use crate::daemon::Daemon;
use crate::json::json;
use crate::sys::{limits, process, users};

impl Daemon {
    /// `getSystemData`: the metrics of 7.x, and beside them what older versions answered.
    pub(super) fn system_data(&self) -> Value {
        let memory = Memory::read();
        let mut data = Map::new();
        let mut metric = |name: &str, value: Value, unit: &str| {
            let entry = json!({"value": value, "type": "metric", "unit": unit, "historic": true});
            data.insert(name.to_owned(), entry);
        };
        if let Some(memory) = &memory {
            let used = memory.total.saturating_sub(memory.available);
            let percent = used.saturating_mul(100) / memory.total.max(1);
            metric("RAM Usage", percent.into(), "%");
            metric("RAM Total", memory.total.into(), "b");
            metric("RAM Available", memory.available.into(), "b");
            metric("RAM Active", memory.active.into(), "b");
        }
        let processes: Vec<Value> = self
            .supervisor
            .processes()
            .map(|process| {
                let usage = self.pm2_usage(process);
                json!({
                    "pid": process.pid().map_or(0, Pid::raw), "name": &**process.name(),
                    "pm_id": process.id(),
                    "pm2_env": {"name": &**process.name(), "pm_id": process.id(),
                                "namespace": &**process.namespace(),
                                "status": process.status().pm2_name()},
                    "monit": {"memory": usage.memory, "cpu": usage.cpu},
                })
            })
            .collect();
        let cpus = limits::processors();
        let memory = memory.unwrap_or_default();
        data.insert(
            "system".to_owned(),
            json!({
                "hostname": file("/proc/sys/kernel/hostname").trim(),
                "uptime": numbers(&file("/proc/uptime")).first(), "cpus": cpus,
                "load": numbers(&file("/proc/loadavg")).get(..3),
                "memory": {"free": memory.free, "total": memory.total},
                "time": self.now.wall,
            }),
        );
        data.insert("processes".to_owned(), processes.into());
        Value::Object(data)
    }

    /// `getReport`. The daemon's environment is nobody's business.
    pub(super) fn report(&self) -> Value {
        let uid = process::effective_uid();
        let user = users::user_by_id(uid).ok().flatten().map(|user| user.name);
        let program = std::env::current_exe().unwrap_or_default();
        let WallTime(started) = self.started.wall;
        json!({
            "pm2_version": self.pm2.version, "node_version": "N/A",
            "node_path": program.to_string_lossy(), "argv0": "pmd", "argv": ["pmd"],
            "user": user, "uid": uid, "gid": null, "env": {}, "started_at": started,
            "managed_apps": self.supervisor.processes().count(),
        })
    }
}

/// Bytes of memory.
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    available: u64,
    active: u64,
}

impl Memory {
    fn read() -> Option<Self> {
        let text = file("/proc/meminfo");
        let kilobytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            total: kilobytes("MemTotal")?,
            free: kilobytes("MemFree")?,
            available: kilobytes("MemAvailable")?,
            active: kilobytes("Active")?,
        })
    }
}

/// A file of the kernel's; empty where there is none.
fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn numbers(text: &str) -> Vec<Value> {
    text.split_ascii_whitespace().map_while(|word| word.parse().ok().map(Value::Number)).collect()
}
