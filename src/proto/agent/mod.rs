//! What pmd's agent speaks: to the back ends of PM2's agent, and to brokers of MQTT.
//!
//! | file        | what it knows                                                    |
//! |-------------|------------------------------------------------------------------|
//! | `endpoint`  | where a connection leads: URLs                                   |
//! | `answer`    | the client's half of HTTP/1.1: requests and answers              |
//! | `websocket` | the client's half of RFC 6455                                    |
//! | `axon`      | what PM2's agent pushes, and the lines it is asked by (nssocket) |
//! | `cipher`    | how both are ciphered                                            |
//! | `mqtt`      | MQTT 3.1.1, as much of it as a client with QoS 0 and 1 needs     |
//! | `patch`     | the difference of two JSON values (RFC 6902)                     |
//!
//! Source of the first half: @pm2/agent 0.5.22 and 2.1.1, observed.

pub mod answer;
#[cfg(feature = "agent-axon")]
pub mod axon;
#[cfg(feature = "agent-axon")]
pub mod cipher;
pub mod endpoint;
pub mod mqtt;
pub mod patch;
pub mod websocket;
