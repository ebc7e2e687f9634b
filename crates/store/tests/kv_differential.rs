//! Random commands against a plain map with the rules written down once more, and the same commands gathered into
//! turns of other sizes.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use std::collections::HashMap;

use bytes::Bytes;
use kv_model::{MapView, Rng, SPACE};
use quorate_proto::{
    Answer, CommandError, ExpireCondition, Expiry, Op, Query, ScanPosition, SetCondition, SetExpiry,
};
use quorate_store::kv::{Txn, apply, digest, due, resolve};

/// A key's value and deadline.
type Entry = (Vec<u8>, Option<i64>);

/// The rules on a map. Expired keys are dropped before each command; deadlines are plain numbers.
#[derive(Default)]
struct Model(HashMap<Bytes, Entry>);

impl Model {
    fn run(&mut self, now: i64, op: &Op) -> Answer {
        self.drop_expired(now);
        let answer = self.run_live(now, op);
        self.drop_expired(now);
        answer
    }

    fn drop_expired(&mut self, now: i64) {
        self.0
            .retain(|_, (_, deadline)| deadline.is_none_or(|at| at > now));
    }

    fn run_live(&mut self, now: i64, op: &Op) -> Answer {
        let absolute = |expiry: &Expiry| match expiry {
            Expiry::In(ms) => now + ms,
            Expiry::At(ms) => *ms,
        };
        let number = |yes: bool| Answer::Int(i64::from(yes));
        let bulk = |entry: Option<Entry>| entry.map_or(Answer::Nil, |(value, _)| Answer::Bulk(value.into()));
        match op {
            Op::Set {
                key,
                value,
                expiry,
                condition,
                get,
            } => {
                let old = self.0.get(key).cloned();
                let sets = match condition {
                    SetCondition::Always => true,
                    SetCondition::IfAbsent => old.is_none(),
                    SetCondition::IfPresent => old.is_some(),
                };
                if sets {
                    let deadline = match expiry {
                        SetExpiry::Clear => None,
                        SetExpiry::Keep => old.as_ref().and_then(|(_, deadline)| *deadline),
                        SetExpiry::Set(expiry) => Some(absolute(expiry)),
                    };
                    self.0.insert(key.clone(), (value.to_vec(), deadline));
                }
                match (get, sets) {
                    (true, _) => bulk(old),
                    (false, true) => Answer::Ok,
                    (false, false) => Answer::Nil,
                }
            }
            Op::Append { key, value } => {
                let (stored, _) = self.0.entry(key.clone()).or_default();
                stored.extend_from_slice(value);
                Answer::Int(stored.len() as i64)
            }
            Op::SetRange { key, value, .. } if value.is_empty() => {
                Answer::Int(self.0.get(key).map_or(0, |(stored, _)| stored.len() as i64))
            }
            Op::SetRange { key, offset, value } => {
                let (stored, _) = self.0.entry(key.clone()).or_default();
                for (at, byte) in value.iter().enumerate() {
                    let at = *offset as usize + at;
                    if stored.len() <= at {
                        stored.resize(at + 1, 0);
                    }
                    stored[at] = *byte;
                }
                Answer::Int(stored.len() as i64)
            }
            Op::Increment { key, delta } => {
                let text = self
                    .0
                    .get(key)
                    .map_or("0".into(), |(stored, _)| String::from_utf8_lossy(stored));
                // Canonical: prints as it was written.
                let Some(value) = text.parse::<i64>().ok().filter(|value| value.to_string() == text) else {
                    return Answer::Error(CommandError::NotAnInteger);
                };
                let Some(sum) = value.checked_add(*delta) else {
                    return Answer::Error(CommandError::Overflow);
                };
                self.0.entry(key.clone()).or_default().0 = sum.to_string().into_bytes();
                Answer::Int(sum)
            }
            Op::GetDelete { key } => bulk(self.0.remove(key)),
            Op::Delete { key } => number(self.0.remove(key).is_some()),
            Op::GetExpire { key, expiry } => {
                let old = self.0.get(key).cloned();
                if let Some((_, deadline)) = self.0.get_mut(key) {
                    *deadline = expiry.as_ref().map(absolute);
                }
                bulk(old)
            }
            Op::Expire {
                key,
                expiry,
                condition,
            } => {
                let Some((_, deadline)) = self.0.get_mut(key) else {
                    return Answer::Int(0);
                };
                let (new, current) = (absolute(expiry), deadline.unwrap_or(i64::MAX));
                let holds = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => deadline.is_none(),
                    ExpireCondition::IfSome => deadline.is_some(),
                    ExpireCondition::IfLater => new > current,
                    ExpireCondition::IfEarlier => new < current,
                    ExpireCondition::IfSomeEarlier => deadline.is_some() && new < current,
                };
                if holds {
                    *deadline = Some(new);
                }
                number(holds)
            }
            Op::Persist { key } => number(
                self.0
                    .get_mut(key)
                    .is_some_and(|(_, deadline)| deadline.take().is_some()),
            ),
            Op::SetAllIfAbsent { pairs } => {
                let free = pairs.iter().all(|(key, _)| !self.0.contains_key(key));
                if free {
                    self.0.extend(
                        pairs
                            .iter()
                            .map(|(key, value)| (key.clone(), (value.to_vec(), None))),
                    );
                }
                number(free)
            }
            Op::CompareAndSet {
                key,
                expected,
                value,
                expiry,
            } => match self.0.get(key).cloned() {
                None => Answer::Int(-1),
                Some((stored, _)) if stored != *expected => Answer::Int(0),
                Some((_, deadline)) => {
                    let deadline = match expiry {
                        SetExpiry::Clear => None,
                        SetExpiry::Keep => deadline,
                        SetExpiry::Set(expiry) => Some(absolute(expiry)),
                    };
                    self.0.insert(key.clone(), (value.to_vec(), deadline));
                    Answer::Int(1)
                }
            },
            Op::Noop | Op::Flush | Op::ExpireSessions { .. } | Op::Control(_) | Op::Split(_) => Answer::Ok,
            Op::IncrementFloat { .. } | Op::Sweep { .. } | Op::Settle { .. } => unreachable!("not generated"),
        }
    }
}

fn random_op(rng: &mut Rng, now: i64) -> Op {
    let key = Bytes::from(format!("k{}", rng.below(6)));
    let value = Bytes::from(rng.pick(&["", "a", "7", "-3", "07", "9223372036854775807", "some value"]));
    let expiry = match rng.below(2) {
        0 => Expiry::In(rng.below(60) as i64 - 5),
        _ => Expiry::At(now + rng.below(60) as i64 - 5),
    };
    match rng.below(15) {
        0..=2 => Op::Set {
            key,
            value,
            expiry: rng.pick(&[SetExpiry::Clear, SetExpiry::Keep, SetExpiry::Set(expiry)]),
            condition: rng.pick(&[
                SetCondition::Always,
                SetCondition::Always,
                SetCondition::IfAbsent,
                SetCondition::IfPresent,
            ]),
            get: rng.below(3) == 0,
        },
        3 => Op::Append { key, value },
        4 => Op::SetRange {
            key,
            offset: rng.below(8),
            value,
        },
        5 => Op::Increment {
            key,
            delta: rng.below(9) as i64 - 4,
        },
        6 => Op::GetDelete { key },
        7 => Op::GetExpire {
            key,
            expiry: (rng.below(3) > 0).then_some(expiry),
        },
        8 => Op::Delete { key },
        9 | 10 => Op::Expire {
            key,
            expiry,
            condition: rng.pick(&[
                ExpireCondition::Always,
                ExpireCondition::IfNone,
                ExpireCondition::IfSome,
                ExpireCondition::IfLater,
                ExpireCondition::IfEarlier,
                ExpireCondition::IfSomeEarlier,
            ]),
        },
        11 => Op::Persist { key },
        12 | 13 => Op::CompareAndSet {
            key,
            expected: rng.pick(&["", "a", "7", "some value"]).into(),
            value,
            expiry: rng.pick(&[SetExpiry::Clear, SetExpiry::Keep, SetExpiry::Set(expiry)]),
        },
        _ => Op::SetAllIfAbsent {
            pairs: (0..=rng.below(2))
                .map(|_| (format!("k{}", rng.below(6)).into(), value.clone()))
                .collect(),
        },
    }
}

/// Every live key's value and deadline, as queries tell them.
fn content(view: &MapView, now: u64) -> HashMap<Bytes, Entry> {
    let all = Query::Scan {
        from: ScanPosition::default(),
        end_slot: 16384,
        limit: u32::MAX,
        pattern: None,
        count_only: false,
    };
    let Answer::Page { keys, next: None, .. } = view.ask(now, &all) else {
        panic!("a whole page")
    };
    keys.into_iter()
        .map(|key| {
            let Answer::Bulk(value) = view.ask(now, &Query::Get { key: key.clone() }) else {
                panic!("a value")
            };
            let Answer::Int(deadline) = view.ask(now, &Query::Deadline { key: key.clone() }) else {
                panic!("a deadline")
            };
            (key, (value.to_vec(), (deadline >= 0).then_some(deadline)))
        })
        .collect()
}

#[test]
fn random_commands_answer_as_the_model_does() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (mut view, mut model) = (MapView::default(), Model::default());
        let mut now = 1_000u64;
        for step in 0..300 {
            now += rng.below(4);
            if rng.below(10) == 0 {
                // T3: answers and content do not depend on when a sweep comes.
                let due = due(&view, SPACE, now, None, 1 + rng.below(3) as usize)
                    .unwrap()
                    .entries;
                view.run(now, &Op::Sweep { due });
            }
            let op = random_op(&mut rng, now as i64);
            let expected = model.run(now as i64, &op);
            assert_eq!(
                view.run(now, &resolve(op.clone(), now)),
                expected,
                "seed {seed} step {step} {op:?}"
            );
            assert_eq!(content(&view, now), model.0, "seed {seed} step {step} {op:?}");
        }
        // Far in the future everything with a deadline goes, and the index with it.
        now += 10_000;
        model.drop_expired(now as i64);
        let due = due(&view, SPACE, now, None, usize::MAX).unwrap().entries;
        view.run(now, &Op::Sweep { due });
        assert_eq!(content(&view, now), model.0, "seed {seed}");
        assert_eq!(
            (view.count(b'd'), view.count(b'x')),
            (model.0.len(), 0),
            "seed {seed}"
        );
    }
}

#[test]
fn turns_of_any_size_end_in_the_same_state() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut now = 1_000;
        let entries: Vec<(u64, Op)> = (0..200)
            .map(|_| {
                now += rng.below(4);
                let op = random_op(&mut rng, now as i64);
                let sweep = Op::Sweep {
                    due: vec![(now - rng.below(9), format!("k{}", rng.below(6)).into())],
                };
                (
                    now,
                    if rng.below(8) == 0 {
                        sweep
                    } else {
                        resolve(op, now)
                    },
                )
            })
            .collect();
        let replay = |turn: usize| {
            let (mut view, mut answers) = (MapView::default(), Vec::new());
            for entries in entries.chunks(turn) {
                let mut txn = Txn::new(&view);
                for (stamp, op) in entries {
                    answers.push(apply(&mut txn, SPACE, *stamp, op).unwrap());
                }
                let batch = txn.into_batch();
                view.write(batch);
            }
            (answers, digest(&view, SPACE).unwrap(), view.pairs)
        };
        let one_by_one = replay(1);
        for turn in [2, 3, 17, 200] {
            assert_eq!(replay(turn), one_by_one, "seed {seed}, turns of {turn}");
        }
    }
}
