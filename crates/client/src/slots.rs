//! Which slot a key is in, and which node serves a slot: for programs that speak to nodes by themselves.

use crate::resp::Reply;

/// Slots of a hash keyspace, as in Redis Cluster.
pub const SLOTS: u16 = 16384;

const CRC16: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// The slot of a key: CRC16 (XMODEM) of the key, or of its first `{tag}` if that is not empty.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter()
            .position(|&b| b == b'}')
            .filter(|len| *len > 0)
            .map(|len| &rest[..len])
    });
    let crc = tag.unwrap_or(key).iter().fold(0u16, |crc, &b| {
        (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ b)]
    });
    crc % SLOTS
}

/// Which node serves each slot, as CLUSTER SLOTS and MOVED tell.
#[derive(Clone, Debug, Default)]
pub struct SlotMap {
    addrs: Vec<String>,
    /// Index into `addrs` by slot; empty: nothing is known.
    owner: Vec<Option<u16>>,
    /// By node, how many slots it has: the same as counting it in `owner`.
    owned: Vec<u16>,
}

impl SlotMap {
    /// The nodes heard of, in the order in which they were; a node keeps its place.
    #[must_use]
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Adds a node without slots, if it is new, and returns its place.
    pub fn intern(&mut self, addr: &str) -> usize {
        self.addrs.iter().position(|a| a == addr).unwrap_or_else(|| {
            self.addrs.push(addr.to_owned());
            self.owned.push(0);
            self.addrs.len() - 1
        })
    }

    /// Takes a CLUSTER SLOTS reply that `from` (host:port) gave; false if it is none, or empty.
    pub fn take(&mut self, reply: &Reply, from: &str) -> bool {
        let Reply::Array(runs) = reply else {
            return false;
        };
        let mut any = false;
        for run in runs {
            let Reply::Array(run) = run else { continue };
            let (Some(Reply::Int(first)), Some(Reply::Int(last)), Some(Reply::Array(node))) =
                (run.first(), run.get(1), run.get(2))
            else {
                continue;
            };
            let Some(Reply::Int(port)) = node.get(1) else {
                continue;
            };
            let host = match node.first() {
                Some(Reply::Bulk(host)) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
                // No host: the one that was asked.
                _ => host_of(from).to_owned(),
            };
            let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else {
                continue;
            };
            let node = self.intern(&format!("{host}:{port}"));
            for slot in first..=last.min(SLOTS - 1) {
                self.set(slot, node);
                any = true;
            }
        }
        any
    }

    /// Takes the address of a MOVED error that `from` gave for `slot`.
    pub fn moved(&mut self, slot: u16, addr: &str, from: &str) {
        // `:7001` means the host that was asked.
        let node = if addr.starts_with(':') {
            self.intern(&format!("{}{addr}", host_of(from)))
        } else {
            self.intern(addr)
        };
        self.set(slot, node);
    }

    /// The place in [`Self::addrs`] of the node that serves `key`.
    #[must_use]
    pub fn node_of(&self, key: &[u8]) -> Option<usize> {
        // Nothing known: the key need not be hashed.
        if self.owner.is_empty() {
            return None;
        }
        self.node_of_slot(slot_of(key))
    }

    /// The same for a slot.
    #[must_use]
    pub fn node_of_slot(&self, slot: u16) -> Option<usize> {
        self.owner
            .get(usize::from(slot))
            .copied()
            .flatten()
            .map(usize::from)
    }

    /// Whether the node of every slot is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.owner.is_empty() && self.owner.iter().all(Option::is_some)
    }

    /// The node does not answer: its slots are nobody's until somebody says more.
    pub fn forget(&mut self, node: usize) {
        // A connection may break under a hundred thousand commands, each of which comes here.
        if self.owned.get(node).is_none_or(|owned| *owned == 0) {
            return;
        }
        self.owned[node] = 0;
        for owner in &mut self.owner {
            if *owner == Some(node as u16) {
                *owner = None;
            }
        }
    }

    fn set(&mut self, slot: u16, node: usize) {
        if self.owner.is_empty() {
            self.owner = vec![None; usize::from(SLOTS)];
        }
        if let Some(owner) = self.owner.get_mut(usize::from(slot)) {
            if let Some(before) = owner.replace(node as u16) {
                self.owned[usize::from(before)] -= 1;
            }
            self.owned[node] += 1;
        }
    }
}

/// Reads `MOVED 3999 127.0.0.1:7002`.
#[must_use]
pub fn parse_moved(error: &str) -> Option<(u16, &str)> {
    let (slot, addr) = error.strip_prefix("MOVED ")?.split_once(' ')?;
    Some((slot.parse().ok().filter(|slot| *slot < SLOTS)?, addr))
}

fn host_of(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode;

    #[test]
    fn slots_are_counted_by_node_whatever_is_said_of_them() {
        let mut map = SlotMap::default();
        let mut chance = 7u64;
        for _ in 0..5_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, node) = ((chance >> 40) as u16 % 300, chance >> 60);
            match (chance >> 32) % 20 {
                0 => map.forget(node as usize),
                1 => map.forget(99),
                _ => map.moved(slot, &format!("10.0.0.{node}:7001"), "10.0.0.1:7001"),
            }
            for (node, owned) in map.owned.iter().enumerate() {
                let found = map
                    .owner
                    .iter()
                    .flatten()
                    .filter(|owner| usize::from(**owner) == node);
                assert_eq!(found.count(), usize::from(*owned), "node {node}");
            }
        }
        for node in 0..map.addrs().len() {
            map.forget(node);
        }
        assert!(map.owner.iter().all(Option::is_none) && map.owned.iter().all(|owned| *owned == 0));
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(slot_of(b"123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
    }

    #[test]
    fn cluster_slots_and_moved_fill_the_map() {
        let (reply, _) = decode(
            b"*2\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n\
              *3\r\n:8192\r\n:16383\r\n*2\r\n$0\r\n\r\n:7001\r\n",
        )
        .unwrap()
        .unwrap();
        let mut map = SlotMap::default();
        assert_eq!(map.node_of(b"foo"), None);
        assert!(map.take(&reply, "127.0.0.1:7000"));
        assert_eq!(map.addrs(), ["127.0.0.1:7000", "127.0.0.1:7001"]);
        assert_eq!(map.node_of(b"foo"), Some(1));
        let (slot, addr) = parse_moved("MOVED 12182 :7000").unwrap();
        map.moved(slot, addr, "127.0.0.1:7001");
        assert_eq!(map.node_of(b"foo"), Some(0));
        map.forget(0);
        assert_eq!(map.node_of(b"foo"), None);
        assert!(!map.take(&Reply::Error("ERR disabled".into()), "x:1"));
        assert_eq!(parse_moved("MOVED 99999 x:1"), None);
        assert_eq!(parse_moved("ERR no"), None);
    }
}
