//! footprint: what the processes of a supervisor hold with 10, 100 and 1000 sleeping children whose
//! output is captured; and the size of the binary.
//!
//! Sizes do not depend on the speed of the machine: one round is enough.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use crate::process;
use crate::stage::{Scene, Stage};
use crate::table::{Goal, Line, Table};

const SETTLE: Duration = Duration::from_secs(2);
const KIB_A_MIB: f64 = 1024.0;

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("footprint");
    let mut private = Vec::new();
    for (children, resident) in [(10, 1.5), (100, 1.7), (1000, 3.5)] {
        let lines = [
            (format!("RSS, {children} children"), "MiB", Goal::Value(resident)),
            (format!("PSS, {children} children"), "MiB", Goal::None),
            (format!("private, {children} children"), "KiB", Goal::None),
            (format!("page tables, {children} children"), "KiB", Goal::None),
            (format!("descriptors, {children} children"), "", Goal::None),
            (format!("processes, {children} children"), "", Goal::Value(2.0)),
            (format!("threads, {children} children"), "", Goal::Value(4.0)),
        ];
        bench.compare(&mut table, 1, &lines, |subject| {
            let scene = Scene::sleepers(children);
            let (mut stage, _) = Stage::open_and_wait(subject, &bench.programs, &scene);
            stage.disconnect();
            sleep(SETTLE);
            let holding = process::holding(&stage.family());
            vec![
                holding.resident_kib as f64 / KIB_A_MIB,
                holding.proportional_kib as f64 / KIB_A_MIB,
                holding.private_kib as f64,
                holding.page_tables_kib as f64,
                holding.descriptors as f64,
                holding.processes as f64,
                holding.threads as f64,
            ]
        });
        private.push(table.lines[table.lines.len() - 5].clone());
    }
    table.lines.push(added_child(&private[1], &private[2]));
    table.lines.push(binary(bench));
    table
}

/// Private memory of each child between 100 and 1000.
fn added_child(hundred: &Line, thousand: &Line) -> Line {
    let added = |few: &[f64], many: &[f64]| {
        few.iter().zip(many).map(|(few, many)| (many - few) / 900.0).collect()
    };
    Line {
        label: "private, each added child".to_owned(),
        unit: "KiB",
        limit: added(&hundred.limit, &thousand.limit),
        pmd: added(&hundred.pmd, &thousand.pmd),
        goal: Goal::Value(2.0),
    }
}

fn binary(bench: &Bench) -> Line {
    let size = |path: &Path| fs::metadata(path).map_or(f64::NAN, |file| file.len() as f64 / 1e6);
    Line {
        label: "binary, stripped, static".to_owned(),
        unit: "MB",
        limit: vec![size(&bench.programs.limit)],
        pmd: bench.programs.pmd.iter().map(|path| size(path)).collect(),
        goal: Goal::Value(2.0),
    }
}
