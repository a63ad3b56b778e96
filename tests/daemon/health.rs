//! Health checks against real servers, scripts and clocks: what is seen, told and done.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::Control;
use crate::harness::{Home, await_gone, is_alive, until};

/// Answers every request with the status it is told to.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
}

/// Takes connections and never says a word.
const SILENT: u16 = 0;

impl Server {
    fn new(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(status));
        let told = status.clone();
        std::thread::spawn(move || {
            let mut silent: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                match told.load(Ordering::Relaxed) {
                    SILENT => silent.push(stream),
                    status => {
                        let _ = stream.read(&mut [0; 1024]);
                        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            }
        });
        Self { port, status }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

fn start(home: &Home, options: &[&str]) {
    home.script("web.sh", "exec sleep 1000");
    home.ok(&[&["start", "web.sh", "--no-wait"], options].concat());
}

fn await_health(home: &Home, health: &str) -> Value {
    home.await_entry("web", |entry| entry["health"] == health)
}

/// Everything that is told of the processes of a home from now on.
fn subscribed(home: &Home) -> Control {
    let mut control = home.control();
    let events = json!({"events": ["process_event", "health_update"]});
    assert_eq!(control.ask("subscribe", &events)["type"], "subscription");
    control
}

#[test]
fn a_server_that_fails_is_told_of_and_restarted() {
    let home = Home::new();
    let server = Server::new(200);
    let mut control = subscribed(&home);
    let url = server.url();
    start(&home, &["--health-http", &url, "--health-interval", "50ms", "--health-retries", "2"]);
    let update = control.until(|message| message["type"] == "health_update");
    let data = &update["data"];
    assert_eq!(
        (&data["process"], &data["status"], &data["previous_status"], &data["check_type"]),
        (&json!("web"), &json!("healthy"), &json!("unknown"), &json!("http"))
    );
    assert_eq!(data["details"]["url"], json!(url));
    assert_eq!(data["details"]["status_code"], 200);
    assert_eq!(data["details"]["error"], Value::Null);
    assert!(data["details"]["response_time"].is_u64(), "{data}");
    assert_eq!((&data["snapshot"], &data["consecutive_failures"]), (&json!(false), &json!(0)));
    home.ok(&["wait", "web", "--for", "healthy"]);
    home.ok(&["is-online", "web"]);
    let list = home.ok(&["ls"]).out;
    assert!(list.contains(" healthy\n"), "{list}");
    let pid = home.pid("web");

    server.answer(503);
    for failures in 1..=2 {
        let failed = control.until(|message| message["data"]["event"] == "health_check_failed");
        let details = &failed["data"]["details"];
        assert_eq!(details["consecutive_failures"], failures);
        assert_eq!(details["retries"], 2);
        assert_eq!(
            (&details["check_type"], &details["error"]),
            (&json!("http"), &json!("status 503"))
        );
    }
    let update = control.until(|message| message["type"] == "health_update");
    assert_eq!(update["data"]["status"], "unhealthy", "{update}");
    assert_eq!(update["data"]["details"]["status_code"], 503);
    server.answer(204);
    let restarted = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(restarted["data"]["details"]["reason"], "health", "{restarted}");
    await_gone(pid);
    control.until(|message| message["data"]["status"] == "healthy");
    let entry = home.entry("web");
    assert_eq!((&entry["restarts"], &entry["health"]), (&json!(1), &json!("healthy")));
    assert_eq!(entry["last_exits"][0]["reason"], "health");
    // Who comes later hears how it is.
    let mut late = home.control();
    late.request("subscribe", &json!({"events": ["health_update"]}));
    let update = late.until(|message| message["type"] == "health_update");
    assert_eq!(
        (&update["data"]["snapshot"], &update["data"]["status"]),
        (&json!(true), &json!("healthy"))
    );
    assert_eq!(update["data"]["previous_status"], Value::Null);
}

#[test]
fn who_is_only_to_be_watched_is_not_restarted() {
    let home = Home::new();
    let server = Server::new(200);
    home.script("web.sh", "exec sleep 1000");
    // As a client of PMDaemon writes it.
    let check = json!({"check_type": {"type": "http", "url": server.url()}, "enabled": true,
        "interval": {"secs": 0, "nanos": 50_000_000}, "timeout": 1, "retries": 1, "on_fail": "none"});
    let config = json!({"name": "web", "script": home.path("web.sh"), "health_check": check});
    let request = json!({"action": "start", "process": "web", "config": config});
    let reply = home.control().ask("command", &request);
    assert_eq!(reply["type"], "command_result", "{reply}");
    await_health(&home, "healthy");
    server.answer(500);
    let entry = await_health(&home, "unhealthy");
    assert_eq!((&entry["status"], &entry["restarts"]), (&json!("online"), &json!(0)));
    assert_eq!(home.pmd(&["is-online", "web"]).code, 1);
    let list = home.ok(&["ls"]).out;
    assert!(list.contains(" unhealthy\n"), "{list}");
    let shown = home.ok(&["show", "web"]).out;
    for text in ["health check", "GET http://127.0.0.1:", "unhealthy (", "status 500", "passed, "] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let doctor = home.pmd(&["doctor"]).out;
    assert!(doctor.contains("web is unhealthy"), "{doctor}");
    let check = &home.entry("web")["health_check"];
    assert_eq!((&check["status"], &check["check_type"]), (&json!("unhealthy"), &json!("http")));
    assert!(check["last_check"].is_string() && check["consecutive_failures"].as_u64() > Some(0));
    server.answer(200);
    await_health(&home, "healthy");
    // A stopped process is not looked at.
    home.ok(&["stop", "web"]);
    assert_eq!(home.entry("web")["health"], "unknown");
}

#[test]
fn readiness_is_the_first_success() {
    let home = Home::new();
    let server = Server::new(503);
    home.script("web.sh", "exec sleep 1000");
    let url = server.url();
    let words = ["start", "web.sh", "--wait-ready", "--health-check-url", &url];
    let ran = home.pmd(&[&words[..], &["--listen-timeout", "600ms"]].concat());
    let first = ran.err.lines().next().unwrap_or_default();
    assert!(
        ran.code == 7
            && first.starts_with(&format!(
                "pmd: error: web is running but unhealthy: GET {url}: status 503 ("
            ))
            && (first.ends_with(" tries)") || first.ends_with(" try)")),
        "{ran:?}"
    );
    assert_eq!(home.entry("web")["ready"], false);
    server.answer(200);
    home.ok(&["wait", "web", "--for", "ready"]);
    // From the start it is online only then.
    server.answer(503);
    let mut control = home.control();
    let restart = json!({"action": "restart", "process": "web", "wait": "none"});
    control.ask("command", &restart);
    assert_eq!(
        home.await_entry("web", |entry| entry["status"] != "stopping")["status"],
        "starting"
    );
    server.answer(200);
    home.await_status("web", "online");
    assert_eq!(home.entry("web")["ready"], true);
}

#[test]
fn who_waits_in_vain_for_health_is_told_why() {
    let home = Home::new();
    start(
        &home,
        &["--health-tcp", "127.0.0.1:1", "--health-interval", "100ms", "--health-retries", "1000"],
    );
    let ran = home.pmd(&["wait", "web", "--for", "healthy", "--timeout", "700ms"]);
    ran.failed(7, "web is running but unhealthy: tcp 127.0.0.1:1: connection refused (");
    home.script("plain.sh", "exec sleep 1000");
    home.ok(&["start", "plain.sh", "--no-wait"]);
    home.pmd(&["wait", "plain", "--for", "healthy"]).failed(2, "plain has no health check");
}

#[test]
fn each_instance_is_looked_at_on_its_own_port() {
    let home = Home::new();
    // Takes the port it is given, and lets anybody connect.
    home.file(
        "web.py",
        "import os, socket\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n\
         while True: s.accept()[0].close()\n",
    );
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let auto = format!("auto:{port}-{}", port.saturating_add(5));
    home.file(
        "pmd.json",
        json!({"apps": [{"name": "web", "script": "./web.py", "instances": 2, "port": auto,
            "health": {"check_type": "tcp"}}]})
        .to_string(),
    );
    home.ok(&["start", "pmd.json"]);
    home.ok(&["wait", "web", "--for", "healthy"]);
    for entry in home.entries("web") {
        assert_eq!(entry["health_check"]["details"]["port"], entry["port"], "{entry}");
        assert_eq!(entry["health_check"]["details"]["host"], "127.0.0.1");
    }
}

#[test]
fn a_script_runs_as_its_app_does_and_ends_with_its_time() {
    let home = Home::new();
    home.script(
        "check.sh",
        "echo \"$PWD $PMD_NAME $PMD_INSTANCE $SECRET\" > seen.tmp; mv seen.tmp seen\n\
         [ -e hang ] && { sleep 1000 & echo $! > sleeper.tmp; mv sleeper.tmp sleeper; wait; }\n\
         exit $(cat code)",
    );
    home.file("code", "0");
    home.script("web.sh", "exec sleep 1000");
    home.file(
        "pmd.json",
        json!({"apps": [{"name": "web", "script": "./web.sh", "env": {"SECRET": "x"},
            "health": {"cmd": "./check.sh", "interval": 0.05, "timeout": 0.4, "retries": 1,
                "on_fail": "none"}}]})
        .to_string(),
    );
    home.ok(&["start", "pmd.json"]);
    let entry = await_health(&home, "healthy");
    assert_eq!(entry["health_check"]["details"]["exit_code"], 0, "{entry}");
    assert_eq!(home.read("seen"), format!("{} web 0 x\n", home.dir.display()));
    home.file("code", "3");
    let entry = await_health(&home, "unhealthy");
    assert_eq!(entry["health_check"]["details"]["exit_code"], 3, "{entry}");
    assert_eq!(entry["health_check"]["details"]["error"], "exit code 3", "{entry}");
    home.file("hang", "");
    let sleeper = home.await_number("sleeper");
    let is_late = |entry: &Value| {
        let error = entry["health_check"]["details"]["error"].as_str().unwrap_or_default();
        error.starts_with("timed out after 400 ms")
    };
    home.await_entry("web", is_late);
    await_gone(sleeper);
    // Neither of a deleted process.
    std::fs::remove_file(home.path("sleeper")).unwrap();
    let sleeper = home.await_number("sleeper");
    home.ok(&["delete", "web"]);
    await_gone(sleeper);
}

#[test]
fn a_script_that_cannot_be_run_has_failed() {
    let home = Home::new();
    home.script("web.sh", "exec sleep 1000");
    home.file(
        "pmd.json",
        json!({"apps": [{"name": "web", "script": "./web.sh", "health": {"interval": 0.05,
            "cmd": ["no-such-program"], "retries": 1, "on_fail": "none"}}]})
        .to_string(),
    );
    home.ok(&["start", "pmd.json"]);
    let entry = await_health(&home, "unhealthy");
    let error = entry["health_check"]["details"]["error"].as_str().unwrap();
    assert_eq!(error, "cannot run it: no such file or directory");
}

/// The daemon waits for no server, no name and no script.
#[test]
fn nothing_waits_for_a_check() {
    let home = Home::new();
    let server = Server::new(SILENT);
    let name = format!("http://no-such-host.invalid:{}/", server.port);
    let never = ["--health-interval", "20ms", "--health-retries", "100000"];
    home.script("web.sh", "exec sleep 1000");
    for (app, check) in [
        ("silent", ["--health-http", &server.url()]),
        ("named", ["--health-http", &name]),
        ("hung", ["--health-cmd", "sleep 1000"]),
    ] {
        let words = [&["start", "web.sh", "--no-wait", "-n", app][..], &check, &never].concat();
        home.ok(&[&words[..], &["--health-timeout", "300ms"]].concat());
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut control = home.control();
    until("each check has failed", || {
        let pong = control.ask("ping", &json!({}));
        assert_eq!(pong["type"], "pong");
        for app in ["silent", "named", "hung"] {
            let entry = home.entry(app);
            if entry["health_check"]["details"]["error"].is_string() {
                seen.insert(app);
            }
        }
        seen.len() == 3
    });
    let error = |app: &str| home.entry(app)["health_check"]["details"]["error"].clone();
    for app in ["silent", "hung"] {
        assert_eq!(error(app), "timed out after 300 ms");
    }
    assert!(error("named").as_str().is_some_and(|error| {
        error.starts_with("name look-up: ") || error.starts_with("timed out")
    }));
    assert_eq!(home.entry("silent")["status"], "online");
    // With checks under way it ends at once all the same.
    let mut home = home;
    assert!(home.end(15).success());
}

#[test]
fn hostile_answers_are_failures() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    start(
        &home,
        &[
            "--health-http",
            &format!("http://localhost:{port}/"),
            "--health-interval",
            "20ms",
            "--health-retries",
            "100000",
            "--health-timeout",
            "2s",
        ],
    );
    let answers: [(&[u8], &str); 5] = [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "status 301"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\n\r\n", "status 404"),
        (&[b'H'; 100], "the answer is no HTTP"),
    ];
    for (answer, error) in answers {
        let mut stream = listener.accept().unwrap().0;
        let mut head = [0; 1024];
        let count = stream.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..count]).into_owned();
        assert!(
            head.starts_with(&format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n")),
            "{head}"
        );
        stream.write_all(answer).unwrap();
        drop(stream);
        home.await_entry("web", |entry| entry["health_check"]["details"]["error"] == error);
    }
    // One that never ends its first line.
    let mut stream = listener.accept().unwrap().0;
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(b"HTTP/1.1 ");
    let endless = [b'2'; 4096];
    for _ in 0..64 {
        if stream.write_all(&endless).is_err() {
            break;
        }
    }
    home.await_entry("web", |entry| {
        let error = entry["health_check"]["details"]["error"].as_str().unwrap_or_default();
        error == "the answer has no end" || error.starts_with("connection reset")
    });
}

#[test]
fn a_dependent_starts_when_the_other_is_healthy() {
    let home = Home::new();
    let server = Server::new(503);
    home.script("run.sh", "exec sleep 1000");
    let apps = json!({"apps": [
        {"name": "db", "script": "./run.sh", "health": {"http": server.url(), "interval": 60}},
        {"name": "app", "script": "./run.sh", "depends_on": {"db": "healthy"}},
    ]});
    home.file("pmd.json", apps.to_string());
    home.ok(&["start", "pmd.json", "--no-wait"]);
    home.await_entry("db", |entry| entry["health_check"]["tries"].as_u64() > Some(1));
    assert_eq!(home.entry("app")["status"], "starting");
    server.answer(200);
    home.await_status("app", "online");
}

#[test]
fn after_the_death_of_the_daemon_health_is_found_out_again() {
    let mut home = Home::new();
    let server = Server::new(200);
    start(&home, &["--health-http", &server.url(), "--health-interval", "1h"]);
    await_health(&home, "healthy");
    let pid = home.pid("web");
    home.murder();
    home.boot();
    await_health(&home, "healthy");
    assert!(is_alive(pid));
    assert_eq!(home.entry("web")["config"]["health"]["interval"], "1h");
}

#[test]
fn tls_is_refused() {
    let home = Home::new();
    home.script("web.sh", "exec sleep 1000");
    let ran = home.pmd(&["start", "web.sh", "--health-http", "https://localhost/"]);
    ran.failed(6, "'health.http' cannot be https: this pmd speaks no TLS");
    assert!(home.entries("all").is_empty());
}
