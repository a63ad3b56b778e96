//! A directory of its own, the program in it, and a daemon that says what the test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A place to work in. Ended daemons and files go with it.
pub struct World {
    pub dir: PathBuf,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

/// How a scripted daemon answers: the messages for one request. `reply_to` is put in.
pub type Answers = fn(&Value) -> Vec<Value>;

impl World {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pmd-cli-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, asked: Arc::default() }
    }

    /// With a daemon that answers so. Every connection is greeted first.
    pub fn with_daemon(answers: Answers) -> Self {
        let world = Self::new();
        let listener = UnixListener::bind(world.dir.join("pmd.sock")).unwrap();
        let (asked, dir) = (world.asked.clone(), world.dir.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, dir) = (asked.clone(), dir.clone());
                std::thread::spawn(move || serve(stream, answers, &asked, &dir));
            }
        });
        world
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmd"));
        command
            .args(words)
            .current_dir(&self.dir)
            .env("PMD_HOME", &self.dir)
            .env("PMD_WEB", "off")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in
            ["PMD_SOCKET", "PM2_HOME", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS"]
        {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        finish(self.command(words).spawn().unwrap())
    }

    pub fn run_with_stdin(&self, words: &[&str], text: &str) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        finish(child)
    }

    /// What the daemon was asked, in order.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// The `data` of the requests of one type.
    pub fn asked_data(&self, kind: &str) -> Vec<Value> {
        let asked = self.asked();
        asked.iter().filter(|one| one["type"] == kind).map(|one| one["data"].clone()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Ran {
    /// The one JSON document on stdout; nothing may be on stderr.
    pub fn json(&self) -> Value {
        assert_eq!(self.err, "");
        assert!(self.out.ends_with('\n') && !self.out.ends_with("\n\n"), "{:?}", self.out);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {:?}", self.out))
    }

    /// Asserts an error: its exit code and its lines; nothing may be on stdout.
    #[track_caller]
    pub fn told(&self, code: i32, lines: &[&str]) {
        let err: Vec<&str> = self.err.lines().collect();
        assert_eq!((self.out.as_str(), self.code, err), ("", code, lines.to_vec()), "{self:?}");
    }
}

pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn serve(stream: UnixStream, answers: Answers, asked: &Mutex<Vec<Value>>, dir: &Path) {
    let mut writer = stream.try_clone().unwrap();
    let hello = json!({"type": "hello", "data": {"server": "pmd", "pid": 811, "owner": true,
        "version": env!("CARGO_PKG_VERSION"), "home": "/somewhere"}});
    if writeln!(writer, "{hello}").is_err() {
        return;
    }
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        asked.lock().unwrap().push(request.clone());
        for mut message in answers(&request) {
            if message["type"] == "END" {
                if message["late"] == true {
                    // Whoever does not wait for the end of the connection is gone by then.
                    std::thread::park_timeout(std::time::Duration::from_millis(200));
                    std::fs::write(dir.join("ended"), "").unwrap();
                }
                return;
            }
            if message.get("event").is_none() {
                message["reply_to"] = request["id"].clone();
            }
            if writeln!(writer, "{message}").is_err() {
                return;
            }
        }
    }
}

/// A reply.
pub fn reply(kind: &str, data: Value) -> Vec<Value> {
    vec![json!({"type": kind, "data": data})]
}

/// An event: a message that answers nothing.
pub fn event(kind: &str, timestamp: &str, data: Value) -> Value {
    json!({"type": kind, "data": data, "timestamp": timestamp, "event": true})
}

pub fn error(code: &str, message: &str, details: Value) -> Vec<Value> {
    reply("error", json!({"code": code, "message": message, "details": details}))
}

/// Entries of `process_info`: a database, and an API of two instances of which one waits.
pub fn processes() -> Value {
    json!([
        {"id": 0, "name": "db", "namespace": "default", "instance": 0, "status": "online",
         "pid": 901, "cpu": 0.4, "memory_tree": 50_436_506, "uptime": 525_600_000, "restarts": 0,
         "ready": true, "retry_in": null},
        {"id": 1, "name": "api", "namespace": "default", "instance": 0, "status": "online",
         "pid": 4242, "cpu": 3.1, "memory_tree": 62 << 20, "uptime": 7_860_000, "restarts": 0,
         "ready": true, "retry_in": null},
        {"id": 2, "name": "api", "namespace": "default", "instance": 1, "status": "restarting",
         "pid": null, "uptime": 0, "restarts": 7, "ready": false, "retry_in": 900,
         "exit_code": 3, "unstable_restarts": 7, "max_restarts": 16},
    ])
}

/// A daemon with [`processes`], which knows them by name and by id.
pub fn usual(request: &Value) -> Vec<Value> {
    if request["type"] != "get_info" {
        return error("UNKNOWN_TYPE", "not part of this test", json!({}));
    }
    let all = processes();
    let Some(targets) = request["data"]["processes"].as_array() else {
        return reply("process_info", json!({"processes": all}));
    };
    let mut found = Vec::new();
    for target in targets.iter().filter_map(Value::as_str) {
        let named: Vec<Value> = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| {
                target == "all"
                    || one["name"] == target
                    || one["id"] == target.parse::<u64>().unwrap_or(u64::MAX)
            })
            .cloned()
            .collect();
        if named.is_empty() {
            return not_found(target);
        }
        found.extend(named);
    }
    reply("process_info", json!({"processes": found}))
}

pub fn not_found(target: &str) -> Vec<Value> {
    let message = format!("no process named '{target}'");
    error(
        "PROCESS_NOT_FOUND",
        &message,
        json!({"process": target, "suggestion": "web",
        "hint": "did you mean 'web'? (pmd ls)"}),
    )
}

/// Whether a file comes to be; for what another process makes.
pub fn exists_soon(path: &Path) -> bool {
    for _ in 0..2000 {
        if path.exists() {
            return true;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    false
}
