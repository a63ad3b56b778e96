//! What a worker says, and how it is answered.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::proto::ipc::members::{members, string};

/// Connections that wait to be accepted, where a worker does not say how many.
const BACKLOG: i32 = 511;
/// `UV_TCP_IPV6ONLY`, `UV_UDP_IPV6ONLY`.
const V6_ONLY: i64 = 1;
/// `UV_UDP_REUSEADDR`.
const REUSE: i64 = 4;

/// One message of a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Said<'a> {
    Query(Box<Query<'a>>),
    /// It listens.
    Listening,
    /// It has closed what it got under this key.
    Close {
        key: Cow<'a, str>,
    },
    /// It leaves by itself, and waits for our word.
    Leaving {
        seq: u64,
    },
    /// It took the connection that came with our message `ack`, or did not.
    Answer {
        ack: u64,
        accepted: bool,
    },
    /// Nothing that anybody waits for: `online`, or what a later Node may say.
    Other,
}

/// It wants to listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Query<'a> {
    pub seq: u64,
    /// What names the socket: the same for all who ask for the same.
    pub key: String,
    /// The errno, where it cannot be told what is wanted.
    pub wish: Result<Wish, i32>,
    /// Kept with the socket, for those who come later: JSON text.
    pub data: &'a str,
}

/// What is to be listened on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wish {
    /// `host` `None`: every address. Port 0: any that is free.
    Tcp {
        host: Option<IpAddr>,
        port: u16,
        v6_only: bool,
        backlog: i32,
    },
    Udp {
        host: Option<IpAddr>,
        port: u16,
        v6_only: bool,
        reuse: bool,
    },
    /// `mode`: rights that everybody is to have to it besides, as in `chmod(2)`.
    Unix {
        path: String,
        backlog: i32,
        mode: u32,
    },
    /// What the program was given under this number when it was started.
    Given(i32),
}

impl<'a> Said<'a> {
    /// Reads an object, JSON text. Whatever is wrong with it, it means nothing.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let all = Members(text);
        if let Some(ack) = all.number("ack").and_then(|ack| u64::try_from(ack).ok()) {
            return Self::Answer { ack, accepted: all.get("accepted") == Some("true") };
        }
        let seq = all.number("seq").and_then(|seq| u64::try_from(seq).ok());
        match (all.string("act").as_deref(), seq) {
            (Some("queryServer"), Some(seq)) => Self::Query(Box::new(Query {
                seq,
                key: all.key(),
                wish: all.wish(),
                data: all.get("data").unwrap_or("null"),
            })),
            (Some("listening"), _) => Self::Listening,
            (Some("close"), _) => match all.string("key") {
                Some(key) => Self::Close { key },
                None => Self::Other,
            },
            (Some("exitedAfterDisconnect"), Some(seq)) => Self::Leaving { seq },
            _ => Self::Other,
        }
    }
}

/// The members of an object; of one that comes twice the last counts.
struct Members<'a>(&'a str);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let found = members(self.0).filter(|(key, _)| key.get(1..key.len() - 1) == Some(name));
        found.last().map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(string)
    }

    /// As Node writes it.
    fn key(&self) -> String {
        let mut key = String::new();
        for (at, name) in ["address", "port", "addressType", "fd", "index"].iter().enumerate() {
            let value = self.get(name).unwrap_or("undefined");
            let text = string(value).unwrap_or(Cow::Borrowed(value));
            if at > 0 {
                key.push(':');
            }
            key.push_str(&text);
        }
        key
    }

    fn wish(&self) -> Result<Wish, i32> {
        let invalid = super::errno::INVALID;
        if let Some(fd) = self.number("fd").filter(|&fd| fd >= 0) {
            return i32::try_from(fd).map(Wish::Given).map_err(|_| super::errno::BAD_DESCRIPTOR);
        }
        let address = self.string("address").filter(|address| !address.is_empty());
        let backlog = self.number("backlog").and_then(|number| i32::try_from(number).ok());
        let backlog = backlog.filter(|&number| number > 0).unwrap_or(BACKLOG);
        let flags = self.number("flags").unwrap_or_default();
        let kind = self.get("addressType").unwrap_or_default();
        if kind == "-1" {
            let says = |name| self.get(name) == Some("true");
            let mode = if says("readableAll") { 0o444 } else { 0 };
            let mode = if says("writableAll") { mode | 0o222 } else { mode };
            let path = address.ok_or(invalid)?.into_owned();
            return Ok(Wish::Unix { path, backlog, mode });
        }
        let port = self.number("port").unwrap_or_default();
        let port = u16::try_from(port).map_err(|_| invalid)?;
        let host = match address {
            Some(address) => Some(address.parse::<IpAddr>().map_err(|_| invalid)?),
            None => None,
        };
        let v6_only = flags & V6_ONLY != 0;
        match kind {
            "4" | "6" => Ok(Wish::Tcp { host, port, v6_only, backlog }),
            "\"udp4\"" | "\"udp6\"" => {
                Ok(Wish::Udp { host, port, v6_only, reuse: flags & REUSE != 0 })
            }
            _ => Err(invalid),
        }
    }
}

/// A message without a handle, its end included.
#[must_use]
pub fn plain(members: &str, seq: u64) -> String {
    format!("{{\"cmd\":\"NODE_CLUSTER\",{members},\"seq\":{seq}}}\n")
}

/// A message that a handle comes with, its end included.
#[must_use]
pub fn with_handle(members: &str, seq: u64) -> String {
    format!(
        "{{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{}}}\n",
        plain(members, seq).trim_end()
    )
}

/// The members of the answer to a query. `errno`: `0`, `null`, or a negated one; `more`: members
/// that follow.
#[must_use]
pub fn answer(errno: &str, key: &str, ack: u64, data: &str, more: &str) -> String {
    let mut text = format!("\"errno\":{errno},\"key\":");
    quote(key, &mut text);
    let _ = write!(text, ",\"ack\":{ack},\"data\":{data}{more}");
    text
}

/// The members of the message that a connection comes with.
#[must_use]
pub fn connection(key: &str) -> String {
    let mut text = "\"act\":\"newconn\",\"key\":".to_owned();
    quote(key, &mut text);
    text
}

fn quote(word: &str, text: &mut String) {
    let quoted = serde_json::to_string(word);
    text.push_str(quoted.as_deref().unwrap_or("\"\""));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ipc::Message;

    fn query(members: &str) -> Query<'static> {
        let text = format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer",{members},"seq":7}}"#);
        let Said::Query(query) = Said::read(text.leak()) else { panic!("{members}") };
        *query
    }

    #[test]
    fn captured_messages() {
        let rows = [
            (r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, Said::Other),
            (
                r#"{"cmd":"NODE_CLUSTER","ack":13,"accepted":true,"seq":3}"#,
                Said::Answer { ack: 13, accepted: true },
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","ack":13,"accepted":false,"seq":3}"#,
                Said::Answer { ack: 13, accepted: false },
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"close","key":"127.0.0.1:18081:4:undefined:0","seq":5}"#,
                Said::Close { key: "127.0.0.1:18081:4:undefined:0".into() },
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":null,"port":1,"addressType":4,"seq":2}"#,
                Said::Listening,
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":9}"#,
                Said::Leaving { seq: 9 },
            ),
            (r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect"}"#, Said::Other),
            (r#"{"cmd":"NODE_CLUSTER","act":"queryServer","port":1}"#, Said::Other),
            (r#"{"cmd":"NODE_CLUSTER","act":"close","key":5}"#, Said::Other),
            (r#"{"cmd":"NODE_CLUSTER","act":"dance","seq":-1}"#, Said::Other),
            (r#"{"cmd":"NODE_CLUSTER","ack":-3,"act":"online"}"#, Said::Other),
            ("[]", Said::Other),
        ];
        for (text, said) in rows {
            assert_eq!(Said::read(text), said, "{text}");
        }
    }

    #[test]
    fn what_is_to_be_listened_on() {
        let (v4, v6) = ("127.0.0.1".parse().ok(), "::1".parse().ok());
        let tcp = |host, port, v6_only, backlog| Ok(Wish::Tcp { host, port, v6_only, backlog });
        let udp = |host, port, reuse| Ok(Wish::Udp { host, port, v6_only: false, reuse });
        let unix = |path: &str, mode| Ok(Wish::Unix { path: path.to_owned(), backlog: 511, mode });
        let rows = [
            (
                r#""address":"127.0.0.1","port":80,"addressType":4,"flags":0,"backlog":0"#,
                tcp(v4, 80, false, 511),
            ),
            (
                r#""address":"::1","port":80,"addressType":6,"flags":1,"backlog":5"#,
                tcp(v6, 80, true, 5),
            ),
            (
                r#""address":null,"port":0,"addressType":4,"backlog":false"#,
                tcp(None, 0, false, 511),
            ),
            (r#""address":null,"port":1,"addressType":4,"backlog":-4"#, tcp(None, 1, false, 511)),
            (
                r#""address":"127.0.0.1","port":53,"addressType":"udp4","fd":-1,"flags":4"#,
                udp(v4, 53, true),
            ),
            (r#""address":"::1","port":53,"addressType":"udp6""#, udp(v6, 53, false)),
            (r#""address":"/run/a.sock","port":-1,"addressType":-1"#, unix("/run/a.sock", 0)),
            (
                r#""address":"/a","port":-1,"addressType":-1,"readableAll":true,"writableAll":true"#,
                unix("/a", 0o666),
            ),
            (r#""address":null,"port":null,"addressType":null,"fd":3"#, Ok(Wish::Given(3))),
            (r#""fd":4294967296"#, Err(9)),
            (r#""address":"/a","port":-1,"addressType":4"#, Err(22)),
            (r#""address":"example.org","port":1,"addressType":4"#, Err(22)),
            (r#""address":"127.0.0.1","port":65536,"addressType":4"#, Err(22)),
            (r#""address":"127.0.0.1","port":1,"addressType":"tcp""#, Err(22)),
            (r#""address":"","port":-1,"addressType":-1"#, Err(22)),
        ];
        for (members, wish) in rows {
            assert_eq!(query(members).wish, wish, "{members}");
        }
    }

    #[test]
    fn the_key_is_nodes() {
        let text =
            r#""index":0,"data":{"a":[1,"}"]},"address":"127.0.0.1","port":18081,"addressType":4"#;
        let query = query(text);
        assert_eq!(query.key, "127.0.0.1:18081:4:undefined:0");
        assert_eq!((query.seq, query.data), (7, r#"{"a":[1,"}"]}"#));
    }

    #[test]
    fn what_is_answered_is_json_of_one_line() {
        let key = "a\"\n\u{2028}";
        let members = answer("-98", key, 1, "null", "");
        for line in [plain(&members, 11), with_handle(&connection(key), 13)] {
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let message = Message::read(line.as_bytes()).unwrap();
            assert!(message.cmd.is_some());
        }
        assert_eq!(
            with_handle(&answer("0", "k", 1, "null", ""), 11),
            concat!(
                r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","errno":0,"#,
                r#""key":"k","ack":1,"data":null,"seq":11}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn altered_bytes_never_panic() {
        let text = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"address":"::","port":1,"addressType":6,"seq":1}"#;
        for at in 0..text.len() {
            for byte in [b'"', b'{', b'}', b',', b':', b'\\', b'-', b'9'] {
                let mut altered = text.as_bytes().to_vec();
                altered[at] = byte;
                if let Some(message) = Message::read(&altered) {
                    let _ = Said::read(message.text);
                }
            }
        }
    }
}
