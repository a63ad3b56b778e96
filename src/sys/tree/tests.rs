//! Trees of real processes.
