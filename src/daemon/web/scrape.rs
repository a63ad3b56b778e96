//! `GET /metrics`: what is known of processes, the daemon and the host, as metrics.
//!
//! Lines of logs are not counted: they are not looked at while nobody follows them.

use crate::agent::shown::Link;
use crate::base::{ExitStatus, ProcId, Stream};
use crate::daemon::Daemon;
use crate::logs::StreamId;
use crate::proto::http::exposition::{Exposition, Format, Label};
use crate::proto::http::response::Response;
use crate::proto::messages::metrics::{Resources, Usage};
use crate::sorted::SortedMap;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::{HealthStatus, Status};
use crate::sys::fds;

/// The words of `status`, of which each process has one.
const STATES: [&str; 6] = ["starting", "online", "stopping", "stopped", "errored", "restarting"];
/// Upper bounds of the turn's histogram, in seconds and in milliseconds.
const BOUNDS: [(&str, u64); 7] = [
    ("0.001", 1),
    ("0.005", 5),
    ("0.01", 10),
    ("0.05", 50),
    ("0.1", 100),
    ("0.5", 500),
    ("1.0", 1000),
];

/// How long turns of the loop took.
#[derive(Debug, Default)]
pub struct Turns {
    below: [u64; BOUNDS.len()],
    count: u64,
    millis: u64,
}

impl Turns {
    /// One more, in whole milliseconds.
    pub fn note(&mut self, millis: u64) {
        for (below, (_, bound)) in self.below.iter_mut().zip(BOUNDS) {
            *below += u64::from(millis < bound);
        }
        self.count += 1;
        self.millis += millis;
    }
}

/// What the web interface counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Responses by status.
    pub responses: SortedMap<u16, u64>,
    /// Refusals by status.
    pub rejected: SortedMap<u16, u64>,
}

impl Counts {
    /// Somebody was not let in.
    pub fn reject(&mut self, response: &Response) {
        *self.rejected.get_or_default(response.status) += 1;
    }
}

/// Why somebody was refused, by the status that says so.
fn reason(status: u16) -> &'static str {
    match status {
        401 => "unauthorized",
        403 => "forbidden",
        429 => "rate_limited",
        _ => "full",
    }
}

/// One process with the labels that all its series have.
struct Row<'a> {
    process: &'a Process,
    id: String,
    instance: String,
    usage: Usage,
    resources: Resources,
    crashes: u32,
    written: [u64; 2],
    dropped: u64,
}

impl Row<'_> {
    fn labels(&self) -> [Label<'_>; 4] {
        [
            ("name", self.process.name()),
            ("id", &self.id),
            ("namespace", self.process.namespace()),
            ("instance", &self.instance),
        ]
    }
}

#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}

impl Daemon {
    /// The page that a scraper gets.
    pub(super) fn exposition(&mut self, format: Format) -> String {
        let mut page = Exposition::new(format);
        let ids: Vec<ProcId> = self.supervisor.processes().map(Process::id).collect();
        let resources: Vec<Resources> = ids.iter().map(|&id| self.resources(id)).collect();
        let rows: Vec<Row<'_>> =
            self.supervisor.processes().zip(resources).map(|(p, r)| self.row(p, r)).collect();
        self.daemon_families(&mut page, &rows);
        process_families(&mut page, &rows);
        log_families(&mut page, &rows);
        self.web_families(&mut page);
        self.agent_families(&mut page);
        self.host_families(&mut page);
        page.finish()
    }

    fn row<'a>(&self, process: &'a Process, resources: Resources) -> Row<'a> {
        let entry = self.entries.get(&process.id());
        let dropped = |stream| self.logs.dropped_bytes(StreamId { process: process.id(), stream });
        Row {
            process,
            id: process.id().0.to_string(),
            instance: process.instance().to_string(),
            usage: self.usage(process),
            resources,
            crashes: entry.map_or(0, |entry| entry.crashes),
            written: entry.map_or([0, 0], |entry| entry.written),
            dropped: Stream::BOTH.into_iter().map(dropped).sum(),
        }
    }

    fn daemon_families(&self, page: &mut Exposition, rows: &[Row<'_>]) {
        let host = &self.figures.last().host;
        page.gauge("pmd_build_info", "The version of this daemon.");
        page.value(&[&[("version", env!("CARGO_PKG_VERSION"))]], 1.0);
        page.gauge("pmd_start_time_seconds", "When this daemon came up, since the epoch.");
        page.value(&[], number(self.started.wall.0) / 1000.0);
        page.gauge("pmd_processes", "Processes by status.");
        for state in STATES {
            let count = rows.iter().filter(|row| row.process.status().name() == state).count();
            page.value(&[&[("status", state)]], number(count as u64));
        }
        page.gauge("pmd_daemon_resident_memory_bytes", "Resident memory of the daemon.");
        page.value(&[], number(host.own_memory));
        page.counter("pmd_daemon_cpu_seconds", "Processor time of the daemon.");
        page.value(&[], host.own_cpu.as_secs_f64());
        page.gauge("pmd_daemon_open_fds", "Open descriptors of the daemon.");
        page.value(&[], number(fds::open_descriptors() as u64));
        let buckets: Vec<(&str, u64)> =
            BOUNDS.iter().zip(self.turns.below).map(|((word, _), below)| (*word, below)).collect();
        let (count, sum) = (self.turns.count, number(self.turns.millis) / 1000.0);
        let help = "How long turns of the loop took.";
        page.histogram("pmd_daemon_loop_duration_seconds", help, &buckets, count, sum);
    }

    fn web_families(&self, page: &mut Exposition) {
        page.gauge("pmd_ws_clients", "Clients of the WebSocket.");
        page.value(&[], number(self.web_clients().len() as u64));
        let tally = &self.ids.tally;
        for (name, help, counts) in [
            ("pmd_ws_messages_sent", "Messages to clients of the WebSocket.", &tally.sent),
            ("pmd_ws_messages_dropped", "Messages that clients were too slow for.", &tally.dropped),
        ] {
            page.counter(name, help);
            for (kind, count) in counts.all() {
                page.value(&[&[("type", kind)]], number(count));
            }
        }
        page.counter("pmd_http_requests", "Responses over HTTP.");
        for (status, count) in self.web.counts.responses.iter() {
            page.value(&[&[("code", &status.to_string())]], number(*count));
        }
        page.counter("pmd_http_rejected", "Requests that were refused entry.");
        for (status, count) in self.web.counts.rejected.iter() {
            page.value(&[&[("reason", reason(*status))]], number(*count));
        }
    }

    /// Nothing where there is no agent.
    fn agent_families(&self, page: &mut Exposition) {
        type Value = fn(&Link<'_>) -> u64;
        let Some(agent) = self.outside.agent() else { return };
        let links: Vec<Link<'_>> = agent.links().collect();
        let families: [(&str, &str, Value); 3] = [
            ("pmd_agent_connected", "Whether a connection of the agent's is there.", |link| {
                link.is_fine.into()
            }),
            ("pmd_agent_queued_messages", "Messages that wait for it.", |link| link.waiting as u64),
            ("pmd_agent_queued_bytes", "Bytes of them.", |link| link.bytes as u64),
        ];
        for (name, help, value) in families {
            page.gauge(name, help);
            for link in &links {
                page.value(&[&[("link", link.wire.name())]], number(value(link)));
            }
        }
        page.counter("pmd_agent_messages_dropped", "Messages that there was no room for.");
        for link in &links {
            page.value(&[&[("link", link.wire.name())]], number(link.dropped));
        }
        page.counter("pmd_agent_actions", "Actions that were asked for from elsewhere.");
        page.value(&[], number(agent.asked));
    }

    fn host_families(&self, page: &mut Exposition) {
        let sample = self.figures.last();
        let host = &sample.host;
        page.gauge("pmd_system_cpu_usage_ratio", "Busy share of all processors, 0 to 1.");
        page.value(&[], self.figures.host_cpu() / 100.0);
        page.gauge("pmd_system_memory_total_bytes", "Memory of the host.");
        page.value(&[], number(host.memory_total));
        page.gauge("pmd_system_memory_available_bytes", "Memory that programs can have.");
        page.value(&[], number(host.memory_available));
        page.gauge("pmd_system_load", "Load of the host.");
        for (period, load) in ["1m", "5m", "15m"].into_iter().zip(host.load) {
            page.value(&[&[("period", period)]], f64::from(load) / 100.0);
        }
    }
}

/// One family of gauges with a value for each process that has one.
fn gauge(
    page: &mut Exposition,
    rows: &[Row<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Row<'_>) -> Option<f64>,
) {
    page.gauge(name, help);
    for row in rows {
        if let Some(value) = value(row) {
            page.value(&[&row.labels()], value);
        }
    }
}

fn counter(
    page: &mut Exposition,
    rows: &[Row<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Row<'_>) -> f64,
) {
    page.counter(name, help);
    for row in rows {
        page.value(&[&row.labels()], value(row));
    }
}

fn process_families(page: &mut Exposition, rows: &[Row<'_>]) {
    gauge(page, rows, "pmd_process_up", "Whether it is online.", |row| {
        Some(f64::from(u8::from(row.process.status() == Status::Online)))
    });
    page.gauge("pmd_process_state", "1 for the status it has.");
    for row in rows {
        for state in STATES {
            let is = row.process.status().name() == state;
            page.value(&[&row.labels(), &[("state", state)]], f64::from(u8::from(is)));
        }
    }
    let lives = |row: &Row<'_>| row.process.pid().is_some();
    counter(page, rows, "pmd_process_cpu_seconds", "Processor time in all its lives.", |row| {
        number(row.resources.cpu_time) / 1000.0
    });
    let help = "Resident memory of the main process.";
    gauge(page, rows, "pmd_process_resident_memory_bytes", help, |row| {
        Some(number(row.usage.memory))
    });
    let help = "Resident memory of the process and its descendants.";
    gauge(page, rows, "pmd_process_tree_memory_bytes", help, |row| {
        Some(number(row.usage.memory_tree))
    });
    gauge(page, rows, "pmd_process_open_fds", "Open descriptors of the main process.", |row| {
        row.resources.descriptors.filter(|_| lives(row)).map(number)
    });
    gauge(page, rows, "pmd_process_threads", "Threads of the main process.", |row| {
        lives(row).then(|| f64::from(row.resources.threads))
    });
    gauge(page, rows, "pmd_process_start_time_seconds", "When it was started.", |row| {
        row.process.started().filter(|_| lives(row)).map(|at| number(at.wall.0) / 1000.0)
    });
    counter(page, rows, "pmd_process_restarts", "Restarts, those asked for too.", |row| {
        f64::from(row.process.restarts())
    });
    counter(page, rows, "pmd_process_crashes", "Ends that nobody asked for.", |row| {
        f64::from(row.crashes)
    });
    let help = "How often it was above its memory limit.";
    counter(page, rows, "pmd_process_memory_limit_exceeded", help, |row| {
        f64::from(row.resources.memory_limit_exceeded)
    });
    let help = "Short runs in a row.";
    gauge(page, rows, "pmd_process_unstable_restarts", help, |row| {
        Some(f64::from(row.process.unstable_restarts()))
    });
    let last = |row: &Row<'_>| row.process.last_exit().map(|exit| exit.status);
    gauge(page, rows, "pmd_process_last_exit_code", "The exit code of its last run.", |row| {
        last(row).and_then(ExitStatus::code).map(f64::from)
    });
    gauge(page, rows, "pmd_process_last_exit_signal", "The signal that ended it last.", |row| {
        last(row).and_then(ExitStatus::signal).map(|signal| f64::from(signal.raw()))
    });
    gauge(page, rows, "pmd_process_healthy", "Whether its health check passes.", |row| {
        let status = row.process.health_status()?;
        Some(f64::from(u8::from(status == HealthStatus::Healthy)))
    });
    page.counter("pmd_process_health_checks", "Health checks by result.");
    for row in rows {
        let Some(health) = row.process.health() else { continue };
        let (passed, failed) = health.totals();
        for (result, count) in [("passed", passed), ("failed", failed)] {
            page.value(&[&row.labels(), &[("result", result)]], number(count));
        }
    }
}

fn log_families(page: &mut Exposition, rows: &[Row<'_>]) {
    page.counter("pmd_log_bytes", "Bytes of output.");
    for row in rows {
        for (stream, written) in ["stdout", "stderr"].into_iter().zip(row.written) {
            page.value(&[&row.labels(), &[("stream", stream)]], number(written));
        }
    }
    let help = "Bytes of output for which there was no room.";
    counter(page, rows, "pmd_log_dropped", help, |row| number(row.dropped));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_below_their_bounds() {
        let mut turns = Turns::default();
        for millis in [0, 0, 3, 700, 5000] {
            turns.note(millis);
        }
        assert_eq!(turns.below, [2, 3, 3, 3, 3, 3, 4]);
        assert_eq!((turns.count, turns.millis), (5, 5703));
    }
}
