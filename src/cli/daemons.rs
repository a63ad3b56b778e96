//! Which daemon a command talks to.
//!
//! A socket or home that is named decides; then `--system` and `--user`; then root means the
//! system daemon, and everybody else their own daemon if it runs, or the system daemon if it lets
//! them in.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::cli::args::{Global, Scope};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::config::files;
use crate::config::paths::{Paths, Surroundings, Which};
use crate::config::problem::Problem;
use crate::sys::{clock, process, users};

/// The warning about versions comes at most this often, in milliseconds.
const VERSION_PAUSE_MS: u64 = 60 * 60 * 1000;

/// The daemons this run may talk to.
#[derive(Debug)]
pub struct Daemons {
    candidates: Vec<Candidate>,
    /// Where the first one keeps its things, or why that cannot be said.
    paths: Result<Paths, Failure>,
}

/// A place where a daemon may listen.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub socket: PathBuf,
    pub whose: Whose,
}

/// What a daemon is to the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    System,
    User,
    /// Of a socket or home that was named.
    Given,
}

impl Daemons {
    #[must_use]
    pub fn of(global: &Global) -> Self {
        let socket = global.socket.clone().or_else(|| variable("PMD_SOCKET").map(PathBuf::from));
        let which = which(global);
        let paths = paths_of(&which);
        if let Some(socket) = socket {
            let socket = absolute(&socket);
            let paths = paths.map(|paths| Paths { socket: socket.clone(), ..paths });
            return Self { candidates: vec![Candidate { socket, whose: Whose::Given }], paths };
        }
        let whose = match &which {
            Which::Home(_) => Whose::Given,
            Which::System => Whose::System,
            Which::User => Whose::User,
        };
        let mut candidates: Vec<Candidate> =
            paths.iter().map(|paths| Candidate { socket: paths.socket.clone(), whose }).collect();
        if whose == Whose::User && global.scope.is_none() {
            candidates.extend(system_candidate());
        }
        Self { candidates, paths }
    }

    /// In the order in which they are tried.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether one of several may answer.
    #[must_use]
    pub fn is_choice(&self) -> bool {
        self.candidates.len() > 1
    }

    /// Where the daemon that would be started keeps its things.
    ///
    /// # Errors
    ///
    /// Rows about homes that are not known and sockets whose paths are too long.
    pub fn paths(&self) -> Result<&Paths, Failure> {
        self.paths.as_ref().map_err(Clone::clone)
    }

    /// A daemon that was not meant and may run all the same: the host's for a user, that of the
    /// calling user for `sudo`. None where one was named.
    #[must_use]
    pub fn other(&self, whose: Whose) -> Option<Candidate> {
        match whose {
            Whose::User => system_candidate(),
            Whose::System => sudo_user_candidate(),
            Whose::Given => None,
        }
    }

    /// Whether the last mention of different versions is long ago. Remembers this one.
    #[must_use]
    pub fn is_time_to_mention_version(&self) -> bool {
        let Ok(paths) = &self.paths else { return false };
        let stamp = paths.runtime.join("version-mentioned");
        let now = clock::now().wall.0;
        let last = std::fs::metadata(&stamp).and_then(|meta| meta.modified()).ok();
        let last = last.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let recent = last.is_some_and(|at| {
            let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            now.saturating_sub(at) < VERSION_PAUSE_MS
        });
        // Where it cannot be remembered, it is said once more.
        if !recent {
            let _ = std::fs::write(&stamp, b"");
        }
        !recent
    }
}

/// Whether a version is older than another: by its numbers, as far as they are numbers.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    numbers(version) < numbers(than)
}

/// Row 38: what to say about a daemon of another version.
#[must_use]
pub fn version_warning(daemon: &str, ours: &str) -> Option<String> {
    if daemon == ours {
        return None;
    }
    let order = if is_older(daemon, ours) { "older" } else { "newer" };
    Some(format!("daemon {daemon} is {order} than this pmd {ours}"))
}

/// What to do about it: programs go on while no daemon runs, and are adopted by the next one.
pub const VERSION_HINT: &str =
    "pmd kill --leave-running, then pmd resurrect (programs keep running)";

/// Which daemon the options and variables mean; the first choice where there are several.
#[must_use]
pub fn which(global: &Global) -> Which {
    let home = global.home.clone().or_else(|| variable("PMD_HOME").map(PathBuf::from));
    match (home, global.scope) {
        (Some(home), _) => Which::Home(absolute(&home)),
        (None, Some(Scope::System)) => Which::System,
        (None, Some(Scope::User)) => Which::User,
        (None, None) if process::effective_uid() == 0 => Which::System,
        (None, None) => Which::User,
    }
}

/// The paths of a daemon as the environment of this process gives them.
///
/// # Errors
///
/// A home that is not known, a socket whose path is too long.
pub fn paths_of(which: &Which) -> Result<Paths, Failure> {
    // The table of users is only read where the variable does not say it.
    let home = match variable("HOME") {
        Some(_) => None,
        None => users::user_by_id(process::effective_uid()).ok().flatten().map(|user| user.home),
    };
    let home = home.as_deref().map(Path::new);
    let around = Surroundings { var: &variable, home, daemon: false };
    Paths::of(which, &around).map_err(|problem| of_problem(&problem))
}

fn of_problem(problem: &Problem) -> Failure {
    let mut failure = Failure::new(Exit::of_code(problem.kind.code()), problem.message.clone());
    failure.why.clone_from(&problem.why);
    failure.hint.clone_from(&problem.hint);
    failure
}

fn system_candidate() -> Option<Candidate> {
    let paths = paths_of(&Which::System).ok()?;
    Some(Candidate { socket: paths.socket, whose: Whose::System })
}

/// The daemon of whoever called `sudo`.
fn sudo_user_candidate() -> Option<Candidate> {
    let uid: u32 = variable("SUDO_UID")?.parse().ok().filter(|&uid| uid != 0)?;
    let user = users::user_by_id(uid).ok()??;
    let runtime = format!("/run/user/{uid}");
    let has_runtime = Path::new(&runtime).is_dir();
    let var = |name: &str| (name == "XDG_RUNTIME_DIR" && has_runtime).then(|| runtime.clone());
    let around = Surroundings { var: &var, home: Some(Path::new(&user.home)), daemon: false };
    let paths = Paths::of(&Which::User, &around).ok()?;
    Some(Candidate { socket: paths.socket, whose: Whose::User })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// As the user means it: below the current directory.
fn absolute(path: &Path) -> PathBuf {
    match std::env::current_dir() {
        Ok(dir) => files::absolute(&dir, None, &path.to_string_lossy()),
        Err(_) => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_older("0.3.1", "0.4.0"));
        assert!(is_older("0.9.0", "0.10.0"));
        assert!(!is_older("1.0.0", "0.9.9"));
        assert!(!is_older("0.4.0", "0.4.0"));
        assert_eq!(
            version_warning("0.3.1", "0.4.0").as_deref(),
            Some("daemon 0.3.1 is older than this pmd 0.4.0")
        );
        assert_eq!(version_warning("0.4.0", "0.4.0"), None);
    }

    #[test]
    fn a_named_home_is_the_only_candidate() {
        let global = Global { home: Some("/d".into()), ..Global::default() };
        let daemons = Daemons::of(&global);
        assert!(!daemons.is_choice());
        assert_eq!(daemons.candidates()[0].socket, Path::new("/d/pmd.sock"));
        assert_eq!(daemons.other(daemons.candidates()[0].whose).map(|other| other.whose), None);
    }

    #[test]
    fn a_named_socket_beats_everything() {
        let global = Global {
            home: Some("/d".into()),
            socket: Some("/tmp/s.sock".into()),
            ..Global::default()
        };
        let daemons = Daemons::of(&global);
        assert_eq!(daemons.candidates()[0].socket, Path::new("/tmp/s.sock"));
        assert_eq!(daemons.paths().unwrap().state, Path::new("/d"));
    }
}
