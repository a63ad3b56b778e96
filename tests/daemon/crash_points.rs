//! The daemon dies at every point where it matters, once each; its keeper starts another, and nothing
//! is lost, doubled or torn.
//!
//! The points are in the sources, `crash::point("…")`; only debug builds have them.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Home, is_alive, send, until};

/// Each with the pass at which it kills.
const POINTS: &[&str] = &[
    "spawn-before:1",
    "spawn-before:2",
    "spawn-after:1",
    "spawn-after:3",
    "spawn-noted:1",
    "spawn-noted:2",
    "hold-after:1",
    "hold-after:2",
    "identity-noted:1",
    "reaped:1",
    "exit-told:1",
    "state-written:1",
    "state-synced:2",
    "state-backup:2",
    "state-renamed:1",
    "state-renamed:2",
    "state-saved:2",
    "splice-before:2",
    "splice-after:1",
    "splice-after:7",
    "log:1",
    "log:2",
    "log:4",
    "log:9",
    "answer-before:5",
    "answer-before:9",
    "answer-after:6",
    "adopting:1",
    "adopting:2",
    "forgetting:1",
    "forgotten:1",
];

/// At a time.
const RUNS: usize = 4;

#[test]
fn a_daemon_that_dies_anywhere_loses_and_doubles_nothing() {
    // Every point of the sources is among them.
    for name in points_of(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        assert!(POINTS.iter().any(|point| point.split(':').next() == Some(&name)), "{name}");
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..RUNS {
            scope.spawn(|| {
                while let Some(point) =
                    POINTS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    die_at(point);
                }
            });
        }
    });
}

fn points_of(dir: &std::path::Path) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(points_of(&path));
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let named = text.split("crash::point(\"").skip(1);
            found.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    found
}

fn die_at(point: &str) {
    let mut home = Home::without_daemon();
    let died = home.path("died");
    let mut command = home.daemon_command();
    command.env("PMD_CRASH_AT", format!("{point}:{}", died.display()));
    home.boot_with(command);
    let count = "i=0; while [ ! -e enough ]; do echo \"$$ $i\"; i=$((i+1)); sleep 0.003; done; \
        echo \"$$ end $i\"; exec sleep 1000";
    for app in ["plain", "dated", "gone"] {
        home.script(&format!("{app}.sh"), count);
    }
    let start = |app: &str| {
        let script = format!("{app}.sh");
        let mut words = vec!["start", &script, "--no-wait", "--min-uptime", "1ms"];
        if app == "dated" {
            words.push("--time");
        }
        // The daemon may die of it: then it is asked again, which changes nothing if it was done.
        until("it is started", || {
            home.pmd(&words);
            known(&home).is_some_and(|known| known.contains_key(app))
        });
    };
    ["plain", "dated", "gone"].into_iter().for_each(start);
    // One dies, one is started anew, one goes.
    if let Some(pid) = known(&home).and_then(|it| it.get("dated").copied()).filter(|&it| it > 0) {
        send(pid, 9);
    }
    home.pmd(&["restart", "plain", "--no-wait"]);
    until("one has gone", || {
        home.pmd(&["delete", "gone"]);
        known(&home).is_some_and(|known| !known.contains_key("gone"))
    });
    if !died.exists() {
        // One of the next one's first steps.
        send(home.daemon_pid(), 9);
    }
    until(&format!("{point} is passed"), || died.exists());
    until("the next daemon answers", || known(&home).is_some());
    for app in ["plain", "dated"] {
        home.await_entry(app, |entry| entry["status"] == "online" && entry["pid"].is_i64());
        until(&format!("{point}: {app} runs once"), || running(&home, app) == [home.pid(app)]);
    }
    until("what was deleted is gone", || running(&home, "gone").is_empty());
    home.file("enough", "");
    for app in ["plain", "dated"] {
        let text = home.await_text(&format!("logs/{app}-out.log"), " end ");
        check_lines(point, app, &text);
    }
    assert!(home.end(15).success());
}

/// The names of all processes and their pids, 0 for none; `None`: no daemon answers. One that is
/// about to die may not.
fn known(home: &Home) -> Option<BTreeMap<String, i32>> {
    let ran = home.pmd(&["jlist"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&ran.out).ok()?;
    let named = list.iter().map(|entry| {
        let pid = i32::try_from(entry["pid"].as_i64().unwrap_or_default()).unwrap_or_default();
        (entry["name"].as_str().unwrap().to_owned(), pid)
    });
    Some(named.collect())
}

/// Processes that execute the script of this app.
fn running(home: &Home, app: &str) -> Vec<i32> {
    let script = format!("{}/{app}.sh", home.dir.display());
    let mut found: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|&byte| byte == 0).any(|word| word == script.as_bytes())
        })
        .filter(|&pid| is_alive(pid))
        .collect();
    found.sort_unstable();
    // A shell that has just forked is there twice for a moment.
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let all = found.clone();
    found.retain(|&pid| parent(pid).is_none_or(|parent| !all.contains(&parent)));
    found
}

/// Each life counts from 0 without a gap, and the last one to its end.
fn check_lines(point: &str, app: &str, text: &str) {
    let mut lives: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ended = 0;
    for line in text.lines() {
        let mut words = line.split(' ').rev();
        let number: u64 = words.next().unwrap().parse().unwrap_or_else(|_| panic!("{line:?}"));
        let mut life = words.next().unwrap();
        if life == "end" {
            ended += 1;
            life = words.next().unwrap();
        }
        // The time before it, where there is one.
        let life = life.rsplit([':', '\t']).next().unwrap();
        let expected = lives.entry(life).or_default();
        assert_eq!(number, *expected, "{point}: {app}: {line:?}");
        *expected += 1;
    }
    assert_eq!(ended, 1, "{point}: {app}");
}
