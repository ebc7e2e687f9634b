//! Vectors that go round between the cores and their driver.

use alloc::vec::Vec;
use core::mem;

use crate::{Entry, Message};

/// Empty vectors whose room can be used again, so that a turn need not allocate.
///
/// A driver that has many turns keeps one of these for all of its members: it takes work with
/// [`crate::RawNode::ready_with`] and gives back each vector of the work when it is done with it, whenever that is
/// and whichever member it came from. Giving nothing back is allowed too. The members themselves keep almost
/// nothing, so that idle groups stay small.
///
/// ```
/// # use quorate_raft::{Buffers, RawNode, Storage, StepError};
/// fn turn<S: Storage>(node: &mut RawNode<S>, buffers: &mut Buffers) -> Result<(), StepError> {
///     let mut ready = node.ready_with(buffers)?;
///     for message in ready.send_now.drain(..) {
///         // encode and send it
///         buffers.reuse_message(message);
///     }
///     buffers.reuse_messages(ready.send_now);
///     if let Some(work) = ready.apply {
///         // apply the entries
///         buffers.reuse_entries(work.entries);
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Buffers {
    entries: Vec<Vec<Entry>>,
    messages: Vec<Vec<Message>>,
}

/// Vectors of each kind that are kept. A turn of a leader of three uses five.
const KEPT: usize = 16;
/// Elements that a kept vector may have room for, so that one burst does not hold its memory for ever.
const ROOM_MAX: usize = 4096;

impl Buffers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives back entries that were stored, sent or applied.
    #[inline]
    pub fn reuse_entries(&mut self, entries: Vec<Entry>) {
        keep(&mut self.entries, entries);
    }

    /// Gives back a list of messages that were sent.
    #[inline]
    pub fn reuse_messages(&mut self, messages: Vec<Message>) {
        keep(&mut self.messages, messages);
    }

    /// Gives back the entries of a message that was encoded, if it carried some.
    pub fn reuse_message(&mut self, message: Message) {
        if let crate::MessageBody::Append { entries, .. } = message.body {
            self.reuse_entries(entries);
        }
    }

    /// An empty vector, with room if there is one.
    #[inline]
    pub(crate) fn entries(&mut self) -> Vec<Entry> {
        self.entries.pop().unwrap_or_default()
    }

    /// Takes what is in `messages` and leaves room for more there.
    #[inline]
    pub(crate) fn take_messages(&mut self, messages: &mut Vec<Message>) -> Vec<Message> {
        if messages.is_empty() {
            return Vec::new();
        }
        mem::replace(messages, self.messages.pop().unwrap_or_default())
    }
}

#[inline]
fn keep<T>(kept: &mut Vec<Vec<T>>, mut vector: Vec<T>) {
    let room = vector.capacity();
    if room > 0 && room <= ROOM_MAX && kept.len() < KEPT {
        vector.clear();
        kept.push(vector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_empty_and_bounded() {
        let mut buffers = Buffers::new();
        for room in [0, 8, ROOM_MAX + 1] {
            buffers.reuse_messages(Vec::with_capacity(room));
        }
        assert_eq!(
            buffers.messages.len(),
            1,
            "neither what has no room nor what has too much"
        );
        for _ in 0..2 * KEPT {
            buffers.reuse_entries(Vec::with_capacity(1));
        }
        assert_eq!(buffers.entries.len(), KEPT);
        let entries = buffers.entries();
        assert!(entries.is_empty() && entries.capacity() > 0);
    }
}
