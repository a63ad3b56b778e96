//! `pmd init` and `pmd check`: writing and checking configuration files.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::base::WallTime;
use crate::cli::Run;
use crate::cli::app_files::{self, Caller, Purpose};
use crate::cli::args::Parsed;
use crate::cli::commands::state;
use crate::cli::entry::take_list;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::output::when;
use crate::cli::session::Session;
use crate::config::export::{ExportFormat, Exported};
use crate::config::{files, json as json_text, procfile};
use crate::json::{json, object};
use crate::supervisor::schedule::{Schedule, Zone};
use crate::sys::clock;

/// Written where no name is given.
const DEFAULT: &str = "pmd.json";

/// Programs that are looked for where nothing runs, the first ones first.
const PROGRAMS: [&str; 8] =
    ["server.js", "app.js", "index.js", "main.js", "app.py", "main.py", "server.py", "main.rb"];

/// `pmd init`.
pub fn init(session: &mut Session, parsed: &Parsed) -> Run {
    let caller = Caller::here()?;
    let name = parsed.operands.first().map_or(DEFAULT, String::as_str);
    let path = files::absolute(&caller.dir, caller.environment.get("HOME"), name);
    if path.exists() && !parsed.flag("force") {
        return Err(Failure::new(Exit::Failed, format!("'{name}' exists already"))
            .hint(format!("pmd init {name} -f, or another name"))
            .into());
    }
    let (text, notes, from) = match running(session)? {
        Some(exported) => (exported.text, exported.notes, "what is running"),
        None => (of_directory_text(&caller.dir)?, Vec::new(), "this directory"),
    };
    let count = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|document| document["apps"].as_array().map(Vec::len))
        .unwrap_or(0);
    if count == 0 {
        return Err(Failure::new(
            Exit::Invalid,
            "nothing is running, and there is no program to start in this directory",
        )
        .hint("pmd start <script>, then: pmd init")
        .into());
    }
    write(&path, &text, parsed.flag("force")).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write '{name}': {}", in_words(&error)))
    })?;
    if session.screen.json {
        session.screen.document(&json!({
            "ok": true, "command": "init", "file": path, "apps": count, "results": [],
            "warnings": notes,
        }))?;
        return Ok(Exit::Done);
    }
    let noun = if count == 1 { "1 app".to_owned() } else { format!("{count} apps") };
    session.screen.result(&format!("{name}: {noun}, from {from}"))?;
    for note in &notes {
        session.screen.note(note);
    }
    Ok(Exit::Done)
}

/// What the daemon has, if there is one and it has something.
fn running(session: &mut Session) -> Result<Option<Exported>, End> {
    if !session.is_there().unwrap_or(false) || session.processes(None, true)?.is_empty() {
        return Ok(None);
    }
    state::definitions(session, None, ExportFormat::Json).map(Some)
}

fn of_directory_text(dir: &Path) -> Result<String, End> {
    let document = json!({ "apps": of_directory(dir) });
    let mut text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from)?;
    text.push('\n');
    Ok(text)
}

/// `pmd check`.
pub fn check(session: &mut Session, parsed: &Parsed) -> Run {
    let mut failures = Vec::new();
    let mut reports: Vec<Value> = Vec::new();
    for file in &parsed.operands {
        match app_files::load(parsed, Path::new(file), Purpose::Check) {
            Ok(loaded) => {
                app_files::warn(session, &loaded.warnings);
                let count = loaded.apps.len();
                let noun = if count == 1 { "1 app".to_owned() } else { format!("{count} apps") };
                session.screen.result(&format!("{file}: {noun}, no errors"))?;
                let mut times = Vec::new();
                for app in &loaded.apps {
                    let Some(schedule) = app.clock() else { continue };
                    let next = next_runs(schedule);
                    let shown = next.iter().map(|&at| when::full(at)).collect::<Vec<_>>();
                    session.screen.result(&format!(
                        "  {}  next: {}",
                        app.name,
                        shown.join(", ")
                    ))?;
                    let next: Vec<String> = next.into_iter().map(when::rfc3339).collect();
                    times.push((&*app.name, json!(next)));
                }
                let warnings: Vec<String> =
                    loaded.warnings.iter().map(ToString::to_string).collect();
                let names: Vec<&str> = loaded.apps.iter().map(|app| &*app.name).collect();
                reports.push(json!({
                    "file": file, "ok": true, "apps": names, "warnings": warnings, "error": null,
                    "next_runs": object(times),
                }));
            }
            Err(failure) => {
                session.screen.failure(&failure);
                reports.push(json!({
                    "file": file, "ok": false, "apps": [], "warnings": [],
                    "error": failure.to_json(),
                }));
                failures.push(failure);
            }
        }
    }
    let exit = Exit::of_several(failures.iter().map(|failure| failure.exit));
    // Whatever is wrong with a file, this command's answer is that it is not right.
    let exit = if exit == Exit::Done { exit } else { Exit::Invalid };
    if session.screen.json {
        session.screen.document(&json!({
            "ok": exit == Exit::Done, "command": "check", "results": reports, "warnings": [],
        }))?;
    }
    Ok(exit)
}

/// The next three times, on this host's clock.
fn next_runs(schedule: &Schedule) -> Vec<WallTime> {
    let next = |after: &WallTime| schedule.next(*after, Zone(clock::offset));
    std::iter::successors(next(&clock::now().wall), next).take(3).collect()
}

/// Apps for the programs that a directory seems to be about.
fn of_directory(dir: &Path) -> Vec<Value> {
    if let Some(apps) = of_procfile(&dir.join("Procfile")) {
        return apps;
    }
    if let Some(app) = of_package(dir) {
        return vec![app];
    }
    let found = PROGRAMS.iter().find(|name| dir.join(name).is_file());
    found
        .map(|name| {
            let stem = name.rsplit_once('.').map_or(*name, |(stem, _)| stem);
            json!({"name": stem, "script": name})
        })
        .into_iter()
        .collect()
}

fn of_procfile(path: &Path) -> Option<Vec<Value>> {
    let bytes = files::content(path, "Procfile").ok()?;
    let text = json_text::text("Procfile", &bytes).ok()?;
    let mut document = procfile::document("Procfile", text, None).ok()?;
    Some(take_list(&mut document["apps"])).filter(|apps| !apps.is_empty())
}

/// `main` or `scripts.start` of `package.json`.
fn of_package(dir: &Path) -> Option<Value> {
    let bytes = files::content(&dir.join("package.json"), "package.json").ok()?;
    let package: Value = serde_json::from_slice(&bytes).ok()?;
    let base = dir.file_name().and_then(|name| name.to_str()).unwrap_or("app");
    // `@scope/name` is no name of an app.
    let name = package["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or(base);
    if let Some(main) = package["main"].as_str().filter(|main| dir.join(main).is_file()) {
        return Some(json!({"name": name, "script": main}));
    }
    package["scripts"]["start"].as_str()?;
    Some(json!({"name": name, "script": "npm", "args": ["start"]}))
}

/// Never follows what another put there meanwhile: without `force` the file must be new.
fn write(path: &Path, text: &str, force: bool) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("pmd-init-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_directory_is_known_by_its_files() {
        let dir = dir("known");
        assert!(of_directory(&dir).is_empty());
        std::fs::write(dir.join("app.py"), "").unwrap();
        assert_eq!(of_directory(&dir), [json!({"name": "app", "script": "app.py"})]);
        let package = r#"{"name": "@me/shop", "main": "lib.js", "scripts": {"start": "x"}}"#;
        std::fs::write(dir.join("package.json"), package).unwrap();
        let npm = json!({"name": "shop", "script": "npm", "args": ["start"]});
        assert_eq!(of_directory(&dir), [npm]);
        std::fs::write(dir.join("lib.js"), "").unwrap();
        assert_eq!(of_directory(&dir), [json!({"name": "shop", "script": "lib.js"})]);
        std::fs::write(dir.join("Procfile"), "web: node lib.js\nworker: node w.js\n").unwrap();
        let names: Vec<_> = of_directory(&dir).iter().map(|app| app["name"].clone()).collect();
        assert_eq!(names, [json!("web"), json!("worker")]);
    }

    #[test]
    fn a_file_is_never_overwritten_unasked() {
        let path = dir("write").join("pmd.json");
        write(&path, "one", false).unwrap();
        assert!(write(&path, "two", false).is_err());
        write(&path, "2", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
    }
}
