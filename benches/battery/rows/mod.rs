//! The rows of the battery, one file each, and what they share: rounds that alternate.

pub mod cli;
pub mod control;
pub mod events;
pub mod footprint;
pub mod idle;
pub mod logs;
pub mod restart;
pub mod sample;
pub mod start;
pub mod stop;

use std::path::PathBuf;

use crate::programs::Programs;
use crate::stage::Subject;
use crate::table::{Goal, Line, Table};

/// What every row is given.
pub struct Bench {
    pub programs: Programs,
    /// How often each figure is taken; at least three for a figure worth quoting.
    pub rounds: usize,
    /// Short idle times and little output: to see that all works, not to quote.
    pub quick: bool,
    /// A tmpfs, for the rows that write logs.
    pub tmpfs: PathBuf,
}

/// The figures of one variant: for each figure a value a round.
type Figures = Vec<Vec<f64>>;

/// "1 child", "100 children".
fn count(children: usize) -> String {
    if children == 1 { "1 child".to_owned() } else { format!("{children} children") }
}

impl Bench {
    pub fn subjects(&self) -> &'static [Subject] {
        if self.programs.pmd.is_some() {
            &[Subject::Limit, Subject::Pmd]
        } else {
            &[Subject::Limit]
        }
    }

    /// Measures all variants in turn, in every second round backwards.
    pub fn alternate<V: Copy>(
        &self,
        rounds: usize,
        variants: &[V],
        mut measure: impl FnMut(V) -> Vec<f64>,
    ) -> Vec<Figures> {
        let mut all: Vec<Figures> = vec![Vec::new(); variants.len()];
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..variants.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let figures = measure(variants[index]);
                all[index].resize(figures.len(), Vec::new());
                for (series, figure) in all[index].iter_mut().zip(figures) {
                    series.push(figure);
                }
            }
        }
        all
    }

    /// Both subjects in turn; one line of `table` for each figure.
    pub fn compare(
        &self,
        table: &mut Table,
        rounds: usize,
        lines: &[(String, &'static str, Goal)],
        measure: impl FnMut(Subject) -> Vec<f64>,
    ) {
        let all = self.alternate(rounds, self.subjects(), measure);
        for (index, (label, unit, goal)) in lines.iter().enumerate() {
            let series = |subject: usize| {
                let figures = all.get(subject).and_then(|figures: &Figures| figures.get(index));
                figures.cloned().unwrap_or_default()
            };
            table.lines.push(Line {
                label: label.clone(),
                unit,
                limit: series(0),
                pmd: series(1),
                goal: *goal,
            });
        }
    }
}
