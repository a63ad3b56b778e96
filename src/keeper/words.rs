//! What keeper and daemon say to each other: messages of one size, with at most one descriptor.
//!
//! The keeper outlives updates of the daemon, so a later daemon speaks what this keeper speaks. Words
//! that the other does not know are passed over.

use std::time::Duration;

use crate::base::{ExitStatus, Pid};
use crate::sys::packet::Words;
use crate::sys::wait::{from_wait_word, to_wait_word};

/// Of this protocol. Told by the keeper in [`Word::Hello`], by the daemon in [`Word::Up`].
pub const VERSION: u64 = 1;

/// One message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Keeper: the first. How many daemons there were before under this keeper, and how the last of
    /// them ended.
    Hello { version: u64, before: u64, last: ExitStatus },
    /// Keeper: a descriptor that a daemon before handed over; it comes along.
    Held { key: u64 },
    /// Keeper: that was all of them.
    All,
    /// Keeper: what had fallen to it has ended and been reaped.
    Exited { pid: Pid, status: ExitStatus, cpu: Duration },
    /// Daemon: it serves. From now on its end is a crash, unless it says otherwise, and ends of
    /// processes are told.
    Up { version: u64 },
    /// Daemon: keep this descriptor, which comes along. Its inode number is a good key.
    Hold { key: u64 },
    /// Daemon: it is not needed any more.
    Drop { key: u64 },
    /// Daemon: the file that is to be executed from now on comes along.
    Program,
    /// Daemon: it is about to end in order; `again`: and another is to be started at once.
    End { again: bool },
}

/// Numbers of the messages.
mod kind {
    pub const HELLO: u64 = 1;
    pub const HELD: u64 = 2;
    pub const ALL: u64 = 3;
    pub const EXITED: u64 = 4;
    pub const UP: u64 = 16;
    pub const HOLD: u64 = 17;
    pub const DROP: u64 = 18;
    pub const PROGRAM: u64 = 19;
    pub const END: u64 = 20;
}

impl Word {
    #[must_use]
    pub fn encode(self) -> Words {
        let of_status = |status| u64::from(to_wait_word(status).cast_unsigned());
        match self {
            Self::Hello { version, before, last } => {
                [kind::HELLO, version, before, of_status(last)]
            }
            Self::Held { key } => [kind::HELD, key, 0, 0],
            Self::All => [kind::ALL, 0, 0, 0],
            Self::Exited { pid, status, cpu } => {
                let cpu = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
                [kind::EXITED, u64::from(pid.raw().cast_unsigned()), of_status(status), cpu]
            }
            Self::Up { version } => [kind::UP, version, 0, 0],
            Self::Hold { key } => [kind::HOLD, key, 0, 0],
            Self::Drop { key } => [kind::DROP, key, 0, 0],
            Self::Program => [kind::PROGRAM, 0, 0, 0],
            Self::End { again } => [kind::END, again.into(), 0, 0],
        }
    }

    /// `None` for what a later version may have meant.
    #[must_use]
    pub fn decode(words: Words) -> Option<Self> {
        let number = |word| i32::try_from(word).ok();
        let [kind, first, second, third] = words;
        Some(match kind {
            kind::HELLO => {
                Self::Hello { version: first, before: second, last: from_wait_word(number(third)?) }
            }
            kind::HELD => Self::Held { key: first },
            kind::ALL => Self::All,
            kind::EXITED => Self::Exited {
                pid: Pid::new(number(first)?)?,
                status: from_wait_word(number(second)?),
                cpu: Duration::from_micros(third),
            },
            kind::UP => Self::Up { version: first },
            kind::HOLD => Self::Hold { key: first },
            kind::DROP => Self::Drop { key: first },
            kind::PROGRAM => Self::Program,
            kind::END => Self::End { again: first != 0 },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Signal;

    #[test]
    fn every_word_arrives_as_it_was_said() {
        let killed = ExitStatus::Signal { signal: Signal::KILL, core: false };
        for word in [
            Word::Hello { version: VERSION, before: 3, last: killed },
            Word::Held { key: u64::MAX },
            Word::All,
            Word::Exited {
                pid: Pid::new(77).unwrap(),
                status: ExitStatus::Code(9),
                cpu: Duration::from_micros(1_234_567),
            },
            Word::Up { version: 2 },
            Word::Hold { key: 1 },
            Word::Drop { key: 2 },
            Word::Program,
            Word::End { again: true },
            Word::End { again: false },
        ] {
            assert_eq!(Word::decode(word.encode()), Some(word));
        }
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_no_word() {
        for words in [
            [0, 0, 0, 0],
            [99, 1, 2, 3],
            [u64::MAX; 4],
            [kind::EXITED, 0, 0, 0],
            [kind::EXITED, u64::MAX, 0, 0],
            [kind::EXITED, 1 << 31, 0, 0],
            [kind::HELLO, 1, 0, u64::MAX],
        ] {
            assert_eq!(Word::decode(words), None, "{words:?}");
        }
    }
}
