//! Settings of the web interface: where it listens, who may come in, how much they may have.
//!
//! Pure. Source: the WebSocket API document, "Daemon-side settings".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use crate::config::fields;
use crate::sorted::sort;

/// Where pmd listens unless it is told otherwise: `localhost` is either.
pub const DEFAULT_PORT: u16 = 9615;

/// What a client may do.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    None,
    /// Look.
    Read,
    /// Look and act, new commands included.
    #[default]
    Full,
}

impl Level {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Full => "full",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Read, Self::Full].into_iter().find(|level| level.name() == word)
    }
}

/// The settings below `web.`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebSettings {
    /// Empty: the web interface is off.
    pub listen: Vec<SocketAddr>,
    /// Opens everything.
    pub token: Option<String>,
    /// Read at start and when it changes; relative to the configuration directory.
    pub token_file: Option<PathBuf>,
    /// Opens what changes nothing.
    pub read_token: Option<String>,
    /// Pages of other origins that may connect, to the letter.
    pub allowed_origins: Vec<String>,
    /// Names under which the daemon may be addressed, besides `localhost` and addresses.
    pub allowed_hosts: Vec<String>,
    /// Users who may come in like the daemon's own.
    pub trusted_uids: Vec<u32>,
    /// The most that who presents no token may do.
    pub anonymous: Level,
    pub max_clients: usize,
    /// Bytes of events that wait for one client.
    pub client_buffer: usize,
    /// Bytes of one message of a client.
    pub max_message: usize,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self {
            listen: localhost(DEFAULT_PORT).to_vec(),
            token: None,
            token_file: None,
            read_token: None,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            trusted_uids: Vec::new(),
            anonymous: Level::Full,
            max_clients: 256,
            client_buffer: 1024 * 1024,
            max_message: 64 * 1024,
        }
    }
}

/// The keys below `web.`.
pub const KEYS: &[&str] = &[
    "web.listen",
    "web.token",
    "web.token_file",
    "web.read_token",
    "web.allowed_origins",
    "web.allowed_hosts",
    "web.trusted_uids",
    "web.anonymous",
    "web.max_clients",
    "web.client_buffer",
    "web.max_message",
];

/// Those whose values are secrets.
pub const SECRET_KEYS: &[&str] = &["web.token", "web.read_token"];

/// Bytes of a token at least: what can be guessed is none.
const LEAST_TOKEN: usize = 16;

/// Both loopback addresses.
fn localhost(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

/// One address to listen on: `127.0.0.1:9615`, `[::]:80`, `localhost:9615` (both), `:9615` or
/// `9615` (both), `off` (none).
#[must_use]
pub fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    if matches!(text, "off" | "none") {
        return Some(Vec::new());
    }
    if let Ok(address) = text.parse() {
        return Some(vec![address]);
    }
    let port = text.strip_prefix("localhost").map_or(text, |rest| rest);
    let port = if port.len() == text.len() && !text.starts_with(':') {
        text
    } else {
        port.strip_prefix(':')?
    };
    Some(localhost(port.parse().ok()?).to_vec())
}

impl WebSettings {
    /// Enters one setting, `name` without `web.`.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), &'static str> {
        match name {
            "listen" => {
                let expected = "an address like \"127.0.0.1:9615\", a list of them, or \"off\"";
                let found: Option<Vec<_>> = texts(value)
                    .and_then(|texts| texts.iter().map(|text| addresses(text)).collect());
                self.listen = found.ok_or(expected)?.concat();
                sort(&mut self.listen);
                self.listen.dedup();
            }
            "token" => self.token = Some(token(value)?),
            "read_token" => self.read_token = Some(token(value)?),
            "token_file" => {
                let path = value.as_str().filter(|path| !path.is_empty()).ok_or("a path")?;
                self.token_file = Some(PathBuf::from(path));
            }
            "allowed_origins" => {
                self.allowed_origins = texts(value).ok_or("a list of origins")?;
            }
            "allowed_hosts" => {
                let hosts = texts(value).ok_or("a list of host names")?;
                self.allowed_hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            }
            "trusted_uids" => {
                let uid = |value: &Value| value.as_u64().and_then(|uid| u32::try_from(uid).ok());
                let found: Option<Vec<u32>> = match value.as_array() {
                    Some(items) => items.iter().map(uid).collect(),
                    None => uid(value).map(|uid| vec![uid]),
                };
                self.trusted_uids = found.ok_or("a list of user ids")?;
            }
            "anonymous" => {
                self.anonymous = value
                    .as_str()
                    .and_then(Level::parse)
                    .ok_or("\"full\", \"read\" or \"none\"")?;
            }
            "max_clients" => {
                self.max_clients = size(value, 0, 100_000).ok_or("a number up to 100000")?;
            }
            "client_buffer" => {
                self.client_buffer =
                    size(value, 16 << 10, 64 << 20).ok_or("a size from 16K to 64M")?;
            }
            _ => {
                self.max_message = size(value, 1 << 10, 1 << 20).ok_or("a size from 1K to 1M")?;
            }
        }
        Ok(())
    }

    /// The value of one setting, `name` without `web.`.
    #[must_use]
    pub fn get(&self, name: &str) -> Value {
        match name {
            "listen" => self.listen.iter().map(ToString::to_string).collect(),
            "token" => self.token.as_deref().into(),
            "read_token" => self.read_token.as_deref().into(),
            "token_file" => {
                self.token_file.as_ref().map(|path| path.to_string_lossy().into_owned()).into()
            }
            "allowed_origins" => self.allowed_origins.clone().into(),
            "allowed_hosts" => self.allowed_hosts.clone().into(),
            "trusted_uids" => self.trusted_uids.clone().into(),
            "anonymous" => self.anonymous.name().into(),
            "max_clients" => self.max_clients.into(),
            "client_buffer" => self.client_buffer.into(),
            _ => self.max_message.into(),
        }
    }
}

/// What a command line and an environment say instead of the settings.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub listen: Option<Vec<SocketAddr>>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub anonymous: Option<Level>,
    /// Besides those of the settings.
    pub allowed_origins: Vec<String>,
    pub allowed_hosts: Vec<String>,
}

impl Overrides {
    /// The settings that hold.
    #[must_use]
    pub fn apply(&self, settings: &WebSettings) -> WebSettings {
        let mut settings = settings.clone();
        if let Some(listen) = &self.listen {
            settings.listen.clone_from(listen);
        }
        if let Some(token) = &self.token {
            settings.token = Some(token.clone());
        }
        if let Some(file) = &self.token_file {
            settings.token_file = Some(file.clone());
            settings.token.clone_from(&self.token);
        }
        settings.anonymous = self.anonymous.unwrap_or(settings.anonymous);
        settings.allowed_origins.extend_from_slice(&self.allowed_origins);
        settings.allowed_hosts.extend(self.allowed_hosts.iter().map(|h| h.to_ascii_lowercase()));
        settings
    }

    /// Whether the token comes from elsewhere than the settings.
    #[must_use]
    pub fn gives_token(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }
}

fn token(value: &Value) -> Result<String, &'static str> {
    let text = value.as_str().filter(|text| is_token(text));
    text.map(str::to_owned).ok_or("a text of 16 to 512 printable characters without spaces")
}

/// Whether a text may be a token: long enough, and fit for a header.
#[must_use]
pub fn is_token(text: &str) -> bool {
    (LEAST_TOKEN..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A text or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    if let Some(items) = value.as_array() {
        return items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    }
    Some(value.as_str()?.split(',').map(|part| part.trim().to_owned()).collect())
}

fn size(value: &Value, least: u64, most: u64) -> Option<usize> {
    fields::as_bytes(value)
        .filter(|bytes| (least..=most).contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_may_be_short() {
        let shown = |text: &str| {
            addresses(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let both = Some(vec!["127.0.0.1:80".to_owned(), "[::1]:80".to_owned()]);
        for text in ["localhost:80", ":80", "80"] {
            assert_eq!(shown(text), both, "{text}");
        }
        assert_eq!(shown("0.0.0.0:1"), Some(vec!["0.0.0.0:1".to_owned()]));
        assert_eq!(shown("[::]:1"), Some(vec!["[::]:1".to_owned()]));
        assert_eq!(shown("off"), Some(vec![]));
        for text in
            ["", ":", "localhost", "localhost80", "example.org:80", "1.2.3.4", "70000", "-1"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn settings_are_read_back_as_they_were_set() {
        let mut web = WebSettings::default();
        for (name, value) in [
            ("listen", json!(["127.0.0.1:1", "[::1]:1"])),
            ("token", json!("0123456789abcdef")),
            ("token_file", json!("web.token")),
            ("allowed_origins", json!(["http://a:1", "null"])),
            ("allowed_hosts", json!(["box"])),
            ("trusted_uids", json!([1, 2])),
            ("anonymous", json!("read")),
            ("max_clients", json!(5)),
            ("client_buffer", json!(65536)),
            ("max_message", json!(2048)),
        ] {
            web.set(name, &value).unwrap();
            assert_eq!(web.get(name), value, "{name}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (name, value) in [
            ("listen", json!("example.org:80")),
            ("listen", json!(80.5)),
            ("token", json!("short")),
            ("token", json!("with spaces in the middle")),
            ("trusted_uids", json!([-1])),
            ("anonymous", json!("all")),
            ("max_clients", json!(-1)),
            ("client_buffer", json!("1K")),
            ("max_message", json!("2M")),
        ] {
            assert!(WebSettings::default().set(name, &value).is_err(), "{name} {value}");
        }
    }
}
