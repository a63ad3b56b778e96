//! A queue from one thread to another.
//!
//! The channels of the standard library come in three kinds, and all three are made for each type
//! that is sent, 3 KB at a time; they pay off between threads that are never at rest. Here a lock and
//! a condition are enough.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Opens a mailbox for so many items; a sender never waits.
#[must_use]
pub fn mailbox<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { items: VecDeque::new(), room, open: true };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

/// The end that items go into. When it is gone the receiver still gets what was sent.
pub struct Sender<T>(Arc<Shared<T>>);

/// The end that items come out of.
pub struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    items: VecDeque<T>,
    room: usize,
    /// Both ends are there.
    open: bool,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nothing {
    /// Nothing was sent in time.
    Yet,
    /// The sender is gone.
    Ever,
}

impl<T> Sender<T> {
    /// False: there is no room, or the receiver is gone.
    #[must_use]
    pub fn send(&self, item: T) -> bool {
        let mut queue = self.0.queue();
        let fits = queue.open && queue.items.len() < queue.room;
        if fits {
            queue.items.push_back(item);
            self.0.changed.notify_one();
        }
        fits
    }
}

impl<T> Receiver<T> {
    /// What has come, without waiting.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.0.queue().items.pop_front()
    }

    /// Waits; `None`: the sender is gone.
    #[must_use]
    pub fn wait(&self) -> Option<T> {
        unpoisoned(self.0.changed.wait_while(self.0.queue(), Queue::is_waited_for))
            .items
            .pop_front()
    }

    /// Waits, but not for longer than `limit`.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn wait_for(&self, limit: Duration) -> Result<T, Nothing> {
        let changed = &self.0.changed;
        let waited = changed.wait_timeout_while(self.0.queue(), limit, Queue::is_waited_for);
        let (mut queue, _) = unpoisoned(waited);
        queue.items.pop_front().ok_or(if queue.open { Nothing::Yet } else { Nothing::Ever })
    }
}

impl<T> Queue<T> {
    fn is_waited_for(&mut self) -> bool {
        self.items.is_empty() && self.open
    }
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        unpoisoned(self.queue.lock())
    }

    fn close(&self) {
        self.queue().open = false;
        self.changed.notify_one();
    }
}

/// No item is ever half in the queue, whatever a thread that held the lock has died of.
fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn items_come_in_their_order_and_a_full_mailbox_refuses() {
        let (sender, receiver) = mailbox(2);
        assert_eq!(receiver.take(), None);
        assert!(sender.send(1) && sender.send(2) && !sender.send(3));
        assert_eq!((receiver.take(), receiver.wait(), receiver.take()), (Some(1), Some(2), None));
        assert!(sender.send(4));
    }

    #[test]
    fn a_receiver_waits_for_another_thread() {
        let (questions, inbox) = mailbox(usize::MAX);
        let (answers, outbox) = mailbox(1);
        let thread = thread::spawn(move || {
            while let Some(question) = inbox.wait() {
                assert!(answers.send(question + 1));
            }
        });
        for question in 0..100 {
            assert!(questions.send(question));
            assert_eq!(outbox.wait_for(Duration::from_secs(60)), Ok(question + 1));
        }
        drop(questions);
        assert_eq!(outbox.wait(), None);
        thread.join().unwrap();
    }

    #[test]
    fn the_end_of_either_side_is_told_from_a_long_wait() {
        let (sender, receiver) = mailbox(2);
        assert_eq!(receiver.wait_for(Duration::from_millis(1)), Err(Nothing::Yet));
        assert!(sender.send(1));
        drop(sender);
        assert_eq!(receiver.wait_for(Duration::MAX), Ok(1));
        assert_eq!(receiver.wait_for(Duration::MAX), Err(Nothing::Ever));

        let (sender, receiver) = mailbox(2);
        drop(receiver);
        assert!(!sender.send(1));
    }
}
