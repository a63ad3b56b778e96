//! Node's cluster protocol, the primary's side: how workers come to listen on one port.
//!
//! It is spoken over the workers' channels (`proto::ipc`), in objects with `"cmd":"NODE_CLUSTER"`.
//! A worker asks for a socket (`queryServer`) and gets it, or, in round robin, is handed one
//! connection after the other (`newconn`). `seq` counts the messages of one sender on one channel;
//! `ack` repeats the other side's.
//!
//! ```text
//! > {"cmd":"NODE_CLUSTER","act":"online","seq":0}
//! > {"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":80,
//!    "addressType":4,"flags":0,"backlog":0,"seq":1}
//! < {"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","errno":0,"key":KEY,
//!    "ack":1,"data":null,"seq":0}}                                       and with it the socket
//! < {"cmd":"NODE_CLUSTER","errno":null,"key":KEY,"ack":1,"data":null,"sockname":{..},"seq":0}
//!                                                                        or this, in round robin
//! > {"cmd":"NODE_CLUSTER","act":"listening","index":0,..,"seq":2}
//! < {"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":KEY,
//!    "seq":1}}                                                       and with it the connection
//! > {"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}
//! > {"cmd":"NODE_CLUSTER","act":"close","key":KEY,"seq":4}
//! < {"cmd":"NODE_CLUSTER","act":"disconnect","seq":2}
//! ```
//!
//! | file      | what it knows                                               |
//! |-----------|-------------------------------------------------------------|
//! | `message` | what a worker says, and how it is answered                  |
//! | `primary` | who listens on what, and which connection is whose; decides |
//!
//! Source: Node 20 (`lib/internal/cluster`), observed with Node 20.20.2.

pub mod message;
pub mod primary;

pub use message::{Query, Said, Wish};
pub use primary::{Deed, Kind, Opened, Parcel, Primary, SocketId, World};

/// Linux numbers, as answers have them: negated.
pub mod errno {
    pub const BAD_DESCRIPTOR: i32 = 9;
    pub const FORBIDDEN: i32 = 13;
    pub const INVALID: i32 = 22;
    pub const TOO_MANY_FILES: i32 = 24;
}
