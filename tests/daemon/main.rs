//! The real program with a real daemon and real children, seen from outside.
//!
//! What the command line alone does is tested in `tests/cli`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod agent;
mod channel;
mod clock;
mod cluster;
mod control;
mod crash_points;
mod errors;
mod fields;
mod groups;
mod harness;
mod health;
mod hostile_clients;
mod ipevents;
mod keeper;
mod life;
mod logs;
mod metrics;
mod pm2;
mod ports;
mod run;
mod state;
mod trees;
mod watch;
