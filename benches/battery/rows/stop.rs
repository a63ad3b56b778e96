//! stop: from the command to the end of the last of 1000 children, none of which resists.

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use crate::stage::{Scene, Stage};
use crate::table::{Goal, Table};

/// The children are up and quiet before they are stopped.
const SETTLE: Duration = Duration::from_millis(1500);

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("stop");
    let line = ("1000 children, until the last is gone".to_owned(), "ms", Goal::Ratio(1.6));
    bench.compare(&mut table, bench.rounds, &[line], |subject| {
        let (mut stage, _) = Stage::open_and_wait(subject, &bench.programs, &Scene::sleepers(1000));
        sleep(SETTLE);
        let commanded = stage.stop_all();
        let gone = stage.reports.wait_until_all_are_gone();
        vec![(gone - commanded) as f64 / 1e6]
    });
    table
}
