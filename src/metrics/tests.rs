use std::sync::mpsc::channel;

use super::*;
use crate::base::Signal;
use crate::sys::testing::{Shell, await_gone, plain, strings};
use crate::sys::{kill, process, wait};

const COOKIE: &str = "COOKIE=";

fn start(script: &str, cookie: &str) -> Shell {
    process::become_subreaper().unwrap();
    let args = strings(&["bash", "-c", script]);
    let env = strings(&["PATH=/usr/bin:/bin", cookie]);
    Shell::start_with(c"/bin/bash", &args, &env, plain())
}

fn target(child: u64, shell: &Shell) -> Target {
    Target {
        child: ChildId(child),
        pid: shell.pid,
        cookie: child,
        adopted: false,
        limited: child.is_multiple_of(2),
    }
}

fn sampler() -> Sampler {
    Sampler::new(COOKIE, 100)
}

fn taken(sampler: &mut Sampler, scope: Scope) -> Sample {
    let mut sample = Sample::default();
    sampler.sample(scope, &mut sample);
    sample
}

fn end(shell: &Shell) {
    kill::kill_group(shell.pid, Signal::KILL).unwrap();
    wait::wait_for(shell.pid).unwrap();
}

#[test]
fn a_tree_is_read_with_its_main_process_and_without_strangers() {
    let mut two = start("sleep 60 & echo up; read x", "");
    let mut one = start("echo up; read x", "");
    assert_eq!((two.line(), one.line()), ("up".to_owned(), "up".to_owned()));
    let mut sampler = sampler();
    sampler.aim(&[target(1, &two), target(2, &one)]);
    let sample = taken(&mut sampler, Scope::Everything);
    let (two_read, one_read) = (sample.readings[0], sample.readings[1]);
    assert_eq!((two_read.child, two_read.processes, two_read.threads), (ChildId(1), 2, 1));
    assert!(two_read.memory > 0 && two_read.memory_tree > two_read.memory, "{two_read:?}");
    assert_eq!((one_read.processes, one_read.memory_tree), (1, one_read.memory));
    assert!(sample.host.cores >= 1 && sample.host.own_memory > 0);
    assert_eq!(two_read.descriptors, None);
    assert!(taken(&mut sampler, Scope::Descriptors).readings[0].descriptors >= Some(3));

    end(&two);
    // A killed group may take a moment to be gone.
    let mut sample = taken(&mut sampler, Scope::Everything);
    while sample.readings[0].processes > 0 {
        thread::park_timeout(Duration::from_millis(1));
        sample = taken(&mut sampler, Scope::Everything);
    }
    assert_eq!((sample.readings[0].processes, sample.readings[0].memory_tree), (0, 0));
    assert_eq!(sample.readings[1].processes, 1);
    sampler.aim(&[target(2, &one)]);
    let sample = taken(&mut sampler, Scope::Everything);
    assert_eq!(sample.readings.len(), 1);
    assert_eq!(sample.of(ChildId(2)).map(|reading| reading.processes), Some(1));
    end(&one);
}

#[test]
fn what_ended_processes_used_is_not_lost() {
    let busy = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done";
    // Three short lives that no sample sees, each waited for; then one that an orphan was.
    let script = format!("({busy}); ({busy}); ({busy}); echo done; read x; echo bye; read y");
    let mut shell = start(&script, "");
    let mut sampler = sampler();
    sampler.aim(&[target(1, &shell)]);
    let before = taken(&mut sampler, Scope::Everything).readings[0].cpu;
    assert_eq!(shell.line(), "done");
    let after = taken(&mut sampler, Scope::Everything).readings[0].cpu;
    assert!(after >= before + Duration::from_millis(30), "{before:?} {after:?}");
    end(&shell);
    // It was reaped: nothing of its time is left in /proc.
    let late = taken(&mut sampler, Scope::Everything).readings[0].cpu;
    assert!(late >= after, "{after:?} {late:?}");
}

#[test]
fn a_scope_leaves_the_others_as_they_were() {
    let (mut one, mut two) = (start("echo up; read x", ""), start("echo up; read x", ""));
    assert_eq!((one.line(), two.line()), ("up".to_owned(), "up".to_owned()));
    let mut sampler = sampler();
    sampler.aim(&[target(1, &one), target(2, &two)]);
    let sample = taken(&mut sampler, Scope::Limited);
    assert_eq!(sample.readings[0], Reading::nothing(ChildId(1)));
    assert_eq!(sample.readings[1].processes, 1);
    end(&one);
    end(&two);
}

#[test]
fn an_orphan_that_left_its_session_is_found_by_its_cookie() {
    let script = "(setsid sh -c 'echo $$; read x' 0<&0 &); read x";
    let mut shell = start(script, "COOKIE=00000000000000ab");
    let orphan = Pid::new(shell.line().parse().unwrap()).unwrap();
    let mut sampler = sampler();
    sampler.aim(&[Target { cookie: 0xab, ..target(1, &shell) }]);
    // Its parent may be about to end: asked again until it is an orphan, and then too.
    let processes = loop {
        let sample = taken(&mut sampler, Scope::Everything);
        if sample.readings[0].processes <= 2 {
            break sample.readings[0].processes;
        }
        sampler.rest();
    };
    assert_eq!(processes, 2);
    kill::kill(orphan, Signal::KILL).unwrap();
    await_gone(orphan);
    end(&shell);
}

#[test]
fn without_descriptors_to_keep_each_sample_opens_its_files() {
    let mut shell = start("sleep 60 & echo up; read x", "");
    assert_eq!(shell.line(), "up");
    let mut sampler = Sampler::new(COOKIE, 0);
    sampler.aim(&[target(1, &shell)]);
    for _ in 0..2 {
        assert_eq!(taken(&mut sampler, Scope::Everything).readings[0].processes, 2);
        assert_eq!(sampler.kept_descriptors(), 0);
    }
    end(&shell);
    // The rest of its group may be about to end still.
    while taken(&mut sampler, Scope::Everything).readings[0].processes > 0 {}
}

#[test]
fn descriptors_are_kept_up_to_their_limit_and_given_back_at_rest() {
    let mut shell = start("sleep 60 & sleep 60 & echo up; read x", "");
    assert_eq!(shell.line(), "up");
    let mut sampler = Sampler::new(COOKIE, 3);
    sampler.aim(&[target(1, &shell)]);
    assert_eq!(taken(&mut sampler, Scope::Everything).readings[0].processes, 3);
    // Small processes have two each; the limit is passed by at most one of them.
    assert_eq!(sampler.kept_descriptors(), 4);
    sampler.rest();
    assert_eq!(sampler.kept_descriptors(), 0);
    assert_eq!(taken(&mut sampler, Scope::Everything).readings[0].processes, 3);
    end(&shell);
}

#[test]
fn the_thread_takes_a_sample_when_asked_and_says_so() {
    let mut shell = start("echo up; read x", "");
    assert_eq!(shell.line(), "up");
    let (said, heard) = channel();
    let metrics = Metrics::start(COOKIE, 100, move || said.send(()).unwrap()).unwrap();
    let mut last = Sample::default();
    assert!(!metrics.take(&mut last));
    metrics.sample(Scope::Everything, Some(vec![target(1, &shell)]));
    heard.recv().unwrap();
    assert!(metrics.take(&mut last) && !metrics.take(&mut last));
    assert_eq!(last.of(ChildId(1)).map(|reading| reading.processes), Some(1));
    metrics.sample(Scope::Everything, None);
    metrics.rest();
    heard.recv().unwrap();
    assert!(metrics.take(&mut last));
    assert_eq!(last.readings.len(), 1, "the targets stay");
    drop(metrics);
    assert!(heard.recv().is_err(), "the thread has ended");
    end(&shell);
}
