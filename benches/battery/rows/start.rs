//! start: from the command to the first instruction of the last of N children.
//!
//! pmd gets one `start` request with all definitions; the limit reads its list, and its command is
//! its own first instruction.

use super::Bench;
use crate::stage::{Scene, Stage};
use crate::table::{Goal, Table};

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("start");
    for children in [100, 1000] {
        let label = format!("{children} children, until the last runs");
        let line = (label, "ms", Goal::Ratio(1.5));
        bench.compare(&mut table, bench.rounds, &[line], |subject| {
            let scene = Scene::sleepers(children);
            let (stage, last) = Stage::open_and_wait(subject, &bench.programs, &scene);
            vec![(last - stage.commanded) as f64 / 1e6]
        });
    }
    table
}
