//! Programs that share what they listen on: Node's workers, with the daemon as their primary, and
//! programs in any language that inherit their sockets.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Home, await_gone, is_root, send, until};

/// Answers with its pid, and goes on when it is told to stop listening.
const SERVER: &str = "
const s = require('http').createServer((q, r) => {
  if (q.url === '/exit') process.exit(3);
  if (q.url === '/close') return r.end('closed', () => s.close());
  const wait = +(q.url.split('=')[1] || 0);
  if (q.url.startsWith('/?hold')) {
    r.write(process.pid + '\\n');
    return setTimeout(() => r.end('done'), wait);
  }
  setTimeout(() => r.end(String(process.pid)), wait);
});
s.listen(/^[0-9]+$/.test(process.env.AT) ? +process.env.AT : process.env.AT, () =>
  require('fs').appendFileSync('listening', process.pid + ' ' + (s.address().port || '') + '\\n'));
setInterval(() => {}, 1000);
";

/// A port that nobody has; another one each time.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let own = usize::try_from(std::process::id()).unwrap() % 1000 * 20;
    loop {
        let at = own + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(at % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One request on a connection of its own; the body.
fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer)
}

fn body(answer: &str) -> io::Result<String> {
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => {
            // In chunks or not: the text is the only line of its kind.
            let word = body.lines().find(|line| line.len() > 1 && !line.starts_with("0"));
            Ok(word.unwrap_or_default().to_owned())
        }
        _ => Err(io::Error::other(format!("no answer: {answer:?}"))),
    }
}

fn start(home: &Home, config: &Value) -> Value {
    let reply = home.control().ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(reply["data"]["ok"], true, "{reply}");
    reply
}

/// A cluster of the server above; waits until all its workers listen.
fn serve(home: &Home, name: &str, at: &str, instances: usize, more: Value) {
    let script = home.file("server.js", SERVER);
    let mut config = json!({"name": name, "script": script, "instances": instances,
        "env": {"AT": at}, "min_uptime": 10});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let before = home.read("listening").lines().count();
    start(home, &config);
    until("all workers listen", || home.read("listening").lines().count() == before + instances);
}

fn pids(home: &Home, name: &str) -> BTreeSet<String> {
    home.entries(name).iter().map(|entry| entry["pid"].to_string()).collect()
}

/// Asks until every worker has answered.
fn await_all(home: &Home, name: &str, ask: impl Fn() -> io::Result<String>) {
    let mut seen = BTreeSet::new();
    until("every worker answers", || {
        seen.insert(ask().unwrap());
        seen == pids(home, name)
    });
}

/// Clients that ask one after the other until they are told to stop.
struct Load {
    go_on: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `clients` with a connection for each request, and as many that keep theirs.
    fn on(port: u16, clients: usize) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let asked = Arc::new(AtomicUsize::new(0));
        let clients = (0..2 * clients)
            .map(|at| {
                let (go_on, asked) = (Arc::clone(&go_on), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let mut failures = vec![];
                    let mut kept = None;
                    while go_on.load(Ordering::Relaxed) {
                        let answer = match at % 2 {
                            0 => get(port, "/?slow=2"),
                            _ => get_kept(port, &mut kept),
                        };
                        asked.fetch_add(1, Ordering::Relaxed);
                        failures.extend(answer.err().map(|error| error.to_string()));
                    }
                    failures
                })
            })
            .collect();
        Self { go_on, asked, clients }
    }

    /// Waits for so many more answers.
    fn pass(&self, count: usize) {
        let end = self.asked.load(Ordering::Relaxed) + count;
        until("requests are answered", || self.asked.load(Ordering::Relaxed) >= end);
    }

    /// What went wrong.
    fn end(self) -> Vec<String> {
        self.go_on.store(false, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// A request on a connection that is kept, as long as the server does not say that it is the last
/// one there.
fn get_kept(port: u16, kept: &mut Option<TcpStream>) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(("127.0.0.1", port))?,
    };
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /?slow=1 HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    let mut chunk = [0; 1024];
    loop {
        let length = stream.read(&mut chunk)?;
        answer.push_str(&String::from_utf8_lossy(&chunk[..length]));
        let is_last = answer.starts_with("HTTP/1.0") || answer.contains("Connection: close");
        if length == 0 {
            return body(&answer);
        }
        if is_last {
            continue;
        }
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let long = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
        if long.is_some_and(|long| long == rest.len().to_string()) || rest.ends_with("0\r\n\r\n") {
            *kept = Some(stream);
            return body(&answer);
        }
    }
}

/// A request whose answer begins at once with the pid of the worker, and ends later.
struct Held {
    pid: String,
    stream: TcpStream,
}

impl Held {
    fn new(port: u16, millis: u32) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /?hold={millis} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        let mut chunk = [0; 1024];
        while !text.ends_with('\n') || !text.contains("\r\n\r\n") {
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
        let pid = text.split_once("\r\n\r\n").unwrap().1.trim().to_owned();
        Self { pid, stream }
    }

    /// Whether it was answered to the end.
    fn served(mut self) -> bool {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).is_ok() && rest == "done"
    }
}

#[test]
fn workers_share_one_port_and_a_crash_of_one_is_nobody_elses() {
    for policy in ["shared", "rr"] {
        let home = Home::new();
        let port = free_port();
        serve(&home, "web", &port.to_string(), 3, json!({"cluster_policy": policy}));
        await_all(&home, "web", || get(port, "/"));
        let list = home.json(&["ls"]).0;
        let modes: Vec<_> = list.as_array().unwrap().iter().map(|it| &it["exec_mode"]).collect();
        assert_eq!(modes, ["cluster_mode"; 3]);
        let mut held = vec![];
        until("two workers have something to do", || {
            held.push(Held::new(port, 1500));
            held.iter().any(|one| one.pid != held[0].pid)
        });
        let victim = held[0].pid.clone();
        send(victim.parse().unwrap(), 9);
        for one in held {
            let (pid, served) = (one.pid.clone(), one.served());
            assert_eq!(served, pid != victim, "{policy}: {pid}, killed: {victim}");
        }
        until("it is back", || home.read("listening").lines().count() == 4);
        await_all(&home, "web", || get(port, "/"));
        assert_eq!(pids(&home, "web").len(), 3);
    }
}

#[test]
fn a_reload_under_load_fails_no_request() {
    for policy in ["shared", "rr"] {
        let home = Home::new();
        let port = free_port();
        serve(&home, "web", &port.to_string(), 2, json!({"cluster_policy": policy}));
        let load = Load::on(port, 4);
        load.pass(50);
        for _ in 0..3 {
            let before = pids(&home, "web");
            let reloaded = home.ok(&["reload", "web"]);
            assert!(!reloaded.out.contains("restarted"), "{reloaded:?}");
            assert!(pids(&home, "web").is_disjoint(&before));
            load.pass(50);
        }
        let failures = load.end();
        assert!(failures.is_empty(), "{policy}: {} failed: {:?}", failures.len(), failures.first());
    }
}

#[test]
fn what_is_begun_is_finished_before_the_old_worker_goes() {
    let home = Home::new();
    let port = free_port();
    serve(&home, "web", &port.to_string(), 1, json!({"kill_timeout": 20_000}));
    let old = home.pid("web");
    let held = Held::new(port, 1000);
    let reloaded = home.ok(&["reload", "web"]);
    assert!(reloaded.out.contains("reloaded"), "{reloaded:?}");
    assert!(held.served());
    assert_ne!(home.pid("web"), old);
    await_gone(old);
    // One that does not finish is stopped all the same.
    home.ok(&["restart", "web", "-k", "100"]);
    home.control().ask(
        "command",
        &json!({"action": "reload", "processes": ["web"],
        "config": {"kill_timeout": 100}}),
    );
    until("it listens again", || get(port, "/").is_ok());
    let old = home.pid("web");
    let held = Held::new(port, 600_000);
    home.ok(&["reload", "web"]);
    assert!(!held.served());
    await_gone(old);
}

#[test]
fn a_cluster_that_does_not_listen_is_reloaded_too() {
    let home = Home::new();
    let script = home.file("worker.js", "setInterval(() => {}, 1000)");
    start(&home, &json!({"name": "w", "script": script, "instances": 2, "min_uptime": 50}));
    let before = pids(&home, "w");
    let reloaded = home.ok(&["reload", "w"]);
    assert!(reloaded.out.contains("reloaded"), "{reloaded:?}");
    assert!(pids(&home, "w").is_disjoint(&before));
    // But one that did, and does not any more, does not take the place.
    let port = free_port();
    serve(&home, "web", &port.to_string(), 1, json!({"listen_timeout": 300}));
    let old = home.pid("web");
    home.file("server.js", "setInterval(() => {}, 1000)");
    home.pmd(&["reload", "web"]).failed(7, "was not ready");
    assert_eq!((home.pid("web").to_string(), old), (get(port, "/").unwrap(), old));
}

#[test]
fn in_round_robin_each_has_its_turn_and_nothing_is_lost_with_a_worker() {
    let home = Home::new();
    let port = free_port();
    serve(
        &home,
        "web",
        &port.to_string(),
        2,
        json!({"env": {
        "AT": port.to_string(), "NODE_CLUSTER_SCHED_POLICY": "rr"}}),
    );
    let served: Vec<String> = (0..10).map(|_| get(port, "/").unwrap()).collect();
    for two in served.windows(2) {
        assert_ne!(two[0], two[1], "{served:?}");
    }
    // One does not even look at its connection, and ends.
    let victim: i32 = served[0].parse().unwrap();
    send(victim, 19);
    let asked: Vec<_> = (0..4).map(|_| std::thread::spawn(move || get(port, "/"))).collect();
    until("the other has served what was its own", || {
        asked.iter().filter(|one| one.is_finished()).count() >= 2
    });
    send(victim, 9);
    for one in asked {
        assert_ne!(one.join().unwrap().unwrap(), victim.to_string());
    }
    // All of them crash: who connects then waits for the next life.
    for entry in home.entries("web") {
        send(i32::try_from(entry["pid"].as_i64().unwrap()).unwrap(), 9);
    }
    get(port, "/").unwrap();
}

#[test]
fn the_socket_outlives_its_programs_as_long_as_they_are_wanted() {
    let home = Home::new();
    let port = free_port();
    serve(&home, "web", &port.to_string(), 2, json!({}));
    let taken = home.pmd(&[
        "start",
        &home.file("second.js", SERVER),
        "--name",
        "second",
        "-i",
        "1",
        "--env",
        &format!("AT={port}"),
    ]);
    taken.failed(8, &format!("port {port} is in use by"));
    home.ok(&["delete", "second"]);
    home.ok(&["scale", "web", "3"]);
    until("the third listens", || home.read("listening").lines().count() == 3);
    await_all(&home, "web", || get(port, "/"));
    home.ok(&["scale", "web", "1"]);
    assert_eq!(get(port, "/").unwrap(), home.pid("web").to_string());
    // While it is restarted nobody is turned away.
    let load = Load::on(port, 1);
    home.ok(&["restart", "web"]);
    load.pass(5);
    let refused = load.end().into_iter().filter(|error| error.contains("refused")).count();
    assert_eq!(refused, 0);
    assert_eq!(get(port, "/close").unwrap(), "closed");
    until("the program has closed it", || TcpStream::connect(("127.0.0.1", port)).is_err());
    home.ok(&["restart", "web"]);
    until("it listens again", || get(port, "/").is_ok());
    home.ok(&["stop", "web"]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn port_0_is_one_port_for_all_and_exclusive_is_not_shared() {
    let home = Home::new();
    serve(&home, "web", "0", 2, json!({}));
    let lines = home.read("listening");
    let ports: BTreeSet<&str> = lines.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(ports.len(), 1, "{lines}");
    let port: u16 = ports.first().unwrap().parse().unwrap();
    await_all(&home, "web", || get(port, "/"));
    let script = home.file(
        "exclusive.js",
        "require('net').createServer()
        .on('error', e => require('fs').writeFileSync('error', e.code + '\\n'))
        .listen({port: +process.env.AT, exclusive: true}); setInterval(() => {}, 1000)",
    );
    start(
        &home,
        &json!({"name": "x", "script": script, "instances": 2,
        "env": {"AT": free_port().to_string()}}),
    );
    assert_eq!(home.await_text("error", "\n"), "EADDRINUSE\n");
}

#[test]
fn unix_sockets_and_datagrams_are_shared_too() {
    for policy in ["shared", "rr"] {
        let home = Home::new();
        let path = home.path("web.sock");
        // What a program left behind that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let at = path.to_str().unwrap().to_owned();
        serve(&home, "web", &at, 2, json!({"cluster_policy": policy}));
        await_all(&home, "web", || {
            let mut stream = UnixStream::connect(&path)?;
            write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            body(&answer)
        });
        home.ok(&["reload", "web"]);
        home.ok(&["stop", "web"]);
        assert!(!path.exists());

        let script = home.file(
            "udp.js",
            "const s = require('dgram').createSocket('udp4');
            s.on('message', (m, r) => s.send(m + ' ' + process.pid, r.port, r.address));
            s.bind(+process.env.AT, '127.0.0.1', () =>
                require('fs').appendFileSync('bound', process.pid + '\\n'))",
        );
        let port = free_port();
        start(
            &home,
            &json!({"name": "udp", "script": script, "instances": 2,
            "cluster_policy": policy, "env": {"AT": port.to_string()}}),
        );
        until("both are bound", || home.read("bound").lines().count() == 2);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        let mut answer = [0; 64];
        let length = client.recv(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let pid = answer.strip_prefix("hello ").unwrap();
        assert!(pids(&home, "udp").contains(pid), "{answer}");
    }
}

#[test]
fn a_program_that_leaves_by_itself_is_let_go() {
    let home = Home::new();
    let script = home.file(
        "leaves.js",
        "const cluster = require('cluster');
        const s = require('net').createServer().listen(0, '127.0.0.1', () => {
          require('fs').appendFileSync('lives', cluster.worker.id + '\\n');
          cluster.worker.disconnect();
        });",
    );
    start(&home, &json!({"name": "w", "script": script, "instances": 1, "restart": "never"}));
    let ended = home.await_status("w", "stopped");
    assert_eq!(ended["exit_code"], 0, "{ended}");
    assert_eq!(home.read("lives").lines().count(), 1);
}

/// A server in Python that takes what it inherits, says so, and reports that it is ready. Told to
/// end it finishes what it has begun.
const INHERITS: &str = r#"
import os, select, signal, socket, sys
fds = int(os.environ['LISTEN_FDS'])
assert int(os.environ['LISTEN_PID']) == os.getpid()
with open('inherited', 'a') as out:
    out.write('%d %s\n' % (fds, os.environ['LISTEN_FDNAMES']))
sockets = [socket.socket(fileno=fd) for fd in range(3, 3 + fds)]
servers = [s for s in sockets if s.type == socket.SOCK_STREAM]
for s in servers:
    s.setblocking(False)
told, tell = socket.socketpair()
tell.setblocking(False)
signal.set_wakeup_fd(tell.fileno())
signal.signal(signal.SIGINT, lambda *_: None)
channel = socket.socket(fileno=int(os.environ['PMD_CHANNEL_FD']))
channel.sendall(b'"ready"\n')
while True:
    ready, _, _ = select.select(servers + [told], [], [])
    for s in ready:
        if s is told:
            sys.exit(0)
        try:
            c, _ = s.accept()
        except BlockingIOError:
            continue
        c.setblocking(True)
        c.recv(4096)
        c.sendall(b'HTTP/1.0 200 OK\r\n\r\n%d\n' % os.getpid())
        c.close()
"#;

#[test]
fn a_program_in_any_language_inherits_what_pmd_listens_on() {
    let mut home = Home::new();
    let port = free_port();
    let (tcp, udp) = (format!("tcp:127.0.0.1:{port}"), format!("udp:{}", free_port()));
    let unix = home.path("web.sock");
    let script = home.file("inherits.py", INHERITS);
    let address = format!("unix:{}", unix.display());
    home.ok(&[
        "start",
        &script,
        "--name",
        "py",
        "--listen",
        &tcp,
        "--listen",
        &udp,
        "--listen",
        &address,
        "--wait-ready",
        "-i",
        "2",
    ]);
    let label = format!("3 tcp-{port}:udp-{}:unix-web.sock", udp.trim_start_matches("udp:"));
    assert_eq!(home.read("inherited"), format!("{label}\n{label}\n"));
    await_all(&home, "py", || get(port, "/"));
    UnixStream::connect(&unix).unwrap();
    // The same sockets over reloads, restarts, crashes.
    let load = Load::on(port, 2);
    for words in [["reload", "py"], ["reload", "py"]] {
        load.pass(10);
        home.ok(&words);
    }
    load.pass(10);
    let failures = load.end();
    assert!(failures.is_empty(), "{failures:?}");
    let patient = std::thread::spawn({
        let pids = pids(&home, "py");
        move || {
            pids.iter().for_each(|pid| send(pid.parse().unwrap(), 9));
            get(port, "/")
        }
    });
    assert!(patient.join().unwrap().is_ok());
    // Another daemon takes them back from the programs.
    home.murder();
    home.boot();
    home.ok(&["reload", "py"]);
    await_all(&home, "py", || get(port, "/"));
    home.ok(&["scale", "py", "3"]);
    await_all(&home, "py", || get(port, "/"));
    home.ok(&["stop", "py"]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!unix.exists());
}

#[test]
fn what_cannot_be_listened_on_is_said() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", taken.local_addr().unwrap());
    let refused = home.pmd(&["start", "sleep", "--name", "s", "--listen", &address, "--", "100"]);
    refused.failed(8, &format!("cannot listen on {address} for 's': "));
    // It is tried again, and works when the other has gone.
    drop(taken);
    home.await_status("s", "online");
    home.pmd(&["start", "sleep", "--listen", "tcp:nowhere"]).failed(6, "'listen' must be");
}

#[test]
fn a_worker_can_be_given_what_the_app_declares() {
    let home = Home::new();
    let port = free_port();
    let script = home.file(
        "given.js",
        "const s = require('http').createServer((q, r) =>
        r.end(String(process.pid))).listen(process.env.FD ? {fd: +process.env.FD} :
        +process.env.AT, () => require('fs').appendFileSync('listening', '\\n'))",
    );
    for (name, env) in [("fd", json!({"FD": "3"})), ("port", json!({"AT": port.to_string()}))] {
        let before = home.read("listening").len();
        start(
            &home,
            &json!({"name": name, "script": script, "instances": 2, "env": env,
            "listen": format!("tcp:{port}")}),
        );
        until("both listen", || home.read("listening").len() == before + 2);
        await_all(&home, name, || get(port, "/"));
        home.ok(&["reload", name]);
        await_all(&home, name, || get(port, "/"));
        home.ok(&["delete", name]);
    }
}

#[test]
fn an_unprivileged_program_has_a_privileged_port_and_no_file_of_the_daemons() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let port = (900..1000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap();
    let script = home.file(
        "low.js",
        "const net = require('net'), id = process.getuid();
        net.createServer(c => c.end('HTTP/1.0 200 OK\\r\\n\\r\\n' + id + ' ' + error + '\\n'))
            .listen(+process.env.AT);
        let error; net.createServer().on('error', e => error = e.code).listen(process.env.UNIX)",
    );
    let path = home.path("low.sock");
    start(
        &home,
        &json!({"name": "low", "script": script, "instances": 2, "user": "nobody",
        "env": {"AT": port.to_string(), "UNIX": path.to_str().unwrap()}}),
    );
    until("it answers", || get(port, "/").is_ok_and(|said| said.ends_with(" EACCES")));
    assert_ne!(get(port, "/").unwrap().split_once(' ').unwrap().0, "0");
    assert!(!path.exists());
    // What the app declares is made for it, and its own.
    let declared = format!("unix:{}", path.display());
    home.ok(&[
        "start", "sleep", "--name", "s", "--uid", "nobody", "--listen", &declared, "--", "9",
    ]);
    let about = std::fs::metadata(&path).unwrap();
    assert_ne!(std::os::unix::fs::MetadataExt::uid(&about), 0);
}

#[test]
fn a_worker_that_says_anything_at_all_is_survived() {
    let home = Home::new();
    let script = home.file(
        "hostile.js",
        r#"const fs = require('fs'), fd = +process.env.PMD_CHANNEL_FD;
        const say = text => { for (;;) try { return fs.writeSync(fd, text); } catch (e) {
            if (e.code !== 'EAGAIN') throw e; } };
        const odd = ['"ack":0,"accepted":true', '"ack":18446744073709551616', '"act":"close"',
            '"act":"close","key":"x","seq":1', '"act":"queryServer"', '"act":["queryServer"],"seq":{}',
            '"act":"queryServer","seq":1,"address":"\u0000","port":-1,"addressType":-1',
            '"act":"queryServer","seq":2,"port":1e9,"addressType":4', '"act":"queryServer","seq":3,"fd":2'];
        for (const members of odd) say(`{"cmd":"NODE_CLUSTER",${members}}\n`);
        for (const cmd of ['ACK', 'NACK', 'ACK']) say(`{"cmd":"NODE_HANDLE_${cmd}"}\n`);
        // It asks for many, reads nothing, and says now and then that nothing came.
        for (let i = 0; i < 3000; i++) {
            say(`{"cmd":"NODE_CLUSTER","act":"queryServer","seq":${i},"index":${i},"port":0,"addressType":4}\n`);
            if (i % 100 == 0) say('{"cmd":"NODE_HANDLE_NACK"}\n{"cmd":"NODE_HANDLE_ACK"}\n');
        }
        fs.writeFileSync('said', '\n');
        for (;;);"#,
    );
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", home.daemon_pid())).unwrap().count();
    let before = descriptors();
    for policy in ["shared", "rr"] {
        start(
            &home,
            &json!({"name": policy, "script": script, "instances": 1,
            "cluster_policy": policy, "kill_timeout": 100}),
        );
        home.await_text("said", "\n");
        until("all of it was heard", || descriptors() > before + 200);
        assert!(descriptors() < before + 300, "{}", descriptors());
        home.ok(&["delete", policy]);
        std::fs::remove_file(home.path("said")).unwrap();
    }
    until("all of it is closed", || descriptors() <= before + 2);
}

#[test]
fn a_cluster_is_back_after_the_death_of_the_daemon() {
    let mut home = Home::new();
    let port = free_port();
    serve(&home, "web", &port.to_string(), 2, json!({}));
    home.murder();
    home.boot();
    until("it answers again", || get(port, "/").is_ok());
    until("both do", || pids(&home, "web").len() == 2 && !pids(&home, "web").contains("null"));
    await_all(&home, "web", || get(port, "/"));
}
