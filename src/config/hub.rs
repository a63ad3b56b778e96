//! Settings of the hub of ipevents: where peers that are no children find it, and its limits.
//!
//! Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::config::fields;
use crate::config::web;

/// The settings below `ipevents.`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubSettings {
    /// Absolute; `None`: in the runtime directory, from the first child on that speaks ipevents.
    pub unix: Option<PathBuf>,
    /// Loopback addresses; empty: nowhere.
    pub tcp: Vec<SocketAddr>,
    /// Peers that are no children.
    pub max_peers: usize,
    /// In bytes: a line, and what waits for one peer.
    pub max_line: usize,
    pub max_queue: usize,
    /// Everybody is told who comes and who goes.
    pub announce: bool,
}

impl Default for HubSettings {
    fn default() -> Self {
        let (max_line, max_queue) = (1024 * 1024, 1024 * 1024);
        Self { unix: None, tcp: Vec::new(), max_peers: 256, max_line, max_queue, announce: false }
    }
}

/// The keys below `ipevents.`.
pub const KEYS: &[&str] = &[
    "ipevents.unix",
    "ipevents.tcp",
    "ipevents.max_peers",
    "ipevents.max_line",
    "ipevents.max_queue",
    "ipevents.announce",
];

/// Bytes of a line and of a queue.
const SIZES: std::ops::RangeInclusive<u64> = 1024..=64 * 1024 * 1024;

impl HubSettings {
    /// The value of a key, without `ipevents.`.
    #[must_use]
    pub fn get(&self, key: &str) -> Value {
        match key {
            "unix" => self.unix.as_ref().map(|path| path.to_string_lossy().into_owned()).into(),
            "tcp" => self.tcp.iter().map(SocketAddr::to_string).collect(),
            "max_peers" => self.max_peers.into(),
            "max_line" => self.max_line.into(),
            "max_queue" => self.max_queue.into(),
            _ => self.announce.into(),
        }
    }

    /// Sets a key, without `ipevents.`.
    ///
    /// # Errors
    ///
    /// What is expected instead.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<(), &'static str> {
        let size = || {
            let bytes = fields::as_bytes(value).filter(|bytes| SIZES.contains(bytes));
            bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or("a size from 1K to 64M")
        };
        match key {
            "unix" => {
                let path = value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
                self.unix = Some(path.ok_or("an absolute path")?);
            }
            "tcp" => {
                let given = fields::as_list(value).unwrap_or_default();
                let mut all = Vec::new();
                for text in &given {
                    let found = web::addresses(text).unwrap_or_default();
                    let is_off = matches!(text.as_str(), "off" | "none");
                    let is_here = found.iter().all(|address| address.ip().is_loopback());
                    if !is_here || (found.is_empty() && !is_off) {
                        return Err("an address of this host alone, like \"127.0.0.1:7100\"");
                    }
                    all.extend(found);
                }
                self.tcp = all;
            }
            "max_peers" => {
                let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
                self.max_peers = count.filter(|&count| count > 0).ok_or("a number from 1")?;
            }
            "max_line" => self.max_line = size()?,
            "max_queue" => self.max_queue = size()?,
            _ => self.announce = fields::as_flag(value).ok_or("true or false")?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_for_this_host_alone() {
        let mut settings = HubSettings::default();
        for wrong in ["0.0.0.0:7100", "10.0.0.1:7100", "nonsense", "[::]:7100"] {
            assert!(settings.set("tcp", &wrong.into()).is_err(), "{wrong}");
        }
        settings.set("tcp", &"localhost:7100".into()).unwrap();
        assert_eq!(settings.tcp.len(), 2);
        settings.set("tcp", &"off".into()).unwrap();
        assert!(settings.tcp.is_empty());
        assert!(settings.set("unix", &"relative".into()).is_err());
        assert!(settings.set("max_line", &"1".into()).is_err());
    }
}
