//! Each row of the error catalogue that is about programs, with its exact text.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;
use crate::base::{SpawnError, Stage};
use crate::config::Problem;
use crate::config::preflight::{check, explain, resolve_program};
use crate::config::problem::Kind;

/// The spec of one app in `place`, whose `PATH` is `bin` there and the system's.
fn app(place: &Place, fields: Value) -> AppSpec {
    let mut fields = fields;
    let path = format!("{}/bin:/usr/bin:/bin", place.path().display());
    if fields["env"].is_null() {
        fields["env"] = json!({ "PATH": path });
    }
    let mut resolved = client(place.path(), &fields);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    resolved.apps.remove(0)
}

fn wrong(place: &Place, fields: Value) -> Problem {
    check(&app(place, fields), None).unwrap_err()
}

/// A small ELF file for a machine, with or without a loader.
fn elf(machine: u16, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0u8; 64];
    bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32] = 64; // program headers
    bytes[54] = 56;
    bytes[56] = u8::from(loader.is_some());
    if let Some(loader) = loader {
        let mut header = vec![0u8; 56];
        header[0] = 3; // PT_INTERP
        header[8] = 120;
        header[32] = u8::try_from(loader.len() + 1).unwrap();
        bytes.extend(header);
        bytes.extend(loader.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn own_machine() -> u16 {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    u16::from_le_bytes([own[18], own[19]])
}

#[test]
fn row_5_a_missing_script_names_the_one_that_is_there() {
    let place = Place::new("row5");
    place.write("app.js", "");
    place.write("sub/server.ts", "");
    let problem = wrong(&place, json!({"script": "ap.js"}));
    assert_eq!(problem.message, "no such file: 'ap.js'");
    assert_eq!(problem.hint.as_deref(), Some("did you mean 'app.js'?"));
    assert_eq!(problem.kind, Kind::Invalid);
    let problem = wrong(&place, json!({"script": "./sub/server.js"}));
    assert_eq!(problem.message, "no such file: 'sub/server.js'");
    assert_eq!(problem.hint.as_deref(), Some("did you mean 'sub/server.ts'?"));
    let problem = wrong(&place, json!({"script": "app"}));
    assert_eq!(problem.to_string(), "no such file: 'app' (did you mean 'app.js'?)");
    let problem = wrong(&place, json!({"script": "/nonexistent/x"}));
    assert_eq!(problem.to_string(), "no such file: '/nonexistent/x'");
    let problem = wrong(&place, json!({"script": "elephant", "interpreter": "sh"}));
    assert_eq!(problem.to_string(), "no such file: 'elephant'");
}

#[test]
fn row_6_a_directory_is_not_run() {
    let place = Place::new("row6");
    place.write("app/index.js", "");
    std::fs::create_dir(place.path().join("empty")).unwrap();
    let problem = wrong(&place, json!({"script": "app"}));
    assert_eq!(problem.message, "'app' is a directory");
    assert_eq!(problem.hint.as_deref(), Some("pmd start app/index.js"));
    let problem = wrong(&place, json!({"script": "empty/", "interpreter": "sh"}));
    assert_eq!((problem.message.as_str(), problem.hint), ("'empty' is a directory", None));
}

#[test]
fn row_7_what_nothing_runs_is_not_run() {
    let place = Place::new("row7");
    place.write("job.xyz", "hello");
    place.write("plain", "hello");
    let problem = wrong(&place, json!({"script": "job.xyz"}));
    assert_eq!(problem.message, "don't know how to run 'job.xyz'");
    assert_eq!(problem.why.as_deref(), Some("not executable and no interpreter for '.xyz'"));
    assert_eq!(problem.hint.as_deref(), Some("chmod +x job.xyz, or --interpreter python3"));
    assert_eq!(problem.kind, Kind::Invalid);
    let problem = wrong(&place, json!({"script": "plain"}));
    assert_eq!(problem.message, "don't know how to run 'plain'");
}

#[test]
fn row_8_an_interpreter_is_looked_for_in_path() {
    let place = Place::new("row8");
    place.write("app.js", "");
    place.program("elsewhere/node", "#!/bin/sh\n");
    let mut spec = app(&place, json!({"script": "app.js", "env": {}}));
    spec.inherited = Rc::new([("PATH", "/nonexistent")].into_iter().collect());
    spec.interpreter = Some("no-such-node".to_owned());
    let problem = check(&spec, None).unwrap_err();
    assert_eq!(problem.message, "interpreter 'no-such-node' is not in PATH");
    assert_eq!(problem.why.as_deref(), Some("PATH of the daemon: /nonexistent"));
    assert_eq!(problem.hint.as_deref(), Some("--interpreter /path/to/no-such-node"));
    assert_eq!(problem.kind, Kind::Invalid);
    // The caller's PATH has one.
    spec.interpreter = Some("node".to_owned());
    let elsewhere = place.path().join("elsewhere");
    let problem = check(&spec, elsewhere.to_str()).unwrap_err();
    let hint = format!("--interpreter {}/node", elsewhere.display());
    assert_eq!(problem.hint.as_deref(), Some(hint.as_str()));
    spec.interpreter = Some("/nonexistent/node".to_owned());
    let problem = check(&spec, None).unwrap_err();
    assert_eq!(problem.message, "interpreter '/nonexistent/node' does not exist");
}

#[test]
fn row_9_the_program_of_a_first_line_must_exist() {
    let place = Place::new("row9");
    place.program("run.sh", "#!/usr/bin/bsh\n");
    place.program("dos", "#!/bin/sh\r\necho\r\n");
    place.program("env", "#!/usr/bin/env no-such-program\n");
    place.program("good", "#!/usr/bin/env sh\n");
    let problem = wrong(&place, json!({"script": "run.sh"}));
    assert_eq!(
        problem.message,
        "cannot run 'run.sh': its first line names '/usr/bin/bsh', which does not exist"
    );
    assert_eq!((problem.why, problem.kind), (None, Kind::Invalid));
    let problem = wrong(&place, json!({"script": "dos"}));
    assert_eq!(
        problem.message,
        "cannot run 'dos': its first line names '/bin/sh\\r', which does not exist"
    );
    assert_eq!(problem.why.as_deref(), Some("first line ends in CR LF"));
    let problem = wrong(&place, json!({"script": "env"}));
    assert_eq!(
        problem.message,
        "cannot run 'env': its first line names 'no-such-program', which is not in PATH"
    );
    assert_eq!(check(&app(&place, json!({"script": "good"})), None), Ok(()));
}

#[test]
fn row_10_a_program_for_another_machine_is_not_run() {
    let place = Place::new("row10");
    let other = if own_machine() == 243 { 62 } else { 243 };
    place.program("app", elf(other, None));
    place.program("text", "echo hello\n");
    place.program("app.exe", "MZ...");
    if std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| entries.count() > 2) {
        return; // this host may run anything
    }
    let machine = if other == 243 { "riscv64" } else { "x86_64" };
    let problem = wrong(&place, json!({"script": "app"}));
    let host = std::env::consts::ARCH;
    assert_eq!(
        problem.message,
        format!("cannot run 'app': built for {machine}, this host is {host}")
    );
    assert_eq!(problem.kind, Kind::NotRunnable);
    assert_eq!(
        wrong(&place, json!({"script": "text"})).message,
        "cannot run 'text': it is neither a program nor a script with a '#!' line"
    );
    assert_eq!(
        wrong(&place, json!({"script": "app.exe"})).message,
        "cannot run 'app.exe': built for Windows, this host is Linux"
    );
}

#[test]
fn row_11_a_missing_loader_is_named() {
    let place = Place::new("row11");
    place.program("app", elf(own_machine(), Some("/lib/ld-none.so.1")));
    let problem = wrong(&place, json!({"script": "app"}));
    assert_eq!(problem.message, "cannot run 'app': its loader '/lib/ld-none.so.1' is missing");
    assert_eq!(problem.kind, Kind::NotRunnable);
    let own = std::env::current_exe().unwrap();
    assert_eq!(check(&app(&place, json!({"script": own.to_str().unwrap()})), None), Ok(()));
}

#[test]
fn row_12_the_right_to_execute_is_needed() {
    let place = Place::new("row12");
    let file = place.write("app", elf(own_machine(), None));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut spec = app(&place, json!({"script": "./app"}));
    let problem = check(&spec, None).unwrap_err();
    assert_eq!(problem.message, "not permitted to run 'app'");
    assert!(problem.why.unwrap().starts_with("mode 0644, user '"));
    assert_eq!(problem.hint.as_deref(), Some("chmod +x app"));
    assert_eq!(problem.kind, Kind::NotPermitted);
    // A user without the right shows only when it is tried.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    spec.user = None;
    let denied = explain(&spec, SpawnError { stage: Stage::Exec, errno: 13 });
    assert_eq!(denied.message, "not permitted to run 'app'");
    assert_eq!(denied.kind, Kind::NotPermitted);
}

#[test]
fn row_13_the_directory_must_exist() {
    let place = Place::new("row13");
    place.write("file", "");
    let cwd = place.path().join("gone");
    let problem = wrong(&place, json!({"script": "/bin/sh", "cwd": cwd.to_str()}));
    let expected = format!("working directory '{}' does not exist", cwd.display());
    assert_eq!((problem.message, problem.kind), (expected, Kind::Invalid));
    let problem = wrong(&place, json!({"script": "/bin/sh", "cwd": "file"}));
    assert!(problem.message.ends_with("/file' is not a directory"));
}

#[test]
fn row_32_an_environment_file_is_read_before() {
    let place = Place::new("row32");
    place.write(".env", "A=1\n\n\nnonsense\n");
    let problem = wrong(&place, json!({"script": "/bin/sh", "env_file": ".env"}));
    assert_eq!(problem.message, ".env line 4: expected NAME=value");
    let problem = wrong(&place, json!({"script": "/bin/sh", "env_file": ["gone.env"]}));
    assert_eq!(problem.message, "environment file 'gone.env' does not exist");
}

#[test]
fn row_34_another_user_needs_root() {
    let place = Place::new("row34");
    let problem = wrong(&place, json!({"script": "/bin/sh", "user": "no-such-user"}));
    assert_eq!(problem.message, "cannot run as user 'no-such-user': there is no such user");
    assert_eq!(problem.kind, Kind::NotPermitted);
    let problem = wrong(&place, json!({"script": "/bin/sh", "group": "no-such-group"}));
    assert_eq!(problem.message, "cannot run as group 'no-such-group': there is no such group");
    if crate::sys::process::effective_uid() == 0 {
        let problem = wrong(&place, json!({"script": "/bin/sh", "user": 3_999_999}));
        assert_eq!(problem.message, "cannot run as user '3999999': it has no group");
        let named = json!({"script": "/bin/sh", "user": 3_999_999, "group": 0});
        assert_eq!(check(&app(&place, named), None), Ok(()));
    }
    let spec = app(&place, json!({"script": "/bin/sh", "user": "nobody"}));
    let problem = explain(&spec, SpawnError { stage: Stage::Credentials, errno: 1 });
    assert_eq!(problem.message, "cannot run as user 'nobody': the daemon is not root");
    assert_eq!(problem.hint.as_deref(), Some("sudo pmd startup, then pmd --system start ..."));
    assert_eq!(problem.kind, Kind::NotPermitted);
}

#[test]
fn row_40_a_lack_of_descriptors_is_counted() {
    let place = Place::new("row40");
    let spec = app(&place, json!({"script": "/bin/sh"}));
    let problem = explain(&spec, SpawnError { stage: Stage::Prepare, errno: 24 });
    assert!(problem.message.starts_with("out of file descriptors ("), "{}", problem.message);
    assert!(problem.message.contains(" of "));
    assert_eq!(problem.hint.as_deref(), Some("LimitNOFILE in the unit"));
    assert_eq!(problem.kind, Kind::Failed);
}

#[test]
fn a_failed_spawn_is_explained_as_the_preflight_would() {
    let place = Place::new("explain");
    let spec = app(&place, json!({"script": "./gone"}));
    let gone = SpawnError { stage: Stage::Exec, errno: 2 };
    assert_eq!(explain(&spec, gone).message, "no such file: 'gone'");
    let spec = app(&place, json!({"name": "web", "script": "/bin/sh"}));
    for (stage, errno, expected) in [
        (Stage::Exec, 7, "cannot run '/bin/sh': its arguments and environment are too long"),
        (
            Stage::Exec,
            8,
            "cannot run '/bin/sh': it is neither a program nor a script with a '#!' line",
        ),
        (Stage::Fork, 11, "cannot start another process: "),
        (Stage::Limits, 1, "cannot set the limits of 'web': "),
        (Stage::Prepare, 28, "cannot prepare the start of 'web': "),
    ] {
        let message = explain(&spec, SpawnError { stage, errno }).message;
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("os error"), "{message}");
    }
    for errno in 0..140 {
        for stage in [
            Stage::Prepare,
            Stage::Fork,
            Stage::Session,
            Stage::Limits,
            Stage::Descriptors,
            Stage::Signals,
            Stage::Credentials,
            Stage::Directory,
            Stage::Exec,
        ] {
            assert!(!explain(&spec, SpawnError { stage, errno }).message.is_empty());
        }
    }
}

#[test]
fn the_program_of_an_app_is_found_in_its_path() {
    let place = Place::new("resolve-program");
    let tool = place.program("bin/tool", "#!/bin/sh\n");
    place.write("app.js", "");
    let spec = app(&place, json!({"script": "tool"}));
    assert_eq!(resolve_program(&spec, None), Ok(tool));
    let spec = app(&place, json!({"script": "app.js", "interpreter": "tool"}));
    assert_eq!(resolve_program(&spec, None), Ok(place.path().join("bin/tool")));
    let mut spec = app(&place, json!({"script": "sh", "env": {}}));
    spec.inherited = Rc::default();
    assert_eq!(resolve_program(&spec, Some("/nowhere:/bin")), Ok(PathBuf::from("/bin/sh")));
    let nowhere = resolve_program(&spec, Some("/nowhere")).unwrap_err();
    assert_eq!(nowhere.message, "no such file: 'sh'");
}
