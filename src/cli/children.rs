//! The two programs that the command line itself starts: node for configuration files, and a
//! daemon where none runs.
//!
//! They are waited for and have nothing in common with what the daemon supervises: no group, no
//! session, no pipes of their own. So they come from the standard library and not from
//! `sys::spawn`.

use std::path::Path;
use std::process::Command;

/// A command that inherits this process's environment.
#[expect(clippy::disallowed_methods, reason = "the command line's own helpers, waited for at once")]
pub fn command(program: &Path) -> Command {
    Command::new(program)
}
