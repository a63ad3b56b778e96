//! Where the agent is configured, how it is shown, and how it is switched on and off.
//!
//! Its files lie where PM2's agent has them: `config.json` names transporters, `agent.json5` has the
//! keys; `interactor.sock` answers PM2's own client while the agent is on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::agent::line::{State, Wire};
use crate::config::agent::{self as config, AgentConfig, Sources};
use crate::config::secrets::MASK;
use crate::daemon::Daemon;
use crate::daemon::accept::Door;
use crate::daemon::key::ConnId;
use crate::daemon::requests::{data, owner_only};
use crate::daemon::socket::Acceptor;
use crate::json::json;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::request::AgentWish;
use crate::proto::messages::session::Answer;
use crate::sys::{describe, process};

/// A longer file is not read, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The files of the agent.
pub struct Places {
    pub home: PathBuf,
    transporters: PathBuf,
    link: PathBuf,
    pub socket: PathBuf,
}

impl Daemon {
    pub(super) fn agent_places(&self) -> Places {
        let own = self.paths.pm2.as_ref().map(|paths| &paths.home);
        let home = self.settings.pm2.home.as_ref().or(own).cloned().unwrap_or_default();
        Places {
            transporters: home.join("config.json"),
            link: home.join("agent.json5"),
            socket: home.join("interactor.sock"),
            home,
        }
    }

    /// Starts the agent where it is configured. What is wrong is said once; supervision goes on
    /// without.
    pub(in crate::daemon) fn open_agent(&mut self) {
        self.outside.trouble = None;
        let may = self.container.is_none() && self.settings.agent.enabled;
        if !may || self.agent_places().home.as_os_str().is_empty() {
            return;
        }
        match self.agent_config() {
            Ok(None) => {}
            Ok(Some(config)) => self.begin_agent(config),
            Err(why) => {
                self.own_log.warn(format_args!("agent off: {why}"));
                self.outside.trouble = Some(why.into());
            }
        }
    }

    fn agent_config(&mut self) -> Result<Option<AgentConfig>, String> {
        let places = self.agent_places();
        let link = read(&places.link)?;
        let hostname = process::host().map(|host| host.name).unwrap_or_default();
        let number = u16::try_from(process::random() >> 48).unwrap_or_default();
        let found = config::read(&Sources {
            variable: &|name| std::env::var(name).ok(),
            link: &link,
            file: &read(&places.transporters)?,
            hostname: &hostname,
            pm2_version: &self.settings.pm2.version,
            number,
        })?;
        if found.is_some()
            && let Some(owner) = crate::daemon::pm2::lives(&places.socket)
        {
            let who = owner.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(format!("another agent{who} owns {}", places.socket.display()));
        }
        // A name that nobody gave stays the same from now on.
        if let Some(found) = &found
            && found.machine_name == format!("{hostname}-{number:04x}")
        {
            let mut members = link.as_object().cloned().unwrap_or_default();
            members.insert("machine_name".to_owned(), found.machine_name.as_str().into());
            let _ = write(&places.link, &Value::Object(members));
        }
        Ok(found)
    }

    /// Lets PM2's client ask, and end the agent.
    pub(super) fn open_interactor(&mut self) {
        let path = self.agent_places().socket;
        let opened = crate::daemon::pm2::listen_for_owner(&path).and_then(|listener| {
            self.connections.listen(&mut self.reactor, Acceptor::Unix(listener), Door::Agent)
        });
        match opened {
            Ok(door) => {
                if let Some(host) = self.outside.host.as_deref_mut() {
                    host.door = Some(door);
                }
            }
            Err(error) => {
                let why = describe(&error);
                self.own_log.warn(format_args!("agent: cannot use {}: {why}", path.display()));
            }
        }
    }

    /// `getInfos`, for PM2's client: the secret is in it.
    pub(in crate::daemon) fn agent_infos(&self) -> Value {
        let Some(host) = self.outside.host.as_deref() else { return Value::Null };
        let (agent, places) = (&host.agent, self.agent_places());
        if !agent.is_verified() {
            return Value::Null;
        }
        let names = agent.links().filter_map(|link| match link.wire {
            Wire::WebSocket => Some("WebsocketTransport"),
            Wire::Push => Some("AxonTransport"),
            Wire::Mqtt => Some("MqttTransport"),
            Wire::Verify | Wire::Reverse => None,
        });
        json!({
            "machine_name": agent.config.machine_name, "public_key": agent.config.public_key,
            "secret_key": agent.config.secret_key.0, "remote_host": agent.remote_host(),
            "connected": agent.is_connected(),
            "transporters": Value::from(names.collect::<Vec<&str>>()),
            "socket_path": places.socket, "pm2_home_monitored": places.home,
        })
    }

    /// Answers the request `agent`.
    pub(in crate::daemon) fn agent_wish(&mut self, client: ConnId, wish: AgentWish) -> Answer {
        let is_owner = self.is_owner(client);
        let done = match wish {
            AgentWish::Info => Ok(()),
            _ if !is_owner => return Answer::Error(owner_only("changing the agent")),
            AgentWish::Link(keys) => self.link(keys),
            AgentWish::Stop => {
                self.end_agent();
                Ok(())
            }
            AgentWish::Delete => {
                self.end_agent();
                match fs::remove_file(self.agent_places().link) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(describe(&error)),
                    Ok(()) | Err(_) => Ok(()),
                }
            }
        };
        match done {
            Ok(()) => data("agent", &self.agent_report()),
            Err(why) => Answer::Error(ErrorReply::new(Code::OperationFailed, why)),
        }
    }

    fn link(&mut self, keys: Map<String, Value>) -> Result<(), String> {
        let places = self.agent_places();
        if places.home.as_os_str().is_empty() {
            return Err("there is no place for the agent's files".to_owned());
        }
        let mut members = read(&places.link)?.as_object().cloned().unwrap_or_default();
        members.entry("version_management").or_insert_with(|| json!({"active": true}));
        members.insert("reverse_interact".to_owned(), true.into());
        members.insert("pm2_version".to_owned(), self.settings.pm2.version.as_str().into());
        members.extend(keys);
        let cannot =
            |error| format!("cannot write {}: {}", places.link.display(), describe(&error));
        fs::create_dir_all(&places.home).map_err(cannot)?;
        write(&places.link, &Value::Object(members)).map_err(cannot)?;
        self.end_agent();
        self.open_agent();
        match (self.outside.is_on(), self.outside.trouble()) {
            (true, _) => Ok(()),
            (false, Some(why)) => Err(why.to_owned()),
            (false, None) if !self.settings.agent.enabled => {
                Err("the agent is switched off (agent.enabled)".to_owned())
            }
            (false, None) => Err("no root is known to connect to (--info-node URL)".to_owned()),
        }
    }

    /// How the agent is, without its secret.
    pub(in crate::daemon) fn agent_report(&self) -> Value {
        let trouble = self.outside.trouble();
        let Some(host) = self.outside.host.as_deref() else {
            return json!({"state": "off", "trouble": trouble, "links": json!([])});
        };
        let agent = &host.agent;
        let links: Vec<Value> = agent
            .links()
            .map(|link| {
                let state = match link.line.state {
                    _ if link.is_fine => "connected",
                    State::Connecting(_) | State::Greeting(_) => "connecting",
                    State::Waiting(_) | State::Off | State::Open(_) => "waiting",
                };
                json!({
                    "name": link.wire.name(), "state": state,
                    "endpoint": link.line.to.as_ref().map(ToString::to_string),
                    "failures": link.line.failures, "error": link.line.error.as_deref(),
                    "queued": link.waiting, "queued_bytes": link.bytes, "dropped": link.dropped,
                })
            })
            .collect();
        let none_if_empty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        json!({
            "state": "on", "machine_name": agent.config.machine_name,
            "public_key": none_if_empty(&agent.config.public_key),
            "secret_key": none_if_empty(&agent.config.secret_key.0).map(|_| MASK),
            "remote_host": agent.remote_host(), "connected": agent.is_connected(),
            "actions": agent.asked, "links": Value::from(links),
            "socket_path": self.agent_places().socket,
        })
    }
}

/// A file as JSON; `Null`: there is none.
fn read(path: &Path) -> Result<Value, String> {
    let cannot = |why: &str| format!("cannot read {}: {why}", path.display());
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(cannot(&describe(&error))),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => {
            return Err(cannot("it is no file of up to 256 KiB"));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|error| cannot(&describe(&error)))?;
    serde_json::from_slice(&bytes).map_err(|error| cannot(&error.to_string()))
}

/// Replaces a file that nobody else may read.
fn write(path: &Path, value: &Value) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(format!("{value}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
