//! Who may come in over TCP, where any local user and any web page can connect.
//!
//! In this order: the name under which the daemon is addressed (DNS rebinding), a token where one
//! is configured, which decides alone; else the page that asks (cross-site requests) and the user
//! at the other end. Source: the WebSocket API document, A3.

use std::hint::black_box;
use std::net::Ipv6Addr;

use crate::config::web::{Level, WebSettings};
use crate::proto::http::head::{Head, Name};
use crate::proto::messages::error::{Code, ErrorReply};

/// What a client that wants to show a token before its first message offers, in base64url.
const AUTH_PREFIX: &str = "pmd.auth.";

/// What is known of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The user at the other end; `None`: nobody can tell.
    pub uid: Option<u32>,
    /// The daemon's own user.
    pub own_uid: u32,
    /// It may show its token in its first message instead.
    pub may_wait: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Enter(Level),
    /// It shows its token later.
    Wait,
    Refuse(ErrorReply),
    /// A wrong token: counted.
    WrongToken,
}

/// Whether a request is addressed to this daemon.
///
/// # Errors
///
/// `FORBIDDEN_HOST`.
pub fn check_host(settings: &WebSettings, head: &Head) -> Result<(), ErrorReply> {
    let host = head.get(Name::Host).unwrap_or_default().to_ascii_lowercase();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, port)) => {
            let is_port = port.is_empty() || is_port(port.strip_prefix(':').unwrap_or("?"));
            if is_port && inside.parse::<Ipv6Addr>().is_ok() {
                return Ok(());
            }
            ""
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => "",
            None => &host,
        },
    };
    let is_ours = name == "localhost"
        || name.parse::<std::net::Ipv4Addr>().is_ok()
        || (!name.is_empty() && settings.allowed_hosts.iter().any(|allowed| allowed == name));
    if is_ours {
        return Ok(());
    }
    Err(ErrorReply::new(Code::ForbiddenHost, "this name is not one of this daemon's")
        .with("hint", "pmd set web.allowed_hosts <name>"))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Whether the page that asks, if a page asks, may: of this daemon itself, or listed.
#[must_use]
pub fn is_known_origin(settings: &WebSettings, head: &Head) -> bool {
    let Some(origin) = head.get(Name::Origin) else { return true };
    let host = head.get(Name::Host).unwrap_or_default();
    let is_own = origin
        .strip_prefix("http://")
        .is_some_and(|rest| !rest.is_empty() && rest.eq_ignore_ascii_case(host));
    is_own || is_listed_origin(settings, origin)
}

/// Whether a page of this origin may see responses.
#[must_use]
pub fn is_listed_origin(settings: &WebSettings, origin: &str) -> bool {
    settings.allowed_origins.iter().any(|allowed| allowed == origin)
}

/// The token that a request shows, in one of its forms.
#[must_use]
pub fn token_of(head: &Head) -> Option<String> {
    if let Some(value) = head.get(Name::Authorization) {
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        let is_ours =
            scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("apikey");
        return Some(if is_ours { token.trim().to_owned() } else { String::new() });
    }
    if let Some(token) = head.get(Name::ApiKey) {
        return Some(token.to_owned());
    }
    let offers = head.get(Name::WsProtocol)?.split(',').map(str::trim);
    let shown = offers.into_iter().find_map(|offer| offer.strip_prefix(AUTH_PREFIX))?;
    Some(base64url(shown).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
}

/// Decides about a request that is addressed to this daemon.
#[must_use]
pub fn judge(settings: &WebSettings, head: &Head, caller: &Caller) -> Verdict {
    if needs_token(settings) {
        return match token_of(head) {
            Some(token) => level_of(settings, &token).map_or(Verdict::WrongToken, Verdict::Enter),
            None if caller.may_wait => Verdict::Wait,
            None => Verdict::Refuse(ErrorReply::new(Code::Unauthorized, "a token is needed")),
        };
    }
    if !is_known_origin(settings, head) {
        let origin = head.get(Name::Origin).unwrap_or_default();
        return Verdict::Refuse(
            ErrorReply::new(Code::ForbiddenOrigin, "pages of this origin may not connect")
                .with("origin", origin)
                .with("hint", "pmd set web.allowed_origins <origin>"),
        );
    }
    let is_trusted = caller.uid.is_some_and(|uid| {
        uid == 0 || uid == caller.own_uid || settings.trusted_uids.contains(&uid)
    });
    if !is_trusted {
        let text = "this daemon serves another user";
        return Verdict::Refuse(
            ErrorReply::new(Code::ForbiddenUser, text)
                .with("hint", "pmd set web.token_file <file>"),
        );
    }
    match settings.anonymous {
        Level::None => Verdict::Refuse(ErrorReply::new(
            Code::Unauthorized,
            "nobody may enter without a token, and none is configured",
        )),
        level @ (Level::Read | Level::Full) => Verdict::Enter(level),
    }
}

/// Whether nobody gets in without a token.
#[must_use]
pub fn needs_token(settings: &WebSettings) -> bool {
    settings.token.is_some() || settings.read_token.is_some()
}

/// What a token opens. Takes as long for a wrong one as for the right one.
#[must_use]
pub fn level_of(settings: &WebSettings, token: &str) -> Option<Level> {
    let is = |known: &Option<String>| known.as_ref().is_some_and(|known| are_equal(known, token));
    match (is(&settings.token), is(&settings.read_token)) {
        (true, _) => Some(Level::Full),
        (false, true) => Some(Level::Read),
        (false, false) => None,
    }
}

/// Compares without telling by its duration where two texts differ. Their lengths are no secret.
fn are_equal(one: &str, other: &str) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let differences =
        one.bytes().zip(other.bytes()).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    black_box(differences) == 0
}

/// Decodes base64url without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const READ: &str = "fedcba9876543210";

    fn head(lines: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n");
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn with_tokens() -> WebSettings {
        let (token, read_token) = (Some(TOKEN.to_owned()), Some(READ.to_owned()));
        WebSettings { token, read_token, ..WebSettings::default() }
    }

    fn caller(uid: u32) -> Caller {
        Caller { uid: Some(uid), own_uid: 1000, may_wait: false }
    }

    fn code(verdict: Verdict) -> Option<Code> {
        match verdict {
            Verdict::Refuse(error) => Some(error.code),
            Verdict::Enter(_) | Verdict::Wait | Verdict::WrongToken => None,
        }
    }

    #[test]
    fn only_names_of_this_host_are_answered_to() {
        let settings =
            WebSettings { allowed_hosts: vec!["box.lan".into()], ..WebSettings::default() };
        let passes = |host: &str| check_host(&settings, &head(&format!("Host: {host}"))).is_ok();
        for host in [
            "localhost",
            "LOCALHOST:9615",
            "127.0.0.1:1",
            "10.0.0.1",
            "[::1]:80",
            "[::1]",
            "Box.lan:80",
        ] {
            assert!(passes(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "localhost:80:80",
            "localhost:",
            "[::1",
            "[::1]evil:80",
            "[evil]:80",
            "::1",
            "user@localhost",
        ] {
            assert!(!passes(host), "{host}");
        }
    }

    #[test]
    fn each_form_of_a_token_is_understood() {
        let token = |lines: &str| token_of(&head(&format!("Host: a\r\n{lines}")));
        assert_eq!(token("Authorization: Bearer abc").unwrap(), "abc");
        assert_eq!(token("authorization: apikey  abc ").unwrap(), "abc");
        assert_eq!(token("X-API-Key: abc").unwrap(), "abc");
        assert_eq!(token("Sec-WebSocket-Protocol: pmd.v1, pmd.auth.YWJjPz8_").unwrap(), "abc???");
        // One of another kind is a wrong one, not none.
        assert_eq!(token("Authorization: Basic abc").unwrap(), "");
        assert_eq!(token("Sec-WebSocket-Protocol: pmd.auth.=").unwrap(), "");
        assert_eq!(token("Sec-WebSocket-Protocol: pmd.v1"), None);
    }

    #[test]
    fn a_token_decides_alone() {
        let settings = with_tokens();
        let judged =
            |lines: &str| judge(&settings, &head(&format!("Host: a\r\n{lines}")), &caller(7));
        let foreign = "Origin: http://evil.example\r\n";
        assert_eq!(judged(&format!("{foreign}X-API-Key: {TOKEN}")), Verdict::Enter(Level::Full));
        assert_eq!(judged(&format!("X-API-Key: {READ}")), Verdict::Enter(Level::Read));
        assert_eq!(judged("X-API-Key: 0123456789abcdeX"), Verdict::WrongToken);
        assert_eq!(judged("X-API-Key: "), Verdict::WrongToken);
        assert_eq!(code(judged("Accept: */*")), Some(Code::Unauthorized));
        let waiting = Caller { may_wait: true, ..caller(1000) };
        assert_eq!(judge(&settings, &head("Host: a"), &waiting), Verdict::Wait);
    }

    #[test]
    fn without_a_token_page_and_user_decide() {
        let mut settings =
            WebSettings { allowed_origins: vec!["null".into()], ..WebSettings::default() };
        let judged = |settings: &WebSettings, origin: &str, uid| {
            let line =
                if origin.is_empty() { String::new() } else { format!("\r\nOrigin: {origin}") };
            judge(settings, &head(&format!("Host: localhost:9615{line}")), &uid)
        };
        for origin in ["", "http://localhost:9615", "null"] {
            assert_eq!(
                judged(&settings, origin, caller(1000)),
                Verdict::Enter(Level::Full),
                "{origin}"
            );
        }
        for origin in [
            "http://evil.example",
            "https://localhost:9615",
            "http://localhost",
            "http://",
            "file://",
        ] {
            let verdict = judged(&settings, origin, caller(1000));
            assert_eq!(code(verdict), Some(Code::ForbiddenOrigin), "{origin}");
        }
        assert_eq!(judged(&settings, "", caller(0)), Verdict::Enter(Level::Full));
        for stranger in [caller(1001), Caller { uid: None, ..caller(0) }] {
            assert_eq!(code(judged(&settings, "", stranger)), Some(Code::ForbiddenUser));
        }
        settings.trusted_uids = vec![1001];
        settings.anonymous = Level::Read;
        assert_eq!(judged(&settings, "", caller(1001)), Verdict::Enter(Level::Read));
        settings.anonymous = Level::None;
        assert_eq!(code(judged(&settings, "", caller(1000))), Some(Code::Unauthorized));
    }
}
