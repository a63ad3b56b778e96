//! Small maps and sets: sorted vectors.
//!
//! For what a host has some thousands of at most. An entry costs its bytes and nothing more, and
//! the code is a tenth of that of a tree for each pair of types, which counts in a program that has
//! fifty of them. Looking up is a binary search. Keys that come in order are appended; to put one
//! in between or to take one out moves those behind it: what strangers can make large and out of
//! order is kept in a table of the standard library.

mod sort;

use std::borrow::Borrow;

pub use sort::{sort, sort_by};

/// Entries for which room is kept.
const KEPT: usize = 64;

/// Takes one out. A vector that became short gives its memory back.
fn take<T>(entries: &mut Vec<T>, at: usize) -> T {
    let taken = entries.remove(at);
    if entries.capacity() > KEPT && entries.len() < entries.capacity() / 4 {
        entries.shrink_to(entries.len() * 2);
    }
    taken
}

/// A map in the order of its keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// An empty map; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The entry with the lowest key.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        self.0.first().map(|(key, value)| (key, value))
    }

    /// The entry with the highest key.
    #[must_use]
    pub fn last(&self) -> Option<(&K, &V)> {
        self.0.last().map(|(key, value)| (key, value))
    }

    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.0.is_empty()).then(|| take(&mut self.0, 0))
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Enters `value`; what was under the key before is returned.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| take(&mut self.0, at).1)
    }

    /// What is under `key`; what `make` makes, if there was nothing.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }
}

impl<K: Ord, V: Default> SortedMap<K, V> {
    /// What is under `key`, or its default, entered.
    pub fn get_or_default(&mut self, key: K) -> &mut V {
        self.get_or_insert_with(key, V::default)
    }
}

/// Of equal keys the last wins.
impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut all = Self::new();
        for (key, value) in entries {
            all.insert(key, value);
        }
        all
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A set in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SortedSet<K>(Vec<K>);

impl<K> Default for SortedSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> SortedSet<K> {
    /// An empty set; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, K> {
        self.0.iter()
    }

    #[must_use]
    pub fn first(&self) -> Option<&K> {
        self.0.first()
    }

    pub fn pop_first(&mut self) -> Option<K> {
        (!self.0.is_empty()).then(|| take(&mut self.0, 0))
    }

    pub fn retain(&mut self, keep: impl FnMut(&K) -> bool) {
        self.0.retain(keep);
    }
}

impl<K: Ord> SortedSet<K> {
    /// False: it was there.
    pub fn insert(&mut self, key: K) -> bool {
        match self.0.binary_search(&key) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, key);
                true
            }
        }
    }

    /// False: it was not there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let at = self.0.binary_search_by(|other| other.borrow().cmp(key));
        at.map(|at| take(&mut self.0, at)).is_ok()
    }

    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|other| other.borrow().cmp(key)).is_ok()
    }

    /// Those from the first to the last of these, both included.
    pub fn range(&self, keys: std::ops::RangeInclusive<K>) -> std::slice::Iter<'_, K> {
        let from = self.0.partition_point(|key| key < keys.start());
        let to = self.0.partition_point(|key| key <= keys.end());
        self.0.get(from..to).unwrap_or_default().iter()
    }
}

impl<K: Ord> FromIterator<K> for SortedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut all = Self::new();
        all.extend(keys);
        all
    }
}

impl<K: Ord> Extend<K> for SortedSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

impl<K> IntoIterator for SortedSet<K> {
    type Item = K;
    type IntoIter = std::vec::IntoIter<K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K> IntoIterator for &'a SortedSet<K> {
    type Item = &'a K;
    type IntoIter = std::slice::Iter<'a, K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_map_does_what_a_tree_does() {
        let (mut ours, mut tree) = (SortedMap::new(), BTreeMap::new());
        let mut number = 1_u32;
        for round in 0..5000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = number >> 25;
            match number >> 8 & 7 {
                0..4 => assert_eq!(ours.insert(key, round), tree.insert(key, round)),
                4 => assert_eq!(ours.remove(&key), tree.remove(&key)),
                5 => *ours.get_or_default(key) += 1_i32,
                _ => assert_eq!(ours.get(&key), tree.get(&key)),
            }
            if number >> 8 & 7 == 5 {
                *tree.entry(key).or_default() += 1;
            }
            assert!(ours.iter().eq(tree.iter()));
        }
    }

    #[test]
    fn of_equal_keys_the_last_is_collected() {
        let map: SortedMap<_, _> = [(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')].into_iter().collect();
        assert_eq!(map.into_iter().collect::<Vec<_>>(), [(1, 'd'), (2, 'c')]);
    }

    #[test]
    fn a_set_does_what_a_tree_does() {
        let words = ["b", "a", "c", "b", "", "a"];
        let (mut ours, mut tree) = (SortedSet::new(), BTreeSet::new());
        for word in words {
            assert_eq!(ours.insert(word), tree.insert(word));
        }
        assert_eq!(ours, words.into_iter().collect());
        assert_eq!((ours.remove("c"), ours.remove("c")), (true, false));
        ours.extend(["z", "a"]);
        assert_eq!(ours.iter().copied().collect::<Vec<_>>(), ["", "a", "b", "z"]);
        assert!(ours.range("a"..="b").eq(["a", "b"].iter()));
        assert_eq!(ours.range("c"..="d").len() + ours.range("z"..="a").len(), 0);
        assert_eq!((ours.pop_first(), ours.len(), ours.contains("b")), (Some(""), 3, true));
    }
}
