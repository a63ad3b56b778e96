//! Who gets messages at an interval, and when the next is due.
//!
//! Clients with the same interval get theirs at the same moments, as far as that can be had within
//! the tenth of an interval by which one may be early or late: each new client gets its first
//! message at once, and from then on its moments move towards the whole multiples of the interval.
//! Where they meet, one sample and one encoding serve all.

use std::time::Duration;

use crate::base::Time;
use crate::daemon::key::ConnId;
use crate::metrics::rates::Earlier;
use crate::proto::messages::event::millis;

/// A client and the event it gets.
pub type Listener = (ConnId, &'static str);

/// Listeners that get their messages at the same moments.
#[derive(Debug)]
pub struct Pace {
    pub interval: Duration,
    pub due: Time,
    pub listeners: Vec<Listener>,
    /// The counters as they were at the message before.
    pub earlier: Earlier,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Paces(Vec<Pace>);

impl Paces {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next message is due.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.0.iter().map(|pace| pace.due).min()
    }

    /// The interval at which a client gets an event.
    #[must_use]
    pub fn interval(&self, listener: Listener) -> Option<Duration> {
        self.0.iter().find(|pace| pace.listeners.contains(&listener)).map(|pace| pace.interval)
    }

    /// From `now` on a client gets an event at this interval.
    pub fn add(&mut self, listener: Listener, interval: Duration, now: Time) {
        self.remove(listener);
        let new = self.0.iter_mut().find(|pace| pace.interval == interval && pace.due == now);
        match new {
            Some(pace) => pace.listeners.push(listener),
            None => self.0.push(Pace {
                interval,
                due: now,
                listeners: vec![listener],
                earlier: Earlier::default(),
            }),
        }
    }

    /// A client gets an event no longer.
    pub fn remove(&mut self, listener: Listener) {
        for pace in &mut self.0 {
            pace.listeners.retain(|&other| other != listener);
        }
        self.0.retain(|pace| !pace.listeners.is_empty());
    }

    /// Gives each pace that is due at `now` to `tell`, and arms it anew.
    pub fn fire(&mut self, now: Time, mut tell: impl FnMut(&mut Pace)) {
        for pace in self.0.iter_mut().filter(|pace| pace.due <= now) {
            tell(pace);
            pace.due = next(pace.due, pace.interval, now);
        }
        // Those that met have just been told of the same counters.
        let mut at = 0;
        while let Some(pace) = self.0.get(at) {
            let same = |other: &Pace| (other.interval, other.due) == (pace.interval, pace.due);
            match self.0.iter().take(at).position(same) {
                Some(first) => {
                    let mut met = self.0.swap_remove(at);
                    self.0[first].listeners.append(&mut met.listeners);
                }
                None => at += 1,
            }
        }
    }
}

/// The next moment after `due`, moved by a twentieth of the interval at most towards a multiple of
/// it.
fn next(due: Time, interval: Duration, now: Time) -> Time {
    let (interval, most) = (millis(interval).max(1), millis(interval) / 20);
    let next = due.0.saturating_add(interval);
    if next <= now.0 {
        // The host was asleep, or too busy.
        return Time(now.0.saturating_add(interval));
    }
    let late = next % interval;
    Time(match late * 2 <= interval {
        true => next - late.min(most),
        false => next + (interval - late).min(most),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(id: u64) -> Listener {
        (ConnId(id), "system_metrics")
    }

    /// The times at which `listener` is told until `end`.
    fn told(paces: &mut Paces, listener: Listener, end: u64) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(due) = paces.next().filter(|due| due.0 <= end) {
            paces.fire(due, |pace| {
                if pace.listeners.contains(&listener) {
                    times.push(due.0);
                }
            });
        }
        times
    }

    #[test]
    fn the_first_message_comes_at_once_and_no_gap_is_more_than_a_tenth_off() {
        for start in [10_000, 10_001, 10_333, 10_499, 10_500, 10_501, 10_999] {
            let mut paces = Paces::default();
            paces.add(client(1), SECOND, Time(start));
            let times = told(&mut paces, client(1), start + 30_000);
            assert_eq!(times[0], start);
            for pair in times.windows(2) {
                assert!((900..=1100).contains(&(pair[1] - pair[0])), "{times:?}");
            }
            assert_eq!(times.last().unwrap() % 1000, 0, "they end up on the second");
        }
    }

    #[test]
    fn clients_of_one_interval_meet() {
        let mut paces = Paces::default();
        for id in 0..20 {
            paces.add(client(id), SECOND, Time(10_000 + id * 47));
        }
        assert_eq!(paces.0.len(), 20);
        let times = told(&mut paces, client(7), 40_000);
        assert_eq!(paces.0.len(), 1);
        assert_eq!(paces.0[0].listeners.len(), 20);
        assert!(times.len() >= 28, "nobody loses a message over it");
    }

    #[test]
    fn a_client_has_one_interval_for_an_event() {
        let mut paces = Paces::default();
        paces.add(client(1), SECOND, Time(0));
        paces.add(client(1), SECOND * 2, Time(5));
        assert_eq!((paces.0.len(), paces.interval(client(1))), (1, Some(SECOND * 2)));
        paces.remove(client(1));
        assert!(paces.is_empty() && paces.next().is_none());
    }

    #[test]
    fn after_a_long_sleep_messages_are_not_made_up_for() {
        let mut paces = Paces::default();
        paces.add(client(1), SECOND, Time(0));
        paces.fire(Time(0), |_| {});
        let mut count = 0;
        paces.fire(Time(3_600_123), |_| count += 1);
        assert_eq!((count, paces.next()), (1, Some(Time(3_601_123))));
    }
}
