//! The hub of ipevents, seen from its peers: children, and clients on its sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Home, until};

/// A client on the Unix socket, which calls itself what all of them do.
struct Peer {
    lines: BufReader<UnixStream>,
    name: &'static str,
}

impl Peer {
    fn join(path: &Path, name: &'static str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut peer = Self { lines: BufReader::new(stream), name };
        peer.say(&json!({"type": "toParents", "event": "online", "args": []}));
        let parent = peer.hear();
        assert_eq!((&parent["event"], &parent["to"]), (&json!("parent"), &json!(name)));
        peer
    }

    fn say(&mut self, message: &Value) {
        let mut message = message.clone();
        for (key, value) in [("from", json!(self.name)), ("pids", json!([self.name]))] {
            let object = message.as_object_mut().unwrap();
            object.entry(key).or_insert(value);
        }
        self.lines.get_mut().write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    }
}

const NAMELESS: &str = "undefined:undefined";

/// A home whose hub listens on a Unix socket; a client of the control socket that may talk to it.
fn hub(home: &Home) -> std::path::PathBuf {
    let path = home.path("hub.sock");
    let wish = json!({"key": "ipevents.unix", "value": path});
    let reply = home.control().ask("set_setting", &wish);
    assert_eq!(reply["data"]["takes_effect"], "now", "{reply}");
    path
}

#[test]
fn peers_on_the_socket_find_each_other_and_the_daemon() {
    let home = Home::new();
    let path = hub(&home);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut events = home.control();
    events.ask("subscribe", &json!({"events": ["channel_event"]}));
    let mut one = Peer::join(&path, NAMELESS);
    let mut two = Peer::join(&path, NAMELESS);
    let online = |id: &str| {
        json!({"event": "ipevents:online", "process": null, "id": null,
        "namespace": null, "instance": null, "generation": null, "payload": {"id": id}})
    };
    assert_eq!(events.line().unwrap()["data"], online("unix:1"));
    assert_eq!(events.line().unwrap()["data"], online("unix:2"));
    one.say(&json!({"type": "broadcast", "event": "all", "args": [1, {"a": "ä"}]}));
    let heard = two.hear();
    assert_eq!(heard["from"], "unix:1");
    assert_eq!(heard["args"], json!([1, {"a": "ä"}]));
    assert_eq!(heard["pids"].as_array().unwrap().len(), 2, "{heard}");
    two.say(&json!({"type": "sendTo", "to": "unix:1", "route": [], "event": "back", "args": []}));
    assert_eq!(one.hear()["event"], "back");
    two.say(&json!({"type": "sendTo", "to": "nobody", "route": [], "event": "lost", "args": []}));
    let notice = two.hear();
    assert_eq!(notice["event"], "undeliverable");
    assert_eq!(notice["args"], json!([{"to": "nobody", "event": "lost", "reason": "no-route"}]));

    let mut control = home.control();
    let say = json!({"type": "sendTo", "to": "unix:2", "event": "hi", "args": [7]});
    assert_eq!(control.ask("ipevents.send", &say)["type"], "done");
    assert_eq!(two.hear()["args"], json!([7]));
    let none = json!({"type": "toChild", "to": "x", "event": "hi"});
    let refused = control.ask("ipevents.send", &none);
    assert_eq!(refused["data"]["details"]["reason"], "no-route", "{refused}");
    assert_eq!(
        control.ask("ipevents.send", &json!({"type": "toGM", "event": "x"}))["type"],
        "error"
    );
    let peers = control.ask("ipevents.peers", &json!({}))["data"].take();
    let names: Vec<&Value> =
        peers["peers"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(names, [&json!("unix:1"), &json!("unix:2")], "{peers}");
    assert!(home.ok(&["ipevents", "peers"]).out.contains("unix:2  unix"));

    // Forged names and nonsense harm nobody but who sends them.
    one.say(&json!({"type": "toGM", "event": "x", "args": [], "pids": ["1"], "from": "1"}));
    for _ in 0..16 {
        one.lines.get_mut().write_all(b"nonsense\n").unwrap();
    }
    let mut rest = String::new();
    one.lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "it was told nothing more, and closed");
    let gone = events.until(|message| message["data"]["event"] == "ipevents:offline");
    assert_eq!(gone["data"]["payload"]["id"], "unix:1");
    // The hub goes, and comes again.
    control.ask("set_setting", &json!({"key": "ipevents.unix", "value": null}));
    two.lines.read_to_string(&mut rest).unwrap();
    assert!(!path.exists());
    hub(&home);
    Peer::join(&path, NAMELESS);
}

#[test]
fn a_child_that_speaks_ipevents_opens_the_hub_for_others() {
    let home = Home::new();
    let mut events = home.control();
    events.ask("subscribe", &json!({"events": ["channel_event"]}));
    let script = home.script(
        "peer.sh",
        r#"say() { printf '{"from":"%s","pids":["%s"],"type":"%s","event":"%s","args":%s}\n' $$ $$ "$@" >&3; }
say toParents newListener '["go"]'
say toParents online '[]'
read -r line <&3
say toGM parent '[1]'
read -r line <&3; printf '%s\n' "$line" >heard
say toChilds wrong '[]'
exit 0"#,
    );
    assert!(!home.path("run/ipevents.sock").exists(), "nothing is there before it is used");
    home.ok(&["start", &script, "--name", "p", "--no-autorestart"]);
    let named = |name: &'static str| move |message: &Value| message["data"]["event"] == name;
    let online = events.until(named("ipevents:online"))["data"].take();
    assert_eq!(online["process"], "p");
    let child = online["payload"]["id"].as_str().unwrap().to_owned();
    assert_eq!(events.until(named("ipevents:event"))["data"]["payload"]["event"], "parent");
    let path = home.path("run/ipevents.sock");
    until("the socket is there", || path.exists());
    assert!(home.ok(&["show", "p"]).out.contains("ipevents"));
    let mut other = Peer::join(&path, "7000");
    other.say(&json!({"type": "toSiblings", "event": "not wanted", "args": []}));
    other.say(&json!({"type": "broadcast", "event": "go", "args": [5]}));
    let wrong = events.until(named("ipc:warn"));
    assert_eq!(wrong["data"]["payload"]["reason"], "wrong-direction");
    let offline = events.until(named("ipevents:offline"))["data"].take();
    assert_eq!((&offline["process"], &offline["payload"]), (&json!("p"), &json!({"id": child})));
    let heard: Value = serde_json::from_str(&home.read("heard")).unwrap();
    assert_eq!((&heard["event"], &heard["from"]), (&json!("go"), &json!("7000")));
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    let home = Home::new();
    let path = hub(&home);
    home.control().ask("set_setting", &json!({"key": "ipevents.max_queue", "value": "64K"}));
    let _deaf = Peer::join(&path, "1000001");
    let mut one = Peer::join(&path, "1000002");
    let mut two = Peer::join(&path, "1000003");
    let long = "x".repeat(4000);
    let mut lost = None;
    for round in 0..1000 {
        one.say(
            &json!({"type": "sendTo", "to": "1000001", "route": [], "event": "m", "args": [long]}),
        );
        one.say(
            &json!({"type": "sendTo", "to": "1000003", "route": [], "event": "n", "args": [round]}),
        );
        assert_eq!(two.hear()["args"], json!([round]));
        if round > 200 {
            one.lines.get_mut().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let mut line = String::new();
            if one.lines.read_line(&mut line).is_ok() {
                lost = Some(line);
                break;
            }
        }
    }
    let lost = lost.expect("the sender is told that its messages are lost");
    assert!(lost.contains("undeliverable") && lost.contains("overflow"), "{lost}");
}
