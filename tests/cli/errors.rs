//! The rows of the error catalogue that are the command line's own.

use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::harness::{World, error, usual};

#[test]
fn row_1_unknown_command() {
    let world = World::new();
    world.run(&["strat"]).told(
        2,
        &["pmd: error: unknown command 'strat'", "  try:  did you mean 'start'? (pmd help)"],
    );
    world
        .run(&["elephantine"])
        .told(2, &["pmd: error: unknown command 'elephantine'", "  try:  pmd help"]);
}

#[test]
fn row_2_unknown_option() {
    let world = World::new();
    world
        .run(&["start", "--nmae", "x"])
        .told(2, &["pmd: error: start: unknown option '--nmae'", "  try:  did you mean '--name'?"]);
    world.run(&["start", "x", "--container"]).told(
        2,
        &[
            "pmd: error: start: unknown option '--container'",
            "  why:  not supported by this version",
        ],
    );
}

#[test]
fn row_3_option_without_value() {
    World::new()
        .run(&["start", "x", "--name"])
        .told(2, &["pmd: error: start: '--name' needs a value"]);
}

#[test]
fn row_4_bad_duration() {
    World::new().run(&["start", "x", "--kill-timeout", "5x"]).told(
        2,
        &[
            "pmd: error: start: '--kill-timeout 5x' is not a duration",
            "  try:  500ms, 5s, 2m; a bare number is milliseconds",
        ],
    );
}

#[test]
fn row_5_missing_script() {
    let world = World::new();
    world.file("app.js", "");
    world
        .run(&["start", "ap.js"])
        .told(6, &["pmd: error: no such file: 'ap.js'", "  try:  did you mean 'app.js'?"]);
    assert!(!world.dir.join("pmd.lock").exists(), "no daemon is started for a typing error");
}

#[test]
fn row_6_script_is_a_directory() {
    let world = World::new();
    world.file("app/index.js", "");
    world
        .run(&["start", "app"])
        .told(6, &["pmd: error: 'app' is a directory", "  try:  pmd start app/index.js"]);
}

#[test]
fn row_7_no_way_to_run() {
    let world = World::new();
    world.file("job.xyz", "data");
    world.run(&["start", "job.xyz"]).told(
        6,
        &[
            "pmd: error: don't know how to run 'job.xyz'",
            "  why:  not executable and no interpreter for '.xyz'",
            "  try:  chmod +x job.xyz, or --interpreter python3",
        ],
    );
}

#[test]
fn row_13_missing_working_directory() {
    let world = World::new();
    world.file("app.sh", "#!/bin/sh\n");
    let app = world.dir.join("app.sh");
    world
        .run(&["start", app.to_str().unwrap(), "--cwd", "/nonexistent/app"])
        .told(6, &["pmd: error: working directory '/nonexistent/app' does not exist"]);
}

#[test]
fn row_15_no_such_process() {
    let world = World::with_daemon(|request| match request["data"]["action"].as_str() {
        Some("stop") => error(
            "PROCESS_NOT_FOUND",
            "no process named 'wbe'",
            json!({"process": "wbe", "hint": "did you mean 'web'? (pmd ls)"}),
        ),
        _ => usual(request),
    });
    world
        .run(&["stop", "wbe"])
        .told(3, &["pmd: error: no process named 'wbe'", "  try:  did you mean 'web'? (pmd ls)"]);
    world
        .run(&["stop", "nothing-*"])
        .told(3, &["pmd: error: no process matches 'nothing-*'", "  try:  pmd ls"]);
}

#[test]
fn row_29_javascript_without_node() {
    let world = World::new();
    world.file("ecosystem.config.js", "module.exports = {apps: []}");
    let mut command = world.command(&["start", "ecosystem.config.js"]);
    crate::harness::finish(command.env("PATH", "/nonexistent").spawn().unwrap()).told(
        6,
        &[
            "pmd: error: ecosystem.config.js needs node to be read, and node is not in PATH",
            "  try:  on a host with node: pmd export --format json > pmd.json",
        ],
    );
}

#[test]
fn row_30_javascript_that_throws() {
    if !has_node() {
        return;
    }
    let world = World::new();
    world.file("ecosystem.config.js", "module.exports = {\n  apps: foo }");
    world.run(&["start", "ecosystem.config.js"]).told(
        6,
        &[
            "pmd: error: ecosystem.config.js failed: ReferenceError: foo is not defined",
            "  why:  ecosystem.config.js line 2",
        ],
    );
}

#[test]
fn row_31_formats_that_are_not_built_in() {
    let world = World::new();
    for (name, format) in [("pmd.yml", "YAML"), ("pmd.yaml", "YAML"), ("pmd.toml", "TOML")] {
        world.file(name, "apps:");
        world.run(&["start", name]).told(
            6,
            &[
                &format!("pmd: error: this pmd was built without {format}"),
                "  try:  pmd.json, or the full build",
            ],
        );
    }
}

#[test]
fn row_35_no_daemon() {
    let world = World::new();
    for words in [&["ls"][..], &["ping"], &["stop", "web"], &["logs"], &["kill"], &["jlist"]] {
        world
            .run(words)
            .told(4, &["pmd: error: no daemon is running", "  try:  pmd start <script>"]);
    }
    world.file("app.sh", "#!/bin/sh\n");
    world
        .run(&["start", "app.sh", "--no-spawn"])
        .told(4, &["pmd: error: no daemon is running", "  try:  pmd start <script>"]);
}

#[test]
fn row_37_a_daemon_that_does_not_answer() {
    let world = World::new();
    // It listens, and never says a word.
    let _listener = UnixListener::bind(world.dir.join("pmd.sock")).unwrap();
    let pid = std::process::id();
    world.run(&["ls", "--timeout", "50ms"]).told(
        4,
        &[
            &format!("pmd: error: the daemon (pid {pid}) does not answer within 50 ms"),
            "  try:  pmd logs --daemon",
        ],
    );
}

#[test]
fn row_45_commands_of_the_cloud() {
    let world = World::new();
    for word in ["plus", "login", "deploy", "serve", "publish", "profile:cpu"] {
        let ran = world.run(&[word]);
        let first = format!("pmd: error: '{word}' is a PM2 cloud command and not part of pmd");
        assert_eq!((ran.code, ran.err.lines().next()), (2, Some(first.as_str())));
    }
}

#[test]
fn the_module_that_rotates_logs_is_built_in() {
    let world = World::new();
    let ran = world.run(&["install", "pm2-logrotate"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("built in: "), "{}", ran.out);
    assert_eq!(world.run(&["install", "pm2-server-monit"]).code, 2);
}

#[test]
fn row_46_a_socket_path_that_is_too_long() {
    let world = World::new();
    let home = format!("/{}", "d".repeat(121 - "//pmd.sock".len()));
    let ran = crate::harness::finish(world.command(&["ls", "--home", &home]).spawn().unwrap());
    ran.told(
        6,
        &[
            "pmd: error: socket path is 121 bytes long, the limit is 107",
            "  try:  PMD_HOME=/run/pmd",
        ],
    );
}

#[test]
fn with_json_errors_are_one_document_on_stdout() {
    let world = World::new();
    for (words, code, word) in [
        (&["strat", "--json"][..], 2, "INVALID_ARGUMENT"),
        (&["--json", "start", "--nmae"], 2, "INVALID_ARGUMENT"),
        (&["ls", "--json"], 4, "NO_DAEMON"),
        (&["start", "nosuch.js", "--json"], 6, "INVALID_CONFIG"),
        (&["--json"], 2, "INVALID_ARGUMENT"),
    ] {
        let ran = world.run(words);
        let document = ran.json();
        assert_eq!(ran.code, code, "{words:?}");
        assert_eq!(document["ok"], false);
        assert_eq!(document["error"]["code"], word, "{words:?}");
        for key in ["message", "hint", "details"] {
            assert!(document["error"].get(key).is_some(), "{words:?} {key}");
        }
    }
}

#[test]
fn no_command_prints_the_short_help_and_is_wrong() {
    let ran = World::new().run(&[]);
    assert_eq!((ran.out.as_str(), ran.code), ("", 2));
    assert!(ran.err.starts_with("Usage: pmd ") && ran.err.lines().count() <= 24, "{}", ran.err);
}

#[test]
fn help_and_version_are_answers() {
    let world = World::new();
    let version = format!("pmd {}\n", env!("CARGO_PKG_VERSION"));
    for words in [&["--version"][..], &["-v"], &["-V"], &["version"]] {
        let ran = world.run(words);
        assert_eq!((ran.out.as_str(), ran.code), (version.as_str(), 0), "{words:?}");
    }
    assert_eq!(world.run(&["help", "stop"]).out, world.run(&["stop", "--help"]).out);
    assert!(world.run(&["--help"]).out.contains("Exit codes:"));
    let table = world.run(&["help", "--json"]).json();
    assert!(table["commands"].as_array().unwrap().len() > 30);
}

pub fn has_node() -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("node").is_file());
    if !found {
        println!("skipped: no node in PATH");
    }
    found
}
