//! The keeper: whatever becomes of the daemon, and whatever ends meanwhile.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Home, await_gone, is_alive, send, until};

/// The daemon is killed, and its keeper cannot start another before the value is dropped.
struct Gap(i32);

impl Gap {
    fn of(home: &Home) -> Self {
        let (keeper, daemon) = (home.first_pid(), home.daemon_pid());
        send(keeper, 19);
        until("the keeper has stopped", || state(keeper) == Some('T'));
        send(daemon, 9);
        until("the daemon is dead", || state(daemon) == Some('Z'));
        Self(keeper)
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        send(self.0, 18);
    }
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Ended processes that nobody has reaped, among the children of `parent`.
fn zombies(parent: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter(|pid| state(pid.parse().unwrap()) == Some('Z')).count()
}

#[test]
fn a_daemon_that_dies_is_started_again_and_goes_on_where_it_was() {
    let mut home = Home::new();
    home.script(
        "app.sh",
        "echo up; while [ ! -e say ]; do sleep 0.01; done; echo said; exec sleep 1000",
    );
    home.ok(&["start", "app.sh"]);
    let (pid, keeper) = (home.pid("app"), home.first_pid());
    for round in 0..3 {
        let daemon = home.daemon_pid();
        home.crash();
        assert_eq!((home.pid("app"), home.first_pid()), (pid, keeper));
        assert_ne!(home.daemon_pid(), daemon);
        assert_eq!(home.read("daemon.err").matches("adopted 1").count(), round + 1);
    }
    assert!(home.read("daemon.err").contains("the daemon before this one: killed by SIGKILL"));
    home.file("say", "");
    home.await_text("logs/app-out.log", "said\n");
    assert_eq!(home.read("logs/app-out.log"), "up\nsaid\n");
    // It is supervised as before, though its parent is the keeper now.
    send(pid, 9);
    let entry = home.await_entry("app", |one| one["restarts"] == 1 && one["pid"].is_i64());
    assert_eq!(entry["last_exits"][0]["signal"], "SIGKILL", "{entry}");
    assert!(home.end(15).success());
    assert!(!is_alive(keeper));
}

#[test]
fn last_words_and_exit_status_of_what_ended_meanwhile_are_known() {
    let home = Home::new();
    let wait = "while [ ! -e go ]; do sleep 0.01; done";
    home.script("words.sh", &format!("echo up; {wait}; printf 'last words'; printf x >&2; exit 9"));
    home.script("abort.sh", &format!("echo up; {wait}; echo then; kill -ABRT $$"));
    home.script("again.sh", "echo x >> starts; exec sleep 1000");
    for app in ["words.sh", "abort.sh"] {
        home.ok(&["start", app, "--once", "--no-wait"]);
    }
    home.ok(&["start", "again.sh", "--min-uptime", "1ms", "--no-wait"]);
    for app in ["words", "abort"] {
        home.await_text(&format!("logs/{app}-out.log"), "up\n");
    }
    until("it runs", || home.read("starts").lines().count() == 1);
    let pids = ["words", "abort", "again"].map(|name| home.pid(name));
    let daemon = home.daemon_pid();
    let gap = Gap::of(&home);
    home.file("go", "");
    send(pids[2], 15);
    for pid in pids {
        until("it has ended", || state(pid) == Some('Z'));
    }
    drop(gap);
    home.await_next(daemon);
    let entry = home.await_entry("words", |one| one["pid"].is_null());
    assert_eq!((&entry["exit_code"], &entry["restarts"]), (&json!(9), &json!(0)), "{entry}");
    let entry = home.await_entry("abort", |one| one["pid"].is_null());
    assert_eq!(entry["signal"], "SIGABRT", "{entry}");
    let entry = home.await_entry("again", |one| one["restarts"] == 1 && one["pid"].is_i64());
    assert_eq!(entry["last_exits"][0]["signal"], "SIGTERM", "{entry}");
    home.await_text("logs/words-out.log", "last words");
    assert_eq!(home.read("logs/words-out.log"), "up\nlast words");
    home.await_text("logs/words-error.log", "x");
    assert_eq!(home.read("logs/abort-out.log"), "up\nthen\n");
    until("it runs again", || home.read("starts").lines().count() == 2);
    until("all are reaped", || zombies(home.first_pid()) == 0);
}

#[test]
fn a_thousand_ends_at_once_are_all_told() {
    let home = Home::new();
    home.script("many.sh", "for i in $(seq 600); do sleep 1000 & done; echo up; wait");
    home.ok(&["start", "many.sh", "--no-wait"]);
    home.await_text("logs/many-out.log", "up\n");
    let pid = home.pid("many");
    let daemon = home.daemon_pid();
    let gap = Gap::of(&home);
    // They go to the keeper with the end of their parent.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children: Vec<i32> = children.split_whitespace().map(|it| it.parse().unwrap()).collect();
    assert_eq!(children.len(), 600);
    send(pid, 9);
    children.iter().for_each(|&child| send(child, 9));
    until("all have ended", || children.iter().all(|&child| state(child) == Some('Z')));
    drop(gap);
    home.await_next(daemon);
    home.await_entry("many", |one| one["restarts"] == 1);
    until("all are reaped", || zombies(home.first_pid()) == 0);
}

#[test]
fn an_order_to_end_that_meets_no_daemon_is_carried_out_all_the_same() {
    let mut home = Home::new();
    home.ok(&["start", "sleep", "-n", "app", "--", "1000"]);
    let pid = home.pid("app");
    let gap = Gap::of(&home);
    send(home.first_pid(), 15);
    drop(gap);
    assert!(home.ended().success());
    assert!(!is_alive(pid));
}

#[test]
fn with_the_keeper_a_daemon_in_the_foreground_ends() {
    let mut home = Home::new();
    home.ok(&["start", "sleep", "-n", "app", "--", "1000"]);
    let pid = home.pid("app");
    // Waits for both.
    home.murder();
    assert!(is_alive(pid));
    home.boot();
    assert_eq!(home.pid("app"), pid);
}

#[test]
fn a_daemon_in_the_background_survives_its_keeper() {
    let home = Home::without_daemon();
    home.ok(&["daemon"]);
    let daemon = home.control().hello["data"]["pid"].as_i64().unwrap();
    let stat = fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap();
    let keeper: i32 =
        stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let words = fs::read(format!("/proc/{keeper}/cmdline")).unwrap();
    assert!(words.starts_with(b"pmd: keeper\0"));
    home.ok(&["start", "sleep", "-n", "app", "--", "1000"]);
    let pid = home.pid("app");
    // It is started again in the background, too.
    send(i32::try_from(daemon).unwrap(), 9);
    home.await_next(i32::try_from(daemon).unwrap());
    assert_eq!(home.pid("app"), pid);
    send(keeper, 9);
    await_gone(keeper);
    home.await_text("logs/pmd.log", "the keeper is dead");
    let ran = home.pmd(&["doctor"]);
    assert!(ran.out.contains("no keeper: nobody starts this daemon again"), "{ran:?}");
    // What had fallen to the keeper is supervised as before.
    send(pid, 9);
    home.await_entry("app", |one| one["restarts"] == 1 && one["pid"].is_i64());
    home.ok(&["kill"]);
}

#[test]
fn without_a_keeper_there_is_none() {
    let mut home = Home::without_daemon();
    let mut command = home.command(&["daemon", "--foreground", "--no-keeper"]);
    let log = fs::File::create(home.path("daemon.err")).unwrap();
    command.stderr(log);
    home.boot_with(command);
    assert_eq!(home.daemon_pid(), home.first_pid());
    home.murder();
    home.boot();
}

#[test]
fn the_init_system_is_told_how_it_goes_and_its_watchdog_fed() {
    let mut home = Home::without_daemon();
    let socket = UnixDatagram::bind(home.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let count = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("never: {wanted}"));
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    let mut command = home.daemon_command();
    command.env("NOTIFY_SOCKET", home.path("notify")).env("WATCHDOG_USEC", "200000");
    home.boot_with(command);
    assert_eq!(heard("READY=1"), "READY=1\nSTATUS=0 online");
    home.script("app.sh", "echo socket=$NOTIFY_SOCKET; exec sleep 1000");
    home.ok(&["start", "app.sh"]);
    heard("STATUS=1 online");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    send(home.first_pid(), 1);
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
    // Programs do not see it.
    home.await_text("logs/app-out.log", "socket=\n");
    send(home.first_pid(), 15);
    heard("STOPPING=1");
    assert!(home.ended().success());
}
