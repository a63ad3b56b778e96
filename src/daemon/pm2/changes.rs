//! Starts, restarts and reloads with what a client wants changed.

use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::base::ProcId;
use crate::config::pm2::{self, Record, Surroundings};
use crate::daemon::Daemon;
use crate::daemon::key::ConnId;
use crate::daemon::pm2::Then;
use crate::daemon::pm2::calls::Begun;
use crate::daemon::pm2::records::uuid;
use crate::proto::pm2::methods::Id;
use crate::supervisor::spec::{AppSpec, Environment};
use crate::supervisor::vocabulary::{Action, EnvChange, Options, Redefinition, Request};
use crate::sys::process;

impl Daemon {
    /// Enters what a client prepared and starts it, unless the record says that it rests.
    pub(super) fn prepare(&mut self, client: ConnId, tag: u64, record: Record) -> Begun {
        let request = self.entering(record, None)?;
        self.hand_on(client, tag, Then::Started { single: false }, request)
    }

    /// The request that enters a record. `first`: its id, where that is free.
    pub(in crate::daemon) fn entering(
        &mut self,
        record: Record,
        first: Option<ProcId>,
    ) -> Result<Request, String> {
        // As a saved list has them.
        let rests = record.get("status").and_then(Value::as_str) == Some("stopped")
            && !record.contains_key("instances");
        let app = self.spec_of(record, &uuid(process::random(), process::random()))?;
        let (count, start) = (app.instances, app.autostart && !rests);
        let options = Options::default();
        let app = self.share(vec![app]).into_iter().next().ok_or("no app")?;
        Ok(Request::Add { app, count, first, start, options })
    }

    pub(super) fn prepare_json(
        &mut self,
        client: ConnId,
        tag: u64,
        app: &Map<String, Value>,
        cwd: Option<&str>,
    ) -> Begun {
        let home = self.pm2.paths.as_ref().map(|paths| paths.home.clone()).unwrap_or_default();
        let dir = cwd.map(Path::new).filter(|dir| dir.is_absolute()).unwrap_or(&home);
        let defaults = self.settings.defaults();
        let record = pm2::from_app(app, dir, &home, &self.base_environment, &defaults)?;
        self.prepare(client, tag, record)
    }

    fn spec_of(&self, record: Record, unique_id: &str) -> Result<AppSpec, String> {
        let defaults = self.settings.defaults();
        let share = |environment| self.share_environment(environment);
        pm2::spec(record, unique_id, &Surroundings { defaults: &defaults, share: &share })
    }

    pub(super) fn restart(
        &mut self,
        client: ConnId,
        tag: u64,
        id: &Id,
        env: Map<String, Value>,
    ) -> Begun {
        let id = self.id_of(id).ok_or("God db process id unknown")?;
        self.refuse_if_killed()?;
        let says_watch = |conf: &Value| conf.get("watch").is_some_and(|watch| !watch.is_null());
        let says_watch = env.get("current_conf").is_some_and(says_watch);
        let change = self.redefinition(id, env)?;
        self.begins_anew(id);
        if says_watch {
            // From here on it is as the client says, whatever was switched before.
            self.supervisor.switch_watch(id, None);
            if let Some(known) = self.known_mut(id) {
                known.watch = None;
            }
        }
        self.act(client, tag, Then::Process, Action::Restart { change, kill_timeout: None }, id)
    }

    /// A process that shares its sockets is replaced without a gap; every other is restarted.
    pub(super) fn reload(
        &mut self,
        client: ConnId,
        tag: u64,
        id: ProcId,
        env: Map<String, Value>,
    ) -> Begun {
        if self.pm2.reloading.contains(&id) {
            return Err(format!("Reload already in progress for process id {id}, retry later"));
        }
        let change = self.redefinition(id, env)?;
        let before = self.process_reply(id).ok_or("PM2 ID unknown")?;
        self.begins_anew(id);
        self.pm2.reloading.insert(id);
        let action = if self.is_cluster(id) {
            Action::Reload { change }
        } else {
            Action::Restart { change, kill_timeout: None }
        };
        self.act(client, tag, Then::Reloaded(id, before), action, id)
    }

    /// PM2 counts its runs and their time from here.
    fn begins_anew(&mut self, id: ProcId) {
        let at = self.now.wall;
        if let Some(known) = self.known_mut(id) {
            known.created_at = Some(at);
        }
    }

    /// What is different after a restart with `asked`; `None`: nothing.
    fn redefinition(
        &self,
        id: ProcId,
        asked: Map<String, Value>,
    ) -> Result<Option<Redefinition>, String> {
        let Some(process) = self.supervisor.process(id) else { return Ok(None) };
        let spec = process.spec();
        let Some(mut record) = pm2::record(spec) else { return Ok(self.renewed(spec, asked)) };
        if !pm2::change(&mut record, asked) {
            return Ok(None);
        }
        let unique_id = record.get("unique_id").and_then(Value::as_str).map(str::to_owned);
        let mut changed = self.spec_of(record, &unique_id.unwrap_or_default())?;
        // How many there are is not for a restart to say.
        changed.instances = spec.instances;
        Ok(Some(Redefinition::Whole(Rc::new(changed))))
    }

    /// An app of pmd's own: of what PM2's client wants changed only variables mean something to it.
    fn renewed(&self, spec: &AppSpec, mut asked: Map<String, Value>) -> Option<Redefinition> {
        if let Some(Value::Object(mut conf)) = asked.remove("current_conf")
            && let Some(Value::Object(env)) = conf.remove("env")
        {
            asked.extend(env);
        }
        let pairs: Vec<(String, String)> =
            asked.into_iter().filter_map(|(name, value)| Some((name, plain(value)?))).collect();
        if pairs.is_empty() {
            return None;
        }
        let mut change = EnvChange::default();
        if spec.inherit_env {
            let new = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let all: Environment = spec.inherited.iter().chain(new).collect();
            change.inherited = Some(self.share_environment(all));
        } else {
            change.env = pairs;
        }
        Some(Redefinition::Environment(change))
    }
}

/// The value of a variable.
fn plain(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text).filter(|text| !text.contains('\0')),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
