//! A stop ends all that a program started, wherever it went; or only the program, when asked.

use serde_json::json;

use crate::harness::{Home, is_alive};

/// A child in the group, one in a session of its own, and one that forked twice.
const PARENT: &str = "
sleep 1000 & echo $! > group
setsid sh -c 'echo $$ > session; exec sleep 1000' &
(setsid sh -c 'sh -c \"echo \\$\\$ > double; exec sleep 1000\" &' &)
while [ ! -s double ] || [ ! -s session ]; do sleep 0.01; done
echo up
wait";

fn family(home: &Home) -> Vec<i32> {
    home.await_text("logs/app-out.log", "up\n");
    let mut pids: Vec<_> =
        ["group", "session", "double"].iter().map(|name| home.await_number(name)).collect();
    pids.push(home.pid("app"));
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    pids
}

#[test]
fn a_stop_ends_the_whole_tree() {
    let home = Home::new();
    home.script("app.sh", PARENT);
    home.ok(&["start", "app.sh", "--no-wait"]);
    let pids = family(&home);
    home.ok(&["stop", "app"]);
    let left: Vec<_> = pids.into_iter().filter(|&pid| is_alive(pid)).collect();
    assert_eq!(left, [0; 0], "all are gone when the command returns");
}

#[test]
fn without_treekill_only_the_main_process_ends() {
    let home = Home::new();
    home.script("app.sh", PARENT);
    home.ok(&["start", "app.sh", "--no-wait", "--no-treekill"]);
    let pids = family(&home);
    home.ok(&["stop", "app"]);
    assert!(!is_alive(pids[3]));
    assert_eq!(pids[..3].iter().filter(|&&pid| is_alive(pid)).count(), 3);
}

#[test]
fn many_are_stopped_at_the_same_time() {
    let home = Home::new();
    home.script("deaf.sh", "trap '' INT; echo up; while :; do sleep 1000; done");
    home.file(
        "apps.json",
        json!({"apps": [{"name": "deaf", "script": "./deaf.sh", "instances": 20,
            "kill_timeout": "1s"}]})
        .to_string(),
    );
    home.ok(&["start", "apps.json", "--no-wait"]);
    for number in 0..20 {
        home.await_text(&format!("logs/deaf-{number}-out.log"), "up");
    }
    let began = std::time::Instant::now();
    home.ok(&["stop", "all"]);
    // One after the other they would take twenty seconds at least.
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    assert!(home.entries("deaf").iter().all(|one| one["status"] == "stopped"));
}
