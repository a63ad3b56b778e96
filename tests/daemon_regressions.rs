//! The real daemon, driven over its control socket: what went wrong once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// A daemon with a home of its own, ended and removed with the value.
struct Daemon {
    process: Child,
    home: PathBuf,
}

impl Daemon {
    fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pmd-regressions-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        fs::create_dir_all(&home).unwrap();
        let process = Self::spawn(&home);
        Self { process, home }
    }

    fn spawn(home: &Path) -> Child {
        let (reader, writer) = std::io::pipe().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_pmd"))
            .args(["daemon", "--foreground", "--no-web", "--home"])
            .arg(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(reader).lines();
        let up = lines.by_ref().map_while(Result::ok).any(|line| line.contains(" is up "));
        assert!(up, "the daemon did not come up");
        // Its later words go nowhere, but it must not be stopped by a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        process
    }

    /// Ends it as the kernel would, and starts the next one in the same home. `between`: what
    /// happens while there is none.
    fn crash(&mut self, between: impl FnOnce(&Path)) {
        // The keeper, with which the daemon dies.
        let keeper = self.process.id();
        let below = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for pid in below.split_whitespace() {
            while is_pmd(pid) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        between(&self.home);
        self.process = Self::spawn(&self.home);
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(self.home.join("pmd.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Client { lines: BufReader::new(stream) };
        assert_eq!(client.next()["type"], "hello");
        client
    }
}

/// Whether a process is there and executes pmd.
fn is_pmd(pid: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_pmd")))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let mut client = self.client();
        client.send(&json!({"type": "shutdown", "data": {}, "id": "end"}));
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.lines.get_mut().write_all(bytes).unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Sends a request and waits for its answer; passes over events.
    fn ask(&mut self, kind: &str, data: &Value) -> Value {
        self.send(&json!({"type": kind, "data": data, "id": "ask"}));
        loop {
            let message = self.next();
            if message["reply_to"] == "ask" {
                return message;
            }
        }
    }

    /// Starts a shell script as an app and waits until it is up.
    fn start(&mut self, mut config: Value, script: &str) -> Value {
        config["script"] = "/bin/sh".into();
        config["cwd"] = "/".into();
        config["args"] = json!(["-c", script]);
        let reply = self.ask("command", &json!({"action": "start", "config": config}));
        assert_eq!(reply["type"], "command_result", "{reply}");
        reply["data"]["results"][0].clone()
    }

    fn info(&mut self, name: &str) -> Value {
        let reply = self.ask("get_info", &json!({"process": name}));
        reply["data"]["processes"][0].clone()
    }
}

#[test]
fn every_request_of_a_long_burst_is_answered_without_anything_else_happening() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let burst: String =
        (0..500).map(|id| format!("{}\n", json!({"type": "ping", "id": id}))).collect();
    client.write(burst.as_bytes());
    for id in 0..500 {
        assert_eq!(client.next()["reply_to"], id);
    }
}

#[test]
fn many_short_lines_at_once_are_no_line_that_is_too_long() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let mut writer = client.lines.get_ref().try_clone().unwrap();
    let burst = "{\"type\":\"ping\"}\n".repeat(100_000);
    let writing = std::thread::spawn(move || writer.write_all(burst.as_bytes()));
    let mut client = client;
    for _ in 0..100_000 {
        assert_eq!(client.next()["type"], "pong");
    }
    writing.join().unwrap().unwrap();
}

/// The variables of a process, one a line.
fn environment(pid: &Value) -> String {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits for something that will be true, or the test hangs until its runner gives up.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_true() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

#[test]
fn a_reload_of_an_adopted_child_leaves_the_programs_of_its_successor_alone() {
    let mut daemon = Daemon::start();
    let note = daemon.home.join("workers");
    // Each life has a worker that leads a session of its own.
    let script = format!(
        "setsid sleep 1000 & echo $! >> {}; printf '\\n' >&3; exec 3>&-; wait",
        note.display()
    );
    let config = json!({"name": "web", "wait_ready": true, "notification_fd": 3});
    let first = daemon.client().start(config, &script);
    daemon.crash(|_| ());
    let mut client = daemon.client();
    let adopted = client.info("web");
    assert_eq!(adopted["pid"], first["pid"]);
    let reply = client.ask("command", &json!({"action": "reload", "process": "web"}));
    assert_eq!(reply["data"]["ok"], true, "{reply}");
    let second = client.info("web");
    assert_ne!(second["pid"], first["pid"]);
    assert_eq!(second["status"], "online");
    let workers = fs::read_to_string(&note).unwrap();
    let workers: Vec<&str> = workers.lines().collect();
    assert!(!is_alive(workers[0]), "the old worker is swept");
    assert!(is_alive(workers[1]), "the new worker is not");
    let named = second["pid"].to_string();
    until("the pid file names the new child", || {
        let text = fs::read_to_string(daemon.home.join("pids/web.pid")).unwrap_or_default();
        text.trim() == named
    });
    // The next daemon must know it, too: by the cookie it really has.
    assert!(environment(&second["pid"]).contains("PMD_COOKIE="));
    daemon.crash(|_| ());
    assert_eq!(daemon.client().info("web")["pid"], second["pid"]);
}

#[test]
fn logs_outlive_a_later_deletion_if_the_one_that_wanted_them_gone_was_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.start(json!({"name": "base"}), "echo kept; exec sleep 1000");
    client.start(json!({"name": "web", "depends_on": ["base"]}), "exec sleep 1000");
    let log = daemon.home.join("logs/base-out.log");
    until("the line is in the log", || fs::read_to_string(&log).is_ok_and(|text| text == "kept\n"));
    let purge = json!({"action": "delete", "process": "base", "purge_logs": true});
    assert_eq!(client.ask("command", &purge)["type"], "error");
    let both = json!({"action": "delete", "processes": ["web", "base"]});
    assert_eq!(client.ask("command", &both)["data"]["ok"], true);
    assert_eq!(fs::read_to_string(&log).unwrap(), "kept\n");
}

#[test]
fn a_child_that_is_replaced_goes_on_logging_when_its_files_get_other_names() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let script = "trap 'echo farewell; exit' INT TERM; echo first; printf '\\n' >&3; \
        while :; do sleep 0.05; done";
    let config = json!({"name": "web", "wait_ready": true, "notification_fd": 3});
    client.start(config.clone(), script);
    let other = daemon.home.join("other.log");
    let mut config = config;
    config["script"] = "/bin/sh".into();
    config["cwd"] = "/".into();
    config["args"] = json!(["-c", script]);
    config["out_file"] = other.to_string_lossy().into();
    let reply = client.ask("apply", &json!({"configs": [config]}));
    assert_eq!(reply["type"], "plan", "{reply}");
    let old = daemon.home.join("logs/web-out.log");
    until("the last words are there", || {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        text(&old) == "first\n" && text(&other).contains("farewell\n")
    });
}

#[test]
fn a_state_that_cannot_be_read_ends_no_service() {
    let mut daemon = Daemon::start();
    let pid = daemon.client().start(json!({"name": "web"}), "exec sleep 1000")["pid"].to_string();
    daemon.crash(|home| {
        fs::write(home.join("state.json"), "garbage").unwrap();
        fs::write(home.join("state.json.bak"), "garbage").unwrap();
    });
    assert_eq!(daemon.client().info("web"), Value::Null);
    assert!(is_alive(&pid));
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
}

#[test]
fn the_news_of_a_crash_tell_each_step_as_it_was() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let was =
        client.start(json!({"name": "web", "min_uptime": 0}), "exec sleep 1000")["pid"].clone();
    client.ask("subscribe", &json!({"events": ["process_event", "process_status"]}));
    assert!(Command::new("kill").args(["-9", &was.to_string()]).status().unwrap().success());
    let mut news = || loop {
        let message = client.next();
        let data = message["data"].clone();
        if data["snapshot"] != true {
            let word = if message["type"] == "process_event" { "event" } else { "status" };
            return (data[word].as_str().unwrap().to_owned(), data);
        }
    };
    let (word, crashed) = news();
    assert_eq!((word.as_str(), &crashed["details"]["pid"]), ("crashed", &was));
    assert_eq!(crashed["details"]["signal"], "SIGKILL");
    let (word, restarting) = news();
    assert_eq!((word.as_str(), &restarting["pid"]), ("restarting", &Value::Null));
    assert_eq!(
        (&restarting["restarts"], &restarting["previous_status"]),
        (&0.into(), &"online".into())
    );
    let (word, online) = news();
    assert_eq!((word.as_str(), &online["previous_status"]), ("online", &"restarting".into()));
    assert_eq!(online["restarts"], 1);
    let (word, restarted) = news();
    assert_eq!((word.as_str(), &restarted["details"]["pid"]), ("restarted", &online["pid"]));
}

#[test]
fn a_plan_shows_no_secret() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let config = |token: &str| {
        json!({"name": "web", "script": "/bin/sh", "cwd": "/", "args": ["-c", "exec sleep 1000"],
               "env": {"TOKEN": token, "PLAIN": token.len()}})
    };
    let start = json!({"action": "start", "config": config("hunter2")});
    assert_eq!(client.ask("command", &start)["type"], "command_result");
    let plan = client.ask("apply", &json!({"configs": [config("swordfish")], "dry_run": true}));
    let expected = json!([{"field": "env", "old": {"TOKEN": "***", "PLAIN": "7"},
                           "new": {"TOKEN": "***", "PLAIN": "9"}}]);
    assert_eq!(plan["data"]["steps"][0]["changed"], expected);
}

#[test]
fn a_subscriber_is_told_what_it_missed_also_when_nothing_more_happens() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let done = daemon.home.join("done");
    let script = format!(
        "while ! [ -e {0} ]; do sleep 0.05; done; \
         head -c 20000000 /dev/zero | tr '\\0' x | fold -w 100; echo; rm {0}; exec sleep 1000",
        done.display()
    );
    client.start(json!({"name": "web"}), &script);
    client.ask("subscribe", &json!({"events": ["log_message"]}));
    fs::write(&done, "").unwrap();
    until("everything is written", || !done.exists());
    // Another client's request is answered after what came before it.
    daemon.client().ask("get_logs", &json!({"process": "web", "lines": 1}));
    while client.next()["type"] != "lagged" {}
}

#[test]
fn a_state_that_could_not_be_saved_is_saved_later() {
    let daemon = Daemon::start();
    // A directory in the place of the new file cannot be written, by nobody.
    let in_the_way = daemon.home.join("state.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    let mut client = daemon.client();
    let config = json!({"name": "web", "script": "/bin/sleep", "cwd": "/", "args": ["1000"]});
    let reply = client.ask("command", &json!({"action": "start", "config": config}));
    let warning = reply["data"]["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.starts_with("cannot save state"), "{warning}");
    fs::remove_dir(&in_the_way).unwrap();
    until("the state is saved", || {
        fs::read_to_string(daemon.home.join("state.json")).is_ok_and(|text| text.contains("web"))
    });
}

#[test]
fn a_pid_file_takes_the_place_of_a_link_and_leaves_its_target_alone() {
    let daemon = Daemon::start();
    let (link, target) = (daemon.home.join("link"), daemon.home.join("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let pid = daemon
        .client()
        .start(json!({"name": "web", "pid_file": link.to_string_lossy()}), "exec sleep 1000")["pid"]
        .to_string();
    until("the pid file is written", || {
        fs::read_to_string(&link).is_ok_and(|text| text.trim() == pid)
    });
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_program_that_was_moved_within_its_path_is_found_again() {
    let daemon = Daemon::start();
    let [before, after] = ["a", "b"].map(|name| daemon.home.join(name));
    fs::create_dir(&before).and_then(|()| fs::create_dir(&after)).unwrap();
    let path = format!("{}:{}:/bin:/usr/bin", before.display(), after.display());
    std::os::unix::fs::symlink("/bin/sleep", before.join("snooze")).unwrap();
    let config = json!({
        "name": "moved", "script": "snooze", "args": ["1000"], "interpreter": "none", "cwd": "/",
        "env": {"PATH": path}, "min_uptime": 1,
    });
    let mut client = daemon.client();
    let reply = client.ask("command", &json!({"action": "start", "config": config}));
    let pid = reply["data"]["results"][0]["pid"].as_i64().expect("a pid");
    fs::rename(before.join("snooze"), after.join("snooze")).unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    until("it runs again", || client.info("moved")["pid"].as_i64().is_some_and(|now| now != pid));
    assert_eq!(client.info("moved")["restarts"], 1);
}

/// `pmd run` of two apps, of which one says a lot at the end.
fn run_of_two(talk: &str) -> Child {
    let config = json!([
        {"name": "talker", "script": "/bin/sh", "args": ["-c", talk], "restart": "once"},
        {"name": "other", "script": "/bin/true", "restart": "once"},
    ]);
    Command::new(env!("CARGO_BIN_EXE_pmd"))
        .arg("run")
        .env("PMD_APPS", config.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_slow_reader_of_a_container_gets_the_last_words_too() {
    let talk = "head -c 1000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo the end";
    let mut run = run_of_two(talk);
    let mut output = BufReader::with_capacity(4096, run.stdout.take().unwrap());
    let mut last = String::new();
    let mut line = String::new();
    let mut count = 0;
    while output.read_line(&mut line).unwrap() > 0 {
        count += 1;
        if count % 100 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        last = std::mem::take(&mut line);
    }
    assert_eq!(last, "talker | the end\n");
    assert!(run.wait().unwrap().success());
}

#[test]
fn a_container_ignores_a_signal_that_is_not_for_it() {
    let mut run = run_of_two("echo up; read nothing; sleep 0.5; echo done");
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "talker | up");
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-ALRM", &pid]).status().unwrap().success());
    assert_eq!(lines.next().unwrap().unwrap(), "talker | done");
    assert!(run.wait().unwrap().success());
}
