//! Trees of real processes. This process becomes a subreaper, like the daemon.

use super::*;
use crate::base::ExitStatus;
use crate::sys::testing::{Shell, await_gone, plain, strings};
use crate::sys::wait;

const NOBODY_ELSE: Known<'static> = &|_| false;

/// What only the processes of one test of this run have in their environment.
fn cookie(name: &str) -> String {
    format!("PMD_TEST={name}-{}", process::own_pid())
}

/// A shell with a cookie in its environment.
fn start(script: &str, cookie: &str) -> Shell {
    process::become_subreaper().unwrap();
    let args = strings(&["bash", "-c", script]);
    let env = strings(&["PATH=/usr/bin:/bin", cookie]);
    Shell::start_with(c"/bin/bash", &args, &env, plain())
}

fn pid(text: &str) -> Pid {
    Pid::new(text.trim().parse().unwrap()).unwrap()
}

const KILLED: ExitStatus = ExitStatus::Signal { signal: Signal::KILL, core: false };

#[test]
fn children_of_children_are_found_and_killed_with_the_child() {
    let mut shell = start("(sleep 60 & echo $!; wait) & wait", &cookie("walk"));
    let sleeper = pid(&shell.line());
    let found = members(shell.pid, cookie("walk").as_bytes(), false, NOBODY_ELSE).unwrap();
    // The leader has a living number: without `leader_lives` it is no member, its group neither,
    // and as it is our child, its cookie is not asked for.
    assert_eq!(found, []);
    let killed = freeze_and_kill(shell.pid, true, b"", false, NOBODY_ELSE).unwrap();
    assert_eq!((killed.count, killed.refused.len()), (3, 0));
    assert!(killed.rounds >= 2);
    assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
    await_gone(sleeper);
}

#[test]
fn a_member_that_has_left_its_session_is_found_by_descent() {
    let mut shell = start("setsid sh -c 'echo $$; sleep 60' & wait", &cookie("session"));
    let away = pid(&shell.line());
    assert_ne!(proc::group_of(away), Some(shell.pid));
    freeze_and_kill(shell.pid, true, b"", false, NOBODY_ELSE).unwrap();
    assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
    await_gone(away);
}

#[test]
fn a_daemon_that_forked_twice_is_found_by_its_cookie() {
    let cookie = cookie("daemon");
    let script =
        "setsid sh -c 'sh -c \"echo \\$\\$; exec sleep 60\" & exit' & wait; echo end; read x";
    let mut shell = start(script, &cookie);
    let lines = [shell.line(), shell.line()];
    let daemon = pid(lines.iter().find(|line| *line != "end").unwrap());
    assert_eq!(proc::stat(daemon).unwrap().unwrap().parent, process::own_pid().raw());
    let orphans = own_orphans(&|pid| pid != daemon).unwrap();
    assert_eq!(orphans, [daemon]);
    assert!(!has_no_orphans(&|pid| pid != daemon));
    assert!(has_no_orphans(&|_| true));

    // Without the cookie nothing says that it belongs here.
    assert_eq!(members(shell.pid, b"", false, NOBODY_ELSE).unwrap(), []);
    assert_eq!(
        members(shell.pid, &cookie.as_bytes()[..cookie.len() - 1], false, NOBODY_ELSE).unwrap(),
        []
    );
    assert_eq!(members(shell.pid, b"PMD_TEST=other", true, NOBODY_ELSE).unwrap(), []);
    for everywhere in [false, true] {
        assert_eq!(
            members(shell.pid, cookie.as_bytes(), everywhere, NOBODY_ELSE).unwrap(),
            [daemon]
        );
        let known = |pid| pid == daemon;
        assert_eq!(members(shell.pid, cookie.as_bytes(), everywhere, &known).unwrap(), []);
    }
    let killed = freeze_and_kill(shell.pid, true, cookie.as_bytes(), false, NOBODY_ELSE).unwrap();
    assert_eq!(killed.count, 2);
    await_gone(daemon);
    assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
    assert_eq!(members(shell.pid, cookie.as_bytes(), true, NOBODY_ELSE).unwrap(), []);
}

#[test]
fn what_stays_in_the_group_is_found_after_the_leader_is_gone() {
    let mut shell = start("sleep 60 & echo $!", &cookie("group"));
    let left = pid(&shell.line());
    assert_eq!(wait::wait_for(shell.pid).unwrap(), ExitStatus::Code(0));
    assert!(!kill::group_is_empty(shell.pid));
    assert_eq!(members(shell.pid, b"", false, NOBODY_ELSE).unwrap(), [left]);
    kill::kill_group(shell.pid, Signal::TERM).unwrap();
    assert_eq!(wait::wait_for(left).unwrap().signal(), Some(Signal::TERM));
    assert!(kill::group_is_empty(shell.pid));
    assert_eq!(members(shell.pid, b"", false, NOBODY_ELSE).unwrap(), []);
}

#[test]
fn the_tree_of_another_child_is_not_touched() {
    let mut one = start("sleep 60 & echo $!; wait", &cookie("same"));
    let mut two = start("sleep 60 & echo $!; wait", &cookie("same"));
    let (sleeper_one, sleeper_two) = (pid(&one.line()), pid(&two.line()));
    let other = two.pid;
    let killed =
        freeze_and_kill(one.pid, true, cookie("same").as_bytes(), false, &|pid| pid == other)
            .unwrap();
    assert_eq!(killed.count, 2);
    assert_eq!(wait::wait_for(one.pid).unwrap(), KILLED);
    await_gone(sleeper_one);
    assert!(matches!(proc::state_letter(sleeper_two), Some('R' | 'S')));
    kill_group_of(two.pid).unwrap();
    assert_eq!(wait::wait_for(two.pid).unwrap(), KILLED);
    await_gone(sleeper_two);
}

#[test]
fn zombies_do_not_count() {
    let shell = start("exit 3", &cookie("zombie"));
    // Ended when its output is closed or soon after: a pidfd says when.
    let pidfd = PidFd::open(shell.pid).unwrap().unwrap();
    crate::sys::testing::await_end(&pidfd);
    assert!(proc::stat(shell.pid).unwrap().unwrap().is_zombie());
    assert_eq!(proc::state_letter(shell.pid), Some('Z'));
    let killed = freeze_and_kill(shell.pid, true, b"", false, NOBODY_ELSE).unwrap();
    assert_eq!(killed, Killed { count: 0, rounds: 1, refused: vec![] });
    assert!(!own_orphans(NOBODY_ELSE).unwrap().contains(&shell.pid));
    assert_eq!(wait::wait_for(shell.pid).unwrap(), ExitStatus::Code(3));
}

#[test]
fn a_number_that_was_used_again_is_not_signalled() {
    let shell = start("read x", &cookie("start"));
    let start = proc::start_time(shell.pid).unwrap().unwrap();
    let error = send(shell.pid, start + 1, Signal::KILL).unwrap_err();
    assert!(is(&error, libc::ESRCH));
    send(shell.pid, start, Signal::KILL).unwrap();
    assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
    let error = send(shell.pid, start, Signal::KILL).unwrap_err();
    assert!(is(&error, libc::ESRCH));
}

#[test]
fn a_family_that_grows_while_it_is_searched_is_ended() {
    // Forks as fast as it can, though not without end.
    let script =
        "echo up; f() { for i in 1 2 3; do (sleep 60) & done; }; f & f & f & wait; exec sleep 60";
    let mut shell = start(script, &cookie("grow"));
    assert_eq!(shell.line(), "up");
    loop {
        freeze_and_kill(shell.pid, true, cookie("grow").as_bytes(), false, NOBODY_ELSE).unwrap();
        if members(shell.pid, cookie("grow").as_bytes(), false, &|pid| pid == shell.pid)
            .unwrap()
            .is_empty()
        {
            break;
        }
    }
    assert_eq!(wait::wait_for(shell.pid).unwrap(), KILLED);
    // Every holder of its output is gone.
    let mut rest = String::new();
    io::Read::read_to_string(&mut shell.output, &mut rest).unwrap();
}
