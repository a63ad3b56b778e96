//! Making the table match a file: the plan, and its first step.

use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use crate::daemon::key::ConnId;
use crate::daemon::requests::{Pending, REQUEST_LIMIT, data};
use crate::daemon::{Daemon, answers};
use crate::json::json;
use crate::proto::messages::request::Apply;
use crate::proto::messages::session::Answer;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::{Existing, Input, Options, Request, Target};
use crate::sys::limits;

impl Daemon {
    pub(super) fn apply(&mut self, client: ConnId, tag: u64, apply: Apply) -> Option<Answer> {
        let mut warnings = Vec::new();
        let wanted = self.shared_environment(apply.environment).and_then(|inherited| {
            self.resolve(&apply.configs, &inherited, apply.source.as_deref(), &mut warnings)
        });
        let apps = match wanted {
            Ok(apps) => apps,
            Err(error) => return Some(Answer::Error(error)),
        };
        let plan = self.plan(&apps, apply.source.as_deref(), apply.prune);
        let steps = json!({"steps": plan.steps, "warnings": warnings});
        if apply.dry_run {
            return Some(data("plan", &steps));
        }
        let existing = if apply.restart { Existing::Apply } else { Existing::Refuse };
        let apps = if apply.restart {
            apps
        } else {
            apps.into_iter()
                .filter(|app| plan.changed.iter().all(|name| **name != *app.name))
                .collect()
        };
        let pending = Pending::Apply { client, tag, steps, prune: plan.prune, results: Vec::new() };
        let from = self.reply_to(pending);
        // A small board is not to be flooded.
        let parallel = Some(self.settings.parallel.unwrap_or_else(limits::processors));
        let options = Options { wait: apply.wait, parallel, timeout: Some(REQUEST_LIMIT) };
        self.input(Input::Request { from, request: Request::Create { apps, existing, options } });
        None
    }

    fn plan(&self, apps: &[Rc<AppSpec>], source: Option<&str>, prune: bool) -> Plan {
        let mut plan = Plan::default();
        for app in apps {
            let known = self.supervisor.processes().find(|p| p.spec().name == app.name);
            let (op, changed) = match known {
                None => ("start", Vec::new()),
                Some(process) => match process.spec().differences(app) {
                    fields if fields.is_empty() => ("unchanged", fields),
                    fields => ("reload", fields),
                },
            };
            let changed: Vec<Value> = match known {
                Some(process) if op == "reload" => {
                    plan.changed.push(app.name.as_ref().to_owned());
                    answers::changes(process.spec(), app, &changed)
                }
                Some(_) | None => Vec::new(),
            };
            plan.steps.push(json!({"op": op, "name": app.name, "changed": changed}));
        }
        let source = source.map(Path::new);
        let mut gone: Vec<&str> = self
            .supervisor
            .processes()
            .filter(|process| source.is_some() && process.spec().source.as_deref() == source)
            .map(|process| &*process.spec().name)
            .filter(|name| apps.iter().all(|app| *app.name != **name))
            .collect();
        gone.dedup();
        for name in gone {
            let op = if prune { "delete" } else { "keep" };
            plan.steps.push(json!({"op": op, "name": name, "changed": []}));
            if prune {
                plan.prune.push(Target::Name(name.to_owned()));
            }
        }
        plan
    }
}

#[derive(Debug, Default)]
struct Plan {
    steps: Vec<Value>,
    changed: Vec<String>,
    prune: Vec<Target>,
}
