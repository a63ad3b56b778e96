//! Wire formats, understood from memory: bytes to requests, replies and notices to bytes.
//!
//! No descriptor, no clock, no table of processes: a protocol can be fed one byte at a time in a
//! test. [`messages`] is the layer of JSON messages that every interface of pmd's own shares;
//! [`control`] carries it as lines over the Unix socket. [`protocol`] has the registry.

pub mod agent;
pub mod buffer;
pub mod cluster;
pub mod control;
pub mod fetch;
pub mod http;
pub mod ipc;
pub mod messages;
pub mod pm2;
pub mod protocol;
pub mod ws;
