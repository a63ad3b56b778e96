//! Commands that show something, on a terminal and into a pipe.

use std::io::Read;

use serde_json::json;

use crate::harness::{World, reply, usual};

#[test]
fn a_list_in_a_pipe_is_plain_and_whole() {
    let world = World::with_daemon(usual);
    let ran = world.run(&["ls"]);
    assert_eq!(
        ran.out,
        "\
ID  NAME   STATUS   UPTIME  RST  CPU%    MEM   PID  NOTE
 0  db     online    6d 2h    0   0.4  48.1M   901
 1  api:0  online   2h 11m    0   3.1  62.0M  4242
 2  api:1  waiting       -    7     -      -     -  exit 3, next try in 0.9s (7/16)
"
    );
    assert_eq!((ran.err.as_str(), ran.code), ("", 0));
    assert_eq!(world.asked_data("get_info").len(), 1, "one question");
}

#[test]
fn a_list_says_how_processes_ended() {
    let world = World::with_daemon(|_| {
        let last = json!({"exit_code": 3, "reason": "exit", "at": "2024-01-15T02:00:00.000Z"});
        let all = json!([
            {"id": 4, "name": "bot", "status": "errored", "exit_code": 3, "last_exit": last,
             "last_output": ["missing DB_URL"]},
            {"id": 5, "name": "job", "status": "stopped", "exit_code": 3, "last_exit": last},
        ]);
        reply("process_info", json!({"processes": all}))
    });
    let ran = world.run(&["ls", "--columns", "note", "--no-header"]);
    let (first, second) = ran.out.split_once('\n').unwrap();
    assert_eq!(first, "gave up: exit 3 \"missing DB_URL\"");
    assert!(second.starts_with("exit 3 2024-01-1"), "{second}");
    assert_eq!(world.asked_data("get_info").len(), 1, "one question");
}

#[test]
fn a_list_can_be_narrowed_sorted_and_cut() {
    let world = World::with_daemon(usual);
    assert_eq!(
        world.run(&["ls", "-m", "--no-header", "--status", "waiting"]).out,
        " 2  api:1  waiting\n".trim_start()
    );
    assert_eq!(
        world.run(&["ls", "--columns", "name,id", "--sort", "restarts:desc", "--no-header"]).out,
        "api:1  2\ndb     0\napi:0  1\n"
    );
    for (sort, names) in [("cpu", "api:1\ndb\napi:0\n"), ("memory:desc", "api:0\ndb\napi:1\n")] {
        assert_eq!(world.run(&["ls", "--columns=name", "--sort", sort, "--no-header"]).out, names);
    }
    assert_eq!(world.run(&["ls", "db", "--columns=pid", "--no-header"]).out, "901\n");
    world
        .run(&["ls", "--columns", "nmae"])
        .told(2, &["pmd: error: list: there is no column 'nmae'", "  try:  did you mean 'name'?"]);
    assert_eq!(world.run(&["ls", "nosuch"]).code, 3);
}

#[test]
fn an_empty_list_says_how_to_fill_it() {
    let world = World::with_daemon(|_| reply("process_info", json!({"processes": []})));
    let ran = world.run(&["ls"]);
    assert_eq!((ran.out.as_str(), ran.code), ("no processes (start one: pmd start app.js)\n", 0));
    assert_eq!(world.run(&["ls", "--json"]).json(), json!([]));
}

#[test]
fn a_list_as_json_is_the_rest_object() {
    let world = World::with_daemon(usual);
    let list = world.run(&["ls", "--json"]).json();
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(list[1]["pm_id"], 1);
    assert_eq!(list[2]["pid"], json!(null));
    assert_eq!(list[2]["restart_time"], 7);
}

#[test]
fn colour_is_given_when_it_is_asked_for_and_never_otherwise() {
    let world = World::with_daemon(usual);
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = world.command(words);
        crate::harness::finish(command.envs(variables.iter().copied()).spawn().unwrap()).out
    };
    assert!(!run(&["ls"], &[]).contains('\u{1b}'));
    assert!(run(&["ls", "--color=always"], &[]).contains("\u{1b}[32monline\u{1b}[0m"));
    assert!(run(&["ls"], &[("FORCE_COLOR", "1")]).contains('\u{1b}'));
    assert!(!run(&["ls"], &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!run(&["ls", "--no-color"], &[("FORCE_COLOR", "1")]).contains('\u{1b}'));
    assert!(run(&["ls"], &[("FORCE_COLOR", "1"), ("NO_COLOR", "")]).contains('\u{1b}'));
}

#[test]
fn a_closed_pipe_ends_silently_with_success() {
    let world = World::with_daemon(|request| {
        let many: Vec<_> = (0..20_000)
            .map(|id| json!({"id": id, "name": format!("process-{id}"), "status": "stopped"}))
            .collect();
        match request["type"].as_str() {
            Some("get_info") => reply("process_info", json!({"processes": many})),
            _ => usual(request),
        }
    });
    let mut child = world.command(&["ls"]).spawn().unwrap();
    let mut some = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn show_prints_a_page_and_its_json_the_whole_entry() {
    let world = World::with_daemon(usual);
    let ran = world.run(&["show", "db"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("status             online\n"), "{}", ran.out);
    assert!(ran.out.contains("pid 811, /somewhere"), "{}", ran.out);
    assert_eq!(world.run(&["show", "db", "--json"]).json()["pid"], 901);
    assert_eq!(world.run(&["show", "api", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(world.run(&["describe", "nosuch"]).code, 3);
}

#[test]
fn numbers_are_printed_one_a_line() {
    let world = World::with_daemon(usual);
    assert_eq!(world.run(&["pid"]).out, "901\n4242\n");
    assert_eq!(world.run(&["pid", "db"]).out, "901\n");
    assert_eq!(world.run(&["id", "api"]).out, "1\n2\n");
    let unknown = world.run(&["pid", "nosuch"]);
    assert_eq!((unknown.out.as_str(), unknown.code), ("", 3));
    assert_eq!(world.run(&["id", "api", "--json"]).json(), json!([1, 2]));
}

#[test]
fn an_environment_is_lines_of_names_and_values() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("get_env") => reply("environment", json!({"env": {"B": "x y", "A": "***"}})),
        Some("get_pm2_list") => reply("pm2_list", json!({"list": [{"name": "x", "pm_id": 0}]})),
        _ => usual(request),
    });
    assert_eq!(world.run(&["env", "db"]).out, "A=***\nB=x y\n");
    world.run(&["env", "db", "--reveal"]);
    let asked = world.asked_data("get_env");
    assert_eq!((&asked[0]["reveal"], &asked[1]["reveal"]), (&json!(false), &json!(true)));
    assert_eq!(world.run(&["jlist"]).out, "[{\"name\":\"x\",\"pm_id\":0}]\n");
    assert_eq!(world.run(&["prettylist"]).json(), json!([{"name": "x", "pm_id": 0}]));
}

#[test]
fn an_export_is_a_file_that_check_accepts() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("export") => reply(
            "definitions",
            json!({"definitions": [{"name": "web", "script": "/bin/sleep", "args": ["100"],
                "cwd": "/", "inherit_env": true}], "left_out": [["API_KEY"]]}),
        ),
        _ => usual(request),
    });
    let ran = world.run(&["export"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("web: secrets left out: API_KEY"), "{}", ran.err);
    world.file("out.json", &ran.out);
    assert_eq!(world.run(&["check", "out.json"]).code, 0, "{}", ran.out);
    assert_eq!(world.run(&["export", "--json"]).json()["apps"][0]["name"], "web");
    let unknown = world.run(&["export", "--format", "xml"]);
    assert_eq!(unknown.code, 6, "{unknown:?}");
}

/// Answers everything there is.
fn knows_all(request: &serde_json::Value) -> Vec<serde_json::Value> {
    let results = json!([{"id": 0, "name": "db", "instance": 0, "ok": true, "changed": true,
        "status": "online", "ready": true, "pid": 7, "took": 1, "error": null, "exit_code": 0}]);
    match request["type"].as_str().unwrap() {
        "trigger" => reply("trigger", json!({"results": [{"id": 0, "name": "db", "return": 1}]})),
        "command" => reply("command_result", json!({"results": results, "warnings": []})),
        "wait" | "resurrect" => reply("done", json!({"processes": 1, "results": results})),
        "apply" => reply("plan", json!({"steps": [], "results": results, "warnings": []})),
        "get_logs" => reply("logs", json!({"lines": [{"message": "x", "process": "db"}]})),
        "get_events" => reply("events", json!({"events": [{"event": "deleted"}]})),
        "get_env" => reply("environment", json!({"env": {"A": "1"}})),
        "get_pm2_list" => reply("pm2_list", json!({"list": []})),
        "get_daemon" => reply("daemon", json!({"version": "0.1.0", "pid": 811, "paths": {}})),
        "export" => reply(
            "definitions",
            json!({"definitions": [{"name": "db",
            "script": "/bin/sleep", "cwd": "/"}], "left_out": [[]]}),
        ),
        "shutdown" => {
            let mut all = reply("done", json!({}));
            all.push(json!({"type": "END"}));
            all
        }
        "get_info" => usual(request),
        "token" => reply("token", json!({"token": "0123456789abcdef"})),
        _ => reply("done", json!({"processes": 1})),
    }
}

#[test]
fn every_command_prints_one_document_with_json_and_nothing_else() {
    let world = World::with_daemon(knows_all);
    world.file("apps.json", r#"[{"name": "db", "script": "/bin/sleep"}]"#);
    let lines = [
        "start db",
        "start apps.json",
        "stop db",
        "restart db",
        "reload db",
        "delete db",
        "scale db 2",
        "signal HUP db",
        "reset db",
        "send db x",
        "trigger db hello",
        "ipc send db {}",
        "ipevents peers",
        "apply apps.json",
        "list",
        "show db",
        "logs db --no-follow",
        "events",
        "env db",
        "pid",
        "id db",
        "jlist",
        "prettylist",
        "slist",
        "is-online db",
        "wait db",
        "ping",
        "flush",
        "rotate",
        "reloadLogs",
        "save",
        "resurrect",
        "export",
        "install-links .",
        "init made.json",
        "check apps.json",
        "set log.keep 7",
        "get log.keep",
        "unset log.keep",
        "conf",
        "web",
        "show-api-key",
        "regenerate-api-key",
        "link secret public",
        "link info",
        "unlink",
        "agent status",
        "doctor",
        "help",
        "help stop",
        "version",
        "kill",
    ];
    let commands = world.run(&["help", "--json"]).json();
    for command in commands["commands"].as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        // These two are the daemon itself.
        if !matches!(name, "daemon" | "run") {
            assert!(lines.iter().any(|line| line.split(' ').next() == Some(name)), "{name}");
        }
    }
    for line in lines {
        let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let ran = world.run(&words);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        let document = ran.json();
        assert_ne!(document["ok"], false, "{line}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = crate::harness::finish(world.command(&["help"]).stdout(full).spawn().unwrap());
    ran.told(1, &["pmd: error: cannot write the output: no space left on device"]);
}
