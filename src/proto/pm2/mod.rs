//! PM2's own wire: what the `pm2` command and pm2-interface speak with its daemon, unmodified.
//!
//! [`amp`] is the framing of both sockets, [`rpc`] the conversation on `rpc.sock` with its
//! [`methods`], [`bus`] what goes to every client of `pub.sock`, [`view`] a process as both show it.

pub mod amp;
pub mod bus;
pub mod methods;
pub mod object;
pub mod rpc;
pub mod view;

#[cfg(test)]
mod tests;
