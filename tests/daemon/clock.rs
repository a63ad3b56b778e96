//! Restarts by the clock, and jobs that have their times. Every second is a time here.

use serde_json::json;

use crate::harness::{Home, until};

const EVERY_SECOND: &str = "* * * * * *";

#[test]
fn a_program_is_restarted_when_it_is_time_until_it_is_stopped() {
    let mut home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    let mut control = home.control();
    control.subscribe("process_event");
    home.ok(&["start", "app.sh", "--cron", EVERY_SECOND]);
    let restarted = control.until(|message| message["data"]["event"] == "restarted");
    assert_eq!(restarted["data"]["details"]["reason"], "cron");
    let entry = home.await_entry("app", |entry| entry["restarts"].as_u64() >= Some(2));
    assert!(entry["next_run"].is_string(), "{entry}");
    assert_eq!(entry["last_exits"][0]["reason"], "cron", "{entry}");
    assert!(home.ok(&["ls"]).out.contains("restart "));
    assert!(home.ok(&["show", "app"]).out.contains("next run "));
    // It is written into files as it was said.
    assert!(home.ok(&["export", "app"]).out.contains(EVERY_SECOND));
    // A daemon that comes after this one goes on with it.
    home.murder();
    home.boot();
    let before = home.entry("app")["restarts"].as_u64();
    home.await_entry("app", |entry| entry["restarts"].as_u64() > before);
    home.ok(&["stop", "app"]);
    assert_eq!(home.entry("app")["next_run"], json!(null));
    home.ok(&["start", "app"]);
    assert!(home.entry("app")["next_run"].is_string());
}

#[test]
fn a_job_runs_at_its_times_and_not_at_start() {
    let home = Home::new();
    home.script("job.sh", "echo run >> runs; exit 3");
    let far = home.ok(&["start", "job.sh", "--name", "far", "--schedule", "0 0 1 1 *"]).out;
    assert!(far.starts_with("far  scheduled  id 0  next "), "{far}");
    assert!(!home.path("runs").exists());
    let entry = home.entry("far");
    assert_eq!((&entry["status"], &entry["pid"]), (&json!("stopped"), &json!(null)));
    // By hand it runs at once.
    home.ok(&["start", "far", "--no-wait"]);
    until("it ran", || home.read("runs") == "run\n");
    home.await_entry("far", |entry| entry["exit_code"] == 3);
    home.ok(&["start", "job.sh", "--schedule", EVERY_SECOND]);
    until("it ran twice more", || home.read("runs").lines().count() >= 3);
    let list = home.ok(&["ls"]).out;
    assert!(list.contains("next "), "{list}");
    // A run that fails is no crash loop.
    assert_eq!(home.entry("job")["unstable_restarts"], 0);
    home.ok(&["stop", "job"]);
    assert_eq!(home.entry("job")["next_run"], json!(null));
}

#[test]
fn a_run_that_lasts_too_long_is_stopped_and_one_that_overlaps_takes_its_place() {
    let home = Home::new();
    home.script("slow.sh", "echo run >> $PMD_NAME.runs; exec sleep 1000");
    home.file(
        "pmd.json",
        json!({"apps": [
            {"name": "slow", "script": "slow.sh", "schedule": EVERY_SECOND, "timeout": "100ms"},
            {"name": "kill", "script": "slow.sh", "schedule": EVERY_SECOND, "overlap": "kill"},
            {"name": "skip", "script": "slow.sh", "schedule": EVERY_SECOND},
        ]})
        .to_string(),
    );
    home.ok(&["start", "pmd.json"]);
    let is_overrun = |entry: &serde_json::Value| entry["last_exits"][0]["reason"] == "timeout";
    let entry = home.await_entry("slow", |it| is_overrun(it) && it["status"] == "stopped");
    assert_ne!(entry["done"], json!(true));
    until("it ran again", || home.read("slow.runs").lines().count() >= 2);
    until("another took its place", || home.read("kill.runs").lines().count() >= 3);
    assert_eq!(home.read("skip.runs"), "run\n");
}

#[test]
fn check_says_when_and_what_is_no_schedule() {
    let home = Home::without_daemon();
    home.script("app.sh", "");
    let file = |schedule: &str| {
        let app = json!({"name": "app", "script": "app.sh", "cron_restart": schedule});
        home.file("pmd.json", json!({"apps": [app]}).to_string());
    };
    file("30 2 29 2 *");
    let out = home.ok(&["check", "pmd.json"]).out;
    let line = out.lines().nth(1).unwrap();
    assert!(line.starts_with("  app  next: ") && line.matches("-02-29 ").count() == 3, "{out}");
    let (report, _) = home.json(&["check", "pmd.json"]);
    assert_eq!(report["results"][0]["next_runs"]["app"].as_array().map(Vec::len), Some(3));
    file("* 25 * * *");
    home.pmd(&["check", "pmd.json"]).failed(6, "'25' is no hour: 0 to 23");
    home.pmd(&["start", "app.sh", "--cron", "* * * *"])
        .failed(6, "'* * * *' is not a schedule: 4 fields, expected 5 or 6");
}
