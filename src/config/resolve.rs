//! Declarations to specs: after this an [`AppSpec`] cannot be wrong.
//!
//! A document comes as a JSON value, from whatever format it was read; all apps are checked, and
//! all that is wrong is reported. Looks at files only to tell scripts from commands and, in pmd
//! files, for `${NAME}` from env files. Starts nothing.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::config::app::{find, is_off};
use crate::config::assemble::{self, Shared};
use crate::config::fields::{Fields, Report};
use crate::config::locate::{End, Step};
use crate::config::names;
use crate::config::order::order;
use crate::config::problem::{Kind, Problem, shorten, show};
use crate::config::settings::{self, LogTargets};
use crate::config::suggest;
use crate::sorted::sort_by;
use crate::supervisor::spec::{AppSpec, Condition, Environment, LogFormat};
use crate::sys;

/// More apps in one document are refused.
pub const MAX_APPS: usize = 4096;

/// Who a document was written for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// pmd's own files: what is not known is an error, `${NAME}` is replaced, nothing is inherited
    /// from the caller unless asked for.
    Pmd,
    /// PM2's files: what is not known is a warning, `$` is a dollar sign, the caller's environment
    /// is inherited.
    Pm2,
    /// A client or a command line: as `Pm2`; dependencies may be in the daemon's table.
    Client,
}

/// Where a document comes from, and all it depends on besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub dialect: Dialect,
    /// Absolute. Where relative paths begin, and the default `cwd`.
    pub dir: &'a Path,
    /// The caller's, already without what belongs to its shell (`strip_shell_noise`).
    pub environment: &'a Rc<Environment>,
    /// `--env NAME`: `env_NAME` is laid over `env`.
    pub profile: Option<&'a str>,
    /// Absolute. What becomes of [`AppSpec::source`].
    pub source: Option<&'a Path>,
    /// The file as the user named it, and the JSON text in which positions are looked up; an empty
    /// text (JavaScript, Procfile) has no positions.
    pub file: Option<(&'a str, &'a str)>,
    /// `--strict`: what is not known is an error everywhere.
    pub strict: bool,
    pub defaults: &'a Defaults,
}

/// What the host and the daemon's settings decide about apps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Defaults {
    /// CPUs that `instances: "max"` counts.
    pub cpus: u32,
    pub log_format: LogFormat,
    pub log_targets: LogTargets,
}

impl Default for Defaults {
    /// As many CPUs as this process may keep busy.
    fn default() -> Self {
        let cpus = sys::limits::processors_allowed();
        Self {
            cpus: u32::try_from(cpus).unwrap_or(1),
            log_format: LogFormat::Raw,
            log_targets: LogTargets::DEFAULT,
        }
    }
}

/// What a document declares.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The apps that are valid, in the document's order. None may be started unless `problems`
    /// is empty.
    pub apps: Vec<AppSpec>,
    /// Odd, but no reason not to start; notes ([`Kind::Note`]) among them.
    pub warnings: Vec<Problem>,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// Resolves a document: `{"apps": [...]}`, a bare list, or one app.
#[must_use]
pub fn apps(document: &Value, origin: &Origin<'_>) -> Resolved {
    let mut report = Report::new(origin);
    let mut found = Vec::new();
    match document {
        Value::Array(list) => found = each(list, &[], &mut report),
        Value::Object(map) => match map.get("apps") {
            Some(Value::Array(list)) => {
                top_level(map, &mut report);
                found = each(list, &[Step::Key("apps".to_owned())], &mut report);
            }
            Some(other) => {
                let message = format!("'apps' must be a list, not {}", show(other));
                report.problem(Problem::new(message), &[Step::Key("apps".to_owned())], End::Value);
            }
            None if !declares_app(map) => top_level(map, &mut report),
            None => {
                let label = label(0, map);
                found.extend(one(
                    map,
                    Vec::new(),
                    Some(label),
                    &mut Shared::default(),
                    &mut report,
                ));
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let message = format!("expected an object or a list of apps, not {}", show(document));
            report.problem(Problem::new(message), &[], End::Value);
        }
    }
    resolved(found, report)
}

/// Resolves one app that comes without a document.
#[must_use]
pub fn app(fields: &Map<String, Value>, origin: &Origin<'_>) -> Resolved {
    let mut report = Report::new(origin);
    let found = one(fields, Vec::new(), None, &mut Shared::default(), &mut report);
    resolved(found.into_iter().collect(), report)
}

/// Problems come in the order in which they stand in the file.
fn resolved(apps: Vec<AppSpec>, report: Report<'_>) -> Resolved {
    let Report { mut warnings, mut problems, .. } = report;
    let position = |problem: &Problem| problem.place.as_ref().and_then(|place| place.position);
    sort_by(&mut warnings, |one, two| position(one) < position(two));
    sort_by(&mut problems, |one, two| position(one) < position(two));
    Resolved { apps, warnings, problems }
}

/// Whether an object without `apps` is an app, not a file of settings or an empty one.
pub(super) fn declares_app(map: &Map<String, Value>) -> bool {
    let is_app = |key: &String| find(key).is_some_and(|field| field.name == "script");
    map.keys().any(is_app) || map.keys().any(|key| !is_beside_apps(key) && find(key).is_some())
}

fn is_beside_apps(key: &str) -> bool {
    matches!(key, "apps" | "$schema" | "deploy" | "namespaces") || settings::is_key(key)
}

/// Checks what stands beside `apps`. Settings are judged by [`settings`], not here.
fn top_level(map: &Map<String, Value>, report: &mut Report<'_>) {
    for (key, value) in map {
        let path = [Step::Key(key.clone())];
        match key.as_str() {
            "deploy" => {
                let note = Problem::new("'deploy' has no effect in pmd").of_kind(Kind::Note);
                report.warning(note, &path, End::Key);
            }
            "namespaces" if is_off(value) => {}
            "namespaces" => {
                let problem = Problem::new("'namespaces' is not supported by this version");
                report.strict(problem, &path, End::Key);
            }
            key if is_beside_apps(key) => {}
            key => {
                let known = ["apps", "deploy"].into_iter().chain(settings::top_keys());
                let problem = Problem::new(format!("unknown field '{}'", shorten(key)))
                    .suggest(suggest::nearest(key, known));
                report.strict(problem, &path, End::Key);
            }
        }
    }
}

fn each<'a>(list: &'a [Value], base: &[Step], report: &mut Report<'a>) -> Vec<AppSpec> {
    if list.len() > MAX_APPS {
        let message = format!("{} apps are declared, the limit is {MAX_APPS}", list.len());
        report.problem(Problem::new(message), base, End::Value);
        return Vec::new();
    }
    let mut shared = Shared::default();
    let mut found = Vec::new();
    // The place in the document of each app that was found.
    let mut places = Vec::new();
    for (index, value) in list.iter().enumerate() {
        if report.is_full() {
            break;
        }
        let mut path = base.to_vec();
        path.push(Step::Index(index));
        let Some(map) = value.as_object() else {
            let message = format!("an app must be an object, not {}", show(value));
            report.problem(Problem::new(message).of_app(index, ""), &path, End::Value);
            continue;
        };
        if let Some(mut spec) = one(map, path, Some(label(index, map)), &mut shared, report) {
            // At once: what is given up later leaves holes between what stays.
            if let Some(last) = found.last() {
                spec.share(last);
            }
            found.push(spec);
            places.push(index);
        }
    }
    let together = Together { base, list, apps: &found, places: &places };
    together.check_names(report);
    together.check_dependencies(report);
    found
}

fn one<'a>(
    map: &'a Map<String, Value>,
    base: Vec<Step>,
    label: Option<(usize, String)>,
    shared: &mut Shared,
    report: &mut Report<'a>,
) -> Option<AppSpec> {
    assemble::assemble(&mut Fields::new(report, base, label, map), shared)
}

/// The name by which messages call an app that may turn out to have none.
fn label(index: usize, map: &Map<String, Value>) -> (usize, String) {
    let script = || {
        let mut found =
            map.iter().filter(|(key, _)| find(key).is_some_and(|field| field.name == "script"));
        found
            .next()
            .and_then(|(_, value)| value.as_str())
            .map(|script| names::default_name(script, names::is_command_line(script)))
    };
    let name = map.get("name").and_then(Value::as_str).map(str::to_owned);
    (index, name.or_else(script).unwrap_or_default())
}

/// What the apps of one document must fulfil together.
struct Together<'d> {
    base: &'d [Step],
    list: &'d [Value],
    apps: &'d [AppSpec],
    places: &'d [usize],
}

impl Together<'_> {
    fn check_names(&self, report: &mut Report<'_>) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (app, &place) in self.apps.iter().zip(self.places) {
            if let Some(earlier) = first.get(&*app.name) {
                let name = shorten(&app.name);
                let message = format!("name '{name}' is already used by apps[{earlier}]");
                self.problem(report, Problem::new(message), place, app, "name");
            } else {
                first.insert(&app.name, place);
            }
        }
    }

    fn check_dependencies(&self, report: &mut Report<'_>) {
        // An app that is wrong is not among `apps`, but it is defined.
        let defined: Vec<String> = self
            .list
            .iter()
            .enumerate()
            .filter_map(|(index, value)| Some(label(index, value.as_object()?).1))
            .chain(self.apps.iter().map(|app| app.name.as_ref().to_owned()))
            .collect();
        let known: std::collections::HashSet<&str> = defined.iter().map(String::as_str).collect();
        for (app, &place) in self.apps.iter().zip(self.places) {
            if report.origin.dialect == Dialect::Client {
                break; // what is not here may be in the daemon's table
            }
            for dependency in &app.depends_on {
                if !known.contains(dependency.name.as_str()) {
                    let name = shorten(&dependency.name);
                    let problem =
                        Problem::new(format!("depends on '{name}', which is not defined"))
                            .suggest(suggest::nearest(&dependency.name, &defined));
                    self.problem(report, problem, place, app, "depends_on");
                }
                let on = self.apps.iter().find(|other| *other.name == *dependency.name);
                if dependency.condition == Condition::Healthy
                    && on.is_some_and(|on| on.health().is_none())
                {
                    let name = shorten(&dependency.name);
                    let message = format!("depends on a healthy '{name}', which has no 'health'");
                    self.problem(report, Problem::new(message), place, app, "depends_on");
                }
            }
        }
        if let Err(cycle) = order(self.apps) {
            let first = cycle.names.first().map_or("", String::as_str);
            let place = self.apps.iter().position(|app| *app.name == *first);
            let place = place.unwrap_or(0);
            if let (Some(app), Some(&index)) = (self.apps.get(place), self.places.get(place)) {
                self.problem(report, Problem::new(cycle.to_string()), index, app, "depends_on");
            }
        }
    }

    /// Enters a problem at the app's `field` as it was written, or at the app.
    fn problem(
        &self,
        report: &mut Report<'_>,
        problem: Problem,
        place: usize,
        app: &AppSpec,
        field: &str,
    ) {
        let mut path = self.base.to_vec();
        path.push(Step::Index(place));
        let written = self.list.get(place).and_then(Value::as_object).and_then(|map| {
            map.keys().find(|key| find(key).is_some_and(|found| found.name == field))
        });
        path.extend(written.map(|key| Step::Key(key.clone())));
        report.problem(problem.of_app(place, &app.name), &path, End::Value);
    }
}
