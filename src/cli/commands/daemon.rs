//! `pmd daemon`: where the command line becomes the daemon, or puts one into the background.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use crate::cli::Run;
use crate::cli::args::{Global, Parsed, Scope};
use crate::cli::commands::web_options;
use crate::cli::daemons;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::config::paths::{Paths, Surroundings, Which};
use crate::config::problem::Problem;
use crate::daemon::{self, Options};
use crate::json::json;
use crate::keeper;
use crate::sys::args::CArgs;
use crate::sys::{fds, process, spawn, users};

/// Handed on to a daemon that is to have no keeper.
const NO_KEEPER: &str = "--no-keeper";
/// What it says is never longer, in bytes.
const MAX_WORDS: u64 = 64 * 1024;

/// `pmd daemon`.
pub fn daemon(session: &mut Session, parsed: &Parsed) -> Run {
    if parsed.flag("foreground") {
        return foreground(session, parsed);
    }
    web_options::overrides(parsed)?;
    background(&session.global, &handed_on(parsed))?;
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "daemon"}))?;
    }
    Ok(Exit::Done)
}

fn foreground(session: &mut Session, parsed: &Parsed) -> Run {
    let (ready, keeper) = (descriptor(parsed, "ready-fd")?, descriptor(parsed, "keeper-fd")?);
    let web = web_options::overrides(parsed)?;
    if keeper.is_none() && parsed.flag("keeper") {
        let mut more = handed_on(parsed);
        if let Some(ready) = &ready {
            fds::hand_down(ready, keeper::READY_FD).map_err(|error| cannot(&in_words(&error)))?;
            more.push(keeper::READY_OPTION.to_owned());
        }
        return Err(become_keeper(&session.global, &more).into());
    }
    let which = daemons::which(&session.global);
    let home = users::user_by_id(process::effective_uid())
        .ok()
        .flatten()
        .map(|user| std::path::PathBuf::from(user.home));
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let around = Surroundings { var: &var, home: home.as_deref(), daemon: true };
    let mut paths = Paths::of(&which, &around).map_err(|problem| refused(&problem))?;
    if let Some(socket) = &session.global.socket {
        paths.socket = std::path::absolute(socket).map_err(|error| cannot(&in_words(&error)))?;
    }
    let (foreground, pm2) = (ready.is_none(), parsed.flag("pm2"));
    Err(End::WasDaemon(daemon::start(Options { paths, foreground, pm2, ready, keeper, web })))
}

/// The descriptor that an option names.
fn descriptor(parsed: &Parsed, option: &str) -> Result<Option<OwnedFd>, Failure> {
    let Some(number) = parsed.number(option) else { return Ok(None) };
    let fd = i32::try_from(number).map_err(|_| cannot("no such descriptor"))?;
    fds::inherited(fd).map(Some).map_err(|error| cannot(&in_words(&error)))
}

/// Executes this program again as the keeper, which starts the daemon: with nothing in its memory
/// that it does not need. Comes back only if that fails.
fn become_keeper(global: &Global, more: &[String]) -> Failure {
    let replaced = |program: &CString, args: &CArgs, env: &CArgs| {
        cannot(&in_words(&spawn::replace(program, args, env)))
    };
    match command(global, more, true) {
        Ok((program, args, env)) => replaced(&program, &args, &env),
        Err(failure) => failure,
    }
}

/// The program, arguments and environment of a daemon with `more` options; below a keeper or not.
/// `/proc/self/exe` is this very program, also when its file has been replaced.
fn command(
    global: &Global,
    more: &[String],
    kept: bool,
) -> Result<(CString, CArgs, CArgs), Failure> {
    let failed = |error: std::io::Error| cannot(&in_words(&error));
    let first = if kept { keeper::NAME } else { "pmd" };
    let mut words = [first, "daemon", "--foreground"].map(|word| word.as_bytes().to_vec()).to_vec();
    if kept {
        words.push(keeper::LINK_OPTION.into());
    }
    // As it is meant here: the keeper lives in the root directory.
    let home = match daemons::which(global) {
        Which::Home(home) => Some(home),
        Which::System | Which::User => None,
    };
    for (option, value) in [("--home=", &home), ("--socket=", &global.socket)] {
        if let Some(value) = value {
            let value = std::path::absolute(value).map_err(failed)?;
            words.push([option.as_bytes(), value.as_os_str().as_bytes()].concat());
        }
    }
    match global.scope {
        Some(Scope::System) => words.push(b"--system".to_vec()),
        Some(Scope::User) => words.push(b"--user".to_vec()),
        None => {}
    }
    words.extend(more.iter().map(|option| option.as_bytes().to_vec()));
    let (mut args, mut env) = (CArgs::new(), CArgs::new());
    let nul = |_| cannot("a name with a NUL byte");
    for word in &words {
        args.push(word).map_err(nul)?;
    }
    for (name, value) in std::env::vars_os() {
        env.push_pair(name.as_bytes(), value.as_bytes()).map_err(nul)?;
    }
    Ok((c"/proc/self/exe".to_owned(), args, env))
}

/// The options that a daemon in the background is given, too.
fn handed_on(parsed: &Parsed) -> Vec<String> {
    let mut words = Vec::new();
    for name in web_options::VALUES {
        words.extend(parsed.texts(name).map(|value| match std::path::absolute(value) {
            // As it is meant here: the daemon lives in the root directory.
            Ok(path) if name == web_options::TOKEN_FILE => {
                format!("--{name}={}", path.display())
            }
            Ok(_) | Err(_) => format!("--{name}={value}"),
        }));
    }
    if parsed.flag("no-web") {
        words.push("--no-web".to_owned());
    }
    if !parsed.flag("pm2") {
        words.push("--no-pm2".to_owned());
    }
    if !parsed.flag("keeper") {
        words.push(NO_KEEPER.to_owned());
    }
    words
}

/// Starts a daemon that outlives this process, with `more` options; returns when it answers or has
/// said why not.
///
/// # Errors
///
/// Why it did not start, in its own words.
pub fn background(global: &Global, more: &[String]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| cannot(&in_words(&error));
    let (ready, theirs) = fds::pipe().map_err(failed)?;
    let kept = !more.iter().any(|word| word == NO_KEEPER);
    let more = [more, &[keeper::READY_OPTION.to_owned()]].concat();
    let (program, args, env) = command(global, &more, kept)?;
    let handed = Some((keeper::READY_FD, theirs.as_fd()));
    spawn::detach(&program, &args, &env, handed)
        .map_err(|error| cannot(crate::sys::errno_text(error.errno)))?;
    drop(theirs);
    match await_word(ready).map_err(failed)?.as_str() {
        "ok\n" => Ok(()),
        "" => Err(cannot("it ended without a word").hint("pmd daemon --foreground")),
        why => {
            let (head, message) = why.split_once('\n').unwrap_or(("", why));
            let (code, hint) = head.split_once(' ').unwrap_or((head, ""));
            let exit = if code == "6" { Exit::Invalid } else { Exit::Failed };
            let failure = Failure::new(exit, message.trim_end());
            Err(if hint.is_empty() { failure } else { failure.hint(hint) })
        }
    }
}

fn await_word(ready: OwnedFd) -> std::io::Result<String> {
    let mut words = String::new();
    File::from(ready).take(MAX_WORDS).read_to_string(&mut words)?;
    Ok(words)
}

fn cannot(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("cannot start a daemon: {why}"))
}

fn refused(problem: &Problem) -> Failure {
    let mut failure = Failure::new(Exit::of_code(problem.kind.code()), problem.message.clone());
    failure.why.clone_from(&problem.why);
    failure.hint.clone_from(&problem.hint);
    failure
}
