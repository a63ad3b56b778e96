//! What programs write: exact on disk, whole on the screen.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::harness::{Home, append, follow, is_root, send, until};

#[test]
fn raw_bytes_are_on_disk_as_they_were_written() {
    let home = Home::new();
    home.file(
        "app.py",
        "
import os, sys, time
sys.stdout.buffer.write(bytes(range(256)) * 500 + b'no end of line')
sys.stderr.buffer.write(b'\\x1b[31m\\xff\\xfe\\0err\\n')
sys.stdout.flush(); sys.stderr.flush()
open('done', 'w').close()
time.sleep(1000)
",
    );
    home.ok(&["start", "app.py", "--no-wait"]);
    until("it wrote", || home.path("done").exists());
    let mut wanted: Vec<u8> = (0..=255).cycle().take(256 * 500).collect();
    wanted.extend(b"no end of line");
    let out = home.path("logs/app-out.log");
    until("all is on disk", || {
        fs::metadata(&out).is_ok_and(|meta| meta.len() >= wanted.len() as u64)
    });
    assert_eq!(fs::read(&out).unwrap(), wanted);
    until("stderr is on disk", || home.path("logs/app-error.log").metadata().unwrap().len() == 12);
    assert_eq!(fs::read(home.path("logs/app-error.log")).unwrap(), b"\x1b[31m\xff\xfe\0err\n");
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn lines_get_dates_and_json_where_asked_for() {
    let home = Home::new();
    home.script("app.sh", "echo 'a \"b\"'; echo bad >&2; exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "dated", "--log-date-format", "YYYY-MM-DD", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "json", "--log-type", "json", "--no-wait"]);
    for (file, end) in [("out", "a \"b\"\n"), ("error", "bad\n")] {
        let text = home.await_text(&format!("logs/dated-{file}.log"), end);
        let (date, rest) = text.split_at(10);
        assert!(date.split('-').map(str::len).eq([4, 2, 2]), "{text:?}");
        assert_eq!(rest.trim_start_matches([':', ' ']), end, "{text:?}");
    }
    let text = home.await_text("logs/json-out.log", "\n");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "a \"b\"", "{text}");
    assert_eq!((&line["app_name"], &line["type"]), (&json!("json"), &json!("out")));
    assert!(line["timestamp"].is_string() && line["process_id"].is_number(), "{text}");
    let text = home.await_text("logs/json-error.log", "\n");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["type"], "err");
}

#[test]
fn files_can_be_merged_joined_and_left_out() {
    let home = Home::new();
    home.script("app.sh", "echo out $PMD_INSTANCE; echo err $PMD_INSTANCE >&2; exec sleep 1000");
    home.ok(&["start", "app.sh", "-n", "merged", "-i", "2", "--merge-logs", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "joined", "-l", "joined.log", "--no-wait"]);
    home.ok(&["start", "app.sh", "-n", "null", "-o", "/dev/null", "--no-wait"]);
    // Who follows may come later than a single line.
    home.script("ticker.sh", "while :; do echo out 0; sleep 0.05; done");
    home.ok(&["start", "ticker.sh", "-n", "none", "--disable-logs", "--no-wait"]);
    until("both instances wrote to one file", || {
        let text = home.read("logs/merged-out.log");
        text.contains("out 0\n") && text.contains("out 1\n")
    });
    until("both streams are in one file", || {
        let text = home.read("joined.log");
        text.contains("out 0\n") && text.contains("err 0\n")
    });
    home.await_text("logs/null-error.log", "err 0\n");
    assert!(!home.path("logs/null-out.log").exists());
    home.ok(&["wait", "none", "--for", "online"]);
    assert!(!home.path("logs/none-out.log").exists() && !home.path("logs/none-error.log").exists());
    // Without files the lines can be followed all the same.
    let mut following = follow(home.command(&["logs", "none", "--no-time"]));
    following.until("none | out 0");
}

/// Numbered lines as fast as they go, until a file `enough` lies.
const CHATTER: &str = "
import os, sys
n = 0
while not os.path.exists('enough') and n < 2_000_000:
    sys.stdout.write(''.join(f'line {i}\\n' for i in range(n, n + 200)))
    sys.stdout.flush()
    n += 200
open('count.tmp', 'w').write(f'{n}\\n')
os.rename('count.tmp', 'count')
import time
time.sleep(1000)
";

/// All numbers of the lines of a log and what was rotated away from it, oldest first.
fn numbers(home: &Home, file: &str) -> Vec<u32> {
    let mut old: Vec<u32> = fs::read_dir(home.path("logs"))
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str()?.strip_prefix(file)?.strip_prefix('.')?.parse().ok()
        })
        .collect();
    old.sort_unstable();
    let mut text: String =
        old.iter().rev().map(|number| home.read(&format!("logs/{file}.{number}"))).collect();
    text.push_str(&home.read(&format!("logs/{file}")));
    text.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

#[track_caller]
fn assert_complete(home: &Home, count: u32) {
    let last = format!("line {}\n", count - 1);
    until("the last line is on disk", || home.read("logs/app-out.log").ends_with(&last));
    let found = numbers(home, "app-out.log");
    let broken = found.iter().zip(0..).find(|&(&found, wanted)| found != wanted);
    assert_eq!(broken, None, "first break");
    assert_eq!(found.len(), count as usize);
}

#[test]
fn rotation_by_size_under_load_loses_no_line() {
    let home = Home::new();
    home.file("app.py", CHATTER);
    home.ok(&["start", "app.py", "--log-max-size", "100K", "--log-keep", "10000", "--no-wait"]);
    until("it was rotated a few times", || home.path("logs/app-out.log.5").exists());
    home.ok(&["rotate", "app"]);
    home.file("enough", "");
    let count = home.await_number("count");
    assert_complete(&home, u32::try_from(count).unwrap());
}

#[test]
fn only_so_many_rotated_files_are_kept() {
    let home = Home::new();
    home.script("app.sh", "while [ ! -e enough ]; do echo 0123456789012345678901234567890123456789; done; exec sleep 1000");
    home.ok(&["start", "app.sh", "--log-max-size", "2K", "--log-keep", "2", "--no-wait"]);
    until("two are there", || home.path("logs/app-out.log.2").exists());
    for _ in 0..3 {
        home.ok(&["rotate"]);
    }
    home.file("enough", "");
    until("two are there again", || {
        home.path("logs/app-out.log.1").exists() && home.path("logs/app-out.log.2").exists()
    });
    assert!(!home.path("logs/app-out.log.3").exists());
}

#[test]
fn a_group_that_may_read_the_log_may_read_it_after_a_rotation_too() {
    let home = Home::new();
    home.script("app.sh", "printf 'first\nunfini'; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("logs/app-out.log", "first\nunfini");
    home.ok(&["rotate"]);
    home.await_text("logs/app-out.log", "unfini");
    for file in ["app-out.log", "app-out.log.1"] {
        let mode = fs::metadata(home.path("logs").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{file}");
    }
}

#[test]
fn flush_empties_files_and_writing_goes_on() {
    let home = Home::new();
    home.script(
        "app.sh",
        "echo first; echo worse >&2; trap 'echo second' USR1; while :; do sleep 0.01; done",
    );
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("logs/app-out.log", "first\n");
    home.await_text("logs/app-error.log", "worse\n");
    home.ok(&["flush", "app"]);
    assert_eq!(home.read("logs/app-out.log") + &home.read("logs/app-error.log"), "");
    send(home.pid("app"), 10);
    assert_eq!(home.await_text("logs/app-out.log", "second\n"), "second\n");
}

#[test]
fn files_are_opened_anew_after_another_program_moved_them() {
    let home = Home::new();
    home.script("app.sh", "echo first; trap 'echo second' USR1; while :; do sleep 0.01; done");
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("logs/app-out.log", "first\n");
    fs::rename(home.path("logs/app-out.log"), home.path("logs/moved")).unwrap();
    home.ok(&["reloadLogs"]);
    send(home.pid("app"), 10);
    assert_eq!(home.await_text("logs/app-out.log", "second\n"), "second\n");
    assert_eq!(home.read("logs/moved"), "first\n");
    // What comes next may be long in coming: the new file is there at once, by request and by signal.
    for by_signal in [false, true] {
        fs::rename(home.path("logs/app-out.log"), home.path("logs/moved-again")).unwrap();
        if by_signal {
            send(home.daemon_pid(), 12);
            until("it is there again", || home.path("logs/app-out.log").exists());
        } else {
            home.ok(&["reloadLogs"]);
        }
        assert_eq!(home.read("logs/app-out.log"), "");
    }
    assert!(!home.path("logs/app-error.log").exists(), "what never was is not made");
}

#[test]
fn a_file_truncated_by_another_program_leaves_no_hole() {
    let home = Home::new();
    home.script("app.sh", "echo first; trap 'echo second' USR1; while :; do sleep 0.01; done");
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("logs/app-out.log", "first\n");
    fs::File::options()
        .write(true)
        .open(home.path("logs/app-out.log"))
        .unwrap()
        .set_len(0)
        .unwrap();
    send(home.pid("app"), 10);
    assert_eq!(home.await_text("logs/app-out.log", "second\n"), "second\n");
}

#[test]
fn what_lay_in_the_file_before_stays() {
    let home = Home::new();
    fs::create_dir_all(home.path("logs")).unwrap();
    append(&home.path("logs/app-out.log"), "from before\n");
    home.script("app.sh", "echo new; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    assert_eq!(home.await_text("logs/app-out.log", "new\n"), "from before\nnew\n");
}

#[test]
fn the_last_lines_can_be_asked_for_in_many_ways() {
    let home = Home::new();
    home.script(
        "app.sh",
        "for i in 1 2 3 4 5; do echo out $i; done; echo err 1 >&2; exec sleep 1000",
    );
    home.script("other.sh", "echo 'another one'; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.ok(&["start", "other.sh", "--no-wait"]);
    home.await_text("logs/app-error.log", "err 1\n");
    home.await_text("logs/app-out.log", "out 5\n");
    home.await_text("logs/other-out.log", "one\n");
    let said = |words: &[&str]| {
        let ran = home.ok(&[&["logs", "--no-follow", "--no-time"], words].concat());
        assert_eq!(ran.err, "", "{words:?}");
        ran.out
    };
    assert_eq!(said(&["app", "--out", "-n", "2"]), "app | out 4\napp | out 5\n");
    assert_eq!(said(&["app", "--err"]), "app ! err 1\n");
    assert_eq!(said(&["app", "--raw", "--out", "-n2"]), "out 4\nout 5\n");
    assert_eq!(said(&["app", "--grep", "out 3"]), "app | out 3\n");
    assert_eq!(said(&["app", "--since", "1h", "--out"]).lines().count(), 5);
    assert_eq!(said(&["app", "--since", "2099-01-01"]), "");
    assert_eq!(said(&["app", "-n", "0"]), "");
    let all = said(&[]);
    assert!(all.contains("other | another one\n") && all.contains("app   | out 1\n"), "{all}");
    let ran = home.ok(&["logs", "app", "--no-follow", "--err", "--json"]);
    let line: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&line["message"], &line["stream"]), (&json!("err 1"), &json!("stderr")), "{line}");
    assert!(line["timestamp"].is_string());
    assert_eq!(ran.err, "");
}

#[test]
fn following_shows_what_comes_and_who_comes_later() {
    let home = Home::new();
    home.script(
        "app.sh",
        "echo hello; trap 'echo again; echo worse >&2' USR1; while :; do sleep 0.01; done",
    );
    home.ok(&["start", "app.sh", "-n", "one", "--no-wait"]);
    home.await_text("logs/one-out.log", "hello\n");
    let mut all = follow(home.command(&["logs"]));
    all.until("one | hello");
    send(home.pid("one"), 10);
    all.until("one | again");
    all.until("one ! worse");
    home.ok(&["start", "app.sh", "-n", "two", "--no-wait"]);
    let line = all.until("two | hello");
    assert!(line.as_bytes()[2] == b':' && line.as_bytes()[8] == b'.', "a time: {line}");
    all.signal(2);
    assert_eq!(all.code(), 130);
    assert!(all.rest().is_empty());
}

#[test]
fn order_is_kept_within_a_program_and_nothing_is_doubled_while_following() {
    let home = Home::new();
    // So many that their events fit into the queue of one client, however slow it is.
    home.script("app.sh", "echo ready; while [ ! -e go ]; do sleep 0.01; done; i=0; while [ $i -lt 3000 ]; do echo \"line $i\"; i=$((i+1)); done; echo end; exec sleep 1000");
    home.ok(&["start", "app.sh", "--no-wait"]);
    let mut following = follow(home.command(&["logs", "app", "--raw"]));
    // Something to see shows that it follows.
    following.until("ready");
    let mut lines = vec![];
    home.file("go", "");
    loop {
        let line = following.until("");
        if line == "end" {
            break;
        }
        lines.push(line);
    }
    let wanted: Vec<_> = (0..3000).map(|i| format!("line {i}")).collect();
    assert!(lines == wanted, "{} lines, first {:?}", lines.len(), lines.first());
}

/// Far more than the queue of one client holds: the follower is given it as fast as it takes it.
#[test]
fn a_follower_that_reads_misses_nothing_of_an_outburst() {
    let home = Home::new();
    home.script(
        "app.sh",
        "echo ready; while [ ! -e go ]; do sleep 0.01; done; seq 40000; echo end; exec sleep 1000",
    );
    home.ok(&["start", "app.sh", "--no-wait"]);
    let mut following = follow(home.command(&["logs", "app", "--raw"]));
    following.until("ready");
    home.file("go", "");
    for number in 1..=40_000 {
        assert_eq!(following.until(""), number.to_string());
    }
    assert_eq!(following.until(""), "end");
}

#[test]
fn a_line_without_end_and_binary_harm_nobody() {
    let mut home = Home::new();
    home.file(
        "endless.py",
        "
import sys, time
for i in range(100): sys.stdout.buffer.write(b'x' * 65536)
sys.stdout.buffer.write(b'end'); sys.stdout.flush()
open('done', 'w').close()
time.sleep(1000)
",
    );
    home.file(
        "binary.py",
        "
import os, sys, time
while not os.path.exists('stop'): sys.stdout.buffer.write(os.urandom(4096)); sys.stdout.flush()
time.sleep(1000)
",
    );
    home.script(
        "calm.sh",
        "echo up; while [ ! -e speak ]; do sleep 0.01; done; echo calm; exec sleep 1000",
    );
    home.ok(&["start", "calm.sh", "--no-wait"]);
    home.ok(&["start", "binary.py", "--no-wait"]);
    // Somebody looks on, so that lines have to be made of it; and somebody does not even read.
    let _all = follow(home.command(&["logs", "--raw"]));
    let mut deaf = home.control();
    deaf.ask("subscribe", &json!({"events": ["log_message"]}));
    let mut following = follow(home.command(&["logs", "calm", "--raw"]));
    following.until("up");
    home.ok(&["start", "endless.py", "--no-wait"]);
    home.file("speak", "");
    following.until("calm");
    until("it wrote all", || home.path("done").exists());
    home.file("stop", "");
    let memory = resident_kib(home.daemon_pid());
    assert!(memory < 40_000, "{memory} KiB");
    assert!(home.is_daemon_up());
    let size = |name: &str| fs::metadata(home.path(name)).map_or(0, |meta| meta.len());
    until("every byte is on disk", || {
        let rotated: u64 = (1..6).map(|n| size(&format!("logs/endless-out.log.{n}"))).sum();
        size("logs/endless-out.log") + rotated == 100 * 65536 + 3
    });
}

/// Resident memory of a process.
pub fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_child_that_closes_its_output_is_still_supervised() {
    let home = Home::new();
    home.script("app.sh", "echo bye; exec >&- 2>&-; touch closed; while [ ! -e die ]; do sleep 0.01; done; rm die; exit 5");
    home.ok(&["start", "app.sh", "--no-wait"]);
    until("it closed its output", || home.path("closed").exists());
    assert_eq!(home.entry("app")["restarts"], 0);
    home.file("die", "");
    home.await_entry("app", |one| one["restarts"] == 1);
    assert_eq!(home.await_text("logs/app-out.log", "bye\nbye\n"), "bye\nbye\n");
}

#[test]
fn a_grandchild_that_keeps_the_pipe_hides_no_exit() {
    let home = Home::new();
    home.script("app.sh", "setsid sh -c 'while [ ! -e late ]; do sleep 0.01; done; echo late words; exec sleep 1000' & echo early; exit 7");
    home.ok(&["start", "app.sh", "--once"]);
    let entry = home.await_entry("app", |one| one["exit_code"] == 7);
    assert_eq!(entry["pid"], Value::Null);
    home.file("late", "");
    home.await_text("logs/app-out.log", "late words\n");
}

#[test]
fn root_follows_no_link_of_another_user_to_a_log_or_pid_file() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(&home.dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(home.path("theirs")).unwrap();
    fs::create_dir_all(home.path("precious")).unwrap();
    std::os::unix::fs::chown(home.path("theirs"), Some(12_345), None).unwrap();
    std::os::unix::fs::symlink(home.path("precious"), home.path("theirs/logs")).unwrap();
    // A link of root's own is fine.
    std::os::unix::fs::symlink(home.path("precious"), home.path("ours")).unwrap();
    home.script("app.sh", "echo out; echo err >&2; exec sleep 1000");
    let theirs = home.path("theirs/logs");
    let words = [
        "start",
        "app.sh",
        "--no-wait",
        "--log-max-size",
        "1K",
        "-o",
        &format!("{}/app.log", theirs.display()),
        "-p",
        &format!("{}/app.pid", theirs.display()),
        "-e",
        "ours/err.log",
    ];
    home.ok(&words);
    home.await_text("precious/err.log", "err\n");
    home.await_text("daemon.err", "cannot write pid file");
    let log = home.await_text("daemon.err", "cannot write log");
    assert!(log.contains("a symbolic link on the way that others could have made"), "{log}");
    home.pmd(&["rotate"]).failed(1, "a symbolic link on the way");
    home.ok(&["delete", "app", "--purge-logs"]);
    let left: Vec<_> = fs::read_dir(home.path("precious")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_files_the_last_lines_are_in_memory() {
    let mut home = Home::new();
    home.script(
        "app.sh",
        "i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done; echo oops >&2; \
         trap 'exit 3' USR1; touch done; while :; do sleep 0.01; done",
    );
    home.ok(&["start", "app.sh", "--log-target", "none", "--no-wait"]);
    until("it said all", || home.path("done").exists());
    let last =
        |home: &Home| home.ok(&["logs", "app", "--nostream", "--raw", "--out", "-n", "5000"]).out;
    until("the last line is there", || last(&home).ends_with("line 19999\n"));
    let lines: Vec<_> = last(&home).lines().map(str::to_owned).collect();
    assert!(lines.len() > 2000, "32 KiB at least: {}", lines.len());
    assert!(lines.len() < 20_000, "and no more than twice as much: {}", lines.len());
    let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
    assert!(lines.iter().zip(first..).all(|(line, number)| *line == format!("line {number}")));
    assert_eq!(fs::read_dir(home.path("logs")).unwrap().count(), 0, "nothing is on disk");
    let place = home.entry("app")["logs"]["out"].as_str().unwrap().to_owned();
    assert!(!place.starts_with(home.dir.to_str().unwrap()), "{place}");
    // They outlive the daemon, and are the last words of a crash.
    home.murder();
    home.boot();
    assert!(last(&home).ends_with("line 19999\n"));
    send(home.pid("app"), 10);
    home.await_entry("app", |one| one["restarts"] == 1);
    let events = home.control().ask("get_events", &json!({}))["data"]["events"].clone();
    let crash = events.as_array().unwrap().iter().find(|one| one["event"] == "crashed").unwrap();
    assert_eq!(crash["details"]["last_output"][0], "oops", "{crash}");
    home.ok(&["delete", "app"]);
    assert!(!std::path::Path::new(&place).exists());
}

#[test]
fn settings_are_read_again_when_the_daemon_is_told_to() {
    let mut home = Home::without_daemon();
    let elsewhere = home.path("elsewhere");
    home.file("pmd.json", json!({"log": {"dir": elsewhere}}).to_string());
    home.boot();
    home.script(
        "app.sh",
        "trap 'head -c 3000 /dev/zero | tr \"\\0\" x; echo' USR1; echo up; \
        while :; do sleep 0.01; done",
    );
    home.ok(&["start", "app.sh", "--no-wait"]);
    home.await_text("elsewhere/app-out.log", "up\n");
    home.file("pmd.json", r#"{"log": {"max_size": "1K", "nonsense": 1}}"#);
    send(home.daemon_pid(), 1);
    home.await_text("daemon.err", "settings stay as they were: ");
    home.file("pmd.json", r#"{"log": {"max_size": "1K"}, "log_level": "info"}"#);
    send(home.daemon_pid(), 1);
    home.await_text("daemon.err", "settings are as they are said to be now");
    for _ in 0..2 {
        send(home.pid("app"), 10);
    }
    until("it was rotated", || {
        send(home.pid("app"), 10);
        home.path("elsewhere/app-out.log.1").exists()
    });
    assert!(home.is_daemon_up());
}
