//! PM2's sockets, spoken to byte by byte. What PM2's own clients do with them is tested in
//! `tests/pm2`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Home, until};
use crate::logs::resident_kib;

/// The two arguments of a message.
type Pair = (Vec<u8>, Vec<u8>);

/// A daemon that has come up altogether: it answers.
fn booted() -> Home {
    let home = Home::new();
    answers(&home);
    home
}

/// PM2's sockets come after pmd's own; when it answers there, they lie where they are to lie.
fn answers(home: &Home) {
    assert_eq!(home.control().ask("ping", &json!({}))["type"], "pong");
}

/// A client of one of the sockets.
struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
    calls: u32,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, unread: Vec::new(), calls: 0 }
    }

    /// The next message; `None`: the connection has ended.
    fn message(&mut self) -> Option<Pair> {
        loop {
            if let Some((pair, length)) = pair(&self.unread) {
                self.unread.drain(..length);
                return Some(pair);
            }
            let mut more = [0; 65536];
            match self.stream.read(&mut more) {
                Ok(0) => return None,
                Ok(length) => self.unread.extend_from_slice(&more[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn send(&mut self, method: &str, args: &Value) -> String {
        self.calls += 1;
        let body = json!({"type": "call", "method": method, "args": args}).to_string();
        let id = format!("{}:{}", std::process::id(), self.calls);
        self.stream.write_all(&request(&body, &id)).unwrap();
        id
    }

    /// The first argument of the reply, or its error.
    fn call(&mut self, method: &str, args: &Value) -> Result<Value, String> {
        let id = self.send(method, args);
        let (body, answered) = self.message().expect("a reply");
        assert_eq!(answered, format!("s:{id}").into_bytes());
        let body: Value = serde_json::from_slice(body.strip_prefix(b"j:").unwrap()).unwrap();
        match body.get("error") {
            Some(error) => Err(error.as_str().unwrap().to_owned()),
            None => Ok(body["args"][0].clone()),
        }
    }

    /// The next event of this name, and what it says.
    fn event(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.message().expect("an event");
            if event == format!("s:{name}").into_bytes() {
                return serde_json::from_slice(data.strip_prefix(b"j:").unwrap()).unwrap();
            }
        }
    }
}

/// The two arguments of the first message in `bytes`, and its length.
fn pair(bytes: &[u8]) -> Option<(Pair, usize)> {
    assert!(bytes.first().is_none_or(|&head| head == 0x12));
    let mut at = 1;
    let mut argument = || {
        let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        let found = bytes.get(at + 4..at + 4 + length)?.to_vec();
        at += 4 + length;
        Some(found)
    };
    let both = (argument()?, argument()?);
    Some((both, at))
}

fn request(body: &str, id: &str) -> Vec<u8> {
    let mut bytes = vec![0x12];
    for argument in [format!("j:{body}"), format!("s:{id}")] {
        bytes.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(argument.as_bytes());
    }
    bytes
}

fn rpc(home: &Home) -> Client {
    Client::connect(&home.path(".pm2/rpc.sock"))
}

fn bus(home: &Home) -> Client {
    Client::connect(&home.path(".pm2/pub.sock"))
}

/// What the `pm2` command would prepare.
fn record(home: &Home, name: &str, script: &str) -> Value {
    let dir = home.dir.to_str().unwrap();
    json!({
        "name": name, "namespace": "default", "pm_exec_path": script, "pm_cwd": dir,
        "exec_interpreter": "none", "exec_mode": "fork_mode", "instances": 1, "merge_logs": true,
        "instance_var": "NODE_APP_INSTANCE", "autorestart": true, "autostart": true,
        "treekill": true, "windowsHide": true, "kill_timeout": 20_000, "node_args": [],
        "pm_out_log_path": format!("{dir}/.pm2/logs/{name}-out.log"),
        "pm_err_log_path": format!("{dir}/.pm2/logs/{name}-error.log"),
        "pm_pid_path": format!("{dir}/.pm2/pids/{name}.pid"),
        "env": {"PATH": "/usr/bin:/bin", "MARK": "x1", "COUNT": 7, "web": {}, "status": "mine"},
    })
}

#[test]
fn the_sockets_are_the_owners_alone_and_go_with_the_daemon() {
    let mut home = booted();
    for name in ["rpc.sock", "pub.sock"] {
        let meta = fs::metadata(home.path(".pm2").join(name)).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(home.path(".pm2")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(home.read(".pm2/pm2.pid"), home.daemon_pid().to_string());
    assert_eq!(rpc(&home).call("ping", &json!([{}])), Ok(json!({"msg": "pong"})));
    let mut listener = bus(&home);
    assert!(home.end(15).success());
    assert_eq!(listener.event("pm2:kill")["status"], "killed");
    for name in ["rpc.sock", "pub.sock", "pm2.pid"] {
        assert!(!home.path(".pm2").join(name).exists(), "{name}");
    }
}

#[test]
fn both_places_where_clients_look_are_served() {
    let mut home = Home::without_daemon();
    let mut command = home.daemon_command();
    command.env("PM2_HOME", home.path("pm2"));
    home.boot_with(command);
    answers(&home);
    for place in ["pm2/rpc.sock", "pm2/.pm2/rpc.sock"] {
        let mut client = Client::connect(&home.path(place));
        assert_eq!(client.call("getVersion", &json!([{}])), Ok(json!("7.0.4")), "{place}");
    }
    // A link from the one to the other is one place.
    assert!(home.end(15).success());
    fs::remove_dir_all(home.path("pm2/.pm2")).unwrap();
    symlink(".", home.path("pm2/.pm2")).unwrap();
    let mut command = home.daemon_command();
    command.env("PM2_HOME", home.path("pm2"));
    home.boot_with(command);
    answers(&home);
    let mut client = Client::connect(&home.path("pm2/.pm2/rpc.sock"));
    assert_eq!(client.call("ping", &json!([{}])), Ok(json!({"msg": "pong"})));
}

#[test]
fn a_living_pm2_is_left_alone_and_a_dead_ones_sockets_are_taken_over() {
    let mut home = Home::without_daemon();
    fs::create_dir(home.path(".pm2")).unwrap();
    let other = UnixListener::bind(home.path(".pm2/rpc.sock")).unwrap();
    home.boot();
    answers(&home);
    let said = home.read("daemon.err");
    let pid = std::process::id();
    assert!(said.contains(&format!("PM2 interface off: a PM2 daemon (pid {pid}) owns")), "{said}");
    assert!(!home.path(".pm2/pub.sock").exists() && !home.path(".pm2/pm2.pid").exists());
    let about = home.control().ask("get_daemon", &json!({}));
    assert_eq!(about["data"]["problems"][0]["code"], "pm2", "{about}");
    assert!(home.end(15).success());
    assert!(home.path(".pm2/rpc.sock").exists(), "it was not ours to remove");
    drop(other);
    home.boot();
    answers(&home);
    assert_eq!(rpc(&home).call("ping", &json!([{}])), Ok(json!({"msg": "pong"})));
}

#[test]
fn the_interface_can_be_switched_off_moved_and_renamed() {
    let mut home = Home::without_daemon();
    let mut command = home.daemon_command();
    command.arg("--no-pm2");
    home.boot_with(command);
    answers(&home);
    assert!(!home.path(".pm2").exists());
    assert!(home.end(15).success());
    home.file("pmd.json", r#"{"pm2": {"enabled": false}}"#);
    home.boot();
    answers(&home);
    assert!(!home.path(".pm2").exists());
    assert!(home.end(15).success());
    let place = home.path("there");
    let settings = json!({"pm2.home": place, "pm2.version": "5.4.3"});
    home.file("pmd.json", settings.to_string());
    home.boot();
    answers(&home);
    let mut client = Client::connect(&home.path("there/rpc.sock"));
    assert_eq!(client.call("getVersion", &json!([{}])), Ok(json!("5.4.3")));
}

#[test]
fn a_prepared_app_runs_as_pm2_would_run_it() {
    let home = booted();
    let script = home.script("app.sh", "env > env.txt; exec sleep 1000");
    let mut client = rpc(&home);
    let started = client.call("prepare", &json!([record(&home, "web", &script)])).unwrap();
    let env = &started[0]["pm2_env"];
    assert_eq!((&env["status"], &env["pm_id"]), (&json!("online"), &json!(0)));
    assert_eq!((&env["COUNT"], &env["env"]["web"]), (&json!(7), &json!({})));
    until("it has written its environment", || home.read("env.txt").contains("pm_exec_path"));
    let variables = home.read("env.txt");
    let has = |line: &str| variables.lines().any(|one| one == line);
    for line in [
        "MARK=x1",
        "COUNT=7",
        "name=web",
        "pm_id=0",
        "NODE_APP_INSTANCE=0",
        "exec_mode=fork_mode",
        "status=launching",
        "restart_time=0",
        "instances=1",
        &format!("pm_exec_path={script}"),
        &format!("unique_id={}", env["unique_id"].as_str().unwrap()),
    ] {
        assert!(has(line), "{line} is not in\n{variables}");
    }
    assert!(!variables.contains("windowsHide") && !variables.contains("web="), "{variables}");
    assert_eq!(home.read(".pm2/pids/web-0.pid"), started[0]["pid"].to_string());
    for name in ["out", "error"] {
        assert!(home.path(&format!(".pm2/logs/web-{name}.log")).exists());
    }
    // And it is pmd's as much as PM2's.
    assert_eq!(home.entry("web")["status"], "online");
    // A client that was told of the end does not find the pid of what has ended.
    client.call("stopProcessId", &json!([0])).unwrap();
    assert!(!home.path(".pm2/pids/web-0.pid").exists());
}

#[test]
fn a_restart_takes_over_what_the_client_gives_it() {
    let home = booted();
    let script = home.script("app.sh", "exec sleep 1000");
    let mut client = rpc(&home);
    client.call("prepare", &json!([record(&home, "web", &script)])).unwrap();
    let asked = json!([{"id": "0", "env": {"NEW": "1", "current_conf": {"name": "api"}}}]);
    let process = client.call("restartProcessId", &asked).unwrap();
    let env = &process["pm2_env"];
    assert_eq!((&env["NEW"], &env["name"]), (&json!("1"), &json!("api")));
    assert_eq!((&env["restart_time"], &env["status"]), (&json!(1), &json!("online")));
    assert!(home.entries("web").is_empty());
    assert_eq!(home.entry("api")["restarts"], 1);
    let list = client.call("getMonitorData", &json!([{}])).unwrap();
    assert_eq!(list[0]["pm2_env"]["env"]["NEW"], "1");
    assert!(list[0]["monit"]["memory"].as_u64().unwrap() > 0);
}

#[test]
fn the_clock_restarts_what_pm2_started_even_when_it_is_stopped() {
    let home = booted();
    let script = home.script("app.sh", "exec sleep 1000");
    let mut client = rpc(&home);
    let mut declared = record(&home, "web", &script);
    declared["cron_restart"] = json!("* * * * * *");
    let first = client.call("prepare", &json!([declared])).unwrap();
    assert_eq!(first[0]["pm2_env"]["cron_restart"], "* * * * * *");
    home.await_entry("web", |entry| entry["restarts"].as_u64() >= Some(1));
    client.call("stopProcessId", &json!([0])).unwrap();
    home.await_status("web", "online");
    // The words of PM2 for: no more.
    let off = json!([{"id": 0, "env": {"current_conf": {"cron_restart": "0"}}}]);
    client.call("restartProcessId", &off).unwrap();
    assert_eq!(home.entry("web")["next_run"], json!(null));
    let mut wrong = record(&home, "bad", &script);
    wrong["cron_restart"] = json!("every day");
    let error = client.call("prepare", &json!([wrong])).unwrap_err();
    assert!(error.contains("'every day' is not a schedule"), "{error}");
}

#[test]
fn what_a_client_declared_outlives_the_daemon() {
    let mut home = booted();
    let script = home.script("app.sh", "exec sleep 1000");
    let mut declared = record(&home, "web", &script);
    declared["custom"] = json!({"a": [1]});
    let first = rpc(&home).call("prepare", &json!([declared])).unwrap();
    home.murder();
    home.boot();
    answers(&home);
    let list = rpc(&home).call("getMonitorData", &json!([{}])).unwrap();
    let (before, after) = (&first[0]["pm2_env"], &list[0]["pm2_env"]);
    assert_eq!(list[0]["pid"], first[0]["pid"]);
    for key in ["custom", "unique_id", "pm_out_log_path", "COUNT", "pm_pid_path", "instances"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert!(home.end(15).success());
    let dump: Value = serde_json::from_str(&home.read(".pm2/dump.pm2")).unwrap();
    assert_eq!((&dump[0]["name"], dump[0].get("pm_id")), (&json!("web"), None));
    let mode = fs::metadata(home.path(".pm2/dump.pm2")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_bus_tells_both_generations_of_clients() {
    let home = booted();
    let script = home.script("app.sh", "echo one; echo two; exec sleep 1000");
    let mut listener = bus(&home);
    let mut client = rpc(&home);
    client.call("prepare", &json!([record(&home, "web", &script)])).unwrap();
    let online = listener.event("process:event");
    assert_eq!((&online["event"], &online["pm2_env"]["name"]), (&json!("online"), &json!("web")));
    assert_eq!(online["process"].get("env"), None);
    assert_eq!(listener.event("process:online")["pm2_env"]["name"], "web");
    let mut text = String::new();
    while !text.contains("two\n") {
        let output = listener.event("log:out");
        assert_eq!(output["process"]["pm_id"], 0);
        text.push_str(output["data"].as_str().unwrap());
    }
    assert_eq!(text, "one\ntwo\n");
    client.call("stopProcessId", &json!([0])).unwrap();
    let exit = listener.event("process:exit");
    assert_eq!((&exit["signal"], &exit["pm_id"]), (&json!("SIGINT"), &json!(0)));
    let notify = json!([{"id": 0, "action_name": "stop", "manually": true}]);
    assert_eq!(client.call("notifyByProcessId", &notify), Ok(json!(null)));
    let mut event = listener.event("process:event");
    while event["event"] == "exit" {
        event = listener.event("process:event");
    }
    assert_eq!((&event["event"], &event["manually"]), (&json!("stop"), &json!(true)));
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let mut home = booted();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let pid = home.pid("app");
    let mut steady = rpc(&home);
    let nonsense: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x12\xff\xff\xff\xff",
        b"\x12\0\0\0\x06j:{\"a\"\0\0\0\x05s:1:1",
        b"\x10",
        &[0x1f; 4096],
    ];
    for bytes in nonsense {
        let mut client = rpc(&home);
        client.stream.write_all(bytes).unwrap();
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        assert!(client.message().is_none(), "{bytes:?}");
    }
    for (method, args) in [
        ("prepare", json!([{"env": {}, "pm_exec_path": {"a": 1}}])),
        ("prepare", json!([{"env": {}, "name": "\u{0}", "pm_exec_path": "/bin/true"}])),
        ("startProcessId", json!([{}])),
        ("stopProcessId", json!([null])),
        ("restartProcessId", json!([[[]]])),
        ("sendSignalToProcessId", json!([{"process_id": 0, "signal": "SIGNONE"}])),
        ("sendLineToStdin", json!([{"pm_id": 0, "line": "x"}])),
        ("msgProcess", json!([{"id": 0, "msg": null}])),
    ] {
        assert!(steady.call(method, &args).is_err(), "{method}{args}");
    }
    // Nothing that a stranger names is signalled.
    assert_eq!(steady.call("ping", &json!([{}])), Ok(json!({"msg": "pong"})));
    assert!(home.is_daemon_up());
    assert_eq!(home.pid("app"), pid);
}

#[test]
fn a_client_that_reads_nothing_costs_a_bounded_amount() {
    let mut home = booted();
    let flood = "i=0; while [ $i -lt 60000 ]; do echo \"$i 0123456789012345678901234567890123456789\
                 01234567890123456789\"; i=$((i+1)); done; touch done; exec sleep 1000";
    let script = home.script("app.sh", flood);
    let deaf = bus(&home);
    let mut client = rpc(&home);
    // One that asks for much and takes none of it is given up.
    let mut greedy = rpc(&home);
    client.call("prepare", &json!([record(&home, "web", &script)])).unwrap();
    let before = resident_kib(home.daemon_pid());
    for _ in 0..200 {
        greedy.send("getMonitorData", &json!([{}]));
    }
    until("all is written", || home.path("done").exists());
    until("all is moved", || home.read(".pm2/logs/web-out.log").lines().count() == 60_000);
    let grown = resident_kib(home.daemon_pid()).saturating_sub(before);
    assert!(grown < 16 * 1024, "the daemon grew by {grown} KiB");
    assert_eq!(client.call("ping", &json!([{}])), Ok(json!({"msg": "pong"})));
    assert!(home.is_daemon_up());
    drop(deaf);
}

/// What PM2 saves of an app: without what only its daemon knows.
fn saved(home: &Home, name: &str, script: &str) -> Value {
    let mut record = record(home, name, script);
    record["status"] = json!("online");
    record["restart_time"] = json!(7);
    record.as_object_mut().unwrap().remove("instances");
    record
}

#[test]
fn programs_move_here_from_a_saved_list() {
    let home = Home::without_daemon();
    let script = home.script("app.sh", "exec sleep 1000");
    let mut resting = saved(&home, "resting", &script);
    resting["status"] = json!("stopped");
    let broken = json!({"name": "broken", "pm_exec_path": 7});
    let module = json!({"name": "module", "pmx_module": true});
    let dump = json!([saved(&home, "web", &script), resting, broken, module]);
    home.file(".pm2/dump.pm2", dump.to_string());
    let (document, code) = home.json(&["resurrect", "--from-pm2"]);
    assert_eq!(code, 6, "{document}");
    let results = document["results"].as_array().unwrap();
    assert_eq!(results.len(), 3, "{document}");
    assert_eq!((&results[2]["name"], &results[2]["ok"]), (&json!("broken"), &json!(false)));
    let list = rpc(&home).call("getMonitorData", &json!([{}])).unwrap();
    let states: Vec<_> =
        list.as_array().unwrap().iter().map(|it| &it["pm2_env"]["status"]).collect();
    assert_eq!(states, ["online", "stopped"]);
    assert_eq!(list[0]["pm2_env"]["restart_time"], 0);
    // Once more, nothing is left to be moved but what cannot be.
    fs::write(home.path(".pm2/dump.pm2"), "[]").unwrap();
    home.file(".pm2/dump.pm2.bak", json!([saved(&home, "web", &script)]).to_string());
    let (document, code) = home.json(&["resurrect", "--from-pm2"]);
    assert_eq!((&document["results"], code), (&json!([]), 0));
    home.ok(&["kill", "-y"]);
    until("its sockets are gone", || !home.path(".pm2/rpc.sock").exists());
}

#[test]
fn without_a_list_there_is_nothing_to_move() {
    let home = Home::without_daemon();
    let ran = home.pmd(&["resurrect", "--from-pm2"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("PM2 has saved nothing at"), "{ran:?}");
    assert!(!home.path("pmd.sock").exists(), "no daemon was started for it");
}

#[test]
fn under_pm2s_name_it_does_as_pm2_does() {
    let mut home = Home::without_daemon();
    fs::create_dir(home.path("bin")).unwrap();
    let ran = home.ok(&["install-links", "bin"]);
    assert!(ran.out.contains("pm2-runtime -> "), "{ran:?}");
    home.ok(&["install-links", "bin"]);
    fs::remove_file(home.path("bin/pm2-docker")).unwrap();
    home.file("bin/pm2-docker", "mine");
    let refused = home.pmd(&["install-links", "bin"]);
    assert_eq!(refused.code, 1);
    assert_eq!(home.read("bin/pm2-docker"), "mine");
    home.script("app.sh", "exec sleep 1000");
    let pm2 = |words: &[&str]| home.run(home.command_of(&home.path("bin/pm2"), words));
    // Any command brings a daemon up, and what fails is 1.
    assert_eq!(pm2(&["ls"]).code, 0);
    assert_eq!(pm2(&["stop", "nosuch"]).code, 1);
    assert_eq!(pm2(&["nonsense"]).code, 1);
    assert_eq!(pm2(&["start", "app.sh", "--no-wait"]).code, 0);
    let pid = home.pid("app");
    assert_eq!(pm2(&["id", "app"]).out, "[ 0 ]\n");
    assert_eq!(pm2(&["pid", "app"]).out, format!("{pid}\n"));
    let page = pm2(&["describe", "app"]).out;
    assert!(page.contains("Describing process with id 0 - name app"), "{page}");
    assert!(page.contains("│ exec mode         │ fork_mode"), "{page}");
    assert!(pm2(&["prettylist"]).out.contains("name: 'app'"));
    assert_eq!(pm2(&["start", "app", "--no-wait"]).code, 0);
    until("it was started anew", || home.entry("app")["restarts"] == 1);
    let jlist: Value = serde_json::from_str(&pm2(&["jlist"]).out).unwrap();
    assert_eq!(jlist[0]["pm2_env"]["restart_time"], 1);
    home.ok(&["kill", "-y"]);
    home.script("short.sh", "echo hello; exit 3");
    let runtime = home.path("bin/pm2-runtime");
    let ran = home.run(home.command_of(&runtime, &["start", "short.sh", "--no-autorestart"]));
    assert_eq!((ran.out.as_str(), ran.code), ("hello\n", 3), "{ran:?}");
    assert!(!home.is_daemon_up());
}
