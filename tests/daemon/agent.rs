//! The agent as its owner sees it: linked, shown, ended. What back ends see is tested in `tests/agent`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::{Home, until};

const SECRET: &str = "TOPSECRET";

/// A root that lets nobody in. It ends with the test.
fn root() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"disabled\":true}");
        }
    });
    place
}

fn status(home: &Home) -> Value {
    home.json(&["agent", "status"]).0["agent"].clone()
}

#[test]
fn without_keys_there_is_no_agent() {
    let home = Home::new();
    assert_eq!(status(&home)["state"], "off");
    assert_eq!(home.ok(&["link", "info"]).out, "off\n");
    assert!(!home.path(".pm2/interactor.sock").exists());
    home.pmd(&["link", "one"]).failed(2, "a secret, a public key");
    home.pmd(&["link", SECRET, "pub"]).failed(1, "--info-node");
    assert_eq!(status(&home)["state"], "off");
}

#[test]
fn a_link_is_for_its_owner_alone_and_its_secret_is_never_shown() {
    let home = Home::new();
    let root = root();
    home.ok(&["link", SECRET, "pub", "edge-1", "--info-node", &root]);
    let file = home.path(".pm2/agent.json5");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_str(&home.read(".pm2/agent.json5")).unwrap();
    assert_eq!((&kept["secret_key"], &kept["machine_name"]), (&json!(SECRET), &json!("edge-1")));
    let socket = home.path(".pm2/interactor.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    until("the root has said no", || {
        status(&home)["links"][0]["error"] == "the bucket is disabled"
    });
    let shown = status(&home);
    assert_eq!((&shown["state"], &shown["secret_key"]), (&json!("on"), &json!("***")));
    let texts = [
        shown.to_string(),
        home.ok(&["agent", "status"]).out,
        home.ok(&["link", "info"]).out,
        home.read("daemon.err"),
    ];
    assert!(
        texts[1].contains("edge-1") && texts[1].contains("the bucket is disabled"),
        "{texts:?}"
    );
    assert!(texts.iter().all(|text| !text.contains(SECRET)), "{texts:?}");
    let warnings = texts[3].matches("the bucket is disabled").count();
    assert_eq!(warnings, 1, "{}", texts[3]);
    home.ok(&["unlink"]);
    assert_eq!(status(&home)["state"], "off");
    assert!(!file.exists() && !socket.exists());
}

#[test]
fn a_linked_daemon_connects_again_at_its_next_start_and_others_do_not_hear_of_it() {
    let mut home = Home::without_daemon();
    let root = root();
    let mut command = home.daemon_command();
    for (name, value) in
        [("PM2_SECRET_KEY", SECRET), ("PM2_PUBLIC_KEY", "pub"), ("KEYMETRICS_NODE", root.as_str())]
    {
        command.env(name, value);
    }
    home.boot_with(command);
    assert_eq!(status(&home)["state"], "on");
    let name = status(&home)["machine_name"].as_str().unwrap().to_owned();
    let script = home.script("show.sh", "env > shown; sleep 1000");
    home.ok(&["start", &script, "--name", "show"]);
    home.await_text("shown", "PMD_NAME=show");
    assert!(!home.read("shown").contains(SECRET), "{}", home.read("shown"));
    home.end(15);
    assert!(!home.path(".pm2/interactor.sock").exists());
    home.boot();
    assert_eq!(status(&home)["state"], "off", "the keys were variables");
    home.ok(&["link", SECRET, "pub", "--info-node", &root]);
    assert_eq!(status(&home)["machine_name"], name.as_str(), "a name stays");
    home.end(15);
    home.boot();
    assert_eq!(status(&home)["state"], "on");
}

#[test]
fn one_agent_is_enough() {
    let mut home = Home::without_daemon();
    home.file(
        ".pm2/agent.json5",
        json!({"public_key": "p", "secret_key": SECRET,
        "info_node": root()})
        .to_string(),
    );
    let _other = UnixListener::bind(home.path(".pm2/interactor.sock")).unwrap();
    home.boot();
    let shown = status(&home);
    assert_eq!(shown["state"], "off");
    assert!(shown["trouble"].as_str().unwrap().starts_with("another agent (pid "), "{shown}");
    assert!(home.path(".pm2/interactor.sock").exists());
    let doctor = home.json(&["doctor"]).0;
    assert!(doctor.to_string().contains("agent off"), "{doctor}");
}

#[test]
fn a_broken_file_is_said_and_nothing_else_suffers() {
    let mut home = Home::without_daemon();
    home.file(".pm2/config.json", "{\"transporters\": ");
    home.boot();
    assert!(status(&home)["trouble"].as_str().unwrap().contains("config.json"));
    home.ok(&["start", &home.script("a.sh", "sleep 1000"), "--name", "a"]);
    home.await_status("a", "online");
}
