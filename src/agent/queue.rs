//! What waits to be sent, within a number of bytes.
//!
//! Who is not connected, or does not read, costs no more than that: the oldest goes, logs before
//! figures, figures before events.

use std::collections::VecDeque;
use std::rc::Rc;

/// What waiting costs beyond the bytes, for each.
const COST: usize = 64;

/// What may go first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    Log,
    Figure,
    Event,
}

/// One message, whatever will be made of it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub class: Class,
    /// The channel, or the end of the topic.
    pub channel: Rc<str>,
    /// JSON.
    pub payload: Rc<[u8]>,
}

impl Packet {
    fn cost(&self) -> usize {
        self.channel.len() + self.payload.len() + COST
    }
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    packets: VecDeque<Packet>,
    counts: [usize; 3],
    bytes: usize,
    limit: usize,
    /// Packets that had to go, and the events among them.
    pub dropped: u64,
    pub lost_events: u64,
}

impl Queue {
    /// `limit` in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            packets: VecDeque::new(),
            counts: [0; 3],
            bytes: 0,
            limit,
            dropped: 0,
            lost_events: 0,
        }
    }

    /// Adds a packet; others may have to go for it. `most`: packets that may wait.
    pub fn push(&mut self, packet: Packet, most: usize) {
        self.bytes += packet.cost();
        self.counts[index(packet.class)] += 1;
        self.packets.push_back(packet);
        while self.bytes > self.limit || self.packets.len() > most {
            let lowest = self.counts.iter().position(|&count| count > 0);
            let is_lowest = |packet: &Packet| Some(index(packet.class)) == lowest;
            let Some(at) = self.packets.iter().position(is_lowest) else { return };
            let gone = self.take(at);
            self.dropped += 1;
            self.lost_events += u64::from(gone.is_some_and(|it| it.class == Class::Event));
        }
    }

    pub fn pop(&mut self) -> Option<Packet> {
        self.take(0)
    }

    fn take(&mut self, at: usize) -> Option<Packet> {
        let packet = self.packets.remove(at)?;
        self.bytes -= packet.cost();
        self.counts[index(packet.class)] -= 1;
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets that wait, and their bytes.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.packets.len(), self.bytes)
    }
}

fn index(class: Class) -> usize {
    match class {
        Class::Log => 0,
        Class::Figure => 1,
        Class::Event => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(class: Class, number: usize) -> Packet {
        let payload = vec![b'x'; number];
        Packet { class, channel: "c".into(), payload: payload.into() }
    }

    fn left(queue: &mut Queue) -> Vec<(Class, usize)> {
        std::iter::from_fn(|| queue.pop()).map(|it| (it.class, it.payload.len())).collect()
    }

    #[test]
    fn logs_go_first_then_figures_then_events_the_oldest_of_each() {
        let mut queue = Queue::new(4 * (COST + 1) + 40);
        for (at, class) in
            [Class::Event, Class::Log, Class::Figure, Class::Log, Class::Event, Class::Figure]
                .into_iter()
                .enumerate()
        {
            queue.push(packet(class, at), usize::MAX);
        }
        assert_eq!(queue.dropped, 2);
        let kept = left(&mut queue);
        let kinds = [(Class::Event, 0), (Class::Figure, 2), (Class::Event, 4), (Class::Figure, 5)];
        assert_eq!(kept, kinds);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn so_many_are_kept_and_they_are_the_newest() {
        let mut queue = Queue::new(usize::MAX);
        for at in 0..260 {
            queue.push(packet(Class::Event, at), 200);
        }
        let kept = left(&mut queue);
        assert_eq!((kept.len(), kept[0].1, kept[199].1), (200, 60, 259));
        assert_eq!(queue.dropped, 60);
    }

    #[test]
    fn what_never_fits_leaves_nothing_behind() {
        let mut queue = Queue::new(100);
        queue.push(packet(Class::Log, 5), 10);
        queue.push(packet(Class::Event, 1000), 10);
        assert_eq!((queue.waiting(), queue.dropped), ((0, 0), 2));
    }
}
