//! HTTP and REST.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::client::{Response, Web};
use crate::harness::is_alive;

const SLEEPER: &str = "exec sleep 1000";

fn sleeper(name: &str) -> Value {
    json!({"name": name, "script": "/bin/sh", "args": ["-c", SLEEPER]})
}

#[test]
fn a_life_over_rest() {
    let web = Web::new();
    let created = web.post("/api/processes", &sleeper("web"));
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["data"][0]["pm_id"].as_u64().unwrap();
    assert_eq!(created.header("location"), Some(format!("/api/processes/{id}").as_str()));
    assert_eq!(
        web.post("/api/processes", &sleeper("web")).refusal(),
        (409, "PROCESS_ALREADY_EXISTS".into())
    );

    let one = web.get("/api/processes/web").json();
    let process = &one["data"];
    assert_eq!((&one["success"], &process["status"]), (&json!(true), &json!("online")));
    let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(process["pm2_env"]["name"], "web");
    assert!(process["pm2_env"].get("env").is_none(), "no variables");
    assert_eq!(web.get(&format!("/api/processes/{id}")).json()["data"]["name"], "web");

    let restarted = web.post("/api/processes/web/restart", &Value::Null);
    assert_eq!(restarted.json()["message"], "process 'web' restarted");
    assert!(!is_alive(pid));
    let started = web.post("/api/processes/web/start", &Value::Null);
    assert_eq!((started.status, &started.json()["success"]), (200, &json!(true)));
    assert_eq!(web.post("/api/processes/web/stop", &Value::Null).status, 200);
    let list = web.get("/api/processes?status=stopped").json();
    assert_eq!((&list["meta"]["total"], &list["data"][0]["name"]), (&json!(1), &json!("web")));
    assert_eq!(web.get("/api/processes?name=other").json()["meta"]["total"], 0);

    assert_eq!(web.request("DELETE", "/api/processes/web", &[], "").status, 200);
    let gone = web.get("/api/processes/web");
    assert_eq!(gone.refusal(), (404, "PROCESS_NOT_FOUND".into()));
    assert_eq!(
        (&gone.json()["success"], &gone.json()["error"]),
        (&json!(false), &json!("Not Found"))
    );
}

#[test]
fn several_instances_are_shown_with_the_first() {
    let web = Web::new();
    let mut config = sleeper("api");
    config["instances"] = 2.into();
    assert_eq!(web.post("/api/processes", &config).status, 201);
    let shown = web.get("/api/processes/api").json();
    assert_eq!(shown["data"]["instances"].as_array().unwrap().len(), 2);
    assert_eq!(web.get("/api/processes/api:1").json()["data"]["instance_id"], 1);
}

#[test]
fn logs_over_rest() {
    let web = Web::new();
    let script = "echo one; echo two; echo bad >&2; exec sleep 1000";
    let config = json!({"name": "talk", "script": "/bin/sh", "args": ["-c", script]});
    assert_eq!(web.post("/api/processes", &config).status, 201);
    let read = |query: &str| web.get(&format!("/api/processes/talk/logs{query}")).json();
    crate::harness::until("all is written", || {
        read("")["data"]["entries"].as_array().is_some_and(|entries| entries.len() == 3)
    });
    let out = read("?lines=1&type=out");
    assert_eq!(out["data"]["logs"], "two\n");
    assert_eq!(out["data"]["entries"][0]["stream"], "stdout");
    let error = web.get("/api/logs/talk?type=error").json();
    assert_eq!(
        (&error["data"]["logs"], &error["data"]["process_id"]),
        (&json!("bad\n"), &json!("talk"))
    );
    assert_eq!(web.get("/api/logs/talk?lines=many").refusal(), (400, "INVALID_ARGUMENT".into()));
}

#[test]
fn every_response_has_its_guards() {
    let web = Web::new();
    for path in ["/api/processes", "/healthz", "/nope", "/"] {
        let response = web.get(path);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-type", "application/json; charset=utf-8"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}: {response:?}");
        }
        assert!(response.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert!(response.header("access-control-allow-origin").is_none());
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let web = Web::new();
    let json = "Content-Type: application/json";
    assert_eq!(web.get("/nope").status, 404);
    let wrong = web.request("DELETE", "/api/processes", &[], "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD, POST")));
    for (headers, body, refusal) in [
        (&[json][..], "{x", (400, "INVALID_JSON")),
        (&[json], "[]", (400, "INVALID_JSON")),
        (&["Content-Type: text/plain"], "{}", (415, "INVALID_MESSAGE")),
        (&[], "{}", (415, "INVALID_MESSAGE")),
        (&[json], r#"{"name":"a"}"#, (400, "INVALID_CONFIG")),
        (&[json], r#"{"name":"a","script":"sleep","instances":"many"}"#, (400, "INVALID_CONFIG")),
    ] {
        let (status, code) = refusal;
        let response = web.request("POST", "/api/processes", headers, body);
        assert_eq!(response.refusal(), (status, code.to_owned()), "{body}: {response:?}");
    }
    let socket = web.get("/ws");
    assert_eq!((socket.status, socket.header("upgrade")), (426, Some("websocket")));
    // Nothing of it ended the daemon.
    assert_eq!(web.get("/healthz").json(), json!({"status": "ok"}));
}

#[test]
fn requests_that_come_at_once_are_answered_in_order() {
    let web = Web::new();
    let mut stream = web.connect();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let all: String = ["/healthz", "/nope", "/api/processes", "/healthz"].map(request).concat();
    stream.write_all(all.as_bytes()).unwrap();
    let statuses = [(); 4].map(|()| Response::read(&mut stream).status);
    assert_eq!(statuses, [200, 404, 200, 200]);
    // A half-close is no reason not to answer.
    stream.write_all(request("/healthz").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(Response::read(&mut stream).status, 200);
    assert_eq!(Response::read(&mut stream).status, 0);
}

#[test]
fn a_body_may_come_in_chunks() {
    let web = Web::new();
    let body = sleeper("chunked").to_string();
    let (one, two) = body.split_at(20);
    let text = format!(
        "POST /api/processes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    assert_eq!(web.raw(text.as_bytes()).status, 201);
}

#[test]
fn the_host_and_what_processes_use_are_told() {
    let web = Web::new();
    assert_eq!(web.post("/api/processes", &sleeper("web")).status, 201);
    let system = web.get("/api/system").json();
    let (data, old) = (&system["data"], &system["data"]["system"]);
    assert!(data["memory"]["total"].as_u64().unwrap() > 0, "{system}");
    assert_eq!(data["memory"]["total"], old["memory"]["total"]);
    assert_eq!(old["load_average"].as_array().unwrap().len(), 3);
    let status = web.get("/api/status").json();
    assert_eq!(status["data"]["processes"][0]["name"], "web");
    assert!(status["data"]["processes"][0]["monit"]["memory"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["data"]["meta"]["node_version"], "N/A (Rust)");
    assert_eq!(web.get("/api/processes/web/health").refusal(), (404, "PROCESS_NOT_FOUND".into()));
}

#[test]
fn metrics_are_told_in_both_formats() {
    let web = Web::new();
    assert_eq!(web.post("/api/processes", &sleeper("web")).status, 201);
    let plain = web.get("/metrics");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let labels = "name=\"web\",id=\"0\",namespace=\"default\",instance=\"0\"";
    for line in [
        format!("pmd_process_up{{{labels}}} 1"),
        format!("pmd_process_state{{{labels},state=\"online\"}} 1"),
        "# TYPE pmd_process_restarts_total counter".to_owned(),
        "pmd_processes{status=\"online\"} 1".to_owned(),
        "pmd_http_requests_total{code=\"201\"} 1".to_owned(),
    ] {
        assert!(plain.text().lines().any(|found| found == line), "{line}: {}", plain.text());
    }
    let open = "Accept: application/openmetrics-text; version=1.0.0";
    let open = web.request("GET", "/metrics", &[open], "");
    assert!(
        open.text().ends_with("# EOF\n")
            && open.text().contains("# TYPE pmd_process_restarts counter\n")
    );
}

#[test]
fn the_dashboard_is_served_once() {
    let web = Web::new();
    let page = web.request("GET", "/", &["Accept: text/html,*/*;q=0.8"], "");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/app.js", "/app.css"] {
        let file = web.get(path);
        assert_eq!((file.status, file.header("cache-control")), (200, Some("no-cache")));
        let tag = format!("If-None-Match: {}", file.header("etag").unwrap());
        let again = web.request("GET", path, &[&tag], "");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    let mut stream = web.connect();
    stream.write_all(b"HEAD /app.js HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = String::new();
    std::io::Read::read_to_string(&mut stream, &mut head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}
