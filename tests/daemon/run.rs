//! Container mode: exit codes, signals, output, and that nothing is written.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, Ran, await_gone, finish, follow, is_alive, send, until};

fn apps(home: &Home, apps: &Value) {
    home.file("apps.json", json!({"apps": apps}).to_string());
}

fn run(home: &Home, words: &[&str]) -> Ran {
    home.pmd(&[&["run"], words].concat())
}

#[test]
fn the_exit_code_is_that_of_the_program() {
    let home = Home::without_daemon();
    home.script("good.sh", "echo out; echo err >&2");
    home.script("bad.sh", "exit 7");
    home.script("killed.sh", "kill -KILL $$");
    let ran = run(&home, &["good.sh", "--once"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "out\n", "err\n"));
    assert_eq!(run(&home, &["bad.sh", "--once"]).code, 7);
    assert_eq!(run(&home, &["killed.sh", "--once"]).code, 137);
    let ran = run(&home, &["bad.sh", "--max-restarts", "2", "--exp-backoff-restart-delay", "1ms"]);
    assert_eq!(ran.code, 7, "{ran:?}");
}

#[test]
fn arguments_and_output_pass_untouched() {
    let home = Home::without_daemon();
    home.script("app.sh", "printf '%s|' \"$@\"; printf '\\033[1mno end'");
    let ran = run(&home, &["app.sh", "--once", "--", "--json", "a b", ""]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "--json|a b||\u{1b}[1mno end"));
}

#[test]
fn lines_of_several_programs_are_told_apart() {
    let home = Home::without_daemon();
    home.script("app.sh", "echo out $PMD_NAME; echo err $PMD_NAME >&2");
    apps(
        &home,
        &json!([{"name": "a", "script": "./app.sh", "autorestart": false},
        {"name": "bb", "script": "./app.sh", "autorestart": false}]),
    );
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let ran = run(&home, &["apps.json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let out = sorted(&ran.out);
    assert!(out.len() == 2 && out[0].starts_with('a') && out[0].ends_with("| out a"), "{ran:?}");
    assert!(out[1].ends_with("| out bb"), "{ran:?}");
    assert!(sorted(&ran.err)[0].ends_with("| err a"), "{ran:?}");
    let ran = run(&home, &["apps.json", "--raw"]);
    assert_eq!(sorted(&ran.out), ["out a", "out bb"]);
    let ran = run(&home, &["apps.json", "--json"]);
    for line in ran.out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(ran.out.lines().count() >= 2, "{ran:?}");
    let ran = run(&home, &["apps.json", "--format"]);
    assert!(
        ran.out.contains("message=\"out a\"") || ran.out.contains("message='out a'"),
        "{ran:?}"
    );
}

#[test]
fn an_app_that_gives_up_ends_the_container_unless_it_is_not_essential() {
    let home = Home::without_daemon();
    home.script("bad.sh", "exit 9");
    home.script("job.sh", "while [ ! -e go ]; do sleep 0.01; done; echo job done");
    home.script("long.sh", "echo long; exec sleep 1000");
    let bad = json!({"name": "bad", "script": "./bad.sh", "max_restarts": 1});
    apps(&home, &json!([bad, {"name": "long", "script": "./long.sh"}]));
    assert_eq!(run(&home, &["apps.json"]).code, 9);
    let mut bad = bad;
    bad["essential"] = json!(false);
    apps(&home, &json!([bad, {"name": "job", "script": "./job.sh", "autorestart": false}]));
    let running = home.command(&["run", "apps.json"]).spawn().unwrap();
    home.file("go", "");
    let ran = finish(running);
    assert!(ran.out.contains("job done"), "{ran:?}");
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn the_configuration_may_come_in_a_variable() {
    let home = Home::without_daemon();
    home.script("app.sh", "echo from the variable $X; exit 3");
    let mut command = home.command(&["run"]);
    command.env(
        "PMD_APPS",
        json!([{"name": "a", "script": "./app.sh", "autorestart": false, "env": {"X": "1"}}])
            .to_string(),
    );
    let ran = finish(command.spawn().unwrap());
    assert_eq!((ran.out.as_str(), ran.code), ("from the variable 1\n", 3), "{ran:?}");
    let mut command = home.command(&["run"]);
    command.env("PMD_APPS", "[{]");
    finish(command.spawn().unwrap()).failed(6, "PMD_APPS:1:");
}

#[test]
fn told_to_stop_it_ends_with_0_when_the_last_child_is_gone() {
    for signal in [15, 2, 3] {
        let home = Home::without_daemon();
        home.script(
            "app.sh",
            "trap 'echo bye; exit 4' INT; echo up $$; while :; do sleep 0.01; done",
        );
        let mut running = follow(home.command(&[
            "run",
            "app.sh",
            "--kill-timeout",
            "20s",
            "--stop-timeout",
            "60s",
        ]));
        running.until("up");
        running.signal(signal);
        running.until("bye");
        assert_eq!(running.code(), 0, "{signal}");
    }
}

#[test]
fn what_does_not_stop_is_killed_in_time_or_at_the_second_signal() {
    let home = Home::without_daemon();
    home.script("deaf.sh", "trap '' INT TERM; echo $$ up; while :; do sleep 1000; done");
    let started = |limit: &str| {
        let mut running = follow(home.command(&[
            "run",
            "deaf.sh",
            "--kill-timeout",
            "500s",
            "--stop-timeout",
            limit,
        ]));
        let line = running.until("up");
        let pid: i32 = line.split(' ').next().unwrap().parse().unwrap();
        running.signal(15);
        (running, pid)
    };
    let (mut running, pid) = started("200ms");
    assert_eq!(running.code(), 0);
    assert!(!is_alive(pid));
    let (mut running, pid) = started("500s");
    // Another one: two of a kind that wait together are one.
    running.signal(2);
    assert_eq!(running.code(), 0);
    assert!(!is_alive(pid));
}

#[test]
fn signals_for_programs_are_passed_on() {
    let home = Home::without_daemon();
    home.script("app.sh", "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo up; while :; do sleep 0.01; done");
    let mut running = follow(home.command(&["run", "app.sh"]));
    running.until("up");
    for (signal, word) in [(1, "hup"), (10, "usr1"), (12, "usr2")] {
        running.signal(signal);
        running.until(word);
    }
    running.signal(15);
    assert_eq!(running.code(), 0);
}

#[test]
fn orphans_are_reaped() {
    let home = Home::without_daemon();
    home.script(
        "app.sh",
        "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'sleep 0.05' &); done; echo up; exec sleep 1000",
    );
    let mut running = follow(home.command(&["run", "app.sh"]));
    running.until("up");
    let pid = running.child.id();
    until("no zombie is left", || {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().count() == 1
    });
    running.signal(15);
    assert_eq!(running.code(), 0);
}

#[test]
fn nothing_is_written_and_no_home_is_needed() {
    let home = Home::without_daemon();
    home.script("app.sh", "echo ok");
    let empty = home.path("empty");
    fs::create_dir(&empty).unwrap();
    let script = home.path("app.sh");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmd"));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("PMD_HOME", &empty);
    command.current_dir(&empty).args(["run", "--once"]).arg(&script);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ran = finish(command.spawn().unwrap());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "ok\n", ""), "{ran:?}");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn with_control_others_can_look_and_act() {
    let home = Home::without_daemon();
    home.script("app.sh", "echo up; exec sleep 1000");
    let mut running = follow(home.command(&["run", "app.sh", "--control"]));
    running.until("up");
    until("it answers", || home.pmd(&["ping"]).code == 0);
    assert!(home.ok(&["ls"]).out.contains("app"));
    home.ok(&["is-online", "all"]);
    let pid = home.pid("app");
    send(pid, 9);
    home.await_entry("app", |one| one["restarts"] == 1 && one["pid"].is_i64());
    await_gone(pid);
    running.signal(15);
    assert_eq!(running.code(), 0);
}

#[test]
fn an_output_closed_early_does_not_end_it() {
    let home = Home::without_daemon();
    home.script("app.sh", "trap '' PIPE; echo up; while [ ! -e go ]; do sleep 0.01; done; echo more; echo more; exit 6");
    home.script("other.sh", "while [ ! -e go ]; do sleep 0.01; done; echo other");
    for file in ["app.sh", "apps.json"] {
        let _ = fs::remove_file(home.path("go"));
        apps(
            &home,
            &json!([{"name": "a", "script": "./app.sh", "autorestart": false},
            {"name": "b", "script": "./other.sh", "autorestart": false}]),
        );
        let mut child = home.command(&["run", file, "--restart", "never"]);
        if file == "apps.json" {
            child = home.command(&["run", file]);
        }
        let mut child = child.spawn().unwrap();
        drop(child.stdout.take());
        home.file("go", "");
        let mut status = None;
        until("it ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(6), "{file}");
    }
}

#[test]
fn nothing_starts_when_something_is_wrong() {
    let home = Home::without_daemon();
    home.script("app.sh", "touch ran");
    apps(
        &home,
        &json!([{"name": "a", "script": "./app.sh"}, {"name": "b", "script": "./missing.sh"}]),
    );
    run(&home, &["apps.json"]).failed(6, "missing.sh");
    run(&home, &["missing.sh"]).failed(6, "no such file: 'missing.sh'");
    assert!(!home.path("ran").exists());
}

#[test]
fn a_container_opens_the_web_interface_when_it_is_told_to() {
    let home = Home::without_daemon();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = home.command(&["run", "--shell", "exec sleep 1000"]);
    command.arg(format!("--web={address}"));
    let mut running = follow(command);
    until("it answers", || std::net::TcpStream::connect(&address).is_ok());
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    running.signal(15);
    assert_eq!(running.code(), 0);
}
