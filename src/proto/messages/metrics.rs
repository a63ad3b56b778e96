//! What processes and the host use, as messages tell it: `process_metrics` and `system_metrics`.
//!
//! Units, here and everywhere: the CPU share of a process in percent of one processor, that of the
//! host in percent of all, both with one decimal; memory in bytes; times in milliseconds. Source:
//! the WebSocket API document, parts A2 and A5.

use serde::Serialize;

use crate::base::{Now, Pid, ProcId};
use crate::json::json;
use crate::proto::messages::event::millis;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::HealthStatus;

/// What a process uses; nothing while it has no child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Of the whole tree, in percent of one processor.
    pub cpu: f64,
    /// Resident memory of the main process, in bytes.
    pub memory: u64,
    /// Resident memory of the main process and its descendants, in bytes.
    pub memory_tree: u64,
}

/// What else a process uses, and what it used in all its lives.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Resources {
    /// Processor time of all its children and their trees, in milliseconds; never goes back.
    pub cpu_time: u64,
    /// Processes of its tree.
    pub processes: u32,
    /// Threads of the main process.
    pub threads: u32,
    /// Open descriptors of the main process; `None`: not known.
    pub descriptors: Option<u64>,
    /// How often its tree was found above its memory limit.
    pub memory_limit_exceeded: u32,
}

/// One entry of `process_metrics`.
#[derive(Debug, Serialize)]
struct ProcessMetrics<'a> {
    id: ProcId,
    name: &'a str,
    cpu: f64,
    memory: u64,
    memory_tree: u64,
    uptime: u64,
    restarts: u32,
    status: &'static str,
    pid: Option<Pid>,
    namespace: &'a str,
    instance: u32,
    port: Option<u16>,
    health: Option<&'static str>,
}

/// The `data` of a `process_metrics`: an entry for each of `processes`.
#[must_use]
pub fn process_metrics<'a>(
    processes: impl Iterator<Item = (&'a Process, Usage)>,
    now: Now,
) -> String {
    let mut text = br#"{"processes":["#.to_vec();
    for (at, (process, usage)) in processes.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let entry = ProcessMetrics {
            id: process.id(),
            name: process.name(),
            cpu: usage.cpu,
            memory: usage.memory,
            memory_tree: usage.memory_tree,
            uptime: millis(process.uptime(now.mono)),
            restarts: process.restarts(),
            status: process.status().name(),
            pid: process.pid(),
            namespace: process.namespace(),
            instance: process.instance(),
            port: process.port(),
            health: process.health_status().map(HealthStatus::name),
        };
        // Writing into memory does not fail.
        let _ = serde_json::to_writer(&mut text, &entry);
    }
    text.extend_from_slice(b"]}");
    String::from_utf8(text).unwrap_or_default()
}

/// What the host and the daemon use, and what the daemon has.
#[derive(Clone, Copy, Debug, Default)]
pub struct System<'a> {
    /// In percent of all processors.
    pub cpu: f64,
    pub cores: u32,
    pub memory_total: u64,
    pub memory_available: u64,
    /// Over 1, 5 and 15 minutes, in hundredths.
    pub load: [u32; 3],
    /// Of the host, in milliseconds.
    pub uptime: u64,
    pub hostname: &'a str,
    /// Of the file system that state and logs are on, in bytes, and what of it is free.
    pub disk: Option<(u64, u64)>,
    pub processes: Counts,
    pub daemon: DaemonUsage,
}

/// How many processes are how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub total: usize,
    pub online: usize,
    pub stopped: usize,
    pub errored: usize,
}

/// What the daemon itself uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct DaemonUsage {
    pub pid: i32,
    pub memory: u64,
    /// In percent of one processor.
    pub cpu: f64,
    /// In milliseconds.
    pub uptime: u64,
}

/// The `data` of a `system_metrics`.
#[must_use]
pub fn system_metrics(system: &System<'_>) -> String {
    let used = system.memory_total.saturating_sub(system.memory_available);
    let [one, five, fifteen] = system.load.map(|load| f64::from(load) / 100.0);
    let System { processes, daemon, .. } = system;
    json!({
        "cpu": {"usage": system.cpu, "cores": system.cores},
        "memory": {
            "total": system.memory_total, "used": used, "available": system.memory_available,
            "usage_percent": percent(used, system.memory_total),
        },
        "load": {"one": one, "five": five, "fifteen": fifteen},
        "disk": system.disk.map(|(total, free)| json!({
            "total": total, "used": total.saturating_sub(free), "available": free,
        })),
        "uptime": system.uptime, "hostname": system.hostname,
        "processes": {
            "total": processes.total, "online": processes.online, "stopped": processes.stopped,
            "errored": processes.errored,
        },
        "daemon": {
            "pid": daemon.pid, "memory": daemon.memory, "cpu": daemon.cpu, "uptime": daemon.uptime,
        },
    })
    .to_string()
}

/// `part` of `whole` in percent, with one decimal.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    u32::try_from(tenths).map_or(100.0, |tenths| f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_told_with_its_units() {
        let system = System {
            cpu: 15.2,
            cores: 8,
            memory_total: 8_589_934_592,
            memory_available: 6_442_450_944,
            load: [85, 120, 90],
            uptime: 5000,
            hostname: "edge-07",
            disk: Some((4000, 1000)),
            ..System::default()
        };
        let text = system_metrics(&system);
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(data["cpu"], json!({"usage": 15.2, "cores": 8}));
        assert_eq!(
            data["memory"],
            json!({"total": 8_589_934_592_u64, "used": 2_147_483_648_u64,
                   "available": 6_442_450_944_u64, "usage_percent": 25.0})
        );
        assert_eq!(data["load"], json!({"one": 0.85, "five": 1.2, "fifteen": 0.9}));
        assert_eq!(data["hostname"], "edge-07");
        assert_eq!(data["disk"], json!({"total": 4000, "used": 3000, "available": 1000}));
        assert_eq!(data["processes"]["total"], 0);
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert!(percent(5, 0).abs() < 0.01);
        assert!((percent(u64::MAX, u64::MAX) - 100.0).abs() < 0.01);
    }

    #[test]
    fn nothing_to_tell_of_is_an_empty_list() {
        let now = Now::default();
        assert_eq!(process_metrics(std::iter::empty(), now), r#"{"processes":[]}"#);
    }
}
