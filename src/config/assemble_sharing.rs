//! How the instances of an app share what they listen on: whether they are a cluster, and what pmd
//! opens for them.

use std::path::Path;

use crate::config::assemble::Ground;
use crate::config::fields::{self, Fields};
use crate::supervisor::spec::{Address, ClusterPolicy, ExecMode, Ipc, MAX_LISTEN, MAX_SOCKET_PATH};

/// Programs that know Node's cluster module.
const RUNTIMES: [&str; 3] = ["node", "nodejs", "bun"];

/// What is assumed where the app does not say it. `instances`: their number was given.
pub(super) fn default_mode(instances: bool, interpreter: Option<&str>, ipc: Ipc) -> ExecMode {
    let has_channel = matches!(ipc, Ipc::Auto | Ipc::Node);
    match instances && has_channel && is_runtime(interpreter) {
        true => ExecMode::Cluster,
        false => ExecMode::Fork,
    }
}

fn is_runtime(interpreter: Option<&str>) -> bool {
    let name = interpreter.and_then(|it| Path::new(it).file_name());
    name.is_some_and(|name| RUNTIMES.iter().any(|&it| name == it))
}

pub(super) fn exec_mode(
    fields: &mut Fields<'_, '_>,
    instances: bool,
    interpreter: Option<&str>,
    ipc: Ipc,
) -> ExecMode {
    let modes = [
        ("fork", ExecMode::Fork),
        ("cluster", ExecMode::Cluster),
        ("fork_mode", ExecMode::Fork),
        ("cluster_mode", ExecMode::Cluster),
    ];
    let Some(entry) = fields.peek("exec_mode").cloned() else {
        return default_mode(instances, interpreter, ipc);
    };
    let mode = fields.choice("exec_mode", &modes).unwrap_or_default();
    if mode == ExecMode::Cluster && !is_runtime(interpreter) {
        let message = format!(
            "'{}' cluster is for node and bun: the instances run in fork mode",
            entry.shown
        );
        fields.warn(&entry, message);
        return ExecMode::Fork;
    }
    if mode == ExecMode::Cluster && matches!(ipc, Ipc::Off | Ipc::Fd) {
        let message = format!("'{}' cluster needs the channel that 'ipc' denies", entry.shown);
        fields.error(&entry, message);
    }
    mode
}

pub(super) fn cluster_policy(fields: &mut Fields<'_, '_>) -> Option<ClusterPolicy> {
    let policies = [("shared", ClusterPolicy::Shared), ("rr", ClusterPolicy::RoundRobin)];
    fields.choice("cluster_policy", &policies)
}

/// What pmd opens. `taken`: the number of another descriptor that the program is given.
pub(super) fn listen(
    fields: &mut Fields<'_, '_>,
    ground: &Ground,
    taken: Option<u32>,
) -> Vec<Address> {
    let Some(entry) = fields.take("listen") else { return Vec::new() };
    let expected = "an address like tcp:3000, tcp:127.0.0.1:3000, udp:53 or unix:/run/web.sock, or \
                    a list of them";
    let Some(list) = fields::as_list(entry.value) else {
        fields.wrong(&entry, expected);
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for text in list {
        let text = match text.strip_prefix("unix:") {
            Some("") | None => text,
            Some(path) => format!("unix:{}", ground.absolute(path).to_string_lossy()),
        };
        match Address::parse(&text) {
            Some(address) if !addresses.contains(&address) => addresses.push(address),
            Some(address) => {
                let message = format!("'{}' has {address} twice", entry.shown);
                fields.error(&entry, message);
            }
            None if text.len() > MAX_SOCKET_PATH && text.starts_with("unix:/") => {
                let message = format!(
                    "'{}': the path of a socket has at most {MAX_SOCKET_PATH} bytes",
                    entry.shown
                );
                fields.error(&entry, message);
            }
            None => fields.wrong(&entry, expected),
        }
    }
    if addresses.len() > MAX_LISTEN {
        let message = format!("'{}' has more than {MAX_LISTEN} addresses", entry.shown);
        fields.error(&entry, message);
    }
    if let Some(taken) = taken.and_then(|taken| usize::try_from(taken).ok())
        && (3..3 + addresses.len()).contains(&taken)
    {
        let message =
            format!("'notification_fd' {taken} is the number of a socket in '{}'", entry.shown);
        fields.error(&entry, message);
    }
    addresses
}
