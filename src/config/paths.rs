//! Where everything lies: sockets, state, logs, for each of the three kinds of daemon.
//!
//! Pure: variables, user and home are given, no directory is looked at or made.

use std::path::{Path, PathBuf};

use crate::config::problem::Problem;

/// The longest path a socket can have, in bytes: `sun_path` of `unix(7)` without its final NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// Which daemon is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Which {
    /// The host's, of uid 0.
    System,
    /// The one of this user.
    User,
    /// One that lives in a directory (`PMD_HOME`, `--home`); absolute.
    Home(PathBuf),
}

/// What the places depend on.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub var: &'a dyn Fn(&str) -> Option<String>,
    /// The user's home directory, where `HOME` is not set.
    pub home: Option<&'a Path>,
    /// Whether systemd's `RUNTIME_DIRECTORY` and its kin are meant for us: in the daemon only. A
    /// command run by some other unit finds that unit's.
    pub daemon: bool,
}

/// The directories and files of one daemon. All absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// What `hello.home` says: the directory, or that of the state.
    pub home: PathBuf,
    pub socket: PathBuf,
    /// `pmd.json` and `apps.d`.
    pub config: PathBuf,
    /// `state.json` and the lock.
    pub state: PathBuf,
    /// The live table and `pmd.pid`.
    pub runtime: PathBuf,
    pub logs: PathBuf,
    pub pids: PathBuf,
    /// Where PM2's clients look for a daemon; `None`: no home directory is known.
    pub pm2: Option<Pm2Paths>,
}

/// The places of PM2. All absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pm2Paths {
    pub home: PathBuf,
    pub rpc: PathBuf,
    pub bus: PathBuf,
    pub pid: PathBuf,
    pub log: PathBuf,
    /// The saved list; the one before has `.bak` after its name.
    pub dump: PathBuf,
}

impl Pm2Paths {
    /// `PM2_HOME`, or what lies in the home of this daemon, or in the user's. Each path can be
    /// given by a variable of its own, as to PM2 itself.
    fn of(which: &Which, around: &Surroundings<'_>) -> Option<Self> {
        let home = around.path("PM2_HOME").or_else(|| match which {
            Which::Home(home) => Some(home.join(".pm2")),
            Which::System | Which::User => around.home_dir().map(|home| home.join(".pm2")),
        })?;
        let mut paths = Self::below(&home);
        for (name, path) in [
            ("PM2_DAEMON_RPC_PORT", &mut paths.rpc),
            ("PM2_DAEMON_PUB_PORT", &mut paths.bus),
            ("PM2_PID_FILE_PATH", &mut paths.pid),
            ("PM2_LOG_FILE_PATH", &mut paths.log),
            ("PM2_DUMP_FILE_PATH", &mut paths.dump),
        ] {
            if let Some(given) = around.path(name) {
                *path = given;
            }
        }
        Some(paths)
    }

    /// What a home holds.
    #[must_use]
    pub fn below(home: &Path) -> Self {
        Self {
            rpc: home.join("rpc.sock"),
            bus: home.join("pub.sock"),
            pid: home.join("pm2.pid"),
            log: home.join("pm2.log"),
            dump: home.join("dump.pm2"),
            home: home.to_path_buf(),
        }
    }

    /// A second pair of sockets: pm2-interface appends `.pm2` to `PM2_HOME` as well.
    #[must_use]
    pub fn second_home(&self) -> Option<PathBuf> {
        let is_plain = self.home.file_name().is_some_and(|name| name == ".pm2");
        (!is_plain).then(|| self.home.join(".pm2"))
    }
}

impl Paths {
    /// The paths of a daemon.
    ///
    /// `PMD_SOCKET` replaces the socket's.
    ///
    /// # Errors
    ///
    /// No home directory is known, or the socket's path is too long.
    pub fn of(which: &Which, around: &Surroundings<'_>) -> Result<Self, Problem> {
        let mut paths = match which {
            Which::Home(home) => Self::below(home),
            Which::System => Self::system(),
            Which::User => Self::user(around)?,
        };
        if around.daemon && !matches!(which, Which::Home(_)) {
            paths.apply_systemd(around);
        }
        if let Some(socket) = around.path("PMD_SOCKET") {
            paths.socket = socket;
        }
        paths.pm2 = Pm2Paths::of(which, around);
        check_socket(&paths.socket)?;
        Ok(paths)
    }

    fn below(home: &Path) -> Self {
        Self {
            home: home.to_path_buf(),
            socket: home.join("pmd.sock"),
            config: home.to_path_buf(),
            state: home.to_path_buf(),
            runtime: home.join("run"),
            logs: home.join("logs"),
            pids: home.join("pids"),
            pm2: None,
        }
    }

    fn system() -> Self {
        Self {
            home: "/var/lib/pmd".into(),
            socket: "/run/pmd/pmd.sock".into(),
            config: "/etc/pmd".into(),
            state: "/var/lib/pmd".into(),
            runtime: "/run/pmd".into(),
            logs: "/var/log/pmd".into(),
            pids: "/run/pmd/pids".into(),
            pm2: None,
        }
    }

    fn user(around: &Surroundings<'_>) -> Result<Self, Problem> {
        let home = around.home_dir();
        let below_home = |rest: &str| match &home {
            Some(home) => Ok(home.join(rest)),
            None => Err(Problem::new("no directory to keep state in: HOME is not set")
                .hint("PMD_HOME=DIR, or --home DIR")),
        };
        let state = match around.path("XDG_STATE_HOME") {
            Some(dir) => dir.join("pmd"),
            None => below_home(".local/state/pmd")?,
        };
        let config = match around.path("XDG_CONFIG_HOME") {
            Some(dir) => dir.join("pmd"),
            None => below_home(".config/pmd")?,
        };
        let runtime = match around.path("XDG_RUNTIME_DIR") {
            Some(dir) => dir.join("pmd"),
            None => below_home(".local/state/pmd/run")?,
        };
        Ok(Self {
            home: state.clone(),
            socket: runtime.join("pmd.sock"),
            config,
            logs: state.join("logs"),
            state,
            pids: runtime.join("pids"),
            runtime,
            pm2: None,
        })
    }

    fn apply_systemd(&mut self, around: &Surroundings<'_>) {
        // Each may hold several directories; the first is the one the unit names first.
        let first = |name: &str| {
            let value = (around.var)(name)?;
            let dir = PathBuf::from(value.split(':').next()?);
            dir.is_absolute().then_some(dir)
        };
        if let Some(dir) = first("RUNTIME_DIRECTORY") {
            self.socket = dir.join("pmd.sock");
            self.pids = dir.join("pids");
            self.runtime = dir;
        }
        if let Some(dir) = first("STATE_DIRECTORY") {
            self.home.clone_from(&dir);
            self.state = dir;
        }
        if let Some(dir) = first("LOGS_DIRECTORY") {
            self.logs = dir;
        }
        if let Some(dir) = first("CONFIGURATION_DIRECTORY") {
            self.config = dir;
        }
    }

    /// The settings, and perhaps apps.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.config.join("pmd.json")
    }

    /// Files of apps, applied at start.
    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.config.join("apps.d")
    }

    /// The saved list.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.state.join("state.json")
    }

    /// Held by the one daemon that owns the state.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("pmd.lock")
    }

    /// The daemon's own log.
    #[must_use]
    pub fn own_log(&self) -> PathBuf {
        self.logs.join("pmd.log")
    }

    /// The daemon's pid; for people only.
    #[must_use]
    pub fn pid(&self) -> PathBuf {
        self.runtime.join("pmd.pid")
    }
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("home", &self.home)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl Surroundings<'_> {
    /// An absolute path from a variable; empty and relative ones do not count.
    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.var)(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.path("HOME").or_else(|| self.home.map(Path::to_path_buf))
    }
}

/// Whether a socket can be bound at `path`.
///
/// # Errors
///
/// It is longer than [`MAX_SOCKET_PATH`].
pub fn check_socket(path: &Path) -> Result<(), Problem> {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    let message = format!("socket path is {length} bytes long, the limit is {MAX_SOCKET_PATH}");
    Err(Problem::new(message).hint("PMD_HOME=/run/pmd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(which: &Which, vars: &[(&str, &str)], daemon: bool) -> Result<Paths, Problem> {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Paths::of(which, &Surroundings { var: &var, home: None, daemon })
    }

    #[test]
    fn the_system_daemon_lies_where_the_host_keeps_such_things() {
        let paths = paths(&Which::System, &[("HOME", "/root")], false).unwrap();
        assert_eq!(paths.socket, Path::new("/run/pmd/pmd.sock"));
        assert_eq!(paths.settings(), Path::new("/etc/pmd/pmd.json"));
        assert_eq!(paths.state_file(), Path::new("/var/lib/pmd/state.json"));
        assert_eq!(paths.logs, Path::new("/var/log/pmd"));
        assert_eq!(paths.pids, Path::new("/run/pmd/pids"));
    }

    #[test]
    fn a_users_daemon_follows_xdg() {
        let home = [("HOME", "/home/u")];
        let plain = paths(&Which::User, &home, false).unwrap();
        assert_eq!(plain.socket, Path::new("/home/u/.local/state/pmd/run/pmd.sock"));
        assert_eq!(plain.config, Path::new("/home/u/.config/pmd"));
        assert_eq!(plain.logs, Path::new("/home/u/.local/state/pmd/logs"));
        let xdg = [
            ("HOME", "/home/u"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_CONFIG_HOME", "relative"),
        ];
        let xdg = paths(&Which::User, &xdg, false).unwrap();
        assert_eq!(xdg.socket, Path::new("/run/user/7/pmd/pmd.sock"));
        assert_eq!(xdg.lock(), Path::new("/s/pmd/pmd.lock"));
        assert_eq!(xdg.pid(), Path::new("/run/user/7/pmd/pmd.pid"));
        assert_eq!(xdg.config, Path::new("/home/u/.config/pmd"));
    }

    #[test]
    fn a_home_of_its_own_holds_everything() {
        let paths = paths(&Which::Home("/d".into()), &[("STATE_DIRECTORY", "/x")], true).unwrap();
        assert_eq!(paths.socket, Path::new("/d/pmd.sock"));
        assert_eq!(paths.apps(), Path::new("/d/apps.d"));
        assert_eq!(paths.state, Path::new("/d"));
        assert_eq!(paths.runtime, Path::new("/d/run"));
    }

    #[test]
    fn systemds_directories_are_the_daemons_alone() {
        let vars = [("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("STATE_DIRECTORY", "/var/lib/a")];
        let daemon = paths(&Which::System, &vars, true).unwrap();
        assert_eq!(daemon.socket, Path::new("/run/a/pmd.sock"));
        assert_eq!(daemon.state, Path::new("/var/lib/a"));
        let client = paths(&Which::System, &vars, false).unwrap();
        assert_eq!(client.socket, Path::new("/run/pmd/pmd.sock"));
    }

    #[test]
    fn pm2s_clients_look_in_a_home_of_their_own() {
        let pm2 = |which, vars: &[_]| paths(&which, vars, false).unwrap().pm2.unwrap();
        let home = [("HOME", "/home/u")];
        assert_eq!(pm2(Which::User, &home), Pm2Paths::below(Path::new("/home/u/.pm2")));
        assert_eq!(pm2(Which::User, &home).second_home(), None);
        assert_eq!(pm2(Which::Home("/d".into()), &home).rpc, Path::new("/d/.pm2/rpc.sock"));
        let given = [("HOME", "/home/u"), ("PM2_HOME", "/x"), ("PM2_DAEMON_PUB_PORT", "/y/p")];
        let given = pm2(Which::Home("/d".into()), &given);
        assert_eq!(given.rpc, Path::new("/x/rpc.sock"));
        assert_eq!(given.bus, Path::new("/y/p"));
        assert_eq!(given.second_home().as_deref(), Some(Path::new("/x/.pm2")));
        assert_eq!(paths(&Which::System, &[], true).unwrap().pm2, None);
    }

    #[test]
    fn without_a_home_the_way_out_is_named() {
        let problem = paths(&Which::User, &[], false).unwrap_err();
        assert_eq!(problem.message, "no directory to keep state in: HOME is not set");
        let socket = [("HOME", "/home/u"), ("PMD_SOCKET", "/tmp/s")];
        assert_eq!(paths(&Which::User, &socket, false).unwrap().socket, Path::new("/tmp/s"));
    }

    #[test]
    fn a_socket_path_ends_at_its_limit() {
        let home = |length: usize| Which::Home(format!("/{}", "d".repeat(length)).into());
        assert!(paths(&home(107 - 10), &[], false).is_ok());
        let problem = paths(&home(121 - 10), &[], false).unwrap_err();
        assert_eq!(problem.message, "socket path is 121 bytes long, the limit is 107");
        assert_eq!(problem.hint.as_deref(), Some("PMD_HOME=/run/pmd"));
    }
}
