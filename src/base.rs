//! Nouns that every layer shares: points in time, process ids, signals, ways to end.
//!
//! Plain data. Nothing here reads a clock, makes a system call or knows what pmd is.

use std::fmt;
use std::num::NonZeroI32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on `CLOCK_MONOTONIC`, in milliseconds.
///
/// Unlike `std::time::Instant` it can be written down: deadlines survive a restart of the daemon
/// within one boot, because the kernel's monotonic clock keeps counting.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The moment `delay` after `self`; saturates at the end of time. Parts of a millisecond are
    /// rounded up, so that nothing is due early.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(millis_up(delay)))
    }

    /// How long from `earlier` until `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis_up(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch. For people, wire formats, and what is to happen at a time of
/// day; durations are measured by [`Time`].
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct WallTime(pub u64);

/// One reading of both clocks, taken once per turn of the loop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// For every decision.
    pub mono: Time,
    /// For display, and for what is to happen at a time of day.
    pub wall: WallTime,
}

/// Year, month and day of a number of days since 1970-01-01 (Gregorian; Howard Hinnant's formula).
#[must_use]
pub fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let moon = (5 * of_year + 2) / 153;
    let month = if moon < 10 { moon + 3 } else { moon - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, of_year - (153 * moon + 2) / 5 + 1)
}

/// A process id the kernel gave us. Never zero, never negative: `kill(0)` cannot be written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// `None` unless `raw` is positive.
    #[must_use]
    pub fn new(raw: i32) -> Option<Self> {
        NonZeroI32::new(raw).filter(|pid| pid.get() > 0).map(Self)
    }

    /// The number as the kernel knows it.
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signal number, 1 to 64.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Signal(u8);

/// Names and numbers as `signal(7)` lists them for the architectures pmd builds for (x86, ARM,
/// RISC-V).
const SIGNALS: [(&str, u8); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

impl Signal {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const USR2: Self = Self(12);
    pub const PIPE: Self = Self(13);
    pub const ALRM: Self = Self(14);
    pub const TERM: Self = Self(15);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    /// `SIGRTMIN+3`: how systemd and container engines ask an init to halt.
    pub const HALT: Self = Self(37);

    /// `None` unless `raw` is 1 to 64.
    #[must_use]
    pub fn new(raw: i32) -> Option<Self> {
        u8::try_from(raw).ok().filter(|n| (1..=64).contains(n)).map(Self)
    }

    /// Reads `SIGTERM`, `term` or `15`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Self::new(number);
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = bare.strip_prefix("RTMIN+") {
            return offset.parse::<i32>().ok().filter(|n| (0..=30).contains(n)).and_then(|n| {
                Self::new(34 + n) // glibc and musl both keep 32 and 33 for themselves
            });
        }
        SIGNALS.iter().find(|(name, _)| &name[3..] == bare).map(|&(_, number)| Self(number))
    }

    /// The number as the kernel knows it.
    #[must_use]
    pub fn raw(self) -> i32 {
        i32::from(self.0)
    }

    /// Every signal that has a name, for completion and suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIGNALS.iter().map(|&(name, _)| name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|&&(_, number)| number == self.0) {
            Some((name, _)) => f.write_str(name),
            None if self.0 >= 34 => write!(f, "SIGRTMIN+{}", self.0 - 34),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("unknown signal"))
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// Which one.
        signal: Signal,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// The kernel killed it, because there was no memory left.
    OutOfMemory,
    /// It ended while no one could be told how.
    Unknown,
}

impl ExitStatus {
    /// Whether the child ended of its own will and said that all went well.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code, where there is one.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal { .. } | Self::OutOfMemory | Self::Unknown => None,
        }
    }

    /// The signal that ended it, where one did.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Signal { signal, .. } => Some(signal),
            Self::OutOfMemory => Some(Signal::KILL),
            Self::Code(_) | Self::Unknown => None,
        }
    }
}

/// "exit code 3", "killed by SIGSEGV (core dumped)", "ended, exit status unknown".
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { signal, core: false } => write!(f, "killed by {signal}"),
            Self::Signal { signal, core: true } => write!(f, "killed by {signal} (core dumped)"),
            Self::OutOfMemory => {
                f.write_str("killed by SIGKILL: out of memory (kernel OOM killer)")
            }
            Self::Unknown => f.write_str("ended, exit status unknown"),
        }
    }
}

/// One of a child's two output streams.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Stream {
    #[serde(rename = "stdout")]
    Out,
    #[serde(rename = "stderr")]
    Err,
}

impl Stream {
    pub const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// `stdout` or `stderr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }

    /// 0 for stdout, 1 for stderr: for tables of two.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Err => 1,
        }
    }
}

/// Names a process for as long as it is in the table. PM2 calls it `pm_id`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ProcId(pub u32);

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one process: the generation, counted over all processes and never reused, so that
/// late news of an earlier child finds nothing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ChildId(pub u64);

/// Why a child could not be started: where it failed and the error number there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct SpawnError {
    pub stage: Stage,
    pub errno: i32,
}

impl SpawnError {
    /// The port it is to have is somebody else's (`EADDRINUSE`).
    pub const PORT_IN_USE: Self = Self { stage: Stage::Port, errno: 98 };
    /// None of the ports it may have is free (`EADDRNOTAVAIL`).
    pub const NO_FREE_PORT: Self = Self { stage: Stage::Port, errno: 99 };

    /// Whether trying again may help: the host was short of something.
    #[must_use]
    pub fn is_transient(self) -> bool {
        // Linux numbers: EAGAIN, ENOMEM, ENFILE, EMFILE, ETXTBSY; EADDRINUSE.
        self.stage == Stage::Port
            || matches!(self.errno, 11 | 12 | 23 | 24 | 26)
            || (self.stage == Stage::Listen && self.errno == 98)
    }
}

/// The steps of a spawn, in the order in which they happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// In the daemon: pipes, log directory, environment file, user look-up.
    Prepare,
    /// In the daemon, too: finding a port.
    Port,
    /// And opening what the app listens on.
    Listen,
    Fork,
    Session,
    Limits,
    Descriptors,
    Signals,
    Credentials,
    Directory,
    Exec,
}

impl Stage {
    /// Its word in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Port => "port",
            Self::Listen => "listen",
            Self::Fork => "fork",
            Self::Session => "session",
            Self::Limits => "limits",
            Self::Descriptors => "descriptors",
            Self::Signals => "signals",
            Self::Credentials => "credentials",
            Self::Directory => "directory",
            Self::Exec => "exec",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_millisecond_are_rounded_up() {
        assert_eq!(Time(5).after(Duration::from_micros(1)), Time(6));
        assert_eq!(Time(5).after(Duration::MAX), Time(u64::MAX));
    }

    #[test]
    fn a_signal_is_read_in_every_usual_spelling() {
        for text in ["SIGHUP", "HUP", "hup", "1"] {
            assert_eq!(Signal::parse(text), Some(Signal::HUP), "{text}");
        }
        for text in ["", "SIG", "SIGNOPE", "0", "65", "-1"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_signal_reads_its_own_name() {
        for raw in 1..=64 {
            let signal = Signal::new(raw).unwrap();
            if !(32..34).contains(&raw) {
                assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
            }
        }
    }
}
