//! What a program says over its channel, and what is said to it.
//!
//! A channel is a stream socket. Both ways: UTF-8 JSON text, one value a line, ended by `\n`; no
//! greeting, no acknowledgement. It is what Node's `process.send` speaks, so that a program in any
//! language can speak it with a `printf`.
//!
//! | file      | what it knows                                             |
//! |-----------|-----------------------------------------------------------|
//! | `lines`   | lines out of what was read, lines on their way to a child |
//! | `message` | what a line is: the table of classes                      |
//! | `members` | an object's members as text, without reading their values |
//! | `dnode`   | a session of intercom: events and functions, both ways    |
//! | `graft`   | other values in place of some, found by their paths       |
//! | `hub`     | ipevents: messages between processes that form a tree     |
//! | `peer`    | a peer of the hub that is no child                        |
//! | `pattern` | which events a subscriber wants                           |
//!
//! Values are kept as the text they came as: JavaScript sends what `serde_json` cannot hold (lone
//! surrogates, endless nesting, numbers beyond all limits), and nothing here needs to look inside.
//!
//! Source: Node's documentation of `child_process`; observed with Node 20.

pub mod dnode;
pub mod graft;
pub mod hub;
pub mod lines;
pub mod members;
pub mod message;
pub mod pattern;
pub mod peer;

pub use lines::{Lines, Outgoing, Piece};
pub use message::{Class, Message};
pub use pattern::DELIMITER;

/// Tells a Node program that the handle it sent has arrived; until then it holds back all it says.
pub const HANDLE_ACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
