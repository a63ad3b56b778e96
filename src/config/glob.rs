//! Patterns of paths, as `watch` and `ignore_watch` have them, and what their words mean together.
//!
//! `*` is any part of a name, `?` one character, `[a-z]` one of some (`[!a-z]`: none of them), and
//! `**` any number of directories. Pure.

/// A longer pattern is refused, in bytes.
const MAX_PATTERN: usize = 1024;

/// Directories that nobody writes by hand.
const NEVER: [&str; 2] = ["node_modules", ".git"];

/// Whether a path is a pattern.
#[must_use]
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The directory above the first name of a pattern that means several; of a plain path the path.
#[must_use]
pub fn base(pattern: &str) -> &str {
    let Some(wild) = pattern.find(['*', '?', '[']) else { return pattern };
    let end = pattern.get(..wild).and_then(|before| before.rfind('/')).unwrap_or(0);
    pattern.get(..end.max(1)).unwrap_or(pattern)
}

/// Looks whether a word is a pattern that can be used.
///
/// # Errors
///
/// What is wrong, to follow the word.
pub fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("is empty".to_owned());
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} bytes"));
    }
    if pattern.contains(['{', '}']) {
        return Err("has braces: write one pattern for each".to_owned());
    }
    let is_regex = pattern.starts_with('^')
        || pattern.ends_with('$')
        || pattern.contains('\\')
        || pattern.contains('(') && pattern.contains('|')
        || pattern.contains(".+")
        || pattern.split('/').any(|name| !sets_are_closed(name));
    if is_regex {
        Err(format!("is no pattern of paths: write \"{}\"", plain(pattern)))
    } else {
        Ok(())
    }
}

/// What somebody who wrote a regular expression may have meant.
fn plain(regex: &str) -> String {
    let mut text = regex.replace("[\\/\\\\]", "/").replace("[/\\\\]", "/").replace("\\/", "/");
    for (from, to) in [("\\.", "."), (".*", "*"), (".+", "*"), ("\\w+", "*"), ("\\d+", "*")] {
        text = text.replace(from, to);
    }
    text.retain(|c| !matches!(c, '\\' | '^' | '$' | '(' | ')' | '|' | '+'));
    if text.matches('[').count() != text.matches(']').count() {
        text.retain(|c| !matches!(c, '[' | ']'));
    }
    if text.is_empty() { "*".to_owned() } else { text }
}

fn sets_are_closed(name: &str) -> bool {
    let mut rest = name;
    while let Some((_, after)) = rest.split_once('[') {
        let after = after.strip_prefix('!').unwrap_or(after);
        // A bracket that comes first is a member.
        let from = after.char_indices().nth(1).map_or(after.len(), |(at, _)| at);
        match after.get(from..).and_then(|tail| tail.split_once(']')) {
            Some((_, next)) => rest = next,
            None => return false,
        }
    }
    true
}

/// Whether `path` is one that `pattern` means. Takes time of the product of both lengths at most.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let path: Vec<&str> = path.split('/').collect();
    // Which beginnings of the path the pattern so far means.
    let mut so_far = vec![false; path.len() + 1];
    so_far[0] = true;
    for name in pattern.split('/') {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            next[at] = match name {
                "**" => so_far[at] || at > 0 && next[at - 1],
                _ => at > 0 && so_far[at - 1] && is_name(name, path[at - 1]),
            };
        }
        so_far = next;
    }
    so_far[path.len()]
}

/// The same for one name.
fn is_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and as much of the name as that star has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let taken = match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, n));
                continue;
            }
            Some('?') => Some(1),
            Some('[') => is_one_of(&pattern[p..], name[n]),
            Some(&c) if c == name[n] => Some(1),
            Some(_) | None => None,
        };
        if let Some(length) = taken {
            (p, n) = (p + length, n + 1);
            continue;
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (p, n) = (after, from + 1);
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == '*'))
}

/// The length of the set that `pattern` begins with, if `c` is in it.
fn is_one_of(pattern: &[char], c: char) -> Option<usize> {
    let not = pattern.get(1) == Some(&'!');
    let first = if not { 2 } else { 1 };
    let length = pattern.iter().skip(first + 1).position(|&c| c == ']')?;
    let members = pattern.get(first..=first + length)?;
    let mut has = false;
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match members.get(at + 1..at + 3) {
            Some(&['-', high]) => {
                has |= (low..=high).contains(&c);
                at += 3;
            }
            Some(_) | None => {
                has |= low == c;
                at += 1;
            }
        }
    }
    (has != not).then_some(first + length + 2)
}

/// Whether a change of `path` says nothing. `below`: where it lies below what is watched; `relative`:
/// below the directory of its app. A word without a slash is any name below, one with a slash a path
/// and all that is in it. Where there are no words, names that begin with a dot are passed over.
#[must_use]
pub fn is_ignored(ignored: &[String], below: &str, relative: &str, path: &str) -> bool {
    let names = || below.split('/').filter(|name| !name.is_empty());
    if names().any(|name| NEVER.contains(&name) || ignored.is_empty() && name.starts_with('.')) {
        return true;
    }
    ignored.iter().any(|word| {
        let word = word.strip_prefix("./").unwrap_or(word).trim_end_matches('/');
        if !word.contains('/') {
            return names().any(|name| is_name(word, name));
        }
        let whole = if word.starts_with('/') { path } else { relative };
        let ends = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]);
        ends.filter_map(|end| whole.get(..end)).any(|part| matches(word, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_paths() {
        for (pattern, yes, no) in [
            ("*.js", &["a.js", ".js"][..], &["a.jsx", "a/b.js", "js"][..]),
            ("src/**/*.js", &["src/a.js", "src/x/y/a.js"], &["src/a.ts", "lib/a.js", "src"]),
            ("**/test", &["test", "a/test", "a/b/test"], &["test/a", "atest"]),
            ("a?c", &["abc", "a\u{e4}c"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[]]x", &["]x"], &["x"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba"]),
            ("**", &["a", "a/b", ""], &[]),
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
            for path in yes {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in no {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_pattern_begins_in_a_directory() {
        for (pattern, expected) in [
            ("/a/b/*.js", "/a/b"),
            ("/a/b", "/a/b"),
            ("/a/x*/b", "/a"),
            ("/*", "/"),
            ("/a/[bc]/d", "/a"),
        ] {
            assert_eq!(base(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn regular_expressions_are_refused_with_what_to_write() {
        for (regex, glob) in [
            ("\\.log$", ".log"),
            ("^.*\\.log$", "*.log"),
            ("[\\/\\\\]\\./", "/./"),
            ("(foo|bar)", "foobar"),
            ("[ab", "ab"),
            ("$", "*"),
        ] {
            let expected = format!("is no pattern of paths: write \"{glob}\"");
            assert_eq!(check(regex), Err(expected), "{regex}");
        }
        assert!(check("*.{a,b}").unwrap_err().starts_with("has braces"));
        assert!(check("").is_err() && check(&"a".repeat(2000)).is_err());
    }

    #[test]
    fn what_is_ignored_is_a_name_or_a_path() {
        let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&it| it.into()).collect() };
        for (ignored, relative, expected) in [
            (&[][..], "src/a.js", false),
            (&[], ".env", true),
            (&[], "x/.cache/y", true),
            (&[], "node_modules/a/b.js", true),
            (&["x"], ".env", false),
            (&["x"], ".git/index", true),
            (&["x"], "a/node_modules/b", true),
            (&["*.log"], "a/b.log", true),
            (&["logs"], "a/logs/b", true),
            (&["logs"], "blogs", false),
            (&["public/img"], "public/img/a.png", true),
            (&["./public/img/"], "public/img", true),
            (&["public/img"], "a/public/img", false),
            (&["**/img"], "a/public/img/x", true),
            (&["/srv/app/tmp"], "tmp/x", true),
        ] {
            let path = format!("/srv/app/{relative}");
            assert_eq!(
                is_ignored(&words(ignored), relative, relative, &path),
                expected,
                "{relative}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        assert!(!is_name(&"*a".repeat(400), &"a".repeat(300)));
        assert!(!matches(&format!("{}b", "**/".repeat(300)), &"a/".repeat(900)));
    }
}
