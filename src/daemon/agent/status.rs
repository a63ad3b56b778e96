//! How everything is, as back ends are told every second.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::agent::Facts;
use crate::agent::fleet::Say;
use crate::base::{Pid, ProcId};
use crate::config::pm2;
use crate::daemon::Daemon;
use crate::daemon::agent::Host;
use crate::daemon::pm2::uuid;
use crate::json::{json, object};
use crate::metrics::Scope;
use crate::proto::messages::metrics::Usage;
use crate::proto::pm2::object::{Object, is_truthy};
use crate::supervisor::Process;
use crate::supervisor::spec::AppSpec;
use crate::sys::{process, users};

/// How long an address of this host is taken to be one.
const ADDRESS_EVERY: Duration = Duration::from_secs(61);

/// What is told of a process and changes only with its definition.
#[derive(Debug)]
pub struct Fixed {
    spec: Rc<AppSpec>,
    /// Members of its object, after one that comes before.
    text: Box<[u8]>,
    /// Its logs are told without being asked for; never.
    broadcast: bool,
    mute: bool,
}

impl Fixed {
    fn new(spec: &Rc<AppSpec>, cookie: u64, id: ProcId) -> Self {
        let declared = pm2::declared(spec).unwrap_or_default();
        let says = |key: &str| declared.get(key);
        let mode = says("exec_mode").and_then(Value::as_str).unwrap_or("fork_mode");
        let unique = says("unique_id").and_then(Value::as_str).map(str::to_owned);
        let is_false = |value: &Value| *value == false || *value == "false";
        let mut text = b"{0".to_vec();
        let mut members = Object::resume(&mut text);
        members.text("name", &spec.name);
        members.text("interpreter", spec.interpreter.as_deref().unwrap_or("none"));
        members.value("args", &spec.interpreter_args.iter().map(Value::from).collect());
        members.text("path", &spec.script);
        members.text("exec_mode", mode);
        members.text("unique_id", &unique.unwrap_or_else(|| uuid(cookie, u64::from(id.0))));
        members.raw("versioning", b"null");
        members.value("node_env", &spec.env.get("NODE_ENV").map_or(Value::Null, Value::from));
        members.flag("watching", says("watch").is_some_and(is_truthy));
        Self {
            spec: spec.clone(),
            text: text.get(2..).unwrap_or_default().into(),
            broadcast: says("broadcast_logs").is_some_and(|it| is_truthy(it) && !is_false(it)),
            mute: says("send_logs").is_some_and(is_false),
        }
    }
}

impl Host {
    /// What does not change about a process.
    fn fixed(&mut self, id: ProcId, spec: &Rc<AppSpec>, cookie: u64) -> &Fixed {
        self.fixed.retain(|known, fixed| *known != id || Rc::ptr_eq(&fixed.spec, spec));
        self.fixed.get_or_insert_with(id, || Fixed::new(spec, cookie, id))
    }

    /// Whether the logs of a process are told without being asked for, and whether never.
    pub fn flags(&self, id: ProcId, spec: &Rc<AppSpec>) -> (bool, bool) {
        match self.fixed.get(&id) {
            Some(known) if Rc::ptr_eq(&known.spec, spec) => (known.broadcast, known.mute),
            Some(_) | None => {
                let fixed = Fixed::new(spec, 0, id);
                (fixed.broadcast, fixed.mute)
            }
        }
    }
}

impl Daemon {
    /// Tells the status, if it is time to and the figures are there.
    pub(super) fn tell_status_outside(&mut self) {
        let is_fresh = self.has_fresh_figures();
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        if host.sampling || host.agent.status_at().is_none_or(|at| at > self.now.mono) {
            return;
        }
        if !is_fresh {
            host.sampling = true;
            return self.want_sample(Scope::Everything);
        }
        let payload = Rc::from(self.status_outside());
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.tell_status(&payload, self.now);
        }
    }

    /// Tells the fleet what is due.
    pub(super) fn tell_fleet_outside(&mut self) {
        let is_fresh = self.has_fresh_figures();
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let Some((at, say)) = host.agent.fleet_wants() else { return };
        if at > self.now.mono || (say == Say::Metrics && host.sampling) {
            return;
        }
        if say == Say::Metrics && !is_fresh {
            host.sampling = true;
            return self.want_sample(Scope::Everything);
        }
        let mut members = b"{0".to_vec();
        let mut object = Object::resume(&mut members);
        // Without a comma before the first.
        if say == Say::Metrics {
            let about = self.figures.last().host;
            let used = about.memory_total.saturating_sub(about.memory_available);
            let load = f64::from(about.load[0]) / 100.0;
            object.value("host", &json!({"load1": load, "mem_used": used}));
        }
        let procs: Vec<Value> = self
            .supervisor
            .processes()
            .filter(|process| self.is_monitored(process.id()))
            .map(|process| match say {
                Say::State => self.state_of(process),
                Say::Metrics => self.metrics_of(process),
            })
            .collect();
        object.value("procs", &Value::from(procs));
        let members = members.get(3..).unwrap_or_default();
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.tell_fleet(say, members, self.now);
        }
    }

    fn state_of(&self, process: &Process) -> Value {
        let mode = if self.is_cluster(process.id()) { "cluster" } else { "fork" };
        json!({
            "id": process.id(), "name": process.name(), "ns": process.namespace(),
            "st": process.status().name(), "pid": process.pid().map_or(0, Pid::raw),
            "rst": process.restarts(), "up": process.started().map(|at| at.wall.0), "mode": mode,
        })
    }

    fn metrics_of(&self, process: &Process) -> Value {
        let usage = if process.is_online() { self.usage(process) } else { Usage::default() };
        let shown = self.entries.get(&process.id()).and_then(|entry| entry.pm2.as_ref());
        let told = shown.map(|shown| &shown.known().monitor);
        let values = told
            .into_iter()
            .flatten()
            .filter_map(|(name, metric)| Some((name.clone(), metric.get("value")?.clone())));
        json!({
            "id": process.id(), "name": process.name(), "cpu": usage.cpu, "mem": usage.memory,
            "m": Value::Object(values.collect()),
        })
    }

    /// A sample has been taken.
    pub(in crate::daemon) fn sampled_outside(&mut self) {
        if let Some(host) = self.outside.host.as_deref_mut()
            && std::mem::take(&mut host.sampling)
        {
            self.tell_status_outside();
            self.tell_fleet_outside();
        }
    }

    fn status_outside(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + 512 * self.entries.len());
        let ids = self.all_ids();
        let mut whole = Object::begin(&mut out);
        let mut data = Object::begin(whole.key("data"));
        let list = data.key("process");
        list.push(b'[');
        for id in ids {
            self.status_of(id, list);
        }
        list.push(b']');
        data.value("server", &self.server());
        data.end();
        let Some(host) = self.outside.host.as_deref_mut() else { return out };
        whole.text("server_name", &host.agent.config.machine_name);
        if host.address.1 <= self.now.mono {
            let found = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
            let address = last_address(&found).unwrap_or("127.0.0.1").to_owned();
            host.address = (address, self.now.mono.after(ADDRESS_EVERY));
        }
        whole.text("internal_ip", &host.address.0);
        whole.flag("rev_con", true);
        whole.end();
        let entries = &self.entries;
        host.fixed.retain(|id, _| entries.get(id).is_some());
        out
    }

    /// Whether a process is told of at all.
    pub(super) fn is_monitored(&self, id: ProcId) -> bool {
        let entry = self.entries.get(&id);
        let known = entry.and_then(|entry| entry.pm2.as_ref()).map(|shown| shown.known());
        known.is_none_or(|known| known.monitored != Some(false))
            && entry.is_some_and(|entry| !entry.subject.name.contains("_old_"))
    }

    fn status_of(&mut self, id: ProcId, out: &mut Vec<u8>) {
        if !self.is_monitored(id) {
            return;
        }
        let Some(process) = self.supervisor.process(id) else { return };
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        let usage =
            if process.is_online() { self.figures.usage(process) } else { Usage::default() };
        let none = crate::proto::pm2::view::Known::default();
        let known = entry.pm2.as_ref().map_or(&none, |shown| shown.known());
        let created = known.created_at.unwrap_or_default().max(process.created_at());
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        let mut one = Object::begin(out);
        one.number("pid", process.pid().map_or(0, Pid::raw).into());
        let fixed = host.fixed(id, process.spec(), entry.cookie);
        one.key("pm_id").extend_from_slice(id.0.to_string().as_bytes());
        one.splice(&fixed.text);
        one.number("restart_time", process.restarts().into());
        one.number("created_at", number(created.0));
        one.number("pm_uptime", number(process.started().map_or(created, |at| at.wall).0));
        one.text("status", process.status().pm2_name());
        #[allow(clippy::cast_possible_truncation)]
        one.number("cpu", usage.cpu as i64);
        one.number("memory", number(usage.memory));
        one.value("axm_actions", &Value::from(known.actions.as_slice()));
        one.value("axm_monitor", &Value::Object(known.monitor.clone()));
        one.value("axm_options", &Value::Object(known.options.clone()));
        one.raw("axm_dynamic", b"{}");
        one.end();
    }

    fn server(&self) -> Value {
        let about = process::host().ok();
        let host = self.figures.last().host;
        let user = users::user_by_id(process::effective_uid()).ok().flatten();
        let load = host.load.map(|hundredths| f64::from(hundredths) / 100.0);
        let config = self.outside.host.as_deref();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let model = config.and_then(|host| host.agent.facts.cpus.pointer("/0/model").cloned());
        json!({
            "username": user.map(|user| user.name),
            "hostname": about.as_ref().map(|about| about.name.as_str()),
            "uptime": host.uptime.as_secs_f64(), "platform": "linux",
            "pm2_version": config.map(|host| host.agent.config.pm2_version.as_str()),
            "pm2_agent_version": "2.1.1", "node_version": "",
            "unique_id": config.map(|host| host.agent.boot.as_str()),
            "loadavg": Value::from(load.to_vec()), "total_mem": host.memory_total,
            "free_mem": kilobytes(&memory, "MemFree"),
            "cpu": json!({"number": host.cores, "info": model.unwrap_or_default()}),
            "type": "Linux", "arch": about.as_ref().map(|about| about.machine.as_str()),
        })
    }

    /// Looks at what back ends are told of this host before it is let in.
    pub(super) fn learn_facts(&mut self) {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let [hostname, machine, kernel] =
            process::host().map(|host| [host.name, host.machine, host.kernel]).unwrap_or_default();
        let facts = Facts {
            hostname,
            machine,
            kernel,
            memory: kilobytes(&read("/proc/meminfo"), "MemTotal"),
            cpus: processors(&read("/proc/stat"), &read("/proc/cpuinfo")),
        };
        if let Some(host) = self.outside.host.as_deref_mut() {
            host.agent.facts = facts;
        }
    }
}

/// A number of `meminfo`, in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default().saturating_mul(1024)
}

/// The processors as Node's `os.cpus()` has them: models, and times in milliseconds.
fn processors(stat: &str, info: &str) -> Value {
    let mut models = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim());
    let lines = stat.lines().filter(|line| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    });
    let all: Vec<Value> = lines
        .map(|line| {
            // Hundredths of a second.
            let mut times = line.split_ascii_whitespace().skip(1);
            let mut next = || {
                let ticks: Option<u64> = times.next().and_then(|word| word.parse().ok());
                Value::from(ticks.unwrap_or_default().saturating_mul(10))
            };
            let (user, nice, sys, idle, _, irq) = (next(), next(), next(), next(), next(), next());
            let times = object([
                ("user", user),
                ("nice", nice),
                ("sys", sys),
                ("idle", idle),
                ("irq", irq),
            ]);
            json!({"model": models.next().unwrap_or("unknown"), "speed": 0, "times": times})
        })
        .collect();
    Value::from(all)
}

/// The last address of this host that is not loopback, in the kernel's table of routes.
fn last_address(trie: &str) -> Option<&str> {
    let mut address = None;
    let mut found = None;
    for line in trie.lines() {
        match line.split_once("|-- ") {
            Some((_, text)) => address = Some(text.trim()),
            None if line.contains("/32 host LOCAL") => {
                found = address.filter(|text| !text.starts_with("127.")).or(found);
            }
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_with_their_times() {
        let stat = "cpu  9 9 9 9\ncpu0 13 24 48 69 1 2 0\ncpu1 1 1\nintr 5\n";
        let all = processors(stat, "processor: 0\nmodel name\t: Some CPU\n");
        let times = json!({"user": 130, "nice": 240, "sys": 480, "idle": 690, "irq": 20});
        assert_eq!(all[0], json!({"model": "Some CPU", "speed": 0, "times": times}));
        assert_eq!(all[1]["model"], "unknown");
        assert_eq!(all.as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_last_address_that_is_not_loopback_is_told() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
            |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n     \
            |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(last_address(trie), Some("192.0.2.2"));
        assert_eq!(last_address("     |-- 127.0.0.1\n        /32 host LOCAL\n"), None);
        assert_eq!(last_address(""), None);
    }
}
