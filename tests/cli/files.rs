//! Configuration files: what is said about wrong ones, what is sent of right ones.

use serde_json::{Value, json};

use crate::harness::{World, reply, usual};

/// Answers a start with one result for each configuration.
fn starts(request: &Value) -> Vec<Value> {
    if request["type"] != "command" {
        return usual(request);
    }
    let configs = request["data"]["configs"].as_array().cloned().unwrap_or_default();
    let results: Vec<Value> = configs
        .iter()
        .enumerate()
        .map(|(id, config)| {
            json!({"id": id, "name": config["name"], "instance": 0, "ok": true, "changed": true,
                "status": "online", "ready": true, "pid": 500 + id, "took": 1012, "error": null})
        })
        .collect();
    reply("command_result", json!({"ok": true, "results": results, "warnings": []}))
}

#[test]
fn every_problem_of_a_file_is_a_line_and_one_line_counts_them() {
    let world = World::new();
    world.file(
        "pmd.json",
        "{\"apps\": [\n  {\"name\": \"api\", \"script\": \"a.js\"},\n  {\"name\": \"web\",\n    \
         \"scrpt\": \"w.js\", \"script\": \"w.js\",\n    \"instances\": \"many\"}\n]}\n",
    );
    let ran = world.run(&["start", "pmd.json"]);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!((ran.out.as_str(), ran.code), ("", 6), "{ran:?}");
    let unknown = "pmd.json:4:5: apps[1] (web): unknown field 'scrpt' (did you mean 'script'?)";
    assert!(lines.contains(&unknown), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("'instances' must be a number or \"max\"")));
    assert_eq!(*lines.last().unwrap(), "pmd: error: pmd.json has 2 errors, nothing was started");
}

#[test]
fn a_syntax_error_shows_its_line_with_a_caret() {
    let world = World::new();
    world.file("pmd.json", "{\"apps\": [\n  {\"name\": \"x\" \"script\": \"y\"}\n]}\n");
    let ran = world.run(&["check", "pmd.json"]);
    assert_eq!(ran.code, 6);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with("pmd.json:2:"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.trim() == "^"), "{lines:#?}");
    assert_eq!(*lines.last().unwrap(), "pmd: error: pmd.json has 1 error");
}

#[test]
fn files_that_are_no_configuration_are_told_in_one_sentence() {
    let world = World::new();
    std::fs::create_dir(world.dir.join("dir.json")).unwrap();
    world.file("empty.json", "");
    std::fs::write(world.dir.join("binary.json"), [0u8, 159, 146, 150]).unwrap();
    let big = std::fs::File::create(world.dir.join("big.json")).unwrap();
    big.set_len(100 * 1024 * 1024).unwrap();
    for (name, sentence) in [
        ("nosuch.json", "no such file: 'nosuch.json'"),
        ("dir.json", "'dir.json' is a directory"),
        ("empty.json", "'empty.json' is empty"),
        ("binary.json", "'binary.json' is not a text file"),
        ("big.json", "'big.json' is too large: the limit is 16 MiB"),
    ] {
        let ran = world.run(&["start", name]);
        assert_eq!(ran.code, 6, "{name}");
        assert_eq!(ran.err.lines().next(), Some(format!("pmd: error: {sentence}").as_str()));
        assert!(ran.err.lines().count() <= 2, "{}", ran.err);
    }
}

#[test]
fn a_file_is_sent_complete_and_absolute() {
    let world = World::with_daemon(starts);
    world.file("srv/app.sh", "#!/bin/sh\n");
    world.file(
        "srv/pmd.json",
        r#"{"apps": [{"name": "a", "script": "app.sh", "args": "x y"},
                     {"name": "b", "script": "app.sh", "instances": 2, "kill_timeout": "3s",
                      "inherit_env": true, "filter_env": ["AWS"]}]}"#,
    );
    let ran = world.run(&["start", "srv/pmd.json"]);
    assert_eq!(ran.out, "a  online  id 0  pid 500\nb  online  id 1  pid 501\n", "{ran:?}");
    assert_eq!((ran.err.as_str(), ran.code), ("", 0));
    let asked = world.asked_data("command");
    let data = &asked[0];
    let dir = world.dir.join("srv");
    assert_eq!(data["action"], "start");
    assert_eq!(data["wait"], "stable");
    assert_eq!(data["source"], json!(dir.join("pmd.json")));
    assert_eq!(data["configs"][0]["cwd"], json!(dir));
    assert_eq!(data["configs"][0]["script"], json!(dir.join("app.sh")));
    assert_eq!(data["configs"][0]["args"], json!(["x", "y"]));
    assert_eq!(data["configs"][1]["instances"], 2);
    assert_eq!(data["configs"][1]["filter_env"], json!(["AWS"]), "the daemon holds it back");
    assert_eq!(data["environment"]["PATH"], json!(std::env::var("PATH").unwrap()));
    assert!(data["environment"].get("PMD_HOME").is_none(), "what is pmd's own stays behind");
}

#[test]
fn only_some_apps_of_a_file_can_be_meant() {
    let world = World::with_daemon(starts);
    world.file(
        "pmd.json",
        r#"[{"name": "a", "script": "sleep"}, {"name": "bee", "script": "sleep"}]"#,
    );
    let ran = world.run(&["start", "pmd.json", "--only", "bee"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(world.asked_data("command")[0]["configs"].as_array().unwrap().len(), 1);
    world
        .run(&["start", "pmd.json", "--only", "bea"])
        .told(3, &["pmd: error: pmd.json has no app named 'bea'", "  try:  did you mean 'bee'?"]);
}

#[test]
fn without_a_word_the_file_of_the_directory_is_started() {
    let world = World::with_daemon(starts);
    world.run(&["start"]).told(
        2,
        &[
            "pmd: error: start: what? There is no configuration file in this directory",
            "  try:  pmd start app.js, or: pmd init",
        ],
    );
    world.file("Procfile", "web: sleep 100\n");
    world.file("ecosystem.config.json", r#"{"apps": [{"name": "eco", "script": "sleep"}]}"#);
    let ran = world.run(&["start"]);
    assert_eq!(ran.out, "eco  online  id 0  pid 500  (1.0 s)\n", "{ran:?}");
}

#[test]
fn json_on_stdin_is_a_file() {
    let world = World::with_daemon(starts);
    let ran = world.run_with_stdin(&["start", "-"], r#"{"name": "in", "script": "sleep"}"#);
    assert_eq!(ran.out, "in  online  id 0  pid 500  (1.0 s)\n", "{ran:?}");
    assert!(world.asked_data("command")[0].get("source").is_none());
}

#[test]
fn a_program_that_is_configuration_is_evaluated() {
    if !crate::errors::has_node() {
        return;
    }
    let world = World::with_daemon(starts);
    world.file(
        "ecosystem.config.js",
        "console.log('chatter');\nmodule.exports = {apps: [{name: 'js', script: 'sleep', \
         watch: false}]};",
    );
    let ran = world.run(&["start", "ecosystem.config.js"]);
    assert_eq!(ran.out, "js  online  id 0  pid 500  (1.0 s)\n", "{ran:?}");
}

#[test]
fn unknown_fields_of_pm2_files_are_warnings() {
    let world = World::with_daemon(starts);
    world.file(
        "ecosystem.config.json",
        r#"{"apps": [{"name": "x", "script": "sleep", "scrpt": 1, "vizion": true}]}"#,
    );
    let ran = world.run(&["start", "ecosystem.config.json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("pmd: warning: ecosystem.config.json:1:"), "{}", ran.err);
    assert!(ran.err.contains("did you mean 'script'?"), "{}", ran.err);
    assert!(ran.err.contains("pmd: note: "), "{}", ran.err);
    assert_eq!(world.run(&["start", "ecosystem.config.json", "-q"]).err, "");
    let strict = world.run(&["start", "ecosystem.config.json", "--strict"]);
    assert_eq!(strict.code, 6, "{strict:?}");
}

#[test]
fn check_looks_at_what_the_file_names() {
    let world = World::new();
    world.file("pmd.json", r#"{"apps": [{"name": "x", "script": "./nosuch.sh"}]}"#);
    let ran = world.run(&["check", "pmd.json"]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.starts_with("pmd.json: apps[0] (x): no such file: 'nosuch.sh'"), "{}", ran.err);
    world.file("nosuch.sh", "#!/bin/sh\n");
    let ran = world.run(&["check", "pmd.json"]);
    assert_eq!((ran.out.as_str(), ran.code), ("pmd.json: 1 app, no errors\n", 0), "{ran:?}");
    let document = world.run(&["check", "pmd.json", "--json"]).json();
    assert_eq!(document["results"][0]["apps"], json!(["x"]));
}

#[test]
fn init_writes_what_check_accepts_and_never_over_a_file() {
    let world = World::new();
    let nothing = world.run(&["init"]);
    assert_eq!(nothing.code, 6, "{nothing:?}");
    world.file("app.py", "");
    let ran = world.run(&["init"]);
    assert_eq!((ran.out.as_str(), ran.code), ("pmd.json: 1 app, from this directory\n", 0));
    assert_eq!(world.run(&["check", "pmd.json"]).code, 0);
    world.run(&["init"]).told(
        1,
        &["pmd: error: 'pmd.json' exists already", "  try:  pmd init pmd.json -f, or another name"],
    );
    assert_eq!(world.run(&["init", "-f"]).code, 0);
}

#[test]
fn apply_prints_the_plan_and_says_by_its_code_whether_something_would_change() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("apply") => reply(
            "plan",
            json!({"steps": [
                {"op": "reload", "name": "web",
                 "changed": [{"field": "instances", "old": 2, "new": 4}]},
                {"op": "unchanged", "name": "db", "changed": []},
            ], "warnings": []}),
        ),
        _ => usual(request),
    });
    world.file("pmd.json", r#"[{"name": "web", "script": "sleep"}]"#);
    let ran = world.run(&["apply", "pmd.json", "--dry-run"]);
    assert_eq!(ran.out, "~ web   reload    instances 2 -> 4\n= db    unchanged\n", "{ran:?}");
    assert_eq!(ran.code, 1);
    let data = &world.asked_data("apply")[0];
    assert_eq!((&data["dry_run"], &data["restart"]), (&json!(true), &json!(true)));
    assert_eq!(world.run(&["apply", "pmd.json"]).code, 0);
    let document = world.run(&["apply", "pmd.json", "--diff", "--json"]).json();
    assert_eq!(document["steps"][0]["op"], "reload");
}

#[test]
fn commands_about_what_runs_take_the_names_of_a_file() {
    let world = World::with_daemon(|request| match request["type"].as_str() {
        Some("command") => reply("command_result", json!({"results": [], "warnings": []})),
        _ => usual(request),
    });
    world.file("pmd.json", r#"[{"name": "a", "script": "x"}, {"name": "b", "script": "y"}]"#);
    assert_eq!(world.run(&["stop", "pmd.json", "c"]).code, 0);
    assert_eq!(world.asked_data("command")[0]["processes"], json!(["a", "b", "c"]));
    world.run(&["stop", "./app.js"]).told(
        6,
        &[
            "pmd: error: './app.js' is not a configuration file",
            "  try:  name the process (pmd ls)",
        ],
    );
}
