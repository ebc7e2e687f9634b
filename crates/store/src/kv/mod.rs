//! The key-value state machine: how keys lie in the engine, what commands do to them.
//!
//! [`apply`] is a pure function of (state, stamp, write): the same bytes on every replica. It reads and writes
//! through a [`Txn`], which gathers the changes of a whole turn into one engine batch. [`query`] answers reads
//! from any [`View`](quorate_storage::engine::View).
//!
//! Time is an argument (T): apply knows only the stamp of the entry. A key whose deadline is at or before it does
//! not exist for any write, whether or not its bytes are still there; they go when a reading write meets them
//! or with a [`Sweep`](quorate_proto::Op::Sweep) of what [`due`] finds (T3).
//!
//! Five kinds of pairs make up a shard's state, under its [`Spaces`]; those of the first kind are the controller's, in
//! shard 0 only:
//!
//! ```text
//! 'c' space:u32 row                     ->  the controller's
//! 'd' space:u32 slot:u16 hash:u32 key   ->  flags:u8 [deadline_ms:u64 LE] payload
//! 's' space:u32                         ->  totals of the session table
//! 's' space:u32 client:u128             ->  lowest number wanted, the answers held
//! 'w' space:u32 client:u128 seq:u64 position:u32  ->  fingerprint slot answer
//! 'x' space:u32 deadline_ms:u64 key     ->  (empty)
//! ```
//!
//! Numbers in keys are big-endian, so that byte order is their order. Invariant: a stored deadline has its
//! expiry-index entry. The reverse does not hold: a plain SET reads nothing, so it leaves the entry of a deadline
//! that it overwrote; the sweep looks at the key's own deadline before it removes anything.

mod apply;
mod decimal;
mod digest;
mod expiry;
mod glob;
mod integer;
mod layout;
mod query;
mod scan;
pub mod sessions;
mod transfer;
mod txn;
mod value;

pub use apply::{apply, resolve};
pub use digest::digest;
pub use expiry::{Due, due};
pub(crate) use expiry::{first_deadline, sets_deadline};
pub use glob::glob_match;
pub use layout::{
    KEY_BYTES_MAX, Space, Spaces, answer_range, control_key, control_range, data_key, data_range, data_slots,
    expiry_key, expiry_range, longest_key, scan_position, session_range, slot_of, slot_of_body,
    slot_of_data_key, slot_of_op, slot_of_query,
};
pub use query::{Read, ReadTime, query};
pub use transfer::{Exported, export, import_key};
pub use txn::Txn;
pub use value::{Stored, VALUE_BYTES_MAX};
