//! "Did you mean": the nearest known word to one that is not known.
//!
//! Pure. Used for fields, settings, commands, options, process names and files.

/// Words longer than this are not compared: nobody mistypes them by two letters.
const MAX_LEN: usize = 128;

/// The candidate nearest to `word`, if it is near enough to be meant: an edit distance of at most
/// 2 or a third of the word's length, whichever is more, and never more than half of the word.
///
/// Two letters that changed places count as one edit; upper and lower case are the same. Of
/// several equally near the first wins.
pub fn nearest<'a, I, S>(word: &str, candidates: I) -> Option<&'a str>
where
    I: IntoIterator<Item = &'a S>,
    S: AsRef<str> + ?Sized + 'a,
{
    let word = letters(word)?;
    let limit = (word.len() / 3).max(2).min(word.len() / 2);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        let Some(other) = letters(candidate) else { continue };
        if other.len().abs_diff(word.len()) > limit {
            continue;
        }
        let distance = distance(&word, &other);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn letters(word: &str) -> Option<Vec<char>> {
    (!word.is_empty() && word.len() <= MAX_LEN)
        .then(|| word.chars().map(|c| c.to_ascii_lowercase()).collect())
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 8] =
        ["start", "stop", "restart", "script", "max_memory_restart", "web", "db", "--name"];

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        for (word, meant) in [
            ("strat", "start"),
            ("scrpt", "script"),
            ("wbe", "web"),
            ("--nmae", "--name"),
            ("STOP", "stop"),
            ("dbb", "db"),
            ("max_memory_rstrt", "max_memory_restart"),
            ("bd", "db"),
        ] {
            assert_eq!(nearest(word, WORDS), Some(meant), "{word}");
        }
    }

    #[test]
    fn a_strange_word_is_not_guessed_at() {
        let long = "x".repeat(10_000);
        for word in ["", "x", "zz", "elephant", "we're", long.as_str()] {
            assert_eq!(nearest(word, WORDS), None, "{word}");
        }
    }

    #[test]
    fn distances_count_each_kind_of_edit_once() {
        for (a, b, expected) in [
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "ab", 1),
            ("abc", "axbc", 1),
            ("", "ab", 2),
        ] {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            assert_eq!(distance(&a, &b), expected);
            assert_eq!(distance(&b, &a), expected);
        }
    }
}
