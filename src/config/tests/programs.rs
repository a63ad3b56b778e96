//! What is run, where, and with which environment.

use serde_json::json;

use super::*;
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::ExecMode;

#[test]
fn a_script_is_a_file_a_command_or_a_command_line() {
    let place = Place::new("scripts");
    place.write("app.js", "");
    place.program("tool", "#!/bin/sh\n");
    place.program("run.js", "#!/usr/bin/env node\n");
    place.program("bin/mycmd", "#!/bin/sh\n");
    place.write("my app.js", "");
    std::fs::create_dir(place.path().join("folder")).unwrap();
    let run = |fields: Value| {
        let mut map = fields;
        map["env"] = json!({"PATH": format!("{}/bin:/usr/bin:/bin", place.path().display())});
        let mut resolved = client(place.path(), &map);
        assert_eq!(lines(&resolved.problems), [""; 0]);
        let spec = resolved.apps.remove(0);
        let args: Vec<String> = spec.args.iter().map(str::to_owned).collect();
        (String::from(&*spec.name), String::from(&*spec.script), spec.interpreter.clone(), args)
    };
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let none: Vec<String> = Vec::new();
    let node = Some("node".to_owned());
    assert_eq!(
        run(json!({"script": "app.js"})),
        ("app".to_owned(), file("app.js"), node.clone(), none.clone())
    );
    assert_eq!(
        run(json!({"script": "./tool"})),
        ("tool".to_owned(), file("tool"), None, none.clone())
    );
    // Executable with a first line of its own; but arguments for node want node.
    assert_eq!(run(json!({"script": "run.js"})).2, None);
    assert_eq!(run(json!({"script": "run.js", "node_args": "--inspect"})).2, node);
    assert_eq!(
        run(json!({"script": "mycmd"})),
        ("mycmd".to_owned(), "mycmd".to_owned(), None, none.clone())
    );
    assert_eq!(run(json!({"script": "mycmd", "interpreter": "bash"})).1, file("bin/mycmd"));
    assert_eq!(
        run(json!({"script": "my app.js"})),
        ("my app".to_owned(), file("my app.js"), node, none.clone())
    );
    assert_eq!(
        run(json!({"script": "npm run dev"})),
        (
            "npm".to_owned(),
            "/bin/sh".to_owned(),
            None,
            vec!["-c".to_owned(), "exec npm run dev".to_owned()]
        )
    );
    assert_eq!(
        run(json!({"script": "npm run dev", "args": ["-p", "a b"]})).3,
        ["-c", "exec npm run dev \"$@\"", "npm", "-p", "a b"]
    );
    // `exec` in front of these would lose the second command.
    assert_eq!(run(json!({"script": "cd x && npm start"})).3, ["-c", "cd x && npm start"]);
    // Not there: as files, so that the error can name them.
    assert_eq!(run(json!({"script": "ap.js"})).1, file("ap.js"));
    assert_eq!(run(json!({"script": "folder"})).1, file("folder"));
    assert_eq!(run(json!({"script": "nothing"})).1, "nothing");
    assert_eq!(run(json!({"script": "app.js", "interpreter": "none"})).2, None);
    assert_eq!(run(json!({"script": "app.js", "interpreter": "./tool"})).2, Some(file("tool")));
}

#[test]
fn python_does_not_buffer_its_output() {
    let spec = only("pmd.json", r#"{"script": "job.py"}"#);
    assert!(spec.interpreter.as_ref().unwrap().starts_with("python"));
    assert_eq!(spec.env.get("PYTHONUNBUFFERED"), Some("1"));
    let spec = only("pmd.json", r#"{"script": "job.py", "env": {"PYTHONUNBUFFERED": ""}}"#);
    assert_eq!(spec.env.get("PYTHONUNBUFFERED"), Some(""));
    let spec = only("pmd.json", r#"{"script": "job", "interpreter": "/opt/python3.11"}"#);
    assert_eq!(spec.env.get("PYTHONUNBUFFERED"), Some("1"));
    assert_eq!(only("pmd.json", r#"{"script": "job.js"}"#).env.get("PYTHONUNBUFFERED"), None);
}

#[test]
fn what_is_inherited_depends_on_the_file() {
    let script = r#"{"script": "a"}"#;
    assert!(only("pmd.json", script).inherited.get("PORT").is_none());
    assert_eq!(only("ecosystem.json", script).inherited.get("PORT"), Some("9"));
    let all = only("pmd.json", r#"{"script": "a", "inherit_env": true}"#);
    assert!(all.inherit_env);
    assert_eq!(all.inherited.get("PORT"), Some("9"));
    let clean = only("ecosystem.json", r#"{"script": "a", "filter_env": true}"#);
    assert!(!clean.inherit_env);
    assert!(clean.inherited.get("PORT").is_none());
    let filtered = only("ecosystem.json", r#"{"script": "a", "filter_env": ["ORT"]}"#);
    assert!(filtered.inherit_env);
    assert!(filtered.inherited.get("PORT").is_none());
    assert_eq!(filtered.inherited.get("LANG"), Some("C"));
}

#[test]
fn apps_share_their_callers_environment() {
    let text = r#"[{"script": "a"}, {"script": "b"}]"#;
    for file in ["pmd.json", "ecosystem.json"] {
        let resolved = resolve(file, text);
        assert!(Rc::ptr_eq(&resolved.apps[0].inherited, &resolved.apps[1].inherited));
    }
}

#[test]
fn variables_are_replaced_in_pmd_files_only() {
    let place = Place::new("expand");
    place.write("sub/.env", "DB=postgres://x\nHOME=/elsewhere\n");
    let text = r#"{"script": "a", "cwd": "${HOME}", "args": ["--db=${DB}", "$$1", "$x"],
        "env": {"URL": "${DB}/y", "PRICE": "5$$", "H": "${HOME}"}, "env_file": "ENVFILE"}"#;
    let text = text.replace("ENVFILE", place.path().join("sub/.env").to_str().unwrap());
    let spec = only("pmd.json", &text);
    assert_eq!(&*spec.cwd, Path::new("/home/u"));
    assert_eq!(spec.args, ["--db=postgres://x", "$1", "$x"]);
    assert_eq!(spec.env.get("URL"), Some("postgres://x/y"));
    assert_eq!(spec.env.get("PRICE"), Some("5$"));
    assert_eq!(spec.env.get("H"), Some("/elsewhere"));
    let literal = only("ecosystem.json", r#"{"script": "a", "args": ["${DB} $$"]}"#);
    assert_eq!(literal.args, ["${DB} $$"]);
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    for (field, shown) in [
        (r#""env": {"A": "${NOPE}"}"#, "env.A"),
        (r#""args": "x ${NOPE}""#, "args"),
        (r#""cwd": "/x/${NOPE}""#, "cwd"),
    ] {
        let found = problems("pmd.json", &format!("{{\"script\": \"a\", {field}}}"));
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(&format!("'{shown}' names ${{NOPE}}, which is not set")));
    }
    // What the caller has is not what a pmd file gets.
    assert_eq!(problems("pmd.json", r#"{"script": "a", "args": "${PORT}"}"#).len(), 1);
}

#[test]
fn a_profile_lies_over_env() {
    let text = r#"[{"script": "a", "env": {"A": "1", "B": "1"}, "env_production": {"B": "2"}},
        {"script": "b", "env_prod": {}}]"#;
    let environment = caller();
    let value = json::parse_text("f", text).unwrap();
    let mut origin = Origin {
        dialect: Dialect::Pm2,
        dir: Path::new("/srv"),
        environment: &environment,
        profile: Some("production"),
        source: Some(Path::new("/srv/ecosystem.json")),
        file: Some(("ecosystem.json", text)),
        strict: false,
        defaults: &DEFAULTS,
    };
    let resolved = apps(&value, &origin);
    assert_eq!(resolved.apps[0].env.get("A"), Some("1"));
    assert_eq!(resolved.apps[0].env.get("B"), Some("2"));
    assert_eq!(resolved.apps[0].source.as_deref(), Some(Path::new("/srv/ecosystem.json")));
    assert_eq!(
        lines(&resolved.warnings),
        ["ecosystem.json:2:9: apps[1] (b): there is no 'env_production'"]
    );
    origin.profile = None;
    assert_eq!(apps(&value, &origin).apps[0].env.get("B"), Some("1"));
}

#[test]
fn null_means_nothing_where_javascript_wrote_it() {
    let text = r#"{"script": "a", "args": null, "env": {"A": null, "B": "x"}, "name": null}"#;
    let spec = only("ecosystem.json", text);
    assert_eq!(&*spec.name, "a");
    assert_eq!(spec.env.get("A"), None);
    assert_eq!(problems("pmd.json", text).len(), 3);
}

#[test]
fn a_relative_directory_needs_a_file_it_is_relative_to() {
    let found = client(Path::new(""), &json!({"script": "/bin/a", "cwd": "sub"}));
    assert_eq!(lines(&found.problems), ["'cwd' must be an absolute path, not \"sub\""]);
}

#[test]
fn an_ecosystem_file_as_people_have_it_is_understood() {
    // What `module.exports` of a usual ecosystem.config.js evaluates to.
    let text = r#"{"apps": [{
        "name": "api", "script": "./dist/server.js", "instances": "max", "exec_mode": "cluster",
        "watch": false, "max_memory_restart": "1G", "node_args": "--max-old-space-size=1024",
        "env": {"NODE_ENV": "development", "PORT": 3000}, "env_production": {"NODE_ENV": "production"},
        "error_file": "./logs/err.log", "out_file": "./logs/out.log", "log_date_format":
        "YYYY-MM-DD HH:mm Z", "merge_logs": true, "autorestart": true, "max_restarts": 10,
        "min_uptime": "10s", "listen_timeout": 8000, "kill_timeout": 5000, "wait_ready": true,
        "ignore_watch": ["node_modules", "logs"], "vizion": false, "source_map_support": true
    }, {"name": "worker", "script": "worker.py", "interpreter": "python3", "cron_restart": "0 2 * * *",
        "args": "--queue high --name 'big jobs'", "cwd": "/opt/worker", "combine_logs": true}],
    "deploy": {"production": {"user": "node", "host": "1.2.3.4"}}}"#;
    let resolved = resolve("ecosystem.config.js", text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    let [api, worker] = &resolved.apps[..] else { panic!("two apps") };
    assert_eq!((&*api.name, &*api.script), ("api", "/srv/dist/server.js"));
    assert_eq!(api.instances, 4);
    assert_eq!(api.interpreter.as_deref(), Some("node"));
    assert_eq!(api.interpreter_args, ["--max-old-space-size=1024"]);
    assert_eq!(api.env.get("PORT"), Some("3000"));
    assert_eq!(api.max_memory_restart, Some(1 << 30));
    assert!(api.wait_ready && api.logs.merge && api.inherit_env);
    assert_eq!(worker.args, ["--queue", "high", "--name", "big jobs"]);
    assert_eq!(
        (api.watch.len(), &api.ignore_watch[..]),
        (0, &["node_modules".to_owned(), "logs".to_owned()][..])
    );
    assert_eq!(&*worker.cwd, Path::new("/opt/worker"));
    assert_eq!(worker.cron_restart.as_ref().map(Schedule::text), Some("0 2 * * *"));
    // What it asks for and does not get is said, each once.
    let warnings: Vec<String> = resolved.warnings.iter().map(|w| w.message.clone()).collect();
    assert_eq!(api.exec_mode, ExecMode::Cluster);
    for field in ["vizion", "source_map_support"] {
        let about = warnings.iter().filter(|text| text.starts_with(&format!("'{field}'")));
        assert_eq!(about.count(), 1, "{field}: {warnings:?}");
    }
}
