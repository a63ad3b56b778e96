//! sample: the CPU time of one look at all children, beside the reads alone: one kept descriptor a
//! child, one `pread`, nothing parsed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::{Bench, count};
use crate::control::Control;
use crate::os;
use crate::process;
use crate::stage::{Scene, Stage, Subject};
use crate::table::{Goal, Table};

const CHILDREN: [usize; 2] = [100, 1000];
/// Looks that count; before them one that opens everything.
const LOOKS: u32 = 40;
/// Longer than the age at which pmd uses a sample again.
const PAUSE: Duration = Duration::from_millis(110);

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("sample");
    for children in CHILDREN {
        let label = format!("one sample, {}", count(children));
        bench.compare(&mut table, bench.rounds, &[(label, "us", Goal::None)], |subject| {
            let scene = Scene::sleepers(children);
            let (mut stage, _) = Stage::open_and_wait(subject, &bench.programs, &scene);
            vec![match subject {
                Subject::Limit => Reads::of(&stage, children).time(LOOKS, PAUSE),
                Subject::Pmd => {
                    stage.disconnect();
                    looks(&stage)
                }
            }]
        });
    }
    table
}

/// Microseconds of pmd's threads for one sample: those of a request whose answer is small.
fn looks(stage: &Stage) -> f64 {
    let mut control = Control::connect(&stage.socket()).expect("nobody listens");
    let mut look = || {
        let (id, line) = control.encode("get_system", &json!({}));
        control.send(&line);
        control.reply(id);
        sleep(PAUSE);
    };
    look();
    let family = stage.family();
    let before = process::activity(&family);
    (0..LOOKS).for_each(|_| look());
    process::activity(&family).since(before).cpu as f64 / 1e3 / f64::from(LOOKS)
}

/// The least that can be done: `/proc/PID/stat` of every child, kept open.
pub struct Reads(Vec<File>);

impl Reads {
    pub fn of(stage: &Stage, children: usize) -> Self {
        let open = |id| File::open(format!("/proc/{}/stat", stage.life(id).0)).expect("a child");
        Self((0..children).map(open).collect())
    }

    /// Microseconds of CPU for one pass, the mean of `passes` with a pause before each.
    pub fn time(&self, passes: u32, pause: Duration) -> f64 {
        let mut buffer = [0; 1024];
        let mut spent = 0;
        for _ in 0..passes {
            sleep(pause);
            let before = os::thread_cpu();
            for file in &self.0 {
                file.read_at(&mut buffer, 0).expect("a child that lives");
            }
            spent += os::thread_cpu() - before;
        }
        spent as f64 / 1e3 / f64::from(passes)
    }
}
