//! Entries, configurations, epochs: parts of messages, and stored by themselves behind a version byte.

use bytes::Bytes;
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Entry,
    Index, Payload, ReplicaId, SnapshotMeta, Term,
};

use super::writer::{put_list, put_varint};
use super::{Reader, Wire, wire_tags};
use crate::{
    Admission, Config, DecodeError, Delta, Epoch, FirstState, Membership, Recovery, Service, ShardInfo,
    StoreRecord,
};

/// The newest version of the stored forms in this module that this build reads, and the one it writes.
pub const META_VERSION: u8 = 1;

macro_rules! stored {
    ($type:ident, $what:literal, $encode:ident, $decode:ident) => {
        #[doc = concat!("Appends a stored ", $what, ": a version byte and its bytes.")]
        pub fn $encode(out: &mut Vec<u8>, value: &$type) {
            out.push(META_VERSION);
            value.put(out);
        }

        #[doc = concat!("Reads a stored ", $what, "; byte strings in it are slices of `source`.")]
        ///
        /// # Errors
        /// Anything but exactly one value, of a version this build knows.
        pub fn $decode(source: &Bytes) -> Result<$type, DecodeError> {
            let mut reader = Reader::new(source);
            reader.version(concat!($what, " version"), META_VERSION)?;
            let value = $type::take(&mut reader)?;
            reader.finish($what)?;
            Ok(value)
        }
    };
}

stored!(ConfState, "configuration", encode_conf_state, decode_conf_state);
stored!(
    ConfChange,
    "membership change",
    encode_conf_change,
    decode_conf_change
);
stored!(
    SnapshotMeta,
    "snapshot position",
    encode_snapshot_meta,
    decode_snapshot_meta
);
stored!(Entry, "entry", encode_entry, decode_entry);
stored!(Payload, "payload", encode_payload, decode_payload);
stored!(Epoch, "epoch", encode_epoch, decode_epoch);
stored!(Admission, "admission", encode_admission, decode_admission);
stored!(Config, "config", encode_config, decode_config);
stored!(Delta, "change of a config", encode_delta, decode_delta);
stored!(FirstState, "first state", encode_first_state, decode_first_state);
stored!(
    StoreRecord,
    "store record",
    encode_store_record,
    decode_store_record
);
stored!(Service, "store's service", encode_service, decode_service);
stored!(Recovery, "recovery", encode_recovery, decode_recovery);
stored!(Membership, "membership", encode_membership, decode_membership);
stored!(
    ShardInfo,
    "shard description",
    encode_shard_info,
    decode_shard_info
);

const PAYLOAD_NORMAL: u8 = 0;
const PAYLOAD_CONF_CHANGE: u8 = 1;

impl Wire for Entry {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        self.term.put(out);
        self.index.put(out);
        self.payload.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Entry {
            term: Term::take(reader)?,
            index: Index::take(reader)?,
            payload: Payload::take(reader)?,
        })
    }
}

impl Wire for Payload {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Payload::Normal(command) => {
                out.push(PAYLOAD_NORMAL);
                command.put(out);
            }
            Payload::ConfChange(change) => {
                out.push(PAYLOAD_CONF_CHANGE);
                change.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("payload")? {
            PAYLOAD_NORMAL => Payload::Normal(reader.bytes("command")?),
            PAYLOAD_CONF_CHANGE => Payload::ConfChange(Box::new(ConfChange::take(reader)?)),
            tag => return Err(reader.unknown_tag("payload", tag)),
        })
    }
}

impl Wire for ConfChange {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        self.form.put(out);
        self.transition.put(out);
        put_list(out, &self.changes);
        self.context.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ConfChange {
            form: ConfChangeForm::take(reader)?,
            transition: ConfChangeTransition::take(reader)?,
            changes: reader.list("membership changes")?,
            context: reader.bytes("membership change context")?,
        })
    }
}

impl Wire for ConfChangeSingle {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        self.replica.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ConfChangeSingle {
            kind: ConfChangeKind::take(reader)?,
            replica: ReplicaId::take(reader)?,
        })
    }
}

wire_tags!(ConfChangeForm, "membership change form", { V1 = 1, V2 = 2 });
wire_tags!(ConfChangeTransition, "membership change transition", { Auto = 0, Implicit = 1, Explicit = 2 });
wire_tags!(ConfChangeKind, "membership change kind", {
    AddVoter = 1, AddLearner = 2, Remove = 3, Update = 4,
});

impl Wire for ConfState {
    const BYTES_MIN: usize = 5;
    fn put(&self, out: &mut Vec<u8>) {
        put_list(out, &self.voters);
        put_list(out, &self.learners);
        put_list(out, &self.voters_outgoing);
        put_list(out, &self.learners_next);
        out.push(u8::from(self.auto_leave));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ConfState {
            voters: reader.list("voters")?,
            learners: reader.list("learners")?,
            voters_outgoing: reader.list("outgoing voters")?,
            learners_next: reader.list("next learners")?,
            auto_leave: reader.bool("auto leave")?,
        })
    }
}

impl Wire for SnapshotMeta {
    const BYTES_MIN: usize = 2 + ConfState::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        self.index.put(out);
        self.term.put(out);
        self.conf_state.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotMeta {
            index: Index::take(reader)?,
            term: Term::take(reader)?,
            conf_state: ConfState::take(reader)?,
        })
    }
}

impl Wire for Epoch {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.conf_ver);
        put_varint(out, self.version);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Epoch {
            conf_ver: reader.varint("epoch conf_ver")?,
            version: reader.varint("epoch version")?,
        })
    }
}
