//! What a line of a program means: the shape decides, nothing is declared.
//!
//! The first test that holds names the class:
//!
//! | test                                                                             | class    |
//! |----------------------------------------------------------------------------------|----------|
//! | no object                                                                        | plain    |
//! | `cmd` is a string that begins with `NODE_`                                       | node     |
//! | `arguments` is an array, and `method` is `"methods"`, or, of a program with an    | dnode    |
//! | open session, a string or an integer                                             |          |
//! | `type` is one of ipevents' seven, `event` a string, `args` an array, `pids` an   | ipevents |
//! | array that is not empty                                                          |          |
//! | `type` and `data` are what JavaScript takes for true                             | bus      |
//! | has `node_version`                                                               | version  |
//! | anything else                                                                    | plain    |
//!
//! They cannot be confused: frames of dnode have no `type`, those of ipevents have no `data`, and a
//! message for PM2's bus has both.
//!
//! Source: dnode-protocol 0.2, ipevents 0.1.3, pm2 7.0.4.

use std::borrow::Cow;

use crate::proto::ipc::members::{is_json, is_truthy, members, string};

/// The types of ipevents.
const IPEVENTS: [&str; 7] =
    ["toParents", "toChilds", "toSiblings", "toChild", "toGM", "sendTo", "broadcast"];

/// Whom a message is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Whoever listens.
    Plain,
    /// Node itself; never told to anybody.
    Node,
    /// The session of intercom.
    Dnode,
    /// The hub of ipevents.
    Ipevents,
    /// Whoever listens, under the name in its `type`.
    Bus,
    /// It only says which Node runs the program.
    Version,
}

/// One message, its members as JSON text where it is an object that has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// All of it, JSON.
    pub text: &'a str,
    is_object: bool,
    pub kind: Option<&'a str>,
    pub data: Option<&'a str>,
    pub cmd: Option<&'a str>,
    /// What Node wrapped, in a `NODE_HANDLE`.
    pub inner: Option<&'a str>,
    pub node_version: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) arguments: Option<&'a str>,
    pub(super) callbacks: Option<&'a str>,
    pub(super) links: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) args: Option<&'a str>,
    pub(super) pids: Option<&'a str>,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) route: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Reads a line; `None`: it is not JSON.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim_ascii();
        is_json(text).then(|| Self::of(text))
    }

    /// Looks at JSON text. Of a member that comes twice the last one counts.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let mut message = Self { text, is_object: text.starts_with('{'), ..Self::default() };
        for (name, value) in members(text) {
            let Some(name) = string(name) else { continue };
            let member = match &*name {
                "type" => &mut message.kind,
                "data" => &mut message.data,
                "cmd" => &mut message.cmd,
                "msg" => &mut message.inner,
                "node_version" => &mut message.node_version,
                "method" => &mut message.method,
                "arguments" => &mut message.arguments,
                "callbacks" => &mut message.callbacks,
                "links" => &mut message.links,
                "from" => &mut message.from,
                "to" => &mut message.to,
                "route" => &mut message.route,
                "event" => &mut message.event,
                "args" => &mut message.args,
                "pids" => &mut message.pids,
                _ => continue,
            };
            *member = Some(value);
        }
        message
    }

    /// What it is. `in_session`: the program has opened one with intercom.
    #[must_use]
    pub fn class(&self, in_session: bool) -> Class {
        if !self.is_object {
            return Class::Plain;
        }
        if self.cmd.and_then(string).is_some_and(|cmd| cmd.starts_with("NODE_")) {
            return Class::Node;
        }
        let method = self.method.unwrap_or_default();
        let opens = string(method).is_some_and(|method| method == "methods");
        let calls = in_session && (method.starts_with('"') || is_integer(method));
        if is_array(self.arguments) && (opens || calls) {
            return Class::Dnode;
        }
        let kind = self.kind();
        if kind.is_some_and(|kind| IPEVENTS.contains(&&*kind))
            && self.event.is_some_and(|event| event.starts_with('"'))
            && is_array(self.args)
            && is_array(self.pids)
            && self.pids.is_some_and(|pids| {
                !pids.get(1..).unwrap_or_default().trim_start().starts_with(']')
            })
        {
            return Class::Ipevents;
        }
        if [self.kind, self.data].iter().all(|member| member.is_some_and(is_truthy)) {
            return Class::Bus;
        }
        if self.node_version.is_some() { Class::Version } else { Class::Plain }
    }

    /// Its `type`, where that is a string.
    #[must_use]
    pub fn kind(&self) -> Option<Cow<'a, str>> {
        self.kind.and_then(string)
    }
}

fn is_array(json: Option<&str>) -> bool {
    json.is_some_and(|json| json.starts_with('['))
}

fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str, in_session: bool) -> Class {
        Message::read(text.as_bytes()).unwrap().class(in_session)
    }

    #[test]
    fn the_table() {
        // Text, its class before and in a session.
        let rows = [
            // 1
            (r#""ready""#, Class::Plain, Class::Plain),
            ("42", Class::Plain, Class::Plain),
            ("true", Class::Plain, Class::Plain),
            ("null", Class::Plain, Class::Plain),
            (r#"[{"type":"a","data":1}]"#, Class::Plain, Class::Plain),
            // 2
            (r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":{}}"#, Class::Node, Class::Node),
            (r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, Class::Node, Class::Node),
            (r#"{"cmd":"\u004eODE_X","type":"a","data":1}"#, Class::Node, Class::Node),
            (r#"{"cmd":"node_x"}"#, Class::Plain, Class::Plain),
            (r#"{"cmd":["NODE_"]}"#, Class::Plain, Class::Plain),
            // 3
            (
                r#"{"method":"methods","arguments":[{"emit":"[Function]"}],"callbacks":{"0":["0","emit"]},"links":[]}"#,
                Class::Dnode,
                Class::Dnode,
            ),
            (r#"{"method":0,"arguments":["a"]}"#, Class::Plain, Class::Dnode),
            (r#"{"method":-1,"arguments":[]}"#, Class::Plain, Class::Dnode),
            (r#"{"method":"cull","arguments":[1]}"#, Class::Plain, Class::Dnode),
            (r#"{"method":0.5,"arguments":[]}"#, Class::Plain, Class::Plain),
            (r#"{"method":1e3,"arguments":[]}"#, Class::Plain, Class::Plain),
            (r#"{"method":null,"arguments":[]}"#, Class::Plain, Class::Plain),
            (r#"{"method":"methods"}"#, Class::Plain, Class::Plain),
            (r#"{"method":"methods","arguments":{}}"#, Class::Plain, Class::Plain),
            // 4
            (
                r#"{"from":"1","pids":["1"],"type":"toParents","event":"online","args":[]}"#,
                Class::Ipevents,
                Class::Ipevents,
            ),
            (
                r#"{"pids":[1],"type":"sendTo","event":"","args":[0],"data":1}"#,
                Class::Ipevents,
                Class::Ipevents,
            ),
            (r#"{"pids":[],"type":"broadcast","event":"a","args":[]}"#, Class::Plain, Class::Plain),
            (
                r#"{"pids":[  ],"type":"broadcast","event":"a","args":[]}"#,
                Class::Plain,
                Class::Plain,
            ),
            (r#"{"pids":["1"],"type":"toAll","event":"a","args":[]}"#, Class::Plain, Class::Plain),
            (r#"{"pids":["1"],"type":"toGM","event":1,"args":[]}"#, Class::Plain, Class::Plain),
            (r#"{"pids":["1"],"type":"toGM","event":"a"}"#, Class::Plain, Class::Plain),
            // 5
            (r#"{"type":"process:hello","data":{"lang":"sh"}}"#, Class::Bus, Class::Bus),
            (r#"{"type":7,"data":"x"}"#, Class::Bus, Class::Bus),
            (r#"{"data":1,"type":"a","node_version":"1"}"#, Class::Bus, Class::Bus),
            (r#"{"type":"x","data":0}"#, Class::Plain, Class::Plain),
            (r#"{"type":"x","data":""}"#, Class::Plain, Class::Plain),
            (r#"{"type":"x","data":null}"#, Class::Plain, Class::Plain),
            (r#"{"type":"x","data":false}"#, Class::Plain, Class::Plain),
            (r#"{"type":"x"}"#, Class::Plain, Class::Plain),
            (r#"{"type":"","data":1}"#, Class::Plain, Class::Plain),
            (r#"{"type":"x","data":1,"data":0}"#, Class::Plain, Class::Plain),
            // 6
            (r#"{"node_version":"20.20.2"}"#, Class::Version, Class::Version),
            // 7
            ("{}", Class::Plain, Class::Plain),
            (r#"{"method":"mine","foo":[1]}"#, Class::Plain, Class::Plain),
        ];
        for (text, before, during) in rows {
            assert_eq!((class(text, false), class(text, true)), (before, during), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_no_message() {
        for line in ["ready", "{", "{}{}", "{\"a\":}", "\"\u{0}\"", "'a'", "NaN", "{\"a\":1,}", ""]
        {
            assert!(Message::read(line.as_bytes()).is_none(), "{line}");
        }
        assert!(Message::read(b"\"\xff\"").is_none());
    }

    #[test]
    fn values_are_kept_as_they_came() {
        let line = " {\"type\":\"t\\u00e4\", \"data\" : [1.0e1, \"\\ud800\"] }\r";
        let message = Message::read(line.as_bytes()).unwrap();
        assert_eq!(message.text, line.trim());
        assert_eq!(message.kind().as_deref(), Some("tä"));
        assert_eq!(message.data, Some("[1.0e1, \"\\ud800\"]"));
    }
}
