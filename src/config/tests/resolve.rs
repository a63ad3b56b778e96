//! Whole documents to specs, and each way in which they may be wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::base::Signal;
use crate::config::problem::Kind;
use crate::supervisor::spec::{
    Condition, LogBoth, LogFormat, LogFull, LogTarget, MAX_INSTANCES, OnDaemonLoss, Restart, Stdin,
};

#[test]
fn nothing_said_means_the_defaults() {
    let spec = only("pmd.json", r#"{"apps": [{"script": "./server"}]}"#);
    assert_eq!(&*spec.name, "server");
    assert_eq!(&*spec.namespace, "default");
    assert_eq!(&*spec.script, "/srv/server");
    assert_eq!(spec.interpreter, None);
    assert_eq!(&*spec.cwd, Path::new("/srv"));
    assert_eq!(spec.instances, 1);
    assert_eq!(spec.instance_var, "NODE_APP_INSTANCE");
    assert!(spec.autostart && spec.treekill && spec.essential);
    assert!(!spec.inherit_env && !spec.wait_ready && !spec.notify);
    assert_eq!(spec.restart, Restart::Always);
    assert_eq!(spec.max_restarts, 16);
    assert_eq!(spec.min_uptime, Duration::from_secs(1));
    assert_eq!(spec.restart_delay, Duration::ZERO);
    assert_eq!(spec.exp_backoff_restart_delay, Duration::from_millis(100));
    assert_eq!(spec.kill_signal, Signal::INT);
    assert_eq!(spec.kill_timeout, Duration::from_millis(1600));
    assert_eq!(spec.listen_timeout, Duration::from_secs(3));
    assert_eq!(spec.logs, Default::default());
    assert_eq!(spec.stdin, Stdin::Null);
    assert!(spec.inherited.get("PORT").is_none());
    assert_eq!(spec.inherited.get("PATH"), Some("/usr/bin:/bin"));
}

#[test]
fn every_field_says_what_it_says() {
    let text = r#"[{
      "name": "web", "name_prefix": "a-", "namespace": "shop", "script": "web.js",
      "args": ["--port", 3000], "interpreter": "/opt/node", "nodeArgs": "--inspect --x='a b'",
      "cwd": "sub", "env": {"A": "x", "B": 1, "C": true, "D": {"e": [1]}},
      "env_file": [], "inherit_env": true, "secret_env": ["A"],
      "user": "www", "group": 33, "umask": "027", "nice": -5,
      "limits": {"nofile": 1024, "core": "1M", "as": "2G", "nproc": 10, "oom_score_adj": 100,
                 "memory": "64M", "cpu": 50, "pids": 20},
      "stdio": ["pipe", "pipe", "pipe"], "instances": 3, "instance_var": "I", "increment_var": "B",
      "autostart": false, "restart": "on-failure", "stop_exit_codes": [64, 0, 64],
      "max_restarts": 5, "min_uptime": "2s", "restart_delay": 250, "expBackoffRestartDelay": 0,
      "kill_signal": "TERM", "kill_timeout": "10s", "treekill": false, "on_daemon_loss": "kill",
      "wait_ready": true, "notify": true, "notification_fd": 5, "listen_timeout": "8s",
      "essential": "false",
      "out_file": "out.log", "error_file": "/dev/null", "log_file": true, "log_type": "json",
      "merge_logs": true, "time": true, "log": {"max_size": "1M", "keep": 3, "full": "block"},
      "pid_file": "~/web.pid"
    }]"#;
    let resolved = resolve("pmd.json", text);
    // `log` is an object here, so `log_file` may stand beside it.
    assert_eq!(lines(&resolved.problems), [""; 0]);
    let spec = &resolved.apps[0];
    assert_eq!(&*spec.name, "a-web");
    assert_eq!(&*spec.namespace, "shop");
    assert_eq!(&*spec.script, "/srv/sub/web.js");
    assert_eq!(spec.args, ["--port", "3000"]);
    assert_eq!(spec.interpreter.as_deref(), Some("/opt/node"));
    assert_eq!(spec.interpreter_args, ["--inspect", "--x=a b"]);
    assert_eq!(&*spec.cwd, Path::new("/srv/sub"));
    let env: Vec<(&str, &str)> = spec.env.iter().collect();
    assert_eq!(env, [("A", "x"), ("B", "1"), ("C", "true"), ("D", "{\"e\":[1]}")]);
    assert!(spec.inherit_env);
    assert_eq!(spec.inherited.get("PORT"), Some("9"));
    assert_eq!(spec.secret_env, ["A"]);
    assert_eq!((spec.user.as_deref(), spec.group.as_deref()), (Some("www"), Some("33")));
    assert_eq!((spec.umask, spec.nice, spec.oom_score_adj), (Some(0o027), Some(-5), Some(100)));
    assert_eq!(spec.limits.nofile, Some(1024));
    assert_eq!(spec.limits.nproc, Some(10));
    assert_eq!(spec.limits.memory, Some(64 << 20));
    assert_eq!((spec.limits.cpu, spec.limits.pids), (Some(50), Some(20)));
    assert_eq!(spec.limits.core, Some(1 << 20));
    assert_eq!(spec.limits.address_space, Some(2 << 30));
    assert_eq!(spec.stdin, Stdin::Pipe);
    assert_eq!(spec.instances, 3);
    assert_eq!(spec.instance_var, "I");
    assert_eq!(spec.increment_var.as_deref(), Some("B"));
    assert!(!spec.autostart && !spec.treekill && !spec.essential);
    assert_eq!(spec.restart, Restart::OnFailure);
    assert_eq!(spec.stop_exit_codes, [0, 64]);
    assert_eq!(spec.max_restarts, 5);
    assert_eq!(spec.min_uptime, Duration::from_secs(2));
    assert_eq!(spec.restart_delay, Duration::from_millis(250));
    assert_eq!(spec.exp_backoff_restart_delay, Duration::ZERO);
    assert_eq!(spec.kill_signal, Signal::TERM);
    assert_eq!(spec.kill_timeout, Duration::from_secs(10));
    assert_eq!(spec.on_daemon_loss, OnDaemonLoss::Kill);
    assert!(spec.wait_ready && spec.notify);
    assert_eq!(spec.notification_fd, Some(5));
    assert_eq!(spec.listen_timeout, Duration::from_secs(8));
    assert_eq!(spec.logs.out, LogTarget::File("/srv/sub/out.log".into()));
    assert_eq!(spec.logs.error, LogTarget::Nowhere);
    assert_eq!(spec.logs.both, LogBoth::Default);
    assert_eq!(spec.logs.format, LogFormat::Json);
    assert_eq!(spec.logs.date.as_deref(), Some("YYYY-MM-DDTHH:mm:ss"));
    assert!(spec.logs.merge);
    assert_eq!((spec.logs.max_size, spec.logs.keep), (Some(1 << 20), Some(3)));
    assert_eq!(spec.logs.full, Some(LogFull::Block));
    assert_eq!(spec.pid_file, Some(PathBuf::from("/home/u/web.pid")));
}

#[test]
fn an_unknown_field_is_an_error_with_its_place_and_a_suggestion() {
    let text = "{\n  \"apps\": [\n    {\"name\": \"db\", \"script\": \"/bin/db\"},\n    {\n      \
        \"name\": \"web\", \"script\": \"a\",\n      \"n\": 1,\n    \"scrpt\": \"server.js\",\n\
        \"x\": 1,     \"instances\": \"many\"\n    }\n  ]\n}\n";
    let found = problems("pmd.json", text);
    assert!(found.contains(
        &"pmd.json:7:5: apps[1] (web): unknown field 'scrpt' (did you mean 'script'?)".to_owned()
    ));
    assert!(
        found.contains(
            &"pmd.json:8:26: apps[1] (web): 'instances' must be a number or \"max\", not \"many\""
                .to_owned()
        )
    );
    assert_eq!(found.len(), 4);
}

#[test]
fn an_unknown_field_of_a_pm2_file_is_a_warning() {
    let text = r#"{"apps": [{"name": "web", "script": "a", "instences": 2}]}"#;
    for name in ["ecosystem.json", "process.json", "my.config.json"] {
        assert_eq!(
            warnings(name, text),
            [format!(
                "{name}:1:42: apps[0] (web): unknown field 'instences' (did you mean 'instances'?)"
            )]
        );
    }
}

#[test]
fn strict_makes_no_difference_between_files() {
    let environment = caller();
    let value = json!([{"script": "a", "instences": 2}, {"script": "b", "log_compress": true}]);
    let origin = Origin {
        dialect: Dialect::Pm2,
        dir: Path::new("/srv"),
        environment: &environment,
        profile: None,
        source: None,
        file: None,
        strict: true,
        defaults: &DEFAULTS,
    };
    assert_eq!(
        lines(&apps(&value, &origin).problems),
        [
            "apps[0] (a): unknown field 'instences' (did you mean 'instances'?)",
            "apps[1] (b): 'log_compress' is not supported by this version"
        ]
    );
}

#[test]
fn wrong_types_and_values_are_errors_everywhere() {
    for (field, expected) in [
        (r#""args": [["a"]]"#, "'args' must be a list of strings, not a list"),
        (r#""args": "a 'b""#, "'args' must be a list of strings, not \"a 'b\""),
        (r#""autorestart": 1"#, "'autorestart' must be true or false, not 1"),
        (r#""autorestart": "yes""#, "'autorestart' must be true or false, not \"yes\""),
        (r#""env": ["A=1"]"#, "'env' must be an object, not a list"),
        (r#""max_restarts": -1"#, "'max_restarts' must be 0 to 4294967295, not -1"),
        (r#""max_restarts": 1.5"#, "'max_restarts' must be a whole number, not 1.5"),
        (
            r#""minUptime": "5 parsecs""#,
            "'minUptime' must be a time like 500ms, 5s or 2m, not \"5 parsecs\"",
        ),
        (r#""kill_timeout": -5"#, "'kill_timeout' must be a time like 500ms, 5s or 2m, not -5"),
        (
            r#""log_max_size": "12X""#,
            "'log_max_size' must be a size like 512K, 10M or 1G, not \"12X\"",
        ),
        (
            r#""kill_signal": "SIGNOPE""#,
            "'kill_signal' must be a signal like \"SIGTERM\", \"TERM\" or 15, not \"SIGNOPE\"",
        ),
        (r#""umask": "99""#, "'umask' must be an octal string like \"022\", not \"99\""),
        (
            r#""restart": "maybe""#,
            "'restart' must be \"always\", \"on-failure\", \"never\" or \"once\", not \"maybe\"",
        ),
        (
            r#""stop_exit_codes": [256]"#,
            "'stop_exit_codes' must be a list of numbers from 0 to 255, not a list",
        ),
        (r#""cron_restart": "* * * *""#, "'* * * *' is not a schedule: 4 fields, expected 5 or 6"),
        (r#""cron": 5"#, "'cron' must be a schedule like \"0 2 * * *\", not 5"),
        (r#""overlap": "skip""#, "'overlap' means nothing without 'schedule'"),
        (
            r#""timeout": 5000"#,
            "'timeout' is for jobs: what has a 'schedule', or 'restart' \"once\"",
        ),
        (r#""schedule": "@daily", "restart": "always""#, "'restart' contradicts 'schedule'"),
        (
            r#""schedule": "@daily", "cron": "@daily""#,
            "'cron' contradicts 'schedule': the one restarts a program, the other runs a job",
        ),
        (r#""watch": 5"#, "'watch' must be a list of strings, not 5"),
        (
            r#""ignore_watch": ["\\.log$"]"#,
            "'ignore_watch': '\\.log$' is no pattern of paths: write \".log\"",
        ),
        (
            r#""watch": ["src/*.{a,b}"]"#,
            "'watch': 'src/*.{a,b}' has braces: write one pattern for each",
        ),
        (r#""nice": 20"#, "'nice' must be -20 to 19, not 20"),
        (r#""instances": 5000"#, "'instances' must be at most 1024, not 5000"),
        (
            r#""exec_mode": "threads""#,
            "'exec_mode' must be \"fork\", \"cluster\", \"fork_mode\" or \"cluster_mode\", not \"threads\"",
        ),
        (r#""cwd": 5"#, "'cwd' must be a string, not 5"),
        (r#""cwd": """#, "'cwd' is empty"),
        (r#""out_file": ["a"]"#, "'out_file' must be a string, not a list"),
        (r#""log": 5"#, "'log' must be a path, true or false, not 5"),
        (
            r#""log": {"type": "xml"}"#,
            "'log.type' must be \"raw\", \"json\" or \"logfmt\", not \"xml\"",
        ),
        (r#""limits": 5"#, "'limits' must be an object, not 5"),
        (r#""limits": {"nofile": "x"}"#, "'limits.nofile' must be a whole number, not \"x\""),
        (
            r#""depends_on": {"db": "alive"}"#,
            "'depends_on.db' must be \"started\", \"ready\", \"healthy\" or \"done\", not \"alive\"",
        ),
        (r#""user": {}"#, "'user' must be a name or a number, not an object"),
        (
            r#""stdio": ["pipe"]"#,
            "'stdio' must be a list of three: \"pipe\", \"null\", \"inherit\" or a number, not a list",
        ),
        (
            r#""increment_var": "A=B""#,
            "'increment_var' must be the name of a variable, not \"A=B\"",
        ),
        (r#""notification_fd": 1"#, "'notification_fd' must be 3 to 1023, not 1"),
        (r#""args": ["a\u0000b"]"#, "'args' must not contain a NUL character"),
        (r#""env": {"A": "a\u0000b"}"#, "'env.A' must not contain a NUL character"),
        (r#""env": {"A=B": "a"}"#, "'A=B' is not the name of a variable"),
        (r#""log_date_format": 5"#, "'log_date_format' must be a string, not 5"),
        (r#""name": 5"#, "'name' must be a string, not 5"),
        (r#""script": 5"#, "'script' must be a string, not 5"),
    ] {
        let base = if field.contains("\"script\"") { "" } else { r#""script": "a", "# };
        let text = format!("{{\"apps\": [{{{base}{field}}}]}}");
        for file in ["pmd.json", "ecosystem.json"] {
            let found = problems(file, &text);
            assert!(
                found.iter().any(|line| line.ends_with(expected) && line.starts_with(file)),
                "{field}: {found:?}"
            );
        }
    }
}

#[test]
fn a_missing_script_is_said_with_the_other_faults() {
    let text = "{\"apps\": [{\"script\": \"a\"},\n {\"name\": \"web\", \"nice\": 99}]}";
    assert_eq!(
        problems("pmd.json", text),
        [
            "pmd.json:2:2: apps[1] (web): 'script' is missing",
            "pmd.json:2:26: apps[1] (web): 'nice' must be -20 to 19, not 99"
        ]
    );
}

#[test]
fn a_field_may_be_given_under_one_name_only() {
    let text =
        r#"{"script": "a", "out_file": "x", "output": "y", "maxRestarts": 1, "max_restarts": 2}"#;
    let found = problems("ecosystem.json", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("are the same field, given twice"));
    let text = r#"{"script": "a", "log": {"keep": 1}, "log_keep": 2}"#;
    assert_eq!(
        problems("pmd.json", text),
        ["pmd.json:1:37: apps[0] (a): 'log.keep' and 'log_keep' are the same field, given twice"]
    );
}

#[test]
fn what_comes_later_is_not_accepted_in_silence() {
    for (field, shown) in [
        (r#""log_compress": true"#, "log_compress"),
        (r#""log": {"compress": true}"#, "log.compress"),
    ] {
        let text = format!("{{\"apps\": [{{\"script\": \"a\", {field}}}]}}");
        let expected = format!("'{shown}' is not supported by this version");
        assert!(problems("pmd.json", &text)[0].ends_with(&expected), "{field}");
        assert!(warnings("ecosystem.json", &text)[0].ends_with(&expected), "{field}");
    }
    let namespaces = r#"{"apps": [], "namespaces": {"a": {"intensity": {}}}}"#;
    assert_eq!(
        problems("pmd.json", namespaces),
        ["pmd.json:1:14: 'namespaces' is not supported by this version"]
    );
}

#[test]
fn what_is_switched_off_is_accepted() {
    let text = r#"{"script": "a", "watch": false, "cron_restart": 0, "ignore_watch": [],
        "log_compress": false, "shutdown_with_message": false, "ipc": "off"}"#;
    assert_eq!(warnings("pmd.json", text), [""; 0]);
}

#[test]
fn what_has_no_effect_is_noted_once() {
    let text = r#"{"deploy": {"x": 1}, "apps": [
        {"script": "a", "vizion": false, "automation": true}, {"script": "b", "vizion": false}]}"#;
    let resolved = resolve("pmd.json", text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    assert_eq!(
        lines(&resolved.warnings),
        [
            "pmd.json:1:2: 'deploy' has no effect in pmd",
            "pmd.json:2:25: apps[0] (a): 'vizion' has no effect in pmd",
            "pmd.json:2:42: apps[0] (a): 'automation' has no effect in pmd",
        ]
    );
    assert!(resolved.warnings.iter().all(|note| note.kind == Kind::Note));
}

#[test]
fn a_cluster_is_what_node_runs_many_of() {
    use crate::supervisor::spec::ExecMode::{Cluster, Fork};
    for (fields, mode) in [
        (r#""script": "a.js""#, Fork),
        (r#""script": "a.js", "instances": 1"#, Cluster),
        (r#""script": "a.js", "instances": "max""#, Cluster),
        (r#""script": "a.js", "instances": 2, "exec_mode": "fork""#, Fork),
        (r#""script": "a.js", "exec_mode": "cluster_mode""#, Cluster),
        (r#""script": "a.js", "instances": 2, "ipc": "off""#, Fork),
        (r#""script": "a", "interpreter": "/opt/bin/bun", "instances": 2"#, Cluster),
        (r#""script": "a.py", "instances": 2"#, Fork),
    ] {
        for file in ["pmd.json", "ecosystem.json"] {
            let text = format!("{{{fields}}}");
            assert_eq!(only(file, &text).exec_mode, mode, "{file}: {fields}");
        }
    }
    let text = r#"{"script": "a.py", "exec_mode": "cluster", "instances": "max"}"#;
    for file in ["pmd.json", "ecosystem.json"] {
        let found = warnings(file, text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].ends_with(
                "'exec_mode' cluster is for node and bun: the instances run in fork mode"
            )
        );
        let app = only(file, text);
        assert_eq!((app.exec_mode, app.instances), (Fork, DEFAULTS.cpus));
    }
    let text = r#"{"script": "a.js", "exec_mode": "cluster", "ipc": "fd"}"#;
    assert!(problems("pmd.json", text)[0].contains("needs the channel"));
    // All its workers have the same port.
    let app = only("pmd.json", r#"{"script": "a.js", "instances": 2, "port": 3000}"#);
    assert_eq!((app.ports(), app.env.get("PORT")), (None, Some("3000")));
}

#[test]
fn what_pmd_listens_on() {
    let app = only("pmd.json", r#"{"script": "a", "listen": ["tcp:80", "unix:run/a.sock"]}"#);
    let shown: Vec<String> = app.listen.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["tcp:80", "unix:/srv/run/a.sock"]);
    let app = only("pmd.json", r#"{"script": "a", "listen": "udp:[::1]:53"}"#);
    assert_eq!(app.listen[0].to_string(), "udp:[::1]:53");
    let long = format!(r#""unix:/{}""#, "x".repeat(107));
    for (value, part) in [
        ("80", "'listen' must be an address like tcp:3000"),
        (r#""tcp:example.org:80""#, "'listen' must be an address like"),
        (r#"["tcp:80", "tcp:*:80"]"#, "'listen' has tcp:80 twice"),
        (&*long, "at most 107 bytes"),
        (r#""tcp:80", "notification_fd": 3"#, "is the number of a socket in 'listen'"),
    ] {
        let text = format!(r#"{{"script": "a", "listen": {value}}}"#);
        let found = problems("pmd.json", &text);
        assert!(found.len() == 1 && found[0].contains(part), "{value}: {found:?}");
    }
}

#[test]
fn instances_count_from_the_cpus() {
    for (value, expected) in
        [("1", 1), ("0", 4), ("\"max\"", 4), ("-1", 3), ("-9", 1), ("\"3\"", 3), ("2.0", 2)]
    {
        let text = format!("{{\"script\": \"a\", \"instances\": {value}}}");
        assert_eq!(only("pmd.json", &text).instances, expected, "{value}");
    }
    let text = format!("{{\"script\": \"a\", \"instances\": {MAX_INSTANCES}}}");
    assert_eq!(only("pmd.json", &text).instances, MAX_INSTANCES);
}

#[test]
fn restart_policies_do_not_contradict_each_other() {
    let policy = |fields: &str| only("pmd.json", &format!("{{\"script\": \"a\"{fields}}}")).restart;
    assert_eq!(policy(""), Restart::Always);
    assert_eq!(policy(r#", "autorestart": false"#), Restart::Never);
    assert_eq!(policy(r#", "autorestart": true, "restart": "on-failure""#), Restart::OnFailure);
    assert_eq!(policy(r#", "autorestart": false, "restart": "never""#), Restart::Never);
    assert_eq!(policy(r#", "restart": "once""#), Restart::Once);
    let text = r#"{"script": "a", "autorestart": false, "restart": "always"}"#;
    assert_eq!(
        problems("pmd.json", text),
        ["pmd.json:1:50: apps[0] (a): 'restart' \"always\" contradicts 'autorestart' false"]
    );
}

#[test]
fn names_are_fit_for_files_and_commands() {
    let long = "x".repeat(10_000);
    for (name, reason) in [
        ("../../x", "contains '/'"),
        ("a\\nb", "contains a control character"),
        ("-x", "starts with '-'"),
        ("all", "is reserved: it addresses all processes"),
        ("", "is empty"),
        ("42", "has only digits: it would be taken for an id"),
        (long.as_str(), "is longer than 128 bytes"),
    ] {
        let text = format!("{{\"script\": \"a\", \"name\": \"{name}\"}}");
        let found = problems("pmd.json", &text);
        assert!(found[0].ends_with(reason), "{found:?}");
        assert!(found[0].len() < 300, "{found:?}");
        assert!(!found[0].contains('\n'));
    }
    assert_eq!(&*only("ecosystem.json", r#"{"script": "a", "name": "42"}"#).name, "42");
    assert_eq!(
        problems("pmd.json", r#"{"script": "all.js"}"#),
        ["pmd.json:1:1: apps[0] (all): name 'all' is reserved: it addresses all processes \
          (try: give it a 'name')"]
    );
}

#[test]
fn a_name_is_used_once() {
    let text =
        "{\"apps\": [\n {\"script\": \"api.js\"},\n {\"script\": \"b\", \"name\": \"api\"}]}";
    assert_eq!(
        problems("pmd.json", text),
        ["pmd.json:3:26: apps[1] (api): name 'api' is already used by apps[0]"]
    );
}

#[test]
fn dependencies_are_defined_and_end_somewhere() {
    let text =
        r#"[{"name": "web", "script": "a", "depends_on": ["dbb"]}, {"name": "db", "script": "b"}]"#;
    assert_eq!(
        problems("pmd.json", text),
        ["pmd.json:1:47: apps[0] (web): depends on 'dbb', which is not defined \
          (did you mean 'db'?)"]
    );
    let text = r#"[{"name": "web", "script": "a", "depends_on": ["db"]},
        {"name": "db", "script": "b", "depends_on": {"web": "started"}}]"#;
    assert_eq!(
        problems("pmd.json", text),
        ["pmd.json:1:47: apps[0] (web): dependency cycle: web -> db -> web"]
    );
    let own = r#"[{"name": "web", "script": "a", "depends_on": "web"}]"#;
    assert!(problems("pmd.json", own)[0].ends_with("dependency cycle: web -> web"));
    // What is wrong elsewhere does not make its name unknown.
    let text = r#"[{"name": "web", "script": "a", "depends_on": ["db"]}, {"name": "db"}]"#;
    assert_eq!(problems("pmd.json", text), ["pmd.json:1:56: apps[1] (db): 'script' is missing"]);
}

#[test]
fn a_client_may_depend_on_what_the_daemon_has() {
    let resolved = client(Path::new("/srv"), &json!({"script": "a", "depends_on": {"b": "done"}}));
    assert_eq!(lines(&resolved.problems), [""; 0]);
    assert_eq!(resolved.apps[0].depends_on[0].condition, Condition::Done);
}

#[test]
fn apps_start_after_what_they_depend_on() {
    let text = r#"[{"name": "c", "script": "x", "depends_on": ["b", "a"]}, {"name": "a", "script": "x"},
        {"name": "b", "script": "x", "depends_on": ["a"]}, {"name": "d", "script": "x"}]"#;
    let resolved = resolve("pmd.json", text);
    assert_eq!(crate::config::order(&resolved.apps).unwrap(), [1, 2, 0, 3]);
    // As many as a file may have, one after the other.
    let many: Vec<Value> = (0..4096)
        .map(|i| json!({"name": format!("n{i}"), "script": "x", "depends_on": [format!("n{}", i + 1)]}))
        .chain([json!({"name": "n4096", "script": "x"})])
        .collect();
    let text = Value::from(many[1..].to_vec()).to_string();
    let resolved = resolve("pmd.json", &text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    assert_eq!(crate::config::order(&resolved.apps).unwrap()[0], 4095);
    let text = Value::from(many).to_string();
    assert_eq!(
        problems("pmd.json", &text),
        ["pmd.json:1:1: 4097 apps are declared, the limit is 4096"]
    );
}

#[test]
fn a_document_has_one_of_three_forms() {
    for text in [r#"{"apps": [{"script": "a"}]}"#, r#"[{"script": "a"}]"#, r#"{"script": "a"}"#] {
        assert_eq!(&*only("pmd.json", text).name, "a");
    }
    for (text, expected) in [
        ("5", "pmd.json:1:1: expected an object or a list of apps, not 5"),
        ("\"x\"", "pmd.json:1:1: expected an object or a list of apps, not \"x\""),
        (r#"{"apps": {"script": "a"}}"#, "pmd.json:1:10: 'apps' must be a list, not an object"),
        ("[1]", "pmd.json:1:2: apps[0]: an app must be an object, not 1"),
        (r#"{"name": "web"}"#, "pmd.json:1:1: apps[0] (web): 'script' is missing"),
        (r#"{"apps": [], "ap": 1}"#, "pmd.json:1:14: unknown field 'ap' (did you mean 'apps'?)"),
    ] {
        let found = problems("pmd.json", text);
        // A suggestion for two letters would be a guess.
        assert_eq!(found[0].split(" (did").next(), expected.split(" (did").next(), "{text}");
    }
}

#[test]
fn settings_may_stand_beside_apps() {
    for text in [
        r#"{"max_connections": 64, "log": {"max_size": "1M"}, "apps": []}"#,
        r#"{"max_connections": 64, "log": {"max_size": "1M"}}"#,
        r#"{"$schema": "pmd.schema.json", "web.listen": []}"#,
        "{}",
    ] {
        let resolved = resolve("pmd.json", text);
        assert_eq!(lines(&resolved.problems), [""; 0], "{text}");
        assert!(resolved.apps.is_empty());
    }
}

#[test]
fn too_many_faults_are_not_all_listed() {
    let app = json!({"script": "a", "nice": 99, "umask": 1, "unknown": 1});
    let text = Value::from(vec![app; 1000]).to_string();
    let found = problems("pmd.json", &text);
    assert_eq!(found.len(), 200);
    let app = json!({"unknown": 1, "script": "a"});
    let mut list = vec![app; 300];
    list.push(json!({"script": "a", "nice": 99}));
    let resolved = resolve("ecosystem.json", &Value::from(list).to_string());
    assert!(lines(&resolved.problems).iter().any(|line| line.contains("'nice'")));
}

#[test]
fn lists_end_at_their_limits() {
    let text = |field: &str, list: Vec<Value>| {
        format!("{{\"script\": \"a\", \"{field}\": {}}}", Value::from(list))
    };
    let codes = |count: u32| text("stop_exit_codes", (0..count).map(|_| json!(1)).collect());
    assert_eq!(problems("pmd.json", &codes(256)), [""; 0]);
    assert_eq!(problems("pmd.json", &codes(257)).len(), 1);
    let names = |count: u32| {
        text("depends_on", (0..count).map(|number| json!(format!("n{number}"))).collect())
    };
    let many = |count: u32| {
        let value: Value = serde_json::from_str(&names(count)).unwrap();
        lines(&client(Path::new("/srv"), &value).problems)
    };
    assert_eq!(many(256), [""; 0]);
    assert_eq!(many(257), ["'depends_on' has more than 256 entries"]);
}

#[test]
fn output_goes_where_it_is_told_to() {
    let logs = |fields: &str| {
        let text = format!("{{\"script\": \"a\", {fields}}}");
        resolve("pmd.json", &text).apps.remove(0).logs.clone()
    };
    let memory = logs(r#""log_target": "memory""#);
    assert_eq!((&memory.out, &memory.error), (&LogTarget::Memory, &LogTarget::Memory));
    assert_eq!(memory, logs(r#""log_target": "none""#));
    assert_eq!(memory, logs(r#""disable_logs": true, "log_file": true"#));
    let both = logs(r#""log": {"target": ["files", "journald"]}"#);
    assert_eq!((&both.out, both.journald, both.syslog), (&LogTarget::Default, true, false));
    let syslog = logs(r#""log_target": "syslog""#);
    assert_eq!((&syslog.out, syslog.journald, syslog.syslog), (&LogTarget::Memory, false, true));
    let words = "must be \"files\", \"memory\", \"none\", \"journald\" or \"syslog\"";
    for (target, said) in [
        (r#""tape""#, words),
        ("[]", words),
        ("5", words),
        (
            r#"["files", "stdout"]"#,
            "\"stdout\" in 'log_target': that is what 'pmd run' does by itself",
        ),
    ] {
        let text = format!("{{\"script\": \"a\", \"log_target\": {target}}}");
        let problem = &problems("pmd.json", &text)[0];
        assert!(problem.contains(said), "{problem}");
    }
}
