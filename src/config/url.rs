//! URLs of health checks: `http://host[:port][/path][?query]`.
//!
//! Pure. As much of RFC 3986 as a request needs; what it does not allow is refused, not repaired.

use std::net::Ipv6Addr;

/// A longer one is refused, in bytes.
const MAX_LENGTH: usize = 2048;

/// What a request needs of a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpUrl<'a> {
    /// A name or an address; without the brackets of an IPv6 address.
    pub host: &'a str,
    pub port: u16,
    /// What stands in the header `Host`.
    pub authority: &'a str,
    /// Path and query; begins with `/` or is empty, which means `/`.
    pub target: &'a str,
}

/// Reads a URL. A fragment is left out: it is for whoever reads the answer.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence.
pub fn parse(text: &str) -> Result<HttpUrl<'_>, &'static str> {
    if text.len() > MAX_LENGTH {
        return Err("is longer than 2048 bytes");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that a URL cannot have");
    }
    let (scheme, rest) = text.split_once("://").ok_or("must begin with http://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err("cannot be https: this pmd speaks no TLS"),
        _ => return Err("must begin with http://"),
    }
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err("cannot have a user name or password");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("has no valid host")?;
            host.parse::<Ipv6Addr>().map_err(|_| "has no valid host")?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or("has no valid port")?),
            };
            (host, port)
        }
        None => authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p))),
    };
    if !is_host(host) {
        return Err("has no valid host");
    }
    let port = match port {
        None | Some("") => 80,
        Some(digits) => port_number(digits).ok_or("has no valid port")?,
    };
    Ok(HttpUrl { host, port, authority, target })
}

/// Whether this can be the name or address of a host.
#[must_use]
pub fn is_host(host: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let fits = !host.is_empty() && host.len() <= 253 && !host.starts_with('-');
    fits && (host.bytes().all(is_name) || host.parse::<Ipv6Addr>().is_ok())
}

fn port_number(digits: &str) -> Option<u16> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&port| all && port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_a_port_and_a_target() {
        for (text, host, port, authority, target) in [
            ("http://127.0.0.1:3000/health", "127.0.0.1", 3000, "127.0.0.1:3000", "/health"),
            ("HTTP://web.local", "web.local", 80, "web.local", ""),
            ("http://a_b:/x?y=1#z", "a_b", 80, "a_b:", "/x?y=1"),
            ("http://localhost?deep", "localhost", 80, "localhost", "?deep"),
            ("http://[::1]:8080/", "::1", 8080, "[::1]:8080", "/"),
            ("http://[::1]", "::1", 80, "[::1]", ""),
        ] {
            assert_eq!(parse(text), Ok(HttpUrl { host, port, authority, target }), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_a_reason() {
        for (text, reason) in [
            ("https://x/", "cannot be https: this pmd speaks no TLS"),
            ("ftp://x/", "must begin with http://"),
            ("localhost:3000", "must begin with http://"),
            ("", "must begin with http://"),
            ("http://", "has no valid host"),
            ("http:///x", "has no valid host"),
            ("http://a b/", "has characters that a URL cannot have"),
            ("http://a/\r\nX: y", "has characters that a URL cannot have"),
            ("http://u:p@x/", "cannot have a user name or password"),
            ("http://x:0/", "has no valid port"),
            ("http://x:99999/", "has no valid port"),
            ("http://x:-1/", "has no valid port"),
            ("http://::1/", "has no valid host"),
            ("http://[::1/", "has no valid host"),
            ("http://[::1]80/", "has no valid port"),
            ("http://[localhost]/", "has no valid host"),
        ] {
            assert_eq!(parse(text), Err(reason), "{text}");
        }
        assert!(parse(&format!("http://x/{}", "y".repeat(2048))).is_err());
    }
}
