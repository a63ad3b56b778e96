//! Where a connection of the agent leads.

use crate::config::url;
use crate::proto::http;

/// What is spoken there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Http,
    WebSocket,
    /// Host and port alone count, whatever stands around them.
    Axon,
    Mqtt,
}

impl Kind {
    /// Schemes, the port that goes without saying, and whether there is TLS.
    fn schemes(self) -> &'static [(&'static str, u16, bool)] {
        match self {
            Self::Http => &[("http", 80, false), ("https", 443, true)],
            Self::WebSocket => {
                &[("ws", 80, false), ("wss", 443, true), ("http", 80, false), ("https", 443, true)]
            }
            Self::Axon => &[("http", 80, false), ("tcp", 80, false), ("https", 443, true)],
            Self::Mqtt => &[("mqtt", 1883, false), ("tcp", 1883, false), ("mqtts", 8883, true)],
        }
    }
}

/// An end point, understood.
#[derive(Clone, Eq, PartialEq)]
pub struct Endpoint {
    pub scheme: &'static str,
    pub tls: bool,
    pub user: Option<(String, String)>,
    /// A name or an address; without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// What stands in the header `Host`.
    pub authority: String,
    /// Path and query; begins with `/`.
    pub target: String,
}

/// Without the password.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Whether this is meant as a URL, and not as the name of one.
#[must_use]
pub fn is_literal(text: &str) -> bool {
    text.contains("://")
}

impl Endpoint {
    /// Reads a URL; `https` and its kin only where this program speaks TLS.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the end of a sentence. The URL is not in it: it may have a password.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is no URL")?;
        let known = kind.schemes().iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name));
        let Some(&(scheme, port, tls)) = known else {
            let names: Vec<&str> = kind.schemes().iter().map(|&(name, ..)| name).collect();
            return Err(format!("must begin with {}://", names.join(":// or ")));
        };
        if tls && cfg!(not(feature = "tls")) {
            return Err(format!("cannot be {scheme}: this pmd speaks no TLS"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (user, rest) = match rest.get(..end).and_then(|authority| authority.rfind('@')) {
            None => (None, rest),
            Some(at) if kind == Kind::Mqtt => {
                let (user, host) = rest.split_at(at);
                (Some(credentials(user).ok_or("has no valid user name")?), &host[1..])
            }
            Some(_) => return Err("cannot have a user name or password".to_owned()),
        };
        let plain = format!("http://{rest}");
        let found = url::parse(&plain)?;
        let named =
            found.authority.rsplit(':').next().is_some_and(|end| end.parse::<u16>().is_ok())
                && found.authority.contains(':')
                && !found.authority.ends_with(']');
        let slash = if found.target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme,
            tls,
            user,
            host: found.host.to_owned(),
            port: if named { found.port } else { port },
            authority: found.authority.to_owned(),
            target: format!("{slash}{}", found.target),
        })
    }

    /// The same place with something behind its path.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        let base = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        self.target = format!("{base}{path}");
        self
    }
}

/// `user:password`, percent-encoded.
fn credentials(text: &str) -> Option<(String, String)> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Some((http::head::decode(user, false)?, http::head::decode(password, false)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_point_has_the_port_of_its_scheme_unless_it_names_one() {
        for (text, kind, host, port, target) in [
            ("ws://h/interaction?a=1", Kind::WebSocket, "h", 80, "/interaction?a=1"),
            ("http://[::1]:81", Kind::WebSocket, "::1", 81, "/"),
            ("mqtt://[::1]", Kind::Mqtt, "::1", 1883, "/"),
            ("mqtt://a%40b:p%3a1@h.example:1", Kind::Mqtt, "h.example", 1, "/"),
            ("http://h:9?x", Kind::Axon, "h", 9, "/?x"),
        ] {
            let found = Endpoint::parse(text, kind).unwrap();
            assert_eq!(
                (found.host.as_str(), found.port, found.target.as_str()),
                (host, port, target)
            );
        }
    }

    #[test]
    fn a_password_is_understood_and_never_shown() {
        let found = Endpoint::parse("mqtt://a%40b:p%3a1@h:1", Kind::Mqtt).unwrap();
        assert_eq!(found.user, Some(("a@b".to_owned(), "p:1".to_owned())));
        assert_eq!(format!("{found} {found:?}"), "mqtt://h:1 mqtt://h:1");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_an_end_point_that_needs_it_is_a_clear_error() {
        for (text, kind) in [("wss://h", Kind::WebSocket), ("mqtts://h", Kind::Mqtt)] {
            let said = Endpoint::parse(text, kind).unwrap_err();
            assert!(said.contains("no TLS"), "{text}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        for (text, kind, part) in [
            ("ftp://h", Kind::Http, "must begin with http:// or https://"),
            ("h:1", Kind::Mqtt, "is no URL"),
            ("ws://u:p@h", Kind::WebSocket, "user name"),
            ("mqtt://%zz@h", Kind::Mqtt, "user name"),
            ("mqtt://", Kind::Mqtt, "host"),
            ("ws://h:99999", Kind::WebSocket, "port"),
        ] {
            let said = Endpoint::parse(text, kind).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn a_path_goes_behind_the_one_there_is() {
        let root = Endpoint::parse("http://h/base/?q", Kind::Http).unwrap();
        assert_eq!(root.below("/api").target, "/base/api");
    }
}
