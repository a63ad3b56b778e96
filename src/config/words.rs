//! Command lines as lists of words, and back; and how a shell is told to run one.
//!
//! Pure. Quotes and backslashes mean what they mean to a shell; nothing else does.

/// Splits `text` at blanks outside quotes. Single quotes keep everything, double quotes all but
/// `\"`, `\\`, `` \` `` and `\$`; a backslash outside quotes keeps the next character.
///
/// `None` if a quote is never closed or the text ends in a backslash.
#[must_use]
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        c @ ('"' | '\\' | '`' | '$') => word.push(c),
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            '\\' => word.push(chars.next()?),
            c => word.push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// One line that a shell and [`split`] read as these words.
#[must_use]
pub fn join<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        push_quoted(&mut line, word.as_ref());
    }
    line
}

fn push_quoted(line: &mut String, word: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        line.push_str(word);
    } else {
        line.push('\'');
        line.push_str(&word.replace('\'', "'\\''"));
        line.push('\'');
    }
}

/// The program that runs [`shell_args`].
pub const SHELL: &str = "/bin/sh";

/// The arguments of [`SHELL`] that run `line` with `args` behind it; `name` is the shell's `$0`.
#[must_use]
pub fn shell_args(line: &str, name: &str, args: &[String]) -> Vec<String> {
    let command = shell_command(line.trim());
    if args.is_empty() {
        return vec!["-c".to_owned(), command];
    }
    let mut all = vec!["-c".to_owned(), format!("{command} \"$@\""), name.to_owned()];
    all.extend_from_slice(args);
    all
}

/// `line` so that the shell does not stay in between, where that changes nothing.
#[must_use]
pub fn shell_command(line: &str) -> String {
    if is_compound(line) { line.to_owned() } else { format!("exec {line}") }
}

/// Whether a shell would do more with `line` than start one program with words: then `exec` in
/// front of it would change what it means.
#[must_use]
pub fn is_compound(line: &str) -> bool {
    let first = line.split_ascii_whitespace().next().unwrap_or("");
    first.contains('=') || line.contains([';', '|', '&', '(', ')', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("", &[][..]),
            ("  a  b ", &["a", "b"]),
            ("-x 'a b' \"c d\"", &["-x", "a b", "c d"]),
            ("--name=\"x y\"z", &["--name=x yz"]),
            ("a\\ b '' \"\\\"\\n\"", &["a b", "", "\"\\n"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn joined_words_split_into_themselves() {
        let words = ["node", "it's", "", "a b", "$HOME", "\\", "--x=\"1\"", "ä", "tab\there", "*"];
        assert_eq!(split(&join(words)).unwrap(), words);
        assert_eq!(join(["npm", "run", "dev"]), "npm run dev");
    }

    #[test]
    fn a_compound_command_is_told_from_a_simple_one() {
        assert!(!is_compound("npm run dev > out.txt"));
        for line in ["a && b", "a; b", "a | b", "X=1 node a.js", "(a)"] {
            assert!(is_compound(line), "{line}");
        }
    }
}
