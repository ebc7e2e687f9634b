//! The bytes of every type of this crate, written and read by hand.
//!
//! Conventions, the same everywhere: a `u64` is a varint (LEB128, shortest form only), except times, which are
//! 8 bytes little-endian like every `i64` and `f64`; a `u128` is 16 bytes little-endian; byte strings and lists
//! begin with their length as a varint; an enum begins with a tag byte; an option is a byte 0 or 1 and the
//! value. Every value has exactly one form, so what decodes encodes to the same bytes again.
//!
//! Two places carry versions: what is stored begins with a version byte ([`COMMAND_VERSION`],
//! [`META_VERSION`]); what only travels is covered by the version that the peers' handshake agrees on.

mod answer;
mod command;
mod control;
mod error;
mod health;
mod heartbeat;
mod membership;
mod meta;
mod node;
mod op;
mod pairs;
mod peer;
mod placement;
mod query;
mod raft;
mod reader;
mod recovery;
mod session;
mod snapshot;
mod writer;

pub use command::{COMMAND_VERSION, encode_set, encode_set_to_bytes, is_split};
pub use control::{decode_stores, encode_stores};
pub use error::{DecodeError, DecodeProblem};
pub use heartbeat::{decode_shards, decode_store_rows, encode_shards, encode_store_rows};
pub use meta::{
    META_VERSION, decode_admission, decode_conf_change, decode_conf_state, decode_config, decode_delta,
    decode_entry, decode_epoch, decode_first_state, decode_membership, decode_payload, decode_recovery,
    decode_service, decode_shard_info, decode_snapshot_meta, decode_store_record, encode_admission,
    encode_conf_change, encode_conf_state, encode_config, encode_delta, encode_entry, encode_epoch,
    encode_first_state, encode_membership, encode_payload, encode_recovery, encode_service,
    encode_shard_info, encode_snapshot_meta, encode_store_record,
};
pub use node::NodeMessages;
pub use pairs::{Pairs, decode_pairs, encode_pair};
pub use peer::PeerMessages;
pub use placement::{decode_moves, decode_plan, encode_moves, encode_plan};
pub use recovery::{decode_losses, encode_losses};

use bytes::Bytes;
use reader::Reader;

/// A type with a byte form.
trait Wire: Sized {
    /// The least number of bytes a value takes: bounds what a list's length field may make us reserve.
    const BYTES_MIN: usize;
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads one value and leaves the reader behind it.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The value at `at` of `source`, behind which `at` is left; `None` at the end. After an error there is nothing more.
fn next_of<T: Wire>(source: &Bytes, at: &mut usize) -> Option<Result<T, DecodeError>> {
    if *at >= source.len() {
        return None;
    }
    let mut reader = Reader::starting_at(source, *at);
    let value = T::take(&mut reader);
    *at = if value.is_ok() { reader.at() } else { source.len() };
    Some(value)
}

/// Gives an enum without fields one byte per variant.
macro_rules! wire_tags {
    // With a list of all of them, which cannot forget one: it would not be encoded either.
    (all $type:ident, $what:literal, { $($variant:ident = $tag:literal),+ $(,)? }) => {
        impl $type {
            /// Every kind.
            pub const ALL: &[Self] = &[$($type::$variant),+];
        }
        $crate::codec::wire_tags!($type, $what, { $($variant = $tag),+ });
    };
    ($type:ident, $what:literal, { $($variant:ident = $tag:literal),+ $(,)? }) => {
        impl $crate::codec::Wire for $type {
            const BYTES_MIN: usize = 1;
            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $($type::$variant => $tag),+ });
            }
            #[inline]
            fn take(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                match reader.u8($what)? {
                    $($tag => Ok($type::$variant),)+
                    tag => Err(reader.unknown_tag($what, tag)),
                }
            }
        }
    };
}
use wire_tags;
