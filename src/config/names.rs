//! What may be a name: of an app, of a namespace, of a variable; and the name of an app that has
//! been given none.
//!
//! Pure.

use std::path::Path;

use crate::config::words;

/// Longer names are refused, in bytes.
pub const MAX_LEN: usize = 128;

/// Checks the name of an app or a namespace; `digits`: it may be all digits.
///
/// # Errors
///
/// The end of a sentence that begins with the name.
pub fn check(name: &str, digits: bool) -> Result<(), String> {
    let reason = match name {
        "" => "is empty",
        "all" => "is reserved: it addresses all processes",
        "." | ".." => "is not a name",
        _ if name.len() > MAX_LEN => return Err(format!("is longer than {MAX_LEN} bytes")),
        _ if name.contains('/') => "contains '/'",
        _ if name.contains(char::is_control) => "contains a control character",
        _ if name.starts_with('-') => "starts with '-'",
        _ if !digits && name.bytes().all(|byte| byte.is_ascii_digit()) => {
            "has only digits: it would be taken for an id"
        }
        _ => return Ok(()),
    };
    Err(reason.to_owned())
}

/// Whether the environment can have a variable of this name.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Whether a script that is neither a file nor a command is a command line: it has several words.
#[must_use]
pub fn is_command_line(script: &str) -> bool {
    script.trim().contains(|c: char| c.is_ascii_whitespace())
}

/// The base name of a script, without its extension; of a command line's first word, if `is_line`.
#[must_use]
pub fn default_name(script: &str, is_line: bool) -> String {
    let file = if is_line {
        words::split(script).and_then(|words| words.into_iter().next()).unwrap_or_default()
    } else {
        script.to_owned()
    };
    let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_files_and_command_lines() {
        for name in ["web", "web-1", "a b", "ä.ö", "api:0", &"x".repeat(128), "7up"] {
            assert_eq!(check(name, false), Ok(()), "{name}");
        }
        let long = "x".repeat(10_000);
        for name in ["", "all", ".", "..", "../../x", "a\nb", "a\u{1b}", "-x", "42", &long] {
            assert!(check(name, false).is_err(), "{name}");
        }
        assert_eq!(check("42", true), Ok(()));
    }

    #[test]
    fn an_app_without_a_name_is_called_after_its_script() {
        assert_eq!(default_name("/srv/api.server.js", false), "api.server");
        assert_eq!(default_name("npm run dev", is_command_line("npm run dev")), "npm");
        assert_eq!(default_name("'/opt/my tool/run.sh' -x", true), "run");
        assert_eq!(default_name("'unclosed x", true), "");
        assert!(!is_command_line(" web "));
    }
}
