//! Figures of several rounds, and how they are printed.

/// What pmd has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Nothing asked; the figure is for the reader.
    None,
    /// pmd divided by the limit, at most.
    Ratio(f64),
    /// pmd divided by the limit, at least.
    RatioAtLeast(f64),
    /// pmd itself, at most, in the unit of the line.
    Value(f64),
}

/// One figure: a value for each round and subject.
#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    pub unit: &'static str,
    pub limit: Vec<f64>,
    /// Empty when pmd was not measured.
    pub pmd: Vec<f64>,
    pub goal: Goal,
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub title: &'static str,
    pub lines: Vec<Line>,
    /// What must never happen and did; the battery fails.
    pub broken: Vec<String>,
}

impl Table {
    pub fn new(title: &'static str) -> Self {
        Self { title, ..Self::default() }
    }

    pub fn print(&self) {
        println!("\n### {}\n", self.title);
        println!("| row | limit | pmd | ratio: median (min to max) | goal | |");
        println!("| --- | ---: | ---: | --- | --- | --- |");
        for line in &self.lines {
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                line.label,
                value(&line.limit, line.unit),
                value(&line.pmd, line.unit),
                ratio_text(line),
                goal_text(line),
                verdict(line),
            );
        }
        for fault in &self.broken {
            println!("\n**{fault}**");
        }
    }
}

/// The value below which `share` of all values lie.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * (sorted.len() as f64 - 1.0)).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// Round by round; empty where there is nothing to divide.
fn ratios(line: &Line) -> Vec<f64> {
    let pairs = line.limit.iter().zip(&line.pmd);
    pairs.filter(|(limit, _)| **limit > 0.0).map(|(limit, pmd)| pmd / limit).collect()
}

fn ratio_text(line: &Line) -> String {
    let ratios = ratios(line);
    if ratios.is_empty() {
        return "-".to_owned();
    }
    let (least, most) = (percentile(&ratios, 0.0), percentile(&ratios, 1.0));
    format!("{:.2} ({least:.2} to {most:.2})", median(&ratios))
}

fn goal_text(line: &Line) -> String {
    match line.goal {
        Goal::None => String::new(),
        Goal::Ratio(most) => format!("ratio <= {most}"),
        Goal::RatioAtLeast(least) => format!("ratio >= {least}"),
        Goal::Value(most) => format!("<= {most} {}", line.unit),
    }
}

fn verdict(line: &Line) -> &'static str {
    if line.pmd.is_empty() {
        return "";
    }
    let met = match line.goal {
        Goal::None => return "",
        Goal::Ratio(most) => median(&ratios(line)) <= most,
        Goal::RatioAtLeast(least) => median(&ratios(line)) >= least,
        Goal::Value(most) => median(&line.pmd) <= most,
    };
    if met { "met" } else { "missed" }
}

fn value(values: &[f64], unit: &str) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let median = median(values);
    let digits = match median {
        _ if median.abs() >= 100.0 || median == median.trunc() => 0,
        _ if median.abs() >= 10.0 => 1,
        _ => 2,
    };
    format!("{median:.digits$} {unit}").trim_end().to_owned()
}
