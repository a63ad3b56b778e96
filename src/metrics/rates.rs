//! Counters to percentages.
//!
//! A counter says how much time was spent since some beginning; a percentage needs two looks at it.

use std::time::Duration;

use crate::base::{ChildId, Time};
use crate::metrics::{Host, Reading, Sample};

/// Over less time than this a counter of ticks says nothing.
const SHORTEST: Duration = Duration::from_millis(200);

/// Counters at an earlier look.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    at: Time,
    total_ticks: u64,
    busy_ticks: u64,
    own_cpu: Duration,
    /// By ascending child.
    children: Vec<(ChildId, Time, Duration)>,
}

impl Earlier {
    /// Remembers the counters of `sample` in place of those before.
    pub fn remember(&mut self, sample: &Sample) {
        self.at = sample.at;
        self.total_ticks = sample.host.total_ticks;
        self.busy_ticks = sample.host.busy_ticks;
        self.own_cpu = sample.host.own_cpu;
        self.children.clear();
        let counters = sample.readings.iter().map(|one| (one.child, one.at, one.cpu));
        self.children.extend(counters);
    }

    /// When it was; zero if there was none.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// What a child's tree used since then, or since it was `started` where it is younger, in
    /// percent of one processor. 0 over less than [`SHORTEST`].
    #[must_use]
    pub fn process(&self, reading: &Reading, started: Time) -> f64 {
        let known = self.children.binary_search_by_key(&reading.child, |child| child.0);
        let (since, before) = match known.ok().and_then(|at| self.children.get(at)) {
            Some(&(_, since, before)) => (since, before),
            None => (started, Duration::ZERO),
        };
        share(reading.cpu.saturating_sub(before), reading.at.since(since))
    }

    /// What all processors together did since then, or since the boot, in percent of them all.
    #[must_use]
    pub fn host(&self, host: &Host) -> f64 {
        let total = host.total_ticks.saturating_sub(self.total_ticks);
        let busy = host.busy_ticks.saturating_sub(self.busy_ticks).min(total);
        if total == 0 { 0.0 } else { tenths(ticks(busy) / ticks(total) * 100.0) }
    }

    /// What the daemon itself used since then, or since it was `started`, in percent of one
    /// processor.
    #[must_use]
    pub fn daemon(&self, sample: &Sample, started: Time) -> f64 {
        let since = if self.at == Time(0) { started } else { self.at };
        share(sample.host.own_cpu.saturating_sub(self.own_cpu), sample.at.since(since))
    }
}

fn share(cpu: Duration, over: Duration) -> f64 {
    if over < SHORTEST { 0.0 } else { tenths(cpu.as_secs_f64() / over.as_secs_f64() * 100.0) }
}

/// With one decimal.
fn tenths(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

/// Exact up to 2^53 ticks, which is more than a million years of one processor.
#[allow(clippy::cast_precision_loss)]
fn ticks(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, cpu: &[(u64, u64)], host: (u64, u64)) -> Sample {
        let reading = |&(child, millis)| Reading {
            at: Time(at),
            cpu: Duration::from_millis(millis),
            ..Reading::nothing(ChildId(child))
        };
        Sample {
            at: Time(at),
            host: Host { total_ticks: host.0, busy_ticks: host.1, ..Host::default() },
            readings: cpu.iter().map(reading).collect(),
        }
    }

    #[test]
    fn the_share_is_that_since_the_earlier_look() {
        let mut earlier = Earlier::default();
        earlier.remember(&sample(10_000, &[(1, 5000), (3, 70)], (1000, 400)));
        let now = sample(11_000, &[(1, 5500), (2, 300), (3, 2070)], (1200, 431));
        let percent =
            |child: u64, started| earlier.process(now.of(ChildId(child)).unwrap(), Time(started));
        assert!((percent(1, 0) - 50.0).abs() < 0.01);
        assert!((percent(3, 0) - 200.0).abs() < 0.01, "two processors busy");
        assert!((percent(2, 10_400) - 50.0).abs() < 0.01, "since its start 600 ms ago");
        assert!(percent(2, 10_900) < 0.01, "too young to tell");
        assert!((earlier.host(&now.host) - 15.5).abs() < 0.01);
    }

    #[test]
    fn the_first_look_tells_the_average_since_the_start() {
        let first = sample(60_000, &[(1, 6000)], (1000, 250));
        let earlier = Earlier::default();
        assert!((earlier.process(&first.readings[0], Time(50_000)) - 60.0).abs() < 0.01);
        assert!((earlier.host(&first.host) - 25.0).abs() < 0.01);
    }

    #[test]
    fn counters_and_clocks_that_go_back_give_nothing() {
        let mut earlier = Earlier::default();
        earlier.remember(&sample(10_000, &[(1, 5000)], (1000, 400)));
        let now = sample(9000, &[(1, 10)], (900, 500));
        assert!(earlier.process(&now.readings[0], Time(0)) < 0.01);
        assert!(earlier.host(&now.host) < 0.01);
    }

    #[test]
    fn percentages_are_finite_and_have_one_decimal_whatever_the_counters() {
        let mut seed = 7_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed >> (seed % 60)
        };
        for _ in 0..10_000 {
            let mut earlier = Earlier::default();
            earlier.remember(&sample(random(), &[(1, random())], (random(), random())));
            let now = sample(random(), &[(1, random())], (random(), random()));
            let share = earlier.process(&now.readings[0], Time(random()));
            assert!(share.is_finite() && share >= 0.0);
            let host = earlier.host(&now.host);
            assert!((0.0..=100.0).contains(&host) && (host * 10.0).fract().abs() < 1e-6);
        }
    }
}
