//! The send buffer of a connection: frames being written, and one that is still filling.

use std::io::{self, ErrorKind, Write};

use crate::frame::{HEADER_BYTES, Header};

/// A frame that has this much is closed and another one begun: the receiver can work on the first while the
/// rest travels, and a checksum is never over more than fits a cache.
const FRAME_BYTES_GOOD: usize = 256 << 10;
/// A buffer that grew beyond this in a burst is given back when it is empty.
const CAPACITY_KEPT: usize = 1 << 20;

/// Bytes to be sent.
///
/// Invariant: `start <= buffer.len()`, and `open`, if any, is where the last frame's header will be, with
/// `start <= open` and `open + HEADER_BYTES <= buffer.len()`. Nothing of an open frame has been written.
#[derive(Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    start: usize,
    open: Option<usize>,
    blocked: bool,
    frames: u64,
}

/// A message that no frame can hold, of this many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageTooLong(pub(crate) usize);

impl Outbox {
    /// Bytes that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The socket did not take everything; it will report when it does again.
    pub(crate) fn blocked(&self) -> bool {
        self.blocked
    }

    /// The socket reported that it takes bytes again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Appends bytes that are not a frame (the handshake's). No frame may be open.
    pub(crate) fn push_raw(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.open.is_none(), "handshake inside a frame");
        write(&mut self.buffer);
    }

    /// Appends a frame without payload.
    pub(crate) fn push_ping(&mut self) {
        self.seal();
        self.buffer.extend_from_slice(&Header::of(&[]).encode());
        self.frames += 1;
    }

    /// Appends one message to the open frame.
    pub(crate) fn push_message(
        &mut self,
        length_max: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), MessageTooLong> {
        if self
            .open
            .is_some_and(|open| self.buffer.len() - open >= HEADER_BYTES + FRAME_BYTES_GOOD)
        {
            self.seal();
        }
        let begun = self.buffer.len();
        let open = *self.open.get_or_insert(begun);
        if open == begun {
            self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        }
        let at = self.buffer.len();
        encode(&mut self.buffer);
        let length = self.buffer.len() - at;
        if length > length_max {
            self.buffer.truncate(begun);
            if open == begun {
                self.open = None;
            }
            return Err(MessageTooLong(length));
        }
        if self.buffer.len() - open - HEADER_BYTES > length_max {
            // It fits a frame, but not behind what this one holds. How long a message is shows only once it is
            // encoded, so it is moved to make room for a header; rare, as messages are short against frames.
            self.buffer.splice(at..at, [0; HEADER_BYTES]);
            self.seal_until(at);
            self.open = Some(at);
        }
        Ok(())
    }

    /// Writes once. Returns how many bytes the socket took.
    pub(crate) fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        self.seal();
        if self.pending() == 0 {
            return Ok(0);
        }
        let written = loop {
            match sink.write(&self.buffer[self.start..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => break n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break 0,
                Err(e) => return Err(e),
            }
        };
        self.start += written;
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            self.buffer.shrink_to(CAPACITY_KEPT);
        } else {
            self.blocked = true;
            // Moved when less is left than was written, so each byte is moved less than once on average.
            if self.start > self.buffer.len() / 2 {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
        }
        Ok(written)
    }

    /// Frames completed since the last call.
    pub(crate) fn take_frames(&mut self) -> u64 {
        std::mem::take(&mut self.frames)
    }

    fn seal(&mut self) {
        self.seal_until(self.buffer.len());
    }

    fn seal_until(&mut self, end: usize) {
        if let Some(open) = self.open.take() {
            let payload = open + HEADER_BYTES;
            let header = Header::of(&self.buffer[payload..end]).encode();
            self.buffer[open..payload].copy_from_slice(&header);
            self.frames += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Inbox;

    /// Takes at most so many bytes per write, then blocks until allowed more.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.1.min(bytes.len());
            if n == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frames(bytes: &[u8], length_max: usize) -> Vec<usize> {
        let (mut inbox, mut source, mut lengths) = (Inbox::default(), bytes, vec![]);
        while !source.is_empty() {
            inbox.read_from(&mut source, bytes.len()).unwrap();
        }
        while let Some(frame) = inbox.take_frame(length_max).unwrap() {
            lengths.push(frame.len());
        }
        assert!(inbox.data().is_empty(), "bytes of no frame");
        lengths
    }

    fn push(outbox: &mut Outbox, length_max: usize, length: usize) -> Result<(), MessageTooLong> {
        outbox.push_message(length_max, |out| out.resize(out.len() + length, 7))
    }

    #[test]
    fn messages_of_a_turn_are_one_frame_and_one_write() {
        let (mut outbox, mut sink) = (Outbox::default(), Narrow(vec![], usize::MAX));
        for _ in 0..100 {
            push(&mut outbox, 1 << 20, 50).unwrap();
        }
        assert_eq!(outbox.write_to(&mut sink).unwrap(), 5000 + HEADER_BYTES);
        push(&mut outbox, 1 << 20, 3).unwrap();
        outbox.push_ping();
        outbox.write_to(&mut sink).unwrap();
        assert_eq!(frames(&sink.0, 1 << 20), [5000, 3, 0]);
        assert_eq!(
            (outbox.take_frames(), outbox.pending(), outbox.blocked()),
            (3, 0, false)
        );
    }

    #[test]
    fn a_message_that_no_longer_fits_starts_a_frame_and_one_that_never_fits_is_refused() {
        let (mut outbox, mut sink) = (Outbox::default(), Narrow(vec![], usize::MAX));
        assert_eq!(push(&mut outbox, 100, 101), Err(MessageTooLong(101)));
        assert_eq!(outbox.pending(), 0);
        for (length, fits) in [
            (60, true),
            (40, true),
            (1, true),
            (101, false),
            (99, true),
            (100, true),
        ] {
            assert_eq!(push(&mut outbox, 100, length).is_ok(), fits);
        }
        outbox.write_to(&mut sink).unwrap();
        assert_eq!(frames(&sink.0, 100), [100, 100, 100]);
    }

    #[test]
    fn a_long_burst_is_cut_into_frames() {
        let (mut outbox, mut sink) = (Outbox::default(), Narrow(vec![], usize::MAX));
        for _ in 0..1000 {
            push(&mut outbox, 1 << 30, 1000).unwrap();
        }
        outbox.write_to(&mut sink).unwrap();
        let lengths = frames(&sink.0, 1 << 30);
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (4, 1_000_000));
        assert!(outbox.buffer.capacity() <= CAPACITY_KEPT);
    }

    #[test]
    fn partial_writes_lose_and_repeat_nothing() {
        let (mut outbox, mut sink) = (Outbox::default(), Narrow(vec![], 0));
        let mut rounds = 0;
        for round in 0usize.. {
            if round < 50 {
                push(&mut outbox, 1 << 20, round + 1).unwrap();
            }
            sink.1 = (round * 7) % 30;
            outbox.write_to(&mut sink).unwrap();
            assert_eq!(outbox.blocked(), outbox.pending() > 0);
            outbox.unblock();
            rounds = round;
            if round >= 50 && outbox.pending() == 0 {
                break;
            }
        }
        assert!(rounds > 50, "never behind");
        assert_eq!(frames(&sink.0, 1 << 20).iter().sum::<usize>(), 50 * 51 / 2);
    }
}
