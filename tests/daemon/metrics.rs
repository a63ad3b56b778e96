//! What processes and the host use, as clients of the control socket are told.

use serde_json::{Value, json};

use crate::control::Control;
use crate::harness::Home;

fn start(home: &Home, name: &str, script: &str, more: &Value) {
    let mut config = json!({"name": name, "script": "/bin/bash", "args": ["-c", script],
        "interpreter": "none", "cwd": home.dir});
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    let reply = home.control().ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(reply["data"]["ok"], true, "{reply}");
}

fn subscribe(control: &mut Control, events: &[&str], processes: &Value, interval: u64) {
    let wish = json!({"events": events, "processes": processes, "interval": interval});
    let reply = control.ask("subscribe", &wish);
    assert_eq!(reply["type"], "subscription", "{reply}");
}

fn next(control: &mut Control, kind: &str) -> Value {
    control.until(|message| message["type"] == kind)["data"].clone()
}

fn of<'a>(data: &'a Value, name: &str) -> &'a Value {
    let processes = data["processes"].as_array().unwrap();
    processes.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {data}"))
}

/// `VmRSS` of a process, in bytes.
fn resident(pid: &Value) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

#[test]
fn a_subscriber_gets_the_figures_of_processes_at_once_and_again_and_again() {
    let home = Home::new();
    start(&home, "busy", "while :; do :; done", &json!({}));
    start(&home, "family", "sleep 1000 & wait", &json!({"namespace": "shop"}));
    let mut control = home.control();
    subscribe(&mut control, &["process_metrics"], &Value::Null, 250);
    next(&mut control, "process_metrics");
    let busy = control.until(|message| {
        message["type"] == "process_metrics"
            && of(&message["data"], "busy")["cpu"].as_f64() > Some(5.0)
    });
    let busy = of(&busy["data"], "busy");
    assert!(busy["cpu"].as_f64() < Some(150.0), "{busy}");
    let data = next(&mut control, "process_metrics");
    let family = of(&data, "family");
    assert_eq!(
        (&family["id"], &family["status"], &family["namespace"], &family["instance"]),
        (&json!(1), &json!("online"), &json!("shop"), &json!(0))
    );
    for field in ["memory", "memory_tree", "uptime", "restarts", "pid"] {
        assert!(family[field].is_u64(), "{field}: {family}");
    }
    let (memory, real) = (family["memory"].as_f64().unwrap(), resident(&family["pid"]));
    assert!(memory > real * 0.6 && memory < real * 1.5, "{memory} {real}");
    assert!(family["memory_tree"].as_u64() > family["memory"].as_u64(), "{family}");

    home.ok(&["stop", "busy"]);
    let data = control.until(|message| {
        message["type"] == "process_metrics" && of(&message["data"], "busy")["status"] == "stopped"
    });
    let busy = of(&data["data"], "busy");
    let zeros = (&busy["cpu"], &busy["memory"], &busy["memory_tree"], &busy["uptime"]);
    assert_eq!(zeros, (&json!(0.0), &json!(0), &json!(0), &json!(0)));
    assert_eq!(busy["pid"], Value::Null);
}

#[test]
fn each_subscriber_gets_what_it_asked_for_and_no_more_after_it_left() {
    let home = Home::new();
    start(&home, "one", "exec sleep 1000", &json!({}));
    start(&home, "two", "exec sleep 1000", &json!({}));
    let (mut some, mut none, mut all) = (home.control(), home.control(), home.control());
    subscribe(&mut some, &["process_metrics"], &json!(["two"]), 250);
    subscribe(&mut none, &["process_metrics", "system_metrics"], &json!(["three"]), 250);
    subscribe(&mut all, &["all"], &Value::Null, 250);
    let names = |data: &Value| -> Vec<Value> {
        data["processes"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    for _ in 0..2 {
        assert_eq!(names(&next(&mut some, "process_metrics")), ["two"]);
        assert_eq!(names(&next(&mut none, "process_metrics")), [] as [Value; 0]);
        assert_eq!(names(&next(&mut all, "process_metrics")), ["one", "two"]);
        assert!(next(&mut none, "system_metrics")["memory"]["total"].is_u64());
    }
    let reply = some.ask("unsubscribe", &json!({"events": ["process_metrics"]}));
    assert_eq!(reply["data"]["events"], json!({}));
    none.ask("unsubscribe", &json!({"events": ["system_metrics"]}));
    for _ in 0..3 {
        next(&mut all, "process_metrics");
        next(&mut none, "process_metrics");
    }
    for (control, unwanted) in [(&mut some, "process_metrics"), (&mut none, "system_metrics")] {
        let id = control.request("ping", &json!({}));
        let message =
            control.until(|message| message["type"] == unwanted || message["reply_to"] == id);
        assert_eq!(message["type"], "pong");
    }
}

#[test]
fn answers_tell_figures_as_they_are_now() {
    let home = Home::new();
    start(&home, "family", "sleep 1000 & while :; do :; done", &json!({}));
    let entry = home.await_entry("family", |entry| entry["cpu"].as_f64() > Some(20.0));
    let (memory, real) = (entry["memory"].as_f64().unwrap(), resident(&entry["pid"]));
    assert!(memory > real * 0.6 && memory < real * 1.5, "{memory} {real}");
    assert!(entry["memory_tree"].as_u64() > entry["memory"].as_u64(), "{entry}");
    let resources = &entry["resources"];
    assert_eq!((&resources["processes"], &resources["threads"]), (&json!(2), &json!(1)));
    assert!(resources["descriptors"].as_u64() >= Some(3), "{entry}");
    assert!(resources["cpu_time"].as_u64() > Some(0), "{entry}");

    let system = home.control().ask("get_system", &json!({}));
    assert_eq!(system["type"], "system_metrics");
    let data = &system["data"];
    let memory = |field: &str| data["memory"][field].as_u64().unwrap();
    assert_eq!(memory("used"), memory("total") - memory("available"));
    assert!(data["cpu"]["cores"].as_u64() >= Some(1), "{data}");
    assert!(data["cpu"]["usage"].as_f64() <= Some(100.0), "{data}");
    assert!(data["load"]["fifteen"].is_f64() && data["hostname"].is_string(), "{data}");
    assert_eq!(data["processes"], json!({"total": 1, "online": 1, "stopped": 0, "errored": 0}));
    assert_eq!(data["daemon"]["pid"], home.daemon_pid());
    assert!(data["daemon"]["memory"].as_u64() > Some(100_000), "{data}");
    assert!(data["disk"]["total"].as_u64() > data["disk"]["available"].as_u64(), "{data}");

    // What an ended child used stays counted.
    let used = entry["resources"]["cpu_time"].as_u64();
    home.ok(&["stop", "family"]);
    let entry = home.entry("family");
    assert_eq!((&entry["cpu"], &entry["memory"]), (&json!(0.0), &json!(0)));
    assert!(entry["resources"]["cpu_time"].as_u64() >= used, "{entry}");
}

/// A sample may be used again for a moment, but not for a child that it does not know.
#[test]
fn the_newest_child_is_in_the_figures_too() {
    let home = Home::new();
    let mut control = home.control();
    for round in 0..5 {
        control.ask("get_info", &json!({}));
        let config = json!({"name": format!("app{round}"), "script": "/bin/sleep", "args": ["1000"],
            "cwd": "/"});
        control.ask("command", &json!({"action": "start", "config": config, "wait": "none"}));
        let info = control.ask("get_info", &json!({}));
        let processes = info["data"]["processes"].as_array().unwrap();
        let newest = processes.last().unwrap();
        assert_eq!(newest["name"], format!("app{round}"));
        assert!(newest["memory"].as_u64() > Some(0), "{newest}");
    }
}

#[test]
fn a_tree_above_its_limit_is_restarted_and_says_why() {
    let home = Home::without_daemon();
    home.file("pmd.json", json!({"memory_check_interval": "250ms"}).to_string());
    let mut home = home;
    home.boot();
    let mut control = home.control();
    control.subscribe("process_event");
    // The main process itself stays small; a buffer that nobody takes does not.
    let grow = "(dd if=/dev/zero bs=30M count=1 | sleep 1000) & wait";
    start(&home, "big", grow, &json!({"max_memory_restart": "20M"}));
    start(&home, "small", "exec sleep 1000", &json!({"max_memory_restart": "20M"}));
    let message = control.until(|message| message["data"]["event"] == "memory_limit_exceeded");
    let (data, details) = (&message["data"], &message["data"]["details"]);
    assert_eq!((&data["process"], &details["action"]), (&json!("big"), &json!("restart")));
    assert_eq!(details["limit"], 20 << 20);
    assert!(details["memory"].as_u64() > Some(20 << 20), "{details}");
    let message = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(message["data"]["details"]["reason"], "memory");
    let entry = home.entry("big");
    assert_eq!(entry["last_exits"][0]["reason"], "memory", "{entry}");
    assert!(entry["resources"]["memory_limit_exceeded"].as_u64() >= Some(1), "{entry}");
    assert_eq!(entry["unstable_restarts"], 0);
    assert_eq!(home.entry("small")["restarts"], 0);
}

#[test]
fn adopted_processes_are_measured_too_and_held_to_their_limits() {
    let mut home = Home::without_daemon();
    home.file("pmd.json", json!({"memory_check_interval": "250ms"}).to_string());
    home.boot();
    let script = "(read x < go; dd if=/dev/zero bs=30M count=1 | sleep 1000) & wait";
    assert!(std::process::Command::new("mkfifo").arg(home.path("go")).status().unwrap().success());
    start(&home, "app", script, &json!({"max_memory_restart": "20M"}));
    let pid = home.pid("app");
    home.murder();
    home.boot();
    let entry = home.await_entry("app", |entry| entry["resources"]["processes"] == 2);
    assert_eq!(entry["pid"], pid);
    assert!(
        entry["memory"].as_u64() > Some(0)
            && entry["memory_tree"].as_u64() > entry["memory"].as_u64()
    );
    let mut control = home.control();
    control.subscribe("process_event");
    std::fs::write(home.path("go"), "go\n").unwrap();
    let message = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(message["data"]["details"]["reason"], "memory", "{message}");
}
