//! The commands of a connection that are under way, in the order of their replies.
//!
//! Every request has a sequence number and a place in the ring at `number - head`, so an outcome finds its
//! command by a subtraction. A command of several requests has its state at the place of the first; the others
//! refer to it.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_proto::Answer;

use super::gather::Group;
use super::reply::Shape;
use crate::resp::Protocol;

/// One place in the ring.
#[derive(Debug)]
pub(super) enum Entry {
    /// A command of one request, which is under way.
    Single {
        /// What its answer becomes.
        shape: Shape,
        /// Spoken when the command came; a HELLO behind it must not change its reply.
        protocol: Protocol,
        /// The key's, for MOVED.
        slot: u16,
        /// Whether it is a write.
        write: bool,
    },
    /// A command of one request, answered, waiting for its turn.
    Answered {
        /// What its answer becomes.
        shape: Shape,
        /// Spoken when the command came.
        protocol: Protocol,
        /// Settled.
        answer: Answer,
    },
    /// A reply waiting for its turn.
    Encoded(Bytes),
    /// A command of several requests; also the place of the first of them.
    Group(Box<Group>),
    /// A later request of a group.
    Member {
        /// The group's number.
        group: u32,
        /// The request's position in the group.
        part: u32,
    },
    /// A command that the node answers.
    Node(Protocol),
    /// Nothing to say any more.
    Vacant,
}

/// The places, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The number of the oldest place. Numbers wrap around.
    head: u32,
    entries: VecDeque<Entry>,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the newest place; returns its number.
    pub(super) fn push(&mut self, entry: Entry) -> u32 {
        let number = self.head.wrapping_add(self.entries.len() as u32);
        self.entries.push_back(entry);
        number
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.entries.get_mut(number.wrapping_sub(self.head) as usize)
    }

    /// Whether the place is the oldest, so that its reply may be sent.
    pub(super) fn is_head(&self, number: u32) -> bool {
        number == self.head && !self.entries.is_empty()
    }

    pub(super) fn head_mut(&mut self) -> Option<&mut Entry> {
        self.entries.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }
}
