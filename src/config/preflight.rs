//! Why a program cannot run, said before it is tried, and again when it was tried and failed.
//!
//! Looks at files, users and mounts; starts nothing. What it lets pass may still fail: then
//! [`explain`] turns the failed spawn into the same sentences.

use std::path::{Path, PathBuf};

use crate::base::{SpawnError, Stage};
use crate::config::host;
use crate::config::problem::{Kind, Problem, shorten};
use crate::config::program::{self, Content, Elf, Head, Shebang};
use crate::config::{envfile, suggest};
use crate::sorted::sort;
use crate::supervisor::spec::AppSpec;
use crate::sys;

/// Entries of a directory that are looked at for a suggestion.
const MAX_ENTRIES: usize = 1000;

/// Checks everything about an app that can be known without starting it.
///
/// `path`: the daemon's `PATH`, for apps that have none.
///
/// # Errors
///
/// The first thing that is in the way.
pub fn check(spec: &AppSpec, path: Option<&str>) -> Result<(), Problem> {
    check_directory(spec)?;
    host::check_accounts(spec)?;
    for file in &spec.env_file {
        envfile::read(file, &shown(file, spec))?;
    }
    let program = resolve_program(spec, path)?;
    if spec.interpreter.is_some() {
        let script = Path::new(&*spec.script);
        check_present(script, spec)?;
    }
    Runnable { spec, path, file: &program }.check()
}

/// The file that is executed: the interpreter, or the script itself; a bare name is looked up in
/// the app's `PATH`, or in `path` if it has none.
///
/// # Errors
///
/// There is no such file in `PATH`. Whether an absolute path exists is not looked at.
pub fn resolve_program(spec: &AppSpec, path: Option<&str>) -> Result<PathBuf, Problem> {
    let name = spec.interpreter.as_deref().unwrap_or(&spec.script);
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let used = search_path(spec, path);
    if let Some(file) = program::find_in_path(name, used, &spec.cwd) {
        return Ok(file);
    }
    if spec.interpreter.is_some() {
        return Err(no_interpreter(spec, name, path));
    }
    Err(no_such_file(&spec.cwd.join(name), spec))
}

/// The `PATH` in which an app's programs are looked up.
#[must_use]
pub fn search_path<'a>(spec: &'a AppSpec, path: Option<&'a str>) -> &'a str {
    let own = spec.env.get("PATH").or_else(|| spec.inherited.get("PATH"));
    own.or(path).unwrap_or(program::DEFAULT_PATH)
}

fn check_directory(spec: &AppSpec) -> Result<(), Problem> {
    let shown = shorten(&spec.cwd.to_string_lossy());
    match std::fs::metadata(&spec.cwd) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Problem::new(format!("working directory '{shown}' is not a directory"))),
        Err(error) if host::is_missing(&error) => {
            Err(Problem::new(format!("working directory '{shown}' does not exist")))
        }
        // Not for us to see, perhaps for the app's user.
        Err(_) => Ok(()),
    }
}

/// Whether `file` is there and no directory.
fn check_present(file: &Path, spec: &AppSpec) -> Result<(), Problem> {
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => Err(is_directory(file, spec)),
        Ok(_) => Ok(()),
        Err(error) if host::is_missing(&error) => Err(no_such_file(file, spec)),
        Err(_) => Ok(()),
    }
}

fn is_directory(file: &Path, spec: &AppSpec) -> Problem {
    let shown = shown(file, spec);
    let problem = Problem::new(format!("'{shown}' is a directory"));
    if file.join("index.js").is_file() {
        problem.hint(format!("pmd start {}/index.js", shown.trim_end_matches('/')))
    } else {
        problem
    }
}

fn no_such_file(file: &Path, spec: &AppSpec) -> Problem {
    let nearest = nearest_file(file).map(|near| shown(&near, spec));
    Problem::new(format!("no such file: '{}'", shown(file, spec))).suggest(nearest.as_deref())
}

/// A file beside the missing one that has the same stem, or nearly the same name.
fn nearest_file(file: &Path) -> Option<PathBuf> {
    let dir = file.parent()?;
    let name = file.file_name()?.to_str()?;
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .ok()?
        .take(MAX_ENTRIES)
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    sort(&mut names);
    let stem = Path::new(name).file_stem()?;
    let same_stem = names.iter().find(|other| Path::new(other).file_stem() == Some(stem));
    let found = same_stem.map(String::as_str).or_else(|| suggest::nearest(name, &names))?;
    Some(dir.join(found))
}

fn no_interpreter(spec: &AppSpec, name: &str, path: Option<&str>) -> Problem {
    let used = search_path(spec, path);
    let whose = if spec.env.get("PATH").is_some() { "app" } else { "daemon" };
    // Elsewhere it may well be.
    let elsewhere = [path, spec.inherited.get("PATH"), Some(program::DEFAULT_PATH)]
        .into_iter()
        .flatten()
        .find_map(|path| program::find_in_path(name, path, &spec.cwd));
    let try_this = elsewhere
        .map_or_else(|| format!("/path/to/{name}"), |file| file.to_string_lossy().into_owned());
    Problem::new(format!("interpreter '{}' is not in PATH", shorten(name)))
        .because(format!("PATH of the {whose}: {used}"))
        .hint(format!("--interpreter {try_this}"))
}

/// A path as the user gave it, as far as one can tell: relative to the working directory where it
/// is below.
fn shown(file: &Path, spec: &AppSpec) -> String {
    let short = file.strip_prefix(&spec.cwd).unwrap_or(file);
    let short = if short.as_os_str().is_empty() { file } else { short };
    shorten(&short.to_string_lossy())
}

/// A file that is about to be executed.
struct Runnable<'a> {
    spec: &'a AppSpec,
    /// The daemon's `PATH`.
    path: Option<&'a str>,
    file: &'a Path,
}

impl Runnable<'_> {
    fn check(&self) -> Result<(), Problem> {
        if self.spec.interpreter.is_some() && !self.file.exists() {
            let shown = self.shown();
            return Err(Problem::new(format!("interpreter '{shown}' does not exist")));
        }
        check_present(self.file, self.spec)?;
        let head = Head::read(self.file);
        let content = head.as_ref().map(|head| &head.content);
        if !program::is_executable(self.file) {
            return Err(match content {
                Some(Content::Elf(_) | Content::Script(_)) => self.not_permitted(),
                Some(Content::Foreign(_) | Content::Other) | None => self.no_way_to_run(),
            });
        }
        if host::is_mounted_noexec(self.file) {
            return Err(self.not_permitted().because("mounted noexec"));
        }
        match content {
            Some(Content::Elf(elf)) => self.check_elf(elf),
            Some(Content::Script(shebang)) => self.check_shebang(shebang),
            Some(Content::Foreign(system)) if !host::has_foreign_formats() => {
                Err(self.cannot(&format!("built for {system}, this host is Linux")))
            }
            Some(Content::Other) if !host::has_foreign_formats() => Err(self.no_program()),
            Some(Content::Foreign(_) | Content::Other) | None => Ok(()),
        }
    }

    fn shown(&self) -> String {
        shown(self.file, self.spec)
    }

    fn cannot(&self, reason: &str) -> Problem {
        Problem::new(format!("cannot run '{}': {reason}", self.shown())).of_kind(Kind::NotRunnable)
    }

    fn no_program(&self) -> Problem {
        self.cannot("it is neither a program nor a script with a '#!' line")
    }

    fn not_permitted(&self) -> Problem {
        let shown = self.shown();
        let problem = Problem::new(format!("not permitted to run '{shown}'"))
            .of_kind(Kind::NotPermitted)
            .because(host::mode_and_user(self.file, self.spec));
        if program::is_executable(self.file) {
            problem
        } else {
            problem.hint(format!("chmod +x {shown}"))
        }
    }

    fn no_way_to_run(&self) -> Problem {
        let shown = self.shown();
        let extension = self.file.extension().map(|extension| extension.to_string_lossy());
        let why = match extension {
            Some(extension) => {
                format!("not executable and no interpreter for '.{}'", shorten(&extension))
            }
            None => "not executable and no extension to tell an interpreter by".to_owned(),
        };
        Problem::new(format!("don't know how to run '{shown}'"))
            .because(why)
            .hint(format!("chmod +x {shown}, or --interpreter python3"))
    }

    fn check_shebang(&self, shebang: &Shebang) -> Result<(), Problem> {
        let by_env = shebang.by_env();
        let cr = if shebang.crlf { "\r" } else { "" };
        let mut program = shebang.program.to_string_lossy().into_owned();
        if shebang.argument.is_none() {
            program.push_str(cr);
        }
        let reason = if !self.spec.cwd.join(&program).exists() {
            format!("its first line names '{}', which does not exist", shorten(&program))
        } else if let Some(name) = by_env {
            // The last word has the CR.
            let is_last = shebang.argument.as_deref().is_some_and(|words| words.ends_with(name));
            let name = format!("{name}{}", if is_last { cr } else { "" });
            let used = search_path(self.spec, self.path);
            if program::find_in_path(&name, used, &self.spec.cwd).is_some() || name.contains('/') {
                return Ok(());
            }
            format!("its first line names '{}', which is not in PATH", shorten(&name))
        } else {
            return Ok(());
        };
        let problem = self.cannot(&reason).of_kind(Kind::Invalid);
        Err(if shebang.crlf { problem.because("first line ends in CR LF") } else { problem })
    }

    fn check_elf(&self, elf: &Elf) -> Result<(), Problem> {
        let host = std::env::consts::ARCH;
        if let Some(machine) = elf.machine
            && !runs_on(machine, host)
            && !host::has_foreign_formats()
        {
            return Err(self.cannot(&format!("built for {machine}, this host is {host}")));
        }
        match &elf.loader {
            Some(loader) if !loader.exists() => {
                let loader = shorten(&loader.to_string_lossy());
                Err(self.cannot(&format!("its loader '{loader}' is missing")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether programs for `machine` may run on `host`: 64-bit kernels mostly run 32-bit programs of
/// their family.
fn runs_on(machine: &str, host: &str) -> bool {
    machine == host || matches!((machine, host), ("x86", "x86_64") | ("arm", "aarch64"))
}

/// What a failed spawn means, in the words of [`check`] where it finds the cause. To be called in
/// the daemon, soon after the failure.
#[must_use]
pub fn explain(spec: &AppSpec, error: SpawnError) -> Problem {
    let is_about_files = matches!(error.stage, Stage::Exec | Stage::Directory | Stage::Credentials)
        || (error.stage == Stage::Prepare && !error.is_transient());
    if is_about_files
        && !error.is_transient()
        && let Err(problem) = check(spec, None)
    {
        return problem;
    }
    if let Some(problem) = host::out_of_descriptors(error) {
        return problem;
    }
    let words = sys::errno_text(error.errno);
    let cwd = shorten(&spec.cwd.to_string_lossy());
    let program = spec.interpreter.as_deref().unwrap_or(&spec.script);
    let file = Path::new(program);
    let runnable = Runnable { spec, path: None, file };
    let denied = host::is_denied(error.errno);
    let message = match error.stage {
        Stage::Exec if denied => return runnable.not_permitted(),
        Stage::Exec if error.errno == host::ENOEXEC => return runnable.no_program(),
        Stage::Exec if error.errno == host::E2BIG => {
            return runnable.cannot("its arguments and environment are too long");
        }
        Stage::Exec => return runnable.cannot(words),
        Stage::Credentials if denied => return host::not_root(spec),
        Stage::Credentials => format!("cannot change to the user of '{}': {words}", spec.name),
        Stage::Directory => format!("cannot enter working directory '{cwd}': {words}"),
        Stage::Fork => format!("cannot start another process: {words}"),
        Stage::Prepare => format!("cannot prepare the start of '{}': {words}", spec.name),
        Stage::Port if error == SpawnError::NO_FREE_PORT => {
            format!("no port of '{}' is free", spec.name)
        }
        Stage::Port => format!("the port of '{}' is in use", spec.name),
        Stage::Listen => {
            let listen: Vec<String> = spec.listen.iter().map(ToString::to_string).collect();
            format!("cannot listen on {} for '{}': {words}", listen.join(", "), spec.name)
        }
        Stage::Session => format!("cannot make a session for '{}': {words}", spec.name),
        Stage::Limits => format!("cannot set the limits of '{}': {words}", spec.name),
        Stage::Descriptors => format!("cannot connect the output of '{}': {words}", spec.name),
        Stage::Signals => format!("cannot reset the signals of '{}': {words}", spec.name),
    };
    Problem::new(message).of_kind(if denied { Kind::NotPermitted } else { Kind::NotRunnable })
}
