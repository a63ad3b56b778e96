//! logs: numbered lines from 1 and from 10 children, as writes of 100 bytes and of 64 KiB, until the
//! last line is in the file; then every line is looked for.

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use crate::lines::{self, Account};
use crate::os;
use crate::process;
use crate::reports::Kind;
use crate::stage::{Scene, Stage, Subject, Writes};
use crate::table::{Goal, Line, Table};

const TOTAL: u64 = 512 * 1024 * 1024;
const QUICK_TOTAL: u64 = 64 * 1024 * 1024;
const ROTATE_AT: u64 = 10 * 1024 * 1024;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// How long the last lines may be on their way from the pipe to the file.
const PATIENCE: u64 = 30_000_000_000;

/// Who writes the files, and whether they are rotated.
#[derive(Clone, Copy)]
struct Variant {
    subject: Subject,
    rotate: bool,
}

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("logs");
    for (writes, what, rate) in
        [(Writes::Small, "100-byte writes", 0.9), (Writes::Big, "64 KiB writes", 0.75)]
    {
        for children in [1, 10] {
            // With ten children the goal is the same for both sizes.
            let rate = if children == 1 { rate } else { 0.9 };
            let what = format!("{what}, {}", super::count(children));
            measure(bench, &mut table, writes, children, &what, rate);
        }
    }
    table
}

fn measure(
    bench: &Bench,
    table: &mut Table,
    writes: Writes,
    children: usize,
    what: &str,
    rate: f64,
) {
    let limit = Variant { subject: Subject::Limit, rotate: false };
    let plain = Variant { subject: Subject::Pmd, rotate: false };
    let rotated = Variant { subject: Subject::Pmd, rotate: true };
    let variants =
        if bench.programs.pmd.is_some() { vec![limit, plain, rotated] } else { vec![limit] };

    let mut broken = Vec::new();
    let all = bench.alternate(bench.rounds, &variants, |variant| {
        let (figures, account) = one_run(bench, variant, writes, children);
        if account.faults() > 0 {
            broken.push(format!(
                "{what}, {:?}, rotation {}: {account:?}",
                variant.subject, variant.rotate
            ));
        }
        figures
    });
    table.broken.append(&mut broken);

    let series = |variant: usize, figure: usize| {
        all.get(variant).and_then(|figures| figures.get(figure)).cloned().unwrap_or_default()
    };
    let mut push = |label: String, unit, limit, pmd, goal| {
        table.lines.push(Line { label, unit, limit, pmd, goal });
    };
    push(what.to_owned(), "MB/s", series(0, 0), series(1, 0), Goal::RatioAtLeast(rate));
    push(
        format!("{what}, CPU of the supervisor"),
        "s/GiB",
        series(0, 1),
        series(1, 1),
        Goal::Value(0.9),
    );
    if bench.programs.pmd.is_some() {
        let label = format!("{what}: pmd with rotation at 10 MB beside pmd without");
        push(label, "MB/s", series(1, 0), series(2, 0), Goal::RatioAtLeast(0.9));
        let label = format!("{what}, rotation, CPU of the supervisor");
        push(label, "s/GiB", series(0, 1), series(2, 1), Goal::Value(0.9));
    }
    let faults = |variant: usize| -> f64 { series(variant, 2).iter().sum() };
    let pmd = if bench.programs.pmd.is_some() { vec![faults(1) + faults(2)] } else { Vec::new() };
    let label = format!("{what}, lines lost, doubled, out of order or broken in all rounds");
    push(label, "", vec![faults(0)], pmd, Goal::Value(0.0));
}

/// MB/s, CPU seconds a GiB, lines that are not as they should be; and what is wrong with them.
fn one_run(
    bench: &Bench,
    variant: Variant,
    writes: Writes,
    children: usize,
) -> (Vec<f64>, Account) {
    let total = if bench.quick { QUICK_TOTAL } else { TOTAL };
    let block = match writes {
        Writes::Small => lines::SMALL,
        Writes::Big => 64 * 1024,
    };
    let each = total / children as u64 / block * block;
    let scene = Scene {
        output: Some((writes, each)),
        rotate_at: variant.rotate.then_some(ROTATE_AT),
        place: bench.tmpfs.clone(),
        ..Scene::sleepers(children)
    };
    let mut stage = Stage::open(variant.subject, &bench.programs, &scene);
    let family = stage.family();
    let before = process::activity(&family);
    let reports = stage.reports.collect(2 * children);
    reports.iter().for_each(|report| stage.note(report));
    let first = reports.iter().filter(|report| report.kind == Kind::Started);
    let first = first.map(|report| report.time).min().unwrap_or(0);
    let done = wait_for_files(&stage, children, each);
    let cpu = process::activity(&family).since(before).cpu;

    let mut account = Account::default();
    for id in 0..children {
        account.add(lines::check(&stage.log_files(id), id, writes, each));
    }
    let bytes = (each * children as u64) as f64;
    let figures = vec![
        bytes / 1e6 / ((done - first) as f64 / 1e9),
        cpu as f64 / 1e9 / (bytes / GIB),
        account.faults() as f64,
    ];
    (figures, account)
}

/// The moment at which the files hold all bytes, or at which they are given up.
fn wait_for_files(stage: &Stage, children: usize, each: u64) -> u64 {
    let deadline = os::now() + PATIENCE;
    let size = |id: usize| {
        let files = stage.log_files(id);
        files.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum::<u64>()
    };
    for id in 0..children {
        while size(id) < each && os::now() < deadline {
            sleep(Duration::from_micros(500));
        }
    }
    os::now()
}
