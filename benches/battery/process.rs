//! Looks into `/proc` at the processes of a supervisor.

use std::fs;
use std::iter::Sum;
use std::path::PathBuf;

/// What the processes of a supervisor hold; sums over all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holding {
    pub resident_kib: u64,
    pub proportional_kib: u64,
    pub private_kib: u64,
    pub page_tables_kib: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub processes: u64,
}

/// What they did so far; sums over all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Nanoseconds on a processor.
    pub cpu: u64,
    pub voluntary: u64,
    pub involuntary: u64,
}

impl Activity {
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            voluntary: self.voluntary - before.voluntary,
            involuntary: self.involuntary - before.involuntary,
        }
    }
}

/// `pid` and those of its children that run the same program, such as a daemon below its keeper.
pub fn family(pid: u32) -> Vec<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let mut family = vec![pid];
    for entry in fs::read_dir("/proc").expect("no /proc").flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if parent(other) == Some(pid) && program(other) == program(pid) {
            family.push(other);
        }
    }
    family
}

pub fn holding(pids: &[u32]) -> Holding {
    pids.iter().map(|pid| holding_of(*pid)).sum()
}

pub fn activity(pids: &[u32]) -> Activity {
    pids.iter().flat_map(|pid| tasks(*pid)).map(|task| activity_of(&task)).sum()
}

fn holding_of(pid: u32) -> Holding {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Holding {
        resident_kib: field(&status, "VmRSS:"),
        proportional_kib: field(&maps, "Pss:"),
        private_kib: field(&maps, "Private_Clean:") + field(&maps, "Private_Dirty:"),
        page_tables_kib: field(&status, "VmPTE:"),
        threads: field(&status, "Threads:"),
        descriptors: descriptors as u64,
        processes: 1,
    }
}

fn activity_of(task: &std::path::Path) -> Activity {
    let status = fs::read_to_string(task.join("status")).unwrap_or_default();
    let times = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    Activity {
        cpu: times.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0),
        voluntary: field(&status, "voluntary_ctxt_switches:"),
        involuntary: field(&status, "nonvoluntary_ctxt_switches:"),
    }
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let folder = fs::read_dir(format!("/proc/{pid}/task"));
    folder.map_or_else(|_| Vec::new(), |tasks| tasks.flatten().map(|task| task.path()).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Sum for Holding {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            resident_kib: sum.resident_kib + part.resident_kib,
            proportional_kib: sum.proportional_kib + part.proportional_kib,
            private_kib: sum.private_kib + part.private_kib,
            page_tables_kib: sum.page_tables_kib + part.page_tables_kib,
            threads: sum.threads + part.threads,
            descriptors: sum.descriptors + part.descriptors,
            processes: sum.processes + part.processes,
        })
    }
}

impl Sum for Activity {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            cpu: sum.cpu + part.cpu,
            voluntary: sum.voluntary + part.voluntary,
            involuntary: sum.involuntary + part.involuntary,
        })
    }
}
