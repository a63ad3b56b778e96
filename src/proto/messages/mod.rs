//! JSON messages: what control clients say and are told, whatever carries it.
//!
//! [`request`] understands what a client asks, [`session`] keeps what one client is owed and
//! wants to hear, [`event`] and [`entry`] render notices and processes, [`error`] lists the codes.
//! Source of the shapes: the WebSocket API document, parts A2 to A9, and the control protocol.

pub mod carrier;
pub mod channel;
pub mod entry;
pub mod error;
pub mod event;
pub mod health;
pub mod metrics;
pub mod request;
pub mod session;
pub mod stamp;
