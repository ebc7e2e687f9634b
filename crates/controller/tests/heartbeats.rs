//! Rows HB-10 to HB-18: what heartbeats make of the shard map. The map is that of the controller's leader; whoever sends
//! is a shard's leader, or was one.

use std::collections::BTreeMap;

use quorate_controller::{Refused, ShardMap};
use quorate_proto::{Epoch, MemberRole, ShardHeartbeat, ShardMember, StoreCounts};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::disk::SplitMix64;
use quorate_storage::{ShardId, StoreId};

const SLOTS: u16 = 16384;

/// The word of the leader of a shard on stores 1, 2 and 3, whose first replica leads.
fn word(shard: u64, (start_slot, end_slot): (u16, u16), (version, conf_ver): (u64, u64)) -> ShardHeartbeat {
    let member = |nth: u64| ShardMember {
        replica: ReplicaId(10 * shard + nth),
        store: StoreId(nth),
        role: MemberRole::Voter,
        is_pending: false,
    };
    ShardHeartbeat {
        shard: ShardId(shard),
        start_slot,
        end_slot,
        epoch: Epoch { conf_ver, version },
        term: Term(5),
        leader: ReplicaId(10 * shard + 1),
        members: (1..=3).map(member).collect(),
        bytes: Some(100),
        load: None,
    }
}

fn heard(words: &[ShardHeartbeat]) -> ShardMap {
    let mut map = ShardMap::default();
    for word in words {
        map.hear(1, word.clone()).unwrap();
    }
    map
}

/// Refused in these words, and the map is as before.
fn assert_refused(map: &mut ShardMap, word: ShardHeartbeat, text: &str) {
    let before = map.clone();
    let refused = map.hear(2, word).unwrap_err();
    assert_eq!(refused.to_string(), text);
    assert_eq!(*map, before);
}

#[test]
fn hb_10_the_same_word_twice_changes_nothing_but_when_it_was_heard() {
    let mut map = ShardMap::default();
    assert_eq!(map.hear(1, word(1, (0, SLOTS), (1, 1))), Ok(true));
    let counts = map.counts();
    assert_eq!(map.hear(9, word(1, (0, SLOTS), (1, 1))), Ok(false));
    assert_eq!((map.counts(), map.get(ShardId(1)).unwrap().heard_us), (counts, 9));
}

#[test]
fn hb_11_a_newer_epoch_replaces() {
    let mut map = heard(&[word(1, (0, SLOTS), (1, 1))]);
    for (slots, epoch) in [((0, SLOTS), (1, 2)), ((0, 8192), (2, 2)), ((0, 4096), (3, 3))] {
        assert_eq!(map.hear(2, word(1, slots, epoch)), Ok(true));
        assert_eq!(map.get(ShardId(1)).unwrap().last, word(1, slots, epoch));
    }
    assert!(map.at_slot(4096).is_none(), "it gave that away");
}

#[test]
fn hb_12_a_stale_epoch_is_refused_with_both_epochs() {
    let mut map = heard(&[word(1, (0, 8192), (3, 4))]);
    for (epoch, told) in [((2, 4), "2.4"), ((2, 9), "2.9"), ((3, 3), "3.3")] {
        let text = format!(
            "stale heartbeat of shard 1: epoch {told} in term 5 is told, epoch 3.4 in term 5 is known"
        );
        assert_refused(&mut map, word(1, (0, 8192), epoch), &text);
    }
    // A leader that was deposed and does not know.
    let deposed = ShardHeartbeat {
        term: Term(4),
        ..word(1, (0, 8192), (3, 4))
    };
    let text = "stale heartbeat of shard 1: epoch 3.4 in term 4 is told, epoch 3.4 in term 5 is known";
    assert_refused(&mut map, deposed, text);
    // A newer epoch counts for more than a newer term: what a leader of an earlier term has applied is committed.
    let later = ShardHeartbeat {
        term: Term(6),
        ..word(1, (0, 8192), (2, 4))
    };
    let text = "stale heartbeat of shard 1: epoch 2.4 in term 6 is told, epoch 3.4 in term 5 is known";
    assert_refused(&mut map, later, text);
}

/// Ids of replicas rise (M3): whom a change of the members brings is above all that were there. Even a removed replica with
/// the highest id does not come back, nor does one come to another store.
#[test]
fn x_05_a_replica_id_that_was_used_is_refused() {
    let mut map = heard(&[word(1, (0, SLOTS), (1, 1))]);
    let with = |conf_ver, members: &[(u64, u64)]| {
        let mut told = word(1, (0, SLOTS), (1, conf_ver));
        let member = |&(replica, store): &(u64, u64)| ShardMember {
            replica: ReplicaId(replica),
            store: StoreId(store),
            ..told.members[0]
        };
        told.members = members.iter().map(member).collect();
        told
    };
    assert_eq!(map.hear(2, with(2, &[(11, 1), (12, 2)])), Ok(true), "13 goes");
    for (replica, store) in [(13, 3), (13, 4), (10, 4), (12, 4)] {
        let text = format!(
            "heartbeat of shard 1 with replica {replica} on store {store}, an id that is used: new ones are above 13"
        );
        assert_refused(&mut map, with(3, &[(11, 1), (replica, store)]), &text);
    }
    assert_eq!(map.hear(2, with(3, &[(11, 1), (12, 2), (14, 3)])), Ok(true));
    assert_eq!(
        map.hear(2, with(5, &[(11, 1), (16, 2)])),
        Ok(true),
        "15 came and went unheard"
    );
    assert_eq!(map.get(ShardId(1)).unwrap().last_replica, ReplicaId(16));
}

#[test]
fn hb_13_pending_replicas_are_counted_by_store() {
    let mut told = word(1, (0, SLOTS), (1, 1));
    let pending = |map: &ShardMap| map.counts().values().map(|of| of.pending).collect::<Vec<_>>();
    let mut map = heard(std::slice::from_ref(&told));
    assert_eq!(pending(&map), [0, 0, 0]);
    for (nth, expected) in [(1, [0, 1, 0]), (2, [0, 1, 1])] {
        told.members[nth].is_pending = true;
        assert_eq!(map.hear(2, told.clone()), Ok(true));
        assert_eq!(pending(&map), expected);
    }
    told.members[1].is_pending = false;
    assert_eq!(map.hear(3, told), Ok(true));
    assert_eq!(pending(&map), [0, 0, 1]);
}

#[test]
fn hb_14_for_an_equal_epoch_members_leader_and_size_are_taken_over() {
    let first = word(1, (0, SLOTS), (1, 1));
    let mut map = heard(std::slice::from_ref(&first));
    let fewer = ShardHeartbeat {
        members: first.members[..2].to_vec(),
        ..first.clone()
    };
    let larger = ShardHeartbeat {
        bytes: Some(900),
        ..first.clone()
    };
    let led_elsewhere = ShardHeartbeat {
        leader: ReplicaId(12),
        term: Term(6),
        ..first.clone()
    };
    for told in [fewer, first, larger, led_elsewhere] {
        assert_eq!(map.hear(2, told.clone()), Ok(true));
        assert_eq!(map.get(ShardId(1)).unwrap().last, told);
    }
    let leads: Vec<u32> = map.counts().values().map(|of| of.leads).collect();
    assert_eq!(leads, [0, 1, 0]);
}

#[test]
fn hb_15_the_counts_of_stores_are_those_of_the_shards() {
    let mut words = vec![word(0, (0, 0), (1, 1))];
    for shard in 1..=8 {
        let mut told = word(shard, ((shard as u16 - 1) * 2048, shard as u16 * 2048), (1, 1));
        // The third replica is a learner on store 3 or 4.
        told.members[2].store = StoreId(3 + shard % 2);
        told.members[2].role = MemberRole::Learner;
        told.leader = told.members[(shard % 2) as usize].replica;
        words.push(told);
    }
    let counts = heard(&words).counts();
    let row = |replicas, learners, leads, bytes| StoreCounts {
        replicas,
        learners,
        pending: 0,
        leads,
        bytes,
    };
    let expected = [
        (1, row(9, 0, 5, 900)),
        (2, row(9, 0, 4, 900)),
        (3, row(5, 4, 0, 500)),
        (4, row(4, 4, 0, 400)),
    ];
    assert_eq!(counts, expected.map(|(store, of)| (StoreId(store), of)).into());
}

#[test]
fn hb_16_split_halves_come_in_either_order_and_the_gap_is_visible() {
    let (left, right) = (word(1, (0, 8192), (2, 1)), word(7, (8192, SLOTS), (2, 1)));
    for (first, second) in [(&left, &right), (&right, &left)] {
        let mut map = heard(&[word(1, (0, SLOTS), (1, 1))]);
        assert_eq!(map.gaps(), []);
        assert_eq!(map.hear(2, first.clone()), Ok(true));
        let gap = second.start_slot..second.end_slot;
        assert_eq!(map.gaps(), std::slice::from_ref(&gap));
        assert!(map.at_slot(gap.start).is_none() && map.at_slot(gap.end - 1).is_none());
        // The word of before the split comes late.
        let whole = word(1, (0, SLOTS), (1, 1));
        let refused = map.hear(3, whole).unwrap_err();
        assert!(
            matches!(refused, Refused::Stale { .. } | Refused::Overlap { .. }),
            "{refused}"
        );
        assert_eq!(map.hear(4, second.clone()), Ok(true));
        assert_eq!(map.gaps(), []);
        assert_eq!(map, {
            let mut map = heard(&[]);
            map.hear(2, first.clone()).unwrap();
            map.hear(4, second.clone()).unwrap();
            map
        });
    }
    let mut map = heard(&[right]);
    let text = "stale heartbeat of shard 1: epoch 1.1 is told, and shard 7 has slot 8192 since epoch 2.1";
    assert_refused(&mut map, word(1, (0, SLOTS), (1, 1)), text);
}

#[test]
fn what_no_shard_can_send_is_refused() {
    let mut map = ShardMap::default();
    let mut led_by_nobody = word(1, (0, 10), (1, 1));
    led_by_nobody.leader = ReplicaId(99);
    for told in [
        word(1, (10, 9), (1, 1)),
        word(1, (10, 10), (1, 1)),
        word(1, (0, SLOTS + 1), (1, 1)),
        word(0, (0, 1), (1, 1)),
        led_by_nobody,
    ] {
        let refused = map.hear(1, told).unwrap_err();
        assert!(matches!(refused, Refused::Malformed { .. }), "{refused}");
    }
    assert_eq!(map, ShardMap::default());
}

/// The shards as they are, by first slot: last slot, id, version.
struct Truth {
    shards: BTreeMap<u16, (u16, u64, u64)>,
    next_id: u64,
}

impl Truth {
    fn new() -> Self {
        Self {
            shards: BTreeMap::from([(0, (SLOTS, 1, 1))]),
            next_id: 2,
        }
    }

    fn split(&mut self, start: u16) {
        let (end, id, version) = self.shards[&start];
        let middle = start.midpoint(end);
        self.shards.insert(start, (middle, id, version + 1));
        self.shards.insert(middle, (end, self.next_id, version + 1));
        self.next_id += 1;
    }

    /// With the next one.
    fn merge(&mut self, start: u16) {
        let (middle, id, version) = self.shards[&start];
        let (end, _, other) = self.shards.remove(&middle).unwrap();
        self.shards.insert(start, (end, id, version.max(other) + 1));
    }

    fn words(&self) -> Vec<ShardHeartbeat> {
        let shards = self.shards.iter();
        let word_of =
            |(start, (end, id, version)): (&u16, &(u16, u64, u64))| word(*id, (*start, *end), (*version, 1));
        shards.map(word_of).collect()
    }

    fn assert_known(&self, map: &ShardMap) {
        assert_eq!(map.gaps(), []);
        assert_eq!(map.all().count(), self.shards.len());
        for (start, (end, id, _)) in &self.shards {
            for slot in [*start, start.midpoint(*end), end - 1] {
                assert_eq!(map.at_slot(slot).unwrap().last.shard, ShardId(*id), "slot {slot}");
            }
        }
    }
}

#[test]
fn hb_17_lookups_are_right_over_splits_and_merges() {
    let (mut truth, mut map) = (Truth::new(), ShardMap::default());
    let mut chance = SplitMix64::new(17);
    let mut tell = |truth: &Truth, map: &mut ShardMap| {
        let mut words = truth.words();
        while !words.is_empty() {
            let told = words.swap_remove(chance.below(words.len() as u64) as usize);
            map.hear(1, told).unwrap();
        }
        truth.assert_known(map);
    };
    tell(&truth, &mut map);
    let firsts = |truth: &Truth| truth.shards.keys().copied().collect::<Vec<_>>();
    for doubling in 1..=7 {
        firsts(&truth).into_iter().for_each(|start| truth.split(start));
        assert_eq!(truth.shards.len(), 1 << doubling);
        tell(&truth, &mut map);
    }
    for merging in 1..=7 {
        firsts(&truth)
            .into_iter()
            .step_by(2)
            .for_each(|start| truth.merge(start));
        assert_eq!(truth.shards.len(), 128 >> merging);
        tell(&truth, &mut map);
    }
    let mut pick = SplitMix64::new(18);
    for mixed in 0..14 {
        let at = firsts(&truth);
        if at.len() > 1 && mixed % 3 == 2 {
            truth.merge(at[pick.below(at.len() as u64 - 1) as usize]);
        } else {
            truth.split(at[pick.below(at.len() as u64) as usize]);
        }
        tell(&truth, &mut map);
    }
}

/// 2,000 heartbeats of a cluster that splits its shards and changes its leaders, in any order: what was heard is the
/// newest of each, whatever overtook what.
#[test]
fn hb_18_heartbeats_in_any_order_lead_to_the_same_map() {
    let mut chance = SplitMix64::new(18);
    let mut truth = Truth::new();
    let mut words = Vec::new();
    let mut term = 5;
    while words.len() < 2_000 {
        if truth.shards.len() < 64 && chance.below(4) == 0 {
            let firsts: Vec<u16> = truth.shards.keys().copied().collect();
            truth.split(firsts[chance.below(firsts.len() as u64) as usize]);
        }
        term += chance.below(2);
        for mut told in truth.words() {
            told.term = Term(term);
            told.leader = told.members[(term % 3) as usize].replica;
            words.push(told);
        }
    }
    let newest: Vec<ShardHeartbeat> = words[words.len() - truth.shards.len()..].to_vec();
    for _ in 0..20 {
        let mut map = ShardMap::default();
        let mut left = words.clone();
        let mut refused = 0;
        while !left.is_empty() {
            let told = left.swap_remove(chance.below(left.len() as u64) as usize);
            refused += usize::from(map.hear(1, told).is_err());
        }
        assert!(refused > 1_000, "{refused} were refused");
        truth.assert_known(&map);
        let known: Vec<&ShardHeartbeat> = map.all().map(|known| &known.last).collect();
        assert_eq!(known, newest.iter().collect::<Vec<_>>());
    }
}

/// B-11: the map as an ordered set of ranges, with gaps, against one that keeps a shard for each slot: what overlaps, what
/// is before and behind, and picks in a range, while shards come over others and replace them.
#[test]
fn b_11_ranges_are_found_replaced_and_picked_like_slot_by_slot() {
    const ALL: u16 = 64;
    for seed in 1..=200 {
        let mut chance = SplitMix64::new(seed);
        let mut map = ShardMap::default();
        // Of each slot: the shard that has it, and its range.
        let mut slots: Vec<Option<(u64, u16, u16)>> = vec![None; usize::from(ALL)];
        for round in 1..=60_u64 {
            let start = chance.below(u64::from(ALL)) as u16;
            let end = (start + 1 + chance.below(12) as u16).min(ALL);
            let range = start..end;
            let mut covered: Vec<u64> = slots[usize::from(start)..usize::from(end)]
                .iter()
                .filter_map(|of| of.map(|(id, ..)| id))
                .collect();
            covered.dedup();
            covered.reverse();
            let found: Vec<u64> = map.overlapping(&range).iter().map(|shard| shard.0).collect();
            assert_eq!(found, covered, "seed {seed}: {range:?}");
            // Of a later version than all before: what it covers is gone, also where the new shard does not reach.
            let id = 1 + chance.below(9);
            for of in &mut slots {
                of.take_if(|(other, ..)| covered.contains(other) || *other == id);
            }
            slots[usize::from(start)..usize::from(end)].fill(Some((id, start, end)));
            map.hear(1, word(id, (start, end), (round, 1))).unwrap();
            let at = |slot: u16| slots.get(usize::from(slot)).copied().flatten();
            let mut all: Vec<(u64, u16, u16)> = slots.iter().flatten().copied().collect();
            all.dedup();
            let shape = |known: &quorate_controller::Known| {
                (known.last.shard.0, known.last.start_slot, known.last.end_slot)
            };
            for slot in 0..ALL {
                assert_eq!(map.at_slot(slot).map(shape), at(slot), "seed {seed}: slot {slot}");
                let before = at(slot).and_then(|(_, start, _)| at(start.checked_sub(1)?));
                assert_eq!(map.before(slot).map(shape), before, "seed {seed}: before {slot}");
                let behind: Vec<_> = all.iter().copied().filter(|(.., end)| *end > slot).collect();
                let found: Vec<_> = map.from_slot(slot).map(shape).collect();
                assert_eq!(found, behind, "seed {seed}: from {slot}");
            }
            let unheard: u16 = map.gaps().iter().map(|gap| gap.end - gap.start).sum();
            let had = slots.iter().filter(|of| of.is_some()).count() as u16;
            assert_eq!(unheard, SLOTS - had, "seed {seed}: {:?}", map.gaps());
            let within: Vec<_> = all
                .iter()
                .copied()
                .filter(|(_, from, to)| *from >= start && *to <= end)
                .collect();
            let mut picked = std::collections::BTreeSet::new();
            for draw in 0..within.len() as u64 * 2 {
                picked.extend(map.pick(range.clone(), draw).map(shape));
            }
            assert_eq!(picked, within.into_iter().collect(), "seed {seed}: {range:?}");
        }
    }
}

/// B-11: where the ranges are not joined, nothing is picked but what lies wholly within.
#[test]
fn b_11_picks_in_a_map_with_gaps() {
    let map = heard(&[word(3, (100, 200), (1, 1))]);
    let pick = |from, to| map.pick(from..to, 7).map(|known| known.last.shard.0);
    for (from, to, found) in [
        (0, SLOTS, Some(3)),
        (100, 200, Some(3)),
        (0, 200, Some(3)),
        (100, SLOTS, Some(3)),
        (101, 200, None),
        (100, 199, None),
        (120, 150, None),
        (0, 100, None),
        (200, SLOTS, None),
        (150, 150, None),
        (200, 100, None),
    ] {
        assert_eq!(pick(from, to), found, "{from}..{to}");
    }
    assert_eq!(ShardMap::default().pick(0..SLOTS, 1), None);
}
