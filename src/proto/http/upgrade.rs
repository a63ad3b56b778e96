//! The upgrade of an HTTP connection to a WebSocket. Source: RFC 6455, 4.2.

use tungstenite::handshake::derive_accept_key;

use crate::proto::http::head::{Head, Length, Name};
use crate::proto::http::response::Response;
use crate::proto::messages::error::{Code, ErrorReply};

/// The subprotocol that a client may offer.
const SUBPROTOCOL: &str = "pmd.v1";

/// The response that turns the connection into a WebSocket.
///
/// # Errors
///
/// The response to what is no such request.
pub fn accept(head: &Head) -> Result<Response, Response> {
    let refuse = |text: &str| {
        let error = ErrorReply::new(Code::InvalidMessage, text);
        Response::refusal(426, &error).with("Upgrade", "websocket")
    };
    if head.method != "GET"
        || !head.lists(Name::Upgrade, "websocket")
        || !head.lists(Name::Connection, "upgrade")
    {
        return Err(refuse("this is a WebSocket: GET with 'Upgrade: websocket'"));
    }
    if head.get(Name::WsVersion) != Some("13") {
        let refusal = refuse("version 13 of the WebSocket protocol is spoken here");
        return Err(refusal.with("Sec-WebSocket-Version", "13"));
    }
    let key = head.get(Name::WsKey).filter(|key| key.len() == 24 && key.ends_with("=="));
    let Some(key) = key.filter(|_| head.length == Length::Known(0)) else {
        let error = ErrorReply::new(Code::InvalidMessage, "not the handshake of a WebSocket");
        return Err(Response::error(&error));
    };
    let response = Response::new(101, "", *b"")
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Accept", derive_accept_key(key.as_bytes()));
    let mut offers = head.get(Name::WsProtocol).unwrap_or_default().split(',').map(str::trim);
    Ok(match offers.any(|offer| offer == SUBPROTOCOL) {
        true => response.with("Sec-WebSocket-Protocol", SUBPROTOCOL),
        false => response,
    })
}
