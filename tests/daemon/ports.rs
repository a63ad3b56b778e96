//! Ports: who gets which, who has one that is taken, and that they stay.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Home, is_alive, until};

/// A program that writes its `PORT` into a file of its name and goes on.
const PORT_TELLER: &str = "echo \"${PORT-none}\" > \"$PMD_NAME-$PMD_INSTANCE.tmp\"; \
    mv \"$PMD_NAME-$PMD_INSTANCE.tmp\" \"$PMD_NAME-$PMD_INSTANCE\"; exec sleep 1000";

/// The first of so many ports in a row that nobody has.
fn free_ports(count: u16) -> u16 {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Below the ports that the kernel gives out by itself; where, differs from test to test.
    let from = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let start = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() % 10_000;
    (from..)
        .step_by(usize::from(count))
        .skip(usize::from(start % 500))
        .find(|&first| (first..first + count).all(is_free))
        .unwrap()
}

fn ports_of(home: &Home, name: &str) -> Vec<Value> {
    home.entries(name).iter().map(|entry| entry["port"].clone()).collect()
}

#[test]
fn instances_get_their_ports_of_a_range_and_keep_them() {
    let mut home = Home::new();
    home.script("web.sh", PORT_TELLER);
    let first = free_ports(3);
    let range = format!("{first}-{}", first + 2);
    home.pmd(&["start", "web.sh", "-i", "4", "-p", &range]).failed(6, "3 ports");
    home.ok(&["start", "web.sh", "-i", "2", "-p", &range]);
    assert_eq!(ports_of(&home, "web"), [json!(first), json!(first + 1)]);
    assert_eq!(home.await_number("web-1"), i32::from(first) + 1);
    let list = home.ok(&["ls"]).out;
    assert!(list.contains(&format!(" :{first}\n")), "{list}");
    home.ok(&["scale", "web", "3"]);
    assert_eq!(home.await_number("web-2"), i32::from(first) + 2);
    home.pmd(&["scale", "web", "4"]).failed(2, "has 3 ports");
    let doctor = home.pmd(&["doctor"]).out;
    assert!(doctor.contains(&format!("web does not listen on port {first}")), "{doctor}");
    let shown = home.ok(&["show", "web:1"]).out;
    assert!(shown.lines().any(|line| line.ends_with(&format!("  {}", first + 1))), "{shown}");
    // Over the death of the daemon, and over an orderly end.
    home.murder();
    home.boot();
    assert_eq!(ports_of(&home, "web"), [json!(first), json!(first + 1), json!(first + 2)]);
    home.end(15);
    home.boot();
    home.await_status("web:2", "online");
    assert_eq!(ports_of(&home, "web"), [json!(first), json!(first + 1), json!(first + 2)]);
    home.ok(&["stop", "web"]);
    assert_eq!(ports_of(&home, "web"), [Value::Null, Value::Null, Value::Null]);
}

#[test]
fn two_apps_that_may_choose_get_different_ports() {
    let home = Home::new();
    home.script("tell.sh", PORT_TELLER);
    let first = free_ports(3);
    let auto = format!("auto:{first}-{}", first + 2);
    // A stranger has the first.
    let stranger = TcpListener::bind(("127.0.0.1", first)).unwrap();
    home.ok(&["start", "tell.sh", "-n", "a", "-p", &auto]);
    home.ok(&["start", "tell.sh", "-n", "b", "--port", &auto]);
    assert_eq!(ports_of(&home, "all"), [json!(first + 1), json!(first + 2)]);
    assert_eq!(home.await_number("b-0"), i32::from(first) + 2);
    let ran = home.pmd(&["start", "tell.sh", "-n", "c", "-p", &auto]);
    ran.failed(8, &format!("c did not stay up: no port of {auto} is free"));
    let (error, code) = home.json(&["start", "tell.sh", "-n", "d", "-p", &auto]);
    assert_eq!(
        (error["results"][0]["error"]["code"].as_str(), code),
        (Some("NO_FREE_PORT"), 8),
        "{error}"
    );
    // What rests keeps its port, as long as there is another.
    home.ok(&["delete", "c", "d"]);
    home.ok(&["stop", "a"]);
    drop(stranger);
    home.ok(&["start", "tell.sh", "-n", "e", "-p", &auto]);
    assert_eq!(home.entry("e")["port"], first);
}

#[test]
fn a_port_that_somebody_has_is_told_with_its_owner_and_tried_again() {
    let home = Home::new();
    home.script("tell.sh", PORT_TELLER);
    let port = free_ports(1);
    let text = port.to_string();
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let ran = home.pmd(&["start", "tell.sh", "-n", "late", "-p", &text]);
    ran.failed(8, &format!("pmd: error: late did not stay up: port {port} is in use by '"));
    ran.failed(8, &format!("(pid {})", std::process::id()));
    ran.failed(8, " (1 of 16); to give up: pmd stop late");
    let entry = home.entry("late");
    assert_ne!(entry["status"], "online", "{entry}");
    drop(stranger);
    home.await_status("late", "online");
    // Ours: nobody needs to listen on it.
    let owner = home.pid("late");
    let (error, code) = home.json(&["start", "tell.sh", "-n", "other", "-p", &text]);
    let error = &error["results"][0]["error"];
    assert_eq!((error["code"].as_str(), code), (Some("PORT_IN_USE"), 8), "{error}");
    assert_eq!(error["details"]["port"], port);
    assert_eq!(error["details"]["owner"], "late");
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("(pid {owner}, process 'late' of pmd)")), "{message}");
}

#[test]
fn a_port_for_once_lasts_until_the_next_start() {
    let mut home = Home::new();
    home.script("web.sh", PORT_TELLER);
    let first = free_ports(2);
    home.ok(&["start", "web.sh", "-p", &first.to_string()]);
    home.ok(&["restart", "web", "--port", &(first + 1).to_string()]);
    assert_eq!(home.entry("web")["port"], first + 1);
    // A crash is no start, nor is the death of the daemon.
    let pid = home.pid("web");
    home.ok(&["signal", "KILL", "web"]);
    home.await_entry("web", |entry| entry["pid"].as_i64().is_some_and(|new| new != i64::from(pid)));
    assert_eq!(home.entry("web")["port"], first + 1);
    home.murder();
    home.boot();
    assert_eq!(home.entry("web")["port"], first + 1);
    home.ok(&["restart", "web"]);
    assert_eq!(home.entry("web")["port"], first);
    let mut control = home.control();
    let reply = control.ask("command", &json!({"action": "restart", "process": "web", "port": 0}));
    assert_eq!(reply["data"]["code"], "INVALID_ARGUMENT", "{reply}");
    let port = first + 1;
    let reply =
        control.ask("command", &json!({"action": "restart", "process": "web", "port": port}));
    assert_eq!(reply["data"]["results"][0]["port"], port, "{reply}");
    control.subscribe("process_event");
    control.request("command", &json!({"action": "restart", "process": "web"}));
    let event = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(event["data"]["details"]["port"], first);
}

/// Both children at once where they have different ports, one after the other where not.
#[test]
fn a_reload_gives_the_new_child_another_port_or_waits_for_the_old_one() {
    let home = Home::new();
    home.script("web.sh", "echo > \"fd-$PORT\"; echo ready >&3; exec sleep 1000");
    let first = free_ports(4);
    let app = |name: &str, port: &str| {
        json!({"name": name, "script": home.path("web.sh"), "port": port,
            "wait_ready": true, "notification_fd": 3, "inherit_env": true})
    };
    let auto = format!("auto:{first}-{}", first + 1);
    let fixed = (first + 2).to_string();
    let apps = json!({"apps": [app("auto", &auto), app("fixed", &fixed)]});
    home.file("pmd.json", apps.to_string());
    home.ok(&["start", "pmd.json"]);
    let ran = home.ok(&["reload", "auto"]);
    assert!(!ran.out.contains("restarted"), "{ran:?}");
    assert_eq!(home.entry("auto")["port"], first + 1);
    let ran = home.ok(&["reload", "fixed"]);
    assert!(ran.out.contains("restarted: old and new cannot share the port"), "{ran:?}");
    assert_eq!(home.entry("fixed")["port"], first + 2);
    let old = home.pid("fixed");
    let ran = home.ok(&["reload", "fixed", "-p", &(first + 3).to_string()]);
    assert!(ran.out.contains("reloaded"), "{ran:?}");
    assert_eq!(home.entry("fixed")["port"], first + 3);
    until("the old one is gone", || !is_alive(old));
}

#[test]
fn pm2_means_a_variable_by_a_port() {
    let home = Home::new();
    home.script("web.sh", PORT_TELLER);
    let port = free_ports(1);
    let apps =
        json!({"apps": [{"name": "web", "script": "./web.sh", "instances": 2, "port": port}]});
    home.file("ecosystem.json", apps.to_string());
    home.ok(&["start", "ecosystem.json"]);
    assert_eq!(home.await_number("web-1"), i32::from(port));
}
