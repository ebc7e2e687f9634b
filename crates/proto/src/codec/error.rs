//! Why bytes could not be decoded, and where.

/// What was wrong with the input, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {at}: {problem}")]
pub struct DecodeError {
    /// The field that was being read.
    pub what: &'static str,
    /// Where it begins, in bytes from the start of the input.
    pub at: usize,
    /// What was wrong with it.
    pub problem: DecodeProblem,
}

/// What was wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The input ends inside the field.
    #[error("needs {wanted} bytes, {left} are left")]
    Truncated {
        /// The least number of bytes the field needs.
        wanted: u64,
        /// What the input still has.
        left: usize,
    },
    /// A list says that it holds more elements than the rest of the input can.
    #[error("{count} elements cannot be in {left} bytes")]
    Count {
        /// What the list says.
        count: u64,
        /// What the input still has.
        left: usize,
    },
    /// A tag that no variant has.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// A format version that this build does not read.
    #[error("format version {found} is not known here, the newest known is {newest}")]
    UnknownVersion {
        /// What the input says.
        found: u8,
        /// What this build reads up to.
        newest: u8,
    },
    /// A varint of more than 64 bits, or not in its shortest form.
    #[error("not a varint of at most 64 bits in its shortest form")]
    Varint,
    /// A number that the field cannot hold.
    #[error("{0} is out of range")]
    OutOfRange(u64),
    /// A map or a set whose keys are not in strictly ascending order.
    #[error("keys out of order")]
    Order,
    /// The value ended before the input did.
    #[error("{0} bytes behind the end")]
    Trailing(usize),
}
