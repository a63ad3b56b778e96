//! Clients that break the rules, or the daemon.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::client::{Response, Socket, Web};

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let web = Web::new();
    let long = vec![b' '; 64 * 1024 + 1];
    for (first, payload, code) in [
        (0x83, &b""[..], 1002),
        (0xc1, b"{}", 1002),
        (0x80, b"{}", 1002),
        (0x82, b"{}", 1003),
        (0x81, b"\xff\xfe", 1007),
        (0x81, &long, 1009),
    ] {
        let mut socket = web.socket();
        socket.frame(first, payload);
        assert_eq!(socket.close_code(), code, "{first:x}");
    }
    let mut socket = web.socket();
    socket.stream().write_all(b"\x81\x02{}").unwrap();
    assert_eq!(socket.close_code(), 1002, "not masked");
    assert_eq!(web.socket().ask("ping", &json!({}))["type"], "pong");
}

#[test]
fn fragments_are_one_message_up_to_the_limit() {
    let web = Web::new();
    let mut socket = web.socket();
    socket.frame(0x01, br#"{"type":"#);
    socket.frame(0x00, br#""ping","id""#);
    socket.frame(0x89, b"in between");
    socket.frame(0x80, b":1}");
    assert_eq!(socket.take(), Some((0xa, b"in between".to_vec())));
    assert_eq!(socket.next()["reply_to"], 1);
    socket.frame(0x01, &[b' '; 60_000]);
    socket.frame(0x00, &[b' '; 5_000]);
    socket.frame(0x00, &[b' '; 5_000]);
    assert_eq!(socket.close_code(), 1009);
}

#[test]
fn deep_and_foolish_json_is_refused_and_too_much_of_it_ended() {
    let web = Web::new();
    let mut socket = web.socket();
    let deep = format!(r#"{{"type":"ping","data":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    socket.frame(0x81, deep.as_bytes());
    assert_eq!(socket.next()["data"]["code"], "INVALID_JSON");
    for _ in 0..19 {
        socket.frame(0x81, b"[1]");
    }
    assert_eq!(socket.close_code(), 1008);
}

#[test]
fn a_flood_is_refused() {
    let web = Web::new();
    let mut socket = web.socket();
    for _ in 0..400 {
        socket.say("ping", &json!({}));
    }
    let limited = socket.until(|message| message["type"] == "error");
    assert_eq!(limited["data"]["code"], "RATE_LIMITED");
}

#[test]
fn heads_that_are_too_big_or_never_end_are_told_so() {
    let web = Web::new();
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "y".repeat(10_000));
    assert_eq!(web.raw(long.as_bytes()).status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(web.raw(many.as_bytes()).status, 431);
    assert_eq!(web.raw(b"GET / HTTP/1.1\r\nHost: lo").status, 408);
    assert_eq!(web.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").status, 400);
    let body = "x".repeat(100_000);
    let refused = web.request("POST", "/api/processes", &["Content-Type: application/json"], &body);
    assert_eq!(refused.status, 413);
}

#[test]
fn clients_beyond_the_limit_are_told_to_come_later() {
    let web = Web::new();
    web.home.control().ask("set_setting", &json!({"key": "web.max_clients", "value": 3}));
    let _clients: Vec<Socket> = (0..3).map(|_| web.socket()).collect();
    let refused = Socket::open(&web, &[]).err().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(web.get("/healthz").status, 200);
}

#[test]
fn a_thousand_connections_that_say_nothing_harm_nobody() {
    let web = Web::new();
    web.home.ok(&["start", "sleep 100", "--name", "a"]);
    let _idle: Vec<TcpStream> =
        (0..1100).map_while(|_| TcpStream::connect(web.address).ok()).collect();
    // The command line has its own places.
    assert_eq!(web.home.entry("a")["status"], "online");
    // They are closed one after the other, and there is room again.
    crate::harness::until("there is room", || {
        let mut stream = web.connect();
        stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        Response::read(&mut stream).status == 200
    });
}

#[test]
fn a_peer_that_takes_nothing_costs_its_limit_and_no_more() {
    let web = Web::new();
    let mut deaf = web.socket();
    deaf.ask("subscribe", &json!({"events": ["log_message"]}));
    let script = "yes 01234567890123456789 | head -c 30000000; exec sleep 1000";
    let config = json!({"script": "/bin/sh", "args": ["-c", script]});
    let mut actor = web.socket();
    actor.ask("command", &json!({"action": "start", "process": "loud", "config": config}));
    crate::harness::until("all is written", || {
        let size = |end: &str| {
            let file = std::fs::metadata(web.home.path(&format!("logs/loud-out.log{end}")));
            file.map_or(0, |meta| meta.len())
        };
        size("") + size(".1") + size(".2") == 30_000_000
    });
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", web.home.daemon_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB");
    assert_eq!(actor.ask("ping", &json!({}))["type"], "pong");
}

#[test]
fn noise_of_every_kind_ends_nothing() {
    let web = Web::new();
    let mut seed = 0x9e37_79b9_u32;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed
    };
    for round in 0..40 {
        let noise: Vec<u8> = (0..random() % 3000).map(|_| random().to_le_bytes()[0]).collect();
        if round % 2 == 0 {
            let mut stream = web.connect();
            let _ = stream.write_all(&noise);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 64]);
        } else {
            let mut socket = web.socket();
            let _ = socket.stream().write_all(&noise);
        }
    }
    assert_eq!(web.get("/healthz").status, 200);
    assert_eq!(web.socket().ask("ping", &json!({}))["type"], "pong");
}
