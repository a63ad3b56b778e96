//! The command line from outside: text, stream and exit code of what it says.
//!
//! Where a daemon is needed, a scripted one answers; the real one has tests of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod actions;
mod errors;
mod files;
mod harness;
mod logs;
mod looks;
