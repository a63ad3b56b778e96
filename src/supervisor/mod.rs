//! Policy: decides what becomes of processes.
//!
//! Inputs and the time go in, effects come out; no I/O, no clock, no randomness of its own.

pub mod spec;
pub mod vocabulary;
