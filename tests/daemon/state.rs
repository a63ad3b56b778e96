//! What outlives the daemon: programs, what is known of them, and what was asked for.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Home, await_gone, finish, follow, is_alive, send, until};

#[test]
fn programs_outlive_a_killed_daemon_and_are_adopted() {
    let mut home = Home::new();
    home.script("app.sh", "echo x >> starts; echo up; while [ ! -e say ]; do sleep 0.01; done; echo said; exec sleep 1000");
    home.ok(&["start", "app.sh", "--min-uptime", "1ms"]);
    send(home.pid("app"), 9);
    home.await_entry("app", |one| one["restarts"] == 1 && one["status"] == "online");
    until("it runs again", || home.read("starts").lines().count() == 2);
    let pid = home.pid("app");
    home.murder();
    assert!(is_alive(pid));
    home.file("say", "");
    home.boot();
    let entry = home.entry("app");
    assert_eq!((&entry["pid"], &entry["status"]), (&json!(pid), &json!("online")));
    assert_eq!(entry["restarts"], 1, "counters are kept");
    home.await_text("logs/app-out.log", "said\n");
    assert_eq!(home.read("logs/app-out.log"), "up\nup\nsaid\n");
    assert_eq!(home.read("starts").lines().count(), 2, "none was started twice");
    assert!(home.read("daemon.err").contains("adopted 1"), "{}", home.read("daemon.err"));
    // It is supervised as before.
    send(pid, 9);
    let entry = home.await_entry("app", |one| one["restarts"] == 2 && one["pid"].is_i64());
    assert_ne!(entry["pid"], pid);
    until("it runs again", || home.read("starts").lines().count() == 3);
}

#[test]
fn programs_of_every_kind_are_recognised() {
    let mut home = Home::new();
    home.script("shebang.sh", "echo $0 >> starts; while :; do sleep 0.05; done");
    home.file(
        "interpreted.py",
        "import time\nopen('starts', 'a').write('py\\n')\ntime.sleep(1000)\n",
    );
    std::os::unix::fs::symlink(&home.dir, home.path("link")).unwrap();
    let linked = home.path("link/linked.sh");
    home.script("linked.sh", "echo linked >> starts; exec sleep 1000");
    home.ok(&["start", "shebang.sh", "--no-wait"]);
    home.ok(&["start", "interpreted.py", "--no-wait"]);
    home.ok(&["start", linked.to_str().unwrap(), "--no-wait"]);
    home.ok(&["start", "sleep", "-n", "command", "--no-wait", "--", "1000"]);
    home.ok(&["start", "-x", "sleep 1000 && true", "-n", "shell", "--no-wait"]);
    until("all run", || home.read("starts").lines().count() == 3);
    let names = ["shebang", "interpreted", "linked", "command", "shell"];
    let pids = names.map(|name| home.pid(name));
    home.murder();
    home.boot();
    assert_eq!(names.map(|name| home.pid(name)), pids);
    assert_eq!(home.read("starts").lines().count(), 3);
}

#[test]
fn an_exit_while_the_daemon_is_dead_is_noticed() {
    let mut home = Home::new();
    home.script("app.sh", "echo x >> starts; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    until("it runs", || home.read("starts").lines().count() == 1);
    let pid = home.pid("app");
    home.murder();
    send(pid, 9);
    await_gone(pid);
    home.boot();
    until("it runs again", || home.read("starts").lines().count() == 2);
    assert_ne!(home.pid("app"), pid);
}

#[test]
fn no_line_is_lost_or_doubled_across_killed_daemons() {
    let mut home = Home::new();
    home.file("app.py", "
import os, sys, time
n = 0
while not os.path.exists('enough'):
    sys.stdout.write(''.join(f'line {i}\\n' for i in range(n, n + 100))); sys.stdout.flush(); n += 100
print('end', n, flush=True)
time.sleep(1000)
");
    home.ok(&["start", "app.py", "--no-wait", "--log-max-size", "1G"]);
    for round in 0..5 {
        home.await_text("logs/app-out.log", &format!("line {}\n", round * 500));
        home.murder();
        home.boot();
    }
    home.file("enough", "");
    let text = home.await_text("logs/app-out.log", "end ");
    let mut wanted = 0;
    for line in text.lines().take_while(|line| !line.starts_with("end ")) {
        assert_eq!(line, format!("line {wanted}"));
        wanted += 1;
    }
    assert!(text.contains(&format!("end {wanted}")), "{wanted}");
}

#[test]
fn what_was_stopped_stays_stopped() {
    let mut home = Home::new();
    home.script("app.sh", "echo $PMD_NAME >> starts; exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "run", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "halt", "--no-wait"]);
    home.ok(&["stop", "halt"]);
    until("it ran", || home.read("starts").contains("run"));
    let pid = home.pid("run");
    assert_eq!(home.end(15).code(), Some(0));
    assert!(!is_alive(pid), "an orderly end takes the programs along");
    fs::write(home.path("starts"), "").unwrap();
    home.boot();
    until("it runs again", || home.read("starts") == "run\n");
    assert_eq!(home.entry("halt")["status"], "stopped");
    assert_eq!(home.entry("run")["id"], 0, "ids are kept");
    // Also after a kill.
    home.murder();
    home.boot();
    assert_eq!(home.entry("halt")["status"], "stopped");
}

#[test]
fn a_daemon_told_to_leave_programs_running_does_so() {
    let mut home = Home::without_daemon();
    home.file("pmd.json", json!({"stop_on_exit": false}).to_string());
    home.boot();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let pid = home.pid("app");
    assert_eq!(home.end(15).code(), Some(0));
    assert!(is_alive(pid));
    home.boot();
    assert_eq!(home.pid("app"), pid);
    home.ok(&["kill"]);
    home.ended();
    assert!(!is_alive(pid));
}

#[test]
fn kill_can_leave_programs_running() {
    let mut home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let pid = home.pid("app");
    home.ok(&["kill", "--leave-running"]);
    assert_eq!(home.ended().code(), Some(0));
    assert!(is_alive(pid));
    home.boot();
    assert_eq!(home.pid("app"), pid);
    home.ok(&["kill"]);
    assert_eq!(home.ended().code(), Some(0));
    assert!(!is_alive(pid));
    home.pmd(&["ls"]).failed(4, "no daemon is running");
}

/// A home whose daemon was killed after `app` had been saved twice, and `app` with it.
fn saved() -> Home {
    let mut home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "other", "--no-wait"]);
    home.ok(&["delete", "other"]);
    home.murder();
    home
}

#[test]
fn a_damaged_state_is_set_aside_and_the_one_before_is_used() {
    for damage in ["", "{\"version\":", "garbage \u{0} all over"] {
        let mut home = saved();
        home.file("state.json", damage);
        home.boot();
        assert_eq!(home.entry("app")["status"], "online", "{damage:?}");
        let log = home.read("daemon.err");
        assert!(log.contains("state.json"), "a warning is given: {log}");
        assert_eq!(set_aside(&home), [damage]);
    }
}

#[test]
fn a_state_cut_anywhere_is_noticed() {
    let mut home = saved();
    let whole = fs::read(home.path("state.json")).unwrap();
    for part in 1..4 {
        home.file("state.json", &whole[..whole.len() * part / 4]);
        home.boot();
        assert_eq!(home.entry("app")["status"], "online");
        home.murder();
    }
    // One altered byte, too.
    let text = String::from_utf8(whole).unwrap();
    home.file("state.json", text.replacen("app.sh", "apq.sh", 1));
    home.boot();
    assert_eq!(home.entry("app")["status"], "online");
}

#[test]
fn a_state_of_a_newer_version_is_not_overwritten() {
    let mut home = saved();
    let newer = home.read("state.json").replacen("{\"format\":1,", "{\"format\":99,", 1);
    home.file("state.json", &newer);
    home.boot();
    assert_eq!(home.entry("app")["status"], "online", "the one before is used");
    let log = home.read("daemon.err");
    assert!(log.contains("it is of a newer version (format 99"), "{log}");
    assert!(set_aside(&home).contains(&newer));
}

/// The state files that could not be used.
fn set_aside(home: &Home) -> Vec<String> {
    let names = fs::read_dir(&home.dir).unwrap().map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.to_string_lossy().contains("state.json.damaged"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn of_two_daemons_one_wins() {
    let mut home = Home::new();
    let mut second = home.daemon_command();
    second.stderr(Stdio::piped()).stdout(Stdio::piped());
    let ran = finish(second.spawn().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.starts_with("pmd: error: "), "{ran:?}");
    assert!(home.is_daemon_up());
    home.ok(&["ping"]);
}

#[test]
fn many_commands_at_once_start_one_daemon() {
    let home = Home::without_daemon();
    home.script("app.sh", "exec sleep 1000");
    let racers: Vec<_> = (0..8)
        .map(|number| {
            let name = format!("app-{number}");
            home.command(&["start", "app.sh", "-n", &name, "--no-wait"]).spawn().unwrap()
        })
        .collect();
    for racer in racers {
        let ran = finish(racer);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let (list, _) = home.json(&["ls"]);
    assert_eq!(list.as_array().unwrap().len(), 8, "{list}");
    home.ok(&["kill"]);
}

#[test]
fn clients_hear_of_an_orderly_end() {
    let mut home = Home::new();
    let mut events = follow(home.command(&["events", "-f", "--json"]));
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    events.until("started");
    let mut control = home.control();
    send(home.daemon_pid(), 15);
    let notice = control.until(|message| message["type"] == "shutdown");
    assert_eq!(notice["data"]["reason"], "signal");
    assert!(control.line().is_none());
    assert_eq!(home.ended().code(), Some(0));
    events.code();
}
