//! The one program that the command line itself starts: node, for configuration files.
//!
//! It is waited for and has nothing in common with what the daemon supervises: no group, no
//! session, no pipes of its own. So it comes from the standard library and not from `sys::spawn`.

use std::path::Path;
use std::process::Command;

/// A command that inherits this process's environment.
#[expect(clippy::disallowed_methods, reason = "the command line's own helper, waited for at once")]
pub fn command(program: &Path) -> Command {
    Command::new(program)
}
