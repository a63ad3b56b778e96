//! What may be a name: of an app, of a namespace, of a variable.
//!
//! Pure.

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
}
