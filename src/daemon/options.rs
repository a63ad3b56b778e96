//! How a daemon is asked to run.

use std::os::fd::OwnedFd;

use crate::config::paths::Paths;
use crate::config::web::Overrides;

/// What `pmd daemon` and `pmd run` ask for.
#[derive(Debug)]
pub struct Options {
    pub paths: Paths,
    /// Stay in front: own log to stderr.
    pub foreground: bool,
    /// Serve PM2's clients, unless the settings say otherwise.
    pub pm2: bool,
    /// Written to when the daemon answers (`ok`) or cannot start (the reason).
    pub ready: Option<OwnedFd>,
    /// The other end is the keeper's.
    pub keeper: Option<OwnedFd>,
    /// What it says about the web interface instead of the settings.
    pub web: Overrides,
}
