//! One run of `pmd`: what the user sees, and the daemon it talks to.
//!
//! The connection is made when it is first needed, so that what needs no daemon never looks for
//! one.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::app_files::Purpose;
use crate::cli::args::Global;
use crate::cli::client::{Answer, Client, Refused};
use crate::cli::commands::daemon;
use crate::cli::daemons::{self, Daemons, Whose};
use crate::cli::entry::take_list;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::screen::Screen;
use crate::json::json;
use crate::sys::process;

/// The longest wait for an answer to a question, unless `--timeout` says otherwise.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// With `--timeout` the daemon gives up first, and says for which processes; it gets this much
/// longer for that.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// How often, and how far apart, a command looks for a daemon that another command started.
const START_LOOKS: u32 = 25;
const START_PAUSE: Duration = Duration::from_millis(20);

/// A run of `pmd`.
#[derive(Debug)]
pub struct Session {
    pub global: Global,
    pub screen: Screen,
    pub daemons: Daemons,
    link: Option<Link>,
}

/// A connection and whose daemon is at its end.
#[derive(Debug)]
struct Link {
    client: Client,
    whose: Whose,
}

impl Session {
    #[must_use]
    pub fn new(global: Global, screen: Screen) -> Self {
        let daemons = Daemons::of(&global);
        Self { global, screen, daemons, link: None }
    }

    /// Asks the daemon something that changes nothing.
    ///
    /// # Errors
    ///
    /// Rows 35 to 37 and 46 of the catalogue, or what the daemon says.
    pub fn question(&mut self, kind: &str, data: &Value) -> Result<Value, End> {
        self.client()?;
        self.ask(kind, data)
    }

    /// As [`Self::question`], on a connection that is there.
    fn ask(&mut self, kind: &str, data: &Value) -> Result<Value, End> {
        let limit = self.global.timeout.unwrap_or(QUESTION_LIMIT);
        let answer = self.client()?.request(kind, data, Some(limit))?;
        self.mention_version();
        answer.given()
    }

    /// Asks the daemon to do something. Waits as long as the daemon does, or `--timeout`.
    ///
    /// # Errors
    ///
    /// As [`Self::question`]; an `error` of the daemon is an [`Answer`].
    pub fn action(&mut self, kind: &str, data: &Value) -> Result<Answer, End> {
        let limit = self.global.timeout.map(|limit| limit.saturating_add(ANSWER_GRACE));
        let answer = self.client()?.request(kind, data, limit)?;
        self.mention_version();
        Ok(answer)
    }

    /// The `processes` of a `get_info`; all of them for `None`.
    ///
    /// # Errors
    ///
    /// As [`Self::question`].
    pub fn processes(
        &mut self,
        targets: Option<&[String]>,
        brief: bool,
    ) -> Result<Vec<Value>, End> {
        let wish = json!({"processes": targets, "brief": brief, "metrics": false});
        let mut reply = self.question("get_info", &wish)?;
        Ok(take_list(&mut reply["processes"]))
    }

    /// The same with what they use now, which takes the daemon a moment.
    ///
    /// # Errors
    ///
    /// As [`Self::processes`].
    pub fn measured(&mut self, targets: Option<&[String]>, brief: bool) -> Result<Vec<Value>, End> {
        let wish = json!({"processes": targets, "brief": brief});
        let mut reply = self.question("get_info", &wish)?;
        Ok(take_list(&mut reply["processes"]))
    }

    /// Members that every request takes from the global options.
    #[must_use]
    pub fn with_timeout(&self, mut data: Map<String, Value>) -> Value {
        if let Some(limit) = self.global.timeout {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            data.insert("timeout".to_owned(), json!(millis));
        }
        Value::Object(data)
    }

    /// The connection; one is made to a daemon that runs.
    ///
    /// # Errors
    ///
    /// Rows 35, 36 and 46.
    pub fn client(&mut self) -> Result<&mut Client, End> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?.ok_or_else(no_daemon)?,
        };
        Ok(&mut self.link.insert(link).client)
    }

    /// Whether a daemon runs, connecting to it.
    ///
    /// # Errors
    ///
    /// Rows 36 and 46.
    pub fn is_there(&mut self) -> Result<bool, End> {
        if self.link.is_none() {
            self.link = self.connect()?;
        }
        Ok(self.link.is_some())
    }

    /// Makes sure that a daemon runs, starting one where none does; answers whether it did.
    ///
    /// # Errors
    ///
    /// Row 35 with `--no-spawn`, or why the daemon did not start.
    pub fn need_daemon(&mut self) -> Result<bool, End> {
        if self.is_there()? {
            return Ok(false);
        }
        if self.global.no_spawn {
            return Err(no_daemon());
        }
        // Many first commands at once start many daemons; one stays, and it takes a moment.
        match daemon::background(&self.global, &[]) {
            Ok(()) => self.client().map(|_| true),
            Err(failed) => {
                for _ in 0..START_LOOKS {
                    if self.is_there()? {
                        return Ok(false);
                    }
                    self.pause(START_PAUSE);
                }
                Err(failed.into())
            }
        }
    }

    /// Does nothing for a while.
    #[expect(
        clippy::disallowed_methods,
        clippy::unused_self,
        reason = "the command line has no loop that something else could wait for"
    )]
    pub fn pause(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    /// Whose daemon this run talks to, once it does.
    #[must_use]
    pub fn whose(&self) -> Option<Whose> {
        self.link.as_ref().map(|link| link.whose)
    }

    /// How files of apps are to be checked: whether scripts are there is only for us to say where
    /// the daemon, running or to be started, has the rights of this user. The system daemon, which
    /// lets in the members of a group, has not.
    ///
    /// # Errors
    ///
    /// As [`Self::is_there`].
    pub fn start_purpose(&mut self) -> Result<Purpose, End> {
        let elsewhere = self.is_there()?
            && self.whose() == Some(Whose::System)
            && process::effective_uid() != 0;
        Ok(if elsewhere { Purpose::StartElsewhere } else { Purpose::Start })
    }

    /// The first of the candidates that listens.
    fn connect(&mut self) -> Result<Option<Link>, End> {
        let mut refused = None;
        for candidate in self.daemons.candidates() {
            match Client::connect(&candidate.socket) {
                Ok(client) => return Ok(Some(Link { client, whose: candidate.whose })),
                Err(Refused::Absent) => {}
                // Where there is a choice, a daemon that is not for us is as good as none.
                Err(Refused::NotPermitted) if self.daemons.is_choice() => {}
                Err(error) => refused = refused.or_else(|| Some(refusal(error, candidate))),
            }
        }
        // A home that cannot be used is why nobody was found.
        self.daemons.paths()?;
        refused.map_or(Ok(None), Err)
    }

    /// Row 38: the daemon is of another version.
    fn mention_version(&mut self) {
        const OURS: &str = env!("CARGO_PKG_VERSION");
        let Some(hello) = self.link.as_ref().and_then(|link| link.client.hello()) else { return };
        let Some(text) = daemons::version_warning(&hello.version, OURS) else { return };
        let may = !self.screen.json && self.screen.is_terminal();
        if may && self.daemons.is_time_to_mention_version() {
            self.screen.warning(&text, Some(daemons::VERSION_HINT));
        }
    }
}

/// Row 35.
#[must_use]
pub fn no_daemon() -> End {
    Failure::new(Exit::NoDaemon, "no daemon is running").hint("pmd start <script>").into()
}

/// Rows 36 and 46, and what else may be wrong with a socket.
fn refusal(refused: Refused, candidate: &daemons::Candidate) -> End {
    let path = candidate.socket.display();
    match refused {
        Refused::Absent => return no_daemon(),
        Refused::NotPermitted => match candidate.whose {
            Whose::System => {
                Failure::new(Exit::NotPermitted, "not permitted to talk to the system daemon")
                    .hint("sudo, or: sudo usermod -aG pmd <user>")
            }
            Whose::User | Whose::Given => Failure::new(
                Exit::NotPermitted,
                format!("not permitted to talk to the daemon at '{path}'"),
            ),
        },
        Refused::TooLong(length) => Failure::new(
            Exit::Invalid,
            format!("socket path is {length} bytes long, the limit is 107"),
        )
        .hint("PMD_HOME=/run/pmd"),
        Refused::Other(error) => Failure::new(
            Exit::NoDaemon,
            format!("cannot connect to '{path}': {}", in_words(&error)),
        ),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(refused: Refused, whose: Whose) -> Failure {
        let candidate = daemons::Candidate { socket: "/x/pmd.sock".into(), whose };
        match refusal(refused, &candidate) {
            End::Failed(failure) => failure,
            End::PipeClosed | End::WasDaemon(_) => panic!("nothing was told"),
        }
    }

    #[test]
    fn a_socket_that_is_not_for_us_is_told_with_the_way_in() {
        let failure = told(Refused::NotPermitted, Whose::System);
        assert_eq!(failure.exit, Exit::NotPermitted);
        assert_eq!(failure.message, "not permitted to talk to the system daemon");
        assert_eq!(failure.hint.as_deref(), Some("sudo, or: sudo usermod -aG pmd <user>"));
        let given = told(Refused::NotPermitted, Whose::Given);
        assert_eq!(given.message, "not permitted to talk to the daemon at '/x/pmd.sock'");
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        assert_eq!(told(Refused::Absent, Whose::User).exit, Exit::NoDaemon);
        assert_eq!(told(Refused::TooLong(121), Whose::Given).exit, Exit::Invalid);
        let error = std::io::Error::from_raw_os_error(11);
        assert_eq!(told(Refused::Other(error), Whose::User).exit, Exit::NoDaemon);
    }
}
