//! What programs say over their channel and are told over it, seen from outside. The programs are
//! shell scripts: whoever can write a line can speak.

use serde_json::{Value, json};

use crate::control::Control;
use crate::harness::{Home, until};

/// A client that hears what programs say.
fn listener(home: &Home) -> Control {
    let mut control = home.control();
    control.ask("subscribe", &json!({"events": ["channel_event", "process_event"]}));
    control
}

/// Takes messages until `name` happens; gives its data.
#[track_caller]
fn next(control: &mut Control, name: &str) -> Value {
    control.until(|message| message["data"]["event"] == name)["data"].take()
}

/// Starts a script that answers each line it is told.
fn start_echo(home: &Home, name: &str, more: Value) {
    let script = home.script(
        "echo.sh",
        r#"while IFS= read -r line <&3; do
printf '{"type":"echo","data":{"pid":%s,"got":%s}}\n' $$ "$line" >&3; done
echo gone >gone; exec sleep 100"#,
    );
    let mut config = json!({"name": name, "script": script, "ipc": "fd"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = home.control().ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(reply["data"]["ok"], true, "{reply}");
}

#[test]
fn a_program_in_any_language_is_heard() {
    let home = Home::new();
    let mut events = listener(&home);
    let script = home.script(
        "says.sh",
        r#"printf '{"type":"process:hello","data":{"lang":"sh"}}\n' >&$PMD_CHANNEL_FD
printf '\n   \nnonsense\n{"split":' >&$PMD_CHANNEL_FD
printf '1.50}\n"last"\n{"type":"intercom:event","data":1}\n"half a line' >&$PMD_CHANNEL_FD
echo "${NODE_CHANNEL_FD:-none}" >node"#,
    );
    home.ok(&["start", &script, "--name", "says", "--no-autorestart"]);
    let said = next(&mut events, "process:hello");
    let of = (&said["process"], &said["id"], &said["namespace"], &said["instance"]);
    assert_eq!(of, (&json!("says"), &json!(0), &json!("default"), &json!(0)));
    assert!(said["generation"].is_u64(), "{said}");
    let payload = &said["payload"];
    assert_eq!(payload["data"], json!({"lang": "sh"}));
    assert!(payload["at"].is_u64(), "{said}");
    let speaker = json!({"pm_id": 0, "name": "says", "namespace": "default", "versioning": null});
    assert_eq!(payload["process"], speaker);
    assert_eq!(next(&mut events, "ipc:warn")["payload"], json!({"reason": "not-json", "count": 1}));
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"], json!({"split": 1.5}));
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"], "last");
    // A name that is the daemon's own is nobody else's.
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"]["type"], "intercom:event");
    let end = events.until(|message| message["data"]["event"] != "started");
    assert_eq!(end["data"]["event"], "ipc:disconnected", "{end}");
    next(&mut events, "stopped");
    assert_eq!(home.read("node"), "none\n", "only programs of Node's kind have its variable");
}

#[test]
fn a_subscriber_chooses_by_name() {
    let home = Home::new();
    let mut all = listener(&home);
    let mut some = home.control();
    let wish = json!({"events": ["channel_event"], "names": ["a::*", "end"]});
    assert_eq!(some.ask("subscribe", &wish)["type"], "subscription");
    let lines: String = ["a::b", "a", "b::a", "a::c", "end"]
        .map(|name| format!("printf '{{\"type\":\"{name}\",\"data\":1}}\\n' >&3\n"))
        .concat();
    let script = home.script("names.sh", &lines);
    home.ok(&["start", &script, "--name", "names", "--no-autorestart"]);
    next(&mut all, "end");
    for name in ["a::b", "a::c", "end"] {
        assert_eq!(some.line().unwrap()["data"]["event"], name);
    }
}

#[test]
fn what_is_told_arrives_and_what_would_kill_is_refused() {
    let home = Home::new();
    let mut events = listener(&home);
    let mut control = home.control();
    start_echo(&home, "e", json!({"instances": 2}));
    let odd = json!({"a": ["ä\n\u{2028}", 1.0e10, null], "method": "methods"});
    for message in [odd, json!("hello"), json!(0), json!([])] {
        let told = control.ask("ipc.send", &json!({"target": "e", "message": message}));
        let results = &told["data"]["results"];
        let written = json!({"id": 0, "name": "e", "written": true, "reason": null});
        assert_eq!((&results[0], results[1]["id"].as_i64()), (&written, Some(1)), "{told}");
        for _ in 0..2 {
            assert_eq!(next(&mut events, "echo")["payload"]["data"]["got"], message);
        }
    }
    for message in [json!(null), json!({"cmd": "NODE_HANDLE", "msg": 1})] {
        let refused = control.ask("ipc.send", &json!({"target": "e", "message": message}));
        assert_eq!(refused["data"]["code"], "INVALID_ARGUMENT", "{refused}");
    }
    let refused = control.ask("ipc.send", &json!({"target": "nobody", "message": 1}));
    assert_eq!(refused["data"]["code"], "PROCESS_NOT_FOUND");
    home.ok(&["stop", "e"]);
    let gone = control.ask("ipc.send", &json!({"target": "e", "message": 1}));
    assert_eq!(gone["data"]["details"]["reason"], "gone", "{gone}");
    start_echo(&home, "off", json!({"ipc": "off", "script": "sleep", "args": ["100"]}));
    let none = control.ask("ipc.send", &json!({"target": "off", "message": 1}));
    assert_eq!(none["data"]["details"]["reason"], "no-channel", "{none}");
}

#[test]
fn a_closed_channel_is_not_the_end_of_a_program() {
    let home = Home::new();
    let mut events = listener(&home);
    start_echo(&home, "e", json!({}));
    let pid = home.pid("e");
    let mut control = home.control();
    let closed = control.ask("ipc.disconnect", &json!({"target": "e"}));
    assert_eq!(closed["data"]["results"][0]["written"], true, "{closed}");
    next(&mut events, "ipc:disconnected");
    until("the program has noticed", || home.path("gone").exists());
    assert_eq!(home.pid("e"), pid);
    for request in ["ipc.send", "ipc.disconnect"] {
        let gone = control.ask(request, &json!({"target": "e", "message": 1}));
        assert_eq!(gone["data"]["details"]["reason"], "gone", "{gone}");
    }
    // The next life has its own.
    home.ok(&["restart", "e"]);
    control.ask("ipc.send", &json!({"target": "e", "message": 7}));
    assert_eq!(next(&mut events, "echo")["payload"]["data"]["got"], 7);
}

#[test]
fn a_handle_is_acknowledged_and_its_message_kept() {
    let home = Home::new();
    let mut events = listener(&home);
    let script = home.script(
        "handle.sh",
        r#"printf '{"cmd":"NODE_HANDLE","type":"net.Server","msg":{"type":"a","data":1}}\n' >&3
IFS= read -r line <&3
printf '{"type":"answer","data":%s}\n{"cmd":"NODE_CLUSTER","act":"online"}\n"end"\n' "$line" >&3"#,
    );
    home.ok(&["start", &script, "--name", "h", "--no-autorestart"]);
    assert_eq!(next(&mut events, "ipc:warn")["payload"]["reason"], "handle");
    assert_eq!(next(&mut events, "a")["payload"]["data"], 1);
    let answer = &next(&mut events, "answer")["payload"]["data"];
    assert_eq!(*answer, json!({"cmd": "NODE_HANDLE_ACK"}));
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"], "end");
}

#[test]
fn ready_is_what_a_program_says() {
    let home = Home::new();
    for (name, line) in [
        ("word", r#""ready""#),
        ("notify", r#"{"type":"pmd:notify","data":{"status":"up","ready":true}}"#),
    ] {
        let script = home.script(
            &format!("{name}.sh"),
            &format!(
                "until [ -e go-{name} ]; do sleep 0.02; done; echo '{line}' >&3; exec sleep 100"
            ),
        );
        let config = json!({"name": name, "script": script, "wait_ready": true,
            "listen_timeout": 60_000});
        let mut starter = home.control();
        starter.request("command", &json!({"action": "start", "config": config}));
        until("it is there", || home.entries(name).iter().any(|it| it["status"] == "starting"));
        home.file(&format!("go-{name}"), "");
        let reply = starter.line().unwrap();
        let result = &reply["data"]["results"][0];
        assert_eq!(
            (&result["status"], &result["ready"]),
            (&json!("online"), &json!(true)),
            "{reply}"
        );
    }
}

#[test]
fn a_stop_by_message_needs_no_signal() {
    let home = Home::new();
    let script = home.script(
        "polite.sh",
        r#"trap 'echo signal >>$PMD_NAME.said; exit 0' INT
echo up >>$PMD_NAME.said
while IFS= read -r line <&3; do echo "$line" >>$PMD_NAME.said; exit 0; done
while :; do sleep 0.02; done"#,
    );
    for (ipc, said) in [("fd", "up\n\"shutdown\"\n"), ("off", "up\nsignal\n")] {
        let config = json!({"name": ipc, "script": script, "ipc": ipc, "kill_timeout": 20_000,
            "shutdown_with_message": true});
        home.control().ask("command", &json!({"action": "start", "config": config}));
        home.await_text(&format!("{ipc}.said"), "up");
        home.ok(&["stop", ipc]);
        assert_eq!(home.read(&format!("{ipc}.said")), said);
        assert_eq!(home.entry(ipc)["exit_code"], 0);
    }
}

#[test]
fn too_much_in_either_direction_is_refused_and_told() {
    let home = Home::new();
    let mut events = listener(&home);
    // 3000 bytes without an end, then a line that fits; then it reads no more.
    let script = home.script(
        "much.sh",
        r#"printf '"%03000d' 0 >&3; printf '%03000d"\n' 0 >&3; echo '"fits"' >&3; exec sleep 100"#,
    );
    let config = json!({"name": "much", "script": script, "ipc_max_line": "4K",
        "ipc_max_queue": 1000});
    let mut control = home.control();
    control.ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(next(&mut events, "ipc:warn")["payload"]["reason"], "too-long");
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"], "fits");
    let line = "x".repeat(900);
    let full = loop {
        let told = control.ask("ipc.send", &json!({"target": "much", "message": line}));
        if told["type"] == "error" {
            break told;
        }
    };
    assert_eq!(full["data"]["details"]["reason"], "overflow", "{full}");
    let too_long = control.ask("ipc.send", &json!({"target": "much", "message": "y".repeat(2000)}));
    assert_eq!(too_long["data"]["details"]["reason"], "overflow");
    // A program that took nothing is stopped as any other.
    home.ok(&["stop", "much"]);
}

/// Says lines that end in `"end"`, and how much the daemon grew while it heard them, in KiB.
fn grown_while(home: &Home, name: &str, lines: &str) -> u64 {
    let mut events = listener(home);
    let script = home.script(&format!("{name}.sh"), &format!("{lines}\necho '\"end\"' >&3"));
    let before = crate::logs::resident_kib(home.daemon_pid());
    home.ok(&["start", &script, "--name", name, "--no-autorestart"]);
    let mut warned = Vec::new();
    loop {
        let message = events.until(|message| message["type"] == "channel_event");
        let payload = &message["data"]["payload"];
        match message["data"]["event"].as_str().unwrap() {
            "ipc:warn" => warned.push(payload["reason"].as_str().unwrap().to_owned()),
            "process:msg" if payload["raw"] == "end" => break,
            other => panic!("{other}: {payload}"),
        }
    }
    assert_eq!(warned, [if name == "long" { "too-long" } else { "not-json" }]);
    crate::logs::resident_kib(home.daemon_pid()).saturating_sub(before)
}

#[test]
fn a_line_without_end_is_thrown_away_while_it_comes() {
    let home = Home::new();
    let lines = "head -c 100000000 /dev/zero | tr '\\0' x >&3; echo >&3";
    let grown = grown_while(&home, "long", lines);
    assert!(grown < 6 * 1024, "{grown} KiB");
}

#[test]
fn what_is_not_text_is_thrown_away() {
    let home = Home::new();
    // NUL bytes alone and in a string, bytes that are no UTF-8, half a character.
    let lines = r#"printf '\0\0\n"\0"\n"\377\376"\n"\303"\n\033[2J\n' >&3"#;
    grown_while(&home, "odd", lines);
}

#[test]
fn what_the_daemon_cannot_hold_itself_is_passed_on_as_it_came() {
    let home = Home::new();
    let mut events = home.control();
    events.ask("subscribe", &json!({"events": ["channel_event"]}));
    let script = home.script(
        "odd.sh",
        r#"printf '{"type":"odd","data":["\ud800",1e400]}\n' >&3
printf '{"type":"axm:action","data":{"action_name":"\udc00"}}\n' >&3
printf '{"type":"deep","data":%s1%s}\n' "$(printf '[%.0s' $(seq 5000))" "$(printf ']%.0s' $(seq 5000))" >&3
printf '"end"\n' >&3"#,
    );
    home.ok(&["start", &script, "--name", "odd", "--no-autorestart"]);
    let mut lines = std::iter::from_fn(|| events.text_line());
    let mut next = |name: &str| {
        let name = format!(r#""event":"{name}""#);
        lines.find(|line| line.contains(&name)).unwrap()
    };
    let odd = next("odd");
    assert!(odd.contains(r#""payload":{"at":"#) && odd.contains(r#"["\ud800",1e400]"#), "{odd}");
    assert!(next("ipc:warn").contains("announcement"));
    assert!(next("deep").contains(&"[".repeat(5000)));
    next("process:msg");
    home.ok(&["list"]);
}

#[test]
fn a_flood_leaves_room_for_others() {
    let home = Home::new();
    let script = home.script("flood.sh", "exec yes '{\"type\":\"flood\",\"data\":1}' >&3");
    home.ok(&["start", &script, "--name", "flood", "-i", "3"]);
    let mut events = home.control();
    let wish = json!({"events": ["channel_event"], "processes": ["e"]});
    events.ask("subscribe", &wish);
    // A client that never reads what it asked for.
    let mut deaf = home.control();
    deaf.request("subscribe", &json!({"events": ["channel_event"]}));
    start_echo(&home, "e", json!({}));
    let mut control = home.control();
    let before = crate::logs::resident_kib(home.daemon_pid());
    for round in 0..10 {
        control.ask("ipc.send", &json!({"target": "e", "message": round}));
        assert_eq!(next(&mut events, "echo")["payload"]["data"]["got"], round);
    }
    let grown = crate::logs::resident_kib(home.daemon_pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn last_words_come_before_the_end_and_only_from_who_said_them() {
    let home = Home::new();
    let mut events = listener(&home);
    let script = home.script(
        "words.sh",
        r#"i=0; while [ $i -lt 500 ]; do echo "{\"type\":\"w\",\"data\":\"$$ $i\"}" >&3; i=$((i+1)); done
exit 3"#,
    );
    let config = json!({"name": "w", "script": script, "max_restarts": 3,
        "exp_backoff_restart_delay": 0});
    home.control().ask("command", &json!({"action": "start", "config": config, "wait": "none"}));
    let mut lives = Vec::new();
    for _ in 0..2 {
        let first = next(&mut events, "w");
        let pid = first["payload"]["data"].as_str().unwrap().split(' ').next().unwrap().to_owned();
        let generation = first["generation"].clone();
        for at in 1..500 {
            let said = next(&mut events, "w");
            assert_eq!(said["payload"]["data"], format!("{pid} {at}"));
            assert_eq!(said["generation"], generation);
        }
        assert_eq!(next(&mut events, "ipc:disconnected")["generation"], generation);
        let crashed = next(&mut events, "crashed");
        assert_eq!(crashed["details"]["pid"].to_string(), pid);
        lives.push(generation);
    }
    assert_ne!(lives[0], lives[1]);
}

#[test]
fn a_channel_belongs_to_its_child_alone() {
    let mut home = Home::without_daemon();
    let mut command = home.daemon_command();
    for name in ["NODE_CHANNEL_FD", "NODE_UNIQUE_ID", "PMD_CHANNEL_FD"] {
        command.env(name, "77");
    }
    command.env("NODE_CHANNEL_SERIALIZATION_MODE", "advanced");
    home.boot_with(command);
    let script =
        home.script("env.sh", "env | sort >$PMD_NAME.env; ls /proc/self/fd >$PMD_NAME.fds");
    for ipc in ["fd", "node", "off"] {
        let config = json!({"name": ipc, "script": script, "ipc": ipc, "autorestart": false,
            "inherit_env": true, "env": {"NODE_CHANNEL_FD": "55", "PMD_CHANNEL_FD": "55"}});
        home.control().ask("command", &json!({"action": "start", "config": config}));
        until("it has ended", || home.entry(ipc)["status"] == "stopped");
        let env = home.read(&format!("{ipc}.env"));
        let told: Vec<&str> = env
            .lines()
            .filter(|line| line.starts_with("NODE_") || line.starts_with("PMD_CHANNEL"))
            .filter(|line| !line.starts_with("NODE_APP_INSTANCE"))
            .collect();
        let expected: &[&str] = match ipc {
            "fd" => &["PMD_CHANNEL_FD=3"],
            "node" => {
                &["NODE_CHANNEL_FD=3", "NODE_CHANNEL_SERIALIZATION_MODE=json", "PMD_CHANNEL_FD=3"]
            }
            _ => &[],
        };
        assert_eq!(told, expected, "{ipc}");
    }
}

#[test]
fn an_action_is_triggered_and_answered() {
    let home = Home::new();
    let script = home.script(
        "action.sh",
        r#"for name in hello silent die; do
echo "{\"type\":\"axm:action\",\"data\":{\"action_name\":\"$name\"}}" >&3; done
while IFS= read -r line <&3; do case $line in
*die*) exit 1 ;;
*hello*) echo "{\"type\":\"axm:reply\",\"data\":{\"return\":$line,\"action_name\":\"hello\"}}" >&3 ;;
esac; done"#,
    );
    home.ok(&["start", &script, "--name", "a", "-i", "2"]);
    let mut control = home.control();
    let ask = |control: &mut Control, data: Value| {
        let mut all = json!({"processes": ["a"], "timeout": 60_000});
        all.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        control.ask("trigger", &all)
    };
    until("both have announced their actions", || {
        let told = ask(&mut control, json!({"action": "hello"}));
        told["data"]["results"].as_array().is_some_and(|results| results.len() == 2)
    });
    let told = ask(&mut control, json!({"action": "hello", "param": "p"}));
    let answer = json!({"msg": "hello", "opts": "p", "name": "a"});
    let expected = json!([{"id": 0, "name": "a", "instance": 0, "return": answer},
        {"id": 1, "name": "a", "instance": 1, "return": answer}]);
    assert_eq!(told["data"]["results"], expected);
    let said = r#"{"msg":"hello","name":"a","opts":"p"}"#;
    let printed = format!("a:0  {said}\na:1  {said}\n");
    assert_eq!(home.ok(&["trigger", "a", "hello", "p"]).out, printed);
    assert_eq!(home.ok(&["trigger", "1", "hello"]).out, "hello\n");
    let none = ask(&mut control, json!({"action": "dance"}));
    assert_eq!(none["data"]["details"]["why"], "there are: die, hello, silent", "{none}");
    let late = ask(&mut control, json!({"action": "silent", "timeout": 20}));
    assert_eq!(late["data"]["code"], "TIMEOUT", "{late}");
    let dead = ask(&mut control, json!({"action": "die"}));
    assert_eq!(dead["data"]["code"], "OPERATION_FAILED", "{dead}");
    assert_eq!(dead["data"]["details"]["why"], "it does not run, or has closed its channel");
}

/// A program that speaks intercom without a library: it asks, answers, and says what it is asked.
const INTERCOM: &str = r#"
say() { printf '%s\n' "$1" >&3; }
none='{}'
call() { say "{\"method\":$1,\"arguments\":$2,\"callbacks\":${3:-$none},\"links\":${4:-[]}}"; }
say '{"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"4":["0","emit"]},"links":[]}'
read -r line <&3; printf '%s\n' "$line" >hello
call 0 '["child::hello",{"n":21,"me":"[Circular]"},"[Function]"]' '{"9":["2"]}' '[{"from":["1"],"to":["1","me"]}]'
call 0 '["exit"]'
call 0 '[["child","lone"],1]'
call 77 '[]'
while IFS= read -r line <&3; do
printf '%s\n' "$line" >>heard
case $line in
*'"question"'*) id=${line#*\"callbacks\":\{\"}; id=${id%%\"*}; call "$id" '[null,42,"[Function]"]' '{"10":["2"]}' ;;
*'{"method":10,'*'"callbacks":{"'*) id=${line#*\"callbacks\":\{\"}; id=${id%%\"*}; call "$id" '["again"]' ;;
*'"end"'*) exit 0 ;;
esac
done"#;

fn start_intercom(home: &Home, more: Value) {
    let script = home.script("intercom.sh", INTERCOM);
    let mut config = json!({"name": "i", "script": script, "ipc": "fd", "autorestart": false});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = home.control().ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(reply["data"]["ok"], true, "{reply}");
}

const METHODS: &str = r#"{"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"0":["0","emit"]},"links":[]}"#;

#[test]
fn a_program_that_speaks_intercom_is_heard_asked_and_answered() {
    let home = Home::new();
    let mut events = listener(&home);
    let mut chosen = home.control();
    let names = json!({"events": ["channel_event"], "names": ["child::*"]});
    chosen.ask("subscribe", &names);
    start_intercom(&home, json!({}));
    assert_eq!(next(&mut events, "intercom:rpcready")["payload"], json!({}));
    let hello = next(&mut events, "intercom:event")["payload"].take();
    let function = hello["args"][1]["$fn"].as_str().unwrap().to_owned();
    assert_eq!(
        hello,
        json!({"event": "child::hello", "args": [{"n": 21, "me": {"$ref": ["0"]}}, {"$fn": function}]})
    );
    assert_eq!(home.read("hello").trim(), METHODS);
    assert_eq!(next(&mut events, "intercom:warn")["payload"], json!({"reason": "reserved"}));
    let lone = next(&mut events, "intercom:event")["payload"].take();
    assert_eq!(lone, json!({"event": "child::lone", "args": [1]}));
    assert_eq!(next(&mut events, "intercom:warn")["payload"], json!({"reason": "unknown-method"}));
    assert_eq!(chosen.line().unwrap()["data"]["payload"]["event"], "child::hello");

    let mut control = home.control();
    let ask = json!({"target": "i", "event": "question", "args": [41, {"$ref": ["0"]}], "timeout_ms": 60_000});
    let answered = control.ask("ipc.request", &ask)["data"]["results"][0].take();
    let back = answered["answer"][2]["$fn"].as_str().unwrap().to_owned();
    let answer = json!([null, 42, {"$fn": back}]);
    assert_eq!(
        answered,
        json!({"id": 0, "name": "i", "written": true, "reason": null, "answer": answer})
    );
    let call = json!({"fn": back, "args": ["x"], "timeout_ms": 60_000});
    assert_eq!(control.ask("ipc.call", &call)["data"]["results"][0]["answer"], json!(["again"]));
    let quiet = json!({"fn": function, "args": []});
    assert_eq!(control.ask("ipc.call", &quiet)["data"]["results"][0]["written"], true);
    let shown = home.ok(&["show", "i"]);
    assert!(shown.out.contains("open: intercom"), "{shown:?}");
    let printed = home.ok(&["ipc", "request", "i", "question", "41", "--timeout", "60s"]);
    assert!(printed.out.starts_with("[null,42,{\"$fn\":"), "{printed:?}");

    for (data, code, reason) in [
        (json!({"target": "i", "event": "exit"}), "INVALID_ARGUMENT", None),
        (json!({"target": "i", "event": 7}), "INVALID_ARGUMENT", None),
        (json!({"target": "i"}), "INVALID_ARGUMENT", None),
        (
            json!({"target": "i", "event": "e", "args": [{"$fn": "12345:9"}]}),
            "OPERATION_FAILED",
            Some("gone"),
        ),
        (json!({"target": "i", "event": "mute", "timeout_ms": 1}), "TIMEOUT", Some("timeout")),
    ] {
        let refused = control.ask("ipc.request", &data);
        assert_eq!(refused["data"]["code"], code, "{refused}");
        assert_eq!(refused["data"]["details"]["reason"].as_str(), reason, "{refused}");
    }
    let emitted = control.ask("ipc.emit", &json!({"target": "i", "event": ["a", "end"]}));
    assert_eq!(emitted["data"]["results"][0]["written"], true, "{emitted}");
    next(&mut events, "intercom:rpcexit");
    next(&mut events, "ipc:disconnected");
    next(&mut events, "stopped");
    let gone = control.ask("ipc.call", &json!({"fn": function}));
    assert_eq!(gone["data"]["details"]["reason"], "gone", "{gone}");
    // What an earlier run passed means nothing to the next.
    home.ok(&["start", "i"]);
    next(&mut events, "intercom:rpcready");
    let gone = control.ask("ipc.call", &json!({"fn": function}));
    assert_eq!(gone["data"]["details"]["reason"], "gone", "{gone}");
    let heard = home.read("heard");
    let first = heard.lines().next().unwrap();
    assert_eq!(
        first,
        r#"{"method":4,"arguments":["question",41,"[Circular]","[Function]"],"callbacks":{"1":["3"]},"links":[{"from":["1"],"to":["2"]}]}"#
    );
}

#[test]
fn who_opens_the_session_is_configured() {
    let home = Home::new();
    let mut events = listener(&home);
    let script = home.script(
        "eager.sh",
        "read -r line <&3; printf '%s\\n' \"$line\" >first; printf '%s\\n' \"$line\" >&3; exec sleep 100",
    );
    let config = json!({"name": "e", "script": script, "ipc": "fd", "intercom": "eager"});
    home.control().ask("command", &json!({"action": "start", "config": config}));
    next(&mut events, "intercom:rpcready");
    assert_eq!(home.read("first").trim(), METHODS);
    // Without intercom its frames are messages as any other.
    let config = json!({"name": "off", "script": "sh", "args": ["-c", format!("echo '{METHODS}' >&3")],
        "ipc": "fd", "intercom": "off", "autorestart": false});
    home.control().ask("command", &json!({"action": "start", "config": config}));
    assert_eq!(next(&mut events, "process:msg")["payload"]["raw"]["method"], "methods");
    let none = home.control().ask("ipc.emit", &json!({"target": "e", "event": "x"}));
    assert_eq!(none["data"]["results"][0]["written"], true, "{none}");
}

#[test]
fn runs_are_counted_where_that_is_asked_for() {
    let home = Home::new();
    let mut events = listener(&home);
    let script = home.script("runs.sh", "exit 3");
    let config = json!({"name": "r", "script": script, "max_runs": 2});
    home.control().ask("command", &json!({"action": "start", "config": config}));
    let first = next(&mut events, "crashed");
    let of = |event: &Value, key: &str| event["details"][key].clone();
    assert_eq!((of(&first, "runs"), of(&first, "spinning")), (json!(1), json!(false)));
    let second = next(&mut events, "crashed");
    assert_eq!((of(&second, "runs"), of(&second, "will_restart")), (json!(2), json!(false)));
    next(&mut events, "stopped");
}
