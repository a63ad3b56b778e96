//! Ports and health checks, in every form in which they may be written.

use std::time::Duration;

use super::*;
use crate::supervisor::spec::{Check, HealthCheck, OnFail, Ports};

fn checked(health: &str) -> HealthCheck {
    let text = format!(r#"{{"script": "a", "env": {{"PORT": "3000"}}, "health": {health}}}"#);
    only("pmd.json", &text).health().unwrap().clone()
}

fn wrong(field: &str) -> String {
    let text = format!(r#"{{"script": "a", {field}}}"#);
    let found = problems("pmd.json", &text);
    assert_eq!(found.len(), 1, "{field}: {found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_port_is_a_number_a_range_or_a_choice() {
    for (value, ports) in [
        ("3000", Ports::One(3000)),
        ("\"3000\"", Ports::One(3000)),
        ("\"3000-3001\"", Ports::Range { first: 3000, last: 3001 }),
        ("\"auto:5000-5100\"", Ports::Auto { first: 5000, last: 5100 }),
    ] {
        let text = format!(r#"{{"script": "a", "port": {value}}}"#);
        assert_eq!(only("pmd.json", &text).ports(), Some(ports), "{value}");
    }
    for value in ["0", "65536", "-1", "3000.5", "\"3001-3000\"", "\"x\"", "[3000]", "true"] {
        let problem = wrong(&format!(r#""port": {value}"#));
        assert!(problem.contains("'port' must be a port, a range"), "{problem}");
    }
    let few = wrong(r#""instances": 3, "port": "3000-3001""#);
    assert!(few.contains("'port' has 2 ports (3000-3001) for 3 instances"), "{few}");
}

#[test]
fn a_number_is_a_variable_for_the_instances_of_pm2() {
    let text = r#"{"apps": [{"script": "a", "instances": 2, "port": 3000}]}"#;
    let spec = only("ecosystem.json", text);
    assert_eq!((spec.ports(), spec.env.get("PORT")), (None, Some("3000")));
    let one = only("ecosystem.json", r#"{"apps": [{"script": "a", "port": 3000}]}"#);
    assert_eq!(one.ports(), Some(Ports::One(3000)));
}

#[test]
fn what_is_looked_at_may_be_said_in_many_ways() {
    let http = |url: &str| Check::Http(url.to_owned());
    let tcp = |host: &str, port| Check::Tcp { host: host.to_owned(), port };
    let script = |words: &[&str]| Check::Script(words.iter().map(|&w| w.to_owned()).collect());
    for (health, check) in [
        (r#""http://x/h""#, http("http://x/h")),
        (r#"{"http": "http://x:${PORT}/"}"#, http("http://x:${PORT}/")),
        (r#"{"check_type": "http", "url": "http://x"}"#, http("http://x")),
        (
            r#"{"check_type": {"type": "http", "url": "http://x"}, "enabled": true}"#,
            http("http://x"),
        ),
        (r#"{"checkType": {"type": "script", "path": ["a", "b c"]}}"#, script(&["a", "b c"])),
        (r#"{"tcp": "db:6379"}"#, tcp("db", Some(6379))),
        (r#"{"tcp": "[::1]:6379"}"#, tcp("::1", Some(6379))),
        (r#"{"tcp": "::1"}"#, tcp("::1", None)),
        (r#"{"tcp": "db"}"#, tcp("db", None)),
        (r#"{"tcp": "db:${PORT}"}"#, tcp("db", None)),
        (r#"{"tcp": 6379}"#, tcp("127.0.0.1", Some(6379))),
        (r#"{"check_type": "tcp"}"#, tcp("127.0.0.1", None)),
        (r#"{"host": "db", "port": 6379}"#, tcp("db", Some(6379))),
        (r#"{"port": "6379"}"#, tcp("127.0.0.1", Some(6379))),
        (
            r#"{"cmd": "curl -f http://x | grep ok"}"#,
            script(&["/bin/sh", "-c", "curl -f http://x | grep ok"]),
        ),
        (r#"{"script": ["redis-cli", "ping"]}"#, script(&["redis-cli", "ping"])),
        (r#"{"cmd": "/bin/true"}"#, script(&["/bin/true"])),
    ] {
        assert_eq!(checked(health).check, check, "{health}");
    }
}

#[test]
fn times_are_seconds_unless_they_say_otherwise() {
    let usual = checked(r#""http://x""#);
    let seconds = Duration::from_secs;
    assert_eq!((usual.interval, usual.timeout, usual.retries), (seconds(30), seconds(30), 3));
    assert_eq!((usual.start_period, usual.on_fail), (Duration::ZERO, OnFail::Restart));
    for (value, time) in [
        ("5", seconds(5)),
        ("0.25", Duration::from_millis(250)),
        ("\"5\"", seconds(5)),
        ("\"500ms\"", Duration::from_millis(500)),
        ("\"1m30s\"", seconds(90)),
        (r#"{"secs": 30, "nanos": 500000000}"#, Duration::from_millis(30_500)),
        (r#"{"secs": 1}"#, seconds(1)),
    ] {
        let health = format!(r#"{{"http": "http://x", "interval": {value}, "action": "none"}}"#);
        let health = checked(&health);
        assert_eq!((health.interval, health.on_fail), (time, OnFail::None), "{value}");
    }
}

#[test]
fn what_is_wrong_about_a_check_is_told() {
    for (health, message) in [
        ("5", "'health' must be an object or a URL, not 5"),
        ("true", "'health' must be an object or a URL"),
        ("{}", "'health' needs one of 'http', 'tcp' and 'cmd'"),
        (r#"{"interval": 5}"#, "'health' needs one of 'http', 'tcp' and 'cmd'"),
        (r#"{"http": "http://x", "tcp": "x:1"}"#, "'health' needs one of"),
        (r#"{"check_type": "tcp", "http": "http://x"}"#, "'health' needs one of"),
        (r#"{"check_type": "icmp", "http": "http://x"}"#, "'health.check_type' must be \"http\""),
        (r#"{"http": "https://x"}"#, "'health.http' cannot be https"),
        (r#"{"http": "x"}"#, "'health.http' must begin with http://"),
        (r#"{"http": "http://x", "url": "http://x"}"#, "'health.url' is given twice"),
        (r#"{"http": "http://x", "interval": 0}"#, "'health.interval' must be at least 10ms"),
        (r#"{"http": "http://x", "interval": -1}"#, "'health.interval' must be a time"),
        (r#"{"http": "http://x", "timeout": "5 parsecs"}"#, "'health.timeout' must be a time"),
        (
            r#"{"http": "http://x", "timeout": {"secs": 1, "x": 2}}"#,
            "'health.timeout' must be a time",
        ),
        (
            r#"{"http": "http://x", "retries": 0}"#,
            "'health.retries' must be a number of at least 1",
        ),
        (r#"{"http": "http://x", "on_fail": "kill"}"#, "'health.on_fail' must be \"restart\""),
        (r#"{"http": "http://x", "intervall": 5}"#, "did you mean 'interval'?"),
        (r#"{"tcp": "x:0"}"#, "'health.tcp' must be an address"),
        (r#"{"tcp": "a b:1"}"#, "'health.tcp' must be an address"),
        (r#"{"cmd": ""}"#, "'health.cmd' must be a script"),
        (r#"{"cmd": []}"#, "'health.cmd' must be a script"),
        (r#"{"http": "http://x:${PORT}"}"#, "'health' needs the app's port"),
        (r#"{"check_type": "tcp"}"#, "'health' needs the app's port"),
    ] {
        let problem = wrong(&format!(r#""health": {health}"#));
        assert!(problem.contains(message), "{health}: {problem}");
    }
    let off =
        only("pmd.json", r#"{"script": "a", "health": {"http": "http://x", "enabled": false}}"#);
    assert!(off.health().is_none());
}

#[test]
fn a_healthy_dependency_needs_a_check() {
    let apps = |health: &str| {
        format!(
            r#"{{"apps": [{{"script": "a", "depends_on": {{"b": "healthy"}}}},
                {{"script": "b"{health}}}]}}"#
        )
    };
    let found = problems("pmd.json", &apps(""));
    assert!(found[0].contains("depends on a healthy 'b', which has no 'health'"), "{found:?}");
    let text = apps(r#", "health": "http://x""#);
    assert_eq!(problems("pmd.json", &text), [""; 0]);
}
