//! Restarts what is to be restarted when its files change.
//!
//! Which processes that are, the supervisor says; the disk is watched by a thread ([`thread`]), which
//! is there only as long as one of them is. Processes of one name are watched, and restarted, together.

mod thread;
mod trees;

use std::path::Path;
use std::rc::Rc;

use crate::base::ProcId;
use crate::daemon::Daemon;
use crate::proto::messages::entry::ResultEntry;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::Process;
use crate::supervisor::vocabulary::Input;

use thread::{Order, Told, Watcher};
use trees::Plan;

/// What is watched for whom.
#[derive(Debug, Default)]
pub struct Watches {
    watcher: Option<Watcher>,
    apps: SortedMap<Rc<str>, Watched>,
    /// The last that was given.
    ticket: u64,
}

#[derive(Debug)]
struct Watched {
    ticket: u64,
    plan: Plan,
    /// Why it is not watched altogether.
    trouble: Option<String>,
}

impl Watches {
    /// Why an app is not watched altogether.
    #[must_use]
    pub fn trouble(&self, name: &str) -> Option<&str> {
        self.apps.get(name)?.trouble.as_deref()
    }
}

impl Daemon {
    /// Watches what the supervisor wants to be watched now.
    pub(super) fn watch_files(&mut self) {
        let changed = self.supervisor.take_watched_changed();
        if changed.is_empty() {
            return;
        }
        let mut all = SortedSet::new();
        let mut wanted: SortedMap<Rc<str>, Plan> = SortedMap::new();
        for process in self.supervisor.watched() {
            let name = process.name();
            all.insert(Rc::clone(name));
            if changed.contains(&process.id()) && !wanted.contains_key(name) {
                wanted.insert(Rc::clone(name), self.watch_plan(process));
            }
        }
        let watcher = self.watches.watcher.as_ref();
        self.watches.apps.retain(|name, watched| {
            let plan = wanted.remove(name);
            let is_same = plan.as_ref().is_none_or(|plan| *plan == watched.plan);
            let stays = all.contains(name) && is_same;
            if let Some(watcher) = watcher.filter(|_| !stays) {
                watcher.order(Order::Forget(watched.ticket));
            }
            if let Some(plan) = plan.filter(|_| !stays) {
                wanted.insert(Rc::clone(name), plan);
            }
            stays
        });
        while let Some((name, plan)) = wanted.pop_first() {
            self.watch(name, plan);
        }
        if self.watches.apps.is_empty() {
            self.watches.watcher = None;
        }
    }

    fn watch(&mut self, name: Rc<str>, plan: Plan) {
        let mut trouble = None;
        if self.watches.watcher.is_none() {
            match Watcher::start(self.waker.clone()) {
                Ok(watcher) => self.watches.watcher = Some(watcher),
                Err(error) => trouble = Some(not_at_all(&error)),
            }
        }
        self.watches.ticket += 1;
        let ticket = self.watches.ticket;
        if let Some(watcher) = &self.watches.watcher {
            watcher.order(Order::Watch(ticket, Box::new(plan.clone())));
        }
        if let Some(trouble) = &trouble {
            self.own_log.warn(format_args!("{name}: {trouble}"));
        }
        self.watches.apps.insert(name, Watched { ticket, plan, trouble });
    }

    /// Why those of these apps that were started are not watched altogether.
    pub(super) fn untold_troubles(&self, results: &[ResultEntry]) -> Vec<String> {
        let mut troubles: Vec<String> = results
            .iter()
            .filter(|result| result.ok && result.changed)
            .filter_map(|result| {
                Some(format!("{}: {}", result.name, self.watches.trouble(&result.name)?))
            })
            .collect();
        troubles.dedup();
        troubles
    }

    /// What of the disk a process depends on.
    fn watch_plan(&self, process: &Process) -> Plan {
        let spec = process.spec();
        let roots = match spec.watch.is_empty() {
            // PM2's clients switch it on without saying what.
            true => vec![spec.cwd.to_string_lossy().into_owned()],
            false => spec.watch.clone(),
        };
        let of_app = self.supervisor.processes().filter(|other| other.name() == process.name());
        let own = of_app.flat_map(|it| {
            let distinct = self.entries.get(&it.id()).is_some_and(|entry| entry.distinct);
            let files = self.places.files(it.spec(), it.instance(), it.id(), distinct);
            files.logs.into_iter().flatten().chain(files.both).chain(files.pid_file)
        });
        let own = own.chain([self.paths.state_file(), self.paths.lock()]).collect();
        // Where somebody keeps programs beside logs, the programs are watched.
        let own_directories = [&self.places.logs, &self.places.pids, &self.paths.runtime];
        let own_directories =
            own_directories.into_iter().chain(self.paths.pm2.as_ref().map(|pm2| &pm2.home));
        let is_above = |own: &Path| roots.iter().any(|root| Path::new(root).starts_with(own));
        let own_directories = own_directories.filter(|own| !is_above(own)).cloned().collect();
        let ignored = spec.ignore_watch.clone();
        let (cwd, delay) = (spec.cwd.to_path_buf(), spec.watch_delay);
        Plan { cwd, roots, ignored, own, own_directories, delay }
    }

    /// Takes what the thread tells.
    pub(super) fn take_changes(&mut self) {
        while let Some((ticket, told)) = self.watches.watcher.as_ref().and_then(Watcher::take) {
            let found = self.watches.apps.iter_mut().find(|(_, it)| it.ticket == ticket);
            // Not watched any more.
            let Some((name, watched)) = found else { continue };
            let path = match told {
                Told::Changed(path) => path,
                Told::Trouble(why) => {
                    self.own_log.warn(format_args!("{name}: {why}"));
                    watched.trouble = Some(why);
                    continue;
                }
            };
            let shown = path.strip_prefix(&watched.plan.cwd).unwrap_or(&path).display();
            self.own_log.info(format_args!("{name}: {shown} changed"));
            let name = Rc::clone(name);
            let of_app = self.supervisor.watched().filter(|process| *process.name() == name);
            for process in of_app.map(Process::id).collect::<Vec<ProcId>>() {
                self.input(Input::Changed { process });
            }
        }
    }
}

fn not_at_all(error: &std::io::Error) -> String {
    // EMFILE: of descriptors, or of these.
    if error.raw_os_error() != Some(24) {
        return format!("cannot watch files: {}", crate::sys::describe(error));
    }
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    let limit = limit.unwrap_or_default();
    format!("cannot watch files: limit fs.inotify.max_user_instances={}", limit.trim())
}
