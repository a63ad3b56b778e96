//! How programs live: restarts, instances, readiness, reload, order.

use serde_json::json;

use crate::harness::{Home, await_gone, is_alive, until};

#[test]
fn a_program_that_keeps_failing_is_retried_more_slowly_and_given_up() {
    let home = Home::new();
    home.script("bad.sh", "echo run >> runs; exit 3");
    let mut control = home.control();
    control.subscribe("process_event");
    home.ok(&["start", "bad.sh", "--no-wait", "--max-restarts", "4"]);
    let mut pauses = vec![];
    let errored = control.until(|message| {
        let pause = message["data"]["details"]["restart_in"].as_u64();
        pauses.extend(pause.filter(|_| message["data"]["event"] == "crashed"));
        message["data"]["event"] == "errored"
    });
    assert_eq!(pauses, [100, 150, 225]);
    assert_eq!(errored["data"]["details"]["reason"], "max_restarts");
    let entry = home.entry("bad");
    assert_eq!((&entry["status"], &entry["exit_code"]), (&json!("errored"), &json!(3)));
    assert_eq!(home.read("runs"), "run\n".repeat(4));
}

#[test]
fn a_stable_run_is_restarted_at_once_and_counted() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--min-uptime", "1ms"]);
    let old = home.pid("app");
    let mut control = home.control();
    control.subscribe("process_event");
    crate::harness::send(old, 9);
    let crashed = control.until(|message| message["data"]["event"] == "crashed");
    assert_eq!(crashed["data"]["details"]["restart_in"], 0);
    assert_eq!(crashed["data"]["details"]["signal"], "SIGKILL");
    let entry = home.await_entry("app", |entry| entry["status"] == "online");
    assert_eq!(entry["restarts"], 1);
    assert_ne!(entry["pid"], old);
    home.ok(&["reset", "app"]);
    assert_eq!(home.entry("app")["restarts"], 0);
}

#[test]
fn a_job_runs_once_and_its_exit_code_decides() {
    let home = Home::new();
    home.script("good.sh", "echo did it");
    home.script("bad.sh", "exit 4");
    home.ok(&["start", "good.sh", "--once"]);
    home.ok(&["start", "bad.sh", "--once"]);
    home.ok(&["wait", "good", "--for", "done"]);
    assert_eq!(home.pmd(&["wait", "bad", "--for", "done"]).code, 8);
    assert_eq!(home.entry("good")["restarts"], 0);
    assert!(home.ok(&["ls"]).out.contains("done"), "{:?}", home.pmd(&["ls"]));
    // It can be run again.
    home.ok(&["start", "good"]);
    until("it ran twice", || home.read("logs/good-out.log") == "did it\ndid it\n");
}

#[test]
fn restart_words_decide_what_an_exit_means() {
    let home = Home::new();
    home.script("zero.sh", "echo x >> zero; exit 0");
    home.script("seven.sh", "echo x >> seven; exit 7");
    home.script(
        "once-more.sh",
        "echo x >> more; [ -e again ] && exec sleep 1000; touch again; exit 1",
    );
    home.ok(&["start", "zero.sh", "--restart", "on-failure", "--no-wait"]);
    home.ok(&["start", "seven.sh", "--stop-exit-codes", "0,7", "--no-wait"]);
    home.ok(&["start", "once-more.sh", "--restart", "on-failure", "--no-wait"]);
    home.ok(&["start", "seven.sh", "-n", "never", "--restart", "never", "--no-wait"]);
    for name in ["zero", "seven", "never"] {
        let entry = home.await_status(name, "stopped");
        assert_eq!(entry["restarts"], 0, "{name}");
    }
    let entry = home.await_entry("once-more", |one| one["restarts"] == 1);
    assert_ne!(entry["status"], "stopped");
    assert_eq!(home.entry("zero")["exit_code"], 0);
    assert_eq!(home.entry("seven")["exit_code"], 7);
}

#[test]
fn without_autostart_a_program_is_known_and_not_started() {
    let home = Home::new();
    home.script("app.sh", "touch ran; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-autostart"]);
    assert_eq!(home.entry("app")["status"], "stopped");
    assert!(!home.path("ran").exists());
    home.ok(&["start", "app", "--no-wait"]);
    until("it ran", || home.path("ran").exists());
}

#[test]
fn a_program_deaf_to_its_stop_signal_is_killed() {
    let home = Home::new();
    home.script("deaf.sh", "trap '' INT TERM; echo up; while :; do sleep 1000 & wait; done");
    home.ok(&["start", "deaf.sh", "--no-wait", "--kill-timeout", "100ms"]);
    home.await_text("logs/deaf-out.log", "up");
    let pid = home.pid("deaf");
    let ran = home.ok(&["stop", "deaf"]);
    assert!(ran.out.starts_with("deaf  stopped  killed after "), "{ran:?}");
    assert!(ran.out.contains("did not react to SIGINT"), "{ran:?}");
    assert!(!is_alive(pid));
    let entry = home.entry("deaf");
    assert_eq!((&entry["status"], &entry["signal"]), (&json!("stopped"), &json!("SIGKILL")));
}

#[test]
fn the_stop_signal_is_the_one_that_was_asked_for() {
    let home = Home::new();
    home.script(
        "app.sh",
        "trap 'echo got usr1; exit 0' USR1; trap '' INT TERM; echo up; while :; do sleep 0.01; done",
    );
    home.ok(&["start", "app.sh", "--no-wait", "--kill-signal", "USR1", "-k", "20s"]);
    home.await_text("logs/app-out.log", "up");
    home.ok(&["stop", "app"]);
    assert!(home.read("logs/app-out.log").contains("got usr1"));
    assert_eq!(home.entry("app")["exit_code"], 0);
}

#[test]
fn a_signal_reaches_the_main_process() {
    let home = Home::new();
    home.script("app.sh", "trap 'echo hup' HUP; echo up; while :; do sleep 0.01; done");
    home.ok(&["start", "app.sh", "--no-wait"]);
    for words in [["SIGHUP", "app"], ["app", "HUP"], ["1", "app"]] {
        let before = home.await_text("logs/app-out.log", "up").matches("hup").count();
        home.ok(&["signal", words[0], words[1]]);
        until("one more", || home.read("logs/app-out.log").matches("hup").count() > before);
    }
}

#[test]
fn instances_know_their_numbers_and_can_be_scaled() {
    let home = Home::new();
    home.script(
        "app.sh",
        "echo \"n=$NODE_APP_INSTANCE pmd=$PMD_INSTANCE port=$PORT name=$PMD_NAME id=$PMD_ID\"; exec sleep 1000",
    );
    home.file(
        "apps.json",
        json!({"apps": [{"name": "app", "script": "./app.sh", "instances": 2,
            "increment_var": "PORT", "env": {"PORT": "3000"}}]})
        .to_string(),
    );
    home.ok(&["start", "apps.json", "--no-wait"]);
    home.await_text("logs/app-0-out.log", "n=0 pmd=0 port=3000 name=app id=0\n");
    home.await_text("logs/app-1-out.log", "n=1 pmd=1 port=3001 name=app id=1\n");
    home.ok(&["scale", "app", "+1"]);
    home.await_text("logs/app-2-out.log", "n=2 pmd=2 port=3002");
    let pids: Vec<_> = home.entries("app").iter().map(|one| one["pid"].clone()).collect();
    assert_eq!(pids.len(), 3);
    home.ok(&["scale", "app", "1"]);
    let left = home.entries("app");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["pid"], pids[0], "the first was not touched");
    home.ok(&["scale", "app", "2"]);
    assert_eq!(home.entries("app").len(), 2);
    // One instance can be addressed.
    home.ok(&["stop", "app:1"]);
    let states: Vec<_> = home.entries("app").iter().map(|one| one["status"].clone()).collect();
    assert_eq!(states, ["online", "stopped"]);
}

#[test]
fn a_namespace_addresses_its_members() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "one", "--namespace", "shop", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "two", "--namespace", "shop", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "three", "--no-wait"]);
    home.ok(&["stop", "shop"]);
    let states = ["one", "two", "three"].map(|name| home.entry(name)["status"].clone());
    assert_eq!(states[..2], ["stopped", "stopped"]);
    assert_ne!(states[2], "stopped");
    home.ok(&["delete", "t*"]);
    assert_eq!(home.ok(&["id", "all"]).out, "0\n");
}

#[test]
fn a_word_that_is_a_name_and_a_namespace_means_the_name() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "web", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "other", "--namespace", "web", "--no-wait"]);
    let ran = home.ok(&["stop", "web"]);
    assert_eq!(ran.err, "pmd: warning: 'web' is a name and a namespace: the name is meant\n");
    assert!(ran.out.starts_with("web  stopped") && ran.out.lines().count() == 1, "{ran:?}");
    assert_eq!(home.ok(&["stop", "other"]).err, "");
}

#[test]
fn readiness_comes_by_notification_fd() {
    let home = Home::new();
    home.script("app.sh", "while [ ! -e go ]; do sleep 0.01; done; echo >&5; exec sleep 1000");
    home.file(
        "apps.json",
        json!({"apps": [{"name": "app", "script": "./app.sh", "wait_ready": true,
            "notification_fd": 5, "listen_timeout": "60s"}]})
        .to_string(),
    );
    home.ok(&["start", "apps.json", "--no-wait"]);
    let entry = home.await_entry("app", |one| one["pid"].is_i64());
    assert_eq!(entry["status"], "starting");
    home.file("go", "");
    home.ok(&["wait", "app", "--for", "ready", "--timeout", "30s"]);
    let entry = home.entry("app");
    assert_eq!((&entry["status"], &entry["ready"]), (&json!("online"), &json!(true)));
}

#[test]
fn readiness_comes_by_sd_notify() {
    let home = Home::new();
    home.file("app.py", NOTIFIER);
    home.ok(&["start", "app.py", "--wait-ready", "--listen-timeout", "60s"]);
    let entry = home.entry("app");
    assert_eq!((&entry["status"], &entry["ready"]), (&json!("online"), &json!(true)));
}

#[test]
fn readiness_that_came_late_is_known_after_the_daemon_was_killed() {
    let mut home = Home::new();
    home.script("app.sh", "while [ ! -e go ]; do sleep 0.01; done; echo >&5; exec sleep 1000");
    home.file(
        "apps.json",
        json!({"apps": [{"name": "app", "script": "./app.sh", "wait_ready": true,
            "notification_fd": 5, "listen_timeout": "10ms"}]})
        .to_string(),
    );
    home.pmd(&["start", "apps.json"]).failed(7, "app is running but not ready after 10 ms");
    home.file("go", "");
    home.ok(&["wait", "app", "--for", "ready", "--timeout", "30s"]);
    home.murder();
    home.boot();
    let entry = home.entry("app");
    assert_eq!((&entry["status"], &entry["ready"]), (&json!("online"), &json!(true)));
}

/// Says that it is ready, or ends at once where a file `broken` lies.
const NOTIFIER: &str = "
import os, socket, sys, time
if os.path.exists('broken'): sys.exit(9)
if os.path.exists('mute'): time.sleep(1000)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = os.environ['NOTIFY_SOCKET']
s.connect('\\0' + path[1:] if path[0] == '@' else path)
s.send(b'READY=1')
print('ready', os.getpid())
time.sleep(1000)
";

#[test]
fn a_reload_has_the_new_one_ready_before_the_old_one_goes() {
    let home = Home::new();
    home.file("app.py", NOTIFIER);
    home.ok(&["start", "app.py", "--wait-ready", "--listen-timeout", "60s"]);
    let old = home.pid("app");
    let mut control = home.control();
    control.subscribe("process_event");
    let ran = home.ok(&["reload", "app"]);
    assert!(ran.out.starts_with("app  reloaded  pid "), "{ran:?}");
    let new = home.pid("app");
    assert_ne!(old, new);
    await_gone(old);
    assert!(is_alive(new));
    let event = control.until(|message| message["data"]["event"] == "reloaded");
    assert_eq!(event["data"]["details"]["pid"], new);
    home.await_text("logs/app-out.log", &format!("ready {old}\nready {new}\n"));
}

#[test]
fn a_reload_that_fails_keeps_the_old_one() {
    let home = Home::new();
    home.file("app.py", NOTIFIER);
    home.ok(&["start", "app.py", "--wait-ready", "--listen-timeout", "20s"]);
    let old = home.pid("app");
    home.file("broken", "");
    home.pmd(&["reload", "app"]).failed(8, "app");
    assert_eq!(home.pid("app"), old);
    assert!(is_alive(old));
    assert_eq!(home.entry("app")["status"], "online");
}

#[test]
fn a_reload_that_is_never_ready_keeps_the_old_one() {
    let home = Home::new();
    home.file("app.py", NOTIFIER);
    home.ok(&["start", "app.py", "--wait-ready", "--listen-timeout", "3s"]);
    let old = home.pid("app");
    home.file("mute", "");
    home.pmd(&["reload", "app"]).failed(7, "app");
    assert_eq!(home.pid("app"), old);
    assert_eq!(home.entry("app")["status"], "online");
}

#[test]
fn dependencies_start_first_and_stop_last() {
    let home = Home::new();
    home.script("note.sh", "echo up $PMD_NAME >> order; trap 'echo down $PMD_NAME >> order; exit 0' INT; echo >&5; while :; do sleep 0.01; done");
    let app = |name: &str, on: serde_json::Value| {
        json!({"name": name, "script": "./note.sh", "depends_on": on, "wait_ready": true,
            "notification_fd": 5, "listen_timeout": "60s", "kill_timeout": "20s"})
    };
    home.file(
        "apps.json",
        json!({"apps": [app("web", json!(["api"])), app("api", json!(["db"])), app("db", json!([]))]})
            .to_string(),
    );
    home.ok(&["start", "apps.json"]);
    assert_eq!(home.read("order"), "up db\nup api\nup web\n");
    home.ok(&["stop", "all"]);
    assert_eq!(home.read("order"), "up db\nup api\nup web\ndown web\ndown api\ndown db\n");
}

#[test]
fn a_line_is_written_to_standard_input() {
    let home = Home::new();
    home.script("app.sh", "while read -r line; do echo \"got: $line\"; done; echo end");
    home.file(
        "apps.json",
        json!({"apps": [{"name": "app", "script": "./app.sh", "stdio": ["pipe", "pipe", "pipe"]},
            {"name": "deaf", "script": "./app.sh", "args": [], "autorestart": false}]})
        .to_string(),
    );
    home.ok(&["start", "apps.json", "--no-wait"]);
    home.ok(&["send", "app", "hello", "world"]);
    home.await_text("logs/app-out.log", "got: hello world\n");
    let refused = home.pmd(&["send", "deaf", "hello"]);
    assert!(refused.code != 0 && refused.err.contains("deaf"), "{refused:?}");
}

#[test]
fn a_replaced_definition_is_taken_over() {
    let home = Home::new();
    home.script("app.sh", "echo \"args $*\"; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait", "--", "one"]);
    home.await_text("logs/app-out.log", "args one\n");
    let refused = home.pmd(&["start", "app.sh", "--no-wait", "--", "two"]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    assert_eq!(
        refused.err.lines().next().unwrap(),
        "pmd: error: 'app' exists with another definition (args)"
    );
    assert!(refused.err.contains("--replace"), "{refused:?}");
    let same = home.ok(&["start", "app.sh", "--no-wait", "--", "one"]);
    assert_eq!(same.out, "app already online\n");
    home.ok(&["start", "app.sh", "--no-wait", "--replace", "--", "two"]);
    home.await_text("logs/app-out.log", "args two\n");
    home.ok(&["start", "app.sh", "--no-wait", "-f", "--", "three"]);
    assert_eq!(home.ok(&["id", "all"]).out, "0\n1\n");
}

#[test]
fn who_was_killed_for_want_of_memory_is_said_to_be() {
    let home = Home::new();
    // A group of version 1 with little memory: the kernel kills in it as it does on a full host.
    let group =
        std::path::PathBuf::from(format!("/sys/fs/cgroup/memory/pmd-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || std::fs::File::open("/dev/kmsg").is_err() {
        println!("skipped: no memory group of version 1, or the kernel's log cannot be read");
        return;
    }
    let limited = std::fs::write(group.join("memory.limit_in_bytes"), "16M").is_ok();
    home.script(
        "app.sh",
        &format!(
            "echo $$ > {0}/cgroup.procs; echo start; exec python3 -c 'x = b\"x\" * (1 << 28)'",
            group.display()
        ),
    );
    let ran = home.pmd(&["start", "app.sh", "--no-autorestart"]);
    let _ = home.pmd(&["stop", "app"]);
    until("the group is empty", || std::fs::remove_dir(&group).is_ok());
    if !limited || !ran.err.contains("SIGKILL") {
        println!("skipped: the kernel kills nobody here: {ran:?}");
        return;
    }
    assert_eq!(ran.code, 8, "{ran:?}");
    assert!(ran.err.contains("killed by SIGKILL: out of memory (kernel OOM killer)"), "{ran:?}");
    let list = home.ok(&["ls"]).out;
    assert!(list.contains("out of memory"), "{list}");
    let events = home.ok(&["events"]).out;
    assert!(events.contains("out of memory"), "{events}");
    assert_eq!(home.entry("app")["last_exits"][0]["out_of_memory"], true);
}

#[test]
fn the_last_of_what_happened_is_told_without_the_rest() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    for name in ["one", "two", "three"] {
        home.ok(&["start", "app.sh", "--name", name]);
    }
    let mut control = home.control();
    let all = control.ask("get_events", &json!({}))["data"]["events"].clone();
    let last = control.ask("get_events", &json!({"limit": 2}))["data"]["events"].clone();
    assert_eq!(last.as_array().unwrap()[..], all.as_array().unwrap()[1..]);
    assert_eq!(last[1]["process"], "three");
}
