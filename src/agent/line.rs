//! One outgoing connection: where it leads, how far it is, when it is tried again.

use std::time::Duration;

use crate::agent::dice::Dice;
use crate::base::Time;
use crate::proto::agent::endpoint::Endpoint;
use crate::proto::buffer::Outbox;

/// A connection, and a word about what is spoken, may take so long to come about.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that held so long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// What is spoken on a connection; there is at most one of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wire {
    /// One request to the root, now and then.
    Verify,
    WebSocket,
    /// Where batches are pushed to.
    Push,
    /// Where actions come from.
    Reverse,
    Mqtt,
}

impl Wire {
    pub const ALL: [Self; 5] =
        [Self::Verify, Self::WebSocket, Self::Push, Self::Reverse, Self::Mqtt];

    /// As people are told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::WebSocket => "websocket",
            Self::Push => "push",
            Self::Reverse => "reverse",
            Self::Mqtt => "mqtt",
        }
    }

    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Verify => 0,
            Self::WebSocket => 1,
            Self::Push => 2,
            Self::Reverse => 3,
            Self::Mqtt => 4,
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Off,
    /// Tried again then.
    Waiting(Time),
    /// Given up then.
    Connecting(Time),
    /// It is there, and says what it is; given up then.
    Greeting(Time),
    /// Since then.
    Open(Time),
}

/// See the module.
#[derive(Debug)]
pub struct Line {
    /// `None`: nowhere.
    pub to: Option<Endpoint>,
    pub state: State,
    pub out: Outbox,
    /// Failures in a row.
    pub failures: u32,
    /// What went wrong last; none since it is open.
    pub error: Option<String>,
    /// The owner has been told of this row of failures.
    pub told: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { to: None, state: State::Off, out: outbox(), failures: 0, error: None, told: false }
    }
}

/// Whoever fills it looks at what is in it.
fn outbox() -> Outbox {
    Outbox::new(usize::MAX, usize::MAX)
}

impl Line {
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether there is a connection, or one in the making.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Connecting(_) | State::Greeting(_) | State::Open(_))
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match self.state {
            State::Off | State::Open(_) => None,
            State::Waiting(at) | State::Connecting(at) | State::Greeting(at) => Some(at),
        }
    }

    pub fn open(&mut self, now: Time) {
        self.state = State::Open(now);
        self.error = None;
    }

    /// The connection is no more: when it is tried again. True: this row of failures is new.
    pub fn fail(&mut self, wire: Wire, why: &str, dice: &mut Dice, now: Time) -> bool {
        if matches!(self.state, State::Open(since) if now.since(since) >= GOOD) {
            (self.failures, self.told) = (0, false);
        }
        self.failures = self.failures.saturating_add(1);
        let pause = match wire {
            // 100 ms, half as much again each time.
            Wire::Push => {
                let millis = (0..self.failures.min(12)).fold(67_u64, |pause, _| pause * 3 / 2);
                Duration::from_millis(millis.min(5000))
            }
            Wire::Mqtt => dice.pause(self.failures, Duration::from_secs(120)),
            Wire::Verify | Wire::WebSocket | Wire::Reverse => {
                dice.pause(self.failures, Duration::from_secs(60))
            }
        };
        self.error = Some(why.to_owned());
        self.state = State::Waiting(now.after(pause));
        !std::mem::replace(&mut self.told, true)
    }

    /// What was to be sent; from now on there is nothing.
    pub fn take_out(&mut self) -> Outbox {
        std::mem::replace(&mut self.out, outbox())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_failures_is_told_once_and_ends_with_a_good_connection() {
        let (mut line, mut dice) = (Line::default(), Dice::new(1));
        assert!(line.fail(Wire::WebSocket, "refused", &mut dice, Time(0)));
        line.open(Time(1000));
        assert!(!line.fail(Wire::WebSocket, "closed", &mut dice, Time(2000)));
        assert_eq!(line.failures, 2);
        line.open(Time(3000));
        assert!(line.fail(Wire::WebSocket, "closed", &mut dice, Time(33_000)));
        assert_eq!((line.failures, line.error.as_deref()), (1, Some("closed")));
    }

    #[test]
    fn pushes_are_tried_again_soon() {
        let (mut line, mut dice) = (Line::default(), Dice::new(1));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            line.fail(Wire::Push, "refused", &mut dice, Time(0));
            let State::Waiting(at) = line.state else { panic!("{:?}", line.state) };
            pauses.push(at.0);
        }
        assert_eq!((pauses[0], pauses[1], pauses[2]), (100, 150, 225));
        assert_eq!(pauses[11], 5000);
    }
}
