//! What people read: tables, pages of facts, log lines, lines about results. Pure: values in,
//! text out.

/// One line per log line.
pub mod lines;
/// The last column of the list, and the words for states.
pub mod note;
/// Everything about one process.
pub mod page;
/// One line per process that something was done to.
pub mod results;
/// The list.
pub mod table;
/// Text made fit for a terminal: widths, control characters, escape sequences.
pub mod text;
/// Points in time.
pub mod when;
