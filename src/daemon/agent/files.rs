//! THREAD: files that children name: source around an exception, profiles. A disk may take its time.
//!
//! Started with the first file. What a child names need not be what it says: only regular files up
//! to a length are read, below directories that may be, and what the child's own user may read.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Map, Value};

use crate::base::ProcId;
use crate::daemon::Daemon;
use crate::json::json;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::proto::pm2::object::is_truthy;
use crate::reactor::waker::Waker;
use crate::sys::{process, users};

/// Stack of the thread, in bytes.
const STACK: usize = 64 * 1024;
/// Files that wait; what would need another one is told without.
const MAX_WAITING: usize = 16;
/// Bytes of a source file, and of a profile.
const MAX_SOURCE: u64 = 1024 * 1024;
const MAX_PROFILE: u64 = 64 * 1024 * 1024;
/// Lines before and after the one that threw.
const AROUND: usize = 4;
/// What profiles there are.
const PROFILES: [&str; 3] = ["heapdump", "heapprofile", "cpuprofile"];

/// A file to be read.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    most: u64,
    /// Who must be allowed to read it; `None`: whoever we are.
    user: Option<u32>,
    /// Where it must be; empty: anywhere.
    below: Vec<PathBuf>,
    /// It is of no use any more.
    remove: bool,
}

/// What is told when it has been read.
#[derive(Debug)]
enum Then {
    Exception { event: Map<String, Value>, id: ProcId, name: String, line: usize },
    Profile { id: ProcId, name: String, kind: &'static str },
}

/// The thread's two ends in the loop, and what waits for which file.
#[derive(Debug)]
pub struct Files {
    jobs: Sender<Job>,
    found: Receiver<io::Result<Vec<u8>>>,
    waiting: VecDeque<Then>,
}

impl Files {
    fn start(waker: Waker) -> io::Result<Self> {
        let (jobs, inbox) = mailbox::<Job>(MAX_WAITING);
        let (results, found) = mailbox(2 * MAX_WAITING);
        thread::Builder::new().name("pmd-files".into()).stack_size(STACK).spawn(move || {
            while let Some(job) = inbox.wait() {
                if !results.send(fetch(&job)) {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { jobs, found, waiting: VecDeque::new() })
    }
}

fn fetch(job: &Job) -> io::Result<Vec<u8>> {
    let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
    let path = fs::canonicalize(&job.path)?;
    let is_below = |root: &PathBuf| fs::canonicalize(root).is_ok_and(|root| path.starts_with(root));
    if !job.below.is_empty() && !job.below.iter().any(is_below) {
        return Err(refused());
    }
    // Before it is opened: a pipe would make us wait.
    if !fs::symlink_metadata(&path)?.is_file() {
        return Err(refused());
    }
    let file = File::open(&path)?;
    let meta = file.metadata()?;
    let may = job.user.is_none_or(|uid| {
        meta.mode() & 0o004 != 0 || (meta.uid() == uid && meta.mode() & 0o400 != 0)
    });
    if !meta.is_file() || meta.len() > job.most || !may {
        return Err(refused());
    }
    let mut bytes = Vec::new();
    file.take(job.most).read_to_end(&mut bytes)?;
    if job.remove {
        fs::remove_file(&path)?;
    }
    Ok(bytes)
}

impl Daemon {
    /// Takes an event whose file has to be read first; gives back one that needs none.
    pub(super) fn read_first(
        &mut self,
        id: ProcId,
        process: &str,
        channel: &str,
        mut event: Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let name = process.to_owned();
        if channel == "axm:reply" {
            let Some((kind, path)) = profile(&event) else { return Some(event) };
            let mut below = vec![self.directory_of(id), std::env::temp_dir()];
            below.push(self.agent_places().home);
            // Everything is below the root.
            below.retain(|path| path.parent().is_some());
            let job = Job { path, most: MAX_PROFILE, user: self.user_of(id), below, remove: true };
            self.read_file(job, Then::Profile { id, name, kind });
            return None;
        }
        let wants = self.outside.host.as_deref().is_some_and(|host| host.agent.config.context);
        let Some(Value::Object(data)) = event.get_mut("data").filter(|_| wants) else {
            return Some(event);
        };
        let frames = data.remove("stackframes").unwrap_or_default();
        let Some((path, line)) = call_site(&frames, data.get("stack")) else { return Some(event) };
        data.insert("callsite".to_owned(), format!("{path}:{line}").into());
        let job = Job {
            path: self.directory_of(id).join(path),
            most: MAX_SOURCE,
            user: self.user_of(id),
            below: Vec::new(),
            remove: false,
        };
        let then = Then::Exception { event, id, name, line };
        match self.read_file(job, then) {
            Some(Then::Exception { event, .. }) => Some(event),
            Some(Then::Profile { .. }) | None => None,
        }
    }

    fn directory_of(&self, id: ProcId) -> PathBuf {
        self.supervisor.process(id).map(|it| it.spec().cwd.to_path_buf()).unwrap_or_default()
    }

    /// Whom a process runs as, if that is somebody else.
    fn user_of(&self, id: ProcId) -> Option<u32> {
        let user = self.supervisor.process(id)?.spec().user.clone()?;
        // Who cannot be found may read nothing but what everybody may.
        let uid = users::user(&user).ok().flatten().map_or(u32::MAX, |user| user.uid);
        (uid != process::effective_uid()).then_some(uid)
    }

    /// Has a file read; gives `then` back if that cannot be.
    fn read_file(&mut self, job: Job, then: Then) -> Option<Then> {
        let Some(host) = self.outside.host.as_deref_mut() else { return Some(then) };
        if host.files.is_none() {
            host.files = Files::start(self.waker.clone()).ok();
        }
        let Some(files) = &mut host.files else { return Some(then) };
        if files.waiting.len() >= MAX_WAITING || !files.jobs.send(job) {
            return Some(then);
        }
        files.waiting.push_back(then);
        None
    }

    /// Files have been read, perhaps.
    pub(in crate::daemon) fn take_files(&mut self) {
        loop {
            let host = self.outside.host.as_deref_mut();
            let Some(files) = host.and_then(|host| host.files.as_mut()) else { return };
            let Some(found) = files.found.take() else { return };
            match files.waiting.pop_front() {
                Some(Then::Exception { mut event, id, name, line }) => {
                    if let Ok(bytes) = found
                        && let Some(Value::Object(data)) = event.get_mut("data")
                        && let Some(context) = context(&bytes, line)
                    {
                        data.insert("context".to_owned(), context.into());
                    }
                    self.say_outside("process:exception", id, &name, event);
                }
                Some(Then::Profile { id, name, kind }) => self.tell_profile(id, &name, kind, found),
                None => {}
            }
        }
    }

    fn tell_profile(&mut self, id: ProcId, name: &str, kind: &str, found: io::Result<Vec<u8>>) {
        let Some(host) = self.outside.host.as_deref_mut() else { return };
        match found {
            Ok(content) => {
                let config = &host.agent.config;
                let mut about = json!({
                    "pm_id": id, "name": name, "server_name": config.machine_name,
                    "public_key": config.public_key, "type": kind,
                });
                about[kind] = true.into();
                host.agent.tell_file(&about, &content);
            }
            Err(error) => {
                let why = crate::sys::describe(&error);
                self.own_log.warn(format_args!("agent: a profile of {name} is not told: {why}"));
            }
        }
    }
}

/// The profile that an answer tells of, and its file.
fn profile(event: &Map<String, Value>) -> Option<(&'static str, PathBuf)> {
    let said = event.get("data")?.get("return")?;
    let kind = PROFILES.into_iter().find(|kind| said.get(*kind).is_some_and(is_truthy))?;
    Some((kind, PathBuf::from(said.get("dump_file")?.as_str()?)))
}

/// The first place that is the user's own: a file and a line.
fn call_site(frames: &Value, stack: Option<&Value>) -> Option<(String, usize)> {
    let is_own = |path: &str| {
        (Path::new(path).is_absolute() || path.starts_with('.'))
            && !path.contains("node_modules")
            && !path.contains("vxx")
    };
    let frames = frames.as_array().map(Vec::as_slice).unwrap_or_default();
    let told = frames.iter().filter_map(|frame| {
        let line = frame.get("line_number")?.as_u64()?;
        Some((frame.get("file_name")?.as_str()?, usize::try_from(line).ok()?))
    });
    let lines = stack.and_then(Value::as_str).unwrap_or_default().lines().take(100);
    let read = lines.filter_map(|line| {
        let place = line.trim().strip_prefix("at ")?;
        let place = place.rsplit_once('(').map_or(place, |(_, place)| place);
        let (place, _column) = place.trim_end_matches(')').rsplit_once(':')?;
        let (path, line) = place.rsplit_once(':')?;
        Some((path.trim_start_matches("file://"), line.parse().ok()?))
    });
    told.chain(read).find(|(path, _)| is_own(path)).map(|(path, line)| (path.to_owned(), line))
}

/// The lines around one, which is marked.
fn context(source: &[u8], line: usize) -> Option<String> {
    let source = String::from_utf8_lossy(source);
    let at = line.checked_sub(1)?;
    let first = at.saturating_sub(AROUND);
    let lines = source.lines().enumerate().skip(first).take(at + AROUND + 1 - first);
    let lines: Vec<String> = lines
        .map(|(number, text)| {
            let text = text.replace('\t', "  ");
            if number == at { text.replacen("  ", ">>", 1) } else { text }
        })
        .collect();
    (lines.len() + first > at).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_of_the_users_own_is_where_it_was_thrown() {
        let stack = "Error: x\n    at require (node:internal/x:1:2)\n    at f (/srv/node_modules/a.js:3:4)\n    at \
            process.<anonymous> (/srv/app.js:37:15)\n    at /srv/b.js:1:1";
        assert_eq!(
            call_site(&Value::Null, Some(&stack.into())),
            Some(("/srv/app.js".to_owned(), 37))
        );
        let frames =
            json!([{"file_name": "x", "line_number": 1}, {"file_name": "./y", "line_number": 2}]);
        assert_eq!(call_site(&frames, None), Some(("./y".to_owned(), 2)));
        for odd in ["", "at ", "at (:)", "at (/a:b:c)", "at /a:1"] {
            assert_eq!(call_site(&Value::Null, Some(&odd.into())), None, "{odd}");
        }
    }

    #[test]
    fn the_line_is_marked_among_its_neighbours() {
        let source = b"1\n2\n3\n\t4\n  five\n6";
        assert_eq!(context(source, 5).unwrap(), "1\n2\n3\n  4\n>>five\n6");
        assert_eq!(context(source, 1).unwrap(), "1\n2\n3\n  4\n  five");
        assert_eq!((context(source, 0), context(source, 7)), (None, None));
    }

    #[test]
    fn only_files_that_may_be_read_are() {
        let dir = std::env::temp_dir().join(format!("pmd-files-{}", std::process::id()));
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::write(dir.join("in/a"), b"content").unwrap();
        fs::write(dir.join("b"), b"content").unwrap();
        std::os::unix::fs::symlink(dir.join("b"), dir.join("in/c")).unwrap();
        let job = |name: &str, most, user| Job {
            path: dir.join(name),
            most,
            user,
            below: vec![dir.join("in")],
            remove: false,
        };
        assert_eq!(fetch(&job("in/a", 7, None)).unwrap(), b"content");
        for wrong in ["b", "in/c", "in/../b", "in", "in/none"] {
            assert!(fetch(&job(wrong, 7, None)).is_err(), "{wrong}");
        }
        assert!(fetch(&job("in/a", 6, None)).is_err());
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.join("in/a"), private).unwrap();
        assert!(fetch(&job("in/a", 7, Some(u32::MAX))).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
