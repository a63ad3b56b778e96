//! `pmd apply`: makes the daemon match a configuration file.

use std::path::Path;

use serde_json::Value;

use crate::cli::Run;
use crate::cli::app_files::{self, Caller};
use crate::cli::args::Parsed;
use crate::cli::client::Answer;
use crate::cli::commands::start;
use crate::cli::entry::Labels;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::{results, text};
use crate::cli::session::Session;
use crate::config::files;
use crate::json::json;

/// Runs `pmd apply`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let caller = Caller::here()?;
    let named = parsed.operands.clone();
    let named = if named.is_empty() {
        let found = files::DEFAULT_FILES.iter().find(|name| caller.dir.join(name).is_file());
        let found = found.ok_or_else(|| {
            Failure::usage("apply: there is no configuration file in this directory")
                .hint("pmd apply <file>, or: pmd init")
        })?;
        vec![(*found).to_owned()]
    } else {
        named
    };
    // All files are right before the first one is applied.
    let purpose = session.start_purpose()?;
    let mut requests = Vec::new();
    for file in &named {
        let loaded = app_files::load(parsed, Path::new(file), purpose)?;
        app_files::warn(session, &loaded.warnings);
        let mut data = start::request(&loaded, &caller);
        data.remove("action");
        data.insert("dry_run".to_owned(), json!(parsed.flag("dry-run")));
        data.insert("prune".to_owned(), json!(parsed.flag("prune")));
        data.insert("restart".to_owned(), json!(parsed.flag("restart")));
        data.insert("wait".to_owned(), json!("stable"));
        requests.push(data);
    }
    // A plan against nothing is no plan: the daemon is started for it, too.
    session.need_daemon()?;
    let mut replies = Vec::new();
    for request in requests {
        let data = session.with_timeout(request);
        replies.push(match session.action("apply", &data)? {
            Answer::Given(reply) => reply,
            Answer::Refused(error) => return Err(refused(&error)),
        });
    }
    report(session, parsed, &replies)
}

/// Why nothing, or not all, was applied.
fn refused(error: &Value) -> End {
    let failed = error["details"]["results"].as_array().into_iter().flatten();
    let first = failed.filter(|result| result["error"].is_object()).map(|result| {
        let labels = Labels::of([result]);
        results::failure(result, &labels, &mut Vec::new())
    });
    let first = first.flatten().next();
    first.unwrap_or_else(|| results::of_error(error, "<name>")).into()
}

fn report(session: &mut Session, parsed: &Parsed, replies: &[Value]) -> Run {
    let steps: Vec<&Value> =
        replies.iter().flat_map(|reply| reply["steps"].as_array().into_iter().flatten()).collect();
    let results: Vec<Value> = replies
        .iter()
        .flat_map(|reply| reply["results"].as_array().into_iter().flatten())
        .cloned()
        .collect();
    for line in lines(&steps, parsed.flag("prune")) {
        session.screen.result(&line)?;
    }
    let labels = Labels::of(&results);
    let mut warnings: Vec<String> = replies
        .iter()
        .flat_map(|reply| reply["warnings"].as_array().into_iter().flatten())
        .filter_map(|warning| warning.as_str().map(str::to_owned))
        .collect();
    let all_warnings = warnings.clone();
    let failures: Vec<Failure> = results
        .iter()
        .filter_map(|result| results::failure(result, &labels, &mut warnings))
        .collect();
    for warning in &warnings {
        session.screen.warning(warning, None);
    }
    for failure in &failures {
        session.screen.failure(failure);
    }
    let changes = steps.iter().any(|step| changes(step));
    let exit = if parsed.flag("dry-run") {
        if changes { Exit::Failed } else { Exit::Done }
    } else {
        Exit::of_several(failures.iter().map(|failure| failure.exit))
    };
    if session.screen.json {
        session.screen.document(&json!({
            "ok": failures.is_empty(), "command": "apply", "dry_run": parsed.flag("dry-run"),
            "steps": steps, "results": results, "warnings": all_warnings,
        }))?;
    }
    Ok(exit)
}

fn changes(step: &Value) -> bool {
    matches!(step["op"].as_str(), Some("start" | "reload" | "delete"))
}

/// ```text
/// + worker   start
/// ~ web      reload    env.PORT 3000 -> 3001, instances 2 -> 4
/// = db       unchanged
/// - old      would be deleted with --prune
/// ```
fn lines(steps: &[&Value], prune: bool) -> Vec<String> {
    let name = |step: &Value| text::one_line(step["name"].as_str().unwrap_or("?")).into_owned();
    let width = steps.iter().map(|step| text::width(&name(step))).max().unwrap_or(0);
    let line = |step: &&Value| {
        let op = step["op"].as_str().unwrap_or("?");
        let (mark, word) = match op {
            "start" => ('+', "start"),
            "reload" => ('~', "reload"),
            "unchanged" => ('=', "unchanged"),
            "delete" if prune => ('-', "delete"),
            _ => ('-', "would be deleted with --prune"),
        };
        let label = name(step);
        let padding = " ".repeat(width - text::width(&label));
        let changed: Vec<String> =
            step["changed"].as_array().into_iter().flatten().map(change).collect();
        let line = format!("{mark} {label}{padding}   {word:9} {}", changed.join(", "));
        line.trim_end().to_owned()
    };
    steps.iter().map(line).collect()
}

/// `instances 2 -> 4`; only the field's name where the values are not told.
fn change(changed: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text::one_line(text).into_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    if let Some(field) = changed.as_str() {
        return field.to_owned();
    }
    let field = changed["field"].as_str().unwrap_or("?");
    if changed.get("old").is_none() && changed.get("new").is_none() {
        return field.to_owned();
    }
    format!("{field} {} -> {}", shown(&changed["old"]), shown(&changed["new"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_as_the_manual_prints_it() {
        let steps = [
            json!({"op": "start", "name": "worker", "changed": []}),
            json!({"op": "reload", "name": "web", "changed": [
                {"field": "env.PORT", "old": "3000", "new": "3001"},
                {"field": "instances", "old": 2, "new": 4}]}),
            json!({"op": "unchanged", "name": "db", "changed": []}),
            json!({"op": "keep", "name": "old", "changed": []}),
        ];
        let steps: Vec<&Value> = steps.iter().collect();
        assert_eq!(
            lines(&steps, false),
            [
                "+ worker   start",
                "~ web      reload    env.PORT 3000 -> 3001, instances 2 -> 4",
                "= db       unchanged",
                "- old      would be deleted with --prune",
            ]
        );
    }
}
