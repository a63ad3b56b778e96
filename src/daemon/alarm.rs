//! Wakes the loop for what happens at times of day.
//!
//! There is one alarm for all, and none while nothing has a time of day. Where the host has no room
//! for it, a deadline of the loop takes its place, which is late after a sleep of the host.

use crate::base::{Time, WallTime};
use crate::daemon::Daemon;
use crate::daemon::entries::Pipe;
use crate::daemon::key::Key;
use crate::reactor::{Interest, Readiness, Slot};
use crate::sys::alarm::{Alarm, Heard};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// The alarm, and what it is set to.
#[derive(Debug, Default)]
pub struct AlarmClock {
    alarm: Option<(Alarm, Slot)>,
    set: Option<WallTime>,
    /// There is no alarm.
    instead: Option<Time>,
}

impl AlarmClock {
    /// When to look, where there is no alarm.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.instead
    }
}

impl Daemon {
    /// Sets the alarm to what the supervisor waits for now.
    pub(super) fn set_alarm(&mut self) {
        let at = self.supervisor.next_alarm();
        if at == self.alarm.set {
            return;
        }
        self.alarm.set = at;
        self.alarm.instead = None;
        let done = match &self.alarm.alarm {
            Some((alarm, _)) => alarm.set(at),
            None => self.open_alarm(at),
        };
        if let (Err(error), Some(at)) = (done, at) {
            self.own_log.warn(format_args!("no alarm: {}", crate::sys::describe(&error)));
            let pause = Duration::from_millis(at.0.saturating_sub(self.now.wall.0));
            self.alarm.instead = Some(self.now.mono.after(pause));
        }
    }

    fn open_alarm(&mut self, at: Option<WallTime>) -> std::io::Result<()> {
        let alarm = Alarm::new()?;
        let raw = alarm.as_raw_fd();
        let slot = self.reactor.add(&mut Pipe::source(&raw), Interest::READABLE, Key::Alarm)?;
        alarm.set(at)?;
        self.alarm.alarm = Some((alarm, slot));
        Ok(())
    }

    pub(super) fn on_time_of_day(&mut self) {
        let Some((alarm, slot)) = &mut self.alarm.alarm else { return };
        let slot = *slot;
        match alarm.heard() {
            Ok(Heard::Time) => self.ring_alarms(false),
            Ok(Heard::ClockSet) => self.ring_alarms(true),
            Ok(Heard::Nothing) | Err(_) => self.reactor.drained(slot, Readiness::READ),
        }
    }

    /// Where there is no alarm.
    pub(super) fn alarm_is_late(&mut self) {
        if self.alarm.instead.is_some_and(|at| at <= self.now.mono) {
            self.ring_alarms(false);
        }
    }

    fn ring_alarms(&mut self, was_set: bool) {
        // Whatever is next, the alarm is set anew.
        (self.alarm.set, self.alarm.instead) = (None, None);
        self.supervisor.handle_alarms(self.now, was_set, &mut self.decided);
        self.effects.extend(self.decided.drain(..));
    }
}
