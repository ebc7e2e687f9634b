//! Commands of the controller: a tag byte, then the fields in the order of the type.

use quorate_storage::ClusterId;

use super::writer::{put_list, put_u128_le, put_varint};
use super::{Reader, Wire};
use crate::{ControlCommand, DecodeError, FirstState};

const TAG_BOOTSTRAP: u8 = 1;
const TAG_ALLOCATE_IDS: u8 = 2;

impl Wire for ControlCommand {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ControlCommand::Bootstrap(first) => {
                out.push(TAG_BOOTSTRAP);
                first.put(out);
            }
            ControlCommand::AllocateIds { count } => {
                out.push(TAG_ALLOCATE_IDS);
                put_varint(out, u64::from(*count));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("controller command")? {
            TAG_BOOTSTRAP => ControlCommand::Bootstrap(FirstState::take(reader)?),
            TAG_ALLOCATE_IDS => ControlCommand::AllocateIds {
                count: reader.narrow("number of ids")?,
            },
            tag => return Err(reader.unknown_tag("controller command", tag)),
        })
    }
}

impl Wire for FirstState {
    const BYTES_MIN: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, self.cluster.0);
        put_list(out, &self.stores);
        put_varint(out, u64::from(self.shards));
        put_varint(out, u64::from(self.replicas));
        put_varint(out, self.next_id);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(FirstState {
            cluster: ClusterId(reader.u128_le("cluster")?),
            stores: reader.list("stores")?,
            shards: reader.narrow("shards")?,
            replicas: reader.narrow("replicas")?,
            next_id: reader.varint("next id")?,
        })
    }
}
