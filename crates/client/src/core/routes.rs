//! Where a command goes: the map of slots as the nodes tell it, and what was learned about the nodes on the way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::resp::Reply;
use crate::slots::SlotMap;

/// A node that could not be reached is left alone for so long, then twice as long, and so on.
const DOWN_FIRST: Duration = Duration::from_millis(100);
const DOWN_MAX: Duration = Duration::from_secs(3);
/// The map is read again no sooner than this after it was last read.
const REREAD: Duration = Duration::from_millis(100);

/// How a node treats a command whose shard it does not lead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Mode {
    /// It says who leads: for commands that are thought to be right there.
    Direct,
    #[default]
    /// It forwards: for commands whose leader is not known or cannot be reached.
    Proxy,
}

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Route {
    pub(crate) addr: String,
    pub(crate) mode: Mode,
}

#[derive(Debug)]
struct Down {
    failures: u32,
    until: Instant,
}

/// What is known about the nodes.
#[derive(Debug)]
pub(crate) struct Routes {
    map: SlotMap,
    down: BTreeMap<String, Down>,
    /// Who is asked next where any node will do.
    turn: usize,
    /// Something was met that the map did not say.
    is_stale: bool,
    read_at: Option<Instant>,
}

impl Routes {
    /// `seeds` are asked first; more nodes are learned from them.
    pub(crate) fn new(seeds: &[String], turn: usize) -> Self {
        let mut map = SlotMap::default();
        for seed in seeds {
            map.intern(seed);
        }
        Self {
            map,
            down: BTreeMap::new(),
            turn,
            is_stale: true,
            read_at: None,
        }
    }

    /// All nodes that were heard of.
    pub(crate) fn addrs(&self) -> &[String] {
        self.map.addrs()
    }

    /// The node that leads the slot, or another one that forwards. `avoid` failed just now. None only without any node.
    pub(crate) fn route(&mut self, slot: Option<u16>, avoid: Option<&str>, now: Instant) -> Option<Route> {
        let is_down = |addr: &String| self.down.get(addr).is_some_and(|down| now < down.until);
        if let Some(slot) = slot {
            let leader = self.map.node_of_slot(slot).map(|node| &self.map.addrs()[node]);
            if let Some(addr) = leader.filter(|addr| !is_down(addr) && avoid != Some(addr)) {
                return Some(Route {
                    addr: addr.clone(),
                    mode: Mode::Direct,
                });
            }
            self.is_stale = true;
        }
        let addrs = self.map.addrs();
        let in_turn = |step: usize| &addrs[(self.turn + step) % addrs.len()];
        let up = (0..addrs.len())
            .map(in_turn)
            .find(|addr| !is_down(addr) && avoid != Some(addr));
        // All look down: the one that has been left alone for longest.
        let longest = || {
            addrs
                .iter()
                .min_by_key(|addr| self.down.get(*addr).map(|down| down.until))
        };
        let addr = up.or_else(longest)?.clone();
        let mode = Mode::Proxy;
        Some(Route { addr, mode })
    }

    /// A node could not be reached, or its connection broke: others are asked for a while, and it leads nothing until
    /// somebody says so.
    pub(crate) fn failed(&mut self, addr: &str, now: Instant) {
        let node = self.map.intern(addr);
        self.map.forget(node);
        self.is_stale = true;
        self.turn = (node + 1) % self.map.addrs().len();
        let down = self.down.entry(addr.to_owned()).or_insert(Down {
            failures: 0,
            until: now,
        });
        // Several commands fail by one break.
        if down.until <= now {
            let pause = DOWN_FIRST.saturating_mul(1 << down.failures.min(8)).min(DOWN_MAX);
            down.failures += 1;
            down.until = now + pause;
        }
    }

    /// A node answered.
    pub(crate) fn answered(&mut self, addr: &str) {
        if !self.down.is_empty() {
            self.down.remove(addr);
        }
    }

    /// `from` said who leads the slot.
    pub(crate) fn moved(&mut self, slot: u16, addr: &str, from: &str) {
        self.map.moved(slot, addr, from);
        self.is_stale = true;
    }

    /// Whether the map is to be read now, by who asks; nobody else is told so for a while.
    pub(crate) fn take_stale(&mut self, now: Instant) -> bool {
        let due = self.is_stale && self.read_at.is_none_or(|at| at + REREAD <= now);
        if due {
            self.read_at = Some(now);
        }
        due
    }

    /// What `from` replied to CLUSTER SLOTS. A map with holes stays stale: somewhere an election is under way.
    pub(crate) fn read(&mut self, reply: &Reply, from: &str) {
        let is_map = self.map.take(reply, from);
        self.is_stale = !is_map || !self.map.is_complete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u16 = 8192;

    fn slots(first_half: &str, second_half: &str) -> Reply {
        let run = |first: i64, last: i64, addr: &str| {
            let (host, port) = addr.split_once(':').unwrap();
            Reply::Array(vec![
                Reply::Int(first),
                Reply::Int(last),
                Reply::Array(vec![Reply::Bulk(host.into()), Reply::Int(port.parse().unwrap())]),
            ])
        };
        Reply::Array(vec![
            run(0, i64::from(HALF) - 1, first_half),
            run(i64::from(HALF), 16383, second_half),
        ])
    }

    fn direct(addr: &str) -> Option<Route> {
        let (addr, mode) = (addr.to_owned(), Mode::Direct);
        Some(Route { addr, mode })
    }

    fn proxy(addr: &str) -> Option<Route> {
        let (addr, mode) = (addr.to_owned(), Mode::Proxy);
        Some(Route { addr, mode })
    }

    #[test]
    fn commands_go_to_leaders_and_elsewhere_while_those_are_away() {
        let now = Instant::now();
        let mut routes = Routes::new(&["a:1".into()], 0);
        assert_eq!(
            routes.route(Some(5), None, now),
            proxy("a:1"),
            "nothing is known yet"
        );
        assert!(
            routes.take_stale(now) && !routes.take_stale(now),
            "one reads the map"
        );
        routes.read(&slots("a:1", "b:2"), "a:1");
        assert!(!routes.take_stale(now + REREAD));
        assert_eq!(routes.route(Some(HALF), None, now), direct("b:2"));
        assert_eq!(routes.route(None, None, now), proxy("a:1"), "no slot, any node");

        routes.failed("b:2", now);
        assert_eq!(routes.route(Some(HALF), None, now), proxy("a:1"));
        assert_eq!(
            routes.route(Some(5), None, now),
            direct("a:1"),
            "other slots go on"
        );
        assert!(routes.take_stale(now + REREAD));
        routes.moved(HALF, ":3", "b:2");
        assert_eq!(
            routes.route(Some(HALF), None, now),
            direct("b:3"),
            "the hint of a node"
        );
        routes.read(&slots("a:1", "b:2"), "a:1");
        assert_eq!(
            routes.route(Some(HALF), None, now),
            proxy("a:1"),
            "still left alone: an old map does not bring it back at once"
        );
        let later = now + DOWN_FIRST;
        assert_eq!(routes.route(Some(HALF), None, later), direct("b:2"));
    }

    #[test]
    fn nodes_that_stay_away_are_left_alone_for_longer_and_welcome_when_they_answer() {
        let mut now = Instant::now();
        let mut routes = Routes::new(&["a:1".into(), "b:2".into()], 0);
        let mut pause = DOWN_FIRST;
        for _ in 0..8 {
            routes.failed("a:1", now);
            routes.failed("a:1", now);
            for turn in 0..2 {
                routes.turn = turn;
                assert_eq!(
                    routes.route(None, None, now + pause - Duration::from_millis(1)),
                    proxy("b:2")
                );
            }
            routes.turn = 0;
            now += pause;
            assert_eq!(routes.route(None, None, now), proxy("a:1"));
            pause = (pause * 2).min(DOWN_MAX);
        }
        routes.failed("a:1", now);
        routes.failed("b:2", now + Duration::from_millis(1));
        let all_down = routes.route(None, None, now + Duration::from_millis(2));
        assert!(all_down.is_some(), "somebody is asked even so");
        routes.answered("a:1");
        routes.turn = 0;
        assert_eq!(
            routes.route(None, None, now + Duration::from_millis(2)),
            proxy("a:1")
        );
        assert_eq!(Routes::new(&[], 0).route(None, None, now), None);
    }

    #[test]
    fn a_map_with_holes_is_read_again() {
        let now = Instant::now();
        let mut routes = Routes::new(&["a:1".into()], 0);
        let Reply::Array(mut runs) = slots("a:1", "b:2") else {
            unreachable!()
        };
        runs.pop();
        routes.read(&Reply::Array(runs), "a:1");
        assert!(routes.take_stale(now));
        routes.read(&Reply::Error("ERR no".into()), "a:1");
        assert!(routes.take_stale(now + REREAD));
    }
}
