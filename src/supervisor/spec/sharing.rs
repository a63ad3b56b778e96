//! How the instances of an app share what they listen on.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;

use serde_json::Value;

use crate::supervisor::spec::AppSpec;
use crate::supervisor::spec::record::{Datum, Plain, words};

/// Addresses that pmd opens for one app.
pub const MAX_LISTEN: usize = 64;
/// Bytes of the path of a Unix socket: `sun_path` without its NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// Names the way in which a cluster's connections are shared out, where the app does not.
const POLICY_VARIABLE: &str = "NODE_CLUSTER_SCHED_POLICY";

/// Whether the instances are programs of their own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExecMode {
    #[default]
    Fork,
    /// They are workers of Node's cluster module, and the daemon is its primary.
    Cluster,
}

words!(ExecMode { Fork = "fork", Cluster = "cluster" });

impl ExecMode {
    /// PM2's word.
    #[must_use]
    pub fn pm2_name(self) -> &'static str {
        match self {
            Self::Fork => "fork_mode",
            Self::Cluster => "cluster_mode",
        }
    }
}

/// Who accepts the connections of a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClusterPolicy {
    /// The workers.
    Shared,
    /// The daemon, which hands them to the workers in turn.
    RoundRobin,
}

words!(ClusterPolicy { Shared = "shared", RoundRobin = "rr" });

/// An address that pmd opens for an app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `host` `None`: every address of the host. Never port 0.
    Tcp {
        host: Option<IpAddr>,
        port: u16,
    },
    Udp {
        host: Option<IpAddr>,
        port: u16,
    },
    /// An absolute path of at most [`MAX_SOCKET_PATH`] bytes.
    Unix(String),
}

impl Address {
    /// Reads `tcp:[HOST:]PORT`, `udp:[HOST:]PORT` or `unix:PATH`; `None` for anything else. A host
    /// is an IP address (of six in brackets), `localhost` or `*`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.trim().split_once(':')?;
        if kind == "unix" {
            let fits = !rest.is_empty() && rest.len() <= MAX_SOCKET_PATH && !rest.contains('\0');
            return fits.then(|| Self::Unix(rest.to_owned()));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (read_host(host)?, port),
            None => (None, rest),
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|&port: &u16| digits && port > 0)?;
        match kind {
            "tcp" => Some(Self::Tcp { host, port }),
            "udp" => Some(Self::Udp { host, port }),
            _ => None,
        }
    }

    /// What `LISTEN_FDNAMES` calls it: `tcp-80`, `udp-53`, `unix-web.sock`. Never a colon.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Tcp { port, .. } => format!("tcp-{port}"),
            Self::Udp { port, .. } => format!("udp-{port}"),
            Self::Unix(path) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let odd = |c: char| c == ':' || c.is_control();
                format!("unix-{}", name.replace(odd, "_"))
            }
        }
    }
}

/// The outer `None`: it is no host; the inner: every address.
fn read_host(text: &str) -> Option<Option<IpAddr>> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match (text, bare) {
        ("*" | "", _) => Some(None),
        ("localhost", _) => Some(Some(Ipv4Addr::LOCALHOST.into())),
        (_, Some(bare)) => bare.parse().ok().map(|v6: core::net::Ipv6Addr| Some(v6.into())),
        _ => text.parse().ok().map(|v4: Ipv4Addr| Some(v4.into())),
    }
}

/// As it is written in an app file.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, host, port) = match self {
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Udp { host, port } => ("udp", host, port),
            Self::Unix(path) => return write!(f, "unix:{path}"),
        };
        match host {
            None => write!(f, "{kind}:{port}"),
            Some(IpAddr::V4(host)) => write!(f, "{kind}:{host}:{port}"),
            Some(IpAddr::V6(host)) => write!(f, "{kind}:[{host}]:{port}"),
        }
    }
}

impl Plain for Address {
    fn show(&self) -> Datum<'_> {
        Datum::Owned(self.to_string())
    }

    fn read(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

impl AppSpec {
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.exec_mode == ExecMode::Cluster
    }

    /// Who accepts the connections, where it is a cluster.
    #[must_use]
    pub fn policy(&self) -> ClusterPolicy {
        let inherited = || self.inherited.get(POLICY_VARIABLE);
        let variable = || self.env.get(POLICY_VARIABLE).or_else(inherited);
        self.cluster_policy.unwrap_or_else(|| match variable() {
            Some("rr") => ClusterPolicy::RoundRobin,
            Some(_) | None => ClusterPolicy::Shared,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::spec;

    #[test]
    fn an_address_is_what_it_says() {
        for (text, again) in [
            ("tcp:80", Some("tcp:80")),
            ("tcp:*:80", Some("tcp:80")),
            ("tcp:127.0.0.1:65535", Some("tcp:127.0.0.1:65535")),
            ("tcp:localhost:80", Some("tcp:127.0.0.1:80")),
            ("udp:[::1]:53", Some("udp:[::1]:53")),
            ("unix:/run/a b:c.sock", Some("unix:/run/a b:c.sock")),
            ("tcp:0", None),
            ("tcp:65536", None),
            ("tcp:+80", None),
            ("tcp:::1:80", None),
            ("tcp:[127.0.0.1]:80", None),
            ("tcp:example.org:80", None),
            ("tcp:", None),
            ("80", None),
            ("http:80", None),
            ("unix:", None),
        ] {
            let address = Address::parse(text);
            assert_eq!(address.as_ref().map(ToString::to_string).as_deref(), again, "{text}");
            if let Some(address) = address {
                assert_eq!(Address::read(&Value::from(address.to_string())), Some(address));
            }
        }
        assert_eq!(Address::parse(&format!("unix:/{}", "x".repeat(107))), None);
        assert_eq!(Address::parse("unix:/run/a:b").unwrap().label(), "unix-a_b");
    }

    #[test]
    fn the_app_says_who_accepts_then_its_environment_then_it_is_shared() {
        let mut app = spec("web");
        assert_eq!(app.policy(), ClusterPolicy::Shared);
        app.env.set("NODE_CLUSTER_SCHED_POLICY", "rr");
        assert_eq!(app.policy(), ClusterPolicy::RoundRobin);
        app.cluster_policy = Some(ClusterPolicy::Shared);
        assert_eq!(app.policy(), ClusterPolicy::Shared);
    }
}
