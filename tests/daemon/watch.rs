//! Restarts because files changed, and commands that are run because something happened.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Home, await_gone};

/// A program that is to be watched, in a directory of its own.
fn program(home: &Home) -> String {
    home.script("app/run.sh", "echo run >> runs.log; exec sleep 1000")
}

/// Waits until the daemon watches `app`: until a change of a file that is made again and again leads
/// to a restart.
fn await_restart(home: &Home, file: &str) -> Value {
    let before = home.entry("run")["restarts"].as_u64();
    home.await_entry("run", |entry| {
        home.file(file, "changed");
        entry["restarts"].as_u64() > before && entry["status"] == "online"
    })
}

#[test]
fn a_program_is_restarted_when_its_files_change_until_it_is_stopped() {
    let home = Home::new();
    program(&home);
    let dir = home.path("app");
    let cwd = dir.to_str().unwrap();
    let words = ["--cwd", cwd, "--watch", "--ignore-watch", "*.log,tmp", "--watch-delay", "0.05"];
    home.ok(&[&["start", "app/run.sh"][..], &words].concat());
    let mut control = home.control();
    control.subscribe("process_event");
    let entry = await_restart(&home, "app/src/deep/x.js");
    assert_eq!(entry["last_exits"][0]["reason"], "watch", "{entry}");
    let restarted = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(restarted["data"]["details"]["reason"], "watch");
    assert!(home.read("daemon.err").contains("run: src changed"), "{}", home.read("daemon.err"));
    let wide = home.ok(&["ls", "--wide"]).out;
    assert!(wide.lines().next().unwrap().contains("WATCH") && wide.contains("yes"), "{wide}");
    let exported = home.ok(&["export", "run"]).out;
    assert!(exported.contains("\"watch\": true") && exported.contains("\"*.log\""), "{exported}");
    // Stopped, it is left alone; what it is told by then is told before.
    home.ok(&["stop", "run"]);
    home.file("app/src/deep/x.js", "again");
    home.ok(&["start", "run"]);
    let pid = home.pid("run");
    // What is ignored, and what is nobody's: neither is followed by a restart before this one is.
    for name in ["app/a.log", "app/tmp/x", "app/node_modules/a/b", "app/.git/x", "beside"] {
        home.file(name, "x");
    }
    home.file("app/.hidden", "x");
    await_gone(pid);
    let said = home.read("daemon.err");
    let last = said.lines().rev().find(|line| line.ends_with(" changed")).unwrap();
    assert!(last.ends_with("run: .hidden changed"), "{last}");
}

#[test]
fn a_program_that_failed_is_tried_again_when_it_has_been_mended() {
    let home = Home::new();
    home.script("app/run.sh", "exit 1");
    let app = json!({"name": "run", "script": "run.sh", "cwd": "app", "watch": ["run.sh"],
        "max_restarts": 2});
    home.file("pmd.json", json!({"apps": [app]}).to_string());
    home.pmd(&["start", "pmd.json"]);
    home.await_status("run", "errored");
    home.await_entry("run", |entry| {
        home.script("app/run.sh", "exec sleep 1000");
        entry["status"] == "online"
    });
}

#[test]
fn a_daemon_that_comes_later_goes_on_watching() {
    let mut home = Home::new();
    program(&home);
    let dir = home.path("app");
    home.ok(&["start", "app/run.sh", "--cwd", dir.to_str().unwrap(), "--watch=src"]);
    fs::create_dir(home.path("app/src")).unwrap();
    home.murder();
    home.boot();
    let pid = home.pid("run");
    await_restart(&home, "app/src/x");
    assert_ne!(home.pid("run"), pid);
}

#[test]
fn what_cannot_be_watched_is_told_in_one_line() {
    let home = Home::new();
    program(&home);
    let ran = home.ok(&["start", "app/run.sh", "--watch=/nonexistent/dir/x"]);
    let warning = "run: cannot watch /nonexistent/dir/x: no such file or directory";
    assert!(ran.err.contains(warning), "{ran:?}");
    assert!(home.entry("run")["note"].as_str().unwrap().contains("cannot watch"));
    home.pmd(&["start", "app/run.sh", "--name", "b", "--watch", "--ignore-watch", "\\.log$"])
        .failed(6, "'\\.log$' is no pattern of paths: write \".log\"");
}

#[test]
fn a_command_is_told_what_happens_one_event_at_a_time() {
    let mut home = Home::new();
    home.script("app.sh", "echo why >&2; exit 3");
    home.script(
        "told.sh",
        "mkdir lock || touch overlap; read line; echo \"$PMD_EVENT_NAME $PMD_NAME \
         $PMD_EVENT_EXIT_CODE $OWN $line\" >> told; rmdir lock; exit 1",
    );
    let app = json!({"name": "app", "script": "app.sh", "max_restarts": 2, "on_event": "told.sh",
        "env": {"OWN": "mine"}});
    home.file("pmd.json", json!({"apps": [app]}).to_string());
    home.pmd(&["start", "pmd.json"]);
    let told = home.await_text("told", "errored app");
    let crashes: Vec<&str> = told.lines().filter(|line| line.starts_with("crashed")).collect();
    assert_eq!(crashes.len(), 2, "{told}");
    let (words, data) = crashes[0].split_at(crashes[0].find('{').unwrap());
    assert_eq!(words, "crashed app 3 mine ");
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["details"]["last_output"], json!(["why"]), "{data}");
    assert!(!home.path("overlap").exists());
    home.await_text("daemon.err", "app: on_event: exit code 1");
    // A command that is not there disturbs nobody.
    let app = json!({"name": "b", "script": "app.sh", "autorestart": false,
        "on_event": ["/nonexistent"]});
    home.file("b.json", json!({"apps": [app]}).to_string());
    home.pmd(&["start", "b.json"]);
    home.await_text("daemon.err", "b: cannot run on_event: no such file or directory");
    assert!(home.is_daemon_up());
}
