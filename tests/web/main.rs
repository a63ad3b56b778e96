//! The web interface of the real daemon, over real sockets: HTTP, REST, WebSocket, and who may use
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
// Shared with the tests of the daemon, of which not everything is needed here.
#![allow(dead_code)]

#[path = "../daemon/control.rs"]
mod control;
#[path = "../daemon/harness.rs"]
mod harness;

mod access;
mod client;
mod hostile;
mod http;
mod settings;
mod socket;
