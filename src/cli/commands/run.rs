//! `pmd run`: programs in the foreground, as the first process of a container.

use std::path::Path;
use std::time::Duration;

use crate::cli::Run;
use crate::cli::app_files::{self, Caller, Loaded, Purpose};
use crate::cli::args::Parsed;
use crate::cli::commands::{start, web_options};
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::config::files::Format;
use crate::config::json;
use crate::config::preflight;
use crate::config::resolve::{self, Defaults, Dialect, Origin};
use crate::config::web::WebSettings;
use crate::daemon::container::{self, Container, Marking};

/// Below the ten seconds after which container engines kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);
/// May hold the configuration as JSON.
const VARIABLE: &str = "PMD_APPS";

/// Runs `pmd run`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let caller = Caller::here()?;
    let loaded = load(parsed, &caller)?;
    app_files::warn(session, &loaded.warnings);
    let mut apps = loaded.apps;
    if apps.is_empty() {
        return Err(
            Failure::new(Exit::Invalid, "no app is declared, there is nothing to run").into()
        );
    }
    for app in &mut apps {
        preflight::check(app, Some(caller.path()))
            .map_err(|problem| app_files::failure(&[problem], &app.script, Purpose::Start))?;
    }
    let marking = match (session.screen.json, parsed.flag("format"), parsed.flag("raw")) {
        (true, _, _) => Marking::Json,
        (false, true, _) => Marking::Pairs,
        (false, false, true) => Marking::Raw,
        (false, false, false) => Marking::Prefix,
    };
    let control =
        if parsed.flag("control") { Some(session.daemons.paths()?.clone()) } else { None };
    let mut web = web_options::overrides(parsed)?;
    if web.listen.is_none() {
        // Only where it is asked for.
        let listen = WebSettings::default().listen;
        web.listen = Some(if parsed.flag("web") { listen } else { Vec::new() });
    }
    session.screen.flush()?;
    Err(End::WasDaemon(container::run(Container {
        apps,
        control,
        web,
        stop_timeout: parsed.duration("stop-timeout").unwrap_or(STOP_TIMEOUT),
        auto_exit: parsed.flag("auto-exit"),
        marking,
    })))
}

/// What is to be run: a file, a script, the variable, or the file that lies here.
fn load(parsed: &Parsed, caller: &Caller) -> Result<Loaded, Failure> {
    let word = match parsed.operands.first() {
        Some(word) => word.clone(),
        None => match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => return from_variable(&text, caller),
            Ok(_) | Err(_) => start::default_file(parsed, caller)?,
        },
    };
    let is_file = word == "-" || Format::of(Path::new(&word)).is_some();
    if is_file && !parsed.flag("shell") {
        if !parsed.rest.is_empty() {
            return Err(Failure::usage("run: arguments after '--' need a script to go to"));
        }
        return app_files::load(parsed, Path::new(&word), Purpose::Start);
    }
    start::define(parsed, caller, &word, Purpose::StartElsewhere)
}

fn from_variable(text: &str, caller: &Caller) -> Result<Loaded, Failure> {
    let document = json::parse_text(VARIABLE, text)
        .map_err(|problems| app_files::failure(&problems, VARIABLE, Purpose::Start))?;
    let origin = Origin {
        dialect: Dialect::Pmd,
        dir: &caller.dir,
        environment: &caller.environment,
        profile: None,
        source: None,
        file: Some((VARIABLE, text)),
        strict: false,
        defaults: &Defaults::default(),
    };
    let resolved = resolve::apps(&document, &origin);
    if !resolved.problems.is_empty() {
        return Err(app_files::failure(&resolved.problems, VARIABLE, Purpose::Start));
    }
    let configs = resolved.apps.iter().map(|app| app_files::config(app, None)).collect();
    Ok(Loaded { apps: resolved.apps, configs, warnings: resolved.warnings, source: None })
}
