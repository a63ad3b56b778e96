//! Sorting, by code that exists once.
//!
//! The sorts of the standard library are made anew for each type and each order, 4 KB and more at a
//! time, and the gain is a matter of millions of items. This one knows places only: a merge sort
//! that moves by rotations. It is stable, allocates nothing, compares what is in order already once
//! and needs at worst some n log² n swaps.

/// Runs that are short enough to put each item where it belongs by swaps with its neighbours.
const RUN: usize = 8;

/// Sorts by the items' own order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, |one, two| one < two);
}

/// Sorts; what is neither before nor after stays as it stands.
pub fn sort_by<T>(items: &mut [T], is_before: impl Fn(&T, &T) -> bool) {
    let to = items.len();
    sort_places(&mut Slice { items, is_before }, 0, to);
}

/// What is sorted: items whose type is of no interest.
trait Places {
    fn is_before(&self, one: usize, two: usize) -> bool;
    fn swap(&mut self, one: usize, two: usize);
}

struct Slice<'a, T, F> {
    items: &'a mut [T],
    is_before: F,
}

impl<T, F: Fn(&T, &T) -> bool> Places for Slice<'_, T, F> {
    fn is_before(&self, one: usize, two: usize) -> bool {
        (self.is_before)(&self.items[one], &self.items[two])
    }

    fn swap(&mut self, one: usize, two: usize) {
        self.items.swap(one, two);
    }
}

fn sort_places(places: &mut dyn Places, from: usize, to: usize) {
    if to - from > RUN {
        let middle = from.midpoint(to);
        sort_places(places, from, middle);
        sort_places(places, middle, to);
        return merge(places, from, middle, to);
    }
    for next in from..to {
        let mut at = next;
        while at > from && places.is_before(at, at - 1) {
            places.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Two neighbours, each in order, become one. The longer is cut in its middle, the other where that
/// item belongs; the inner parts change sides; what is left are two merges of half the size.
fn merge(places: &mut dyn Places, from: usize, middle: usize, to: usize) {
    if from == middle || middle == to || !places.is_before(middle, middle - 1) {
        return;
    }
    if to - from == 2 {
        return places.swap(from, middle);
    }
    let (left, right);
    if middle - from > to - middle {
        left = from.midpoint(middle);
        right = first(middle, to, |at| !places.is_before(at, left));
    } else {
        right = middle.midpoint(to);
        left = first(from, middle, |at| places.is_before(right, at));
    }
    reverse(places, left, middle);
    reverse(places, middle, right);
    reverse(places, left, right);
    let middle = left + right - middle;
    merge(places, from, left, middle);
    merge(places, middle, right, to);
}

/// The first place of which `holds` is true: it is for all that follow.
fn first(mut from: usize, mut to: usize, holds: impl Fn(usize) -> bool) -> usize {
    while from < to {
        let middle = from.midpoint(to);
        if holds(middle) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

fn reverse(places: &mut dyn Places, mut from: usize, mut to: usize) {
    while from + 1 < to {
        to -= 1;
        places.swap(from, to);
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_sorted_as_by_the_standard_library() {
        let mut number = 1_u32;
        let mut random = move || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number >> 16
        };
        for round in 0..600_u32 {
            let (count, range) = (random() % (round + 1), random() % 64 + 1);
            let mut ours: Vec<(u32, u32)> = (0..count).map(|at| (random() % range, at)).collect();
            let mut expected = ours.clone();
            expected.sort_by_key(|item| item.0);
            sort_by(&mut ours, |one, two| one.0 < two.0);
            assert_eq!(ours, expected);
            ours.reverse();
            sort(&mut ours);
            assert_eq!(ours, expected);
        }
    }

    #[test]
    fn what_is_in_order_is_compared_once() {
        let calls = std::cell::Cell::new(0);
        let mut items: Vec<u32> = (0..1000).collect();
        sort_by(&mut items, |one, two| {
            calls.set(calls.get() + 1);
            one < two
        });
        assert_eq!(calls.get(), 999);
    }
}
