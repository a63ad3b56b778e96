//! idle: what a supervisor does for 100 children that do nothing while nobody asks. It has to be
//! nothing at all.

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
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
