//! Which child sits where. A child that is not listed here is nobody's: its news are dropped.

use crate::base::ChildId;
use crate::sorted::SortedMap;
use crate::supervisor::process::Seat;

/// The children that were asked for and are not done with.
#[derive(Debug, Default)]
pub(super) struct Children {
    seats: SortedMap<ChildId, Seat>,
    /// Above every number given so far.
    next: u64,
}

impl Children {
    /// A new number, never given before.
    pub(super) fn enter(&mut self, seat: Seat) -> ChildId {
        let child = ChildId(self.next);
        self.next += 1;
        self.seats.insert(child, seat);
        child
    }

    /// A child that has its number already; see [`Self::reserve`].
    pub(super) fn adopt(&mut self, child: ChildId, seat: Seat) {
        self.seats.insert(child, seat);
    }

    /// Gives only numbers above `child` from here on.
    pub(super) fn reserve(&mut self, child: ChildId) {
        self.next = self.next.max(child.0.saturating_add(1));
    }

    /// The child sits elsewhere now.
    pub(super) fn seat(&mut self, child: ChildId, seat: Seat) {
        if let Some(place) = self.seats.get_mut(&child) {
            *place = seat;
        }
    }

    pub(super) fn leave(&mut self, child: ChildId) {
        self.seats.remove(&child);
    }

    pub(super) fn find(&self, child: ChildId) -> Option<Seat> {
        self.seats.get(&child).copied()
    }

    /// The next number that would be given.
    pub(super) fn next(&self) -> ChildId {
        ChildId(self.next)
    }
}
