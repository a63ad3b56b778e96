//! The environment of one app: what is inherited, `env`, the profile, and `${NAME}`.
//!
//! Reads env files only where `${NAME}` needs them.

use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;

use crate::config::assemble::Shared;
use crate::config::fields::{self, Entry, Fields};
use crate::config::problem::{Problem, shorten};
use crate::config::resolve::Dialect;
use crate::config::{envfile, environment, names, suggest};
use crate::supervisor::spec::Environment;

/// What comes from the caller, and whether that is all of it.
pub(super) fn inherited(
    fields: &mut Fields<'_, '_>,
    shared: &mut Shared,
) -> (Rc<Environment>, bool) {
    let hidden = fields.list("hide_env").unwrap_or_default();
    let (inherited, all) = not_filtered(fields, shared);
    if hidden.is_empty() {
        return (inherited, all);
    }
    let is_shown = |(name, _): &(&str, &str)| !hidden.iter().any(|hidden| hidden == name);
    (Rc::new(inherited.iter().filter(is_shown).collect()), all)
}

fn not_filtered(fields: &mut Fields<'_, '_>, shared: &mut Shared) -> (Rc<Environment>, bool) {
    let origin = fields.report.origin;
    let by_default = origin.dialect != Dialect::Pmd;
    let inherit = fields.flag("inherit_env");
    let parts = match fields.peek("filter_env").map(|entry| fields::as_flag(entry.value)) {
        None => Vec::new(),
        Some(Some(false)) => {
            fields.take("filter_env");
            Vec::new()
        }
        Some(Some(true)) => {
            fields.take("filter_env");
            return (base(fields, shared), false);
        }
        Some(None) => filter(fields),
    };
    if !inherit.unwrap_or(by_default) {
        return (base(fields, shared), false);
    }
    if parts.is_empty() {
        return (Rc::clone(origin.environment), true);
    }
    if let Some((_, known)) = shared.filtered.iter().find(|(known, _)| *known == parts) {
        return (Rc::clone(known), true);
    }
    let filtered = Rc::new(environment::filtered(origin.environment, &parts));
    shared.filtered.push((parts, Rc::clone(&filtered)));
    (filtered, true)
}

fn base(fields: &Fields<'_, '_>, shared: &mut Shared) -> Rc<Environment> {
    let caller = fields.report.origin.environment;
    Rc::clone(shared.base.get_or_insert_with(|| Rc::new(environment::base_environment(caller))))
}

/// Parts of names that are not inherited: a string is one part, as in PM2.
fn filter(fields: &mut Fields<'_, '_>) -> Vec<String> {
    let parts = fields.read("filter_env", "true, false or a list of strings", |value| match value
        .as_str()
    {
        Some(part) => Some(vec![part.to_owned()]),
        None => fields::as_list(value),
    });
    let mut parts = parts.unwrap_or_default();
    parts.retain(|part| !part.is_empty());
    parts
}

/// Where `${NAME}` finds its values: env files, then what is inherited.
pub(super) struct Variables<'e> {
    /// Only pmd's own files expand.
    active: bool,
    inherited: &'e Environment,
    files: &'e [PathBuf],
    read: Option<Environment>,
}

impl<'e> Variables<'e> {
    pub fn new(fields: &Fields<'_, '_>, inherited: &'e Environment, files: &'e [PathBuf]) -> Self {
        let active = fields.report.origin.dialect == Dialect::Pmd;
        Self { active, inherited, files, read: None }
    }

    /// `text` with its variables replaced; `None`: one is not set, which is in the report.
    fn expand(
        &mut self,
        fields: &mut Fields<'_, '_>,
        entry: &Entry<'_>,
        text: &str,
    ) -> Option<String> {
        if !self.active || !text.contains('$') {
            return Some(text.to_owned());
        }
        if self.read.is_none() {
            self.read = Some(self.read_files(fields, entry)?);
        }
        let value_of = |name: &str| {
            let file = self.read.as_ref().and_then(|vars| vars.get(name));
            file.or_else(|| self.inherited.get(name)).map(str::to_owned)
        };
        match environment::expand(text, value_of) {
            Ok(text) => Some(text),
            Err(name) => {
                fields.error(entry, not_set(entry, &name));
                None
            }
        }
    }

    fn read_files(&self, fields: &mut Fields<'_, '_>, entry: &Entry<'_>) -> Option<Environment> {
        let mut vars = Vec::new();
        for path in self.files {
            let shown = path.strip_prefix(fields.report.origin.dir).unwrap_or(path);
            match envfile::read(path, &shown.to_string_lossy()) {
                Ok(pairs) => vars.extend(pairs),
                Err(problem) => {
                    fields.error_at(entry, problem, crate::config::locate::End::Value);
                    return None;
                }
            }
        }
        Some(vars.into_iter().collect())
    }
}

pub(super) fn not_set(entry: &Entry<'_>, name: &str) -> String {
    format!("'{}' names ${{{}}}, which is not set", entry.shown, shorten(name))
}

/// `env` and, above it, the profile that was asked for.
pub(super) fn env(fields: &mut Fields<'_, '_>, variables: &mut Variables<'_>) -> Environment {
    let mut env = Vec::new();
    if let Some(entry) = fields.take("env") {
        layer(fields, variables, &entry, &mut env);
    }
    match fields.report.origin.profile.map(|profile| (profile, fields.profile(profile))) {
        None => {}
        Some((_, Some(entry))) => layer(fields, variables, &entry, &mut env),
        Some((profile, None)) => {
            let nearest = suggest::nearest(profile, fields.profile_names()).map(str::to_owned);
            let message = format!("there is no 'env_{}'", shorten(profile));
            fields.app_warning(Problem::new(message).suggest(nearest.as_deref()));
        }
    }
    env.into_iter().collect()
}

fn layer(
    fields: &mut Fields<'_, '_>,
    variables: &mut Variables<'_>,
    entry: &Entry<'_>,
    env: &mut Vec<(String, String)>,
) {
    let Some(map) = entry.value.as_object() else {
        return fields.wrong(entry, "an object");
    };
    for (name, value) in map {
        let nested = entry.nested(name, value);
        if !names::is_variable(name) {
            fields.error(&nested, format!("'{}' is not the name of a variable", shorten(name)));
            continue;
        }
        if value.is_null() && !fields.report.is_strict() {
            continue;
        }
        let Some(text) = as_variable(value) else {
            fields.wrong(&nested, "a string, a number, true or false");
            continue;
        };
        if text.contains('\0') {
            fields.error(&nested, format!("'{}' must not contain a NUL character", nested.shown));
            continue;
        }
        if let Some(text) = variables.expand(fields, &nested, &text) {
            env.push((name.clone(), text));
        }
    }
}

/// Lists and objects are passed as JSON text, as PM2 does.
fn as_variable(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

/// `args`, with variables replaced.
pub(super) fn args(fields: &mut Fields<'_, '_>, variables: &mut Variables<'_>) -> Vec<String> {
    let Some(entry) = fields.peek("args").cloned() else { return Vec::new() };
    let list = fields.list("args").unwrap_or_default();
    list.iter().filter_map(|word| variables.expand(fields, &entry, word)).collect()
}
