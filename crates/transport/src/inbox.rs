//! The receive buffer of a connection.

use std::io::{self, ErrorKind, Read};

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{FrameError, HEADER_BYTES, Header};

/// Room asked for when the buffer is used up.
const READ_BYTES: usize = 64 << 10;
/// With less room than this a read would be too small to be worth its system call.
const SPARE_BYTES_MIN: usize = 8 << 10;

/// Received bytes that are not taken yet, and room for more behind them.
///
/// Invariant: `filled <= buffer.len()`; what lies behind `filled` is zeroed or stale, never looked at. Keeping
/// it inside the length means that each byte is zeroed once per allocation instead of once per read.
#[derive(Default)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    filled: usize,
}

/// How a read ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadEnd {
    /// There may be more.
    Full(usize),
    /// This was all there is now: the socket will report again when more comes.
    Short(usize),
    /// Nothing was there.
    WouldBlock,
    /// The other side closed.
    Eof,
}

impl Inbox {
    /// One read. `wanted` is how many bytes the caller knows it needs altogether.
    pub(crate) fn read_from(&mut self, source: &mut impl Read, wanted: usize) -> io::Result<ReadEnd> {
        self.make_room(wanted);
        let room = &mut self.buffer[self.filled..];
        let length = room.len();
        loop {
            return match source.read(room) {
                Ok(0) => Ok(ReadEnd::Eof),
                Ok(n) => {
                    self.filled += n;
                    Ok(if n < length {
                        ReadEnd::Short(n)
                    } else {
                        ReadEnd::Full(n)
                    })
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(ReadEnd::WouldBlock),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
        }
    }

    /// What has been received and not taken.
    pub(crate) fn data(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Takes the first `length` bytes, of those that [`Inbox::data`] shows.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        debug_assert!(length <= self.filled, "{length} of {} bytes", self.filled);
        self.filled -= length;
        self.buffer.split_to(length).freeze()
    }

    /// Forgets everything received.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Takes the next whole frame's payload; `None` if it is not all here.
    pub(crate) fn take_frame(&mut self, length_max: usize) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = Header::parse(self.data(), length_max)? else {
            return Ok(None);
        };
        if self.filled < HEADER_BYTES + header.length {
            return Ok(None);
        }
        let mut payload = self.take(HEADER_BYTES + header.length);
        payload.advance(HEADER_BYTES);
        header.check(&payload)?;
        Ok(Some(payload))
    }

    /// How many bytes the frame under way takes, header included, as far as is known.
    pub(crate) fn frame_wanted(&self, length_max: usize) -> usize {
        match Header::parse(self.data(), length_max) {
            Ok(Some(header)) => HEADER_BYTES + header.length,
            // The error is found when the frame is taken.
            Ok(None) | Err(_) => HEADER_BYTES,
        }
    }

    fn make_room(&mut self, wanted: usize) {
        let missing = wanted.saturating_sub(self.filled);
        if self.buffer.len() - self.filled >= missing.max(SPARE_BYTES_MIN) {
            return;
        }
        self.buffer.truncate(self.filled);
        // Reuses the allocation if all that was taken from it has been dropped, otherwise makes a new one and
        // copies the part of a frame that is here.
        self.buffer.reserve(missing.max(READ_BYTES));
        self.buffer.resize(self.filled + missing.max(READ_BYTES), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&Header::of(payload).encode()[..], payload].concat()
    }

    /// Gives what it holds in pieces of given sizes, then would block.
    struct Pieces(Vec<u8>, usize);

    impl Read for Pieces {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(room.len());
            if n == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            room[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let payloads: Vec<Vec<u8>> = [0usize, 1, 11, 12, 13, 70_000, 300_000, 5]
            .iter()
            .map(|&n| vec![n as u8; n])
            .collect();
        let stream: Vec<u8> = payloads.iter().flat_map(|p| framed(p)).collect();
        for piece in [1usize, 7, 4096, 65_536, 1 << 20] {
            // One byte at a time over the short ones only, to keep the test quick.
            let stream = if piece < 10 {
                stream[..200].to_vec()
            } else {
                stream.clone()
            };
            let mut source = Pieces(stream, piece);
            let (mut inbox, mut kept) = (Inbox::default(), vec![]);
            loop {
                let wanted = inbox.frame_wanted(1 << 20);
                if inbox.read_from(&mut source, wanted).unwrap() == ReadEnd::WouldBlock {
                    break;
                }
                while let Some(frame) = inbox.take_frame(1 << 20).unwrap() {
                    kept.push(frame);
                }
            }
            // Compared at the end, so that a reused buffer under a kept frame would show.
            let whole = if piece < 10 { 5 } else { payloads.len() };
            assert_eq!(kept, payloads[..whole], "pieces of {piece}");
        }
    }

    #[test]
    fn the_end_is_told_from_nothing_now() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.read_from(&mut io::empty(), 0).unwrap(), ReadEnd::Eof);
        assert_eq!(
            inbox.read_from(&mut Pieces(vec![], 1), 0).unwrap(),
            ReadEnd::WouldBlock
        );
        assert_eq!(
            inbox.read_from(&mut Pieces(vec![9], 1), 0).unwrap(),
            ReadEnd::Short(1)
        );
    }
}
