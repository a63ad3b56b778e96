//! cli: a status command as a process, beside a static program that does nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Bench;
use crate::os;
use crate::stage::{Scene, Stage, Subject};
use crate::table::{Goal, Table, median};

const CALLS: usize = 200;

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("command line");
    let Some(pmd) = &bench.programs.pmd else {
        let line = ("an empty static program".to_owned(), "us", Goal::None);
        bench.compare(&mut table, bench.rounds, &[line], |_| vec![empty(&bench.programs.child)]);
        return table;
    };
    let (stage, _) = Stage::open_and_wait(Subject::Pmd, &bench.programs, &Scene::sleepers(100));
    let home = stage.home();
    let lines = [
        ("`pmd ping` beside an empty static program".to_owned(), "us", Goal::Ratio(4.0)),
        ("`pmd pid NAME` beside an empty static program".to_owned(), "us", Goal::Ratio(4.0)),
        ("`pmd list` of 100 beside an empty static program".to_owned(), "us", Goal::None),
    ];
    bench.compare(&mut table, bench.rounds, &lines, |subject| match subject {
        Subject::Limit => vec![empty(&bench.programs.child); 3],
        Subject::Pmd => [&["ping"][..], &["pid", "app0"], &["list"]]
            .iter()
            .map(|words| calls(pmd, words, &home))
            .collect(),
    });
    table
}

fn empty(child: &Path) -> f64 {
    calls(child, &[], Path::new("/"))
}

/// Microseconds of a call, the median of many.
fn calls(program: &Path, words: &[&str], home: &Path) -> f64 {
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let mut command = Command::new(program);
        command.args(words).env_clear().env("PMD_HOME", home).env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let before = os::now();
        let status = command.status().expect("cannot run a command");
        times.push((os::now() - before) as f64 / 1e3);
        assert!(status.success(), "{command:?} failed");
    }
    median(&times)
}
