//! idle: what a supervisor does for 100 children that do nothing. While nobody asks it has to be
//! nothing at all; while somebody wants their figures every second, little more than reading them.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::Bench;
use super::sample::Reads;
use crate::control::Control;
use crate::os;
use crate::process;
use crate::stage::{Scene, Stage, Subject};
use crate::table::{Goal, Table};

/// After the start: what a new child is waited for is over, the state is saved.
const SETTLE: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(10);

pub fn run(bench: &Bench) -> Table {
    let time = if bench.quick { SHORT } else { LONG };
    let mut table = Table::new("idle");
    let mut broken = Vec::new();
    let lines = [
        ("voluntary context switches a minute, 100 children".to_owned(), "", Goal::Value(0.0)),
        ("involuntary context switches a minute".to_owned(), "", Goal::Value(0.0)),
        ("CPU a minute".to_owned(), "ms", Goal::Value(0.0)),
    ];
    bench.compare(&mut table, 1, &lines, |subject| {
        let scene = Scene::sleepers(100);
        let (mut stage, _) = Stage::open_and_wait(subject, &bench.programs, &scene);
        stage.disconnect();
        sleep(SETTLE);
        let family = stage.family();
        let before = process::activity(&family);
        sleep(time);
        let done = process::activity(&family).since(before);
        if subject == Subject::Pmd && done.voluntary + done.involuntary > 0 {
            broken.push(format!("an idle pmd woke up: {done:?} in {time:?}"));
        }
        let minutes = time.as_secs_f64() / 60.0;
        vec![
            done.voluntary as f64 / minutes,
            done.involuntary as f64 / minutes,
            done.cpu as f64 / 1e6 / minutes,
        ]
    });
    table.broken = broken;
    table
}

/// Metrics of 100 children every second to one subscriber; beside it the reads alone, as often.
pub fn watched(bench: &Bench) -> Table {
    let seconds = (if bench.quick { SHORT } else { LONG }).as_secs() as u32;
    let mut table = Table::new("idle, metrics each second");
    let line = ("CPU a minute, 100 children, one subscriber".to_owned(), "ms", Goal::Value(40.0));
    bench.compare(&mut table, 1, &[line], |subject| {
        let scene = Scene::sleepers(100);
        let (mut stage, _) = Stage::open_and_wait(subject, &bench.programs, &scene);
        let second = Duration::from_secs(1);
        if subject == Subject::Limit {
            return vec![Reads::of(&stage, 100).time(seconds, second) * 60.0 / 1e3];
        }
        stage.disconnect();
        let mut control = Control::connect(&stage.socket()).expect("nobody listens");
        let wish = json!({"events": ["process_metrics"], "interval": 1000});
        let (id, line) = control.encode("subscribe", &wish);
        control.send(&line);
        control.reply(id);
        // The first messages come with what is done once: a thread, descriptors.
        (0..SETTLE.as_secs()).for_each(|_| control.event("process_metrics"));
        let family = stage.family();
        let (before, from) = (process::activity(&family), os::now());
        (0..seconds).for_each(|_| control.event("process_metrics"));
        let done = process::activity(&family).since(before);
        let minutes = (os::now() - from) as f64 / 60e9;
        vec![done.cpu as f64 / 1e6 / minutes]
    });
    table
}
