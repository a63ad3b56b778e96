//! Declarations nobody meant to write: each gives specs or an error, never a panic.

use std::path::Path;

use super::*;
use crate::config::{Settings, envfile, procfile, units, words};

/// Configuration files as people have them.
const SEEDS: [&str; 6] = [
    r#"{"apps":[{"name":"api","script":"./dist/server.js","instances":"max","exec_mode":"cluster","watch":false,"max_memory_restart":"1G","node_args":"--max-old-space-size=1024","env":{"NODE_ENV":"development","PORT":3000},"env_production":{"NODE_ENV":"production"},"error_file":"./logs/err.log","log_date_format":"YYYY-MM-DD HH:mm Z","min_uptime":"10s","wait_ready":true}]}"#,
    r#"{"$schema":"pmd.schema.json","apps":[{"name":"db","script":"/usr/bin/redis-server"},{"name":"web","script":"server.js","instances":2,"depends_on":{"db":"ready"},"restart":"on-failure","log":{"max_size":"10M","keep":5}},{"name":"report","script":"report.py","restart":"once"}]}"#,
    r#"[{"script":"npm run dev -- --port 3000","name":"dev","umask":"022","nice":-5,"limits":{"nofile":1024},"stdio":["pipe","pipe","pipe"],"kill_signal":"SIGTERM","stop_exit_codes":[0,64]}]"#,
    r#"{"script":"a.py","cwd":"${HOME}/x","args":["${PATH}","$$"],"env_file":".env","filter_env":["AWS"],"secret_env":["A"],"increment_var":"PORT","user":"www","group":33}"#,
    r#"{"max_connections":64,"log_level":"debug","log":{"dir":"/srv","target":"files"},"state.mode":"file","web":{"listen":["127.0.0.1:9615"]},"apps":[]}"#,
    r#"{"apps":[{"name":"ä\u00e4\ud83d\ude00","script":"\"x\"","env":{"A":{"b":[1,2,{"c":null}]},"B":1e3,"C":-0.5}}],"deploy":{"production":{"user":"node"}}}"#,
];

/// Pieces that make trouble in places where they do not belong.
const PIECES: [&str; 24] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "-1",
    "1e999",
    "99999999999999999999",
    "\u{0}",
    "\n",
    "é",
    "\"script\":",
    "\"env_\":1,",
    "${",
    "${A}",
    "\"all\"",
    "{}",
];

fn mutated(random: &mut Random, seed: &str) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let piece = random.pick(&PIECES).as_bytes().to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(60)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                let digits = bytes.iter().position(u8::is_ascii_digit);
                if let Some(at) = digits {
                    bytes[at] = b'-';
                }
            }
        }
    }
    bytes
}

/// Replaces values at random: valid JSON that says nonsense.
fn scramble(random: &mut Random, value: &mut Value) {
    let odd = [
        Value::Null,
        Value::Bool(true),
        Value::from(-1),
        Value::from(1e300),
        Value::from(u64::MAX),
        Value::from(""),
        Value::from("x".repeat(300)),
        Value::from("a\u{0}b\n"),
        Value::from(vec![Value::Null]),
        serde_json::json!({"a": {"b": []}}),
        Value::from("${X} $$ 'unclosed"),
    ];
    if random.below(8) == 0 {
        *value = random.pick(&odd).clone();
    }
    if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(|inner| scramble(random, inner));
    } else if let Some(map) = value.as_object_mut() {
        map.iter_mut().for_each(|(_, inner)| scramble(random, inner));
    }
}

fn judge(name: &str, text: &str, value: &Value) {
    let environment = caller();
    let origin = Origin {
        dialect: Dialect::of(Path::new(name)),
        dir: Path::new("/nonexistent"),
        environment: &environment,
        profile: Some("production"),
        source: None,
        file: Some((name, text)),
        strict: false,
        defaults: &DEFAULTS,
    };
    let resolved = apps(value, &origin);
    for problem in resolved.problems.iter().chain(&resolved.warnings) {
        let line = problem.to_string();
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert!(line.len() < 2000, "{line}");
    }
    if resolved.problems.is_empty() {
        let declared = value["apps"].as_array().or_else(|| value.as_array()).map(Vec::len);
        if let Some(declared) = declared {
            assert_eq!(resolved.apps.len(), declared, "an app vanished: {text}");
        }
        for spec in &resolved.apps {
            assert!(spec.cwd.is_absolute());
            assert!(!spec.name.is_empty() && spec.name.len() <= 128);
            assert!((1..=1024).contains(&spec.instances));
            let _ = crate::config::preflight::check(spec, None);
        }
    }
    let _ = Settings::read(value, Some((name, text)));
}

#[test]
fn altered_files_give_specs_or_errors() {
    let mut random = Random(0x5eed_0002);
    for round in 0..10_000 {
        let seed = random.pick(&SEEDS);
        let bytes = mutated(&mut random, seed);
        let name = if round % 2 == 0 { "pmd.json" } else { "ecosystem.json" };
        match json::parse(name, &bytes) {
            Ok(value) => {
                let text = json::text(name, &bytes).unwrap();
                judge(name, text, &value);
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                for problem in problems {
                    let line = problem.to_string();
                    assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn nonsense_in_valid_json_gives_specs_or_errors() {
    let mut random = Random(0x5eed_0003);
    for round in 0..4_000 {
        let seed: &&str = random.pick(&SEEDS);
        let mut value: Value = serde_json::from_str(seed).unwrap();
        scramble(&mut random, &mut value);
        let text = value.to_string();
        judge(if round % 2 == 0 { "pmd.json" } else { "ecosystem.json" }, &text, &value);
    }
}

#[test]
fn the_small_parsers_take_anything() {
    let mut random = Random(0x5eed_0004);
    let seeds = [
        "# c\nA=1\nexport B=\"x\\ny\"\nC='z' # d\n",
        "web: node server.js --port $PORT\nworker: ./run 'a b'\n",
        "1d2h3m4s5ms 1.5G 500ms 10 MB",
        "npm run \"a b\" 'c' \\d",
    ];
    for _ in 0..20_000 {
        let seed = random.pick(&seeds);
        let bytes = mutated(&mut random, seed);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(vars) = envfile::parse(&text) {
            assert!(vars.iter().all(|(name, _)| !name.is_empty() && !name.contains('=')));
        }
        let _ = procfile::document("Procfile", &text, None);
        for word in text.split(' ') {
            let _ = (units::duration(word), units::bytes(word));
        }
        if let Some(split) = words::split(&text) {
            assert_eq!(words::split(&words::join(&split)), Some(split));
        }
    }
}
