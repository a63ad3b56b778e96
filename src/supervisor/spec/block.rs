//! Texts in one piece of memory: [`Words`] and [`Environment`].
//!
//! Each text ends with a NUL, which no argument and no variable can have in it: the configuration
//! layer refuses it by name. A hundred thousand small allocations less on a host with a thousand
//! processes; read once at a spawn, from front to back.

use crate::sorted::sort_by;

/// What ends each text.
const END: char = '\0';

/// A list of words, such as arguments. Takes one allocation, an empty one none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Words(Box<str>);

impl Words {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(END)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Words {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut text = String::new();
        for word in words {
            push(&mut text, word.as_ref());
        }
        Self(text.into())
    }
}

/// Environment variables, sorted by name, each name once.
///
/// Each is `NAME=value`; a name has no `=`. What a caller's shell exports is the same for many
/// apps: it is kept once and shared.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Environment(Box<str>);

impl Environment {
    /// The value of `name`. The time is that of a binary search.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (mut from, mut to) = (0, self.0.len());
        while from < to {
            let middle = from + (to - from) / 2;
            let start = self.0[from..middle].rfind(END).map_or(from, |end| from + end + 1);
            let variable = self.0[start..].split(END).next().unwrap_or_default();
            let (found, value) = variable.split_once('=').unwrap_or((variable, ""));
            match name.cmp(found) {
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Less => to = start,
                std::cmp::Ordering::Greater => from = start + variable.len() + 1,
            }
        }
        None
    }

    /// Sets `name`; the last value given wins. To set many, collect them.
    pub fn set(&mut self, name: &str, value: &str) {
        *self = self.iter().chain([(name, value)]).collect();
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) {
        *self = self.iter().filter(|(found, _)| *found != name).collect();
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .split_terminator(END)
            .map(|variable| variable.split_once('=').unwrap_or((variable, "")))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(mut pairs: Vec<(&str, &str)>) -> Self {
        // Stable, so that the last of one name is the last given.
        sort_by(&mut pairs, |one, two| one.0 < two.0);
        let mut text = String::new();
        for (at, (name, value)) in pairs.iter().enumerate() {
            if pairs.get(at + 1).is_none_or(|(next, _)| next != name) {
                text.push_str(name);
                text.push('=');
                push(&mut text, value);
            }
        }
        Self(text.into())
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs: Vec<(N, V)> = pairs.into_iter().collect();
        Self::of(pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect())
    }
}

fn push(text: &mut String, word: &str) {
    debug_assert!(!word.contains(END), "refused by the configuration");
    text.push_str(word);
    text.push(END);
}

#[cfg(test)]
impl<S: AsRef<str>, const N: usize> PartialEq<[S; N]> for Words {
    fn eq(&self, other: &[S; N]) -> bool {
        self.iter().eq(other.iter().map(AsRef::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_empty_ones_too() {
        for words in [&[][..], &[""], &["a"], &["", "a b", "", "c"], &["x", ""]] {
            let kept: Words = words.iter().collect();
            assert_eq!(kept.iter().collect::<Vec<_>>(), words);
            assert_eq!(kept.is_empty(), words.is_empty());
        }
    }

    #[test]
    fn every_variable_is_found_and_no_other() {
        for count in 0..40 {
            let names: Vec<String> = (0..count).map(|n| format!("V{}", n * 7 % 41)).collect();
            let env: Environment = names.iter().map(|name| (name, "=v=")).collect();
            assert_eq!(env.len(), count);
            for name in &names {
                assert_eq!(env.get(name), Some("=v="), "{name} in {env:?}");
            }
            for name in ["", "V", "V41", "V1 ", "W", "A"] {
                assert_eq!(env.get(name), None, "{name} in {env:?}");
            }
        }
    }

    #[test]
    fn the_last_value_of_a_name_wins_and_names_are_in_order() {
        let mut env: Environment =
            [("B", "1"), ("A_", "2"), ("B", "3"), ("A", ""), ("A.", "4")].into_iter().collect();
        env.set("B", "5");
        env.set("0", "6");
        env.remove("A.");
        assert_eq!(
            env.iter().collect::<Vec<_>>(),
            [("0", "6"), ("A", ""), ("A_", "2"), ("B", "5")]
        );
    }
}
