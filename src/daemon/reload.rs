//! What a reload asked for from afar brings along: changed fields, or what the file says by now.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::config::definition::definition;
use crate::config::files::{self, Format};
use crate::config::resolve::{self, Dialect, Origin};
use crate::daemon::{Daemon, answers};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::supervisor::spec::AppSpec;
use crate::supervisor::vocabulary::Target;

impl Daemon {
    /// The definitions that processes are to have: with the fields of `config`, or else as the file
    /// they came from has them. `None`: nothing would change.
    pub(super) fn changed_definitions(
        &mut self,
        targets: &[Target],
        config: Option<&Map<String, Value>>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<Rc<AppSpec>>>, ErrorReply> {
        let mut apps: Vec<Rc<AppSpec>> = Vec::new();
        let mut differs = false;
        for id in self.find_all(Some(targets))? {
            let Some(process) = self.supervisor.process(id) else { continue };
            let spec = &process.spec().clone();
            if apps.iter().any(|app| app.name == spec.name) {
                continue;
            }
            let new = match (config, spec.source.as_deref()) {
                (Some(fields), _) => self.with_fields(spec, fields, warnings)?,
                (None, Some(source)) => self.as_in_file(spec, source)?,
                (None, None) => None,
            };
            differs |= new.as_ref().is_some_and(|new| !spec.differences(new).is_empty());
            apps.push(new.unwrap_or_else(|| spec.clone()));
        }
        Ok(differs.then_some(apps))
    }

    fn with_fields(
        &mut self,
        spec: &AppSpec,
        fields: &Map<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Rc<AppSpec>>, ErrorReply> {
        if fields.get("name").is_some_and(|name| *name != *spec.name) {
            let text = format!("'{}' cannot get another name by a reload", spec.name);
            return Err(ErrorReply::new(Code::InvalidConfig, text).with("field", "name"));
        }
        let mut merged = definition(spec);
        merged.extend(fields.clone());
        let source = spec.source.as_ref().map(|source| source.to_string_lossy().into_owned());
        let apps = self.resolve(&[merged], &spec.inherited, source.as_deref(), warnings)?;
        Ok(apps.into_iter().next())
    }

    /// The app of this name in its file. Programs that have to be run to be read, and files that
    /// are not there any more, say nothing.
    fn as_in_file(&self, spec: &AppSpec, source: &Path) -> Result<Option<Rc<AppSpec>>, ErrorReply> {
        if Format::of(source) != Some(Format::Json) || fs::metadata(source).is_err() {
            return Ok(None);
        }
        let shown = source.to_string_lossy();
        let first = |problems: &[crate::config::problem::Problem]| match problems.first() {
            Some(problem) => answers::problem(problem),
            None => ErrorReply::new(Code::InvalidConfig, format!("{shown} is wrong")),
        };
        let (document, text) =
            files::document(source, &shown).map_err(|problems| first(&problems))?;
        let origin = Origin {
            dialect: Dialect::of(source),
            dir: source.parent().unwrap_or_else(|| Path::new("/")),
            environment: &spec.inherited,
            profile: None,
            source: Some(source),
            file: Some((&shown, &text)),
            strict: false,
            defaults: &self.settings.defaults(),
        };
        let resolved = resolve::apps(&document, &origin);
        if !resolved.problems.is_empty() {
            return Err(first(&resolved.problems));
        }
        Ok(resolved.apps.into_iter().find(|app| app.name == spec.name).map(Rc::new))
    }
}
