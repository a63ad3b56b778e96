//! The daemon's settings while it runs: shown, changed, read again.
//!
//! What can be changed at once is; the rest holds from the next start on, and the answer says so.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde_json::Value;

use crate::base::{ProcId, Stream};
use crate::config::settings::{self, AgentSettings, Settings};
use crate::config::{edit, web};
use crate::daemon::entries::Entry;
use crate::daemon::home::{self, StartError};
use crate::daemon::key::ConnId;
use crate::daemon::requests::{data, owner_only};
use crate::daemon::web::Web;
use crate::daemon::{Daemon, answers, plan};
use crate::json::{json, object};
use crate::logs::StreamId;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::session::Answer;
use crate::sys::{describe, dir, process};

/// The file of a token that pmd made, in the configuration directory.
const TOKEN_FILE: &str = "web.token";
/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;

impl Daemon {
    /// What the settings are; secrets are only named.
    pub(super) fn show_settings(&self, key: Option<&str>) -> Answer {
        let value = |key: &str| match key.strip_prefix("web.") {
            Some(below) => {
                let value = self.web.settings.get(below);
                let is_secret = web::SECRET_KEYS.contains(&key) && !value.is_null();
                if is_secret { "***".into() } else { value }
            }
            None => self.settings.get(key),
        };
        if let Some(key) = key
            && !settings::keys().any(|known| known == key)
        {
            return Answer::Error(unknown(key));
        }
        let wanted = settings::keys().filter(|known| key.is_none_or(|key| key == *known));
        let values = object(wanted.map(|key| (key, value(key))));
        data("settings", &json!({"values": values, "file": self.paths.settings()}))
    }

    /// Writes one setting into the file, and takes it over.
    pub(super) fn set_setting(&mut self, client: ConnId, key: &str, value: &Value) -> Answer {
        if !self.is_owner(client) {
            return Answer::Error(owner_only("changing settings"));
        }
        if !settings::keys().any(|known| known == key) {
            return Answer::Error(unknown(key));
        }
        if !value.is_null()
            && let Err(problem) = settings::check(key, value)
        {
            return Answer::Error(answers::problem(&problem).with("field", key));
        }
        if let Err(error) = self.rewrite(&[(key, Some(value).filter(|value| !value.is_null()))]) {
            return Answer::Error(error);
        }
        let at_once = settings::takes_effect_at_once(key);
        let shown = if web::SECRET_KEYS.contains(&key) { &Value::from("***") } else { value };
        data(
            "settings",
            &json!({
                "values": {key: shown}, "file": self.paths.settings(),
                "takes_effect": if at_once { "now" } else { "next start" },
            }),
        )
    }

    /// Shows the token of the web interface, or makes a new one.
    pub(super) fn token(&mut self, client: ConnId, is_new: bool) -> Answer {
        if !self.is_owner(client) {
            return Answer::Error(owner_only("the token"));
        }
        if !is_new {
            return data("token", &json!({"token": self.web.settings.token}));
        }
        if self.web.overrides.gives_token() {
            let text = "the token was given on the command line or in PMD_WEB_TOKEN";
            return Answer::Error(ErrorReply::new(Code::OperationFailed, text));
        }
        let mut bytes = [0; TOKEN_BYTES];
        let made = process::fill_random(&mut bytes).and_then(|()| {
            let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let path = self.paths.config.join(TOKEN_FILE);
            replace(&path, format!("{token}\n").as_bytes(), 0o600)?;
            Ok((path, token))
        });
        let (path, token) = match made {
            Ok(made) => made,
            Err(error) => return Answer::Error(cannot("write the token", &error)),
        };
        let file = Value::from(TOKEN_FILE);
        match self.rewrite(&[("web.token", None), ("web.token_file", Some(&file))]) {
            Ok(()) => data("token", &json!({"token": token, "file": path})),
            Err(error) => Answer::Error(error),
        }
    }

    /// Changes settings in the file, if the result is one that a daemon would start with.
    fn rewrite(&mut self, changes: &[(&str, Option<&Value>)]) -> Result<(), ErrorReply> {
        let path = self.paths.settings();
        let (text, settings) = edited(&path, changes)?;
        let settled = self.settle_web(&settings);
        let web = settled.map_err(|error| {
            let reply = ErrorReply::new(Code::InvalidConfig, error.message);
            match error.hint {
                Some(hint) => reply.with("hint", hint),
                None => reply,
            }
        })?;
        store(&path, &text)?;
        self.take_settings(settings, web);
        Ok(())
    }

    fn settle_web(&self, settings: &Settings) -> Result<web::WebSettings, StartError> {
        Web::effective(&settings.web, &self.web.overrides, &self.paths.config)
    }

    /// Reads the settings again: somebody changed the file and said so.
    pub(super) fn reread_settings(&mut self) {
        let read = home::settings(&self.paths).and_then(|(settings, _)| {
            let web = self.settle_web(&settings)?;
            Ok((settings, web))
        });
        match read {
            Ok((settings, web)) => self.take_settings(settings, web),
            Err(error) => {
                self.own_log.error(format_args!("settings stay as they were: {}", error.message));
            }
        }
    }

    fn take_settings(&mut self, new: Settings, web: web::WebSettings) {
        let old = &self.settings;
        let new_logs = new.log != old.log;
        let hub = old.ipevents.clone();
        self.settings = Settings {
            log_level: old.log_level,
            save: old.save,
            resurrect: old.resurrect,
            stop_on_exit: old.stop_on_exit,
            state_mode: old.state_mode,
            parallel: old.parallel,
            pm2: old.pm2.clone(),
            agent: AgentSettings { enabled: old.agent.enabled, ..new.agent },
            ..new
        };
        self.connections.set_limit(self.settings.max_connections);
        self.logs.set_total(self.settings.log.total);
        // Without a place for files everything is kept in memory.
        self.settings.log.targets.files &= !dir::is_read_only(&self.paths.logs);
        if new_logs {
            self.plan_logs_again();
        }
        self.change_web(web);
        if self.settings.ipevents != hub {
            self.open_hub();
        }
        self.own_log.info("settings are as they are said to be now");
    }

    /// Sizes and policies of logs that are open are those of the settings as they are now.
    fn plan_logs_again(&mut self) {
        let is_logged = |process: ProcId, entry: &Entry| {
            let logged = |stream| entry.pipe(stream).is_some_and(|pipe| pipe.logged);
            Stream::BOTH.map(|stream| logged(stream).then_some(StreamId { process, stream }))
        };
        let all = self.entries.iter();
        let open: Vec<StreamId> =
            all.flat_map(|(&id, entry)| is_logged(id, entry)).flatten().collect();
        for id in open {
            self.drain(id.process, id.stream);
            let Some(entry) = self.entries.get(&id.process) else { continue };
            let journal = self.live.journal(entry.slot, id.stream);
            let plan = plan::stream(entry, id.stream, &self.places, &self.settings);
            self.logs.open(id, plan, journal);
        }
    }
}

/// The settings that a file holds; those by default where there is none.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_settings(path: &Path) -> Result<Settings, ErrorReply> {
    edited(path, &[]).map(|(_, settings)| settings)
}

/// Writes one setting into a file; `None`: takes it out.
///
/// # Errors
///
/// As [`read_settings`]; the file cannot be written.
pub fn write_setting(path: &Path, key: &str, value: Option<&Value>) -> Result<(), ErrorReply> {
    let (text, _) = edited(path, &[(key, value)])?;
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| cannot(&format!("make {}", directory.display()), &error))?;
    }
    store(path, &text)
}

/// The text of a file with these changes, and what it says then.
fn edited(
    path: &Path,
    changes: &[(&str, Option<&Value>)],
) -> Result<(String, Settings), ErrorReply> {
    let shown = path.display();
    let mut text = match fs::read_to_string(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cannot(&format!("read {shown}"), &error));
        }
        text => text.unwrap_or_default(),
    };
    for (key, value) in changes {
        text = edit::set(&text, key, *value).map_err(|why| {
            ErrorReply::new(Code::OperationFailed, format!("cannot change {shown}: {why}"))
                .with("hint", "put the apps into a file of apps.d")
        })?;
    }
    let document: Value = match text.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(|error| {
            ErrorReply::new(Code::InvalidConfig, format!("{shown} is no JSON: {error}"))
        })?,
    };
    let file = path.to_string_lossy();
    let settings = Settings::read(&document, Some((&file, &text))).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        ErrorReply::new(Code::InvalidConfig, first)
    })?;
    Ok((text, settings))
}

/// Where the file is a link, what it leads to is changed.
fn store(path: &Path, text: &str) -> Result<(), ErrorReply> {
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace(&place, text.as_bytes(), 0o600)
        .map_err(|error| cannot(&format!("write {}", place.display()), &error))
}

fn unknown(key: &str) -> ErrorReply {
    let problem = settings::check(key, &Value::Null).err();
    let error = match &problem {
        Some(problem) => answers::problem(problem),
        None => ErrorReply::new(Code::InvalidConfig, format!("unknown setting '{key}'")),
    };
    ErrorReply { code: Code::InvalidArgument, ..error }.with("field", "key")
}

fn cannot(what: &str, error: &io::Error) -> ErrorReply {
    ErrorReply::new(Code::OperationFailed, format!("cannot {what}: {}", describe(error)))
}

/// Puts a whole new file in the place of the old one.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let _ = fs::remove_file(new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    file.write_all(bytes)?;
    if let Ok(meta) = fs::metadata(path) {
        // Whoever could read the old one may read the new one, but for a token.
        if mode & 0o077 == 0 && path.file_name().is_none_or(|name| name != TOKEN_FILE) {
            file.set_permissions(meta.permissions())?;
        }
    }
    fs::rename(new, path)
}
