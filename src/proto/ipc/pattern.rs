//! Names of events and patterns of them, as EventEmitter2 matches them.

/// What stands between the segments of a name.
pub const DELIMITER: &str = "::";

/// Whether `name` is one that `pattern` means: `*` is one segment, `**` any number, none too.
///
/// Takes time of the product of both lengths at most.
#[must_use]
pub fn matches(pattern: &str, name: &str, delimiter: &str) -> bool {
    let pattern: Vec<&str> = pattern.split(delimiter).collect();
    let name: Vec<&str> = name.split(delimiter).collect();
    // Which beginnings of the name the pattern so far means.
    let mut so_far = vec![false; name.len() + 1];
    so_far[0] = true;
    for segment in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match segment {
                "**" => so_far[at] || at > 0 && next[at - 1],
                "*" => at > 0 && so_far[at - 1],
                word => at > 0 && so_far[at - 1] && name[at - 1] == word,
            };
        }
        so_far = next;
    }
    so_far[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_eventemitter2_makes_of_them() {
        let all = ["a", "b", "a::", "a::b", "a::b::c", "x::y::b", "a::c", "a::x::c", "a::x::y::c"];
        for (pattern, meant) in [
            ("a", &["a"][..]),
            ("a::*", &["a::", "a::b", "a::c"]),
            ("a::**", &["a", "a::", "a::b", "a::b::c", "a::c", "a::x::c", "a::x::y::c"]),
            ("**::b", &["b", "a::b", "x::y::b"]),
            ("*", &["a", "b"]),
            ("a::**::c", &["a::b::c", "a::c", "a::x::c", "a::x::y::c"]),
            ("**", &all),
            ("c", &[]),
        ] {
            let found: Vec<&str> =
                all.into_iter().filter(|name| matches(pattern, name, DELIMITER)).collect();
            assert_eq!(found, meant, "{pattern}");
        }
    }
}
