//! Commands that do something: what is asked, what is told, what the shell gets.

use serde_json::{Value, json};

use crate::harness::{World, error, reply, usual};

/// Does what is asked, to a process called web.
fn obliging(request: &Value) -> Vec<Value> {
    if request["type"] != "command" {
        return usual(request);
    }
    let mut result = json!({"id": 0, "name": "web", "instance": 0, "ok": true, "changed": true,
        "status": "online", "ready": true, "pid": 4250, "was_pid": null, "took": 400,
        "killed": false, "error": null});
    match request["data"]["action"].as_str() {
        Some("restart" | "reload") => result["was_pid"] = json!(4242),
        Some("stop" | "delete") => {
            result["status"] = json!("stopped");
            result["pid"] = Value::Null;
            result["took"] = json!(100);
        }
        _ => {}
    }
    reply("command_result", json!({"ok": true, "results": [result], "warnings": []}))
}

#[test]
fn each_action_prints_a_line() {
    let world = World::with_daemon(obliging);
    for (words, line) in [
        (&["stop", "web"][..], "web  stopped  (0.1 s)\n"),
        (&["restart", "web"], "web  restarted  pid 4250  (was 4242, 0.4 s)\n"),
        (&["reload", "web"], "web  reloaded  pid 4250  (was 4242, 0.4 s)\n"),
        (&["delete", "web"], "web  deleted  (0.1 s)\n"),
        (&["reset", "web"], "web  reset\n"),
        (&["signal", "HUP", "web"], "web  signalled  pid 4250\n"),
        (&["scale", "web", "+1"], "web  online  id 0  pid 4250  (0.4 s)\n"),
    ] {
        let ran = world.run(words);
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), (line, "", 0), "{words:?}");
        let quiet: Vec<&str> = words.iter().copied().chain(["-q"]).collect();
        assert_eq!(world.run(&quiet).out, "", "{words:?}");
        let json: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let document = world.run(&json).json();
        assert_eq!(document["ok"], true);
        assert_eq!(document["command"], words[0]);
        assert_eq!(document["results"][0]["name"], "web");
        assert_eq!(document["warnings"], json!([]));
    }
}

#[test]
fn options_of_actions_reach_the_daemon() {
    let world = World::with_daemon(obliging);
    let mut command = world.command(&["restart", "db", "-a", "--env", "A=1", "-k", "2s"]);
    command.env("MY_OWN", "x");
    assert_eq!(crate::harness::finish(command.spawn().unwrap()).code, 0);
    world.run(&["stop", "db", "api", "--parallel", "2", "--no-wait"]);
    world.run(&["scale", "api", "-1"]);
    world.run(&["signal", "api", "9"]);
    world.run(&["--timeout", "30s", "delete", "db", "--purge-logs"]);
    let asked = world.asked_data("command");
    assert_eq!(asked[0]["update_env"], true);
    assert_eq!(asked[0]["environment"]["MY_OWN"], "x");
    assert_eq!(asked[0]["env"], json!({"A": "1"}));
    assert_eq!(asked[0]["kill_timeout"], 2000);
    assert!(asked[1].get("environment").is_none() && asked[1].get("update_env").is_none());
    world.run(&["restart", "db"]);
    let plain = world.asked_data("command").pop().unwrap();
    assert!(plain.get("environment").is_none(), "an environment is only sent when asked for");
    assert_eq!(asked[1]["processes"], json!(["db", "api"]));
    assert_eq!((&asked[1]["parallel"], &asked[1]["wait"]), (&json!(2), &json!("none")));
    assert_eq!(asked[2]["instances"], "-1");
    assert_eq!((&asked[3]["signal"], &asked[3]["processes"]), (&json!("SIGKILL"), &json!(["api"])));
    assert_eq!(asked[4]["purge_logs"], true);
    assert_eq!(asked[4]["timeout"], 30_000);
}

#[test]
fn patterns_and_stdin_are_expanded() {
    let world = World::with_daemon(obliging);
    world.run(&["stop", "a*", "db"]);
    let stdin = world.run_with_stdin(&["stop", "-"], "db\n\n  api \ndb\n");
    assert_eq!(stdin.code, 0, "{stdin:?}");
    let asked = world.asked_data("command");
    assert_eq!(asked[0]["processes"], json!(["api", "db"]));
    assert_eq!(asked[1]["processes"], json!(["db", "api"]));
    world
        .run(&["stop", "/^api-.*/"])
        .told(2, &["pmd: error: '/^api-.*/' is a pattern of another kind", "  try:  'api-*'"]);
}

#[test]
fn a_known_process_is_started_and_not_looked_for_on_disk() {
    let world = World::with_daemon(obliging);
    let ran = world.run(&["start", "api"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked = world.asked_data("command");
    assert_eq!(asked[0]["processes"], json!(["api"]));
    assert!(asked[0].get("configs").is_none());
}

#[test]
fn what_is_online_already_is_said_so() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("command") => reply(
            "command_result",
            json!({"results": [{"id": 1, "name": "api", "instance": 0, "ok": true,
                "changed": false, "status": "online", "pid": 4242}], "warnings": []}),
        ),
        _ => usual(request),
    });
    let ran = world.run(&["start", "api"]);
    assert_eq!((ran.out.as_str(), ran.code), ("api already online\n", 0));
}

#[test]
fn a_script_is_sent_with_its_options() {
    let world = World::with_daemon(obliging);
    world.file("app.sh", "#!/bin/sh\n");
    let ran = world.run(&[
        "start",
        "app.sh",
        "-n",
        "web",
        "--env",
        "A=1",
        "--max-restarts",
        "3",
        "--no-autorestart",
        "--",
        "--port",
        "1",
    ]);
    assert_eq!((ran.out.as_str(), ran.code), ("web  online  id 0  pid 4250  (0.4 s)\n", 0));
    let config = &world.asked_data("command")[0]["configs"][0];
    assert_eq!(config["name"], "web");
    assert_eq!(config["script"], json!(world.dir.join("app.sh")));
    assert_eq!(config["cwd"], json!(world.dir));
    assert_eq!(config["args"], json!(["--port", "1"]));
    assert_eq!(config["env"]["A"], "1");
    assert_eq!(config["max_restarts"], 3);
    assert_eq!(config["inherit_env"], true);
}

#[test]
fn a_command_line_is_run_by_a_shell() {
    let world = World::with_daemon(obliging);
    assert_eq!(world.run(&["start", "sleep 100"]).code, 0);
    assert_eq!(world.run(&["start", "-x", "cat | cat", "-n", "cats"]).code, 0);
    let asked = world.asked_data("command");
    for (at, line) in ["exec sleep 100", "cat | cat"].iter().enumerate() {
        let config = &asked[at]["configs"][0];
        assert_eq!(config["script"], "/bin/sh");
        assert_eq!(config["args"][1], *line, "{config}");
    }
}

#[test]
fn a_crash_at_start_is_told_with_the_last_words() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("command") => error(
            "PROCESS_START_FAILED",
            "crash did not stay up: exit code 3 after 41 ms",
            json!({"results": [{"id": 0, "name": "crash", "instance": 0, "ok": false,
                "changed": true, "status": "restarting", "pid": null, "error": {
                    "code": "PROCESS_START_FAILED",
                    "message": "crash did not stay up: exit code 3 after 41 ms",
                    "details": {"last_output": ["boom: missing DB_URL"], "exit_code": 3,
                        "restart_in": 100, "unstable": 1, "max_restarts": 16}}}]}),
        ),
        _ => usual(request),
    });
    world.file("crash.sh", "#!/bin/sh\nexit 3\n");
    world.run(&["start", "crash.sh"]).told(
        8,
        &[
            "pmd: error: crash did not stay up: exit code 3 after 41 ms",
            "  last output: boom: missing DB_URL",
            "  now:  pmd tries again in 100 ms (1 of 16); to give up: pmd stop crash",
            "  see:  pmd logs crash --err",
        ],
    );
    let ran = world.run(&["start", "crash.sh", "--json"]);
    assert_eq!((ran.json()["ok"].clone(), ran.code), (json!(false), 8));
    assert_eq!(ran.json()["results"][0]["error"]["code"], "PROCESS_START_FAILED");
}

#[test]
fn online_without_readiness_is_seven() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("command") => reply(
            "command_result",
            json!({"results": [{"id": 0, "name": "web", "instance": 0, "ok": true, "changed": true,
                "status": "online", "ready": false, "pid": 7, "took": 3000, "error": null,
                "unready": "is running but not ready after 3 s"}],
                "warnings": ["web is running but not ready after 3 s"]}),
        ),
        _ => usual(request),
    });
    let ran = world.run(&["restart", "web"]);
    assert_eq!((ran.out.as_str(), ran.code), ("web  restarted  pid 7  (3.0 s)\n", 7));
    assert_eq!(
        ran.err,
        "pmd: error: web is running but not ready after 3 s\n  \
         why:  waits for process.send('ready'), READY=1 or its notification_fd\n  \
         try:  --listen-timeout 10s\n"
    );
}

#[test]
fn several_targets_have_a_line_each_and_the_worst_code() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("command") => reply(
            "command_result",
            json!({"ok": false, "results": [
                {"id": 0, "name": "db", "instance": 0, "ok": true, "changed": true,
                 "status": "stopped", "pid": null, "took": 100, "error": null},
                {"id": null, "name": "nosuch", "instance": 0, "ok": false, "error": {
                    "code": "PROCESS_NOT_FOUND", "message": "no process named 'nosuch'",
                    "details": {"process": "nosuch"}}},
            ], "warnings": ["something odd"]}),
        ),
        _ => usual(request),
    });
    let ran = world.run(&["stop", "db", "nosuch"]);
    assert_eq!(ran.out, "db  stopped  (0.1 s)\n");
    assert_eq!(ran.err, "pmd: warning: something odd\npmd: error: no process named 'nosuch'\n");
    assert_eq!(ran.code, 3);
}

#[test]
fn kill_waits_for_the_end_of_the_daemon() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("shutdown") => {
            let mut answers = reply("done", json!({}));
            answers.push(json!({"type": "shutdown", "data": {"reason": "command"}, "event": true}));
            answers.push(json!({"type": "END", "late": true}));
            answers
        }
        _ => usual(request),
    });
    let ran = world.run(&["kill"]);
    assert_eq!((ran.out.as_str(), ran.code), ("daemon ended\n", 0), "{ran:?}");
    assert!(world.dir.join("ended").exists(), "the command outlives the daemon");
    assert_eq!(world.asked_data("shutdown")[0]["leave_running"], false);
}

#[test]
fn a_daemon_that_dies_while_it_works_is_no_daemon() {
    let world = World::with_daemon(|_| vec![json!({"type": "END"})]);
    let ran = world.run(&["stop", "web"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("went away before it answered"), "{}", ran.err);
}

#[test]
fn saving_is_confirmed() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("save") => reply("done", json!({"processes": 5})),
        Some("flush") => reply("done", json!({"processes": 1})),
        _ => usual(request),
    });
    assert_eq!(world.run(&["save"]).out, "5 processes are saved (this happens by itself)\n");
    assert_eq!(world.run(&["save", "--force", "--json"]).json()["processes"], 5);
    assert_eq!(world.run(&["flush", "db"]).out, "logs of 1 process emptied\n");
    assert_eq!(world.asked_data("flush")[0]["processes"], json!(["db"]));
}

#[test]
fn scripts_learn_by_the_exit_code() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("wait") => {
            let code = if request["data"]["processes"][0] == "db" { 0 } else { 3 };
            reply(
                "done",
                json!({"results": [{"id": 0, "name": "job", "instance": 0, "ok": true,
                    "status": "stopped", "exit_code": code, "signal": null, "error": null}]}),
            )
        }
        Some("ping") => reply("pong", json!({})),
        _ => usual(request),
    });
    for (words, code) in [
        (&["is-online", "db"][..], 0),
        (&["is-online", "api"], 1),
        (&["is-online", "all"], 1),
        (&["is-online", "nosuch"], 3),
    ] {
        let ran = world.run(words);
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), ("", "", code), "{words:?}");
    }
    assert_eq!(world.run(&["is-online", "api", "--json"]).json()["online"], false);
    assert_eq!(world.run(&["wait", "db", "--for", "done"]).code, 0);
    let failed = world.run(&["wait", "other", "--for", "done", "--timeout", "60s"]);
    assert_eq!(failed.code, 8, "{failed:?}");
    assert_eq!(world.asked_data("wait")[1]["timeout"], 60_000);
    assert_eq!(world.run(&["ping"]).out, "pong\n");
}

#[test]
fn a_started_line_goes_to_stdin() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("send_line") => reply("done", json!({})),
        _ => usual(request),
    });
    assert_eq!(world.run(&["send", "repl", "1", "+", "1"]).code, 0);
    assert_eq!(world.asked_data("send_line")[0], json!({"process": "repl", "line": "1 + 1"}));
}
