//! The directories a daemon lives in: made, checked, locked; the settings in them; its socket.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::UnixListener;
use serde_json::Value;

use crate::config::files;
use crate::config::paths::Paths;
use crate::config::problem::Problem;
use crate::config::settings::Settings;
use crate::daemon::groups;
use crate::sorted::sort;
use crate::sys::dir::{self, Dir};
use crate::sys::{describe, fds, poll, process, users};

/// A daemon that was killed, or whose keeper was, holds its lock until it has died.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a daemon did not come up: a sentence, and the exit code it stands for.
#[derive(Debug)]
pub struct StartError {
    pub message: String,
    pub code: u8,
    /// What helps.
    pub hint: Option<String>,
}

impl StartError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, hint: None }
    }

    /// Something in the settings is wrong.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self { code: 6, ..Self::new(message) }
    }

    /// Tells whoever looks at our standard error.
    pub fn print(&self) {
        let mut text = format!("pmd: error: {}\n", self.message);
        if let Some(hint) = &self.hint {
            text.push_str("  try:  ");
            text.push_str(hint);
            text.push('\n');
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The settings, and the documents that declare apps to be run from the start.
pub fn settings(paths: &Paths) -> Result<(Settings, Vec<Declared>), StartError> {
    let wrong = |problems: Vec<Problem>| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        StartError::configuration(lines.join("\n"))
    };
    let path = paths.settings();
    let mut declared = Vec::new();
    let settings = if path.exists() {
        let shown = path.to_string_lossy().into_owned();
        let (document, text) = files::document(&path, &shown).map_err(wrong)?;
        let settings = Settings::read(&document, Some((&shown, &text))).map_err(wrong)?;
        if document.get("apps").is_some() || document.is_array() {
            declared.push(Declared { path, document, text });
        }
        settings
    } else {
        Settings::default()
    };
    let mut more: Vec<_> = fs::read_dir(paths.apps())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    sort(&mut more);
    for path in more {
        let shown = path.to_string_lossy().into_owned();
        let (document, text) = files::document(&path, &shown).map_err(wrong)?;
        declared.push(Declared { path, document, text });
    }
    Ok((settings, declared))
}

/// A document in the configuration directory.
#[derive(Debug)]
pub struct Declared {
    pub path: PathBuf,
    pub document: Value,
    pub text: String,
}

/// The file that is locked.
pub fn lock_path(directory: &Path) -> PathBuf {
    directory.join("pmd.lock")
}

/// One daemon per state directory: the lock is held for life and never inherited.
pub fn lock(paths: &Paths, directory: &Path) -> Result<OwnedFd, StartError> {
    let path = lock_path(directory);
    let mut lock = fds::try_lock(&path);
    for _ in 0..LOCK_TRIES {
        if !matches!(lock, Ok(None)) {
            break;
        }
        let _ = poll::wait([], Some(LOCK_PAUSE));
        lock = fds::try_lock(&path);
    }
    match lock {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            let pid = fs::read_to_string(paths.runtime.join("pmd.pid")).unwrap_or_default();
            let who = match pid.trim() {
                "" => String::new(),
                pid => format!(" (pid {pid})"),
            };
            let home = paths.state.display();
            Err(StartError::new(format!("a daemon{who} already runs in {home}")))
        }
        Err(error) => {
            Err(StartError::new(format!("cannot lock {}: {}", path.display(), describe(&error))))
        }
    }
}

/// Directories that are on file systems which take no changes.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly {
    pub state: bool,
    pub logs: bool,
}

/// Makes what is missing. Without a place for state or logs there can be a daemon; without one for
/// its socket there is none.
pub fn make_directories(paths: &Paths) -> Result<ReadOnly, StartError> {
    let read_only =
        ReadOnly { state: dir::is_read_only(&paths.state), logs: dir::is_read_only(&paths.logs) };
    let socket_dir = paths.socket.parent().unwrap_or_else(|| Path::new("/"));
    let stage = paths.runtime.join("stage");
    for directory in [&paths.state, &paths.runtime, &stage, &paths.logs, &paths.pids, &paths.config]
        .map(PathBuf::as_path)
        .into_iter()
        .chain([socket_dir])
    {
        let failed = |error: io::Error| {
            let place = directory.display();
            StartError::new(format!("cannot use directory {place}: {}", describe(&error)))
        };
        match DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A read-only configuration directory is no reason to stay down.
            Err(_) if directory == paths.config.as_path() => continue,
            Err(_) if directory == paths.state.as_path() && read_only.state => continue,
            Err(_) if directory == paths.logs.as_path() && read_only.logs => continue,
            other => other.map_err(failed)?,
        }
        check_owner(directory)?;
    }
    Ok(read_only)
}

/// A directory of ours where files are memory; where there is none, one that lasts as long as the
/// boot.
pub fn memory(paths: &Paths) -> PathBuf {
    let own = paths.runtime.join("memory");
    if dir::is_memory(&paths.runtime) {
        return own;
    }
    let name = format!("pmd-{:08x}", groups::hash(&paths.state));
    let shared = Path::new("/dev/shm").join(name);
    let made = dir::is_memory(Path::new("/dev/shm")) && Dir::create_private(&shared).is_ok();
    if made { shared } else { own }
}

/// A directory somebody else may write to cannot be trusted.
fn check_owner(directory: &Path) -> Result<(), StartError> {
    let meta = fs::symlink_metadata(directory).map_err(|error| {
        StartError::new(format!("cannot look at {}: {}", directory.display(), describe(&error)))
    })?;
    let place = directory.display();
    if !meta.is_dir() {
        return Err(StartError::new(format!("{place} is not a directory")));
    }
    if meta.uid() != process::effective_uid() && meta.uid() != 0 {
        return Err(StartError::new(format!(
            "{place} belongs to another user (uid {})",
            meta.uid()
        )));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        let mode = meta.permissions().mode() & 0o777;
        return Err(StartError::new(format!("{place} is writable by others (mode {mode:04o})")));
    }
    Ok(())
}

/// The group that may talk to the host's own daemon.
pub fn connecting_group(paths: &Paths) -> Option<u32> {
    let is_system = process::effective_uid() == 0 && paths.socket.starts_with("/run/pmd");
    if is_system { users::group("pmd").ok().flatten() } else { None }
}

/// Under the lock an old socket of this name belongs to nobody.
pub fn listen(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let mut mode = 0o600;
    if let (Some(group), Some(directory)) = (group, path.parent()) {
        mode = 0o660;
        std::os::unix::fs::chown(path, None, Some(group))?;
        std::os::unix::fs::chown(directory, None, Some(group))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
