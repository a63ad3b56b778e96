//! What runs, as files of pmd and of others.

use super::*;
use crate::config::export::{ExportFormat, Exported, export, without_secrets};

const TEXT: &str = r#"[{
    "name": "web", "script": "/srv/web.js", "interpreter": "node", "args": ["--x", "5 $"],
    "cwd": "/srv", "instances": 2, "restart": "on-failure", "stop_exit_codes": [64],
    "kill_timeout": "5s", "kill_signal": "SIGTERM", "depends_on": ["db"], "user": "www", "umask": "027",
    "env": {"PORT": "3000", "API_KEY": "secret", "DB": "pg://u:pw@h/d", "P": "100%"},
    "log_max_size": "1M", "limits": {"nofile": 1024}
}, {"name": "db", "script": "/bin/db", "restart": "once", "cwd": "/"}]"#;

fn exported(format: ExportFormat) -> Exported {
    let text = TEXT.replace("5 $", "5 $$");
    let resolved = resolve("pmd.json", &text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    let specs: Vec<&AppSpec> = resolved.apps.iter().collect();
    let exported = export(&specs, format);
    for secret in ["secret", "pw@"] {
        assert!(!exported.text.contains(secret), "{}", exported.text);
    }
    assert_eq!(exported.notes[0], "web: secrets left out: API_KEY, DB");
    assert!(exported.text.ends_with('\n') && !exported.text.ends_with("\n\n"));
    exported
}

#[test]
fn an_exported_pmd_file_says_the_same_again() {
    let exported = exported(ExportFormat::Json);
    assert!(exported.text.starts_with(
        "{\n  \"apps\": [\n    {\n      \"name\": \"web\",\n      \"script\": \"/srv/web.js\",\n"
    ));
    assert!(exported.text.contains("\"kill_timeout\": \"5s\""));
    let again = resolve("pmd.json", &exported.text);
    assert_eq!(lines(&again.problems), [""; 0]);
    let before = resolve("pmd.json", &TEXT.replace("5 $", "5 $$"));
    for (again, before) in again.apps.iter().zip(&before.apps) {
        assert_eq!(*again, without_secrets(before).0);
    }
    assert_eq!(export(&[], ExportFormat::Json).text, "{\n  \"apps\": []\n}\n");
}

#[test]
fn an_exported_pm2_file_uses_pm2s_words() {
    let exported = exported(ExportFormat::Pm2);
    let value: Value = serde_json::from_str(&exported.text).unwrap();
    let web = &value["apps"][0];
    assert_eq!(web["uid"], "www");
    assert_eq!(web["stop_exit_codes"], serde_json::json!([0, 64]));
    assert_eq!(web["exp_backoff_restart_delay"], 100);
    assert_eq!(web["kill_timeout"], 5000);
    assert_eq!(web["filter_env"], true);
    assert_eq!(web["args"][1], "5 $");
    assert_eq!(value["apps"][1]["autorestart"], false);
    let note = "web: PM2 has no umask, limits, depends_on, log_max_size";
    assert!(exported.notes.iter().any(|line| line == note), "{:?}", exported.notes);
    // Our own reader takes it without a complaint.
    let again = resolve("ecosystem.json", &exported.text);
    assert_eq!(lines(&again.problems), [""; 0]);
    assert_eq!(lines(&again.warnings), [""; 0]);
}

#[test]
fn a_compose_file_has_a_service_for_each_app() {
    let text = exported(ExportFormat::Compose).text;
    for line in [
        "services:\n",
        "  web:\n",
        "    command: [\"node\", \"/srv/web.js\", \"--x\", \"5 $$\"]\n",
        "    restart: on-failure\n",
        "    stop_signal: SIGTERM\n",
        "    stop_grace_period: 5s\n",
        "    scale: 2\n",
        "      \"PORT\": \"3000\"\n",
        "      db:\n        condition: service_started\n",
        "    restart: \"no\"\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn a_unit_has_what_systemd_can_do() {
    let exported = exported(ExportFormat::Systemd);
    for line in [
        "# web@.service\n",
        "After=db.service\n",
        "ExecStart=node /srv/web.js --x \"5 $$\"\n",
        "WorkingDirectory=/srv\n",
        "Environment=\"P=100%%\"\n",
        "Environment=\"NODE_APP_INSTANCE=%i\"\n",
        "User=www\n",
        "UMask=0027\n",
        "LimitNOFILE=1024\n",
        "Restart=on-failure\n",
        "RestartPreventExitStatus=64\n",
        "TimeoutStopSec=5s\n",
        "# db.service\n",
        "Type=oneshot\n",
    ] {
        assert!(exported.text.contains(line), "{line}{}", exported.text);
    }
    assert!(exported.notes.iter().any(|note| note.contains("start web@0 to @1")));
}

#[test]
fn a_format_that_is_not_there_is_said() {
    assert_eq!(
        ExportFormat::parse("toml").unwrap_err().to_string(),
        "this pmd was built without TOML (try: pmd.json, or the full build)"
    );
    assert_eq!(
        ExportFormat::parse("composer").unwrap_err().to_string(),
        "unknown export format 'composer' (did you mean 'compose'?)"
    );
    assert_eq!(
        ExportFormat::parse("docker").unwrap_err().to_string(),
        "unknown export format 'docker' (try: json, pm2, compose, systemd)"
    );
    assert_eq!(ExportFormat::parse("pm2"), Ok(ExportFormat::Pm2));
}
