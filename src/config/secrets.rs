//! Which values are not shown: passwords, keys, tokens.
//!
//! Pure. Every view of an environment or a definition goes through here, unless its owner asked
//! to see the values.

use std::borrow::Cow;

/// What is shown instead.
pub const MASK: &str = "***";

/// A variable whose name contains one of these, in any case, is a secret.
const SECRET_PARTS: [&str; 8] =
    ["KEY", "TOKEN", "SECRET", "PASS", "PWD", "CREDENTIAL", "AUTH", "DSN"];

/// Directories that a shell keeps; their names only look like passwords.
const NOT_SECRET: [&str; 2] = ["PWD", "OLDPWD"];

/// Whether the value of this variable is a secret: by its name, or because `also` (`secret_env`)
/// says so.
#[must_use]
pub fn is_secret(name: &str, also: &[String]) -> bool {
    if also.iter().any(|secret| secret == name) {
        return true;
    }
    let upper = name.to_ascii_uppercase();
    !NOT_SECRET.contains(&name) && SECRET_PARTS.iter().any(|part| upper.contains(part))
}

/// The value of a variable as it may be shown.
#[must_use]
pub fn mask<'a>(name: &str, value: &'a str, also: &[String]) -> Cow<'a, str> {
    if is_secret(name, also) { Cow::Borrowed(MASK) } else { mask_urls(value) }
}

/// `text` with the password of every `scheme://user:password@` in it replaced.
#[must_use]
pub fn mask_urls(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        rest = after;
        if let Some((start, end)) = password(after) {
            masked.push_str(&after[..start]);
            masked.push_str(MASK);
            rest = &after[end..];
        }
    }
    if masked.is_empty() {
        return Cow::Borrowed(text);
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

/// Where the password stands in what follows `scheme://`.
fn password(text: &str) -> Option<(usize, usize)> {
    let end = text.find(|c: char| c.is_whitespace() || "\"'<>".contains(c)).unwrap_or(text.len());
    let url = &text[..end];
    let authority = url.find(['/', '?', '#']).unwrap_or(end);
    let colon = url[..authority].find(':')?;
    let at = match url[..authority].rfind('@') {
        Some(at) => at,
        // A password with an unescaped slash; but `host:80/path@x` has none.
        None if url[colon + 1..authority].bytes().all(|byte| byte.is_ascii_digit()) => return None,
        None => url.rfind('@')?,
    };
    (colon < at).then_some((colon + 1, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["API_KEY", "npm_token", "DB_PASSWORD", "SENTRY_DSN", "AWS_CREDENTIALS", "pwd1"]
        {
            assert!(is_secret(name, &[]), "{name}");
        }
        for name in ["PORT", "NODE_ENV", "PWD", "OLDPWD", "PATH"] {
            assert!(!is_secret(name, &[]), "{name}");
        }
        assert!(is_secret("PORT", &["PORT".to_owned()]));
        assert_eq!(mask("API_KEY", "abc", &[]), "***");
        assert_eq!(mask("PORT", "80", &[]), "80");
    }

    #[test]
    fn the_password_of_an_url_is_hidden_and_nothing_else() {
        for (text, masked) in [
            ("postgres://u:p@db/x", "postgres://u:***@db/x"),
            ("redis://:pw@h:6379", "redis://:***@h:6379"),
            ("a://u:p@b c://v:q@d", "a://u:***@b c://v:***@d"),
            ("amqp://u:a/b@c@h/x", "amqp://u:***@h/x"),
            ("mongodb://u:p@a,b/x?y=z@w", "mongodb://u:***@a,b/x?y=z@w"),
            ("http://host:80/path@x", "http://host:80/path@x"),
            ("http://user@host/", "http://user@host/"),
            ("no url: at all @", "no url: at all @"),
            ("://", "://"),
        ] {
            assert_eq!(mask_urls(text), masked, "{text}");
        }
    }
}
