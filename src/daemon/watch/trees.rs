//! Which directories are watched for whom, and which of their changes are of interest.
//!
//! The kernel watches directories, not trees: each below a root is entered, and one that comes later
//! when it is told of. Symbolic links below a root are not followed. Of a root that is not the
//! directory of its app the directory above is watched, too, so that it may be a file, come and go.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::Time;
use crate::config::glob;
use crate::sorted::SortedMap;
use crate::sys::inotify::{Event, Inotify};

/// Directories that are watched for one app at most.
const MAX_DIRECTORIES: usize = 100_000;

/// A change is told after at most this many pauses, however many follow it.
const MAX_PAUSES: u32 = 10;

/// What of the disk an app depends on. Two that are equal are watched alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Its working directory.
    pub cwd: PathBuf,
    /// Absolute; patterns are allowed.
    pub roots: Vec<String>,
    /// See [`glob::is_ignored`].
    pub ignored: Vec<String>,
    /// Files of pmd's own, and what is made of them: `web.log.1`.
    pub own: Vec<PathBuf>,
    /// Directories of pmd's own.
    pub own_directories: Vec<PathBuf>,
    /// How long nothing more must have changed.
    pub delay: Duration,
}

#[derive(Debug, Default)]
pub struct Trees {
    /// By the kernel's number: for whom, and where each of them sees it.
    directories: SortedMap<i32, Vec<(u64, PathBuf)>>,
    apps: SortedMap<u64, App>,
}

#[derive(Debug)]
struct App {
    plan: Plan,
    changed: Option<Change>,
    directories: usize,
    is_limited: bool,
}

#[derive(Debug)]
struct Change {
    first: Time,
    last: Time,
    path: PathBuf,
}

impl Plan {
    /// Whether a change of this path is one of the app.
    fn concerns(&self, path: &Path) -> bool {
        self.is_below_root(path, true) && !self.is_ignored(path)
    }

    /// Whether a directory is to be watched for what lies in it.
    fn descends(&self, directory: &Path) -> bool {
        self.is_below_root(directory, false) && !self.is_ignored(directory)
    }

    /// `exact`: where the root is a pattern, one that it means.
    fn is_below_root(&self, path: &Path, exact: bool) -> bool {
        self.roots.iter().any(|root| {
            let is_below = path.starts_with(glob::base(root));
            match path.to_str() {
                Some(path) if exact && glob::is_pattern(root) => {
                    is_below && glob::matches(root, path)
                }
                Some(_) | None => is_below,
            }
        })
    }

    fn is_ignored(&self, path: &Path) -> bool {
        let is_own = |own: &PathBuf| {
            path.parent() == own.parent()
                && path.file_name().zip(own.file_name()).is_some_and(|(name, own)| {
                    let rest = name.as_encoded_bytes().strip_prefix(own.as_encoded_bytes());
                    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'.')))
                })
        };
        // A root that somebody named is wanted, whatever its own name is.
        let below = self.roots.iter().map(|root| Path::new(glob::base(root)));
        let below = below.filter_map(|base| path.strip_prefix(base).ok());
        let below = below.min_by_key(|below| below.as_os_str().len()).unwrap_or(path);
        let relative = path.strip_prefix(&self.cwd).unwrap_or(below);
        let [below, relative, path_text] =
            [below, relative, path].map(|path| path.to_string_lossy());
        self.own.iter().any(is_own)
            || self.own_directories.iter().any(|own| path.starts_with(own))
            || glob::is_ignored(&self.ignored, &below, &relative, &path_text)
    }
}

impl Trees {
    /// Watches for one app. What is wrong, if anything is.
    pub fn watch(&mut self, inotify: &Inotify, ticket: u64, plan: Plan) -> Option<String> {
        let mut trouble = None;
        let app = App { plan, changed: None, directories: 0, is_limited: false };
        let roots: Vec<PathBuf> =
            app.plan.roots.iter().map(|root| glob::base(root).into()).collect();
        let cwd = app.plan.cwd.clone();
        self.apps.insert(ticket, app);
        for root in roots {
            let above = root.parent().filter(|_| root != cwd);
            if let Some(Err(error)) = above.map(|above| self.add(inotify, ticket, above, true)) {
                trouble = trouble.or_else(|| Some(cannot(&root, &error)));
            }
            if root == cwd || root.is_dir() {
                trouble = self.walk(inotify, ticket, root, true, None).or(trouble);
            }
        }
        trouble
    }

    pub fn forget(&mut self, inotify: &Inotify, ticket: u64) {
        if self.apps.remove(&ticket).is_some() {
            self.leave(inotify, |whose, _| whose == ticket);
        }
    }

    /// Takes one thing that happened. Whose watch has become less than it should be, and why.
    pub fn take(&mut self, inotify: &Inotify, event: &Event<'_>, now: Time) -> Vec<(u64, String)> {
        if event.is_overflow() {
            return self.begin_anew(inotify, now);
        }
        if event.is_end() {
            for (ticket, _) in self.directories.remove(&event.watch).unwrap_or_default() {
                if let Some(app) = self.apps.get_mut(&ticket) {
                    app.directories = app.directories.saturating_sub(1);
                }
            }
            return Vec::new();
        }
        let mut troubles = Vec::new();
        for (ticket, directory) in self.directories.get(&event.watch).cloned().unwrap_or_default() {
            let path = directory.join(event.name);
            if event.is_directory() && event.has_moved_away() {
                self.leave(inotify, |whose, it| whose == ticket && it.starts_with(&path));
            }
            let Some(app) = self.apps.get_mut(&ticket) else { continue };
            let enters = event.is_directory() && event.has_come() && app.plan.descends(&path);
            if app.plan.concerns(&path) {
                app.note(&path, now);
            }
            if enters {
                let trouble = self.walk(inotify, ticket, path, false, Some(now));
                troubles.extend(trouble.map(|trouble| (ticket, trouble)));
            }
        }
        troubles
    }

    /// When [`Self::pop_due`] has something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.apps.values().filter_map(App::due).min()
    }

    /// The next change that is to be told.
    pub fn pop_due(&mut self, now: Time) -> Option<(u64, PathBuf)> {
        let is_due = |app: &App| app.due().is_some_and(|at| at <= now);
        let (&ticket, app) = self.apps.iter_mut().find(|(_, app)| is_due(app))?;
        Some((ticket, app.changed.take()?.path))
    }

    /// Events were lost: everything may have changed, and may be elsewhere.
    fn begin_anew(&mut self, inotify: &Inotify, now: Time) -> Vec<(u64, String)> {
        let plans: Vec<_> = self.apps.iter().map(|(&id, app)| (id, app.plan.clone())).collect();
        let mut troubles = Vec::new();
        for (ticket, plan) in plans {
            self.forget(inotify, ticket);
            let cwd = plan.cwd.clone();
            troubles.extend(self.watch(inotify, ticket, plan).map(|trouble| (ticket, trouble)));
            if let Some(app) = self.apps.get_mut(&ticket) {
                app.note(&cwd, now);
            }
        }
        troubles
    }

    /// Watches a directory and all below it. `told`: what is in it has come, too.
    fn walk(
        &mut self,
        inotify: &Inotify,
        ticket: u64,
        top: PathBuf,
        is_root: bool,
        told: Option<Time>,
    ) -> Option<String> {
        let mut trouble = None;
        let mut waiting = VecDeque::from([(top, is_root)]);
        while let Some((directory, is_root)) = waiting.pop_front() {
            match self.add(inotify, ticket, &directory, is_root) {
                Ok(true) => {}
                Ok(false) => break,
                // Gone meanwhile, or not a directory any more; and what must not be read cannot be
                // watched.
                Err(_) if !is_root => continue,
                Err(error) => trouble = Some(cannot(&directory, &error)),
            }
            // After that: what comes from now on is told.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let Some(app) = self.apps.get_mut(&ticket) else { continue };
                if let Some(now) = told
                    && app.plan.concerns(&path)
                {
                    app.note(&path, now);
                }
                if is_directory && app.plan.descends(&path) {
                    waiting.push_back((path, false));
                }
            }
        }
        let app = self.apps.get_mut(&ticket)?;
        if app.directories > MAX_DIRECTORIES {
            return Some(format!(
                "cannot watch more than {MAX_DIRECTORIES} directories: narrow \"watch\""
            ));
        }
        if app.is_limited {
            app.is_limited = false;
            return Some(too_many(app.directories));
        }
        trouble
    }

    /// Watches one directory. False: there are too many for this app.
    fn add(
        &mut self,
        inotify: &Inotify,
        ticket: u64,
        directory: &Path,
        follow: bool,
    ) -> io::Result<bool> {
        let Some(app) = self.apps.get_mut(&ticket) else { return Ok(false) };
        app.directories += 1;
        if app.directories > MAX_DIRECTORIES {
            return Ok(false);
        }
        match inotify.add(directory, follow) {
            Ok(watch) => {
                let mut users = self.directories.remove(&watch).unwrap_or_default();
                let user = (ticket, directory.to_owned());
                if users.contains(&user) {
                    app.directories -= 1;
                } else {
                    users.push(user);
                }
                self.directories.insert(watch, users);
                Ok(true)
            }
            // The rest is counted, so that it can be said how many there are.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                app.is_limited = true;
                Ok(true)
            }
            Err(error) => {
                app.directories -= 1;
                Err(error)
            }
        }
    }

    /// Ends the watches that are for nobody else.
    fn leave(&mut self, inotify: &Inotify, goes: impl Fn(u64, &Path) -> bool) {
        let apps = &mut self.apps;
        self.directories.retain(|&watch, users| {
            users.retain(|(ticket, path)| {
                let goes = goes(*ticket, path);
                if let Some(app) = apps.get_mut(ticket).filter(|_| goes) {
                    app.directories = app.directories.saturating_sub(1);
                }
                !goes
            });
            if users.is_empty() {
                inotify.remove(watch);
            }
            !users.is_empty()
        });
    }
}

impl App {
    fn note(&mut self, path: &Path, now: Time) {
        match &mut self.changed {
            Some(change) => change.last = now,
            None => self.changed = Some(Change { first: now, last: now, path: path.to_owned() }),
        }
    }

    fn due(&self) -> Option<Time> {
        let change = self.changed.as_ref()?;
        let delay = self.plan.delay;
        Some(change.last.after(delay).min(change.first.after(delay.saturating_mul(MAX_PAUSES))))
    }
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("cannot watch {}: {}", path.display(), crate::sys::describe(error))
}

fn too_many(directories: usize) -> String {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
    format!(
        "cannot watch {directories} directories: limit fs.inotify.max_user_watches={} \
         (narrow \"watch\", or raise it with sysctl)",
        limit.trim()
    )
}

#[cfg(test)]
mod tests;
