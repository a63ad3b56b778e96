//! pmd, a process manager for Linux hosts that have no room to waste.
//!
//! The modules in layer order; `tests/layering.rs` holds who may name whom.

/// What back ends and brokers elsewhere are told, and take orders from: a pure state machine.
pub mod agent;
/// Shared nouns: time, process ids, signals. Plain data.
pub mod base;
/// The user: commands, output, errors.
pub mod cli;
/// Declarations: app files, settings and command lines to valid specs.
pub mod config;
/// Where the layers meet: the loop that owns everything.
pub mod daemon;
/// JSON values, put together by code that exists once.
pub mod json;
/// First process of `pmd daemon`: holds descriptors, starts the daemon again.
pub mod keeper;
/// The data plane: what children write, and where it goes.
pub mod logs;
/// A queue from one thread to another.
pub mod mailbox;
/// A thread that reads what processes and the host use.
pub mod metrics;
/// Wire formats, understood from memory: bytes to requests, notices to bytes.
pub mod proto;
/// Waiting: mio behind a small generic type.
pub mod reactor;
/// Small maps and sets: sorted vectors.
pub mod sorted;
/// Policy: what becomes of processes, as a pure state machine.
pub mod supervisor;
/// The fence: all `unsafe`, all of libc, no knowledge of pmd.
pub mod sys;
/// The dashboard: its three files, as they are served.
pub mod web;
