//! Sockets and connections on their way to a child.
//!
//! As Node's own parent does it: one at a time, kept open until the child says that it has come
//! (`NODE_HANDLE_ACK`), sent again where it says that it has not (`NODE_HANDLE_NACK`: it can have no
//! more open).

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::base::ChildId;
use crate::daemon::Daemon;
use crate::daemon::channel::{Channel, Trouble};
use crate::proto::cluster::Parcel;

/// How often one is sent again.
const RETRIES: u32 = 3;
/// Handles that wait for one child.
const MAX_WAITING: usize = 1024;

/// What is on its way.
#[derive(Debug, Default)]
pub struct Handles {
    waiting: VecDeque<Parcel<Rc<OwnedFd>>>,
    /// Sent, or next to be, and how often it was before.
    current: Option<(Parcel<Rc<OwnedFd>>, u32)>,
}

impl Channel {
    /// What goes with the line that is marked.
    pub(super) fn handle(&self) -> Option<BorrowedFd<'_>> {
        let (parcel, _) = self.handles.as_ref()?.current.as_ref()?;
        Some(parcel.handle.as_fd())
    }

    /// Has the next handle sent, if none is on its way.
    fn send_next_handle(&mut self) {
        let Some(handles) = self.handles.as_mut().filter(|handles| handles.current.is_none())
        else {
            return;
        };
        match handles.waiting.pop_front() {
            Some(parcel) => {
                self.out.push_marked(parcel.line.as_bytes());
                handles.current = Some((parcel, 0));
            }
            // What rests costs nothing.
            None => self.handles = None,
        }
    }
}

impl Daemon {
    /// Sends a child a handle. That it cannot be sent is told by the end of the channel.
    pub(in crate::daemon) fn hand(&mut self, id: ChildId, parcel: Parcel<Rc<OwnedFd>>) {
        let Some(channel) = self.channel(id).filter(|channel| !channel.deaf) else { return };
        let handles = channel.handles.get_or_insert_default();
        if handles.waiting.len() >= MAX_WAITING {
            return self.complain(id, Trouble::Overflow);
        }
        handles.waiting.push_back(parcel);
        channel.send_next_handle();
        self.touch_channel(id);
    }

    /// The child has the handle, or says that it did not come.
    pub(super) fn handle_answered(&mut self, id: ChildId, came: bool) {
        // An answer to what was not sent yet is none.
        let Some(channel) = self.channel(id).filter(|channel| !channel.out.is_marked()) else {
            return;
        };
        let Some(handles) = &mut channel.handles else { return };
        let Some((parcel, tries)) = handles.current.take() else { return };
        let mut lost = None;
        if !came && tries < RETRIES {
            channel.out.push_marked(parcel.line.as_bytes());
            handles.current = Some((parcel, tries + 1));
        } else {
            lost = (!came).then_some(parcel.kind);
            channel.send_next_handle();
        }
        self.touch_channel(id);
        if let Some(kind) = lost {
            self.undelivered(id, &kind);
        }
    }
}
