//! Log lines and events.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{World, event, exists_soon, reply, usual};

const AT: &str = "2024-01-15T14:30:25.123Z";

/// Has two lines, and when somebody follows, sends one more and an event.
fn chatty(request: &Value) -> Vec<Value> {
    let line = |stream: &str, message: &str| {
        json!({"timestamp": AT, "process": "db", "id": 0, "instance": 0, "stream": stream,
            "level": "info", "message": message, "partial": false})
    };
    match request["type"].as_str() {
        Some("get_logs") => {
            let lines = [line("stdout", "one"), line("stderr", "\u{1b}[31mtwo\u{1b}[0m\u{7}")];
            reply("logs", json!({"lines": lines, "truncated": false}))
        }
        Some("subscribe") => {
            let mut all = reply("subscription", json!({"events": {}}));
            all.push(event("log_message", AT, line("stdout", "three")));
            all.push(event(
                "process_event",
                AT,
                json!({"event": "crashed", "process": "db", "id": 0, "instance": 0,
                    "details": {"exit_code": 3, "uptime": 41, "restart_in": 150}}),
            ));
            all
        }
        Some("get_events") => reply(
            "events",
            json!({"events": [{"event": "started", "process": "db", "id": 0, "instance": 0,
                "details": {"pid": 7}, "timestamp": AT}]}),
        ),
        _ => usual(request),
    }
}

#[test]
fn last_lines_are_printed_with_their_marks() {
    let world = World::with_daemon(chatty);
    let ran = world.run(&["logs", "db", "--no-follow", "--no-time"]);
    assert_eq!((ran.out.as_str(), ran.code), ("db | one\ndb ! two\\u{7}\n", 0), "{ran:?}");
    let raw = world.run(&["logs", "db", "--nostream", "--raw"]);
    assert_eq!(raw.out, "one\n\u{1b}[31mtwo\u{1b}[0m\u{7}\n");
    let json = world.run(&["logs", "db", "--nostream", "--json"]);
    let lines: Vec<Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["message"], json.err.as_str()), (2, &json!("one"), ""));
}

#[test]
fn what_is_wanted_of_the_logs_is_asked_of_the_daemon() {
    let world = World::with_daemon(chatty);
    world.run(&[
        "logs",
        "db",
        "--nostream",
        "-n",
        "3",
        "--err",
        "--grep",
        "x",
        "--since",
        "2024-01-15T14:30:25Z",
    ]);
    let asked = &world.asked_data("get_logs")[0];
    assert_eq!(asked["processes"], json!(["db"]));
    assert_eq!((&asked["lines"], &asked["stream"]), (&json!(3), &json!("stderr")));
    assert_eq!(
        (&asked["grep"], &asked["since"]),
        (&json!("x"), &json!("2024-01-15T14:30:25.000Z"))
    );
    assert_eq!(world.run(&["logs", "nosuch", "--nostream"]).code, 3);
    world.run(&["logs", "--since", "soon"]).told(
        2,
        &[
            "pmd: error: logs: '--since soon' is not a duration or time",
            "  try:  10m, 2h, 14:30, '2026-01-15 14:30' or 2026-01-15T14:30:00Z",
        ],
    );
}

#[test]
fn following_ends_with_130_when_it_is_interrupted() {
    let world = World::with_daemon(chatty);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = interruptible(world.command(&["logs", "db", "--no-time"])).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "db | three");
        assert_eq!(
            lines.next().unwrap().unwrap(),
            "db * exit code 3 after 41 ms, restart in 150 ms"
        );
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    assert_eq!(world.asked_data("subscribe")[0]["backlog"], 15);
}

/// A shell starts what runs in the background with SIGINT ignored, these tests perhaps, and the
/// program would inherit that.
fn interruptible(command: Command) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        env.current_dir(dir);
    }
    env.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    env
}

#[test]
fn a_daemon_that_ends_is_told_to_who_follows() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("subscribe") => {
            let mut all = reply("subscription", json!({}));
            all.push(json!({"type": "END"}));
            all
        }
        _ => usual(request),
    });
    let ran = world.run(&["logs", "db"]);
    assert_eq!((ran.err.as_str(), ran.code), ("pmd: error: the daemon has ended\n", 4));
}

#[test]
fn the_daemons_own_log_is_read_without_a_daemon() {
    let world = World::new();
    let ran = world.run(&["logs", "--daemon", "--no-follow"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
    world.file("logs/pmd.log", &lines);
    assert!(exists_soon(&world.dir.join("logs/pmd.log")));
    let ran = world.run(&["logs", "--daemon", "--no-follow", "-n", "2"]);
    assert_eq!((ran.out.as_str(), ran.code), ("line 98\nline 99\n", 0), "{ran:?}");
}

#[test]
fn events_are_sentences_or_objects() {
    let world = World::with_daemon(chatty);
    let ran = world.run(&["events", "db"]);
    assert!(ran.out.ends_with(" db * started, pid 7\n"), "{ran:?}");
    let json = world.run(&["events", "--json"]).json();
    assert_eq!((&json["event"], &json["timestamp"]), (&json!("started"), &json!(AT)));
}
