use super::*;
use crate::sys::inotify::events;
use crate::sys::testing::wait_readable;

/// A directory, and what is watched in it.
struct World {
    dir: PathBuf,
    inotify: Inotify,
    trees: Trees,
    now: Time,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pmd-trees-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let (inotify, trees) = (Inotify::new().unwrap(), Trees::default());
        Self { dir, inotify, trees, now: Time(1000) }
    }

    fn watch(&mut self, ticket: u64, roots: &[&str], ignored: &[&str]) -> Option<String> {
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let plan = Plan {
            cwd: self.dir.clone(),
            roots: roots.iter().map(|it| self.dir.join(it).to_str().unwrap().into()).collect(),
            ignored: text(ignored),
            own: vec![self.dir.join("out.log")],
            own_directories: vec![self.dir.join("logs")],
            delay: Duration::from_millis(200),
        };
        self.trees.watch(&self.inotify, ticket, plan)
    }

    fn write(&self, name: &str) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn take(&mut self) {
        let mut buffer = Vec::new();
        loop {
            let bytes = self.inotify.read(&mut buffer).unwrap();
            if bytes.is_empty() {
                return;
            }
            for event in events(bytes) {
                assert_eq!(self.trees.take(&self.inotify, &event, self.now), []);
            }
        }
    }

    /// What is told of the changes so far, and for whom.
    fn told(&mut self) -> Vec<(u64, String)> {
        self.take();
        self.now = self.now.after(Duration::from_millis(200));
        let mut told = Vec::new();
        while let Some((ticket, path)) = self.trees.pop_due(self.now) {
            let path = path.strip_prefix(&self.dir).unwrap().to_str().unwrap().to_owned();
            told.push((ticket, path));
        }
        assert_eq!(self.trees.next_deadline(), None);
        told
    }

    /// The same, of one app.
    fn first(&mut self) -> Option<String> {
        self.told().pop().map(|(_, path)| path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn whatever_changes_below_a_root_is_told_once() {
    let mut world = World::new("below");
    world.write("a/b/c.js");
    assert_eq!(world.watch(1, &[""], &[]), None);
    assert_eq!(world.told(), []);
    world.write("a/b/c.js");
    world.write("a/b/d.js");
    wait_readable(&world.inotify);
    assert_eq!(world.told(), [(1, "a/b/c.js".to_owned())]);
    fs::rename(world.dir.join("a/b/c.js"), world.dir.join("e")).unwrap();
    assert_eq!(world.first().as_deref(), Some("a/b/c.js"));
    fs::remove_file(world.dir.join("e")).unwrap();
    assert_eq!(world.first().as_deref(), Some("e"));
    // A read is no change.
    fs::read(world.dir.join("a/b/d.js")).unwrap();
    assert_eq!(world.told(), []);
}

#[test]
fn directories_that_come_and_go_are_followed() {
    let mut world = World::new("come");
    world.watch(1, &[""], &[]);
    world.write("x/y/z");
    assert_eq!(world.first().as_deref(), Some("x"));
    world.write("x/y/z");
    assert_eq!(world.first().as_deref(), Some("x/y/z"));
    fs::rename(world.dir.join("x"), world.dir.join("w")).unwrap();
    assert_eq!(world.first().as_deref(), Some("x"));
    world.write("w/y/z");
    assert_eq!(world.first().as_deref(), Some("w/y/z"));
    fs::remove_dir_all(world.dir.join("w")).unwrap();
    world.told();
    assert_eq!(
        (world.trees.directories.len(), world.trees.apps.get(&1).unwrap().directories),
        (1, 1)
    );
}

#[test]
fn what_is_ignored_is_not_even_watched() {
    let mut world = World::new("ignored");
    for name in ["node_modules/a/b", ".git/x/y", "logs/z", "tmp/q/r", "src/a"] {
        world.write(name);
    }
    world.watch(1, &[""], &["tmp"]);
    assert_eq!(world.trees.directories.len(), 2);
    for name in ["node_modules/a/b", ".git/x/y", "logs/z", "tmp/q/r", "out.log", "out.log.1"] {
        world.write(name);
    }
    assert_eq!(world.told(), []);
    world.write(".env");
    assert_eq!(world.first().as_deref(), Some(".env"));
}

#[test]
fn a_root_may_be_a_file_a_pattern_or_not_there_yet() {
    let mut world = World::new("roots");
    world.write("one.js");
    world.write("other.js");
    world.write("src/a/b.js");
    world.watch(1, &["one.js", "src/**/*.js", "later"], &[]);
    for (name, told) in [
        ("other.js", None),
        ("one.js", Some("one.js")),
        ("src/a/b.txt", None),
        ("src/a/b.js", Some("src/a/b.js")),
        ("src/new/deep/c.js", Some("src/new/deep/c.js")),
        ("later/x", Some("later")),
        ("later/x", Some("later/x")),
        ("elsewhere/x", None),
    ] {
        world.write(name);
        assert_eq!(world.first().as_deref(), told, "{name}");
    }
    let trouble = world.watch(2, &["nowhere/at/all"], &[]).unwrap();
    assert!(trouble.ends_with("nowhere/at/all: no such file or directory"), "{trouble}");
}

#[test]
fn a_root_that_somebody_named_is_watched_whatever_its_name() {
    let mut world = World::new("named");
    world.write(".config/a");
    world.write(".config/.b");
    world.watch(1, &[".config"], &[]);
    world.write(".config/a");
    assert_eq!(world.first().as_deref(), Some(".config/a"));
    world.write(".config/.b");
    assert_eq!(world.told(), []);
}

#[test]
fn symbolic_links_lead_nowhere() {
    let mut world = World::new("links");
    world.write("src/a");
    std::os::unix::fs::symlink("..", world.dir.join("src/up")).unwrap();
    assert_eq!(world.watch(1, &["src"], &[]), None);
    assert_eq!(world.trees.directories.len(), 2);
    world.write("src/a");
    assert_eq!(world.first().as_deref(), Some("src/a"));
}

#[test]
fn two_apps_share_what_they_watch_and_each_has_its_own_view() {
    let mut world = World::new("two");
    world.write("lib/a");
    world.watch(1, &[""], &["x"]);
    world.watch(2, &["lib"], &[]);
    world.write("lib/a");
    assert_eq!(world.told(), [(1, "lib/a".to_owned()), (2, "lib/a".to_owned())]);
    world.trees.forget(&world.inotify, 1);
    world.write("lib/a");
    world.write("b");
    assert_eq!(world.told(), [(2, "lib/a".to_owned())]);
    world.trees.forget(&world.inotify, 2);
    assert!(world.trees.directories.is_empty());
    world.write("lib/a");
    world.take();
    assert_eq!(world.trees.next_deadline(), None);
}

#[test]
fn a_change_waits_until_it_is_quiet_but_not_for_ever() {
    let mut world = World::new("quiet");
    world.watch(1, &[""], &[]);
    let begin = world.now;
    let mut pauses = 0;
    let step = Duration::from_millis(150);
    loop {
        world.write("a");
        world.take();
        let due = world.trees.next_deadline().unwrap();
        if due < world.now.after(Duration::from_millis(200)) {
            assert_eq!(due, begin.after(Duration::from_secs(2)));
            break;
        }
        assert_eq!(world.trees.pop_due(world.now), None);
        world.now = world.now.after(step);
        pauses += 1;
        assert!(pauses < 50);
    }
}
