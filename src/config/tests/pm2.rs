//! PM2's records.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::pm2::{Surroundings, change, declared, record, spec, variables};
use crate::config::resolve::Defaults;
use crate::supervisor::spec::{AppSpec, LogTarget, Restart, Stdin};

/// What the `pm2` command 7.0.4 sends for `pm2 start app.js --name web`, captured.
fn captured() -> Map<String, Value> {
    let record = json!({
        "name": "web", "filter_env": [], "namespace": "default",
        "env": {"PATH": "/usr/bin:/bin", "HOME": "/home/demo", "PM2_HOME": "/home/demo/.pm2",
                "PM2_USAGE": "CLI", "PORT": 3000, "web": {}},
        "merge_logs": true, "vizion": true, "autostart": true, "autorestart": true,
        "watch": false, "instance_var": "NODE_APP_INSTANCE", "pmx": true, "automation": true,
        "treekill": true, "username": "demo", "windowsHide": true, "kill_retry_time": 100,
        "node_args": [], "pm_exec_path": "/home/demo/app.js", "pm_cwd": "/home/demo",
        "exec_interpreter": "node", "exec_mode": "fork_mode", "instances": 1,
        "pm_out_log_path": "/home/demo/.pm2/logs/web-out.log",
        "pm_err_log_path": "/home/demo/.pm2/logs/web-error.log",
        "pm_pid_path": "/home/demo/.pm2/pids/web.pid", "km_link": false,
    });
    object(record)
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("{value}") };
    map
}

fn resolved(record: Map<String, Value>) -> Result<AppSpec, String> {
    spec(record, "u-u", &Surroundings { defaults: &Defaults::default(), share: &Rc::new })
}

fn with(more: Value) -> Map<String, Value> {
    let mut record = captured();
    record.extend(object(more));
    record
}

#[test]
fn a_captured_record_becomes_a_spec() {
    let spec = resolved(captured()).unwrap();
    assert_eq!((&*spec.name, &*spec.script), ("web", "/home/demo/app.js"));
    assert_eq!(spec.interpreter.as_deref(), Some("node"));
    assert_eq!(spec.cwd.to_str(), Some("/home/demo"));
    assert_eq!((spec.instances, spec.stdin, spec.logs.merge), (1, Stdin::Pipe, true));
    assert_eq!(spec.logs.out, LogTarget::File("/home/demo/.pm2/logs/web-out.log".into()));
    assert_eq!(spec.pid_file.as_deref(), Some("/home/demo/.pm2/pids/web.pid".as_ref()));
    assert_eq!(spec.inherited.get("PATH"), Some("/usr/bin:/bin"));
    assert_eq!((spec.env.get("PORT"), spec.env.get("web")), (Some("3000"), None));
    assert!(!spec.backoff_always && !spec.unstable_window);
}

#[test]
fn what_pmd_does_not_know_is_kept_as_it_came() {
    let mut given = with(json!({"custom": {"a": [1]}, "port": 80, "pm_id": 4, "status": "online"}));
    let spec = resolved(given.clone()).unwrap();
    let kept = declared(&spec).unwrap();
    assert_eq!((&kept["custom"], &kept["port"]), (&json!({"a": [1]}), &json!(80)));
    assert_eq!((kept.get("pm_id"), kept.get("status")), (None, None));
    assert_eq!(kept["env"], json!({"PORT": 3000, "web": {}}));
    // And all of it comes back.
    for key in ["pm_id", "status"] {
        given.remove(key);
    }
    given.insert("unique_id".to_owned(), "u-u".into());
    assert_eq!(record(&spec), Some(given));
}

#[test]
fn given_restart_fields_have_pm2s_meaning() {
    let spec =
        resolved(with(json!({"exp_backoff_restart_delay": 200, "max_restarts": 4}))).unwrap();
    assert!(spec.backoff_always && spec.unstable_window);
    assert_eq!(spec.exp_backoff_restart_delay, Duration::from_millis(200));
    let spec = resolved(with(json!({"min_uptime": null, "autorestart": "false"}))).unwrap();
    assert!(!spec.unstable_window);
    assert_eq!(spec.restart, Restart::Never);
}

#[test]
fn a_dump_is_read_like_a_record() {
    // Flattened, with what the daemon had set, and without `instances`.
    let mut dumped = with(json!({
        "PATH": "/usr/bin:/bin", "HOME": "/other", "restart_time": 7, "unstable_restarts": 0,
        "args": "[\"a b\", \"c\"]", "exec_interpreter": "none", "pm_exec_path": "/bin/sleep",
        "axm_actions": [{"action_name": "x"}], "unique_id": "old", "NODE_APP_INSTANCE": 0,
    }));
    dumped.remove("instances");
    let spec = resolved(dumped).unwrap();
    assert_eq!(spec.args.iter().collect::<Vec<_>>(), ["a b", "c"]);
    assert_eq!((spec.interpreter.as_deref(), spec.instances), (None, 1));
    let kept = declared(&spec).unwrap();
    for key in ["PATH", "HOME", "restart_time", "axm_actions"] {
        assert_eq!(kept.get(key), None, "{key}");
    }
    assert_eq!(kept["unique_id"], "u-u");
}

#[test]
fn what_is_wrong_is_said_and_nothing_panics() {
    for (more, part) in [
        (json!({"name": "../../x"}), "contains '/'"),
        (json!({"name": 7}), "must be a string"),
        (json!({"pm_exec_path": null}), "'script' is missing"),
        (json!({"instances": 100_000}), "must be at most"),
        (json!({"kill_timeout": {}}), "must be a time"),
        (json!({"args": {}}), "must be a list of strings"),
    ] {
        let error = resolved(with(more)).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for key in captured().keys() {
        for value in [json!(null), json!([]), json!({}), json!(-1), json!("\u{0}"), json!("")] {
            let mut record = captured();
            record.insert(key.clone(), value);
            let _ = resolved(record);
        }
    }
}

#[test]
fn a_restart_changes_variables_and_members() {
    let mut changed = captured();
    assert!(!change(&mut changed, object(json!({"current_conf": {"env": {}, "km_link": false}}))));
    let asked = json!({
        "NEW": "1", "PORT": "81", "odd": {},
        "current_conf": {"max_restarts": 3, "namespace": "null", "HOME": "/h", "status": "x"},
    });
    assert!(change(&mut changed, object(asked)));
    assert_eq!(changed["max_restarts"], 3);
    assert_eq!((changed.get("namespace"), changed.get("status")), (None, None));
    let env = &changed["env"];
    assert_eq!(
        (&env["NEW"], &env["PORT"], &env["HOME"]),
        (&json!("1"), &json!("81"), &json!("/h"))
    );
    assert_eq!(env.get("odd"), None);
    assert!(change(&mut changed, object(json!({"current_conf": {"env": {"ONLY": "1"}}}))));
    assert_eq!(changed["env"], json!({"ONLY": "1"}));
}

#[test]
fn members_are_variables_unless_they_are_lists_or_noise() {
    let given = with(json!({"a=b": "x", "nul": "\u{0}", "port": 80}));
    let given: Vec<(&str, String)> =
        variables(&given).map(|(name, value)| (name, value.into_owned())).collect();
    let find = |key: &str| given.iter().find(|(name, _)| *name == key).map(|(_, value)| &**value);
    assert_eq!((find("exec_mode"), find("instances")), (Some("fork_mode"), Some("1")));
    assert_eq!((find("port"), find("autorestart")), (Some("80"), Some("true")));
    for absent in ["node_args", "env", "windowsHide", "a=b", "nul"] {
        assert_eq!(find(absent), None, "{absent}");
    }
}
