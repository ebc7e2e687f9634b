//! Every form of bytes under one roof: a name, the bytes of a generated value, and decode-then-encode.

use bytes::Bytes;
use quorate_proto::*;

use super::common::Gen;

/// One form: generates a value's bytes, and decodes bytes and encodes them again.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) generate: fn(&mut Gen) -> Vec<u8>,
    pub(crate) again: fn(&Bytes) -> Result<Vec<u8>, DecodeError>,
}

fn encoded<T: ?Sized>(encode: impl FnOnce(&mut Vec<u8>, &T), value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, value);
    out
}

/// All of them.
pub(crate) const FORMS: &[Form] = &[
    Form {
        name: "command",
        generate: |g| {
            let kind = g.next();
            g.command(kind).encode_to_bytes().to_vec()
        },
        again: |b| Command::decode(b).map(|v| v.encode_to_bytes().to_vec()),
    },
    Form {
        name: "peer message",
        generate: |g| encoded(|out, v: &PeerMessage| v.encode(out), &g.peer_message()),
        again: |b| PeerMessage::decode(b.clone()).map(|v| encoded(|out, v: &PeerMessage| v.encode(out), &v)),
    },
    Form {
        name: "node message",
        generate: |g| {
            let kind = g.next();
            encoded(|out, v: &NodeMessage| v.encode(out), &g.node_message(kind))
        },
        again: |b| NodeMessage::decode(b.clone()).map(|v| encoded(|out, v: &NodeMessage| v.encode(out), &v)),
    },
    Form {
        name: "configuration",
        generate: |g| encoded(encode_conf_state, &g.conf_state()),
        again: |b| decode_conf_state(b).map(|v| encoded(encode_conf_state, &v)),
    },
    Form {
        name: "membership change",
        generate: |g| encoded(encode_conf_change, &g.conf_change()),
        again: |b| decode_conf_change(b).map(|v| encoded(encode_conf_change, &v)),
    },
    Form {
        name: "snapshot position",
        generate: |g| encoded(encode_snapshot_meta, &g.snapshot_meta()),
        again: |b| decode_snapshot_meta(b).map(|v| encoded(encode_snapshot_meta, &v)),
    },
    Form {
        name: "entry",
        generate: |g| encoded(encode_entry, &g.entry()),
        again: |b| decode_entry(b).map(|v| encoded(encode_entry, &v)),
    },
    Form {
        name: "payload",
        generate: |g| encoded(encode_payload, &g.payload()),
        again: |b| decode_payload(b).map(|v| encoded(encode_payload, &v)),
    },
    Form {
        name: "membership",
        generate: |g| encoded(encode_membership, &g.membership()),
        again: |b| decode_membership(b).map(|v| encoded(encode_membership, &v)),
    },
    Form {
        name: "shard description",
        generate: |g| encoded(encode_shard_info, &g.shard_info()),
        again: |b| decode_shard_info(b).map(|v| encoded(encode_shard_info, &v)),
    },
    Form {
        name: "command of a recovery",
        generate: |g| {
            let op = g.recover();
            let command = Command { op, ..g.command(0) };
            command.encode_to_bytes().to_vec()
        },
        again: |b| Command::decode(b).map(|v| v.encode_to_bytes().to_vec()),
    },
    Form {
        name: "recovery message",
        generate: |g| {
            let kind = g.next();
            encoded(|out, v: &PeerMessage| v.encode(out), &g.recovery_message(kind))
        },
        again: |b| PeerMessage::decode(b.clone()).map(|v| encoded(|out, v: &PeerMessage| v.encode(out), &v)),
    },
    Form {
        name: "recovery",
        generate: |g| encoded(encode_recovery, &g.recovery()),
        again: |b| decode_recovery(b).map(|v| encoded(encode_recovery, &v)),
    },
    Form {
        name: "losses",
        generate: |g| encode_losses(&g.list(Gen::loss)).to_vec(),
        again: |b| decode_losses(b).map(|v| encode_losses(&v).to_vec()),
    },
    Form {
        name: "epoch",
        generate: |g| encoded(encode_epoch, &g.epoch()),
        again: |b| decode_epoch(b).map(|v| encoded(encode_epoch, &v)),
    },
];
