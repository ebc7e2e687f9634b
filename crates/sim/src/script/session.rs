//! Sessions of a script's clients.

use quorate_proto::{Session, SessionTotals};
use quorate_storage::ShardId;
use quorate_store::kv::sessions::session_id;

use crate::clock::WALL_START_MS;
use crate::oracle::Violation;
use crate::world::World;

/// An open session, of a client that has one write under way at a time.
#[derive(Clone, Debug)]
pub struct Opened {
    client: u128,
    last: u64,
}

impl Opened {
    /// The identity of the next write; acknowledges all before it.
    pub fn next_write(&mut self) -> Session {
        self.last += 1;
        self.write(self.last, self.last)
    }

    /// The identity of a write with a number of one's own.
    #[must_use]
    pub fn write(&self, seq: u64, lowest: u64) -> Session {
        Session {
            client: self.client,
            seq,
            lowest,
            position: 0,
        }
    }
}

impl World {
    /// Opens a session now.
    pub fn open_session(&mut self) -> Opened {
        let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
        Opened {
            client: session_id(WALL_START_MS as u64 + self.now_us / 1000, random),
            last: 0,
        }
    }

    /// What a node's replica remembers of sessions; none while the node is down.
    ///
    /// # Errors
    ///
    /// When the engine cannot be read, or the totals are not those of the table.
    pub fn session_totals(&self, node: usize, shard: u64) -> Result<Option<SessionTotals>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let found = process
            .store
            .sessions(ShardId(shard))
            .map_err(|error| Violation::new("the state engine can be read", error.to_string()))?;
        match found {
            Some((kept, counted)) if kept != counted => {
                let detail = format!("the totals say {kept:?}, the table holds {counted:?}");
                Err(Violation::new("a session table's totals are exact", detail))
            }
            found => Ok(found.map(|(kept, _)| kept)),
        }
    }
}
