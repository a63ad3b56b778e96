//! Clients that send nonsense, send nothing, or read nothing: nobody else notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Home, until};
use crate::logs::resident_kib;

/// The daemon answers others, and its child still is the same.
#[track_caller]
fn unmoved(home: &mut Home, pid: i32) {
    assert!(home.is_daemon_up());
    assert_eq!(home.pid("app"), pid);
}

fn with_app() -> (Home, i32) {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let pid = home.pid("app");
    (home, pid)
}

#[test]
fn garbage_is_answered_and_then_hung_up_on() {
    let (mut home, pid) = with_app();
    let mut control = home.control();
    for _ in 0..20 {
        control.raw(b"\xff\xfe nonsense\n");
    }
    for _ in 0..20 {
        let answer = control.line().unwrap();
        assert_eq!(answer["data"]["code"], "INVALID_JSON", "{answer}");
    }
    assert!(control.line().is_none(), "the connection is closed");
    // One good line in between starts the count anew.
    let mut control = home.control();
    for _ in 0..3 {
        for _ in 0..19 {
            control.raw(b"[1]\n\n");
        }
        control.request("ping", &json!({}));
    }
    let pongs = (0..60).filter(|_| control.line().unwrap()["type"] == "pong").count();
    assert_eq!(pongs, 3);
    unmoved(&mut home, pid);
}

#[test]
fn half_a_line_harms_nobody() {
    let (mut home, pid) = with_app();
    let mut control = home.control();
    control.raw(b"{\"type\":\"ping\",");
    unmoved(&mut home, pid);
    control.raw(b"\"id\":7}\r\n");
    assert_eq!(control.line().unwrap()["reply_to"], 7);
    control.raw(b"{\"type\":\"command\",\"data\":{\"action\":\"stop\",\"process\":\"app\"}");
    control.finish_writing();
    assert!(control.line().is_none(), "half a request is none");
    unmoved(&mut home, pid);
}

#[test]
fn a_line_of_more_than_a_mebibyte_is_refused() {
    let (mut home, pid) = with_app();
    let mut control = home.control();
    let mut fits = b"{\"type\":\"ping\",\"id\":1,\"data\":\"".to_vec();
    fits.resize(1024 * 1024 - 3, b'x');
    fits.extend(b"\"}\n");
    assert!(control.raw(&fits));
    assert_eq!(control.line().unwrap()["reply_to"], 1);
    control.raw(&vec![b'x'; 3 * 1024 * 1024]);
    let answer = control.line().unwrap();
    assert_eq!(answer["data"]["code"], "INVALID_MESSAGE", "{answer}");
    assert!(control.line().is_none());
    unmoved(&mut home, pid);
}

#[test]
fn deep_json_and_unknown_types_are_refused() {
    let (mut home, pid) = with_app();
    let mut control = home.control();
    let deep = format!("{{\"type\":\"ping\",\"data\":{}{}}}\n", "[".repeat(5000), "]".repeat(5000));
    control.raw(deep.as_bytes());
    assert_eq!(control.line().unwrap()["data"]["code"], "INVALID_JSON");
    for (kind, data, code) in [
        ("no_such_type", json!({}), "UNKNOWN_TYPE"),
        ("command", json!({"action": "explode", "process": "app"}), "UNKNOWN_ACTION"),
        ("command", json!({"action": "stop", "process": "ap"}), "PROCESS_NOT_FOUND"),
        ("command", json!({"action": "stop", "process": ["app"]}), "INVALID_ARGUMENT"),
        (
            "command",
            json!({"action": "start", "config": {"script": "x", "instances": "many"}}),
            "INVALID_CONFIG",
        ),
        (
            "command",
            json!({"action": "start", "config": {"name": "a/b", "script": "/bin/true"}}),
            "INVALID_CONFIG",
        ),
        ("subscribe", json!({"events": ["no_such_event"]}), "UNKNOWN_EVENT"),
        ("get_info", json!({"processes": ["nobody"]}), "PROCESS_NOT_FOUND"),
    ] {
        let answer = control.ask(kind, &data);
        assert_eq!(answer["data"]["code"], code, "{kind} {data}: {answer}");
    }
    unmoved(&mut home, pid);
}

#[test]
fn hundreds_of_idle_connections_harm_nobody() {
    let (mut home, pid) = with_app();
    let before = resident_kib(home.daemon_pid());
    let mut idle: Vec<_> =
        (0..200).map(|_| UnixStream::connect(home.path("pmd.sock")).unwrap()).collect();
    for stream in &mut idle {
        assert_eq!(stream.read(&mut [0]).unwrap(), 1, "each is greeted");
    }
    let each = (resident_kib(home.daemon_pid()) - before) / 200;
    assert!(each <= 16, "{each} KiB for each");
    unmoved(&mut home, pid);
    drop(idle);
    unmoved(&mut home, pid);
}

#[test]
fn a_client_that_does_not_read_loses_events_and_is_told() {
    let mut home = Home::new();
    home.file(
        "app.py",
        "import os, sys, time\nline = 'x' * 99 + '\\n'\n\
         for i in range(200000):\n  sys.stdout.write(line)\nsys.stdout.flush()\n\
         open('done', 'w').close()\n\
         while not os.path.exists('more'): time.sleep(0.01)\n\
         while True: print('more', flush=True); time.sleep(0.01)\n",
    );
    let mut deaf = home.control();
    deaf.subscribe("log_message");
    home.ok(&["start", "app.py", "--no-wait"]);
    until("it wrote 20 MB", || home.path("done").exists());
    home.ok(&["ping"]);
    let memory = resident_kib(home.daemon_pid());
    assert!(memory < 40_000, "{memory} KiB");
    home.file("more", "");
    let lagged = deaf.until(|message| message["type"] == "lagged");
    assert!(lagged["data"]["dropped"]["log_message"].as_u64().unwrap() > 0, "{lagged}");
    deaf.until(|message| message["data"]["message"] == "more");
    assert!(home.is_daemon_up());
}

#[test]
fn only_so_many_requests_are_in_progress() {
    let (mut home, pid) = with_app();
    let mut control = home.control();
    for _ in 0..80 {
        control.request("wait", &json!({"processes": ["app"], "for": "stopped"}));
    }
    for _ in 64..80 {
        let answer = control.line().unwrap();
        assert_eq!(answer["data"]["code"], "RATE_LIMITED", "{answer}");
    }
    unmoved(&mut home, pid);
    home.ok(&["stop", "app"]);
    for _ in 0..64 {
        assert_eq!(control.line().unwrap()["type"], "done");
    }
    assert_eq!(control.ask("ping", &json!({}))["type"], "pong");
}

#[test]
fn what_a_client_began_goes_on_without_it() {
    let home = Home::new();
    home.script("app.sh", "echo up; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let mut control = home.control();
    control.request("command", &json!({"action": "stop", "process": "app"}));
    drop(control);
    home.await_status("app", "stopped");
    // A subscriber that goes away in the middle, too.
    let mut control = home.control();
    control.subscribe("process_event");
    control.request("command", &json!({"action": "start", "process": "app"}));
    drop(control);
    home.await_status("app", "online");
}

#[test]
fn a_stranger_at_the_socket_is_turned_away() {
    let (mut home, pid) = with_app();
    if !crate::harness::is_root() {
        return;
    }
    std::fs::set_permissions(&home.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let out = std::process::Command::new("python3")
        .args([
            "-c",
            "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n\
            s = socket.socket(socket.AF_UNIX)\n\
            try: s.connect(sys.argv[1])\nexcept PermissionError: print('refused')\n",
        ])
        .arg(home.path("pmd.sock"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "refused\n", "{out:?}");
    unmoved(&mut home, pid);
}

#[test]
fn a_client_that_takes_no_replies_delays_nobody() {
    let (mut home, pid) = with_app();
    let mut greedy = UnixStream::connect(home.path("pmd.sock")).unwrap();
    greedy.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Until the daemon takes no more of them.
    for _ in 0..200_000 {
        if greedy.write_all(b"{\"type\":\"get_info\",\"data\":{},\"id\":1}\n").is_err() {
            break;
        }
    }
    unmoved(&mut home, pid);
    let memory = resident_kib(home.daemon_pid());
    assert!(memory < 60_000, "{memory} KiB");
}
