//! `pmd daemon` and `pmd run`: where the command line becomes the daemon.

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::grammar::Opt;
use crate::cli::session::Session;

/// The options of `pmd run`.
pub const RUN_OPTIONS: &[Opt] = &[];

/// `pmd daemon`.
pub fn daemon(_session: &mut Session, _parsed: &Parsed) -> Run {
    Err(Failure::new(Exit::Failed, "this build has no daemon").into())
}

/// `pmd run`.
pub fn run(_session: &mut Session, _parsed: &Parsed) -> Run {
    Err(Failure::new(Exit::Failed, "this build has no daemon").into())
}
