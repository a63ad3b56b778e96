//! Control groups, where this host lets us make them: everything a program started is found.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Home, is_alive, until};

/// Where the daemon's groups are; `None`: it has none here.
fn groups(home: &Home) -> Option<PathBuf> {
    let about = home.control().ask("get_daemon", &json!({}));
    let path = about["data"]["cgroup"]["path"].as_str().map(PathBuf::from);
    if path.is_none() {
        println!("skipped: no control group of version 2 that can be written");
    }
    path
}

fn group_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// A daemon that has left its session, its parent and its environment.
const STRAY: &str = "
setsid sh -c 'env -i /bin/sh -c \"echo \\$\\$ > stray.tmp; mv stray.tmp stray; exec sleep 1000\" &'
while [ ! -s stray ]; do sleep 0.01; done
echo up
exec sleep 1000";

fn with_stray(home: &Home) -> i32 {
    home.script("app.sh", STRAY);
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("logs/app-out.log", "up\n");
    home.await_number("stray")
}

#[test]
fn a_stop_ends_also_what_left_session_parent_and_environment() {
    let home = Home::new();
    let Some(_) = groups(&home) else { return };
    let stray = with_stray(&home);
    assert_eq!(group_of(stray), group_of(home.pid("app")));
    home.ok(&["stop", "app"]);
    assert!(!is_alive(stray), "it is gone when the command returns");
}

#[test]
fn a_deaf_one_is_killed_in_its_group() {
    let home = Home::new();
    let Some(_) = groups(&home) else { return };
    home.script(
        "app.sh",
        "trap '' INT; setsid sh -c 'env -i /bin/sh -c \"trap : INT TERM; echo \\$\\$ > stray.tmp; \
         mv stray.tmp stray; while :; do sleep 1000; done\" &'; while [ ! -s stray ]; do sleep \
         0.01; done; echo up; while :; do sleep 1000; done",
    );
    home.ok(&["start", "app.sh", "--no-wait", "-k", "200ms"]);
    home.await_text("logs/app-out.log", "up\n");
    let stray = home.await_number("stray");
    home.ok(&["stop", "app"]);
    assert!(!is_alive(stray));
    // The kernel lets nobody be born into a group that was killed.
    home.ok(&["start", "app", "--no-wait"]);
    let pid = home.pid("app");
    assert!(is_alive(pid));
    let group = group_of(pid);
    assert!(group.contains("/pmd-"), "{group}");
}

#[test]
fn a_group_lasts_from_life_to_life_and_goes_with_its_process() {
    let mut home = Home::new();
    let Some(path) = groups(&home) else { return };
    let stray = with_stray(&home);
    let group = group_of(stray);
    fs::remove_file(home.path("stray")).unwrap();
    // A crash leaves it where it is; the next life comes to it.
    let before = home.pid("app");
    crate::harness::send(before, 9);
    home.await_entry("app", |one| one["restarts"] == 1 && one["status"] == "online");
    let other = home.await_number("stray");
    assert_eq!(group_of(home.pid("app")), group);
    // So does a daemon that finds it again.
    home.murder();
    home.boot();
    home.ok(&["stop", "app"]);
    assert!(!is_alive(stray) && !is_alive(other));
    home.ok(&["start", "app", "--no-wait"]);
    assert_eq!(group_of(home.pid("app")), group);
    home.ok(&["delete", "app"]);
    let left = || fs::read_dir(&path).unwrap().filter(|one| one.as_ref().unwrap().path().is_dir());
    assert_eq!(left().count(), 0);
    home.end(15);
    assert!(!path.exists(), "nothing stays behind");
}

#[test]
fn a_reloads_successor_has_a_group_of_its_own() {
    let home = Home::new();
    let Some(path) = groups(&home) else { return };
    home.script("app.sh", "printf '\\n' >&3; exec 3>&-; exec sleep 1000");
    let config =
        json!({"name": "app", "script": "./app.sh", "wait_ready": true, "notification_fd": 3});
    home.file("apps.json", config.to_string());
    home.ok(&["start", "apps.json"]);
    let before = group_of(home.pid("app"));
    home.ok(&["reload", "app"]);
    let after = group_of(home.pid("app"));
    assert_ne!(before, after);
    let old = path.join(before.rsplit('/').next().unwrap());
    until("the old group is gone", || !old.exists());
    home.ok(&["restart", "app"]);
    assert_eq!(group_of(home.pid("app")), after);
}

#[test]
fn a_limit_that_this_host_cannot_set_is_told() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    let limits = json!({"memory": "64M", "cpu": 50, "pids": 20});
    let config = json!({"name": "app", "script": "./app.sh", "limits": limits});
    home.file("apps.json", config.to_string());
    let ran = home.ok(&["start", "apps.json", "--no-wait"]);
    let about = home.control().ask("get_daemon", &json!({}))["data"]["cgroup"].clone();
    let offered = about["controllers"].as_array().cloned().unwrap_or_default();
    let pid = home.pid("app");
    for (controller, file, text) in [
        ("memory", "memory.max", "67108864"),
        ("cpu", "cpu.max", "50000 100000"),
        ("pids", "pids.max", "20"),
    ] {
        if ran.err.contains(&format!("limits.{controller}")) {
            assert!(ran.err.contains("no effect: "), "{ran:?}");
            continue;
        }
        assert!(offered.contains(&Value::from(controller)), "{ran:?}");
        let base = PathBuf::from(about["path"].as_str().unwrap());
        let group = base.join(group_of(pid).rsplit('/').next().unwrap());
        assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), text);
    }
    let entry = home.entry("app");
    assert_eq!(entry["config"]["limits"]["memory"], 64 << 20);
}
