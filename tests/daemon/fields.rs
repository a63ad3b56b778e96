//! What the fields of an app file that come from PM2 mean to the program that is started.

use serde_json::{Value, json};

use crate::harness::Home;

/// Starts apps from a file of PM2's with two variables in the shell; each writes its environment
/// to `NAME.env`.
fn start(apps: &Value, words: &[&str]) -> (Home, String) {
    let home = Home::new();
    home.script(
        "dump.sh",
        "env > $PMD_NAME-$PMD_INSTANCE.new; echo \"flags=$-\" >> $PMD_NAME-$PMD_INSTANCE.new
mv $PMD_NAME-$PMD_INSTANCE.new $PMD_NAME-$PMD_INSTANCE.env; exec sleep 1000",
    );
    home.file("ecosystem.json", json!({ "apps": apps }).to_string());
    let mut command = home.command(&[&["start", "ecosystem.json", "--no-wait"], words].concat());
    command.env("AWS_SECRET", "s").env("COLOUR", "blue");
    let ran = home.run(command);
    assert_eq!(ran.code, 0, "{ran:?}");
    (home, ran.err)
}

/// Whether a program was given each of these lines; what begins with a dash it was not given.
#[track_caller]
fn given(home: &Home, program: &str, lines: &[&str]) {
    let file = format!("{program}.env");
    let all = home.await_text(&file, "flags=");
    for line in lines {
        let (line, wanted) = line.strip_prefix('-').map_or((*line, true), |line| (line, false));
        let found = all.lines().any(|it| it == line || !wanted && it.starts_with(line));
        assert_eq!(found, wanted, "{line} in {all}");
    }
}

#[test]
fn instances_are_told_apart_by_variables() {
    let app = json!({"name": "web", "script": "dump.sh", "instances": 3, "exec_mode": "fork",
        "instance_var": "WHICH", "increment_var": "BASE", "env": {"BASE": 4000}});
    let (home, _) = start(&json!([app]), &[]);
    for number in 0..3 {
        let (which, base) = (format!("WHICH={number}"), format!("BASE={}", 4000 + number));
        let lines = [&which, &base, "NODE_APP_INSTANCE=0", "COLOUR=blue"];
        // Under the name that was asked for, not under the usual one.
        let lines = [lines[0], lines[1], "-NODE_APP_INSTANCE=", lines[3]];
        given(&home, &format!("web-{number}"), &lines);
    }
}

#[test]
fn what_is_inherited_is_filtered() {
    let app = |name: &str, filter: Value| json!({"name": name, "script": "dump.sh", "filter_env": filter, "env": {"OWN": "1"}});
    let apps = json!([
        app("some", json!(["SECRET", "KEY"])),
        app("every", json!(true)),
        app("none", json!(false)),
    ]);
    let (home, _) = start(&apps, &[]);
    given(&home, "some-0", &["OWN=1", "COLOUR=blue", "-AWS_SECRET"]);
    given(&home, "every-0", &["OWN=1", "-COLOUR", "-AWS_SECRET", "name=every"]);
    given(&home, "none-0", &["OWN=1", "COLOUR=blue", "AWS_SECRET=s"]);
}

#[test]
fn a_profile_stands_above_the_environment_and_is_chosen_by_name() {
    let app = json!({"name": "web", "script": "dump.sh", "env": {"MODE": "usual", "KEPT": 1},
        "env_production": {"MODE": "production"}, "env_test": {"MODE": "test"}});
    let (home, said) = start(&json!([app]), &["--env", "production"]);
    given(&home, "web-0", &["MODE=production", "KEPT=1", "-env_"]);
    assert_eq!(said, "");
}

#[test]
fn an_interpreter_gets_its_arguments_before_the_script() {
    let app = |name: &str, field: &str| json!({"name": name, "script": "dump.sh", "interpreter": "sh", field: "-e -u"});
    let apps = [app("one", "interpreter_args"), app("two", "node_args")];
    let (home, _) = start(&json!(apps), &[]);
    for name in ["one-0", "two-0"] {
        let all = home.await_text(&format!("{name}.env"), "flags=");
        let flags = all.lines().last().unwrap();
        assert!(flags.contains('e') && flags.contains('u'), "{flags}");
    }
}

#[test]
fn what_has_no_effect_is_said_once_and_does_no_harm() {
    let app = |name: &str| json!({"name": name, "script": "dump.sh", "source_map_support": true, "vizion": false});
    let (home, said) = start(&json!([app("one"), app("two")]), &[]);
    given(&home, "two-0", &["-source_map_support"]);
    assert_eq!(said.matches("'source_map_support' has no effect in pmd").count(), 1, "{said}");
}

#[test]
fn options_of_pm2_without_effect_are_taken_with_a_word() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    let ran = home.ok(&["start", "app.sh", "--no-wait", "--no-vizion", "--source-map-support"]);
    for field in ["vizion", "source_map_support"] {
        assert!(ran.err.contains(&format!("'{field}' has no effect in pmd")), "{ran:?}");
    }
}
