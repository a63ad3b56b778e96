//! Configuration files, from any format to definitions that the daemon takes: complete, and with
//! every path absolute.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::cli::args::Parsed;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::javascript;
use crate::cli::session::Session;
use crate::config::definition::definition;
use crate::config::environment::strip_shell_noise;
use crate::config::files::{self, Format};
use crate::config::problem::{Kind, Problem};
use crate::config::resolve::{self, Defaults, Dialect, Origin};
use crate::config::{json, preflight, suggest};
use crate::json::object;
use crate::supervisor::spec::{AppSpec, Environment};

/// What a file declares, checked.
#[derive(Debug)]
pub struct Loaded {
    pub apps: Vec<AppSpec>,
    /// One for each of `apps`.
    pub configs: Vec<Map<String, Value>>,
    pub warnings: Vec<Problem>,
    /// Absolute; `None` for what came from stdin.
    pub source: Option<PathBuf>,
}

/// What is done with a file; its errors say what was not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// By a daemon with the rights of this user.
    Start,
    /// By a daemon that may see other files and users than we do.
    StartElsewhere,
    /// Only the names of its apps matter.
    Name,
    Check,
}

impl Purpose {
    /// Whether scripts, interpreters, users and directories must be there.
    #[must_use]
    pub fn looks_at_programs(self) -> bool {
        match self {
            Self::Start | Self::Check => true,
            Self::StartElsewhere | Self::Name => false,
        }
    }
}

/// Everything a definition depends on besides itself.
#[derive(Debug)]
pub struct Caller {
    pub environment: Rc<Environment>,
    pub dir: PathBuf,
}

impl Caller {
    /// This process: its directory, and its environment without what belongs to the shell.
    ///
    /// # Errors
    ///
    /// A working directory that no longer exists.
    pub fn here() -> Result<Self, Failure> {
        let dir = std::env::current_dir().map_err(|error| {
            Failure::new(
                Exit::Invalid,
                format!("the current directory cannot be used: {}", in_words(&error)),
            )
        })?;
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            // What is no text cannot be sent.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment = strip_shell_noise(std::env::vars_os().filter_map(text));
        Ok(Self { environment: Rc::new(environment), dir })
    }

    /// The environment as the protocol carries it.
    #[must_use]
    pub fn environment_json(&self) -> Value {
        let pairs = self.environment.iter();
        Value::Object(object(pairs.map(|(name, value)| (name, Value::from(value)))))
    }

    /// The variable `PATH`, or what a shell without one would use.
    #[must_use]
    pub fn path(&self) -> &str {
        self.environment.get("PATH").unwrap_or(crate::config::program::DEFAULT_PATH)
    }
}

/// Reads and checks a configuration file; `-` is JSON on stdin.
///
/// Warnings have not been printed: the caller has the screen.
///
/// # Errors
///
/// All that is wrong with it, in one failure (rows 5, 23 to 32).
pub fn load(parsed: &Parsed, file: &Path, purpose: Purpose) -> Result<Loaded, Failure> {
    let caller = Caller::here()?;
    let shown = file.display().to_string();
    let source = (shown != "-").then(|| files::absolute(&caller.dir, None, &shown));
    if purpose == Purpose::Name && Format::of(file).is_none() {
        return Err(Failure::new(Exit::Invalid, format!("'{shown}' is not a configuration file"))
            .hint("name the process (pmd ls)"));
    }
    let (document, text) = match &source {
        None => from_stdin()?,
        Some(path) => read(path, &shown, purpose)?,
    };
    let dir = source.as_deref().and_then(Path::parent).unwrap_or(&caller.dir);
    let profile = profile(parsed);
    let origin = Origin {
        dialect: if source.is_none() { Dialect::Pm2 } else { Dialect::of(file) },
        dir,
        environment: &caller.environment,
        profile: profile.as_deref(),
        source: source.as_deref(),
        file: Some((&shown, &text)),
        strict: parsed.command.long("strict").is_some() && parsed.flag("strict"),
        defaults: &Defaults::default(),
    };
    let resolved = resolve::apps(&document, &origin);
    let mut problems = resolved.problems;
    // What the files look like on disk only matters once the text is right.
    if problems.is_empty() && purpose.looks_at_programs() {
        problems.extend(resolved.apps.iter().enumerate().filter_map(|(index, app)| {
            let problem = preflight::check(app, Some(caller.path())).err()?;
            Some(problem.at(&shown, None).of_app(index, &app.name))
        }));
    }
    if !problems.is_empty() {
        return Err(failure(&problems, &shown, purpose));
    }
    let mut apps = resolved.apps;
    let mut configs: Vec<_> =
        apps.iter().enumerate().map(|(at, app)| config(app, raw(&document, at))).collect();
    narrow(parsed, &mut apps, &mut configs, &shown)?;
    Ok(Loaded { apps, configs, warnings: resolved.warnings, source })
}

/// The names of a file's apps, for commands that act on what runs.
///
/// # Errors
///
/// As [`load`].
pub fn names(session: &mut Session, parsed: &Parsed, file: &Path) -> Result<Vec<String>, End> {
    let loaded = load(parsed, file, Purpose::Name)?;
    warn(session, &loaded.warnings);
    Ok(loaded.apps.into_iter().map(|app| app.name.as_ref().to_owned()).collect())
}

/// Prints warnings and notes.
pub fn warn(session: &mut Session, warnings: &[Problem]) {
    for warning in warnings {
        match warning.kind {
            Kind::Note => session.screen.note(&warning.to_string()),
            Kind::Invalid | Kind::NotPermitted | Kind::NotRunnable | Kind::Failed => {
                session.screen.warning(&warning.to_string(), None);
            }
        }
    }
}

/// The definition of an app as the daemon takes it. `raw` is what the user wrote: it still says
/// which of the caller's variables are held back, which the resolved app no longer does.
#[must_use]
pub fn config(app: &AppSpec, raw: Option<&Value>) -> Map<String, Value> {
    let mut config = definition(app);
    let filter = raw.and_then(|raw| raw.get("filter_env").or_else(|| raw.get("filterEnv")));
    if let Some(filter @ (Value::Array(_) | Value::String(_))) = filter {
        config.insert("filter_env".to_owned(), filter.clone());
    }
    config
}

/// The failure that tells of problems: one line each and one for all, or, where the only one is
/// about no place in a file, that one alone.
#[must_use]
pub fn failure(problems: &[Problem], shown: &str, purpose: Purpose) -> Failure {
    let exit = problems.first().map_or(Exit::Invalid, |first| Exit::of_code(first.kind.code()));
    if let [only] = problems
        && only.place.is_none()
    {
        let mut failure = Failure::new(exit, only.message.clone());
        failure.code = only.kind.code().to_owned();
        failure.why = only.why.clone();
        failure.hint = only.hint.clone();
        return failure;
    }
    let mut above = Vec::new();
    for problem in problems {
        above.push(problem.to_string());
        if let Some(why) = &problem.why {
            above.push(format!("  why:  {why}"));
        }
        above.extend(problem.excerpt.iter().flat_map(|excerpt| excerpt.lines()).map(str::to_owned));
    }
    let count = problems.len();
    let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
    let after = match purpose {
        Purpose::Start | Purpose::StartElsewhere => ", nothing was started",
        Purpose::Name => ", nothing was done",
        Purpose::Check => "",
    };
    Failure::new(exit, format!("{shown} has {errors}{after}")).above(above)
}

/// The document and the text in which positions are looked up.
fn read(path: &Path, shown: &str, purpose: Purpose) -> Result<(Value, String), Failure> {
    if Format::of(path) == Some(Format::JavaScript) {
        // A file that is missing is told before node is looked for.
        files::content(path, shown).map_err(|problem| missing(problem, path, shown))?;
        return Ok((javascript::evaluate(path, shown)?, String::new()));
    }
    files::document(path, shown).map_err(|problems| match problems.as_slice() {
        [only] if only.place.is_none() => missing(only.clone(), path, shown),
        _ => failure(&problems, shown, purpose),
    })
}

/// A file that cannot be read, with the file of that directory that was probably meant.
fn missing(problem: Problem, path: &Path, shown: &str) -> Failure {
    let failure = failure(&[problem], shown, Purpose::Name);
    if failure.hint.is_some() || path.exists() {
        return failure;
    }
    match neighbour(path) {
        Some(name) => failure.hint(format!("did you mean '{name}'?")),
        None => failure,
    }
}

/// The file beside `path` with the nearest name.
fn neighbour(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> =
        entries.take(1000).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let near = suggest::nearest(wanted, &names)?;
    let shown = path.with_file_name(near);
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| shown.strip_prefix(here).ok().map(Path::to_path_buf));
    Some(short.unwrap_or(shown).display().to_string())
}

fn from_stdin() -> Result<(Value, String), Failure> {
    let mut bytes = Vec::new();
    let limit = json::MAX_SIZE as u64 + 1;
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read stdin: {}", in_words(&error)))
    })?;
    let value = json::parse("stdin", &bytes)
        .map_err(|problems| failure(&problems, "stdin", Purpose::Start))?;
    Ok((value, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The value of `--env` that names a profile.
fn profile(parsed: &Parsed) -> Option<String> {
    parsed.command.long("env").filter(|option| option.kind.takes_value())?;
    parsed.texts("env").rfind(|text| !text.contains('=')).map(str::to_owned)
}

/// An app as it stands in the document.
fn raw(document: &Value, at: usize) -> Option<&Value> {
    let list = document.as_array().or_else(|| document["apps"].as_array());
    match list {
        Some(list) => list.get(at),
        None => Some(document),
    }
}

/// `--only a,b`.
fn narrow(
    parsed: &Parsed,
    apps: &mut Vec<AppSpec>,
    configs: &mut Vec<Map<String, Value>>,
    shown: &str,
) -> Result<(), Failure> {
    if parsed.command.long("only").is_none() {
        return Ok(());
    }
    let only = parsed.list("only");
    if only.is_empty() {
        return Ok(());
    }
    for wanted in &only {
        if apps.iter().all(|app| *app.name != **wanted) {
            let failure =
                Failure::new(Exit::NotFound, format!("{shown} has no app named '{wanted}'"));
            let names: Vec<&str> = apps.iter().map(|app| &*app.name).collect();
            let near = suggest::nearest(wanted, names.iter().copied());
            return Err(match near {
                Some(name) => failure.hint(format!("did you mean '{name}'?")),
                None => failure,
            });
        }
    }
    let keep: Vec<bool> =
        apps.iter().map(|app| only.iter().any(|name| **name == *app.name)).collect();
    let mut kept = keep.iter();
    apps.retain(|_| *kept.next().unwrap_or(&true));
    let mut kept = keep.iter();
    configs.retain(|_| *kept.next().unwrap_or(&true));
    Ok(())
}
