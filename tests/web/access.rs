//! Who may come in.

use serde_json::json;

use crate::client::{Socket, Web};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const READ: &str = "fedcba9876543210fedcba9876543210";
/// [`TOKEN`] in base64url.
const OFFER: &str =
    "Sec-WebSocket-Protocol: pmd.v1, pmd.auth.MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

fn with_token() -> Web {
    Web::with(&[], &[("PMD_WEB_TOKEN", TOKEN)])
}

fn refused(opened: Result<Socket, crate::client::Response>) -> (u16, String) {
    match opened {
        Ok(_) => panic!("it was let in"),
        Err(response) => response.refusal(),
    }
}

#[test]
fn names_of_others_are_not_answered_to() {
    let web = Web::with(&["--web-allow-host", "box.lan"], &[]);
    let ask = |host: &str| {
        let text =
            format!("GET /api/processes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        web.raw(text.as_bytes())
    };
    for host in ["localhost", "127.0.0.1:1", "[::1]", "box.lan:9615"] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", ""] {
        assert_eq!(ask(host).refusal(), (403, "FORBIDDEN_HOST".into()), "{host}");
    }
    // The page and the list of paths hold nothing, but they answer to no other name either.
    let text = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(web.raw(text.as_bytes()).status, 403);
}

#[test]
fn pages_of_others_may_not_connect_unless_they_are_listed() {
    let web = Web::with(&["--web-allow-origin", "http://good.example"], &[]);
    let own = format!("Origin: http://{}", web.address);
    assert!(Socket::open(&web, &[&own]).is_ok());
    assert!(Socket::open(&web, &["Origin: http://good.example"]).is_ok());
    for origin in ["http://evil.example", "null", "http://localhost"] {
        let header = format!("Origin: {origin}");
        let refusal = (403, "FORBIDDEN_ORIGIN".to_owned());
        assert_eq!(refused(Socket::open(&web, &[&header])), refusal, "{origin}");
        assert_eq!(web.request("GET", "/api/processes", &[&header], "").refusal(), refusal);
        assert_eq!(web.request("OPTIONS", "/api/processes", &[&header], "").refusal(), refusal);
    }
    let good = "Origin: http://good.example";
    let seen = web.request("GET", "/api/processes", &[good], "");
    assert_eq!(seen.header("access-control-allow-origin"), Some("http://good.example"));
    assert_eq!(seen.header("vary"), Some("Origin"));
    let asked = web.request("OPTIONS", "/api/processes", &[good], "");
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-methods"), Some("GET, POST, DELETE"));
}

#[test]
fn a_token_opens_in_each_of_its_forms() {
    let web = with_token();
    let get = |header: &str| web.request("GET", "/api/processes", &[header], "");
    for form in ["Authorization: Bearer", "Authorization: ApiKey", "X-API-Key:"] {
        assert_eq!(get(&format!("{form} {TOKEN}")).status, 200, "{form}");
        let wrong = get(&format!("{form} {}", TOKEN.replace('f', "e")));
        assert_eq!(wrong.refusal(), (401, "UNAUTHORIZED".into()), "{form}");
        assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(get("Accept: */*").status, 401);
    assert_eq!(web.get(&format!("/api/processes?token={TOKEN}")).status, 401);
    assert_eq!(web.get("/healthz").status, 200, "health needs no token");
    assert_eq!(web.get("/").status, 200, "nor does the page");

    let mut socket = Socket::open(&web, &[OFFER, "Origin: http://evil.example"])
        .unwrap_or_else(|response| panic!("{response:?}"));
    assert_eq!(socket.next()["data"]["access"], "full");
    assert_eq!(refused(Socket::open(&web, &["X-API-Key: wrong"])), (401, "UNAUTHORIZED".into()));
}

#[test]
fn a_token_may_come_as_the_first_message() {
    let web = with_token();
    let mut socket = Socket::open(&web, &[]).unwrap_or_else(|response| panic!("{response:?}"));
    let hello = socket.next();
    assert_eq!(
        (&hello["data"]["access"], &hello["data"]["auth_required"]),
        (&json!("none"), &json!(true))
    );
    assert_eq!(socket.ask("get_info", &json!({}))["data"]["code"], "UNAUTHORIZED");
    let hello = socket.ask("auth", &json!({"token": TOKEN}));
    assert_eq!((&hello["type"], &hello["data"]["access"]), (&json!("hello"), &json!("full")));
    assert_eq!(socket.ask("ping", &json!({}))["type"], "pong");

    let mut socket = Socket::open(&web, &[]).unwrap_or_else(|response| panic!("{response:?}"));
    socket.next();
    assert_eq!(socket.ask("auth", &json!({"token": READ}))["data"]["code"], "UNAUTHORIZED");
    assert_eq!(socket.close_code(), 4401);
}

#[test]
fn few_wait_with_their_token_and_not_for_long() {
    let web = with_token();
    let mut waiting: Vec<Socket> = (0..8).map_while(|_| Socket::open(&web, &[]).ok()).collect();
    assert_eq!(waiting.len(), 8);
    let ninth = Socket::open(&web, &[]).err().unwrap();
    assert_eq!((ninth.status, ninth.header("retry-after")), (503, Some("5")));
    assert_eq!(waiting[0].close_code(), 4401);
    assert!(Socket::open(&web, &[]).is_ok());
}

#[test]
fn a_token_to_read_opens_no_more() {
    let web = Web::new();
    web.home.file("pmd.json", json!({"web.read_token": READ}).to_string());
    crate::harness::send(web.home.daemon_pid(), 1);
    let key = format!("X-API-Key: {READ}");
    crate::harness::until("the settings are read again", || {
        web.get("/api/processes").status == 401
    });
    assert_eq!(web.request("GET", "/api/processes", &[&key], "").status, 200);
    let stop = web.request("POST", "/api/processes/a/stop", &[&key], "");
    assert_eq!(stop.refusal(), (403, "PERMISSION_DENIED".into()));
    let mut socket = Socket::open(&web, &[&key]).unwrap_or_else(|response| panic!("{response:?}"));
    assert_eq!(socket.next()["data"]["access"], "read");
    let stop = socket.ask("command", &json!({"action": "stop", "process": "a"}));
    assert_eq!(stop["data"]["code"], "PERMISSION_DENIED");
    assert_eq!(socket.ask("get_info", &json!({}))["type"], "process_info");
}

#[test]
fn guessing_is_slow() {
    let web = with_token();
    let guess = || web.request("GET", "/api/processes", &["X-API-Key: 0123456789abcdef"], "");
    // More than a second's worth: some of them meet the limit.
    let limited = (0..100).map(|_| guess()).find(|response| response.status != 401).unwrap();
    assert_eq!(limited.refusal(), (429, "RATE_LIMITED".into()));
    assert_eq!(limited.header("retry-after"), Some("1"));
    // Who has the token gets in again, in a moment.
    let key = format!("X-API-Key: {TOKEN}");
    crate::harness::until("the second is over", || {
        web.request("GET", "/api/processes", &[&key], "").status == 200
    });
}

#[test]
fn another_user_of_this_host_is_refused() {
    if !crate::harness::is_root() {
        return;
    }
    let web = Web::new();
    // As the user nobody: a socket that was opened by it belongs to it.
    let ask = |uid: u32| {
        let script = format!(
            "import encodings.idna, os, socket; os.setuid({uid}); s = socket.create_connection(('127.0.0.1', {})); \
             s.sendall(b'GET /api/processes HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n'); \
             print(s.makefile().read())",
            web.address.port()
        );
        let output = std::process::Command::new("python3").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(ask(0).starts_with("HTTP/1.1 200 "));
    let refused = ask(65_534);
    assert!(
        refused.starts_with("HTTP/1.1 403 ") && refused.contains("FORBIDDEN_USER"),
        "{refused}"
    );
    web.home.file("pmd.json", json!({"web": {"trusted_uids": [65534]}}).to_string());
    crate::harness::send(web.home.daemon_pid(), 1);
    crate::harness::until("it is trusted", || ask(65_534).starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_is_open_to_the_network_needs_a_token() {
    let home = crate::harness::Home::without_daemon();
    let refused = [
        "pmd: error: refusing to listen on 0.0.0.0:1 without a token",
        "  try:  pmd set web.token_file <file>",
    ];
    home.pmd(&["daemon", "--foreground", "--web", "0.0.0.0:1"]).told(6, &refused);
    home.pmd(&["daemon", "--web", "0.0.0.0:1"]).told(6, &refused);
    home.file("token", format!("{TOKEN}\n"));
    let readable =
        home.pmd(&["daemon", "--foreground", "--web", "0.0.0.0:1", "--web-token-file", "token"]);
    readable.failed(6, "can be read by others (mode 0644)");
}
