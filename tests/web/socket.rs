//! The WebSocket API.

use serde_json::json;

use crate::client::{Socket, Web, masked};
use std::io::Write as _;

fn start(socket: &mut Socket, name: &str) {
    let config = json!({"script": "/bin/sh", "args": ["-c", "exec sleep 1000"]});
    let started =
        socket.ask("command", &json!({"action": "start", "process": name, "config": config}));
    assert_eq!(started["data"]["ok"], true, "{started}");
}

#[test]
fn who_only_listens_gets_the_default_events() {
    let web = Web::new();
    let mut actor = web.socket();
    start(&mut actor, "a");
    let mut listener = web.socket();
    let first = listener.until(|message| message["type"] == "process_status");
    assert_eq!((&first["data"]["snapshot"], &first["data"]["name"]), (&json!(true), &json!("a")));
    actor.ask("command", &json!({"action": "stop", "process": "a"}));
    let stopped = listener.until(|message| message["data"]["status"] == "stopped");
    assert_eq!(stopped["data"]["previous_status"], "stopping");
}

#[test]
fn a_subscription_is_answered_then_shown_then_live() {
    let web = Web::new();
    let mut socket = web.socket();
    start(&mut socket, "a");
    start(&mut socket, "b");
    let answer = socket
        .ask("subscribe", &json!({"events": ["process_status", "nonsense"], "processes": ["a"]}));
    assert_eq!(answer["data"]["unknown_events"], json!(["nonsense"]));
    let shown = socket.next();
    assert_eq!((&shown["data"]["name"], &shown["data"]["snapshot"]), (&json!("a"), &json!(true)));
    for name in ["b", "a"] {
        socket.say("command", &json!({"action": "stop", "process": name}));
    }
    let live = socket.until(|message| message["type"] == "process_status");
    assert_eq!((&live["data"]["name"], &live["data"]["status"]), (&json!("a"), &json!("stopping")));
    let left = socket.ask("unsubscribe", &json!({}));
    assert_eq!(left["data"]["events"], json!({}));
}

/// More than waits for a client at a time: what it asked for is not begun before there is room.
#[test]
fn who_asks_for_much_at_once_and_reads_it_gets_it_all() {
    let web = Web::new();
    let mut socket = web.socket();
    let config =
        json!({"script": "/bin/sleep", "args": ["1000"], "env": {"LONG": "x".repeat(50_000)}});
    socket.ask("command", &json!({"action": "start", "process": "a", "config": config}));
    let asked: Vec<u64> = (1000..1040).collect();
    for id in &asked {
        let text = json!({"type": "get_info", "data": {"process": "a"}, "id": id}).to_string();
        socket.frame(0x81, text.as_bytes());
    }
    for id in &asked {
        assert_eq!(socket.until(|message| !message["reply_to"].is_null())["reply_to"], *id);
    }
}

#[test]
fn an_error_names_the_request_that_failed() {
    let web = Web::new();
    let mut socket = web.socket();
    let unknown = json!({"process": "nope", "action": "stop"});
    for kind in ["get_info", "get_logs", "command", "subscribe"] {
        let error = &socket.ask(kind, &unknown)["data"];
        assert_eq!(error["request"], kind, "{error}");
    }
}

#[test]
fn a_broadcast_is_the_same_for_all() {
    let web = Web::new();
    let mut sockets = [web.socket(), web.socket(), web.socket()];
    for socket in &mut sockets {
        socket.ask("subscribe", &json!({"events": ["process_event"]}));
    }
    start(&mut web.socket(), "a");
    let ids = sockets.each_mut().map(|socket| socket.next()["id"].clone());
    assert!(ids[0].is_string() && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
}

#[test]
fn the_first_frame_may_come_with_the_handshake() {
    let web = Web::new();
    let mut stream = web.connect();
    let mut bytes = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: WebSocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n{}\r\n\r\n",
        crate::client::KEY
    )
    .into_bytes();
    bytes.extend(masked(0x81, br#"{"type":"ping","id":"first"}"#));
    stream.write_all(&bytes).unwrap();
    assert_eq!(crate::client::Response::read(&mut stream).status, 101);
    let mut socket = Socket::from(stream);
    assert_eq!(socket.next()["type"], "hello");
    assert_eq!(socket.next()["reply_to"], "first");
}

#[test]
fn a_ping_is_answered_and_a_close_too() {
    let web = Web::new();
    let mut socket = web.socket();
    socket.frame(0x89, b"are you there");
    assert_eq!(socket.take(), Some((0xa, b"are you there".to_vec())));
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.close_code(), 1000);
}

#[test]
fn the_end_of_the_daemon_is_told() {
    let mut web = Web::new();
    let mut socket = web.socket();
    web.home.end(15);
    let told = socket.until(|message| message["type"] == "shutdown");
    assert_eq!(told["data"]["reason"], "signal");
    assert_eq!(socket.close_code(), 1001);
}

#[test]
fn lines_are_followed_with_those_before() {
    let web = Web::new();
    let mut socket = web.socket();
    let go = web.home.path("go");
    let script = format!(
        "echo one; echo two; until [ -e {} ]; do sleep 0.01; done; echo three; exec sleep 1000",
        go.display()
    );
    let config = json!({"script": "/bin/sh", "args": ["-c", script]});
    socket.ask("command", &json!({"action": "start", "process": "talk", "config": config}));
    crate::harness::until("it has talked", || {
        let logs = web.get("/api/logs/talk").json();
        logs["data"]["entries"].as_array().is_some_and(|lines| lines.len() == 2)
    });
    socket
        .ask("subscribe", &json!({"events": ["log_message"], "processes": ["talk"], "backlog": 1}));
    let before = socket.next();
    assert_eq!(
        (&before["data"]["message"], &before["data"]["backlog"]),
        (&json!("two"), &json!(true))
    );
    web.home.file("go", "");
    let live = socket.next();
    assert_eq!(
        (&live["data"]["message"], &live["data"]["backlog"]),
        (&json!("three"), &json!(false))
    );
}

#[test]
fn a_slow_client_is_told_what_it_missed_and_how_things_are() {
    let web = Web::new();
    let mut slow = web.socket();
    slow.ask("subscribe", &json!({"events": ["log_message", "process_status"]}));
    let mut actor = web.socket();
    // More than the kernel takes for one who does not read.
    let script = "yes 0123456789012345678901234567890123456789 | head -n 200000; exec sleep 1000";
    let config = json!({"script": "/bin/sh", "args": ["-c", script]});
    actor.ask("command", &json!({"action": "start", "process": "loud", "config": config}));
    crate::harness::until("all is written", || {
        let written = std::fs::metadata(web.home.path("logs/loud-out.log"));
        written.is_ok_and(|meta| meta.len() == 200_000 * 41)
    });
    start(&mut actor, "quiet");
    let lagged = slow.until(|message| message["type"] == "lagged");
    assert!(lagged["data"]["dropped"]["log_message"].as_u64().unwrap() > 1000, "{lagged}");
    // Told by a snapshot where its changes fell into the gap, by the changes themselves where not.
    slow.until(|message| {
        message["data"]["name"] == "quiet" && message["data"]["status"] == "online"
    });
    // Nobody else was slowed down.
    assert_eq!(actor.ask("ping", &json!({}))["type"], "pong");
}
