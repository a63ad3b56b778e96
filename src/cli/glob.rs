//! Shell patterns for process names: `*`, `?`, `[a-z]`, `[!a-z]`. Pure.

/// Whether the text is a pattern and not a name.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether all of `text` matches. A `[` that is never closed stands for itself.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when a `*` has to take one more character: never further back than the last
    // one, so the time is at most the product of both lengths.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, t));
            p += 1;
        } else if let Some(length) = pattern.get(p..).and_then(|rest| one(rest, text[t])) {
            p += length;
            t += 1;
        } else if let Some((star, taken)) = retry {
            retry = Some((star, taken + 1));
            (p, t) = (star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How much of the pattern matches the one character; `None` if it does not.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((length, inside, negated)) => (holds(inside, c) != negated).then_some(length),
            None => (c == '[').then_some(1),
        },
        other => (*other == c).then_some(1),
    }
}

/// A set: its length with brackets, what is inside, whether it is negated.
fn set(pattern: &[char]) -> Option<(usize, &[char], bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    // A `]` that comes first is a member.
    let end = pattern.iter().skip(start + 1).position(|&c| c == ']')? + start + 1;
    Some((end + 1, &pattern[start..end], negated))
}

fn holds(inside: &[char], c: char) -> bool {
    let mut rest = inside;
    while let Some(&first) = rest.first() {
        if let (Some('-'), Some(&last)) = (rest.get(1), rest.get(2)) {
            if (first..=last).contains(&c) {
                return true;
            }
            rest = &rest[3..];
        } else {
            if first == c {
                return true;
            }
            rest = &rest[1..];
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("api-*", "api-", true),
            ("api-*", "api-1", true),
            ("api-*", "web", false),
            ("*-api-*x", "a-api-b-api-x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[abc]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[!a-c]1", "d1", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("a*b*c", "abcbx", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_nasty_pattern_takes_no_time() {
        let pattern = "*a".repeat(50) + "b";
        assert!(!matches(&pattern, &"a".repeat(2000)));
    }
}
