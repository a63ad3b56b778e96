//! Settings that are changed while the daemon runs, and the token.

use std::net::TcpListener;

use serde_json::json;

use crate::client::{Socket, Web};

/// A daemon that listens where its settings say.
fn by_settings() -> Web {
    let mut home = crate::harness::Home::without_daemon();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    home.file("pmd.json", json!({"web.listen": address.to_string()}).to_string());
    let mut command = home.daemon_command();
    command.env_remove("PMD_WEB");
    home.boot_with(command);
    home.await_text("daemon.err", "web interface on");
    Web { home, address }
}

#[test]
fn the_address_is_changed_at_once_and_clients_stay() {
    let mut web = by_settings();
    let mut socket = web.socket();
    let mut control = web.home.control();
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let set = control
        .ask("set_setting", &json!({"key": "web.listen", "value": format!("127.0.0.1:{other}")}));
    assert_eq!(set["data"]["takes_effect"], "now", "{set}");
    assert_eq!(socket.ask("ping", &json!({}))["type"], "pong");
    assert!(std::net::TcpStream::connect(web.address).is_err());
    web.address.set_port(other);
    assert_eq!(web.get("/healthz").status, 200);
    let told = control.ask("get_daemon", &json!({}));
    assert_eq!(told["data"]["web"]["addresses"][0]["address"], format!("127.0.0.1:{other}"));
    assert_eq!(told["data"]["web"]["clients"], 1);
}

#[test]
fn a_port_that_is_taken_is_no_reason_to_stay_down() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let mut home = crate::harness::Home::without_daemon();
    let mut command = home.daemon_command();
    command.args(["--web", &address]);
    home.boot_with(command);
    home.await_text("daemon.err", &format!("web interface off: {address} is in use"));
    home.ok(&["start", "sleep 100", "--name", "a"]);
    let told = home.control().ask("get_daemon", &json!({}));
    assert_eq!(told["data"]["web"]["state"], "off");
    assert_eq!(told["data"]["web"]["addresses"][0]["why"], "is in use");
    assert!(told["data"]["problems"].to_string().contains("is in use"), "{told}");
}

#[test]
fn a_new_token_shuts_out_who_came_without() {
    let web = Web::new();
    let mut socket = web.socket();
    let made = web.home.control().ask("token", &json!({"op": "new"}));
    let token = made["data"]["token"].as_str().unwrap().to_owned();
    assert!(token.len() >= 43, "256 bits: {token}");
    assert_eq!(socket.close_code(), 4403);
    assert_eq!(web.get("/api/processes").status, 401);
    let key = format!("X-API-Key: {token}");
    assert_eq!(web.request("GET", "/api/processes", &[&key], "").status, 200);
    let file = std::fs::metadata(web.home.path("web.token")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&file) & 0o777, 0o600);
    assert_eq!(
        web.home.control().ask("token", &json!({"op": "show"}))["data"]["token"],
        token.as_str()
    );
    // Another one, and the first is worth nothing.
    let again = web.home.control().ask("token", &json!({"op": "new"}));
    assert_ne!(again["data"]["token"], token.as_str());
    assert!(Socket::open(&web, &[&key]).is_err());
    // It survives the daemon.
    let mut web = web;
    web.home.end(15);
    web.reboot();
    let key = format!("X-API-Key: {}", again["data"]["token"].as_str().unwrap());
    assert_eq!(web.request("GET", "/api/processes", &[&key], "").status, 200);
}

#[test]
fn settings_are_checked_before_they_are_written() {
    let web = Web::new();
    let mut control = web.home.control();
    let text = "{\n  \"log\": {\"keep\": 3},\n  \"apps\": []\n}\n";
    web.home.file("pmd.json", text);
    for (key, value, code) in [
        ("web.lissten", json!("off"), "INVALID_ARGUMENT"),
        ("web.listen", json!("nowhere"), "INVALID_CONFIG"),
        ("log.keep", json!("many"), "INVALID_CONFIG"),
        ("web.token", json!("short"), "INVALID_CONFIG"),
        ("web.token_file", json!("/no/such/file"), "INVALID_CONFIG"),
    ] {
        let reply = control.ask("set_setting", &json!({"key": key, "value": value}));
        assert_eq!(reply["data"]["code"], code, "{key}: {reply}");
    }
    assert_eq!(web.home.read("pmd.json"), text);
    let reply = control.ask("set_setting", &json!({"key": "log.keep", "value": 9}));
    assert_eq!(reply["data"]["takes_effect"], "now");
    assert_eq!(web.home.read("pmd.json"), text.replace('3', "9"));
    let reply = control.ask("set_setting", &json!({"key": "stop_on_exit", "value": false}));
    assert_eq!(reply["data"]["takes_effect"], "next start");
    let reply = control.ask("set_setting", &json!({"key": "stop_on_exit", "value": null}));
    assert_eq!(reply["type"], "settings");
    assert_eq!(web.home.read("pmd.json"), text.replace('3', "9"));
    let all = control.ask("get_settings", &json!({}));
    assert_eq!(
        (&all["data"]["values"]["log.keep"], &all["data"]["values"]["save"]),
        (&json!(9), &json!(true))
    );
    assert_eq!(
        control.ask("get_settings", &json!({"key": "nope"}))["data"]["code"],
        "INVALID_ARGUMENT"
    );
}

#[test]
fn an_address_beyond_this_host_is_refused_without_a_token_at_any_time() {
    let web = by_settings();
    web.home.file("pmd.json", json!({"web.listen": "0.0.0.0:1"}).to_string());
    crate::harness::send(web.home.daemon_pid(), 1);
    web.home
        .await_text("daemon.err", "settings stay as they were: refusing to listen on 0.0.0.0:1");
    assert_eq!(web.get("/healthz").status, 200);
}

#[test]
fn the_command_line_shows_and_changes_settings() {
    let web = by_settings();
    let home = &web.home;
    assert_eq!(home.ok(&["get", "log.keep"]).out, "5\n");
    assert_eq!(home.ok(&["set", "log.keep", "7"]).out, "log.keep = 7\n");
    assert_eq!(home.ok(&["get", "log.keep"]).out, "7\n");
    let later = home.ok(&["set", "stop_on_exit", "false"]).out;
    assert_eq!(later, "stop_on_exit = false  (from the next start of the daemon on)\n");
    assert_eq!(home.ok(&["unset", "log.keep"]).out, "log.keep is as it is by default\n");
    let all = home.ok(&["conf"]).out;
    assert!(all.lines().any(|line| line.starts_with("log.keep ") && line.ends_with(" 5")), "{all}");
    home.pmd(&["set", "log.kep", "7"]).failed(2, "unknown setting 'log.kep'");
    home.pmd(&["set", "log.keep", "many"]).failed(6, "'log.keep' must be a whole number");
    // PM2's log rotation is built in, under other names.
    let moved = home.ok(&["set", "pm2-logrotate:max_size", "20M"]);
    assert!(
        moved.err.contains("'pm2-logrotate:max_size' is called 'log.max_size' here"),
        "{moved:?}"
    );
    assert!(home.read("pmd.json").contains("\"log.max_size\": \"20M\""));
    assert!(home.ok(&["set", "pm2-logrotate:workerInterval", "30"]).err.contains("not needed"));
    assert_eq!(home.json(&["get", "log.max_size"]).0["values"]["log.max_size"], 20 << 20);
}

#[test]
fn settings_are_changed_without_a_daemon_too() {
    let home = crate::harness::Home::without_daemon();
    assert!(home.ok(&["set", "web.anonymous", "read"]).out.starts_with("web.anonymous = read"));
    assert_eq!(home.ok(&["get", "web.anonymous"]).out, "read\n");
    home.pmd(&["set", "web.anonymous", "all"]).failed(6, "must be \"full\", \"read\" or \"none\"");
    home.ok(&["unset", "web.anonymous"]);
    assert_eq!(home.read("pmd.json"), "{}\n");
}

#[test]
fn the_command_line_shows_the_web_interface_and_its_token() {
    let web = by_settings();
    let home = &web.home;
    let _client = web.socket();
    let shown = home.ok(&["web"]).out;
    let on = format!(
        "on   http://{}\nfor  the daemon's own user and root\nnow  1 clients\n",
        web.address
    );
    assert_eq!(shown, on);
    home.pmd(&["web", "token", "show"]).failed(1, "no token is set");
    let token = home.ok(&["web", "token", "new", "-q"]).out;
    assert_eq!(home.ok(&["show-api-key"]).out, token);
    assert_ne!(home.ok(&["regenerate-api-key"]).out, token);
    assert!(home.ok(&["web"]).out.contains("for  whoever has the token\n"));
    home.pmd(&["web", "cookie"]).failed(2, "'cookie'");
    assert_eq!(home.ok(&["get", "web.token"]).out, "***\n", "no secret is shown in passing");
}
