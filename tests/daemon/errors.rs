//! Rows of the error catalogue that need a real daemon: text, stream and exit code.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::harness::{Home, finish, is_root};

#[test]
fn a_script_that_crashes_at_start_is_told_with_its_last_words() {
    let home = Home::new();
    home.script("crash.sh", "echo boom: missing DB_URL >&2; exit 3");
    let ran = home.pmd(&["start", "crash.sh"]);
    assert_eq!((ran.code, ran.out.as_str()), (8, ""), "{ran:?}");
    let lines: Vec<_> = ran.err.lines().collect();
    assert!(
        lines[0].starts_with("pmd: error: crash did not stay up: exit code 3 after ")
            && lines[0].ends_with(" ms"),
        "{ran:?}"
    );
    assert_eq!(
        lines[1..],
        [
            "  last output: boom: missing DB_URL",
            "  now:  pmd tries again in 100 ms (1 of 16); to give up: pmd stop crash",
            "  see:  pmd logs crash --err"
        ]
    );
    home.ok(&["stop", "crash"]);
}

#[test]
fn a_program_killed_by_a_signal_at_start_is_told_so() {
    let home = Home::new();
    home.script("crash.sh", "ulimit -c 0; kill -SEGV $$");
    let ran = home.pmd(&["start", "crash.sh"]);
    ran.failed(8, "crash did not stay up: killed by SIGSEGV");
    home.ok(&["stop", "crash"]);
}

#[test]
fn a_program_that_was_given_up_is_told_so() {
    let home = Home::new();
    home.script("web.sh", "echo no port >&2; exit 3");
    let ran = home.pmd(&["start", "web.sh", "--max-restarts", "1"]);
    assert_eq!((ran.code, ran.out.as_str()), (8, ""), "{ran:?}");
    assert!(ran.err.starts_with("pmd: error: web gave up after 1 short run"), "{ran:?}");
    assert!(ran.err.contains(": exit code 3\n"), "{ran:?}");
    assert!(ran.err.contains("no port"), "{ran:?}");
    assert!(ran.err.contains("try:  fix it, then: pmd restart web"), "{ran:?}");
    let list = home.ok(&["ls"]).out;
    assert!(list.contains("errored"), "{list}");
    assert!(list.contains("gave up: exit 3 \"no port\""), "{list}");
}

#[test]
fn an_unknown_process_gets_the_nearest_name() {
    let home = Home::new();
    home.script("web.sh", "exec sleep 1000");
    home.ok(&["start", "web.sh", "--no-wait"]);
    for command in ["stop", "restart", "reload", "delete", "show", "reset", "env", "flush"] {
        home.pmd(&[command, "wbe"]).told(
            3,
            &["pmd: error: no process named 'wbe'", "  try:  did you mean 'web'? (pmd ls)"],
        );
    }
    home.pmd(&["logs", "wbe", "--no-follow"]).failed(3, "no process named 'wbe'");
    home.pmd(&["pid", "wbe"]).failed(3, "no process named 'wbe'");
    // All targets are attempted; the worst one decides.
    let ran = home.pmd(&["stop", "web", "wbe"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.starts_with("web  stopped"), "{ran:?}");
}

#[test]
fn a_taken_port_names_its_owner() {
    let home = Home::new();
    home.file(
        "old-web.py",
        "import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n\
         open('port.tmp', 'w').write(str(s.getsockname()[1]) + '\\n')\n\
         import os; os.rename('port.tmp', 'port')\ntime.sleep(1000)\n",
    );
    home.file(
        "web.py",
        "import socket, sys\ns = socket.socket()\nport = int(open('port').read())\n\
         try: s.bind(('127.0.0.1', port))\nexcept OSError as e: sys.exit(f'{e} (port {port})')\n",
    );
    home.ok(&["start", "old-web.py", "--no-wait"]);
    let port = home.await_number("port");
    let owner = home.pid("old-web");
    let ran = home.pmd(&["start", "web.py"]);
    assert_eq!(ran.code, 8, "{ran:?}");
    let first = ran.err.lines().next().unwrap();
    assert!(
        first.starts_with(&format!(
            "pmd: error: web did not stay up: port {port} is in use by 'python"
        )) && first.ends_with(&format!("(pid {owner}, process 'old-web' of pmd)")),
        "{ran:?}"
    );
    home.ok(&["delete", "all"]);
}

#[test]
fn a_port_that_needs_rights_is_told_with_what_to_do() {
    let home = Home::new();
    home.script("web.sh", "echo 'Error: listen EACCES: permission denied 0.0.0.0:80' >&2; exit 1");
    let ran = home.pmd(&["start", "web.sh"]);
    ran.failed(8, "pmd: error: web did not stay up: not permitted to listen on port 80\n");
    // The third way, a socket that pmd opens, is named when there is one.
    ran.failed(8, "try:  setcap, or a higher port\n");
    home.ok(&["stop", "web"]);
}

#[test]
fn a_program_that_is_not_ready_in_time_runs_all_the_same() {
    let home = Home::new();
    home.script("web.sh", "exec sleep 1000");
    let ran = home.pmd(&["start", "web.sh", "--wait-ready", "--listen-timeout", "300ms"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(
        ran.err.starts_with("pmd: error: web is running but not ready after 300 ms\n"),
        "{ran:?}"
    );
    assert!(ran.err.contains("try:  --listen-timeout 10s"), "{ran:?}");
    let list = home.ok(&["ls"]).out;
    assert!(list.contains("online") && list.contains("not ready"), "{list}");
    assert_eq!(home.entry("web")["ready"], json!(false));
}

#[test]
fn a_program_of_another_machine_is_told_so() {
    let home = Home::new();
    // An ELF header of 64-bit AArch64.
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    header.resize(4096, 0);
    let path = home.file("app", header);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = std::env::consts::ARCH;
    let ran = home.pmd(&["start", "./app"]);
    ran.failed(8, &format!("cannot run 'app': built for aarch64, this host is {host}"));
    assert!(home.entries("all").is_empty(), "nothing is left behind");
}

#[test]
fn a_missing_loader_is_told_so() {
    let home = Home::new();
    let Ok(mut bytes) = std::fs::read("/bin/true") else { return };
    let Some(at) = bytes.windows(4).position(|part| part == b"/lib") else { return };
    bytes[at..at + 4].copy_from_slice(b"/nix");
    let path = home.file("app", bytes);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = home.pmd(&["start", "./app"]);
    ran.failed(8, "cannot run 'app': its loader '/nix");
    ran.failed(8, "is missing");
}

#[test]
fn a_program_that_may_not_be_run_is_told_so() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    std::fs::set_permissions(&home.dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.script("app", "exec sleep 1000");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let ran = home.pmd(&["start", "./app", "--uid", "nobody"]);
    ran.failed(5, "not permitted to run 'app'");
    ran.failed(5, "mode 0700, user 'nobody'");
}

#[test]
fn an_unknown_user_is_told_so() {
    let home = Home::new();
    home.script("app.sh", "exec sleep 1000");
    let ran = home.pmd(&["start", "app.sh", "--uid", "no-such-user-here"]);
    ran.failed(5, "no-such-user-here");
}

#[test]
fn a_socket_path_that_is_too_long_is_told() {
    let home = Home::without_daemon();
    let long = home.path(&"d".repeat(120));
    let mut command = home.command(&["ls"]);
    command.env("PMD_HOME", &long);
    let ran = finish(command.spawn().unwrap());
    let bytes = long.as_os_str().len() + "/pmd.sock".len();
    assert_eq!(ran.code, 6, "{ran:?}");
    assert_eq!(
        ran.err.lines().next().unwrap(),
        format!("pmd: error: socket path is {bytes} bytes long, the limit is 107")
    );
    assert!(ran.err.contains("try:  PMD_HOME=/run/pmd"), "{ran:?}");
}

#[test]
fn a_full_disk_fails_the_save_with_its_reason_and_keeps_the_old_state() {
    let Some(mut home) = small_home("size=300k,mode=755") else { return };
    home.boot();
    home.script("app.sh", "exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let before = home.read("state.json");
    std::fs::write(home.path("fill"), vec![0; 400_000]).unwrap_err();
    let ran = home.pmd(&["save"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.starts_with("pmd: error: cannot save state: no space left"), "{ran:?}");
    assert_eq!(home.read("state.json"), before);
    assert_eq!(home.entry("app")["status"], "online");
    std::fs::remove_file(home.path("fill")).unwrap();
    home.ok(&["save"]);
}

#[test]
fn descriptors_that_run_out_are_told_once_and_harm_nobody_else() {
    let mut home = Home::without_daemon();
    let mut shell = std::process::Command::new("sh");
    let real = home.daemon_command();
    shell.args(["-c", "ulimit -n 64; exec \"$0\" daemon --foreground"]).arg(real.get_program());
    for (name, value) in real.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(&home.dir).stdout(std::process::Stdio::null());
    shell.stderr(std::fs::File::create(home.path("daemon.err")).unwrap());
    home.boot_with(shell);
    home.script("app.sh", "echo up; exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "first", "--no-wait"]);
    home.file("env", "A=1\n");
    for more in [&["-n", "many"][..], &["-n", "read", "--env-file", "env"]] {
        let words = [&["start", "app.sh", "-i", "40"], more].concat();
        let ran = home.pmd(&words);
        // Some are up; what failed all others is said once.
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(
            ran.err,
            "pmd: error: out of file descriptors (64 of 64)\n  try:  LimitNOFILE in the unit\n"
        );
        assert_eq!(home.entry("first")["status"], "online");
        home.ok(&["delete", more[1]]);
    }
    home.ok(&["restart", "first", "--no-wait"]);
    assert!(home.is_daemon_up());
}

#[test]
fn a_full_disk_takes_old_logs_first_and_is_told_wherever_one_looks() {
    let Some(mut home) = small_home("size=16m,mode=755") else { return };
    home.boot();
    home.script(
        "app.sh",
        "while :; do while [ -e hold ]; do sleep 0.01; done; head -c 20000 /dev/zero | tr '\\0' x; \
         echo; sleep 0.005; done",
    );
    home.file("hold", "");
    for (name, full) in [("dropper", "drop"), ("waiter", "block")] {
        let config = json!({"name": name, "script": "./app.sh", "log_full": full,
            "log_max_size": "100K", "log_keep": 3});
        home.file(&format!("{name}.json"), config.to_string());
        home.ok(&["start", &format!("{name}.json"), "--no-wait"]);
    }
    std::fs::remove_file(home.path("hold")).unwrap();
    crate::harness::until("logs were rotated", || home.path("logs/dropper-out.log.2").exists());
    let fill = || {
        let mut file = std::fs::File::options().append(true).create(true).open(home.path("fill"));
        while file.as_mut().unwrap().write_all(&[0; 4096]).is_ok() {}
    };
    let note = |name: &str, text: &str| {
        home.await_entry(name, |one| {
            fill();
            one["note"] == text
        });
        let list = home.ok(&["ls", "--wide"]).out;
        assert!(list.contains(text), "{list}");
    };
    note("dropper", "dropping log bytes (log_full=drop)");
    note("waiter", "waits for log space (log_full=block)");
    let events = home.ok(&["events"]).out;
    for text in
        ["log space low (0% free): ", "old logs removed", "dropping log bytes", "waits for log"]
    {
        assert!(events.contains(text), "{text}: {events}");
    }
    assert!(!home.path("logs/dropper-out.log.1").exists());
    // Or the line that tells of it is soon rotated away.
    home.file("hold", "");
    std::fs::remove_file(home.path("fill")).unwrap();
    for name in ["dropper", "waiter"] {
        home.await_entry(name, |one| one["note"].is_null());
    }
    home.await_text("logs/dropper-out.log", "bytes dropped");
    assert!(home.ok(&["events", "dropper"]).out.contains("logs go on, "));
}

#[test]
fn a_read_only_state_directory_is_no_reason_to_stay_down() {
    let home = Home::without_daemon();
    let fixed = home.path("fixed");
    std::fs::create_dir(&fixed).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "ro", "pmd-test"])
        .arg(&fixed)
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    home.script("app.sh", "echo hello; exec sleep 1000");
    let pmd = |words: &[&str]| {
        let mut command = home.command(words);
        command.env_remove("PMD_HOME").env("HOME", &home.dir).env("XDG_STATE_HOME", &fixed);
        command.arg("--user").env("XDG_RUNTIME_DIR", home.path("run")).env("PMD_WEB", "off");
        finish(command.env("PM2_HOME", home.path("pm2")).spawn().unwrap())
    };
    let text = "state cannot be saved (read-only file system): running from memory";
    let ran = pmd(&["start", "app.sh"]);
    assert_eq!((ran.code, ran.err), (0, format!("pmd: warning: {text}\n")));
    pmd(&["save"]).told(1, &[&format!("pmd: error: {text}")]);
    assert_eq!(pmd(&["logs", "--nostream", "--raw"]).out, "hello\n");
    assert_eq!(pmd(&["kill", "--leave-running"]).code, 0);
    // As long as the host is up it is known what ran.
    assert_eq!(pmd(&["start", "app.sh"]).out, "app already online\n");
    assert_eq!(pmd(&["kill"]).code, 0);
    let _ = std::process::Command::new("umount").arg(&fixed).status();
}

/// A home on a file system of its own, where mounting is permitted.
fn small_home(options: &str) -> Option<Home> {
    let home = Home::without_daemon();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "pmd-test"])
        .arg(&home.dir)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    mounted.then_some(home)
}
