//! One number for a shard's whole content.

use std::hash::Hasher as _;

use quorate_storage::engine::{EngineError, View};
use siphasher::sip::SipHasher13;

use super::layout::{
    HEADER_BYTES, Spaces, answer_range, control_range, expiry_range, session_range, split_expiry_key,
};

/// The expiry index among the kinds.
const EXPIRY_AT: usize = 3;

/// A hash over all pairs, those of the session table and the controller included, in their order, without the space:
/// equal on replicas whose content is equal. Reads everything.
///
/// # Errors
///
/// The engine's.
pub fn digest<V: View + ?Sized>(view: &V, spaces: impl Into<Spaces>) -> Result<u64, EngineError> {
    let spaces = spaces.into();
    let Spaces { data, sessions, .. } = spaces;
    let ranges = [
        spaces.data_range(),
        session_range(sessions),
        answer_range(sessions),
        expiry_range(data),
        control_range(sessions),
    ];
    let mut hasher = SipHasher13::new_with_key(b"quorate/digest/1");
    for (kind, (start, end)) in ranges.into_iter().enumerate() {
        hasher.write(&[kind as u8]);
        let mut pairs = 0u64;
        for pair in view.scan(&start, &end) {
            let (key, value) = pair?;
            if kind == EXPIRY_AT && !split_expiry_key(&key).is_some_and(|(_, key)| spaces.has(&key)) {
                continue;
            }
            for part in [&key[HEADER_BYTES..], &value[..]] {
                // Lengths keep ("ab", "c") and ("a", "bc") apart.
                hasher.write(&(part.len() as u64).to_le_bytes());
                hasher.write(part);
            }
            pairs += 1;
        }
        hasher.write(&pairs.to_le_bytes());
    }
    Ok(hasher.finish())
}
