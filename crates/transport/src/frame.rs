//! The frame: a header of 12 bytes and messages one behind the other.
//!
//! The payload has a checksum because TCP's does not catch what a bad switch or network card does to a few
//! bytes in a billion, and such bytes would go into the log. The header has one of its own because a wrong
//! length is worse than a wrong payload: it would swallow everything behind it until it is full.

use quorate_proto::DecodeError;

/// Length, the payload's checksum, the checksum of those two; each a `u32`, little-endian.
pub(crate) const HEADER_BYTES: usize = 12;

/// What a frame's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// The payload's length; zero is a ping.
    pub(crate) length: usize,
    /// CRC32C of the payload.
    pub(crate) crc: u32,
}

/// What is wrong with a frame. The connection is of no use after any of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("checksum of the frame header is wrong")]
    HeaderChecksum,
    #[error("frame of {length} bytes, the most is {max}")]
    TooLong { length: usize, max: usize },
    #[error("checksum of the frame is wrong")]
    Checksum,
    #[error("message cannot be decoded: {0}")]
    Message(#[from] DecodeError),
}

impl Header {
    /// Of a frame with this payload.
    pub(crate) fn of(payload: &[u8]) -> Header {
        Header {
            length: payload.len(),
            crc: crc32c::crc32c(payload),
        }
    }

    /// The header's bytes. The length must fit 32 bits, which [`Peers::bind`](crate::Peers::bind) sees to.
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        debug_assert!(
            u32::try_from(self.length).is_ok(),
            "frame of {} bytes",
            self.length
        );
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        let own = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads the header at the beginning of `data`; `None`: there is not enough of it yet.
    pub(crate) fn parse(data: &[u8], length_max: usize) -> Result<Option<Header>, FrameError> {
        let Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) = data.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        if crc32c::crc32c(&[a, b, c, d, e, f, g, h]) != u32::from_le_bytes([i, j, k, l]) {
            return Err(FrameError::HeaderChecksum);
        }
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > length_max {
            return Err(FrameError::TooLong {
                length,
                max: length_max,
            });
        }
        Ok(Some(Header {
            length,
            crc: u32::from_le_bytes([e, f, g, h]),
        }))
    }

    /// Checks a payload that arrived behind this header.
    pub(crate) fn check(self, payload: &[u8]) -> Result<(), FrameError> {
        if Header::of(payload) == self {
            Ok(())
        } else {
            Err(FrameError::Checksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let header = Header::of(b"payload");
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes, 7), Ok(Some(header)));
        assert_eq!(Header::parse(&bytes[..11], 7), Ok(None));
        assert_eq!(
            Header::parse(&bytes, 6),
            Err(FrameError::TooLong { length: 7, max: 6 })
        );
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Header::parse(&flipped, usize::MAX),
                Err(FrameError::HeaderChecksum),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn zeros_are_not_a_ping() {
        assert_eq!(
            Header::parse(&[0; HEADER_BYTES], usize::MAX),
            Err(FrameError::HeaderChecksum)
        );
    }

    #[test]
    fn a_flipped_bit_of_a_payload_is_found() {
        let header = Header::of(b"payload");
        assert_eq!(header.check(b"payload"), Ok(()));
        assert_eq!(header.check(b"paymoad"), Err(FrameError::Checksum));
    }
}
