//! What `pmd` exits with. The list is in the help text, too.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The state that was asked for is reached.
    Done = 0,
    /// Something without a code of its own; different reasons; a predicate that is false.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No such process.
    NotFound = 3,
    /// No daemon runs, or it does not answer.
    NoDaemon = 4,
    NotPermitted = 5,
    /// A configuration is invalid.
    Invalid = 6,
    /// Not ready, not stopped, not as waited for in time.
    TimedOut = 7,
    /// The program did not start or did not stay up.
    NotStarted = 8,
}

impl Exit {
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Done, "done"),
        (Self::Failed, "failed, or the answer is no"),
        (Self::Usage, "wrong command line"),
        (Self::NotFound, "no such process"),
        (Self::NoDaemon, "no daemon, or it does not answer"),
        (Self::NotPermitted, "not permitted"),
        (Self::Invalid, "invalid configuration"),
        (Self::TimedOut, "time ran out"),
        (Self::NotStarted, "the program did not start or stay up"),
    ];

    /// What an error code of the protocol means for the shell.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        match code {
            "PROCESS_NOT_FOUND" => Self::NotFound,
            "UNAUTHORIZED" | "PERMISSION_DENIED" | "FORBIDDEN_USER" => Self::NotPermitted,
            "INVALID_CONFIG" => Self::Invalid,
            "INVALID_ARGUMENT" | "UNKNOWN_ACTION" | "UNKNOWN_TYPE" => Self::Usage,
            "TIMEOUT" => Self::TimedOut,
            "PROCESS_START_FAILED" | "PORT_IN_USE" | "NO_FREE_PORT" => Self::NotStarted,
            "NO_DAEMON" => Self::NoDaemon,
            _ => Self::Failed,
        }
    }

    /// The word for a failure of the command line's own, as the protocol would say it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Done | Self::Failed => "OPERATION_FAILED",
            Self::Usage => "INVALID_ARGUMENT",
            Self::NotFound => "PROCESS_NOT_FOUND",
            Self::NoDaemon => "NO_DAEMON",
            Self::NotPermitted => "PERMISSION_DENIED",
            Self::Invalid => "INVALID_CONFIG",
            Self::TimedOut => "TIMEOUT",
            Self::NotStarted => "PROCESS_START_FAILED",
        }
    }

    /// The code for several targets: that of all that failed, or 1 where they differ.
    #[must_use]
    pub fn of_several(exits: impl IntoIterator<Item = Self>) -> Self {
        exits.into_iter().filter(|&exit| exit != Self::Done).fold(Self::Done, |worst, exit| {
            if worst == Self::Done || worst == exit { exit } else { Self::Failed }
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_targets_keep_a_common_reason() {
        let of = |exits: &[Exit]| Exit::of_several(exits.iter().copied());
        assert_eq!(of(&[]), Exit::Done);
        assert_eq!(of(&[Exit::Done, Exit::NotFound, Exit::NotFound]), Exit::NotFound);
        assert_eq!(of(&[Exit::NotFound, Exit::TimedOut]), Exit::Failed);
        assert_eq!(of(&[Exit::NotFound, Exit::TimedOut, Exit::TimedOut]), Exit::Failed);
    }

    #[test]
    fn the_words_and_the_codes_agree() {
        for (exit, _) in Exit::ALL {
            if exit != Exit::Done {
                assert_eq!(Exit::of_code(exit.code()), exit);
            }
        }
    }
}
