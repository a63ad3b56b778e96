//! The battery: how much pmd costs beside the reference supervisor, on this machine.
//!
//! ```text
//! cargo bench --bench battery -- [ROWS] [--rounds N] [--quick] [--pmd PATH] [--limit-only]
//!                                [--tmpfs DIR]
//! ```
//!
//! ROWS are names of `ROWS` below; without any all of them are taken. Both subjects run in turn at
//! one sitting with the same supervised program; the answer is a ratio, its median over the rounds
//! and its spread, so that it means the same on every machine. Sizes and counts are absolute. The
//! exit status is 1 when a line of a log was lost or broken or an idle pmd woke up, whatever the
//! machine; a goal that was missed is only reported.
//!
//! Nothing else should run meanwhile. Where something does, `chrt -r 5` before the command keeps it
//! away from the time rows (root): what it starts inherits the priority, both subjects alike.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod control;
mod lines;
mod os;
mod process;
mod programs;
mod reports;
mod rows;
mod stage;
mod subscribers;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use programs::Programs;
use rows::Bench;
use table::Table;

type Row = fn(&Bench) -> Table;

const ROWS: [(&str, Row); 12] = [
    ("footprint", rows::footprint::run),
    ("idle", rows::idle::run),
    ("metrics", rows::idle::watched),
    ("sample", rows::sample::run),
    ("start", rows::start::run),
    ("restart", rows::restart::run),
    ("burst", rows::restart::burst),
    ("stop", rows::stop::run),
    ("logs", rows::logs::run),
    ("control", rows::control::run),
    ("events", rows::events::run),
    ("cli", rows::cli::run),
];

struct Options {
    rows: Vec<String>,
    rounds: usize,
    quick: bool,
    limit_only: bool,
    pmd: Option<PathBuf>,
    tmpfs: PathBuf,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("battery: {fault}");
            return ExitCode::from(2);
        }
    };
    let bench = Bench {
        programs: Programs::build(options.pmd, options.limit_only),
        rounds: options.rounds,
        quick: options.quick,
        tmpfs: options.tmpfs,
    };
    println!("{}", machine());
    println!("Rounds: {}{}.", bench.rounds, if bench.quick { ", quick" } else { "" });
    let mut broken = 0;
    for (name, row) in ROWS {
        if options.rows.is_empty() || options.rows.iter().any(|wanted| wanted == name) {
            let table = row(&bench);
            table.print();
            broken += table.broken.len();
        }
    }
    if broken > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rows: Vec::new(),
        rounds: 3,
        quick: false,
        limit_only: false,
        pmd: None,
        tmpfs: PathBuf::from("/dev/shm"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("'{word}' needs a value"));
        match word.as_str() {
            // Cargo adds this one.
            "--bench" => {}
            "--quick" => options.quick = true,
            "--limit-only" => options.limit_only = true,
            "--pmd" => options.pmd = Some(value()?.into()),
            "--tmpfs" => options.tmpfs = value()?.into(),
            "--rounds" => {
                options.rounds = value()?.parse().map_err(|_| "'--rounds' needs a number")?;
            }
            row if ROWS.iter().any(|(name, _)| *name == row) => options.rows.push(word),
            _ => {
                let names = ROWS.map(|(name, _)| name).join(", ");
                return Err(format!("no row or option '{word}'; rows: {names}"));
            }
        }
    }
    if !options.tmpfs.is_dir() {
        return Err(format!("'{}' is not a directory; --tmpfs names one", options.tmpfs.display()));
    }
    Ok(options)
}

/// One line: processor, how many, kernel, and how busy it is without the battery.
fn machine() -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("Machine: {model}, {count} cores, Linux {}; load before: {load}.", kernel.trim())
}
